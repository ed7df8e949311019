//! The back-end's view of guest memory: what the front-end has announced, mapped and checked.
//!
//! Mapping checks the file's size. A peer that truncates its file afterwards makes accesses fail; [`RegionTable::shrinkable`]
//! names the regions where nothing prevents it and [`RegionTable::check_files`] looks at them.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use super::mapping::{Access, MapSet, Mapping, check_desc};
use super::{GuestAccess, MemRegionDesc, MemoryError, Reach, Space};

/// Most regions a table holds: as many memory slots as libvhost-user and rust-vmm offer.
pub const REGIONS_MAX: usize = 509;

/// The regions a back-end has mapped. A clone shares the mappings and is a snapshot of the table.
#[derive(Debug, Default, Clone)]
pub struct RegionTable {
    set: MapSet,
}

impl RegionTable {
    /// A table with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks and maps one region (ADD_MEM_REG). The fd is kept until the region goes.
    pub fn map(&mut self, desc: MemRegionDesc, fd: OwnedFd) -> Result<(), MemoryError> {
        self.add(desc, fd, Access::Write)
    }

    /// The same for somebody who only looks: a write to the region ends the process.
    pub fn map_to_look(&mut self, desc: MemRegionDesc, fd: OwnedFd) -> Result<(), MemoryError> {
        self.add(desc, fd, Access::Read)
    }

    fn add(&mut self, desc: MemRegionDesc, fd: OwnedFd, access: Access) -> Result<(), MemoryError> {
        check_desc(&desc)?;
        if self.set.regions().len() >= REGIONS_MAX {
            return Err(MemoryError::TooManyRegions { limit: REGIONS_MAX });
        }
        self.set.check_room(&desc)?;
        self.set.insert(Mapping::new(desc, fd, access)?)
    }

    /// Unmaps the region that matches in all three (REM_MEM_REG).
    pub fn remove(&mut self, guest_address: u64, size: u64, user_address: u64) -> Result<(), MemoryError> {
        let matches = |desc: &MemRegionDesc| {
            (desc.guest_address, desc.size, desc.user_address) == (guest_address, size, user_address)
        };
        let index = self.set.regions().iter().position(|region| matches(&region.desc));
        let Some(index) = index else {
            let known = self.set.known(Space::Guest);
            return Err(MemoryError::NoSuchRegion {
                guest_address,
                size,
                user_address,
                known,
            });
        };
        self.set.remove(index);
        Ok(())
    }

    /// Unmaps everything.
    pub fn clear(&mut self) {
        self.set = MapSet::default();
    }

    /// Replaces the whole table (SET_MEM_TABLE); on an error the old table stays.
    pub fn replace(&mut self, regions: Vec<(MemRegionDesc, OwnedFd)>) -> Result<(), MemoryError> {
        let mut next = Self::new();
        for (desc, fd) in regions {
            next.map(desc, fd)?;
        }
        *self = next;
        Ok(())
    }

    /// The regions in the order they were added.
    #[must_use]
    pub fn regions(&self) -> Vec<MemRegionDesc> {
        self.set.regions().iter().map(|region| region.desc).collect()
    }

    /// The regions as they are now, for a thread that moves packets.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach::of(&self.set)
    }

    /// One past the highest guest address, which is what a dirty log must cover.
    #[must_use]
    pub fn guest_end(&self) -> u64 {
        self.set
            .regions()
            .iter()
            .map(|region| region.desc.guest_address + region.desc.size)
            .max()
            .unwrap_or(0)
    }

    /// Regions whose file is not sealed against shrinking: the peer can still take pages away under the mapping.
    #[must_use]
    pub fn shrinkable(&self) -> Vec<MemRegionDesc> {
        let open = |region: &&std::sync::Arc<Mapping>| region.map.shrink_sealed() != Some(true);
        self.set
            .regions()
            .iter()
            .filter(open)
            .map(|region| region.desc)
            .collect()
    }

    /// Looks at every file's size again.
    pub fn check_files(&self) -> Result<(), MemoryError> {
        self.set.regions().iter().try_for_each(|region| region.map.check_file())
    }
}

impl GuestAccess for RegionTable {
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
