//! The inflight area of split rings. An entry is called by the head of its chain.

use std::os::fd::OwnedFd;

use super::{Area, COUNTER, INFLIGHT, InflightFormat};
use crate::memory::MemoryError;
use crate::memory::mapping::Access;

const LAST_BATCH_HEAD: u64 = 12;
const USED_IDX: u64 = 14;
const NEXT: u64 = 6;

/// A mapped inflight area of split rings.
#[derive(Debug)]
pub struct SplitInflight {
    area: Area,
    /// Next value of the counter that orders fetches, for each queue.
    counters: Vec<u64>,
}

impl SplitInflight {
    /// Maps an area that the front-end has given back (SET_INFLIGHT_FD).
    pub fn map(fd: OwnedFd, offset: u64, size: u64, queues: u16, queue_size: u16) -> Result<Self, MemoryError> {
        let format = InflightFormat::Split;
        Ok(Self::new(Area::map(
            fd,
            format,
            [offset, size],
            queues,
            queue_size,
            Access::Write,
        )?))
    }

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

    /// Writes a queue's region if it is fresh; says whether it was.
    pub fn init(&mut self, queue: u16, used_idx: u16) -> Result<bool, MemoryError> {
        let base = self.area.base(queue)?;
        if !self.area.is_fresh(base) {
            return Ok(false);
        }
        self.note_used(queue, used_idx)?;
        self.area.begin(base);
        Ok(true)
    }

    /// Notes that a chain was taken from the available ring (VU-IFL-08).
    pub fn fetch(&mut self, queue: u16, head: u16) -> Result<(), MemoryError> {
        let at = self.area.entry(queue, head)?;
        let counter = &mut self.counters[usize::from(queue)];
        let now = *counter;
        *counter = now.wrapping_add(1);
        self.area.put_word(at + COUNTER, now);
        self.area.put_byte(at + INFLIGHT, 1);
        Ok(())
    }

    /// Links a head into the batch about to be returned; call before used.idx advances (VU-IFL-09).
    pub fn link(&mut self, queue: u16, head: u16) -> Result<(), MemoryError> {
        let (base, at) = (self.area.base(queue)?, self.area.entry(queue, head)?);
        self.area.put_half(at + NEXT, self.area.half(base + LAST_BATCH_HEAD));
        self.area.put_half(base + LAST_BATCH_HEAD, head);
        Ok(())
    }

    /// Clears the batch and notes used.idx; call after used.idx has advanced (VU-IFL-10).
    pub fn complete(&mut self, queue: u16, heads: &[u16], used_idx: u16) -> Result<(), MemoryError> {
        for head in heads {
            self.clear(queue, *head)?;
        }
        self.note_used(queue, used_idx)
    }

    /// Notes that a head is not in flight: it was returned, or put back.
    pub fn clear(&mut self, queue: u16, head: u16) -> Result<(), MemoryError> {
        self.area.put_byte(self.area.entry(queue, head)? + INFLIGHT, 0);
        Ok(())
    }

    /// Notes used.idx: the last batch is over.
    pub fn note_used(&mut self, queue: u16, used_idx: u16) -> Result<(), MemoryError> {
        self.area.put_half(self.area.base(queue)? + USED_IDX, used_idx);
        Ok(())
    }

    /// The used.idx that was noted last.
    pub fn noted_used(&self, queue: u16) -> Result<u16, MemoryError> {
        Ok(self.area.half(self.area.base(queue)? + USED_IDX))
    }

    /// The head that was linked last.
    pub fn last_linked(&self, queue: u16) -> Result<u16, MemoryError> {
        Ok(self.area.half(self.area.base(queue)? + LAST_BATCH_HEAD))
    }

    /// Whether a head is taken and not returned.
    pub fn is_inflight(&self, queue: u16, head: u16) -> Result<bool, MemoryError> {
        Ok(self.area.byte(self.area.entry(queue, head)? + INFLIGHT) == 1)
    }

    /// Finishes a batch that the crash cut off and gives the heads to submit again, oldest first (VU-IFL-11, VU-IFL-12).
    ///
    /// `used_idx` is what the used ring says now. libvhost-user then takes `used_idx` plus their number as the next available.
    pub fn recover(&mut self, queue: u16, used_idx: u16) -> Result<Vec<u16>, MemoryError> {
        self.roll_back(queue, used_idx)?;
        let again = self.left_over(queue)?;
        self.counters[usize::from(queue)] = self.area.next_counter(queue, &again)?;
        Ok(again)
    }

    /// Clears what was returned and not noted: as many heads as used.idx is ahead, from the one that was linked last.
    pub fn roll_back(&mut self, queue: u16, used_idx: u16) -> Result<(), MemoryError> {
        self.area.check(self.area.base(queue)?)?;
        for head in self.cut_off(queue, used_idx)? {
            self.clear(queue, head)?;
        }
        self.note_used(queue, used_idx)
    }

    /// The heads that are marked as in flight, oldest first.
    pub fn left_over(&self, queue: u16) -> Result<Vec<u16>, MemoryError> {
        self.area.marked(queue)
    }

    /// What [`Self::recover`] would give, with nothing changed.
    pub fn left_by_crash(&self, queue: u16, used_idx: u16) -> Result<Vec<u16>, MemoryError> {
        let mut left = self.left_over(queue)?;
        for head in self.cut_off(queue, used_idx)? {
            left.retain(|other| *other != head);
        }
        Ok(left)
    }

    /// The heads of a batch of which used.idx tells and the area does not, from the one that was linked last.
    fn cut_off(&self, queue: u16, used_idx: u16) -> Result<Vec<u16>, MemoryError> {
        let cut_off = used_idx.wrapping_sub(self.noted_used(queue)?);
        if cut_off > self.area.queue_size {
            return match self.left_over(queue)?.is_empty() {
                // with nothing in flight it is a ring that the driver has made anew
                true => Ok(Vec::new()),
                false => Err(self.area.too_much("used_idx lag", u64::from(cut_off))),
            };
        }
        let mut head = self.last_linked(queue)?;
        let mut heads = Vec::new();
        for _ in 0..cut_off {
            let next = self.area.entry(queue, head)? + NEXT;
            heads.push(head);
            head = self.area.half(next);
        }
        Ok(heads)
    }
}
