//! Running a scenario under schedules: one run, or many side by side.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use super::schedule::{Maker, Recorder, Trail, Wanted};
use crate::engine::steer::Limits;
use crate::engine::{self, Environment};
use crate::judge::outcome::Outcome;
use crate::judge::verdict::{FailKind, Verdict};
use crate::scenario::Plan;

/// What a run says of its schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Class {
    /// Nothing is wrong.
    Good,
    /// Something is.
    Bad {
        /// How it shows: the same fault shows in the same way.
        sign: Sign,
    },
    /// It says nothing: what had to work did not.
    Inconclusive(String),
    /// It cannot be run here.
    Unsupported(String),
    /// The harness or the scenario is at fault.
    Broken(String),
    /// The person has had enough.
    Interrupted,
}

/// How a failure shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sign {
    pub(super) kind: FailKind,
    pub(super) message: String,
    pub(super) line: u32,
}

/// A run that is over.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) class: Class,
    pub(super) outcome: Outcome,
    pub(super) timeline: Vec<String>,
    pub(super) trail: Trail,
    pub(super) misfit: Option<String>,
}

impl Ran {
    /// How it fails, if it does.
    pub(super) fn sign(&self) -> Option<&Sign> {
        match &self.class {
            Class::Bad { sign } => Some(sign),
            _ => None,
        }
    }
}

/// What is run again and again.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) plan: &'a Plan,
    pub(super) environment: &'a Environment,
    pub(super) limits: Limits,
}

impl Subject<'_> {
    /// One run.
    pub(super) fn run(self, wanted: Wanted) -> Ran {
        let mut recorder = Recorder::new(Maker::new(wanted));
        let ran = engine::steer::steer(self.plan, self.environment, &mut recorder, self.limits);
        let misfit = recorder.inner.misfit.take().or_else(|| recorder.inner.unused());
        Ran {
            class: class(&ran.outcome),
            outcome: ran.outcome,
            timeline: ran.timeline,
            trail: recorder.trail,
            misfit,
        }
    }

    /// Runs schedules by their number, side by side, and hands each to `take` in the order of their numbers, until that
    /// has enough. A schedule that is running then comes to its end and is forgotten.
    pub(super) fn run_all(
        self,
        jobs: usize,
        count: usize,
        wanted: &(dyn Fn(usize) -> Wanted + Sync),
        take: &mut dyn FnMut(usize, Ran) -> bool,
    ) {
        let next = AtomicUsize::new(0);
        let enough = AtomicBool::new(false);
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            for _ in 0..jobs.clamp(1, count.max(1)) {
                let (sender, next, enough) = (sender.clone(), &next, &enough);
                scope.spawn(move || {
                    while !enough.load(Ordering::SeqCst) {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        if number >= count || sender.send((number, self.run(wanted(number)))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            let mut early: BTreeMap<usize, Ran> = BTreeMap::new();
            let mut due = 0;
            for (number, ran) in receiver {
                early.insert(number, ran);
                // in the order of numbers, whoever was faster
                while let Some(ran) = early.remove(&due) {
                    if !enough.load(Ordering::SeqCst) && !take(due, ran) {
                        enough.store(true, Ordering::SeqCst);
                    }
                    due += 1;
                }
            }
        });
    }
}

fn class(outcome: &Outcome) -> Class {
    let reason = || outcome.reason.clone().unwrap_or_default();
    match outcome.verdict {
        Verdict::Pass | Verdict::ExpectedFail | Verdict::UnexpectedPass => Class::Good,
        Verdict::Skipped | Verdict::Unsupported => Class::Unsupported(reason()),
        Verdict::Fail(kind @ (FailKind::Wrong | FailKind::Crash | FailKind::Hang | FailKind::Leak)) => {
            let failure = outcome.failure.as_ref().map(|failure| &failure.diagnostic);
            Class::Bad {
                sign: Sign {
                    kind,
                    message: failure.map(|d| d.message.clone()).unwrap_or_default(),
                    line: failure.and_then(|d| d.span).map_or(0, |span| span.line),
                },
            }
        }
        Verdict::Fail(_) => Class::Broken(reason()),
        Verdict::Inconclusive if crate::sys::signal::interrupted() => Class::Interrupted,
        Verdict::Inconclusive => Class::Inconclusive(reason()),
    }
}
