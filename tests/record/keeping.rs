//! What is kept: bounded memory, the last events, and a trace whatever happens.

use vhost_user_harness::trace::EventKind;

use super::*;

/// Request and answer, so many times.
fn talk(a: &UnixStream, b: &UnixStream, times: usize) {
    let (request, answer) = (message(1, 1, &[]), message(1, 5, &[1; 8]));
    for _ in 0..times {
        send_all(a, &request, &[]);
        Got::default().until_len(b, request.len());
        send_all(b, &answer, &[]);
        Got::default().until_len(a, answer.len());
    }
}

/// Broken: the memory of a recording grows with what it records.
#[test]
fn memory_does_not_grow_with_messages() {
    let between = Between::start(&[]);
    let (a, b) = between.connect();
    talk(&a, &b, 2_000);
    let before = between.memory_kb();
    talk(&a, &b, 6_000);
    let after = between.memory_kb();
    assert!(after <= before + 1_000, "{before} kB, then {after} kB");
    let (_, _, trace) = between.end();
    assert_eq!(
        trace.events.iter().filter(|e| e.kind.message().is_some()).count(),
        16_000
    );
    assert!(!trace.cut);
}

/// Broken: somebody who sends without a pause keeps the harness to itself: others are not served, and Ctrl-C is not heard.
#[test]
fn who_sends_without_a_pause_keeps_nobody_waiting() {
    let between = Between::start(&[]);
    let (front, back) = between.connect();
    let requests = message(2, 1, &[0; 8]).repeat(50);
    send_all(&front, &requests, &[]);
    let threads = [
        std::thread::spawn(move || while std::io::Write::write_all(&mut &front, &requests).is_ok() {}),
        std::thread::spawn(move || while matches!(std::io::Read::read(&mut &back, &mut [0; 4096]), Ok(1..)) {}),
    ];
    let (a, b) = between.connect();
    talk(&a, &b, 3);
    let (status, _, trace) = between.end();
    assert_eq!(status.code(), Some(0));
    let mut counts = [0; 2];
    for event in trace.events.iter().filter(|e| e.kind.message().is_some()) {
        counts[event.link.unwrap().0] += 1;
    }
    assert!(counts[0] >= 50 && counts[1] == 6, "{counts:?}");
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Broken: a kill -9 costs more than the last millisecond.
#[test]
fn kill_9_leaves_a_trace() {
    let mut between = Between::start(&[]);
    let (a, b) = between.connect();
    talk(&a, &b, 100);
    let lines = || std::fs::read_to_string(between.trace()).map_or(0, |text| text.matches("message:").count());
    until("it is written", || (lines() == 200).then_some(()));
    between.signal(Signal::SIGKILL);
    between.child.wait().unwrap();
    let trace = Trace::read(&between.trace()).unwrap();
    assert!(trace.cut);
    // the last one may have been on its way to the file
    assert!((200..=201).contains(&trace.events.len()), "{}", trace.events.len());
    let said = Command::new(env!("CARGO_BIN_EXE_vuh"))
        .args(["trace", "show"])
        .arg(between.trace())
        .output()
        .unwrap();
    let error = String::from_utf8(said.stderr).unwrap();
    assert!(
        said.status.success() && error.contains("the trace is cut off after line"),
        "{error}"
    );
}

/// Broken: of a long recording not the last events are kept, or SIGUSR1 does not give them while it goes on.
#[test]
fn the_last_events() {
    let between = Between::start(&["--last", "5"]);
    let (a, b) = between.connect();
    talk(&a, &b, 50);
    assert!(!between.trace().exists());
    between.signal(Signal::SIGUSR1);
    let trace = until("it is written", || Trace::read(&between.trace()).ok());
    assert_eq!((trace.events.len(), trace.header.skipped, trace.cut), (5, 96, false));
    talk(&a, &b, 1);
    drop((a, b));
    let (status, said, trace) = between.end();
    assert!(status.success(), "{said}");
    assert_eq!(trace.events.len(), 5);
    assert!(trace.header.skipped >= 98, "{:?}", trace.header);
    assert!(trace.events.iter().any(|e| matches!(e.kind, EventKind::Closed { .. })));
}

/// Broken: who pins a program to a processor gets the recorder on another one, and pays two interrupts a message.
#[test]
fn it_stays_on_the_processor_it_is_given() {
    let cpus = vhost_user_harness::sys::cpu::allowed().unwrap();
    let last = *cpus.last().unwrap();
    let between = Between::start(&["--cpu", &last.to_string()]);
    let (front, back) = between.connect();
    talk(&front, &back, 3);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", between.child.id())).unwrap();
    for task in tasks {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let line = status.lines().find(|l| l.starts_with("Cpus_allowed_list:")).unwrap();
        assert_eq!(line.split_whitespace().nth(1), Some(last.to_string().as_str()));
    }
    let (status, said, _) = between.end();
    assert!(status.success(), "{said}");
    let mut none = Between::start(&["--cpu", "4095"]);
    assert_eq!(none.child.wait().unwrap().code(), Some(2));
}
