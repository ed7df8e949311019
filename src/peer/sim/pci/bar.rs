//! How much of the slave's address space a device takes, and where the master's memory lies in it.

use std::fmt;

/// The published generations of vhost-pci.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Generation {
    /// The first proposal: twice the memory, so that memory can be plugged later.
    #[default]
    G1,
    /// The second, likewise.
    G2,
    /// The third: as much as there is.
    G3,
    /// The last: always the same, a page of metadata first.
    G4,
}

/// Bytes of a BAR that does not depend on the memory.
pub const FIXED_BYTES: u64 = 64 << 30;
/// Bytes before the first region in such a BAR.
pub const METADATA_BYTES: u64 = 4096;

/// A BAR and the regions in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    /// Its bytes.
    pub size: u64,
    /// Where each region begins, back to back.
    pub offsets: Vec<u64>,
}

/// Regions that a BAR cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{sum:#x} bytes of memory do not fit a BAR of {generation}")]
pub struct Overflow {
    /// Bytes of all regions, as far as they can be counted.
    pub sum: u64,
    /// Whose rule.
    pub generation: Generation,
}

impl Generation {
    /// The generation called `g1` to `g4`.
    pub fn named(name: &str) -> Option<Self> {
        [Self::G1, Self::G2, Self::G3, Self::G4]
            .into_iter()
            .find(|generation| generation.name() == name)
    }

    /// `g1` to `g4`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::G1 => "g1",
            Self::G2 => "g2",
            Self::G3 => "g3",
            Self::G4 => "g4",
        }
    }

    /// The BAR for regions of these sizes.
    pub fn bar(self, sizes: impl Iterator<Item = u64>) -> Result<Bar, Overflow> {
        let mut next = if self == Self::G4 { METADATA_BYTES } else { 0 };
        let mut offsets = Vec::new();
        for size in sizes {
            offsets.push(next);
            next = next.checked_add(size).ok_or(Overflow {
                sum: u64::MAX,
                generation: self,
            })?;
        }
        let overflow = Overflow {
            sum: next,
            generation: self,
        };
        let size = match self {
            Self::G1 | Self::G2 => next.checked_mul(2).and_then(u64::checked_next_power_of_two),
            Self::G3 => next.checked_next_power_of_two(),
            Self::G4 => (next <= FIXED_BYTES).then_some(FIXED_BYTES),
        };
        let size = size.ok_or(overflow)?;
        Ok(Bar { size, offsets })
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Broken: a BAR is too small for the memory, or has no room for more where its generation leaves some.
    #[test]
    fn sizes_by_generation() {
        let sizes =
            |generation: Generation, regions: &[u64]| generation.bar(regions.iter().map(|r| r * MIB)).unwrap().size;
        for (regions, twice, once) in [
            (&[512][..], 1024, 512),
            (&[1024, 512], 4096, 2048),
            (&[64; 8], 1024, 512),
            (&[3, 5, 7], 32, 16),
        ] {
            assert_eq!(sizes(Generation::G1, regions), twice * MIB);
            assert_eq!(sizes(Generation::G2, regions), twice * MIB);
            assert_eq!(sizes(Generation::G3, regions), once * MIB);
            assert_eq!(sizes(Generation::G4, regions), FIXED_BYTES);
        }
    }

    /// Broken: regions lie elsewhere than back to back, or memory that does not fit is cut off in silence.
    #[test]
    fn regions_lie_back_to_back_and_what_does_not_fit_is_told() {
        let bar = Generation::G4.bar([MIB, 2 * MIB, MIB].into_iter()).unwrap();
        assert_eq!(bar.offsets, [4096, 4096 + MIB, 4096 + 3 * MIB]);
        assert_eq!(Generation::G1.bar([MIB, MIB].into_iter()).unwrap().offsets, [0, MIB]);
        assert!(Generation::G4.bar([FIXED_BYTES - 4096].into_iter()).is_ok());
        assert!(Generation::G4.bar([FIXED_BYTES - 4095].into_iter()).is_err());
        assert!(Generation::G1.bar([1 << 63].into_iter()).is_err());
        assert!(Generation::G3.bar([u64::MAX, 1].into_iter()).is_err());
    }
}
