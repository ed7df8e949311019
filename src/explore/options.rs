//! What is asked of an exploration, the same for the model and for real programs where both know the thing.

use crate::peer::sim::retry::{Regime, Resends};

/// How schedules are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Search {
    /// All of them, up to the bounds.
    #[default]
    Exhaustive,
    /// Each choice by chance, from the seed.
    Random,
    /// Priorities by chance and a few points where they change (Burckhardt et al., ASPLOS 2010), from the seed.
    Pct,
    /// One, by its token.
    Replay,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// How schedules are chosen.
    pub search: Search,
    /// How schedules of real programs are chosen.
    pub live: Search,
    /// Real programs: points at which priorities change, or pairs of events that are turned round in one schedule.
    pub bound: Option<u32>,
    /// Processes may be killed at any time.
    pub kill: bool,
    /// Threads are stopped wherever they are told of something, not only of what crosses the link.
    pub every_wake: bool,
    /// Schedules of real programs that are run at the same time.
    pub jobs: u16,
    /// Schedules to try, for random and PCT search, and runs of a real program at most.
    pub schedules: u64,
    /// Where chance begins.
    pub seed: u64,
    /// Choices of a schedule, at most.
    pub depth: Option<u32>,
    /// Re-sends; otherwise what the scenario says.
    pub resends: Option<Resends>,
    /// States to visit, at most.
    pub states: Option<u64>,
    /// The token to replay.
    pub schedule: Option<String>,
    /// Timer regimes; all if none is named.
    pub regimes: Vec<Regime>,
    /// Partial-order reduction.
    pub reduce: bool,
    /// Symmetry reduction.
    pub symmetry: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            search: Search::Exhaustive,
            live: Search::Random,
            bound: None,
            kill: false,
            every_wake: false,
            jobs: 1,
            schedules: 200,
            seed: 1,
            depth: None,
            resends: None,
            states: None,
            schedule: None,
            regimes: Vec::new(),
            reduce: false,
            symmetry: false,
        }
    }
}
