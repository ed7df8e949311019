//! The dirty log: one bit a page of 4096 bytes, set by the back-end, taken by the front-end (VHOST_USER_SET_LOG_BASE).

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, Ordering};

use super::guest::{dup, sealed_memfd};
use super::mapping::{Access, FileMap};
use super::{GuestAccess, MemoryError};

/// Bytes a bit stands for, whatever the page size of the host.
pub const LOG_PAGE_BYTES: u64 = 0x1000;

/// A mapped dirty log.
#[derive(Debug)]
pub struct DirtyLog {
    map: FileMap,
}

impl DirtyLog {
    /// Maps `size` bytes of the log's file from `offset`.
    pub fn map(fd: OwnedFd, offset: u64, size: u64) -> Result<Self, MemoryError> {
        Self::with(fd, offset, size, Access::Write)
    }

    /// The same for somebody who only looks: marking or taking bits ends the process.
    pub fn map_to_look(fd: OwnedFd, offset: u64, size: u64) -> Result<Self, MemoryError> {
        Self::with(fd, offset, size, Access::Read)
    }

    fn with(fd: OwnedFd, offset: u64, size: u64, access: Access) -> Result<Self, MemoryError> {
        if size == 0 {
            return Err(MemoryError::EmptyLog);
        }
        Ok(Self {
            map: FileMap::new(fd, offset, size, access)?,
        })
    }

    /// Makes a log for guest addresses below `guest_end` and gives the fd to pass on; sized in u64 chunks as QEMU does.
    pub fn allocate(guest_end: u64) -> Result<(Self, OwnedFd), MemoryError> {
        let size = 8 * (guest_end.saturating_sub(1) / (64 * LOG_PAGE_BYTES) + 1);
        let fd = sealed_memfd(size)?;
        Ok((Self::map(dup(&fd)?, 0, size)?, fd))
    }

    /// Bytes in the log.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.map.size()
    }

    /// Sets the bit of every page in `address..address + length`, by atomic OR; nothing is set if one has no bit.
    pub fn mark(&self, address: u64, length: u64) -> Result<(), MemoryError> {
        self.check(address, length)?;
        if length == 0 {
            return Ok(());
        }
        let last = (address + (length - 1)) / LOG_PAGE_BYTES;
        for page in address / LOG_PAGE_BYTES..=last {
            // Release: whoever sees the bit sees the bytes that were written before it.
            self.byte(page / 8).fetch_or(1 << (page % 8), Ordering::Release);
        }
        self.map.check_there()
    }

    /// Whether every page of `address..address + length` has a bit.
    pub fn check(&self, address: u64, length: u64) -> Result<(), MemoryError> {
        let past = || MemoryError::PastLog {
            address,
            length,
            log_size: self.size(),
        };
        let last = address.checked_add(length.saturating_sub(1)).ok_or_else(past)?;
        if length > 0 && last / LOG_PAGE_BYTES / 8 >= self.size() {
            return Err(past());
        }
        Ok(())
    }

    /// Whether the page of this address is marked; addresses the log does not cover are not.
    #[must_use]
    pub fn is_marked(&self, address: u64) -> bool {
        let page = address / LOG_PAGE_BYTES;
        page / 8 < self.size() && self.byte(page / 8).load(Ordering::Acquire) & (1 << (page % 8)) != 0
    }

    /// Takes and clears all bits; gives page numbers in rising order.
    #[must_use]
    pub fn take(&self) -> Vec<u64> {
        let mut pages = Vec::new();
        for at in 0..self.size() {
            let bits = self.byte(at).swap(0, Ordering::AcqRel);
            pages.extend((0..8).filter(|bit| bits & (1 << bit) != 0).map(|bit| at * 8 + bit));
        }
        pages
    }

    fn byte(&self, at: u64) -> &AtomicU8 {
        self.map
            .atomic(at)
            .expect("callers stay below the log's size and a byte is always aligned")
    }
}

/// Guest memory whose writes are logged, for a back-end while VHOST_F_LOG_ALL is on.
pub struct LoggedAccess<'a> {
    memory: &'a dyn GuestAccess,
    log: &'a DirtyLog,
}

impl<'a> LoggedAccess<'a> {
    /// Logs writes to `memory` in `log`.
    #[must_use]
    pub fn new(memory: &'a dyn GuestAccess, log: &'a DirtyLog) -> Self {
        Self { memory, log }
    }
}

impl GuestAccess for LoggedAccess<'_> {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.read(gpa, into)
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.log.check(gpa, from.len() as u64)?;
        // Marked after the write: a bit taken before it would let the page be copied with its old content.
        self.memory.write(gpa, from)?;
        self.log.mark(gpa, from.len() as u64)
    }

    fn load_u16(&self, gpa: u64, order: Ordering) -> Result<u16, MemoryError> {
        self.memory.load_u16(gpa, order)
    }

    fn store_u16(&self, gpa: u64, value: u16, order: Ordering) -> Result<(), MemoryError> {
        self.log.check(gpa, 2)?;
        self.memory.store_u16(gpa, value, order)?;
        self.log.mark(gpa, 2)
    }

    fn user_to_guest(&self, uva: u64) -> Result<u64, MemoryError> {
        self.memory.user_to_guest(uva)
    }

    fn contiguous(&self, gpa: u64, length: u64) -> Result<(), MemoryError> {
        self.memory.contiguous(gpa, length)
    }
}
