//! A lane from one device ring to another: what one driver transmits is put into the receive ring of another, or of the
//! same. A switch copies each frame in and out; with one copy it goes straight from buffer to buffer.

use std::any::Any;
use std::os::fd::BorrowedFd;

use super::device::{Writer, gather, mark};
use super::{BURST_MAX, DevicePort, Lane, Progress, Scratch, Trouble};
use crate::ring::burst::{Chains, DeviceRing};
use crate::traffic::fault::Meddler;

/// Moves packets from a transmit ring to a receive ring.
#[derive(Debug)]
pub struct Forward<R> {
    /// The transmit ring, while it runs.
    pub from: Option<DevicePort<R>>,
    /// The receive ring, while it runs.
    pub to: Option<DevicePort<R>>,
    burst: usize,
    /// Receive buffers looked at in one step: more than a burst if a packet needs them.
    buffers: usize,
    out: Chains<'static>,
    back: Chains<'static>,
    writer: Writer,
    scratch: Scratch,
    meddler: Option<Meddler>,
    forwarded: u64,
}

impl<R: DeviceRing> Forward<R> {
    /// From one to the other, in bursts of at most so many.
    #[must_use]
    pub fn new(from: Option<DevicePort<R>>, to: Option<DevicePort<R>>, burst: usize) -> Self {
        Self {
            from,
            to,
            burst: burst.clamp(1, BURST_MAX),
            buffers: burst.clamp(1, BURST_MAX),
            out: Chains::new(),
            back: Chains::new(),
            writer: Writer::default(),
            scratch: Scratch::new(),
            meddler: None,
            forwarded: 0,
        }
    }

    /// With a fault put in.
    #[must_use]
    pub fn meddling(mut self, meddler: Meddler) -> Self {
        self.meddler = Some(meddler);
        self
    }
}

/// Settles what another one has left that was killed: a burst that the receiver was shown, and of which the sender was not told, is
/// returned to that, so that no packet goes on twice.
fn inherit<R: DeviceRing>(from: &mut DevicePort<R>, to: &mut DevicePort<R>) -> Result<(), Trouble> {
    let (Some(sender), Some(receiver)) = (from.record.of(), to.record.of()) else {
        return Ok(());
    };
    let shown = match receiver.is_cut_off()? && !sender.is_cut_off()? {
        true => sender.in_flight()?,
        false => 0,
    };
    if shown > 0 {
        let mut chains = Chains::new();
        let taken = from.ring.take(&from.reach, &mut chains, shown)?;
        chains.iter().for_each(|chain| from.ring.give(chain.ticket, 0));
        drop(chains);
        from.publish()?;
        from.record.returned_for_it(taken as u16);
    }
    from.record.settle()?;
    to.record.settle()
}

impl<R: DeviceRing + std::fmt::Debug + Send + 'static> Lane for Forward<R> {
    #[inline]
    fn step(&mut self, _now: u64) -> Result<usize, Trouble> {
        let (Some(from), Some(to)) = (&mut self.from, &mut self.to) else {
            return Ok(0);
        };
        // a switch keeps what it cannot pass on
        if !(from.enabled && to.enabled) {
            return Ok(0);
        }
        let mut out = std::mem::take(&mut self.out).emptied();
        if from.record.inherits() {
            inherit(from, to)?;
        }
        let taken = from.ring.take(&from.reach, &mut out, self.burst)?;
        if taken == 0 {
            self.out = out.emptied();
            return Ok(0);
        }
        from.record.taken(&out)?;
        let mut back = std::mem::take(&mut self.back).emptied();
        let room = to.ring.take(&to.reach, &mut back, self.buffers)?;
        to.record.taken(&back)?;
        let (mut sent, mut used) = (0, 0);
        for chain in out.iter() {
            let mut bytes = gather(&chain, &mut self.scratch.0[..]);
            if bytes < super::NET_HEADER_BYTES {
                // no packet: nothing to pass on
                from.ring.give(chain.ticket, 0);
                sent += 1;
                continue;
            }
            let mut then = None;
            if let Some(meddler) = &mut self.meddler {
                if room - used < 2 {
                    break;
                }
                let fate = meddler.meddle(&mut self.scratch.0[..], bytes);
                (bytes, then) = (fate.bytes.unwrap_or(0), fate.then);
            }
            if bytes > 0 {
                let Some(count) = self.writer.write(&back, used, &mut self.scratch.0[..bytes]) else {
                    break;
                };
                if let Some(dirty) = &to.dirty {
                    mark(dirty, &back, used, count)?;
                }
                if let Some(meddler) = &mut self.meddler {
                    meddler.return_buffers(self.writer.given());
                }
                self.writer.give(&mut to.ring);
                used += count;
            }
            if let Some(mut packet) = then
                && let Some(count) = self.writer.write(&back, used, &mut packet)
            {
                self.writer.give(&mut to.ring);
                used += count;
            }
            from.ring.give(chain.ticket, 0);
            sent += 1;
        }
        if sent == 0 && room == self.buffers {
            self.buffers = (2 * self.buffers).min(usize::from(to.ring.size()));
        }
        if sent < taken {
            from.record.put_back(&out, taken - sent)?;
            from.ring.put_back(&out, taken - sent)?;
        }
        if used < room {
            to.record.put_back(&back, room - used)?;
            to.ring.put_back(&back, room - used)?;
        }
        to.record.given(&back, used)?;
        from.record.given(&out, sent)?;
        (self.out, self.back) = (out.emptied(), back.emptied());
        if used > 0 {
            to.publish()?;
        }
        if sent > 0 {
            from.publish()?;
        }
        // the receiver's last: what it says is not over was shown to it, and `inherit` goes by that
        from.record.returned()?;
        to.record.returned()?;
        self.forwarded += sent as u64;
        Ok(sent)
    }

    fn refuse_signals(&mut self) {
        [&mut self.from, &mut self.to]
            .into_iter()
            .flatten()
            .for_each(|port| port.ring.refuse_kicks());
    }

    fn ask_for_signals(&mut self) -> bool {
        let (Some(from), Some(to)) = (&mut self.from, &mut self.to) else {
            return false;
        };
        // with packets on one side only, it is the other that wakes it
        let (out, back) = (from.ring.ask_for_kick(), to.ring.ask_for_kick());
        out && back
    }

    fn wakes_on(&self) -> Vec<BorrowedFd<'_>> {
        let ports = [&self.from, &self.to].into_iter().flatten();
        ports.filter_map(|port| port.kick.fd()).collect()
    }

    fn progress(&self) -> Progress {
        Progress {
            forwarded: self.forwarded,
            done: true,
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
