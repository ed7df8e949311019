//! Guest memory within reach of one thread: the mapped regions at one moment, looked up without locks, strings or dispatch.
//!
//! It is a snapshot. A region that goes from the table later stays mapped while a reach knows it; who must not touch it any
//! more makes a new one.

use std::cell::Cell;

use super::mapping::MapSet;
use super::{MemoryError, Space};
use crate::sys::shared::{Extent, Place, SharedArray, SharedView, Word};

#[derive(Debug, Clone)]
struct Span {
    guest: u64,
    view: SharedView,
}

/// The regions, and which was met last. `Send`, but not `Sync`: each thread has a clone of its own.
#[derive(Debug, Clone)]
pub struct Reach {
    spans: Vec<Span>,
    last: Cell<usize>,
}

/// The region in which a loop works, held apart so that looking an address up takes two compares.
#[derive(Debug, Clone, Copy)]
pub struct Near<'m> {
    reach: &'m Reach,
    guest: u64,
    extent: Option<Extent<'m>>,
}

impl<'m> Near<'m> {
    /// As [`Reach::place`].
    #[inline(always)]
    #[must_use]
    pub fn place(&mut self, guest: u64, len: u32) -> Option<Place<'m>> {
        if let Some(place) = self.here(guest, len) {
            return Some(place);
        }
        // nothing of this one is taken the address of: it stays in registers
        *self = self.reach.near_to(guest, len)?;
        self.here(guest, len)
    }

    #[inline(always)]
    fn here(self, guest: u64, len: u32) -> Option<Place<'m>> {
        self.extent?.place(guest.wrapping_sub(self.guest), len, guest)
    }
}

impl Reach {
    /// The region that was met last, for a loop that is likely to stay in it.
    #[inline]
    #[must_use]
    pub fn near(&self) -> Near<'_> {
        let span = self.spans.get(self.last.get());
        Near {
            reach: self,
            guest: span.map_or(0, |span| span.guest),
            extent: span.map(|span| span.view.extent()),
        }
    }

    /// The region that holds a piece of guest memory.
    #[cold]
    #[inline(never)]
    fn near_to(&self, guest: u64, len: u32) -> Option<Near<'_>> {
        self.search(guest, len).map(|_| self.near())
    }

    /// All regions of the set that may be written.
    pub(super) fn of(set: &MapSet) -> Self {
        let span = |region: &std::sync::Arc<super::mapping::Mapping>| {
            let view = region.map.view()?;
            Some(Span {
                guest: region.desc.guest_address,
                view,
            })
        };
        Self {
            spans: set.regions().iter().filter_map(span).collect(),
            last: Cell::new(0),
        }
    }

    /// The piece of guest memory at `guest`; nothing if no single region holds all of it.
    #[inline]
    #[must_use]
    pub fn place(&self, guest: u64, len: u32) -> Option<Place<'_>> {
        // most packets are where the one before was
        if let Some(span) = self.spans.get(self.last.get())
            && let Some(place) = span.view.place(guest.wrapping_sub(span.guest), len, guest)
        {
            return Some(place);
        }
        self.search(guest, len)
    }

    #[cold]
    fn search(&self, guest: u64, len: u32) -> Option<Place<'_>> {
        self.spans.iter().enumerate().find_map(|(index, span)| {
            let place = span.view.place(guest.wrapping_sub(span.guest), len, guest)?;
            self.last.set(index);
            Some(place)
        })
    }

    /// The pieces of `guest..guest + len`, which may straddle regions that touch in guest space. On an error none is added.
    pub fn places<'m>(&'m self, guest: u64, len: u32, into: &mut Vec<Place<'m>>) -> Result<(), MemoryError> {
        if let Some(place) = self.place(guest, len) {
            into.push(place);
            return Ok(());
        }
        let (there, mut at, mut rest) = (into.len(), guest, len);
        // each round leaves one region
        for _ in 0..self.spans.len() {
            let piece = self.spans.iter().find_map(|span| {
                let from = at.wrapping_sub(span.guest);
                let room = (span.view.len() as u64).checked_sub(from).filter(|room| *room > 0)?;
                let now = room.min(u64::from(rest)) as u32;
                span.view.place(from, now, at)
            });
            let Some(piece) = piece else { break };
            into.push(piece);
            rest -= piece.len() as u32;
            if rest == 0 {
                return Ok(());
            }
            let Some(next) = at.checked_add(piece.len() as u64) else {
                break;
            };
            at = next;
        }
        into.truncate(there);
        Err(self.unmapped(guest, u64::from(len)))
    }

    /// `count` words from `guest` on, in one region, as each part of a ring must be.
    pub fn array<T: Word>(&self, guest: u64, count: usize) -> Result<SharedArray<T>, MemoryError> {
        let length = count as u64 * size_of::<T>() as u64;
        let whole = u32::try_from(length).ok().and_then(|length| self.place(guest, length));
        let span = self.spans.get(self.last.get()).filter(|_| whole.is_some());
        let Some(span) = span else {
            return Err(self.unmapped(guest, length));
        };
        let at = guest.wrapping_sub(span.guest) as usize;
        span.view.array(at, count).ok_or(MemoryError::Misaligned {
            address: guest,
            align: size_of::<T>() as u64,
        })
    }

    /// Whether a file was truncated under what was touched: what was read since may be zeros.
    pub fn check(&self) -> Result<(), MemoryError> {
        let lost = self.spans.iter().find(|span| span.view.is_lost());
        lost.map_or(Ok(()), |span| {
            Err(MemoryError::Truncated {
                offset: span.guest,
                size: span.view.len() as u64,
            })
        })
    }

    fn unmapped(&self, address: u64, length: u64) -> MemoryError {
        let known = |span: &Span| {
            let end = span.guest.saturating_add(span.view.len() as u64);
            format!("{:#x}..{end:#x}", span.guest)
        };
        MemoryError::Unmapped {
            space: Space::Guest,
            address,
            length,
            known: match self.spans.is_empty() {
                true => "none".to_owned(),
                false => self.spans.iter().map(known).collect::<Vec<_>>().join(", "),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{GuestAccess, GuestMemory, MemoryOptions, RegionLayout};

    /// Broken: packets are written where they do not belong, or a peer's address ends the harness.
    #[test]
    fn what_is_within_reach_is_what_the_table_maps() {
        let layout = [(0x1000, 0x1000), (0x2000, 0x800), (0x1_0000, 0x1000)];
        let layout = layout.map(|(guest_address, size)| RegionLayout { guest_address, size });
        let memory = GuestMemory::new(&layout, MemoryOptions::default()).unwrap();
        let reach = memory.reach();
        memory.write(0x1ffe, b"abcd").unwrap();
        assert!(reach.place(0x1ffe, 4).is_none() && reach.place(0x1ffe, 2).is_some());
        let mut pieces = Vec::new();
        reach.places(0x1ffe, 4, &mut pieces).unwrap();
        let mut bytes = [0; 4];
        assert_eq!(pieces.iter().map(|p| p.len()).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(
            pieces.iter().map(|p| p.guest_address()).collect::<Vec<_>>(),
            [0x1ffe, 0x2000]
        );
        pieces[0].copy_out(0, &mut bytes[..2]);
        pieces[1].copy_out(0, &mut bytes[2..]);
        assert_eq!(&bytes, b"abcd");
        for (at, len) in [
            (0, 1),
            (0x0fff, 2),
            (0x27ff, 2),
            (0x1000, 0x1801),
            (u64::MAX, 2),
            (0x1000, u32::MAX),
        ] {
            assert!(reach.places(at, len, &mut pieces).is_err(), "{at:#x} {len:#x}");
            assert_eq!(pieces.len(), 2);
        }
        assert!(reach.place(0x1_0fff, 1).is_some() && reach.place(0x1000, 1).is_some());
        assert!(reach.array::<u16>(0x1_0ffe, 1).is_ok() && reach.array::<u16>(0x1_0ffe, 2).is_err());
        assert!(matches!(
            reach.array::<u32>(0x1002, 1),
            Err(MemoryError::Misaligned { .. })
        ));
        assert_eq!(reach.check(), Ok(()));
    }
}
