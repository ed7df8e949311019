//! `vuh record` between programs that are started elsewhere: these tests are the programs. Everything arrives as it was
//! sent, everything is in the trace, and nobody, however hostile, costs more than a bounded amount.

#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

mod crossing;
mod hostile;
mod keeping;
mod look;

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use vhost_user_harness::sys::poll::{Interest, wait};
use vhost_user_harness::sys::socket::{receive, send};
use vhost_user_harness::trace::file::Trace;
use vhost_user_harness::wire::{Dialect, Header};

/// Longest wait for anything that has to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A recording that stands between connections which the test makes.
struct Between {
    folder: TempDir,
    child: Child,
    back: UnixListener,
}

impl Between {
    fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let back = UnixListener::bind(folder.path().join("b")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_vuh"))
            .args(["record", "--listen", "a", "--connect", "b", "-o", "trace.yaml"])
            .args(options)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { folder, child, back }
    }

    /// A connection: the front-end's end and the back-end's.
    fn connect(&self) -> (UnixStream, UnixStream) {
        let front = self.dial();
        let (back, _) = self.back.accept().unwrap();
        for end in [&front, &back] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        (front, back)
    }

    fn dial(&self) -> UnixStream {
        let path = self.folder.path().join("a");
        until("it listens", || UnixStream::connect(&path).ok())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Ends it as Ctrl-C does, and gives what it said and what it wrote.
    fn end(self) -> (ExitStatus, String, Trace) {
        self.end_and(|trace| Trace::read(trace).unwrap())
    }

    /// The same with something done to what it wrote, which is gone afterwards.
    fn end_and<T>(mut self, and: impl FnOnce(&Path) -> T) -> (ExitStatus, String, T) {
        self.signal(Signal::SIGINT);
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!self.folder.path().join("a").exists(), "the socket is left behind");
        (status, said, and(&self.trace()))
    }

    fn trace(&self) -> PathBuf {
        self.folder.path().join("trace.yaml")
    }

    /// Kilobytes of memory, at most until now.
    fn memory_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))
            .unwrap()
            .count()
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        // it has ended already, unless a test failed
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks again and again until there is something.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::yield_now();
    }
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

/// Sends all of it, the descriptors with the first byte.
fn send_all(socket: &UnixStream, bytes: &[u8], fds: &[BorrowedFd]) {
    let mut sent = 0;
    let mut fds = fds;
    while sent < bytes.len() {
        let more = until("there is room", || send(socket.as_fd(), &bytes[sent..], fds).unwrap());
        sent += more;
        fds = &[];
    }
}

/// Bytes that came, and the descriptors with the byte that they came with.
#[derive(Default)]
struct Got {
    bytes: Vec<u8>,
    fds: Vec<(usize, OwnedFd)>,
    /// The other side sends nothing more.
    ended: bool,
}

impl Got {
    /// Takes in what is there now, reading as real programs do: never more than the rest of a message of `step` bytes.
    fn read(&mut self, socket: &UnixStream, step: usize) -> bool {
        let mut buffer = vec![0; step];
        match receive(socket.as_fd(), &mut buffer) {
            Ok(Some(received)) if received.len == 0 => self.ended = true,
            Ok(Some(received)) => {
                let at = self.bytes.len();
                self.fds.extend(received.fds.into_iter().map(|fd| (at, fd)));
                self.bytes.extend_from_slice(&buffer[..received.len]);
            }
            Ok(None) => return false,
            Err(_) => self.ended = true,
        }
        true
    }

    fn until_len(&mut self, socket: &UnixStream, len: usize) {
        while self.bytes.len() < len && !self.ended {
            wait_readable(socket);
            while self.bytes.len() < len && !self.ended && self.read(socket, (len - self.bytes.len()).min(4096)) {}
        }
    }

    fn until_end(&mut self, socket: &UnixStream) {
        while !self.ended {
            wait_readable(socket);
            while !self.ended && self.read(socket, 4096) {}
        }
    }
}

fn wait_readable(socket: &UnixStream) {
    let interest = Interest {
        fd: socket.as_fd(),
        read: true,
        write: false,
        token: (),
    };
    assert!(!wait(&[interest], Some(PATIENCE)).unwrap().is_empty(), "waited in vain");
}

/// What a descriptor is, apart from its number.
fn identity(fd: &OwnedFd) -> (u64, u64) {
    let stat = nix::sys::stat::fstat(fd).unwrap();
    assert!(fd.as_raw_fd() >= 0);
    (stat.st_dev, stat.st_ino)
}
