//! A split ring as it is followed from look to look.
//!
//! A look takes the two indices at one moment, reads the slots between the last look's and these, and then makes sure that
//! nobody can have written to those slots meanwhile. What cannot be told for certain is not judged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{Ordering, fence};

use super::chain::{self, Budget, Chain};
use super::mark::Mark;
use super::rule::{Sight, Standing};
use super::{Ground, Sink};
use crate::memory::{GuestAccess, MemoryError};
use crate::ring::split::event_passed;
use crate::ring::{RingError, SplitLayout};

/// How often the indices are read again until they stand still.
const MOMENT_TRIES: u32 = 16;
/// Looks at a ring that has just been stopped and where something moves all the same.
const STOP_LOOKS: u32 = 4;
/// The largest used ring of which a copy is kept while it is stopped.
const COPY_BYTES_MAX: u64 = 8 << 10;

/// A chain that the device has.
#[derive(Debug)]
struct Held {
    /// Its place in the available ring, counted on.
    index: u16,
    /// Its descriptors, if they were seen.
    chain: Option<Box<Chain>>,
    /// Writes were logged when it was made available.
    logged: bool,
    /// The ring was disabled, and the back-end knew, when it was made available.
    disabled: bool,
}

/// A chain that came back.
#[derive(Debug, Clone, Copy)]
struct Element {
    id: u32,
    length: u32,
    /// There is a used element at its place.
    is_written: bool,
}

impl Element {
    fn of((id, length): (u32, u32)) -> Self {
        Self {
            id,
            length,
            is_written: true,
        }
    }
}

/// A split ring.
#[derive(Debug)]
pub(super) struct Split {
    layout: SplitLayout,
    /// Up to there available chains were taken in.
    avail: u16,
    /// Up to there used elements were taken in.
    used: u16,
    out: BTreeMap<u16, Held>,
    /// Chains that the device has and whose names are not known.
    unknown: u32,
    /// Heads that were seen, so that a second return is told from a made-up one.
    offered: BTreeSet<u16>,
    /// A chain has passed.
    was_used: bool,
    /// The used ring when it was stopped.
    copy: Option<Vec<u8>>,
}

impl Split {
    /// A ring that is started at `base`.
    pub(super) fn start(layout: SplitLayout, base: u16, mem: &dyn GuestAccess) -> Result<Self, RingError> {
        layout.check(mem)?;
        let used = mem.load_u16(layout.used_idx(), Ordering::Acquire)?;
        // what an earlier back-end had taken and not returned; anything goes if that makes no sense
        let before = base.wrapping_sub(used);
        let unknown = if before <= layout.size { before } else { u16::MAX };
        Ok(Self {
            layout,
            avail: base,
            used,
            out: BTreeMap::new(),
            unknown: u32::from(unknown),
            offered: BTreeSet::new(),
            was_used: false,
            copy: None,
        })
    }

    /// A ring that another back-end has left, with these chains in its hands, the oldest first: all that was ever taken and
    /// not returned.
    pub(super) fn take_over(layout: SplitLayout, left: &[u16], mem: &dyn GuestAccess) -> Result<Self, RingError> {
        let mut ring = Self::start(layout, 0, mem)?;
        (ring.avail, ring.unknown) = (ring.used.wrapping_add(left.len() as u16), 0);
        for (at, head) in left.iter().enumerate() {
            let held = Held {
                index: ring.used.wrapping_add(at as u16),
                chain: None,
                logged: false,
                disabled: false,
            };
            ring.out.insert(*head, held);
            ring.offered.insert(*head);
        }
        Ok(ring)
    }

    /// A ring that runs already. None if its indices do not stand still.
    pub(super) fn resume(layout: SplitLayout, mem: &dyn GuestAccess) -> Result<Option<Self>, RingError> {
        let mut ring = Self::start(layout, 0, mem)?;
        let Some((avail, used)) = ring.moment(mem)? else {
            return Ok(None);
        };
        ring.only_count(avail, used);
        Ok(Some(ring))
    }

    /// The indices at one moment: (available, used). None if they do not stand still.
    fn moment(&self, mem: &dyn GuestAccess) -> Result<Option<(u16, u16)>, MemoryError> {
        for _ in 0..MOMENT_TRIES {
            let used = mem.load_u16(self.layout.used_idx(), Ordering::Acquire)?;
            let avail = mem.load_u16(self.layout.avail_idx(), Ordering::Acquire)?;
            if mem.load_u16(self.layout.used_idx(), Ordering::Acquire)? == used {
                return Ok(Some((avail, used)));
            }
        }
        Ok(None)
    }

    /// Looks at a ring that is started.
    pub(super) fn look(&mut self, ground: &Ground, sink: &mut Sink) -> Result<(), MemoryError> {
        let mem = ground.mem;
        let Some((avail, used)) = self.moment(mem)? else {
            return Ok(());
        };
        let size = self.layout.size;
        sink.see(&Sight::Indices { size, avail, used });
        self.look_at_flags(ground, sink, avail, used)?;
        let (offered, returned) = (avail.wrapping_sub(self.avail), used.wrapping_sub(self.used));
        if offered == 0 && returned == 0 {
            return Ok(());
        }
        self.was_used = true;
        if avail.wrapping_sub(used) > size || !ground.is_fresh {
            if !ground.is_fresh {
                sink.mark(Mark::LostTrack);
            }
            self.lose_track(avail, used, sink);
            return Ok(());
        }
        let out = self.out.len() as u32 + self.unknown + u32::from(offered);
        if u32::from(returned) > out {
            let (from, to) = (self.used, used);
            sink.see(&Sight::Moved { from, to, out });
            self.lose_track(avail, used, sink);
            return Ok(());
        }
        if offered > size || returned > size {
            sink.mark(Mark::LostTrack);
            self.lose_track(avail, used, sink);
            return Ok(());
        }
        let heads = self.slots(mem, self.avail, offered)?;
        let elements = self.elements(mem, self.used, returned)?;
        fence(Ordering::Acquire);
        let Some((now_avail, now_used)) = self.moment(mem)? else {
            return Ok(());
        };
        if !self.are_intact(now_avail, now_used, ground) {
            sink.mark(Mark::LostTrack);
            self.lose_track(avail, used, sink);
            return Ok(());
        }
        // once a chain is back a driver may write to its slot again, some time before it publishes that
        let is_sure = |i: usize| ground.driver_is_plain || !is_before(self.avail.wrapping_add(i as u16), now_used);
        let heads: Vec<Option<u16>> = heads
            .into_iter()
            .enumerate()
            .map(|(i, head)| is_sure(i).then_some(head))
            .collect();
        if offered > 0 && avail.wrapping_sub(used) == size {
            sink.mark(Mark::RingFull);
        }
        let elements: Vec<Element> = match ground.in_order {
            false => elements.into_iter().map(Element::of).collect(),
            true => match self.unfold(&heads, &elements) {
                Ok(elements) => elements,
                Err(overtaken) => {
                    match overtaken {
                        Some(id) => sink.see(&Sight::Overtaken { id }),
                        None => sink.mark(Mark::LostTrack),
                    }
                    self.lose_track(avail, used, sink);
                    return Ok(());
                }
            },
        };
        self.take_in(ground, sink, &heads, &elements);
        (self.avail, self.used) = (avail, used);
        self.read_chains(ground, sink, used)
    }

    /// Looks at a ring that is stopped. False if it is not worth looking any more: the driver uses the memory otherwise.
    pub(super) fn look_stopped(&mut self, ground: &Ground, sink: &mut Sink) -> Result<bool, MemoryError> {
        let mem = ground.mem;
        let used = mem.load_u16(self.layout.used_idx(), Ordering::Acquire)?;
        let moved = used.wrapping_sub(self.used);
        if moved == 0 {
            let changed = match &self.copy {
                Some(copy) if ground.driver_is_quiet => self.used_bytes(mem)?.is_some_and(|now| now != *copy),
                _ => false,
            };
            if changed {
                let what = "it was written to, with the used index as it was".to_owned();
                sink.see(&Sight::Late { what });
                self.copy = self.used_bytes(mem)?;
            } else if self.was_used {
                sink.mark(Mark::StoppedQuiet);
            }
            return Ok(true);
        }
        let elements = match moved <= self.layout.size {
            true => self.elements(mem, self.used, moved)?,
            false => Vec::new(),
        };
        let heads = elements.iter().filter_map(|(id, _)| u16::try_from(*id).ok());
        let known = heads.filter(|head| self.out.contains_key(head)).count();
        // a driver that sets the ring up anew does not name chains that the device has
        if known != usize::from(moved) && !ground.driver_is_quiet {
            return Ok(false);
        }
        let what = format!(
            "the used index went from {} to {used} after the ring was stopped",
            self.used
        );
        sink.see(&Sight::Late { what });
        for (id, _) in elements {
            u16::try_from(id).ok().and_then(|head| self.out.remove(&head));
        }
        self.used = used;
        self.copy = self.used_bytes(mem)?;
        Ok(true)
    }

    /// The ring is stopped: the back-end has answered with this base.
    pub(super) fn stop(
        &mut self,
        base: u16,
        may_leave: bool,
        ground: &Ground,
        sink: &mut Sink,
    ) -> Result<(), MemoryError> {
        let mut now = self.moment(ground.mem)?;
        for _ in 0..STOP_LOOKS {
            if now == Some((self.avail, self.used)) {
                break;
            }
            self.look(ground, sink)?;
            now = self.moment(ground.mem)?;
        }
        // what was not taken in yet may have come back
        if now == Some((self.avail, self.used)) {
            let left = self.out.values().filter(|held| is_before(held.index, base)).count() as u32;
            sink.see(&Sight::Stopped {
                base,
                indices: now,
                left,
                may_leave,
                half: false,
            });
            if left == 0 && self.unknown == 0 && self.was_used {
                sink.mark(Mark::StoppedDrained);
            }
        }
        self.copy = self.used_bytes(ground.mem)?;
        Ok(())
    }

    pub(super) fn layout(&self) -> &SplitLayout {
        &self.layout
    }

    /// From here on, which chains the device has is only counted.
    fn lose_track(&mut self, avail: u16, used: u16, sink: &mut Sink) {
        let size = self.layout.size;
        if avail != self.avail {
            sink.mark(Mark::ChainAvailable);
        }
        if used != self.used {
            sink.mark(Mark::ChainReturned);
        }
        if used.wrapping_sub(self.used) >= size {
            sink.mark(Mark::RingWrapped);
        }
        self.only_count(avail, used);
    }

    fn only_count(&mut self, avail: u16, used: u16) {
        self.out.clear();
        self.unknown = u32::from(avail.wrapping_sub(used).min(self.layout.size));
        self.offered.extend(0..self.layout.size);
        (self.avail, self.used) = (avail, used);
    }

    /// Whether the slots that were read cannot have been written since: neither published nor begun.
    fn are_intact(&self, avail: u16, used: u16, ground: &Ground) -> bool {
        let size = self.layout.size;
        let offered = avail.wrapping_sub(self.avail);
        let returned = used.wrapping_sub(self.used);
        let driver_may_write = avail.wrapping_sub(used) < size;
        let device_may_write = if ground.device_is_plain {
            returned == size && avail != used
        } else {
            // it may write elements for all that is available, and publish them later
            avail.wrapping_sub(self.used) > size
        };
        returned <= size && !device_may_write && (offered < size || offered == size && !driver_may_write)
    }

    fn slots(&self, mem: &dyn GuestAccess, from: u16, count: u16) -> Result<Vec<u16>, MemoryError> {
        (0..count)
            .map(|i| mem.load_u16(self.layout.avail_slot(from.wrapping_add(i)), Ordering::Relaxed))
            .collect()
    }

    fn elements(&self, mem: &dyn GuestAccess, from: u16, count: u16) -> Result<Vec<(u32, u32)>, MemoryError> {
        let element = |i: u16| {
            let at = self.layout.used_slot(from.wrapping_add(i));
            Ok((mem.read_u32(at)?, mem.read_u32(at + 4)?))
        };
        (0..count).map(element).collect()
    }

    /// With IN_ORDER: the chains that some elements return, in order. An error is the chain that is named before its turn; or
    /// nothing, if it is not known whose turn it is.
    fn unfold(&self, heads: &[Option<u16>], elements: &[(u32, u32)]) -> Result<Vec<Element>, Option<u32>> {
        let mut turns: Vec<Option<u16>> = vec![None; elements.len()];
        let known = self.out.iter().map(|(head, held)| (held.index, Some(*head)));
        let fresh = (0..).zip(heads).map(|(i, head)| (self.avail.wrapping_add(i), *head));
        for (index, head) in known.chain(fresh) {
            if let Some(turn) = turns.get_mut(usize::from(index.wrapping_sub(self.used))) {
                *turn = head;
            }
        }
        let mut all = Vec::with_capacity(elements.len());
        while let Some((id, length)) = elements.get(all.len()) {
            let rest = &turns[all.len()..];
            let is_it = |turn: &Option<u16>| turn.is_some_and(|head| u32::from(head) == *id);
            let Some(before) = rest.iter().position(is_it) else {
                let certain = rest.iter().all(Option::is_some);
                return Err(certain.then_some(*id));
            };
            if rest[..before].contains(&None) {
                return Err(None);
            }
            for (nth, head) in rest[..before].iter().flatten().enumerate() {
                let chain = self.out.get(head).and_then(|held| held.chain.as_ref());
                all.push(Element {
                    id: u32::from(*head),
                    // all of it was written
                    length: chain.map_or(0, |chain| chain.writable as u32),
                    // the element of the batch stands where its first chain's would
                    is_written: nth == 0,
                });
            }
            all.push(Element {
                id: *id,
                length: *length,
                is_written: before == 0,
            });
        }
        Ok(all)
    }

    /// Takes in what was made available and what was returned since the last look. Their order is not known, only that the
    /// two alternate for each chain.
    fn take_in(&mut self, ground: &Ground, sink: &mut Sink, heads: &[Option<u16>], elements: &[Element]) {
        let size = self.layout.size;
        let mut offers: BTreeMap<u16, (u32, u16)> = BTreeMap::new();
        for (i, head) in heads.iter().enumerate() {
            sink.mark(Mark::ChainAvailable);
            if ground.disabled {
                sink.mark(Mark::DisabledWaiting);
            }
            let Some(head) = head else {
                self.unknown += 1;
                continue;
            };
            if *head >= size {
                sink.see(&Sight::Offered {
                    id: *head,
                    size,
                    is_out: false,
                });
                self.unknown += 1;
                continue;
            }
            self.offered.insert(*head);
            let offer = offers.entry(*head).or_insert((0, 0));
            *offer = (offer.0 + 1, self.avail.wrapping_add(i as u16));
        }
        let wrapped = u32::from(self.used % size) + elements.len() as u32 >= u32::from(size);
        if wrapped && !elements.is_empty() {
            sink.mark(Mark::RingWrapped);
        }
        if u32::from(self.used) + elements.len() as u32 > u32::from(u16::MAX) {
            sink.mark(Mark::IndexWrapped);
        }
        for (i, element) in elements.iter().enumerate() {
            if !element.is_written {
                sink.mark(Mark::BatchReturned);
            }
            self.give_back(ground, sink, element.id, element.length, &mut offers);
            if let Some(log) = ground.used_log.filter(|_| element.is_written) {
                let slot = self.layout.used_slot(self.used.wrapping_add(i as u16)) - self.layout.used;
                sink.wrote(log.saturating_add(slot), 8, true);
                sink.wrote(log.saturating_add(2), 2, true);
            }
        }
        for (head, (count, index)) in offers {
            if count > 1 || self.out.contains_key(&head) {
                let id = head;
                sink.see(&Sight::Offered { id, size, is_out: true });
                // it comes back as often, which is no fault of the device
                self.unknown += count - u32::from(!self.out.contains_key(&head));
            }
            let held = Held {
                index,
                chain: None,
                logged: ground.is_logged,
                disabled: ground.disabled,
            };
            self.out.insert(head, held);
        }
    }

    fn give_back(
        &mut self,
        ground: &Ground,
        sink: &mut Sink,
        id: u32,
        length: u32,
        offers: &mut BTreeMap<u16, (u32, u16)>,
    ) {
        sink.mark(Mark::ChainReturned);
        let size = self.layout.size;
        let head = u16::try_from(id).ok().filter(|head| *head < size);
        let held = head.and_then(|head| self.out.remove(&head));
        let mut standing = Standing::Out;
        let mut disabled = ground.disabled;
        if let Some(held) = &held {
            let is_late = |other: &Held| is_before(other.index, held.index);
            if !sink.has(Mark::OutOfOrder) && self.out.values().any(is_late) {
                sink.mark(Mark::OutOfOrder);
            }
            disabled &= held.disabled;
        } else {
            let offer = head.and_then(|head| offers.get_mut(&head)).filter(|offer| offer.0 > 0);
            standing = match (offer, head) {
                // it came and went between two looks
                (Some(offer), _) => {
                    offer.0 -= 1;
                    Standing::Out
                }
                (None, _) if self.unknown > 0 => {
                    self.unknown -= 1;
                    disabled = false;
                    Standing::Unknown
                }
                (None, Some(head)) if self.offered.contains(&head) => Standing::Back,
                _ => Standing::Never,
            };
            if let Some(head) = head {
                offers.retain(|name, offer| *name != head || offer.0 > 0);
            }
        }
        let chain = held.as_ref().and_then(|held| held.chain.as_deref());
        if chain.is_some() {
            sink.mark(Mark::LengthJudged);
        }
        sink.see(&Sight::Returned {
            id,
            length,
            size,
            standing,
            chain,
            disabled,
            receives: ground.receives,
        });
        if let (Some(chain), Some(true)) = (chain, held.as_ref().map(|held| held.logged)) {
            chain
                .written(u64::from(length))
                .for_each(|(at, bytes)| sink.wrote(at, bytes, false));
        }
    }

    /// Reads the descriptors of chains that the device has, as long as it is certain that it has them.
    fn read_chains(&mut self, ground: &Ground, sink: &mut Sink, used: u16) -> Result<(), MemoryError> {
        let mem = ground.mem;
        let mut budget = Budget {
            descriptors: super::DESCRIPTORS_A_LOOK,
        };
        let unread: Vec<u16> = self
            .out
            .iter()
            .filter(|(_, held)| held.chain.is_none())
            .map(|(head, _)| *head)
            .collect();
        for head in unread {
            let read = chain::split(mem, &self.layout, head, ground.indirect, &mut budget)?;
            let Some(chain) = read else { return Ok(()) };
            let now = mem.load_u16(self.layout.used_idx(), Ordering::Acquire)?;
            let since = now.wrapping_sub(used);
            // it may have come back already, and the driver have used its descriptors again
            if since > 0 && (!ground.device_is_plain || since >= self.layout.size) {
                return Ok(());
            }
            let back = self.elements(mem, used, since)?;
            if back.iter().any(|(id, _)| *id == u32::from(head)) {
                continue;
            }
            sink.judge(&chain);
            if let Some(held) = self.out.get_mut(&head) {
                held.chain = Some(Box::new(chain));
            }
        }
        Ok(())
    }

    fn look_at_flags(&self, ground: &Ground, sink: &mut Sink, avail: u16, used: u16) -> Result<(), MemoryError> {
        let load = |at: u64| ground.mem.load_u16(at, Ordering::Relaxed);
        let (driver, device) = (load(self.layout.avail_flags())?, load(self.layout.used_flags())?);
        sink.see(&Sight::Flags {
            event_idx: ground.event_idx,
            packed: false,
            driver,
            device,
        });
        let (offered, returned) = (avail != self.avail, used != self.used);
        let (no_kicks, no_calls) = if ground.event_idx {
            let (kick_at, call_at) = (load(self.layout.avail_event())?, load(self.layout.used_event())?);
            if kick_at != 0 || call_at != 0 {
                sink.mark(Mark::EventIdxUsed);
            }
            (
                !event_passed(kick_at, avail, self.avail),
                !event_passed(call_at, used, self.used),
            )
        } else {
            (device & 1 != 0, driver & 1 != 0)
        };
        if offered && no_kicks {
            sink.mark(Mark::KicksSuppressed);
        }
        if returned && no_calls {
            sink.mark(Mark::CallsSuppressed);
        }
        Ok(())
    }

    fn used_bytes(&self, mem: &dyn GuestAccess) -> Result<Option<Vec<u8>>, MemoryError> {
        let length = SplitLayout::used_bytes(self.layout.size);
        if length > COPY_BYTES_MAX {
            return Ok(None);
        }
        let mut bytes = vec![0; length as usize];
        mem.read(self.layout.used, &mut bytes)?;
        Ok(Some(bytes))
    }
}

/// Of two places in the available ring that are less than half the index apart, whether the first comes first.
fn is_before(first: u16, second: u16) -> bool {
    let ahead = second.wrapping_sub(first);
    ahead != 0 && ahead < 0x8000
}
