//! Machines without sockets: guest memory with a transmit and a receive ring, and the ports at both their ends. Benchmarks
//! and tests stand up their topologies of these.

use std::sync::Arc;

use super::lane::{Arena, Bell, DevicePort, DriverPort, NET_HEADER_BYTES, Records};
use crate::memory::{Backing, GuestMemory, MemoryError, MemoryOptions, Reach, RegionLayout, UserAddresses};
use crate::ring::RingError;
use crate::ring::burst::{Device, Driver, Layout, RingOptions};
use crate::sys::fd::eventfd;

/// Where the memory of a machine begins, for guests.
const MEMORY_BASE: u64 = 0x10_0000;
/// Buffers begin at multiples of this, so that no two share a cache line.
const BUFFER_ALIGN: u32 = 64;
/// Where buffers begin: a page after the rings.
const PAGE: u64 = 0x1000;

/// How the rings of a machine are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingKind {
    /// Descriptors.
    pub size: u16,
    /// Packed, or split.
    pub packed: bool,
    /// What was negotiated of them.
    pub options: RingOptions,
}

/// Why a machine cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// Its memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// Descriptors have run out.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// Two peers do not come to terms.
    #[error("{0}")]
    Conversation(String),
}

/// One ring of a machine.
#[derive(Debug, Clone)]
struct Line {
    layout: Layout,
    arena: Arena,
    kick: Bell,
    call: Bell,
}

/// Guest memory with a transmit ring, a receive ring and buffers for both.
#[derive(Debug)]
pub struct Machine {
    memory: GuestMemory,
    kind: RingKind,
    transmit: Line,
    receive: Line,
    /// Frames that an application makes here before they are sent from where they are.
    spare: Arena,
}

/// The two rings of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the driver.
    Transmit,
    /// To the driver.
    Receive,
}

/// Bytes left free before the first buffer, so that a frame, which comes behind its header, begins where a cache line does.
pub const BEFORE_FIRST: u64 = BUFFER_ALIGN as u64 - NET_HEADER_BYTES as u64;

/// Bytes from one buffer to the next, for frames of so many bytes.
#[must_use]
pub fn stride(longest: usize) -> u32 {
    ((NET_HEADER_BYTES + longest) as u32).next_multiple_of(BUFFER_ALIGN)
}

impl Machine {
    /// A machine for frames of at most `longest` bytes.
    ///
    /// # Errors
    /// No memory (huge pages), a ring size that is none, or no descriptors.
    pub fn new(kind: RingKind, longest: usize, huge_pages: bool) -> Result<Self, RigError> {
        let arena = |base| Arena {
            base,
            stride: stride(longest),
            count: u32::from(kind.size),
        };
        let mut next = MEMORY_BASE;
        let mut line = || -> Result<Line, RigError> {
            let (layout, bytes) = Layout::pack_at(next, kind.size, kind.packed)?;
            let arena = arena((next + bytes).next_multiple_of(PAGE) + BEFORE_FIRST);
            next = (arena.base + arena.bytes()).next_multiple_of(PAGE);
            Ok(Line {
                layout,
                arena,
                kick: Bell::new(Some(Arc::new(eventfd()?))),
                call: Bell::new(Some(Arc::new(eventfd()?))),
            })
        };
        let (transmit, receive) = (line()?, line()?);
        let spare = arena(next + BEFORE_FIRST);
        let region = RegionLayout {
            guest_address: MEMORY_BASE,
            size: spare.base + spare.bytes() - MEMORY_BASE,
        };
        let options = MemoryOptions {
            backing: Backing::PerRegion,
            user_addresses: UserAddresses::Mapping,
            huge_pages,
            ..MemoryOptions::default()
        };
        Ok(Self {
            memory: GuestMemory::new(&[region], options)?,
            kind,
            transmit,
            receive,
            spare,
        })
    }

    fn line(&self, way: Way) -> &Line {
        match way {
            Way::Transmit => &self.transmit,
            Way::Receive => &self.receive,
        }
    }

    /// Where a ring lies.
    #[must_use]
    pub fn layout(&self, way: Way) -> Layout {
        self.line(way).layout
    }

    /// Its memory.
    #[must_use]
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// All of its memory, for one thread.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.memory.reach()
    }

    /// Where an application makes frames that a peer copies from there.
    #[must_use]
    pub fn spare(&self) -> Arena {
        self.spare
    }

    /// The driver's end of a fresh ring. To be taken before the device's.
    ///
    /// # Errors
    /// The ring is not in memory, which would be a fault of ours.
    pub fn driver(&self, way: Way) -> Result<DriverPort<Driver>, RigError> {
        let (line, reach) = (self.line(way), self.reach());
        let mut ring = Driver::new(line.layout, line.layout.fresh_base(), &reach, self.kind.options)?;
        ring.init();
        Ok(DriverPort {
            ring,
            reach,
            arena: line.arena,
            kick: line.kick.clone(),
            call: line.call.clone(),
            owes_kick: false,
        })
    }

    /// The device's end.
    ///
    /// # Errors
    /// As [`Self::driver`].
    pub fn device(&self, way: Way) -> Result<DevicePort<Device>, RigError> {
        self.device_at(way, self.line(way).layout.fresh_base())
    }

    /// The device's end of a ring that goes on at `base`.
    ///
    /// # Errors
    /// As [`Self::driver`].
    pub fn device_at(&self, way: Way, base: u32) -> Result<DevicePort<Device>, RigError> {
        let (line, reach) = (self.line(way), self.reach());
        Ok(DevicePort {
            ring: Device::start(line.layout, base, &reach, self.kind.options)?,
            reach,
            kick: line.kick.clone(),
            call: line.call.clone(),
            enabled: true,
            dirty: None,
            record: Records::default(),
        })
    }
}
