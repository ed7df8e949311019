//! How a ring, or the peer on its other side, breaks the rules.

use thiserror::Error;

use crate::memory::MemoryError;

/// Errors of the ring room. Those that name the device or the driver are violations by that side.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RingError {
    /// Guest memory could not be accessed.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The size is no power of two up to 32768.
    #[error("queue size {size} is not a power of two from 1 to 32768")]
    Size {
        /// The size.
        size: u16,
    },
    /// A packed ring is to begin past its end.
    #[error("a ring of {size} cannot begin at descriptor {at}")]
    BaseOutOfRange {
        /// Where it is to begin.
        at: u16,
        /// Ring size.
        size: u16,
    },
    /// A part of the ring is not aligned as virtio demands.
    #[error("{part} at {address:#x} is not aligned to {align}")]
    Alignment {
        /// Which part.
        part: &'static str,
        /// Its guest address.
        address: u64,
        /// Bytes.
        align: u64,
    },
    /// A part of the ring runs past the end of the address space.
    #[error("{part} at {address:#x} with {length:#x} bytes overflows")]
    Overflow {
        /// Which part.
        part: &'static str,
        /// Its guest address.
        address: u64,
        /// Bytes.
        length: u64,
    },
    /// Too few free descriptors for a chain.
    #[error("chain needs {wanted} descriptors, {free} are free")]
    NoDescriptors {
        /// Descriptors the chain needs.
        wanted: usize,
        /// Descriptors that are free.
        free: usize,
    },
    /// A chain without buffers, or with a readable buffer after a writable one, was to be added.
    #[error("cannot add chain: {reason}")]
    BadChain {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The device has advanced used.idx past what was made available, or moved it back.
    #[error("device moved used.idx from {from} to {to}, but only {outstanding} chains were outstanding")]
    UsedJumped {
        /// used.idx as far as the driver has read.
        from: u16,
        /// used.idx in memory.
        to: u16,
        /// Chains published and not yet returned.
        outstanding: u16,
    },
    /// The device has returned a head that names no outstanding chain.
    #[error("device returned head {id}, which is no outstanding chain")]
    UnknownHead {
        /// The id in the used element.
        id: u32,
    },
    /// The device has returned a chain again.
    #[error("device returned head {head} twice")]
    ReturnedTwice {
        /// The head.
        head: u16,
    },
    /// With IN_ORDER: the device has returned a chain that was made available later than those its index leaves room for.
    #[error("device returned head {head} out of order")]
    OutOfOrder {
        /// The head.
        head: u16,
    },
    /// The device has marked a descriptor of a packed ring as used, and no chain was outstanding.
    #[error("device marked descriptor {at} as used for buffer {id}, but no chain was outstanding")]
    NoneOutstanding {
        /// The descriptor.
        at: u16,
        /// The buffer id in it.
        id: u16,
    },
    /// The device has returned a chain that was added and not yet published.
    #[error("device returned head {head} before it was made available")]
    NotPublished {
        /// The head.
        head: u16,
    },
    /// The device claims to have written more than the chain could take. Its descriptors are free again.
    #[error("device wrote {len} bytes to head {head}, which has {writable} writable bytes")]
    UsedTooLong {
        /// The head.
        head: u16,
        /// The length in the used element.
        len: u32,
        /// Bytes the device could write.
        writable: u64,
    },
    /// The driver has advanced avail.idx by more than the ring holds, or moved it back.
    #[error("driver moved avail.idx from {from} to {to} in a ring of {size}")]
    AvailJumped {
        /// avail.idx as far as the device has taken.
        from: u16,
        /// avail.idx in memory.
        to: u16,
        /// Ring size.
        size: u16,
    },
    /// The driver has made an index available that is no descriptor.
    #[error("driver made descriptor {head} available in a ring of {size}")]
    HeadOutOfRange {
        /// The head.
        head: u16,
        /// Ring size.
        size: u16,
    },
    /// A descriptor's next is no descriptor of its table.
    #[error("descriptor {index} of chain {head} continues at {next} in a table of {size}")]
    NextOutOfRange {
        /// The chain.
        head: u16,
        /// The descriptor.
        index: u16,
        /// Where it continues.
        next: u16,
        /// Descriptors in the table.
        size: u32,
    },
    /// A chain has more descriptors than its table, so it loops.
    #[error("chain {head} has more than {limit} descriptors")]
    Loop {
        /// The chain.
        head: u16,
        /// Most a chain may have.
        limit: u32,
    },
    /// A chain has a readable descriptor after a writable one.
    #[error("descriptor {index} of chain {head} is readable after a writable one")]
    ReadableAfterWritable {
        /// The chain.
        head: u16,
        /// The descriptor.
        index: u16,
    },
    /// An indirect table is empty, no multiple of 16 bytes or longer than the ring allows.
    #[error("indirect table of chain {head} has {length} bytes")]
    IndirectLength {
        /// The chain.
        head: u16,
        /// Bytes.
        length: u32,
    },
    /// An indirect descriptor in an indirect table, or with NEXT set.
    #[error("indirect descriptor of chain {head} has {what}")]
    IndirectFlags {
        /// The chain.
        head: u16,
        /// What it must not have.
        what: &'static str,
    },
    /// A descriptor's buffer runs past the end of the address space, or all of them past 2^32 bytes.
    #[error("buffers of chain {head} are too long")]
    ChainTooLong {
        /// The chain.
        head: u16,
    },
    /// The device model is to return a chain that the device side has not taken, or more than it has taken.
    #[error("cannot {what}: no chain is taken")]
    NothingTaken {
        /// What was asked.
        what: &'static str,
    },
}
