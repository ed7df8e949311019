//! One scenario's run: event loop, deadlines, holds, barriers. Knows no YAML, only the typed plan.
//!
//! `resolve` makes peers of declarations, `run` is the loop, `stand` starts and connects, `relay`, `delivery` and
//! `signals` carry what crosses the links, as `control` lets it, or as `steer` has it chosen, `tracks` and `steps` walk the script,
//! `drain` waits for what is owed after it, `pci` knows servers with many connections, `watch` has the protocol monitor and the
//! ring oracle judge it all, `end` takes everything down
//! and judges how it ended.

mod control;
mod converse;
mod delivery;
mod directory;
mod drain;
mod end;
mod failure;
mod gone;
mod kept;
mod link;
mod patterns;
mod pci;
mod peers;
mod reading;
pub mod record;
mod relay;
mod resolve;
mod run;
mod signals;
mod stand;
pub mod steer;
mod steps;
mod tracks;
mod traffic;
mod watch;

use std::path::PathBuf;

use crate::judge::outcome::Outcome;
use crate::peer::catalogue::Catalogue;
use crate::scenario::Plan;
use resolve::Unready;

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
pub fn obstacle(plan: &Plan, environment: &Environment) -> Option<Obstacle> {
    match resolve::peers(plan, environment) {
        Err(Unready::Obstacle(obstacle)) => Some(obstacle),
        // what is wrong is said by the run, with its place
        Ok(_) | Err(Unready::Wrong(_)) => None,
    }
}

/// Who would play each peer: its name in the scenario, its role, and the player.
pub fn cast(plan: &Plan, environment: &Environment) -> Vec<(String, String, String)> {
    let peers = resolve::peers(plan, environment).unwrap_or_default();
    peers
        .into_iter()
        .map(|p| (p.name, p.party.to_string(), p.label))
        .collect()
}

/// Runs one scenario.
pub fn run(plan: &Plan, environment: &Environment) -> Outcome {
    end::outcome(plan, environment)
}
