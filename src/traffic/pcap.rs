//! Frames out of a pcap file (the classic format of libpcap, draft-ietf-opsawg-pcap), to be sent again and again.

use std::collections::HashMap;

use super::frame::FRAME_BYTES_MAX;

/// Frames of a file, at most.
const FRAMES_MAX: usize = 1 << 16;
/// Bytes of a file, at most.
pub const FILE_BYTES_MAX: u64 = 256 << 20;
/// Bytes of the file's header, and of a frame's.
const FILE_HEADER_BYTES: usize = 24;
const FRAME_HEADER_BYTES: usize = 16;
/// Where the type of link stands, and what it is for Ethernet.
const LINK_AT: usize = 20;
const LINK_ETHERNET: u32 = 1;
/// Bytes of an Ethernet header: less is no frame.
const ETHERNET_BYTES: usize = 14;

/// Why a file gives no frames.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PcapError {
    /// It begins with something else.
    #[error("this is no pcap file: it begins with {found:#010x} (pcapng files can be converted by editcap -F pcap)")]
    Magic {
        /// The first four bytes.
        found: u32,
    },
    /// Its frames are not Ethernet's.
    #[error("its link type is {found}, not 1 (Ethernet)")]
    Link {
        /// The type.
        found: u32,
    },
    /// It ends within a frame.
    #[error("it ends within frame {number}, at byte {at}")]
    Cut {
        /// The frame, from 1.
        number: usize,
        /// Where it ends.
        at: usize,
    },
    /// A frame cannot be sent.
    #[error("frame {number} has {bytes} bytes; it has to have {ETHERNET_BYTES} to {FRAME_BYTES_MAX}")]
    Length {
        /// The frame, from 1.
        number: usize,
        /// Its bytes.
        bytes: usize,
    },
    /// A frame was not captured as a whole.
    #[error("frame {number} was captured with {captured} of its {bytes} bytes")]
    Snapped {
        /// The frame, from 1.
        number: usize,
        /// Bytes that are there.
        captured: usize,
        /// Bytes it had.
        bytes: usize,
    },
    /// None, or too many.
    #[error("it has {count} frames; 1 to {FRAMES_MAX} are wanted")]
    Count {
        /// How many.
        count: usize,
    },
}

/// Frames of a file in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    frames: Vec<Box<[u8]>>,
    /// Where each content is in the order.
    places: HashMap<Box<[u8]>, Vec<usize>>,
}

impl Recording {
    /// Reads a file's bytes.
    pub fn read(file: &[u8]) -> Result<Self, PcapError> {
        let word = |at: usize, big: bool| -> Option<u32> {
            let bytes: [u8; 4] = *file.get(at..)?.first_chunk()?;
            Some(if big {
                u32::from_be_bytes(bytes)
            } else {
                u32::from_le_bytes(bytes)
            })
        };
        let found = word(0, false).unwrap_or(0);
        let big = match found {
            // microseconds, nanoseconds
            0xa1b2_c3d4 | 0xa1b2_3c4d => false,
            0xd4c3_b2a1 | 0x4d3c_b2a1 => true,
            _ => return Err(PcapError::Magic { found }),
        };
        // the upper bits say whether a checksum of Ethernet follows each frame
        match word(LINK_AT, big).unwrap_or(0) & 0xffff {
            LINK_ETHERNET => {}
            found => return Err(PcapError::Link { found }),
        }
        let mut frames: Vec<Box<[u8]>> = Vec::new();
        let mut at = FILE_HEADER_BYTES;
        while at < file.len() {
            let number = frames.len() + 1;
            if number > FRAMES_MAX {
                return Err(PcapError::Count { count: number });
            }
            let cut = PcapError::Cut { number, at: file.len() };
            let (captured, bytes) = match (word(at + 8, big), word(at + 12, big)) {
                (Some(captured), Some(bytes)) => (captured as usize, bytes as usize),
                _ => return Err(cut),
            };
            if captured < bytes {
                return Err(PcapError::Snapped {
                    number,
                    captured,
                    bytes,
                });
            }
            if !(ETHERNET_BYTES..=FRAME_BYTES_MAX).contains(&captured) {
                return Err(PcapError::Length {
                    number,
                    bytes: captured,
                });
            }
            at += FRAME_HEADER_BYTES;
            let frame = file.get(at..at + captured).ok_or(cut)?;
            frames.push(Box::from(frame));
            at += captured;
        }
        if frames.is_empty() {
            return Err(PcapError::Count { count: 0 });
        }
        let mut places: HashMap<Box<[u8]>, Vec<usize>> = HashMap::new();
        for (at, frame) in frames.iter().enumerate() {
            places.entry(frame.clone()).or_default().push(at);
        }
        Ok(Self { frames, places })
    }

    /// The frame with this number, when they are sent again from the first after the last.
    #[must_use]
    pub fn frame(&self, seq: u64) -> &[u8] {
        &self.frames[(seq % self.frames.len() as u64) as usize]
    }

    /// The longest.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.frames.iter().map(|frame| frame.len()).max().unwrap_or(0)
    }

    /// The number, nearest to the one that is expected, of the frame with this content.
    #[must_use]
    pub fn number_of(&self, bytes: &[u8], expected: u64) -> Option<u64> {
        let count = self.frames.len() as u64;
        let here = expected % count;
        let distances = self.places.get(bytes)?.iter().map(|place| {
            let ahead = (*place as u64 + count - here) % count;
            // as far ahead as behind: ahead, since a frame is lost sooner than it comes twice
            if ahead <= count / 2 || expected + ahead < count {
                ahead as i64
            } else {
                ahead as i64 - count as i64
            }
        });
        let nearest = distances.min_by_key(|distance| distance.unsigned_abs())?;
        expected.checked_add_signed(nearest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of frames with these contents, in this order of bytes.
    pub(crate) fn file(frames: &[&[u8]], big: bool) -> Vec<u8> {
        let word = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
        let mut bytes = Vec::new();
        for value in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0xffff, 1] {
            bytes.extend(word(value));
        }
        for frame in frames {
            for value in [1, 2, frame.len() as u32, frame.len() as u32] {
                bytes.extend(word(value));
            }
            bytes.extend(*frame);
        }
        bytes
    }

    #[test]
    fn both_orders_of_bytes_are_read_and_what_is_wrong_has_its_place() {
        // Broken: a capture made elsewhere cannot be sent, or half a frame is.
        let (short, long) = ([1u8; 60], [2u8; 1514]);
        for big in [false, true] {
            let whole = file(&[&short, &long], big);
            let read = Recording::read(&whole).unwrap();
            assert_eq!(
                (read.frame(0), read.frame(3), read.longest()),
                (&short[..], &long[..], 1514)
            );
            for end in 25..whole.len() {
                let expected = match end {
                    _ if end == 24 + 16 + 60 => continue,
                    _ if end < 24 + 16 + 60 => PcapError::Cut { number: 1, at: end },
                    _ => PcapError::Cut { number: 2, at: end },
                };
                assert_eq!(Recording::read(&whole[..end]), Err(expected));
            }
        }
        assert_eq!(Recording::read(&file(&[], false)), Err(PcapError::Count { count: 0 }));
        assert!(matches!(
            Recording::read(b"\x0a\x0d\x0d\x0a"),
            Err(PcapError::Magic { .. })
        ));
        assert_eq!(
            Recording::read(&file(&[&[0; 13]], false)),
            Err(PcapError::Length { number: 1, bytes: 13 })
        );
        let mut snapped = file(&[&short], false);
        snapped[24 + 12] = 61;
        let told = PcapError::Snapped {
            number: 1,
            captured: 60,
            bytes: 61,
        };
        assert_eq!(Recording::read(&snapped), Err(told));
        snapped[20] = 101;
        assert_eq!(Recording::read(&snapped), Err(PcapError::Link { found: 101 }));
    }

    #[test]
    fn a_content_is_the_nearest_frame_that_has_it() {
        // Broken: a lost frame of a recording counts as one that came again.
        let frames: Vec<[u8; 60]> = [1u8, 2, 3, 1, 5].iter().map(|byte| [*byte; 60]).collect();
        let all: Vec<&[u8]> = frames.iter().map(|frame| &frame[..]).collect();
        let read = Recording::read(&file(&all, false)).unwrap();
        assert_eq!(read.number_of(&[2; 60], 1), Some(1));
        assert_eq!(read.number_of(&[3; 60], 1), Some(2));
        assert_eq!(read.number_of(&[1; 60], 11), Some(10));
        assert_eq!(read.number_of(&[1; 60], 12), Some(13));
        assert_eq!(read.number_of(&[5; 60], 0), Some(4));
        assert_eq!(read.number_of(&[9; 60], 0), None);
    }
}
