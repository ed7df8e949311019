//! Steps about what simulated peers ask of their own accord, and about what they share besides guest memory.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::scalar::{Bytes, Duration, Node, Num, Ordered};
use super::super::span::At;

/// `request`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestStep {
    /// The simulated peer that asks: a front-end on the main socket, a back-end on its channel.
    pub peer: At<String>,
    /// The request's name.
    pub message: At<String>,
    /// The ring it is about; default 0.
    #[serde(default)]
    pub ring: Option<At<Num>>,
    /// Payload fields that differ from those that the peer would choose.
    #[serde(default)]
    pub fields: Ordered<At<Node>>,
    /// Sets or clears the need_reply flag. Default: set where REPLY_ACK is negotiated and the request has no reply of its own.
    #[serde(default)]
    pub need_reply: Option<At<bool>>,
    /// The status that it has to be answered with; default 0.
    #[serde(default)]
    pub status: Option<At<Num>>,
    /// `true`: it has to be answered with a status that says no, whichever.
    #[serde(default)]
    pub refused: bool,
    /// `false`: go on at once; `answered` waits for the answer.
    #[serde(default)]
    pub wait: Option<At<bool>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// `ask_during`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskDuring {
    /// The simulated back-end.
    pub peer: At<String>,
    /// The next request of this name that it is given ...
    pub request: At<String>,
    /// ... makes it ask this on its channel first. It carries the request out and answers it once it has its own answer.
    pub message: At<String>,
    /// The ring that the question is about; default 0.
    #[serde(default)]
    pub ring: Option<At<Num>>,
    /// Payload fields that differ from those that it would choose.
    #[serde(default)]
    pub fields: Ordered<At<Node>>,
    /// The status that it has to be answered with; default 0.
    #[serde(default)]
    pub status: Option<At<Num>>,
    /// `true`: it has to be answered with a status that says no, whichever.
    #[serde(default)]
    pub refused: bool,
}

/// `shared`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SharedStep {
    /// The simulated peer: a front-end sees what is mapped, a back-end the files that it has had mapped.
    pub peer: At<String>,
    /// The shared memory region; default 0.
    #[serde(default)]
    pub region: Option<At<Num>>,
    /// Offset in the region.
    #[serde(default)]
    pub offset: Option<At<Num>>,
    /// What to write there.
    #[serde(default)]
    pub write: Option<At<Bytes>>,
    /// What has to be there.
    #[serde(default)]
    pub is: Option<At<Bytes>>,
    /// `true`: nothing is mapped there.
    #[serde(default)]
    pub absent: bool,
}

/// When a simulated front-end serves the back-end channel, and how it tells the replies on its main socket apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Serves {
    /// At any time; each reply on the main socket goes to whoever asked for it.
    Routed,
    /// Only while no request of its own waits for a reply.
    WhenIdle,
    /// Also while it waits for a reply, from within that wait: a request made there takes the next reply for its own.
    Nested,
    /// At any time, from a thread; a lock is held on the main socket from each request to its reply.
    Locked,
}

/// Messages that a socket holds between two simulated peers in each direction; a peer that sends more waits until there is room, and does
/// nothing else meanwhile. What steps send has room always.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Room {
    /// The main socket.
    #[serde(default)]
    pub main: Option<At<Num>>,
    /// The back-end channel.
    #[serde(default)]
    pub backend: Option<At<Num>>,
}
