//! Virtio devices without I/O: what a simulated back-end does with a chain, and how a simulated front-end builds one.
//!
//! A model gets chains and memory and answers; sockets, kicks, calls and ring states are the peer's. Beside each model stands
//! the driver's side: builders that lay a request into guest memory and read its outcome back.

pub mod blk;
mod error;
pub mod frames;
pub mod generic;
pub mod net;
mod pool;
mod serve;
#[cfg(test)]
mod tests;

pub use error::DeviceError;
pub use pool::BufferPool;
pub use serve::{Budget, Served, serve_ring};

use crate::memory::GuestAccess;
use crate::ring::Chain;

/// VIRTIO_F_VERSION_1, which a model only looks at; the peer offers it.
pub const F_VERSION_1: u64 = 1 << 32;

/// What became of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processed {
    /// Done; this many bytes were written from the first writable byte on.
    Written(u32),
    /// Not now: the caller puts the chain back (`SplitDevice::undo_pop`) and asks [`DeviceModel::ready`] before the next try.
    Deferred,
}

/// A virtio device as a state machine.
pub trait DeviceModel: std::fmt::Debug + Send {
    /// Virtio device id (1 net, 2 block, 4 entropy, ...).
    fn device_id(&self) -> u32;

    /// Feature bits of the device type; bits 24 and up are the peer's.
    fn features(&self) -> u64;

    /// Told once SET_FEATURES has come, with all bits.
    fn set_features(&mut self, acked: u64);

    /// The device's configuration space.
    fn config(&self) -> &[u8];

    /// Writes to the configuration space; false, and nothing changed, if a byte of it may not be written.
    fn write_config(&mut self, offset: u32, bytes: &[u8]) -> bool;

    /// Rings the device has.
    fn queues(&self) -> u16;

    /// Whether it makes sense to take a chain from this ring now.
    fn ready(&self, ring: u16) -> bool {
        let _ = ring;
        true
    }

    /// Processes a chain of an enabled ring. After an error the chain has been left as it was.
    fn process(&mut self, ring: u16, chain: &Chain, mem: &dyn GuestAccess) -> Result<Processed, DeviceError>;

    /// Processes a chain of a ring that is started and disabled: without side effects, or not at all.
    fn process_disabled(&mut self, ring: u16, chain: &Chain, mem: &dyn GuestAccess) -> Result<Processed, DeviceError> {
        let _ = (ring, chain, mem);
        Ok(Processed::Deferred)
    }

    /// Back to the state after power-on; a disk keeps its content.
    fn reset(&mut self);

    /// The block device behind this model, if it is one.
    fn as_blk(&mut self) -> Option<&mut blk::Blk> {
        None
    }

    /// The network device behind this model, if it is one.
    fn as_net(&mut self) -> Option<&mut net::Net> {
        None
    }
}

/// Copies `bytes` into `config` at `offset` if every byte of it is inside `writable`.
fn write_config_range(config: &mut [u8], writable: std::ops::Range<usize>, offset: u32, bytes: &[u8]) -> bool {
    let start = offset as usize;
    let Some(end) = start.checked_add(bytes.len()) else {
        return false;
    };
    if start < writable.start || end > writable.end || end > config.len() {
        return false;
    }
    config[start..end].copy_from_slice(bytes);
    true
}
