//! A front-end's rings on loan.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{F_EVENT_IDX, FrontError, SimFront};
use crate::peer::sim::loan::{F_IN_ORDER, FrontLoan};
use crate::ring::burst::RingOptions;

impl SimFront {
    /// Gives a ring to somebody who moves frames over it. From here on this front-end only starts and stops it.
    pub fn lend(&mut self, ring: u16) -> Result<FrontLoan, FrontError> {
        self.check_ring(ring)?;
        let options = RingOptions {
            event_idx: self.features & F_EVENT_IDX != 0,
            in_order: self.features & F_IN_ORDER != 0,
        };
        let reach = self.memory.reach();
        let state = &mut self.rings[usize::from(ring)];
        if !state.pending.is_empty() || state.driver.outstanding() > 0 {
            return Err(FrontError::InUse(ring));
        }
        let (layout, base) = (state.driver.layout(), state.driver.base());
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

    /// What was negotiated.
    pub fn negotiated(&self) -> u64 {
        self.features
    }

    /// Whether memory is on huge pages.
    pub fn has_huge_pages(&self) -> bool {
        self.memory.options().huge_pages
    }
}
