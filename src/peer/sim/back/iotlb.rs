//! The simulated back-end's translations: what the front-end has told of a device's addresses, and guest memory seen through it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::memory::{GuestAccess, MemoryError, RegionTable};
use crate::wire::Iotlb as Told;

/// Translations that are kept, at most. The lowest address goes first.
const ENTRIES_MAX: usize = 4096;
/// Permission bits.
pub(super) const READ: u8 = 1;
const WRITE: u8 = 2;

#[derive(Debug, Clone, Copy)]
struct Entry {
    size: u64,
    user: u64,
    permissions: u8,
}

/// Translations by device address.
#[derive(Debug, Default)]
pub(super) struct Iotlb {
    entries: BTreeMap<u64, Entry>,
}

impl Iotlb {
    /// An update; it replaces what overlaps it.
    pub(super) fn update(&mut self, told: &Told) -> Result<(), String> {
        if told.size == 0 || told.iova.checked_add(told.size).is_none() {
            return Err(format!("{:#x} bytes at {:#x}", told.size, told.iova));
        }
        self.invalidate(told.iova, told.size);
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.pop_first();
        }
        let entry = Entry {
            size: told.size,
            user: told.user_address,
            permissions: told.permissions,
        };
        self.entries.insert(told.iova, entry);
        Ok(())
    }

    /// Forgets all that overlaps a range.
    pub(super) fn invalidate(&mut self, iova: u64, size: u64) {
        let end = iova.saturating_add(size);
        self.entries
            .retain(|start, entry| start.saturating_add(entry.size) <= iova || *start >= end);
    }

    /// The user address of a device address, and how many bytes of the translation follow.
    fn find(&self, iova: u64, access: u8) -> Option<(u64, u64)> {
        let (start, entry) = self.entries.range(..=iova).next_back()?;
        let at = iova - start;
        let allowed = entry.permissions & access == access;
        (at < entry.size && allowed).then(|| (entry.user.wrapping_add(at), entry.size - at))
    }
}

/// A translation that was missing: the address, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Miss {
    pub(super) iova: u64,
    pub(super) permissions: u8,
}

/// Guest memory by device addresses.
pub(super) struct Translated<'a> {
    iotlb: &'a Iotlb,
    table: &'a RegionTable,
    memory: &'a dyn GuestAccess,
    missed: Cell<Option<Miss>>,
}

impl<'a> Translated<'a> {
    /// `memory` is what is accessed once `table` has made a guest address of a user address.
    pub(super) fn new(iotlb: &'a Iotlb, table: &'a RegionTable, memory: &'a dyn GuestAccess) -> Self {
        Self {
            iotlb,
            table,
            memory,
            missed: Cell::new(None),
        }
    }

    /// The first translation that was missing.
    pub(super) fn missed(&self) -> Option<Miss> {
        self.missed.get()
    }

    /// Whether all of a range is translated, for reading or for writing. A miss is taken note of.
    pub(super) fn covers(&self, iova: u64, length: u64, writes: bool) -> Result<(), MemoryError> {
        let access = if writes { WRITE } else { READ };
        self.walk(iova, length, access, |_, guest, length| {
            self.memory.contiguous(guest, length)
        })
    }

    fn guest(&self, iova: u64, access: u8) -> Result<(u64, u64), MemoryError> {
        match self.iotlb.find(iova, access) {
            Some((user, follow)) => Ok((self.table.user_to_guest(user)?, follow)),
            None => {
                let permissions = access;
                if self.missed.get().is_none() {
                    self.missed.set(Some(Miss { iova, permissions }));
                }
                Err(MemoryError::Untranslated { iova })
            }
        }
    }

    /// Every step leaves one translation, so the walk ends after as many steps as there are.
    fn walk(
        &self,
        iova: u64,
        length: u64,
        access: u8,
        mut piece: impl FnMut(usize, u64, u64) -> Result<(), MemoryError>,
    ) -> Result<(), MemoryError> {
        let mut done = 0;
        while done < length {
            let (guest, follow) = self.guest(iova.wrapping_add(done), access)?;
            let take = follow.min(length - done);
            piece(done as usize, guest, take)?;
            done += take;
        }
        Ok(())
    }
}

impl GuestAccess for Translated<'_> {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        let length = into.len() as u64;
        self.walk(gpa, length, READ, |at, guest, length| {
            self.memory.read(guest, &mut into[at..at + length as usize])
        })
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.walk(gpa, from.len() as u64, WRITE, |at, guest, length| {
            self.memory.write(guest, &from[at..at + length as usize])
        })
    }

    fn load_u16(&self, gpa: u64, order: Ordering) -> Result<u16, MemoryError> {
        let (guest, _) = self.guest(gpa, READ)?;
        self.memory.load_u16(guest, order)
    }

    fn store_u16(&self, gpa: u64, value: u16, order: Ordering) -> Result<(), MemoryError> {
        let (guest, _) = self.guest(gpa, WRITE)?;
        self.memory.store_u16(guest, value, order)
    }

    fn user_to_guest(&self, uva: u64) -> Result<u64, MemoryError> {
        self.memory.user_to_guest(uva)
    }

    fn contiguous(&self, gpa: u64, length: u64) -> Result<(), MemoryError> {
        self.covers(gpa, length, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(iova: u64, size: u64, user: u64) -> Told {
        Told {
            iova,
            size,
            user_address: user,
            permissions: 3,
            kind: 2,
            ..Told::default()
        }
    }

    /// Broken: a translation that was taken back is still used, or one beside it is lost with it.
    #[test]
    fn what_is_invalidated_is_forgotten_and_nothing_else() {
        let mut iotlb = Iotlb::default();
        for page in 0..3 {
            iotlb
                .update(&told(page * 0x1000, 0x1000, 0x9000 + page * 0x1000))
                .unwrap();
        }
        iotlb.invalidate(0x1000, 1);
        assert_eq!(iotlb.find(0xfff, READ), Some((0x9fff, 1)));
        assert_eq!(iotlb.find(0x1800, READ), None);
        assert_eq!(iotlb.find(0x2000, WRITE), Some((0xb000, 0x1000)));
        iotlb.update(&told(0x1000, 0x1000, 0x5000)).unwrap();
        assert_eq!(iotlb.find(0x1001, READ), Some((0x5001, 0xfff)));
        assert!(iotlb.update(&told(u64::MAX, 2, 0)).is_err());
    }
}
