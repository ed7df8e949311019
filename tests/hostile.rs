//! Peers that mean harm: floods, descriptors that block or are always ready, memory that is taken away. The harness has to
//! come to a verdict within the scenario's limit. The peers are threads of the test, at the other end of `connect:` and
//! `listen:`.

#![expect(clippy::unwrap_used, reason = "a test may end with a panic")]

use std::fs::{self, File};
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tempfile::TempDir;
use vhost_user_harness::judge::outcome::Outcome;
use vhost_user_harness::judge::verdict::{FailKind, Verdict};
use vhost_user_harness::scenario::{Settings, load_file};
use vhost_user_harness::suite::environment::{self, Options};
use vhost_user_harness::suite::execute;

/// A limit that is to be met, and one that is not.
const SHORT: &str = "2 s";
const LONG: &str = "60 s";
/// Far more than either.
const PATIENCE: Duration = Duration::from_secs(120);

/// What these peers do by the way, and what is not the point of a test.
const BROKEN_ON_PURPOSE: &str = "allow: [unknown-request, cut-short, chain-available-twice]\n";

/// Guest and user address of the only region.
const GUEST: u64 = 0x10_0000;
const USER: u64 = 0x7f00_0000_0000;
const SIZE: u64 = 0x40_0000;
/// Where the ring lies in it.
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Runs steps against whoever is at the socket, in a thread, so that a test can give up.
    fn run(&self, limit: &str, peers: &str, steps: &str) -> Outcome {
        let path = self.folder.path().join("hostile.yaml");
        let peers = peers.replace("SOCKET", &self.socket().to_string_lossy());
        let head = format!("scenario: hostile\nabout: The harness does not come to a verdict.\ntimeout: {limit}\n");
        fs::write(
            &path,
            format!("{head}{BROKEN_ON_PURPOSE}peers:\n{peers}steps:\n{steps}"),
        )
        .unwrap();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let plan = load_file(&path, &Settings::default()).unwrap().remove(0);
            let environment = environment::environment(&Options::default(), "vuh".into()).unwrap();
            sender.send(execute(&plan, &environment)).unwrap();
        });
        receiver.recv_timeout(PATIENCE).expect("the harness hangs")
    }

    /// A hostile front-end against the simulated back-end, until it closes the connection.
    fn front_end(&self, limit: &str, hostile: impl FnOnce(&mut FrontEnd) + Send + 'static) -> Outcome {
        let socket = self.socket();
        let peer = thread::spawn(move || {
            let mut front = FrontEnd::connect(&socket);
            hostile(&mut front);
        });
        let outcome = self.run(
            limit,
            "  front: {frontend: \"listen:SOCKET\", device: blk}\n  back: {backend: simulated, device: blk}\n",
            "  - connect: {from: front, to: back}\n  - until: {from: front, closed: main}\n",
        );
        peer.join().unwrap();
        outcome
    }

    /// A hostile back-end against the simulated front-end.
    fn back_end(&self, hostile: impl FnOnce(UnixListener) + Send + 'static) -> Outcome {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let peer = thread::spawn(move || hostile(listener));
        let outcome = self.run(
            SHORT,
            "  front: {frontend: simulated, device: blk}\n  back: {backend: \"connect:SOCKET\", device: blk}\n",
            "  - connect: {from: front, to: back}\n  - until: {from: back, message: CONFIG_CHANGE_MSG, channel: backend}\n",
        );
        peer.join().unwrap();
        outcome
    }
}

/// As much of a front-end as it takes to start a ring.
struct FrontEnd {
    stream: UnixStream,
    memory: File,
}

impl FrontEnd {
    fn connect(socket: &PathBuf) -> Self {
        // the harness listens once its run has begun
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(_) => thread::yield_now(),
            }
        };
        let memory = File::from(memfd_create(c"hostile", MFdFlags::MFD_CLOEXEC).unwrap());
        memory.set_len(SIZE).unwrap();
        Self { stream, memory }
    }

    fn send(&mut self, request: u32, payload: &[u64], fds: &[&dyn AsFd]) {
        let payload: Vec<u8> = payload.iter().flat_map(|word| word.to_le_bytes()).collect();
        let bytes = message(request, 1, &payload);
        let raw: Vec<i32> = fds.iter().map(|fd| fd.as_fd().as_raw_fd()).collect();
        let control = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &control[..] };
        let slices = [IoSlice::new(&bytes)];
        let sent = sendmsg::<()>(self.stream.as_raw_fd(), &slices, control, MsgFlags::MSG_NOSIGNAL, None);
        assert_eq!(sent, Ok(bytes.len()));
    }

    /// Everything up to an enabled ring, with these descriptors.
    fn start_ring(&mut self, kick: &dyn AsFd, call: &dyn AsFd) {
        let memory = self.memory.try_clone().unwrap();
        self.send(3, &[], &[]);
        self.send(2, &[1 << 32 | 1 << 30], &[]);
        self.send(5, &[1, GUEST, SIZE, USER, 0], &[&memory]);
        self.send(8, &[256 << 32], &[]);
        self.send(10, &[0], &[]);
        self.send(9, &[0, USER + DESCRIPTORS, USER + USED, USER + AVAILABLE, 0], &[]);
        self.send(13, &[0], &[call]);
        self.send(12, &[0], &[kick]);
        self.send(18, &[1 << 32], &[]);
    }

    /// A read of one sector in the first descriptors, and the next in the available ring.
    fn offer_read(&mut self, index: u16) {
        let descriptor = |address: u64, length: u32, flags: u16, next: u16| {
            let mut raw = address.to_le_bytes().to_vec();
            raw.extend(length.to_le_bytes());
            raw.extend(flags.to_le_bytes());
            raw.extend(next.to_le_bytes());
            raw
        };
        let table = [
            descriptor(GUEST + 0x8000, 16, 1, 1),
            descriptor(GUEST + 0x1_0000, 512, 3, 2),
            descriptor(GUEST + 0x9000, 1, 2, 0),
        ];
        self.memory.write_all_at(&table.concat(), DESCRIPTORS).unwrap();
        self.memory.write_all_at(&index.to_le_bytes(), AVAILABLE + 2).unwrap();
    }
}

fn message(request: u32, flags: u32, payload: &[u8]) -> Vec<u8> {
    let words = [request, flags, payload.len() as u32];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(payload);
    bytes
}

/// An eventfd that blocks whoever reads or writes it at the wrong moment.
fn blocking(value: u64) -> OwnedFd {
    let event: OwnedFd = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).unwrap().into();
    if value > 0 {
        nix::unistd::write(&event, &value.to_ne_bytes()).unwrap();
    }
    event
}

fn kick(event: &OwnedFd) {
    nix::unistd::write(event, &1u64.to_ne_bytes()).unwrap();
}

/// Broken: a call into an eventfd that blocks and is full never returns.
#[test]
fn a_call_that_would_block_holds_nobody_up() {
    let outcome = Place::new().front_end(LONG, |front| {
        let (kicks, calls) = (blocking(0), blocking(u64::MAX - 1));
        front.start_ring(&kicks, &calls);
        front.offer_read(1);
        kick(&kicks);
    });
    assert_eq!(outcome.verdict, Verdict::Pass, "{outcome:?}");
}

/// Broken: a kick descriptor that is always readable and never gives anything keeps the loop from everything else.
#[test]
fn a_kick_descriptor_that_is_none_is_left_alone() {
    let outcome = Place::new().front_end(LONG, |front| {
        let (folder, null) = (File::open("/").unwrap(), File::open("/dev/null").unwrap());
        let calls = blocking(0);
        front.start_ring(&folder, &calls);
        front.send(12, &[0], &[&null]);
    });
    assert_eq!(outcome.verdict, Verdict::Pass, "{outcome:?}");
    // were it looked at again and again, each look would have been an event
    assert!(outcome.events < 40, "{} events", outcome.events);
}

/// Broken: a front-end that truncates its memory ends the harness.
#[test]
fn memory_that_is_taken_away_is_survived() {
    let outcome = Place::new().front_end(LONG, |front| {
        let (kicks, calls) = (blocking(0), blocking(0));
        front.start_ring(&kicks, &calls);
        // the answer says that the ring has been started
        front.send(1, &[], &[]);
        front.stream.read_exact(&mut [0; 20]).unwrap();
        front.memory.set_len(0).unwrap();
        kick(&kicks);
        front.send(1, &[], &[]);
        front.stream.read_exact(&mut [0; 20]).unwrap();
    });
    assert_eq!(outcome.verdict, Verdict::Pass, "{outcome:?}");
}

/// Broken: a driver that makes work available faster than it is done keeps the loop in the ring for ever.
#[test]
fn a_driver_that_goes_on_for_ever_meets_the_limit() {
    let outcome = Place::new().front_end(SHORT, |front| {
        let (kicks, calls) = (blocking(0), blocking(0));
        front.start_ring(&kicks, &calls);
        front.offer_read(256);
        kick(&kicks);
        front.stream.set_nonblocking(true).unwrap();
        // the ring is kept full until the harness has given up
        while !matches!(front.stream.read(&mut [0; 64]), Ok(0)) {
            let mut used = [0; 2];
            front.memory.read_exact_at(&mut used, USED + 2).unwrap();
            let next = u16::from_le_bytes(used).wrapping_add(256);
            front.memory.write_all_at(&next.to_le_bytes(), AVAILABLE + 2).unwrap();
        }
    });
    assert_eq!(outcome.verdict, Verdict::Fail(FailKind::Hang), "{outcome:?}");
}

/// Broken: what a peer floods the link with is kept without a limit.
#[test]
fn a_flood_of_large_messages_ends_the_run() {
    let outcome = Place::new().front_end(LONG, |front| {
        let bytes = message(99, 1, &[0; 0x1_0000]);
        while front.stream.write_all(&bytes).is_ok() {}
    });
    let reason = outcome.reason.unwrap();
    assert!(reason.contains("64 MiB of payload"), "{reason}");
}

/// Broken: messages that are held keep descriptors until there are none left for anybody.
#[test]
fn a_flood_of_descriptors_behind_a_hold_ends_the_run() {
    let place = Place::new();
    let socket = place.socket();
    let peer = thread::spawn(move || {
        let mut front = FrontEnd::connect(&socket);
        let event = blocking(0);
        let fds: Vec<&dyn AsFd> = vec![&event as &dyn AsFd; 200];
        for _ in 0..12 {
            front.send(99, &[], &fds);
        }
        // until the harness has closed
        while !matches!(front.stream.read(&mut [0; 64]), Ok(0) | Err(_)) {}
    });
    let outcome = place.run(
        LONG,
        "  front: {frontend: \"listen:SOCKET\", device: blk}\n  back: {backend: simulated, device: blk}\n",
        "  - hold: {as: all, when: {from: front, message: request 99}}\n\
         \x20 - connect: {from: front, to: back}\n\
         \x20 - until: {from: front, closed: main}\n\
         \x20 - release: all\n",
    );
    peer.join().unwrap();
    let reason = outcome.reason.unwrap();
    assert!(reason.contains("2048 descriptors"), "{reason}");
}

/// Broken: a program that listens and accepts nobody, its backlog full, stops the harness.
#[test]
fn a_full_backlog_meets_the_limit() {
    let place = Place::new();
    let listener = UnixListener::bind(place.socket()).unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    // one that is never accepted fills it
    let _held = UnixStream::connect(place.socket()).unwrap();
    let outcome = place.run(
        SHORT,
        "  front: {frontend: simulated, device: blk}\n  back: {backend: \"connect:SOCKET\", device: blk}\n",
        "  - connect: {from: front, to: back}\n  - setup: {peer: front}\n",
    );
    assert_eq!(outcome.verdict, Verdict::Fail(FailKind::Start), "{outcome:?}");
}

/// Broken: replies that nobody asked for, in pieces of a byte, or a header of another world end in a panic or not at all.
#[test]
fn rubbish_is_refused() {
    for bytes in [
        message(1, 5, b"").repeat(100),
        message(1, 5, &[0xff; 0x1_0000]),
        vec![0xff; 0x2_0000],
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
    ] {
        let outcome = Place::new().back_end(move |listener| {
            let (mut stream, _) = listener.accept().unwrap();
            for piece in bytes.chunks(bytes.len().div_ceil(50)) {
                if stream.write_all(piece).is_err() {
                    break;
                }
            }
        });
        assert!(matches!(outcome.verdict, Verdict::Fail(_)), "{outcome:?}");
    }
}
