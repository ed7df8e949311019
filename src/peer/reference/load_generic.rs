//! The reference front-end's echo load: what goes out in a chain's readable part must come back in its writable part.

use super::driver_ring::Segment;
use super::error::ReferenceError;
use super::guest::{Guest, Slot};
use super::load::{Job, pattern, run, same};
use super::session::{Progress, Session};

struct Echo {
    bytes: u32,
}

/// Makes `requests` round trips of `bytes` bytes each.
pub(super) fn drive(session: &mut Session, requests: u64, bytes: u32) -> Result<(), ReferenceError> {
    let progress = Progress { completed: 0, requests };
    run(session, &mut Echo { bytes }, requests, progress)
}

impl Job for Echo {
    fn build(&mut self, guest: &Guest, index: u64, slot: &Slot) -> Result<Vec<Segment>, ReferenceError> {
        guest.write(slot.output, &pattern(index, self.bytes))?;
        guest.write(slot.input, &vec![0; self.bytes as usize])?;
        Ok(vec![
            Segment::readable(slot.output, self.bytes),
            Segment::writable(slot.input, self.bytes),
        ])
    }

    fn check(&mut self, guest: &Guest, index: u64, slot: &Slot, written: u32) -> Result<(), ReferenceError> {
        let came = guest.read(slot.input, written as usize)?;
        same(index, &pattern(index, self.bytes), &came)
    }
}
