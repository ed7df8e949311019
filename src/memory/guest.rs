//! The front-end's own guest memory: memfds, mapped here and passed to the back-end by fd.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::mapping::{Access, MapSet, Mapping, check_desc};
use super::table::REGIONS_MAX;
use super::{GuestAccess, MemRegionDesc, MemoryError, Reach, Space};

/// Regions in a shared file begin at multiples of this, so that alignment in guest space is alignment in the file.
const FILE_ALIGN_BYTES: u64 = 0x1000;

/// Bytes of a huge page.
const HUGE_PAGE_BYTES: u64 = 0x20_0000;

/// Bytes of a file for regions that were announced elsewhere, at most. Only what is touched takes memory.
const ANNOUNCED_FILE_MAX: u64 = 1 << 40;

/// One region as the front-end announces it.
pub type FrontRegion = MemRegionDesc;

/// Where a region lies in guest space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionLayout {
    /// First guest physical address.
    pub guest_address: u64,
    /// Length in bytes.
    pub size: u64,
}

/// How regions are laid on files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backing {
    /// A memfd for each region, all offsets equal.
    #[default]
    PerRegion,
    /// One memfd for all, one region after the other, as QEMU splits its RAM below and above 4 GiB.
    OneFile,
}

/// Which user addresses are announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UserAddresses {
    /// Where the region is mapped in this process.
    #[default]
    Mapping,
    /// This base plus the guest address: the same in every run.
    Synthetic(u64),
}

/// How guest memory is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryOptions {
    /// Files.
    pub backing: Backing,
    /// Announced user addresses.
    pub user_addresses: UserAddresses,
    /// Bytes left unused at the start of each file, so that no region need begin at offset 0.
    pub first_offset: u64,
    /// Whether the files are on huge pages of 2 MiB, of which the machine must have enough.
    pub huge_pages: bool,
}

/// Guest memory that this process owns.
#[derive(Debug)]
pub struct GuestMemory {
    options: MemoryOptions,
    set: MapSet,
    regions: Vec<FrontRegion>,
    fds: Vec<OwnedFd>,
    /// The file all regions share, and its length; kept when no region is left.
    shared: Option<(File, u64)>,
    /// Files of regions that were announced by somebody else, by their length.
    announced: BTreeMap<u64, File>,
}

impl GuestMemory {
    /// Makes files for the layout and maps them. Memory reads as zero until written.
    pub fn new(layout: &[RegionLayout], options: MemoryOptions) -> Result<Self, MemoryError> {
        let mut memory = Self {
            options,
            set: MapSet::default(),
            regions: Vec::new(),
            fds: Vec::new(),
            shared: None,
            announced: BTreeMap::new(),
        };
        for region in layout {
            memory.add_region(*region)?;
        }
        Ok(memory)
    }

    /// The same memory once more: for another device of the guest.
    pub fn share(&self) -> Result<Self, MemoryError> {
        let mut other = Self::new(&[], self.options)?;
        for (index, desc) in self.regions.iter().enumerate() {
            let fd = self.dup(index)?;
            other.set.insert(Mapping::new(*desc, dup(&fd)?, Access::Write)?)?;
            other.regions.push(*desc);
            other.fds.push(fd);
        }
        Ok(other)
    }

    /// How it was made.
    pub fn options(&self) -> &MemoryOptions {
        &self.options
    }

    /// The regions as announced, in order.
    #[must_use]
    pub fn regions(&self) -> &[FrontRegion] {
        &self.regions
    }

    /// The file of region `index`; with [`Backing::OneFile`] all are the same file.
    pub fn fd(&self, index: usize) -> Result<&OwnedFd, MemoryError> {
        self.fds.get(index).ok_or(MemoryError::NoSuchIndex {
            index,
            count: self.fds.len(),
        })
    }

    /// A duplicate of the fd of region `index`, close-on-exec.
    pub fn dup(&self, index: usize) -> Result<OwnedFd, MemoryError> {
        dup(self.fd(index)?)
    }

    /// Adds a region (a memory slot plugged in) and gives its index.
    pub fn add_region(&mut self, layout: RegionLayout) -> Result<usize, MemoryError> {
        if self.regions.len() >= REGIONS_MAX {
            return Err(MemoryError::TooManyRegions { limit: REGIONS_MAX });
        }
        let RegionLayout { guest_address, size } = layout;
        let user_address = match self.options.user_addresses {
            UserAddresses::Mapping => 0,
            UserAddresses::Synthetic(base) => base.checked_add(guest_address).ok_or(MemoryError::Overflow {
                what: "synthetic user address",
                address: base,
                size: guest_address,
            })?,
        };
        let mut desc = FrontRegion {
            guest_address,
            size,
            user_address,
            mmap_offset: 0,
        };
        check_desc(&desc)?;
        let (fd, offset) = self.place(size)?;
        desc.mmap_offset = offset;
        let mut mapping = Mapping::new(desc, dup(&fd)?, Access::Write)?;
        if self.options.user_addresses == UserAddresses::Mapping {
            mapping.desc.user_address = mapping.map.host_address();
        }
        let desc = mapping.desc;
        self.set.insert(mapping)?;
        self.regions.push(desc);
        self.fds.push(fd);
        Ok(self.regions.len() - 1)
    }

    /// Adds a region exactly as another front-end announced it, addresses and offset included, in a file of `file_bytes`.
    /// Regions in files of the same length share one, as the pieces of a QEMU's RAM do, so that what is written stays where
    /// it is when the pieces are cut anew. Gives the index of the region; the one that is there already if it is the same.
    pub fn announce_region(&mut self, desc: FrontRegion, file_bytes: u64) -> Result<usize, MemoryError> {
        if let Some(index) = self.regions.iter().position(|region| *region == desc) {
            return Ok(index);
        }
        if self.regions.len() >= REGIONS_MAX {
            return Err(MemoryError::TooManyRegions { limit: REGIONS_MAX });
        }
        check_desc(&desc)?;
        let end = desc.mmap_offset.checked_add(desc.size).ok_or(MemoryError::Overflow {
            what: "offset",
            address: desc.mmap_offset,
            size: desc.size,
        })?;
        let bytes = file_bytes.max(end);
        if bytes > ANNOUNCED_FILE_MAX {
            return Err(MemoryError::TooLarge {
                bytes,
                limit: ANNOUNCED_FILE_MAX,
            });
        }
        let file = match self.announced.entry(bytes) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(free) => free.insert(File::from(sealed_memfd(bytes)?)),
        };
        let clone = |file: &File| file.try_clone().map_err(|error| MemoryError::io("dup", &error));
        let fd: OwnedFd = clone(file)?.into();
        self.set.insert(Mapping::new(desc, dup(&fd)?, Access::Write)?)?;
        self.regions.push(desc);
        self.fds.push(fd);
        Ok(self.regions.len() - 1)
    }

    /// Takes region `index` away (a memory slot unplugged); later regions move down by one.
    pub fn remove_region(&mut self, index: usize) -> Result<FrontRegion, MemoryError> {
        if index >= self.regions.len() {
            return Err(MemoryError::NoSuchIndex {
                index,
                count: self.regions.len(),
            });
        }
        self.set.remove(index);
        self.fds.remove(index);
        Ok(self.regions.remove(index))
    }

    /// The regions as they are now, for a thread that moves packets.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach::of(&self.set)
    }

    /// One past the highest guest address, which is what a dirty log must cover.
    #[must_use]
    pub fn guest_end(&self) -> u64 {
        self.regions
            .iter()
            .map(|region| region.guest_address + region.size)
            .max()
            .unwrap_or(0)
    }

    /// Translates a guest address to the announced user address, as SET_VRING_ADDR wants it.
    pub fn guest_to_user(&self, gpa: u64) -> Result<u64, MemoryError> {
        self.regions
            .iter()
            .find_map(|region| {
                let offset = gpa
                    .checked_sub(region.guest_address)
                    .filter(|offset| *offset < region.size)?;
                Some(region.user_address + offset)
            })
            .ok_or_else(|| MemoryError::Unmapped {
                space: Space::Guest,
                address: gpa,
                length: 1,
                known: self.set.known(Space::Guest),
            })
    }

    /// A file of at least this many bytes.
    fn file(&self, bytes: u64) -> Result<OwnedFd, MemoryError> {
        match self.options.huge_pages {
            true => sealed(MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB, self.file_bytes(bytes)),
            false => sealed_memfd(bytes),
        }
    }

    /// Files on huge pages have whole ones only.
    fn file_bytes(&self, bytes: u64) -> u64 {
        match self.options.huge_pages {
            true => bytes.checked_next_multiple_of(HUGE_PAGE_BYTES).unwrap_or(bytes),
            false => bytes,
        }
    }

    /// Finds room in a file for `size` bytes.
    fn place(&mut self, size: u64) -> Result<(OwnedFd, u64), MemoryError> {
        let first = self.options.first_offset;
        let end_of = |offset: u64| {
            offset.checked_add(size).ok_or(MemoryError::Overflow {
                what: "offset",
                address: offset,
                size,
            })
        };
        match self.options.backing {
            Backing::PerRegion => Ok((self.file(end_of(first)?)?, first)),
            Backing::OneFile => {
                let clone = |file: &File| file.try_clone().map_err(|error| MemoryError::io("dup", &error));
                let (file, offset) = match &self.shared {
                    Some((file, length)) => (
                        clone(file)?,
                        first + (length - first).next_multiple_of(FILE_ALIGN_BYTES),
                    ),
                    None => (File::from(self.file(first)?), first),
                };
                let end = end_of(offset)?;
                file.set_len(self.file_bytes(end))
                    .map_err(|error| MemoryError::io("ftruncate", &error))?;
                let fd = clone(&file)?;
                self.shared = Some((file, end));
                Ok((fd.into(), offset))
            }
        }
    }
}

impl GuestAccess for GuestMemory {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.set.read(gpa, into)
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.set.write(gpa, from)
    }

    fn load_u16(&self, gpa: u64, order: Ordering) -> Result<u16, MemoryError> {
        self.set.load_u16(gpa, order)
    }

    fn store_u16(&self, gpa: u64, value: u16, order: Ordering) -> Result<(), MemoryError> {
        self.set.store_u16(gpa, value, order)
    }

    fn user_to_guest(&self, uva: u64) -> Result<u64, MemoryError> {
        self.set.user_to_guest(uva)
    }

    fn contiguous(&self, gpa: u64, length: u64) -> Result<(), MemoryError> {
        self.set.contiguous(gpa, length)
    }
}

/// A memfd of `size` zero bytes that cannot be made smaller, so that whoever maps it is safe from SIGBUS.
pub(crate) fn sealed_memfd(size: u64) -> Result<OwnedFd, MemoryError> {
    sealed(MFdFlags::empty(), size)
}

fn sealed(kind: MFdFlags, size: u64) -> Result<OwnedFd, MemoryError> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | kind;
    let fd = memfd_create(c"vuh-memory", flags).map_err(|errno| MemoryError::System {
        call: "memfd_create",
        errno,
    })?;
    let file = File::from(fd);
    file.set_len(size)
        .map_err(|error| MemoryError::io("ftruncate", &error))?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).map_err(|errno| MemoryError::System {
        call: "fcntl(F_ADD_SEALS)",
        errno,
    })?;
    Ok(file.into())
}

/// Duplicates with close-on-exec set.
pub(crate) fn dup(fd: &OwnedFd) -> Result<OwnedFd, MemoryError> {
    fd.try_clone().map_err(|error| MemoryError::io("dup", &error))
}
