//! The rings of one link: when they run, where they lie, and what each look needs to know.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use super::mark::Mark;
use super::packed::{Packed, PackedLayout};
use super::rule::Sight;
use super::split::Split;
use super::{Found, Ground, Seen, Sink, Terms};
use crate::judge::monitor::look::{Facts, RingFacts, SETTLED_REPLIES};
use crate::judge::monitor::states::Postcopy;
use crate::judge::monitor::{Enable, Run, Setting};
use crate::memory::{
    DirtyLog, GuestAccess, Inflight, InflightFormat, LOG_PAGE_BYTES, MemRegionDesc, MemoryError, RegionTable,
};
use crate::ring::SplitLayout;
use crate::sys::clock::Moment;
use crate::trace::EventKind;
use crate::wire::features::{EVENT_IDX, IN_ORDER, INDIRECT_DESC, LOG_ALL, PROTOCOL_FEATURES, RING_PACKED};
use crate::wire::id::frontend as id;
use crate::wire::{Channel, MemRegion, Message, Party, Payload, ProtocolFeature, VringAddr};

/// Rings of a link that are looked at.
const RINGS_MAX: usize = 64;
/// Chains that may pass in a second, at most: more than any known back-end serves on one ring.
const CHAINS_A_SECOND: u64 = 40_000_000;
/// Findings of one look at all rings.
const FOUND_MAX: usize = 64;
/// VHOST_VRING_F_LOG.
const ADDRESS_LOGS: u32 = 1;

/// What is watched on a link.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) terms: Terms,
    memory: RegionTable,
    log: Option<DirtyLog>,
    /// What was in flight when the last back-end went.
    inflight: Option<Inflight>,
    /// Replies of the back-end when logging was turned on.
    log_since: Option<u64>,
    rings: BTreeMap<u32, Ring>,
    /// Rings of which the start was noticed, whether they could be watched or not.
    started: BTreeSet<u32>,
    /// Rings in the other byte order.
    swapped: BTreeSet<u32>,
}

#[derive(Debug)]
enum Kind {
    Split(Split),
    Packed(Packed),
}

/// A ring that runs, or that ran and is stopped.
#[derive(Debug)]
struct Ring {
    kind: Kind,
    address: VringAddr,
    is_stopped: bool,
    event_idx: bool,
    indirect: bool,
    in_order: bool,
    looked_at: Moment,
    /// What holds since before the last look.
    settled: Settled,
    /// The same, to be from the next look on.
    now: Settled,
    /// Replies of the back-end when the ring was disabled; none while it is enabled.
    disabled_since: Option<u64>,
    /// The same for the used ring's log flag.
    flag_since: Option<u64>,
    pages: BTreeSet<(u64, bool)>,
    seen: Seen,
}

/// States of the ring of which the back-end is certain to know.
#[derive(Debug, Clone, Copy, Default)]
struct Settled {
    is_logged: bool,
    used_log: Option<u64>,
    disabled: bool,
}

impl Watch {
    pub(super) fn is_watching(&self) -> bool {
        !self.rings.is_empty()
    }

    pub(super) fn seen(&self, ring: u32) -> Option<Seen> {
        let ring = self.rings.get(&ring)?;
        let is_followed = match &ring.kind {
            Kind::Split(_) => true,
            Kind::Packed(packed) => packed.is_followed(),
        };
        is_followed.then_some(ring.seen)
    }

    /// Maps what the front-end handed over. What cannot be mapped leaves a gap, in which nothing is looked at.
    pub(super) fn take_files(&mut self, message: &Message, files: Vec<OwnedFd>, facts: &Facts) {
        match (message.request, &message.payload) {
            (id::SET_MEM_TABLE, Payload::MemTable(table)) => {
                self.memory.clear();
                if files.len() == table.regions.len() {
                    for (region, file) in table.regions.iter().zip(files) {
                        self.map(region, file);
                    }
                }
            }
            (id::ADD_MEM_REG, Payload::MemReg(reg)) => {
                if let Some(file) = files.into_iter().next() {
                    self.map(&reg.region, file);
                }
            }
            (id::SET_LOG_BASE, Payload::Log(log)) => {
                let file = files.into_iter().next();
                self.log = file.and_then(|file| DirtyLog::map_to_look(file, log.offset, log.size).ok());
                self.log_since = None;
                self.rings.values_mut().for_each(|ring| ring.pages.clear());
            }
            (id::SET_INFLIGHT_FD, Payload::Inflight(area)) => {
                let (queues, size) = (area.num_queues, area.queue_size);
                let format = match facts.has_bits(RING_PACKED) {
                    false => InflightFormat::Split,
                    true => InflightFormat::Packed,
                };
                let map = |file| Inflight::map_to_look(file, format, area.mmap_offset, area.mmap_size, queues, size);
                self.inflight = files.into_iter().next().and_then(|file| map(file).ok());
            }
            _ => {}
        }
    }

    fn map(&mut self, region: &MemRegion, file: OwnedFd) {
        let desc = MemRegionDesc {
            guest_address: region.guest_address,
            size: region.size,
            user_address: region.user_address,
            mmap_offset: region.mmap_offset,
        };
        // a hole in the table: rings and buffers there are not judged, and nothing else is lost
        if region.xen.is_some() || self.memory.map_to_look(desc, file).is_err() {
            self.memory.clear();
        }
    }

    /// Takes in an event after the monitor has.
    pub(super) fn event(
        &mut self,
        kind: &EventKind,
        facts: &Facts,
        now: Moment,
        marks: &mut BTreeSet<Mark>,
    ) -> Vec<Found> {
        let mut found = Vec::new();
        match kind {
            EventKind::Connected { .. } => {
                let terms = self.terms;
                *self = Self {
                    terms,
                    ..Self::default()
                };
            }
            EventKind::Closed {
                channel: Channel::Main, ..
            }
            | EventKind::Malformed { .. } => self.rings.clear(),
            EventKind::Message {
                from,
                message,
                scripted,
                ..
            } if message.channel == Channel::Main => {
                match (message.request, &message.payload) {
                    // it says what the script wants, and not where the ring stands
                    (_, Payload::VringBase(base)) if message.is_reply() && *scripted => {
                        self.rings.remove(&base.index);
                    }
                    (id::GET_VRING_BASE | id::GET_VRING_BASE_SKIP_DRAIN, Payload::VringBase(base))
                        if message.is_reply() && *from == Party::BackEnd =>
                    {
                        let may_leave = message.request == id::GET_VRING_BASE_SKIP_DRAIN
                            || facts.has(ProtocolFeature::GetVringBaseInflight);
                        self.stop(base.index, base.indices, may_leave, facts, &mut found, marks);
                    }
                    (id::SET_VRING_ENDIAN, Payload::VringState(state)) if state.num != 0 => {
                        self.rings.remove(&state.index);
                        if facts.rings.contains_key(&state.index) {
                            self.swapped.insert(state.index);
                        }
                    }
                    (id::REM_MEM_REG, Payload::MemReg(reg)) if !message.is_reply() => {
                        let MemRegion {
                            guest_address,
                            size,
                            user_address,
                            ..
                        } = reg.region;
                        // one that is not there is the monitor's affair
                        let _ = self.memory.remove(guest_address, size, user_address);
                    }
                    _ => {}
                }
                let changes = [id::SET_MEM_TABLE, id::ADD_MEM_REG, id::REM_MEM_REG];
                if changes.contains(&message.request) && !message.is_reply() && self.rings.values().any(Ring::runs) {
                    marks.insert(Mark::MemoryReplaced);
                }
                self.follow(facts, now, marks);
            }
            _ => {}
        }
        found
    }

    /// Gives up rings that have a part in this range.
    pub(super) fn disturbed(&mut self, address: u64, bytes: u64) {
        let touches = |(start, length): (u64, u64)| {
            start < address.saturating_add(bytes) && address < start.saturating_add(length)
        };
        self.rings.retain(|_, ring| !ring.parts().into_iter().any(touches));
    }

    /// Looks at all rings.
    pub(super) fn look(&mut self, now: Moment, marks: &mut BTreeSet<Mark>) -> Vec<Found> {
        let mut found = Vec::new();
        let (terms, memory, log) = (self.terms, &self.memory, self.log.as_ref());
        self.rings.retain(|index, ring| {
            let keep = ring.look(*index, memory, terms, now, &mut found, marks);
            if let Some(log) = log {
                ring.look_at_log(log, marks);
            }
            // memory that was truncated or unplugged under the ring is no concern of the ring
            keep.unwrap_or(false)
        });
        found.truncate(FOUND_MAX);
        found
    }

    /// Brings the rings to where the messages say that they are.
    pub(super) fn follow(&mut self, facts: &Facts, now: Moment, marks: &mut BTreeSet<Mark>) {
        if is_blind(facts) {
            self.rings.clear();
            self.started.extend(facts.rings.keys());
            return;
        }
        if facts.has_bits(LOG_ALL) && self.log.is_some() {
            note(&mut self.log_since, true, facts);
        } else {
            self.log_since = None;
        }
        let settled = |since: Option<u64>| since.is_some_and(|since| facts.back_replies >= since + SETTLED_REPLIES);
        let is_logged = settled(self.log_since);
        for (index, state) in &facts.rings {
            self.follow_run(*index, state, facts, now, marks);
            let Some(ring) = self.rings.get_mut(index) else {
                continue;
            };
            note(&mut ring.flag_since, ring.address.flags & ADDRESS_LOGS != 0, facts);
            // without bit 30 rings have no such state
            let disabled = state.enable == Enable::Disabled && facts.has_bits(PROTOCOL_FEATURES);
            note(&mut ring.disabled_since, disabled, facts);
            ring.now = Settled {
                is_logged,
                used_log: (is_logged && settled(ring.flag_since)).then_some(ring.address.log),
                disabled: settled(ring.disabled_since),
            };
            // what does not hold any more does not for the chains under way either
            ring.settled.disabled &= disabled;
            ring.settled.is_logged &= is_logged;
            ring.settled.used_log = ring.settled.used_log.and(ring.now.used_log);
        }
        self.rings.retain(|index, _| facts.rings.contains_key(index));
    }

    /// Begins to watch a ring that was started, and gives up one that is not where it was.
    fn follow_run(&mut self, index: u32, state: &RingFacts, facts: &Facts, now: Moment, marks: &mut BTreeSet<Mark>) {
        let runs = self.rings.get(&index).map(Ring::runs);
        if state.is_unknown || state.run == Run::Unknown || state.run == Run::Stopped && runs == Some(true) {
            self.rings.remove(&index);
        }
        if !matches!(state.run, Run::Started | Run::Stopping) {
            self.started.remove(&index);
            return;
        }
        let is_new = state.run == Run::Started && self.started.insert(index);
        if !is_new {
            // the front-end may move a ring that runs, or the memory that it lies in
            if let Some(ring) = self.rings.get_mut(&index)
                && ring.follow_place(state, facts, &self.memory).is_none()
            {
                self.rings.remove(&index);
            }
            return;
        }
        let was_stopped = self.rings.remove(&index).is_some_and(|ring| ring.is_stopped);
        if self.rings.len() < RINGS_MAX
            && !self.swapped.contains(&index)
            && let Some(ring) = Ring::start(
                state,
                facts,
                self.terms,
                (&self.memory, self.inflight.as_ref().map(|area| (area, index))),
                now,
            )
        {
            marks.insert(match ring.kind {
                Kind::Split(_) => Mark::SplitRing,
                Kind::Packed(_) => Mark::PackedRing,
            });
            if was_stopped {
                marks.insert(Mark::Restarted);
            }
            self.rings.insert(index, ring);
        }
    }

    fn stop(
        &mut self,
        index: u32,
        indices: u32,
        may_leave: bool,
        facts: &Facts,
        found: &mut Vec<Found>,
        marks: &mut BTreeSet<Mark>,
    ) {
        let certain = facts
            .rings
            .get(&index)
            .is_some_and(|ring| ring.run == Run::Stopped && !ring.is_unknown);
        let Some(ring) = self.rings.get_mut(&index).filter(|ring| ring.runs()) else {
            return;
        };
        ring.is_stopped = true;
        if is_blind(facts) || !certain {
            self.rings.remove(&index);
            return;
        }
        let pages = std::mem::take(&mut ring.pages);
        let mut sink = Sink {
            ring: index,
            found,
            marks,
            pages: &mut ring.pages,
            seen: &mut ring.seen,
        };
        // whoever stops a ring has to have logged what it did there; a front-end that moves house has taken the marks meanwhile
        if let Some(log) = self
            .log
            .as_ref()
            .filter(|_| self.log_since.is_some() && self.terms.driver_is_ours)
        {
            for (page, used) in pages {
                let address = page * LOG_PAGE_BYTES;
                if log.is_marked(address) {
                    sink.mark(Mark::PagesLogged);
                } else {
                    sink.see(&Sight::Unlogged { address, used });
                }
            }
        }
        let ground = Ground {
            event_idx: ring.event_idx,
            indirect: ring.indirect,
            in_order: ring.in_order,
            ..ring.settled.ground(&self.memory, self.terms, index)
        };
        let there = match &mut ring.kind {
            Kind::Split(split) => split.stop(indices as u16, may_leave, &ground, &mut sink),
            Kind::Packed(packed) => {
                packed.stop(indices, may_leave, &mut sink);
                Ok(())
            }
        };
        if there.is_err() {
            self.rings.remove(&index);
        }
    }
}

/// Whether where things stand is not certain, or memory must not be touched or cannot be addressed.
fn is_blind(facts: &Facts) -> bool {
    facts.is_lost
        || facts.is_uncertain
        || facts.negotiation_is_uncertain
        || !facts.regions_known
        // a look at a page that has not come yet would make it an empty one
        || facts.postcopy != Postcopy::Off
        || facts.translated() != Some(false)
}

/// Notes when a state of which the back-end has to be told began, in replies: those to what was asked before still come.
fn note(since: &mut Option<u64>, holds: bool, facts: &Facts) {
    *since = if holds {
        let before = facts.queue(Channel::Main).owed().count() as u64;
        since.or(Some(facts.back_replies + before))
    } else {
        None
    };
}

impl Settled {
    fn ground<'a>(self, mem: &'a dyn GuestAccess, terms: Terms, index: u32) -> Ground<'a> {
        Ground {
            mem,
            event_idx: false,
            indirect: false,
            in_order: false,
            is_fresh: true,
            is_logged: self.is_logged,
            used_log: self.used_log,
            disabled: self.disabled,
            receives: terms.is_net && index.is_multiple_of(2),
            driver_is_plain: terms.driver_is_ours,
            device_is_plain: terms.device_is_plain,
            driver_is_quiet: terms.driver_is_ours,
        }
    }
}

impl Ring {
    /// None if the ring is not configured or does not lie in memory.
    fn start(
        state: &RingFacts,
        facts: &Facts,
        terms: Terms,
        (memory, inflight): (&RegionTable, Option<(&Inflight, u32)>),
        now: Moment,
    ) -> Option<Self> {
        let address = state.address?;
        let base = state.base.unwrap_or(0);
        // of what is recorded in it nothing holds before a back-end has begun to
        let inflight = inflight
            .and_then(|(area, index)| Some((area, u16::try_from(index).ok()?)))
            .filter(|(area, index)| area.is_begun(*index) == Ok(true));
        let kind = match place(&address, state, facts, memory)? {
            Place::Split(layout) => {
                let used = memory
                    .load_u16(layout.used_idx(), std::sync::atomic::Ordering::Acquire)
                    .ok()?;
                let left = inflight.and_then(|(area, index)| match area {
                    Inflight::Split(area) => area.left_by_crash(index, used).ok(),
                    Inflight::Packed(_) => None,
                });
                Kind::Split(match left {
                    Some(left) => Split::take_over(layout, &left, memory).ok()?,
                    None => Split::start(layout, base as u16, memory).ok()?,
                })
            }
            Place::Packed(layout) => {
                let may_be_half = terms.profile.puts_up_with(Setting::PackedStartHalf);
                let left = inflight.and_then(|(area, index)| match area {
                    Inflight::Split(_) => None,
                    Inflight::Packed(area) => layout.left_by_crash(area, index, memory),
                });
                Kind::Packed(match left {
                    Some(left) => Packed::take_over(layout, &left, memory).ok()?,
                    None => Packed::start(layout, base, may_be_half, memory).ok()?,
                })
            }
        };
        Some(Self {
            kind,
            address,
            is_stopped: false,
            event_idx: facts.has_bits(EVENT_IDX),
            indirect: facts.has_bits(INDIRECT_DESC),
            in_order: facts.has_bits(IN_ORDER),
            looked_at: now,
            settled: Settled::default(),
            now: Settled::default(),
            // the back-end need not be told of what was never otherwise
            disabled_since: (state.enable == Enable::Disabled && !state.ever_enabled).then_some(0),
            flag_since: None,
            pages: BTreeSet::new(),
            seen: Seen::default(),
        })
    }

    /// Where its three parts lie: guest addresses and bytes.
    fn parts(&self) -> [(u64, u64); 3] {
        match &self.kind {
            Kind::Split(split) => {
                let SplitLayout {
                    size,
                    desc,
                    avail,
                    used,
                } = *split.layout();
                [
                    (desc, SplitLayout::desc_bytes(size)),
                    (avail, SplitLayout::avail_bytes(size)),
                    (used, SplitLayout::used_bytes(size)),
                ]
            }
            Kind::Packed(packed) => {
                let PackedLayout {
                    size,
                    ring,
                    driver,
                    device,
                } = *packed.layout();
                [(ring, 16 * u64::from(size)), (driver, 4), (device, 4)]
            }
        }
    }

    fn runs(&self) -> bool {
        !self.is_stopped
    }

    /// Goes on with a ring that runs where it lies now. None if it cannot be told how far it is there.
    fn follow_place(&mut self, state: &RingFacts, facts: &Facts, memory: &RegionTable) -> Option<()> {
        self.address = state.address?;
        match (&self.kind, place(&self.address, state, facts, memory)?) {
            (Kind::Split(split), Place::Split(layout)) if *split.layout() == layout => Some(()),
            (Kind::Packed(packed), Place::Packed(layout)) if *packed.layout() == layout => Some(()),
            (Kind::Split(_), Place::Split(layout)) => {
                self.kind = Kind::Split(Split::resume(layout, memory).ok()??);
                Some(())
            }
            _ => None,
        }
    }

    /// Looks which of the pages that were written are marked, before a front-end takes the marks away.
    fn look_at_log(&mut self, log: &DirtyLog, marks: &mut BTreeSet<Mark>) {
        self.pages.retain(|(page, used)| {
            let is_marked = log.is_marked(page * LOG_PAGE_BYTES);
            if is_marked {
                marks.insert(Mark::PagesLogged);
                self.seen.logged += u64::from(!used);
            }
            !is_marked
        });
    }

    /// False if it is not worth looking any more.
    fn look(
        &mut self,
        index: u32,
        memory: &RegionTable,
        terms: Terms,
        now: Moment,
        found: &mut Vec<Found>,
        marks: &mut BTreeSet<Mark>,
    ) -> Result<bool, MemoryError> {
        let size = match &self.kind {
            Kind::Split(split) => split.layout().size,
            Kind::Packed(packed) => packed.layout().size,
        };
        let round = match &self.kind {
            Kind::Split(_) => 0x1_0000 - u64::from(size),
            Kind::Packed(_) => 2 * u64::from(size),
        };
        let age_ns = now.ns.saturating_sub(self.looked_at.ns);
        let ground = Ground {
            event_idx: self.event_idx,
            indirect: self.indirect,
            in_order: self.in_order,
            is_fresh: terms.is_paced || age_ns < round * 1_000_000_000 / CHAINS_A_SECOND,
            ..self.settled.ground(memory, terms, index)
        };
        let mut sink = Sink {
            ring: index,
            found,
            marks,
            pages: &mut self.pages,
            seen: &mut self.seen,
        };
        let keep = match (&mut self.kind, self.is_stopped) {
            (Kind::Split(split), false) => split.look(&ground, &mut sink).map(|()| true),
            (Kind::Packed(packed), false) => packed.look(&ground, &mut sink).map(|()| true),
            (Kind::Split(split), true) => split.look_stopped(&ground, &mut sink),
            (Kind::Packed(packed), true) => packed.look_stopped(&ground, &mut sink),
        };
        self.looked_at = now;
        self.settled = self.now;
        keep
    }
}

enum Place {
    Split(SplitLayout),
    Packed(PackedLayout),
}

/// Where a ring lies in guest memory.
fn place(address: &VringAddr, state: &RingFacts, facts: &Facts, memory: &RegionTable) -> Option<Place> {
    let size = u16::try_from(state.size?).ok()?;
    let guest = |address: u64| {
        if facts.has(ProtocolFeature::GpaAddresses) {
            Some(address)
        } else {
            memory.user_to_guest(address).ok()
        }
    };
    let (ring, driver, device) = (
        guest(address.descriptor)?,
        guest(address.available)?,
        guest(address.used)?,
    );
    Some(match facts.packed()? {
        false => Place::Split(SplitLayout {
            size,
            desc: ring,
            avail: driver,
            used: device,
        }),
        true => Place::Packed(PackedLayout {
            size,
            ring,
            driver,
            device,
        }),
    })
}
