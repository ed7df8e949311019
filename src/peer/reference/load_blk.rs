//! The reference front-end's disk load: writes a pattern for each request, flushes, reads each back and compares.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
};

use super::driver_ring::Segment;
use super::error::ReferenceError;
use super::guest::{Guest, Slot};
use super::load::{Job, pattern, run, same};
use super::session::{Progress, Session};

const SECTOR_BYTES: u32 = 512;
/// Bytes of `struct virtio_blk_config` that every front-end may ask for.
pub(super) const CONFIG_BYTES: u32 = 60;
/// The features the load knows how to live with.
pub(super) const FEATURES: u64 = 1 << VIRTIO_BLK_F_BLK_SIZE
    | 1 << VIRTIO_BLK_F_FLUSH
    | 1 << VIRTIO_BLK_F_MQ
    | 1 << VIRTIO_BLK_F_RO
    | 1 << VIRTIO_BLK_F_SEG_MAX;

/// What is asked in one turn over the rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Flush,
    Read,
}

struct Disk {
    kind: Kind,
    /// The number of the round's first request.
    first: u64,
    /// Bytes of a request.
    bytes: u32,
    /// Whether data may lie in two segments.
    split: bool,
}

/// Makes `requests` round trips of `bytes` bytes each, within the first `sectors` sectors if given. Returns the flushes.
pub(super) fn drive(
    session: &mut Session,
    requests: u64,
    bytes: u32,
    sectors: Option<u64>,
) -> Result<u64, ReferenceError> {
    if session.features & 1 << VIRTIO_BLK_F_RO != 0 {
        return Err(ReferenceError::Lacking("a read-only disk".to_owned()));
    }
    if !bytes.is_multiple_of(SECTOR_BYTES) {
        return Err(ReferenceError::Unsupported(format!(
            "--size {bytes}: a disk request is a multiple of {SECTOR_BYTES} bytes"
        )));
    }
    let places = usable_sectors(session, sectors)? / u64::from(bytes / SECTOR_BYTES);
    if places == 0 {
        return Err(ReferenceError::Lacking(format!(
            "a disk too small for one request of {bytes} bytes"
        )));
    }
    let mut disk = Disk {
        kind: Kind::Write,
        first: 0,
        bytes,
        split: bytes > SECTOR_BYTES && segments_max(session) >= 2,
    };
    let flush = session.features & 1 << VIRTIO_BLK_F_FLUSH != 0;
    let mut flushes = 0;
    // A round writes no place twice, for requests under way together have no order.
    while disk.first < requests {
        let round = places.min(requests - disk.first);
        let progress = Progress {
            completed: disk.first,
            requests,
        };
        disk.kind = Kind::Write;
        run(session, &mut disk, round, progress)?;
        if flush {
            disk.kind = Kind::Flush;
            run(session, &mut disk, 1, progress)?;
            flushes += 1;
        }
        disk.kind = Kind::Read;
        run(session, &mut disk, round, progress)?;
        disk.first += round;
    }
    Ok(flushes)
}

impl Job for Disk {
    fn build(&mut self, guest: &Guest, index: u64, slot: &Slot) -> Result<Vec<Segment>, ReferenceError> {
        let kind = match self.kind {
            Kind::Write => VIRTIO_BLK_T_OUT,
            Kind::Flush => VIRTIO_BLK_T_FLUSH,
            Kind::Read => VIRTIO_BLK_T_IN,
        };
        let sector = match self.kind {
            Kind::Flush => 0,
            Kind::Write | Kind::Read => index * u64::from(self.bytes / SECTOR_BYTES),
        };
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        guest.write(slot.header, &header)?;
        guest.write(slot.status, &[0xff])?;
        let mut segments = vec![Segment::readable(slot.header, 16)];
        match self.kind {
            Kind::Write => {
                guest.write(slot.output, &pattern(self.first + index, self.bytes))?;
                segments.extend(self.data(slot.output, Segment::readable));
            }
            Kind::Flush => {}
            Kind::Read => {
                guest.write(slot.input, &vec![0; self.bytes as usize])?;
                segments.extend(self.data(slot.input, Segment::writable));
            }
        }
        segments.push(Segment::writable(slot.status, 1));
        Ok(segments)
    }

    fn check(&mut self, guest: &Guest, index: u64, slot: &Slot, written: u32) -> Result<(), ReferenceError> {
        let request = self.first + index;
        let status = guest.read(slot.status, 1)?[0];
        let differs = |what: String| Err(ReferenceError::Differs { request, what });
        if status != 0 {
            return differs(format!("{:?} ended with status {status}, expected 0", self.kind));
        }
        let expected = if self.kind == Kind::Read { self.bytes + 1 } else { 1 };
        if written != expected {
            return differs(format!(
                "{:?}: used length is {written}, but {expected} bytes were written",
                self.kind
            ));
        }
        if self.kind == Kind::Read {
            same(
                request,
                &pattern(request, self.bytes),
                &guest.read(slot.input, self.bytes as usize)?,
            )?;
        }
        Ok(())
    }
}

impl Disk {
    fn data(&self, at: vm_memory::GuestAddress, segment: fn(vm_memory::GuestAddress, u32) -> Segment) -> Vec<Segment> {
        if !self.split {
            return vec![segment(at, self.bytes)];
        }
        let rest = vm_memory::GuestAddress(at.0 + u64::from(SECTOR_BYTES));
        vec![segment(at, SECTOR_BYTES), segment(rest, self.bytes - SECTOR_BYTES)]
    }
}

fn usable_sectors(session: &Session, wanted: Option<u64>) -> Result<u64, ReferenceError> {
    let capacity = session.config.as_ref().and_then(|config| config.first_chunk::<8>());
    match (capacity.map(|bytes| u64::from_le_bytes(*bytes)), wanted) {
        (Some(capacity), Some(wanted)) if wanted > capacity => Err(ReferenceError::Lacking(format!(
            "{capacity} sectors, --sectors wants {wanted}"
        ))),
        (_, Some(wanted)) => Ok(wanted),
        (Some(capacity), None) => Ok(capacity),
        (None, None) => Err(ReferenceError::Lacking(
            "no configuration space, so --sectors must say how large the disk is".to_owned(),
        )),
    }
}

fn segments_max(session: &Session) -> u32 {
    let announced = session
        .config
        .as_ref()
        .and_then(|config| config.get(12..16)?.first_chunk::<4>());
    match announced {
        Some(bytes) if session.features & 1 << VIRTIO_BLK_F_SEG_MAX != 0 => u32::from_le_bytes(*bytes),
        _ => 1,
    }
}
