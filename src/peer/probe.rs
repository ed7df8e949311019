//! Asking a program for its version: bounded in time and in what is read of it, ended by a signal to this process, and what
//! it prints made fit for a terminal. A program may be asked before it is known to be what its catalogue file says.

use std::ffi::OsString;
use std::path::Path;

use super::catalogue::{Entry, find_program};
use crate::sys::child::{Child, Exit, Spec};
use crate::sys::clock::Clock;
use crate::sys::poll::wait_to_read;
use crate::sys::signal;

/// How long a program may take to print its version.
const PROBE_MS: u64 = 10_000;
/// Characters kept of a version line.
const VERSION_MAX: usize = 200;

/// Whether a program is here: its version line, or why not.
pub(super) fn probe(program: &Path, entry: &Entry) -> Result<String, String> {
    let needs = entry.needs.as_deref().map(|n| format!(" ({n})")).unwrap_or_default();
    if find_program(program).is_none() {
        return Err(match entry.program.strip_prefix("{known_bad}/") {
            Some(name) => format!("{name} is not built{needs}"),
            None => format!("{} is not installed{needs}", entry.program),
        });
    }
    if entry.probe.is_empty() {
        return Ok("present".to_owned());
    }
    let asked = format!("{} {}", entry.program, entry.probe.join(" "));
    let words: Vec<OsString> = entry.probe.iter().map(OsString::from).collect();
    ask(program, words, PROBE_MS).map_err(|why| match why {
        Silence::Start(error) => format!("{} cannot be started: {error}", entry.program),
        Silence::End(exit) => format!("{asked} fails: {exit}"),
        Silence::Late => format!("{asked} does not end within {} s", PROBE_MS / 1000),
        Silence::Flood => format!("{asked} prints without end"),
        Silence::Interrupted => format!("{asked} was interrupted"),
    })
}

/// Why a program says nothing of itself.
#[derive(Debug)]
enum Silence {
    Start(std::io::Error),
    End(Exit),
    Late,
    Flood,
    Interrupted,
}

fn ask(program: &Path, args: Vec<OsString>, limit_ms: u64) -> Result<String, Silence> {
    let clock = Clock::start();
    let deadline = clock.now().plus_ms(limit_ms);
    // a relative program is meant from here, where it is started too
    let directory = std::env::current_dir().map_err(Silence::Start)?;
    let found = match program.components().count() {
        0 | 1 => program.to_owned(),
        _ => directory.join(program),
    };
    let mut child = Child::spawn(&Spec {
        program: found.into(),
        args,
        directory,
        inherit: Vec::new(),
    })
    .map_err(Silence::Start)?;
    // the child is killed, with all that it has started, when it is dropped
    loop {
        child.collect();
        if child.out.is_cut() || child.err.is_cut() {
            return Err(Silence::Flood);
        }
        match child.exit() {
            Some(Exit::Status(0)) => return Ok(version_line(&child.out.text(), &child.err.text())),
            Some(exit) => return Err(Silence::End(exit)),
            None if clock.now() >= deadline => return Err(Silence::Late),
            None => {}
        }
        let fds = child.watch().chain(signal::interrupt_fd());
        wait_to_read(fds, Some(clock.until(deadline))).map_err(Silence::Start)?;
        if signal::interrupted() {
            return Err(Silence::Interrupted);
        }
    }
}

/// The line that tells a version, or else the first one, without what a terminal would take for a command. DPDK tells it among
/// the help it prints.
fn version_line(stdout: &str, stderr: &str) -> String {
    let tells = |line: &&str| {
        let line = line.to_lowercase();
        line.split_once("version")
            .is_some_and(|(_, rest)| rest.contains(|c: char| c.is_ascii_digit()))
    };
    let told = stdout.lines().chain(stderr.lines()).find(tells);
    let first = || stdout.lines().find(|line| !line.trim().is_empty());
    let line = told.or_else(first).unwrap_or_default().trim();
    let plain = line.chars().filter(|c| !c.is_control()).take(VERSION_MAX);
    match plain.collect::<String>() {
        nothing if nothing.is_empty() => "present".to_owned(),
        line => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit_ms: u64) -> Result<String, Silence> {
        ask(Path::new("sh"), vec!["-c".into(), script.into()], limit_ms)
    }

    /// Broken: a program that never ends, or never ends to print, stops the harness, or fills its memory.
    #[test]
    fn a_probe_is_bounded() {
        assert!(matches!(shell("exec sleep 1000", 50), Err(Silence::Late)));
        assert!(matches!(shell("exec yes", 60_000), Err(Silence::Flood)));
        assert!(matches!(shell("exit 3", 60_000), Err(Silence::End(Exit::Status(3)))));
    }

    /// Broken: what a program prints is a command to the terminal.
    #[test]
    fn a_version_is_plain_text() {
        assert_eq!(
            shell(r"printf '\033[31mred 1.0\033[0m\nmore\n'", 60_000).unwrap(),
            "[31mred 1.0[0m"
        );
        assert_eq!(shell("true", 60_000).unwrap(), "present");
    }

    /// Broken: a report names a line of some program's help as its version.
    #[test]
    fn the_version_is_where_it_is_told() {
        let help = "\nUsage: dpdk-testpmd\n  -v  Display version information on startup\n";
        let log = "EAL: Detected CPU lcores: 2\nEAL: RTE Version: 'DPDK 22.11.11'\n";
        assert_eq!(version_line(help, log), "EAL: RTE Version: 'DPDK 22.11.11'");
        assert_eq!(
            version_line("QEMU emulator version 10.0.2\nCopyright 2003\n", ""),
            "QEMU emulator version 10.0.2"
        );
        assert_eq!(version_line("my-disk 3\n", "warning\n"), "my-disk 3");
        assert_eq!(version_line("", ""), "present");
    }
}
