//! Child processes: each in a session of its own, killed by the kernel when the harness dies, its output kept, its end
//! reported through a pidfd.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child as StdChild, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::fd::{is_readable, set_nonblocking};
use super::process_table::{self, MARK, Survivor, pidfd_open};

/// Bytes kept of each output stream: the first half and the last half.
pub const OUTPUT_MAX: usize = 64 * 1024;

/// Descendants may start others while they are being killed; so often they are looked for again.
const SWEEPS_MAX: u32 = 100;
/// How long the kernel may take to end a process that was killed.
const KILL_TIME: Duration = Duration::from_secs(1);

/// How long the kernel may take to stop all threads of a process.
const STOP_TIME: Duration = Duration::from_secs(1);

/// What to start.
#[derive(Debug)]
pub struct Spec<'a> {
    /// Program, looked up on the path.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Working directory.
    pub directory: PathBuf,
    /// Descriptors that stay open in the child under the same number.
    pub inherit: Vec<BorrowedFd<'a>>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// With this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

/// The status of a Rust program that panicked.
const PANICKED: i32 = 101;

impl Exit {
    /// Whether it died rather than ended: by a signal, by a panic, or by a signal that a shell around it tells as 128 and
    /// the signal's number. SIGTERM is how one asks a program to end, and some answer with that status.
    pub fn is_crash(self) -> bool {
        match self {
            Exit::Signal(_) => true,
            Exit::Status(status) => {
                let by_shell = Signal::try_from(status - 128).is_ok_and(|signal| signal != Signal::SIGTERM);
                status == PANICKED || by_shell
            }
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Exit::Status(status) => write!(f, "exit status {status}"),
            Exit::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "signal {signal}"),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

/// Bounded text of an output stream.
#[derive(Debug, Default)]
pub struct Output {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    dropped: u64,
}

impl Output {
    fn add(&mut self, bytes: &[u8]) {
        let room = (OUTPUT_MAX / 2).saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.tail.extend(&bytes[room..]);
        let excess = self.tail.len().saturating_sub(OUTPUT_MAX / 2);
        self.tail.drain(..excess);
        self.dropped += excess as u64;
    }

    /// More was written than is kept.
    pub fn is_cut(&self) -> bool {
        self.dropped > 0
    }

    /// What was written, with a note where the middle was dropped.
    pub fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.head).into_owned();
        if self.dropped > 0 {
            text.push_str(&format!("\n[... {} bytes dropped ...]\n", self.dropped));
        }
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        text.push_str(&String::from_utf8_lossy(&tail));
        text
    }
}

/// A child process.
#[derive(Debug)]
pub struct Child {
    inner: StdChild,
    pidfd: OwnedFd,
    mark: String,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// Its standard output so far.
    pub out: Output,
    /// Its standard error so far.
    pub err: Output,
    exit: Option<Exit>,
    /// Nothing that descends from it can be left.
    swept: bool,
}

static SERIAL: AtomicU64 = AtomicU64::new(0);

impl Child {
    /// Starts a process.
    pub fn spawn(spec: &Spec) -> io::Result<Self> {
        Self::spawn_reading(spec, Stdio::null())
    }

    /// Starts one to talk to: a pipe to its standard input, and its standard output, which is not kept then.
    pub fn spawn_talking(spec: &Spec) -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let mut child = Self::spawn_reading(spec, Stdio::piped())?;
        let input = child.inner.stdin.take().map(OwnedFd::from);
        match (input, child.stdout.take()) {
            (Some(input), Some(output)) => Ok((child, input, output)),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn spawn_reading(spec: &Spec, input: Stdio) -> io::Result<Self> {
        let mark = format!("{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
        let inherit: Vec<RawFd> = spec.inherit.iter().map(AsRawFd::as_raw_fd).collect();
        let parent = std::process::id();
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.args)
            .current_dir(&spec.directory)
            .env(MARK, &mark)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: between fork and exec only async-signal-safe calls are made: setsid, prctl, getppid, fcntl, sigprocmask.
        unsafe {
            command.pre_exec(move || {
                if libc::setsid() < 0 || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(io::Error::last_os_error());
                }
                if libc::getppid() as u32 != parent {
                    // the harness died in between, so the signal will never come
                    libc::_exit(127);
                }
                for fd in &inherit {
                    if libc::fcntl(*fd, libc::F_SETFD, 0) < 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let mut inner = command.spawn()?;
        let pidfd = pidfd_open(inner.id())?;
        let stdout = inner.stdout.take().map(OwnedFd::from);
        let stderr = inner.stderr.take().map(OwnedFd::from);
        for pipe in [&stdout, &stderr].into_iter().flatten() {
            set_nonblocking(pipe.as_fd())?;
        }
        Ok(Self {
            inner,
            pidfd,
            mark,
            stdout,
            stderr,
            out: Output::default(),
            err: Output::default(),
            exit: None,
            swept: false,
        })
    }

    /// Process id.
    pub fn pid(&self) -> i32 {
        self.inner.id() as i32
    }

    /// Descriptors to poll: output that can be read, and the end of the process.
    pub fn watch(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let pidfd = self.exit.is_none().then(|| self.pidfd.as_fd());
        pidfd
            .into_iter()
            .chain(self.stdout.iter().map(AsFd::as_fd))
            .chain(self.stderr.iter().map(AsFd::as_fd))
    }

    /// Takes in whatever output is there, and whether it has ended. `Some` only once, when its end is first seen.
    pub fn collect(&mut self) -> Option<Exit> {
        let ended = if self.exit.is_none() { reap(&self.pidfd) } else { None };
        self.exit = self.exit.or(ended);
        // after the end, so that its last words are complete
        drain(&mut self.stdout, &mut self.out);
        drain(&mut self.stderr, &mut self.err);
        ended
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// Sends a signal to the process itself. After SIGSTOP, all its threads stand still.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.exit.is_some() {
            return Ok(());
        }
        kill(Pid::from_raw(self.pid()), signal)?;
        if signal == Signal::SIGSTOP {
            self.wait_for_stop()?;
        }
        Ok(())
    }

    /// Nothing that can be polled tells of a stop, so it is looked for; mostly it is there at the first look.
    fn wait_for_stop(&self) -> io::Result<()> {
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        let end = Instant::now() + STOP_TIME;
        while waitid(Id::Pid(Pid::from_raw(self.pid())), flags)? == WaitStatus::StillAlive {
            if Instant::now() >= end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Kills its whole process group at once and waits for the process.
    pub fn kill_now(&mut self) {
        if self.exit.is_none() {
            // the group may be gone already; the wait below tells
            let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
            let _ = kill(Pid::from_raw(self.pid()), Signal::SIGKILL);
            if let Ok(status) = self.inner.wait() {
                self.exit = Some(
                    status
                        .signal()
                        .map_or(Exit::Status(status.code().unwrap_or(-1)), Exit::Signal),
                );
            }
            drain(&mut self.stdout, &mut self.out);
            drain(&mut self.stderr, &mut self.err);
        }
    }

    /// Its descendants that are still alive.
    pub fn survivors(&self) -> Vec<Survivor> {
        process_table::descendants(self.pid(), &self.mark)
    }

    /// Its descendants that do not end within `grace_ms` either: a child may notice only now that its parent is gone.
    pub fn survivors_after(&self, grace_ms: u64) -> Vec<Survivor> {
        let found = self.survivors();
        if found.is_empty() {
            return found;
        }
        process_table::wait_for_all(&found, Duration::from_millis(grace_ms));
        self.survivors()
    }

    /// Kills it and all that descends from it, and waits until they are gone.
    pub fn sweep(&mut self) {
        self.kill_now();
        for _ in 0..SWEEPS_MAX {
            let found = self.survivors();
            if found.is_empty() {
                break;
            }
            process_table::kill_all(&found);
            process_table::wait_for_all(&found, KILL_TIME);
        }
        self.swept = true;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.swept {
            self.sweep();
        }
    }
}

fn drain(pipe: &mut Option<OwnedFd>, output: &mut Output) {
    // bounded, so that a child that never stops writing cannot keep us here
    const READS_MAX: usize = 64;
    let Some(fd) = pipe else { return };
    let mut buffer = [0u8; 4096];
    for _ in 0..READS_MAX {
        match nix::unistd::read(fd.as_fd(), &mut buffer) {
            Ok(0) => {
                *pipe = None;
                return;
            }
            Ok(n) => output.add(&buffer[..n]),
            Err(nix::Error::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// How the process ended, if it has. The standard library's `try_wait` would also take the stops of a thread that is
/// held by ptrace, which belong to its tracer; and so would the call below, whatever it asks for, before the end.
fn reap(pidfd: &OwnedFd) -> Option<Exit> {
    if !is_readable(pidfd.as_fd()).unwrap_or(true) {
        return None;
    }
    // SAFETY: siginfo_t is plain data, for which all zeros is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let id = pidfd.as_raw_fd() as libc::id_t;
    // SAFETY: `info` outlives the call, and is the only memory it writes.
    let done = unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED | libc::WNOHANG) };
    // SAFETY: waitid has filled in the members of a child's signal, or left zeros.
    let (child, status) = unsafe { (info.si_pid(), info.si_status()) };
    match (done, child, info.si_code) {
        (0, 1.., libc::CLD_EXITED) => Some(Exit::Status(status)),
        (0, 1.., _) => Some(Exit::Signal(status)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::poll::wait_to_read;
    use super::*;

    fn shell(script: &str) -> Child {
        let args = vec!["-c".into(), script.into()];
        Child::spawn(&Spec {
            program: "sh".into(),
            args,
            directory: "/".into(),
            inherit: Vec::new(),
        })
        .unwrap()
    }

    fn wait_for_end(child: &mut Child) -> Exit {
        loop {
            if let Some(exit) = child.collect() {
                return exit;
            }
            wait_to_read(child.watch(), None).unwrap();
        }
    }

    #[test]
    fn the_end_and_the_last_words_are_kept() {
        let mut child = shell("echo last words >&2; exit 3");
        assert_eq!(wait_for_end(&mut child), Exit::Status(3));
        assert_eq!(child.err.text(), "last words\n");
    }

    #[test]
    fn a_signal_is_told_apart_from_a_status() {
        let mut child = shell("kill -SEGV $$");
        assert_eq!(wait_for_end(&mut child).to_string(), "signal SIGSEGV");
    }

    #[test]
    fn a_crash_is_told_from_an_end() {
        let crashes = |status| Exit::Status(status).is_crash();
        assert!(Exit::Signal(9).is_crash() && crashes(101) && crashes(139));
        assert!(!crashes(0) && !crashes(1) && !crashes(127) && !crashes(128) && !crashes(143) && !crashes(255));
    }

    /// Broken: a thread of a stopped process still answers.
    #[test]
    fn a_stopped_process_stands_still() {
        let mut child = shell("while :; do :; done");
        child.signal(Signal::SIGSTOP).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap();
        assert!(stat.contains(") T "), "{stat}");
        child.signal(Signal::SIGCONT).unwrap();
        child.signal(Signal::SIGKILL).unwrap();
        assert_eq!(wait_for_end(&mut child), Exit::Signal(9));
    }

    #[test]
    fn a_grandchild_that_stays_is_found_and_killed() {
        // stopped rather than asleep in another program: while a process is in exec its environment cannot be read
        let mut child = shell("setsid sh -c 'echo ready; kill -STOP $$' &");
        wait_for_end(&mut child);
        while !child.out.text().contains("ready") {
            wait_to_read(child.watch(), None).unwrap();
            child.collect();
        }
        let survivors = child.survivors_after(1);
        assert_eq!(survivors.len(), 1, "{survivors:?}");
        child.sweep();
        assert_eq!(child.survivors(), []);
    }

    #[test]
    fn output_without_end_is_bounded() {
        let mut output = Output::default();
        for i in 0..100_000u32 {
            output.add(format!("{i}\n").as_bytes());
        }
        let text = output.text();
        assert!(text.len() < OUTPUT_MAX + 100 && text.starts_with("0\n") && text.ends_with("99999\n"));
        assert!(text.contains("bytes dropped"));
    }
}
