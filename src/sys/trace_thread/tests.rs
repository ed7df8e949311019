//! On processes of this machine: `cat`, and this test program itself.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::sys::fd::drain_event;
use crate::sys::poll::wait_to_read;
use crate::sys::threads::all_asleep;

const READS: Rule = Rule {
    point: Point::Return,
    wait: Some(Wait::Read),
    news: None,
};

/// A process that copies what it reads, asleep in read.
fn copier() -> Child {
    let mut command = Command::new("cat");
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    while !all_asleep(child.id() as i32, &[]).unwrap() {}
    child
}

fn wait_for(thread: &HeldThread, wanted: fn(&HoldState) -> bool) {
    while !wanted(&thread.state()) {
        assert_ne!(thread.state(), HoldState::Gone);
        wait_to_read([thread.changed()], None).unwrap();
        drain_event(thread.changed()).unwrap();
    }
}

fn seize(child: &Child, rule: Rule) -> HeldThread {
    let pid = child.id() as i32;
    let thread = HeldThread::seize(pid, pid, rule).unwrap();
    wait_for(&thread, |state| *state != HoldState::Attaching);
    assert!(!matches!(thread.state(), HoldState::Refused { .. }));
    thread
}

fn echo(child: &mut Child, text: &[u8]) {
    child.stdin.as_mut().unwrap().write_all(text).unwrap();
    let mut back = vec![0; text.len()];
    child.stdout.as_mut().unwrap().read_exact(&mut back).unwrap();
    assert_eq!(back, text);
}

/// Broken: a thread goes past the point at which it is to be held, or does not go on from there.
#[test]
fn a_thread_is_held_as_it_returns_and_goes_on() {
    let mut child = copier();
    let mut thread = seize(&child, READS);
    child.stdin.as_mut().unwrap().write_all(b"first").unwrap();
    wait_for(&thread, |state| matches!(state, HoldState::Held(_)));
    let output = child.stdout.as_ref().unwrap();
    // it has read this and cannot have written it
    assert!(!wait_to_read([output.as_fd()], Some(Duration::ZERO)).unwrap());
    thread.release();
    wait_for(&thread, |state| *state == HoldState::Released);
    let mut back = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut back).unwrap();
    assert_eq!(&back, b"first");
    echo(&mut child, b"second");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

/// Broken: a process that was never held is left stopped, or its wait fails, when the handle is dropped.
#[test]
fn letting_go_of_a_thread_that_waits_changes_nothing() {
    let mut child = copier();
    drop(seize(&child, READS));
    echo(&mut child, b"as before");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

/// Broken: a process that is killed while one of its threads is held seems to live on.
#[test]
fn a_held_process_can_be_killed() {
    let mut child = copier();
    let entry = Rule {
        point: Point::Entry,
        ..READS
    };
    let thread = seize(&child, entry);
    wait_for(&thread, |state| matches!(state, HoldState::Held(_)));
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    wait_for(&thread, |state| *state == HoldState::Gone);
}

const EPOLL_CHILD: &str = "VUH_TEST_EPOLL_CHILD";

/// No test: what the one below starts. It echoes bytes one by one, waits in epoll_wait, and takes EINTR badly.
#[test]
#[ignore = "plays a process for another test"]
fn epoll_child() {
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
    if std::env::var_os(EPOLL_CHILD).is_none() {
        return;
    }
    let stdin = std::io::stdin();
    let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
    epoll.add(&stdin, EpollEvent::new(EpollFlags::EPOLLIN, 7)).unwrap();
    loop {
        let mut events = [EpollEvent::empty(); 4];
        if epoll.wait(&mut events, EpollTimeout::NONE).is_err() {
            std::process::exit(7);
        }
        let mut byte = [0; 1];
        if nix::unistd::read(&stdin, &mut byte) != Ok(1) {
            std::process::exit(0);
        }
        nix::unistd::write(std::io::stdout(), &byte).unwrap();
    }
}

/// Broken: a program that does not expect to be interrupted notices that its thread is held.
#[test]
fn a_wait_in_epoll_is_not_seen_to_be_interrupted() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "--ignored",
        "--nocapture",
        "sys::trace_thread::tests::epoll_child",
    ]);
    command
        .env(EPOLL_CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let pid = child.id() as i32;
    let in_epoll = || {
        let all = crate::sys::threads::threads(pid).unwrap();
        all.into_iter()
            .find(|t| t.call.is_some_and(|c| c.wait() == Some(Wait::Epoll)))
    };
    let tid = loop {
        if let Some(thread) = in_epoll() {
            break thread.tid;
        }
    };
    let told = Rule {
        point: Point::Return,
        wait: Some(Wait::Epoll),
        news: None,
    };
    for letter in 128..148u8 {
        let thread = HeldThread::seize(pid, tid, told).unwrap();
        wait_for(&thread, |state| *state != HoldState::Attaching);
        if letter % 2 == 0 {
            child.stdin.as_mut().unwrap().write_all(&[letter]).unwrap();
            wait_for(&thread, |state| matches!(state, HoldState::Held(_)));
        }
        drop(thread);
        if letter % 2 == 1 {
            child.stdin.as_mut().unwrap().write_all(&[letter]).unwrap();
        }
        let mut back = [0];
        // what the test program says of itself comes first
        while back[0] != letter {
            child.stdout.as_mut().unwrap().read_exact(&mut back).unwrap();
        }
    }
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
