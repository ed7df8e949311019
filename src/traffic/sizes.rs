//! Which lengths the frames of a stream have.

use super::frame::{FRAME_BYTES_MAX, FRAME_BYTES_MIN};

/// Lengths of a cycle, at most.
const CYCLE_MAX: usize = 4096;

/// The simple Internet mix: seven short frames, four middle ones and a long one of every twelve, spread out.
const IMIX: [u16; 12] = [64, 570, 64, 64, 570, 64, 1518, 64, 570, 64, 570, 64];

/// Lengths of frames, again and again in the same order. Ethernet header included, checksum (FCS) not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    cycle: Vec<u16>,
}

/// A length that no frame has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSize {
    /// Too short or too long.
    #[error("a frame of {size} bytes; it has to have {FRAME_BYTES_MIN} to {FRAME_BYTES_MAX}")]
    Size {
        /// The length.
        size: u64,
    },
    /// None at all, or too many.
    #[error("{count} sizes; there have to be 1 to {CYCLE_MAX}")]
    Count {
        /// How many.
        count: usize,
    },
}

impl Sizes {
    /// All frames alike.
    pub fn fixed(size: u64) -> Result<Self, BadSize> {
        Self::cycle([size])
    }

    /// The simple Internet mix: of twelve frames, seven of 64 bytes, four of 570 and one of 1518.
    #[must_use]
    pub fn imix() -> Self {
        Self { cycle: IMIX.to_vec() }
    }

    /// These, one after the other, and again from the first.
    pub fn cycle(sizes: impl IntoIterator<Item = u64>) -> Result<Self, BadSize> {
        let one = |size: u64| {
            let fits = usize::try_from(size).is_ok_and(|s| (FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&s));
            fits.then_some(size as u16).ok_or(BadSize::Size { size })
        };
        let cycle: Vec<u16> = sizes.into_iter().map(one).collect::<Result<_, _>>()?;
        let count = cycle.len();
        (1..=CYCLE_MAX)
            .contains(&count)
            .then_some(Self { cycle })
            .ok_or(BadSize::Count { count })
    }

    /// Bytes of the frame with this number.
    #[must_use]
    pub fn of(&self, seq: u64) -> usize {
        usize::from(self.cycle[(seq % self.cycle.len() as u64) as usize])
    }

    /// The average.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.cycle.iter().map(|size| f64::from(*size)).sum::<f64>() / self.cycle.len() as f64
    }

    /// The longest.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.cycle.iter().copied().max().map_or(FRAME_BYTES_MIN, usize::from)
    }

    /// The only length, if all frames are alike.
    #[must_use]
    pub fn only(&self) -> Option<usize> {
        let first = usize::from(self.cycle[0]);
        self.cycle
            .iter()
            .all(|size| usize::from(*size) == first)
            .then_some(first)
    }
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.only() {
            Some(size) => write!(f, "{size}"),
            None if self.cycle == IMIX => f.write_str("imix"),
            None => write!(f, "{} sizes up to {}", self.cycle.len(), self.longest()),
        }
    }
}
