//! Who descends from a child: found by the session it was started in and by a mark in the environment, which grandchildren
//! inherit, so that a daemon which left the session is found as well.

use std::fs;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::poll::wait_to_read;

/// The environment variable that carries a child's mark.
pub const MARK: &str = "VUH_CHILD";

/// A process that is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// Its process id.
    pub pid: i32,
    /// Its name.
    pub name: String,
}

/// Processes, other than `leader` itself, that run in its session or carry its mark. Zombies are not counted.
pub fn descendants(leader: i32, mark: &str) -> Vec<Survivor> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let own = std::process::id() as i32;
    let marked = format!("{MARK}={mark}");
    let mut found = Vec::new();
    for pid in entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
    {
        if pid == leader || pid == own {
            continue;
        }
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        // "pid (name) state ppid pgrp session ...", and the name may hold anything
        let (Some(open), Some(close)) = (stat.find('('), stat.rfind(')')) else {
            continue;
        };
        let mut rest = stat[close + 1..].split_whitespace();
        let (state, session) = (rest.next().unwrap_or("Z"), rest.nth(2).unwrap_or("0"));
        if state == "Z" || state == "X" {
            continue;
        }
        let in_session = session.parse() == Ok(leader);
        let carries_mark = || {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|b| *b == 0).any(|entry| entry == marked.as_bytes())
        };
        if in_session || carries_mark() {
            found.push(Survivor {
                pid,
                name: stat[open + 1..close].to_owned(),
            });
        }
    }
    found
}

/// Kills survivors.
pub fn kill_all(survivors: &[Survivor]) {
    for survivor in survivors {
        // it may have ended by itself meanwhile
        let _ = kill(Pid::from_raw(survivor.pid), Signal::SIGKILL);
    }
}

/// Waits until all of them have ended, but no longer than `limit`.
pub fn wait_for_all(survivors: &[Survivor], limit: Duration) {
    let end = Instant::now() + limit;
    for survivor in survivors {
        // one that cannot be opened has ended
        let Ok(pidfd) = pidfd_open(survivor.pid as u32) else {
            continue;
        };
        // whoever called looks again what is left
        let _ = wait_to_read([pidfd.as_fd()], Some(end.saturating_duration_since(Instant::now())));
    }
}

/// A descriptor that is readable once the process has ended.
pub(super) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and returns a new descriptor (close-on-exec by definition) or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
