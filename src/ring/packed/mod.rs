//! Packed rings: one ring of descriptors, which both sides write (virtio 1.3, section 2.8).

pub mod device;
pub mod driver;

use super::split::event_passed;

/// The buffer continues in the next descriptor.
pub const DESC_F_NEXT: u16 = 0x1;
/// The device writes the buffer; in a used descriptor: it has written.
pub const DESC_F_WRITE: u16 = 0x2;
/// The buffer holds a table of descriptors.
pub const DESC_F_INDIRECT: u16 = 0x4;
/// Compared with the driver's wrap counter.
pub const DESC_F_AVAIL: u16 = 0x80;
/// Compared with the device's wrap counter.
pub const DESC_F_USED: u16 = 0x8000;

/// Event suppression: all events are wanted.
pub const EVENT_ENABLE: u16 = 0;
/// Event suppression: none is.
pub const EVENT_DISABLE: u16 = 1;
/// Event suppression: one is, at the descriptor that is named.
pub const EVENT_DESC: u16 = 2;

/// A place in the ring, with the wrap counter that holds there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The descriptor.
    pub at: u16,
    /// The wrap counter.
    pub wrap: bool,
}

impl Position {
    /// Where both sides of a fresh ring begin.
    pub const START: Self = Self { at: 0, wrap: true };

    /// `descriptors` further on in a ring of `size`; at most once around.
    #[inline(always)]
    #[must_use]
    pub fn advanced(self, descriptors: u16, size: u16) -> Self {
        let at = u32::from(self.at) + u32::from(descriptors);
        match at.checked_sub(u32::from(size)) {
            Some(at) => Self {
                at: at as u16,
                wrap: !self.wrap,
            },
            None => Self { at: at as u16, ..self },
        }
    }

    /// `descriptors` back; at most once around.
    #[must_use]
    pub fn back(self, descriptors: u16, size: u16) -> Self {
        match self.at.checked_sub(descriptors) {
            Some(at) => Self { at, ..self },
            None => Self {
                at: (u32::from(self.at) + u32::from(size) - u32::from(descriptors)) as u16,
                wrap: !self.wrap,
            },
        }
    }

    /// As event suppression and SET_VRING_BASE write it: the wrap counter is bit 15.
    #[must_use]
    pub fn to_bits(self) -> u16 {
        self.at | u16::from(self.wrap) << 15
    }

    /// The reverse.
    #[must_use]
    pub fn from_bits(bits: u16) -> Self {
        Self {
            at: bits & 0x7fff,
            wrap: bits & 0x8000 != 0,
        }
    }

    /// Flags of a descriptor that is made available here.
    #[inline(always)]
    #[must_use]
    pub fn avail_flags(self) -> u16 {
        if self.wrap { DESC_F_AVAIL } else { DESC_F_USED }
    }

    /// Flags of a descriptor that is used here.
    #[inline(always)]
    #[must_use]
    pub fn used_flags(self) -> u16 {
        if self.wrap { DESC_F_AVAIL | DESC_F_USED } else { 0 }
    }

    /// Whether a descriptor with these flags is available here.
    #[inline(always)]
    #[must_use]
    pub fn is_avail(self, flags: u16) -> bool {
        flags & (DESC_F_AVAIL | DESC_F_USED) == self.avail_flags()
    }

    /// Whether a descriptor with these flags is used here.
    #[inline(always)]
    #[must_use]
    pub fn is_used(self, flags: u16) -> bool {
        flags & (DESC_F_AVAIL | DESC_F_USED) == self.used_flags()
    }
}

/// Where a ring is started: next available and next used descriptor.
///
/// SET_VRING_BASE carries both, the available one in the low half. Some peers write the low half only (DPDK does); a high half
/// of zero is therefore taken as not told, and the ring as one that was drained.
#[must_use]
pub fn positions(base: u32) -> (Position, Position) {
    let (low, high) = (base as u16, (base >> 16) as u16);
    let avail = Position::from_bits(low);
    (avail, if high == 0 { avail } else { Position::from_bits(high) })
}

/// The reverse of [`positions`].
#[must_use]
pub fn base(avail: Position, used: Position) -> u32 {
    u32::from(avail.to_bits()) | u32::from(used.to_bits()) << 16
}

/// Whether moving on by `moved` descriptors to `now` is an event for the other side, which has written `wish` (its
/// descriptor) and `flags` as event suppression.
#[must_use]
pub fn wants_event(wish: u16, flags: u16, now: Position, moved: u32, size: u16) -> bool {
    match flags & 0x3 {
        EVENT_DISABLE => false,
        EVENT_DESC if moved < u32::from(size) => {
            let wish = Position::from_bits(wish);
            let event = if wish.wrap == now.wrap {
                wish.at
            } else {
                wish.at.wrapping_sub(size)
            };
            event_passed(event, now.at, now.at.wrapping_sub(moved as u16))
        }
        _ => moved > 0,
    }
}
