//! The steps that control what crosses a link, whoever its peers are: what they say, typed. Part of the model.

use schemars::JsonSchema;
use serde::Deserialize;

use super::model::{FdKind, HeaderDecl, Pattern};
use super::scalar::{Bytes, Node, Num, Ordered};
use super::span::At;

/// `hold`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// The hold's name, for `release` and `until_held`.
    #[serde(rename = "as")]
    pub name: At<String>,
    /// What it keeps: a message or a reply, the close of a socket, or, where they are relayed, a kick, call or error.
    pub when: Pattern,
    /// What comes after it on the same socket passes it, instead of waiting behind it.
    #[serde(default)]
    pub alone: bool,
}

/// `drop` and `duplicate`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Meddle {
    /// What it is about.
    pub when: Pattern,
    /// How many of them; default 1.
    #[serde(default)]
    pub times: Option<At<Num>>,
    /// All of them, from here on.
    #[serde(default)]
    pub always: bool,
}

/// `reorder`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reorder {
    /// What is to come later than it was sent.
    pub when: Pattern,
    /// It arrives after this has.
    pub behind: Pattern,
}

/// `join`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// A message that waits for another one ...
    pub when: Pattern,
    /// ... from the same peer on the same socket, so that both, and what is between them, arrive in one piece.
    pub with: Pattern,
}

/// `split`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Which message.
    pub when: Pattern,
    /// Offsets at which its bytes are cut, the header included.
    #[serde(default)]
    pub at: Vec<At<Num>>,
    /// Or the size of every piece; 1 cuts at every byte.
    #[serde(default)]
    pub pieces_of: Option<At<Num>>,
    /// How many messages; default 1.
    #[serde(default)]
    pub times: Option<At<Num>>,
    /// All of them, from here on.
    #[serde(default)]
    pub always: bool,
}

/// `alter`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alter {
    /// Which message.
    pub when: Pattern,
    /// The only field of a u64 payload.
    #[serde(default)]
    pub value: Option<At<Node>>,
    /// The status of an ack; the same as `value`.
    #[serde(default)]
    pub status: Option<At<Node>>,
    /// Payload fields that become different.
    #[serde(default)]
    pub fields: Ordered<At<Node>>,
    /// Sets or clears the need_reply flag.
    #[serde(default)]
    pub need_reply: Option<At<bool>>,
    /// Header words that become different.
    #[serde(default)]
    pub header: Option<HeaderDecl>,
    /// Other payload bytes.
    #[serde(default)]
    pub payload: Option<At<Bytes>>,
    /// Other file descriptors than those attached; `[]` takes them away.
    #[serde(default)]
    pub fds: Option<Vec<At<FdKind>>>,
    /// How many messages; default 1.
    #[serde(default)]
    pub times: Option<At<Num>>,
    /// All of them, from here on.
    #[serde(default)]
    pub always: bool,
}

/// `inject`. Exactly one of `message`, `reply_to`, `kick`, `call`, `error` and `closed`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inject {
    /// The peer in whose name it comes. The other one receives it.
    pub from: At<String>,
    /// `main` (default) or `backend`.
    #[serde(default)]
    pub channel: Option<At<String>>,
    /// A request.
    #[serde(default)]
    pub message: Option<At<String>>,
    /// A reply to such a request, whether it was made or not.
    #[serde(default)]
    pub reply_to: Option<At<String>>,
    /// A kick of this ring, which has to be relayed.
    #[serde(default)]
    pub kick: Option<At<Num>>,
    /// A call of this ring, which has to be relayed.
    #[serde(default)]
    pub call: Option<At<Num>>,
    /// An error of this ring, which has to be relayed.
    #[serde(default)]
    pub error: Option<At<Num>>,
    /// The close of a socket, `main` or `backend`.
    #[serde(default)]
    pub closed: Option<At<String>>,
    /// Sets the need_reply flag.
    #[serde(default)]
    pub need_reply: bool,
    /// The only field of a u64 payload.
    #[serde(default)]
    pub value: Option<At<Node>>,
    /// The status of an ack; the same as `value`.
    #[serde(default)]
    pub status: Option<At<Node>>,
    /// Payload fields; what is missing is 0.
    #[serde(default)]
    pub fields: Ordered<At<Node>>,
    /// Header words that replace the computed ones.
    #[serde(default)]
    pub header: Option<HeaderDecl>,
    /// Payload bytes instead of a typed payload.
    #[serde(default)]
    pub payload: Option<At<Bytes>>,
    /// File descriptors to attach. Default: what the request needs (memory, eventfd, ...); none for a reply.
    #[serde(default)]
    pub fds: Option<Vec<At<FdKind>>>,
    /// It arrives in pieces that end at these byte offsets.
    #[serde(default)]
    pub split: Vec<At<Num>>,
}

/// Notifications that a link relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Signals {
    /// From the front-end, through the eventfd of SET_VRING_KICK.
    Kicks,
    /// From the back-end, through the eventfd of SET_VRING_CALL.
    Calls,
    /// From the back-end, through the eventfd of SET_VRING_ERR.
    Errors,
}
