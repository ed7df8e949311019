//! A split ring and its region of the inflight area.

use super::Fault;
use super::book::{Book, Done, Taken};
use crate::memory::{GuestAccess, SplitInflight};
use crate::peer::device::DeviceError;
use crate::ring::{Chain, SplitDevice};

pub(super) struct SplitBook<'a> {
    pub(super) area: &'a mut SplitInflight,
    pub(super) device: &'a mut SplitDevice,
    pub(super) ring: u16,
    pub(super) memory: &'a dyn GuestAccess,
}

impl SplitBook<'_> {
    fn pop(&mut self) -> Result<Option<Chain>, DeviceError> {
        if let Some(chain) = self.device.pop(self.memory)? {
            return Ok(Some(chain));
        }
        if !self.device.event_idx() {
            return Ok(None);
        }
        // what was published in between brings no kick
        self.device.set_avail_event(self.memory, self.device.base())?;
        Ok(self.device.pop(self.memory)?)
    }
}

impl Book for SplitBook<'_> {
    fn take_over(&mut self, fault: Option<Fault>) -> Result<Option<Vec<u16>>, DeviceError> {
        let (ring, used) = (self.ring, self.device.used_idx());
        if self.area.init(ring, used)? {
            return Ok(None);
        }
        match fault {
            Some(Fault::NoRollback) => self.area.note_used(ring, used)?,
            Some(Fault::RollsOneBack) if self.area.noted_used(ring)? != used => {
                self.area.clear(ring, self.area.last_linked(ring)?)?;
                self.area.note_used(ring, used)?;
            }
            _ => {}
        }
        let heads = self.area.recover(ring, used)?;
        // the front-end may not have seen the last that was returned, and the ring says where that ends
        self.device.go_on(used.wrapping_add(heads.len() as u16));
        Ok(Some(heads))
    }

    fn take(&mut self, records: bool) -> Result<Option<Taken>, DeviceError> {
        let Some(chain) = self.pop()? else { return Ok(None) };
        let entry = chain.head;
        if records {
            self.area.fetch(self.ring, entry)?;
        }
        Ok(Some(taken(chain)))
    }

    fn take_again(&mut self, entry: u16) -> Result<Taken, DeviceError> {
        Ok(taken(self.device.resubmit(self.memory, entry)?))
    }

    fn put_back(&mut self, taken: &Taken) -> Result<(), DeviceError> {
        self.area.clear(self.ring, taken.entry)?;
        Ok(self.device.undo_pop()?)
    }

    fn leave(&mut self) {
        self.device.undo_resubmit();
    }

    fn link(&mut self, batch: &[Done]) -> Result<(), DeviceError> {
        for done in batch {
            self.area.link(self.ring, done.entry)?;
        }
        Ok(())
    }

    fn show(&mut self, batch: &[Done]) -> Result<(), DeviceError> {
        let chains: Vec<(u16, u32)> = batch.iter().map(|done| (done.id, done.len)).collect();
        Ok(self.device.push_all(self.memory, &chains)?)
    }

    fn clear(&mut self, entry: u16) -> Result<(), DeviceError> {
        Ok(self.area.clear(self.ring, entry)?)
    }

    fn note(&mut self) -> Result<(), DeviceError> {
        Ok(self.area.note_used(self.ring, self.device.used_idx())?)
    }

    fn needs_call(&mut self) -> Result<bool, DeviceError> {
        Ok(self.device.needs_call(self.memory)?)
    }
}

fn taken(chain: Chain) -> Taken {
    Taken {
        entry: chain.head,
        chain,
        descriptors: 1,
    }
}
