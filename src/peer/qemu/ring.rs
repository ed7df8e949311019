//! The driver's side of a ring over guest memory that is reached by messages, not by a mapping: of a split ring (virtio 1.x, 2.7)
//! here, of a packed one beside it.

use std::collections::BTreeMap;

use super::error::QemuError;
use super::exchange::{Chain, RingPlace, Used};
use super::packed_ring::PackedRing;

/// Guest memory as the driver sees it.
pub(super) trait GuestBytes {
    /// Fills `buffer` from guest-physical address `gpa`.
    fn read(&mut self, gpa: u64, buffer: &mut [u8]) -> Result<(), QemuError>;

    /// Makes the writes one after the other, in this order.
    fn write_in_order(&mut self, writes: &[(u64, Vec<u8>)]) -> Result<(), QemuError>;
}

/// Each descriptor owns this much buffer memory; longer segments take several descriptors.
pub(super) const BUFFER_BYTES: u32 = 4096;

const DESC_NEXT: u16 = 1;
const DESC_WRITE: u16 = 2;
const PAGE: u64 = 4096;
/// A status byte before the device has answered.
const STATUS_UNSET: u8 = 0xff;

/// Lays a ring out at `at`. The second value is the first address after it and its buffers.
pub(super) fn lay_out(ring: u16, size: u16, at: u64) -> (RingPlace, u64) {
    let entries = u64::from(size);
    let desc = at.next_multiple_of(PAGE);
    let avail = (desc + 16 * entries).next_multiple_of(PAGE);
    let used = (avail + 6 + 2 * entries).next_multiple_of(PAGE);
    (
        RingPlace {
            ring,
            size,
            desc,
            avail,
            used,
        },
        buffers(used, size) + entries * u64::from(BUFFER_BYTES),
    )
}

fn buffers(used: u64, size: u16) -> u64 {
    (used + 6 + 8 * u64::from(size)).next_multiple_of(PAGE)
}

/// The buffer memory of one descriptor.
pub(super) fn buffer_at(place: RingPlace, descriptor: u16) -> u64 {
    buffers(place.used, place.size) + u64::from(descriptor) * u64::from(BUFFER_BYTES)
}

/// One descriptor of a chain that is being built.
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    pub(super) len: u32,
    pub(super) flags: u16,
}

impl Piece {
    pub(super) fn is_writable(&self) -> bool {
        self.flags & DESC_WRITE != 0
    }
}

/// A chain that the device has.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) descriptors: Vec<u16>,
    /// Address and size of each writable descriptor.
    pub(super) writable: Vec<(u64, u32)>,
}

impl Outstanding {
    /// What the device has written to a chain that came back.
    pub(super) fn read_back(
        self,
        memory: &mut impl GuestBytes,
        ring: u16,
        head: u16,
        len: u32,
    ) -> Result<Used, QemuError> {
        let room: u64 = self.writable.iter().map(|&(_, len)| u64::from(len)).sum();
        let last = self.writable.last();
        let last = last.map(|&(address, len)| address + u64::from(len) - 1);
        if u64::from(len) > room {
            let what = format!("chain {head} came back with {len} bytes written, it has room for {room}");
            return Err(QemuError::RingBroken { ring, what });
        }
        let mut written = vec![0; len as usize];
        let mut rest = written.as_mut_slice();
        for (address, size) in self.writable {
            let (part, after) = rest.split_at_mut(rest.len().min(size as usize));
            if !part.is_empty() {
                memory.read(address, part)?;
            }
            rest = after;
        }
        Ok(Used {
            head,
            len,
            written,
            last,
        })
    }
}

/// A ring of the kind that was negotiated.
#[derive(Debug)]
pub(super) enum Ring {
    Split(SplitRing),
    Packed(PackedRing),
}

impl Ring {
    /// A ring whose memory is all zeros.
    pub(super) fn new(place: RingPlace, packed: bool, event_idx: bool) -> Self {
        match packed {
            false => Self::Split(SplitRing::new(place, event_idx)),
            true => Self::Packed(PackedRing::new(place, event_idx)),
        }
    }

    pub(super) fn place(&self) -> RingPlace {
        match self {
            Self::Split(ring) => ring.place(),
            Self::Packed(ring) => ring.place(),
        }
    }

    pub(super) fn free(&self) -> usize {
        match self {
            Self::Split(ring) => ring.free(),
            Self::Packed(ring) => ring.free(),
        }
    }

    /// Chains that the device has not used yet.
    pub(super) fn outstanding(&self) -> usize {
        match self {
            Self::Split(ring) => ring.outstanding(),
            Self::Packed(ring) => ring.outstanding(),
        }
    }

    /// Makes a chain available; its name is returned. The kick is the caller's.
    pub(super) fn submit(&mut self, memory: &mut impl GuestBytes, chain: &Chain) -> Result<u16, QemuError> {
        match self {
            Self::Split(ring) => ring.submit(memory, chain),
            Self::Packed(ring) => ring.submit(memory, chain),
        }
    }

    /// Takes everything that the device has used since the last call.
    pub(super) fn poll(&mut self, memory: &mut impl GuestBytes) -> Result<Vec<Used>, QemuError> {
        match self {
            Self::Split(ring) => ring.poll(memory),
            Self::Packed(ring) => ring.poll(memory),
        }
    }
}

/// How many descriptors a chain takes.
pub(super) fn descriptors(chain: &Chain) -> usize {
    let readable = chain.readable.iter().map(Vec::len);
    let lens = readable.chain(chain.writable.iter().map(|&len| len as usize));
    lens.map(|len| len.div_ceil(BUFFER_BYTES as usize)).sum()
}

/// A split ring.
#[derive(Debug)]
pub(super) struct SplitRing {
    place: RingPlace,
    event_idx: bool,
    free: Vec<u16>,
    outstanding: BTreeMap<u16, Outstanding>,
    avail_index: u16,
    used_index: u16,
}

impl SplitRing {
    /// A ring whose memory is all zeros.
    pub(super) fn new(place: RingPlace, event_idx: bool) -> Self {
        Self {
            place,
            event_idx,
            // Popped from the end: descriptor 0 first.
            free: (0..place.size).rev().collect(),
            outstanding: BTreeMap::new(),
            avail_index: 0,
            used_index: 0,
        }
    }

    pub(super) fn place(&self) -> RingPlace {
        self.place
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Chains that the device has not used yet.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Makes a chain available; its head is returned. The kick is the caller's.
    pub(super) fn submit(&mut self, memory: &mut impl GuestBytes, chain: &Chain) -> Result<u16, QemuError> {
        let needed = descriptors(chain);
        if needed == 0 {
            return Err(QemuError::Config {
                what: format!("an empty chain for ring {}", self.place.ring),
            });
        }
        if needed > self.free.len() {
            return Err(QemuError::RingFull {
                ring: self.place.ring,
                free: self.free.len() as u16,
                needed,
            });
        }
        let taken = self.free.split_off(self.free.len() - needed);
        let descriptors: Vec<u16> = taken.into_iter().rev().collect();
        let head = descriptors[0];

        let mut writes = Vec::new();
        let mut writable = Vec::new();
        for (at, piece) in pieces(chain).into_iter().enumerate() {
            let address = self.buffer(descriptors[at]);
            let next = descriptors.get(at + 1);
            let flags = piece.flags | if next.is_some() { DESC_NEXT } else { 0 };
            let mut desc = address.to_le_bytes().to_vec();
            desc.extend_from_slice(&piece.len.to_le_bytes());
            desc.extend_from_slice(&flags.to_le_bytes());
            desc.extend_from_slice(&next.copied().unwrap_or(0).to_le_bytes());
            if piece.is_writable() {
                writable.push((address, piece.len));
            }
            if !piece.bytes.is_empty() {
                writes.push((address, piece.bytes));
            }
            writes.push((self.place.desc + 16 * u64::from(descriptors[at]), desc));
        }
        let entry = self.place.avail + 4 + 2 * u64::from(self.avail_index % self.place.size);
        writes.push((entry, head.to_le_bytes().to_vec()));
        self.avail_index = self.avail_index.wrapping_add(1);
        // Last: from here on the device may take the chain.
        writes.push((self.place.avail + 2, self.avail_index.to_le_bytes().to_vec()));
        self.outstanding.insert(head, Outstanding { descriptors, writable });
        memory.write_in_order(&writes)?;
        Ok(head)
    }

    /// Takes everything that the device has used since the last call.
    pub(super) fn poll(&mut self, memory: &mut impl GuestBytes) -> Result<Vec<Used>, QemuError> {
        let mut index = [0; 2];
        memory.read(self.place.used + 2, &mut index)?;
        let fresh = u16::from_le_bytes(index).wrapping_sub(self.used_index);
        if usize::from(fresh) > self.outstanding.len() {
            let what = format!(
                "used index moved on by {fresh}, only {} chains are out",
                self.outstanding.len()
            );
            return Err(self.broken(what));
        }
        let mut all = Vec::with_capacity(fresh.into());
        for _ in 0..fresh {
            all.push(self.take(memory)?);
        }
        if fresh > 0 && self.event_idx {
            // used_event: asks to be called for the very next chain.
            let event = self.place.avail + 4 + 2 * u64::from(self.place.size);
            memory.write_in_order(&[(event, self.used_index.to_le_bytes().to_vec())])?;
        }
        Ok(all)
    }

    fn take(&mut self, memory: &mut impl GuestBytes) -> Result<Used, QemuError> {
        let mut element = [0; 8];
        let entry = self.place.used + 4 + 8 * u64::from(self.used_index % self.place.size);
        memory.read(entry, &mut element)?;
        let [a, b, c, d, len @ ..] = element;
        let (id, len) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(len));
        let known = u16::try_from(id)
            .ok()
            .and_then(|head| Some((head, self.outstanding.remove(&head)?)));
        let Some((head, chain)) = known else {
            return Err(self.broken(format!("used element names chain {id}, which is not out")));
        };
        self.used_index = self.used_index.wrapping_add(1);
        self.free.extend(chain.descriptors.iter().rev());
        chain.read_back(memory, self.place.ring, head, len)
    }

    fn buffer(&self, descriptor: u16) -> u64 {
        buffer_at(self.place, descriptor)
    }

    fn broken(&self, what: String) -> QemuError {
        QemuError::RingBroken {
            ring: self.place.ring,
            what,
        }
    }
}

/// A chain cut into descriptors: readable ones first, as the specification wants it.
pub(super) fn pieces(chain: &Chain) -> Vec<Piece> {
    let readable = chain
        .readable
        .iter()
        .flat_map(|segment| segment.chunks(BUFFER_BYTES as usize));
    let readable = readable.map(|part| Piece {
        bytes: part.to_vec(),
        len: part.len() as u32,
        flags: 0,
    });
    let writable = chain.writable.iter().flat_map(|&len| {
        let step = BUFFER_BYTES as usize;
        (0..len).step_by(step).map(move |at| (len - at).min(BUFFER_BYTES))
    });
    readable
        .chain(writable.map(|len| Piece {
            // room for one byte is a status byte: it begins as what no device answers
            bytes: if len == 1 { vec![STATUS_UNSET] } else { Vec::new() },
            len,
            flags: DESC_WRITE,
        }))
        .collect()
}

/// Memory of a test.
#[cfg(test)]
pub(super) struct Flat(Vec<u8>);

#[cfg(test)]
impl Flat {
    pub(super) fn of(bytes: u64) -> Self {
        Self(vec![0; bytes as usize])
    }

    pub(super) fn u16(&self, gpa: u64) -> u16 {
        u16::from_le_bytes([self.0[gpa as usize], self.0[gpa as usize + 1]])
    }
}

#[cfg(test)]
impl GuestBytes for Flat {
    fn read(&mut self, gpa: u64, buffer: &mut [u8]) -> Result<(), QemuError> {
        buffer.copy_from_slice(&self.0[gpa as usize..][..buffer.len()]);
        Ok(())
    }

    fn write_in_order(&mut self, writes: &[(u64, Vec<u8>)]) -> Result<(), QemuError> {
        for (gpa, bytes) in writes {
            self.0[*gpa as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Flat {
        /// The device's part: uses chain `head`, having written `len` bytes.
        fn use_chain(&mut self, place: RingPlace, head: u32, len: u32) {
            let index = self.u16(place.used + 2);
            let entry = place.used + 4 + 8 * u64::from(index % place.size);
            let element = [head.to_le_bytes(), len.to_le_bytes()].concat();
            self.write_in_order(&[
                (entry, element),
                (place.used + 2, index.wrapping_add(1).to_le_bytes().into()),
            ])
            .unwrap();
        }
    }

    fn ring() -> (Flat, SplitRing) {
        let (place, end) = lay_out(0, 4, 0);
        (Flat::of(end), SplitRing::new(place, true))
    }

    /// Broken: long segments lose their tail, or the device finds writable descriptors before readable ones.
    #[test]
    fn a_chain_is_cut_into_linked_descriptors() {
        let (mut memory, mut ring) = ring();
        let chain = Chain {
            readable: vec![vec![7; 5000]],
            writable: vec![100],
        };
        let head = ring.submit(&mut memory, &chain).unwrap();
        let place = ring.place();
        assert_eq!(
            (head, memory.u16(place.avail + 2), memory.u16(place.avail + 4)),
            (0, 1, 0)
        );
        let flags: Vec<_> = (0..3).map(|desc| memory.u16(place.desc + 16 * desc + 12)).collect();
        assert_eq!(flags, [DESC_NEXT, DESC_NEXT, DESC_WRITE]);
        assert_eq!((memory.u16(place.desc + 14), memory.u16(place.desc + 30)), (1, 2));
        assert!(matches!(
            ring.submit(&mut memory, &chain),
            Err(QemuError::RingFull { free: 1, needed: 3, .. })
        ));

        let buffer = ring.buffer(2);
        memory.write_in_order(&[(buffer, vec![9; 3])]).unwrap();
        memory.use_chain(place, 0, 3);
        assert_eq!(
            ring.poll(&mut memory).unwrap(),
            [Used {
                head: 0,
                len: 3,
                written: vec![9; 3],
                last: Some(buffer + 99),
            }]
        );
        assert_eq!((ring.free(), memory.u16(place.avail + 4 + 8)), (4, 1));
    }

    /// Broken: a status byte that the device never wrote passes for the one of an earlier request, or is looked for in the
    /// wrong place when the device counts fewer bytes as written than lie before it.
    #[test]
    fn a_status_byte_is_unset_until_the_device_answers() {
        let (mut memory, mut ring) = ring();
        let chain = Chain {
            readable: vec![vec![7]],
            writable: vec![100, 1],
        };
        let status = ring.buffer(2);
        memory.write_in_order(&[(status, vec![0])]).unwrap();
        ring.submit(&mut memory, &chain).unwrap();
        memory.use_chain(ring.place(), 0, 1);
        let used = ring.poll(&mut memory).unwrap();
        assert_eq!(used[0].last, Some(status));
        assert_eq!(memory.0[status as usize], STATUS_UNSET);
    }

    /// Broken: indices go wrong where the ring or the 16-bit counter wraps.
    #[test]
    fn a_ring_wraps() {
        let (mut memory, mut ring) = ring();
        (ring.avail_index, ring.used_index) = (0xfffe, 0xfffe);
        let used = ring.place().used + 2;
        memory.write_in_order(&[(used, vec![0xfe, 0xff])]).unwrap();
        for _ in 0..6 {
            let head = ring
                .submit(
                    &mut memory,
                    &Chain {
                        readable: vec![vec![1]],
                        writable: vec![],
                    },
                )
                .unwrap();
            memory.use_chain(ring.place(), head.into(), 0);
            assert_eq!(ring.poll(&mut memory).unwrap().len(), 1);
        }
        assert_eq!((memory.u16(used), ring.outstanding()), (4, 0));
    }

    /// Broken: a faulty device makes the driver panic, or its fault goes unnoticed.
    #[test]
    fn a_device_that_breaks_the_rules_is_reported() {
        let chain = Chain {
            readable: vec![],
            writable: vec![10],
        };
        for (head, len) in [(3, 0), (0x1_0000, 0), (0, 11), (0, u32::MAX)] {
            let (mut memory, mut ring) = ring();
            ring.submit(&mut memory, &chain).unwrap();
            memory.use_chain(ring.place(), head, len);
            assert!(
                matches!(ring.poll(&mut memory), Err(QemuError::RingBroken { .. })),
                "{head} {len}"
            );
        }
        let (mut memory, mut ring) = ring();
        memory.use_chain(ring.place(), 0, 0);
        assert!(matches!(ring.poll(&mut memory), Err(QemuError::RingBroken { .. })));
    }
}
