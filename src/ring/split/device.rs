//! The device's side of a split ring, which survives whatever the driver writes.

use std::sync::atomic::{Ordering, fence};

use crate::memory::GuestAccess;
use crate::ring::{Chain, RingError, SplitLayout};

use super::{AVAIL_F_NO_INTERRUPT, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, Descriptor};
use super::{USED_F_NO_NOTIFY, event_passed};

/// Most bytes of all buffers of a chain together (virtio 1.3, section 2.7.5).
pub(crate) const CHAIN_BYTES_MAX: u64 = 1 << 32;

/// Most descriptors of an indirect table on rings that are smaller: QEMU's VIRTQUEUE_MAX_SIZE.
const INDIRECT_MAX: u32 = 1024;

/// The device's side of a split ring.
#[derive(Debug, Clone)]
pub struct SplitDevice {
    layout: SplitLayout,
    /// Next available index to take.
    avail_idx: u16,
    /// Next used index to write.
    used_idx: u16,
    /// Chains taken and not yet returned.
    taken: u16,
    /// used.idx when the question of a call was last answered; none after a start, when one call too many is the safe side.
    called_at: Option<u16>,
    event_idx: bool,
}

impl SplitDevice {
    /// A device that goes on at `base` with nothing in flight: used.idx is `base` too.
    pub fn new(layout: SplitLayout, base: u16) -> Result<Self, RingError> {
        layout.validate()?;
        Ok(Self {
            layout,
            avail_idx: base,
            used_idx: base,
            taken: 0,
            called_at: None,
            event_idx: false,
        })
    }

    /// A device that takes used.idx from memory, as libvhost-user does on SET_VRING_ADDR; checks that the ring is in memory.
    pub fn start(layout: SplitLayout, base: u16, mem: &dyn GuestAccess) -> Result<Self, RingError> {
        let mut device = Self::new(layout, base)?;
        layout.check(mem)?;
        device.used_idx = mem.load_u16(layout.used_idx(), Ordering::Acquire)?;
        Ok(device)
    }

    /// The layout.
    #[must_use]
    pub fn layout(&self) -> &SplitLayout {
        &self.layout
    }

    /// The next available index to take, as GET_VRING_BASE answers it.
    #[must_use]
    pub fn base(&self) -> u16 {
        self.avail_idx
    }

    /// Goes on with another available chain as the next: behind all that was taken in an earlier life.
    pub fn go_on(&mut self, base: u16) {
        self.avail_idx = base;
    }

    /// The next used index to write.
    #[must_use]
    pub fn used_idx(&self) -> u16 {
        self.used_idx
    }

    /// Chains taken and not yet returned; a ring is drained when there are none.
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

    /// Chains the driver has made available and that were not taken.
    pub fn available(&self, mem: &dyn GuestAccess) -> Result<u16, RingError> {
        let to = mem.load_u16(self.layout.avail_idx(), Ordering::Acquire)?;
        let ahead = to.wrapping_sub(self.avail_idx);
        if ahead > self.layout.size {
            return Err(RingError::AvailJumped {
                from: self.avail_idx,
                to,
                size: self.layout.size,
            });
        }
        Ok(ahead)
    }

    /// Takes the next available chain, if there is one.
    ///
    /// After [`RingError::AvailJumped`] nothing has moved; a chain that is wrong in itself is skipped and never returned.
    pub fn pop(&mut self, mem: &dyn GuestAccess) -> Result<Option<Chain>, RingError> {
        if self.available(mem)? == 0 {
            return Ok(None);
        }
        let head = mem.read_u16(self.layout.avail_slot(self.avail_idx))?;
        self.avail_idx = self.avail_idx.wrapping_add(1);
        if head >= self.layout.size {
            return Err(RingError::HeadOutOfRange {
                head,
                size: self.layout.size,
            });
        }
        let chain = self.walk(mem, head)?;
        self.taken = self.taken.saturating_add(1);
        Ok(Some(chain))
    }

    /// Puts the chain that was taken last back, as if it had never been taken.
    pub fn undo_pop(&mut self) -> Result<(), RingError> {
        self.taken = self.taken.checked_sub(1).ok_or(RingError::NothingTaken {
            what: "put a chain back",
        })?;
        self.avail_idx = self.avail_idx.wrapping_sub(1);
        Ok(())
    }

    /// Returns a chain with the bytes written to it.
    ///
    /// The head is not checked against what was taken, so that a faulty device can be played; the count is kept.
    pub fn push(&mut self, mem: &dyn GuestAccess, head: u16, len: u32) -> Result<(), RingError> {
        self.push_batch(mem, head, len, 1)
    }

    /// With IN_ORDER: returns so many chains by the last of them alone, and moves on as if each had been returned (2.7.9).
    pub fn push_batch(&mut self, mem: &dyn GuestAccess, head: u16, len: u32, chains: u16) -> Result<(), RingError> {
        let mut raw = [0; 8];
        raw[..4].copy_from_slice(&u32::from(head).to_le_bytes());
        raw[4..].copy_from_slice(&len.to_le_bytes());
        mem.write(self.layout.used_slot(self.used_idx), &raw)?;
        let next = self.used_idx.wrapping_add(chains);
        mem.store_u16(self.layout.used_idx(), next, Ordering::Release)?;
        self.used_idx = next;
        self.taken = self.taken.saturating_sub(chains);
        Ok(())
    }

    /// Returns several chains at once: their elements, and then one step of the index over all of them.
    pub fn push_all(&mut self, mem: &dyn GuestAccess, chains: &[(u16, u32)]) -> Result<(), RingError> {
        for (ahead, (head, len)) in chains.iter().enumerate() {
            let mut raw = [0; 8];
            raw[..4].copy_from_slice(&u32::from(*head).to_le_bytes());
            raw[4..].copy_from_slice(&len.to_le_bytes());
            mem.write(self.layout.used_slot(self.used_idx.wrapping_add(ahead as u16)), &raw)?;
        }
        let next = self.used_idx.wrapping_add(chains.len() as u16);
        mem.store_u16(self.layout.used_idx(), next, Ordering::Release)?;
        self.used_idx = next;
        self.taken = self.taken.saturating_sub(chains.len() as u16);
        Ok(())
    }

    /// What the last [`Self::push`] has written, as (offset in the used ring, bytes): element and index. For the dirty log,
    /// whose address for the used ring need not be the ring's own.
    #[must_use]
    pub fn last_used_writes(&self) -> [(u64, u64); 2] {
        let slot = self.layout.used_slot(self.used_idx.wrapping_sub(1)) - self.layout.used;
        [(slot, 8), (self.layout.used_idx() - self.layout.used, 2)]
    }

    /// Whether the driver wants a call for what was returned since this was last asked.
    pub fn needs_call(&mut self, mem: &dyn GuestAccess) -> Result<bool, RingError> {
        // Pairs with the driver's fence: it writes used_event or flags and then looks at used.idx again.
        fence(Ordering::SeqCst);
        let old = self.called_at.replace(self.used_idx);
        if old == Some(self.used_idx) {
            return Ok(false);
        }
        if self.event_idx {
            let event = mem.load_u16(self.layout.used_event(), Ordering::Relaxed)?;
            return Ok(old.is_none_or(|old| event_passed(event, self.used_idx, old)));
        }
        let flags = mem.load_u16(self.layout.avail_flags(), Ordering::Relaxed)?;
        Ok(flags & AVAIL_F_NO_INTERRUPT == 0)
    }

    /// Writes avail_event: with EVENT_IDX the driver kicks when avail.idx passes it. Look for chains once more afterwards.
    pub fn set_avail_event(&self, mem: &dyn GuestAccess, event: u16) -> Result<(), RingError> {
        mem.store_u16(self.layout.avail_event(), event, Ordering::SeqCst)?;
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Sets or clears used.flags NO_NOTIFY.
    pub fn set_no_notify(&self, mem: &dyn GuestAccess, on: bool) -> Result<(), RingError> {
        let flags = if on { USED_F_NO_NOTIFY } else { 0 };
        mem.store_u16(self.layout.used_flags(), flags, Ordering::SeqCst)?;
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Reads a chain that was taken in an earlier life again, for heads that an inflight area names.
    pub fn resubmit(&mut self, mem: &dyn GuestAccess, head: u16) -> Result<Chain, RingError> {
        if head >= self.layout.size {
            return Err(RingError::HeadOutOfRange {
                head,
                size: self.layout.size,
            });
        }
        let chain = self.walk(mem, head)?;
        self.taken = self.taken.saturating_add(1);
        Ok(chain)
    }

    /// A chain that was read again is not carried out now after all.
    pub fn undo_resubmit(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }

    fn walk(&self, mem: &dyn GuestAccess, head: u16) -> Result<Chain, RingError> {
        let mut chain = Collect::new(head);
        chain.follow(
            mem,
            self.layout.desc,
            u32::from(self.layout.size),
            head,
            Some(self.layout.size),
        )?;
        Ok(chain.chain)
    }
}

/// A chain while its descriptors are followed.
struct Collect {
    chain: Chain,
    bytes: u64,
}

impl Collect {
    fn new(head: u16) -> Self {
        Self {
            chain: Chain {
                head,
                ..Chain::default()
            },
            bytes: 0,
        }
    }

    /// Follows one table. `ring` is the ring's size in the ring's own table, where a chain may end in an indirect table.
    fn follow(
        &mut self,
        mem: &dyn GuestAccess,
        table: u64,
        size: u32,
        first: u16,
        ring: Option<u16>,
    ) -> Result<(), RingError> {
        let head = self.chain.head;
        let mut index = first;
        for _ in 0..size {
            let at = table
                .checked_add(16 * u64::from(index))
                .ok_or(RingError::ChainTooLong { head })?;
            let desc = read_descriptor(mem, at)?;
            if desc.flags & DESC_F_INDIRECT != 0 {
                let Some(ring) = ring else {
                    return Err(RingError::IndirectFlags {
                        head,
                        what: "an indirect descriptor in its table",
                    });
                };
                let count = indirect_count(&desc, head, ring)?;
                return self.follow(mem, desc.addr, count, 0, None);
            }
            self.take(index, &desc)?;
            if desc.flags & DESC_F_NEXT == 0 {
                return Ok(());
            }
            if u32::from(desc.next) >= size {
                return Err(RingError::NextOutOfRange {
                    head,
                    index,
                    next: desc.next,
                    size,
                });
            }
            index = desc.next;
        }
        Err(RingError::Loop { head, limit: size })
    }

    fn take(&mut self, index: u16, desc: &Descriptor) -> Result<(), RingError> {
        let head = self.chain.head;
        self.bytes += u64::from(desc.len);
        if self.bytes > CHAIN_BYTES_MAX || desc.addr.checked_add(u64::from(desc.len)).is_none() {
            return Err(RingError::ChainTooLong { head });
        }
        if desc.flags & DESC_F_WRITE != 0 {
            self.chain.writable.push((desc.addr, desc.len));
        } else if self.chain.writable.is_empty() {
            self.chain.readable.push((desc.addr, desc.len));
        } else {
            return Err(RingError::ReadableAfterWritable { head, index });
        }
        Ok(())
    }
}

/// Descriptors in an indirect table. Virtio forbids chains longer than the ring (section 2.7.5.3.1), but drivers in use build
/// them on small rings and QEMU takes them up to its own largest queue, so the bound is the larger of the two.
pub(crate) fn indirect_count(desc: &Descriptor, head: u16, ring: u16) -> Result<u32, RingError> {
    if desc.flags & DESC_F_NEXT != 0 {
        return Err(RingError::IndirectFlags { head, what: "NEXT set" });
    }
    let count = desc.len / 16;
    if !desc.len.is_multiple_of(16) || count == 0 || count > u32::from(ring).max(INDIRECT_MAX) {
        return Err(RingError::IndirectLength { head, length: desc.len });
    }
    Ok(count)
}

pub(crate) fn read_descriptor(mem: &dyn GuestAccess, at: u64) -> Result<Descriptor, RingError> {
    let mut raw = [0; Descriptor::BYTES];
    mem.read(at, &mut raw)?;
    Ok(Descriptor::from_bytes(&raw))
}
