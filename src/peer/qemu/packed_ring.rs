//! The driver's side of a packed ring (virtio 1.x, 2.8) over guest memory that is reached by messages, not by a mapping.

use std::collections::BTreeMap;

use super::error::QemuError;
use super::exchange::{Chain, RingPlace, Used};
use super::ring::{GuestBytes, Outstanding, buffer_at, descriptors, pieces};
use crate::ring::packed::{DESC_F_NEXT, DESC_F_WRITE, EVENT_DESC, Position};

/// Where the flags of a descriptor stand in it, after address, length and id.
const FLAGS_AT: usize = 14;

/// A packed ring. Its place is named as a split ring's: the descriptors, the driver's and the device's event suppression.
#[derive(Debug)]
pub(super) struct PackedRing {
    place: RingPlace,
    event_idx: bool,
    /// Numbers of buffers; the first of a chain is the chain's id.
    free: Vec<u16>,
    outstanding: BTreeMap<u16, Outstanding>,
    avail: Position,
    used: Position,
}

impl PackedRing {
    /// A ring whose memory is all zeros.
    pub(super) fn new(place: RingPlace, event_idx: bool) -> Self {
        Self {
            place,
            event_idx,
            // popped from the end: buffer 0 first
            free: (0..place.size).rev().collect(),
            outstanding: BTreeMap::new(),
            avail: Position::START,
            used: Position::START,
        }
    }

    pub(super) fn place(&self) -> RingPlace {
        self.place
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Makes a chain available; its id is returned. The kick is the caller's.
    pub(super) fn submit(&mut self, memory: &mut impl GuestBytes, chain: &Chain) -> Result<u16, QemuError> {
        let needed = descriptors(chain);
        if needed == 0 {
            let what = format!("an empty chain for ring {}", self.place.ring);
            return Err(QemuError::Config { what });
        }
        if needed > self.free.len() {
            return Err(QemuError::RingFull {
                ring: self.place.ring,
                free: self.free.len() as u16,
                needed,
            });
        }
        let taken = self.free.split_off(self.free.len() - needed);
        let numbers: Vec<u16> = taken.into_iter().rev().collect();
        let id = numbers[0];
        let first = self.slot(self.avail) + FLAGS_AT as u64;
        let (mut writes, mut writable, mut last) = (Vec::new(), Vec::new(), Vec::new());
        for (at, piece) in pieces(chain).into_iter().enumerate() {
            let address = buffer_at(self.place, numbers[at]);
            let next = if at + 1 < needed { DESC_F_NEXT } else { 0 };
            let flags = piece.flags | next | self.avail.avail_flags();
            let mut desc = address.to_le_bytes().to_vec();
            desc.extend_from_slice(&piece.len.to_le_bytes());
            desc.extend_from_slice(&id.to_le_bytes());
            if at == 0 {
                last = flags.to_le_bytes().to_vec();
            } else {
                desc.extend_from_slice(&flags.to_le_bytes());
            }
            if piece.is_writable() {
                writable.push((address, piece.len));
            }
            if !piece.bytes.is_empty() {
                writes.push((address, piece.bytes));
            }
            writes.push((self.slot(self.avail), desc));
            self.avail = self.avail.advanced(1, self.place.size);
        }
        // Last: from here on the device may take the chain.
        writes.push((first, last));
        let chain = Outstanding {
            descriptors: numbers,
            writable,
        };
        self.outstanding.insert(id, chain);
        memory.write_in_order(&writes)?;
        Ok(id)
    }

    /// Takes everything that the device has used since the last call.
    pub(super) fn poll(&mut self, memory: &mut impl GuestBytes) -> Result<Vec<Used>, QemuError> {
        let mut all = Vec::new();
        while let Some(used) = self.take(memory)? {
            all.push(used);
        }
        if !all.is_empty() && self.event_idx {
            // asks to be called for the very next chain
            let event = [self.used.to_bits().to_le_bytes(), EVENT_DESC.to_le_bytes()].concat();
            memory.write_in_order(&[(self.place.avail, event)])?;
        }
        Ok(all)
    }

    fn take(&mut self, memory: &mut impl GuestBytes) -> Result<Option<Used>, QemuError> {
        let slot = self.slot(self.used);
        let mut flags = [0; 2];
        memory.read(slot + FLAGS_AT as u64, &mut flags)?;
        let flags = u16::from_le_bytes(flags);
        if self.outstanding.is_empty() || !self.used.is_used(flags) {
            return Ok(None);
        }
        // after the flags: the device has written these before them
        let mut element = [0; 6];
        memory.read(slot + 8, &mut element)?;
        let [a, b, c, d, id @ ..] = element;
        let (len, id) = (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes(id));
        let Some(chain) = self.outstanding.remove(&id) else {
            return Err(QemuError::RingBroken {
                ring: self.place.ring,
                what: format!("used descriptor names chain {id}, which is not out"),
            });
        };
        // without WRITE the length means nothing, and DPDK leaves there what was
        let told = flags & DESC_F_WRITE != 0 || !chain.writable.is_empty();
        let len = if told { len } else { 0 };
        self.used = self.used.advanced(chain.descriptors.len() as u16, self.place.size);
        self.free.extend(chain.descriptors.iter().rev());
        chain.read_back(memory, self.place.ring, id, len).map(Some)
    }

    fn slot(&self, position: Position) -> u64 {
        self.place.desc + 16 * u64::from(position.at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ring::{Flat, lay_out};
    use super::*;
    use crate::ring::packed::{DESC_F_AVAIL, DESC_F_USED};

    fn ring() -> (Flat, PackedRing) {
        let (place, end) = lay_out(0, 4, 0);
        (Flat::of(end), PackedRing::new(place, true))
    }

    /// The device's part: uses a chain at a place of the ring, having written `len` bytes.
    fn use_chain(memory: &mut Flat, ring: &PackedRing, at: Position, id: u16, len: u32) {
        let slot = ring.slot(at);
        let element = [len.to_le_bytes().to_vec(), id.to_le_bytes().to_vec()].concat();
        let flags = (at.used_flags() | DESC_F_WRITE).to_le_bytes().to_vec();
        memory
            .write_in_order(&[(slot + 8, element), (slot + FLAGS_AT as u64, flags)])
            .unwrap();
    }

    /// Broken: a chain lies wrongly where the ring wraps, or the lap is not in its flags.
    #[test]
    fn a_chain_goes_round_the_end_of_the_ring() {
        let (mut memory, mut ring) = ring();
        let chain = Chain {
            readable: vec![vec![7; 10], vec![8; 20]],
            writable: vec![100],
        };
        for lap in 0..5u16 {
            let at = ring.used;
            let id = ring.submit(&mut memory, &chain).unwrap();
            let flags: Vec<u16> = (0..3)
                .map(|nth| memory.u16(ring.slot(at.advanced(nth, 4)) + 14) & !(DESC_F_AVAIL | DESC_F_USED))
                .collect();
            assert_eq!(flags, [DESC_F_NEXT, DESC_F_NEXT, DESC_F_WRITE], "lap {lap}");
            for nth in 0..3 {
                let place = at.advanced(nth, 4);
                assert!(place.is_avail(memory.u16(ring.slot(place) + 14)), "lap {lap}, {nth}");
            }
            assert!(ring.poll(&mut memory).unwrap().is_empty());
            use_chain(&mut memory, &ring, at, id, 100);
            let used = ring.poll(&mut memory).unwrap();
            assert_eq!((used.len(), used[0].head, used[0].len), (1, id, 100));
            assert_eq!((ring.free(), ring.outstanding()), (4, 0));
            // asked to be called at the next one
            assert_eq!(memory.u16(ring.place.avail), ring.used.to_bits());
        }
    }

    /// Broken: a length that means nothing, since the device has not written, is held against it.
    #[test]
    fn a_length_without_write_is_no_length() {
        let (mut memory, mut ring) = ring();
        let chain = Chain {
            readable: vec![vec![1; 60]],
            writable: vec![],
        };
        let id = ring.submit(&mut memory, &chain).unwrap();
        let slot = ring.slot(Position::START);
        let used = Position::START.used_flags().to_le_bytes().to_vec();
        memory.write_in_order(&[(slot + 14, used)]).unwrap();
        let all = ring.poll(&mut memory).unwrap();
        assert_eq!((all[0].head, all[0].len), (id, 0));
    }

    /// Broken: a faulty device makes the driver panic, or its fault goes unnoticed.
    #[test]
    fn a_device_that_breaks_the_rules_is_reported() {
        let chain = Chain {
            readable: vec![],
            writable: vec![10],
        };
        for (id, len) in [(3, 0), (0, 11), (0, u32::MAX)] {
            let (mut memory, mut ring) = ring();
            ring.submit(&mut memory, &chain).unwrap();
            use_chain(&mut memory, &ring, Position::START, id, len);
            let polled = ring.poll(&mut memory);
            assert!(matches!(polled, Err(QemuError::RingBroken { .. })), "{id} {len}");
        }
    }
}
