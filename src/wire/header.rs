//! The message header: request, flags, payload size, all in host byte order.

use super::dialect::Dialect;

/// Bits of the header's flags word.
pub mod flags {
    /// Where the protocol version stands.
    pub const VERSION_MASK: u32 = 0x3;
    /// Version 1, the only one of vhost-user.
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
}

impl Header {
    /// The header as `dialect.header_len()` bytes.
    pub fn encode(&self, dialect: Dialect) -> Vec<u8> {
        match dialect {
            Dialect::VhostUser => [self.request, self.flags, self.size]
                .iter()
                .flat_map(|w| w.to_ne_bytes())
                .collect(),
        }
    }

    /// Reads a header from the front of `bytes`; `None` when there are fewer than `dialect.header_len()`.
    pub fn decode(dialect: Dialect, bytes: &[u8]) -> Option<Self> {
        match dialect {
            Dialect::VhostUser => {
                let (words, _) = bytes.as_chunks::<4>();
                let [request, flags, size] = words.first_chunk::<3>()?.map(u32::from_ne_bytes);
                Some(Self { request, flags, size })
            }
        }
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
