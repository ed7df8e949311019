//! How long frames took, as a histogram with a bounded relative error, so that percentiles of a billion cost 15 KiB.

/// Steps between one power of two and the next: values are told apart to 1 in 32.
const STEPS: u64 = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Rows of steps: every value of 64 bits has its place.
const ROWS: usize = 64 - STEP_BITS as usize + 1;

/// A histogram of durations in nanoseconds.
#[derive(Debug, Clone)]
pub struct Latency {
    counts: Vec<u64>,
    count: u64,
    least: u64,
    most: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            counts: vec![0; ROWS * STEPS as usize],
            count: 0,
            least: u64::MAX,
            most: 0,
        }
    }
}

fn index(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let row = u64::from(ns.ilog2() - STEP_BITS);
    // the leading one is what the row stands for
    ((row + 1) * STEPS + (ns >> row) - STEPS) as usize
}

/// The middle of what falls on an index.
fn value(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let row = index / STEPS - 1;
    let low = (STEPS + index % STEPS) << row;
    low + ((1 << row) >> 1)
}

impl Latency {
    /// Adds one.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.counts[index(ns)] += 1;
        self.count += 1;
        self.least = self.least.min(ns);
        self.most = self.most.max(ns);
    }

    /// Adds another histogram.
    pub fn merge(&mut self, other: &Latency) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.count += other.count;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The value that this share of all does not exceed, in nanoseconds, exact to 1 in 32; none if there is nothing.
    #[must_use]
    pub fn percentile(&self, share: f64) -> Option<u64> {
        if share >= 1.0 {
            return self.range().map(|(_, most)| most);
        }
        let wanted = ((self.count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map(|index| value(index).clamp(self.least, self.most))
    }

    /// The least and the most, in nanoseconds.
    #[must_use]
    pub fn range(&self) -> Option<(u64, u64)> {
        (self.count > 0).then_some((self.least, self.most))
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |share| self.percentile(share).unwrap_or(0) as f64 / 1e3;
        write!(
            f,
            "{:.1} us median, {:.1} us 99 %, {:.1} us 99.9 %, {:.1} us most",
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        )
    }
}
