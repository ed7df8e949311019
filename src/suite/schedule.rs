//! Hands out plans to worker threads, in order, and brings back what came of them. An interrupt stops the handing out; a
//! panic in a run becomes that scenario's outcome.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Once, mpsc};
use std::thread;

use super::environment::quote;
use super::peers;
use crate::engine::{self, Environment};
use crate::judge::outcome::{Failure, Outcome};
use crate::judge::verdict::{FailKind, Verdict};
use crate::scenario::{Diagnostic, Plan};
use crate::sys::clock::Clock;

/// Worker threads, at most.
pub const JOBS_MAX: usize = 256;

/// Something to show while it runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// A plan was handed out.
    Started(&'a Plan),
    /// It is done.
    Finished(&'a Plan, &'a Outcome),
}

/// A plan and its outcome.
#[derive(Debug)]
pub struct Finished<'a> {
    /// What was run.
    pub plan: &'a Plan,
    /// What came of it.
    pub outcome: Outcome,
}

/// All that a run came to.
#[derive(Debug)]
pub struct Completed<'a> {
    /// In the order of ids.
    pub results: Vec<Finished<'a>>,
    /// What was not handed out any more after an interrupt.
    pub not_run: Vec<&'a Plan>,
    /// The run was interrupted.
    pub interrupted: bool,
    /// Worker threads.
    pub jobs: usize,
    /// Milliseconds from the first to the last.
    pub duration_ms: f64,
}

/// The number of workers when nothing is said: one a CPU.
pub fn default_jobs() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(JOBS_MAX)
}

/// Runs `plans` with `run` on `jobs` threads, calling `on` from this thread for every event, until all are done or
/// `stop` says so. What is running then still comes to its end.
pub fn run_all<'a>(
    plans: &'a [Plan],
    jobs: usize,
    run: &(dyn Fn(&Plan) -> Outcome + Sync),
    stop: &(dyn Fn() -> bool + Sync),
    on: &mut dyn FnMut(Event),
) -> Completed<'a> {
    let clock = Clock::start();
    let jobs = jobs.clamp(1, JOBS_MAX).min(plans.len().max(1));
    let next = AtomicUsize::new(0);
    let mut outcomes: Vec<Option<Outcome>> = plans.iter().map(|_| None).collect();
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..jobs {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while !stop() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(plan) = plans.get(index) else { break };
                    // the receiver outlives the workers; were it gone, nobody would be left to tell
                    let _ = sender.send((index, None));
                    let _ = sender.send((index, Some(run(plan))));
                }
            });
        }
        drop(sender);
        for (index, outcome) in receiver {
            match outcome {
                None => on(Event::Started(&plans[index])),
                Some(outcome) => {
                    on(Event::Finished(&plans[index], &outcome));
                    outcomes[index] = Some(outcome);
                }
            }
        }
    });
    let mut results = Vec::new();
    let mut not_run = Vec::new();
    for (plan, outcome) in plans.iter().zip(outcomes) {
        match outcome {
            Some(outcome) => results.push(Finished { plan, outcome }),
            None => not_run.push(plan),
        }
    }
    results.sort_by(|a, b| a.plan.id.cmp(&b.plan.id));
    Completed {
        results,
        not_run,
        interrupted: stop(),
        jobs,
        duration_ms: clock.now().ms(),
    }
}

/// One scenario: not run if something stands in the way, and never a panic.
pub fn execute(plan: &Plan, environment: &Environment) -> Outcome {
    guarded(plan, environment, || match engine::obstacle(plan, environment) {
        None => engine::run(plan, environment),
        Some(obstacle) if obstacle.fatal => {
            let why = Diagnostic::error(obstacle.reason.clone())
                .in_file(&plan.path)
                .maybe_help(
                    obstacle
                        .missing
                        .map(|peer| format!("`{peer}` is required (VUH_REQUIRE, --require), so this is no skip")),
                );
            failed(plan, environment, FailKind::Start, obstacle.reason, why)
        }
        Some(obstacle) => {
            let peers = peers::chosen(plan, environment);
            Outcome {
                peers,
                ..blank(plan, Verdict::Skipped, Some(obstacle.reason))
            }
        }
    })
}

/// Runs something for a plan; a panic becomes a failure of the harness.
fn guarded(plan: &Plan, environment: &Environment, run: impl FnOnce() -> Outcome) -> Outcome {
    catch_panics();
    PANIC.set(Some(String::new()));
    let caught = catch_unwind(AssertUnwindSafe(run));
    let message = PANIC.take().unwrap_or_default();
    caught.unwrap_or_else(|_| {
        let why = Diagnostic::error(format!("the harness panicked: {message}"))
            .in_file(&plan.path)
            .help("this is a fault of the harness, whatever the peers did");
        failed(
            plan,
            environment,
            FailKind::Harness,
            format!("the harness panicked: {message}"),
            why,
        )
    })
}

fn failed(plan: &Plan, environment: &Environment, kind: FailKind, reason: String, diagnostic: Diagnostic) -> Outcome {
    let rerun = format!("{} {}", environment.rerun, quote(&plan.id));
    let failure = Failure {
        diagnostic,
        last_events: Vec::new(),
        stderr: Vec::new(),
        rerun,
    };
    Outcome {
        failure: Some(failure),
        ..blank(plan, Verdict::Fail(kind), Some(reason))
    }
}

/// The outcome of something that did not run.
pub fn blank(plan: &Plan, verdict: Verdict, reason: Option<String>) -> Outcome {
    Outcome {
        peers: peers::declared(plan),
        ..Outcome::of(plan, verdict, reason)
    }
}

thread_local! {
    /// Set while a run is guarded: what its panic said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics of guarded runs are kept instead of printed into the middle of the progress.
fn catch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let kept = PANIC.with_borrow_mut(|kept| {
                kept.as_mut().map(|text| {
                    let place = info
                        .location()
                        .map(|l| format!(" ({}:{})", l.file(), l.line()))
                        .unwrap_or_default();
                    *text = format!("{}{place}", message(info.payload()));
                })
            });
            if kept.is_none() {
                usual(info);
            }
        }));
    });
}

/// The text of a panic.
fn message(payload: &dyn std::any::Any) -> &str {
    let formatted = payload.downcast_ref::<String>().map(String::as_str);
    formatted
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::{Barrier, Mutex};

    use super::*;
    use crate::suite::environment::{Options, environment};
    use crate::suite::testing::{outcome, plan};

    fn plans(count: usize) -> Vec<Plan> {
        (0..count)
            .map(|i| plan(&format!("s/{i:02}"), "simulated", "simulated"))
            .collect()
    }

    /// Broken: a scenario is run twice or not at all, or results come in the order of chance.
    #[test]
    fn all_are_run_once_and_sorted() {
        let plans = plans(20);
        let ran = Mutex::new(Vec::new());
        let mut events = 0;
        let run = |plan: &Plan| {
            ran.lock().unwrap().push(plan.id.clone());
            outcome(plan, Verdict::Pass)
        };
        let completed = run_all(&plans, 4, &run, &|| false, &mut |_| events += 1);
        let ids: Vec<_> = completed.results.iter().map(|r| r.plan.id.as_str()).collect();
        assert_eq!(ids, plans.iter().map(|p| p.id.as_str()).collect::<Vec<_>>());
        let mut ran = ran.into_inner().unwrap();
        ran.sort();
        assert_eq!(ran, ids);
        assert_eq!((events, completed.jobs, completed.not_run.len()), (40, 4, 0));
    }

    /// Broken: `-j 2` runs one after the other.
    #[test]
    fn jobs_run_side_by_side() {
        let plans = plans(2);
        let both = Barrier::new(2);
        let run = |plan: &Plan| {
            both.wait();
            outcome(plan, Verdict::Pass)
        };
        assert_eq!(run_all(&plans, 2, &run, &|| false, &mut |_| {}).results.len(), 2);
    }

    /// Broken: Ctrl-C goes on with the next scenario, or forgets what was not run.
    #[test]
    fn an_interrupt_stops_the_handing_out() {
        let plans = plans(5);
        let stop = AtomicBool::new(false);
        let run = |plan: &Plan| {
            stop.store(plan.id == "s/01", Ordering::SeqCst);
            outcome(plan, Verdict::Pass)
        };
        let completed = run_all(&plans, 1, &run, &|| stop.load(Ordering::SeqCst), &mut |_| {});
        assert_eq!(completed.results.len(), 2);
        assert_eq!(
            completed.not_run.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(),
            ["s/02", "s/03", "s/04"]
        );
        assert!(completed.interrupted);
    }

    /// Broken: a panic takes the whole run with it, or is not told from a failure of the peer.
    #[test]
    fn a_panic_is_a_fault_of_the_harness() {
        let environment = environment(&Options::default(), "vuh".into()).unwrap();
        let plan = plan("s/a[n=1]", "simulated", "simulated");
        let outcome = guarded(&plan, &environment, || panic!("index {} out of range", 7));
        assert_eq!(outcome.verdict, Verdict::Fail(FailKind::Harness));
        let reason = outcome.reason.unwrap();
        assert!(
            reason.starts_with("the harness panicked: index 7 out of range (src/suite/schedule.rs:"),
            "{reason}"
        );
        assert_eq!(outcome.failure.unwrap().rerun, "vuh run 's/a[n=1]'");
    }
}
