//! The driver's side of a block request: header, data and status in guest memory, and the outcome read back.

use crate::memory::GuestAccess;
use crate::peer::device::{BufferPool, DeviceError};
use crate::ring::Buffer;

use super::{S_IOERR, S_OK, T_DISCARD, T_FLUSH, T_GET_ID, T_IN, T_OUT, T_WRITE_ZEROES};

const HEADER_BYTES: u32 = 16;
/// Header and status share a piece of the pool.
const ENDS_BYTES: u32 = HEADER_BYTES + 1;
/// What the status byte holds until the device writes it; no status of virtio.
const STATUS_UNSET: u8 = 0xff;

/// What is asked of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlkOp {
    /// Read this many bytes.
    Read {
        /// Bytes; whole sectors, unless an error is wanted.
        length: u32,
    },
    /// Write these bytes.
    Write(Vec<u8>),
    /// Flush the cache.
    Flush,
    /// Ask for the serial number (20 bytes).
    GetId,
    /// Discard this many sectors.
    Discard {
        /// Sectors.
        sectors: u32,
    },
    /// Zero this many sectors.
    WriteZeroes {
        /// Sectors.
        sectors: u32,
    },
    /// A request of any type without data.
    Other(u32),
}

impl BlkOp {
    fn kind(&self) -> u32 {
        match self {
            Self::Read { .. } => T_IN,
            Self::Write(_) => T_OUT,
            Self::Flush => T_FLUSH,
            Self::GetId => T_GET_ID,
            Self::Discard { .. } => T_DISCARD,
            Self::WriteZeroes { .. } => T_WRITE_ZEROES,
            Self::Other(kind) => *kind,
        }
    }

    /// Bytes for the device to read, and the number for it to write.
    fn data(&self, sector: u64) -> (Vec<u8>, u32) {
        match self {
            Self::Read { length } => (Vec::new(), *length),
            Self::Write(bytes) => (bytes.clone(), 0),
            Self::Flush | Self::Other(_) => (Vec::new(), 0),
            Self::GetId => (Vec::new(), 20),
            Self::Discard { sectors } | Self::WriteZeroes { sectors } => {
                let mut segment = sector.to_le_bytes().to_vec();
                segment.extend_from_slice(&sectors.to_le_bytes());
                segment.extend_from_slice(&[0; 4]);
                (segment, 0)
            }
        }
    }
}

/// How a request has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlkOutcome {
    /// The status byte.
    pub status: u8,
    /// What was read; empty unless the status is [`S_OK`].
    pub data: Vec<u8>,
}

/// A request that lies in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlkRequest {
    /// Guest address of the header.
    pub header: u64,
    /// Guest address, bytes and direction of the data, if there is any.
    pub data: Option<Buffer>,
    /// Guest address of the status byte.
    pub status: u64,
}

impl BlkRequest {
    /// Lays a request into guest memory.
    pub fn build(mem: &dyn GuestAccess, pool: &mut BufferPool, op: &BlkOp, sector: u64) -> Result<Self, DeviceError> {
        let (give, take) = op.data(sector);
        let header = pool.alloc(ENDS_BYTES)?;
        let mut request = Self {
            header,
            data: None,
            status: header + u64::from(HEADER_BYTES),
        };
        let laid = request.lay(mem, pool, op.kind(), sector, &give, take);
        if let Err(error) = laid {
            request.release(pool)?;
            return Err(error);
        }
        Ok(request)
    }

    /// The chain to add to the ring: header, data, status.
    #[must_use]
    pub fn chain(&self) -> Vec<Buffer> {
        let mut chain = vec![Buffer::readable(self.header, HEADER_BYTES)];
        chain.extend(self.data);
        chain.push(Buffer::writable(self.status, 1));
        chain
    }

    /// Reads the outcome of a request that came back with `used` bytes written.
    ///
    /// A device that succeeded has written what it was asked for and the status. For other statuses only the status counts:
    /// implementations differ in what they report then.
    pub fn outcome(&self, mem: &dyn GuestAccess, used: u32) -> Result<BlkOutcome, DeviceError> {
        let mut status = [0];
        mem.read(self.status, &mut status)?;
        let [status] = status;
        let mut data = Vec::new();
        if status == S_OK {
            let length = self.data.filter(|data| data.writable).map_or(0, |data| data.len);
            let expected = u64::from(length) + 1;
            if u64::from(used) != expected {
                return Err(DeviceError::WrongLength { len: used, expected });
            }
            data.resize(length as usize, 0);
            if let Some(buffer) = self.data.filter(|data| data.writable) {
                mem.read(buffer.addr, &mut data)?;
            }
        }
        Ok(BlkOutcome { status, data })
    }

    /// Gives the buffers back.
    pub fn release(self, pool: &mut BufferPool) -> Result<(), DeviceError> {
        if let Some(data) = self.data {
            pool.free(data.addr)?;
        }
        pool.free(self.header)
    }

    fn lay(
        &mut self,
        mem: &dyn GuestAccess,
        pool: &mut BufferPool,
        kind: u32,
        sector: u64,
        give: &[u8],
        take: u32,
    ) -> Result<(), DeviceError> {
        let mut header = [0; HEADER_BYTES as usize];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        mem.write(self.header, &header)?;
        if !give.is_empty() {
            let addr = pool.alloc(give.len() as u32)?;
            self.data = Some(Buffer::readable(addr, give.len() as u32));
            mem.write(addr, give)?;
        } else if take > 0 {
            self.data = Some(Buffer::writable(pool.alloc(take)?, take));
        }

        mem.write(self.status, &[STATUS_UNSET])?;
        Ok(())
    }
}

impl BlkOutcome {
    /// Whether the device has answered at all: a status byte that was never written is none of virtio's.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.status != STATUS_UNSET
    }

    /// Whether the device has reported an I/O error.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.status == S_IOERR
    }
}
