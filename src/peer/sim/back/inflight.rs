//! The inflight area as the simulated back-end keeps it: what is recorded when a request is taken and returned, what a
//! successor does again, and where a back-end dies in between.
//!
//! Requests come back in the order that is hardest to recover from: of those that were taken together the newest first (unless
//! IN_ORDER was negotiated), several with one step of the used index.

use std::collections::{BTreeMap, VecDeque};

use super::{Refusal, SimBack};
use crate::memory::{GuestAccess, Inflight, MemoryError};
use crate::peer::device::{Budget, DeviceError, DeviceModel, Processed, Served};
use crate::ring::{Chain, SplitDevice};

/// Requests in hand at the same time.
const HELD_MAX: usize = 16;
/// Requests that are returned together.
const BATCH: usize = 3;

/// Where on the way of a request a back-end dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It has been taken and recorded, and not been carried out.
    Taken,
    /// It has been carried out, and nobody has been told.
    CarriedOut,
    /// Its batch is linked in the area, and the used index has not moved.
    Linked,
    /// The used index has moved, and the area still says that it is in flight.
    Used,
    /// Of its batch one is not in flight any more, for others the area says so.
    HalfCleared,
    /// None of its batch is in flight, and the area does not know of the used index.
    Cleared,
    /// All is recorded, and the driver has not been called.
    Uncalled,
}

impl Moment {
    /// In the order of a request's way.
    pub const ALL: [Self; 7] = [
        Self::Taken,
        Self::CarriedOut,
        Self::Linked,
        Self::Used,
        Self::HalfCleared,
        Self::Cleared,
        Self::Uncalled,
    ];
}

/// What a back-end does wrong with the inflight area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is recorded.
    RecordsNothing,
    /// What was returned stays in flight.
    ClearsNothing,
    /// A successor does not look at what was cut off between the used index and the area.
    NoRollback,
    /// A successor takes one request out of a batch that was cut off, and not all of it.
    RollsOneBack,
    /// A successor forgets what was in flight.
    ForgetsAll,
    /// A successor carries each request out twice.
    Twice,
    /// A successor begins with the newest.
    NewestFirst,
}

/// The lives of a back-end.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// Where this one ends, and how many requests are still to come there.
    ends_at: Option<(Moment, u64)>,
    /// How many have ended so.
    ended: usize,
    dying: bool,
    dead: bool,
}

impl Lives {
    /// The next one begins.
    pub(super) fn begin(&mut self) {
        (self.dying, self.dead) = (false, false);
    }

    /// This one is over.
    pub(super) fn end(&mut self) {
        self.ends_at = None;
        self.ended += 1;
        (self.dying, self.dead) = (false, true);
    }

    pub(super) fn is_dying(&self) -> bool {
        self.dying
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    /// So many requests came to this moment. True if it is the last one.
    fn comes_to(&mut self, moment: Moment, requests: usize) -> bool {
        let Some((at, left)) = &mut self.ends_at else {
            return false;
        };
        if *at != moment {
            return false;
        }
        *left = left.saturating_sub(requests as u64);
        self.dying = *left == 0;
        self.dying
    }
}

impl SimBack {
    /// It will die when so many requests, from 1, have come to a moment of their way; without one, to another one each time.
    pub fn dies_at(&mut self, moment: Option<Moment>, request: u64) {
        let in_turn = Moment::ALL[self.lives.ended % Moment::ALL.len()];
        self.lives.ends_at = Some((moment.unwrap_or(in_turn), request.max(1)));
    }
}

/// Where rings and buffers are, which differ in whether writes to them are logged.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) ring: &'a dyn GuestAccess,
    pub(super) buffers: &'a dyn GuestAccess,
}

/// Whoever writes into the area.
#[derive(Debug)]
pub(super) struct Recorder {
    area: Inflight,
    fault: Option<Fault>,
    /// Heads to be carried out again, by ring, oldest first.
    again: BTreeMap<u16, VecDeque<u16>>,
}

impl Recorder {
    pub(super) fn new(area: Inflight, fault: Option<Fault>) -> Self {
        Self {
            area,
            fault,
            again: BTreeMap::new(),
        }
    }

    /// Whether the requests of a ring are recorded.
    pub(super) fn follows(&self, ring: u16) -> bool {
        ring < self.area.queues()
    }

    /// A ring starts: what its last back-end had in flight is to be done again. Gives where the ring goes on then, behind
    /// all that was ever taken.
    pub(super) fn take_over(&mut self, ring: u16, device: &SplitDevice) -> Result<Option<u16>, Refusal> {
        self.again.remove(&ring);
        if !self.follows(ring) {
            return Ok(None);
        }
        let (size, room) = (device.layout().size, self.area.queue_size());
        if size > room {
            let why = format!("a ring of {size}, and the inflight area has room for {room}");
            return Err(Refusal::Because(why));
        }
        let used = device.used_idx();
        if self.area.init(ring)? {
            self.area.note_used(ring, used)?;
            return Ok(None);
        }
        let heads = self.left_over(ring, used)?;
        let base = (!heads.is_empty()).then(|| used.wrapping_add(heads.len() as u16));
        let mut again: VecDeque<u16> = heads.into();
        match self.fault {
            Some(Fault::ForgetsAll) => {
                for head in again.drain(..) {
                    self.area.clear(ring, head)?;
                }
            }
            Some(Fault::Twice) => again = again.into_iter().flat_map(|head| [head, head]).collect(),
            Some(Fault::NewestFirst) => again = again.into_iter().rev().collect(),
            _ => {}
        }
        self.again.insert(ring, again);
        Ok(base)
    }

    /// VU-IFL-11 and VU-IFL-12, or what a faulty back-end makes of them.
    fn left_over(&mut self, ring: u16, used: u16) -> Result<Vec<u16>, MemoryError> {
        match self.fault {
            Some(Fault::NoRollback) => self.area.note_used(ring, used)?,
            Some(Fault::RollsOneBack) if self.area.noted_used(ring)? != used => {
                self.area.clear(ring, self.area.last_linked(ring)?)?;
                self.area.note_used(ring, used)?;
            }
            _ => {}
        }
        self.area.recover(ring, used)
    }

    /// Serves a ring as `serve_ring` does, and records each request. If the back-end is dying afterwards, it is left where it was.
    pub(super) fn serve(&mut self, mut turn: Turn<'_>, budget: Budget) -> Result<Served, DeviceError> {
        let mut served = Served::default();
        let mut bytes = 0;
        let mut wrong = None;
        loop {
            let spent = served.returned >= budget.chains || bytes >= budget.bytes || wrong.is_some();
            let mut held = Vec::new();
            while !spent && held.len() < HELD_MAX {
                match self.carry_out(&mut turn) {
                    Ok(Some(done)) => {
                        bytes += done.bytes;
                        held.push((done.head, done.len));
                    }
                    Ok(None) => break,
                    // what was carried out before is still returned
                    Err(error) => {
                        wrong = Some(error);
                        break;
                    }
                }
            }
            if held.is_empty() || turn.lives.is_dying() {
                served.more = spent && wrong.is_none();
                break;
            }
            if !turn.in_order {
                held.reverse();
            }
            for batch in held.chunks(BATCH) {
                self.give_back(&mut turn, batch)?;
                if turn.lives.is_dying() {
                    return Ok(served);
                }
                served.returned += batch.len() as u16;
            }
        }
        if served.returned > 0 && !turn.lives.is_dying() {
            served.call = turn.device.needs_call(turn.places.ring)?;
        }
        wrong.map_or(Ok(served), Err)
    }

    /// Takes a request, records it and carries it out.
    fn carry_out(&mut self, turn: &mut Turn<'_>) -> Result<Option<Done>, DeviceError> {
        let ring = turn.ring;
        if turn.enabled && !turn.model.ready(ring) {
            return Ok(None);
        }
        let left = self.again.get(&ring).and_then(|again| again.front().copied());
        let chain = match left {
            // what was begun has had its effects; with a ring that must have none it waits
            Some(_) if !turn.enabled => return Ok(None),
            Some(head) => turn.device.resubmit(turn.places.ring, head)?,
            None => match take(turn.device, turn.places.ring)? {
                Some(chain) => chain,
                None => return Ok(None),
            },
        };
        if left.is_none() && self.fault != Some(Fault::RecordsNothing) {
            self.area.fetch(ring, chain.head)?;
        }
        if turn.lives.comes_to(Moment::Taken, 1) {
            return Ok(None);
        }
        let done = match turn.enabled {
            true => turn.model.process(ring, &chain, turn.places.buffers)?,
            false => turn.model.process_disabled(ring, &chain, turn.places.buffers)?,
        };
        let Processed::Written(len) = done else {
            match left {
                Some(_) => turn.device.undo_resubmit(),
                None => {
                    self.area.clear(ring, chain.head)?;
                    turn.device.undo_pop()?;
                }
            }
            return Ok(None);
        };
        if left.is_some() {
            self.again.entry(ring).or_default().pop_front();
        }
        if turn.lives.comes_to(Moment::CarriedOut, 1) {
            return Ok(None);
        }
        Ok(Some(Done {
            head: chain.head,
            len,
            bytes: chain.readable_len().saturating_add(chain.writable_len()),
        }))
    }

    /// Returns a batch (VU-IFL-09, VU-IFL-10).
    fn give_back(&mut self, turn: &mut Turn<'_>, batch: &[(u16, u32)]) -> Result<(), DeviceError> {
        let ring = turn.ring;
        let records = self.fault != Some(Fault::RecordsNothing);
        for (head, _) in batch.iter().filter(|_| records) {
            self.area.link(ring, *head)?;
        }
        if turn.lives.comes_to(Moment::Linked, batch.len()) {
            return Ok(());
        }
        turn.device.push_all(turn.places.ring, batch)?;
        if turn.lives.comes_to(Moment::Used, batch.len()) {
            return Ok(());
        }
        let clears = records && self.fault != Some(Fault::ClearsNothing);
        for (at, (head, _)) in batch.iter().enumerate().filter(|_| clears) {
            self.area.clear(ring, *head)?;
            if at == 0 && turn.lives.comes_to(Moment::HalfCleared, batch.len()) {
                return Ok(());
            }
        }
        if turn.lives.comes_to(Moment::Cleared, batch.len()) {
            return Ok(());
        }
        if records {
            self.area.note_used(ring, turn.device.used_idx())?;
        }
        turn.lives.comes_to(Moment::Uncalled, batch.len());
        Ok(())
    }
}

/// A request that was carried out, to be returned.
struct Done {
    head: u16,
    len: u32,
    bytes: u64,
}

/// A ring's turn.
pub(super) struct Turn<'a> {
    pub(super) lives: &'a mut Lives,
    pub(super) model: &'a mut dyn DeviceModel,
    pub(super) ring: u16,
    pub(super) enabled: bool,
    pub(super) in_order: bool,
    pub(super) device: &'a mut SplitDevice,
    pub(super) places: Places<'a>,
}

/// The next chain; with EVENT_IDX a kick is asked for when there is none.
fn take(device: &mut SplitDevice, ring: &dyn GuestAccess) -> Result<Option<Chain>, DeviceError> {
    if let Some(chain) = device.pop(ring)? {
        return Ok(Some(chain));
    }
    if !device.event_idx() {
        return Ok(None);
    }
    // what was published in between brings no kick
    device.set_avail_event(ring, device.base())?;
    Ok(device.pop(ring)?)
}
