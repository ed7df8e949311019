//! The inflight area of packed rings. A ring's slots are written over by whatever is returned first, so an entry keeps a copy
//! of each descriptor; an entry is called by its place in the area, a chain by its first entry.
//!
//! Free entries are a list. A chain takes its entries from the list's front, and is in flight when `old_free_head` has passed
//! them; a batch is returned by putting its entries back before its first slot says "used", and that slot tells afterwards
//! which of the two lists holds.
//!
//! `used_idx`, `old_used_idx` and the two wrap counters stand in one aligned word, and are written together: an index without
//! its wrap counter would be a place in another lap.

use super::{Area, COUNTER, INFLIGHT, bad};
use crate::memory::MemoryError;

const FREE_HEAD: u64 = 12;
const OLD_FREE_HEAD: u64 = 14;
/// The word of the positions, and the shifts of what is in it.
const POSITIONS: u64 = 16;
const USED: Half = Half { idx: 0, wrap: 32 };
const OLD_USED: Half = Half { idx: 16, wrap: 40 };

const NEXT: u64 = 2;
const LAST: u64 = 4;
const NUM: u64 = 6;
const ID: u64 = 16;
const FLAGS: u64 = 18;
const LEN: u64 = 20;
const ADDR: u64 = 24;

/// Where one of the two positions stands in their word, in bits.
#[derive(Clone, Copy)]
struct Half {
    idx: u32,
    wrap: u32,
}

/// The slot that is used next, and the device's wrap counter there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedPosition {
    /// The slot.
    pub at: u16,
    /// The wrap counter.
    pub wrap: bool,
}

/// A descriptor as it stood in the ring when it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InflightDescriptor {
    /// The buffer's address.
    pub addr: u64,
    /// Its bytes.
    pub len: u32,
    /// The buffer id, which holds in the last descriptor of a chain.
    pub id: u16,
    /// The flags.
    pub flags: u16,
}

/// A mapped inflight area of packed rings.
#[derive(Debug)]
pub struct PackedInflight {
    area: Area,
    /// Next value of the counter that orders fetches, for each queue.
    counters: Vec<u64>,
}

impl PackedInflight {
    pub(super) fn new(area: Area) -> Self {
        let counters = vec![0; usize::from(area.queues)];
        Self { area, counters }
    }

    pub(super) fn area(&self) -> &Area {
        &self.area
    }

    pub(super) fn area_mut(&mut self) -> &mut Area {
        &mut self.area
    }

    /// Writes a queue's region if it is fresh; says whether it was. All entries are free then, and the ring stands at `used`.
    pub fn init(&mut self, queue: u16, used: UsedPosition) -> Result<bool, MemoryError> {
        let base = self.area.base(queue)?;
        if !self.area.is_fresh(base) {
            return Ok(false);
        }
        for entry in 0..self.area.queue_size {
            self.area.put_half(self.area.entry(queue, entry)? + NEXT, entry + 1);
        }
        self.area.put_half(base + FREE_HEAD, 0);
        self.area.put_half(base + OLD_FREE_HEAD, 0);
        self.put_positions(base, &[(USED, used), (OLD_USED, used)]);
        self.area.begin(base);
        Ok(true)
    }

    /// Notes that a chain was taken from the ring, and gives its entry (VU-IFL-13).
    pub fn fetch(&mut self, queue: u16, chain: &[InflightDescriptor]) -> Result<u16, MemoryError> {
        let base = self.area.base(queue)?;
        let head = self.area.half(base + OLD_FREE_HEAD);
        let at = self.free(queue, head)?;
        let counter = &mut self.counters[usize::from(queue)];
        let now = *counter;
        *counter = now.wrapping_add(1);
        self.area.put_half(at + NUM, 0);
        self.area.put_word(at + COUNTER, now);
        self.area.put_byte(at + INFLIGHT, 1);
        let mut free = head;
        for (nth, desc) in chain.iter().enumerate() {
            let own = self.free(queue, free)?;
            let is_last = nth + 1 == chain.len();
            if is_last {
                self.area.put_half(at + LAST, free);
            }
            self.area.put_half(at + NUM, nth as u16 + 1);
            self.area.put_word(own + ADDR, desc.addr);
            self.area.put_quad(own + LEN, desc.len);
            self.area.put_half(own + FLAGS, desc.flags);
            self.area.put_half(own + ID, desc.id);
            free = self.area.half(own + NEXT);
            self.area.put_half(base + FREE_HEAD, free);
            if is_last {
                self.area.put_half(base + OLD_FREE_HEAD, free);
            }
        }
        Ok(head)
    }

    /// Notes that the chain that was taken last was put back into the ring. Its entries are still linked as they were taken.
    pub fn put_back(&mut self, queue: u16, entry: u16) -> Result<(), MemoryError> {
        let (base, at) = (self.area.base(queue)?, self.area.entry(queue, entry)?);
        self.area.put_half(base + FREE_HEAD, entry);
        self.area.put_half(base + OLD_FREE_HEAD, entry);
        self.area.put_byte(at + INFLIGHT, 0);
        Ok(())
    }

    /// Links a chain into the batch about to be returned: its entries are on the list of the free ones (VU-IFL-14).
    pub fn link(&mut self, queue: u16, entry: u16) -> Result<(), MemoryError> {
        let (base, at) = (self.area.base(queue)?, self.area.entry(queue, entry)?);
        let last = self.area.entry(queue, self.area.half(at + LAST))?;
        self.area.put_half(last + NEXT, self.area.half(base + FREE_HEAD));
        self.area.put_half(base + FREE_HEAD, entry);
        Ok(())
    }

    /// The batch that was linked will have moved the ring to `used`; call before its slots say so.
    pub fn advance(&mut self, queue: u16, used: UsedPosition) -> Result<(), MemoryError> {
        self.put_positions(self.area.base(queue)?, &[(USED, used)]);
        Ok(())
    }

    /// Notes that a chain is not in flight: the driver has it.
    pub fn clear(&mut self, queue: u16, entry: u16) -> Result<(), MemoryError> {
        self.area.put_byte(self.area.entry(queue, entry)? + INFLIGHT, 0);
        Ok(())
    }

    /// The last batch is over: what holds now is what held before the next one.
    pub fn note(&mut self, queue: u16) -> Result<(), MemoryError> {
        let base = self.area.base(queue)?;
        self.area
            .put_half(base + OLD_FREE_HEAD, self.area.half(base + FREE_HEAD));
        self.put_positions(base, &[(OLD_USED, self.position(base, USED))]);
        Ok(())
    }

    /// Where the ring stands by `used_idx`, and by `old_used_idx`. They differ while a batch is returned.
    pub fn positions(&self, queue: u16) -> Result<[UsedPosition; 2], MemoryError> {
        let base = self.area.base(queue)?;
        Ok([self.position(base, USED), self.position(base, OLD_USED)])
    }

    /// The front of the list of free entries, and of the one before the batch that is returned. A list ends where there is no
    /// entry.
    pub fn free_heads(&self, queue: u16) -> Result<[u16; 2], MemoryError> {
        let base = self.area.base(queue)?;
        Ok([self.area.half(base + FREE_HEAD), self.area.half(base + OLD_FREE_HEAD)])
    }

    /// Decides over the batch that a crash cut off, and gives the chains to submit again by their entries, oldest first
    /// (VU-IFL-15, VU-IFL-16).
    ///
    /// `returned` says whether the slot at `old_used_idx` is not available any more: then the driver may have seen the batch.
    pub fn recover(&mut self, queue: u16, returned: bool) -> Result<Vec<u16>, MemoryError> {
        if self.is_cut_off(queue)? && returned {
            self.note(queue)?;
        }
        self.roll_back(queue)?;
        for entry in self.free_list(queue)? {
            self.clear(queue, entry)?;
        }
        self.resume(queue)
    }

    /// Puts the list and the position of before the last batch in the place of those that it made.
    pub fn roll_back(&mut self, queue: u16) -> Result<(), MemoryError> {
        let base = self.area.base(queue)?;
        self.area.check(base)?;
        self.area
            .put_half(base + FREE_HEAD, self.area.half(base + OLD_FREE_HEAD));
        self.put_positions(base, &[(USED, self.position(base, OLD_USED))]);
        Ok(())
    }

    /// The chains that are marked as in flight, oldest first; what is taken from here on is younger.
    pub fn resume(&mut self, queue: u16) -> Result<Vec<u16>, MemoryError> {
        let again = self.left_over(queue)?;
        self.counters[usize::from(queue)] = self.area.next_counter(queue, &again)?;
        Ok(again)
    }

    /// Whether a crash cut a batch off while it was returned.
    pub fn is_cut_off(&self, queue: u16) -> Result<bool, MemoryError> {
        let [used, old] = self.positions(queue)?;
        Ok(used != old)
    }

    /// The chains that are marked as in flight, by their entries, oldest first.
    pub fn left_over(&self, queue: u16) -> Result<Vec<u16>, MemoryError> {
        self.area.marked(queue)
    }

    /// What [`Self::recover`] would give, with nothing changed.
    pub fn left_by_crash(&self, queue: u16, returned: bool) -> Result<Vec<u16>, MemoryError> {
        let [now, old] = self.free_heads(queue)?;
        let holds = self.is_cut_off(queue)? && returned;
        let free = self.list(queue, if holds { now } else { old })?;
        let mut left = self.left_over(queue)?;
        left.retain(|entry| !free.contains(entry));
        Ok(left)
    }

    /// The entries that are free, in the order in which they will be taken.
    pub fn free_list(&self, queue: u16) -> Result<Vec<u16>, MemoryError> {
        let [now, _] = self.free_heads(queue)?;
        self.list(queue, now)
    }

    /// A chain's descriptors, as they were when it was taken.
    pub fn chain(&self, queue: u16, entry: u16) -> Result<Vec<InflightDescriptor>, MemoryError> {
        let head = self.area.entry(queue, entry)?;
        let num = self.area.half(head + NUM);
        if num == 0 || num > self.area.queue_size {
            return Err(self.area.too_much("num", num.into()));
        }
        let mut chain = Vec::with_capacity(usize::from(num));
        let mut own = entry;
        for nth in 0..num {
            let at = self.area.entry(queue, own)?;
            chain.push(InflightDescriptor {
                addr: self.area.word(at + ADDR),
                len: self.area.quad(at + LEN),
                id: self.area.half(at + ID),
                flags: self.area.half(at + FLAGS),
            });
            if nth + 1 < num {
                own = self.area.half(at + NEXT);
            }
        }
        let last = self.area.half(head + LAST);
        if own != last {
            return Err(bad(
                "last",
                last.into(),
                &format!("{own}, the entry number {num} of the chain"),
            ));
        }
        Ok(chain)
    }

    fn list(&self, queue: u16, head: u16) -> Result<Vec<u16>, MemoryError> {
        let (mut list, mut entry) = (Vec::new(), head);
        while entry < self.area.queue_size {
            if list.len() == usize::from(self.area.queue_size) {
                return Err(bad("free_head", head.into(), "the front of a list that ends"));
            }
            list.push(entry);
            entry = self.area.half(self.area.entry(queue, entry)? + NEXT);
        }
        Ok(list)
    }

    /// Where a free entry stands.
    fn free(&self, queue: u16, entry: u16) -> Result<u64, MemoryError> {
        if entry >= self.area.queue_size {
            return Err(bad(
                "free_head",
                entry.into(),
                &format!("below {}", self.area.queue_size),
            ));
        }
        self.area.entry(queue, entry)
    }

    fn position(&self, base: u64, half: Half) -> UsedPosition {
        let word = self.area.word(base + POSITIONS);
        UsedPosition {
            at: (word >> half.idx) as u16,
            wrap: (word >> half.wrap) as u8 != 0,
        }
    }

    fn put_positions(&self, base: u64, positions: &[(Half, UsedPosition)]) {
        let mut word = self.area.word(base + POSITIONS);
        for (half, position) in positions {
            word &= !(0xffff << half.idx | 0xff << half.wrap);
            word |= u64::from(position.at) << half.idx | u64::from(position.wrap) << half.wrap;
        }
        self.area.put_word(base + POSITIONS, word);
    }
}
