//! Verdicts from the timeline: expectations, order, acks, counts. Readers of events; no I/O.

pub mod outcome;
pub mod verdict;
