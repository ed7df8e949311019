//! A recording of very many messages: what it costs the recorder, and what a `kill -9` leaves of it.

use std::os::unix::net::UnixListener;
use std::time::Instant;

use vhost_user_harness::trace::file::Trace;

/// Records so many messages, half of them answers to the others, and kills the recorder behind the last.
pub(super) fn record(messages: usize) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let back = UnixListener::bind(folder.path().join("b")).expect("a socket");
    let mut interposer = super::start(folder.path(), "long.yaml");
    let front = super::dial(&folder.path().join("a"));
    let answering = back.accept().expect("the interposer connects").0;
    let mut answerer = super::role("answer", answering, None);
    let parts = [answerer.id(), interposer.id()];
    let trace = folder.path().join("long.yaml");
    let begun = Instant::now();
    let mut sent = 0;
    for part in 1..=10 {
        while sent < messages * part / 10 {
            super::window(&front, 1, &[], &parts);
            sent += 2 * super::TRIPS;
        }
        let file = std::fs::metadata(&trace).map_or(0, |file| file.len());
        println!(
            "{sent:>9} messages: at most {:.1} MB of memory, {:.1} MB of trace",
            most_memory_kb(interposer.id()) as f64 / 1e3,
            file as f64 / 1e6
        );
    }
    let seconds = begun.elapsed().as_secs_f64();
    interposer.kill().expect("the interposer is ours");
    interposer.wait().expect("the interposer ends");
    drop(front);
    answerer.wait().expect("it ends with its connection");
    let trace = Trace::read(&trace).expect("the trace can be read");
    let read = trace.events.iter().filter(|event| event.kind.message().is_some());
    println!(
        "{:.0} messages a second; killed behind the last of them: {} of {sent} can be read, {}",
        sent as f64 / seconds,
        read.count(),
        if trace.cut {
            "and it says that it is cut off"
        } else {
            "and it DOES NOT SAY that it is cut off"
        }
    );
}

/// VmHWM of a process.
fn most_memory_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).expect("proc(5) says so")
}
