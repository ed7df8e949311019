//! A packed ring as it is followed from look to look.
//!
//! Driver and device write to the same slots, so there is no history: a chain that was made available and returned between
//! two looks leaves no trace of how many slots it took, and the ring is not judged any more until it is started again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use super::chain::{self, Budget, Chain};
use super::mark::Mark;
use super::rule::{Sight, Standing};
use super::{Ground, Sink};
use crate::memory::{GuestAccess, MemoryError, PackedInflight};
use crate::ring::packed::DESC_F_WRITE;
use crate::ring::{QUEUE_SIZE_MAX, RingError};

const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;
/// Values of the flags of an event suppression area.
const EVENTS_OFF: u16 = 1;
const EVENTS_AT: u16 = 2;

/// Where the three parts of a packed ring lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackedLayout {
    pub(super) size: u16,
    pub(super) ring: u64,
    /// Event suppression, written by the driver.
    pub(super) driver: u64,
    /// The same, written by the device.
    pub(super) device: u64,
}

impl PackedLayout {
    fn check(&self, mem: &dyn GuestAccess) -> Result<(), RingError> {
        if self.size == 0 || self.size > QUEUE_SIZE_MAX {
            return Err(RingError::Size { size: self.size });
        }
        mem.contiguous(self.ring, 16 * u64::from(self.size))?;
        mem.contiguous(self.driver, 4)?;
        Ok(mem.contiguous(self.device, 4)?)
    }

    fn slot(&self, at: u16) -> u64 {
        self.ring + 16 * u64::from(at)
    }

    /// What a back-end that has gone had in its hands, by the inflight area; none if that is not in use.
    pub(super) fn left_by_crash(&self, area: &PackedInflight, queue: u16, mem: &dyn GuestAccess) -> Option<LeftOver> {
        let places = area.positions(queue).ok()?.map(|used| Place {
            at: used.at,
            wrap: used.wrap,
        });
        let [now, old] = places;
        if old.at >= self.size {
            return None;
        }
        let flags = mem.load_u16(self.slot(old.at) + 14, Ordering::Acquire).ok()?;
        let returned = !old.is_available(flags);
        let mut chains = Vec::new();
        for entry in area.left_by_crash(queue, returned).ok()? {
            let chain = area.chain(queue, entry).ok()?;
            chains.push((chain.last()?.id, chain.len() as u16));
        }
        let used = if returned { now } else { old };
        Some(LeftOver { used, chains })
    }
}

/// What a back-end that has gone had in its hands.
#[derive(Debug)]
pub(super) struct LeftOver {
    /// Where the next chain is used.
    used: Place,
    /// Chains, the oldest first: id, and the slots that it takes.
    chains: Vec<(u16, u16)>,
}

/// A place in the ring, with the wrap counter that holds there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    at: u16,
    wrap: bool,
}

impl Place {
    fn from_base(half: u16) -> Self {
        Self {
            at: half & 0x7fff,
            wrap: half & 0x8000 != 0,
        }
    }

    /// True if it went round.
    fn advance(&mut self, slots: u16, size: u16) -> bool {
        let next = u32::from(self.at) + u32::from(slots);
        let wraps = next >= u32::from(size);
        self.at = (next % u32::from(size)) as u16;
        self.wrap ^= wraps;
        wraps
    }

    /// The same slot when the ring has gone round.
    fn next_lap(self) -> Self {
        Self {
            wrap: !self.wrap,
            ..self
        }
    }

    fn ahead(mut self, slots: u16, size: u16) -> Self {
        self.advance(slots, size);
        self
    }

    fn is_available(self, flags: u16) -> bool {
        (flags & AVAIL != 0) == self.wrap && (flags & USED != 0) != self.wrap
    }

    fn is_used(self, flags: u16) -> bool {
        (flags & AVAIL != 0) == self.wrap && (flags & USED != 0) == self.wrap
    }
}

#[derive(Debug)]
struct Held {
    /// How many chains were made available before it.
    order: u64,
    /// Its first slot; none if it was taken by an earlier back-end, since when its slots may have been written over.
    place: Option<Place>,
    chain: Box<Chain>,
    logged: bool,
    disabled: bool,
}

/// A packed ring.
#[derive(Debug)]
pub(super) struct Packed {
    layout: PackedLayout,
    avail: Place,
    used: Place,
    out: BTreeMap<u16, Held>,
    /// Slots that the chains of `out` take.
    slots: u32,
    offered: BTreeSet<u16>,
    count: u64,
    /// With IN_ORDER: slots of the last batch that the device has passed over.
    passed_over: Vec<Place>,
    /// Something passed unseen: it is not known any more where the ring stands.
    is_lost: bool,
}

impl Packed {
    /// A ring that is started at the indices of SET_VRING_BASE. If they may be half of what they should be, nothing is under
    /// way where the half that says what was used has nothing in it.
    pub(super) fn start(
        layout: PackedLayout,
        indices: u32,
        may_be_half: bool,
        mem: &dyn GuestAccess,
    ) -> Result<Self, RingError> {
        layout.check(mem)?;
        let avail = Place::from_base(indices as u16);
        let used = match (indices >> 16) as u16 {
            0 if may_be_half => avail,
            half => Place::from_base(half),
        };
        Ok(Self {
            layout,
            avail,
            used,
            out: BTreeMap::new(),
            slots: 0,
            offered: BTreeSet::new(),
            count: 0,
            passed_over: Vec::new(),
            // chains in between were taken by an earlier back-end
            is_lost: avail != used || avail.at >= layout.size,
        })
    }

    /// A ring that another back-end has left with these chains in its hands, the oldest first: all that was ever taken and not
    /// returned.
    pub(super) fn take_over(layout: PackedLayout, left: &LeftOver, mem: &dyn GuestAccess) -> Result<Self, RingError> {
        let mut ring = Self::start(layout, 0, true, mem)?;
        ring.used = left.used;
        for (id, slots) in &left.chains {
            ring.count += 1;
            let held = Held {
                order: ring.count,
                place: None,
                chain: Box::new(Chain::unread(*id, *slots)),
                logged: false,
                disabled: false,
            };
            ring.slots += u32::from(*slots);
            ring.out.insert(*id, held);
            ring.offered.insert(*id);
        }
        ring.is_lost = left.used.at >= layout.size || ring.slots > u32::from(layout.size);
        ring.avail = left
            .used
            .ahead(ring.slots.min(u32::from(layout.size)) as u16, layout.size);
        Ok(ring)
    }

    fn flags(&self, mem: &dyn GuestAccess, place: Place) -> Result<u16, MemoryError> {
        mem.load_u16(self.layout.slot(place.at) + 14, Ordering::Acquire)
    }

    /// Looks at a ring that is started.
    pub(super) fn look(&mut self, ground: &Ground, sink: &mut Sink) -> Result<(), MemoryError> {
        self.look_at_flags(ground, sink)?;
        if self.is_lost {
            return Ok(());
        }
        if !ground.is_fresh {
            let mem = ground.mem;
            let moved =
                self.avail.is_available(self.flags(mem, self.avail)?) || self.used.is_used(self.flags(mem, self.used)?);
            if moved {
                self.lose_track(sink);
            }
            return Ok(());
        }
        self.take_available(ground, sink)?;
        if self.is_lost {
            return Ok(());
        }
        self.take_used(ground, sink)
    }

    fn take_available(&mut self, ground: &Ground, sink: &mut Sink) -> Result<(), MemoryError> {
        let (mem, size) = (ground.mem, self.layout.size);
        let mut budget = Budget {
            descriptors: super::DESCRIPTORS_A_LOOK,
        };
        while self.slots < u32::from(size) {
            let flags = self.flags(mem, self.avail)?;
            if !self.avail.is_available(flags) {
                break;
            }
            let (ring, first) = (self.layout.ring, self.avail.at);
            let read = chain::packed(mem, ring, size, first, ground.indirect, &mut budget)?;
            let Some(chain) = read else { break };
            // it may have come back meanwhile
            if self.flags(mem, self.avail)? != flags {
                break;
            }
            let id = chain.id;
            sink.mark(Mark::ChainAvailable);
            if ground.disabled {
                sink.mark(Mark::DisabledWaiting);
            }
            if self.out.contains_key(&id) {
                // it came back before it was made available once more, which has not been taken in yet
                self.take_used(ground, sink)?;
                if self.is_lost {
                    break;
                }
            }
            let is_out = match self.out.get(&id) {
                // no trace is left of how it came back
                Some(held) if !self.still_lies(id, held, mem)? => {
                    self.lose_track(sink);
                    break;
                }
                held => held.is_some(),
            };
            sink.see(&Sight::Offered {
                id,
                size: u16::MAX,
                is_out,
            });
            if is_out {
                // which of them comes back cannot be told
                self.lose_track(sink);
                break;
            }
            sink.judge(&chain);
            self.slots += u32::from(chain.slots);
            if self.slots == u32::from(size) {
                sink.mark(Mark::RingFull);
            }
            self.offered.insert(id);
            let place = self.avail;
            self.avail.advance(chain.slots, size);
            self.count += 1;
            let held = Held {
                order: self.count,
                place: Some(place),
                chain: Box::new(chain),
                logged: ground.is_logged,
                disabled: ground.disabled,
            };
            self.out.insert(id, held);
        }
        Ok(())
    }

    /// Whether the slots of a chain that is out are as they were when it was made available.
    fn still_lies(&self, id: u16, held: &Held, mem: &dyn GuestAccess) -> Result<bool, MemoryError> {
        let Some(place) = held.place else { return Ok(false) };
        let last = place.ahead(held.chain.slots - 1, self.layout.size);
        let is_its_own = mem.read_u16(self.layout.slot(last.at) + 12)? == id;
        Ok(is_its_own && place.is_available(self.flags(mem, place)?))
    }

    fn take_used(&mut self, ground: &Ground, sink: &mut Sink) -> Result<(), MemoryError> {
        let (mem, size) = (ground.mem, self.layout.size);
        for _ in 0..size {
            if self.look_at_passed_over(mem, sink)? {
                self.lose_track(sink);
                return Ok(());
            }
            let flags = self.flags(mem, self.used)?;
            if !self.used.is_used(flags) {
                // filled again before anybody saw who had come back there; where nothing is out, these flags are of the lap before
                if self.slots > 0 && self.used.next_lap().is_available(flags) {
                    self.lose_track(sink);
                }
                break;
            }
            self.passed_over.clear();
            let at = self.layout.slot(self.used.at);
            let (length, id) = (mem.read_u32(at + 8)?, mem.read_u16(at + 12)?);
            let Some(held) = self.out.remove(&id) else {
                return self.take_stranger(ground, sink, id, length);
            };
            let first = self.used;
            let before = match ground.in_order {
                true => self.return_before(held.order, ground, sink),
                false => 0,
            };
            // without WRITE the length is no length (virtio 1.3, 2.8.5): DPDK leaves there what the driver wrote
            let told = mem.load_u16(at + 14, Ordering::Acquire)? & DESC_F_WRITE != 0 || held.chain.writable > 0;
            let length = if told { length } else { 0 };
            sink.mark(Mark::ChainReturned);
            sink.mark(Mark::LengthJudged);
            if !sink.has(Mark::OutOfOrder) && self.out.values().any(|other| other.order < held.order) {
                sink.mark(Mark::OutOfOrder);
            }
            sink.see(&Sight::Returned {
                id: u32::from(id),
                length,
                size: u16::MAX,
                standing: Standing::Out,
                chain: Some(&held.chain),
                disabled: held.disabled && ground.disabled,
                receives: ground.receives,
            });
            if held.logged {
                let written = held.chain.written(u64::from(length));
                written.for_each(|(at, bytes)| sink.wrote(at, bytes, false));
            }
            self.pass(held.chain.slots, sink);
            if before > 0 {
                let slots = 1..before + u32::from(held.chain.slots);
                self.passed_over = slots.map(|ahead| first.ahead(ahead as u16, size)).collect();
            }
        }
        Ok(())
    }

    /// With IN_ORDER: what was made available before a chain that came back has come back with it, and all of it was written.
    /// Gives the slots that it takes.
    fn return_before(&mut self, order: u64, ground: &Ground, sink: &mut Sink) -> u32 {
        let earlier = self.out.iter().filter(|(_, other)| other.order < order);
        let mut ids: Vec<(u64, u16)> = earlier.map(|(id, other)| (other.order, *id)).collect();
        ids.sort_unstable();
        let mut slots = 0;
        for (_, id) in ids {
            let Some(held) = self.out.remove(&id) else { continue };
            sink.mark(Mark::ChainReturned);
            sink.mark(Mark::BatchReturned);
            sink.see(&Sight::Returned {
                id: u32::from(id),
                length: held.chain.writable as u32,
                size: u16::MAX,
                standing: Standing::Out,
                chain: Some(&held.chain),
                disabled: held.disabled && ground.disabled,
                receives: ground.receives,
            });
            if held.logged {
                let written = held.chain.written(held.chain.writable);
                written.for_each(|(at, bytes)| sink.wrote(at, bytes, false));
            }
            self.pass(held.chain.slots, sink);
            slots += u32::from(held.chain.slots);
        }
        slots
    }

    fn pass(&mut self, slots: u16, sink: &mut Sink) {
        self.slots = self.slots.saturating_sub(u32::from(slots));
        if self.used.advance(slots, self.layout.size) {
            sink.mark(Mark::RingWrapped);
        }
    }

    /// True if the device has used a slot that it had passed over: what looked like a batch was one chain out of turn.
    fn look_at_passed_over(&self, mem: &dyn GuestAccess, sink: &mut Sink) -> Result<bool, MemoryError> {
        for place in &self.passed_over {
            if place.is_used(self.flags(mem, *place)?) {
                let id = mem.read_u16(self.layout.slot(place.at) + 12)?;
                sink.see(&Sight::Overtaken { id: u32::from(id) });
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A chain came back that the device is not known to have. Either it was made available after the last look, or never.
    fn take_stranger(&mut self, ground: &Ground, sink: &mut Sink, id: u16, length: u32) -> Result<(), MemoryError> {
        // with nothing out the slot is the driver's next one, and what it wrote there is gone
        let driver_wrote = self.out.is_empty() || {
            let flags = self.flags(ground.mem, self.avail)?;
            (flags & AVAIL != 0) == self.avail.wrap && self.slots < u32::from(self.layout.size)
        };
        if !driver_wrote {
            let was_there = self.offered.contains(&id);
            sink.see(&Sight::Returned {
                id: u32::from(id),
                length,
                size: u16::MAX,
                standing: if was_there { Standing::Back } else { Standing::Never },
                chain: None,
                disabled: false,
                receives: ground.receives,
            });
        }
        self.lose_track(sink);
        Ok(())
    }

    /// Looks at a ring that is stopped. False if it is not worth looking any more.
    pub(super) fn look_stopped(&mut self, ground: &Ground, sink: &mut Sink) -> Result<bool, MemoryError> {
        let mem = ground.mem;
        if self.is_lost {
            return Ok(false);
        }
        if !self.used.is_used(self.flags(mem, self.used)?) {
            if self.was_used() {
                sink.mark(Mark::StoppedQuiet);
            }
            return Ok(true);
        }
        let id = mem.read_u16(self.layout.slot(self.used.at) + 12)?;
        if self.out.contains_key(&id) {
            let what = format!("chain {id} was returned after the ring was stopped");
            sink.see(&Sight::Late { what });
        }
        Ok(false)
    }

    /// The ring is stopped: the back-end has answered with these indices.
    pub(super) fn stop(&mut self, indices: u32, may_leave: bool, sink: &mut Sink) {
        let (next, used) = (
            Place::from_base(indices as u16),
            Place::from_base((indices >> 16) as u16),
        );
        let size = u32::from(self.layout.size);
        let lap = if next.wrap == used.wrap { 0 } else { size };
        let left = (u32::from(next.at) + lap).saturating_sub(u32::from(used.at));
        sink.see(&Sight::Stopped {
            base: indices as u16,
            indices: None,
            left,
            may_leave,
            half: indices >> 16 == 0,
        });
        if left == 0 && self.was_used() {
            sink.mark(Mark::StoppedDrained);
        }
    }

    /// Whether anything was ever seen to pass.
    fn was_used(&self) -> bool {
        !self.offered.is_empty()
    }

    /// Whether it is known where the ring stands.
    pub(super) fn is_followed(&self) -> bool {
        !self.is_lost
    }

    pub(super) fn layout(&self) -> &PackedLayout {
        &self.layout
    }

    fn lose_track(&mut self, sink: &mut Sink) {
        sink.mark(Mark::LostTrack);
        self.is_lost = true;
        self.out.clear();
    }

    fn look_at_flags(&self, ground: &Ground, sink: &mut Sink) -> Result<(), MemoryError> {
        let load = |at: u64| ground.mem.load_u16(at, Ordering::Relaxed);
        let (driver, device) = (load(self.layout.driver + 2)?, load(self.layout.device + 2)?);
        sink.see(&Sight::Flags {
            event_idx: ground.event_idx,
            packed: true,
            driver,
            device,
        });
        if driver == EVENTS_AT || device == EVENTS_AT {
            sink.mark(Mark::EventIdxUsed);
        }
        if driver == EVENTS_OFF {
            sink.mark(Mark::CallsSuppressed);
        }
        if device == EVENTS_OFF {
            sink.mark(Mark::KicksSuppressed);
        }
        Ok(())
    }
}
