//! Exploring interleavings: every place where order is free is a choice point of one scheduler.
//!
//! `model` explores modelled endpoints (peers with `retry:`) under virtual time, the whole state space if wanted; `live`
//! runs real programs once for each schedule. Which of the two a scenario is for is decided by its peers. This room
//! searches and reports; it prints nothing and never looks at a wall clock.

pub mod live;
pub mod model;
mod options;

pub use crate::peer::sim::retry::{Regime, Resends};
pub use options::{Options, Search};

use crate::engine::Environment;
use crate::scenario::Plan;

/// What came of exploring one scenario.
#[derive(Debug, Clone)]
pub struct Report {
    /// The scenario.
    pub id: String,
    /// What it comes to.
    pub result: Found,
    /// For the terminal: what was covered, what was found, the shortest trace.
    pub text: String,
    /// The same for programs.
    pub json: serde_json::Value,
    /// A scenario that `vuh run` replays, if something was found that one can be written for.
    pub scenario: Option<String>,
}

/// What an exploration comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// All that was asked for was covered, and nothing is wrong.
    Nothing,
    /// Something is wrong and can be shown.
    Something,
    /// Nothing was found, but a bound was met before everything was covered: which.
    NotExhausted(String),
    /// It cannot be explored here, and why.
    Unsupported(String),
}

/// Why something could not be explored that should have been.
#[derive(Debug, thiserror::Error)]
pub enum ExploreError {
    /// A schedule token that does not fit the scenario.
    #[error("the schedule `{token}` {why}")]
    Schedule {
        /// As given.
        token: String,
        /// What is wrong with it.
        why: String,
    },
    /// The scenario cannot be explored as it is written.
    #[error("{0}")]
    Scenario(String),
    /// A fault of the harness.
    #[error("{0}")]
    Harness(String),
}

/// Explores one scenario: the model if its peers are modelled endpoints, else the real programs.
///
/// # Errors
/// A schedule that does not fit, a scenario that contradicts itself.
pub fn explore(plan: &Plan, environment: &Environment, options: &Options) -> Result<Report, ExploreError> {
    if model::is_for(plan) {
        model::explore(plan, options)
    } else {
        live::explore(plan, environment, options)
    }
}
