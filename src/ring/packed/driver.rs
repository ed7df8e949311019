//! The driver's side of a packed ring, chain by chain, which is also the judge of what the device returns.

use std::collections::VecDeque;
use std::sync::atomic::{Ordering, fence};

use crate::memory::GuestAccess;
use crate::ring::split::{Descriptor, driver::check_chain};
use crate::ring::{Buffer, HeadIndex, PackedLayout, RingError, Used};

use super::{
    DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, EVENT_DESC, EVENT_DISABLE, EVENT_ENABLE, Position, positions,
    wants_event,
};

/// What a buffer id is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free {
        returned: bool,
    },
    Out {
        descriptors: u16,
        writable: u64,
        published: bool,
    },
}

/// The driver's side of a packed ring. A chain is called by its buffer id.
#[derive(Debug, Clone)]
pub struct PackedDriver {
    layout: PackedLayout,
    avail: Position,
    used: Position,
    slots: Vec<Slot>,
    /// First in, first out, so that a chain returned twice is noticed.
    ids: VecDeque<u16>,
    free: u16,
    /// Chains added and not yet published: id, where the first descriptor stands, and its flags, which are written last.
    pending: Vec<(u16, u16, u16)>,
    outstanding: u16,
    /// Descriptors added, and published since the question of a kick was last answered.
    added: u32,
    moved: u32,
    event_idx: bool,
    in_order: bool,
    /// Ids published and not yet returned, in order.
    order: VecDeque<u16>,
    /// With IN_ORDER: the last chain of a batch that is being worked off, and its length.
    batch: Option<(u16, u32)>,
}

impl PackedDriver {
    /// A driver that begins where `base` says, as SET_VRING_BASE carries it.
    pub fn with_base(layout: PackedLayout, base: u32) -> Result<Self, RingError> {
        layout.validate()?;
        let (avail, _) = positions(base);
        if avail.at >= layout.size {
            return Err(RingError::BaseOutOfRange {
                at: avail.at,
                size: layout.size,
            });
        }
        Ok(Self {
            layout,
            avail,
            used: avail,
            slots: vec![Slot::Free { returned: false }; usize::from(layout.size)],
            ids: (0..layout.size).collect(),
            free: layout.size,
            pending: Vec::new(),
            outstanding: 0,
            added: 0,
            moved: 0,
            event_idx: false,
            in_order: false,
            order: VecDeque::new(),
            batch: None,
        })
    }

    /// Checks that the ring is in memory and writes it as if all before the place where it begins had been used.
    pub fn init(&mut self, mem: &dyn GuestAccess) -> Result<(), RingError> {
        self.layout.check(mem)?;
        for at in 0..self.layout.size {
            let lap = Position {
                at,
                wrap: self.avail.wrap == (at < self.avail.at),
            };
            let desc = descriptor(0, 0, 0, lap.used_flags());
            mem.write(self.layout.slot(at), &desc.to_bytes())?;
        }
        for event in [self.layout.driver_event, self.layout.device_event] {
            mem.write(event, &[0; 4])?;
        }
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// The layout.
    #[must_use]
    pub fn layout(&self) -> &PackedLayout {
        &self.layout
    }

    /// Turns VIRTIO_RING_F_EVENT_IDX on or off; off at first.
    pub fn set_event_idx(&mut self, on: bool) {
        self.event_idx = on;
    }

    /// Turns VIRTIO_F_IN_ORDER on or off; off at first. With it a used descriptor returns all chains up to the one that it names.
    pub fn set_in_order(&mut self, on: bool) {
        self.in_order = on;
    }

    /// Descriptors that are free.
    #[must_use]
    pub fn free_descriptors(&self) -> u16 {
        self.free
    }

    /// Chains published and not yet returned.
    #[must_use]
    pub fn outstanding(&self) -> u16 {
        self.outstanding
    }

    /// Where the next descriptor is made available, and where the next is used.
    #[must_use]
    pub fn stands(&self) -> (Position, Position) {
        (self.avail, self.used)
    }

    /// Writes a chain to the ring; the device sees it after [`Self::publish`].
    pub fn add(&mut self, mem: &dyn GuestAccess, chain: &[Buffer]) -> Result<HeadIndex, RingError> {
        check_chain(chain)?;
        let id = self.room(chain.len())?;
        let descs = chain.iter().enumerate().map(|(at, buffer)| {
            let next = if at + 1 < chain.len() { DESC_F_NEXT } else { 0 };
            let write = if buffer.writable { DESC_F_WRITE } else { 0 };
            (buffer.addr, buffer.len, next | write)
        });
        self.put(mem, id, &descs.collect::<Vec<_>>(), writable_bytes(chain))
    }

    /// Writes a chain to an indirect table at `table` (16 bytes a buffer); one descriptor of the ring is used.
    pub fn add_indirect(
        &mut self,
        mem: &dyn GuestAccess,
        chain: &[Buffer],
        table: u64,
    ) -> Result<HeadIndex, RingError> {
        check_chain(chain)?;
        let id = self.room(1)?;
        let mut bytes = Vec::with_capacity(chain.len() * Descriptor::BYTES);
        for buffer in chain {
            let flags = if buffer.writable { DESC_F_WRITE } else { 0 };
            bytes.extend_from_slice(&descriptor(buffer.addr, buffer.len, 0, flags).to_bytes());
        }
        mem.write(table, &bytes)?;
        let head = (table, bytes.len() as u32, DESC_F_INDIRECT);
        self.put(mem, id, &[head], writable_bytes(chain))
    }

    fn room(&self, wanted: usize) -> Result<u16, RingError> {
        let free = usize::from(self.free);
        match self.ids.front() {
            Some(id) if wanted <= free => Ok(*id),
            _ => Err(RingError::NoDescriptors { wanted, free }),
        }
    }

    fn put(
        &mut self,
        mem: &dyn GuestAccess,
        id: u16,
        descs: &[(u64, u32, u16)],
        writable: u64,
    ) -> Result<HeadIndex, RingError> {
        let mut at = self.avail;
        for (nth, (addr, len, flags)) in descs.iter().enumerate() {
            let flags = flags | at.avail_flags();
            if nth == 0 {
                // all but the flags, which still say "used"
                let bytes = descriptor(*addr, *len, id, 0).to_bytes();
                mem.write(self.layout.slot(at.at), &bytes[..14])?;
            } else {
                mem.write(self.layout.slot(at.at), &descriptor(*addr, *len, id, flags).to_bytes())?;
            }
            at = at.advanced(1, self.layout.size);
        }
        let first = descs
            .first()
            .map_or(0, |(_, _, flags)| flags | self.avail.avail_flags());
        self.pending.push((id, self.avail.at, first));
        self.avail = at;
        self.ids.pop_front();
        let descriptors = descs.len() as u16;
        self.free -= descriptors;
        self.added += u32::from(descriptors);
        self.slots[usize::from(id)] = Slot::Out {
            descriptors,
            writable,
            published: false,
        };
        Ok(HeadIndex(id))
    }

    /// Makes all added chains available, the first of them last, so that the device sees all at once.
    pub fn publish(&mut self, mem: &dyn GuestAccess) -> Result<(), RingError> {
        for (_, at, flags) in self.pending.iter().rev() {
            mem.store_u16(self.layout.slot(*at) + 14, *flags, Ordering::Release)?;
        }
        for (id, _, _) in std::mem::take(&mut self.pending) {
            self.outstanding += 1;
            if let Slot::Out { published, .. } = &mut self.slots[usize::from(id)] {
                *published = true;
            }
            self.order.push_back(id);
        }
        self.moved = self.moved.saturating_add(std::mem::take(&mut self.added));
        Ok(())
    }

    /// Takes the next chain the device has returned, if there is one, and frees its descriptors.
    ///
    /// Every error but [`RingError::NoneOutstanding`] is about one descriptor, which is then behind us.
    pub fn poll_used(&mut self, mem: &dyn GuestAccess) -> Result<Option<Used>, RingError> {
        if let Some((last, len)) = self.batch {
            return Ok(self.next_of_batch(last, len));
        }
        let slot = self.layout.slot(self.used.at);
        let flags = mem.load_u16(slot + 14, Ordering::Acquire)?;
        if !self.used.is_used(flags) {
            return Ok(None);
        }
        let (len, id) = (mem.read_u32(slot + 8)?, mem.read_u16(slot + 12)?);
        if self.outstanding == 0 {
            return Err(RingError::NoneOutstanding { at: self.used.at, id });
        }
        self.outstanding -= 1;
        let state = self.slots.get(usize::from(id)).copied();
        let (error, step) = match state {
            Some(Slot::Out {
                descriptors,
                writable,
                published: true,
            }) => {
                // without WRITE the length means nothing, and DPDK leaves there what was; QEMU writes it and never sets WRITE
                let len = if flags & DESC_F_WRITE != 0 || writable > 0 {
                    len
                } else {
                    0
                };
                let too_long = u64::from(len) > writable;
                let place = self.order.iter().position(|other| *other == id).unwrap_or(0);
                if self.in_order && place > 0 && !too_long {
                    self.outstanding += 1;
                    self.batch = Some((id, len));
                    return Ok(self.next_of_batch(id, len));
                }
                self.order.remove(place);
                self.slots[usize::from(id)] = Slot::Free { returned: true };
                self.ids.push_back(id);
                self.free += descriptors;
                self.used = self.used.advanced(descriptors, self.layout.size);
                let head = HeadIndex(id);
                if too_long {
                    return Err(RingError::UsedTooLong {
                        head: id,
                        len,
                        writable,
                    });
                }
                return Ok(Some(Used { head, len }));
            }
            Some(Slot::Out { published: false, .. }) => (RingError::NotPublished { head: id }, 1),
            Some(Slot::Free { returned: true }) => (RingError::ReturnedTwice { head: id }, 1),
            _ => (RingError::UnknownHead { id: u32::from(id) }, 1),
        };
        self.used = self.used.advanced(step, self.layout.size);
        Err(error)
    }

    /// The next chain of a batch: those before its last one have no used descriptor, and all of them was written.
    fn next_of_batch(&mut self, last: u16, len: u32) -> Option<Used> {
        let id = self.order.pop_front()?;
        self.outstanding -= 1;
        let Some(Slot::Out {
            descriptors, writable, ..
        }) = self.slots.get(usize::from(id)).copied()
        else {
            return None;
        };
        self.slots[usize::from(id)] = Slot::Free { returned: true };
        self.ids.push_back(id);
        self.free += descriptors;
        self.used = self.used.advanced(descriptors, self.layout.size);
        let is_last = id == last;
        if is_last {
            self.batch = None;
        }
        // the ring has chains of no more than 2^32 bytes
        let len = if is_last { len } else { writable as u32 };
        Some(Used {
            head: HeadIndex(id),
            len,
        })
    }

    /// Whether the device wants a kick for what was published since this was last asked.
    pub fn needs_kick(&mut self, mem: &dyn GuestAccess) -> Result<bool, RingError> {
        fence(Ordering::SeqCst);
        let moved = std::mem::take(&mut self.moved);
        let flags = mem.load_u16(self.layout.device_event + 2, Ordering::Acquire)?;
        let wish = mem.load_u16(self.layout.device_event, Ordering::Acquire)?;
        Ok(wants_event(wish, flags, self.avail, moved, self.layout.size))
    }

    /// Asks for no calls, or for all.
    pub fn set_no_interrupt(&self, mem: &dyn GuestAccess, on: bool) -> Result<(), RingError> {
        let flags = if on { EVENT_DISABLE } else { EVENT_ENABLE };
        mem.store_u16(self.layout.driver_event + 2, flags, Ordering::SeqCst)?;
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Asks for a call when the next chain is returned. Poll once more afterwards.
    pub fn ask_for_call(&self, mem: &dyn GuestAccess) -> Result<(), RingError> {
        if !self.event_idx {
            return self.set_no_interrupt(mem, false);
        }
        mem.store_u16(self.layout.driver_event, self.used.to_bits(), Ordering::SeqCst)?;
        mem.store_u16(self.layout.driver_event + 2, EVENT_DESC, Ordering::SeqCst)?;
        fence(Ordering::SeqCst);
        Ok(())
    }
}

/// A descriptor of a packed ring: id and flags stand where a split ring's has flags and next.
fn descriptor(addr: u64, len: u32, id: u16, flags: u16) -> Descriptor {
    Descriptor {
        addr,
        len,
        flags: id,
        next: flags,
    }
}

fn writable_bytes(chain: &[Buffer]) -> u64 {
    let writable = chain.iter().filter(|buffer| buffer.writable);
    writable.map(|buffer| u64::from(buffer.len)).sum()
}
