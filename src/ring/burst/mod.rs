//! Rings a burst at a time: for packets at the rate of the machine.
//!
//! They stand beside [`ring::SplitDriver`](crate::ring::SplitDriver) and its kin, which go chain by chain through
//! [`GuestAccess`](crate::memory::GuestAccess): dirty logging, injected faults and simulated peers need every access to pass
//! there, and pay for it with a look-up an access. Here addresses are looked up once, when a ring is set up, indices are
//! masked instead of checked, nothing is allocated on the way, and one publication hands over a whole burst. Both kinds
//! share layouts and [`RingError`]s, report the same violation by the same name, and a differential test holds them (and
//! `virtio-queue`) against each other on the same memory.
//!
//! What makes it fast: a driver keeps a copy of what it wrote to the descriptor table and the available ring and does not
//! write again what stands there, so that with buffers that come back in order their cache lines stay shared; indices of the
//! other side are read once a burst; a lookup of a buffer is a compare with the region of the one before.

mod any;
mod at;
mod chains;
mod packed;
mod publish;
mod split;
#[cfg(test)]
mod tests;

pub use any::{Device, Driver, Layout};
pub use chains::{Chains, TakenChain, Ticket};
pub use packed::{PackedDevice, PackedDriver};
pub use split::{SplitDevice, SplitDriver};

use super::{Buffer, RingError};
use crate::memory::Reach;
use crate::sys::shared::Place;

/// What was negotiated that changes how a ring is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RingOptions {
    /// VIRTIO_RING_F_EVENT_IDX.
    pub event_idx: bool,
    /// VIRTIO_F_IN_ORDER: a device may return a batch by its last chain alone.
    pub in_order: bool,
}

/// A chain that the device has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Done {
    /// What the caller called it when it was added.
    pub token: u32,
    /// Bytes the device says it has written. Of a chain that was returned by a later one of its batch: all it could take.
    pub len: u32,
}

/// The driver's side of a ring.
pub trait DriverRing {
    /// Descriptors in the ring.
    fn size(&self) -> u16;

    /// Descriptors that are free.
    fn free(&self) -> u16;

    /// Chains published and not yet returned.
    fn outstanding(&self) -> u16;

    /// Adds a chain of one buffer; the device sees it after [`Self::publish`].
    #[inline(always)]
    fn add(&mut self, token: u32, buffer: Buffer) -> Result<(), RingError> {
        self.add_each(&mut std::iter::once((token, buffer)))
    }

    /// Adds chains of one buffer each. On an error those before it are added.
    fn add_each(&mut self, chains: &mut impl Iterator<Item = (u32, Buffer)>) -> Result<(), RingError>;

    /// Adds a chain, readable buffers first.
    fn add_chain(&mut self, token: u32, chain: &[Buffer]) -> Result<(), RingError>;

    /// Adds a chain whose descriptors stand in `table`, 16 bytes each; it takes one descriptor of the ring.
    fn add_indirect(&mut self, token: u32, chain: &[Buffer], table: Place<'_>) -> Result<(), RingError>;

    /// Makes all added chains available at once; gives their number.
    fn publish(&mut self) -> u16;

    /// Takes chains the device has returned, as many as fit; gives their number.
    ///
    /// An error stands for one element; the elements before it come first, with `Ok`, and the next call goes on behind it.
    /// Only [`RingError::UsedJumped`] moves nothing.
    fn reap(&mut self, into: &mut [Done]) -> Result<usize, RingError>;

    /// Whether the device wants a kick for what was published since this was last asked.
    fn needs_kick(&mut self) -> bool;

    /// Says that no calls are wanted, for a driver that polls.
    fn refuse_calls(&mut self);

    /// Asks for a call when the next chain is returned, and looks again: true if one has been already, or if the device
    /// breaks the rules, and [`Self::reap`] must be called instead of waiting.
    fn ask_for_call(&mut self) -> bool;
}

/// The device's side of a ring.
pub trait DeviceRing {
    /// Descriptors in the ring.
    fn size(&self) -> u16;

    /// Chains taken and not yet given back.
    fn taken(&self) -> u16;

    /// Takes available chains into `into`, which is cleared first; `limit` at most. Gives their number.
    ///
    /// An error stands for one chain, which is skipped and never returned; the chains before it come first, with `Ok`.
    /// Only [`RingError::AvailJumped`] moves nothing.
    fn take<'m>(&mut self, reach: &'m Reach, into: &mut Chains<'m>, limit: usize) -> Result<usize, RingError>;

    /// Returns a chain with the bytes written to it; the driver sees it after [`Self::flush`].
    fn give(&mut self, ticket: Ticket, len: u32);

    /// Shows the driver all that was given; gives the number of chains.
    fn flush(&mut self) -> u16;

    /// Puts the `count` chains that were taken last back, as if they had never been taken. None of them may have been
    /// given. `chains` is what the last [`Self::take`] filled.
    fn put_back(&mut self, chains: &Chains<'_>, count: usize) -> Result<(), RingError>;

    /// Whether the driver wants a call for what was flushed since this was last asked.
    fn needs_call(&mut self) -> bool;

    /// Says that no kicks are wanted, for a device that polls.
    fn refuse_kicks(&mut self);

    /// Asks for a kick when the next chain is made available, and looks again: true if one has been already, or if the driver
    /// breaks the rules, and [`Self::take`] must be called instead of waiting.
    fn ask_for_kick(&mut self) -> bool;

    /// Where the ring stands, as GET_VRING_BASE answers it: of a split ring the next available index; of a packed one the
    /// next available index with its wrap counter in the low half, and the next used one in the high half.
    fn base(&self) -> u32;
}

/// Writable bytes of a chain; the largest length an element can name is as good as more.
fn writable_bytes(chain: &[Buffer]) -> u32 {
    let writable = chain.iter().filter(|buffer| buffer.writable);
    let bytes = writable.map(|buffer| u64::from(buffer.len)).sum::<u64>();
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
