//! The threads of another process as /proc shows them: what each sleeps in, on which descriptors, whether all of them
//! sleep. Looks, never touches; `trace_thread` is what stops a thread.

use std::fmt;
use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

/// Threads of one process that are looked at; one with more is refused.
const THREADS_MAX: usize = 4096;
/// Descriptors of one poll, or events of one epoll_wait, that are looked at.
const FDS_MAX: usize = 4096;
/// `struct pollfd`.
const POLLFD_BYTES: usize = 8;

/// A kind of system call in which a thread waits for descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// epoll_wait and its kin.
    Epoll,
    /// poll and ppoll.
    Poll,
    /// read.
    Read,
    /// recvmsg and recvfrom.
    Receive,
}

/// The calls of each kind, by number.
const CALLS: &[(libc::c_long, &str, Wait)] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll_wait", Wait::Epoll),
    (libc::SYS_epoll_pwait, "epoll_pwait", Wait::Epoll),
    (libc::SYS_epoll_pwait2, "epoll_pwait2", Wait::Epoll),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll", Wait::Poll),
    (libc::SYS_ppoll, "ppoll", Wait::Poll),
    (libc::SYS_read, "read", Wait::Read),
    (libc::SYS_recvmsg, "recvmsg", Wait::Receive),
    (libc::SYS_recvfrom, "recvfrom", Wait::Receive),
];

/// A system call that a thread is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Its number.
    pub number: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

impl Call {
    fn entry(&self) -> Option<&'static (libc::c_long, &'static str, Wait)> {
        CALLS
            .iter()
            .find(|(number, ..)| u64::try_from(*number) == Ok(self.number))
    }

    /// Which kind of wait it is, if it is one.
    pub fn wait(&self) -> Option<Wait> {
        self.entry().map(|(_, _, wait)| *wait)
    }

    /// Whether it ends by the clock. Of calls that are not known here that is not known.
    fn is_timed(&self) -> bool {
        /// FUTEX_WAIT and FUTEX_WAIT_BITSET, without the flags.
        const FUTEX_WAITS: [u64; 2] = [0, 9];
        const FUTEX_COMMAND: u64 = 0x7f;
        let is = |number: libc::c_long| u64::try_from(number) == Ok(self.number);
        let forever = |timeout_ms: u64| (timeout_ms as i32) < 0;
        #[cfg(target_arch = "x86_64")]
        if is(libc::SYS_epoll_wait) {
            return !forever(self.args[3]);
        }
        #[cfg(target_arch = "x86_64")]
        if is(libc::SYS_poll) {
            return !forever(self.args[2]);
        }
        if is(libc::SYS_epoll_pwait) {
            return !forever(self.args[3]);
        }
        if is(libc::SYS_epoll_pwait2) {
            return self.args[3] != 0;
        }
        if is(libc::SYS_ppoll) {
            return self.args[2] != 0;
        }
        if is(libc::SYS_futex) {
            return FUTEX_WAITS.contains(&(self.args[1] & FUTEX_COMMAND)) && self.args[3] != 0;
        }
        is(libc::SYS_nanosleep) || is(libc::SYS_clock_nanosleep) || is(libc::SYS_rt_sigtimedwait) && self.args[2] != 0
    }

    /// The descriptors that it waits for.
    ///
    /// # Errors
    /// The process does not let itself be looked at, or the thread has gone on meanwhile.
    pub fn waited_for(&self, pid: i32) -> io::Result<Vec<RawFd>> {
        Ok(match self.wait() {
            None => Vec::new(),
            Some(Wait::Read | Wait::Receive) => vec![self.args[0] as RawFd],
            Some(Wait::Epoll) => registered(pid, self.args[0] as RawFd)?
                .into_iter()
                .map(|r| r.fd)
                .collect(),
            Some(Wait::Poll) => self.polled(pid)?.into_iter().map(|(fd, _)| fd).collect(),
        })
    }

    /// The descriptors that it reports as ready by returning `result`.
    ///
    /// # Errors
    /// The process does not let itself be looked at.
    pub fn reported(&self, pid: i32, result: i64) -> io::Result<Vec<RawFd>> {
        let Some(count) = usize::try_from(result).ok().filter(|count| *count > 0) else {
            return Ok(Vec::new());
        };
        Ok(match self.wait() {
            None => Vec::new(),
            Some(Wait::Read | Wait::Receive) => vec![self.args[0] as RawFd],
            Some(Wait::Poll) => {
                let ready = self.polled(pid)?.into_iter().filter(|(_, events)| *events != 0);
                ready.map(|(fd, _)| fd).collect()
            }
            Some(Wait::Epoll) => {
                let size = size_of::<libc::epoll_event>();
                let told = remote(pid, self.args[1], count.min(FDS_MAX) * size)?;
                // packed on x86-64, so the data does not begin at the same place everywhere
                let at = std::mem::offset_of!(libc::epoll_event, u64);
                let told: Vec<u64> = told.chunks_exact(size).map(|event| word(&event[at..])).collect();
                let watched = registered(pid, self.args[0] as RawFd)?;
                watched
                    .iter()
                    .filter(|w| told.contains(&w.data))
                    .map(|w| w.fd)
                    .collect()
            }
        })
    }

    /// Each descriptor of a poll, and the events that are reported for it.
    fn polled(&self, pid: i32) -> io::Result<Vec<(RawFd, i16)>> {
        let count = usize::try_from(self.args[1]).unwrap_or(usize::MAX).min(FDS_MAX);
        let bytes = remote(pid, self.args[0], count * POLLFD_BYTES)?;
        let one = |entry: &[u8]| {
            let fd = RawFd::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]);
            (fd, i16::from_ne_bytes([entry[6], entry[7]]))
        };
        Ok(bytes.chunks_exact(POLLFD_BYTES).map(one).collect())
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.entry() {
            Some((_, name, _)) => f.write_str(name),
            None => write!(f, "system call {}", self.number),
        }
    }
}

/// What a thread is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// Its id.
    pub tid: i32,
    /// Its name.
    pub name: String,
    /// It does not run and waits for no disk: asleep, or ended. One that is traced or stopped is not asleep: whoever did that
    /// may let it go on.
    pub asleep: bool,
    /// The system call it sleeps in; `None` if it runs, or is in none.
    pub call: Option<Call>,
    /// How often it has been switched away from. Unchanged between two looks: it has not run in between.
    pub(super) switches: u64,
}

impl Thread {
    /// Whether it does nothing but let time pass.
    pub fn is_sleeping(&self) -> bool {
        let sleeps = |call: Call| {
            [libc::SYS_nanosleep, libc::SYS_clock_nanosleep]
                .iter()
                .any(|number| u64::try_from(*number) == Ok(call.number))
        };
        self.asleep && self.call.is_some_and(sleeps)
    }

    /// Whether it sleeps in something that ends by the clock, whatever else happens.
    pub fn is_timed(&self) -> bool {
        self.asleep && self.call.is_some_and(|call| call.is_timed())
    }
}

/// The threads of a process.
///
/// # Errors
/// There is no such process, or it has too many threads. `PermissionDenied`: looking at it is not allowed here.
pub fn threads(pid: i32) -> io::Result<Vec<Thread>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let Some(tid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if found.len() == THREADS_MAX {
            return Err(io::Error::other(format!("more than {THREADS_MAX} threads")));
        }
        match thread(pid, tid) {
            Ok(thread) => found.push(thread),
            // it ended while we were looking
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by_key(|thread| thread.tid);
    Ok(found)
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

fn thread(pid: i32, tid: i32) -> io::Result<Thread> {
    let folder = format!("/proc/{pid}/task/{tid}");
    let status = fs::read_to_string(format!("{folder}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.strip_prefix(':').map(str::trim)
    };
    let count = |name| field(name).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let state = field("State").and_then(|s| s.chars().next()).unwrap_or('R');
    let ended = matches!(state, 'Z' | 'X');
    // a thread that is about to sleep says S already; this file says `running` until it does
    let call = if ended {
        "ended".to_owned()
    } else {
        fs::read_to_string(format!("{folder}/syscall"))?
    };
    Ok(Thread {
        tid,
        name: field("Name").unwrap_or("?").to_owned(),
        asleep: matches!(state, 'S' | 'Z' | 'X') && call.trim() != "running",
        call: parse_call(&call),
        switches: count("voluntary_ctxt_switches") + count("nonvoluntary_ctxt_switches"),
    })
}

/// "NUMBER ARG... SP PC", "-1 SP PC" outside of system calls, or "running".
fn parse_call(text: &str) -> Option<Call> {
    let mut words = text.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut args = [0; 6];
    for arg in &mut args {
        *arg = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    }
    Some(Call { number, args })
}

/// Whether every thread of a process sleeps at one and the same moment: it has then done all that it can with what it
/// was given, and will do nothing more before something from outside, or a clock, wakes it. Threads in `held` are held by
/// the caller and need not be asked.
///
/// # Errors
/// See [`threads`].
pub fn all_asleep(pid: i32, held: &[i32]) -> io::Result<bool> {
    Ok(sleepers(pid, held)?.is_some())
}

/// The same, with what each of them sleeps in.
///
/// # Errors
/// See [`threads`].
pub fn sleepers(pid: i32, held: &[i32]) -> io::Result<Option<Vec<Thread>>> {
    let first = threads(pid)?;
    if !first.iter().all(|thread| thread.asleep || held.contains(&thread.tid)) {
        return Ok(None);
    }
    // one that was seen asleep may have been woken by one that was looked at later: none has run between the two looks
    // if all are the same in the second
    Ok((threads(pid)? == first).then_some(first))
}

/// A descriptor that an epoll instance watches.
struct Registered {
    fd: RawFd,
    data: u64,
}

/// What an epoll instance of a process watches.
fn registered(pid: i32, epoll: RawFd) -> io::Result<Vec<Registered>> {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{epoll}"))?;
    // "tfd:        8 events:       19 data:                0  pos:0 ino:... sdev:..."
    let one = |line: &str| {
        let mut words = line.strip_prefix("tfd:")?.split_whitespace();
        let fd = words.next()?.parse().ok()?;
        let data = words.skip_while(|word| *word != "data:").nth(1)?;
        let data = u64::from_str_radix(data, 16).ok()?;
        Some(Registered { fd, data })
    };
    Ok(text.lines().filter_map(one).take(FDS_MAX).collect())
}

/// The kernel's number of an eventfd of a process: the same for all descriptors, in all processes, that share it.
pub fn eventfd_id(pid: i32, fd: RawFd) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    let id = text.lines().find_map(|line| line.strip_prefix("eventfd-id:"))?;
    id.trim().parse().ok()
}

/// The same, for a descriptor of this process.
pub fn own_eventfd_id(fd: BorrowedFd) -> Option<u64> {
    eventfd_id(std::process::id() as i32, fd.as_raw_fd())
}

/// Whether a descriptor of a process is a connected Unix socket.
pub fn is_connected_socket(pid: i32, fd: RawFd) -> bool {
    let Ok(link) = fs::read_link(format!("/proc/{pid}/fd/{fd}")) else {
        return false;
    };
    let link = link.to_string_lossy();
    let Some(inode) = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) else {
        return false;
    };
    // "Num RefCount Protocol Flags Type St Inode Path", and 03 is connected
    let table = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(5);
        words.next() == Some("03") && words.next() == Some(inode)
    })
}

/// Bytes of another process's memory.
fn remote(pid: i32, address: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let base = usize::try_from(address).map_err(io::Error::other)?;
    let read = process_vm_readv(
        Pid::from_raw(pid),
        &mut [IoSliceMut::new(&mut bytes)],
        &[RemoteIoVec { base, len }],
    )?;
    bytes.truncate(read);
    Ok(bytes)
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_ne_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken: what /proc says about a thread is misread, so the wrong one is held.
    #[test]
    fn system_calls_are_read() {
        let call = parse_call("232 0x5 0x7f00 0x64 0xffffffffffffffff 0x0 0x0 0x7ffe 0x7f11\n").unwrap();
        assert_eq!((call.number, call.args[0], call.args[3]), (232, 5, u64::MAX));
        assert_eq!(call.wait(), Some(Wait::Epoll));
        assert_eq!(call.to_string(), "epoll_wait");
        assert_eq!(parse_call("running\n"), None);
        assert_eq!(parse_call("-1 0x7ffe 0x7f11\n"), None);
    }

    /// Broken: a process that works is taken for one that sleeps; then what it is about to do counts as never done.
    #[test]
    fn a_process_that_runs_is_not_asleep() {
        // this test itself runs
        assert!(!all_asleep(std::process::id() as i32, &[]).unwrap());
    }
}
