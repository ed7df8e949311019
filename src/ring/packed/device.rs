//! The device's side of a packed ring, chain by chain, which survives whatever the driver writes.

use std::sync::atomic::{Ordering, fence};

use crate::memory::GuestAccess;
use crate::ring::split::Descriptor;
use crate::ring::split::device::{CHAIN_BYTES_MAX, indirect_count, read_descriptor};
use crate::ring::{Chain, PackedLayout, RingError};

use super::{
    DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, EVENT_DESC, EVENT_DISABLE, EVENT_ENABLE, Position, base, positions,
    wants_event,
};

/// A chain that was taken, and the descriptors it takes in the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedChain {
    /// The chain; its `head` is the buffer id.
    pub chain: Chain,
    /// Descriptors of the ring.
    pub descriptors: u16,
}

/// A descriptor as it stands in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InRing {
    /// The buffer's address.
    pub addr: u64,
    /// Its bytes.
    pub len: u32,
    /// The buffer id.
    pub id: u16,
    /// The flags.
    pub flags: u16,
}

impl InRing {
    fn of(raw: &Descriptor) -> Self {
        Self {
            addr: raw.addr,
            len: raw.len,
            id: raw.flags,
            flags: raw.next,
        }
    }
}

/// The device's side of a packed ring.
#[derive(Debug, Clone)]
pub struct PackedDevice {
    layout: PackedLayout,
    avail: Position,
    used: Position,
    taken: u16,
    /// Descriptors used since the question of a call was last answered; none after a start.
    moved: Option<u32>,
    event_idx: bool,
}

impl PackedDevice {
    /// A device that goes on where `base` says, as SET_VRING_BASE carries it; checks that the ring is in memory.
    pub fn start(layout: PackedLayout, base: u32, mem: &dyn GuestAccess) -> Result<Self, RingError> {
        layout.check(mem)?;
        let (avail, used) = positions(base);
        let wrong = [avail.at, used.at].into_iter().find(|at| *at >= layout.size);
        if let Some(at) = wrong {
            return Err(RingError::BaseOutOfRange { at, size: layout.size });
        }
        Ok(Self {
            layout,
            avail,
            used,
            taken: 0,
            moved: None,
            event_idx: false,
        })
    }

    /// The layout.
    #[must_use]
    pub fn layout(&self) -> &PackedLayout {
        &self.layout
    }

    /// Where the ring stands, as GET_VRING_BASE answers it.
    #[must_use]
    pub fn base(&self) -> u32 {
        base(self.avail, self.used)
    }

    /// Chains taken and not yet returned.
    #[must_use]
    pub fn taken(&self) -> u16 {
        self.taken
    }

    /// Turns VIRTIO_RING_F_EVENT_IDX on or off; off at first.
    pub fn set_event_idx(&mut self, on: bool) {
        self.event_idx = on;
    }

    /// Whether VIRTIO_RING_F_EVENT_IDX is on.
    #[must_use]
    pub fn event_idx(&self) -> bool {
        self.event_idx
    }

    /// Whether a chain is available.
    pub fn is_available(&self, mem: &dyn GuestAccess) -> Result<bool, RingError> {
        let flags = mem.load_u16(self.layout.slot(self.avail.at) + 14, Ordering::Acquire)?;
        Ok(self.avail.is_avail(flags))
    }

    /// Where the next descriptor is taken, and where the next is used.
    #[must_use]
    pub fn stands(&self) -> (Position, Position) {
        (self.avail, self.used)
    }

    /// Goes on somewhere else: at `used`, with so many descriptors behind it that were taken and not returned.
    pub fn go_on(&mut self, used: Position, taken: u16) -> Result<(), RingError> {
        let size = self.layout.size;
        if used.at >= size || taken > size {
            return Err(RingError::BaseOutOfRange { at: used.at, size });
        }
        (self.avail, self.used) = (used.advanced(taken, size), used);
        Ok(())
    }

    /// Takes the next available chain, if there is one. A chain that is wrong in itself is skipped and never returned.
    pub fn pop(&mut self, mem: &dyn GuestAccess) -> Result<Option<PackedChain>, RingError> {
        self.pop_noting(mem, &mut |_| {})
    }

    /// The same for somebody who keeps the descriptors, as they stand in the ring.
    pub fn pop_noting(
        &mut self,
        mem: &dyn GuestAccess,
        note: &mut dyn FnMut(InRing),
    ) -> Result<Option<PackedChain>, RingError> {
        if !self.is_available(mem)? {
            return Ok(None);
        }
        let (size, head) = (self.layout.size, self.avail.at);
        let mut collect = Collect::new(head);
        let mut result = Ok(());
        for descriptors in 1..=size {
            let index = self.avail.at;
            let raw = read_descriptor(mem, self.layout.slot(index))?;
            let (id, flags) = (raw.flags, raw.next);
            note(InRing::of(&raw));
            self.avail = self.avail.advanced(1, size);
            if result.is_ok() {
                result = collect.follow(mem, index, &raw, size);
            }
            if flags & DESC_F_NEXT == 0 {
                result?;
                self.taken = self.taken.saturating_add(1);
                collect.chain.head = id;
                return Ok(Some(PackedChain {
                    chain: collect.chain,
                    descriptors,
                }));
            }
        }
        Err(RingError::Loop {
            head,
            limit: u32::from(size),
        })
    }

    /// Puts the chain that was taken last, of so many descriptors, back, as if it had never been taken.
    pub fn undo_pop(&mut self, descriptors: u16) -> Result<(), RingError> {
        self.taken = self.taken.checked_sub(1).ok_or(RingError::NothingTaken {
            what: "put a chain back",
        })?;
        self.avail = self.avail.back(descriptors, self.layout.size);
        Ok(())
    }

    /// Takes a chain of an earlier life again, of which an inflight area has kept the descriptors.
    pub fn resubmit(&mut self, mem: &dyn GuestAccess, descriptors: &[InRing]) -> Result<PackedChain, RingError> {
        let mut collect = Collect::new(0);
        for (index, kept) in descriptors.iter().enumerate() {
            let raw = Descriptor {
                addr: kept.addr,
                len: kept.len,
                flags: kept.id,
                next: kept.flags,
            };
            collect.chain.head = kept.id;
            collect.follow(mem, index as u16, &raw, self.layout.size)?;
        }
        self.taken = self.taken.saturating_add(1);
        Ok(PackedChain {
            chain: collect.chain,
            descriptors: descriptors.len() as u16,
        })
    }

    /// A chain that was taken again is not carried out now after all.
    pub fn undo_resubmit(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }

    /// Returns several chains at once, each (id, descriptors, bytes written): the first one's flags are written last, and with
    /// this one store the driver sees all of them.
    pub fn push_all(&mut self, mem: &dyn GuestAccess, chains: &[(u16, u16, u32)]) -> Result<(), RingError> {
        let mut at = self.used;
        let mut flags = Vec::with_capacity(chains.len());
        for (id, descriptors, len) in chains {
            flags.push(self.write_used(mem, at, *id, *len)?);
            at = at.advanced(*descriptors, self.layout.size);
        }
        for (slot, flags) in flags.into_iter().rev() {
            mem.store_u16(slot, flags, Ordering::Release)?;
        }
        let descriptors = chains.iter().map(|(_, descriptors, _)| u32::from(*descriptors)).sum();
        self.used = at;
        self.taken = self.taken.saturating_sub(chains.len() as u16);
        self.moved = self.moved.map(|moved| moved.saturating_add(descriptors));
        Ok(())
    }

    /// Whether the slot at `place` is what a driver has made available there, and nobody has returned.
    pub fn is_untouched(&self, mem: &dyn GuestAccess, place: Position) -> Result<bool, RingError> {
        let flags = mem.load_u16(self.layout.slot(place.at) + 14, Ordering::Acquire)?;
        Ok(place.is_avail(flags))
    }

    /// Takes back what a predecessor has written of a batch that the driver was never shown: in these slots nothing is used.
    pub fn take_back(&self, mem: &dyn GuestAccess, from: Position, to: Position) -> Result<(), RingError> {
        let size = self.layout.size;
        let mut place = from;
        for _ in 0..size {
            if place == to {
                break;
            }
            let slot = self.layout.slot(place.at) + 14;
            if place.is_used(mem.load_u16(slot, Ordering::Acquire)?) {
                mem.store_u16(slot, place.avail_flags(), Ordering::Release)?;
            }
            place = place.advanced(1, size);
        }
        Ok(())
    }

    /// Writes a used descriptor but for its flags, which are to be written there.
    fn write_used(&self, mem: &dyn GuestAccess, at: Position, id: u16, len: u32) -> Result<(u64, u16), RingError> {
        let slot = self.layout.slot(at.at);
        let mut raw = [0; 6];
        raw[..4].copy_from_slice(&len.to_le_bytes());
        raw[4..].copy_from_slice(&id.to_le_bytes());
        mem.write(slot + 8, &raw)?;
        let written = if len > 0 { DESC_F_WRITE } else { 0 };
        Ok((slot + 14, at.used_flags() | written))
    }

    /// Returns a chain with the bytes written to it.
    pub fn push(&mut self, mem: &dyn GuestAccess, id: u16, descriptors: u16, len: u32) -> Result<(), RingError> {
        self.push_batch(mem, id, descriptors, len, 1)
    }

    /// With IN_ORDER: returns so many chains, of so many descriptors in all, by the last of them alone (2.8.8).
    pub fn push_batch(
        &mut self,
        mem: &dyn GuestAccess,
        id: u16,
        descriptors: u16,
        len: u32,
        chains: u16,
    ) -> Result<(), RingError> {
        let (flags_at, flags) = self.write_used(mem, self.used, id, len)?;
        mem.store_u16(flags_at, flags, Ordering::Release)?;
        self.used = self.used.advanced(descriptors, self.layout.size);
        self.taken = self.taken.saturating_sub(chains);
        self.moved = self.moved.map(|moved| moved.saturating_add(u32::from(descriptors)));
        Ok(())
    }

    /// Whether the driver wants a call for what was returned since this was last asked.
    pub fn needs_call(&mut self, mem: &dyn GuestAccess) -> Result<bool, RingError> {
        fence(Ordering::SeqCst);
        let moved = self.moved.replace(0);
        if moved == Some(0) {
            return Ok(false);
        }
        let flags = mem.load_u16(self.layout.driver_event + 2, Ordering::Acquire)?;
        let wish = mem.load_u16(self.layout.driver_event, Ordering::Acquire)?;
        let moved = moved.unwrap_or(u32::MAX);
        Ok(wants_event(wish, flags, self.used, moved, self.layout.size))
    }

    /// Asks for no kicks, or for all.
    pub fn set_no_notify(&self, mem: &dyn GuestAccess, on: bool) -> Result<(), RingError> {
        let flags = if on { EVENT_DISABLE } else { EVENT_ENABLE };
        mem.store_u16(self.layout.device_event + 2, flags, Ordering::SeqCst)?;
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// With EVENT_IDX: asks for a kick when the next chain is made available. Look for chains once more afterwards.
    pub fn ask_for_kick(&self, mem: &dyn GuestAccess) -> Result<(), RingError> {
        mem.store_u16(self.layout.device_event, self.avail.to_bits(), Ordering::SeqCst)?;
        mem.store_u16(self.layout.device_event + 2, EVENT_DESC, Ordering::SeqCst)?;
        fence(Ordering::SeqCst);
        Ok(())
    }
}

/// A chain while its descriptors are followed.
struct Collect {
    chain: Chain,
    head: u16,
    bytes: u64,
}

impl Collect {
    fn new(head: u16) -> Self {
        Self {
            chain: Chain::default(),
            head,
            bytes: 0,
        }
    }

    /// The next descriptor of the ring, which may be a table.
    fn follow(&mut self, mem: &dyn GuestAccess, index: u16, raw: &Descriptor, size: u16) -> Result<(), RingError> {
        // id and flags stand where a split ring's descriptor has flags and next
        let flags = raw.next;
        match flags & DESC_F_INDIRECT {
            0 => self.take(index, raw, flags),
            _ => {
                let table = Descriptor { flags, next: 0, ..*raw };
                self.table(mem, &table, size)
            }
        }
    }

    fn table(&mut self, mem: &dyn GuestAccess, table: &Descriptor, size: u16) -> Result<(), RingError> {
        let head = self.head;
        for index in 0..indirect_count(table, head, size)? {
            let at = table.addr.checked_add(16 * u64::from(index));
            let raw = read_descriptor(mem, at.ok_or(RingError::ChainTooLong { head })?)?;
            if raw.next & DESC_F_INDIRECT != 0 {
                return Err(RingError::IndirectFlags {
                    head,
                    what: "an indirect descriptor in its table",
                });
            }
            self.take(index as u16, &raw, raw.next)?;
        }
        Ok(())
    }

    fn take(&mut self, index: u16, desc: &Descriptor, flags: u16) -> Result<(), RingError> {
        let head = self.head;
        self.bytes += u64::from(desc.len);
        if self.bytes > CHAIN_BYTES_MAX || desc.addr.checked_add(u64::from(desc.len)).is_none() {
            return Err(RingError::ChainTooLong { head });
        }
        if flags & DESC_F_WRITE != 0 {
            self.chain.writable.push((desc.addr, desc.len));
        } else if self.chain.writable.is_empty() {
            self.chain.readable.push((desc.addr, desc.len));
        } else {
            return Err(RingError::ReadableAfterWritable { head, index });
        }
        Ok(())
    }
}
