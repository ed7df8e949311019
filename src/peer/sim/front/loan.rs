//! A front-end's rings on loan.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{F_EVENT_IDX, FrontError, SimFront};
use crate::peer::sim::loan::{F_IN_ORDER, F_RING_PACKED, FrontLoan};
use crate::ring::PackedLayout;
use crate::ring::burst::{Layout, RingOptions};

impl SimFront {
    /// Gives a ring to somebody who moves frames over it. From here on this front-end only starts and stops it.
    pub fn lend(&mut self, ring: u16) -> Result<FrontLoan, FrontError> {
        self.check_ring(ring)?;
        let layout = self.layout(ring);
        let options = RingOptions {
            event_idx: self.features & F_EVENT_IDX != 0,
            in_order: self.features & F_IN_ORDER != 0,
        };
        let reach = self.memory.reach();
        let state = &mut self.rings[usize::from(ring)];
        if !state.pending.is_empty() || state.driver.outstanding() > 0 {
            return Err(FrontError::InUse(ring));
        }
        let base = match layout {
            Layout::Split(_) => u32::from(state.driver.used_idx()),
            Layout::Packed(_) => layout.fresh_base(),
        };
        state.lent = Some(base);
        Ok(FrontLoan {
            layout,
            base,
            reach,
            options,
        })
    }

    /// Where a ring on loan stands: what the device has used.
    pub fn note_used(&mut self, ring: u16, base: u32) {
        if let Some(lent) = self
            .rings
            .get_mut(usize::from(ring))
            .and_then(|ring| ring.lent.as_mut())
        {
            *lent = base;
        }
    }

    /// A ring's kick and call eventfds as they are now.
    pub fn bells(&self, ring: u16) -> [Option<Arc<OwnedFd>>; 2] {
        let ring = self.rings.get(usize::from(ring));
        ring.map_or([None, None], |ring| [ring.kick.clone(), ring.call.clone()])
    }

    /// Bytes for the buffers of a ring on loan, in one piece.
    pub fn room(&mut self, bytes: u32) -> Result<u64, FrontError> {
        self.in_pool(|_, pool| pool.alloc(bytes)).map(|(_, address)| address)
    }

    pub(super) fn is_packed(&self) -> bool {
        self.features & F_RING_PACKED != 0
    }

    /// What was negotiated.
    pub fn negotiated(&self) -> u64 {
        self.features
    }

    /// Whether memory is on huge pages.
    pub fn has_huge_pages(&self) -> bool {
        self.memory.options().huge_pages
    }

    /// Where a ring lies: a packed one at the same addresses as a split one, of which it needs less.
    pub(super) fn layout(&self, ring: u16) -> Layout {
        let split = *self.rings[usize::from(ring)].driver.layout();
        if self.features & F_RING_PACKED == 0 {
            return Layout::Split(split);
        }
        Layout::Packed(PackedLayout {
            size: split.size,
            ring: split.desc,
            driver_event: split.avail,
            device_event: split.used,
        })
    }
}
