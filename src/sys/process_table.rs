//! Who descends from a child: found by the session it was started in and by a mark in the environment, which grandchildren
//! inherit, so that a daemon which left the session is found as well.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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

/// Ends survivors.
pub fn kill_all(survivors: &[Survivor]) {
    for survivor in survivors {
        // it may have ended by itself meanwhile
        let _ = kill(Pid::from_raw(survivor.pid), Signal::SIGKILL);
    }
}
