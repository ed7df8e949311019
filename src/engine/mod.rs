//! One scenario's run: event loop, deadlines, holds, barriers. Knows no YAML.

use std::path::PathBuf;

use crate::judge::outcome::Outcome;
use crate::peer::catalogue::Catalogue;
use crate::scenario::Plan;

/// What a run needs from outside.
#[derive(Debug)]
pub struct Environment {
    /// The known peers.
    pub catalogue: Catalogue,
    /// Replaces the front-end of scenarios that leave it open.
    pub frontend: Option<String>,
    /// Replaces the back-end of scenarios that leave it open.
    pub backend: Option<String>,
    /// Replaces each scenario's own limit, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Where the files of a run are kept; otherwise they are removed.
    pub keep: Option<PathBuf>,
    /// Peers that must be there: a missing one is a failure, not a skip.
    pub required: Vec<String>,
    /// What the command to run a scenario again starts with, options included.
    pub rerun: String,
}

/// Why a scenario cannot be run here, known before anything is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// In words.
    pub reason: String,
    /// The catalogue peer that is missing, if that is the reason.
    pub missing: Option<String>,
    /// The missing peer is among the required ones, so this is a failure.
    pub fatal: bool,
}

/// Whether a scenario can be run here: what stands in the way, if anything.
pub fn obstacle(_plan: &Plan, _environment: &Environment) -> Option<Obstacle> {
    None
}

/// Runs one scenario.
pub fn run(_plan: &Plan, _environment: &Environment) -> Outcome {
    unimplemented!("engine::run")
}
