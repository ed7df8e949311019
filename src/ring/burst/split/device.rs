//! The device's side of a split ring, a burst at a time, which survives whatever the driver writes.

use std::sync::atomic::Ordering;

use crate::memory::{Near, Reach};
use crate::ring::split::device::indirect_count;
use crate::ring::split::{AVAIL_F_NO_INTERRUPT, DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, USED_F_NO_NOTIFY};
use crate::ring::split::{Descriptor, event_passed};
use crate::ring::{RingError, SplitLayout};

use super::super::at::full_fence;
use super::super::chains::Walk;
use super::super::publish::{consume, publish, published_then_wish, wish_then_look};
use super::super::{Chains, DeviceRing, RingOptions, Ticket};
use super::Parts;

/// The device's side of a split ring.
#[derive(Debug)]
pub struct SplitDevice {
    parts: Parts,
    options: RingOptions,
    /// Next available index to take, and avail.idx as it was last read.
    avail_idx: u16,
    avail_seen: u16,
    /// used.idx as published.
    used_idx: u16,
    /// Chains given and not yet shown, whose elements are written.
    given: u16,
    /// What the elements of the used ring hold, so that one is written only where it changes: id, and length above it.
    written: Vec<u64>,
    /// With IN_ORDER, the last and the number of chains that have nothing to write to: it stands for all, in the place of the
    /// first.
    held: (u16, u16),
    taken: u16,
    /// used.idx when the question of a call was last answered; none after a start, when one call too many is the safe side.
    called_at: Option<u16>,
    /// Met behind chains that were right, and told at the next call.
    error: Option<RingError>,
}

impl SplitDevice {
    /// A device that goes on at `base` and takes used.idx from memory, as libvhost-user does.
    pub fn start(layout: SplitLayout, base: u16, reach: &Reach, options: RingOptions) -> Result<Self, RingError> {
        let parts = Parts::new(layout, reach)?;
        let used_idx = consume(&parts.used_idx());
        let written = (0..layout.size).map(|index| parts.element(index)).collect();
        Ok(Self {
            parts,
            options,
            avail_idx: base,
            avail_seen: base,
            used_idx,
            given: 0,
            written,
            held: (0, 0),
            taken: 0,
            called_at: None,
            error: None,
        })
    }

    /// The layout.
    #[must_use]
    pub fn layout(&self) -> &SplitLayout {
        &self.parts.layout
    }

    /// The next used index to write.
    #[must_use]
    pub fn used_idx(&self) -> u16 {
        self.used_idx
    }

    /// Reads avail.idx; gives how far it is ahead.
    #[inline(always)]
    fn look(&mut self) -> Result<u16, RingError> {
        let to = consume(&self.parts.avail_idx());
        let ahead = to.wrapping_sub(self.avail_idx);
        if ahead > self.parts.layout.size {
            return Err(RingError::AvailJumped {
                from: self.avail_idx,
                to,
                size: self.parts.layout.size,
            });
        }
        self.avail_seen = to;
        Ok(ahead)
    }

    /// Takes the chain at avail_idx, which was seen to be ahead.
    #[inline(always)]
    fn take_one<'m>(&mut self, reach: &'m Reach, near: &mut Near<'m>, into: &mut Chains<'m>) -> Result<(), RingError> {
        let head = self.parts.head(self.avail_idx);
        self.avail_idx = self.avail_idx.wrapping_add(1);
        if head >= self.parts.layout.size {
            return Err(RingError::HeadOutOfRange {
                head,
                size: self.parts.layout.size,
            });
        }
        let (addr, rest) = self.parts.descriptor(head);
        let (len, flags) = (rest as u32, (rest >> 32) as u16);
        if flags & (DESC_F_NEXT | DESC_F_INDIRECT) == 0
            && let Some(place) = near.place(addr, len)
        {
            let ticket = Ticket {
                id: head,
                descriptors: 1,
                writable: flags & DESC_F_WRITE != 0,
            };
            into.push_single(ticket, place);
            return Ok(());
        }
        self.walk(reach, head, into)
    }

    #[inline(always)]
    fn put(&mut self, id: u16, len: u32) {
        let slot = self.parts.slot(self.used_idx.wrapping_add(self.given));
        let element = u64::from(id) | u64::from(len) << 32;
        // the lines of a ring in which all stands already stay with both sides
        if self.written[slot] != element {
            self.written[slot] = element;
            self.parts.elements.store(2 * slot, u32::from(id), Ordering::Relaxed);
            self.parts.elements.store(2 * slot + 1, len, Ordering::Relaxed);
        }
        self.given = self.given.wrapping_add(1);
    }

    /// Lets the last chain that is held stand for all.
    #[inline]
    fn put_held(&mut self) {
        let (last, chains) = std::mem::take(&mut self.held);
        if chains > 0 {
            self.put(last, 0);
            self.given = self.given.wrapping_add(chains - 1);
        }
    }

    #[cold]
    fn walk<'m>(&self, reach: &'m Reach, head: u16, into: &mut Chains<'m>) -> Result<(), RingError> {
        let mut walk = Walk::begin(head, into);
        match self.follow(reach, head, &mut walk, into) {
            Ok(descriptors) => {
                walk.end(
                    Ticket {
                        id: head,
                        descriptors,
                        writable: false,
                    },
                    into,
                );
                Ok(())
            }
            Err(error) => {
                walk.abandon(into);
                Err(error)
            }
        }
    }

    /// Follows a chain through the ring's table; gives the descriptors it takes there.
    fn follow<'m>(
        &self,
        reach: &'m Reach,
        head: u16,
        walk: &mut Walk,
        into: &mut Chains<'m>,
    ) -> Result<u16, RingError> {
        let size = self.parts.layout.size;
        let mut index = head;
        for count in 1..=size {
            let (addr, rest) = self.parts.descriptor(index);
            let desc = descriptor(addr, rest);
            if desc.flags & DESC_F_INDIRECT != 0 {
                let entries = indirect_count(&desc, head, size)?;
                follow_table(reach, &desc, entries, head, walk, into)?;
                return Ok(count);
            }
            walk.take(reach, index, desc.addr, desc.len, desc.flags & DESC_F_WRITE != 0, into)?;
            if desc.flags & DESC_F_NEXT == 0 {
                return Ok(count);
            }
            index = next_of(&desc, head, index, u32::from(size))?;
        }
        Err(RingError::Loop {
            head,
            limit: u32::from(size),
        })
    }
}

fn descriptor(addr: u64, rest: u64) -> Descriptor {
    Descriptor {
        addr,
        len: rest as u32,
        flags: (rest >> 32) as u16,
        next: (rest >> 48) as u16,
    }
}

fn next_of(desc: &Descriptor, head: u16, index: u16, size: u32) -> Result<u16, RingError> {
    if u32::from(desc.next) >= size {
        return Err(RingError::NextOutOfRange {
            head,
            index,
            next: desc.next,
            size,
        });
    }
    Ok(desc.next)
}

fn follow_table<'m>(
    reach: &'m Reach,
    table: &Descriptor,
    entries: u32,
    head: u16,
    walk: &mut Walk,
    into: &mut Chains<'m>,
) -> Result<(), RingError> {
    let bytes = super::super::chains::read_table(reach, table.addr, table.len)?;
    let mut index = 0;
    for _ in 0..entries {
        let at = Descriptor::BYTES * usize::from(index);
        let raw = bytes.get(at..).and_then(|rest| rest.first_chunk());
        let desc = raw
            .map(Descriptor::from_bytes)
            .ok_or(RingError::ChainTooLong { head })?;
        if desc.flags & DESC_F_INDIRECT != 0 {
            return Err(RingError::IndirectFlags {
                head,
                what: "an indirect descriptor in its table",
            });
        }
        walk.take(reach, index, desc.addr, desc.len, desc.flags & DESC_F_WRITE != 0, into)?;
        if desc.flags & DESC_F_NEXT == 0 {
            return Ok(());
        }
        index = next_of(&desc, head, index, entries)?;
    }
    Err(RingError::Loop { head, limit: entries })
}

impl DeviceRing for SplitDevice {
    fn size(&self) -> u16 {
        self.parts.layout.size
    }

    fn taken(&self) -> u16 {
        self.taken
    }

    #[inline]
    fn take<'m>(&mut self, reach: &'m Reach, into: &mut Chains<'m>, limit: usize) -> Result<usize, RingError> {
        into.clear();
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let mut ahead = self.avail_seen.wrapping_sub(self.avail_idx);
        if usize::from(ahead) < limit {
            ahead = self.look()?;
        }
        let count = usize::from(ahead).min(limit);
        let mut near = reach.near();
        for at in 0..count {
            if let Err(error) = self.take_one(reach, &mut near, into) {
                if at == 0 {
                    return Err(error);
                }
                self.error = Some(error);
                break;
            }
        }
        self.taken += into.len() as u16;
        Ok(into.len())
    }

    #[inline(always)]
    fn give(&mut self, ticket: Ticket, len: u32) {
        if self.options.in_order {
            if !ticket.writable && len == 0 {
                self.held = (ticket.id, self.held.1 + 1);
                return;
            }
            self.put_held();
        }
        self.put(ticket.id, len);
    }

    #[inline]
    fn flush(&mut self) -> u16 {
        self.put_held();
        let count = std::mem::take(&mut self.given);
        if count == 0 {
            return 0;
        }
        self.used_idx = self.used_idx.wrapping_add(count);
        self.taken = self.taken.saturating_sub(count);
        publish(&self.parts.used_idx(), self.used_idx);
        count
    }

    fn put_back(&mut self, chains: &Chains<'_>, count: usize) -> Result<(), RingError> {
        let there = count <= chains.len() && count <= usize::from(self.taken);
        if !there || self.error.is_some() {
            return Err(RingError::NothingTaken {
                what: "put chains back",
            });
        }
        self.taken -= count as u16;
        self.avail_idx = self.avail_idx.wrapping_sub(count as u16);
        Ok(())
    }

    fn needs_call(&mut self) -> bool {
        let old = self.called_at.replace(self.used_idx);
        if old == Some(self.used_idx) {
            return false;
        }
        if self.options.event_idx {
            let event = published_then_wish(full_fence, &self.parts.used_event());
            return old.is_none_or(|old| event_passed(event, self.used_idx, old));
        }
        let flags = published_then_wish(full_fence, &self.parts.avail_flags());
        flags & AVAIL_F_NO_INTERRUPT == 0
    }

    fn refuse_kicks(&mut self) {
        if self.options.event_idx {
            // the index that is farthest away, as the driver does it
            let farthest = self.avail_idx.wrapping_sub(1);
            wish_then_look(&self.parts.avail_event(), farthest, full_fence, || ());
        } else {
            wish_then_look(&self.parts.used_flags(), USED_F_NO_NOTIFY, full_fence, || ());
        }
    }

    fn ask_for_kick(&mut self) -> bool {
        let look = || consume(&self.parts.avail_idx());
        let avail = if self.options.event_idx {
            wish_then_look(&self.parts.avail_event(), self.avail_idx, full_fence, look)
        } else {
            wish_then_look(&self.parts.used_flags(), 0, full_fence, look)
        };
        avail != self.avail_idx || self.error.is_some()
    }

    fn base(&self) -> u32 {
        u32::from(self.avail_idx)
    }
}
