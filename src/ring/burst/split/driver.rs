//! The driver's side of a split ring, a burst at a time.

use std::sync::atomic::Ordering;

use crate::memory::Reach;
use crate::ring::split::{AVAIL_F_NO_INTERRUPT, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, USED_F_NO_NOTIFY};
use crate::ring::split::{Descriptor, driver::check_chain, event_passed};
use crate::ring::{Buffer, RingError, SplitLayout};
use crate::sys::shared::Place;

use super::super::at::full_fence;
use super::super::publish::{consume, publish, published_then_wish, wish_then_look};
use super::super::{Done, DriverRing, RingOptions, writable_bytes};
use super::{Parts, word};

/// What a descriptor is doing. As a head it stands for its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Free,
    /// Free, and was the head that was returned last in this place.
    Returned,
    Body,
    Head,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    token: u32,
    /// Writable bytes of the chain, or the largest length an element can name.
    writable: u32,
    /// The running number of the chain, whose low half is the index at which it was made available.
    order: u32,
    descriptors: u16,
    /// Where the chain continues; the driver's own, which the device cannot change.
    next: u16,
    state: State,
}

/// The driver's side of a split ring.
#[derive(Debug)]
pub struct SplitDriver {
    parts: Parts,
    options: RingOptions,
    slots: Vec<Slot>,
    /// What the descriptor table holds, so that it is written only where it changes.
    written: Vec<(u64, u64)>,
    /// What the available ring holds; likewise.
    heads: Vec<u16>,
    /// Free descriptors, first in, first out, from `free_at` on: a chain that is returned twice is noticed, and with a device
    /// that keeps the order the table never changes.
    free: Vec<u16>,
    free_at: u16,
    free_count: u16,
    /// Running numbers: of the next chain to add, to publish (avail.idx is its low half), to be returned (used.idx).
    added: u32,
    published: u32,
    returned: u32,
    /// used.idx as it was last read.
    used_seen: u16,
    /// With IN_ORDER: a batch that is being worked off ends before this number, and its last chain has this length.
    batch: Option<(u32, u32)>,
    kicked_at: u16,
    /// Met behind chains that were right, and told at the next call.
    error: Option<RingError>,
}

impl SplitDriver {
    /// A driver whose indices begin at `base`. Memory is written by [`Self::init`] and later.
    pub fn new(layout: SplitLayout, base: u16, reach: &Reach, options: RingOptions) -> Result<Self, RingError> {
        let parts = Parts::new(layout, reach)?;
        let size = usize::from(layout.size);
        let written = (0..layout.size).map(|index| parts.descriptor(index)).collect();
        let heads = (0..layout.size).map(|index| parts.head(index)).collect();
        Ok(Self {
            parts,
            options,
            slots: vec![Slot::default(); size],
            written,
            heads,
            free: (0..layout.size).collect(),
            free_at: 0,
            free_count: layout.size,
            added: u32::from(base),
            published: u32::from(base),
            returned: u32::from(base),
            used_seen: base,
            batch: None,
            kicked_at: base,
            error: None,
        })
    }

    /// Zeroes the ring, indices excepted, as before it is given to a device for the first time.
    pub fn init(&mut self) {
        for index in 0..self.parts.layout.size {
            self.write_descriptor(index, 0, 0);
            self.parts.avail.store(2 + usize::from(index), 0, Ordering::Relaxed);
            self.heads[usize::from(index)] = 0;
            self.parts.elements.store(2 * usize::from(index), 0, Ordering::Relaxed);
            self.parts
                .elements
                .store(2 * usize::from(index) + 1, 0, Ordering::Relaxed);
        }
        self.parts.used.store(0, 0, Ordering::Relaxed);
        self.parts.used.store(1, self.used_idx(), Ordering::Relaxed);
        self.parts.avail_event.store(0, 0, Ordering::Relaxed);
        self.parts.avail.store(0, 0, Ordering::Relaxed);
        self.parts
            .avail
            .store(2 + usize::from(self.parts.layout.size), 0, Ordering::Relaxed);
        publish(&self.parts.avail_idx(), self.avail_idx());
    }

    /// The layout.
    #[must_use]
    pub fn layout(&self) -> &SplitLayout {
        &self.parts.layout
    }

    /// used.idx as far as it was worked off.
    #[must_use]
    pub fn used_idx(&self) -> u16 {
        self.returned as u16
    }

    /// avail.idx as published.
    #[must_use]
    pub fn avail_idx(&self) -> u16 {
        self.published as u16
    }

    fn out(&self) -> u32 {
        self.published.wrapping_sub(self.returned)
    }

    #[inline(always)]
    fn write_descriptor(&mut self, index: u16, addr: u64, rest: u64) {
        let at = usize::from(index);
        let written = &mut self.written[at];
        if written.0 != addr {
            self.parts.desc.store(2 * at, addr, Ordering::Relaxed);
        }
        if written.1 != rest {
            self.parts.desc.store(2 * at + 1, rest, Ordering::Relaxed);
        }
        *written = (addr, rest);
    }

    #[inline(always)]
    fn next_free(&mut self) -> u16 {
        let index = self.free[usize::from(self.free_at & self.parts.mask)];
        self.free_at = self.free_at.wrapping_add(1);
        self.free_count -= 1;
        index
    }

    /// Puts a chain whose descriptors are written into the available ring.
    #[inline(always)]
    fn take_up(&mut self, head: u16, token: u32, writable: u32, descriptors: u16) {
        let slot = &mut self.slots[usize::from(head)];
        slot.token = token;
        slot.writable = writable;
        slot.order = self.added;
        slot.descriptors = descriptors;
        slot.state = State::Head;
        let at = self.parts.slot(self.added as u16);
        if self.heads[at] != head {
            self.heads[at] = head;
            self.parts.avail.store(2 + at, head, Ordering::Relaxed);
        }
        self.added = self.added.wrapping_add(1);
    }

    #[inline(always)]
    fn release(&mut self, head: u16) {
        let mut index = head;
        for _ in 0..self.slots[usize::from(head)].descriptors {
            let slot = &mut self.slots[usize::from(index)];
            slot.state = if index == head { State::Returned } else { State::Free };
            let at = self.free_at.wrapping_add(self.free_count) & self.parts.mask;
            self.free[usize::from(at)] = index;
            self.free_count += 1;
            index = slot.next;
        }
    }

    /// The chain that used.idx stands at. The index was seen to be ahead.
    #[inline(always)]
    fn settle(&mut self) -> Result<Done, RingError> {
        let at = 2 * self.parts.slot(self.used_idx());
        if let Some((end, len)) = self.batch {
            return Ok(self.settle_batched(end, len));
        }
        let id = self.parts.elements.load(at, Ordering::Relaxed);
        let len = self.parts.elements.load(at + 1, Ordering::Relaxed);
        let slot = match self.slots.get(id as usize) {
            Some(slot) => *slot,
            None => return Err(self.wrong(RingError::UnknownHead { id })),
        };
        let head = id as u16;
        let unpublished = slot.order.wrapping_sub(self.published) < self.added.wrapping_sub(self.published);
        if slot.state != State::Head || unpublished {
            return Err(self.wrong(match slot.state {
                State::Head => RingError::NotPublished { head },
                State::Returned => RingError::ReturnedTwice { head },
                State::Free | State::Body => RingError::UnknownHead { id },
            }));
        }
        if self.options.in_order && slot.order != self.returned {
            return self.begin_batch(head, slot.order, len);
        }
        self.returned = self.returned.wrapping_add(1);
        self.release(head);
        if len > slot.writable {
            let writable = u64::from(slot.writable);
            return Err(RingError::UsedTooLong { head, len, writable });
        }
        Ok(Done { token: slot.token, len })
    }

    /// Even a wrong element uses up a return, else a device that repeats itself could go on for ever.
    #[cold]
    fn wrong(&mut self, error: RingError) -> RingError {
        self.returned = self.returned.wrapping_add(1);
        error
    }

    /// An element that names a later chain of the order returns all before it too, and has used that many places.
    fn begin_batch(&mut self, head: u16, order: u32, len: u32) -> Result<Done, RingError> {
        let ahead = self.used_seen.wrapping_sub(self.used_idx());
        if order.wrapping_sub(self.returned) >= u32::from(ahead) {
            return Err(self.wrong(RingError::OutOfOrder { head }));
        }
        let writable = self.slots[usize::from(head)].writable;
        if len > writable {
            let writable = u64::from(writable);
            return Err(self.wrong(RingError::UsedTooLong { head, len, writable }));
        }
        let end = order.wrapping_add(1);
        self.batch = Some((end, len));
        Ok(self.settle_batched(end, len))
    }

    /// With the order kept, what stands in the available ring at an index is what is returned at that index.
    fn settle_batched(&mut self, end: u32, len: u32) -> Done {
        let head = self.heads[self.parts.slot(self.used_idx())];
        let Slot { token, writable, .. } = self.slots[usize::from(head)];
        self.returned = self.returned.wrapping_add(1);
        self.release(head);
        let is_last = self.returned == end;
        if is_last {
            self.batch = None;
        }
        let len = if is_last { len } else { writable };
        Done { token, len }
    }

    /// Reads used.idx; gives how far it is ahead.
    #[inline(always)]
    fn look(&mut self) -> Result<u16, RingError> {
        let to = consume(&self.parts.used_idx());
        let ahead = to.wrapping_sub(self.used_idx());
        if u32::from(ahead) > self.out() {
            return Err(RingError::UsedJumped {
                from: self.used_idx(),
                to,
                outstanding: self.out() as u16,
            });
        }
        self.used_seen = to;
        Ok(ahead)
    }
}

impl DriverRing for SplitDriver {
    fn size(&self) -> u16 {
        self.parts.layout.size
    }

    fn free(&self) -> u16 {
        self.free_count
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
        while let Some((token, buffer)) = chains.next() {
            if self.free_count == 0 {
                return Err(RingError::NoDescriptors { wanted: 1, free: 0 });
            }
            let head = self.next_free();
            let (flags, writable) = match buffer.writable {
                true => (DESC_F_WRITE, buffer.len),
                false => (0, 0),
            };
            self.write_descriptor(head, buffer.addr, word(buffer.len, flags, 0));
            self.take_up(head, token, writable, 1);
        }
        Ok(())
    }

    fn add_chain(&mut self, token: u32, chain: &[Buffer]) -> Result<(), RingError> {
        check_chain(chain)?;
        let free = usize::from(self.free_count);
        if chain.len() > free {
            return Err(RingError::NoDescriptors {
                wanted: chain.len(),
                free,
            });
        }
        let head = self.free[usize::from(self.free_at & self.parts.mask)];
        for (at, buffer) in chain.iter().enumerate() {
            let index = self.next_free();
            let follows = at + 1 < chain.len();
            let next = if follows {
                self.free[usize::from(self.free_at & self.parts.mask)]
            } else {
                0
            };
            let flags = if buffer.writable { DESC_F_WRITE } else { 0 } | if follows { DESC_F_NEXT } else { 0 };
            self.write_descriptor(index, buffer.addr, word(buffer.len, flags, next));
            self.slots[usize::from(index)].state = State::Body;
            self.slots[usize::from(index)].next = next;
        }
        self.take_up(head, token, writable_bytes(chain), chain.len() as u16);
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
        if self.free_count == 0 {
            return Err(RingError::NoDescriptors { wanted: 1, free: 0 });
        }
        for (at, buffer) in chain.iter().enumerate() {
            let follows = at + 1 < chain.len();
            let flags = if buffer.writable { DESC_F_WRITE } else { 0 } | if follows { DESC_F_NEXT } else { 0 };
            let next = if follows { (at + 1) as u16 } else { 0 };
            table.set_u64(at * Descriptor::BYTES, buffer.addr);
            table.set_u64(at * Descriptor::BYTES + 8, word(buffer.len, flags, next));
        }
        let head = self.next_free();
        self.write_descriptor(head, table.guest_address(), word(bytes as u32, DESC_F_INDIRECT, 0));
        self.take_up(head, token, writable_bytes(chain), 1);
        Ok(())
    }

    #[inline]
    fn publish(&mut self) -> u16 {
        let count = self.added.wrapping_sub(self.published);
        if count > 0 {
            self.published = self.added;
            publish(&self.parts.avail_idx(), self.avail_idx());
        }
        count as u16
    }

    #[inline]
    fn reap(&mut self, into: &mut [Done]) -> Result<usize, RingError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let mut ahead = self.used_seen.wrapping_sub(self.used_idx());
        if usize::from(ahead) < into.len() {
            ahead = self.look()?;
        }
        let count = usize::from(ahead).min(into.len());
        for (at, done) in into[..count].iter_mut().enumerate() {
            match self.settle() {
                Ok(settled) => *done = settled,
                Err(error) if at == 0 => return Err(error),
                Err(error) => {
                    self.error = Some(error);
                    return Ok(at);
                }
            }
        }
        Ok(count)
    }

    fn needs_kick(&mut self) -> bool {
        let now = self.avail_idx();
        let old = std::mem::replace(&mut self.kicked_at, now);
        if self.options.event_idx {
            let event = published_then_wish(full_fence, &self.parts.avail_event());
            return event_passed(event, self.avail_idx(), old);
        }
        let flags = published_then_wish(full_fence, &self.parts.used_flags());
        old != self.avail_idx() && flags & USED_F_NO_NOTIFY == 0
    }

    fn refuse_calls(&mut self) {
        if self.options.event_idx {
            // the index that is farthest away: there is no "never", and one call in 65536 chains costs nothing
            let farthest = self.used_idx().wrapping_sub(1);
            wish_then_look(&self.parts.used_event(), farthest, full_fence, || ());
        } else {
            wish_then_look(&self.parts.avail_flags(), AVAIL_F_NO_INTERRUPT, full_fence, || ());
        }
    }

    fn ask_for_call(&mut self) -> bool {
        let look = || consume(&self.parts.used_idx());
        let used = if self.options.event_idx {
            wish_then_look(&self.parts.used_event(), self.used_idx(), full_fence, look)
        } else {
            wish_then_look(&self.parts.avail_flags(), 0, full_fence, look)
        };
        used != self.used_idx() || self.error.is_some()
    }
}
