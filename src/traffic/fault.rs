//! Faults put in on purpose, each once, so that it can be shown that sinks and drivers see them.

use super::frame::{self, Header};
use super::lane::NET_HEADER_BYTES;
use crate::ring::burst::Ticket;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A frame is not passed on.
    Drop,
    /// A frame comes after the one that follows it.
    Swap,
    /// One bit of a frame is turned over: the byte of the frame, and the bit.
    Flip(usize, u8),
    /// A frame comes twice.
    Repeat,
    /// The last bytes of a frame are missing.
    Truncate(usize),
    /// Bytes follow a frame that are none of its own.
    Extend(usize),
    /// A buffer still holds the frame before.
    Stale,
    /// The end of a frame is that of the frame before.
    Torn,
    /// Nothing was copied.
    Blank,
    /// A frame of another stream comes instead.
    Misdeliver,
    /// Another buffer is returned than the one that was written.
    WrongBuffer,
    /// A buffer is returned that was returned before.
    StaleDescriptor,
    /// More bytes are said to be written than there is room for.
    TooLong,
    /// Many more buffers are said to be returned than were taken: the used index jumps.
    Jump,
}

/// Returns that never were, by which the used index jumps.
const JUMP: usize = 0x4000;

/// Puts one fault into a stream of packets.
#[derive(Debug, Clone)]
pub struct Meddler {
    fault: Fault,
    /// The packet it happens to, from 0.
    at: u64,
    seen: u64,
    held: Option<Vec<u8>>,
    before: Vec<u8>,
    last: Option<Ticket>,
}

/// What becomes of a packet.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// Bytes of it that go; none: it does not.
    pub(super) bytes: Option<usize>,
    /// What goes after it.
    pub(super) then: Option<Vec<u8>>,
}

impl Meddler {
    /// The fault happens to packet `at`, counted from 0.
    #[must_use]
    pub fn new(fault: Fault, at: u64) -> Self {
        Self {
            fault,
            at,
            seen: 0,
            held: None,
            before: Vec::new(),
            last: None,
        }
    }

    /// What becomes of the next packet, header and all.
    pub(super) fn meddle(&mut self, packet: &mut [u8], bytes: usize) -> Fate {
        let now = self.seen == self.at;
        // a copy is needed of one packet only, and a billion may go by
        if self.seen + 1 == self.at {
            self.before = packet[..bytes].to_vec();
        }
        self.seen += 1;
        let mut fate = Fate {
            bytes: Some(bytes),
            then: self.held.take(),
        };
        if !now {
            return fate;
        }
        match self.fault {
            Fault::Drop => fate.bytes = None,
            Fault::Swap => {
                self.held = Some(packet[..bytes].to_vec());
                fate.bytes = None;
            }
            Fault::Flip(byte, bit) => packet[NET_HEADER_BYTES + byte] ^= 1 << bit,
            Fault::Repeat => fate.then = Some(packet[..bytes].to_vec()),
            Fault::Truncate(by) => fate.bytes = Some(bytes - by),
            Fault::Extend(by) => {
                packet[bytes..bytes + by].fill(0);
                fate.bytes = Some(bytes + by);
            }
            Fault::Stale => {
                packet[..self.before.len()].copy_from_slice(&self.before);
                fate.bytes = Some(self.before.len());
            }
            Fault::Torn => {
                let from = bytes - 8;
                packet[from..bytes].copy_from_slice(&self.before[from..bytes]);
            }
            Fault::Blank => packet[..bytes].fill(0),
            Fault::Misdeliver => {
                let header = Header {
                    stream: 0x7777,
                    seq: self.at,
                    stamp: 0,
                    bare: false,
                };
                frame::make(&header, &mut packet[NET_HEADER_BYTES..bytes]);
            }
            Fault::WrongBuffer | Fault::StaleDescriptor | Fault::TooLong | Fault::Jump => {}
        }
        fate
    }

    /// What becomes of the buffers that the packet before was written to, as they are returned.
    pub(super) fn return_buffers(&mut self, given: &mut Vec<(Ticket, u32)>) {
        if self.seen == self.at + 1 {
            match self.fault {
                Fault::WrongBuffer => given.iter_mut().for_each(|(ticket, _)| ticket.id ^= 0x4000),
                Fault::StaleDescriptor => {
                    if let Some(before) = self.last {
                        given.iter_mut().for_each(|(ticket, _)| *ticket = before);
                    }
                }
                Fault::TooLong => given.iter_mut().for_each(|(_, len)| *len = 1 << 20),
                Fault::Jump => {
                    if let Some(last) = given.last().copied() {
                        given.extend(std::iter::repeat_n(last, JUMP));
                    }
                }
                _ => {}
            }
        }
        self.last = given.last().map(|(ticket, _)| *ticket);
    }
}
