//! The virtio-blk device of the reference back-end: reads, writes, flushes and names a [`Disk`]. Requests are served one
//! after the other, in the order of the available ring.

use std::io::{self, Read, Write};

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_S_IOERR,
    VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
};

use super::device::{HeldMemory, Model, Readable, Vring, Writable, pass_over};
use super::disk::{Disk, SECTOR_BYTES};
use super::error::Fault;

/// Data segments of one request, as `seg_max` announces it.
const SEGMENTS_MAX: u32 = 126;
/// Bytes moved at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// The answer to GET_ID, 20 bytes.
const ID: &[u8; 20] = b"vuh-reference\0\0\0\0\0\0\0";

/// The disk as a device.
pub(super) struct Blk {
    disk: Disk,
    rings: u16,
    config: [u8; 60],
}

/// `struct virtio_blk_req` up to its data.
struct Header {
    kind: u32,
    sector: u64,
}

impl Blk {
    /// `disk` behind `rings` rings.
    pub(super) fn new(disk: Disk, rings: u16) -> Self {
        // `struct virtio_blk_config` up to what DISCARD and WRITE_ZEROES added; fields without their feature stay zero.
        let mut config = [0; 60];
        config[0..8].copy_from_slice(&disk.sectors().to_le_bytes());
        config[12..16].copy_from_slice(&SEGMENTS_MAX.to_le_bytes());
        config[20..24].copy_from_slice(&(SECTOR_BYTES as u32).to_le_bytes());
        config[34..36].copy_from_slice(&rings.to_le_bytes());
        Self { disk, rings, config }
    }
}

impl Model for Blk {
    fn rings(&self) -> usize {
        usize::from(self.rings)
    }

    fn features(&self) -> u64 {
        let mq = if self.rings > 1 { 1 << VIRTIO_BLK_F_MQ } else { 0 };
        mq | 1 << VIRTIO_BLK_F_SEG_MAX | 1 << VIRTIO_BLK_F_BLK_SIZE | 1 << VIRTIO_BLK_F_FLUSH
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn pass(&mut self, ring: usize, vrings: &[Vring], memory: &HeldMemory) -> Result<bool, Fault> {
        pass_over(ring, &vrings[ring], memory, |readable, mut writable, head| {
            let chain = |what: &str| Fault::Chain {
                ring,
                head,
                what: what.to_owned(),
            };
            let Some(data_bytes) = writable.available_bytes().checked_sub(1) else {
                return Err(chain("a request without a status byte"));
            };
            let mut status = writable
                .split_at(data_bytes)
                .map_err(|error| chain(&error.to_string()))?;
            let code = serve(&self.disk, readable, &mut writable);
            status.write_all(&[code]).map_err(|error| chain(&error.to_string()))?;
            // A chain holds fewer than 2^32 bytes.
            Ok((writable.bytes_written() + 1) as u32)
        })
    }
}

/// Serves one request and returns its status.
fn serve(disk: &Disk, mut readable: Readable<'_>, writable: &mut Writable<'_>) -> u8 {
    let outcome = Header::read(&mut readable).and_then(|header| match header.kind {
        VIRTIO_BLK_T_IN => read(disk, header.sector, writable),
        VIRTIO_BLK_T_OUT => write(disk, header.sector, &mut readable),
        VIRTIO_BLK_T_FLUSH => disk.flush(),
        VIRTIO_BLK_T_GET_ID if writable.available_bytes() >= ID.len() => writable.write_all(ID),
        VIRTIO_BLK_T_GET_ID => Err(io::ErrorKind::InvalidInput.into()),
        _ => Err(io::ErrorKind::Unsupported.into()),
    });
    let code = match outcome {
        Ok(()) => VIRTIO_BLK_S_OK,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => VIRTIO_BLK_S_UNSUPP,
        Err(_) => VIRTIO_BLK_S_IOERR,
    };
    code as u8
}

fn read(disk: &Disk, sector: u64, writable: &mut Writable<'_>) -> io::Result<()> {
    let mut left = writable.available_bytes();
    if !disk.holds(sector, left as u64) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut offset = sector * SECTOR_BYTES;
    let mut chunk = vec![0; left.min(CHUNK_BYTES)];
    while left > 0 {
        let part = &mut chunk[..left.min(CHUNK_BYTES)];
        disk.read(offset, part)?;
        writable.write_all(part)?;
        offset += part.len() as u64;
        left -= part.len();
    }
    Ok(())
}

fn write(disk: &Disk, sector: u64, readable: &mut Readable<'_>) -> io::Result<()> {
    let mut left = readable.available_bytes();
    if !disk.holds(sector, left as u64) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut offset = sector * SECTOR_BYTES;
    let mut chunk = vec![0; left.min(CHUNK_BYTES)];
    while left > 0 {
        let part = &mut chunk[..left.min(CHUNK_BYTES)];
        readable.read_exact(part)?;
        disk.write(offset, part)?;
        offset += part.len() as u64;
        left -= part.len();
    }
    Ok(())
}

impl Header {
    fn read(readable: &mut Readable<'_>) -> io::Result<Self> {
        let mut bytes = [0; 16];
        readable.read_exact(&mut bytes)?;
        let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = bytes;
        Ok(Self {
            kind: u32::from_le_bytes([k0, k1, k2, k3]),
            sector: u64::from_le_bytes(sector),
        })
    }
}
