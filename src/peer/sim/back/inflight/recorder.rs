//! Serving a ring whose requests are recorded.

use std::collections::{BTreeMap, VecDeque};

use super::book::{Book, Done};
use super::packed::PackedBook;
use super::split::SplitBook;
use super::{Fault, Lives, Moment};
use crate::memory::{GuestAccess, Inflight, Life, MemoryError, MortalAccess};
use crate::peer::device::{Budget, DeviceError, DeviceModel, Processed, Served};
use crate::peer::sim::back::Refusal;
use crate::ring::{DeviceSide, Layout, RingDevice};

/// Requests in hand at the same time.
const HELD_MAX: usize = 16;
/// Requests that are returned together.
const BATCH: usize = 3;

/// Where rings and buffers are, which differ in whether writes to them are logged.
#[derive(Clone, Copy)]
pub(in crate::peer::sim::back) struct Places<'a> {
    pub(in crate::peer::sim::back) ring: &'a dyn GuestAccess,
    pub(in crate::peer::sim::back) buffers: &'a dyn GuestAccess,
}

/// A ring's turn.
pub(in crate::peer::sim::back) struct Turn<'a> {
    pub(in crate::peer::sim::back) lives: &'a mut Lives,
    pub(in crate::peer::sim::back) model: &'a mut dyn DeviceModel,
    pub(in crate::peer::sim::back) ring: u16,
    pub(in crate::peer::sim::back) enabled: bool,
    pub(in crate::peer::sim::back) in_order: bool,
    pub(in crate::peer::sim::back) device: &'a mut RingDevice,
    pub(in crate::peer::sim::back) places: Places<'a>,
}

/// Whoever writes into the area.
#[derive(Debug)]
pub(in crate::peer::sim::back) struct Recorder {
    area: Inflight,
    fault: Option<Fault>,
    /// Entries to be carried out again, by ring, oldest first.
    again: BTreeMap<u16, VecDeque<u16>>,
}

impl Recorder {
    pub(in crate::peer::sim::back) fn new(area: Inflight, fault: Option<Fault>) -> Self {
        Self {
            area,
            fault,
            again: BTreeMap::new(),
        }
    }

    /// Its writes come to an end with this life.
    pub(in crate::peer::sim::back) fn lives(&mut self, life: Life) {
        self.area.lives(life);
    }

    /// Somebody else serves a ring, and records nothing.
    pub(in crate::peer::sim::back) fn forget(&mut self, ring: u16) -> Result<(), MemoryError> {
        self.again.remove(&ring);
        match self.follows(ring) {
            true => self.area.forget(ring),
            false => Ok(()),
        }
    }

    /// Whether the requests of a ring are recorded.
    pub(in crate::peer::sim::back) fn follows(&self, ring: u16) -> bool {
        ring < self.area.queues()
    }

    /// A ring starts: what its last back-end had in flight is to be done again, and the ring goes on behind all that was
    /// ever taken.
    pub(in crate::peer::sim::back) fn take_over(
        &mut self,
        ring: u16,
        device: &mut RingDevice,
        lives: &Lives,
        memory: &dyn GuestAccess,
    ) -> Result<(), Refusal> {
        self.again.remove(&ring);
        if !self.follows(ring) {
            return Ok(());
        }
        let (size, room) = (device.layout().size(), self.area.queue_size());
        if size > room {
            let why = format!("a ring of {size}, and the inflight area has room for {room}");
            return Err(Refusal::Because(why));
        }
        let mortal = lives.last_writes().map(|life| MortalAccess::new(memory, life));
        let memory = mortal.as_ref().map_or(memory, |mortal| mortal);
        let fault = self.fault;
        let wrong = |error: DeviceError| Refusal::Because(error.to_string());
        let mut book = book(&mut self.area, device, ring, memory).map_err(wrong)?;
        let Some(entries) = book.take_over(fault).map_err(wrong)? else {
            return Ok(());
        };
        let mut again: VecDeque<u16> = entries.into();
        match fault {
            Some(Fault::ForgetsAll) => {
                for entry in again.drain(..) {
                    book.clear(entry).map_err(wrong)?;
                }
            }
            Some(Fault::Twice) => again = again.into_iter().flat_map(|entry| [entry, entry]).collect(),
            Some(Fault::NewestFirst) => again = again.into_iter().rev().collect(),
            _ => {}
        }
        drop(book);
        self.again.insert(ring, again);
        Ok(())
    }

    /// Serves a ring as `serve_ring` does, and records each request. If the back-end is dying afterwards, it is left where it was.
    pub(in crate::peer::sim::back) fn serve(&mut self, turn: Turn<'_>, budget: Budget) -> Result<Served, DeviceError> {
        let Turn {
            lives,
            model,
            ring,
            enabled,
            in_order,
            device,
            places,
        } = turn;
        let life = lives.last_writes().cloned();
        let mortal = life.as_ref().map(|life| MortalAccess::new(places.ring, life));
        let memory = mortal.as_ref().map_or(places.ring, |mortal| mortal);
        let mut shift = Shift {
            book: book(&mut self.area, device, ring, memory)?,
            again: self.again.entry(ring).or_default(),
            fault: self.fault,
            lives,
            model,
            ring,
            enabled,
            buffers: places.buffers,
        };
        shift.serve(in_order, budget)
    }
}

/// The books of a ring; an error if the area is for rings of the other kind.
fn book<'a>(
    area: &'a mut Inflight,
    device: &'a mut RingDevice,
    ring: u16,
    memory: &'a dyn GuestAccess,
) -> Result<Box<dyn Book + 'a>, DeviceError> {
    let kind = match device.layout() {
        Layout::Split(_) => "split",
        Layout::Packed(_) => "packed",
    };
    match (area, device.side()) {
        (Inflight::Split(area), DeviceSide::Split(device)) => Ok(Box::new(SplitBook {
            area,
            device,
            ring,
            memory,
        })),
        (Inflight::Packed(area), DeviceSide::Packed(device)) => Ok(Box::new(PackedBook {
            area,
            device,
            ring,
            memory,
        })),
        _ => Err(DeviceError::InflightKind { ring, kind }),
    }
}

/// Serving a ring for one turn.
struct Shift<'a> {
    book: Box<dyn Book + 'a>,
    again: &'a mut VecDeque<u16>,
    fault: Option<Fault>,
    lives: &'a mut Lives,
    model: &'a mut dyn DeviceModel,
    ring: u16,
    enabled: bool,
    buffers: &'a dyn GuestAccess,
}

impl Shift<'_> {
    fn serve(&mut self, in_order: bool, budget: Budget) -> Result<Served, DeviceError> {
        let mut served = Served::default();
        let mut bytes = 0;
        let mut wrong = None;
        loop {
            let spent = served.returned >= budget.chains || bytes >= budget.bytes || wrong.is_some();
            let mut held = Vec::new();
            while !spent && held.len() < HELD_MAX {
                match self.carry_out(&mut bytes) {
                    Ok(Some(done)) => held.push(done),
                    Ok(None) => break,
                    // what was carried out before is still returned
                    Err(error) => {
                        wrong = Some(error);
                        break;
                    }
                }
            }
            if held.is_empty() || self.lives.is_dying() {
                served.more = spent && wrong.is_none();
                break;
            }
            if !in_order {
                held.reverse();
            }
            for batch in held.chunks(BATCH) {
                self.give_back(batch)?;
                if self.lives.is_dying() {
                    return Ok(served);
                }
                served.returned += batch.len() as u16;
            }
        }
        if served.returned > 0 && !self.lives.is_dying() {
            served.call = self.book.needs_call()?;
        }
        wrong.map_or(Ok(served), Err)
    }

    fn records(&self) -> bool {
        self.fault != Some(Fault::RecordsNothing)
    }

    /// Takes a request, records it and carries it out.
    fn carry_out(&mut self, bytes: &mut u64) -> Result<Option<Done>, DeviceError> {
        let ring = self.ring;
        if self.enabled && !self.model.ready(ring) {
            return Ok(None);
        }
        let left = self.again.front().copied();
        let taken = match left {
            // what was begun has had its effects; with a ring that must have none it waits
            Some(_) if !self.enabled => return Ok(None),
            Some(entry) => self.book.take_again(entry)?,
            None => match self.book.take(self.records())? {
                Some(taken) => taken,
                None => return Ok(None),
            },
        };
        if self.lives.comes_to(Moment::Taken, 1) {
            return Ok(None);
        }
        let done = match self.enabled {
            true => self.model.process(ring, &taken.chain, self.buffers)?,
            false => self.model.process_disabled(ring, &taken.chain, self.buffers)?,
        };
        let Processed::Written(len) = done else {
            match left {
                Some(_) => self.book.leave(),
                None => self.book.put_back(&taken)?,
            }
            return Ok(None);
        };
        if left.is_some() {
            self.again.pop_front();
        }
        if self.lives.comes_to(Moment::CarriedOut, 1) {
            return Ok(None);
        }
        let chain = &taken.chain;
        *bytes = bytes.saturating_add(chain.readable_len().saturating_add(chain.writable_len()));
        Ok(Some(Done {
            id: chain.head,
            entry: taken.entry,
            descriptors: taken.descriptors,
            len,
        }))
    }

    /// Returns a batch (VU-IFL-09, VU-IFL-10, VU-IFL-14).
    fn give_back(&mut self, batch: &[Done]) -> Result<(), DeviceError> {
        let records = self.records();
        let clears = records && self.fault != Some(Fault::ClearsNothing);
        if clears {
            self.book.link(batch)?;
        }
        if self.lives.comes_to(Moment::Linked, batch.len()) {
            return Ok(());
        }
        self.book.show(batch)?;
        if self.lives.comes_to(Moment::Used, batch.len()) {
            return Ok(());
        }
        for (at, done) in batch.iter().enumerate().filter(|_| clears) {
            self.book.clear(done.entry)?;
            if at == 0 && self.lives.comes_to(Moment::HalfCleared, batch.len()) {
                return Ok(());
            }
        }
        if self.lives.comes_to(Moment::Cleared, batch.len()) {
            return Ok(());
        }
        if records {
            self.book.note()?;
        }
        self.lives.comes_to(Moment::Uncalled, batch.len());
        Ok(())
    }
}
