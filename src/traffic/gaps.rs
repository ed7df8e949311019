//! Which sequence numbers of a stream are missing. In order, a frame costs one comparison; only what is out of order is kept.

use std::collections::BTreeMap;

/// Ranges of missing numbers that are kept apart, at most; beyond that the stream is beyond telling.
const RANGES_MAX: usize = 1 << 16;

/// Where a number belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It was the next one.
    Next,
    /// So many before it have not come yet.
    Ahead(u64),
    /// It was missing, and numbers up to so many later had come before it.
    Late(u64),
    /// It had come already.
    Again,
    /// Too much is missing to tell.
    Untold,
}

/// What has come of a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Gaps {
    /// The number after the highest that came.
    next: u64,
    /// Missing numbers below it, first to last.
    missing: BTreeMap<u64, u64>,
}

impl Gaps {
    #[inline]
    pub(super) fn take(&mut self, seq: u64) -> Place {
        if self.take_next(seq) {
            return Place::Next;
        }
        self.out_of_order(seq)
    }

    /// Takes a number if it is the next one.
    #[inline(always)]
    pub(super) fn take_next(&mut self, seq: u64) -> bool {
        let is_next = seq == self.next;
        self.next = self.next.wrapping_add(u64::from(is_next));
        is_next
    }

    #[cold]
    fn out_of_order(&mut self, seq: u64) -> Place {
        if seq > self.next {
            if self.missing.len() >= RANGES_MAX {
                return Place::Untold;
            }
            let ahead = seq - self.next;
            self.missing.insert(self.next, seq - 1);
            self.next = seq.wrapping_add(1);
            return Place::Ahead(ahead);
        }
        let range = self.missing.range(..=seq).next_back();
        let Some((first, last)) = range.map(|(a, b)| (*a, *b)).filter(|(_, last)| seq <= *last) else {
            return Place::Again;
        };
        self.missing.remove(&first);
        if first < seq {
            self.missing.insert(first, seq - 1);
        }
        if seq < last {
            self.missing.insert(seq + 1, last);
        }
        Place::Late(self.next - 1 - seq)
    }

    /// The number after the highest that came.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Numbers missing of the first `sent`.
    pub(super) fn missing(&self, sent: u64) -> u64 {
        let below: u64 = self.missing.iter().map(|(first, last)| last - first + 1).sum();
        below + sent.saturating_sub(self.next)
    }

    /// The missing numbers of the first `sent`, first to last, in rising order.
    pub(super) fn ranges(&self, sent: u64) -> impl Iterator<Item = (u64, u64)> {
        let below = self.missing.iter().map(|(first, last)| (*first, *last));
        let last = (self.next < sent).then(|| (self.next, sent - 1));
        below.chain(last)
    }

    /// The first missing number of the first `sent`.
    pub(super) fn first_missing(&self, sent: u64) -> Option<u64> {
        let first = self.missing.keys().next().copied().unwrap_or(self.next);
        (first < sent).then_some(first)
    }
}
