//! Why a device model or a request builder gives up.

use thiserror::Error;

use crate::memory::MemoryError;
use crate::ring::RingError;

/// Errors of device models and builders.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// Guest memory could not be accessed.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The ring or the other side of it is wrong.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The device has no such ring.
    #[error("no ring {ring}, the device has {queues}")]
    NoRing {
        /// Ring asked for.
        ring: u16,
        /// Rings there are.
        queues: u16,
    },
    /// A chain that this device cannot make sense of.
    #[error("malformed request on ring {ring}, head {head}: {reason}")]
    Malformed {
        /// The ring.
        ring: u16,
        /// The chain.
        head: u16,
        /// What is wrong.
        reason: &'static str,
    },
    /// The inflight area is for rings of the other kind.
    #[error("ring {ring} is {kind}, and the inflight area is not for such rings")]
    InflightKind {
        /// The ring.
        ring: u16,
        /// What it is.
        kind: &'static str,
    },
    /// The file of a disk cannot be read.
    #[error("the file of the disk cannot be read: {why}")]
    Image {
        /// What the system says.
        why: String,
    },
    /// A queue inside the model is full.
    #[error("{what} is full at {limit}")]
    Full {
        /// Which queue.
        what: &'static str,
        /// Its bound.
        limit: usize,
    },
    /// The buffer pool has no room.
    #[error("buffer pool has no {wanted} bytes in one piece, {free} are free")]
    PoolExhausted {
        /// Bytes wanted.
        wanted: u64,
        /// Bytes free in all.
        free: u64,
    },
    /// A buffer given back to the pool did not come from it.
    #[error("no buffer of the pool begins at {address:#x}")]
    NotFromPool {
        /// The address.
        address: u64,
    },
    /// A device option out of its bounds.
    #[error("{option} is {value}, allowed is {allowed}")]
    BadOption {
        /// The option.
        option: &'static str,
        /// Its value.
        value: u64,
        /// What it may be.
        allowed: &'static str,
    },
    /// The device says it has written other than the request asks for.
    #[error("device wrote {len} bytes, expected {expected}")]
    WrongLength {
        /// Bytes the device reported.
        len: u32,
        /// Bytes that follow from the request.
        expected: u64,
    },
}
