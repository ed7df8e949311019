//! Holding one thread of another, unmodified process where it returns from a wait, or before it begins one. ptrace(2)
//! takes orders only from the thread that attached, so each held thread has a thread of ours that does nothing else.
//!
//! The process does not notice: a wait that is interrupted by attaching or letting go is made again, signals are passed
//! on, and the other threads are not touched. A thread is never left stopped: dropping the handle lets it go.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::fd::{eventfd, signal_event};
use super::threads::{Call, Wait, eventfd_id, is_connected_socket};

/// How often it is looked whether the thread has stopped. The kernel reports a stop through waitid(2), which cannot be
/// waited for together with anything else.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// Looks without a pause after a thread was let run: most of its system calls take no time.
const EAGER_LOOKS: u32 = 200;
/// How long a thread that is asked to stop may take; only one in an uninterruptible sleep takes any time at all.
const INTERRUPT_MAX: Duration = Duration::from_secs(5);

/// Where a thread is to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// As it returns from a wait that reports something.
    Return,
    /// Before it begins a wait.
    Entry,
}

/// What a wait reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The eventfd with this number, see [`eventfd_id`].
    Event(u64),
    /// A connected Unix socket.
    Socket,
}

impl News {
    /// Whether it is about this descriptor of a process.
    pub fn is_about(self, pid: i32, fd: i32) -> bool {
        match self {
            Self::Event(id) => eventfd_id(pid, fd) == Some(id),
            Self::Socket => is_connected_socket(pid, fd),
        }
    }
}

/// When a thread is to be held.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// At which end of a wait.
    pub point: Point,
    /// Only waits of this kind.
    pub wait: Option<Wait>,
    /// Only a return that reports this.
    pub news: Option<News>,
}

impl Rule {
    fn is_about(&self, call: &Call) -> bool {
        match (call.wait(), self.wait) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(wait), Some(wanted)) => wait == wanted,
        }
    }
}

/// Where a held thread stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldState {
    /// It is being attached to.
    Attaching,
    /// It runs, and will be held when it comes to the point.
    Armed,
    /// It is held.
    Held(Call),
    /// It was let go.
    Released,
    /// It has ended.
    Gone,
    /// It cannot be held.
    Refused {
        /// The errno.
        errno: i32,
    },
}

#[derive(Debug)]
struct Shared {
    state: Mutex<HoldState>,
    changed: OwnedFd,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HoldState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: HoldState) {
        *self.lock() = state;
        // an eventfd of our own: a full counter is as good as signalled
        let _ = signal_event(self.changed.as_fd());
    }
}

/// A thread of another process that is held, or will be.
#[derive(Debug)]
pub struct HeldThread {
    tid: i32,
    shared: Arc<Shared>,
    /// Dropped to let the thread go.
    keep: Option<Sender<()>>,
    tracer: Option<JoinHandle<()>>,
}

impl HeldThread {
    /// Attaches to a thread of the process `pid`; it goes on running until it comes to the point.
    ///
    /// # Errors
    /// The system is out of descriptors or threads. A thread that does not let itself be traced is [`HoldState::Refused`].
    pub fn seize(pid: i32, tid: i32, rule: Rule) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(HoldState::Attaching),
            changed: eventfd()?,
        });
        let (keep, kept) = channel();
        let tracer = Tracer {
            pid,
            tid: Pid::from_raw(tid),
            rule,
            shared: Arc::clone(&shared),
            kept,
            letting_go: false,
        };
        let thread = std::thread::Builder::new().name(format!("trace-{tid}"));
        let thread = thread.spawn(move || tracer.run())?;
        Ok(Self {
            tid,
            shared,
            keep: Some(keep),
            tracer: Some(thread),
        })
    }

    /// The thread's id.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// Where it stands.
    pub fn state(&self) -> HoldState {
        self.shared.lock().clone()
    }

    /// Readable when the state has changed; to be drained by whoever polls it.
    pub fn changed(&self) -> BorrowedFd<'_> {
        self.shared.changed.as_fd()
    }

    /// Lets the thread go, whether it is held or not yet. Done when the state says so.
    pub fn release(&mut self) {
        self.keep = None;
    }
}

impl Drop for HeldThread {
    fn drop(&mut self) {
        self.release();
        if let Some(tracer) = self.tracer.take() {
            // it does not panic, and if it did, its end has let the thread go
            let _ = tracer.join();
        }
    }
}

/// The side that gives ptrace its orders.
struct Tracer {
    pid: i32,
    tid: Pid,
    rule: Rule,
    shared: Arc<Shared>,
    kept: Receiver<()>,
    letting_go: bool,
}

/// How a tracer's work ended.
enum End {
    LetGo,
    Gone,
}

impl Tracer {
    fn run(mut self) {
        let end = match self.attach().and_then(|()| self.trace()) {
            Ok(End::LetGo) => HoldState::Released,
            Ok(End::Gone) | Err(nix::Error::ESRCH) => HoldState::Gone,
            Err(error) => HoldState::Refused { errno: error as i32 },
        };
        self.shared.set(end);
    }

    fn attach(&self) -> nix::Result<()> {
        // should this process die, the thread must not go on half-way through somebody's race
        ptrace::seize(self.tid, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL)?;
        ptrace::interrupt(self.tid)
    }

    fn trace(&mut self) -> nix::Result<End> {
        let mut call = None;
        loop {
            let mut signal = None;
            match self.next_stop()? {
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Ok(End::Gone),
                WaitStatus::PtraceSyscall(_) => match syscall_stop(self.tid)? {
                    SyscallStop::Entry(entered) => {
                        call = Some(entered);
                        if self.letting_go {
                            // the request to stop may still be felt inside of the call, whose end is then the place to go
                            ptrace::syscall(self.tid, None)?;
                            ptrace::interrupt(self.tid)?;
                            continue;
                        }
                        if self.rule.point == Point::Entry && self.rule.is_about(&entered) {
                            return self.hold(entered);
                        }
                    }
                    SyscallStop::Exit(result) => {
                        if self.letting_go {
                            repeat_interrupted_wait(self.tid)?;
                        }
                        let ends_wait = call.take().filter(|call| self.brings_news(call, result));
                        if let (Some(call), false) = (ends_wait, self.letting_go) {
                            return self.hold(call);
                        }
                    }
                    SyscallStop::Other => {}
                },
                WaitStatus::PtraceEvent(_, Signal::SIGTRAP, libc::PTRACE_EVENT_STOP) => {
                    repeat_interrupted_wait(self.tid)?;
                }
                WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_STOP) if !self.letting_go => {
                    // the whole process was stopped by a signal, and stays so
                    listen(self.tid)?;
                    continue;
                }
                WaitStatus::PtraceEvent(_, delivered, 0) => signal = Some(delivered),
                _ => {}
            }
            if self.letting_go {
                ptrace::detach(self.tid, signal)?;
                return Ok(End::LetGo);
            }
            ptrace::syscall(self.tid, signal)?;
            if *self.shared.lock() == HoldState::Attaching {
                self.shared.set(HoldState::Armed);
            }
        }
    }

    fn brings_news(&self, call: &Call, result: i64) -> bool {
        if self.rule.point != Point::Return || result <= 0 || !self.rule.is_about(call) {
            return false;
        }
        let Some(news) = self.rule.news else { return true };
        // what cannot be looked at is not what is waited for
        let reported = call.reported(self.pid, result).unwrap_or_default();
        reported.iter().any(|fd| news.is_about(self.pid, *fd))
    }

    /// Keeps the thread until it is to go, or is killed.
    fn hold(&mut self, call: Call) -> nix::Result<End> {
        self.shared.set(HoldState::Held(call));
        loop {
            if !self.is_kept(LOOK_INTERVAL) {
                ptrace::detach(self.tid, None)?;
                return Ok(End::LetGo);
            }
            match self.look()? {
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Ok(End::Gone),
                _ => {}
            }
        }
    }

    /// Whether the handle still wants the thread kept; waits that long for it to change its mind.
    fn is_kept(&self, wait: Duration) -> bool {
        let news = if wait.is_zero() {
            self.kept.try_recv().map_err(|e| e == TryRecvError::Disconnected)
        } else {
            let news = self.kept.recv_timeout(wait);
            news.map_err(|e| e == RecvTimeoutError::Disconnected)
        };
        news != Err(true)
    }

    /// The thread's next stop, or its end. If the thread is to go, it is asked to stop for it.
    fn next_stop(&mut self) -> nix::Result<WaitStatus> {
        let mut eager = EAGER_LOOKS;
        let mut patience = INTERRUPT_MAX;
        loop {
            match self.look()? {
                WaitStatus::StillAlive => {}
                stop => return Ok(stop),
            }
            if self.letting_go {
                // nothing more can come from the handle, so only time passes
                std::thread::park_timeout(LOOK_INTERVAL);
                patience = patience.saturating_sub(LOOK_INTERVAL);
                if patience.is_zero() {
                    return Err(nix::Error::ETIMEDOUT);
                }
                continue;
            }
            eager = eager.saturating_sub(1);
            if !self.is_kept(if eager > 0 { Duration::ZERO } else { LOOK_INTERVAL }) {
                self.letting_go = true;
                ptrace::interrupt(self.tid)?;
            } else if eager > 0 {
                std::thread::yield_now();
            }
        }
    }

    fn look(&self) -> nix::Result<WaitStatus> {
        let mut flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
        // the end of a main thread is the end of the process, which belongs to whoever started it
        if self.tid.as_raw() != self.pid {
            flags |= WaitPidFlag::WEXITED;
        }
        match waitid(Id::Pid(self.tid), flags) {
            Err(nix::Error::EINTR) => Ok(WaitStatus::StillAlive),
            // it has ended and somebody else has seen it
            Err(nix::Error::ECHILD) => Err(nix::Error::ESRCH),
            other => other,
        }
    }
}

pub(super) enum SyscallStop {
    Entry(Call),
    Exit(i64),
    Other,
}

pub(super) fn syscall_stop(tid: Pid) -> nix::Result<SyscallStop> {
    let info = ptrace::syscall_info(tid)?;
    Ok(match info.op {
        libc::PTRACE_SYSCALL_INFO_ENTRY => {
            // SAFETY: the kernel has filled in the member of the union that belongs to this op.
            let entry = unsafe { info.u.entry };
            SyscallStop::Entry(Call {
                number: entry.nr,
                args: entry.args,
            })
        }
        libc::PTRACE_SYSCALL_INFO_EXIT => {
            // SAFETY: as above.
            let exit = unsafe { info.u.exit };
            SyscallStop::Exit(exit.sval)
        }
        _ => SyscallStop::Other,
    })
}

/// Most waits are made again by the kernel after a stop, but those on epoll return EINTR. A program may not expect that,
/// so it is put back to the instruction that made the call. poll is made again under another number, which tells nobody
/// what is waited for, so it is put back likewise.
#[cfg(target_arch = "x86_64")]
pub(super) fn repeat_interrupted_wait(tid: Pid) -> nix::Result<()> {
    /// Bytes of the instruction `syscall`.
    const SYSCALL_BYTES: u64 = 2;
    /// ERESTART_RESTARTBLOCK, which only the kernel and tracers see.
    const MADE_AGAIN: i64 = 516;
    let mut registers = ptrace::getregs(tid)?;
    let call = Call {
        number: registers.orig_rax,
        args: [0; 6],
    };
    let interrupted = match call.wait() {
        Some(Wait::Epoll) => registers.rax as i64 == -i64::from(libc::EINTR),
        Some(Wait::Poll) => registers.rax as i64 == -MADE_AGAIN,
        _ => false,
    };
    if interrupted {
        registers.rax = registers.orig_rax;
        registers.rip -= SYSCALL_BYTES;
        ptrace::setregs(tid, registers)?;
    }
    Ok(())
}

/// Elsewhere the program sees one EINTR, as it would after any signal.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn repeat_interrupted_wait(_tid: Pid) -> nix::Result<()> {
    Ok(())
}

/// Leaves a stopped process stopped until it is continued.
pub(super) fn listen(tid: Pid) -> nix::Result<()> {
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: PTRACE_LISTEN reads and writes no memory of ours.
    let done = unsafe { libc::ptrace(libc::PTRACE_LISTEN, tid.as_raw(), null, null) };
    nix::Error::result(done).map(drop)
}

#[cfg(test)]
mod tests;
