//! The source of a stream: the next frame, and the next.

use super::frame::{self, FRAME_BYTES_MIN, Header};
use super::pcap::Recording;
use super::sizes::Sizes;
use crate::sys::shared::Place;
use std::sync::Arc;

/// Makes the frames of one stream in order.
#[derive(Debug, Clone)]
pub struct Source {
    stream: u16,
    sizes: Sizes,
    /// The length, where all frames are alike: no division a frame.
    only: Option<usize>,
    /// All frames are of the shortest length and have content.
    least: bool,
    next: u64,
    /// Of every so many frames one has content, the others a header alone.
    sample: u64,
    /// Frames of a file instead of made ones: their own bytes, without a header of ours.
    recording: Option<Arc<Recording>>,
}

impl Source {
    /// A stream that begins with number 0.
    #[must_use]
    pub fn new(stream: u16, sizes: Sizes) -> Self {
        Self {
            stream,
            only: sizes.only(),
            least: sizes.only() == Some(FRAME_BYTES_MIN),
            sizes,
            next: 0,
            sample: 1,
            recording: None,
        }
    }

    /// Makes content for one of every `n` frames only, which the frames themselves say. Cache lines of the others' content
    /// stay where they are.
    #[must_use]
    pub fn sampling(mut self, n: u64) -> Self {
        self.sample = n.max(1);
        self.least &= self.sample == 1;
        self
    }

    /// The header of the next frame.
    #[inline(always)]
    fn header(&self, stamp: u64) -> Header {
        self.header_of(stamp, self.sample > 1 && !self.next.is_multiple_of(self.sample))
    }

    #[inline(always)]
    fn header_of(&self, stamp: u64, bare: bool) -> Header {
        Header {
            stream: self.stream,
            seq: self.next,
            stamp,
            bare,
        }
    }

    /// The frames of a file, again and again in their order.
    #[must_use]
    pub fn recorded(mut self, recording: Arc<Recording>) -> Self {
        self.recording = Some(recording);
        self.least = false;
        self
    }

    /// Bytes of the next frame.
    #[inline]
    #[must_use]
    pub fn next_len(&self) -> usize {
        match self.only {
            _ if self.recording.is_some() => self.next_recorded().len(),
            Some(size) => size,
            None => self.sizes.of(self.next),
        }
    }

    /// Writes the next frame to the beginning of `into`, which has room for [`Self::next_len`] bytes; gives its length.
    /// `stamp` is carried along for the latency; 0 if nobody wants to know.
    #[inline]
    pub fn fill(&mut self, into: &mut [u8], stamp: u64) -> usize {
        let length = self.next_len();
        if self.recording.is_some() {
            into[..length].copy_from_slice(self.next_recorded());
            self.next += 1;
            return length;
        }
        let header = self.header(stamp);
        frame::make(&header, &mut into[..length]);
        self.next += 1;
        length
    }

    /// Writes the next frame to shared memory from byte `at` of `place` on; gives its length. What does not fit is cut off.
    /// The shortest frames are made in registers, and headers without content, others in `scratch`.
    #[inline(always)]
    pub fn fill_place(&mut self, place: Place<'_>, at: usize, stamp: u64, scratch: &mut [u8]) -> usize {
        if self.least && place.set_words(at, frame::make_least(&self.header_of(stamp, false))) {
            self.next += 1;
            return FRAME_BYTES_MIN;
        }
        self.fill_other(place.after(at), stamp, scratch)
    }

    #[inline(never)]
    fn fill_other(&mut self, place: Place<'_>, stamp: u64, scratch: &mut [u8]) -> usize {
        if self.recording.is_none() {
            let (header, length) = (self.header(stamp), self.next_len());
            let written = match length {
                _ if header.bare => place.set_words(0, frame::make_bare(&header, length)),
                FRAME_BYTES_MIN => place.set_words(0, frame::make_least(&header)),
                _ => false,
            };
            if written {
                self.next += 1;
                return length;
            }
        }
        let length = self.fill(scratch, stamp);
        place.copy_in(0, &scratch[..length]);
        length
    }

    fn next_recorded(&self) -> &[u8] {
        self.recording
            .as_ref()
            .map_or(&[], |recording| recording.frame(self.next))
    }

    /// Frames made so far, which is the number of the next.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.next
    }

    /// The stream's number.
    #[must_use]
    pub fn stream(&self) -> u16 {
        self.stream
    }

    /// Its lengths.
    #[must_use]
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }
}
