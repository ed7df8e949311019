//! Exploring real programs: one run for each schedule, the programs started anew each time.
//!
//! `schedule` says what a schedule is and makes it, `runs` runs it, `pairs` is the systematic search, `shrink` leaves of a
//! failing schedule what it needs to fail and finds the two events whose order matters, `script` writes them as a
//! scenario with holds, `report` tells it all.

mod pairs;
mod report;
mod runs;
mod schedule;
mod script;
mod shrink;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::{ExploreError, Options, Report, Search};
use crate::engine::steer::{Kind, Limits};
use crate::engine::{self, Environment};
use crate::scenario::Plan;
use crate::sys::signal;
use runs::{Class, Ran, Subject};
use schedule::{Chance, Token, Trail, Wanted};

/// Points at which priorities change, when nothing is said.
const CHANGES_DEFAULT: u32 = 3;

/// What a search has seen.
#[derive(Debug, Default)]
struct Covered {
    /// Schedules that were run, the default one among them.
    schedules: usize,
    /// Orders of events.
    orders: BTreeSet<u64>,
    /// Schedules that said nothing, and the last reason.
    inconclusive: usize,
    why_inconclusive: Option<String>,
    /// Free choices, by what could have happened, over all schedules.
    kinds: BTreeMap<Kind, u64>,
    /// Free choices of one schedule: fewest, most.
    free: Option<(usize, usize)>,
}

impl Covered {
    fn note(&mut self, ran: &Ran) {
        self.schedules += 1;
        self.orders.insert(ran.trail.fingerprint());
        if let Class::Inconclusive(why) = &ran.class {
            self.inconclusive += 1;
            self.why_inconclusive = Some(why.clone());
        }
        let free = ran.trail.free();
        let (fewest, most) = self.free.unwrap_or((free, free));
        self.free = Some((fewest.min(free), most.max(free)));
        for point in ran.trail.points.iter().filter(|point| point.choices.len() > 1) {
            let kinds: BTreeSet<Kind> = point.choices.iter().map(|choice| choice.kind).collect();
            for kind in kinds {
                *self.kinds.entry(kind).or_default() += 1;
            }
        }
    }
}

/// How a search came to its end.
#[derive(Debug)]
enum End {
    /// Something fails: which schedule, and the run.
    Fails(usize, Box<Ran>),
    /// All that was to be tried was.
    Through,
    /// A bound was met before.
    Bound(String),
    /// It cannot be gone on.
    Stopped(Class),
}

/// Explores a scenario whose peers are programs, or simulated ones that the engine runs.
///
/// # Errors
/// A schedule that does not fit; a scenario that holds threads itself; a fault of the harness.
pub fn explore(plan: &Plan, environment: &Environment, options: &Options) -> Result<Report, ExploreError> {
    script::check(plan)?;
    if let Some(obstacle) = engine::obstacle(plan, environment) {
        return Ok(report::unsupported(plan, &obstacle.reason));
    }
    let subject = Subject {
        plan,
        environment,
        limits: Limits {
            kill: options.kill,
            every_wake: options.every_wake,
        },
    };
    if let Some(token) = &options.schedule {
        return replay(subject, token, options);
    }
    let mut covered = Covered::default();
    let default = subject.run(Wanted::Replay(Token::default()));
    covered.note(&default);
    let end = match default.class {
        Class::Good => search(subject, options, &default.trail, &mut covered),
        Class::Bad { .. } => return Ok(report::fails_anyway(subject, &default, options)),
        class => End::Stopped(class),
    };
    match end {
        End::Fails(number, ran) => {
            let shrunk = shrink::shrink(subject, &ran);
            let script = shrunk.order().and_then(|_| script::write(subject, &shrunk));
            Ok(report::found(subject, options, &covered, number, &ran, &shrunk, script))
        }
        End::Through => Ok(report::nothing(subject, options, &covered, None)),
        End::Bound(bound) => Ok(report::nothing(subject, options, &covered, Some(bound))),
        End::Stopped(Class::Unsupported(why)) => Ok(report::unsupported(plan, &why)),
        End::Stopped(Class::Broken(why)) => Err(ExploreError::Harness(format!("{}: {why}", plan.id))),
        End::Stopped(Class::Inconclusive(why)) => {
            let bound = format!("the default schedule says nothing: {why}");
            Ok(report::nothing(subject, options, &covered, Some(bound)))
        }
        End::Stopped(_) => Ok(report::nothing(
            subject,
            options,
            &covered,
            Some("interrupted".to_owned()),
        )),
    }
}

/// Tries schedules until one fails.
fn search(subject: Subject, options: &Options, default: &Trail, covered: &mut Covered) -> End {
    let count = usize::try_from(options.schedules)
        .unwrap_or(usize::MAX)
        .saturating_sub(1);
    let wanted = |number: usize| by_chance(options, default, number);
    if options.live == Search::Exhaustive {
        return pairs::search(subject, options, default, covered, count);
    }
    let mut end = End::Through;
    let jobs = usize::from(options.jobs);
    subject.run_all(jobs, count, &wanted, &mut |number, ran| {
        covered.note(&ran);
        match &ran.class {
            Class::Good | Class::Inconclusive(_) => {}
            // the default one was the first
            Class::Bad { .. } => end = End::Fails(number + 2, Box::new(ran)),
            other => end = End::Stopped(other.clone()),
        }
        if signal::interrupted() {
            end = End::Stopped(Class::Interrupted);
        }
        matches!(end, End::Through)
    });
    end
}

/// The schedule of that number in a search that goes by chance.
fn by_chance(options: &Options, default: &Trail, number: usize) -> Wanted {
    let mut chance = Chance::new(options.seed, number as u64);
    let length = default.points.len();
    let kill_at = if options.kill { chance.below(length) } else { usize::MAX };
    match options.live {
        Search::Pct => {
            let changes = options.bound.unwrap_or(CHANGES_DEFAULT);
            let changes = (0..changes).map(|_| chance.below(length)).collect();
            Wanted::Pct {
                chance,
                changes,
                kill_at,
            }
        }
        _ => Wanted::Random { chance, kill_at },
    }
}

/// Runs the one schedule of a token.
fn replay(subject: Subject, text: &str, options: &Options) -> Result<Report, ExploreError> {
    let misfit = |why: String| ExploreError::Schedule {
        token: text.to_owned(),
        why,
    };
    let token = Token::parse(text).map_err(misfit)?;
    let ran = subject.run(Wanted::Replay(token));
    match &ran.class {
        Class::Unsupported(why) => return Ok(report::unsupported(subject.plan, why)),
        Class::Broken(why) => return Err(ExploreError::Harness(format!("{}: {why}", subject.plan.id))),
        _ => {}
    }
    match &ran.misfit {
        Some(why) => Err(misfit(why.clone())),
        None => Ok(report::replayed(subject, text, &ran, options)),
    }
}
