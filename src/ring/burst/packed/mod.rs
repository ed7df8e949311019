//! Packed rings a burst at a time.

mod device;
mod driver;

pub use device::PackedDevice;
pub use driver::PackedDriver;

use crate::memory::Reach;
use crate::ring::{PackedLayout, RingError};
use crate::sys::shared::{SharedArray, Words};

use super::at::At;

/// Descriptors in a cache line.
const DESCRIPTORS_A_LINE: usize = 4;

/// The three parts of a packed ring, in reach.
///
/// The second word of a descriptor holds length, id and flags. It is read and written whole, so that who sees the flags sees
/// the others: an aligned word of 8 bytes is single on every machine vhost-user runs on.
#[derive(Debug, Clone)]
struct Parts {
    layout: PackedLayout,
    desc: SharedArray<u64>,
    driver_event: SharedArray<u16>,
    device_event: SharedArray<u16>,
}

impl Parts {
    fn new(layout: PackedLayout, reach: &Reach) -> Result<Self, RingError> {
        layout.validate()?;
        Ok(Self {
            layout,
            desc: reach.array(layout.ring, 2 * usize::from(layout.size))?,
            driver_event: reach.array(layout.driver_event, 2)?,
            device_event: reach.array(layout.device_event, 2)?,
        })
    }

    /// Asks for the lines of a burst of descriptors from `at` on, all of which are likely to be the caller's.
    #[inline(always)]
    fn prefetch(&self, at: u16, descriptors: usize, written: bool) {
        let (at, size) = (usize::from(at), usize::from(self.layout.size));
        for ahead in (0..descriptors).step_by(DESCRIPTORS_A_LINE) {
            let mut index = at + ahead;
            if index >= size {
                index -= size;
            }
            if written {
                self.desc.prefetch_write(2 * index);
            } else {
                self.desc.prefetch(2 * index);
            }
        }
    }

    #[inline(always)]
    fn address(&self, index: u16) -> At<'_, u64> {
        self.descriptors().at(index).0
    }

    #[inline(always)]
    fn word(&self, index: u16) -> At<'_, u64> {
        self.descriptors().at(index).1
    }

    #[inline(always)]
    fn descriptors(&self) -> Descriptors<'_> {
        Descriptors(self.desc.words())
    }
}

/// The descriptors, for a loop over them.
#[derive(Clone, Copy)]
struct Descriptors<'a>(Words<'a, u64>);

impl<'a> Descriptors<'a> {
    /// The two words of a descriptor.
    #[inline(always)]
    fn at(self, index: u16) -> (At<'a, u64>, At<'a, u64>) {
        let (address, word) = self.0.pair(2 * usize::from(index));
        (At(address), At(word))
    }
}

/// The second word of a descriptor.
#[inline(always)]
fn word(len: u32, id: u16, flags: u16) -> u64 {
    u64::from(len) | u64::from(id) << 32 | u64::from(flags) << 48
}

#[inline(always)]
fn id_of(word: u64) -> u16 {
    (word >> 32) as u16
}

#[inline(always)]
fn flags_of(word: u64) -> u16 {
    (word >> 48) as u16
}
