//! Buffers in guest memory, taken and given back by the simulated driver.

use std::collections::BTreeMap;

use super::DeviceError;

/// Buffers begin at multiples of this.
const ALIGN_BYTES: u64 = 16;

/// First-fit allocation in one range of guest addresses. It hands out addresses and never touches the memory.
#[derive(Debug, Clone)]
pub struct BufferPool {
    /// Free ranges, start to bytes; neighbours are always joined.
    free: BTreeMap<u64, u64>,
    taken: BTreeMap<u64, u64>,
}

impl BufferPool {
    /// A pool of `size` bytes from guest address `base`.
    #[must_use]
    pub fn new(base: u64, size: u64) -> Self {
        let end = base.saturating_add(size) / ALIGN_BYTES * ALIGN_BYTES;
        let start = base.checked_next_multiple_of(ALIGN_BYTES).unwrap_or(end);
        let mut free = BTreeMap::new();
        if start < end {
            free.insert(start, end - start);
        }
        Self {
            free,
            taken: BTreeMap::new(),
        }
    }

    /// Takes `len` bytes in one piece, aligned to 16; a length of 0 takes the smallest piece.
    pub fn alloc(&mut self, len: u32) -> Result<u64, DeviceError> {
        let wanted = u64::from(len).max(1).next_multiple_of(ALIGN_BYTES);
        let fit = self
            .free
            .iter()
            .find(|(_, size)| **size >= wanted)
            .map(|(start, size)| (*start, *size));
        let Some((start, size)) = fit else {
            return Err(DeviceError::PoolExhausted {
                wanted,
                free: self.free_bytes(),
            });
        };
        self.free.remove(&start);
        if size > wanted {
            self.free.insert(start + wanted, size - wanted);
        }
        self.taken.insert(start, wanted);
        Ok(start)
    }

    /// Gives a buffer back.
    pub fn free(&mut self, address: u64) -> Result<(), DeviceError> {
        let mut size = self
            .taken
            .remove(&address)
            .ok_or(DeviceError::NotFromPool { address })?;
        let mut start = address;
        if let Some(after) = self.free.remove(&(address + size)) {
            size += after;
        }
        if let Some((before, bytes)) = self.free.range(..address).next_back().map(|(at, bytes)| (*at, *bytes))
            && before + bytes == address
        {
            start = before;
            size += bytes;
        }
        self.free.insert(start, size);
        Ok(())
    }

    /// Bytes free in all.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.free.values().sum()
    }

    /// Buffers that are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_joins_its_neighbours() {
        // Broken: a long run of requests ends in an exhausted pool.
        let mut pool = BufferPool::new(0x1001, 0x1000);
        let all = pool.free_bytes();
        let buffers: Vec<u64> = (1..20).map(|len| pool.alloc(len * 7).unwrap()).collect();
        assert!(buffers.iter().all(|at| at % 16 == 0 && *at >= 0x1001));
        for at in buffers.iter().step_by(2).chain(buffers.iter().skip(1).step_by(2)) {
            pool.free(*at).unwrap();
        }
        assert_eq!((pool.free_bytes(), pool.taken(), pool.free.len()), (all, 0, 1));
        assert_eq!(pool.free(0x1010), Err(DeviceError::NotFromPool { address: 0x1010 }));
        assert!(matches!(pool.alloc(0x1000), Err(DeviceError::PoolExhausted { .. })));
    }
}
