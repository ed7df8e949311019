//! What a model comes to: its verdict classes, each with the shortest trace to it.

use super::cycles::{Lasso, cycles};
use super::machine::Machine;
use super::search::{Bound, Limits, Seen, Space, search};
use crate::peer::sim::retry::{Class, Classes};

/// A class that can happen, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub class: Class,
    /// From the beginning to where it is.
    pub steps: Vec<u8>,
    /// Once around, for a run without end.
    pub cycle: Vec<u8>,
}

impl Finding {
    /// Steps in all.
    pub fn length(&self) -> usize {
        self.steps.len() + self.cycle.len()
    }
}

/// What a search came to.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// States that were reached.
    pub states: usize,
    /// Steps between them.
    pub transitions: u64,
    /// States in which all is done.
    pub finished: u64,
    /// Bounds that were met: what is beyond them is not known.
    pub bounds: Vec<Bound>,
    /// Bytes that a state took.
    pub bytes_per_state: f64,
    /// What can happen, in the order of the classes.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// The classes that can happen.
    pub fn classes(&self) -> Classes {
        self.findings.iter().map(|finding| finding.class).collect()
    }

    /// How a class can happen.
    pub fn finding(&self, class: Class) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.class == class)
    }
}

/// Searches a model and judges what was found.
pub fn verdict<M: Machine>(machine: &M, limits: Limits) -> Verdict {
    let space = search(machine, limits);
    let mut findings: Vec<Finding> = Class::ALL
        .into_iter()
        .filter_map(|class| {
            let seen = space.seen[class as usize]?;
            Some(Finding {
                class,
                steps: trace_to(machine, &space, seen),
                cycle: Vec::new(),
            })
        })
        .collect();
    if machine.may_cycle() {
        // a cycle of a reduced graph may be none of the whole, so these are looked for in the whole
        let whole = match limits.reduce || limits.symmetry {
            true => Some(search(
                machine,
                Limits {
                    reduce: false,
                    symmetry: false,
                    ..limits
                },
            )),
            false => None,
        };
        let space = whole.as_ref().unwrap_or(&space);
        let found = cycles(machine, space);
        let mut add = |class, lasso: Option<Lasso>| {
            if let Some(Lasso { entry, cycle }) = lasso {
                findings.push(Finding {
                    class,
                    steps: space.trace(machine, entry),
                    cycle,
                });
            }
        };
        add(Class::LivelockInescapable, found.inescapable);
        add(Class::LivelockEscapable, found.escapable);
        add(Class::Starved, found.starved);
        findings.sort_by_key(|finding| finding.class);
    }
    Verdict {
        states: space.len(),
        transitions: space.transitions,
        finished: space.finished,
        bounds: space.bounds.clone(),
        bytes_per_state: space.bytes_per_state(),
        findings,
    }
}

fn trace_to<M: Machine>(machine: &M, space: &Space<M::State>, seen: Seen) -> Vec<u8> {
    let mut steps = space.trace(machine, seen.state);
    steps.extend(seen.step.map(|step| match space.is_turned(seen.state) {
        true => machine.mirrored(step),
        false => step,
    }));
    steps
}
