//! Lanes at the device's side of a ring: a sink for what a driver transmits, a source that fills its receive ring.

use std::any::Any;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::credit::Credit;
use super::{BURST_MAX, BURSTS_A_STEP, Bell, Lane, NET_HEADER_BYTES, NUM_BUFFERS_AT, Pace, Progress, Scratch, Trouble};
use super::{Records, discard, hand_over};
use crate::memory::{DirtyLog, Reach};
use crate::ring::burst::{Chains, DeviceRing, Layout, TakenChain, Ticket};
use crate::ring::{PackedLayout, SplitLayout};
use crate::sys::shared::Place;
use crate::traffic::sink::Sink;
use crate::traffic::source::Source;

/// Bytes of the event suppression structure of a packed ring.
const PACKED_EVENT_BYTES: u64 = 4;

/// A device's ring as it is while it runs. It is made anew when ring or memory change.
#[derive(Debug)]
pub struct DevicePort<R> {
    /// The ring.
    pub ring: R,
    /// Memory.
    pub reach: Reach,
    /// What the driver signals.
    pub kick: Bell,
    /// What the driver waits on.
    pub call: Bell,
    /// The ring may have effects: otherwise nothing is put into it, and what comes out of it is discarded.
    pub enabled: bool,
    /// Where writes are noted.
    pub dirty: Option<Dirty>,
    /// Where it is recorded what is in hand.
    pub record: Records,
}

/// The dirty log of a front-end that is being migrated.
#[derive(Debug, Clone)]
pub struct Dirty {
    log: Arc<DirtyLog>,
    /// What the device writes of the ring itself, if that is to be noted: address and bytes.
    ring: Vec<(u64, u64)>,
}

impl Dirty {
    /// Notes writes to buffers, and to the ring that lies so.
    #[must_use]
    pub fn new(log: Arc<DirtyLog>, ring: Option<Layout>) -> Self {
        let ring = match ring {
            None => Vec::new(),
            Some(Layout::Split(layout)) => vec![(layout.used, SplitLayout::used_bytes(layout.size))],
            Some(Layout::Packed(layout)) => vec![
                (layout.ring, PackedLayout::ring_bytes(layout.size)),
                (layout.device_event, PACKED_EVENT_BYTES),
            ],
        };
        Self { log, ring }
    }

    fn mark(&self, place: &Place<'_>, bytes: usize) -> Result<(), Trouble> {
        Ok(self.log.mark(place.guest_address(), bytes as u64)?)
    }

    fn mark_ring(&self) -> Result<(), Trouble> {
        self.ring
            .iter()
            .try_for_each(|(address, bytes)| Ok(self.log.mark(*address, *bytes)?))
    }
}

impl<R: DeviceRing> DevicePort<R> {
    /// Shows the driver what was given.
    pub(super) fn publish(&mut self) -> Result<(), Trouble> {
        show(&mut self.ring, self.dirty.as_ref(), &self.call)
    }
}

/// Shows the driver what was given.
fn show(ring: &mut impl DeviceRing, dirty: Option<&Dirty>, call: &Bell) -> Result<(), Trouble> {
    ring.flush();
    if let Some(dirty) = dirty {
        dirty.mark_ring()?;
    }
    if ring.needs_call() { call.ring() } else { Ok(()) }
}

/// The packet in a chain's readable buffers; gives its bytes.
#[inline]
pub(super) fn gather(chain: &TakenChain<'_, '_>, into: &mut [u8]) -> usize {
    let mut bytes = 0;
    for place in chain.readable {
        bytes += place.copy_out(0, &mut into[bytes..]);
    }
    bytes
}

/// Writes a packet over buffers, from the first byte on; gives the bytes that fitted.
#[inline]
pub(super) fn scatter(places: &[Place<'_>], from: &[u8]) -> usize {
    let mut bytes = 0;
    for place in places {
        bytes += place.copy_in(0, &from[bytes..]);
    }
    bytes
}

/// Writes packets into the chains of a receive ring: each into one, or into several where the driver merges them.
#[derive(Debug, Clone, Default)]
pub(super) struct Writer {
    given: Vec<(Ticket, u32)>,
}

/// Notes what was written of some chains; a little more than that is as good.
pub(super) fn mark(dirty: &Dirty, chains: &Chains<'_>, first: usize, count: usize) -> Result<(), Trouble> {
    for chain in (first..first + count).filter_map(|at| chains.get(at)) {
        chain
            .writable
            .iter()
            .try_for_each(|place| dirty.mark(place, place.len()))?;
    }
    Ok(())
}

impl Writer {
    /// Writes `packet` into the chains from `first` on; gives how many it took, or none if there are too few.
    #[inline]
    pub(super) fn write(&mut self, chains: &Chains<'_>, first: usize, packet: &mut [u8]) -> Option<usize> {
        self.given.clear();
        let chain = chains.get(first)?;
        let room: usize = chain.writable.iter().map(|place| place.len()).sum();
        if room >= packet.len() {
            packet[NUM_BUFFERS_AT..NET_HEADER_BYTES].copy_from_slice(&1u16.to_le_bytes());
            scatter(chain.writable, packet);
            self.given.push((chain.ticket, packet.len() as u32));
            return Some(1);
        }
        self.write_several(chains, first, packet)
    }

    #[cold]
    fn write_several(&mut self, chains: &Chains<'_>, first: usize, packet: &mut [u8]) -> Option<usize> {
        let (mut room, mut count) = (0, 0u16);
        while room < packet.len() {
            let chain = chains.get(first + usize::from(count))?;
            room += chain.writable.iter().map(|place| place.len()).sum::<usize>();
            count += 1;
        }
        packet[NUM_BUFFERS_AT..NET_HEADER_BYTES].copy_from_slice(&count.to_le_bytes());
        let mut at = 0;
        for index in first..first + usize::from(count) {
            let chain = chains.get(index)?;
            let now = scatter(chain.writable, &packet[at..]);
            self.given.push((chain.ticket, now as u32));
            at += now;
        }
        Some(usize::from(count))
    }

    pub(super) fn given(&mut self) -> &mut Vec<(Ticket, u32)> {
        &mut self.given
    }

    pub(super) fn give<R: DeviceRing>(&mut self, ring: &mut R) {
        self.given.drain(..).for_each(|(ticket, len)| ring.give(ticket, len));
    }
}

/// Writes the header of a packet in one buffer. What stands there already is not written: its cache line stays with both.
#[inline]
fn write_header(buffer: Place<'_>) {
    /// num_buffers is 1, behind two bytes that are zero.
    const ONE_BUFFER: u32 = 1 << 16;
    if buffer.get_u64(0) != Some(0) {
        buffer.set_u64(0, 0);
    }
    if buffer.get_u32(8) != Some(ONE_BUFFER) {
        buffer.set_u32(8, ONE_BUFFER);
    }
}

/// A sink at the device's side of a transmit ring.
#[derive(Debug)]
pub struct DeviceReceiver<R> {
    /// The ring, while it runs.
    pub port: Option<DevicePort<R>>,
    sink: Sink,
    burst: usize,
    stamps: bool,
    /// What is verified, and what comes meanwhile.
    chains: [Chains<'static>; 2],
    has_caught_up: bool,
    scratch: Scratch,
    /// Whoever waits for what arrives on this stream.
    credit: Option<(Credit, u16)>,
}

impl<R: DeviceRing> DeviceReceiver<R> {
    /// Verifies what the driver transmits.
    #[must_use]
    pub fn new(port: Option<DevicePort<R>>, sink: Sink, burst: usize) -> Self {
        Self {
            port,
            sink,
            burst: burst.clamp(1, BURST_MAX),
            stamps: false,
            chains: Default::default(),
            has_caught_up: false,
            scratch: Scratch::new(),
            credit: None,
        }
    }

    /// Tells how far this stream has arrived.
    #[must_use]
    pub fn giving_credit(mut self, credit: Credit, stream: u16) -> Self {
        self.credit = Some((credit, stream));
        self
    }

    /// Reads the time each frame took from its stamp.
    #[must_use]
    pub fn stamped(mut self) -> Self {
        self.stamps = true;
        self
    }
}

impl<R: DeviceRing + std::fmt::Debug + Send + 'static> Lane for DeviceReceiver<R> {
    #[inline]
    fn step(&mut self, now: u64) -> Result<usize, Trouble> {
        let Some(port) = &mut self.port else { return Ok(0) };
        let [mut chains, mut coming] = std::mem::take(&mut self.chains).map(Chains::emptied);
        let bursts = if self.stamps { 1 } else { BURSTS_A_STEP };
        let now = if self.stamps { now } else { 0 };
        let mut moved = 0;
        let mut wrong = None;
        self.has_caught_up = false;
        for burst in 0..=bursts {
            let mut next = 0;
            if burst < bursts && !self.has_caught_up && wrong.is_none() {
                match port.ring.take(&port.reach, &mut coming, self.burst) {
                    Ok(taken) => next = taken,
                    Err(error) => wrong = Some(error.into()),
                }
                self.has_caught_up = next < self.burst;
                if next > 0 {
                    port.record.taken(&coming)?;
                }
            }
            for chain in chains.iter() {
                match chain.readable {
                    [packet] if port.enabled => {
                        self.sink
                            .take_place(*packet, NET_HEADER_BYTES, now, &mut self.scratch.0[..]);
                    }
                    _ => {
                        let bytes = gather(&chain, &mut self.scratch.0[..]);
                        let packet = &self.scratch.0[..bytes];
                        match port.enabled {
                            true => hand_over(&mut self.sink, packet, now),
                            false => discard(&mut self.sink, packet),
                        }
                    }
                }
                port.ring.give(chain.ticket, 0);
            }
            if !chains.is_empty() {
                let alarm = self.sink.alarm().map(Trouble::Frame);
                wrong = wrong.or(alarm);
                port.record.given(&chains, chains.len())?;
                show(&mut port.ring, port.dirty.as_ref(), &port.call)?;
                port.record.returned()?;
                moved += chains.len();
            }
            if next == 0 {
                break;
            }
            std::mem::swap(&mut chains, &mut coming);
        }
        self.chains = [chains, coming].map(Chains::emptied);
        if let Some((credit, stream)) = self.credit.as_ref().filter(|_| moved > 0) {
            credit.arrived(self.sink.next_of(*stream));
        }
        wrong.map_or(Ok(moved), Err)
    }

    fn has_caught_up(&self) -> bool {
        self.has_caught_up && !self.stamps
    }

    fn refuse_signals(&mut self) {
        if let Some(port) = &mut self.port {
            port.ring.refuse_kicks();
        }
    }

    fn ask_for_signals(&mut self) -> bool {
        self.port.as_mut().is_some_and(|port| port.ring.ask_for_kick())
    }

    fn wakes_on(&self) -> Vec<BorrowedFd<'_>> {
        self.port.iter().filter_map(|port| port.kick.fd()).collect()
    }

    fn progress(&self) -> Progress {
        Progress {
            received: self.sink.frames(),
            done: true,
            ..Progress::default()
        }
    }

    fn sink(&self) -> Option<&Sink> {
        Some(&self.sink)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// A source at the device's side of a receive ring.
#[derive(Debug)]
pub struct DeviceSender<R> {
    /// The ring, while it runs.
    pub port: Option<DevicePort<R>>,
    source: Source,
    pace: Pace,
    burst: usize,
    stamps: bool,
    /// The driver merges buffers (VIRTIO_NET_F_MRG_RXBUF): a frame may take several.
    merges: bool,
    /// Buffers looked at in one step where they are merged: more than a burst if a frame needs them.
    buffers: usize,
    chains: Chains<'static>,
    writer: Writer,
    scratch: Scratch,
    credit: Option<Credit>,
}

impl<R: DeviceRing> DeviceSender<R> {
    /// Fills the driver's buffers with what `source` makes.
    #[must_use]
    pub fn new(port: Option<DevicePort<R>>, source: Source, pace: Pace, burst: usize) -> Self {
        Self {
            port,
            source,
            pace,
            burst: burst.clamp(1, BURST_MAX),
            stamps: false,
            merges: false,
            buffers: burst.clamp(1, BURST_MAX),
            chains: Chains::new(),
            writer: Writer::default(),
            scratch: Scratch::new(),
            credit: None,
        }
    }

    /// Sends no more than this allows.
    #[must_use]
    pub fn keeping_to(mut self, credit: Credit) -> Self {
        self.credit = Some(credit);
        self
    }

    /// Stamps each frame with the time at which its burst was made.
    #[must_use]
    pub fn stamped(mut self) -> Self {
        self.stamps = true;
        self
    }

    /// Uses several buffers for a frame that does not fit into one.
    #[must_use]
    pub fn merging(mut self, merges: bool) -> Self {
        self.merges = merges;
        self
    }

    /// So many more than up to now.
    pub fn send_more(&mut self, frames: u64) {
        self.pace.limit = Some(self.pace.limit.unwrap_or_default() + frames);
    }

    /// Sends nothing more.
    pub fn stop(&mut self) {
        self.pace.stop(self.source.made());
    }
}

impl<R: DeviceRing + std::fmt::Debug + Send + 'static> Lane for DeviceSender<R> {
    #[inline]
    fn step(&mut self, now: u64) -> Result<usize, Trouble> {
        let Some(port) = self.port.as_mut().filter(|port| port.enabled) else {
            return Ok(0);
        };
        let made = self.source.made();
        let mut allowed = self.pace.allows(made, self.burst, now);
        if let Some(credit) = &self.credit {
            allowed = allowed.min(credit.left(made));
        }
        if allowed == 0 {
            return Ok(0);
        }
        let wanted = if self.merges { self.buffers } else { allowed };
        let mut chains = std::mem::take(&mut self.chains).emptied();
        let taken = port.ring.take(&port.reach, &mut chains, wanted)?;
        port.record.taken(&chains)?;
        let stamp = if self.stamps { now.max(1) } else { 0 };
        let (mut used, mut sent) = (0, 0);
        let mut wrong = None;
        while sent < allowed && used < taken {
            // made only when it is sure to go: a source does not take back
            let bytes = NET_HEADER_BYTES + self.source.next_len();
            if let Some((ticket, [buffer])) = chains.get(used).map(|chain| (chain.ticket, chain.writable))
                && buffer.len() >= bytes
            {
                write_header(*buffer);
                let scratch = &mut self.scratch.0[NET_HEADER_BYTES..];
                self.source.fill_place(*buffer, NET_HEADER_BYTES, stamp, scratch);
                if let Some(dirty) = &port.dirty {
                    mark(dirty, &chains, used, 1)?;
                }
                port.ring.give(ticket, bytes as u32);
                (used, sent) = (used + 1, sent + 1);
                continue;
            }
            let room = room_from(&chains, used, if self.merges { usize::MAX } else { 1 }, bytes);
            if room < bytes {
                if !self.merges || taken == usize::from(port.ring.size()) {
                    let seq = self.source.made();
                    wrong = Some(Trouble::NoRoom { seq, bytes, room });
                } else if used == 0 && taken == self.buffers {
                    self.buffers = (2 * self.buffers).min(usize::from(port.ring.size()));
                }
                break;
            }
            self.source.fill(&mut self.scratch.0[NET_HEADER_BYTES..], stamp);
            let written = self.writer.write(&chains, used, &mut self.scratch.0[..bytes]);
            let Some(count) = written else { break };
            if let Some(dirty) = &port.dirty {
                mark(dirty, &chains, used, count)?;
            }
            self.writer.give(&mut port.ring);
            (used, sent) = (used + count, sent + 1);
        }
        if used < taken {
            port.record.put_back(&chains, taken - used)?;
            port.ring.put_back(&chains, taken - used)?;
        }
        port.record.given(&chains, used)?;
        self.chains = chains.emptied();
        if used > 0 {
            port.publish()?;
            port.record.returned()?;
        }
        wrong.map_or(Ok(sent), Err)
    }

    fn refuse_signals(&mut self) {
        if let Some(port) = &mut self.port {
            port.ring.refuse_kicks();
        }
    }

    fn ask_for_signals(&mut self) -> bool {
        // with nothing to send, or while nothing more may be on its way, a buffer is nothing to do
        let made = self.source.made();
        let may = self.credit.as_ref().is_none_or(|credit| credit.left(made) > 0);
        may && !self.pace.is_done(made)
            && self.port.as_mut().is_some_and(|port| port.ring.ask_for_kick())
            && self.pace.due(made).is_none()
    }

    fn wakes_on(&self) -> Vec<BorrowedFd<'_>> {
        self.port.iter().filter_map(|port| port.kick.fd()).collect()
    }

    fn due(&self) -> Option<u64> {
        let made = self.source.made();
        let may = self.credit.as_ref().is_none_or(|credit| credit.left(made) > 0);
        self.pace.due(made).filter(|_| may && self.port.is_some())
    }

    fn progress(&self) -> Progress {
        let sent = self.source.made();
        Progress {
            sent,
            done: self.pace.is_done(sent),
            ..Progress::default()
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Bytes that fit into the chains from `first` on, `chains_max` at most, as soon as that is enough.
#[inline]
fn room_from(chains: &Chains<'_>, first: usize, chains_max: usize, enough: usize) -> usize {
    let mut room = 0;
    for index in (first..chains.len()).take(chains_max) {
        let Some(chain) = chains.get(index) else { break };
        room += chain.writable.iter().map(|place| place.len()).sum::<usize>();
        if room >= enough {
            break;
        }
    }
    room
}
