//! The recorded conversations in `traces/`: each reads, prints as it stands, says what made it, is without a fault, and makes
//! scenarios of both sides.

#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

use std::path::{Path, PathBuf};

use vhost_user_harness::judge::recorded::{self, Told};
use vhost_user_harness::scenario::from_trace::from_trace;
use vhost_user_harness::scenario::{Settings, load_str};
use vhost_user_harness::trace::LinkId;
use vhost_user_harness::trace::diff::compare;
use vhost_user_harness::trace::file::Trace;
use vhost_user_harness::wire::{Channel, Party};

/// Front-end, back-end and device of what has to be there.
const RECORDED: [(&str, &str, &str); 7] = [
    ("dpdk", "dpdk", "net"),
    ("qemu", "dpdk", "net"),
    ("qemu", "qemu-storage-daemon", "blk"),
    ("qemu", "reference", "blk"),
    ("reference", "qemu-storage-daemon", "blk"),
    ("reference", "reference", "blk"),
    ("reference", "reference", "net"),
];

fn traces() -> Vec<(PathBuf, Trace)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    let read = |file: PathBuf| {
        let trace = Trace::read(&file).unwrap_or_else(|error| panic!("{error}"));
        (file, trace)
    };
    files.into_iter().map(read).collect()
}

/// Broken: a conversation that the tests rely on is not there any more.
#[test]
fn what_has_to_be_recorded_is() {
    let traces = traces();
    let of = |trace: &Trace, party| {
        trace
            .header
            .peers
            .iter()
            .find(|p| p.party == party)
            .map(|p| p.player.clone())
    };
    for (front, back, device) in RECORDED {
        let found = traces.iter().any(|(_, trace)| {
            of(trace, Party::FrontEnd).as_deref() == Some(front)
                && of(trace, Party::BackEnd).as_deref() == Some(back)
                && trace.header.device.as_deref() == Some(device)
        });
        assert!(found, "no trace of {front} and {back}, {device}");
    }
}

/// Broken: the format has changed, so that what was recorded prints as something else.
#[test]
fn printing_gives_the_file_again() {
    for (file, trace) in traces() {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!trace.cut, "{}", file.display());
        let printed = String::from_utf8(trace.print().unwrap()).unwrap();
        assert!(printed == text, "{} prints as something else", file.display());
        assert_eq!(
            compare(&trace, &trace, trace.header.device_kind()).differences,
            [],
            "{}",
            file.display()
        );
    }
}

/// Broken: a trace does not say what made it, or says where it was made.
#[test]
fn headers_are_complete() {
    for (file, trace) in traces() {
        let made = &trace.header.made;
        let complete = made.by.starts_with("vuh ")
            && ["vuh record ", "vuh run "]
                .iter()
                .any(|verb| made.command.starts_with(verb))
            && made.note.is_some();
        assert!(complete && trace.header.device.is_some(), "{}", file.display());
        assert!(
            trace.header.peers.iter().all(|p| p.version.is_some()),
            "{}",
            file.display()
        );
        let text = std::fs::read_to_string(&file).unwrap();
        for path in ["/work", "/tmp", "/home", "/root"] {
            assert!(!text.contains(path), "{} contains {path}", file.display());
        }
        assert!(text.len() < 64 * 1024, "{} is too long to be read", file.display());
    }
}

/// Broken: real programs that do as they should are blamed.
#[test]
fn no_false_alarm() {
    for (file, trace) in traces() {
        let replies = trace
            .events
            .iter()
            .filter_map(|e| e.kind.message())
            .filter(|m| m.is_reply())
            .count();
        let judged = recorded::check(&trace, &Told::default());
        assert!(replies > 5 && judged.left_out == 0, "{}", file.display());
        assert_eq!(judged.faults, [], "{}", file.display());
    }
}

/// Broken: a reply that is missing, or there twice, in a trace of real programs is not found.
#[test]
fn a_reply_lost_or_doubled_is_found() {
    for (file, trace) in traces() {
        let id = |at: &usize| match trace.events[*at].kind.message() {
            Some(message) if message.is_reply() && message.channel == Channel::Main => Some(message.request),
            _ => None,
        };
        let mut replies: Vec<usize> = (0..trace.events.len()).filter(|at| id(at).is_some()).collect();
        // the last of all may be missing because the connection ended, and one of the same kind is taken for it
        let last = replies.pop().and_then(|at| id(&at));
        replies.retain(|at| id(at) != last);
        assert!(replies.len() > 5, "{}", file.display());
        for at in &replies {
            let mut lost = trace.clone();
            lost.events.remove(*at);
            let mut doubled = trace.clone();
            doubled.events.insert(*at, trace.events[*at].clone());
            for (what, mut changed) in [("lost", lost), ("doubled", doubled)] {
                changed.lines = vec![0; changed.events.len()];
                let judged = recorded::check(&changed, &Told::default());
                assert!(!judged.faults.is_empty(), "{}: {what} event {at}", file.display());
            }
        }
    }
}

/// Broken: a trace makes a scenario that is none.
#[test]
fn both_sides_make_scenarios() {
    for (file, trace) in traces() {
        for party in [Party::FrontEnd, Party::BackEnd] {
            let text = from_trace(&trace, LinkId(0), party, "recorded/x").unwrap();
            let plans = load_str("x.yaml", &text, &Settings::default());
            let plans = plans.unwrap_or_else(|e| panic!("{} as {party}: {e}\n{text}", file.display()));
            assert!(plans[0].scenario.steps.len() > 1, "{}", file.display());
        }
    }
}
