//! The harness's side of a ring on a thread of its own: a source that fills it or a sink that verifies what comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use vhost_user_harness::memory::Reach;
use vhost_user_harness::peer::bare::{self, BareFront, BareRing};
use vhost_user_harness::ring::Buffer;
use vhost_user_harness::ring::burst::{Chains, Device, DeviceRing, Done, Driver, DriverRing};
use vhost_user_harness::traffic::{sink::Sink, sizes::Sizes, source::Source};

use super::{Asked, RING, Rings};

const HEADER: usize = 12;
const BURST: usize = 32;
/// Turns of a spin loop for who has nothing to do.
const REST_SPINS: u32 = 64;
/// Bursts in a row before a side looks whether it is to stop.
const TURNS: usize = 256;
/// num_buffers of a header, behind two bytes that are zero.
const ONE_BUFFER: u32 = 1 << 16;

/// One ring, with what it sends or how it verifies.
pub(super) struct Lane<R> {
    ring: R,
    reach: Reach,
    work: Work,
    /// Where buffers are, bytes of each, and the next to use.
    buffers: (u64, u32, u32),
    scratch: Vec<u8>,
    rest: Rest,
}

/// How long who has caught up leaves the other side alone: looking again and again takes away the very lines that it is
/// writing, so a good part of a ring is to have come meanwhile. How long that takes shows by and by.
struct Rest {
    spins: u32,
    /// Frames since the last one.
    came: usize,
    /// So few that it was too short, and so many that it was too long.
    few: usize,
    many: usize,
}

impl Rest {
    /// A few microseconds at most.
    const SPINS: std::ops::RangeInclusive<u32> = 8..=512;

    fn new(ring: u16) -> Self {
        Self {
            spins: REST_SPINS,
            came: 0,
            few: usize::from(ring) / 8,
            many: usize::from(ring) / 2,
        }
    }

    /// After a burst of so many, of which there could have been more.
    fn after(&mut self, frames: usize) {
        self.came += frames;
        if frames == BURST {
            return;
        }
        let came = std::mem::take(&mut self.came);
        if came < self.few {
            self.spins = (self.spins * 2).min(*Self::SPINS.end());
        } else if came > self.many {
            self.spins = (self.spins / 2).max(*Self::SPINS.start());
        }
        rest(self.spins);
    }
}

enum Work {
    Source(Source),
    Sink(Box<Sink>),
}

impl Work {
    /// Frames made, or taken.
    fn total(&self) -> u64 {
        match self {
            Self::Source(source) => source.made(),
            Self::Sink(sink) => sink.frames(),
        }
    }
}

/// What either side can do with its rings.
pub(super) trait Side: Send + 'static {
    fn step(lane: &mut Lane<Self>) -> usize
    where
        Self: Sized;
}

pub(super) struct Running<R> {
    thread: JoinHandle<Lane<R>>,
    stop: Arc<AtomicBool>,
    moved: Arc<AtomicU64>,
}

impl<R: Side> Running<R> {
    pub(super) fn start(mut lane: Lane<R>, cpu: usize) -> Self {
        let moved = Arc::new(AtomicU64::new(lane.work.total()));
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, count) = (Arc::clone(&stop), Arc::clone(&moved));
        let thread = std::thread::spawn(move || {
            pin(cpu);
            // from one run to the next, as what it has made or taken
            let mut total = lane.work.total();
            while !theirs.load(Ordering::Relaxed) {
                let now = R::step(&mut lane);
                if now > 0 {
                    total += now as u64;
                    count.store(total, Ordering::Relaxed);
                } else {
                    rest(REST_SPINS);
                }
            }
            lane
        });
        Self { thread, stop, moved }
    }

    /// Ends it; gives the lane back and what it has moved since it was made.
    pub(super) fn end(self) -> (Lane<R>, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let lane = self.thread.join().expect("a lane does not fail");
        if let Work::Sink(sink) = &lane.work {
            let tally = sink.tally(&[]);
            assert!(tally.is_clean(), "{:?}", tally.findings);
        }
        let total = lane.work.total();
        (lane, total)
    }
}

impl<R> Running<R> {
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Whether it has stopped by itself, which it does only when something is wrong.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

fn rest(spins: u32) {
    (0..spins).for_each(|_| std::hint::spin_loop());
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

fn lane<R>(ring: R, reach: &Reach, buffers: (u64, u32, u32), work: Work) -> Lane<R> {
    Lane {
        ring,
        reach: reach.clone(),
        work,
        buffers,
        scratch: vec![0; 0x4000],
        rest: Rest::new(RING),
    }
}

fn source(stream: u16, asked: &Asked) -> Source {
    let sizes = Sizes::fixed(asked.bytes as u64).expect("a size");
    Source::new(stream, sizes).sampling(asked.sample)
}

/// Both rings of a front-end, which has its receive buffers out.
pub(super) fn driver_side(front: &BareFront, asked: &Asked) -> Rings<Driver> {
    let reach = front.memory.reach();
    // without a gap: lines further apart cost a device that fills them more
    let stride = (asked.bytes + HEADER).next_multiple_of(64) as u32;
    let driver = |ring: &BareRing| {
        Driver::new(ring.layout, ring.base, &reach, bare::options(front.features)).expect("the ring is in memory")
    };
    // a frame begins where a cache line does, and its header before it
    let at = front.buffers() + 64 - HEADER as u64;
    let mut receive = driver(&front.rings[0]);
    for token in 0..u32::from(receive.size()) {
        let buffer = Buffer::writable(at + u64::from(token * stride), stride);
        receive.add(token, buffer).expect("the ring is empty");
    }
    receive.refuse_calls();
    receive.publish();
    let mut transmit = driver(&front.rings[1]);
    transmit.refuse_calls();
    Rings {
        receive: lane(receive, &reach, (at, stride, 0), Work::Sink(Box::new(Sink::new(&[1])))),
        transmit: lane(
            transmit,
            &reach,
            (at + (4 << 20), stride, 0),
            Work::Source(source(0, asked)),
        ),
    }
}

/// Both rings of a back-end: it receives what the front-end transmits.
pub(super) fn device_side(rings: Vec<BareRing>, reach: &Reach, features: u64, asked: &Asked) -> Rings<Device> {
    let device = |ring: &BareRing| {
        let mut device = Device::start(ring.layout, ring.base, reach, bare::options(features)).expect("in memory");
        device.refuse_kicks();
        device
    };
    Rings {
        transmit: lane(device(&rings[0]), reach, (0, 0, 0), Work::Source(source(1, asked))),
        receive: lane(
            device(&rings[1]),
            reach,
            (0, 0, 0),
            Work::Sink(Box::new(Sink::new(&[0]))),
        ),
    }
}

impl Side for Driver {
    fn step(lane: &mut Lane<Self>) -> usize {
        let Lane {
            ring,
            reach,
            work,
            buffers,
            scratch,
            rest,
            ..
        } = lane;
        match ring {
            Driver::Split(ring) => drive(ring, reach, work, buffers, scratch, rest),
            Driver::Packed(ring) => drive(ring, reach, work, buffers, scratch, rest),
        }
    }
}

fn drive<R: DriverRing>(
    ring: &mut R,
    reach: &Reach,
    work: &mut Work,
    (buffers, stride, next): &mut (u64, u32, u32),
    scratch: &mut [u8],
    resting: &mut Rest,
) -> usize {
    let mut done = [Done::default(); BURST];
    match work {
        Work::Source(source) => {
            // reading what was returned takes lines away from who writes them: not before it is needed, and then all
            if usize::from(ring.free()) < BURST {
                while ring.reap(&mut done).expect("the device keeps the rules") == BURST {}
                if usize::from(ring.free()) < BURST {
                    return 0;
                }
            }
            let (size, stride, mut near) = (u32::from(ring.size()), *stride, reach.near());
            let after = |token: u32| if token + 1 == size { 0 } else { token + 1 };
            let ahead = *next + BURST as u32;
            let mut ahead = if ahead >= size { ahead - size } else { ahead };
            let frames = (0..BURST).map(|_| {
                if let Some(frame) = near.place(*buffers + u64::from(ahead * stride) + HEADER as u64, 64) {
                    frame.prefetch_write();
                }
                ahead = after(ahead);
                let token = *next;
                *next = after(token);
                let address = *buffers + u64::from(token * stride);
                let place = near.place(address, stride).expect("it is in memory");
                // the header is zero, which it was when memory was made
                let len = source.fill_place(place, HEADER, 0, scratch);
                (token, Buffer::readable(address, (HEADER + len) as u32))
            });
            ring.add_each(frames).expect("they are free");
            ring.publish();
            BURST
        }
        Work::Sink(sink) => {
            // the lines of one burst are on their way while the one before is verified
            let mut coming = [Done::default(); BURST];
            let (mut count, mut moved) = (0, 0);
            for turn in 0..=TURNS {
                let next = match turn {
                    TURNS => 0,
                    _ => ring.reap(&mut coming).expect("the device keeps the rules"),
                };
                let mut near = reach.near();
                for done in &coming[..next] {
                    if let Some(place) = near.place(*buffers + u64::from(done.token * *stride), done.len)
                        && let Some(frame) = place.part(HEADER, place.len().saturating_sub(HEADER))
                    {
                        frame.prefetch_read();
                    }
                }
                let verified = done[..count].iter().map(|done| {
                    let address = *buffers + u64::from(done.token * *stride);
                    let place = near.place(address, done.len).expect("it is in memory");
                    sink.take_place(place, HEADER, 0, scratch);
                    (done.token, Buffer::writable(address, *stride))
                });
                ring.add_each(verified).expect("they were returned");
                if count > 0 {
                    ring.publish();
                    moved += count;
                }
                if next == 0 {
                    break;
                }
                resting.after(next);
                std::mem::swap(&mut done, &mut coming);
                count = next;
            }
            moved
        }
    }
}

impl Side for Device {
    fn step(lane: &mut Lane<Self>) -> usize {
        let Lane {
            ring,
            reach,
            work,
            scratch,
            rest,
            ..
        } = lane;
        match ring {
            Device::Split(ring) => serve(ring, reach, work, scratch, rest),
            Device::Packed(ring) => serve(ring, reach, work, scratch, rest),
        }
    }
}

fn serve<R: DeviceRing>(ring: &mut R, reach: &Reach, work: &mut Work, scratch: &mut [u8], resting: &mut Rest) -> usize {
    // the lines of one burst are on their way while the one before is worked on
    let (mut chains, mut coming) = (Chains::new(), Chains::new());
    let mut moved = 0;
    for turn in 0..=TURNS {
        let next = match turn {
            TURNS => {
                coming = Chains::new();
                0
            }
            _ => ring
                .take(reach, &mut coming, BURST)
                .expect("the driver keeps the rules"),
        };
        match work {
            Work::Source(source) => {
                for chain in chains.iter() {
                    let place = chain.writable.first().expect("a receive buffer");
                    assert!(
                        place.len() >= HEADER + source.next_len(),
                        "a frame fits into one buffer"
                    );
                    // what stands there already is not written: its cache line stays with both
                    if place.get_u64(0) != Some(0) {
                        place.set_u64(0, 0);
                    }
                    if place.get_u32(8) != Some(ONE_BUFFER) {
                        place.set_u32(8, ONE_BUFFER);
                    }
                    let len = source.fill_place(*place, HEADER, 0, scratch);
                    ring.give(chain.ticket, (HEADER + len) as u32);
                }
            }
            Work::Sink(sink) => {
                for chain in chains.iter() {
                    match chain.readable {
                        [place] => sink.take_place(*place, HEADER, 0, scratch),
                        places => {
                            // a header of its own, or one that goes on in the next buffer
                            let (mut len, mut skip) = (0, HEADER);
                            for place in places {
                                len += place.copy_out(skip.min(place.len()), &mut scratch[len..]);
                                skip -= skip.min(place.len());
                            }
                            sink.take(&scratch[..len], 0);
                        }
                    }
                    ring.give(chain.ticket, 0);
                }
            }
        }
        if !chains.is_empty() {
            ring.flush();
            moved += chains.len();
        }
        if next == 0 {
            break;
        }
        resting.after(next);
        std::mem::swap(&mut chains, &mut coming);
    }
    moved
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
