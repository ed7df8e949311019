//! Split rings: descriptor table, available ring, used ring (virtio 1.3, section 2.7).

pub mod device;
pub mod driver;
#[cfg(test)]
mod tests;

/// The buffer continues in another descriptor.
pub const DESC_F_NEXT: u16 = 0x1;
/// The device writes the buffer.
pub const DESC_F_WRITE: u16 = 0x2;
/// The buffer holds a table of descriptors.
pub const DESC_F_INDIRECT: u16 = 0x4;
/// avail.flags: the driver wants no calls.
pub const AVAIL_F_NO_INTERRUPT: u16 = 0x1;
/// used.flags: the device wants no kicks.
pub const USED_F_NO_NOTIFY: u16 = 0x1;

/// With EVENT_IDX: whether moving the index from `old` to `new` passes the event the other side waits for.
#[must_use]
pub const fn event_passed(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// One descriptor as it stands in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

impl Descriptor {
    pub(crate) const BYTES: usize = 16;

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut raw = [0; Self::BYTES];
        raw[..8].copy_from_slice(&self.addr.to_le_bytes());
        raw[8..12].copy_from_slice(&self.len.to_le_bytes());
        raw[12..14].copy_from_slice(&self.flags.to_le_bytes());
        raw[14..].copy_from_slice(&self.next.to_le_bytes());
        raw
    }

    pub(crate) fn from_bytes(raw: &[u8; Self::BYTES]) -> Self {
        let half = |at: usize| u16::from_le_bytes([raw[at], raw[at + 1]]);
        Self {
            addr: u64::from_le_bytes([raw[0], raw[1], raw[2], raw[3], raw[4], raw[5], raw[6], raw[7]]),
            len: u32::from_le_bytes([raw[8], raw[9], raw[10], raw[11]]),
            flags: half(12),
            next: half(14),
        }
    }
}
