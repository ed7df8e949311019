//! Monotonic time, as nanoseconds since a run began.

use std::time::{Duration, Instant};

/// A clock that started with its run.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

/// A moment of a run: nanoseconds since its clock started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Moment {
    /// Nanoseconds since the start of the run.
    pub ns: u64,
}

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        Moment {
            ns: u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// How long from now until `moment`; zero if it has passed.
    pub fn until(&self, moment: Moment) -> Duration {
        Duration::from_nanos(moment.ns.saturating_sub(self.now().ns))
    }

    /// The moment as the standard library's instant.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.start + Duration::from_nanos(moment.ns)
    }
}

impl Moment {
    /// This moment and some milliseconds.
    pub fn plus_ms(self, ms: u64) -> Moment {
        Moment {
            ns: self.ns.saturating_add(ms.saturating_mul(1_000_000)),
        }
    }

    /// Milliseconds with their fraction.
    pub fn ms(self) -> f64 {
        self.ns as f64 / 1e6
    }
}
