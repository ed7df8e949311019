//! A packed ring and its region of the inflight area.

use super::Fault;
use super::book::{Book, Done, Taken};
use crate::memory::{GuestAccess, InflightDescriptor, MemoryError, PackedInflight, UsedPosition};
use crate::peer::device::DeviceError;
use crate::ring::packed::Position;
use crate::ring::{InRing, PackedDevice};

pub(super) struct PackedBook<'a> {
    pub(super) area: &'a mut PackedInflight,
    pub(super) device: &'a mut PackedDevice,
    pub(super) ring: u16,
    pub(super) memory: &'a dyn GuestAccess,
}

impl PackedBook<'_> {
    /// VU-IFL-15 and VU-IFL-16, or what a faulty back-end makes of them.
    fn recover(&mut self, fault: Option<Fault>) -> Result<Vec<u16>, DeviceError> {
        let ring = self.ring;
        let [used, old] = self.area.positions(ring)?;
        let cut_off = self.area.is_cut_off(ring)?;
        let returned = cut_off && !self.device.is_untouched(self.memory, position(old))?;
        if cut_off && !returned {
            // before the area forgets where
            self.device.take_back(self.memory, position(old), position(used))?;
        }
        match fault {
            Some(Fault::NoRollback) => Ok(self.area.recover(ring, false)?),
            Some(Fault::RollsOneBack) if returned => {
                self.area.note(ring)?;
                if let Some(entry) = self.area.free_list(ring)?.first() {
                    self.area.clear(ring, *entry)?;
                }
                Ok(self.area.resume(ring)?)
            }
            _ => Ok(self.area.recover(ring, returned)?),
        }
    }

    fn kept(&self, entry: u16) -> Result<Vec<InRing>, MemoryError> {
        let kept = self.area.chain(self.ring, entry)?.into_iter();
        Ok(kept
            .map(|InflightDescriptor { addr, len, id, flags }| InRing { addr, len, id, flags })
            .collect())
    }
}

impl Book for PackedBook<'_> {
    fn take_over(&mut self, fault: Option<Fault>) -> Result<Option<Vec<u16>>, DeviceError> {
        let (_, used) = self.device.stands();
        let told = UsedPosition {
            at: used.at,
            wrap: used.wrap,
        };
        if self.area.init(self.ring, told)? {
            return Ok(None);
        }
        let entries = self.recover(fault)?;
        let mut taken = 0u16;
        for entry in &entries {
            taken = taken.saturating_add(self.area.chain(self.ring, *entry)?.len() as u16);
        }
        // a front-end whose back-end has died cannot know where the ring stands, and the area does
        let [used, _] = self.area.positions(self.ring)?;
        self.device.go_on(position(used), taken)?;
        Ok(Some(entries))
    }

    fn take(&mut self, records: bool) -> Result<Option<Taken>, DeviceError> {
        let mut descriptors = Vec::new();
        let mut note = |InRing { addr, len, id, flags }| descriptors.push(InflightDescriptor { addr, len, id, flags });
        let mut popped = self.device.pop_noting(self.memory, &mut note)?;
        if popped.is_none() && self.device.event_idx() {
            // what was published in between brings no kick
            self.device.ask_for_kick(self.memory)?;
            popped = self.device.pop_noting(self.memory, &mut note)?;
        }
        let Some(popped) = popped else { return Ok(None) };
        let entry = match records {
            true => self.area.fetch(self.ring, &descriptors)?,
            false => 0,
        };
        Ok(Some(Taken {
            chain: popped.chain,
            entry,
            descriptors: popped.descriptors,
        }))
    }

    fn take_again(&mut self, entry: u16) -> Result<Taken, DeviceError> {
        let kept = self.kept(entry)?;
        let again = self.device.resubmit(self.memory, &kept)?;
        Ok(Taken {
            chain: again.chain,
            entry,
            descriptors: again.descriptors,
        })
    }

    fn put_back(&mut self, taken: &Taken) -> Result<(), DeviceError> {
        self.area.put_back(self.ring, taken.entry)?;
        Ok(self.device.undo_pop(taken.descriptors)?)
    }

    fn leave(&mut self) {
        self.device.undo_resubmit();
    }

    fn link(&mut self, batch: &[Done]) -> Result<(), DeviceError> {
        let mut descriptors = 0;
        for done in batch {
            self.area.link(self.ring, done.entry)?;
            descriptors += done.descriptors;
        }
        let (_, used) = self.device.stands();
        let used = used.advanced(descriptors, self.device.layout().size);
        let moved = UsedPosition {
            at: used.at,
            wrap: used.wrap,
        };
        Ok(self.area.advance(self.ring, moved)?)
    }

    fn show(&mut self, batch: &[Done]) -> Result<(), DeviceError> {
        let chains: Vec<_> = batch.iter().map(|done| (done.id, done.descriptors, done.len)).collect();
        Ok(self.device.push_all(self.memory, &chains)?)
    }

    fn clear(&mut self, entry: u16) -> Result<(), DeviceError> {
        Ok(self.area.clear(self.ring, entry)?)
    }

    fn note(&mut self) -> Result<(), DeviceError> {
        Ok(self.area.note(self.ring)?)
    }

    fn needs_call(&mut self) -> Result<bool, DeviceError> {
        Ok(self.device.needs_call(self.memory)?)
    }
}

fn position(used: UsedPosition) -> Position {
    Position {
        at: used.at,
        wrap: used.wrap,
    }
}
