//! What is asked of an exploration, the same for the model and for real programs where both know the thing.

use std::str::FromStr;

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

/// When timers of modelled endpoints fire.
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

impl FromStr for Regime {
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

impl FromStr for Resends {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "unbounded" => Ok(Self::Unbounded),
            _ => match word.parse() {
                Ok(number @ 0..=6) => Ok(Self::AtMost(number)),
                _ => Err("write a number up to 6, or unbounded".to_owned()),
            },
        }
    }
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
