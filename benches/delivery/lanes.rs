//! The harness's side of a ring on a thread of its own: the lanes of deliveries, a source that fills it or a sink that verifies
//! what comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use vhost_user_harness::memory::Reach;
use vhost_user_harness::peer::bare::{self, BareFront, BareRing};
use vhost_user_harness::ring::burst::{Device, Driver};
use vhost_user_harness::traffic::frame::FRAME_BYTES_MIN;
use vhost_user_harness::traffic::lane::{
    Arena, Bell, DevicePort, DeviceReceiver, DeviceSender, DriverPort, DriverReceiver, DriverSender, Lane,
    NET_HEADER_BYTES, Pace, Records,
};
use vhost_user_harness::traffic::{rest::Rest, rig, sink::Sink, sizes::Sizes, source::Source};

use super::{Asked, Rings};

const BURST: usize = 32;
const LINE_BYTES: usize = 64;
/// Turns of a spin loop for who has nothing to do.
const REST_SPINS: u32 = 64;

/// One side of a ring, from one run to the next.
pub(super) type Own = Box<dyn Lane>;

/// Frames sent, or taken, since it was made.
fn total(lane: &Own) -> u64 {
    let progress = lane.progress();
    progress.sent + progress.received
}

pub(super) struct Running {
    thread: JoinHandle<Own>,
    stop: Arc<AtomicBool>,
    moved: Arc<AtomicU64>,
}

impl Running {
    pub(super) fn start(mut lane: Own, cpu: usize) -> Self {
        let moved = Arc::new(AtomicU64::new(total(&lane)));
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, count) = (Arc::clone(&stop), Arc::clone(&moved));
        let thread = std::thread::spawn(move || {
            pin(cpu);
            let mut rest = Rest::default();
            while !theirs.load(Ordering::Relaxed) {
                match lane.step(0).expect("the other side keeps the rules") {
                    0 => (0..REST_SPINS).for_each(|_| std::hint::spin_loop()),
                    frames if lane.has_caught_up() => rest.after(frames),
                    frames => rest.go_on(frames),
                }
                count.store(total(&lane), Ordering::Relaxed);
            }
            lane
        });
        Self { thread, stop, moved }
    }

    /// Ends it; gives the lane back and what it has moved since it was made.
    pub(super) fn end(self) -> (Own, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let lane = self.thread.join().expect("a lane does not fail");
        if let Some(sink) = lane.sink() {
            let tally = sink.tally(&[]);
            assert!(tally.is_clean(), "{:?}", tally.findings);
        }
        let total = total(&lane);
        (lane, total)
    }

    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Whether it has stopped by itself, which it does only when something is wrong.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

fn pin(cpu: usize) {
    let thread = std::fs::read_link("/proc/thread-self").expect("proc");
    let thread = thread.file_name().expect("a number").to_string_lossy().into_owned();
    let done = std::process::Command::new("taskset")
        .args(["-pc", &cpu.to_string(), &thread])
        .stdout(std::process::Stdio::null())
        .status();
    assert!(done.is_ok_and(|status| status.success()), "taskset is there");
}

fn source(stream: u16, asked: &Asked) -> Source {
    let sizes = Sizes::fixed(asked.bytes as u64).expect("a size");
    Source::new(stream, sizes).sampling(asked.sample)
}

/// A lane of a side that looks for itself.
fn own(mut lane: impl Lane + 'static) -> Own {
    lane.refuse_signals();
    Box::new(lane)
}

/// What stands before the first buffer, and how far it is from one to the next.
fn places(bytes: usize) -> (u64, u32) {
    if bytes > FRAME_BYTES_MIN {
        // what is looked at of a long frame is in one cache line with the header before it, and the other line of its pair,
        // which processors fetch as well, is in nobody's frame
        (
            LINE_BYTES as u64,
            (bytes + NET_HEADER_BYTES + LINE_BYTES).next_multiple_of(2 * LINE_BYTES) as u32,
        )
    } else {
        // all of a short one is looked at: it begins where a line does
        (
            rig::BEFORE_FIRST,
            (bytes.next_multiple_of(LINE_BYTES) + LINE_BYTES) as u32,
        )
    }
}

/// Both rings of a front-end.
pub(super) fn driver_side(front: &BareFront, asked: &Asked) -> Rings {
    let reach = front.memory.reach();
    let (before, stride) = places(asked.bytes);
    let port = |ring: &BareRing, base: u64| {
        let options = bare::options(front.features);
        let driver = Driver::new(ring.layout, ring.base, &reach, options).expect("the ring is in memory");
        DriverPort {
            ring: driver,
            reach: reach.clone(),
            arena: Arena {
                base: base + before,
                stride,
                count: u32::from(ring.layout.size()),
            },
            kick: Bell::default(),
            call: Bell::default(),
            owes_kick: false,
        }
    };
    let (receive, transmit) = (front.buffers(), front.buffers() + (4 << 20));
    let receive = DriverReceiver::new(port(&front.rings[0], receive), Sink::new(&[1]), BURST);
    let transmit = port(&front.rings[1], transmit);
    Rings {
        receive: own(receive),
        transmit: own(DriverSender::new(transmit, source(0, asked), Pace::default(), BURST)),
    }
}

/// Both rings of a back-end: it receives what the front-end transmits.
pub(super) fn device_side(rings: Vec<BareRing>, reach: &Reach, features: u64, asked: &Asked) -> Rings {
    let port = |ring: &BareRing| {
        let options = bare::options(features);
        Some(DevicePort {
            ring: Device::start(ring.layout, ring.base, reach, options).expect("the ring is in memory"),
            reach: reach.clone(),
            kick: Bell::default(),
            call: Bell::default(),
            enabled: true,
            dirty: None,
            record: Records::default(),
        })
    };
    let transmit = DeviceSender::new(port(&rings[0]), source(1, asked), Pace::default(), BURST);
    Rings {
        transmit: own(transmit),
        receive: own(DeviceReceiver::new(port(&rings[1]), Sink::new(&[0]), BURST)),
    }
}

/// Nanoseconds in which a cache line goes from one processor to another and back: what all rates here depend on.
pub(super) fn line_round_trip(one: usize, other: usize) -> f64 {
    const TRIPS: u64 = 20_000;
    let ball = Arc::new(AtomicU64::new(0));
    let theirs = Arc::clone(&ball);
    let play = move |ball: &AtomicU64, mine: u64| {
        for trip in 0..TRIPS {
            while ball.load(Ordering::Acquire) != 2 * trip + mine {
                std::hint::spin_loop();
            }
            ball.store(2 * trip + mine + 1, Ordering::Release);
        }
    };
    let answering = std::thread::spawn(move || {
        pin(other);
        play(&theirs, 1);
    });
    let asking = std::thread::spawn(move || {
        pin(one);
        let begun = std::time::Instant::now();
        play(&ball, 0);
        begun.elapsed().as_nanos() as f64 / TRIPS as f64
    });
    answering.join().expect("it ends");
    asking.join().expect("it ends")
}
