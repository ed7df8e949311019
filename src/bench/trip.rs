//! How long one packet takes to the other side and back when both sides sleep until they are signalled, against two threads
//! that pass an eventfd to and fro and do nothing else.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::cell::Cell;
use super::round::{BenchError, median};
use crate::ring::burst::{Device, Driver, RingOptions};
use crate::sys::clock::Clock;
use crate::sys::cpu;
use crate::sys::edge::Edges;
use crate::sys::fd::{blocking_eventfd, signal_event_now, wait_event};
use crate::traffic::lane::{DriverReceiver, DriverSender, Forward, Lane, Pace, Trouble};
use crate::traffic::pump::{Pump, PumpOptions, Side};
use crate::traffic::rig::{Machine, RigError, RingKind, Way};
use crate::traffic::{Latency, Sink, Source};

/// Trips before those that count.
const SETTLE: usize = 100;
const STREAM: u16 = 1;

/// What was measured.
#[derive(Debug, Clone, Default)]
pub struct RoundTrips {
    /// Of a packet, there and back.
    pub packet: Latency,
    /// Of a bare signal, there and back.
    pub bare: Latency,
    /// Median of the first over median of the second, for each round.
    pub ratios: Vec<f64>,
}

impl RoundTrips {
    /// The median of the ratios.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        median(&self.ratios)
    }
}

/// So many rounds of so many trips each: packets, then bare signals.
///
/// # Errors
/// The rings cannot be set up, or a packet did not come back as it was sent.
pub fn round_trips(cell: &Cell, rounds: usize, trips: usize) -> Result<RoundTrips, BenchError> {
    let cpus = cpu::allowed()?;
    let (here, there) = (cpus.first().copied(), cpus.get(1).or(cpus.first()).copied());
    let cell = cell.clone();
    // on a thread of its own, which can be kept on a processor
    let measure = move || {
        if let Some(cpu) = here {
            let _ = cpu::pin_this_thread(cpu);
        }
        let mut measured = RoundTrips::default();
        let mut packets = Packets::new(&cell, there)?;
        for _ in 0..rounds {
            let packet = packets.trips(trips)?;
            let bare = bare_trips(trips, there)?;
            if let (Some(packet), Some(bare)) = (packet.percentile(0.5), bare.percentile(0.5)) {
                measured.ratios.push(packet as f64 / bare.max(1) as f64);
            }
            measured.packet.merge(&packet);
            measured.bare.merge(&bare);
        }
        Ok(measured)
    };
    let thread = std::thread::Builder::new()
        .name("vuh-trips".to_owned())
        .spawn(measure)?;
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A front-end that sends one packet at a time, and a back-end that returns it.
struct Packets {
    sender: DriverSender<Driver>,
    receiver: DriverReceiver<Driver>,
    edges: Edges,
    clock: Clock,
    _back: Pump,
}

impl Packets {
    fn new(cell: &Cell, there: Option<usize>) -> Result<Self, BenchError> {
        let failed = |error: RigError| {
            let cell = cell.to_string();
            BenchError::Rig { cell, error }
        };
        let kind = RingKind {
            size: cell.ring_size,
            packed: cell.packed,
            options: RingOptions {
                event_idx: true,
                in_order: false,
            },
        };
        let machine = Machine::new(kind, cell.sizes.longest(), cell.huge_pages).map_err(failed)?;
        let (transmit, receive) = (
            machine.driver(Way::Transmit).map_err(failed)?,
            machine.driver(Way::Receive).map_err(failed)?,
        );
        let ports = (
            machine.device(Way::Transmit).map_err(failed)?,
            machine.device(Way::Receive).map_err(failed)?,
        );
        let source = Source::new(STREAM, cell.sizes.clone());
        let mut sender = DriverSender::new(transmit, source, Pace::new(Some(0), None), 1);
        let mut receiver = DriverReceiver::new(receive, Sink::new(&[STREAM]), 1);
        // buffers are returned when the next packet is sent: nobody is to be woken for them
        sender.refuse_signals();
        let mut edges = Edges::new()?;
        let fds: Vec<BorrowedFd> = receiver.wakes_on();
        edges.watch(&fds)?;
        let clock = Clock::start();
        let options = PumpOptions {
            notified: true,
            cpu: there,
            rests: 0.0,
        };
        receiver.step(0).map_err(wrong(cell))?;
        let echo = Forward::<Device>::new(Some(ports.0), Some(ports.1), 1);
        let back = Pump::start(Side::new(vec![Box::new(echo)]), options, clock)?;
        let mut packets = Self {
            sender,
            receiver,
            edges,
            clock,
            _back: back,
        };
        for _ in 0..SETTLE {
            packets.trip().map_err(wrong(cell))?;
        }
        Ok(packets)
    }

    fn trips(&mut self, trips: usize) -> Result<Latency, BenchError> {
        let mut latency = Latency::default();
        for _ in 0..trips {
            let began = self.clock.now().ns;
            self.trip().map_err(|trouble| BenchError::Wrong {
                cell: "round trips".to_owned(),
                what: trouble.to_string(),
            })?;
            latency.record(self.clock.now().ns - began);
        }
        Ok(latency)
    }

    fn trip(&mut self) -> Result<(), Trouble> {
        self.sender.send_more(1);
        self.sender.step(0)?;
        let wanted = self.sender.progress().sent;
        while self.receiver.progress().received < wanted {
            if self.receiver.step(0)? == 0 && !self.receiver.ask_for_signals() {
                self.edges
                    .wait(None)
                    .map_err(|error| Trouble::Signal(error.to_string()))?;
            }
        }
        Ok(())
    }
}

fn wrong(cell: &Cell) -> impl Fn(Trouble) -> BenchError {
    let cell = cell.to_string();
    move |trouble| BenchError::Wrong {
        cell: cell.clone(),
        what: trouble.to_string(),
    }
}

/// Two threads and two eventfds, each read and written in turn.
fn bare_trips(trips: usize, there: Option<usize>) -> Result<Latency, BenchError> {
    let (to, back) = (blocking_eventfd()?, blocking_eventfd()?);
    let theirs = (to.try_clone()?, back.try_clone()?);
    let all = trips + SETTLE;
    let other = std::thread::Builder::new().name("vuh-bare".to_owned()).spawn(move || {
        if let Some(cpu) = there {
            let _ = cpu::pin_this_thread(cpu);
        }
        (0..all).try_for_each(|_| pass(&theirs.0, &theirs.1))
    })?;
    let clock = Clock::start();
    let mut latency = Latency::default();
    for trip in 0..all {
        let began = clock.now().ns;
        signal_event_now(to.as_fd())?;
        wait_event(back.as_fd())?;
        if trip >= SETTLE {
            latency.record(clock.now().ns - began);
        }
    }
    other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok(latency)
}

fn pass(from: &OwnedFd, to: &OwnedFd) -> std::io::Result<()> {
    wait_event(from.as_fd())?;
    signal_event_now(to.as_fd())
}
