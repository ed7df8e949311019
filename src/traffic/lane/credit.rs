//! How many frames may be on their way between a source and a sink that are not on the same ring.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the sink has seen, for the source.
#[derive(Debug, Clone)]
pub struct Credit {
    /// Frames before this one are not on their way any more.
    settled: Arc<AtomicU64>,
    /// On their way at the same time, at most.
    most: u64,
}

impl Credit {
    /// For so many frames at a time.
    #[must_use]
    pub fn new(most: u64) -> Self {
        Self {
            settled: Arc::new(AtomicU64::new(0)),
            most,
        }
    }

    /// How many may be sent when so many were.
    #[inline]
    pub(super) fn left(&self, sent: u64) -> usize {
        let settled = self.settled.load(Ordering::Relaxed);
        settled.saturating_add(self.most).saturating_sub(sent) as usize
    }

    /// All before this one have arrived, or are lost.
    #[inline]
    pub(super) fn arrived(&self, next: u64) {
        if next > self.settled.load(Ordering::Relaxed) {
            self.settled.fetch_max(next, Ordering::Relaxed);
        }
    }

    /// Nobody waits for those before this one any more.
    pub fn forgive(&self, sent: u64) {
        self.settled.fetch_max(sent, Ordering::Relaxed);
    }
}
