//! Modelled endpoints: two ends of one socket that both send requests, each waiting for its own answer, with a *policy*
//! for the other's request that crosses it. The machine has no I/O and no clock. One function, [`System::apply`], takes
//! an atomic step; who chooses the step is the explorer's business, or a `schedule:` step's, which carries out the same
//! steps over a real socket.
//!
//! `policy` is the table of strategies, `program` that of programs; `state` packs a state into 32 bytes; `step` is the
//! machine; `class` says what is wrong with a state. [`channels`] is the machine with two sockets, threads and handlers
//! that wait, with its own table of cases. [`play`] carries out the steps of either on real sockets, message by message.

pub mod channels;
mod class;
pub mod play;
mod policy;
mod program;
mod state;
mod step;

pub use class::{Class, Classes};
pub use policy::{Matching, OnTimeout, Policy, STRATEGIES, Strategy, Timers, Unexpected, strategy};
pub use program::{Operation, OperationError, PROGRAMS, Program, Script, program};
pub use state::{Outcome, Phase, Side, State, Token, TokenKind};
pub use step::{Done, Effect, Kind, Step, Steps, System};

/// When timers fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Regime {
    /// Only when nothing else can happen.
    Slow,
    /// Only when no copy of the request or of its answer is left anywhere.
    Sync,
    /// At any time while waiting.
    Async,
}

impl Regime {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Slow, Self::Sync, Self::Async];

    /// `slow`, `sync` or `async`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Sync => "sync",
            Self::Async => "async",
        }
    }
}

impl std::str::FromStr for Regime {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|regime| regime.name() == word);
        found.ok_or_else(|| format!("`{word}` is none of slow, sync, async"))
    }
}

/// How often a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resends {
    /// At most so often; then the operation is reported failed.
    AtMost(u8),
    /// Without end.
    Unbounded,
}

impl Resends {
    /// The bound that is used if nothing else is said.
    pub const DEFAULT: Self = Self::AtMost(2);
    /// The largest bound.
    pub const MAX: u8 = 6;
}

impl std::str::FromStr for Resends {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word.parse() {
            _ if word == "unbounded" => Ok(Self::Unbounded),
            Ok(number @ 0..=Self::MAX) => Ok(Self::AtMost(number)),
            _ => Err(format!("write a number up to {}, or unbounded", Self::MAX)),
        }
    }
}

impl std::fmt::Display for Resends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(number) => number.fmt(f),
            Self::Unbounded => f.pad("unbounded"),
        }
    }
}
