//! One cell of the matrix, and the pumps it is made of.

use std::fmt;

use super::slave::Slave;
use crate::ring::burst::{Device, Driver, RingOptions};
use crate::sys::clock::Clock;
use crate::traffic::lane::{
    DeviceReceiver, DeviceSender, DirectSender, DriverReceiver, DriverSender, Forward, Lane, Pace,
};
use crate::traffic::pump::{Pump, PumpOptions, Side};
use crate::traffic::rig::{Machine, RigError, RingKind, Way};
use crate::traffic::{Sink, Sizes, Source};

/// The way that frames take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topology {
    /// A front-end transmits, its back-end takes them.
    ToBackend,
    /// A back-end fills the receive ring of its front-end.
    ToFrontend,
    /// From one front-end through a switch to another: copied in, copied out.
    Switch,
    /// From one machine straight into the receive ring of another, which it has mapped: one copy, as with vhost-pci.
    VhostPci,
    /// From DPDK's virtio-user to DPDK's vhost library, counted by DPDK and verified by nobody.
    Dpdk,
}

/// How the two sides learn of each other's doings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notify {
    /// Both look all the time.
    Poll,
    /// Both sleep until the other signals, and say when they need not be signalled.
    Event,
}

/// One cell of the matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The way.
    pub topology: Topology,
    /// Packed rings, or split ones.
    pub packed: bool,
    /// Descriptors.
    pub ring_size: u16,
    /// Lengths of the frames.
    pub sizes: Sizes,
    /// Frames moved at a time, at most.
    pub burst: usize,
    /// Signals.
    pub notify: Notify,
    /// Memory on huge pages.
    pub huge_pages: bool,
    /// All lanes on one thread, so that what counts is the work and not how it is shared out.
    pub one_thread: bool,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Topology::ToBackend => "to-backend",
            Topology::ToFrontend => "to-frontend",
            Topology::Switch => "switch",
            Topology::VhostPci => "vhost-pci",
            Topology::Dpdk => "dpdk",
        })
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Notify::Poll => "poll",
            Notify::Event => "event",
        })
    }
}

impl Cell {
    /// Split or packed, in words.
    #[must_use]
    pub fn ring(&self) -> &'static str {
        if self.packed { "packed" } else { "split" }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (topology, ring, sizes, burst) = (self.topology, self.ring(), &self.sizes, self.burst);
        write!(
            f,
            "{topology} {ring} {} {sizes} bytes burst {burst} {}",
            self.ring_size, self.notify
        )?;
        if self.huge_pages {
            f.write_str(" huge pages")?;
        }
        if self.one_thread {
            f.write_str(" one thread")?;
        }
        Ok(())
    }
}

const STREAM: u16 = 1;

/// The pumps of a cell; none of them moves before it is told to.
#[derive(Debug)]
pub(super) struct Running {
    pumps: Vec<Pump>,
}

impl Running {
    pub(super) fn start(cell: &Cell, cpus: &[usize], clock: Clock) -> Result<Self, RigError> {
        let sides = sides(cell)?;
        let sides = if cell.one_thread {
            vec![sides.into_iter().flatten().collect()]
        } else {
            sides
        };
        let mut pumps = Vec::new();
        for (at, lanes) in sides.into_iter().enumerate() {
            let mut side = Side::new(lanes);
            side.rests = true;
            let options = PumpOptions {
                notified: cell.notify == Notify::Event,
                cpu: cpus.get(at).copied(),
                rests: 0.0,
            };
            pumps.push(Pump::start(side, options, clock)?);
        }
        Ok(Self { pumps })
    }

    /// Lets the frames move, or keeps them.
    pub(super) fn let_move(&self, moves: bool) {
        for pump in &self.pumps {
            pump.borrow().rests = !moves;
        }
    }

    pub(super) fn received(&self) -> u64 {
        self.pumps.iter().map(|pump| pump.progress().received).sum()
    }

    /// Ends it; gives what was wrong with the frames, and how many there were.
    pub(super) fn end(self) -> (u64, Result<(), String>) {
        let sides: Vec<Side> = self.pumps.into_iter().map(Pump::end).collect();
        let mut frames = 0;
        let mut wrong = Ok(());
        for side in &sides {
            if let Some(trouble) = &side.trouble {
                wrong = Err(trouble.to_string());
            }
            for sink in side.lanes.iter().filter_map(|lane| lane.sink()) {
                // frames on their way when it ended are not lost
                let tally = sink.tally(&[]);
                frames += tally.frames;
                if !tally.is_clean() {
                    wrong = Err(tally.faults_in_words());
                }
            }
        }
        (frames, wrong)
    }
}

/// The lanes of each side: what runs on one processor.
fn sides(cell: &Cell) -> Result<Vec<Vec<Box<dyn Lane>>>, RigError> {
    let kind = RingKind {
        size: cell.ring_size,
        packed: cell.packed,
        options: RingOptions::default(),
    };
    let machine = || Machine::new(kind, cell.sizes.longest(), cell.huge_pages);
    let source = || Source::new(STREAM, cell.sizes.clone());
    let sink = || Sink::new(&[STREAM]);
    let burst = cell.burst;
    let sender = |of: &Machine| -> Result<Box<dyn Lane>, RigError> {
        let port = of.driver(Way::Transmit)?;
        Ok(Box::new(DriverSender::<Driver>::new(
            port,
            source(),
            Pace::default(),
            burst,
        )))
    };
    let receiver = |of: &Machine| -> Result<Box<dyn Lane>, RigError> {
        let port = of.driver(Way::Receive)?;
        Ok(Box::new(DriverReceiver::<Driver>::new(port, sink(), burst)))
    };
    Ok(match cell.topology {
        Topology::Dpdk => Vec::new(),
        Topology::ToBackend => {
            let one = machine()?;
            let from = sender(&one)?;
            let port = one.device(Way::Transmit)?;
            vec![
                vec![from],
                vec![Box::new(DeviceReceiver::<Device>::new(Some(port), sink(), burst))],
            ]
        }
        Topology::ToFrontend => {
            let one = machine()?;
            let to = receiver(&one)?;
            let port = one.device(Way::Receive)?;
            let from = DeviceSender::<Device>::new(Some(port), source(), Pace::default(), burst);
            vec![vec![to], vec![Box::new(from)]]
        }
        Topology::Switch => {
            let (one, other) = (machine()?, machine()?);
            let (from, to) = (sender(&one)?, receiver(&other)?);
            let ports = (one.device(Way::Transmit)?, other.device(Way::Receive)?);
            let switch = Forward::<Device>::new(Some(ports.0), Some(ports.1), burst);
            // the machines share a processor, the switch has one of its own
            vec![vec![from, to], vec![Box::new(switch)]]
        }
        Topology::VhostPci => {
            let own = machine()?;
            let (port, to): (_, Box<dyn Lane>) = if cell.packed {
                // the server does not offer packed rings: the ring of a machine without one
                let other = machine()?;
                let to = receiver(&other)?;
                (other.device(Way::Receive)?, to)
            } else {
                let mut slave = Slave::new(kind, cell.sizes.longest(), cell.huge_pages)?;
                let driver = slave.driver()?;
                let to = DriverReceiver::<Driver>::new(driver, sink(), burst);
                (slave.device()?, Box::new(to))
            };
            let own = (own.reach(), own.spare());
            let from = DirectSender::<Device>::new(Some(port), own, source(), Pace::default(), burst);
            vec![vec![Box::new(from)], vec![to]]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_on_every_way() {
        // Broken: a way of the matrix cannot be set up, or does not carry frames whole and in order.
        let clock = Clock::start();
        for topology in [
            Topology::ToBackend,
            Topology::ToFrontend,
            Topology::Switch,
            Topology::VhostPci,
        ] {
            for (packed, notify) in [(false, Notify::Poll), (true, Notify::Poll), (false, Notify::Event)] {
                let cell = Cell {
                    topology,
                    packed,
                    ring_size: 64,
                    sizes: Sizes::cycle([64, 1518]).unwrap(),
                    burst: 8,
                    notify,
                    huge_pages: false,
                    one_thread: false,
                };
                let running = Running::start(&cell, &[], clock).unwrap();
                running.let_move(true);
                while running.received() < 1000 {
                    std::thread::yield_now();
                }
                let (frames, wrong) = running.end();
                assert_eq!(wrong, Ok(()), "{cell}");
                assert!(frames >= 1000, "{cell}");
            }
        }
    }
}
