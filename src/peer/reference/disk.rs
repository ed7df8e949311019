//! The bytes behind the reference back-end's virtio-blk device: a file or memory. Knows sectors only by their size.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a sector, the unit of every address in virtio-blk.
pub(super) const SECTOR_BYTES: u64 = 512;

/// A disk that outlives the connections it is served on.
#[derive(Clone)]
pub(super) struct Disk {
    bytes: u64,
    store: Arc<Store>,
}

enum Store {
    File(File),
    Memory(Mutex<Vec<u8>>),
}

impl Disk {
    /// The disk in the file at `path`, as long as the file, whole sectors only.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let bytes = whole_sectors(file.metadata()?.len())?;
        Ok(Self {
            bytes,
            store: Arc::new(Store::File(file)),
        })
    }

    /// A disk of zeros that is forgotten at the end.
    pub(super) fn in_memory(bytes: u64) -> io::Result<Self> {
        let bytes = whole_sectors(bytes)?;
        let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Self {
            bytes,
            store: Arc::new(Store::Memory(Mutex::new(vec![0; length]))),
        })
    }

    /// Its size in sectors.
    pub(super) fn sectors(&self) -> u64 {
        self.bytes / SECTOR_BYTES
    }

    /// Fills `bytes` from `offset` on; the caller has checked the range.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        match &*self.store {
            Store::File(file) => file.read_exact_at(bytes, offset),
            Store::Memory(memory) => {
                bytes.copy_from_slice(range(&mut lock(memory), offset, bytes.len())?);
                Ok(())
            }
        }
    }

    /// Writes `bytes` from `offset` on; the caller has checked the range.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match &*self.store {
            Store::File(file) => file.write_all_at(bytes, offset),
            Store::Memory(memory) => {
                range(&mut lock(memory), offset, bytes.len())?.copy_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Returns once what was written would outlive this process.
    pub(super) fn flush(&self) -> io::Result<()> {
        match &*self.store {
            Store::File(file) => file.sync_data(),
            Store::Memory(_) => Ok(()),
        }
    }

    /// Whether `bytes` bytes at `sector` lie inside the disk and are whole sectors.
    pub(super) fn holds(&self, sector: u64, bytes: u64) -> bool {
        bytes.is_multiple_of(SECTOR_BYTES)
            && sector
                .checked_add(bytes / SECTOR_BYTES)
                .is_some_and(|end| end <= self.sectors())
    }
}

fn whole_sectors(bytes: u64) -> io::Result<u64> {
    match bytes - bytes % SECTOR_BYTES {
        0 => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "smaller than one sector of 512 bytes",
        )),
        whole => Ok(whole),
    }
}

fn lock(memory: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

fn range(memory: &mut [u8], offset: u64, length: usize) -> io::Result<&mut [u8]> {
    usize::try_from(offset)
        .ok()
        .and_then(|start| memory.get_mut(start..start.checked_add(length)?))
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
