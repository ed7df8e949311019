//! The reference front-end's guest memory: one memfd in two regions, rings low, buffers above 4 GiB, so that a back-end
//! that ignores `mmap_offset` or mixes the two address spaces up is found out. Knows layout, not meaning.

use std::fs::File;
use std::io;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};
use vhost::VhostUserMemoryRegionInfo;
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::error::ReferenceError;

const RINGS_AT: u64 = 0x10_0000;
const BUFFERS_AT: u64 = 0x1_0000_0000;
const PAGE_BYTES: u64 = 4096;
/// Bytes kept free in each data area for a virtio-net header.
const HEADROOM_BYTES: u64 = 64;
/// Requests one ring has under way at most.
const SLOTS_MAX: u16 = 64;
/// Descriptors of the longest chain the front-end makes.
pub(super) const SEGMENTS_MAX: u16 = 4;

/// The memory both sides see.
pub(super) type GuestRam = GuestMemoryMmap<()>;

/// Where the three parts of a split ring lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct RingLayout {
    /// The descriptor table.
    pub(super) descriptors: GuestAddress,
    /// The available ring.
    pub(super) available: GuestAddress,
    /// The used ring.
    pub(super) used: GuestAddress,
}

/// The memory of one request under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// 64 bytes for a request's header.
    pub(super) header: GuestAddress,
    /// 16 bytes for a status.
    pub(super) status: GuestAddress,
    /// Room for an indirect table of [`SEGMENTS_MAX`] descriptors.
    pub(super) indirect: GuestAddress,
    /// Data to the device.
    pub(super) output: GuestAddress,
    /// Data from the device.
    pub(super) input: GuestAddress,
}

/// The guest memory and its layout.
pub(super) struct Guest {
    ram: GuestRam,
    ring_size: u16,
    slots: u16,
    area_bytes: u64,
}

impl Guest {
    /// Memory for `rings` rings of `ring_size` descriptors and requests with up to `data_bytes` bytes each way.
    pub(super) fn new(rings: usize, ring_size: u16, data_bytes: u32) -> Result<Self, ReferenceError> {
        let slots = (ring_size / SEGMENTS_MAX).clamp(1, SLOTS_MAX);
        let area_bytes = (u64::from(data_bytes) + HEADROOM_BYTES).next_multiple_of(64);
        let mut guest = Self {
            ram: GuestRam::new(),
            ring_size,
            slots,
            area_bytes,
        };
        let rings_bytes = guest.ring_bytes() * rings as u64;
        let buffers_bytes = guest.slot_bytes() * u64::from(slots) * rings as u64;
        guest.ram = allocate(rings_bytes, buffers_bytes).map_err(ReferenceError::system("guest memory"))?;
        Ok(guest)
    }

    /// The memory itself.
    pub(super) fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Descriptors of each ring.
    pub(super) fn ring_size(&self) -> u16 {
        self.ring_size
    }

    /// Requests each ring has under way at most.
    pub(super) fn slots(&self) -> u16 {
        self.slots
    }

    /// The regions as SET_MEM_TABLE and ADD_MEM_REG announce them.
    pub(super) fn regions(&self) -> Result<Vec<VhostUserMemoryRegionInfo>, ReferenceError> {
        self.ram
            .iter()
            .map(VhostUserMemoryRegionInfo::from_guest_region)
            .collect::<Result<_, _>>()
            .map_err(|error| ReferenceError::system("guest memory")(io::Error::other(error.to_string())))
    }

    /// The address of `at` in this process, which is what SET_VRING_ADDR carries.
    pub(super) fn user_address(&self, at: GuestAddress) -> Result<u64, ReferenceError> {
        self.ram
            .get_host_address(at)
            .map(|pointer| pointer as u64)
            .map_err(memory_error)
    }

    /// Where `ring` lies.
    pub(super) fn ring(&self, ring: usize) -> RingLayout {
        let size = u64::from(self.ring_size);
        let descriptors = RINGS_AT + ring as u64 * self.ring_bytes();
        let available = descriptors + (16 * size).next_multiple_of(PAGE_BYTES);
        let used = available + (6 + 2 * size).next_multiple_of(PAGE_BYTES);
        RingLayout {
            descriptors: GuestAddress(descriptors),
            available: GuestAddress(available),
            used: GuestAddress(used),
        }
    }

    /// The memory of request `slot` of `ring`.
    pub(super) fn slot(&self, ring: usize, slot: u16) -> Slot {
        let index = ring as u64 * u64::from(self.slots) + u64::from(slot);
        let at = BUFFERS_AT + index * self.slot_bytes();
        Slot {
            header: GuestAddress(at),
            status: GuestAddress(at + 64),
            indirect: GuestAddress(at + 128),
            output: GuestAddress(at + 256),
            input: GuestAddress(at + 256 + self.area_bytes),
        }
    }

    /// Writes bytes of the driver's own.
    pub(super) fn write(&self, at: GuestAddress, bytes: &[u8]) -> Result<(), ReferenceError> {
        self.ram.write_slice(bytes, at).map_err(memory_error)
    }

    /// Reads what the device wrote.
    pub(super) fn read(&self, at: GuestAddress, length: usize) -> Result<Vec<u8>, ReferenceError> {
        let mut bytes = vec![0; length];
        self.ram.read_slice(&mut bytes, at).map_err(memory_error)?;
        Ok(bytes)
    }

    fn ring_bytes(&self) -> u64 {
        let size = u64::from(self.ring_size);
        (16 * size).next_multiple_of(PAGE_BYTES)
            + (6 + 2 * size).next_multiple_of(PAGE_BYTES)
            + (6 + 8 * size).next_multiple_of(PAGE_BYTES)
    }

    fn slot_bytes(&self) -> u64 {
        (256 + 2 * self.area_bytes).next_multiple_of(PAGE_BYTES)
    }
}

fn allocate(rings_bytes: u64, buffers_bytes: u64) -> io::Result<GuestRam> {
    let file = File::from(memfd_create("reference-front-end", MFdFlags::MFD_CLOEXEC)?);
    file.set_len(rings_bytes + buffers_bytes)?;
    let file = Arc::new(file);
    let length = |bytes: u64| usize::try_from(bytes).map_err(io::Error::other);
    GuestRam::from_ranges_with_files([
        (
            GuestAddress(RINGS_AT),
            length(rings_bytes)?,
            Some(FileOffset::from_arc(Arc::clone(&file), 0)),
        ),
        (
            GuestAddress(BUFFERS_AT),
            length(buffers_bytes)?,
            Some(FileOffset::from_arc(file, rings_bytes)),
        ),
    ])
    .map_err(|error| io::Error::other(error.to_string()))
}

/// The driver reached outside its own memory, or asked for an unaligned atomic access.
pub(super) fn memory_error(error: vm_memory::GuestMemoryError) -> ReferenceError {
    ReferenceError::system("guest memory")(io::Error::other(error.to_string()))
}
