//! The systematic search: every pair of events of a run is turned round once, those that follow closely upon each other
//! first; then pairs in the runs that came of that, up to the bound.

use std::collections::BTreeSet;

use super::runs::{Class, Subject};
use super::schedule::{Order, Trail, Wanted};
use super::{Covered, End};
use crate::engine::steer::Kind;
use crate::explore::Options;
use crate::sys::signal;

/// Pairs turned round in one schedule, when nothing is said.
const BOUND_DEFAULT: u32 = 2;

/// Tries schedules until one fails, `count` at most.
pub(super) fn search(subject: Subject, options: &Options, default: &Trail, covered: &mut Covered, count: usize) -> End {
    let bound = options.bound.unwrap_or(BOUND_DEFAULT);
    let jobs = usize::from(options.jobs);
    let mut tried: BTreeSet<Vec<Order>> = BTreeSet::new();
    let mut level: Vec<(Vec<Order>, Trail)> = vec![(Vec::new(), default.clone())];
    let mut left = count;
    let mut number = 1;
    for turned in 1..=bound {
        let mut candidates: Vec<(usize, Vec<Order>)> = Vec::new();
        for (orders, trail) in &level {
            for (distance, order) in pairs(trail) {
                let mut more = orders.clone();
                more.push(order);
                more.sort();
                if tried.insert(more.clone()) {
                    candidates.push((distance, more));
                }
            }
        }
        // a stable order, so that the same search finds the same
        candidates.sort_by_key(|(distance, _)| *distance);
        let all = candidates.len();
        candidates.truncate(left);
        let complete = candidates.len() == all;
        left -= candidates.len();
        let mut end = None;
        let mut next = Vec::new();
        let seen_before = covered.orders.len();
        subject.run_all(
            jobs,
            candidates.len(),
            &|at| Wanted::Ordered(candidates[at].1.clone()),
            &mut |at, ran| {
                let new = !covered.orders.contains(&ran.trail.fingerprint());
                covered.note(&ran);
                match &ran.class {
                    Class::Good | Class::Inconclusive(_) => {
                        if new {
                            next.push((candidates[at].1.clone(), ran.trail));
                        }
                    }
                    Class::Bad { .. } => end = Some(End::Fails(number + at + 1, Box::new(ran))),
                    other => end = Some(End::Stopped(other.clone())),
                }
                if signal::interrupted() {
                    end = Some(End::Stopped(Class::Interrupted));
                }
                end.is_none()
            },
        );
        if let Some(end) = end {
            return end;
        }
        number += candidates.len();
        if !complete {
            return End::Bound(format!(
                "{} of the {all} ways to turn round {turned} of the pairs were left out by the number of schedules",
                all - candidates.len()
            ));
        }
        if covered.orders.len() == seen_before {
            // nothing new, so nothing to go on from
            break;
        }
        level = next;
    }
    End::Through
}

/// The pairs of a run that can be turned round: what happened first would have to wait for the other, and something else
/// could have happened when it did.
fn pairs(trail: &Trail) -> Vec<(usize, Order)> {
    let mut found = Vec::new();
    for (at, point) in trail.points.iter().enumerate() {
        let then = point.event();
        if point.choices.len() < 2 || then.kind == Kind::Kill {
            continue;
        }
        for (distance, later) in trail.points[at + 1..].iter().enumerate() {
            let first = later.event();
            // one queue, thread or strand stays in its order
            if first.actor != then.actor {
                let order = Order {
                    first: first.name.clone(),
                    then: then.name.clone(),
                };
                found.push((distance, order));
            }
        }
    }
    found
}
