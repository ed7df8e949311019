//! All threads of another, unmodified process that wait for events, each stopped as it returns from a wait that told it
//! something, until it is let go. Everything runs on the thread that attached, which has to call [`Steered::attend`] as
//! long as the process is to go on.
//!
//! What threads read from their connection is not worth a stop: no other thread sees the difference. Where a thread
//! goes on is the caller's choice; that it goes on in the end, too: dropping the handle lets all of them go.

use std::io;

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::threads::{Call, Thread, Wait, eventfd_id, is_connected_socket, sleepers};
use super::trace_thread::{SyscallStop, listen, repeat_interrupted_wait, syscall_stop};

/// Looks for the stop of a thread that was asked to stop; only one in an uninterruptible sleep takes any time at all.
const INTERRUPT_LOOKS_MAX: u32 = 1_000_000;
/// Stops of one thread that are attended to in one go.
const STOPS_PER_TURN: u32 = 256;

/// What a thread has been told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// The eventfd with this number, see [`eventfd_id`].
    Event(u64),
    /// A connected Unix socket.
    Socket,
    /// Something else: a timer, a pipe, a listening socket.
    Other,
}

/// What is worth a stop.
#[derive(Debug, Clone, Copy)]
pub enum Worth<'a> {
    /// Whatever is not a connection.
    Everything,
    /// These eventfds, see [`eventfd_id`].
    Events(&'a [u64]),
}

impl Worth<'_> {
    fn has(self, told: Told) -> bool {
        match (self, told) {
            (_, Told::Socket) => false,
            (Self::Everything, _) => true,
            (Self::Events(events), Told::Event(id)) => events.contains(&id),
            (Self::Events(_), Told::Other) => false,
        }
    }
}

/// A thread that is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Its id.
    pub tid: i32,
    /// Its name.
    pub name: String,
    /// The call that it returns from.
    pub call: Call,
    /// What that told it of.
    pub told: Vec<Told>,
}

/// What the threads of a process do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// At least one may be running.
    Busy,
    /// All sleep, or are stopped; nothing happens before something from outside wakes them.
    Asleep,
    /// The same, but the clock will wake one of them.
    Timed,
    /// One of them only lets time pass, and will then go on by itself.
    Pausing,
}

#[derive(Debug)]
enum State {
    Runs,
    Stopped(Stopped),
}

#[derive(Debug)]
struct Traced {
    tid: Pid,
    name: String,
    /// The call that it has entered.
    call: Option<Call>,
    state: State,
}

/// The threads of one process.
#[derive(Debug)]
pub struct Steered {
    pid: i32,
    traced: Vec<Traced>,
    /// Threads that sleep in something where they are not to be stopped, and how often they had run when that was seen.
    left: Vec<(i32, u64)>,
}

impl Steered {
    /// Of a process; no thread is attached to yet.
    pub fn of(pid: i32) -> Self {
        Self {
            pid,
            traced: Vec::new(),
            left: Vec::new(),
        }
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Lets threads run on through what they are not to be stopped at. True if there was something.
    ///
    /// # Errors
    /// A thread cannot be given orders.
    pub fn attend(&mut self, worth: Worth) -> io::Result<bool> {
        let mut some = false;
        let mut at = 0;
        while at < self.traced.len() {
            match self.attend_to(at, worth) {
                Ok(moved) => {
                    some |= moved;
                    at += 1;
                }
                Err(nix::Error::ESRCH) => {
                    self.traced.remove(at);
                    some = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(some)
    }

    fn attend_to(&mut self, at: usize, worth: Worth) -> nix::Result<bool> {
        let pid = self.pid;
        let traced = &mut self.traced[at];
        let mut some = false;
        for _ in 0..STOPS_PER_TURN {
            let status = look(pid, traced.tid)?;
            if status == WaitStatus::StillAlive {
                break;
            }
            some = true;
            let mut signal = None;
            match status {
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Err(nix::Error::ESRCH),
                WaitStatus::PtraceSyscall(_) => match syscall_stop(traced.tid)? {
                    SyscallStop::Entry(entered) => traced.call = Some(entered),
                    SyscallStop::Exit(result) => {
                        if let Some(call) = traced.call.take()
                            && let Some(told) = tidings(pid, &call, result, worth)
                        {
                            traced.state = State::Stopped(Stopped {
                                tid: traced.tid.as_raw(),
                                name: traced.name.clone(),
                                call,
                                told,
                            });
                            break;
                        }
                    }
                    SyscallStop::Other => {}
                },
                WaitStatus::PtraceEvent(_, Signal::SIGTRAP, libc::PTRACE_EVENT_STOP) => {
                    repeat_interrupted_wait(traced.tid)?;
                }
                WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_STOP) => {
                    // the whole process was stopped by a signal, and stays so
                    listen(traced.tid)?;
                    continue;
                }
                WaitStatus::PtraceEvent(_, delivered, 0) => signal = Some(delivered),
                _ => {}
            }
            ptrace::syscall(traced.tid, signal)?;
        }
        Ok(some)
    }

    /// What the process does. Threads that are found waiting for events, and were not attached to before, are attached to;
    /// it counts as busy until they wait again.
    ///
    /// # Errors
    /// The process is gone (`NotFound`), or looking at it or tracing it is not allowed (`PermissionDenied`).
    pub fn rest(&mut self) -> io::Result<Rest> {
        let held: Vec<i32> = self.stopped().map(|stopped| stopped.tid).collect();
        let Some(threads) = sleepers(self.pid, &held)? else {
            return Ok(Rest::Busy);
        };
        let mut new = false;
        for thread in &threads {
            let known = self.traced.iter().any(|traced| traced.tid.as_raw() == thread.tid);
            if known || self.left.contains(&(thread.tid, thread.switches)) {
                continue;
            }
            if !self.is_worth_it(thread) {
                self.left.retain(|(tid, _)| *tid != thread.tid);
                self.left.push((thread.tid, thread.switches));
                continue;
            }
            new |= self.attach(thread)?;
        }
        if new {
            return Ok(Rest::Busy);
        }
        if threads.iter().any(Thread::is_sleeping) {
            return Ok(Rest::Pausing);
        }
        let timed = threads
            .iter()
            .any(|thread| thread.is_timed() && !held.contains(&thread.tid));
        Ok(if timed { Rest::Timed } else { Rest::Asleep })
    }

    /// Whether a thread waits for something else than its connection.
    fn is_worth_it(&self, thread: &Thread) -> bool {
        let Some(call) = thread.call else { return false };
        if !matches!(call.wait(), Some(Wait::Epoll | Wait::Poll)) {
            return false;
        }
        let fds = call.waited_for(self.pid).unwrap_or_default();
        fds.iter().any(|fd| !is_connected_socket(self.pid, *fd))
    }

    fn attach(&mut self, thread: &Thread) -> io::Result<bool> {
        let tid = Pid::from_raw(thread.tid);
        // should this process die, the thread must not go on half-way through somebody's race
        let seized = ptrace::seize(tid, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL);
        match seized.and_then(|()| ptrace::interrupt(tid)) {
            Ok(()) => {}
            Err(nix::Error::ESRCH) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        self.traced.push(Traced {
            tid,
            name: thread.name.clone(),
            call: None,
            state: State::Runs,
        });
        Ok(true)
    }

    /// Threads that are stopped, in the order in which they were attached to.
    pub fn stopped(&self) -> impl Iterator<Item = &Stopped> {
        self.traced.iter().filter_map(|traced| match &traced.state {
            State::Stopped(stopped) => Some(stopped),
            State::Runs => None,
        })
    }

    /// Lets a thread go on to its next wait that tells it something.
    ///
    /// # Errors
    /// It cannot be given orders.
    pub fn let_go(&mut self, tid: i32) -> io::Result<()> {
        let Some(traced) = self.traced.iter_mut().find(|traced| traced.tid.as_raw() == tid) else {
            return Ok(());
        };
        traced.state = State::Runs;
        match ptrace::syscall(traced.tid, None) {
            // it is gone, which is seen when it is attended to
            Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets all threads go, for good.
    pub fn detach(&mut self) {
        for mut traced in self.traced.drain(..) {
            // one that is gone has been let go
            let _ = detach(self.pid, &mut traced);
        }
    }
}

impl Drop for Steered {
    fn drop(&mut self) {
        self.detach();
    }
}

/// What a wait told, if that is worth a stop.
fn tidings(pid: i32, call: &Call, result: i64, worth: Worth) -> Option<Vec<Told>> {
    // an event that was waited for with epoll or poll is read afterwards, which tells nothing new
    if result <= 0 || !matches!(call.wait(), Some(Wait::Epoll | Wait::Poll)) {
        return None;
    }
    let reported = call.reported(pid, result).unwrap_or_default();
    let mut told: Vec<Told> = reported
        .iter()
        .map(|fd| match eventfd_id(pid, *fd) {
            Some(id) => Told::Event(id),
            None if is_connected_socket(pid, *fd) => Told::Socket,
            None => Told::Other,
        })
        .collect();
    told.sort_unstable();
    told.dedup();
    told.iter().any(|told| worth.has(*told)).then_some(told)
}

fn look(pid: i32, tid: Pid) -> nix::Result<WaitStatus> {
    let mut flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
    // the end of a main thread is the end of the process, which belongs to whoever started it
    if tid.as_raw() != pid {
        flags |= WaitPidFlag::WEXITED;
    }
    match waitid(Id::Pid(tid), flags) {
        Err(nix::Error::EINTR) => Ok(WaitStatus::StillAlive),
        // it has ended and somebody else has seen it
        Err(nix::Error::ECHILD) => Err(nix::Error::ESRCH),
        other => other,
    }
}

fn detach(pid: i32, traced: &mut Traced) -> nix::Result<()> {
    let orders = match traced.state {
        State::Stopped(_) => ptrace::detach(traced.tid, None),
        State::Runs => ptrace::interrupt(traced.tid),
    };
    match (orders, &traced.state) {
        (Ok(()), State::Runs) => {}
        // one that has ended stays, and its process with it, until its tracer has seen that
        (Err(nix::Error::ESRCH), _) => {}
        (other, _) => return other,
    }
    for _ in 0..INTERRUPT_LOOKS_MAX {
        let mut signal = None;
        match look(pid, traced.tid)? {
            WaitStatus::StillAlive => {
                std::thread::yield_now();
                continue;
            }
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Ok(()),
            WaitStatus::PtraceSyscall(_) => match syscall_stop(traced.tid)? {
                SyscallStop::Entry(_) => {
                    // the request to stop may still be felt inside of the call, whose end is then the place to go
                    ptrace::syscall(traced.tid, None)?;
                    ptrace::interrupt(traced.tid)?;
                    continue;
                }
                SyscallStop::Exit(_) => repeat_interrupted_wait(traced.tid)?,
                SyscallStop::Other => {}
            },
            WaitStatus::PtraceEvent(_, Signal::SIGTRAP, libc::PTRACE_EVENT_STOP) => {
                repeat_interrupted_wait(traced.tid)?;
            }
            WaitStatus::PtraceEvent(_, delivered, 0) => signal = Some(delivered),
            _ => {}
        }
        return ptrace::detach(traced.tid, signal);
    }
    Err(nix::Error::ETIMEDOUT)
}
