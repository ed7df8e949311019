//! Verdicts from the timeline: expectations, order, acks, counts. Readers of events; no I/O.

pub mod acks;
pub mod checks;
pub mod matcher;
pub mod monitor;
pub mod outcome;
pub mod recorded;
pub mod value;
pub mod verdict;
