//! Lanes stepped by hand, without threads: what goes in at one end comes out at the other, and faults are told.

use crate::memory::GuestAccess;
use crate::ring::RingError;
use crate::ring::burst::{Device, DeviceRing, Driver, Layout, RingOptions};
use crate::traffic::fault::{Fault, Meddler};
use crate::traffic::lane::{
    Credit, DeviceReceiver, DeviceSender, DriverReceiver, DriverSender, Forward, Lane, Pace, Trouble,
};
use crate::traffic::rig::{Machine, RingKind, Way};
use crate::traffic::sink::{Sink, What};
use crate::traffic::sizes::Sizes;
use crate::traffic::source::Source;

pub(super) const STREAM: u16 = 1;
const ROUNDS_MAX: usize = 1_000_000;

pub(super) fn kind(packed: bool, size: u16, event_idx: bool) -> RingKind {
    RingKind {
        size,
        packed,
        options: RingOptions {
            event_idx,
            in_order: false,
        },
    }
}

fn source(sizes: &Sizes) -> Source {
    Source::new(STREAM, sizes.clone())
}

pub(super) fn sink() -> Sink {
    Sink::new(&[STREAM])
}

pub(super) fn limit(frames: u64) -> Pace {
    Pace::new(Some(frames), None)
}

/// Steps all lanes until nothing moves any more.
pub(super) fn run(lanes: &mut [&mut dyn Lane]) -> Result<(), Trouble> {
    let mut quiet = 0;
    for _ in 0..ROUNDS_MAX {
        let mut moved = 0;
        for lane in lanes.iter_mut() {
            moved += lane.step(0)?;
        }
        quiet = if moved == 0 { quiet + 1 } else { 0 };
        // a lane may have posted buffers without moving frames
        if quiet == 3 {
            return Ok(());
        }
    }
    panic!("lanes do not come to rest");
}

fn all_kinds() -> impl Iterator<Item = RingKind> {
    let sizes = [4, 256];
    sizes.into_iter().flat_map(|size| {
        [(false, false), (false, true), (true, false), (true, true)]
            .into_iter()
            .map(move |(packed, event_idx)| kind(packed, size, event_idx))
    })
}

#[test]
fn both_directions_deliver_every_frame_on_both_kinds_of_ring() {
    // Broken: frames are lost, doubled or damaged on the way through a ring.
    for kind in all_kinds() {
        for sizes in [
            Sizes::fixed(64).unwrap(),
            Sizes::imix(),
            Sizes::cycle([64, 9000, 77]).unwrap(),
        ] {
            let machine = Machine::new(kind, sizes.longest(), false).unwrap();
            let mut sender = DriverSender::new(machine.driver(Way::Transmit).unwrap(), source(&sizes), limit(3000), 32);
            let mut receiver = DriverReceiver::new(machine.driver(Way::Receive).unwrap(), sink(), 32);
            let mut taker = DeviceReceiver::new(Some(machine.device(Way::Transmit).unwrap()), sink(), 32);
            let port = machine.device(Way::Receive).unwrap();
            let mut giver = DeviceSender::new(Some(port), source(&sizes), limit(3000), 32);
            run(&mut [&mut sender, &mut receiver, &mut taker, &mut giver]).unwrap();
            for lane in [&receiver as &dyn Lane, &taker] {
                let tally = lane.sink().unwrap().tally(&[(STREAM, 3000)]);
                assert!(tally.is_clean() && tally.frames == 3000, "{kind:?} {sizes}: {tally:?}");
            }
            let progress = sender.progress();
            assert_eq!((progress.sent, progress.outstanding, progress.done), (3000, 0, true));
        }
    }
}

#[test]
fn a_device_has_no_more_on_their_way_than_it_may() {
    // Broken: a back-end floods a guest that sends its frames back, which throws some of them away; or it never goes on.
    for kind in all_kinds() {
        let sizes = Sizes::fixed(64).unwrap();
        let machine = Machine::new(kind, 64, false).unwrap();
        let credit = Credit::new(3);
        let mut receiver = DriverReceiver::new(machine.driver(Way::Receive).unwrap(), sink(), 32);
        let port = machine.device(Way::Receive).unwrap();
        let mut giver = DeviceSender::new(Some(port), source(&sizes), limit(100), 32).keeping_to(credit.clone());
        run(&mut [&mut receiver, &mut giver]).unwrap();
        assert_eq!(giver.progress().sent, 3, "{kind:?}");
        assert!(!giver.ask_for_signals(), "it would never sleep");
        // two of them come back
        let mut sender = DriverSender::new(machine.driver(Way::Transmit).unwrap(), source(&sizes), limit(2), 32);
        let port = machine.device(Way::Transmit).unwrap();
        let mut taker = DeviceReceiver::new(Some(port), sink(), 32).giving_credit(credit, STREAM);
        run(&mut [&mut sender, &mut taker, &mut receiver, &mut giver]).unwrap();
        assert_eq!(giver.progress().sent, 5, "{kind:?}");
    }
}

#[test]
fn a_sink_takes_several_bursts_a_step_and_says_when_those_were_all() {
    // Broken: a sink falls behind, looks again at what the other side is writing, or measures latencies with an old clock.
    for (packed, frames, caught_up) in [
        (false, 100, true),
        (true, 100, true),
        (false, 256, false),
        (true, 256, false),
    ] {
        for stamped in [false, true] {
            let machine = Machine::new(kind(packed, 256, false), 64, false).unwrap();
            let sizes = Sizes::fixed(64).unwrap();
            let transmit = machine.driver(Way::Transmit).unwrap();
            let mut sender = DriverSender::new(transmit, source(&sizes), limit(frames), 32);
            let mut receiver = DriverReceiver::new(machine.driver(Way::Receive).unwrap(), sink(), 32);
            let mut taker = DeviceReceiver::new(Some(machine.device(Way::Transmit).unwrap()), sink(), 32);
            let port = machine.device(Way::Receive).unwrap();
            let mut giver = DeviceSender::new(Some(port), source(&sizes), limit(frames), 32);
            if stamped {
                (receiver, taker) = (receiver.stamped(), taker.stamped());
            }
            assert_eq!(receiver.step(0), Ok(0));
            run(&mut [&mut sender, &mut giver]).unwrap();
            for lane in [&mut receiver as &mut dyn Lane, &mut taker] {
                let moved = lane.step(0).unwrap() as u64;
                assert_eq!(moved, if stamped { 32 } else { frames });
                assert_eq!(lane.has_caught_up(), caught_up && !stamped);
                assert_eq!(lane.progress().received, moved);
            }
        }
    }
}

#[test]
fn frames_that_do_not_fit_take_several_buffers() {
    // Broken: merged receive buffers are put together wrongly, or not at all.
    for packed in [false, true] {
        // buffers for 500 bytes, frames of 1518: four each
        let machine = Machine::new(kind(packed, 64, false), 500, false).unwrap();
        let sizes = Sizes::cycle([1518, 64, 700]).unwrap();
        let mut receiver = DriverReceiver::new(machine.driver(Way::Receive).unwrap(), sink(), 5);
        let port = machine.device(Way::Receive).unwrap();
        let mut giver = DeviceSender::new(Some(port), source(&sizes), limit(999), 7).merging(true);
        run(&mut [&mut receiver, &mut giver]).unwrap();
        let tally = receiver.sink().unwrap().tally(&[(STREAM, 999)]);
        assert!(tally.is_clean() && tally.frames == 999, "{tally:?}");
    }
}

#[test]
fn a_frame_too_long_for_its_buffer_is_told() {
    // Broken: a source hangs, or cuts its own frames, where buffers are too small.
    let machine = Machine::new(kind(false, 64, false), 500, false).unwrap();
    let mut receiver = DriverReceiver::new(machine.driver(Way::Receive).unwrap(), sink(), 32);
    let sizes = Sizes::fixed(600).unwrap();
    let mut giver = DeviceSender::new(
        Some(machine.device(Way::Receive).unwrap()),
        source(&sizes),
        limit(9),
        32,
    );
    let trouble = run(&mut [&mut receiver, &mut giver]).unwrap_err();
    assert_eq!(
        trouble,
        Trouble::NoRoom {
            seq: 0,
            bytes: 612,
            room: 512
        }
    );
}

#[test]
fn a_ring_that_is_taken_and_given_back_goes_on_where_it_was() {
    // Broken: stopping and starting a ring loses or repeats frames.
    for kind in all_kinds() {
        let sizes = Sizes::fixed(64).unwrap();
        let machine = Machine::new(kind, 64, false).unwrap();
        let mut sender = DriverSender::new(machine.driver(Way::Transmit).unwrap(), source(&sizes), limit(5000), 7);
        let mut taker = DeviceReceiver::new(Some(machine.device(Way::Transmit).unwrap()), sink(), 5);
        for _ in 0..4000 {
            sender.step(0).unwrap();
            taker.step(0).unwrap();
            let base = taker.port.take().unwrap().ring.base();
            assert_eq!(taker.step(0), Ok(0));
            taker.port = Some(machine.device_at(Way::Transmit, base).unwrap());
        }
        run(&mut [&mut sender, &mut taker]).unwrap();
        let tally = taker.sink().unwrap().tally(&[(STREAM, 5000)]);
        assert!(tally.is_clean() && tally.frames == 5000, "{kind:?}: {tally:?}");
    }
}

/// What the receiving driver says of a fault put into frame 1000 of 3000 between two machines.
fn verdict(fault: Option<Fault>, packed: bool) -> (Result<(), Trouble>, crate::traffic::Tally) {
    let kind = kind(packed, 256, false);
    let (a, b) = (
        Machine::new(kind, 1518, false).unwrap(),
        Machine::new(kind, 1518, false).unwrap(),
    );
    let mut sender = DriverSender::new(
        a.driver(Way::Transmit).unwrap(),
        Source::new(STREAM, Sizes::cycle([64, 128]).unwrap()),
        limit(3000),
        32,
    );
    let mut receiver = DriverReceiver::new(b.driver(Way::Receive).unwrap(), sink(), 32);
    let (from, to) = (a.device(Way::Transmit).unwrap(), b.device(Way::Receive).unwrap());
    let mut switch = Forward::new(Some(from), Some(to), 32);
    if let Some(fault) = fault {
        switch = switch.meddling(Meddler::new(fault, 1000));
    }
    let result = run(&mut [&mut sender, &mut switch, &mut receiver]);
    let tally = receiver.sink().unwrap().tally(&[(STREAM, 3000)]);
    (result, tally)
}

#[test]
fn each_injected_fault_gets_its_verdict() {
    // Broken: a fault of a back-end goes unseen, or is taken for another one.
    let frame = |fault: Fault, expected: What| (fault, Ok(expected));
    let cases = [
        frame(Fault::Drop, What::Ahead { seq: 1001, by: 1 }),
        frame(Fault::Swap, What::Ahead { seq: 1001, by: 1 }),
        frame(Fault::Flip(63, 5), What::Content { seq: 1000, at: 63 }),
        frame(Fault::Flip(0, 0), What::Content { seq: 1000, at: 0 }),
        frame(Fault::Flip(20, 7), What::Header { arrived: 64 }),
        frame(Fault::Repeat, What::Duplicate { seq: 1000 }),
        frame(
            Fault::Truncate(9),
            What::Length {
                seq: 1000,
                sent: 64,
                arrived: 55,
            },
        ),
        frame(
            Fault::Extend(4),
            What::Length {
                seq: 1000,
                sent: 64,
                arrived: 68,
            },
        ),
        frame(Fault::Stale, What::Duplicate { seq: 999 }),
        frame(Fault::Torn, What::Content { seq: 1000, at: 56 }),
        frame(
            Fault::Misdeliver,
            What::WrongStream {
                stream: 0x7777,
                seq: 1000,
            },
        ),
        (Fault::WrongBuffer, Err("wrong buffer")),
        (Fault::StaleDescriptor, Err("stale descriptor")),
        (Fault::TooLong, Err("too long")),
    ];
    for packed in [false, true] {
        let (result, tally) = verdict(None, packed);
        assert!(result.is_ok() && tally.is_clean() && tally.frames == 3000, "{tally:?}");
        for (fault, expected) in cases {
            let (result, tally) = verdict(Some(fault), packed);
            match (expected, result.expect_err("the fault is there")) {
                (Ok(what), Trouble::Frame(finding)) => {
                    assert_eq!(finding.what, what, "{fault:?}");
                    assert!(!tally.is_clean());
                }
                (Err("wrong buffer"), Trouble::Ring(RingError::UnknownHead { .. })) => {}
                (Err("stale descriptor"), Trouble::Ring(RingError::ReturnedTwice { .. })) => {}
                (Err("too long"), Trouble::Ring(RingError::UsedTooLong { len: 0x10_0000, .. })) => {}
                (_, trouble) => panic!("{fault:?} on a ring that is packed={packed}: {trouble:?}"),
            }
        }
        // zeroes are no frame of anybody's, so the frame is missed when the next one comes
        let (result, tally) = verdict(Some(Fault::Blank), packed);
        let Err(Trouble::Frame(finding)) = result else {
            panic!("{result:?}")
        };
        assert_eq!((finding.what, tally.foreign), (What::Ahead { seq: 1001, by: 1 }, 1));
    }
}

#[test]
fn a_used_index_that_jumps_is_the_device_s_fault() {
    // Broken: a driver follows a device's index past what it made available.
    let machine = Machine::new(kind(false, 256, false), 64, false).unwrap();
    let sizes = Sizes::fixed(64).unwrap();
    let mut sender = DriverSender::new(machine.driver(Way::Transmit).unwrap(), source(&sizes), limit(100), 32);
    sender.step(0).unwrap();
    let Layout::Split(layout) = machine.layout(Way::Transmit) else {
        panic!()
    };
    machine
        .memory()
        .store_u16(layout.used_idx(), 300, std::sync::atomic::Ordering::Release)
        .unwrap();
    let trouble = run(&mut [&mut sender]).unwrap_err();
    assert!(
        matches!(trouble, Trouble::Ring(RingError::UsedJumped { from: 0, to: 300, .. })),
        "{trouble:?}"
    );
}

#[test]
fn ports_are_what_runs_in_the_engine() {
    // Broken: lanes cannot be handed to a thread.
    fn is_lane<T: Lane + Send>() {}
    is_lane::<DriverSender<Driver>>();
    is_lane::<Forward<Device>>();
}
