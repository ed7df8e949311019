//! One mapped region, and the set of regions both views of guest memory are built on.
//!
//! A mapping is checked against its file's size when it is made. Unless it is sealed with F_SEAL_SHRINK, a peer can truncate
//! the file later: an access to what is gone is an error then, and so is every one after it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, VolatileMemory};

use super::{MemRegionDesc, MemoryError, Space};
use crate::sys::shared::SharedView;
use crate::sys::sigbus::GuardedMap;

/// Offsets are rounded down to this for mmap: the largest base page Linux has, thus a multiple of every smaller one.
const BASE_PAGE_BYTES: u64 = 0x1_0000;

/// What a mapping is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Looking only: a write through it is a fault of ours, and the kernel sees to it.
    Read,
    /// Reading and writing.
    Write,
}

/// A range of a file, mapped shared.
#[derive(Debug)]
pub(crate) struct FileMap {
    map: Arc<GuardedMap>,
    access: Access,
    file: Arc<File>,
    offset: u64,
    size: u64,
    /// Bytes between the start of the mapping and the range: what rounding the offset down has added.
    skip: usize,
}

impl FileMap {
    /// Maps `size` bytes of the file from `offset`, which need not be aligned.
    pub(crate) fn new(fd: OwnedFd, offset: u64, size: u64, access: Access) -> Result<Self, MemoryError> {
        let file = Arc::new(File::from(fd));
        check_size(&file, offset, size)?;
        let (page, huge) = page_bytes(&file)?;
        let (start, skip, length) = span(offset, size, page, huge)?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| isize::try_from(*length).is_ok())
            .ok_or(MemoryError::Overflow {
                what: "mapping",
                address: offset,
                size,
            })?;
        // Without a reservation an exhausted huge page pool would show as SIGBUS on first touch instead of ENOMEM here.
        let reserve = if huge { 0 } else { nix::libc::MAP_NORESERVE };
        let map = MmapRegionBuilder::new(length)
            .with_file_offset(FileOffset::from_arc(Arc::clone(&file), start))
            .with_mmap_prot(match access {
                Access::Read => nix::libc::PROT_READ,
                Access::Write => nix::libc::PROT_READ | nix::libc::PROT_WRITE,
            })
            .with_mmap_flags(nix::libc::MAP_SHARED | reserve)
            .with_hugetlbfs(huge)
            .build()
            .map_err(|error| match error {
                vm_memory::mmap::MmapRegionError::Mmap(error) => MemoryError::io("mmap", &error),
                _ => MemoryError::System {
                    call: "mmap",
                    errno: nix::errno::Errno::EINVAL,
                },
            })?;
        Ok(Self {
            map: Arc::new(GuardedMap::new(map)),
            access,
            file,
            offset,
            size,
            skip,
        })
    }

    /// The range without checks on each access; nothing if it is for looking only.
    pub(crate) fn view(&self) -> Option<SharedView> {
        let size = usize::try_from(self.size).ok()?;
        let view = || SharedView::new(Arc::clone(&self.map), self.skip, size);
        (self.access == Access::Write).then(view)?
    }

    /// Where the range's first byte is mapped.
    pub(crate) fn host_address(&self) -> u64 {
        (self.map.as_ptr().addr() + self.skip) as u64
    }

    /// Bytes in the range.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Copies out; the caller has checked the bounds.
    pub(crate) fn read(&self, at: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.slice(at, into.len()).copy_to(into);
        self.check_there()
    }

    /// Copies in; the caller has checked the bounds.
    pub(crate) fn write(&self, at: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.slice(at, from.len()).copy_from(from);
        self.check_there()
    }

    /// To be asked after an access: whether the file was there, or had been truncated under it.
    pub(crate) fn check_there(&self) -> Result<(), MemoryError> {
        if self.map.is_lost() {
            return Err(MemoryError::Truncated {
                offset: self.offset,
                size: self.size,
            });
        }
        Ok(())
    }

    /// An atomic in the mapping, or nothing if it is misaligned there or past the end.
    pub(crate) fn atomic<T: vm_memory::AtomicInteger>(&self, at: u64) -> Option<&T> {
        let end = at.checked_add(size_of::<T>() as u64)?;
        if end > self.size {
            return None;
        }
        self.map.get_atomic_ref(self.skip + at as usize).ok()
    }

    /// Looks at the file's size again, for callers that suspect it was truncated under the mapping.
    pub(crate) fn check_file(&self) -> Result<(), MemoryError> {
        check_size(&self.file, self.offset, self.size)
    }

    /// Whether the file is sealed against shrinking; nothing is known of files that have no seals.
    pub(crate) fn shrink_sealed(&self) -> Option<bool> {
        let seals = fcntl(&*self.file, FcntlArg::F_GET_SEALS).ok()?;
        Some(SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK))
    }

    fn slice(&self, at: u64, length: usize) -> vm_memory::VolatileSlice<'_, ()> {
        assert!(
            at.checked_add(length as u64).is_some_and(|end| end <= self.size),
            "bounds are checked by the caller"
        );
        self.map
            .get_slice(self.skip + at as usize, length)
            .expect("the mapping holds the whole range")
    }
}

/// A region whose file is mapped.
#[derive(Debug)]
pub(crate) struct Mapping {
    pub(crate) desc: MemRegionDesc,
    pub(crate) map: FileMap,
}

impl Mapping {
    /// Checks the region against itself and its file, and maps it.
    pub(crate) fn new(desc: MemRegionDesc, fd: OwnedFd, access: Access) -> Result<Self, MemoryError> {
        check_desc(&desc)?;
        Ok(Self {
            desc,
            map: FileMap::new(fd, desc.mmap_offset, desc.size, access)?,
        })
    }

    /// Offset of a guest address in the region.
    fn offset_of(&self, gpa: u64) -> Option<u64> {
        gpa.checked_sub(self.desc.guest_address)
            .filter(|offset| *offset < self.desc.size)
    }
}

/// Regions that overlap neither in guest nor in user space, in the order they were added.
#[derive(Debug, Default, Clone)]
pub(crate) struct MapSet {
    regions: Vec<Arc<Mapping>>,
}

impl MapSet {
    pub(crate) fn regions(&self) -> &[Arc<Mapping>] {
        &self.regions
    }

    /// Adds a region after checking it against the others.
    pub(crate) fn insert(&mut self, mapping: Mapping) -> Result<(), MemoryError> {
        self.check_room(&mapping.desc)?;
        self.regions.push(Arc::new(mapping));
        Ok(())
    }

    /// Checks for overlap, before anything is mapped.
    pub(crate) fn check_room(&self, new: &MemRegionDesc) -> Result<(), MemoryError> {
        for there in self.regions.iter().map(|region| &region.desc) {
            for (space, address, other) in [
                (Space::Guest, new.guest_address, there.guest_address),
                (Space::User, new.user_address, there.user_address),
            ] {
                if address < other.saturating_add(there.size) && other < address.saturating_add(new.size) {
                    let (size, other_size) = (new.size, there.size);
                    return Err(MemoryError::Overlap {
                        space,
                        address,
                        size,
                        other,
                        other_size,
                    });
                }
            }
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, index: usize) -> Arc<Mapping> {
        self.regions.remove(index)
    }

    pub(crate) fn known(&self, space: Space) -> String {
        if self.regions.is_empty() {
            return "none".to_owned();
        }
        let mut text = String::new();
        for (index, region) in self.regions.iter().enumerate() {
            let start = match space {
                Space::Guest => region.desc.guest_address,
                Space::User => region.desc.user_address,
            };
            let comma = if index == 0 { "" } else { ", " };
            text.push_str(&format!(
                "{comma}{start:#x}..{:#x}",
                start.saturating_add(region.desc.size)
            ));
        }
        text
    }

    pub(crate) fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.check_covered(gpa, into.len() as u64)?;
        let mut rest = into;
        let mut at = gpa;
        while !rest.is_empty() {
            let (mapping, offset) = self.find(at).ok_or_else(|| self.unmapped(at, rest.len() as u64))?;
            let take = (mapping.desc.size - offset).min(rest.len() as u64);
            let (now, later) = rest.split_at_mut(take as usize);
            mapping.map.read(offset, now)?;
            rest = later;
            at = at.wrapping_add(take);
        }
        Ok(())
    }

    pub(crate) fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.check_covered(gpa, from.len() as u64)?;
        let mut rest = from;
        let mut at = gpa;
        while !rest.is_empty() {
            let (mapping, offset) = self.find(at).ok_or_else(|| self.unmapped(at, rest.len() as u64))?;
            let take = (mapping.desc.size - offset).min(rest.len() as u64);
            let (now, later) = rest.split_at(take as usize);
            mapping.map.write(offset, now)?;
            rest = later;
            at = at.wrapping_add(take);
        }
        Ok(())
    }

    pub(crate) fn load_u16(&self, gpa: u64, order: Ordering) -> Result<u16, MemoryError> {
        let (mapping, atomic) = self.atomic_u16(gpa)?;
        let value = u16::from_le(atomic.load(order));
        mapping.map.check_there().map(|()| value)
    }

    pub(crate) fn store_u16(&self, gpa: u64, value: u16, order: Ordering) -> Result<(), MemoryError> {
        let (mapping, atomic) = self.atomic_u16(gpa)?;
        atomic.store(value.to_le(), order);
        mapping.map.check_there()
    }

    pub(crate) fn user_to_guest(&self, uva: u64) -> Result<u64, MemoryError> {
        self.regions
            .iter()
            .find_map(|region| {
                let offset = uva
                    .checked_sub(region.desc.user_address)
                    .filter(|offset| *offset < region.desc.size)?;
                Some(region.desc.guest_address + offset)
            })
            .ok_or_else(|| MemoryError::Unmapped {
                space: Space::User,
                address: uva,
                length: 1,
                known: self.known(Space::User),
            })
    }

    pub(crate) fn contiguous(&self, gpa: u64, length: u64) -> Result<(), MemoryError> {
        let (mapping, offset) = self.find(gpa).ok_or_else(|| self.unmapped(gpa, length))?;
        if length <= mapping.desc.size - offset {
            return Ok(());
        }
        self.check_covered(gpa, length)?;
        Err(MemoryError::Straddles {
            address: gpa,
            length,
            known: self.known(Space::Guest),
        })
    }

    fn atomic_u16(&self, gpa: u64) -> Result<(&Mapping, &AtomicU16), MemoryError> {
        self.contiguous(gpa, 2)?;
        let (mapping, offset) = self.find(gpa).ok_or_else(|| self.unmapped(gpa, 2))?;
        let atomic = mapping.map.atomic(offset);
        atomic
            .map(|atomic| (mapping, atomic))
            .ok_or(MemoryError::Misaligned { address: gpa, align: 2 })
    }

    fn find(&self, gpa: u64) -> Option<(&Mapping, u64)> {
        self.regions
            .iter()
            .find_map(|region| Some((&**region, region.offset_of(gpa)?)))
    }

    /// Every step leaves one region, so the walk ends after as many steps as there are regions.
    fn check_covered(&self, gpa: u64, length: u64) -> Result<(), MemoryError> {
        if gpa.checked_add(length).is_none() {
            return Err(MemoryError::Overflow {
                what: "guest range",
                address: gpa,
                size: length,
            });
        }
        let mut done = 0;
        while done < length {
            let (mapping, offset) = self.find(gpa + done).ok_or_else(|| self.unmapped(gpa, length))?;
            done += mapping.desc.size - offset;
        }
        Ok(())
    }

    fn unmapped(&self, address: u64, length: u64) -> MemoryError {
        MemoryError::Unmapped {
            space: Space::Guest,
            address,
            length,
            known: self.known(Space::Guest),
        }
    }
}

/// What can be said of a region without its file.
pub(crate) fn check_desc(desc: &MemRegionDesc) -> Result<(), MemoryError> {
    let MemRegionDesc {
        guest_address,
        size,
        user_address,
        mmap_offset,
    } = *desc;
    if size == 0 {
        return Err(MemoryError::EmptyRegion { guest_address });
    }
    for (what, address) in [
        ("guest address", guest_address),
        ("user address", user_address),
        ("offset", mmap_offset),
    ] {
        if address.checked_add(size).is_none() {
            return Err(MemoryError::Overflow { what, address, size });
        }
    }
    Ok(())
}

fn check_size(file: &File, offset: u64, size: u64) -> Result<(), MemoryError> {
    let meta = file.metadata().map_err(|error| MemoryError::io("fstat", &error))?;
    if !meta.file_type().is_file() {
        return Err(MemoryError::NotAFile { mode: meta.mode() });
    }
    let file_size = meta.len();
    let end = offset.checked_add(size).ok_or(MemoryError::Overflow {
        what: "offset",
        address: offset,
        size,
    })?;
    if end > file_size {
        return Err(MemoryError::FileTooSmall {
            file_size,
            offset,
            size,
        });
    }
    Ok(())
}

/// The alignment mmap wants of this file, and whether it is on hugetlbfs.
fn page_bytes(file: &File) -> Result<(u64, bool), MemoryError> {
    let fs = fstatfs(file).map_err(|errno| MemoryError::System { call: "fstatfs", errno })?;
    if fs.filesystem_type() == HUGETLBFS_MAGIC {
        Ok((
            u64::try_from(fs.block_size())
                .unwrap_or(BASE_PAGE_BYTES)
                .max(BASE_PAGE_BYTES),
            true,
        ))
    } else {
        Ok((BASE_PAGE_BYTES, false))
    }
}

/// Start of the mapping in the file, bytes to skip, and length; hugetlbfs wants the length in whole pages too.
fn span(offset: u64, size: u64, page: u64, huge: bool) -> Result<(u64, usize, u64), MemoryError> {
    let overflow = MemoryError::Overflow {
        what: "mapping",
        address: offset,
        size,
    };
    let skip = offset % page;
    let length = skip.checked_add(size).ok_or_else(|| overflow.clone())?;
    let length = if huge {
        length.checked_next_multiple_of(page).ok_or(overflow)?
    } else {
        length
    };
    Ok((offset - skip, skip as usize, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_is_rounded_down_and_length_grows_by_what_was_skipped() {
        // Broken: a region at an odd file offset shows other bytes than the front-end's.
        assert_eq!(span(0x1_2345, 0x100, 0x1_0000, false), Ok((0x1_0000, 0x2345, 0x2445)));
        assert_eq!(
            span(0x20_1000, 0x1000, 0x20_0000, true),
            Ok((0x20_0000, 0x1000, 0x20_0000))
        );
        assert_eq!(span(0x1f_f000, 0x2000, 0x20_0000, true), Ok((0, 0x1f_f000, 0x40_0000)));
    }
}
