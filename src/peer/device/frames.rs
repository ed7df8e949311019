//! Content that proves itself: frames that carry a sequence number and a pattern, and patterns for disk sectors.
//!
//! Everything is derived from sequence and seed, so two runs give the same bytes.

use thiserror::Error;

/// Shortest frame that can be made: Ethernet header, mark, sequence, seed, length, checksum.
pub const FRAME_BYTES_MIN: usize = PATTERN;
/// Longest frame that can be made.
pub const FRAME_BYTES_MAX: usize = 0xffff;
/// Bytes of a disk sector.
pub const SECTOR_BYTES: usize = 512;

const SEQ_AT: usize = 18;
const SEED_AT: usize = 26;
const LENGTH_AT: usize = 34;
const SUM_AT: usize = 38;
const PATTERN: usize = 42;

/// Locally administered addresses and the EtherType for local experiments (IEEE 802, 0x88b5), then the mark.
const HEADER: [u8; SEQ_AT] = *b"\x02vuh\x00\x01\x02vuh\x00\x02\x88\xb5vuhF";

/// Number of a frame in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// Why bytes are not the frame that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Too short to be a frame of ours.
    #[error("{length} bytes are no frame, the least is {FRAME_BYTES_MIN}")]
    Short {
        /// Bytes there are.
        length: usize,
    },
    /// Addresses, type or mark are not ours.
    #[error("byte {at} of the header is {found:#04x}, not {expected:#04x}")]
    Header {
        /// Offset.
        at: usize,
        /// What is there.
        found: u8,
        /// What was sent.
        expected: u8,
    },
    /// Sequence, seed or length were changed.
    #[error("sequence, seed and length do not match their checksum")]
    Checksum,
    /// The frame was cut or extended.
    #[error("frame of {claimed} bytes has arrived with {length}")]
    Length {
        /// Bytes it was made with.
        claimed: usize,
        /// Bytes there are.
        length: usize,
    },
    /// The content was changed.
    #[error("byte {at} of frame {} is {found:#04x}, not {expected:#04x}", .seq.0)]
    Content {
        /// The frame.
        seq: Seq,
        /// Offset.
        at: usize,
        /// What is there.
        found: u8,
        /// What was sent.
        expected: u8,
    },
}

/// Makes frame `seq` of `len` bytes, at least [`FRAME_BYTES_MIN`] and at most [`FRAME_BYTES_MAX`].
#[must_use]
pub fn make(seq: u64, len: usize, seed: u64) -> Vec<u8> {
    let len = len.clamp(FRAME_BYTES_MIN, FRAME_BYTES_MAX);
    let mut frame = vec![0; len];
    frame[..SEQ_AT].copy_from_slice(&HEADER);
    frame[SEQ_AT..SEED_AT].copy_from_slice(&seq.to_le_bytes());
    frame[SEED_AT..LENGTH_AT].copy_from_slice(&seed.to_le_bytes());
    frame[LENGTH_AT..SUM_AT].copy_from_slice(&(len as u32).to_le_bytes());
    let sum = checksum(&frame[SEQ_AT..SUM_AT]);
    frame[SUM_AT..PATTERN].copy_from_slice(&sum.to_le_bytes());
    fill(&mut frame[PATTERN..], mix(seq ^ mix(seed)));
    frame
}

/// Verifies a frame and gives its sequence number.
pub fn check(bytes: &[u8]) -> Result<Seq, FrameError> {
    let length = bytes.len();
    if length < FRAME_BYTES_MIN {
        return Err(FrameError::Short { length });
    }
    if let Some(at) = (0..SEQ_AT).find(|at| bytes[*at] != HEADER[*at]) {
        return Err(FrameError::Header {
            at,
            found: bytes[at],
            expected: HEADER[at],
        });
    }
    if checksum(&bytes[SEQ_AT..SUM_AT]).to_le_bytes() != bytes[SUM_AT..PATTERN] {
        return Err(FrameError::Checksum);
    }
    let seq = u64_at(bytes, SEQ_AT);
    let claimed = u64_at(bytes, LENGTH_AT) as u32 as usize;
    if claimed != length {
        return Err(FrameError::Length { claimed, length });
    }
    let made = make(seq, length, u64_at(bytes, SEED_AT));
    match (PATTERN..length).find(|at| bytes[*at] != made[*at]) {
        Some(at) => Err(FrameError::Content {
            seq: Seq(seq),
            at,
            found: bytes[at],
            expected: made[at],
        }),
        None => Ok(Seq(seq)),
    }
}

/// Content of a disk sector in its `generation`-th writing.
#[must_use]
pub fn sector(number: u64, generation: u64) -> [u8; SECTOR_BYTES] {
    let mut bytes = [0; SECTOR_BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..16].copy_from_slice(&generation.to_le_bytes());
    fill(&mut bytes[16..], mix(number ^ mix(generation)));
    bytes
}

/// Content of `count` sectors from `first` on.
#[must_use]
pub fn sectors(first: u64, count: u32, generation: u64) -> Vec<u8> {
    (0..u64::from(count))
        .flat_map(|at| sector(first.wrapping_add(at), generation))
        .collect()
}

/// Offset of the first byte of `bytes` that is not what [`sectors`] gives from `first` on; a part of a sector is compared as far
/// as it goes.
#[must_use]
pub fn sectors_differ(bytes: &[u8], first: u64, generation: u64) -> Option<usize> {
    bytes.chunks(SECTOR_BYTES).enumerate().find_map(|(at, found)| {
        let expected = sector(first.wrapping_add(at as u64), generation);
        let differs = found
            .iter()
            .zip(&expected)
            .position(|(found, expected)| found != expected)?;
        Some(at * SECTOR_BYTES + differs)
    })
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}

/// FNV-1a, which notices every change of a single byte.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| {
        (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// The finaliser of splitmix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn fill(bytes: &mut [u8], start: u64) {
    for (at, chunk) in bytes.chunks_mut(8).enumerate() {
        let word = mix(start.wrapping_add(at as u64)).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frame_survives_and_any_change_of_a_byte_shows(
            seq: u64, seed: u64, len in FRAME_BYTES_MIN..2000usize, at: proptest::sample::Index, flip in 1..=255u8,
        ) {
            // Broken: corrupted packets pass as delivered.
            let mut frame = make(seq, len, seed);
            prop_assert_eq!(check(&frame), Ok(Seq(seq)));
            prop_assert!(check(&frame[..len - 1]).is_err());
            let at = at.index(len);
            frame[at] ^= flip;
            prop_assert!(check(&frame).is_err());
        }

        #[test]
        fn sectors_differ_by_number_and_generation(first in 0..1000u64, count in 1..5u32, generation in 0..9u64) {
            // Broken: a block read that returns the wrong sector, or an old one, passes.
            let bytes = sectors(first, count, generation);
            prop_assert_eq!(sectors_differ(&bytes, first, generation), None);
            prop_assert_eq!(sectors_differ(&bytes, first + 1, generation).map(|at| at < 8), Some(true));
            prop_assert_eq!(sectors_differ(&bytes, first, generation + 1).map(|at| at < 16), Some(true));
        }
    }
}
