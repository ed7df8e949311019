//! Split rings a burst at a time.

mod device;
mod driver;

pub use device::SplitDevice;
pub use driver::SplitDriver;

use std::sync::atomic::Ordering;

use crate::memory::Reach;
use crate::ring::{RingError, SplitLayout};
use crate::sys::shared::SharedArray;

use super::at::At;

/// The three parts of a split ring, in reach.
#[derive(Debug, Clone)]
struct Parts {
    layout: SplitLayout,
    mask: u16,
    /// Two words a descriptor: address; length, flags and next.
    desc: SharedArray<u64>,
    /// flags, idx, heads, used_event.
    avail: SharedArray<u16>,
    /// flags and idx.
    used: SharedArray<u16>,
    /// Two words an element: id, length.
    elements: SharedArray<u32>,
    avail_event: SharedArray<u16>,
}

impl Parts {
    fn new(layout: SplitLayout, reach: &Reach) -> Result<Self, RingError> {
        layout.validate()?;
        let size = usize::from(layout.size);
        Ok(Self {
            layout,
            mask: layout.size - 1,
            desc: reach.array(layout.desc, 2 * size)?,
            avail: reach.array(layout.avail, 3 + size)?,
            used: reach.array(layout.used, 2)?,
            elements: reach.array(layout.used + 4, 2 * size)?,
            avail_event: reach.array(layout.avail_event(), 1)?,
        })
    }

    fn avail_flags(&self) -> At<'_, u16> {
        At::of(&self.avail, 0)
    }

    fn avail_idx(&self) -> At<'_, u16> {
        At::of(&self.avail, 1)
    }

    fn used_event(&self) -> At<'_, u16> {
        At::of(&self.avail, 2 + usize::from(self.layout.size))
    }

    fn used_flags(&self) -> At<'_, u16> {
        At::of(&self.used, 0)
    }

    fn used_idx(&self) -> At<'_, u16> {
        At::of(&self.used, 1)
    }

    fn avail_event(&self) -> At<'_, u16> {
        At::of(&self.avail_event, 0)
    }

    #[inline(always)]
    fn slot(&self, index: u16) -> usize {
        usize::from(index & self.mask)
    }

    #[inline(always)]
    fn head(&self, index: u16) -> u16 {
        self.avail.load(2 + self.slot(index), Ordering::Relaxed)
    }

    /// A descriptor's two words; `index` is below the size.
    #[inline(always)]
    fn descriptor(&self, index: u16) -> (u64, u64) {
        let at = 2 * self.slot(index);
        (
            self.desc.load(at, Ordering::Relaxed),
            self.desc.load(at + 1, Ordering::Relaxed),
        )
    }

    /// An element of the used ring: id, and length above it.
    fn element(&self, index: u16) -> u64 {
        let at = 2 * self.slot(index);
        let half = |at| u64::from(self.elements.load(at, Ordering::Relaxed));
        half(at) | half(at + 1) << 32
    }
}

/// The second word of a descriptor: length, flags, next.
#[inline(always)]
fn word(len: u32, flags: u16, next: u16) -> u64 {
    u64::from(len) | u64::from(flags) << 32 | u64::from(next) << 48
}
