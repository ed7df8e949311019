//! The driver's side of a split ring, which is also the judge of what the device returns.

use std::collections::VecDeque;
use std::sync::atomic::{Ordering, fence};

use crate::memory::GuestAccess;
use crate::ring::{QUEUE_SIZE_MAX, RingError, SplitLayout};

use super::{AVAIL_F_NO_INTERRUPT, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, Descriptor};
use super::{USED_F_NO_NOTIFY, event_passed};

/// A buffer of a chain to add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// Guest address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// Whether the device writes it.
    pub writable: bool,
}

impl Buffer {
    /// A buffer that the device reads.
    #[must_use]
    pub fn readable(addr: u64, len: u32) -> Self {
        Self {
            addr,
            len,
            writable: false,
        }
    }

    /// A buffer that the device writes.
    #[must_use]
    pub fn writable(addr: u64, len: u32) -> Self {
        Self {
            addr,
            len,
            writable: true,
        }
    }
}

/// The descriptor that begins a chain, which is the chain's name until the device returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeadIndex(pub u16);

/// A chain that the device has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// The chain.
    pub head: HeadIndex,
    /// Bytes the device says it has written.
    pub len: u32,
}

/// What a descriptor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free {
        returned: bool,
    },
    Body,
    Head {
        descriptors: u16,
        writable: u64,
        published: bool,
    },
}

/// The driver's side of a split ring.
#[derive(Debug, Clone)]
pub struct SplitDriver {
    layout: SplitLayout,
    slots: Vec<Slot>,
    /// Where each descriptor's chain continues; the driver's own copy, which the device cannot change.
    nexts: Vec<u16>,
    /// First in, first out: a descriptor rests as long as possible, so that a chain returned twice is noticed.
    free: VecDeque<u16>,
    /// Heads added and not yet published, in order.
    pending: Vec<u16>,
    avail_idx: u16,
    used_idx: u16,
    outstanding: u16,
    /// avail.idx when the question of a kick was last answered.
    kicked_at: u16,
    event_idx: bool,
    in_order: bool,
    /// Heads published and not yet returned, in order.
    order: VecDeque<u16>,
    /// With IN_ORDER: the last chain of a batch that is being worked off, and its length.
    batch: Option<(u16, u32)>,
}

impl SplitDriver {
    /// A driver of a fresh ring.
    pub fn new(layout: SplitLayout) -> Result<Self, RingError> {
        Self::with_base(layout, 0)
    }

    /// A driver whose indices begin at `base`, as after SET_VRING_BASE.
    pub fn with_base(layout: SplitLayout, base: u16) -> Result<Self, RingError> {
        layout.validate()?;
        let size = layout.size;
        Ok(Self {
            layout,
            slots: vec![Slot::Free { returned: false }; usize::from(size)],
            nexts: vec![0; usize::from(size)],
            free: (0..size).collect(),
            pending: Vec::new(),
            avail_idx: base,
            used_idx: base,
            outstanding: 0,
            kicked_at: base,
            event_idx: false,
            in_order: false,
            order: VecDeque::new(),
            batch: None,
        })
    }

    /// Checks that the ring is in memory and zeroes it, indices excepted.
    pub fn init(&mut self, mem: &dyn GuestAccess) -> Result<(), RingError> {
        self.layout.check(mem)?;
        let size = self.layout.size;
        zero(mem, self.layout.desc, SplitLayout::desc_bytes(size))?;
        zero(mem, self.layout.avail, SplitLayout::avail_bytes(size))?;
        zero(mem, self.layout.used, SplitLayout::used_bytes(size))?;
        mem.store_u16(self.layout.used_idx(), self.used_idx, Ordering::Relaxed)?;
        mem.store_u16(self.layout.avail_idx(), self.avail_idx, Ordering::Release)?;
        Ok(())
    }

    /// The layout.
    #[must_use]
    pub fn layout(&self) -> &SplitLayout {
        &self.layout
    }

    /// Turns VIRTIO_RING_F_EVENT_IDX on or off; off at first.
    pub fn set_event_idx(&mut self, on: bool) {
        self.event_idx = on;
    }

    /// Turns VIRTIO_F_IN_ORDER on or off; off at first. With it an element returns all chains up to the one that it names.
    pub fn set_in_order(&mut self, on: bool) {
        self.in_order = on;
    }

    /// Descriptors that are free.
    #[must_use]
    pub fn free_descriptors(&self) -> u16 {
        self.free.len() as u16
    }

    /// Chains published and not yet returned.
    #[must_use]
    pub fn outstanding(&self) -> u16 {
        self.outstanding
    }

    /// avail.idx as published.
    #[must_use]
    pub fn avail_idx(&self) -> u16 {
        self.avail_idx
    }

    /// used.idx as far as it was read.
    #[must_use]
    pub fn used_idx(&self) -> u16 {
        self.used_idx
    }

    /// Writes a chain to the descriptor table; the device sees it after [`Self::publish`].
    pub fn add(&mut self, mem: &dyn GuestAccess, chain: &[Buffer]) -> Result<HeadIndex, RingError> {
        check_chain(chain)?;
        if chain.len() > self.free.len() {
            return Err(RingError::NoDescriptors {
                wanted: chain.len(),
                free: self.free.len(),
            });
        }
        let taken: Vec<u16> = self.free.iter().take(chain.len()).copied().collect();
        for (at, (index, buffer)) in taken.iter().zip(chain).enumerate() {
            let next = taken.get(at + 1).copied();
            mem.write(self.layout.desc_at(*index), &descriptor(buffer, next).to_bytes())?;
        }
        Ok(self.take(&taken, writable_bytes(chain)))
    }

    /// Writes a chain to an indirect table at `table` (16 bytes a buffer); one descriptor of the ring is used.
    pub fn add_indirect(
        &mut self,
        mem: &dyn GuestAccess,
        chain: &[Buffer],
        table: u64,
    ) -> Result<HeadIndex, RingError> {
        check_chain(chain)?;
        let Some(index) = self.free.front().copied() else {
            return Err(RingError::NoDescriptors { wanted: 1, free: 0 });
        };
        let mut bytes = Vec::with_capacity(chain.len() * Descriptor::BYTES);
        for (at, buffer) in chain.iter().enumerate() {
            let next = (at + 1 < chain.len()).then_some((at + 1) as u16);
            bytes.extend_from_slice(&descriptor(buffer, next).to_bytes());
        }
        mem.write(table, &bytes)?;
        let head = Descriptor {
            addr: table,
            len: bytes.len() as u32,
            flags: DESC_F_INDIRECT,
            next: 0,
        };
        mem.write(self.layout.desc_at(index), &head.to_bytes())?;
        Ok(self.take(&[index], writable_bytes(chain)))
    }

    /// Makes all added chains available at once.
    pub fn publish(&mut self, mem: &dyn GuestAccess) -> Result<(), RingError> {
        let mut next = self.avail_idx;
        for head in &self.pending {
            mem.write(self.layout.avail_slot(next), &head.to_le_bytes())?;
            next = next.wrapping_add(1);
        }
        mem.store_u16(self.layout.avail_idx(), next, Ordering::Release)?;
        self.avail_idx = next;
        self.outstanding += self.pending.len() as u16;
        for head in std::mem::take(&mut self.pending) {
            if let Slot::Head { published, .. } = &mut self.slots[usize::from(head)] {
                *published = true;
            }
            self.order.push_back(head);
        }
        Ok(())
    }

    /// Takes the next chain the device has returned, if there is one, and frees its descriptors.
    ///
    /// Every error but [`RingError::UsedJumped`] is about one element, which is then behind us: the next call goes on.
    pub fn poll_used(&mut self, mem: &dyn GuestAccess) -> Result<Option<Used>, RingError> {
        let to = mem.load_u16(self.layout.used_idx(), Ordering::Acquire)?;
        let ahead = to.wrapping_sub(self.used_idx);
        if ahead == 0 {
            return Ok(None);
        }
        if ahead > self.outstanding {
            return Err(RingError::UsedJumped {
                from: self.used_idx,
                to,
                outstanding: self.outstanding,
            });
        }
        if let Some((last, len)) = self.batch {
            return Ok(self.next_of_batch(last, len));
        }
        let mut raw = [0; 8];
        mem.read(self.layout.used_slot(self.used_idx), &mut raw)?;
        self.used_idx = self.used_idx.wrapping_add(1);
        // Even a wrong element uses up a return, else a device that repeats itself could go on for ever.
        self.outstanding -= 1;
        let id = u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
        let len = u32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]]);
        let head = u16::try_from(id).ok().filter(|head| *head < self.layout.size);
        let Some(head) = head else {
            return Err(RingError::UnknownHead { id });
        };
        match self.slots[usize::from(head)] {
            Slot::Head {
                descriptors,
                writable,
                published: true,
            } => {
                let place = self.order.iter().position(|other| *other == head).unwrap_or(0);
                if self.in_order && place >= usize::from(ahead) {
                    return Err(RingError::OutOfOrder { head });
                }
                if self.in_order && place > 0 && u64::from(len) <= writable {
                    self.used_idx = self.used_idx.wrapping_sub(1);
                    self.outstanding += 1;
                    self.batch = Some((head, len));
                    return Ok(self.next_of_batch(head, len));
                }
                self.order.remove(place);
                self.release(head, descriptors);
                if u64::from(len) > writable {
                    return Err(RingError::UsedTooLong { head, len, writable });
                }
                Ok(Some(Used {
                    head: HeadIndex(head),
                    len,
                }))
            }
            Slot::Head { published: false, .. } => Err(RingError::NotPublished { head }),
            Slot::Free { returned: true } => Err(RingError::ReturnedTwice { head }),
            Slot::Free { returned: false } | Slot::Body => Err(RingError::UnknownHead { id }),
        }
    }

    /// The next chain of a batch: those before its last one have no element, and all of them was written.
    fn next_of_batch(&mut self, last: u16, len: u32) -> Option<Used> {
        let head = self.order.pop_front()?;
        self.used_idx = self.used_idx.wrapping_add(1);
        self.outstanding -= 1;
        let Slot::Head {
            descriptors, writable, ..
        } = self.slots[usize::from(head)]
        else {
            return None;
        };
        self.release(head, descriptors);
        let is_last = head == last;
        if is_last {
            self.batch = None;
        }
        // the ring has chains of no more than 2^32 bytes
        let len = if is_last { len } else { writable as u32 };
        Some(Used {
            head: HeadIndex(head),
            len,
        })
    }

    /// Whether the device wants a kick for what was published since this was last asked.
    pub fn needs_kick(&mut self, mem: &dyn GuestAccess) -> Result<bool, RingError> {
        // The device first asks for a kick and then looks at avail.idx again; we publish and then look. Without a full fence
        // on both sides each could miss the other.
        fence(Ordering::SeqCst);
        let old = std::mem::replace(&mut self.kicked_at, self.avail_idx);
        if self.event_idx {
            let event = mem.load_u16(self.layout.avail_event(), Ordering::Relaxed)?;
            return Ok(event_passed(event, self.avail_idx, old));
        }
        let flags = mem.load_u16(self.layout.used_flags(), Ordering::Relaxed)?;
        Ok(old != self.avail_idx && flags & USED_F_NO_NOTIFY == 0)
    }

    /// Sets or clears avail.flags NO_INTERRUPT.
    pub fn set_no_interrupt(&self, mem: &dyn GuestAccess, on: bool) -> Result<(), RingError> {
        let flags = if on { AVAIL_F_NO_INTERRUPT } else { 0 };
        mem.store_u16(self.layout.avail_flags(), flags, Ordering::SeqCst)?;
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Writes used_event: with EVENT_IDX the device calls when used.idx passes it. Poll once more afterwards.
    pub fn set_used_event(&self, mem: &dyn GuestAccess, event: u16) -> Result<(), RingError> {
        mem.store_u16(self.layout.used_event(), event, Ordering::SeqCst)?;
        fence(Ordering::SeqCst);
        Ok(())
    }

    fn take(&mut self, taken: &[u16], writable: u64) -> HeadIndex {
        let head = taken[0];
        self.free.drain(..taken.len());
        for (at, index) in taken.iter().enumerate() {
            self.slots[usize::from(*index)] = Slot::Body;
            self.nexts[usize::from(*index)] = taken.get(at + 1).copied().unwrap_or(head);
        }
        self.slots[usize::from(head)] = Slot::Head {
            descriptors: taken.len() as u16,
            writable,
            published: false,
        };
        self.pending.push(head);
        HeadIndex(head)
    }

    fn release(&mut self, head: u16, descriptors: u16) {
        let mut index = head;
        for _ in 0..descriptors {
            self.slots[usize::from(index)] = Slot::Free {
                returned: index == head,
            };
            self.free.push_back(index);
            index = self.nexts[usize::from(index)];
        }
    }
}

pub(crate) fn check_chain(chain: &[Buffer]) -> Result<(), RingError> {
    if chain.is_empty() {
        return Err(RingError::BadChain {
            reason: "it has no buffers",
        });
    }
    if chain.len() > usize::from(QUEUE_SIZE_MAX) {
        return Err(RingError::BadChain {
            reason: "it has more than 32768 buffers",
        });
    }
    if !chain.is_sorted_by_key(|buffer| buffer.writable) {
        return Err(RingError::BadChain {
            reason: "a readable buffer follows a writable one",
        });
    }
    Ok(())
}

fn descriptor(buffer: &Buffer, next: Option<u16>) -> Descriptor {
    let mut flags = if buffer.writable { DESC_F_WRITE } else { 0 };
    if next.is_some() {
        flags |= DESC_F_NEXT;
    }
    Descriptor {
        addr: buffer.addr,
        len: buffer.len,
        flags,
        next: next.unwrap_or(0),
    }
}

fn writable_bytes(chain: &[Buffer]) -> u64 {
    chain
        .iter()
        .filter(|buffer| buffer.writable)
        .map(|buffer| u64::from(buffer.len))
        .sum()
}

fn zero(mem: &dyn GuestAccess, address: u64, length: u64) -> Result<(), RingError> {
    const ZEROES: [u8; 0x1000] = [0; 0x1000];
    let mut done = 0;
    while done < length {
        let now = (length - done).min(ZEROES.len() as u64);
        mem.write(address + done, &ZEROES[..now as usize])?;
        done += now;
    }
    Ok(())
}
