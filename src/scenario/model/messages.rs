//! Messages that are sent, and patterns for those that come.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::scalar::{Bytes, Duration, FieldMatch, Node, Num, Ordered};
use super::super::span::At;
use super::{ExitRule, HeaderDecl};

/// `send`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// The simulated peer that sends.
    pub from: At<String>,
    /// The peer on the other side, where the sender has several connections.
    #[serde(default)]
    pub to: Option<At<String>>,
    /// `main` (default) or `backend`.
    #[serde(default)]
    pub channel: Option<At<String>>,
    /// The request's name, old or new.
    pub message: At<String>,
    /// Sets the need_reply flag.
    #[serde(default)]
    pub need_reply: bool,
    /// The only field of a u64 payload.
    #[serde(default)]
    pub value: Option<At<Node>>,
    /// Payload fields; what is missing is 0.
    #[serde(default)]
    pub fields: Ordered<At<Node>>,
    /// File descriptors to attach. Default: what the message needs (memory, eventfd, ...).
    #[serde(default)]
    pub fds: Option<Vec<At<FdKind>>>,
    /// Header words that replace the computed ones.
    #[serde(default)]
    pub header: Option<HeaderDecl>,
    /// The message is sent in pieces that end at these byte offsets.
    #[serde(default)]
    pub split: Vec<At<Num>>,
}

/// A file descriptor made for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FdKind {
    /// A new memfd of one page.
    Memfd,
    /// A new eventfd.
    Eventfd,
    /// One end of a new socket pair.
    Socket,
    /// The read end of a new pipe.
    Pipe,
    /// /dev/null.
    Null,
}

/// `raw`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// The simulated peer that sends.
    pub from: At<String>,
    /// `main` (default) or `backend`.
    #[serde(default)]
    pub channel: Option<At<String>>,
    /// All bytes, header included, in hex.
    #[serde(default)]
    pub bytes: Option<At<Bytes>>,
    /// Or a header (missing words: request 0, flags 1, size of the payload) ...
    #[serde(default)]
    pub header: Option<HeaderDecl>,
    /// ... and its payload.
    #[serde(default)]
    pub payload: Option<At<Bytes>>,
    /// File descriptors to attach to the first byte.
    #[serde(default)]
    pub fds: Vec<At<FdKind>>,
    /// Sent in pieces that end at these byte offsets.
    #[serde(default)]
    pub split: Vec<At<Num>>,
}

/// `reply`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// The simulated peer that answers.
    pub from: At<String>,
    /// `main` (default) or `backend`.
    #[serde(default)]
    pub channel: Option<At<String>>,
    /// The request that is answered.
    pub to: At<String>,
    /// A u64 answer.
    #[serde(default)]
    pub value: Option<At<Num>>,
    /// The status of an ack; the same as `value`.
    #[serde(default)]
    pub status: Option<At<Num>>,
    /// Fields that differ from the answer the peer would have given.
    #[serde(default)]
    pub fields: Ordered<At<Node>>,
    /// Header words that replace the computed ones.
    #[serde(default)]
    pub header: Option<HeaderDecl>,
    /// Payload bytes instead of a typed answer.
    #[serde(default)]
    pub payload: Option<At<Bytes>>,
    /// Sent in pieces that end at these byte offsets.
    #[serde(default)]
    pub split: Vec<At<Num>>,
}

/// What may be met on the timeline. Exactly one of `message`, `reply_to`, `kick`, `call`, `error`, `closed`, `exits`, `event`, `device`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// The peer it comes from.
    #[serde(default)]
    pub from: Option<At<String>>,
    /// The peer on the other side, where that one has several connections.
    #[serde(default)]
    pub to: Option<At<String>>,
    /// `main` (default) or `backend`.
    #[serde(default)]
    pub channel: Option<At<String>>,
    /// A request of this name.
    #[serde(default)]
    pub message: Option<At<String>>,
    /// A reply to a request of this name.
    #[serde(default)]
    pub reply_to: Option<At<String>>,
    /// A kick of this ring.
    #[serde(default)]
    pub kick: Option<At<Num>>,
    /// A call of this ring.
    #[serde(default)]
    pub call: Option<At<Num>>,
    /// An error of this ring.
    #[serde(default)]
    pub error: Option<At<Num>>,
    /// The peer closed this socket: `main` or `backend`.
    #[serde(default)]
    pub closed: Option<At<String>>,
    /// The peer's process ended.
    #[serde(default)]
    pub exits: Option<ExitRule>,
    /// A QMP event of this name.
    #[serde(default)]
    pub event: Option<At<String>>,
    /// This happened to a vhost-pci device: `created`, `plugged`, `started`, `stopped`, `unplugged`, `destroyed` …; `fields` are its numbers.
    #[serde(default)]
    pub device: Option<At<String>>,
    /// The need_reply flag.
    #[serde(default)]
    pub need_reply: Option<At<bool>>,
    /// The value of a u64 payload.
    #[serde(default)]
    pub value: Option<At<FieldMatch>>,
    /// The status of an ack; the same as `value`.
    #[serde(default)]
    pub status: Option<At<FieldMatch>>,
    /// Fields by name or path (`regions[0].size`).
    #[serde(default)]
    pub fields: Ordered<At<FieldMatch>>,
    /// Number of attached file descriptors.
    #[serde(default)]
    pub fds: Option<At<FieldMatch>>,
    /// Payload size in bytes.
    #[serde(default)]
    pub size: Option<At<FieldMatch>>,
    /// Binds the message: `${NAME.field}`, and `${NAME}` for its main field.
    #[serde(default, rename = "as")]
    pub bind: Option<At<String>>,
    /// Limit for waiting.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// `optional`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptionalPattern {
    /// What may come.
    pub when: Pattern,
    /// How often at most; default once.
    #[serde(default)]
    pub at_most: Option<At<Num>>,
}
