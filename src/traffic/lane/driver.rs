//! Lanes at the driver's side of a ring: a source that transmits, a sink that receives.

use std::any::Any;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use super::credit::Credit;
use super::{BURST_MAX, Bell, Lane, NET_HEADER_BYTES, NUM_BUFFERS_AT, Pace, Progress, Scratch, Trouble};
use super::{hand_over, hand_over_place};
use crate::memory::Reach;
use crate::ring::Buffer;
use crate::ring::burst::{Done, DriverRing};
use crate::traffic::frame::FRAME_BYTES_MIN;
use crate::traffic::sink::Sink;
use crate::traffic::source::Source;

/// Buffers of equal size, one after the other in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arena {
    /// Guest address of the first.
    pub base: u64,
    /// Bytes from one to the next.
    pub stride: u32,
    /// How many.
    pub count: u32,
}

impl Arena {
    /// Bytes of all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.stride) * u64::from(self.count)
    }

    /// Guest address of one.
    pub(super) fn at(&self, index: u32) -> u64 {
        self.base + u64::from(index) * u64::from(self.stride)
    }
}

/// A driver's ring with its buffers and eventfds.
#[derive(Debug)]
pub struct DriverPort<R> {
    /// The ring.
    pub ring: R,
    /// Memory.
    pub reach: Reach,
    /// Where its buffers are.
    pub arena: Arena,
    /// What the device waits on.
    pub kick: Bell,
    /// What the device signals.
    pub call: Bell,
    /// A kick is due whatever the device says: it is new.
    pub owes_kick: bool,
}

impl<R: DriverRing> DriverPort<R> {
    fn publish(&mut self) -> Result<(), Trouble> {
        self.ring.publish();
        // asked in any case: what was published before counts from here on
        let needed = self.ring.needs_kick();
        if needed || self.owes_kick {
            self.owes_kick = false;
            self.kick.ring()?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Trouble> {
        if self.owes_kick { self.publish() } else { Ok(()) }
    }
}

/// A source at the driver's side of a transmit ring.
#[derive(Debug)]
pub struct DriverSender<R> {
    /// The ring.
    pub port: DriverPort<R>,
    source: Source,
    pace: Pace,
    burst: usize,
    stamps: bool,
    free: VecDeque<u32>,
    done: Vec<Done>,
    scratch: Scratch,
    returned: u64,
    credit: Option<Credit>,
}

impl<R: DriverRing> DriverSender<R> {
    /// Sends what `source` makes, in bursts of at most so many.
    #[must_use]
    pub fn new(port: DriverPort<R>, source: Source, pace: Pace, burst: usize) -> Self {
        let count = port.arena.count.min(u32::from(port.ring.size()));
        // the header is the same for all and never written again
        for index in 0..count {
            if let Some(place) = port.reach.place(port.arena.at(index), NET_HEADER_BYTES as u32) {
                place.copy_in(0, &[0; NET_HEADER_BYTES]);
            }
        }
        Self {
            port,
            source,
            pace,
            burst: burst.clamp(1, BURST_MAX),
            stamps: false,
            free: (0..count).collect(),
            done: vec![Done::default(); BURST_MAX],
            scratch: Scratch::new(),
            returned: 0,
            credit: None,
        }
    }

    /// Sends no more than this allows.
    pub fn keep_to(&mut self, credit: Credit) {
        self.credit = Some(credit);
    }

    /// Stamps each frame with the time at which its burst was made.
    #[must_use]
    pub fn stamped(mut self) -> Self {
        self.stamps = true;
        self
    }

    /// So many more than up to now.
    pub fn send_more(&mut self, frames: u64) {
        self.pace.limit = Some(self.pace.limit.unwrap_or_default() + frames);
    }

    /// Takes back all buffers that the device has returned by now, and sends nothing.
    pub fn settle(&mut self) -> Result<(), Trouble> {
        // once around the ring at most
        for _ in 0..=self.port.ring.size() {
            if self.reap()? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Its ring and buffers, all of which have come back.
    #[must_use]
    pub fn into_port(self) -> DriverPort<R> {
        self.port
    }

    /// Sends nothing more.
    pub fn stop(&mut self) {
        self.pace.stop(self.source.made());
    }

    /// Whether buffers that come back are of use: to send more, or to learn that all is over.
    fn wants_buffers(&self) -> bool {
        self.free.len() < self.burst || self.pace.is_done(self.source.made())
    }

    /// Asks for the line of the frame that is written a burst later: who has read it still has it.
    #[inline]
    fn ask_ahead(&self, count: usize) {
        if let Some(index) = self.free.get(count)
            && let Some(place) = self
                .port
                .reach
                .place(self.port.arena.at(*index), self.port.arena.stride)
            && let Some(frame) = place.part(NET_HEADER_BYTES, FRAME_BYTES_MIN.min(place.len() - NET_HEADER_BYTES))
        {
            frame.prefetch_write();
        }
    }

    fn reap(&mut self) -> Result<usize, Trouble> {
        let reaped = self.port.ring.reap(&mut self.done)?;
        self.free.extend(self.done[..reaped].iter().map(|done| done.token));
        self.returned += reaped as u64;
        Ok(reaped)
    }
}

impl<R: DriverRing + std::fmt::Debug + Send + 'static> Lane for DriverSender<R> {
    #[inline]
    fn step(&mut self, now: u64) -> Result<usize, Trouble> {
        let made = self.source.made();
        let mut moved = 0;
        // reading the used ring takes a cache line from the device: not before it is needed
        if self.wants_buffers() {
            moved += self.reap()?;
        }
        let mut allowed = self.pace.allows(made, self.burst, now);
        if let Some(credit) = &self.credit {
            allowed = allowed.min(credit.left(made));
        }
        let count = allowed.min(self.free.len()).min(usize::from(self.port.ring.free()));
        if count == 0 {
            self.port.settle()?;
            return Ok(moved);
        }
        let stamp = if self.stamps { now.max(1) } else { 0 };
        for _ in 0..count {
            let Some(index) = self.free.pop_front() else { break };
            self.ask_ahead(count);
            let address = self.port.arena.at(index);
            let seq = self.source.made();
            let bytes = (NET_HEADER_BYTES + self.source.next_len()) as u32;
            let place = self.port.reach.place(address, bytes);
            let Some(place) = place.filter(|_| bytes <= self.port.arena.stride) else {
                let room = self.port.arena.stride as usize;
                let bytes = bytes as usize;
                return Err(Trouble::NoRoom { seq, bytes, room });
            };
            let scratch = &mut self.scratch.0[..];
            self.source.fill_place(place, NET_HEADER_BYTES, stamp, scratch);
            self.port.ring.add(index, Buffer::readable(address, bytes))?;
        }
        self.port.publish()?;
        Ok(moved + count)
    }

    fn refuse_signals(&mut self) {
        self.port.ring.refuse_calls();
    }

    fn ask_for_signals(&mut self) -> bool {
        if !self.wants_buffers() {
            // one that comes back is nothing to do: it is left where it is until it is needed
            self.port.ring.refuse_calls();
            return false;
        }
        self.port.ring.ask_for_call()
    }

    fn wakes_on(&self) -> Vec<BorrowedFd<'_>> {
        self.port.call.fd().into_iter().collect()
    }

    fn due(&self) -> Option<u64> {
        // without a free buffer it is the device that has to do something
        self.pace.due(self.source.made()).filter(|_| !self.free.is_empty())
    }

    fn progress(&self) -> Progress {
        let sent = self.source.made();
        Progress {
            sent,
            outstanding: sent - self.returned,
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

/// A sink at the driver's side of a receive ring.
#[derive(Debug)]
pub struct DriverReceiver<R> {
    /// The ring.
    pub port: DriverPort<R>,
    sink: Sink,
    burst: usize,
    stamps: bool,
    /// Buffers to be given to the ring, in order.
    free: VecDeque<u32>,
    done: Vec<Done>,
    scratch: Scratch,
    /// Bytes in the scratch and buffers still to come of a packet that takes several.
    part: (usize, u16),
    /// Whoever waits for what arrives on this stream.
    credit: Option<(Credit, u16)>,
    merged: u64,
}

impl<R: DriverRing> DriverReceiver<R> {
    /// Gives all buffers to the ring and verifies what comes in them.
    #[must_use]
    pub fn new(port: DriverPort<R>, sink: Sink, burst: usize) -> Self {
        let count = port.arena.count.min(u32::from(port.ring.size()));
        Self {
            port,
            sink,
            burst: burst.clamp(1, BURST_MAX),
            stamps: false,
            free: (0..count).collect(),
            done: vec![Done::default(); BURST_MAX],
            scratch: Scratch::new(),
            part: (0, 0),
            credit: None,
            merged: 0,
        }
    }

    /// Tells how far this stream has arrived.
    pub fn give_credit(&mut self, credit: Credit, stream: u16) {
        self.credit = Some((credit, stream));
    }

    /// Reads the time each frame took from its stamp.
    #[must_use]
    pub fn stamped(mut self) -> Self {
        self.stamps = true;
        self
    }

    /// Verifies other streams from now on.
    pub fn exchange(&mut self, sink: Sink, burst: usize, stamps: bool) {
        (self.sink, self.burst, self.stamps) = (sink, burst.clamp(1, BURST_MAX), stamps);
        self.credit = None;
        self.merged = 0;
    }

    fn post(&mut self) -> Result<bool, Trouble> {
        let mut posted = false;
        while self.port.ring.free() > 0
            && let Some(index) = self.free.pop_front()
        {
            let address = self.port.arena.at(index);
            self.port
                .ring
                .add(index, Buffer::writable(address, self.port.arena.stride))?;
            posted = true;
        }
        if posted || self.port.owes_kick {
            self.port.publish()?;
        }
        Ok(posted)
    }

    /// One buffer, which is a packet or a part of one.
    #[inline]
    fn arrived(&mut self, done: Done, now: u64) -> Result<(), Trouble> {
        let (had, left) = self.part;
        let length = done.len.min(self.port.arena.stride) as usize;
        if self.part == (0, 0)
            && let Some(packet) = self.port.reach.place(self.port.arena.at(done.token), length as u32)
            && matches!(packet.get_u16(NUM_BUFFERS_AT), Some(0 | 1))
        {
            return hand_over_place(&mut self.sink, packet, &mut self.scratch, now);
        }
        let take = length.min(self.scratch.0.len() - had);
        let address = self.port.arena.at(done.token);
        if let Some(place) = self.port.reach.place(address, take as u32) {
            place.copy_out(0, &mut self.scratch.0[had..had + take]);
        }
        let bytes = had + take;
        let left = match left {
            0 => self.further_buffers(bytes)?,
            left => left - 1,
        };
        if left > 0 {
            self.part = (bytes, left);
            return Ok(());
        }
        self.merged += u64::from(had > 0);
        self.part = (0, 0);
        hand_over(&mut self.sink, &self.scratch.0[..bytes], now)
    }

    /// Buffers that a packet takes besides its first.
    #[inline]
    fn further_buffers(&self, bytes: usize) -> Result<u16, Trouble> {
        if bytes < NET_HEADER_BYTES {
            return Ok(0);
        }
        let said = [self.scratch.0[NUM_BUFFERS_AT], self.scratch.0[NUM_BUFFERS_AT + 1]];
        match u16::from_le_bytes(said) {
            // 0 is what a device leaves there that did not negotiate MRG_RXBUF
            0 | 1 => Ok(0),
            buffers if buffers <= self.port.ring.size() => Ok(buffers - 1),
            buffers => Err(Trouble::Buffers {
                buffers,
                most: self.port.ring.size(),
            }),
        }
    }
}

impl<R: DriverRing + std::fmt::Debug + Send + 'static> DriverReceiver<R> {
    /// Takes in all frames that the device has written by now.
    pub fn settle(&mut self) -> Result<(), Trouble> {
        // once around the ring at most
        for _ in 0..=self.port.ring.size() {
            if self.step(0)? == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl<R: DriverRing + std::fmt::Debug + Send + 'static> Lane for DriverReceiver<R> {
    #[inline]
    fn step(&mut self, now: u64) -> Result<usize, Trouble> {
        let mut done = std::mem::take(&mut self.done);
        let reaped = self.port.ring.reap(&mut done[..self.burst]);
        let now = if self.stamps { now } else { 0 };
        let mut wrong = None;
        for done in &done[..*reaped.as_ref().unwrap_or(&0)] {
            if let (Err(trouble), None) = (self.arrived(*done, now), &wrong) {
                wrong = Some(trouble);
            }
            self.free.push_back(done.token);
        }
        self.done = done;
        let reaped = reaped?;
        if let Some((credit, stream)) = &self.credit {
            credit.arrived(self.sink.next_of(*stream));
        }
        if reaped > 0 || self.port.owes_kick || !self.free.is_empty() {
            self.post()?;
        }
        wrong.map_or(Ok(reaped), Err)
    }

    fn refuse_signals(&mut self) {
        self.port.ring.refuse_calls();
    }

    fn ask_for_signals(&mut self) -> bool {
        self.port.ring.ask_for_call()
    }

    fn wakes_on(&self) -> Vec<BorrowedFd<'_>> {
        self.port.call.fd().into_iter().collect()
    }

    fn progress(&self) -> Progress {
        Progress {
            received: self.sink.frames(),
            merged: self.merged,
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
