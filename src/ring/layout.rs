//! Where the three parts of a split ring lie in guest memory (virtio 1.3, section 2.7).

use crate::memory::GuestAccess;

use super::RingError;

/// Largest queue virtio allows.
pub const QUEUE_SIZE_MAX: u16 = 0x8000;

const DESC_ALIGN: u64 = 16;
const AVAIL_ALIGN: u64 = 2;
const USED_ALIGN: u64 = 4;

/// Name, guest address, alignment and bytes.
type Part = (&'static str, u64, u64, u64);

/// Checks alignment and overflow.
fn validate(parts: &[Part]) -> Result<(), RingError> {
    for &(part, address, align, length) in parts {
        if address % align != 0 {
            return Err(RingError::Alignment { part, address, align });
        }
        if address.checked_add(length).is_none() {
            return Err(RingError::Overflow { part, address, length });
        }
    }
    Ok(())
}

/// Checks that each part lies in one region.
fn contiguous(parts: &[Part], mem: &dyn GuestAccess) -> Result<(), RingError> {
    for &(_, address, _, length) in parts {
        mem.contiguous(address, length)?;
    }
    Ok(())
}

/// Guest addresses of a split ring's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitLayout {
    /// Descriptors in the ring.
    pub size: u16,
    /// Descriptor table.
    pub desc: u64,
    /// Available ring.
    pub avail: u64,
    /// Used ring.
    pub used: u64,
}

impl SplitLayout {
    /// Lays the parts one after the other from the first aligned address at or after `base`; gives the bytes taken from `base` on.
    pub fn pack_at(base: u64, size: u16) -> Result<(Self, u64), RingError> {
        let overflow = RingError::Overflow {
            part: "ring",
            address: base,
            length: Self::used_bytes(size),
        };
        let up = |address: u64, align: u64| address.checked_next_multiple_of(align).ok_or_else(|| overflow.clone());
        let add = |address: u64, bytes: u64| address.checked_add(bytes).ok_or_else(|| overflow.clone());
        let desc = up(base, DESC_ALIGN)?;
        let avail = up(add(desc, Self::desc_bytes(size))?, AVAIL_ALIGN)?;
        let used = up(add(avail, Self::avail_bytes(size))?, USED_ALIGN)?;
        let layout = Self {
            size,
            desc,
            avail,
            used,
        };
        layout.validate()?;
        Ok((layout, add(used, Self::used_bytes(size))? - base))
    }

    /// Checks size, alignment and overflow; memory is not touched.
    pub fn validate(&self) -> Result<(), RingError> {
        if !self.size.is_power_of_two() || self.size > QUEUE_SIZE_MAX {
            return Err(RingError::Size { size: self.size });
        }
        validate(&self.parts())
    }

    /// Checks besides that each part lies in one region.
    pub fn check(&self, mem: &dyn GuestAccess) -> Result<(), RingError> {
        self.validate()?;
        contiguous(&self.parts(), mem)
    }

    /// Bytes of the descriptor table.
    #[must_use]
    pub const fn desc_bytes(size: u16) -> u64 {
        16 * size as u64
    }

    /// Bytes of the available ring, used_event included.
    #[must_use]
    pub const fn avail_bytes(size: u16) -> u64 {
        6 + 2 * size as u64
    }

    /// Bytes of the used ring, avail_event included.
    #[must_use]
    pub const fn used_bytes(size: u16) -> u64 {
        6 + 8 * size as u64
    }

    fn parts(&self) -> [Part; 3] {
        [
            ("descriptor table", self.desc, DESC_ALIGN, Self::desc_bytes(self.size)),
            ("available ring", self.avail, AVAIL_ALIGN, Self::avail_bytes(self.size)),
            ("used ring", self.used, USED_ALIGN, Self::used_bytes(self.size)),
        ]
    }

    pub(crate) fn desc_at(&self, index: u16) -> u64 {
        self.desc + 16 * u64::from(index)
    }

    /// Guest address of avail.flags.
    #[must_use]
    pub fn avail_flags(&self) -> u64 {
        self.avail
    }

    /// Guest address of avail.idx.
    #[must_use]
    pub fn avail_idx(&self) -> u64 {
        self.avail + 2
    }

    /// Guest address of the available slot that a running index falls on.
    #[must_use]
    pub fn avail_slot(&self, index: u16) -> u64 {
        self.avail + 4 + 2 * u64::from(index % self.size)
    }

    /// Guest address of used_event.
    #[must_use]
    pub fn used_event(&self) -> u64 {
        self.avail + 4 + 2 * u64::from(self.size)
    }

    /// Guest address of used.flags.
    #[must_use]
    pub fn used_flags(&self) -> u64 {
        self.used
    }

    /// Guest address of used.idx.
    #[must_use]
    pub fn used_idx(&self) -> u64 {
        self.used + 2
    }

    /// Guest address of the used element that a running index falls on.
    #[must_use]
    pub fn used_slot(&self, index: u16) -> u64 {
        self.used + 4 + 8 * u64::from(index % self.size)
    }

    /// Guest address of avail_event.
    #[must_use]
    pub fn avail_event(&self) -> u64 {
        self.used + 4 + 8 * u64::from(self.size)
    }
}

const PACKED_ALIGN: u64 = 16;
const EVENT_ALIGN: u64 = 4;
const EVENT_BYTES: u64 = 4;

/// Guest addresses of a packed ring's parts (virtio 1.3, section 2.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedLayout {
    /// Descriptors in the ring; any number, not only powers of two.
    pub size: u16,
    /// Descriptor ring.
    pub ring: u64,
    /// Driver event suppression: what the driver writes.
    pub driver_event: u64,
    /// Device event suppression: what the device writes.
    pub device_event: u64,
}

impl PackedLayout {
    /// Lays the parts one after the other from the first aligned address at or after `base`; gives the bytes taken from `base` on.
    pub fn pack_at(base: u64, size: u16) -> Result<(Self, u64), RingError> {
        let length = Self::ring_bytes(size) + 2 * EVENT_BYTES;
        let overflow = RingError::Overflow {
            part: "ring",
            address: base,
            length,
        };
        let ring = base.checked_next_multiple_of(PACKED_ALIGN);
        let end = ring.and_then(|ring| ring.checked_add(length));
        let (Some(ring), Some(end)) = (ring, end) else {
            return Err(overflow);
        };
        let driver_event = ring + Self::ring_bytes(size);
        let layout = Self {
            size,
            ring,
            driver_event,
            device_event: driver_event + EVENT_BYTES,
        };
        layout.validate()?;
        Ok((layout, end - base))
    }

    /// Bytes of the descriptor ring.
    #[must_use]
    pub const fn ring_bytes(size: u16) -> u64 {
        16 * size as u64
    }

    /// Checks size, alignment and overflow; memory is not touched.
    pub fn validate(&self) -> Result<(), RingError> {
        if self.size == 0 || self.size > QUEUE_SIZE_MAX {
            return Err(RingError::Size { size: self.size });
        }
        validate(&self.parts())
    }

    /// Checks besides that each part lies in one region.
    pub fn check(&self, mem: &dyn GuestAccess) -> Result<(), RingError> {
        self.validate()?;
        contiguous(&self.parts(), mem)
    }

    /// Guest address of a descriptor.
    #[must_use]
    pub fn slot(&self, index: u16) -> u64 {
        self.ring + 16 * u64::from(index)
    }

    fn parts(&self) -> [Part; 3] {
        [
            ("descriptor ring", self.ring, PACKED_ALIGN, Self::ring_bytes(self.size)),
            ("driver event suppression", self.driver_event, EVENT_ALIGN, EVENT_BYTES),
            ("device event suppression", self.device_event, EVENT_ALIGN, EVENT_BYTES),
        ]
    }
}
