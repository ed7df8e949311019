//! A lane with one copy, as of a vhost-pci device: a source makes frames in the memory of its own machine, and its driver
//! copies each straight into a receive buffer of the other machine, whose memory it has mapped.

use std::any::Any;
use std::os::fd::BorrowedFd;

use super::device::Writer;
use super::{Arena, BURST_MAX, DevicePort, Lane, NET_HEADER_BYTES, NUM_BUFFERS_AT, Pace, Progress, Scratch, Trouble};
use crate::memory::Reach;
use crate::ring::burst::{Chains, DeviceRing};
use crate::traffic::source::Source;

/// A source that writes into another machine's receive ring.
#[derive(Debug)]
pub struct DirectSender<R> {
    /// The other machine's receive ring, while it runs.
    pub port: Option<DevicePort<R>>,
    /// Memory of its own machine.
    own: Reach,
    /// Where it makes frames.
    arena: Arena,
    next: u32,
    source: Source,
    pace: Pace,
    burst: usize,
    chains: Chains<'static>,
    writer: Writer,
    scratch: Scratch,
}

impl<R: DeviceRing> DirectSender<R> {
    /// Sends what `source` makes in `arena`, which is in `own`.
    #[must_use]
    pub fn new(
        port: Option<DevicePort<R>>,
        (own, arena): (Reach, Arena),
        source: Source,
        pace: Pace,
        burst: usize,
    ) -> Self {
        Self {
            port,
            own,
            arena,
            next: 0,
            source,
            pace,
            burst: burst.clamp(1, BURST_MAX),
            chains: Chains::new(),
            writer: Writer::default(),
            scratch: Scratch::new(),
        }
    }
}

impl<R: DeviceRing + std::fmt::Debug + Send + 'static> Lane for DirectSender<R> {
    #[inline]
    fn step(&mut self, now: u64) -> Result<usize, Trouble> {
        let Some(port) = &mut self.port else { return Ok(0) };
        let allowed = self.pace.allows(self.source.made(), self.burst, now);
        if allowed == 0 {
            return Ok(0);
        }
        let mut chains = std::mem::take(&mut self.chains).emptied();
        let taken = port.ring.take(&port.reach, &mut chains, allowed)?;
        let mut sent = 0;
        let mut wrong = None;
        for chain in chains.iter() {
            let seq = self.source.made();
            let bytes = NET_HEADER_BYTES + self.source.next_len();
            let Some(to) = chain.writable.first().copied().filter(|to| to.len() >= bytes) else {
                let room = chain.writable.first().map_or(0, |place| place.len());
                wrong = Some(Trouble::NoRoom { seq, bytes, room });
                break;
            };
            // the application: its frame stands in its own machine's memory
            let length = self.source.fill(&mut self.scratch.0[NET_HEADER_BYTES..], 0);
            self.scratch.0[NUM_BUFFERS_AT..NET_HEADER_BYTES].copy_from_slice(&1u16.to_le_bytes());
            let at = self.arena.at(self.next);
            self.next = (self.next + 1) % self.arena.count;
            let Some(from) = self.own.place(at, (NET_HEADER_BYTES + length) as u32) else {
                let room = self.arena.stride as usize;
                return Err(Trouble::NoRoom { seq, bytes, room });
            };
            from.copy_in(0, &self.scratch.0[..bytes]);
            // the driver: the one copy
            from.copy_to(0, to, 0, bytes);
            self.writer.given().push((chain.ticket, bytes as u32));
            sent += 1;
        }
        self.writer.give(&mut port.ring);
        if sent < taken {
            port.ring.put_back(&chains, taken - sent)?;
        }
        self.chains = chains.emptied();
        if sent > 0 {
            port.publish()?;
        }
        wrong.map_or(Ok(sent), Err)
    }

    fn refuse_signals(&mut self) {
        if let Some(port) = &mut self.port {
            port.ring.refuse_kicks();
        }
    }

    fn ask_for_signals(&mut self) -> bool {
        let has_more = !self.pace.is_done(self.source.made());
        has_more && self.port.as_mut().is_some_and(|port| port.ring.ask_for_kick())
    }

    fn wakes_on(&self) -> Vec<BorrowedFd<'_>> {
        self.port.iter().filter_map(|port| port.kick.fd()).collect()
    }

    fn due(&self) -> Option<u64> {
        self.pace.due(self.source.made())
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
