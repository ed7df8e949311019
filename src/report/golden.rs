//! One made-up run with every verdict, and the comparison of what a reporter writes of it with a file beside this one.
//! `VUH_BLESS=1 cargo test --lib report::` writes the files anew.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

use super::Reporter;
use crate::judge::rate::Limits;
use crate::judge::rated::{Measured, Negotiated, Rated};
use crate::judge::verdict::{FailKind, Verdict};
use crate::scenario::Plan;
use crate::suite::schedule::Event;
use crate::suite::testing::{outcome, plan};
use crate::suite::{Completed, Finished, Summary};
use crate::sys::golden;

/// Front-end and back-end kind, and the verdict, by id.
const RUN: [(&str, &str, &str, Verdict); 13] = [
    (
        "backend/blk/capacity[n=1]",
        "simulated",
        "qemu-storage-daemon",
        Verdict::Pass,
    ),
    (
        "backend/blk/capacity[n=2]",
        "simulated",
        "qemu-storage-daemon",
        Verdict::Fail(FailKind::Hang),
    ),
    ("backend/blk/read-write", "simulated", "reference", Verdict::Pass),
    (
        "backend/crash",
        "simulated",
        "./mine --socket {socket}",
        Verdict::Fail(FailKind::Crash),
    ),
    ("backend/known", "simulated", "reference", Verdict::ExpectedFail),
    ("backend/known-again", "simulated", "reference", Verdict::UnexpectedPass),
    ("backend/mq", "simulated", "simulated", Verdict::Unsupported),
    ("frontend/qemu/handshake", "qemu", "simulated", Verdict::Skipped),
    ("frontend/qemu/mq", "qemu", "simulated", Verdict::Skipped),
    ("link/close", "simulated", "simulated", Verdict::Pass),
    ("link/noise", "simulated", "simulated", Verdict::Inconclusive),
    ("link/order", "simulated", "simulated", Verdict::Fail(FailKind::Wrong)),
    ("link/panic", "simulated", "simulated", Verdict::Fail(FailKind::Harness)),
];

/// A stream whose text can be looked at afterwards.
#[derive(Clone, Default)]
pub(super) struct Buffer(Rc<RefCell<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Feeds the made-up run, which was interrupted before its last scenario, to a reporter; returns what it wrote to the buffer.
pub(super) fn run(make: impl FnOnce(&[Plan], Buffer) -> Box<dyn Reporter>) -> String {
    let plans: Vec<Plan> = RUN.iter().map(|(id, front, back, _)| plan(id, front, back)).collect();
    let last = [plan("link/zero", "simulated", "simulated")];
    let buffer = Buffer::default();
    let mut reporter = make(&plans, buffer.clone());
    let mut results = Vec::new();
    for (plan, (.., verdict)) in plans.iter().zip(RUN) {
        let mut outcome = outcome(plan, verdict);
        match plan.id.as_str() {
            "link/close" => outcome.rates.push(rated(None, 14)),
            "link/noise" => outcome.rates.push(rated(Some(0.981), 13)),
            _ => {}
        }
        for event in [Event::Started(plan), Event::Finished(plan, &outcome)] {
            match event {
                Event::Started(plan) => reporter.started(plan),
                Event::Finished(plan, outcome) => reporter.finished(plan, outcome),
            }
        }
        results.push(Finished { plan, outcome });
    }
    let not_run = last.iter().collect();
    let completed = Completed {
        results,
        not_run,
        interrupted: true,
        jobs: 2,
        duration_ms: 1234.5678,
    };
    reporter.done(&completed, &Summary::of(&completed)).unwrap();
    String::from_utf8(buffer.0.borrow().clone()).unwrap()
}

/// A rate of so many windows, or its ratio to a baseline of which at least so much was asked for.
fn rated(at_least: Option<f64>, windows: u32) -> Rated {
    let measured = |name: &str, rate: f64| Measured {
        name: name.to_owned(),
        windows: (0..windows).map(|at| rate + f64::from(at % 5) * 1e5).collect(),
        negotiated: Negotiated {
            ring_size: 256,
            packed: true,
            features: 1 << 32 | 1 << 34,
            burst: 32,
            notified: false,
            huge_pages: true,
            frames: "frames of 64".to_owned(),
        },
    };
    let limits = Limits {
        at_least: at_least.or(Some(4e6)),
        at_most: None,
    };
    let baseline = at_least.map(|_| measured("baseline", 5.1e6));
    Rated::judge(measured("judged", 5e6), baseline, limits)
}

/// Compares text with the golden file of that name.
pub(super) fn check(name: &str, text: &str) {
    check_page(Path::new("src/report/golden").join(name), text);
}

/// Compares text with a checked-in file.
pub(super) fn check_page(path: impl AsRef<Path>, text: &str) {
    golden::check(path, text, "--lib report::");
}
