//! The inflight area: which requests a back-end has taken and not returned, kept across its crash.
//!
//! One region for each queue, in one of two formats: [`SplitInflight`] or [`PackedInflight`], by the kind of ring that was
//! negotiated. The specification gives the fields but not the distance between queues; DPDK's is taken, which equals
//! libvhost-user's for every power of two from 4 on.
//!
//! Whoever writes into it can be killed between any two stores, so each one is a release: they come in the order of the source.

mod life;
mod packed;
mod split;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

pub use life::{Life, MortalAccess};
pub use packed::{InflightDescriptor, PackedInflight, UsedPosition};
pub use split::SplitInflight;

use super::MemoryError;
use super::guest::{dup, sealed_memfd};
use super::mapping::{Access, FileMap};

/// Queues begin at multiples of this, in bytes.
pub const INFLIGHT_ALIGN: u64 = 64;

const VERSION: u64 = 8;
const DESC_NUM: u64 = 10;
/// In an entry of either format: 1 while it is in flight.
const INFLIGHT: u64 = 0;
/// In an entry of either format: when it was taken.
const COUNTER: u64 = 8;

/// The kind of ring that an area is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InflightFormat {
    /// QueueRegionSplit.
    Split,
    /// QueueRegionPacked.
    Packed,
}

impl InflightFormat {
    /// What a region begins with, in bytes.
    const fn header(self) -> u64 {
        match self {
            Self::Split => 16,
            // seven bytes of padding are declared, and the entries' alignment adds three
            Self::Packed => 32,
        }
    }

    /// Bytes of an entry.
    const fn entry(self) -> u64 {
        match self {
            Self::Split => 16,
            Self::Packed => 32,
        }
    }

    /// Bytes from one queue to the next.
    #[must_use]
    pub const fn stride(self, queue_size: u16) -> u64 {
        (self.header() + self.entry() * queue_size as u64).next_multiple_of(INFLIGHT_ALIGN)
    }
}

/// A mapped inflight area.
#[derive(Debug)]
pub enum Inflight {
    /// Of split rings.
    Split(SplitInflight),
    /// Of packed rings.
    Packed(PackedInflight),
}

impl Inflight {
    /// Makes a fresh area and gives the fd to pass on (GET_INFLIGHT_FD).
    pub fn allocate(format: InflightFormat, queues: u16, queue_size: u16) -> Result<(Self, OwnedFd), MemoryError> {
        let fd = sealed_memfd(format.stride(queue_size) * u64::from(queues))?;
        let size = format.stride(queue_size) * u64::from(queues);
        Ok((Self::map(dup(&fd)?, format, 0, size, queues, queue_size)?, fd))
    }

    /// Maps an area that the front-end has given back (SET_INFLIGHT_FD).
    pub fn map(
        fd: OwnedFd,
        format: InflightFormat,
        offset: u64,
        size: u64,
        queues: u16,
        queue_size: u16,
    ) -> Result<Self, MemoryError> {
        let area = Area::map(fd, format, [offset, size], queues, queue_size, Access::Write)?;
        Ok(Self::of(area))
    }

    /// The same for somebody who only looks: recording ends the process.
    pub fn map_to_look(
        fd: OwnedFd,
        format: InflightFormat,
        offset: u64,
        size: u64,
        queues: u16,
        queue_size: u16,
    ) -> Result<Self, MemoryError> {
        let area = Area::map(fd, format, [offset, size], queues, queue_size, Access::Read)?;
        Ok(Self::of(area))
    }

    fn of(area: Area) -> Self {
        match area.format {
            InflightFormat::Split => Self::Split(SplitInflight::new(area)),
            InflightFormat::Packed => Self::Packed(PackedInflight::new(area)),
        }
    }

    fn area(&self) -> &Area {
        match self {
            Self::Split(split) => split.area(),
            Self::Packed(packed) => packed.area(),
        }
    }

    /// Whoever writes into it has only so long to live.
    pub fn lives(&mut self, life: Life) {
        match self {
            Self::Split(split) => split.area_mut().life = Some(life),
            Self::Packed(packed) => packed.area_mut().life = Some(life),
        }
    }

    /// What is recorded of a queue does not hold any more: it goes on as with a fresh area.
    pub fn forget(&mut self, queue: u16) -> Result<(), MemoryError> {
        let area = self.area();
        area.put_half(area.base(queue)? + VERSION, 0);
        for entry in 0..area.queue_size {
            area.put_byte(area.entry(queue, entry)? + INFLIGHT, 0);
        }
        Ok(())
    }

    /// Whether a back-end has written the region of a queue.
    pub fn is_begun(&self, queue: u16) -> Result<bool, MemoryError> {
        Ok(!self.area().is_fresh(self.area().base(queue)?))
    }

    /// Bytes in the area.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.area().map.size()
    }

    /// Rings it has room for.
    #[must_use]
    pub fn queues(&self) -> u16 {
        self.area().queues
    }

    /// Descriptors a ring it has room for.
    #[must_use]
    pub fn queue_size(&self) -> u16 {
        self.area().queue_size
    }

    /// What a queue's region says of itself: version and number of entries.
    pub fn header(&self, queue: u16) -> Result<[u16; 2], MemoryError> {
        let (area, base) = (self.area(), self.area().base(queue)?);
        Ok([area.half(base + VERSION), area.half(base + DESC_NUM)])
    }
}

/// The mapped bytes, and where the regions of the queues and their entries stand.
#[derive(Debug)]
struct Area {
    map: FileMap,
    format: InflightFormat,
    queues: u16,
    queue_size: u16,
    /// What its writer still gets to write; none: all.
    life: Option<Life>,
}

impl Area {
    fn map(
        fd: OwnedFd,
        format: InflightFormat,
        [offset, size]: [u64; 2],
        queues: u16,
        queue_size: u16,
        access: Access,
    ) -> Result<Self, MemoryError> {
        if queues == 0 {
            return Err(bad("num_queues", 0, "1 or more"));
        }
        if queue_size == 0 {
            return Err(bad("queue_size", 0, "1 or more"));
        }
        let least = format.stride(queue_size) * u64::from(queues);
        if size < least {
            return Err(bad("mmap_size", size, &format!("{least} or more")));
        }
        let map = FileMap::new(fd, offset, size, access)?;
        if map.host_address() % 8 != 0 {
            return Err(bad("mmap_offset", offset, "a multiple of 8"));
        }
        Ok(Self {
            map,
            format,
            queues,
            queue_size,
            life: None,
        })
    }

    /// Whether a queue's region is fresh, which is then to be written, and [`Self::begin`] called.
    fn is_fresh(&self, base: u64) -> bool {
        self.half(base + VERSION) == 0
    }

    /// A queue's region is written: from here on it holds.
    fn begin(&self, base: u64) {
        self.put_half(base + DESC_NUM, self.queue_size);
        self.put_half(base + VERSION, 1);
    }

    /// What was recorded can be read as it says it is to be.
    fn check(&self, base: u64) -> Result<(), MemoryError> {
        let desc_num = self.half(base + DESC_NUM);
        if desc_num > self.queue_size {
            return Err(self.too_much("desc_num", u64::from(desc_num)));
        }
        Ok(())
    }

    /// The entries that are marked as in flight, oldest first.
    fn marked(&self, queue: u16) -> Result<Vec<u16>, MemoryError> {
        let mut marked = Vec::new();
        for entry in 0..self.queue_size {
            let at = self.entry(queue, entry)?;
            if self.byte(at + INFLIGHT) == 1 {
                marked.push((self.word(at + COUNTER), entry));
            }
        }
        marked.sort_unstable();
        Ok(marked.into_iter().map(|(_, entry)| entry).collect())
    }

    /// What a back-end goes on counting with that has found these entries, the youngest last.
    fn next_counter(&self, queue: u16, found: &[u16]) -> Result<u64, MemoryError> {
        let youngest = found.last().map(|entry| self.entry(queue, *entry)).transpose()?;
        // it came from the peer and may stand at the end of its range
        Ok(youngest.map_or(0, |at| self.word(at + COUNTER).wrapping_add(1)))
    }

    fn base(&self, queue: u16) -> Result<u64, MemoryError> {
        if queue >= self.queues {
            return Err(bad("queue", queue.into(), &format!("below {}", self.queues)));
        }
        Ok(self.format.stride(self.queue_size) * u64::from(queue))
    }

    fn entry(&self, queue: u16, entry: u16) -> Result<u64, MemoryError> {
        if entry >= self.queue_size {
            return Err(bad("head", entry.into(), &format!("below {}", self.queue_size)));
        }
        Ok(self.base(queue)? + self.format.header() + self.format.entry() * u64::from(entry))
    }

    fn too_much(&self, what: &'static str, value: u64) -> MemoryError {
        bad(what, value, &format!("{} or less", self.queue_size))
    }

    fn byte(&self, at: u64) -> u8 {
        self.at::<AtomicU8>(at).load(Ordering::Acquire)
    }

    fn half(&self, at: u64) -> u16 {
        self.at::<AtomicU16>(at).load(Ordering::Acquire)
    }

    fn quad(&self, at: u64) -> u32 {
        self.at::<AtomicU32>(at).load(Ordering::Acquire)
    }

    fn word(&self, at: u64) -> u64 {
        self.at::<AtomicU64>(at).load(Ordering::Acquire)
    }

    fn put_byte(&self, at: u64, value: u8) {
        if self.may_write() {
            self.at::<AtomicU8>(at).store(value, Ordering::Release);
        }
    }

    fn put_half(&self, at: u64, value: u16) {
        if self.may_write() {
            self.at::<AtomicU16>(at).store(value, Ordering::Release);
        }
    }

    fn put_quad(&self, at: u64, value: u32) {
        if self.may_write() {
            self.at::<AtomicU32>(at).store(value, Ordering::Release);
        }
    }

    fn put_word(&self, at: u64, value: u64) {
        if self.may_write() {
            self.at::<AtomicU64>(at).store(value, Ordering::Release);
        }
    }

    fn may_write(&self) -> bool {
        self.life.as_ref().is_none_or(Life::writes)
    }

    fn at<T: vm_memory::AtomicInteger>(&self, at: u64) -> &T {
        self.map
            .atomic(at)
            .expect("queue and entry were checked against the mapped size, and the area is aligned to 8")
    }
}

fn bad(what: &'static str, value: u64, allowed: &str) -> MemoryError {
    MemoryError::BadInflight {
        what,
        value,
        allowed: allowed.to_owned(),
    }
}
