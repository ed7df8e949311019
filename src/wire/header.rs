//! The message header: request, flags, payload size, in one dialect a connection id, all in host byte order.

use super::dialect::Dialect;

/// Bits of the header's flags word.
pub mod flags {
    /// Where the protocol version stands.
    pub const VERSION_MASK: u32 = 0x3;
    /// Version 1, the only one of vhost-user. A dialect may have another ([`Dialect::version`](super::super::Dialect::version)).
    pub const VERSION: u32 = 0x1;
    /// The message is a reply.
    pub const REPLY: u32 = 0x4;
    /// The sender asks for an answer; has a meaning once REPLY_ACK was negotiated.
    pub const NEED_REPLY: u32 = 0x8;
}

/// A message header. Any value can be sent; nothing is checked here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Header {
    /// The request id; a reply repeats the id of its request.
    pub request: u32,
    /// Version, reply and need_reply bits, see [`flags`].
    pub flags: u32,
    /// Bytes of payload that follow.
    pub size: u32,
    /// The connection that it belongs to, where the dialect has such a word; else 0.
    pub conn_id: u64,
}

impl Header {
    /// The header as `dialect.header_len()` bytes.
    pub fn encode(&self, dialect: Dialect) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(dialect.header_len());
        bytes.extend(self.request.to_ne_bytes());
        bytes.extend(self.flags.to_ne_bytes());
        if dialect.has_conn_id() {
            bytes.extend(self.conn_id.to_ne_bytes());
        }
        bytes.extend(self.size.to_ne_bytes());
        bytes
    }

    /// Reads a header from the front of `bytes`; `None` when there are fewer than `dialect.header_len()`.
    pub fn decode(dialect: Dialect, bytes: &[u8]) -> Option<Self> {
        let (request, rest) = bytes.split_first_chunk::<4>()?;
        let (flags, rest) = rest.split_first_chunk::<4>()?;
        let (conn_id, rest) = if dialect.has_conn_id() {
            let (id, rest) = rest.split_first_chunk::<8>()?;
            (u64::from_ne_bytes(*id), rest)
        } else {
            (0, rest)
        };
        Some(Self {
            request: u32::from_ne_bytes(*request),
            flags: u32::from_ne_bytes(*flags),
            size: u32::from_ne_bytes(*rest.first_chunk::<4>()?),
            conn_id,
        })
    }

    /// Whether the reply bit is set.
    pub const fn is_reply(&self) -> bool {
        self.flags & flags::REPLY != 0
    }

    /// Whether the need_reply bit is set.
    pub const fn needs_reply(&self) -> bool {
        self.flags & flags::NEED_REPLY != 0
    }
}
