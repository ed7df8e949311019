//! Verdicts from the timeline: expectations, order, acks, counts, the protocol monitor. Readers of events; no I/O. The ring
//! oracle reads guest memory besides.

pub mod acks;
pub mod checks;
pub mod matcher;
pub mod monitor;
pub mod oracle;
pub mod outcome;
pub mod rate;
pub mod rated;
pub mod recorded;
pub mod value;
pub mod verdict;
