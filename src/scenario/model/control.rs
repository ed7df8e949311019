//! Steps about connections, processes, threads and the way of the script itself.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::link_steps::Signals;
use super::super::scalar::{Duration, Node, Num, Ordered};
use super::super::span::At;
use super::{Room, Step};

/// `replay`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// The simulated peer. A front-end has the recorded one's memory and rings, at their addresses, from the beginning.
    pub peer: At<String>,
    /// The trace file, relative to the scenario's.
    pub trace: At<String>,
    /// The trace's link; default 0.
    #[serde(default)]
    pub link: Option<At<Num>>,
    /// The last line of the file that is played; otherwise the first conversation to its end.
    #[serde(default)]
    pub to_line: Option<At<Num>>,
    /// Limit for all of it.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// `schedule`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// When timers fire: `slow` (only when nothing else can happen), `sync` (only when no copy of the request or of its answer is left
    /// anywhere) or `async` (at any time while waiting). Default `slow`.
    #[serde(default)]
    pub regime: Option<At<String>>,
    /// The steps, in order: a peer and what it does, such as `front start`, `back receive`, `front timer`. What is not possible
    /// ends the run.
    #[serde(default)]
    pub choices: Vec<At<String>>,
    /// The same as letters, as in the tokens of `vuh explore`: `sSrR`, capitals for the back-end. Instead of `choices`.
    #[serde(default)]
    pub letters: Option<At<String>>,
    /// Steps after them that lead back to where they began: once around a run without end.
    #[serde(default)]
    pub cycle: Vec<At<String>>,
    /// The verdict classes that this comes to, all of them: `hang`, `loss`, `duplicate` and so on. None: nothing is wrong.
    #[serde(default)]
    pub comes_to: Vec<At<String>>,
    /// All is done after it. Otherwise it may stop on the way.
    #[serde(default)]
    pub finished: bool,
}

/// `connect`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// The front-end.
    pub from: At<String>,
    /// The back-end.
    pub to: At<String>,
    /// Of a vhost-pci server with several: the socket. Default: its first.
    #[serde(default)]
    pub socket: Option<At<String>>,
    /// Notifications that go through the harness from here on, so that each is an event that can be held, dropped, repeated. Others go
    /// from peer to peer.
    #[serde(default)]
    pub relay: Vec<At<Signals>>,
    /// How many messages each socket holds between two simulated peers; default: all.
    #[serde(default)]
    pub room: Option<Room>,
    /// Limit for this step; default: the scenario's.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// `setup`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The front-end that does it.
    pub peer: At<String>,
    /// Where to stop; default `running`.
    #[serde(default)]
    pub until: Option<At<SetupState>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// How far `setup` goes. Each state includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SetupState {
    /// Features and protocol features negotiated, owner set, back-end channel passed.
    Negotiated,
    /// The memory table is known to the back-end.
    Memory,
    /// Rings are configured and started (SET_VRING_KICK), not yet enabled.
    Started,
    /// Rings are enabled; DRIVER_OK.
    Running,
}

/// `repeat`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// How often.
    pub times: At<Num>,
    /// Binds the pass, from 0.
    #[serde(default, rename = "as")]
    pub bind: Option<At<String>>,
    /// What.
    pub steps: Vec<At<Step>>,
}

/// `use`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Use {
    /// A fragment of this file, or the path of a fragment file, relative to this file.
    pub fragment: At<String>,
    /// Its parameters.
    #[serde(default)]
    pub with: Ordered<At<Node>>,
    /// Parameters that take one value after the other: the fragment is used once for each combination.
    #[serde(default)]
    pub each: Ordered<Vec<At<Node>>>,
}

/// `hold_thread`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldThread {
    /// The hold's name, for `until_held` and `release`.
    #[serde(rename = "as")]
    pub name: At<String>,
    /// The peer, which has to be a process.
    pub peer: At<String>,
    /// At which end of a wait it stops: as it `returns` (default), or before it `waits`.
    #[serde(default)]
    pub when: Option<At<ThreadPoint>>,
    /// Only a thread that waits in this call, and only this call.
    #[serde(default)]
    pub waits_in: Option<At<WaitCall>>,
    /// It stops only as it returns with this news, and is a thread that waits for it.
    #[serde(default)]
    pub told_of: Option<News>,
    /// `true`: a thread that waits for the main socket as well; `false`: one that does not. A peer that has none such is unsupported.
    #[serde(default)]
    pub serves_socket: Option<At<bool>>,
    /// Limit for this step: finding the thread.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// An end of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ThreadPoint {
    /// It has been told of something, and has not done anything about it.
    Returns,
    /// It has done what there was to do, and is about to wait.
    Waits,
}

/// What a thread waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WaitCall {
    /// epoll_wait, epoll_pwait, epoll_pwait2.
    Epoll,
    /// poll, ppoll.
    Poll,
    /// read.
    Read,
    /// recvmsg, recvfrom.
    Recv,
}

/// What a wait tells of. Exactly one of `kick` and `socket`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct News {
    /// The kick of this ring.
    #[serde(default)]
    pub kick: Option<At<Num>>,
    /// Something to read on the socket: `main`.
    #[serde(default)]
    pub socket: Option<At<NewsSocket>>,
}

/// A socket that a thread may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NewsSocket {
    /// The one the protocol is spoken on.
    Main,
}

/// `close`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Close {
    /// The simulated peer that closes.
    pub peer: At<String>,
    /// The peer on the other side, where this one has several connections.
    #[serde(default)]
    pub to: Option<At<String>>,
    /// `main` (default) or `backend`.
    #[serde(default)]
    pub channel: Option<At<String>>,
}

/// `kill`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// The peer.
    pub peer: At<String>,
    /// The signal, `SIGKILL` if missing.
    #[serde(default)]
    pub signal: Option<At<String>>,
}
