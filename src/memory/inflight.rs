//! The inflight area for split rings: which requests a back-end has taken and not returned, kept across its crash.
//!
//! The specification gives the fields but not the distance between queues. [`inflight_stride_split`] takes DPDK's, which equals
//! libvhost-user's for every power of two from 4 on.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};

use super::MemoryError;
use super::guest::{dup, sealed_memfd};
use super::mapping::{Access, FileMap};

/// Queues begin at multiples of this, in bytes.
pub const INFLIGHT_ALIGN: u64 = 64;

const VERSION: u64 = 8;
const DESC_NUM: u64 = 10;
const LAST_BATCH_HEAD: u64 = 12;
const USED_IDX: u64 = 14;
const DESC: u64 = 16;
const DESC_BYTES: u64 = 16;
const DESC_NEXT: u64 = 6;
const DESC_COUNTER: u64 = 8;

/// Bytes from one queue to the next.
#[must_use]
pub const fn inflight_stride_split(queue_size: u16) -> u64 {
    (DESC + DESC_BYTES * queue_size as u64).next_multiple_of(INFLIGHT_ALIGN)
}

/// A mapped inflight area of `queues` split rings of one size.
#[derive(Debug)]
pub struct Inflight {
    map: FileMap,
    queue_size: u16,
    /// Next value of the counter that orders fetches, for each queue.
    counters: Vec<u64>,
}

impl Inflight {
    /// Makes a fresh area and gives the fd to pass on (GET_INFLIGHT_FD).
    pub fn allocate(queues: u16, queue_size: u16) -> Result<(Self, OwnedFd), MemoryError> {
        let size = inflight_stride_split(queue_size) * u64::from(queues);
        let fd = sealed_memfd(size)?;
        Ok((Self::map(dup(&fd)?, 0, size, queues, queue_size)?, fd))
    }

    /// Maps an area that the front-end has given back (SET_INFLIGHT_FD).
    pub fn map(fd: OwnedFd, offset: u64, size: u64, queues: u16, queue_size: u16) -> Result<Self, MemoryError> {
        Self::with(fd, offset, size, queues, queue_size, Access::Write)
    }

    /// The same for somebody who only looks: recording ends the process.
    pub fn map_to_look(fd: OwnedFd, offset: u64, size: u64, queues: u16, queue_size: u16) -> Result<Self, MemoryError> {
        Self::with(fd, offset, size, queues, queue_size, Access::Read)
    }

    fn with(
        fd: OwnedFd,
        offset: u64,
        size: u64,
        queues: u16,
        queue_size: u16,
        access: Access,
    ) -> Result<Self, MemoryError> {
        let bad = |what, value, allowed: &str| MemoryError::BadInflight {
            what,
            value,
            allowed: allowed.to_owned(),
        };
        if queues == 0 {
            return Err(bad("num_queues", 0, "1 or more"));
        }
        if queue_size == 0 {
            return Err(bad("queue_size", 0, "1 or more"));
        }
        let least = inflight_stride_split(queue_size) * u64::from(queues);
        if size < least {
            return Err(bad("mmap_size", size, &format!("{least} or more")));
        }
        let map = FileMap::new(fd, offset, size, access)?;
        if map.host_address() % 8 != 0 {
            return Err(bad("mmap_offset", offset, "a multiple of 8"));
        }
        Ok(Self {
            map,
            queue_size,
            counters: vec![0; usize::from(queues)],
        })
    }

    /// Bytes in the area.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.map.size()
    }

    /// Writes version and size of a queue if it is fresh; says whether it was.
    pub fn init(&mut self, queue: u16) -> Result<bool, MemoryError> {
        let base = self.base(queue)?;
        if self.half(base + VERSION).load(Ordering::Acquire) != 0 {
            return Ok(false);
        }
        self.half(base + DESC_NUM).store(self.queue_size, Ordering::Relaxed);
        self.half(base + VERSION).store(1, Ordering::Release);
        Ok(true)
    }

    /// Notes that a chain was taken from the available ring.
    pub fn fetch(&mut self, queue: u16, head: u16) -> Result<(), MemoryError> {
        let desc = self.desc(queue, head)?;
        let counter = &mut self.counters[usize::from(queue)];
        let now = *counter;
        // A recovered counter came from the peer and may stand at the end of its range.
        *counter = now.wrapping_add(1);
        self.word(desc + DESC_COUNTER).store(now, Ordering::Relaxed);
        self.byte(desc).store(1, Ordering::Release);
        Ok(())
    }

    /// Links a head into the batch about to be returned; call before used.idx advances.
    pub fn link(&mut self, queue: u16, head: u16) -> Result<(), MemoryError> {
        let (base, desc) = (self.base(queue)?, self.desc(queue, head)?);
        let last = self.half(base + LAST_BATCH_HEAD).load(Ordering::Relaxed);
        self.half(desc + DESC_NEXT).store(last, Ordering::Relaxed);
        self.half(base + LAST_BATCH_HEAD).store(head, Ordering::Release);
        Ok(())
    }

    /// Clears the batch and notes used.idx; call after used.idx has advanced.
    pub fn complete(&mut self, queue: u16, heads: &[u16], used_idx: u16) -> Result<(), MemoryError> {
        for head in heads {
            self.clear(queue, *head)?;
        }
        self.note_used(queue, used_idx)
    }

    /// Notes that a head is not in flight: it was returned, or put back.
    pub fn clear(&mut self, queue: u16, head: u16) -> Result<(), MemoryError> {
        self.byte(self.desc(queue, head)?).store(0, Ordering::Release);
        Ok(())
    }

    /// Notes used.idx: the last batch is over.
    pub fn note_used(&mut self, queue: u16, used_idx: u16) -> Result<(), MemoryError> {
        self.half(self.base(queue)? + USED_IDX)
            .store(used_idx, Ordering::Release);
        Ok(())
    }

    /// The used.idx that was noted last.
    pub fn noted_used(&self, queue: u16) -> Result<u16, MemoryError> {
        Ok(self.half(self.base(queue)? + USED_IDX).load(Ordering::Acquire))
    }

    /// The head that was linked last.
    pub fn last_linked(&self, queue: u16) -> Result<u16, MemoryError> {
        Ok(self.half(self.base(queue)? + LAST_BATCH_HEAD).load(Ordering::Acquire))
    }

    /// Whether a head is taken and not returned.
    pub fn is_inflight(&self, queue: u16, head: u16) -> Result<bool, MemoryError> {
        Ok(self.byte(self.desc(queue, head)?).load(Ordering::Acquire) == 1)
    }

    /// Finishes a batch that the crash cut off and gives the heads to submit again, oldest first.
    ///
    /// `used_idx` is what the used ring says now. libvhost-user then takes `used_idx` plus their number as the next available.
    pub fn recover(&mut self, queue: u16, used_idx: u16) -> Result<Vec<u16>, MemoryError> {
        self.roll_back(queue, used_idx)?;
        let again = self.left_over(queue)?;
        let youngest = again.last().map(|head| self.desc(queue, *head)).transpose()?;
        self.counters[usize::from(queue)] = youngest.map_or(0, |desc| {
            self.word(desc + DESC_COUNTER).load(Ordering::Relaxed).wrapping_add(1)
        });
        Ok(again)
    }

    /// Clears what was returned and not noted: as many heads as used.idx is ahead, from the one that was linked last.
    pub fn roll_back(&mut self, queue: u16, used_idx: u16) -> Result<(), MemoryError> {
        let base = self.base(queue)?;
        let desc_num = self.half(base + DESC_NUM).load(Ordering::Acquire);
        if desc_num > self.queue_size {
            return Err(self.contradiction("desc_num", u64::from(desc_num)));
        }
        for head in self.cut_off(queue, used_idx)? {
            self.clear(queue, head)?;
        }
        self.note_used(queue, used_idx)
    }

    /// The heads that are marked as in flight, oldest first.
    pub fn left_over(&self, queue: u16) -> Result<Vec<u16>, MemoryError> {
        let mut marked = Vec::new();
        for head in 0..self.queue_size {
            let desc = self.desc(queue, head)?;
            if self.byte(desc).load(Ordering::Acquire) == 1 {
                marked.push((self.word(desc + DESC_COUNTER).load(Ordering::Relaxed), head));
            }
        }
        marked.sort_unstable();
        Ok(marked.into_iter().map(|(_, head)| head).collect())
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
        if cut_off > self.queue_size {
            return match self.left_over(queue)?.is_empty() {
                // with nothing in flight it is a ring that the driver has made anew
                true => Ok(Vec::new()),
                false => Err(self.contradiction("used_idx lag", u64::from(cut_off))),
            };
        }
        let mut head = self.last_linked(queue)?;
        let mut heads = Vec::new();
        for _ in 0..cut_off {
            let next = self.desc(queue, head)? + DESC_NEXT;
            heads.push(head);
            head = self.half(next).load(Ordering::Relaxed);
        }
        Ok(heads)
    }

    /// Rings it has room for.
    #[must_use]
    pub fn queues(&self) -> u16 {
        self.counters.len() as u16
    }

    /// Descriptors a ring it has room for.
    #[must_use]
    pub fn queue_size(&self) -> u16 {
        self.queue_size
    }

    fn contradiction(&self, what: &'static str, value: u64) -> MemoryError {
        MemoryError::BadInflight {
            what,
            value,
            allowed: format!("{} or less", self.queue_size),
        }
    }

    fn base(&self, queue: u16) -> Result<u64, MemoryError> {
        let queues = self.counters.len();
        if usize::from(queue) >= queues {
            let allowed = format!("below {queues}");
            return Err(MemoryError::BadInflight {
                what: "queue",
                value: u64::from(queue),
                allowed,
            });
        }
        Ok(inflight_stride_split(self.queue_size) * u64::from(queue))
    }

    fn desc(&self, queue: u16, head: u16) -> Result<u64, MemoryError> {
        if head >= self.queue_size {
            let allowed = format!("below {}", self.queue_size);
            return Err(MemoryError::BadInflight {
                what: "head",
                value: u64::from(head),
                allowed,
            });
        }
        Ok(self.base(queue)? + DESC + DESC_BYTES * u64::from(head))
    }

    fn byte(&self, at: u64) -> &AtomicU8 {
        self.map
            .atomic(at)
            .expect("queue and head were checked against the mapped size")
    }

    fn half(&self, at: u64) -> &AtomicU16 {
        self.map
            .atomic(at)
            .expect("queue and head were checked, the area is aligned to 8")
    }

    fn word(&self, at: u64) -> &AtomicU64 {
        self.map
            .atomic(at)
            .expect("queue and head were checked, the area is aligned to 8")
    }
}
