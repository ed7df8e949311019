//! What an end does with a request that crosses its own, when it sends again, and how it tells its answer: as data, and
//! the strategies of the discussion as rows of one table.

/// What becomes of a request that arrives while its receiver waits for an answer of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unexpected {
    /// It is thrown away and the own operation is reported failed.
    Error,
    /// It is thrown away, and the next message is read.
    Drop,
    /// It is applied and answered at once.
    Serve,
    /// It is kept until the own answer is there.
    Queue,
    /// It is thrown away and answered "busy", if an answer is due.
    Busy,
    /// The connection is closed.
    Close,
}

/// Operations that have a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timers {
    /// None.
    None,
    /// Those that ask for an ack, and not those that ask for a value.
    Sets,
    /// All.
    All,
}

/// What happens when a timer fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnTimeout {
    /// The request is sent again.
    Resend,
    /// The peer is served as if nothing were waited for, then the request is sent again.
    ServeThenResend,
    /// The connection is closed.
    Close,
}

/// How a waiting end tells that a message is its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matching {
    /// The REPLY bit is set and the request id is the same.
    IdAndReply,
    /// The request id is the same.
    IdOnly,
    /// The REPLY bit is set and the sequence number is the same.
    Sequence,
}

/// The policy of one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Policy {
    /// A request while it waits.
    pub while_waiting: Unexpected,
    /// Which of its operations have a timer.
    pub timers: Timers,
    /// What the timer does.
    pub on_timeout: OnTimeout,
    /// Which message is its answer.
    pub matching: Matching,
    /// After a message that was not its answer it sleeps before it reads again (the back-off before `goto retry`).
    pub sleeps: bool,
    /// A request that it has applied before is acknowledged again, and not applied again.
    pub drops_duplicates: bool,
    /// When idle it takes any message for a request, without looking at the REPLY bit.
    pub idle_takes_replies: bool,
    /// It looks at the flags before it has read the payload and gives up there: the payload stays in the stream (the reader of 2016).
    pub flags_before_payload: bool,
}

impl Policy {
    const fn new(while_waiting: Unexpected, timers: Timers, matching: Matching) -> Self {
        Self {
            while_waiting,
            timers,
            on_timeout: OnTimeout::Resend,
            matching,
            sleeps: false,
            drops_duplicates: false,
            idle_takes_replies: false,
            flags_before_payload: false,
        }
    }

    /// Whether it can close the connection.
    pub const fn can_close(&self) -> bool {
        matches!(self.while_waiting, Unexpected::Close)
            || matches!(self.on_timeout, OnTimeout::Close)
            || self.flags_before_payload
    }
}

/// A row of the table: the policies of both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strategy {
    /// Its name.
    pub name: &'static str,
    /// What it is, in words.
    pub about: &'static str,
    /// The front-end's (master's) policy.
    pub front: Policy,
    /// The back-end's (slave's) policy.
    pub back: Policy,
}

/// The row of that name.
pub fn strategy(name: &str) -> Option<&'static Strategy> {
    STRATEGIES.iter().find(|row| row.name.eq_ignore_ascii_case(name))
}

use Matching::{IdAndReply, IdOnly, Sequence};
use Unexpected::{Busy, Close, Drop, Error, Queue, Serve};

const fn row(name: &'static str, front: Policy, back: Policy, about: &'static str) -> Strategy {
    Strategy {
        name,
        about,
        front,
        back,
    }
}

const fn both(name: &'static str, policy: Policy, about: &'static str) -> Strategy {
    row(name, policy, policy, about)
}

const fn plain(while_waiting: Unexpected, timers: Timers) -> Policy {
    Policy::new(while_waiting, timers, IdAndReply)
}

const fn with(matching: Matching, policy: Policy) -> Policy {
    Policy { matching, ..policy }
}

const fn once(policy: Policy) -> Policy {
    Policy {
        drops_duplicates: true,
        ..policy
    }
}

const fn timeout(on_timeout: OnTimeout, policy: Policy) -> Policy {
    Policy { on_timeout, ..policy }
}

/// All strategies.
#[rustfmt::skip]
pub const STRATEGIES: &[Strategy] = &[
    both("A0", plain(Error, Timers::None), "error; today's QEMU and rust-vmm"),
    row("A0-2016", Policy { flags_before_payload: true, ..plain(Error, Timers::None) }, plain(Serve, Timers::None),
        "the front-end's reader of 2016 as written: flags looked at before the payload is read"),
    row("A1", plain(Drop, Timers::None), plain(Serve, Timers::None), "front-end drops, nobody sends again"),
    row("A2", plain(Drop, Timers::Sets), plain(Serve, Timers::Sets), "the seed, one side only"),
    both("A3", plain(Drop, Timers::Sets), "the seed's text on both sides: GETs have no timer"),
    both("A4", plain(Drop, Timers::All), "both drop, all are sent again"),
    both("A5", Policy { sleeps: true, ..plain(Drop, Timers::All) }, "A4 that sleeps after a mismatch (binary exponential back-off)"),
    both("A6", timeout(OnTimeout::ServeThenResend, plain(Drop, Timers::All)), "A4 that serves the peer after a time-out, then sends again"),
    row("A7", plain(Drop, Timers::All), plain(Serve, Timers::All), "tie-break by role: the back-end gives way"),
    both("A8", plain(Busy, Timers::None), "negative reply (busy), sent again on it"),
    row("A9", plain(Busy, Timers::None), plain(Serve, Timers::None), "negative reply of the front-end only"),
    both("B0", plain(Queue, Timers::None), "both queue until their own reply"),
    row("B1", plain(Queue, Timers::None), plain(Serve, Timers::None), "front-end queues, back-end serves"),
    both("B2", plain(Serve, Timers::None), "both serve at once"),
    both("B3", plain(Serve, Timers::All), "B2 with timers"),
    both("B4", with(Sequence, plain(Serve, Timers::All)), "B3 with sequence numbers"),
    both("B5", once(plain(Serve, Timers::All)), "B3, duplicates dropped and acknowledged again"),
    both("B6", once(with(Sequence, plain(Serve, Timers::All))), "B4, duplicates dropped"),
    both("B7", once(with(Sequence, plain(Drop, Timers::All))), "A4 with sequence numbers, duplicates dropped"),
    row("B8", once(with(Sequence, plain(Drop, Timers::All))), once(with(Sequence, plain(Serve, Timers::All))),
        "A7 with sequence numbers, duplicates dropped"),
    both("C0", plain(Close, Timers::None), "close the connection"),
    both("C1", timeout(OnTimeout::Close, plain(Serve, Timers::All)), "serve, and a time-out closes"),
    both("D0", with(IdOnly, plain(Serve, Timers::None)), "B2, replies told by the id only"),
    both("D1", with(IdOnly, plain(Drop, Timers::All)), "A4, replies told by the id only"),
    row("D2", plain(Drop, Timers::All), with(IdOnly, plain(Serve, Timers::All)), "A7, the back-end tells replies by the id only"),
    row("D3", Policy { idle_takes_replies: true, ..plain(Drop, Timers::All) }, plain(Serve, Timers::All),
        "A7, an idle front-end takes any message for a request"),
];
