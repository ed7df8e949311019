//! Judges a conversation that is over: whatever reads a finished timeline and knows of no scenario is asked here, and what
//! all of them find comes out in the order of the events. `vuh trace check` and the tests of `traces/` stand on it.

use super::acks;
use crate::trace::{Seq, Timeline};

/// Something wrong with a recorded conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The event at which it shows.
    pub at: Seq,
    /// What.
    pub what: String,
}

/// Asks every judge.
pub fn check(timeline: &Timeline) -> Vec<Fault> {
    let acks = acks::check(timeline).into_iter().map(|fault| Fault {
        at: fault.at,
        what: fault.what,
    });
    let mut faults: Vec<Fault> = acks.collect();
    faults.sort_by_key(|fault| fault.at);
    faults
}
