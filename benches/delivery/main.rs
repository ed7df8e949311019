//! How fast packets cross shared memory, beside what DPDK does with the same rings on the same processors:
//!
//!     cargo bench --bench delivery -- [split|packed] [BYTES] [ROUNDS] [WINDOW_MS] [headers]
//!     cargo bench --bench delivery -- count [split|packed] BYTES MILLIONS
//!
//! One processor a side, 1024 descriptors, huge pages, all kinds of pairs in turns within one run; best and median of the
//! rounds, and the ratio to DPDK with DPDK in the same direction. The receiver's count decides. Asserts nothing.
//! With `headers` the harness makes and compares the content of one frame in 64 only, and of all others the header with stream,
//! number and checksum: DPDK's own source writes nothing but headers either, and its sink reads nothing at all.
//! With `count`, so many frames go from the harness to itself, each of them verified, and it ends with an error if one is not
//! as it was sent.
//! What else runs on the machine shows in the figures: `nice -n -20` helps.

mod lanes;
mod testpmd;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use lanes::Own;
use testpmd::Testpmd;
use vhost_user_harness::peer::bare::{BareBack, BareFront, features};
use vhost_user_harness::peer::catalogue::find_program;

const RING: u16 = 1024;
const SETTLE: Duration = Duration::from_millis(120);
const PATIENCE: Duration = Duration::from_secs(20);
/// Rounds after which the programs are started anew: some starts are slow for good.
const ROUNDS_A_START: usize = 3;
/// Where programs and threads run: back-ends on one processor, front-ends on the other.
const BACK_CPU: usize = 0;
const FRONT_CPU: usize = 1;

/// What is measured: name, and the pair it is compared with.
const KINDS: [(&str, usize); 8] = [
    ("DPDK front-end  -> DPDK back-end", 0),
    ("harness front-end -> DPDK back-end", 0),
    ("DPDK front-end  -> harness back-end", 0),
    ("harness front-end -> harness back-end", 0),
    ("DPDK back-end   -> DPDK front-end", 4),
    ("DPDK back-end   -> harness front-end", 4),
    ("harness back-end  -> DPDK front-end", 4),
    ("harness back-end  -> harness front-end", 4),
];

struct Asked {
    packed: bool,
    bytes: usize,
    rounds: usize,
    window: Duration,
    only: Option<usize>,
    /// Of every so many frames, one has content.
    sample: u64,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let numbers: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let asked = Asked {
        packed: words.iter().any(|word| word == "packed"),
        bytes: numbers.first().copied().unwrap_or(64),
        rounds: numbers.get(1).copied().unwrap_or(9),
        window: Duration::from_millis(numbers.get(2).copied().unwrap_or(400) as u64),
        only: numbers.get(3).copied(),
        sample: if words.iter().any(|word| word == "headers") {
            64
        } else {
            1
        },
    };
    if words.iter().any(|word| word == "count") {
        return count(&asked, asked.rounds as u64 * 1_000_000);
    }
    if find_program(Path::new("dpdk-testpmd")).is_none() {
        println!("not run: dpdk-testpmd is not installed");
        return;
    }
    let mut rates = vec![Vec::new(); KINDS.len()];
    let mut done = 0;
    while done < asked.rounds {
        let mut stage = Stage::set_up(&asked);
        for round in done..asked.rounds.min(done + ROUNDS_A_START) {
            for turn in 0..KINDS.len() {
                let kind = (turn + round) % KINDS.len();
                if asked.only.is_none_or(|only| only == kind || KINDS[only].1 == kind) {
                    rates[kind].push(stage.measure(kind, asked.window));
                }
            }
        }
        done += ROUNDS_A_START;
    }
    println!(
        "a cache line there and back: {:.0} ns",
        lanes::line_round_trip(BACK_CPU, FRONT_CPU)
    );
    report(&asked, &rates);
}

/// Sends so many frames and more from the harness's front-end to its back-end; all of them have to arrive as they were sent.
fn count(asked: &Asked, frames: u64) {
    let (front, drivers, devices) = own_pair(asked);
    let begun = Instant::now();
    let receiving = lanes::Running::start(devices.receive, BACK_CPU);
    let sending = lanes::Running::start(drivers.transmit, FRONT_CPU);
    while receiving.moved() < frames {
        assert!(!receiving.has_ended() && !sending.has_ended(), "a side failed");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (_, sent) = sending.end();
    while receiving.moved() < sent {
        assert!(!receiving.has_ended(), "a side failed");
        std::thread::sleep(Duration::from_millis(10));
    }
    // the verdict on every one of them is asserted where the lane ends
    let (_, received) = receiving.end();
    assert_eq!(sent, received, "no packet is lost");
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} ring: {received} frames of {} bytes sent and received in order, whole and once, {:.2} million a second",
        if asked.packed { "packed" } else { "split" },
        asked.bytes,
        received as f64 / 1e6 / seconds
    );
    drop(front);
}

fn report(asked: &Asked, rates: &[Vec<f64>]) {
    let ring = if asked.packed { "packed" } else { "split" };
    println!(
        "{ring} ring of {RING}, {} bytes, {} rounds in turns, windows of {:?}; million packets a second",
        asked.bytes, asked.rounds, asked.window
    );
    if asked.sample > 1 {
        println!("headers of all frames verified, contents of one in {}", asked.sample);
    }
    println!(
        "{:<40}{:>8}{:>8}{:>12}{:>9}",
        "", "best", "median", "best ratio", "ratio"
    );
    let best = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
    for ((name, base), own) in KINDS.iter().zip(rates) {
        if own.is_empty() {
            continue;
        }
        let base = &rates[*base];
        println!(
            "{name:<40}{:>8.2}{:>8.2}{:>12.2}{:>9.2}",
            best(own),
            median(own),
            best(own) / best(base),
            median(own) / median(base)
        );
    }
}

fn median(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// All that takes part: a pair of DPDK programs, one of each with the harness, and the harness with itself.
struct Stage {
    _folder: tempfile::TempDir,
    back: Testpmd,
    front: Testpmd,
    /// DPDK's back-end and the harness's front-end.
    other_back: Testpmd,
    own_front: (BareFront, Option<Rings>),
    /// DPDK's front-end and the harness's back-end.
    other_front: Testpmd,
    own_back: (BareBack, Option<Rings>),
    /// Both sides of the harness.
    pair: (BareFront, Option<Rings>, Option<Rings>),
}

/// The receiving and the sending ring of a side.
struct Rings {
    receive: Own,
    transmit: Own,
}

impl Stage {
    fn set_up(asked: &Asked) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path();
        let packed = u8::from(asked.packed);
        let vhost = |socket: &str| format!("net_vhost0,iface={socket},queues=1");
        let user = |socket: &str| {
            format!(
                "net_virtio_user0,path={socket},server=0,queues=1,queue_size={RING},packed_vq={packed},mrg_rxbuf=1,in_order=1"
            )
        };
        let mut back = Testpmd::start(path, "a", BACK_CPU, &vhost("d"), "rxonly", RING);
        let mut other_back = Testpmd::start(path, "b", BACK_CPU, &vhost("f"), "rxonly", RING);
        back.is_up();
        other_back.is_up();
        let listener = UnixListener::bind(path.join("b")).expect("a socket");
        let mut front = Testpmd::start(path, "c", FRONT_CPU, &user("d"), "txonly", RING);
        let mut other_front = Testpmd::start(path, "d", FRONT_CPU, &user("b"), "txonly", RING);
        let wanted = wanted(asked);
        let socket = OwnedFd::from(listener.accept().expect("DPDK connects").0);
        let mut own_back = BareBack::new(socket, 2, wanted, PATIENCE);
        let rings = own_back.set_up(PATIENCE).expect("DPDK starts its rings");
        let own_back_rings = lanes::device_side(rings, &own_back.table.reach(), own_back.features, asked);
        front.is_up();
        other_front.is_up();
        let socket = OwnedFd::from(std::os::unix::net::UnixStream::connect(path.join("f")).expect("DPDK listens"));
        let own_front = front_end(socket, wanted);
        let own_front_rings = lanes::driver_side(&own_front, asked);
        let (pair_front, pair_drivers, pair_devices) = own_pair(asked);
        for program in [&mut back, &mut front, &mut other_back, &mut other_front] {
            program.frames_of(asked.bytes);
        }
        Self {
            _folder: folder,
            back,
            front,
            other_back,
            own_front: (own_front, Some(own_front_rings)),
            other_front,
            own_back: (own_back, Some(own_back_rings)),
            pair: (pair_front, Some(pair_drivers), Some(pair_devices)),
        }
    }

    /// Million packets a second of one kind.
    fn measure(&mut self, kind: usize, window: Duration) -> f64 {
        match kind {
            0 => dpdk_to_dpdk(&mut self.front, &mut self.back, window),
            4 => dpdk_to_dpdk(&mut self.back, &mut self.front, window),
            1 => {
                let mut rings = self.own_front.1.take().expect("it is given back");
                let running = lanes::Running::start(rings.transmit, FRONT_CPU);
                let rate = dpdk_receives(&mut self.other_back, window);
                rings.transmit = running.end().0;
                self.own_front.1 = Some(rings);
                rate
            }
            6 => {
                let mut rings = self.own_back.1.take().expect("it is given back");
                let running = lanes::Running::start(rings.transmit, BACK_CPU);
                let rate = dpdk_receives(&mut self.other_front, window);
                rings.transmit = running.end().0;
                self.own_back.1 = Some(rings);
                rate
            }
            5 => {
                let mut rings = self.own_front.1.take().expect("it is given back");
                let (lane, rate) = dpdk_sends(&mut self.other_back, rings.receive, FRONT_CPU, window);
                rings.receive = lane;
                self.own_front.1 = Some(rings);
                rate
            }
            2 => {
                let mut rings = self.own_back.1.take().expect("it is given back");
                let (lane, rate) = dpdk_sends(&mut self.other_front, rings.receive, BACK_CPU, window);
                rings.receive = lane;
                self.own_back.1 = Some(rings);
                rate
            }
            _ => {
                let mut drivers = self.pair.1.take().expect("it is given back");
                let mut devices = self.pair.2.take().expect("it is given back");
                let rate;
                if kind == 3 {
                    (drivers.transmit, devices.receive, rate) =
                        both_own((drivers.transmit, FRONT_CPU), (devices.receive, BACK_CPU), window);
                } else {
                    (devices.transmit, drivers.receive, rate) =
                        both_own((devices.transmit, BACK_CPU), (drivers.receive, FRONT_CPU), window);
                }
                (self.pair.1, self.pair.2) = (Some(drivers), Some(devices));
                rate
            }
        }
    }
}

fn wanted(asked: &Asked) -> u64 {
    let packed = if asked.packed { features::RING_PACKED } else { 0 };
    features::MRG_RXBUF | features::IN_ORDER | features::INDIRECT_DESC | packed
}

/// Both sides of the harness, connected to each other.
fn own_pair(asked: &Asked) -> (BareFront, Rings, Rings) {
    let wanted = wanted(asked);
    let (one, other) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
    let answering = std::thread::spawn(move || {
        let mut back = BareBack::new(other.into(), 2, wanted, PATIENCE);
        let rings = back.set_up(PATIENCE).expect("the harness starts its rings");
        (back, rings)
    });
    let front = front_end(one.into(), wanted);
    let (back, rings) = answering.join().expect("it ends");
    let devices = lanes::device_side(rings, &back.table.reach(), back.features, asked);
    let drivers = lanes::driver_side(&front, asked);
    (front, drivers, devices)
}

fn front_end(socket: OwnedFd, wanted: u64) -> BareFront {
    BareFront::set_up(socket, (2, RING), (16 << 20, true), wanted, PATIENCE).expect("the back-end starts the rings")
}

fn dpdk_to_dpdk(sender: &mut Testpmd, receiver: &mut Testpmd, window: Duration) -> f64 {
    sender.say("set fwd txonly");
    sender.begin();
    let rate = dpdk_receives(receiver, window);
    sender.end();
    rate
}

fn dpdk_receives(receiver: &mut Testpmd, window: Duration) -> f64 {
    receiver.say("set fwd rxonly");
    receiver.begin();
    std::thread::sleep(SETTLE);
    let (begun, before) = receiver.received();
    std::thread::sleep(window);
    let (ended, after) = receiver.received();
    receiver.end();
    (after - before) as f64 / 1e6 / (ended - begun).as_secs_f64()
}

fn dpdk_sends(sender: &mut Testpmd, lane: Own, cpu: usize, window: Duration) -> (Own, f64) {
    sender.say("set fwd txonly");
    let running = lanes::Running::start(lane, cpu);
    sender.begin();
    let rate = own_receives(&running, window);
    sender.end();
    (running.end().0, rate)
}

fn own_receives(running: &lanes::Running, window: Duration) -> f64 {
    std::thread::sleep(SETTLE);
    let (begun, before) = (Instant::now(), running.moved());
    std::thread::sleep(window);
    let (ended, after) = (Instant::now(), running.moved());
    (after - before) as f64 / 1e6 / (ended - begun).as_secs_f64()
}

fn both_own(
    (sender, sender_cpu): (Own, usize),
    (receiver, receiver_cpu): (Own, usize),
    window: Duration,
) -> (Own, Own, f64) {
    let receiving = lanes::Running::start(receiver, receiver_cpu);
    let sending = lanes::Running::start(sender, sender_cpu);
    let rate = own_receives(&receiving, window);
    let (sender, sent) = sending.end();
    // what is under way arrives, whenever the receiver gets the processor
    let begun = Instant::now();
    while receiving.moved() < sent && begun.elapsed() < PATIENCE && !receiving.has_ended() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (receiver, received) = receiving.end();
    assert_eq!(sent, received, "no packet is lost");
    (sender, receiver, rate)
}
