//! Nothing is left behind, whatever happens to the peers or to `vuh` itself: no process, no socket, no file, no
//! descriptor. Runs the binary with a temporary folder and a mark in the environment of each test's own; whoever carries
//! the mark afterwards, or lies in the folder, was left behind.

#![expect(clippy::unwrap_used, reason = "a test may end with a panic")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use vhost_user_harness::judge::verdict::Verdict;
use vhost_user_harness::scenario::{Settings, load_file};
use vhost_user_harness::suite::environment::{self, Options};
use vhost_user_harness::suite::execute;
use vhost_user_harness::sys::fd::open_fds;

/// Descriptors are counted for the whole process, so that test runs alone.
static DESCRIPTORS: RwLock<()> = RwLock::new(());

/// How long anything is waited for that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(30);

const MARK: &str = "VUH_LEAK_TEST";

const SIMULATED: &str = "\
peers:
  front: {frontend: simulated, device: blk}
  back: {backend: simulated, device: blk}
steps:
  - connect: {from: front, to: back}
  - setup: {peer: front}
  - blk: {peer: front, action: write, sector: \"${pass}\", fill: 0x11}
  - close: {peer: front}
";

const REFERENCE: &str = "\
peers:
  front: {frontend: reference, device: blk, exit: {status: 0}}
  back: {backend: reference, device: blk}
steps:
  - connect: {from: front, to: back}
  - until: {from: front, message: SET_VRING_KICK, fields: {index: {max: \"${pass}\"}}}
  - expect: {from: front, exits: {status: 0}}
";

const KILLED: &str = "\
peers:
  front: {frontend: simulated, device: net}
  back: {backend: reference, device: net}
steps:
  - connect: {from: front, to: back}
  - setup: {peer: front}
  - deliver: {from: front, to: front, packets: \"${pass}\"}
  - kill: {peer: back}
  - expect: {from: back, exits: {signal: SIGKILL}}
  - restart: back
  - connect: {from: front, to: back}
  - setup: {peer: front, until: negotiated}
";

const QEMU: &str = "\
peers:
  front: {frontend: qemu, device: net}
  back: {backend: simulated, device: net}
steps:
  - connect: {from: front, to: back}
  - setup: {peer: front}
  - deliver: {from: front, to: back, packets: \"${pass}\"}
";

const STORAGE_DAEMON: &str = "\
peers:
  front: {frontend: simulated, device: blk}
  back: {backend: qemu-storage-daemon, device: blk, capacity: 1 MiB}
steps:
  - connect: {from: front, to: back}
  - setup: {peer: front}
  - blk: {peer: front, action: write, sector: \"${pass}\", fill: 0x22}
";

/// It waits for ever, and both its processes with it.
const WAITS: &str = "\
peers:
  front: {frontend: simulated, device: generic}
  back: {backend: reference, device: generic}
timeout: 60 s
steps:
  - connect: {from: front, to: back}
  - setup: {peer: front, until: negotiated}
  - expect: {from: back, channel: backend, message: CONFIG_CHANGE_MSG}
";

const QEMU_WAITS: &str = "\
peers:
  front: {frontend: qemu, device: net}
  back: {backend: simulated, device: net, manual: [GET_FEATURES]}
timeout: 60 s
steps:
  - connect: {from: front, to: back}
  - setup: {peer: front}
";

const STORAGE_DAEMON_WAITS: &str = "\
peers:
  front: {frontend: simulated, device: blk}
  back: {backend: qemu-storage-daemon, device: blk, capacity: 1 MiB}
timeout: 60 s
steps:
  - connect: {from: front, to: back}
  - expect: {from: back, reply_to: GET_FEATURES}
";

/// A request is on its way while the back-end stands still.
const STOPPED: &str = "\
peers:
  front: {frontend: simulated, device: blk}
  back: {backend: reference, device: blk}
timeout: 60 s
steps:
  - connect: {from: front, to: back}
  - setup: {peer: front}
  - stop: back
  - blk: {peer: front, action: read, sector: 0}
";

/// Whether a program of that name is on the path.
fn here(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let required = std::env::var("VUH_REQUIRE").unwrap_or_default();
    assert!(found || required.is_empty(), "{program} is required and not here");
    found
}

/// Scenarios, a temporary folder, and a mark for processes.
struct Place {
    scenarios: TempDir,
    temporary: TempDir,
    mark: String,
    ids: Vec<&'static str>,
}

impl Place {
    fn new() -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        Self {
            scenarios: tempfile::tempdir().unwrap(),
            // short, since the paths of sockets below it are limited
            temporary: tempfile::tempdir().unwrap(),
            mark: format!("{}-{serial}", std::process::id()),
            ids: Vec::new(),
        }
    }

    /// Adds a scenario; one that speaks of a `pass` becomes a family of that many.
    fn with(mut self, id: &'static str, body: &str, passes: u32) -> Self {
        let family = if body.contains("${pass}") {
            let values: Vec<String> = (1..=passes).map(|pass| pass.to_string()).collect();
            format!("parameters:\n  pass: {{values: [{}]}}\n", values.join(", "))
        } else {
            String::new()
        };
        let text = format!("scenario: {id}\nabout: Something is left behind.\n{family}{body}");
        fs::write(self.file(id), text).unwrap();
        self.ids.push(id);
        self
    }

    /// The same, if the program that it needs is here.
    fn with_if(self, program: &str, id: &'static str, body: &str, passes: u32) -> Self {
        if here(program) {
            self.with(id, body, passes)
        } else {
            self
        }
    }

    fn file(&self, id: &str) -> PathBuf {
        self.scenarios.path().join(format!("{id}.yaml"))
    }

    fn folder(&self) -> String {
        self.temporary.path().to_string_lossy().into_owned()
    }

    fn start(&self, options: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_vuh"))
            .args(["run", "--root"])
            .arg(self.scenarios.path())
            .args(options)
            .current_dir(self.scenarios.path())
            .env("TMPDIR", self.temporary.path())
            .env(MARK, &self.mark)
            .env_remove("VUH_REQUIRE")
            .env_remove("VUH_BIN")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Processes that carry the mark and have not ended: pid, command line, state.
    fn processes(&self) -> Vec<(i32, String, char)> {
        let marked = format!("{MARK}={}", self.mark);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let state = stat
                .rsplit(')')
                .next()
                .and_then(|rest| rest.trim_start().chars().next());
            let carries = environment.split(|b| *b == 0).any(|word| word == marked.as_bytes());
            if let (true, Some(state)) = (carries, state.filter(|s| !"ZX".contains(*s))) {
                let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                found.push((pid, String::from_utf8_lossy(&command).replace('\0', " "), state));
            }
        }
        found
    }

    /// Waits until a process with all of this in its command line runs (or is in this state), and gives its pid.
    fn wait_for(&self, words: &[&str], state: Option<char>) -> i32 {
        let found = until(|| {
            let fits = |(_, command, s): &&(i32, String, char)| {
                words.iter().all(|word| command.contains(word)) && state.is_none_or(|state| state == *s)
            };
            self.processes().iter().find(fits).map(|(pid, ..)| *pid)
        });
        found.unwrap_or_else(|| panic!("no {words:?} in {:?}", self.processes()))
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        assert_eq!(self.processes(), [], "processes are left");
        self.no_files_are_left();
    }

    #[track_caller]
    fn no_files_are_left(&self) {
        let files: Vec<PathBuf> = fs::read_dir(self.temporary.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(files, [] as [PathBuf; 0], "files are left");
        let bound = fs::read_to_string("/proc/net/unix").unwrap();
        let folder = self.folder();
        let sockets: Vec<&str> = bound.lines().filter(|line| line.contains(&folder)).collect();
        assert_eq!(sockets, [] as [&str; 0], "sockets are left");
    }
}

/// Looks again and again until there is something to see. No event tells of what other processes do.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(seen) = look() {
            return Some(seen);
        }
        thread::yield_now();
    }
    None
}

struct Said {
    status: ExitStatus,
    text: String,
}

fn end(vuh: Child) -> Said {
    let output = vuh.wait_with_output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!text.contains("panicked"), "{text}");
    Said {
        status: output.status,
        text,
    }
}

impl Said {
    #[track_caller]
    fn code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{}", self.text);
        self
    }

    #[track_caller]
    fn says(self, text: &str) -> Self {
        assert!(self.text.contains(text), "{text:?} is not in\n{}", self.text);
        self
    }
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// Broken: a run that passes leaves something behind, so that a day of runs fills the machine.
#[test]
fn twenty_runs_of_each_kind() {
    let _shared = DESCRIPTORS.read();
    let place = Place::new()
        .with("simulated", SIMULATED, 20)
        .with("reference", REFERENCE, 20)
        .with("killed", KILLED, 20)
        .with_if("qemu-system-x86_64", "qemu", QEMU, 20)
        .with_if("qemu-storage-daemon", "daemon", STORAGE_DAEMON, 20);
    let runs = place.ids.len() * 20;
    end(place.start(&["-j", "2"])).code(0).says(&format!("{runs} passed"));
    place.nothing_is_left();
}

/// Broken: descriptors leak in the library, and a long suite runs out of them.
#[test]
fn descriptors_are_closed() {
    let _alone = DESCRIPTORS.write();
    let place = Place::new()
        .with("simulated", SIMULATED, 10)
        .with("reference", REFERENCE, 10)
        .with("killed", KILLED, 10)
        .with_if("qemu-system-x86_64", "qemu", QEMU, 10)
        .with_if("qemu-storage-daemon", "daemon", STORAGE_DAEMON, 10);
    let environment = environment::environment(&Options::default(), env!("CARGO_BIN_EXE_vuh").into()).unwrap();
    let load = |id: &&str| load_file(&place.file(id), &Settings::default()).unwrap();
    let plans: Vec<_> = place.ids.iter().flat_map(load).collect();
    let run_all = || {
        for plan in &plans {
            let outcome = execute(plan, &environment);
            assert_eq!(outcome.verdict, Verdict::Pass, "{:?}", outcome.reason);
        }
    };
    run_all();
    let before = open_fds().unwrap();
    run_all();
    assert_eq!(open_fds().unwrap(), before);
}

/// A run that waits for ever, with every kind of process that is here.
fn waiting() -> (Place, Child) {
    let place = Place::new()
        .with("reference", WAITS, 1)
        .with_if("qemu-system-x86_64", "qemu", QEMU_WAITS, 1)
        .with_if("qemu-storage-daemon", "daemon", STORAGE_DAEMON_WAITS, 1);
    let vuh = place.start(&["-j", "3"]);
    place.wait_for(&["reference-peer"], None);
    for (id, program) in [("qemu", "qemu-system-x86_64"), ("daemon", "qemu-storage-daemon")] {
        if place.ids.contains(&id) {
            // not the one that was only asked for its version
            place.wait_for(&[program, &place.folder()], None);
        }
    }
    (place, vuh)
}

/// Broken: Ctrl-C leaves QEMU or others running.
#[test]
fn an_interrupt() {
    let _shared = DESCRIPTORS.read();
    for signals in [
        &[Signal::SIGINT][..],
        &[Signal::SIGTERM],
        &[Signal::SIGINT, Signal::SIGINT],
    ] {
        let (place, vuh) = waiting();
        for sent in signals {
            signal(vuh.id() as i32, *sent);
        }
        end(vuh).code(130);
        place.nothing_is_left();
    }
}

/// Broken: a peer that is killed while a message of it is waited for is not told from one that hangs.
#[test]
fn a_peer_is_killed() {
    let _shared = DESCRIPTORS.read();
    let place = Place::new().with("waits", WAITS, 1);
    let vuh = place.start(&[]);
    // before or after it is connected
    signal(place.wait_for(&["reference-peer"], None), Signal::SIGKILL);
    end(vuh).code(1).says("1 failed: 1 crash").says("signal SIGKILL");
    place.nothing_is_left();
}

/// Broken: a back-end that dies with a request in its ring makes the run wait until its limit.
#[test]
fn a_back_end_is_killed_with_a_request_in_its_ring() {
    let _shared = DESCRIPTORS.read();
    let place = Place::new().with("stopped", STOPPED, 1);
    let begun = Instant::now();
    let vuh = place.start(&[]);
    signal(place.wait_for(&["reference-peer"], Some('T')), Signal::SIGKILL);
    end(vuh)
        .code(1)
        .says("1 failed: 1 crash")
        .says("the completion of read of 1 sector at 0");
    assert!(begun.elapsed() < PATIENCE, "it was waited for in vain");
    place.nothing_is_left();
}

/// Broken: a QEMU that dies makes the run wait until its limit, or is blamed for a wrong answer.
#[test]
fn qemu_is_killed() {
    let _shared = DESCRIPTORS.read();
    let place = Place::new().with_if("qemu-system-x86_64", "qemu", QEMU_WAITS, 1);
    if place.ids.is_empty() {
        return;
    }
    let begun = Instant::now();
    let vuh = place.start(&[]);
    signal(
        place.wait_for(&["qemu-system-x86_64", &place.folder()], None),
        Signal::SIGKILL,
    );
    end(vuh).code(1).says("1 failed: 1 crash").says("signal SIGKILL");
    assert!(begun.elapsed() < PATIENCE, "it was waited for in vain");
    place.nothing_is_left();
}

/// Broken: peers outlive a `vuh` that was killed, or its files stay for ever. The kernel ends the peers; the files are
/// removed by the next run.
#[test]
fn vuh_is_killed() {
    let _shared = DESCRIPTORS.read();
    let (place, vuh) = waiting();
    signal(vuh.id() as i32, Signal::SIGKILL);
    assert_eq!(end(vuh).status.signal(), Some(Signal::SIGKILL as i32));
    until(|| place.processes().is_empty().then_some(()));
    assert_eq!(place.processes(), []);
    assert_ne!(fs::read_dir(place.temporary.path()).unwrap().count(), 0);

    fs::remove_dir_all(place.scenarios.path()).unwrap();
    fs::create_dir(place.scenarios.path()).unwrap();
    let place = place.with("simulated", SIMULATED, 1);
    end(place.start(&[])).code(0);
    place.nothing_is_left();
}

/// Broken: what a process starts besides itself stays, though the leak was noticed.
#[test]
fn what_a_process_leaves_is_removed() {
    let _shared = DESCRIPTORS.read();
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/failing/leaves-a-child.yaml"));
    let text = text.unwrap();
    let body = &text[text.find("peers:").unwrap()..];
    let place = Place::new().with("leaves", body, 1);
    end(place.start(&[])).code(1).says("1 failed: 1 leak");
    place.nothing_is_left();
}

/// Broken: `vuh run | head -1` panics, stops half-way, or leaves its peers.
#[test]
fn a_reader_that_goes_away() {
    let _shared = DESCRIPTORS.read();
    let place = Place::new().with("killed", KILLED, 6);
    let mut vuh = place.start(&["-j", "1"]);
    let mut lines = BufReader::new(vuh.stdout.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    assert!(first.starts_with("pass"), "{first}");
    drop(lines);
    let mut complaint = String::new();
    vuh.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    assert_eq!((vuh.wait().unwrap().code(), complaint.as_str()), (Some(0), ""));
    place.nothing_is_left();
}
