//! A message: header and payload together, with what the table knows about it.

use std::borrow::Cow;

use super::dialect::{Channel, Dialect, Party};
use super::fields::{FieldError, Value};
use super::header::{Header, flags};
use super::payload::{DecodeContext, Payload};
use super::table::{MessageSpec, spec};

/// One request or reply on one channel. Attached files travel beside it, not in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    /// The dialect that it is said in.
    pub dialect: Dialect,
    /// The header's connection id, where the dialect has one; else 0.
    pub conn_id: u64,
    /// The socket it belongs to.
    pub channel: Channel,
    /// The request id.
    pub request: u32,
    /// The header's flags, see [`flags`].
    pub flags: u32,
    /// The payload.
    pub payload: Payload,
}

impl Message {
    /// A request with the ordinary flags, of a sender without connection id.
    pub fn request(spec: &MessageSpec, payload: impl Into<Payload>) -> Self {
        Self {
            dialect: spec.dialect,
            conn_id: spec.dialect.no_conn_id(),
            channel: spec.channel,
            request: spec.id,
            flags: spec.dialect.version(),
            payload: payload.into(),
        }
    }

    /// A request from named fields; the layout is the one that has them all.
    pub fn build_request(spec: &MessageSpec, fields: &[(String, Value)]) -> Result<Self, FieldError> {
        let layout = spec.request_layout(fields.iter().map(|(name, _)| name.as_str()));
        Ok(Self::request(spec, Payload::build(layout, fields)?))
    }

    /// A reply from named fields, likewise.
    pub fn build_reply(spec: &MessageSpec, fields: &[(String, Value)]) -> Result<Self, FieldError> {
        let layout = spec.reply_layout(fields.iter().map(|(name, _)| name.as_str()));
        let reply = Self::request(spec, Payload::build(layout, fields)?);
        Ok(Self {
            flags: spec.dialect.version() | flags::REPLY,
            ..reply
        })
    }

    /// A reply to `request` with the ordinary flags.
    pub fn reply_to(request: &Self, payload: impl Into<Payload>) -> Self {
        let flags = (request.flags & flags::VERSION_MASK) | flags::REPLY;
        Self {
            dialect: request.dialect,
            conn_id: request.conn_id,
            channel: request.channel,
            request: request.request,
            flags,
            payload: payload.into(),
        }
    }

    /// The same message in the name of a connection, where the dialect has such names.
    pub fn on_connection(mut self, conn_id: u64) -> Self {
        if self.dialect.has_conn_id() {
            self.conn_id = conn_id;
        }
        self
    }

    /// The same message with need_reply set.
    pub fn with_need_reply(mut self) -> Self {
        self.flags |= flags::NEED_REPLY;
        self
    }

    /// The same message with need_reply as given.
    pub fn need_reply(mut self, wanted: bool) -> Self {
        self.flags = if wanted {
            self.flags | flags::NEED_REPLY
        } else {
            self.flags & !flags::NEED_REPLY
        };
        self
    }

    /// Whether need_reply is set.
    pub const fn needs_reply(&self) -> bool {
        self.flags & flags::NEED_REPLY != 0
    }

    /// Whether the reply bit is set.
    pub const fn is_reply(&self) -> bool {
        self.flags & flags::REPLY != 0
    }

    /// Whether this carries the same id on the same channel as `request`, and is a reply.
    pub fn answers(&self, request: &Self) -> bool {
        self.is_reply() && !request.is_reply() && self.channel == request.channel && self.request == request.request
    }

    /// Who sends such a message: the channel's requester, or the other one for a reply. In a dialect where both sides make
    /// requests on one socket, the likelier one.
    pub const fn sender(&self) -> Party {
        let requester = self.channel.requester();
        if self.is_reply() { requester.other() } else { requester }
    }

    /// The header that fits the payload.
    pub fn header(&self) -> Header {
        let size = u32::try_from(self.payload.encode().len()).unwrap_or(u32::MAX);
        Header {
            request: self.request,
            flags: self.flags,
            size,
            conn_id: self.conn_id,
        }
    }

    /// Header and payload as bytes.
    pub fn encode(&self, dialect: Dialect) -> Vec<u8> {
        let payload = self.payload.encode();
        let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut bytes = Header {
            request: self.request,
            flags: self.flags,
            size,
            conn_id: self.conn_id,
        }
        .encode(dialect);
        bytes.extend_from_slice(&payload);
        bytes
    }

    /// Reads `payload` the way `header` says. Never fails: what fits no layout stays raw.
    pub fn decode(dialect: Dialect, channel: Channel, context: DecodeContext, header: &Header, payload: &[u8]) -> Self {
        let layouts = match spec(dialect, channel, header.request) {
            Some(spec) if header.is_reply() => spec.reply.layouts,
            Some(spec) => spec.request,
            None => &[],
        };
        let payload = Payload::decode(layouts, payload, context);
        Self {
            dialect,
            conn_id: header.conn_id,
            channel,
            request: header.request,
            flags: header.flags,
            payload,
        }
    }

    /// What the table of its dialect says about this request id.
    pub fn spec(&self) -> Option<&'static MessageSpec> {
        self.spec_in(self.dialect)
    }

    /// What the table of `dialect` says about this request id.
    pub fn spec_in(&self, dialect: Dialect) -> Option<&'static MessageSpec> {
        spec(dialect, self.channel, self.request)
    }

    /// `GET_FEATURES`, or `request 99` for an unassigned id.
    pub fn name(&self) -> Cow<'static, str> {
        self.name_in(self.dialect)
    }

    /// The name in `dialect`.
    pub fn name_in(&self, dialect: Dialect) -> Cow<'static, str> {
        match self.spec_in(dialect) {
            Some(spec) => Cow::Borrowed(spec.name),
            None => Cow::Owned(format!("request {}", self.request)),
        }
    }
}
