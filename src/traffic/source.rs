//! The source of a stream: the next frame, and the next.

use super::frame::{self, Header};
use super::sizes::Sizes;

/// Makes the frames of one stream in order.
#[derive(Debug, Clone)]
pub struct Source {
    stream: u16,
    sizes: Sizes,
    /// The length, where all frames are alike: no division a frame.
    only: Option<usize>,
    next: u64,
}

impl Source {
    /// A stream that begins with number 0.
    #[must_use]
    pub fn new(stream: u16, sizes: Sizes) -> Self {
        Self {
            stream,
            only: sizes.only(),
            sizes,
            next: 0,
        }
    }

    /// Bytes of the next frame.
    #[inline]
    #[must_use]
    pub fn next_len(&self) -> usize {
        match self.only {
            Some(size) => size,
            None => self.sizes.of(self.next),
        }
    }

    /// Writes the next frame to the beginning of `into`, which has room for [`Self::next_len`] bytes; gives its length.
    /// `stamp` is carried along for the latency; 0 if nobody wants to know.
    #[inline]
    pub fn fill(&mut self, into: &mut [u8], stamp: u64) -> usize {
        let length = self.next_len();
        let header = Header {
            stream: self.stream,
            seq: self.next,
            stamp,
        };
        frame::make(&header, &mut into[..length]);
        self.next += 1;
        length
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
