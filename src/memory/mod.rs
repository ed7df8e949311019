//! Guest memory: the front-end's own regions, the back-end's table of mapped regions, the dirty log and the inflight area.
//!
//! Both sides of a link see the same bytes through [`GuestAccess`], so rings and device models are written once. The room
//! knows addresses and files; it never knows what a ring or a message is. `vm-memory` does the mapping and the volatile
//! and atomic access, and stays behind this room: no type of it is public.

mod dirty;
mod error;
mod guest;
mod inflight;
mod mapping;
mod reach;
mod table;
#[cfg(test)]
mod tests;
mod window;

use std::sync::atomic::Ordering;

pub use dirty::{DirtyLog, LOG_PAGE_BYTES, LoggedAccess};
pub use error::{MemoryError, Space};
pub use guest::{Backing, FrontRegion, GuestMemory, MemoryOptions, RegionLayout, UserAddresses};
pub use inflight::{INFLIGHT_ALIGN, Inflight, InflightDescriptor, InflightFormat, UsedPosition};
pub use inflight::{Life, MortalAccess, PackedInflight, SplitInflight};
pub use reach::{Near, Reach};
pub use table::{REGIONS_MAX, RegionTable};
pub use window::Window;

/// One region as it is announced by SET_MEM_TABLE and ADD_MEM_REG. Addresses and sizes are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemRegionDesc {
    /// First guest physical address.
    pub guest_address: u64,
    /// Length in bytes.
    pub size: u64,
    /// First address in the front-end's address space.
    pub user_address: u64,
    /// Where the region's first byte stands in its file.
    pub mmap_offset: u64,
}

/// Reads and writes guest memory by guest address.
///
/// Buffers may straddle regions that touch in guest space; what is accessed atomically must lie in one region. A failing
/// access has changed nothing. Integers are little endian, as rings of a VERSION_1 device are.
pub trait GuestAccess {
    /// Fills `into` from guest memory at `gpa`.
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError>;

    /// Copies `from` to guest memory at `gpa`.
    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError>;

    /// Loads an aligned u16 atomically; `order` is `Relaxed`, `Acquire` or `SeqCst`.
    fn load_u16(&self, gpa: u64, order: Ordering) -> Result<u16, MemoryError>;

    /// Stores an aligned u16 atomically; `order` is `Relaxed`, `Release` or `SeqCst`.
    fn store_u16(&self, gpa: u64, value: u16, order: Ordering) -> Result<(), MemoryError>;

    /// Translates an address of the front-end's address space to a guest address.
    fn user_to_guest(&self, uva: u64) -> Result<u64, MemoryError>;

    /// Says whether one region holds all of `gpa..gpa + length`, as each part of a ring must.
    fn contiguous(&self, gpa: u64, length: u64) -> Result<(), MemoryError>;

    /// Reads a u16 without ordering or alignment demands.
    fn read_u16(&self, gpa: u64) -> Result<u16, MemoryError> {
        let mut raw = [0; 2];
        self.read(gpa, &mut raw)?;
        Ok(u16::from_le_bytes(raw))
    }

    /// Reads a u32 without ordering or alignment demands.
    fn read_u32(&self, gpa: u64) -> Result<u32, MemoryError> {
        let mut raw = [0; 4];
        self.read(gpa, &mut raw)?;
        Ok(u32::from_le_bytes(raw))
    }

    /// Reads a u64 without ordering or alignment demands.
    fn read_u64(&self, gpa: u64) -> Result<u64, MemoryError> {
        let mut raw = [0; 8];
        self.read(gpa, &mut raw)?;
        Ok(u64::from_le_bytes(raw))
    }
}
