//! Lanes at the driver's side of a ring: a source that transmits, a sink that receives.

use std::any::Any;
use std::os::fd::BorrowedFd;

use super::credit::Credit;
use super::hand_over;
use super::{BURST_MAX, BURSTS_A_STEP, Bell, Lane, NET_HEADER_BYTES, NUM_BUFFERS_AT, Pace, Progress, Scratch, Trouble};
use crate::memory::{Near, Reach};
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
    #[inline(always)]
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

/// Buffers that are free, first in, first out.
#[derive(Debug)]
struct Free {
    ring: Box<[u32]>,
    first: u32,
    end: u32,
}

impl Free {
    /// As many as there ever are.
    fn all(count: u32) -> Self {
        Self {
            ring: (0..count.next_power_of_two()).collect(),
            first: 0,
            end: count,
        }
    }

    fn len(&self) -> usize {
        self.end.wrapping_sub(self.first) as usize
    }

    fn is_empty(&self) -> bool {
        self.first == self.end
    }

    #[inline(always)]
    fn get(&self, at: usize) -> Option<u32> {
        (at < self.len()).then(|| self.ring[(self.first as usize + at) & (self.ring.len() - 1)])
    }

    #[inline(always)]
    fn push(&mut self, index: u32) {
        let at = self.end as usize & (self.ring.len() - 1);
        self.ring[at] = index;
        self.end = self.end.wrapping_add(1);
    }

    fn take(&mut self, count: usize) {
        self.first = self.first.wrapping_add(count as u32);
    }
}

/// The frames of a burst, each made when it is asked for; it ends before one that has no room. Not a closure, which would not be
/// made part of the loop over it.
struct Made<'a> {
    source: &'a mut Source,
    scratch: &'a mut [u8],
    stamp: u64,
    arena: Arena,
    near: Near<'a>,
    free: &'a Free,
    count: usize,
    at: usize,
}

impl Iterator for Made<'_> {
    type Item = (u32, Buffer);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.count {
            return None;
        }
        // the line of the frame that is written a burst later: who has read it still has it
        if let Some(later) = self.free.get(self.at + self.count)
            && let Some(frame) = self
                .near
                .place(self.arena.at(later) + NET_HEADER_BYTES as u64, FRAME_BYTES_MIN as u32)
        {
            frame.prefetch_write();
        }
        let index = self.free.get(self.at)?;
        let address = self.arena.at(index);
        let bytes = (NET_HEADER_BYTES + self.source.next_len()) as u32;
        if bytes > self.arena.stride {
            return None;
        }
        let place = self.near.place(address, bytes)?;
        self.source
            .fill_place(place, NET_HEADER_BYTES, self.stamp, self.scratch);
        self.at += 1;
        Some((index, Buffer::readable(address, bytes)))
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
    free: Free,
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
            free: Free::all(count),
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

    fn reap(&mut self) -> Result<usize, Trouble> {
        let reaped = self.port.ring.reap(&mut self.done)?;
        self.done[..reaped].iter().for_each(|done| self.free.push(done.token));
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
        let Self {
            port,
            source,
            free,
            scratch,
            ..
        } = self;
        let mut made = Made {
            source,
            scratch: &mut scratch.0[..],
            stamp,
            arena: port.arena,
            near: port.reach.near(),
            free,
            count,
            at: 0,
        };
        port.ring.add_each(&mut made)?;
        let added = made.at;
        free.take(added);
        if added < count {
            return Err(Trouble::NoRoom {
                seq: source.made(),
                bytes: NET_HEADER_BYTES + source.next_len(),
                room: port.arena.stride as usize,
            });
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
    free: Free,
    /// What is verified, and what comes meanwhile.
    done: [Vec<Done>; 2],
    has_caught_up: bool,
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
            free: Free::all(count),
            done: std::array::from_fn(|_| vec![Done::default(); BURST_MAX]),
            has_caught_up: false,
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
        let count = usize::from(self.port.ring.free()).min(self.free.len());
        let (arena, free) = (self.port.arena, &self.free);
        let buffer = |index| (index, Buffer::writable(arena.at(index), arena.stride));
        let mut buffers = (0..count).filter_map(|at| free.get(at)).map(buffer);
        self.port.ring.add_each(&mut buffers)?;
        self.free.take(count);
        if count > 0 || self.port.owes_kick {
            self.port.publish()?;
        }
        Ok(count > 0)
    }

    /// Asks for the lines of frames that are verified later.
    #[inline]
    fn ask_for(&self, coming: &[Done]) {
        let mut near = self.port.reach.near();
        for done in coming {
            let frame = self.port.arena.at(done.token) + NET_HEADER_BYTES as u64;
            let bytes = done
                .len
                .min(self.port.arena.stride)
                .saturating_sub(NET_HEADER_BYTES as u32);
            if let Some(frame) = near.place(frame, bytes) {
                frame.prefetch_read();
            }
        }
    }

    /// Verifies what has been returned, burst by burst, the next of which is on its way meanwhile.
    #[inline]
    fn verify(&mut self, done: &mut [Vec<Done>; 2], now: u64) -> Result<usize, Trouble> {
        let [done, coming] = done;
        let bursts = if self.stamps { 1 } else { BURSTS_A_STEP };
        let (mut count, mut moved) = (0, 0);
        let mut wrong = None;
        self.has_caught_up = false;
        for burst in 0..=bursts {
            let mut next = 0;
            if burst < bursts && !self.has_caught_up && wrong.is_none() {
                match self.port.ring.reap(&mut coming[..self.burst]) {
                    Ok(reaped) => next = reaped,
                    Err(error) => wrong = Some(error.into()),
                }
                self.has_caught_up = next < self.burst;
            }
            self.ask_for(&coming[..next]);
            for done in &done[..count] {
                if !self.arrived_whole(*done, now)
                    && let (Err(trouble), None) = (self.arrived(*done, now), &wrong)
                {
                    wrong = Some(trouble);
                }
                self.free.push(done.token);
            }
            if count > 0 {
                let alarm = self.sink.alarm().map(Trouble::Frame);
                wrong = wrong.or(alarm);
            }
            if let Some((credit, stream)) = &self.credit {
                credit.arrived(self.sink.next_of(*stream));
            }
            if count > 0 || self.port.owes_kick || !self.free.is_empty() {
                self.post()?;
            }
            moved += count;
            if next == 0 {
                break;
            }
            std::mem::swap(done, coming);
            count = next;
        }
        wrong.map_or(Ok(moved), Err)
    }

    /// Takes in a buffer that is a packet, which nearly all are; whether it is one.
    #[inline(always)]
    fn arrived_whole(&mut self, done: Done, now: u64) -> bool {
        let length = done.len.min(self.port.arena.stride);
        if self.part == (0, 0)
            && let Some(packet) = self.port.reach.place(self.port.arena.at(done.token), length)
            && matches!(packet.get_u16(NUM_BUFFERS_AT), Some(0 | 1))
        {
            self.sink
                .take_place(packet, NET_HEADER_BYTES, now, &mut self.scratch.0[..]);
            return true;
        }
        false
    }

    /// A buffer that is a part of a packet, or a packet in any case.
    #[inline(never)]
    fn arrived(&mut self, done: Done, now: u64) -> Result<(), Trouble> {
        let (had, left) = self.part;
        let length = done.len.min(self.port.arena.stride) as usize;
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
        hand_over(&mut self.sink, &self.scratch.0[..bytes], now);
        Ok(())
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
        let moved = self.verify(&mut done, if self.stamps { now } else { 0 });
        self.done = done;
        moved
    }

    fn has_caught_up(&self) -> bool {
        self.has_caught_up && !self.stamps
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
