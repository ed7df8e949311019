//! What standing between costs: `cargo bench --bench interposer [-- ROUNDS [trips] | messages COUNT]`. One request and its reply, without and
//! with a descriptor, direct, through `vuh record`, and through a bare relay (poll, read, send, and nothing else: what it
//! costs that anything at all stands between), interleaved in one run; then, unless only `trips` are asked for, the rate of
//! packets between two DPDK programs, which share memory and should not notice. Prints medians and ratios; asserts nothing.
//!
//! Being woken on another processor, which sleeps, costs several times what a whole round trip on one does. So the trips
//! are compared with both programs in the same places: put there, and then left to the kernel, with the figures told apart by
//! where it had the programs.
//!
//! With `messages`, so many are recorded, with what memory that takes on the way; then the recorder is killed, and it is counted
//! what can be read of its trace.

mod dpdk;
mod long;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vhost_user_harness::sys::cpu;
use vhost_user_harness::sys::fd::eventfd;
use vhost_user_harness::sys::poll::{Interest, wait};
use vhost_user_harness::sys::socket::{receive, send};
use vhost_user_harness::wire::{Dialect, Header};

/// Round trips of one window.
const TRIPS: usize = 2_000;
/// So often within a window it is looked where the programs are.
const LOOKS: usize = 10;
/// Between two windows whose places the kernel chooses.
const ASLEEP: Duration = Duration::from_millis(5);

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("answer") => return answer(&socket_of(std::io::stdin())),
        Some("relay") => return relay([&socket_of(std::io::stdin()), &socket_of(std::io::stdout())]),
        _ => {}
    }
    let words: Vec<String> = std::env::args().collect();
    if let Some(at) = words.iter().position(|word| word == "messages") {
        let count = words.get(at + 1).and_then(|word| word.parse().ok());
        return long::record(count.unwrap_or(1_000_000));
    }
    let rounds = std::env::args()
        .skip(1)
        .find_map(|a| a.parse::<usize>().ok())
        .unwrap_or(15);
    let cpus = cpu::allowed().expect("the kernel says");
    for place in [Place::One, Place::Two, Place::Free] {
        match cpus.as_slice() {
            [one] if place == Place::Two => println!("with processor {one} alone: not run on two"),
            cpus => trips(place, cpus, rounds),
        }
    }
    cpu::keep_this_thread(&cpus).expect("as before");
    if std::env::args().any(|word| word == "trips") {
        return;
    }
    dpdk::compare(rounds.div_ceil(5));
}

/// Which processors the programs are on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    /// All on one.
    One,
    /// The two programs on one each; who stands between is beside the one that asks.
    Two,
    /// Wherever the kernel puts them.
    Free,
}

impl Place {
    /// Where the one that asks runs, and who stands between.
    fn front(self, cpus: &[usize]) -> &[usize] {
        if self == Self::Free { cpus } else { &cpus[..1] }
    }

    fn back(self, cpus: &[usize]) -> &[usize] {
        if self == Self::Two {
            &cpus[1..2]
        } else {
            self.front(cpus)
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::One => "all on one processor",
            Self::Two => "front-end and back-end on one processor each",
            Self::Free => "on any processors",
        })
    }
}

/// The time of a round trip three ways.
fn trips(place: Place, cpus: &[usize], rounds: usize) {
    let go = |cpus: &[usize]| cpu::keep_this_thread(cpus).expect("they are there");
    let folder = tempfile::tempdir().expect("a temporary directory");
    // what is started stays where it is started
    go(place.front(cpus));
    let mut interposer = start(folder.path(), "trips.yaml");
    let back = UnixListener::bind(folder.path().join("b")).expect("a socket");
    let through = dial(&folder.path().join("a"));
    let (direct, beside) = UnixStream::pair().expect("a pair of sockets");
    let (bare, near) = UnixStream::pair().expect("a pair of sockets");
    let (far, behind) = UnixStream::pair().expect("a pair of sockets");
    let answering = back.accept().expect("the interposer connects").0;
    let relay = role("relay", near, Some(far));
    go(place.back(cpus));
    let others = [
        role("answer", beside, None),
        role("answer", behind, None),
        role("answer", answering, None),
        relay,
    ];
    // who takes part each way, next to this program
    let parts = [
        vec![others[0].id()],
        vec![others[1].id(), others[3].id()],
        vec![others[2].id(), interposer.id()],
    ];
    go(place.front(cpus));
    let event = eventfd().expect("an eventfd");
    for (what, request, fds) in [
        ("request and reply", 1u32, vec![]),
        ("the same with a descriptor", 12, vec![event.as_fd()]),
    ] {
        let mut windows = [vec![], vec![], vec![]];
        for _ in 0..rounds {
            for (nth, socket) in [&direct, &bare, &through].into_iter().enumerate() {
                if place == Place::Free {
                    // long enough asleep for the kernel to choose anew
                    std::thread::sleep(ASLEEP);
                }
                windows[nth].push(window(socket, request, &fds, &parts[nth]));
            }
        }
        println!("{what}, {place}: {rounds} windows of {TRIPS} each way, interleaved");
        if place == Place::Free {
            for (where_to, seen) in [
                ("on one processor", Seen::One),
                ("spread", Seen::Spread),
                ("moved meanwhile", Seen::Moved),
            ] {
                println!("  {where_to}");
                print(&windows, |window| window.seen == seen);
            }
            println!("  all of them");
        }
        print(&windows, |_| true);
    }
    interposer.kill().expect("the interposer is ours");
    interposer.wait().expect("the interposer ends");
    drop((direct, bare, through));
    for mut other in others {
        other.wait().expect("it ends with its connection");
    }
}

/// The medians of those windows, and what they are to the direct one.
fn print(windows: &[Vec<Window>; 3], which: impl Fn(&Window) -> bool) {
    let [own, bare, passed] = windows.each_ref().map(|windows| {
        let chosen = windows.iter().filter(|window| which(window));
        sorted(chosen.map(|window| window.us).collect())
    });
    let middle = |times: &[f64]| times.get(times.len() / 2).copied();
    let line = |name: &str, times: &[f64]| {
        let Some(median) = middle(times) else {
            println!("    {name:10} in no window");
            return;
        };
        let ratio = match middle(&own) {
            Some(own) => format!(", {:.2} times the direct one", median / own),
            None => String::new(),
        };
        let (least, most) = (times[0], times[times.len() - 1]);
        println!(
            "    {name:10} {median:7.2} us ({least:.2} to {most:.2}, {} windows){ratio}",
            times.len()
        );
    };
    line("direct", &own);
    line("bare relay", &bare);
    line("interposer", &passed);
}

/// Starts `vuh record` between `a` and `b` in a folder.
fn start(folder: &Path, trace: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_vuh"))
        .args(["record", "--listen", "a", "--connect", "b", "-o", trace])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("vuh starts")
}

/// Another process of this program, with one or two sockets.
fn role(role: &str, socket: UnixStream, second: Option<UnixStream>) -> Child {
    let second = second.map_or_else(Stdio::null, |socket| OwnedFd::from(socket).into());
    Command::new(std::env::current_exe().expect("this program has a path"))
        .arg(role)
        .stdin(OwnedFd::from(socket))
        .stdout(second)
        .spawn()
        .expect("this program starts")
}

fn socket_of(end: impl AsFd) -> UnixStream {
    let socket = end.as_fd().try_clone_to_owned().expect("it is open");
    UnixStream::from(socket)
}

fn dial(path: &Path) -> UnixStream {
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return stream,
            Err(_) => std::thread::yield_now(),
        }
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn median(values: Vec<f64>) -> f64 {
    let sorted = sorted(values);
    sorted[sorted.len() / 2]
}

/// One window.
struct Window {
    /// Microseconds of one round trip.
    us: f64,
    seen: Seen,
}

/// Where the programs that take part were, whenever they were looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen {
    One,
    Spread,
    /// Sometimes this, sometimes that.
    Moved,
}

fn window(socket: &UnixStream, request: u32, fds: &[BorrowedFd], others: &[u32]) -> Window {
    let message = message(request, 9, &0u64.to_ne_bytes());
    let mut spent = Duration::ZERO;
    let mut seen = None;
    for _ in 0..LOOKS {
        let start = Instant::now();
        for _ in 0..TRIPS / LOOKS {
            let sent = send(socket.as_fd(), &message, fds).expect("the other side is there");
            assert_eq!(sent, Some(message.len()));
            read(socket, 20).expect("the other side is there");
        }
        spent += start.elapsed();
        let own = processor(std::process::id());
        let now = match others.iter().all(|other| processor(*other) == own) {
            true => Seen::One,
            false => Seen::Spread,
        };
        seen = match seen {
            Some(before) if before != now => Some(Seen::Moved),
            _ => Some(now),
        };
    }
    Window {
        us: spent.as_secs_f64() * 1e6 / TRIPS as f64,
        seen: seen.expect("it was looked at"),
    }
}

/// The processor that a program ran on last: field 39 of `/proc/PID/stat`, counted behind its name.
fn processor(pid: u32) -> usize {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("proc(5) says so");
    let field = fields.split_ascii_whitespace().nth(36).expect("proc(5) says so");
    field.parse().expect("a number")
}

/// Answers everything until the other side is gone, reading as real programs do: the header, then the payload.
fn answer(socket: &UnixStream) {
    while let Some(header) = read(socket, 12) {
        let Some(header) = Header::decode(Dialect::VhostUser, &header) else {
            return;
        };
        if read(socket, header.size as usize).is_none() {
            return;
        }
        let reply = message(header.request, 5, &1u64.to_ne_bytes());
        if send(socket.as_fd(), &reply, &[]).is_err() {
            return;
        }
    }
}

/// The least that somebody in between can do: wait, read, send.
fn relay(sockets: [&UnixStream; 2]) {
    let interest = |token: usize| Interest {
        fd: sockets[token].as_fd(),
        read: true,
        write: false,
        token,
    };
    let interests = [interest(0), interest(1)];
    let mut buffer = [0; 64];
    loop {
        let Ok(ready) = wait(&interests, None) else { return };
        for from in ready {
            let Ok(Some(received)) = receive(sockets[from].as_fd(), &mut buffer) else {
                continue;
            };
            let fds: Vec<BorrowedFd> = received.fds.iter().map(AsFd::as_fd).collect();
            let sent = send(sockets[1 - from].as_fd(), &buffer[..received.len], &fds);
            if received.len == 0 || sent.is_err() {
                return;
            }
        }
    }
}

fn read(socket: &UnixStream, len: usize) -> Option<Vec<u8>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 64]);
    while bytes.len() < len {
        let wanted = (len - bytes.len()).min(buffer.len());
        match receive(socket.as_fd(), &mut buffer[..wanted]) {
            Ok(Some(received)) if received.len == 0 => return None,
            Ok(Some(received)) => bytes.extend_from_slice(&buffer[..received.len]),
            Ok(None) => {
                let interest = Interest {
                    fd: socket.as_fd(),
                    read: true,
                    write: false,
                    token: (),
                };
                wait(&[interest], None).ok()?;
            }
            Err(_) => return None,
        }
    }
    Some(bytes)
}

fn message(request: u32, flags: u32, payload: &[u8]) -> Vec<u8> {
    let size = payload.len() as u32;
    let mut bytes = Header {
        request,
        flags,
        size,
        conn_id: 0,
    }
    .encode(Dialect::VhostUser);
    bytes.extend_from_slice(payload);
    bytes
}
