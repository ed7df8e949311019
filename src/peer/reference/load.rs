//! Requests with one answer each, kept under way on all rings at once: what the blk and the generic load of the reference
//! front-end share. It knows slots and rings, not what a request means.

use super::driver_ring::Segment;
use super::error::ReferenceError;
use super::guest::{Guest, Slot};
use super::session::{Progress, Session};

/// What is asked, and what must come back.
pub(super) trait Job {
    /// Lays request `index` out in `slot`.
    fn build(&mut self, guest: &Guest, index: u64, slot: &Slot) -> Result<Vec<Segment>, ReferenceError>;

    /// Checks request `index`, of which the device says it wrote `written` bytes.
    fn check(&mut self, guest: &Guest, index: u64, slot: &Slot, written: u32) -> Result<(), ReferenceError>;
}

/// Makes `count` requests, in turn over all rings, and checks every answer. `progress` is for messages only.
pub(super) fn run(
    session: &mut Session,
    job: &mut dyn Job,
    count: u64,
    progress: Progress,
) -> Result<(), ReferenceError> {
    let rings = session.rings.len();
    let slots = session.guest.slots();
    let indirect = session.indirect();
    let mut free: Vec<Vec<u16>> = vec![(0..slots).rev().collect(); rings];
    let mut under_way = vec![vec![0u64; usize::from(slots)]; rings];
    let mut next: Vec<u64> = (0..).take(rings).collect();
    let mut done = 0;
    while done < count {
        for ring in 0..rings {
            while next[ring] < count
                && let Some(number) = free[ring].pop()
            {
                let slot = session.guest.slot(ring, number);
                let segments = job.build(&session.guest, next[ring], &slot)?;
                // Every other chain is indirect, so that both kinds meet in one ring.
                let table = (indirect && number % 2 == 1).then_some(slot.indirect);
                session.rings[ring].add(&segments, table, number)?;
                under_way[ring][usize::from(number)] = next[ring];
                next[ring] += rings as u64;
            }
            session.rings[ring].publish()?;
        }
        session.wait(progress)?;
        for ring in 0..rings {
            while let Some(completion) = session.rings[ring].take()? {
                let slot = session.guest.slot(ring, completion.token);
                let index = under_way[ring][usize::from(completion.token)];
                job.check(&session.guest, index, &slot, completion.length)?;
                free[ring].push(completion.token);
                done += 1;
            }
        }
    }
    Ok(())
}

/// Bytes that differ from one request to the next and from one place to the next (splitmix64).
pub(super) fn pattern(request: u64, bytes: u32) -> Vec<u8> {
    let mut state = request.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut pattern = Vec::with_capacity(bytes as usize + 8);
    while pattern.len() < bytes as usize {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        pattern.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    pattern.truncate(bytes as usize);
    pattern
}

/// Compares byte by byte and names the first difference.
pub(super) fn same(request: u64, expected: &[u8], actual: &[u8]) -> Result<(), ReferenceError> {
    let what = match expected.iter().zip(actual).position(|(left, right)| left != right) {
        Some(at) => format!("byte {at} is {:#04x}, expected {:#04x}", actual[at], expected[at]),
        None if expected.len() != actual.len() => {
            format!("{} bytes came back, expected {}", actual.len(), expected.len())
        }
        None => return Ok(()),
    };
    Err(ReferenceError::Differs { request, what })
}
