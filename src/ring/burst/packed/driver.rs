//! The driver's side of a packed ring, a burst at a time.

use std::sync::atomic::Ordering;

use crate::memory::Reach;
use crate::ring::packed::{DESC_F_AVAIL, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_USED, DESC_F_WRITE};
use crate::ring::packed::{EVENT_DESC, EVENT_DISABLE, EVENT_ENABLE, Position, positions, wants_event};
use crate::ring::split::{Descriptor, driver::check_chain};
use crate::ring::{Buffer, PackedLayout, RingError};
use crate::sys::shared::Place;

use super::super::at::{At, full_fence};
use super::super::publish::{Shared, consume, publish, published_then_wish, wish_then_look};
use super::super::{Done, DriverRing, RingOptions, writable_bytes};
use super::{Parts, flags_of, id_of, word};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Free,
    Returned,
    Out,
}

/// A buffer id, and the chain it stands for.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    token: u32,
    writable: u32,
    /// Running number of the chain.
    order: u32,
    descriptors: u16,
    state: State,
}

/// Descriptors that are asked for at once when the first of them has been returned.
const BURST: usize = 32;

/// The driver's side of a packed ring.
#[derive(Debug)]
pub struct PackedDriver {
    parts: Parts,
    options: RingOptions,
    avail: Position,
    used: Position,
    free: u16,
    slots: Vec<Slot>,
    /// Ids by the running number of the chain they stand for, as a ring: up to the next to add those of chains that are out,
    /// which with the order kept stay there until they are returned; then the free ones, first in, first out, up to `ids_end`.
    /// There are never fewer of those than free descriptors.
    ids: Vec<u16>,
    ids_end: u32,
    /// Running numbers: of the next chain to add, to publish, to be returned.
    next_order: u32,
    published: u32,
    returned: u32,
    /// The first descriptor of the burst, whose flags are written last: the device cannot see past it.
    first: Option<(u16, u64)>,
    /// With IN_ORDER: a batch that is being worked off ends before this running number, and its last chain has this length.
    batch: Option<(u32, u32)>,
    /// All that was asked for had been returned, so that there is likely to be more. A device that only reads returns bursts;
    /// one that writes returns one by one, and to ask for lines that it has not written yet would take them away from it.
    behind: bool,
    /// Descriptors published since the question of a kick was last answered.
    moved: u32,
    error: Option<RingError>,
}

impl PackedDriver {
    /// A driver that begins where `base` says, as SET_VRING_BASE carries it. Memory is written by [`Self::init`] and later.
    pub fn new(layout: PackedLayout, base: u32, reach: &Reach, options: RingOptions) -> Result<Self, RingError> {
        let parts = Parts::new(layout, reach)?;
        let size = usize::from(layout.size);
        let (avail, used) = positions(base);
        let at = [avail.at, used.at].into_iter().find(|at| *at >= layout.size);
        if let Some(at) = at {
            return Err(RingError::BaseOutOfRange { at, size: layout.size });
        }
        Ok(Self {
            parts,
            options,
            avail,
            used: avail,
            free: layout.size,
            slots: vec![Slot::default(); size],
            ids: (0..size.next_power_of_two() as u16).collect(),
            ids_end: u32::from(layout.size),
            next_order: 0,
            published: 0,
            returned: 0,
            first: None,
            batch: None,
            behind: false,
            moved: 0,
            error: None,
        })
    }

    /// Where the device returns the next chain.
    #[must_use]
    pub(in crate::ring::burst) fn used(&self) -> Position {
        self.used
    }

    /// Writes the ring as if all before the place where it begins had been used.
    pub fn init(&mut self) {
        for at in 0..self.parts.layout.size {
            // a lap ends with all descriptors used, so their flags tell which lap it was
            let lap = Position {
                at,
                wrap: self.avail.wrap == (at < self.avail.at),
            };
            self.parts.address(at).store(0, Ordering::Relaxed);
            publish(&self.parts.word(at), word(0, 0, lap.used_flags()));
        }
        for event in [&self.parts.driver_event, &self.parts.device_event] {
            At::of(event, 0).store(0, Ordering::Relaxed);
            At::of(event, 1).store(EVENT_ENABLE, Ordering::Release);
        }
    }

    /// The layout.
    #[must_use]
    pub fn layout(&self) -> &PackedLayout {
        &self.parts.layout
    }

    #[inline(always)]
    fn write(&mut self, addr: u64, len: u32, id: u16, flags: u16) {
        let (address, rest_at) = self.parts.descriptors().at(self.avail.at);
        let rest = word(len, id, flags | self.avail.avail_flags());
        address.store(addr, Ordering::Relaxed);
        if self.first.is_none() {
            self.first = Some((self.avail.at, rest));
        } else {
            publish(&rest_at, rest);
        }
        self.avail = self.avail.advanced(1, self.parts.layout.size);
    }

    #[inline(always)]
    fn next_id(&self) -> u16 {
        self.ids[self.next_order as usize & (self.ids.len() - 1)]
    }

    #[inline(always)]
    fn take_up(&mut self, id: u16, token: u32, writable: u32, descriptors: u16) {
        self.slots[usize::from(id)] = Slot {
            token,
            writable,
            order: self.next_order,
            descriptors,
            state: State::Out,
        };
        self.next_order = self.next_order.wrapping_add(1);
        self.free -= descriptors;
    }

    #[inline(always)]
    fn release(&mut self, id: u16) -> Slot {
        let slot = &mut self.slots[usize::from(id)];
        slot.state = State::Returned;
        let slot = *slot;
        self.free += slot.descriptors;
        let at = self.ids_end as usize & (self.ids.len() - 1);
        self.ids[at] = id;
        self.ids_end = self.ids_end.wrapping_add(1);
        self.returned = self.returned.wrapping_add(1);
        self.used = self.used.advanced(slot.descriptors, self.parts.layout.size);
        slot
    }

    fn out(&self) -> u32 {
        self.published.wrapping_sub(self.returned)
    }

    /// Whether a chain that is out was only added so far.
    #[inline(always)]
    fn is_unpublished(&self, order: u32) -> bool {
        order.wrapping_sub(self.published) < self.next_order.wrapping_sub(self.published)
    }

    /// The next chain that was returned, if there is one; none if it begins a batch.
    fn settle(&mut self) -> Result<Option<Done>, RingError> {
        let seen = consume(&self.parts.word(self.used.at));
        if !self.used.is_used(flags_of(seen)) {
            return Ok(None);
        }
        let (id, len) = (id_of(seen), seen as u32);
        if self.out() == 0 {
            return Err(RingError::NoneOutstanding { at: self.used.at, id });
        }
        let slot = match self.slots.get(usize::from(id)) {
            Some(slot) => *slot,
            None => return Err(self.wrong(RingError::UnknownHead { id: u32::from(id) })),
        };
        // without WRITE the length means nothing, and DPDK leaves there what was; QEMU writes it and never sets WRITE
        let is_told = flags_of(seen) & DESC_F_WRITE != 0 || slot.writable > 0;
        let len = if is_told { len } else { 0 };
        if slot.state != State::Out || self.is_unpublished(slot.order) {
            return Err(self.wrong(match slot.state {
                State::Out => RingError::NotPublished { head: id },
                State::Returned => RingError::ReturnedTwice { head: id },
                State::Free => RingError::UnknownHead { id: u32::from(id) },
            }));
        }
        if self.options.in_order && slot.order != self.returned {
            if len > slot.writable {
                let writable = u64::from(slot.writable);
                return Err(self.wrong(RingError::UsedTooLong {
                    head: id,
                    len,
                    writable,
                }));
            }
            self.batch = Some((slot.order.wrapping_add(1), len));
            return Ok(None);
        }
        self.release(id);
        if len > slot.writable {
            let writable = u64::from(slot.writable);
            return Err(RingError::UsedTooLong {
                head: id,
                len,
                writable,
            });
        }
        Ok(Some(Done { token: slot.token, len }))
    }

    /// Takes chains of one descriptor that were returned as they should be, in this lap; gives their number. Whatever is
    /// different is left to [`Self::settle`].
    #[inline(always)]
    fn reap_plain(&mut self, into: &mut [Done]) -> usize {
        let (mut returned, mut ids_end, mut at) = (self.returned, self.ids_end, self.used.at);
        let (flags_here, in_order) = (self.used.used_flags(), self.options.in_order);
        let left = usize::from(self.parts.layout.size - at);
        let room = into.len().min(self.out() as usize).min(left);
        let (descriptors, published) = (self.parts.descriptors(), self.published);
        let (slots, ids) = (&mut self.slots[..], &mut self.ids[..]);
        for (count, done) in into[..room].iter_mut().enumerate() {
            let seen = consume(&descriptors.at(at).1);
            if flags_of(seen) & (DESC_F_AVAIL | DESC_F_USED) != flags_here {
                break;
            }
            let id = id_of(seen);
            let Some(slot) = slots.get_mut(usize::from(id)) else {
                break;
            };
            if count == 0 && (self.behind || slot.writable == 0) {
                // what is returned will be made available again
                self.parts.prefetch(at, BURST, true);
            }
            let is_told = flags_of(seen) & DESC_F_WRITE != 0 || slot.writable > 0;
            let len = if is_told { seen as u32 } else { 0 };
            let in_turn = !in_order || slot.order == returned;
            // behind those that are out comes what was only added
            let is_out = slot.state == State::Out && slot.order.wrapping_sub(published) > u32::MAX / 2;
            if !is_out || slot.descriptors != 1 || len > slot.writable || !in_turn {
                break;
            }
            slot.state = State::Returned;
            *done = Done { token: slot.token, len };
            let free_at = ids_end as usize & (ids.len() - 1);
            ids[free_at] = id;
            ids_end = ids_end.wrapping_add(1);
            returned = returned.wrapping_add(1);
            at += 1;
        }
        let count = returned.wrapping_sub(self.returned) as u16;
        (self.returned, self.ids_end) = (returned, ids_end);
        self.used = self.used.advanced(count, self.parts.layout.size);
        self.free += count;
        usize::from(count)
    }

    /// Takes chains that were returned by a later one of their batch: with the order kept, by their running numbers.
    #[inline(always)]
    fn reap_batch(&mut self, into: &mut [Done]) -> usize {
        let Some((end, len)) = self.batch else { return 0 };
        let left = end.wrapping_sub(self.returned) as usize;
        let (mut returned, mut ids_end, mut descriptors) = (self.returned, self.ids_end, 0);
        let (slots, ids) = (&mut self.slots[..], &mut self.ids[..]);
        let mask = ids.len() - 1;
        let count = left.min(into.len());
        for done in &mut into[..count] {
            let id = ids[returned as usize & mask];
            let slot = &mut slots[usize::from(id)];
            slot.state = State::Returned;
            descriptors += slot.descriptors;
            *done = Done {
                token: slot.token,
                len: slot.writable,
            };
            ids[ids_end as usize & mask] = id;
            ids_end = ids_end.wrapping_add(1);
            returned = returned.wrapping_add(1);
        }
        (self.returned, self.ids_end) = (returned, ids_end);
        self.free += descriptors;
        self.used = self.used.advanced(descriptors, self.parts.layout.size);
        if count == left {
            self.batch = None;
            into[count - 1].len = len;
        }
        count
    }

    /// What was wrong takes one descriptor and one return, else a device that repeats itself could go on for ever.
    #[cold]
    fn wrong(&mut self, error: RingError) -> RingError {
        self.returned = self.returned.wrapping_add(1);
        self.used = self.used.advanced(1, self.parts.layout.size);
        error
    }
}

impl DriverRing for PackedDriver {
    fn size(&self) -> u16 {
        self.parts.layout.size
    }

    fn free(&self) -> u16 {
        self.free
    }

    fn outstanding(&self) -> u16 {
        self.out() as u16
    }

    #[expect(
        clippy::while_let_on_iterator,
        reason = "what stands between is not always made part of the loop"
    )]
    #[inline(always)]
    fn add_each(&mut self, chains: &mut impl Iterator<Item = (u32, Buffer)>) -> Result<(), RingError> {
        let size = self.parts.layout.size;
        let (mut avail, mut order, mut free) = (self.avail, self.next_order, self.free);
        let mut first = self.first;
        let mut result = Ok(());
        let (descriptors, slots, ids) = (self.parts.descriptors(), &mut self.slots[..], &self.ids[..]);
        while let Some((token, buffer)) = chains.next() {
            if free == 0 {
                result = Err(RingError::NoDescriptors { wanted: 1, free: 0 });
                break;
            }
            free -= 1;
            let id = ids[order as usize & (ids.len() - 1)];
            let (flags, writable) = match buffer.writable {
                true => (DESC_F_WRITE, buffer.len),
                false => (0, 0),
            };
            let (address, rest_at) = descriptors.at(avail.at);
            let rest = word(buffer.len, id, flags | avail.avail_flags());
            address.store(buffer.addr, Ordering::Relaxed);
            match first {
                None => first = Some((avail.at, rest)),
                Some(_) => publish(&rest_at, rest),
            }
            slots[usize::from(id)] = Slot {
                token,
                writable,
                order,
                descriptors: 1,
                state: State::Out,
            };
            order = order.wrapping_add(1);
            avail = avail.advanced(1, size);
        }
        (self.avail, self.next_order, self.free, self.first) = (avail, order, free, first);
        result
    }

    fn add_chain(&mut self, token: u32, chain: &[Buffer]) -> Result<(), RingError> {
        check_chain(chain)?;
        let free = usize::from(self.free);
        if chain.len() > free {
            return Err(RingError::NoDescriptors {
                wanted: chain.len(),
                free,
            });
        }
        let id = self.next_id();
        for (at, buffer) in chain.iter().enumerate() {
            let next = if at + 1 < chain.len() { DESC_F_NEXT } else { 0 };
            let write = if buffer.writable { DESC_F_WRITE } else { 0 };
            self.write(buffer.addr, buffer.len, id, next | write);
        }
        self.take_up(id, token, writable_bytes(chain), chain.len() as u16);
        Ok(())
    }

    fn add_indirect(&mut self, token: u32, chain: &[Buffer], table: Place<'_>) -> Result<(), RingError> {
        check_chain(chain)?;
        let bytes = chain.len() * Descriptor::BYTES;
        if table.len() < bytes {
            return Err(RingError::BadChain {
                reason: "its indirect table is too short",
            });
        }
        if self.free == 0 {
            return Err(RingError::NoDescriptors { wanted: 1, free: 0 });
        }
        for (at, buffer) in chain.iter().enumerate() {
            let flags = if buffer.writable { DESC_F_WRITE } else { 0 };
            table.set_u64(at * Descriptor::BYTES, buffer.addr);
            table.set_u64(at * Descriptor::BYTES + 8, word(buffer.len, 0, flags));
        }
        let id = self.next_id();
        self.write(table.guest_address(), bytes as u32, id, DESC_F_INDIRECT);
        self.take_up(id, token, writable_bytes(chain), 1);
        Ok(())
    }

    #[inline]
    fn publish(&mut self) -> u16 {
        let Some((at, rest)) = self.first.take() else { return 0 };
        publish(&self.parts.word(at), rest);
        let chains = self.next_order.wrapping_sub(self.published);
        self.published = self.next_order;
        // where it ends at the first again it goes once around
        let added = match self.avail.at.checked_sub(at) {
            Some(added) if added > 0 => added,
            _ => self.avail.at + (self.parts.layout.size - at),
        };
        self.moved = self.moved.saturating_add(u32::from(added));
        chains as u16
    }

    #[inline]
    fn reap(&mut self, into: &mut [Done]) -> Result<usize, RingError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let mut at = 0;
        while at < into.len() {
            let before = at;
            at += self.reap_batch(&mut into[at..]);
            at += self.reap_plain(&mut into[at..]);
            if at > before {
                continue;
            }
            match self.settle() {
                Ok(Some(settled)) => {
                    into[at] = settled;
                    at += 1;
                }
                Ok(None) if self.batch.is_some() => {}
                Ok(None) => break,
                Err(error) if at == 0 => return Err(error),
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            }
        }
        self.behind = at == into.len();
        Ok(at)
    }

    fn needs_kick(&mut self) -> bool {
        let moved = std::mem::take(&mut self.moved);
        let flags = published_then_wish(full_fence, &At::of(&self.parts.device_event, 1));
        let wish = consume(&At::of(&self.parts.device_event, 0));
        wants_event(wish, flags, self.avail, moved, self.parts.layout.size)
    }

    fn refuse_calls(&mut self) {
        wish_then_look(&At::of(&self.parts.driver_event, 1), EVENT_DISABLE, full_fence, || ());
    }

    fn ask_for_call(&mut self) -> bool {
        if self.batch.is_some() || self.error.is_some() {
            return true;
        }
        let look = || consume(&self.parts.word(self.used.at));
        let event = At::of(&self.parts.driver_event, 1);
        let seen = if self.options.event_idx {
            At::of(&self.parts.driver_event, 0).store(self.used.to_bits(), Ordering::Relaxed);
            full_fence();
            wish_then_look(&event, EVENT_DESC, full_fence, look)
        } else {
            wish_then_look(&event, EVENT_ENABLE, full_fence, look)
        };
        self.used.is_used(flags_of(seen))
    }
}
