//! The shortest conversations that start rings with a real program: no script, no timeline, no verdict. They are for measuring
//! what the rings themselves do; everything else uses the simulated peers.
//!
//! Both block, with a limit, on one socket, and follow what QEMU and DPDK do, not all that the specification allows.

mod back;
mod front;
mod talk;

pub use back::BareBack;
pub use front::BareFront;
pub use talk::BareError;

use std::os::fd::OwnedFd;

use crate::ring::burst::{Layout, RingOptions};

/// Feature bits that decide how a ring is run.
pub mod features {
    /// VIRTIO_NET_F_MRG_RXBUF.
    pub const MRG_RXBUF: u64 = 1 << 15;
    /// VIRTIO_RING_F_INDIRECT_DESC.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// VIRTIO_RING_F_EVENT_IDX.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// VHOST_USER_F_PROTOCOL_FEATURES.
    pub const PROTOCOL_FEATURES: u64 = 1 << 30;
    /// VIRTIO_F_VERSION_1.
    pub const VERSION_1: u64 = 1 << 32;
    /// VIRTIO_F_RING_PACKED.
    pub const RING_PACKED: u64 = 1 << 34;
    /// VIRTIO_F_IN_ORDER.
    pub const IN_ORDER: u64 = 1 << 35;
}

/// What these features mean for a ring.
#[must_use]
pub fn options(acked: u64) -> RingOptions {
    RingOptions {
        event_idx: acked & features::EVENT_IDX != 0,
        in_order: acked & features::IN_ORDER != 0,
    }
}

/// A ring that both sides know.
#[derive(Debug)]
pub struct BareRing {
    /// Where it lies, in guest addresses.
    pub layout: Layout,
    /// Where it begins, as SET_VRING_BASE carried it.
    pub base: u32,
    /// What the driver signals.
    pub kick: Option<OwnedFd>,
    /// What the device signals.
    pub call: Option<OwnedFd>,
}
