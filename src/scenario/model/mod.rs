//! The typed plan: what a scenario file says, before anything is looked up or run. One struct a map of the language,
//! `deny_unknown_fields` everywhere; the JSON Schema for editors is generated from these types.

mod asks;
mod checks;
mod control;
mod device;
mod messages;
mod pci;
mod peers;

use schemars::JsonSchema;
use serde::Deserialize;

use super::link_steps::{Alter, Hold, Inject, Join, Meddle, Reorder, Split};
use super::scalar::{Duration, Node, Ordered};
use super::span::At;

pub use asks::*;
pub use checks::*;
pub use control::*;
pub use device::*;
pub use messages::*;
pub use pci::*;
pub use peers::*;

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
    /// A simulated peer makes a request of its own accord, in a form that is legal where it stands, and waits for the answer.
    Request(Box<RequestStep>),
    /// Waits until a simulated peer has the answers to all that `request` has made it ask.
    Answered(At<String>),
    /// A simulated back-end asks on its channel while it handles a request of the front-end.
    AskDuring(Box<AskDuring>),
    /// Reads or writes a shared memory region of the device, or looks whether something is mapped.
    Shared(SharedStep),
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
    /// Waits until the ring oracle has followed so many chains of a ring. On one that it cannot follow it waits in vain.
    UntilRing(UntilRing),
    /// A simulated peer plays its side of a recorded conversation: what that side sent is sent, with features, counts and
    /// descriptors of the present one, and what was answered is waited for.
    Replay(Replay),
    /// Two modelled endpoints (peers with `retry:`) take these steps, one after the other, over real sockets. After each, what is
    /// unread on every socket has to be what the model says, byte for byte.
    Schedule(Schedule),
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
    Deliver(Box<Deliver>),
    /// A block request through shared memory.
    Blk(Blk),
    /// Waits for a request that was submitted with `wait: false`.
    Await(Await),
    /// A request to a generic device, which has to return what it was sent.
    Echo(Echo),
    /// Looks into the image file of a block back-end's process.
    Image(Image),
    /// Copies what the device writes in guest memory while it does (receive buffers of deliveries with a load of their own, used rings),
    /// by the dirty log.
    Migration(MigrationStep),
    /// A simulated back-end will die with requests in hand, as if it were killed. The next connection is to a new one with the
    /// same disk.
    Dies(DiesStep),
    /// Looks what an inflight area says.
    Inflight(InflightStep),
    /// Reads or writes the device's configuration space through QEMU's driver.
    Config(ConfigStep),
    /// A QEMU driver's action.
    Driver(Driver),
    /// A QMP command to QEMU.
    Qmp(Qmp),
    /// A qtest line to QEMU.
    Qtest(Qtest),
    /// Something that a Linux guest does.
    Guest(GuestStep),
    /// What an administrator or the slave's guest does to a vhost-pci server.
    Pci(PciStep),
}
