//! What a chain says of itself: its descriptors, read once while the device has it. Bounded whatever they say.

use std::sync::atomic::{Ordering, fence};

use crate::memory::{GuestAccess, MemoryError};
use crate::ring::SplitLayout;
use crate::ring::split::{DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, Descriptor};

/// Most bytes of all buffers of a chain together (virtio 1.3, section 2.7.5).
const CHAIN_BYTES_MAX: u64 = 1 << 32;
/// Most descriptors of an indirect table on rings that are smaller: QEMU's VIRTQUEUE_MAX_SIZE.
const INDIRECT_MAX: u32 = 1024;
/// Writable buffers of a chain that are remembered, to look whether their pages are logged.
const BUFFERS_MAX: usize = 16;

/// A chain as it lay in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Its head (split) or buffer id (packed).
    pub id: u16,
    /// Descriptors of the ring that it takes.
    pub slots: u16,
    /// Descriptors in all.
    pub descriptors: u32,
    /// It has an indirect table.
    pub indirect: bool,
    /// Bytes the device may write.
    pub writable: u64,
    /// Its first writable buffers: guest address and bytes.
    pub buffers: Vec<(u64, u32)>,
    /// What is wrong with its descriptors.
    pub flaw: Option<Flaw>,
    /// A buffer that is not in guest memory: address and bytes.
    pub outside: Option<(u64, u32)>,
    /// Writable bytes before the first that is not in guest memory.
    pub writable_inside: Option<u64>,
    bytes: u64,
}

impl Chain {
    /// One whose slots may have been written over meanwhile, so that it is not known what it holds.
    pub(super) fn unread(id: u16, slots: u16) -> Self {
        Self {
            id,
            slots,
            writable: u64::from(u32::MAX),
            ..Self::default()
        }
    }
}

/// What can be wrong with descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A descriptor names one that is not there as the next.
    NextOutOfRange {
        /// The next one.
        next: u16,
        /// Descriptors in the table.
        size: u32,
    },
    /// More descriptors than the table has.
    Endless {
        /// Descriptors in the table.
        size: u32,
    },
    /// An indirect table, and the feature was not negotiated.
    IndirectUnnegotiated,
    /// A descriptor has INDIRECT and NEXT, or a packed indirect one is not alone.
    IndirectInChain,
    /// An indirect descriptor in an indirect table.
    IndirectInTable,
    /// An indirect table that is empty, too long or of no whole number of descriptors.
    IndirectLength {
        /// Its bytes.
        bytes: u32,
    },
    /// An indirect table that is not in guest memory.
    TableOutside {
        /// Where it should be.
        address: u64,
    },
    /// A buffer to be read follows one to be written.
    ReadableAfterWritable,
    /// More than 4 GiB, or past the end of the address space.
    TooLong,
}

/// How much may still be read in this look.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) descriptors: u32,
}

/// One descriptor of a chain, of either kind of ring.
struct Link {
    address: u64,
    length: u32,
    flags: u16,
}

/// Reads the chain of a split ring that begins at `head`; none if the look has read enough.
pub(super) fn split(
    mem: &dyn GuestAccess,
    layout: &SplitLayout,
    head: u16,
    may_indirect: bool,
    budget: &mut Budget,
) -> Result<Option<Chain>, MemoryError> {
    let mut chain = Chain {
        id: head,
        ..Chain::default()
    };
    let size = u32::from(layout.size);
    let mut index = head;
    loop {
        if budget.descriptors == 0 {
            return Ok(None);
        }
        budget.descriptors -= 1;
        chain.slots += 1;
        let found = descriptor(mem, layout.desc_at(index))?;
        let link = Link {
            address: found.addr,
            length: found.len,
            flags: found.flags,
        };
        if link.flags & DESC_F_INDIRECT != 0 {
            if link.flags & DESC_F_NEXT != 0 {
                chain.flaw = Some(Flaw::IndirectInChain);
            } else if !follow_table(mem, &mut chain, &link, size, may_indirect, false, budget)? {
                return Ok(None);
            }
            break;
        }
        chain.take(mem, &link);
        if chain.flaw.is_some() || link.flags & DESC_F_NEXT == 0 {
            break;
        }
        if u32::from(found.next) >= size {
            chain.flaw = Some(Flaw::NextOutOfRange { next: found.next, size });
            break;
        }
        if u32::from(chain.slots) == size {
            chain.flaw = Some(Flaw::Endless { size });
            break;
        }
        index = found.next;
    }
    // what was read above is older than any index that is looked at from here on
    fence(Ordering::Acquire);
    Ok(Some(chain))
}

/// Reads the chain of a packed ring that begins at a slot; none if the look has read enough.
pub(super) fn packed(
    mem: &dyn GuestAccess,
    ring: u64,
    size: u16,
    first: u16,
    may_indirect: bool,
    budget: &mut Budget,
) -> Result<Option<Chain>, MemoryError> {
    let mut chain = Chain::default();
    loop {
        if budget.descriptors == 0 {
            return Ok(None);
        }
        budget.descriptors -= 1;
        let slot = (u32::from(first) + u32::from(chain.slots)) % u32::from(size);
        chain.slots += 1;
        let found = descriptor(mem, ring + 16 * u64::from(slot))?;
        // a packed descriptor has its id where a split one has its flags, and the flags where that has the next one
        let (id, flags) = (found.flags, found.next);
        chain.id = id;
        let link = Link {
            address: found.addr,
            length: found.len,
            flags,
        };
        if flags & DESC_F_INDIRECT != 0 {
            if flags & DESC_F_NEXT != 0 || chain.slots > 1 {
                chain.flaw = Some(Flaw::IndirectInChain);
            } else if !follow_table(mem, &mut chain, &link, u32::from(size), may_indirect, true, budget)? {
                return Ok(None);
            }
            break;
        }
        chain.take(mem, &link);
        if chain.flaw.is_some() || flags & DESC_F_NEXT == 0 {
            break;
        }
        if chain.slots == size {
            chain.flaw = Some(Flaw::Endless { size: u32::from(size) });
            break;
        }
    }
    fence(Ordering::Acquire);
    Ok(Some(chain))
}

/// Follows an indirect table. False if the look has read enough.
fn follow_table(
    mem: &dyn GuestAccess,
    chain: &mut Chain,
    table: &Link,
    ring: u32,
    may_indirect: bool,
    is_packed: bool,
    budget: &mut Budget,
) -> Result<bool, MemoryError> {
    chain.indirect = true;
    let count = table.length / 16;
    if !may_indirect {
        chain.flaw = Some(Flaw::IndirectUnnegotiated);
    } else if !table.length.is_multiple_of(16) || count == 0 || count > ring.max(INDIRECT_MAX) {
        chain.flaw = Some(Flaw::IndirectLength { bytes: table.length });
    } else if !is_in_memory(mem, table.address, table.length) {
        chain.flaw = Some(Flaw::TableOutside { address: table.address });
    }
    let mut index = 0;
    for _ in 0..count {
        if chain.flaw.is_some() {
            return Ok(true);
        }
        if budget.descriptors == 0 {
            return Ok(false);
        }
        budget.descriptors -= 1;
        let found = descriptor(mem, table.address + 16 * u64::from(index))?;
        let flags = if is_packed { found.next } else { found.flags };
        if flags & DESC_F_INDIRECT != 0 {
            chain.flaw = Some(Flaw::IndirectInTable);
            return Ok(true);
        }
        chain.take(
            mem,
            &Link {
                address: found.addr,
                length: found.len,
                flags,
            },
        );
        // a packed table is read from its first to its last descriptor, whatever their flags
        if !is_packed && flags & DESC_F_NEXT == 0 {
            return Ok(true);
        }
        index = if is_packed { index + 1 } else { u32::from(found.next) };
        if !is_packed && index >= count {
            chain.flaw = Some(Flaw::NextOutOfRange {
                next: found.next,
                size: count,
            });
        }
    }
    if !is_packed && chain.flaw.is_none() {
        chain.flaw = Some(Flaw::Endless { size: count });
    }
    Ok(true)
}

impl Chain {
    fn take(&mut self, mem: &dyn GuestAccess, link: &Link) {
        let is_write = link.flags & DESC_F_WRITE != 0;
        self.descriptors += 1;
        self.bytes += u64::from(link.length);
        if self.bytes > CHAIN_BYTES_MAX || link.address.checked_add(u64::from(link.length)).is_none() {
            self.flaw = Some(Flaw::TooLong);
            return;
        }
        if !is_write && self.writable > 0 {
            self.flaw = Some(Flaw::ReadableAfterWritable);
            return;
        }
        if !is_in_memory(mem, link.address, link.length) {
            self.outside.get_or_insert((link.address, link.length));
            if is_write {
                self.writable_inside.get_or_insert(self.writable);
            }
        }
        if is_write {
            self.writable += u64::from(link.length);
            if self.buffers.len() < BUFFERS_MAX {
                self.buffers.push((link.address, link.length));
            }
        }
    }

    /// The guest ranges that hold the first `length` writable bytes, as far as they are remembered.
    pub(super) fn written(&self, length: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut left = length;
        self.buffers.iter().map_while(move |(address, bytes)| {
            let taken = left.min(u64::from(*bytes));
            left -= taken;
            (taken > 0).then_some((*address, taken))
        })
    }
}

/// Whether guest memory covers all of it; more than one region may.
fn is_in_memory(mem: &dyn GuestAccess, address: u64, length: u32) -> bool {
    length == 0
        || matches!(
            mem.contiguous(address, u64::from(length)),
            Ok(()) | Err(MemoryError::Straddles { .. })
        )
}

fn descriptor(mem: &dyn GuestAccess, at: u64) -> Result<Descriptor, MemoryError> {
    let mut raw = [0; Descriptor::BYTES];
    mem.read(at, &mut raw)?;
    Ok(Descriptor::from_bytes(&raw))
}
