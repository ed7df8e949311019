//! Rings on loan: what somebody else needs to move frames over a ring of a simulated peer, which goes on handling messages
//! meanwhile.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::memory::{DirtyLog, Reach};
use crate::ring::RingError;
use crate::ring::burst::{Device, Layout, RingOptions};
use crate::traffic::lane::{Bell, DevicePort, Dirty, Record, Records};

/// VIRTIO_F_RING_PACKED.
pub const F_RING_PACKED: u64 = 1 << 34;
/// VIRTIO_F_IN_ORDER.
pub const F_IN_ORDER: u64 = 1 << 35;

/// The driver's side of a ring.
#[derive(Debug)]
pub struct FrontLoan {
    /// Where it lies.
    pub layout: Layout,
    /// Where it goes on.
    pub base: u32,
    /// Guest memory.
    pub reach: Reach,
    /// What was negotiated of it.
    pub options: RingOptions,
}

/// The device's side of a ring that runs.
#[derive(Debug)]
pub struct BackLoan {
    /// Where it lies.
    pub layout: Layout,
    /// Where it goes on.
    pub base: u32,
    /// Guest memory as it is mapped now.
    pub reach: Reach,
    /// What was negotiated of it.
    pub options: RingOptions,
    /// What the driver signals.
    pub kick: Option<Arc<OwnedFd>>,
    /// What the driver waits on.
    pub call: Option<Arc<OwnedFd>>,
    /// It may have effects; otherwise what is sent is to be discarded.
    pub enabled: bool,
    /// Where writes to guest memory are noted.
    pub log: Option<Arc<DirtyLog>>,
    /// Writes to the used ring are noted as well.
    pub logs_ring: bool,
    /// The driver merges receive buffers.
    pub merges: bool,
    /// Where it is recorded what is in hand.
    pub record: Option<Result<Record, RingError>>,
}

impl BackLoan {
    /// The device's end of the ring, as a lane moves frames over it.
    ///
    /// # Errors
    /// The ring does not lie in memory as it should.
    pub fn into_port(self) -> Result<DevicePort<Device>, RingError> {
        let ring = Device::start(self.layout, self.base, &self.reach, self.options)?;
        let (layout, logs_ring) = (self.layout, self.logs_ring);
        Ok(DevicePort {
            ring,
            reach: self.reach,
            kick: Bell::new(self.kick),
            call: Bell::new(self.call),
            enabled: self.enabled,
            record: Records::new(self.record.transpose()?),
            dirty: self.log.map(|log| Dirty::new(log, logs_ring.then_some(layout))),
        })
    }
}
