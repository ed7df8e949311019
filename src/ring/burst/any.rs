//! A ring of either kind, for callers that learn it at run time. It costs one branch a call.

use crate::memory::{GuestAccess, Reach};
use crate::ring::{Buffer, PackedLayout, RingError, SplitLayout};
use crate::sys::shared::Place;

use super::{Chains, DeviceRing, Done, DriverRing, RingOptions, Ticket};
use super::{PackedDevice, PackedDriver, SplitDevice, SplitDriver};

/// Where a ring lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A split ring.
    Split(SplitLayout),
    /// A packed ring.
    Packed(PackedLayout),
}

impl Layout {
    /// Lays a ring out from the first aligned address at or after `base`; gives the bytes taken.
    pub fn pack_at(base: u64, size: u16, packed: bool) -> Result<(Self, u64), RingError> {
        match packed {
            false => SplitLayout::pack_at(base, size).map(|(layout, bytes)| (Self::Split(layout), bytes)),
            true => PackedLayout::pack_at(base, size).map(|(layout, bytes)| (Self::Packed(layout), bytes)),
        }
    }

    /// The parts as SET_VRING_ADDR names them: descriptors, available or driver's, used or device's.
    #[must_use]
    pub fn addresses(&self) -> (u64, u64, u64) {
        match self {
            Self::Split(layout) => (layout.desc, layout.avail, layout.used),
            Self::Packed(layout) => (layout.ring, layout.driver_event, layout.device_event),
        }
    }

    /// Checks size and alignment, and that each part lies in one region.
    pub fn check(&self, mem: &dyn GuestAccess) -> Result<(), RingError> {
        match self {
            Self::Split(layout) => layout.check(mem),
            Self::Packed(layout) => layout.check(mem),
        }
    }

    /// Descriptors in the ring.
    #[must_use]
    pub fn size(&self) -> u16 {
        match self {
            Self::Split(layout) => layout.size,
            Self::Packed(layout) => layout.size,
        }
    }

    /// Where a fresh ring begins, as SET_VRING_BASE carries it.
    #[must_use]
    pub fn fresh_base(&self) -> u32 {
        match self {
            Self::Split(_) => 0,
            Self::Packed(_) => crate::ring::packed::base(
                crate::ring::packed::Position::START,
                crate::ring::packed::Position::START,
            ),
        }
    }
}

/// The driver's side of either.
#[derive(Debug)]
pub enum Driver {
    /// Of a split ring.
    Split(SplitDriver),
    /// Of a packed ring.
    Packed(PackedDriver),
}

impl Driver {
    /// A driver of a ring that begins at `base`, as SET_VRING_BASE carries it.
    pub fn new(layout: Layout, base: u32, reach: &Reach, options: RingOptions) -> Result<Self, RingError> {
        match layout {
            Layout::Split(layout) => SplitDriver::new(layout, base as u16, reach, options).map(Self::Split),
            Layout::Packed(layout) => PackedDriver::new(layout, base, reach, options).map(Self::Packed),
        }
    }

    /// Where a device would go on that has returned what was reaped and nothing else, as SET_VRING_BASE carries it.
    #[must_use]
    pub fn used_base(&self) -> u32 {
        match self {
            Self::Split(ring) => u32::from(ring.used_idx()),
            Self::Packed(ring) => crate::ring::packed::base(ring.used(), ring.used()),
        }
    }

    /// Writes the empty ring.
    pub fn init(&mut self) {
        match self {
            Self::Split(ring) => ring.init(),
            Self::Packed(ring) => ring.init(),
        }
    }
}

/// The device's side of either.
#[derive(Debug)]
pub enum Device {
    /// Of a split ring.
    Split(SplitDevice),
    /// Of a packed ring.
    Packed(PackedDevice),
}

impl Device {
    /// A device that goes on at `base`, as SET_VRING_BASE carries it.
    pub fn start(layout: Layout, base: u32, reach: &Reach, options: RingOptions) -> Result<Self, RingError> {
        match layout {
            Layout::Split(layout) => SplitDevice::start(layout, base as u16, reach, options).map(Self::Split),
            Layout::Packed(layout) => PackedDevice::start(layout, base, reach, options).map(Self::Packed),
        }
    }
}

macro_rules! either {
    ($self:ident, $ring:ident => $call:expr) => {
        match $self {
            Self::Split($ring) => $call,
            Self::Packed($ring) => $call,
        }
    };
}

impl DriverRing for Driver {
    fn size(&self) -> u16 {
        either!(self, ring => ring.size())
    }

    fn free(&self) -> u16 {
        either!(self, ring => ring.free())
    }

    fn outstanding(&self) -> u16 {
        either!(self, ring => ring.outstanding())
    }

    #[inline(always)]
    fn add_each(&mut self, chains: &mut impl Iterator<Item = (u32, Buffer)>) -> Result<(), RingError> {
        either!(self, ring => ring.add_each(chains))
    }

    fn add_chain(&mut self, token: u32, chain: &[Buffer]) -> Result<(), RingError> {
        either!(self, ring => ring.add_chain(token, chain))
    }

    fn add_indirect(&mut self, token: u32, chain: &[Buffer], table: Place<'_>) -> Result<(), RingError> {
        either!(self, ring => ring.add_indirect(token, chain, table))
    }

    fn publish(&mut self) -> u16 {
        either!(self, ring => ring.publish())
    }

    fn reap(&mut self, into: &mut [Done]) -> Result<usize, RingError> {
        either!(self, ring => ring.reap(into))
    }

    fn needs_kick(&mut self) -> bool {
        either!(self, ring => ring.needs_kick())
    }

    fn refuse_calls(&mut self) {
        either!(self, ring => ring.refuse_calls());
    }

    fn ask_for_call(&mut self) -> bool {
        either!(self, ring => ring.ask_for_call())
    }
}

impl DeviceRing for Device {
    fn size(&self) -> u16 {
        either!(self, ring => ring.size())
    }

    fn taken(&self) -> u16 {
        either!(self, ring => ring.taken())
    }

    fn take<'m>(&mut self, reach: &'m Reach, into: &mut Chains<'m>, limit: usize) -> Result<usize, RingError> {
        either!(self, ring => ring.take(reach, into, limit))
    }

    #[inline(always)]
    fn give(&mut self, ticket: Ticket, len: u32) {
        either!(self, ring => ring.give(ticket, len));
    }

    fn flush(&mut self) -> u16 {
        either!(self, ring => ring.flush())
    }

    fn put_back(&mut self, chains: &Chains<'_>, count: usize) -> Result<(), RingError> {
        either!(self, ring => ring.put_back(chains, count))
    }

    fn needs_call(&mut self) -> bool {
        either!(self, ring => ring.needs_call())
    }

    fn refuse_kicks(&mut self) {
        either!(self, ring => ring.refuse_kicks());
    }

    fn ask_for_kick(&mut self) -> bool {
        either!(self, ring => ring.ask_for_kick())
    }

    fn base(&self) -> u32 {
        either!(self, ring => ring.base())
    }
}
