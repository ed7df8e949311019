//! A chain as the device sees it: buffers to read, then buffers to write.

use crate::memory::{GuestAccess, MemoryError};

/// A descriptor chain that was taken from a ring. Buffers are (guest address, bytes); they were not yet looked up in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// Index of the first descriptor, which names the chain in the used ring.
    pub head: u16,
    /// What the device may read, in order.
    pub readable: Vec<(u64, u32)>,
    /// What the device may write, in order.
    pub writable: Vec<(u64, u32)>,
}

impl Chain {
    /// Bytes the device may read.
    #[must_use]
    pub fn readable_len(&self) -> u64 {
        total(&self.readable)
    }

    /// Bytes the device may write.
    #[must_use]
    pub fn writable_len(&self) -> u64 {
        total(&self.writable)
    }

    /// Reads all readable bytes, but `limit` at most.
    pub fn read_all(&self, mem: &dyn GuestAccess, limit: usize) -> Result<Vec<u8>, MemoryError> {
        self.read_range(mem, 0, limit)
    }

    /// Reads up to `limit` readable bytes after the first `skip`.
    pub fn read_range(&self, mem: &dyn GuestAccess, skip: u64, limit: usize) -> Result<Vec<u8>, MemoryError> {
        let length = self.readable_len().saturating_sub(skip).min(limit as u64) as usize;
        let mut bytes = vec![0; length];
        for part in parts(&self.readable, skip, length) {
            mem.read(part.address, &mut bytes[part.from..part.to])?;
        }
        Ok(bytes)
    }

    /// Writes from the first writable byte on; gives the bytes that fitted.
    pub fn write(&self, mem: &dyn GuestAccess, bytes: &[u8]) -> Result<u32, MemoryError> {
        self.write_at(mem, 0, bytes)
    }

    /// Writes after the first `skip` writable bytes; gives the bytes that fitted.
    pub fn write_at(&self, mem: &dyn GuestAccess, skip: u64, bytes: &[u8]) -> Result<u32, MemoryError> {
        let mut written = 0;
        for part in parts(&self.writable, skip, bytes.len()) {
            mem.write(part.address, &bytes[part.from..part.to])?;
            written += (part.to - part.from) as u32;
        }
        Ok(written)
    }
}

fn total(buffers: &[(u64, u32)]) -> u64 {
    buffers.iter().map(|(_, len)| u64::from(*len)).sum()
}

/// A piece of one guest buffer, and the range of the local buffer that belongs to it.
struct Part {
    address: u64,
    from: usize,
    to: usize,
}

fn parts(buffers: &[(u64, u32)], skip: u64, length: usize) -> impl Iterator<Item = Part> {
    let mut skip = skip;
    let mut done = 0;
    buffers.iter().filter_map(move |(address, len)| {
        let len = u64::from(*len);
        if skip >= len {
            skip -= len;
            return None;
        }
        let take = (len - skip).min((length - done) as u64) as usize;
        let part = Part {
            address: address.saturating_add(skip),
            from: done,
            to: done + take,
        };
        skip = 0;
        done += take;
        (take > 0).then_some(part)
    })
}
