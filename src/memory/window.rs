//! A range of a file that the other side has passed, mapped: a shared memory region's piece, a notification page.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use super::MemoryError;
use super::mapping::{Access, FileMap};

/// A mapped range of a file.
#[derive(Debug)]
pub struct Window {
    map: FileMap,
    writable: bool,
}

impl Window {
    /// Maps `size` bytes of the file from `offset`; a window that is not writable refuses to be written.
    pub fn new(fd: OwnedFd, offset: u64, size: u64, writable: bool) -> Result<Self, MemoryError> {
        let access = if writable { Access::Write } else { Access::Read };
        if size == 0 {
            return Err(MemoryError::EmptyRegion { guest_address: offset });
        }
        let map = FileMap::new(fd, offset, size, access)?;
        Ok(Self { map, writable })
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.map.size()
    }

    /// Fills `into` from `at`.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.check(at, into.len() as u64)?;
        self.map.read(at, into)
    }

    /// Copies `from` to `at`.
    pub fn write(&self, at: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.check_writable()?;
        self.check(at, from.len() as u64)?;
        self.map.write(at, from)
    }

    /// Takes the u16 at `at`, leaving another one there.
    pub fn swap_u16(&self, at: u64, value: u16) -> Result<u16, MemoryError> {
        self.check_writable()?;
        let atomic: &std::sync::atomic::AtomicU16 = self
            .map
            .atomic(at)
            .ok_or(MemoryError::Misaligned { address: at, align: 2 })?;
        let before = u16::from_le(atomic.swap(value.to_le(), Ordering::AcqRel));
        self.map.check_there().map(|()| before)
    }

    /// Leaves a u16 at `at`.
    pub fn store_u16(&self, at: u64, value: u16) -> Result<(), MemoryError> {
        self.swap_u16(at, value).map(drop)
    }

    fn check_writable(&self) -> Result<(), MemoryError> {
        let refused = MemoryError::System {
            call: "write through a read-only mapping",
            errno: nix::errno::Errno::EACCES,
        };
        if self.writable { Ok(()) } else { Err(refused) }
    }

    fn check(&self, at: u64, length: u64) -> Result<(), MemoryError> {
        match at.checked_add(length) {
            Some(end) if end <= self.size() => Ok(()),
            _ => Err(MemoryError::Overflow {
                what: "window",
                address: at,
                size: length,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken: two windows on one file do not show the same bytes, or one reaches beyond its end.
    #[test]
    fn two_windows_on_one_file_are_one_memory() {
        let file = crate::sys::fd::memfd("vuh", 0x3000).unwrap();
        let other = crate::sys::fd::duplicate(&file).unwrap();
        let one = Window::new(file, 0x1000, 0x1000, true).unwrap();
        let two = Window::new(other, 0, 0x3000, false).unwrap();
        one.write(0x10, b"shared").unwrap();
        let mut seen = [0; 6];
        two.read(0x1010, &mut seen).unwrap();
        assert_eq!(&seen, b"shared");
        assert!(two.write(0, b"no").is_err() && two.swap_u16(0, 1).is_err());
        assert!(one.write(0xffe, b"over").is_err());
        assert!(one.write(u64::MAX, b"over").is_err());
        one.store_u16(0, 7).unwrap();
        assert_eq!(one.swap_u16(0, 9).unwrap(), 7);
        assert!(one.swap_u16(1, 9).is_err());
    }

    /// Broken: a range that the file does not have is mapped, and an access to it ends the process.
    #[test]
    fn a_window_beyond_its_file_is_refused() {
        let file = crate::sys::fd::memfd("vuh", 0x1000).unwrap();
        assert!(Window::new(file, 0x1000, 0x1000, true).is_err());
        assert!(Window::new(crate::sys::fd::eventfd().unwrap(), 0, 0x1000, true).is_err());
    }
}
