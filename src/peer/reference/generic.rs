//! The generic device: no virtio device at all. The readable part of every chain is echoed into its writable part, and
//! its configuration space of 256 bytes keeps what is written to it.

use std::io::{self, Read, Write};

use super::device::{HeldMemory, Model, Vring, pass_over};
use super::error::Fault;

/// Bytes copied at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// The echo.
pub(super) struct Generic {
    rings: usize,
    config: [u8; 256],
}

impl Generic {
    /// An echo with `rings` rings.
    pub(super) fn new(rings: usize) -> Self {
        Self {
            rings,
            config: [0; 256],
        }
    }
}

impl Model for Generic {
    fn rings(&self) -> usize {
        self.rings
    }

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn write_config(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(bytes.len());
        let target = self.config.get_mut(offset..end).ok_or(io::ErrorKind::InvalidInput)?;
        target.copy_from_slice(bytes);
        Ok(())
    }

    fn reset(&mut self) {
        self.config = [0; 256];
    }

    fn pass(&mut self, ring: usize, vrings: &[Vring], memory: &HeldMemory) -> Result<bool, Fault> {
        let mut chunk = vec![0; CHUNK_BYTES];
        pass_over(ring, &vrings[ring], memory, |mut readable, mut writable, head| {
            let broken = |error: io::Error| Fault::Chain {
                ring,
                head,
                what: error.to_string(),
            };
            let mut left = readable.available_bytes().min(writable.available_bytes());
            while left > 0 {
                let part = &mut chunk[..left.min(CHUNK_BYTES)];
                readable.read_exact(part).map_err(broken)?;
                writable.write_all(part).map_err(broken)?;
                left -= part.len();
            }
            // A chain holds fewer than 2^32 bytes.
            Ok(writable.bytes_written() as u32)
        })
    }
}
