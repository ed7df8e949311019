//! The typed plan: what a scenario file says, before anything is looked up or run. One struct a map of the language,
//! `deny_unknown_fields` everywhere; the JSON Schema for editors is generated from these types.

use schemars::JsonSchema;
use serde::Deserialize;

use super::free::{free, free_map, free_map_schema, free_schema};
use super::link_steps::{Alter, Hold, Inject, Join, Meddle, Reorder, Signals, Split};
use super::scalar::{Bytes, Duration, FieldMatch, Node, Num, Ordered, Size};
use super::span::At;

/// One scenario, or a family of them if a parameter lists several values.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Permanent id: lower-case words joined by `-`, folders by `/`; equal to the file's path below `scenarios/`.
    pub scenario: At<String>,
    /// What is broken when this fails, in a sentence or two.
    pub about: At<String>,
    /// Requirement ids (`VU-AREA-NN`) that the scenario gives evidence for.
    #[serde(default)]
    pub covers: Vec<At<String>>,
    /// Rules of the protocol monitor or the ring oracle, or requirement ids, that a peer itself breaks here. What the steps
    /// send, and what a peer does because of it, needs no permission.
    #[serde(default)]
    pub allow: Vec<At<String>>,
    /// Free words for `--filter tag(WORD)`.
    #[serde(default)]
    pub tags: Vec<At<String>>,
    /// How this is known to fail today: the verdict then is expected-fail, or unexpected-pass; another failure stays one. It
    /// holds for the peers as written, and not for those of `--frontend` and `--backend`.
    #[serde(default)]
    pub expected_fail: Option<At<ExpectedFail>>,
    /// Parameters by name, with a default or several values; `${name}` in the steps, `--set NAME=VALUE` on the command line.
    #[serde(default)]
    pub parameters: Ordered<Parameter>,
    /// Named step lists of this file, for `use:`.
    #[serde(default)]
    pub fragments: Ordered<Fragment>,
    /// The peers by name.
    pub peers: Ordered<PeerDecl>,
    /// Limit for the whole run; default 10 s.
    #[serde(default)]
    pub timeout: Option<At<Duration>>,
    /// What happens, in order.
    pub steps: Vec<At<Step>>,
    /// What must hold over the whole timeline.
    #[serde(default)]
    pub check: Vec<At<Check>>,
}

/// The failure that a scenario is known for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectedFail {
    /// The kind of the failure.
    pub kind: At<FailureKind>,
    /// A text in the message of the failure or in its lines below: expected, actual, because.
    #[serde(default)]
    pub says: Option<At<String>>,
    /// Why, in a sentence: what the program does.
    pub because: At<String>,
}

/// Kinds of failure that a peer can be known for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// It does something else than expected.
    Wrong,
    /// Its process dies.
    Crash,
    /// Something that is waited for does not come.
    Hang,
    /// It leaves something behind.
    Leak,
}

/// A file that holds only a fragment, for `use: {fragment: path/of/file.yaml}`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fragment {
    /// What it does.
    #[serde(default)]
    pub about: Option<String>,
    /// Its parameters, bound by `with:`.
    #[serde(default)]
    pub parameters: Ordered<Parameter>,
    /// Its steps.
    pub steps: Vec<At<Step>>,
}

/// One parameter.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// What it is for.
    #[serde(default)]
    pub about: Option<String>,
    /// The value when nothing else is said. A fragment's parameter without a default must be bound by `with:`.
    #[serde(default)]
    pub default: Option<At<Node>>,
    /// A family: the scenario is run once for each of these (only in a scenario, not in a fragment).
    #[serde(default)]
    pub values: Option<Vec<At<Node>>>,
}

/// One peer. Exactly one of `frontend` and `backend` is given: `simulated`, a name of the catalogue, a command line
/// with `{socket}` or `{fd}`, `listen:PATH` or `connect:PATH` (the harness listens or connects there).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerDecl {
    /// The peer is a front-end (old name: master).
    #[serde(default, alias = "master")]
    pub frontend: Option<At<String>>,
    /// The peer is a back-end (old name: slave).
    #[serde(default, alias = "slave")]
    pub backend: Option<At<String>>,
    /// `net`, `blk` or `generic` for simulated peers; for QEMU also its device table's other names.
    #[serde(default)]
    pub device: Option<At<String>>,
    /// Number of rings. Default: net 2, others 1.
    #[serde(default)]
    pub queues: Option<At<Num>>,
    /// Descriptors a ring. Default 256.
    #[serde(default)]
    pub ring_size: Option<At<Num>>,
    /// Virtio and vhost feature bits offered (back-end) or wanted (front-end).
    #[serde(default)]
    pub features: Option<FeatureChoice>,
    /// Protocol feature bits offered or wanted.
    #[serde(default)]
    pub protocol_features: Option<FeatureChoice>,
    /// Guest memory of a simulated front-end or of QEMU.
    #[serde(default)]
    pub memory: Option<MemoryDecl>,
    /// Device configuration space, hex; replaces the device's own.
    #[serde(default)]
    pub config: Option<At<Bytes>>,
    /// Capacity of a block device.
    #[serde(default)]
    pub capacity: Option<At<Size>>,
    /// Net back-end: return every frame on the receive ring of its pair.
    #[serde(default)]
    pub loopback: bool,
    /// Requests that a simulated back-end leaves for `reply:` steps; on the channel, those a simulated front-end leaves.
    #[serde(default)]
    pub manual: Vec<At<String>>,
    /// Scripted answers of a simulated back-end, by request.
    #[serde(default)]
    pub answers: Ordered<Answer>,
    /// Simulated front-end: signals each kick eventfd before it passes it on, as QEMU does (VU-RING-14). Default true.
    #[serde(default)]
    pub kick_on_start: Option<At<bool>>,
    /// Which end listens on the socket, where the peer leaves it open: true = this peer.
    #[serde(default)]
    pub listens: Option<At<bool>>,
    /// QEMU: reconnect after this long.
    #[serde(default)]
    pub reconnect: Option<At<Duration>>,
    /// QEMU: `false` starts it without the vhost-user device, to be added over QMP.
    #[serde(default)]
    pub plugged: Option<At<bool>>,
    /// QEMU: `host_mtu` of the net device.
    #[serde(default)]
    pub mtu: Option<At<Num>>,
    /// Further command-line words for a process.
    #[serde(default)]
    pub args: Vec<At<String>>,
    /// How the process must end. Default: alive until the harness stops it, then a clean end.
    #[serde(default)]
    pub exit: Option<ExitRule>,
}

/// A choice of feature bits by name. `only` is the exact set; otherwise `with` is added to and `without` taken from the default.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureChoice {
    /// Exactly these.
    #[serde(default)]
    pub only: Option<Vec<At<String>>>,
    /// These as well.
    #[serde(default)]
    pub with: Vec<At<String>>,
    /// Not these.
    #[serde(default)]
    pub without: Vec<At<String>>,
}

/// Guest memory.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryDecl {
    /// Bytes in all. Default 4 MiB (QEMU 256 MiB).
    #[serde(default)]
    pub size: Option<At<Size>>,
    /// Number of regions of equal size. Default 1.
    #[serde(default)]
    pub regions: Option<At<Num>>,
    /// All regions are parts of one file (mmap_offset is not 0), as QEMU's are.
    #[serde(default)]
    pub one_file: bool,
}

/// A scripted answer of a simulated peer to one kind of request.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// A u64 answer, or the status of an ack.
    #[serde(default)]
    pub value: Option<At<Num>>,
    /// Fields of the answer that differ from the true ones.
    #[serde(default)]
    pub fields: Ordered<At<Node>>,
    /// Header fields that differ.
    #[serde(default)]
    pub header: Option<HeaderDecl>,
    /// Payload bytes instead of a typed answer.
    #[serde(default)]
    pub payload: Option<At<Bytes>>,
    /// No answer at all.
    #[serde(default)]
    pub silent: bool,
    /// The answer is sent twice.
    #[serde(default)]
    pub twice: bool,
    /// The connection is closed instead of an answer.
    #[serde(default)]
    pub close: bool,
    /// The answer is sent this long after the request.
    #[serde(default)]
    pub after: Option<At<Duration>>,
    /// Only the n-th request of this kind (from 1); others are answered truly.
    #[serde(default)]
    pub nth: Option<At<Num>>,
}

/// Header words that replace the computed ones.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderDecl {
    /// Request id.
    #[serde(default)]
    pub request: Option<At<Num>>,
    /// Flags word.
    #[serde(default)]
    pub flags: Option<At<Num>>,
    /// Payload size as announced.
    #[serde(default)]
    pub size: Option<At<Num>>,
}

/// How a process must have ended.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExitRule {
    /// By itself with this status.
    #[serde(default)]
    pub status: Option<At<Num>>,
    /// By this signal (`SIGKILL`, ...).
    #[serde(default)]
    pub signal: Option<At<String>>,
    /// Any way of ending, or none, will do.
    #[serde(default)]
    pub any: bool,
}

/// One step: a map with one key.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Starts a peer's process without waiting for its connection.
    Start(At<String>),
    /// Starts both peers where needed and waits until they are connected.
    Connect(Connect),
    /// The standard handshake, or a driver's initialisation, up to a state.
    Setup(Setup),
    /// A simulated peer sends a message.
    Send(Box<Send>),
    /// A simulated peer sends bytes that need not be a message.
    Raw(Raw),
    /// A simulated peer answers the oldest request of that name which it left open (`manual`).
    Reply(Reply),
    /// The next message from that peer must be this.
    Expect(Box<Pattern>),
    /// The next message must be one of these.
    AnyOf(Vec<Pattern>),
    /// The next messages must be these, in any order.
    Unordered(Vec<Pattern>),
    /// This may come before what the next expectation waits for.
    Optional(Box<OptionalPattern>),
    /// Goes on until this comes; other messages may come before it.
    Until(Box<Pattern>),
    /// This must not have come up to now, since the last that was read.
    NotYet(Box<Pattern>),
    /// From here on this must not happen.
    Never(Box<Pattern>),
    /// Repeats steps.
    Repeat(Repeat),
    /// Ordinary conversation around a negative case: if it fails, the case says nothing, and the verdict is inconclusive.
    Sanity(Vec<At<Step>>),
    /// Runs tracks of steps side by side and waits for all.
    Together(Ordered<Vec<At<Step>>>),
    /// Waits until every track of the enclosing `together` that names this barrier has come to it.
    Barrier(At<String>),
    /// Runs a fragment.
    Use(Use),
    /// From here on, what matches waits on the link until it is released, and what comes after it on the same socket too.
    Hold(Box<Hold>),
    /// Lets what a hold keeps go on, a message or a thread, and ends the hold.
    Release(At<String>),
    /// What matches next never arrives.
    Drop(Box<Meddle>),
    /// What matches next arrives twice.
    Duplicate(Box<Meddle>),
    /// What matches next is overtaken by what comes after it.
    Reorder(Box<Reorder>),
    /// What matches next waits, to arrive in one piece with a later message.
    Join(Box<Join>),
    /// What matches next arrives in pieces, each sent once the one before it has been read.
    Split(Box<Split>),
    /// What matches next arrives as something else.
    Alter(Box<Alter>),
    /// Something arrives at a peer that the other one never sent, ahead of all that waits on the link.
    Inject(Box<Inject>),
    /// From here on, a thread of a peer's process stops at a certain point until it is released.
    HoldThread(Box<HoldThread>),
    /// Waits until that hold keeps something, or the thread of that `hold_thread` is held.
    UntilHeld(At<String>),
    /// Waits until every thread of a peer's process sleeps, or is held: it has done all that it can with what it was given.
    UntilIdle(At<String>),
    /// A simulated peer plays its side of a recorded conversation: what that side sent is sent, with features, counts and
    /// descriptors of the present one, and what was answered is waited for.
    Replay(Replay),
    /// A simulated front-end signals a ring's kick eventfd.
    Kick(RingRef),
    /// A simulated back-end signals a ring's call eventfd.
    Call(RingRef),
    /// A simulated peer closes a socket.
    Close(Close),
    /// Sends a signal to a peer's process; SIGKILL if none is named.
    Kill(Kill),
    /// Stops a peer's process (if it runs) and starts it again.
    Restart(At<String>),
    /// SIGSTOP to a peer's process.
    Stop(At<String>),
    /// SIGCONT to a peer's process.
    Continue(At<String>),
    /// Stops, starts, enables or disables a ring of a simulated front-end.
    Ring(RingStep),
    /// Changes the memory table of a simulated front-end.
    Memory(MemoryStep),
    /// Writes guest memory of a simulated peer.
    Write(WriteStep),
    /// Sends frames through shared memory and checks that they arrive.
    Deliver(Deliver),
    /// A block request through shared memory.
    Blk(Blk),
    /// Waits for a request that was submitted with `wait: false`.
    Await(Await),
    /// A request to a generic device, which has to return what it was sent.
    Echo(Echo),
    /// Looks into the image file of a block back-end's process.
    Image(Image),
    /// Reads or writes the device's configuration space through QEMU's driver.
    Config(ConfigStep),
    /// A QEMU driver's action.
    Driver(Driver),
    /// A QMP command to QEMU.
    Qmp(Qmp),
    /// A qtest line to QEMU.
    Qtest(Qtest),
}

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

/// `connect`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// The front-end.
    pub from: At<String>,
    /// The back-end.
    pub to: At<String>,
    /// Notifications that go through the harness from here on, so that each is an event that can be held, dropped, repeated. Others go
    /// from peer to peer.
    #[serde(default)]
    pub relay: Vec<At<Signals>>,
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

/// `send`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// The simulated peer that sends.
    pub from: At<String>,
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

/// What may be met on the timeline. Exactly one of `message`, `reply_to`, `kick`, `call`, `error`, `closed`, `exits`, `event`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// The peer it comes from.
    #[serde(default)]
    pub from: Option<At<String>>,
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

/// A ring of a peer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RingRef {
    /// The simulated peer.
    pub from: At<String>,
    /// The ring.
    pub ring: At<Num>,
}

/// `close`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Close {
    /// The simulated peer that closes.
    pub peer: At<String>,
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

/// `ring`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RingStep {
    /// The simulated front-end.
    pub peer: At<String>,
    /// The ring.
    pub ring: At<Num>,
    /// What to do with it.
    pub action: At<RingAction>,
    /// `stop`: binds the base that GET_VRING_BASE returned.
    #[serde(default, rename = "as")]
    pub bind: Option<At<String>>,
    /// `stop`: the base that must be returned.
    #[serde(default)]
    pub base: Option<At<FieldMatch>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// An action on a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RingAction {
    /// GET_VRING_BASE, keeping the base.
    Stop,
    /// SET_VRING_NUM, BASE (as kept), ADDR, CALL, KICK.
    Start,
    /// SET_VRING_ENABLE 1.
    Enable,
    /// SET_VRING_ENABLE 0.
    Disable,
}

/// `memory`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryStep {
    /// The simulated front-end.
    pub peer: At<String>,
    /// What to do.
    pub action: At<MemoryAction>,
    /// Guest address of the region to add or remove.
    #[serde(default)]
    pub address: Option<At<Num>>,
    /// Its size.
    #[serde(default)]
    pub size: Option<At<Size>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// An action on the memory table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryAction {
    /// A new region and ADD_MEM_REG.
    Add,
    /// REM_MEM_REG of a region.
    Remove,
    /// SET_MEM_TABLE with all present regions, again.
    Replace,
}

/// `write`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteStep {
    /// The simulated peer.
    pub peer: At<String>,
    /// Guest address.
    pub address: At<Num>,
    /// What to write.
    pub bytes: At<Bytes>,
}

/// `deliver`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deliver {
    /// Where the frames start: the front-end transmits, or the simulated back-end puts them into the receive ring.
    pub from: At<String>,
    /// Where they must arrive; equal to `from` for a back-end that loops them back.
    pub to: At<String>,
    /// How many; default 1.
    #[serde(default)]
    pub packets: Option<At<Num>>,
    /// Bytes of a frame, without the virtio-net header; default 64.
    #[serde(default)]
    pub size: Option<At<Num>>,
    /// Queue pair; default 0.
    #[serde(default)]
    pub pair: Option<At<Num>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// `blk`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Blk {
    /// The front-end.
    pub peer: At<String>,
    /// What to do.
    pub action: At<BlkAction>,
    /// Request queue; default 0.
    #[serde(default)]
    pub queue: Option<At<Num>>,
    /// First sector of 512 bytes; default 0.
    #[serde(default)]
    pub sector: Option<At<Num>>,
    /// Number of sectors; default 1.
    #[serde(default)]
    pub sectors: Option<At<Num>>,
    /// Byte that fills the data written, or that data read must consist of.
    #[serde(default)]
    pub fill: Option<At<Num>>,
    /// Status byte expected: `ok` (default), `ioerr`, `unsupp`.
    #[serde(default)]
    pub status: Option<At<BlkStatus>>,
    /// `false`: only submit; `await` completes it.
    #[serde(default)]
    pub wait: Option<At<bool>>,
    /// `false`: do not kick after submitting.
    #[serde(default)]
    pub kick: Option<At<bool>>,
    /// The request's name for `await`.
    #[serde(default, rename = "as")]
    pub bind: Option<At<String>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// A block request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BlkAction {
    /// VIRTIO_BLK_T_IN.
    Read,
    /// VIRTIO_BLK_T_OUT.
    Write,
    /// VIRTIO_BLK_T_FLUSH.
    Flush,
    /// VIRTIO_BLK_T_GET_ID.
    GetId,
    /// A request type that no device knows.
    Unknown,
}

/// Status byte of a block request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BlkStatus {
    /// VIRTIO_BLK_S_OK.
    Ok,
    /// VIRTIO_BLK_S_IOERR.
    Ioerr,
    /// VIRTIO_BLK_S_UNSUPP.
    Unsupp,
}

/// `await`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Await {
    /// The request's name.
    pub request: At<String>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// `echo`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Echo {
    /// The simulated front-end.
    pub peer: At<String>,
    /// Ring; default 0.
    #[serde(default)]
    pub ring: Option<At<Num>>,
    /// How many requests; default 1.
    #[serde(default)]
    pub requests: Option<At<Num>>,
    /// Bytes of each; default 64.
    #[serde(default)]
    pub size: Option<At<Num>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// `image`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The back-end whose process was given `{image}`.
    pub peer: At<String>,
    /// First sector.
    pub sector: At<Num>,
    /// Number of sectors; default 1.
    #[serde(default)]
    pub sectors: Option<At<Num>>,
    /// The byte that all of it must consist of.
    pub fill: At<Num>,
}

/// `config`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigStep {
    /// The front-end (QEMU).
    pub peer: At<String>,
    /// Offset in the configuration space.
    #[serde(default)]
    pub offset: Option<At<Num>>,
    /// What must be read there.
    #[serde(default)]
    pub is: Option<At<Bytes>>,
    /// What to write there.
    #[serde(default)]
    pub write: Option<At<Bytes>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// `driver`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// The front-end (QEMU).
    pub peer: At<String>,
    /// What the guest driver does.
    pub action: At<DriverAction>,
    /// `notify`: the ring.
    #[serde(default)]
    pub ring: Option<At<Num>>,
    /// `use-pairs`: how many queue pairs.
    #[serde(default)]
    pub pairs: Option<At<Num>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// What QEMU's guest driver does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DriverAction {
    /// Finds the device, negotiates, sets up the rings, DRIVER_OK.
    Init,
    /// Writes device status 0.
    Reset,
    /// Writes a ring's notify register.
    Notify,
    /// Net: tells the device, over the control queue, how many queue pairs are in use from now on.
    UsePairs,
    /// Adds the device over QMP (of a QEMU with `plugged: false`, or again after `unplug`).
    Plug,
    /// Removes the device over QMP, and plays the guest that lets go of it.
    Unplug,
}

/// `qmp`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Qmp {
    /// The front-end (QEMU).
    pub peer: At<String>,
    /// The command.
    pub execute: At<String>,
    /// Its arguments.
    #[serde(default, deserialize_with = "free")]
    #[schemars(schema_with = "free_schema")]
    pub arguments: Option<At<Node>>,
    /// The command must fail, with this in its class or description.
    #[serde(default)]
    pub error: Option<At<String>>,
    /// What the answer must contain, by path (`status`, `[0].name`).
    #[serde(default, deserialize_with = "free_map")]
    #[schemars(schema_with = "free_map_schema")]
    pub returns: Ordered<At<Node>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// `qtest`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Qtest {
    /// The front-end (QEMU).
    pub peer: At<String>,
    /// The line, without the newline.
    pub line: At<String>,
    /// The answer after `OK `.
    #[serde(default)]
    pub is: Option<At<String>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// One check over the whole timeline: a map with one key.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Each of these is there, and the first of each comes after the first of the one before. Several `order` checks make a partial order.
    Order(Vec<PatternRef>),
    /// Whenever the last of these happens, all others have happened before.
    HappensBefore(Vec<PatternRef>),
    /// `exactly-one`: every request that wants an answer has exactly one, in order, and no answer is without request.
    Acks(At<AckRule>),
    /// How often something is there.
    Count(Box<Count>),
    /// It is never there.
    Never(Box<Pattern>),
    /// Each of these has happened in the rings, as far as the ring oracle could see: `ring-wrapped`, `indirect-used` and so on.
    Marks(Vec<At<String>>),
    /// What a process wrote to its standard error.
    Stderr(StderrCheck),
}

/// How replies are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AckRule {
    /// Every request that wants an answer has exactly one.
    ExactlyOne,
}

/// `count`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Of what.
    pub of: Pattern,
    /// How many.
    pub is: At<FieldMatch>,
}

/// `stderr`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StderrCheck {
    /// The peer.
    pub peer: At<String>,
    /// Text that must be there.
    #[serde(default)]
    pub contains: Option<At<String>>,
    /// Text that must not be there.
    #[serde(default)]
    pub lacks: Option<At<String>>,
}

/// A pattern, or the short form `NAME` or `reply to NAME`.
#[derive(Debug, Clone, Default)]
pub struct PatternRef(pub At<Pattern>);
