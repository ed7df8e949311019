//! A block device: a disk in memory, and the requests a driver makes of it (virtio 1.3, section 5.2).

pub mod request;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::memory::GuestAccess;
use crate::ring::Chain;

use super::frames::SECTOR_BYTES;
use super::{DeviceError, DeviceModel, Processed, write_config_range};

pub use request::{BlkOp, BlkOutcome, BlkRequest};

/// VIRTIO_BLK_F_SEG_MAX: seg_max is valid.
pub const F_SEG_MAX: u64 = 1 << 2;
/// VIRTIO_BLK_F_RO: the disk cannot be written.
pub const F_RO: u64 = 1 << 5;
/// VIRTIO_BLK_F_BLK_SIZE: blk_size is valid.
pub const F_BLK_SIZE: u64 = 1 << 6;
/// VIRTIO_BLK_F_FLUSH: there is a flush request.
pub const F_FLUSH: u64 = 1 << 9;
/// VIRTIO_BLK_F_CONFIG_WCE: the driver may switch the cache mode.
pub const F_CONFIG_WCE: u64 = 1 << 11;
/// VIRTIO_BLK_F_MQ: several rings.
pub const F_MQ: u64 = 1 << 12;
/// VIRTIO_BLK_F_DISCARD: there is a discard request.
pub const F_DISCARD: u64 = 1 << 13;
/// VIRTIO_BLK_F_WRITE_ZEROES: there is a write-zeroes request.
pub const F_WRITE_ZEROES: u64 = 1 << 14;

/// Read.
pub const T_IN: u32 = 0;
/// Write.
pub const T_OUT: u32 = 1;
/// Flush.
pub const T_FLUSH: u32 = 4;
/// Serial number.
pub const T_GET_ID: u32 = 8;
/// Discard.
pub const T_DISCARD: u32 = 11;
/// Write zeroes.
pub const T_WRITE_ZEROES: u32 = 13;

/// Success.
pub const S_OK: u8 = 0;
/// Failed.
pub const S_IOERR: u8 = 1;
/// No such request.
pub const S_UNSUPP: u8 = 2;

/// Largest disk, in sectors: 256 MiB, as it lives in memory.
pub const SECTORS_MAX: u64 = 0x8_0000;
/// Bytes of virtio_blk_config up to the write-zeroes fields.
pub const CONFIG_BYTES: usize = 60;
/// Most data bytes of a request.
pub const DATA_BYTES_MAX: u64 = 16 << 20;

const HEADER_BYTES: u64 = 16;
const ID_BYTES: usize = 20;
const SEGMENT_BYTES: usize = 16;
const SEGMENTS_MAX: usize = 32;
const SEG_MAX: u32 = 126;
const WCE_AT: usize = 32;

/// How a disk looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlkOptions {
    /// Sectors of 512 bytes.
    pub sectors: u64,
    /// Rings.
    pub queues: u16,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether discard and write-zeroes are offered.
    pub discard: bool,
    /// Serial number; at most 20 bytes are used.
    pub serial: String,
}

impl Default for BlkOptions {
    fn default() -> Self {
        Self {
            sectors: 0x8000,
            queues: 1,
            read_only: false,
            discard: false,
            serial: "vuh-disk".to_owned(),
        }
    }
}

/// What a disk has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlkStats {
    /// Reads that succeeded.
    pub reads: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Requests answered with an error.
    pub errors: u64,
}

/// The disk.
#[derive(Debug, Clone)]
pub struct Blk {
    options: BlkOptions,
    disk: Vec<u8>,
    /// Where all that is written is written as well, before the request comes back.
    image: Option<Arc<File>>,
    config: Vec<u8>,
    stats: BlkStats,
}

impl Blk {
    /// A disk full of zeroes.
    pub fn new(options: BlkOptions) -> Result<Self, DeviceError> {
        if options.sectors > SECTORS_MAX {
            let value = options.sectors;
            return Err(DeviceError::BadOption {
                option: "sectors",
                value,
                allowed: "524288 or less",
            });
        }
        if options.queues == 0 {
            return Err(DeviceError::BadOption {
                option: "queues",
                value: 0,
                allowed: "1 or more",
            });
        }
        let disk = vec![0; options.sectors as usize * SECTOR_BYTES];
        let config = config_space(&options);
        Ok(Self {
            options,
            disk,
            image: None,
            config,
            stats: BlkStats::default(),
        })
    }

    /// A disk whose content is in a file, and stays there when whoever serves it is killed.
    pub fn on_file(options: BlkOptions, file: File) -> Result<Self, DeviceError> {
        let mut disk = Self::new(options)?;
        let whole = |error: io::Error| DeviceError::Image { why: error.to_string() };
        file.read_exact_at(&mut disk.disk, 0).map_err(whole)?;
        disk.image = Some(Arc::new(file));
        Ok(disk)
    }

    /// The content, from sector 0 on.
    #[must_use]
    pub fn disk(&self) -> &[u8] {
        &self.disk
    }

    /// The content, to be prepared for a scenario.
    pub fn disk_mut(&mut self) -> &mut [u8] {
        &mut self.disk
    }

    /// Counters since power-on.
    #[must_use]
    pub fn stats(&self) -> BlkStats {
        self.stats
    }

    /// Carries out a request; gives its status and the bytes written before the status byte.
    fn carry_out(
        &mut self,
        kind: u32,
        sector: u64,
        chain: &Chain,
        mem: &dyn GuestAccess,
    ) -> Result<(u8, u32), DeviceError> {
        let given = chain.readable_len() - HEADER_BYTES;
        let room = chain.writable_len() - 1;
        match kind {
            T_IN => match self.range(sector, room) {
                Some(range) => {
                    let written = chain.write(mem, &self.disk[range])?;
                    self.stats.reads += 1;
                    Ok((S_OK, written))
                }
                None => Ok((S_IOERR, 0)),
            },
            T_OUT => match self.range(sector, given).filter(|_| !self.options.read_only) {
                Some(range) => {
                    let bytes = chain.read_range(mem, HEADER_BYTES, range.len())?;
                    self.disk[range.clone()].copy_from_slice(&bytes);
                    self.stats.writes += 1;
                    Ok((self.keep(range), 0))
                }
                None => Ok((S_IOERR, 0)),
            },
            T_FLUSH => {
                self.stats.flushes += 1;
                Ok((S_OK, 0))
            }
            T_GET_ID => {
                let mut id = [0; ID_BYTES];
                let serial = self.options.serial.as_bytes();
                let length = serial.len().min(ID_BYTES);
                id[..length].copy_from_slice(&serial[..length]);
                let fits = room.min(ID_BYTES as u64) as usize;
                Ok((S_OK, chain.write(mem, &id[..fits])?))
            }
            T_DISCARD | T_WRITE_ZEROES if self.options.discard => Ok((self.zero_segments(chain, mem, given)?, 0)),
            _ => Ok((S_UNSUPP, 0)),
        }
    }

    /// Discard zeroes too, so that what is read afterwards is defined.
    fn zero_segments(&mut self, chain: &Chain, mem: &dyn GuestAccess, given: u64) -> Result<u8, DeviceError> {
        if given == 0 || !given.is_multiple_of(SEGMENT_BYTES as u64) || given > (SEGMENTS_MAX * SEGMENT_BYTES) as u64 {
            return Ok(S_IOERR);
        }
        let bytes = chain.read_range(mem, HEADER_BYTES, given as usize)?;
        let mut ranges = Vec::new();
        for segment in bytes.chunks_exact(SEGMENT_BYTES) {
            let length = u64::from(u32_at(segment, 8)) * SECTOR_BYTES as u64;
            match self.range(u64_at(segment, 0), length) {
                Some(range) if !self.options.read_only => ranges.push(range),
                _ => return Ok(S_IOERR),
            }
        }
        self.stats.writes += 1;
        let mut status = S_OK;
        for range in ranges {
            self.disk[range.clone()].fill(0);
            status = status.max(self.keep(range));
        }
        Ok(status)
    }

    /// Writes a range to the file, if there is one; gives the status of the request.
    fn keep(&self, range: std::ops::Range<usize>) -> u8 {
        let Some(image) = &self.image else { return S_OK };
        match image.write_all_at(&self.disk[range.clone()], range.start as u64) {
            Ok(()) => S_OK,
            Err(_) => S_IOERR,
        }
    }

    /// The range of the disk, if it is whole sectors inside the disk and not too long for one request.
    fn range(&self, sector: u64, length: u64) -> Option<std::ops::Range<usize>> {
        if !length.is_multiple_of(SECTOR_BYTES as u64) || length > DATA_BYTES_MAX {
            return None;
        }
        let start = sector.checked_mul(SECTOR_BYTES as u64)?;
        let end = start.checked_add(length)?;
        (end <= self.disk.len() as u64).then_some(start as usize..end as usize)
    }
}

impl DeviceModel for Blk {
    fn device_id(&self) -> u32 {
        2
    }

    fn features(&self) -> u64 {
        let read_only = if self.options.read_only { F_RO } else { 0 };
        let discard = if self.options.discard {
            F_DISCARD | F_WRITE_ZEROES
        } else {
            0
        };
        F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_CONFIG_WCE | F_MQ | read_only | discard
    }

    fn set_features(&mut self, _acked: u64) {}

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn write_config(&mut self, offset: u32, bytes: &[u8]) -> bool {
        // Only the cache mode is the driver's, and it is 0 or 1.
        bytes.iter().all(|byte| *byte <= 1) && write_config_range(&mut self.config, WCE_AT..WCE_AT + 1, offset, bytes)
    }

    fn queues(&self) -> u16 {
        self.options.queues
    }

    fn process(&mut self, ring: u16, chain: &Chain, mem: &dyn GuestAccess) -> Result<Processed, DeviceError> {
        let malformed = |reason| {
            Err(DeviceError::Malformed {
                ring,
                head: chain.head,
                reason,
            })
        };
        if ring >= self.options.queues {
            return Err(DeviceError::NoRing {
                ring,
                queues: self.options.queues,
            });
        }
        if chain.readable_len() < HEADER_BYTES {
            return malformed("shorter than the header of a request");
        }
        if chain.writable_len() == 0 {
            return malformed("no room for the status");
        }
        let header = chain.read_range(mem, 0, HEADER_BYTES as usize)?;
        let (kind, sector) = (u32_at(&header, 0), u64_at(&header, 8));
        let (status, written) = self.carry_out(kind, sector, chain, mem)?;
        if status != S_OK {
            self.stats.errors += 1;
        }
        // The status is the last writable byte, wherever the data ended.
        chain.write_at(mem, chain.writable_len() - 1, &[status])?;
        Ok(Processed::Written(written.saturating_add(1)))
    }

    fn reset(&mut self) {
        self.config = config_space(&self.options);
    }

    fn as_blk(&mut self) -> Option<&mut Blk> {
        Some(self)
    }
}

fn config_space(options: &BlkOptions) -> Vec<u8> {
    let mut config = vec![0; CONFIG_BYTES];
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &options.sectors.to_le_bytes());
    put(12, &SEG_MAX.to_le_bytes());
    put(20, &(SECTOR_BYTES as u32).to_le_bytes());
    // Write back, until the driver says otherwise.
    put(WCE_AT, &[1]);
    put(34, &options.queues.to_le_bytes());
    if options.discard {
        let sectors = (DATA_BYTES_MAX as usize / SECTOR_BYTES) as u32;
        // max_discard_sectors, max_discard_seg, discard_sector_alignment, max_write_zeroes_sectors, max_write_zeroes_seg
        for (at, value) in [
            (36, sectors),
            (40, SEGMENTS_MAX as u32),
            (44, 1),
            (48, sectors),
            (52, SEGMENTS_MAX as u32),
        ] {
            put(at, &value.to_le_bytes());
        }
        put(56, &[1]);
    }
    config
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}
