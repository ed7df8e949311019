//! A back-end's rings on loan.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{F_EVENT_IDX, F_LOG_ALL, Refusal, SimBack};
use crate::memory::{GuestAccess, MemoryError, SplitInflight};
use crate::peer::device::net::F_MRG_RXBUF;
use crate::peer::sim::loan::{BackLoan, F_IN_ORDER, F_RING_PACKED};
use crate::ring::burst::{Layout, RingOptions};
use crate::ring::{PackedLayout, RingError, SplitLayout};
use crate::sys::fd::duplicate;
use crate::traffic::lane::Record;

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
        // whoever has a packed ring records nothing, and what was recorded is of no use then
        let packed = self.features & F_RING_PACKED != 0;
        let recorder = self.inflight.as_mut().filter(|_| packed);
        if let Some(Err(error)) = recorder.map(|recorder| recorder.forget(index)) {
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
        let layout = self.layout(index).ok()?;
        let record = self.record(index, layout);
        Some(BackLoan {
            layout,
            // what is recorded was returned, or is taken again, as far as the ring says
            base: match &record {
                Some(Ok(record)) => u32::from(record.used_idx()),
                _ => ring.base,
            },
            record,
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

    /// Where it is recorded what is in hand of a split ring, if there is an area.
    fn record(&self, index: u16, layout: Layout) -> Option<Result<Record, RingError>> {
        let Layout::Split(layout) = layout else { return None };
        let (file, told) = self.inflight_file.as_ref()?;
        let (queues, size) = (told.num_queues, told.queue_size);
        if index >= queues || layout.size > size {
            return None;
        }
        let begin = || -> Result<Record, MemoryError> {
            let file = duplicate(file).map_err(|error| MemoryError::io("dup", &error))?;
            let area = SplitInflight::map(file, told.mmap_offset, told.mmap_size, queues, size)?;
            let used = self.memory.load_u16(layout.used_idx(), Ordering::Acquire)?;
            Record::begin(area, index, used)
        };
        Some(begin().map_err(RingError::from))
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
