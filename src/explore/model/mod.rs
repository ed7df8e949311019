//! Exploring modelled endpoints under virtual time.
//!
//! `machine` is what the search needs of a model, `search` visits all of its states, `reduce` leaves out interleavings
//! that make no difference, `cycles` finds runs without end, `verdict` puts together what was found. `chance` takes schedules
//! by chance instead, `timed` runs the machine under a virtual clock. `schedule`, `diagram` and `report` show what was found, and
//! `page` makes `docs/retry.md` of all of it.

mod chance;
mod cycles;
pub mod diagram;
mod machine;
pub mod page;
mod reduce;
mod report;
mod schedule;
mod search;
pub mod timed;
mod verdict;

pub use chance::{Chance, Sampled, sample};
pub use machine::{Came, Machine, Packed, fold};
pub use report::{QUEUE_BOUND, bound_words, explore, judge, verdict_json};
pub use schedule::Schedule;
pub use search::{Bound, Limits, STATES_DEFAULT, Space, search};
pub use verdict::{Finding, Verdict, verdict};

use crate::scenario::Plan;

/// Whether the peers of a scenario are modelled endpoints.
pub fn is_for(plan: &Plan) -> bool {
    plan.scenario.peers.iter().any(|(_, peer)| peer.retry.is_some())
}

#[cfg(test)]
mod tests;
