//! A front-end whose memory is copied while its back-end writes to it: the dirty log, and the copy that is made by it.
//!
//! What only the device writes is copied: receive buffers, and used rings. At the end the copy has to be what memory is.

use super::setup::Task;
use super::{FrontError, SimFront};
use crate::memory::{DirtyLog, GuestAccess, LOG_PAGE_BYTES};
use crate::ring::{Layout, SplitLayout};
use crate::wire::features::LOG_ALL;
use crate::wire::{Log, ProtocolFeature, id::frontend as request};

/// VHOST_VRING_F_LOG.
pub(super) const ADDRESS_LOGS: u32 = 1;
/// Bytes of a used ring's flags, which nobody has to log.
const USED_FLAGS_BYTES: u64 = 2;
/// Bytes of avail_event at its end, likewise.
const AVAIL_EVENT_BYTES: u64 = 2;

/// A copy under way.
#[derive(Debug)]
pub(super) struct Migration {
    log: DirtyLog,
    /// What is copied, by guest address.
    copies: Vec<(u64, Vec<u8>)>,
    /// Pages that were copied because of the log.
    pages: u64,
}

/// A byte that was written and not logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unlogged {
    /// Its guest address.
    pub address: u64,
    /// What is there.
    pub is: u8,
    /// What the copy has.
    pub copied: u8,
}

impl SimFront {
    /// Only the device writes these bytes from now on.
    pub fn note_device_writes(&mut self, address: u64, bytes: u64) {
        self.device_writes.push((address, bytes));
    }

    /// Has writes to memory and to the rings logged. Once that is so, [`Self::copy_all`] makes the copy.
    pub fn begin_migration(&mut self) -> Result<(), FrontError> {
        if self.offered & LOG_ALL == 0 || !self.has(ProtocolFeature::LogShmfd) {
            return Err(FrontError::NoLog);
        }
        self.features |= LOG_ALL;
        self.tasks.extend([Task::LogBase, Task::SetFeatures]);
        self.tasks.extend((0..self.config.queues).map(Task::RingAddr));
        self.advance();
        Ok(())
    }

    pub(super) fn is_logged(&self) -> bool {
        self.features & LOG_ALL != 0
    }

    pub(super) fn send_log(&mut self) -> Result<(), FrontError> {
        let end = self.memory.regions().iter().map(|r| r.guest_address + r.size).max();
        let (log, fd) = DirtyLog::allocate(end.unwrap_or(0))?;
        let size = log.size();
        self.migration = Some(Migration {
            log,
            copies: Vec::new(),
            pages: 0,
        });
        self.request(request::SET_LOG_BASE, Log { size, offset: 0 }.into(), vec![fd]);
        Ok(())
    }

    /// Copies all that the device writes, for the first time.
    pub fn copy_all(&mut self) -> Result<(), FrontError> {
        let mut places = self.device_writes.clone();
        for ring in &self.rings {
            if let Layout::Split(layout) = ring.driver.layout() {
                let bytes = SplitLayout::used_bytes(layout.size) - USED_FLAGS_BYTES - AVAIL_EVENT_BYTES;
                places.push((layout.used + USED_FLAGS_BYTES, bytes));
            }
        }
        let Some(migration) = &mut self.migration else {
            return Err(FrontError::NoLog);
        };
        // what was noted before is copied now
        let _ = migration.log.take();
        for (address, bytes) in places {
            let mut copy = vec![0; bytes as usize];
            self.memory.read(address, &mut copy)?;
            migration.copies.push((address, copy));
        }
        Ok(())
    }

    /// Copies the pages that were written since the last time; how many.
    pub fn copy_dirty(&mut self) -> Result<u64, FrontError> {
        let Some(migration) = &mut self.migration else {
            return Err(FrontError::NoLog);
        };
        let pages = migration.log.take();
        for page in &pages {
            let (from, to) = (page * LOG_PAGE_BYTES, (page + 1) * LOG_PAGE_BYTES);
            for (address, copy) in &mut migration.copies {
                let (first, last) = (from.max(*address), to.min(*address + copy.len() as u64));
                if first < last {
                    let at = (first - *address) as usize;
                    self.memory.read(first, &mut copy[at..at + (last - first) as usize])?;
                }
            }
        }
        migration.pages += pages.len() as u64;
        Ok(migration.pages)
    }

    /// The first byte in which the copy is not what memory is, while nobody writes.
    pub fn unlogged(&self) -> Result<Option<Unlogged>, FrontError> {
        let migration = self.migration.as_ref().ok_or(FrontError::NoLog)?;
        for (address, copy) in &migration.copies {
            let mut now = vec![0; copy.len()];
            self.memory.read(*address, &mut now)?;
            if let Some(at) = now.iter().zip(copy).position(|(is, copied)| is != copied) {
                return Ok(Some(Unlogged {
                    address: address + at as u64,
                    is: now[at],
                    copied: copy[at],
                }));
            }
        }
        Ok(None)
    }
}
