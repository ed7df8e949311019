//! The device's side of a packed ring, a burst at a time, which survives whatever the driver writes.

use std::sync::atomic::Ordering;

use crate::memory::Reach;
use crate::ring::packed::{DESC_F_AVAIL, DESC_F_USED};
use crate::ring::packed::{DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, EVENT_DESC, EVENT_DISABLE, EVENT_ENABLE};
use crate::ring::packed::{Position, base, positions, wants_event};
use crate::ring::split::{Descriptor, device::indirect_count};
use crate::ring::{PackedLayout, RingError};

use super::super::at::{At, full_fence};
use super::super::chains::{Walk, read_table};
use super::super::publish::{Shared, consume, publish, published_then_wish, wish_then_look};
use super::super::{Chains, DeviceRing, RingOptions, Ticket};
use super::{Parts, flags_of, id_of, word};

/// What was given and not shown yet.
#[derive(Debug, Default)]
struct Given {
    /// Of the first, what is written last: the driver cannot see past it.
    first: u64,
    /// Where the next is written: with none given, where the driver looks.
    at: Position,
    chains: u16,
    descriptors: u32,
    /// With IN_ORDER, chains that have nothing to write to, up to here: the last of them stands for all, in the place of the
    /// first.
    held: Held,
}

/// Chains that the last of them stands for.
#[derive(Debug, Default)]
struct Held {
    last: Ticket,
    chains: u16,
    descriptors: u16,
}

/// The device's side of a packed ring.
#[derive(Debug)]
pub struct PackedDevice {
    parts: Parts,
    options: RingOptions,
    avail: Position,
    used: Position,
    given: Given,
    taken: u16,
    /// The last burst was a whole one, so that more descriptors are likely to be available. To ask for the lines of others
    /// would take them away from the driver that is about to write them.
    behind: bool,
    /// Descriptors used since the question of a call was last answered; none after a start.
    moved: Option<u32>,
    error: Option<RingError>,
}

impl PackedDevice {
    /// A device that goes on where `base` says, as SET_VRING_BASE carries it.
    pub fn start(layout: PackedLayout, base: u32, reach: &Reach, options: RingOptions) -> Result<Self, RingError> {
        let parts = Parts::new(layout, reach)?;
        let (avail, used) = positions(base);
        let at = [avail.at, used.at].into_iter().find(|at| *at >= layout.size);
        if let Some(at) = at {
            return Err(RingError::BaseOutOfRange { at, size: layout.size });
        }
        Ok(Self {
            parts,
            options,
            avail,
            used,
            given: Given {
                at: used,
                ..Given::default()
            },
            taken: 0,
            behind: false,
            moved: None,
            error: None,
        })
    }

    /// The layout.
    #[must_use]
    pub fn layout(&self) -> &PackedLayout {
        &self.parts.layout
    }

    /// Takes chains of one buffer each, up to the first of another kind or the end of the lap; whether there was one.
    #[inline(always)]
    fn take_plain<'m>(&mut self, reach: &'m Reach, into: &mut Chains<'m>, limit: usize) -> bool {
        let (mut at, mut near) = (self.avail.at, reach.near());
        let (first, flags_here) = (into.len(), self.avail.avail_flags());
        let left = usize::from(self.parts.layout.size - at);
        let descriptors = self.parts.descriptors();
        if self.behind && first == 0 && self.avail.is_avail(flags_of(consume(&descriptors.at(at).1))) {
            // with the order kept only one of a burst is written
            self.parts.prefetch(at, limit, !self.options.in_order);
        }
        for _ in 0..left.min(limit - first) {
            let (address, rest) = descriptors.at(at);
            let seen = consume(&rest);
            let flags = flags_of(seen);
            // one compare: available in this lap, and none of the flags of a longer chain
            if flags & (DESC_F_AVAIL | DESC_F_USED | DESC_F_NEXT | DESC_F_INDIRECT) != flags_here {
                break;
            }
            let Some(place) = near.place(address.load(Ordering::Relaxed), seen as u32) else {
                break;
            };
            let ticket = Ticket {
                id: id_of(seen),
                descriptors: 1,
                writable: flags & DESC_F_WRITE != 0,
            };
            into.push_single(ticket, place);
            at += 1;
        }
        let count = into.len() - first;
        self.avail = self.avail.advanced(count as u16, self.parts.layout.size);
        count > 0
    }

    #[cold]
    fn walk<'m>(&mut self, reach: &'m Reach, into: &mut Chains<'m>) -> Result<(), RingError> {
        let mut walk = Walk::begin(self.avail.at, into);
        match self.follow(reach, &mut walk, into) {
            Ok(ticket) => {
                walk.end(ticket, into);
                Ok(())
            }
            Err(error) => {
                walk.abandon(into);
                Err(error)
            }
        }
    }

    /// Follows a chain and moves past it, or past what of it could be followed.
    fn follow<'m>(&mut self, reach: &'m Reach, walk: &mut Walk, into: &mut Chains<'m>) -> Result<Ticket, RingError> {
        let size = self.parts.layout.size;
        let head = self.avail.at;
        let mut result = Ok(());
        for descriptors in 1..=size {
            let index = self.avail.at;
            let addr = self.parts.address(index).load(Ordering::Relaxed);
            let seen = consume(&self.parts.word(index));
            let (len, flags) = (seen as u32, flags_of(seen));
            self.avail = self.avail.advanced(1, size);
            // the first error counts; the rest of the chain is passed over
            if result.is_ok() {
                result = if flags & DESC_F_INDIRECT != 0 {
                    let table = Descriptor {
                        addr,
                        len,
                        flags,
                        next: 0,
                    };
                    follow_table(reach, &table, head, size, walk, into)
                } else {
                    walk.take(reach, index, addr, len, flags & DESC_F_WRITE != 0, into)
                };
            }
            if flags & DESC_F_NEXT == 0 {
                return result.map(|()| Ticket {
                    id: id_of(seen),
                    descriptors,
                    writable: false,
                });
            }
        }
        Err(RingError::Loop {
            head,
            limit: u32::from(size),
        })
    }

    /// Writes a chain behind those given before; the first is kept back.
    #[inline(always)]
    fn put(&mut self, ticket: Ticket, len: u32) {
        let given = &mut self.given;
        let at = given.at;
        let written = if len > 0 { DESC_F_WRITE } else { 0 };
        let word = word(len, ticket.id, at.used_flags() | written);
        if given.chains == 0 {
            given.first = word;
        } else {
            publish(&self.parts.word(at.at), word);
        }
        given.at = at.advanced(ticket.descriptors, self.parts.layout.size);
        given.chains += 1;
        given.descriptors += u32::from(ticket.descriptors);
    }

    /// Lets the last chain that is held stand for all.
    #[inline]
    fn put_held(&mut self) {
        let Held {
            last,
            chains,
            descriptors,
        } = std::mem::take(&mut self.given.held);
        if chains > 0 {
            self.put(Ticket { descriptors, ..last }, 0);
            self.given.chains += chains - 1;
        }
    }
}

fn follow_table<'m>(
    reach: &'m Reach,
    table: &Descriptor,
    head: u16,
    size: u16,
    walk: &mut Walk,
    into: &mut Chains<'m>,
) -> Result<(), RingError> {
    indirect_count(table, head, size)?;
    let bytes = read_table(reach, table.addr, table.len)?;
    for (index, raw) in bytes.as_chunks().0.iter().enumerate() {
        let desc = Descriptor::from_bytes(raw);
        // the last half word holds the flags here, and the one before it the id
        if desc.next & DESC_F_INDIRECT != 0 {
            return Err(RingError::IndirectFlags {
                head,
                what: "an indirect descriptor in its table",
            });
        }
        walk.take(
            reach,
            index as u16,
            desc.addr,
            desc.len,
            desc.next & DESC_F_WRITE != 0,
            into,
        )?;
    }
    Ok(())
}

impl DeviceRing for PackedDevice {
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
        let limit = limit.min(usize::from(self.parts.layout.size));
        while into.len() < limit {
            if self.take_plain(reach, into, limit) {
                continue;
            }
            if !self.avail.is_avail(flags_of(consume(&self.parts.word(self.avail.at)))) {
                break;
            }
            match self.walk(reach, into) {
                Ok(()) => {}
                Err(error) if into.is_empty() => return Err(error),
                Err(error) => {
                    self.error = Some(error);
                    break;
                }
            }
        }
        self.behind = into.len() == limit;
        self.taken = self.taken.saturating_add(into.len() as u16);
        Ok(into.len())
    }

    #[inline(always)]
    fn give(&mut self, ticket: Ticket, len: u32) {
        if self.options.in_order {
            if !ticket.writable && len == 0 {
                let held = &mut self.given.held;
                held.last = ticket;
                held.chains += 1;
                held.descriptors += ticket.descriptors;
                return;
            }
            self.put_held();
        }
        self.put(ticket, len);
    }

    #[inline]
    fn flush(&mut self) -> u16 {
        self.put_held();
        let (count, moved) = (self.given.chains, self.given.descriptors);
        if count == 0 {
            return 0;
        }
        (self.given.chains, self.given.descriptors) = (0, 0);
        publish(&self.parts.word(self.used.at), self.given.first);
        self.moved = self.moved.map(|before| before.saturating_add(moved));
        self.used = self.given.at;
        self.taken = self.taken.saturating_sub(count);
        count
    }

    fn put_back(&mut self, chains: &Chains<'_>, count: usize) -> Result<(), RingError> {
        let there = count <= chains.len() && count <= usize::from(self.taken);
        if !there || self.error.is_some() {
            return Err(RingError::NothingTaken {
                what: "put chains back",
            });
        }
        let last = (chains.len() - count..chains.len()).filter_map(|at| chains.get(at));
        let descriptors = last.map(|chain| u32::from(chain.ticket.descriptors)).sum::<u32>();
        self.taken -= count as u16;
        self.avail = self.avail.back(descriptors as u16, self.parts.layout.size);
        Ok(())
    }

    fn needs_call(&mut self) -> bool {
        let moved = self.moved.replace(0);
        if moved == Some(0) {
            return false;
        }
        let flags = published_then_wish(full_fence, &At::of(&self.parts.driver_event, 1));
        let wish = consume(&At::of(&self.parts.driver_event, 0));
        // after a start one call too many is the safe side
        let moved = moved.unwrap_or(u32::MAX);
        wants_event(wish, flags, self.used, moved, self.parts.layout.size)
    }

    fn refuse_kicks(&mut self) {
        wish_then_look(&At::of(&self.parts.device_event, 1), EVENT_DISABLE, full_fence, || ());
    }

    fn ask_for_kick(&mut self) -> bool {
        if self.error.is_some() {
            return true;
        }
        let look = || consume(&self.parts.word(self.avail.at));
        let event = At::of(&self.parts.device_event, 1);
        let seen = if self.options.event_idx {
            At::of(&self.parts.device_event, 0).store(self.avail.to_bits(), Ordering::Relaxed);
            full_fence();
            wish_then_look(&event, EVENT_DESC, full_fence, look)
        } else {
            wish_then_look(&event, EVENT_ENABLE, full_fence, look)
        };
        self.avail.is_avail(flags_of(seen))
    }

    fn base(&self) -> u32 {
        base(self.avail, self.used)
    }
}
