//! What there is to do for each kind of ring, with the ring and the area together.

use super::Fault;
use crate::peer::device::DeviceError;
use crate::ring::Chain;

/// A request that was taken from the ring, now or in an earlier life.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) chain: Chain,
    /// What the area calls it.
    pub(super) entry: u16,
    /// Descriptors of the ring.
    pub(super) descriptors: u16,
}

/// A request that was carried out, to be returned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) id: u16,
    pub(super) entry: u16,
    pub(super) descriptors: u16,
    /// Bytes written to it.
    pub(super) len: u32,
}

/// A ring and its region of the area.
pub(super) trait Book {
    /// What the last life had in flight is to be done again, oldest first, and the ring goes on behind all that was ever
    /// taken. None if nothing was recorded yet.
    fn take_over(&mut self, fault: Option<Fault>) -> Result<Option<Vec<u16>>, DeviceError>;

    /// Takes the next chain and records it; with EVENT_IDX a kick is asked for when there is none.
    fn take(&mut self, records: bool) -> Result<Option<Taken>, DeviceError>;

    /// Takes a chain of an earlier life.
    fn take_again(&mut self, entry: u16) -> Result<Taken, DeviceError>;

    /// The chain that was taken last is not carried out now after all.
    fn put_back(&mut self, taken: &Taken) -> Result<(), DeviceError>;

    /// The same for one of an earlier life, which stays in flight.
    fn leave(&mut self);

    /// Writes into the area which batch is about to be returned.
    fn link(&mut self, batch: &[Done]) -> Result<(), DeviceError>;

    /// Shows a batch to the driver.
    fn show(&mut self, batch: &[Done]) -> Result<(), DeviceError>;

    /// Notes that a request is not in flight.
    fn clear(&mut self, entry: u16) -> Result<(), DeviceError>;

    /// Notes that the batch is over.
    fn note(&mut self) -> Result<(), DeviceError>;

    /// Whether the driver wants a call.
    fn needs_call(&mut self) -> Result<bool, DeviceError>;
}
