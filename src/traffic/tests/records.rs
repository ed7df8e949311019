//! Switches that are killed in the middle of a burst, and the next one that goes on by an inflight area, or without.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::lanes::{STREAM, kind, limit, run, sink};
use crate::memory::{GuestAccess, Inflight, InflightFormat, SplitInflight};
use crate::ring::burst::{Chains, Device, DeviceRing, Layout};
use crate::traffic::lane::{Bell, DevicePort, DriverReceiver, DriverSender, Forward, Lane, Record, Records, Trouble};
use crate::traffic::rig::{Machine, Way};
use crate::traffic::sizes::Sizes;
use crate::traffic::source::Source;

const SIZE: u16 = 256;

/// Where a switch is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    /// It has taken frames and buffers, and nobody was shown anything.
    Taken,
    /// The receiver was shown the burst, and the sender was not.
    ReceiverShown,
    /// Both were, and the area knows of neither.
    BothShown,
}

/// An inflight area for the two rings of a switch.
struct Area(OwnedFd, u64);

impl Area {
    fn new() -> Self {
        let (area, fd) = Inflight::allocate(InflightFormat::Split, 2, SIZE).unwrap();
        Self(fd, area.size())
    }

    fn record(&self, queue: u16, used: u16) -> Record {
        let area = SplitInflight::map(self.0.try_clone().unwrap(), 0, self.1, 2, SIZE).unwrap();
        Record::begin(area, queue, used).unwrap()
    }
}

/// The device's end of a ring, where the used index says that it stands.
fn port(machine: &Machine, way: Way, area: Option<(&Area, u16)>) -> DevicePort<Device> {
    let Layout::Split(layout) = machine.layout(way) else {
        panic!("the ring is split")
    };
    let used = machine.memory().load_u16(layout.used_idx(), Ordering::Acquire).unwrap();
    let mut port = machine.device_at(way, u32::from(used)).unwrap();
    port.record = Records::new(area.map(|(area, queue)| area.record(queue, used)));
    port
}

/// An eventfd that cannot be signalled: whoever tries goes no further.
fn broken() -> Bell {
    Bell::new(Some(Arc::new(File::open("/dev/null").unwrap().into())))
}

/// How many of 3000 frames are lost, and how many come twice, when the switch is killed there.
fn verdict(killed: Killed, recorded: bool) -> (u64, u64) {
    let kind = kind(false, SIZE, false);
    let machine = || Machine::new(kind, 1518, false).unwrap();
    let (a, b, area) = (machine(), machine(), Area::new());
    let source = Source::new(STREAM, Sizes::cycle([64, 128]).unwrap());
    let mut sender = DriverSender::new(a.driver(Way::Transmit).unwrap(), source, limit(3000), 32);
    let mut receiver = DriverReceiver::new(b.driver(Way::Receive).unwrap(), sink(), 32);
    let area = recorded.then_some(&area);
    let ports = || {
        (
            port(&a, Way::Transmit, area.map(|area| (area, 0))),
            port(&b, Way::Receive, area.map(|area| (area, 1))),
        )
    };
    let (from, to) = ports();
    let mut switch = Forward::new(Some(from), Some(to), 32);
    for _ in 0..10 {
        receiver.step(0).unwrap();
        sender.step(0).unwrap();
        switch.step(0).unwrap();
    }
    sender.step(0).unwrap();
    receiver.step(0).unwrap();
    match killed {
        Killed::Taken => {
            for port in [switch.from.as_mut().unwrap(), switch.to.as_mut().unwrap()] {
                let mut chains = Chains::new();
                let taken = port.ring.take(&port.reach, &mut chains, 20).unwrap();
                assert!(taken > 0, "there is something to be killed with");
                port.record.taken(&chains).unwrap();
            }
        }
        Killed::ReceiverShown => switch.to.as_mut().unwrap().call = broken(),
        Killed::BothShown => switch.from.as_mut().unwrap().call = broken(),
    }
    if killed != Killed::Taken {
        assert!(matches!(switch.step(0), Err(Trouble::Signal(_))), "it goes no further");
    }
    drop(switch);
    let (from, to) = ports();
    let mut next = Forward::new(Some(from), Some(to), 32);
    let result = run(&mut [&mut sender, &mut next, &mut receiver]);
    let tally = receiver.sink().unwrap().tally(&[(STREAM, 3000)]);
    match result {
        Ok(()) => (tally.lost, tally.duplicate),
        // a frame that comes again ends the lane
        Err(_) => (0, tally.duplicate),
    }
}

#[test]
fn no_frame_is_lost_or_doubled_by_a_switch_that_is_killed_with_an_area() {
    // Broken: a frame that was in hand when a back-end was killed never arrives, or arrives twice.
    for killed in [Killed::Taken, Killed::ReceiverShown, Killed::BothShown] {
        assert_eq!(verdict(killed, true), (0, 0), "{killed:?}");
    }
}

#[test]
fn without_an_area_what_was_shown_to_the_receiver_alone_is_doubled() {
    // Broken: the test above would be green without an area as well, and proves nothing.
    assert_eq!(verdict(Killed::Taken, false), (0, 0));
    let (lost, doubled) = verdict(Killed::ReceiverShown, false);
    assert!(lost == 0 && doubled > 0, "{lost} lost, {doubled} doubled");
}
