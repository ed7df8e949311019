//! A back-end's rings on loan.

use std::sync::Arc;

use super::{F_EVENT_IDX, F_LOG_ALL, Refusal, SimBack};
use crate::memory::GuestAccess;
use crate::peer::device::net::F_MRG_RXBUF;
use crate::peer::sim::loan::{BackLoan, F_IN_ORDER, F_RING_PACKED};
use crate::ring::burst::{Layout, RingOptions};
use crate::ring::{PackedLayout, RingError, SplitLayout};

impl SimBack {
    /// Gives a ring to somebody who serves it from here on; messages are handled as before. What it needs is in
    /// [`Self::loan`], now and after every message.
    pub fn lend(&mut self, index: u16) {
        if let Some(ring) = self.rings.get_mut(usize::from(index)) {
            ring.lent = true;
            if let Some(device) = ring.device.take() {
                ring.base = device.base();
            }
        }
        // whoever has it records nothing, and what was recorded is of no use then
        if let Some(Err(error)) = self.inflight.as_mut().map(|recorder| recorder.forget(index)) {
            self.fault(format!("ring {index}: {error}"));
        }
    }

    /// Where a ring on loan stands, if it is running there.
    pub fn note_base(&mut self, index: u16, base: u32) {
        if let Some(ring) = self.rings.get_mut(usize::from(index)) {
            ring.base = base;
        }
    }

    /// Serves a ring itself again.
    pub fn take_back(&mut self, index: u16) {
        let Some(ring) = self.rings.get_mut(usize::from(index)) else {
            return;
        };
        ring.lent = false;
        if ring.started
            && let Err(error) = self.start(index)
        {
            self.fault(format!("ring {index}: {error}"));
        }
    }

    /// What is needed to serve a ring; nothing while it is stopped or its memory is gone.
    pub fn loan(&self, index: u16) -> Option<BackLoan> {
        let ring = self.rings.get(usize::from(index)).filter(|ring| ring.started)?;
        let log = self.log.as_ref().filter(|_| self.features & F_LOG_ALL != 0);
        Some(BackLoan {
            layout: self.layout(index).ok()?,
            base: ring.base,
            reach: self.memory.reach(),
            options: RingOptions {
                event_idx: self.features & F_EVENT_IDX != 0,
                in_order: self.features & F_IN_ORDER != 0,
            },
            kick: ring.kick.clone(),
            call: ring.call.clone(),
            enabled: ring.enabled,
            log: log.map(Arc::clone),
            logs_ring: ring.address.is_some_and(|address| address.flags & 1 != 0),
            merges: self.features & F_MRG_RXBUF != 0,
        })
    }

    /// A ring on loan cannot be served as it is: it stands still.
    pub fn refuse_loan(&mut self, index: u16, error: &RingError) {
        self.fault(format!("ring {index}: {error}"));
        self.stop(index);
    }

    /// Where a ring lies.
    pub(super) fn layout(&self, index: u16) -> Result<Layout, Refusal> {
        let ring = &self.rings[usize::from(index)];
        let address = ring
            .address
            .ok_or_else(|| Refusal::Because(format!("ring {index} has no addresses")))?;
        let descriptors = self.memory.user_to_guest(address.descriptor)?;
        let available = self.memory.user_to_guest(address.available)?;
        let used = self.memory.user_to_guest(address.used)?;
        Ok(self.layout_at(ring.size, [descriptors, available, used]))
    }

    /// A ring of the kind that was negotiated.
    pub(super) fn layout_at(&self, size: u16, [desc, avail, used]: [u64; 3]) -> Layout {
        if self.features & F_RING_PACKED == 0 {
            Layout::Split(SplitLayout {
                size,
                desc,
                avail,
                used,
            })
        } else {
            Layout::Packed(PackedLayout {
                size,
                ring: desc,
                driver_event: avail,
                device_event: used,
            })
        }
    }
}
