//! Whether measured rates are as high as they have to be, and whether that can be said at all.
//!
//! What is judged is the median of windows, or of the ratios of neighbouring windows of two deliveries, by an interval that
//! assumes nothing of the noise but that windows scatter around the same median: ranks, as in the sign test. Windows that
//! resemble their neighbours count for less. A rate is too low only if the whole interval is; if the limit lies within it,
//! nothing is said.

use std::fmt;

/// How often at most, of all intervals, one does not hold the median: an error on either side of half of it.
pub const ERROR_SHARE: f64 = 0.001;
/// Windows that an interval is made of, at least.
pub const WINDOWS_MIN: usize = 12;

/// A median and what it lies between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The least that the median may be.
    pub low: f64,
    /// The median of the windows.
    pub median: f64,
    /// The most that the median may be.
    pub high: f64,
    /// How many windows there were.
    pub windows: usize,
}

/// What is asked of a rate or a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// The least it may be.
    pub at_least: Option<f64>,
    /// The most it may be.
    pub at_most: Option<f64>,
}

/// What can be said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Said {
    /// All of the interval is within the limits.
    Holds(Interval),
    /// All of the interval is outside of one.
    Broken(Interval),
    /// A limit lies within the interval.
    Noise(Interval),
    /// There is no interval.
    TooFew {
        /// Windows there are.
        windows: usize,
    },
}

impl Said {
    /// In one word, for programs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Said::Holds(_) => "holds",
            Said::Broken(_) => "broken",
            Said::Noise(_) => "noise",
            Said::TooFew { .. } => "too-few",
        }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.at_least, self.at_most) {
            (Some(least), Some(most)) => write!(f, "{least} to {most}"),
            (Some(least), None) => write!(f, "at least {least}"),
            (None, Some(most)) => write!(f, "at most {most}"),
            (None, None) => f.write_str("any rate"),
        }
    }
}

/// Judges samples, in the order in which they were taken.
#[must_use]
pub fn judge(samples: &[f64], limits: Limits) -> Said {
    let Some(interval) = interval(samples) else {
        let windows = samples.len();
        return Said::TooFew { windows };
    };
    let is_below = limits.at_least.is_some_and(|least| interval.high < least);
    let is_above = limits.at_most.is_some_and(|most| interval.low > most);
    if is_below || is_above {
        return Said::Broken(interval);
    }
    let reaches = limits.at_least.is_none_or(|least| interval.low >= least);
    let keeps = limits.at_most.is_none_or(|most| interval.high <= most);
    if reaches && keeps {
        Said::Holds(interval)
    } else {
        Said::Noise(interval)
    }
}

/// Ratios of windows that were measured next to each other: the first of each pair to the second. Pairs in which nothing
/// moved on the second side say nothing.
#[must_use]
pub fn ratios(pairs: &[(f64, f64)]) -> Vec<f64> {
    let moved = pairs.iter().filter(|(_, baseline)| *baseline > 0.0);
    moved.map(|(rate, baseline)| rate / baseline).collect()
}

/// The interval that the median lies in, but for [`ERROR_SHARE`] of all cases.
#[must_use]
pub fn interval(samples: &[f64]) -> Option<Interval> {
    let windows = samples.len();
    if windows < WINDOWS_MIN || samples.iter().any(|sample| !sample.is_finite()) {
        return None;
    }
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = (sorted[(windows - 1) / 2] + sorted[windows / 2]) / 2.0;
    let independent = independent(samples);
    let outside = ranks_outside(independent);
    if outside == 0 {
        return None;
    }
    // as far from the ends as among windows that have nothing to do with each other
    let rank = outside * windows / independent;
    Some(Interval {
        low: sorted[rank - 1],
        median,
        high: sorted[windows - rank],
        windows,
    })
}

/// As how many independent windows these count, by how much the ranks of neighbours resemble each other.
fn independent(samples: &[f64]) -> usize {
    let ranks = ranks(samples);
    let count = ranks.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let (mut together, mut all) = (0.0, 0.0);
    for pair in ranks.windows(2) {
        together += (pair[0] - middle) * (pair[1] - middle);
    }
    ranks.iter().for_each(|rank| all += (rank - middle) * (rank - middle));
    let found = if all > 0.0 { together / all } else { 0.0 };
    // as much as chance easily gives is taken for chance
    let correlation = (found - 1.0 / count.sqrt()).clamp(0.0, 0.95);
    let independent = count * (1.0 - correlation) / (1.0 + correlation);
    (independent as usize).clamp(1, samples.len())
}

/// The place of each sample among all, from 0; those that are equal share the middle of theirs.
fn ranks(samples: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by(|a, b| samples[*a].total_cmp(&samples[*b]));
    let mut ranks = vec![0.0; samples.len()];
    for equal in order.chunk_by(|a, b| samples[*a] == samples[*b]) {
        let first = order.iter().position(|at| *at == equal[0]).unwrap_or(0);
        let shared = first as f64 + (equal.len() - 1) as f64 / 2.0;
        equal.iter().for_each(|at| ranks[*at] = shared);
    }
    ranks
}

/// How many of `count` windows may lie on one side before the median does not: the most for which so few on that side
/// happen less often than half of [`ERROR_SHARE`].
fn ranks_outside(count: usize) -> usize {
    // in logarithms: the share of a single outcome of a thousand windows is no number
    let each = -(count as f64) * std::f64::consts::LN_2;
    let (mut ways, mut share) = (0.0f64, 0.0);
    for rank in 0..count {
        share += (ways + each).exp();
        if share > ERROR_SHARE / 2.0 {
            return rank;
        }
        ways += ((count - rank) as f64).ln() - ((rank + 1) as f64).ln();
    }
    count
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Interval {
            low,
            median,
            high,
            windows,
        } = self;
        let digits = if *median < 100.0 { 3 } else { 0 };
        write!(
            f,
            "{median:.digits$} ({low:.digits$} to {high:.digits$}, {windows} windows)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between 0 and 1 that are the same in every run (Steele, Lea, Flood: SplitMix64).
    struct Chance(u64);

    impl Chance {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        }

        /// The rate of a window on a machine with company: mostly whole, sometimes a part, rarely next to nothing.
        fn window(&mut self) -> f64 {
            let share = match self.next() {
                x if x < 0.7 => 0.95 + 0.1 * self.next(),
                x if x < 0.95 => 0.5 + 0.5 * self.next(),
                _ => 0.02 + 0.3 * self.next(),
            };
            1e7 * share
        }
    }

    const RUNS: usize = 2000;

    /// How many of many measurements say each: holds, broken, noise.
    fn said(windows: usize, factor: f64, limits: Limits, mut pair: impl FnMut(usize) -> (f64, f64)) -> [usize; 3] {
        let mut counts = [0; 3];
        for run in 0..RUNS {
            let pairs: Vec<_> = (0..windows)
                .map(|at| pair(run * windows + at))
                .map(|(a, b)| (a * factor, b))
                .collect();
            match judge(&ratios(&pairs), limits) {
                Said::Holds(_) => counts[0] += 1,
                Said::Broken(_) => counts[1] += 1,
                Said::Noise(_) | Said::TooFew { .. } => counts[2] += 1,
            }
        }
        counts
    }

    const LEAST: Limits = Limits {
        at_least: Some(0.85),
        at_most: None,
    };

    #[test]
    fn what_is_as_fast_is_never_called_slow() {
        // Broken: a rate check is red on a busy machine though nothing is slower.
        let mut chance = Chance(1);
        let [holds, broken, _] = said(40, 1.0, LEAST, |_| (chance.window(), chance.window()));
        assert_eq!(broken, 0);
        assert!(holds > RUNS * 7 / 10, "{holds}");
    }

    #[test]
    fn at_the_very_limit_it_errs_no_more_often_than_it_says() {
        // Broken: the interval is narrower than it claims, so that every thousandth check is not the only one that is wrong.
        let mut chance = Chance(2);
        let [holds, broken, _] = said(40, 0.85, LEAST, |_| (chance.window(), chance.window()));
        let allowed = (RUNS as f64 * ERROR_SHARE / 2.0 * 4.0).ceil() as usize;
        assert!(holds <= allowed && broken <= allowed, "{holds} {broken} of {RUNS}");
    }

    #[test]
    fn what_is_slower_by_three_tenths_is_seen() {
        // Broken: rate checks pass whatever happens, or say nothing where much could be said.
        let mut chance = Chance(3);
        let [holds, broken, _] = said(50, 0.7, LEAST, |_| (chance.window(), chance.window()));
        assert_eq!(holds, 0);
        assert!(broken > RUNS * 9 / 10, "{broken}");
    }

    #[test]
    fn a_slow_spell_that_lasts_for_windows_is_noise() {
        // Broken: windows that share one disturbance count as many witnesses.
        let mut chance = Chance(4);
        let (mut level, mut left) = (1.0, 0);
        let [_, broken, _] = said(40, 1.0, LEAST, |_| {
            if left == 0 {
                (level, left) = (
                    if chance.next() < 0.7 { 1.0 } else { 0.6 },
                    4 + (chance.next() * 8.0) as usize,
                );
            }
            left -= 1;
            // it happens to hit one of the two only
            (1e7 * level, 1e7 * (0.97 + 0.06 * chance.next()))
        });
        assert!(broken < RUNS / 50, "{broken}");
    }

    #[test]
    fn too_few_windows_say_nothing() {
        // Broken: a verdict out of three windows.
        for windows in 0..WINDOWS_MIN {
            let limits = Limits {
                at_least: Some(2.0),
                at_most: None,
            };
            assert_eq!(judge(&vec![1.0; windows], limits), Said::TooFew { windows });
        }
        assert!(matches!(judge(&[1.0, f64::NAN].repeat(20), LEAST), Said::TooFew { .. }));
        assert_eq!(ratios(&[(1.0, 0.0), (1.0, 2.0)]), [0.5]);
    }

    #[test]
    fn limits_hold_on_both_sides() {
        // Broken: `at_most` is judged as `at_least`, or a limit within the interval is decided.
        let spread: Vec<f64> = (0..41).map(|at| if at % 2 == 0 { 1.0 } else { 1.1 }).collect();
        let with = |at_least, at_most| judge(&spread, Limits { at_least, at_most });
        assert!(matches!(with(Some(0.9), Some(1.2)), Said::Holds(_)));
        assert!(matches!(with(Some(1.2), None), Said::Broken(_)));
        assert!(matches!(with(None, Some(0.9)), Said::Broken(_)));
        assert!(matches!(with(Some(1.05), None), Said::Noise(_)));
        assert!(matches!(with(None, Some(1.05)), Said::Noise(_)));
    }

    #[test]
    fn ranks_are_those_of_the_sign_test() {
        // Broken: a sum of binomial shares is wrong. Exact: of 12 heads or tails, none is 1/4096; of 25, up to 4 are 0.046 %.
        assert_eq!((ranks_outside(10), ranks_outside(11), ranks_outside(25)), (0, 1, 5));
        assert_eq!(ranks_outside(10_000), 4835);
    }
}
