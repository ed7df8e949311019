//! The whole state space, breadth first, so that the first trace to anything is a shortest one.

use super::machine::{Came, Machine, Packed};
use crate::peer::sim::retry::{Class, Classes};

/// States of one search, at most, if nothing else is said.
pub const STATES_DEFAULT: usize = 20_000_000;

/// Bounds, and what is left out on purpose.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// States to keep.
    pub states: usize,
    /// Steps from the beginning.
    pub depth: u32,
    /// Partial-order reduction.
    pub reduce: bool,
    /// Symmetry reduction.
    pub symmetry: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            states: STATES_DEFAULT,
            depth: u32::MAX,
            reduce: false,
            symmetry: false,
        }
    }
}

/// A bound that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// Of states.
    States,
    /// Of steps from the beginning.
    Depth,
    /// Of messages in a queue.
    Queue,
}

/// Where a class was seen first: in a state, or in a step out of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) state: u32,
    pub(super) step: Option<u8>,
}

/// A searched state space.
#[derive(Debug)]
pub struct Space<S> {
    states: Vec<S>,
    parents: Vec<u32>,
    /// The step from the parent; 0x80 if the state is mirrored from what the step led to.
    steps: Vec<u8>,
    /// Hash (upper half) and number + 1 (lower half) of a state; 0 is empty.
    table: Vec<u64>,
    /// First state of each depth.
    levels: Vec<u32>,
    pub(super) seen: [Option<Seen>; Class::ALL.len()],
    /// Steps between the states.
    pub transitions: u64,
    /// States in which all is done.
    pub finished: u64,
    /// The bounds that were met.
    pub bounds: Vec<Bound>,
}

const MIRRORED: u8 = 0x80;

impl<S: Packed> Space<S> {
    fn new() -> Self {
        Self {
            states: Vec::new(),
            parents: Vec::new(),
            steps: Vec::new(),
            table: vec![0; 1 << 10],
            levels: vec![0],
            seen: [None; Class::ALL.len()],
            transitions: 0,
            finished: 0,
            bounds: Vec::new(),
        }
    }

    /// States that were reached.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// None; there is always the first.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// A state.
    pub fn state(&self, number: u32) -> &S {
        &self.states[number as usize]
    }

    /// Bytes that a state takes, all told.
    pub fn bytes_per_state(&self) -> f64 {
        let arena = size_of::<S>() + size_of::<u32>() + size_of::<u8>();
        arena as f64 + (self.table.len() * size_of::<u64>()) as f64 / self.states.len() as f64
    }

    /// Steps from the beginning to a state.
    pub fn depth(&self, number: u32) -> u32 {
        self.levels.partition_point(|first| *first <= number) as u32 - 1
    }

    /// The number of a state that was reached.
    pub fn find(&self, state: &S) -> Option<u32> {
        self.slot(state, state.hash()).ok()
    }

    fn slot(&self, state: &S, hash: u64) -> Result<u32, usize> {
        let mask = self.table.len() - 1;
        let tag = hash & 0xffff_ffff_0000_0000;
        let mut at = hash as usize & mask;
        loop {
            let entry = self.table[at];
            if entry == 0 {
                return Err(at);
            }
            if entry & 0xffff_ffff_0000_0000 == tag {
                let number = entry as u32 - 1;
                if self.states[number as usize] == *state {
                    return Ok(number);
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// The number of a state, and whether it is new.
    fn insert(&mut self, state: S, parent: u32, step: u8) -> (u32, bool) {
        let hash = state.hash();
        match self.slot(&state, hash) {
            Ok(number) => (number, false),
            Err(at) => {
                let number = self.states.len() as u32;
                self.states.push(state);
                self.parents.push(parent);
                self.steps.push(step);
                self.table[at] = hash & 0xffff_ffff_0000_0000 | u64::from(number + 1);
                // two thirds full
                if self.states.len() * 3 > self.table.len() * 2 {
                    self.grow();
                }
                (number, true)
            }
        }
    }

    fn grow(&mut self) {
        let size = self.table.len() * 2;
        let mut table = vec![0u64; size];
        for (number, state) in self.states.iter().enumerate() {
            let hash = state.hash();
            let mut at = hash as usize & (size - 1);
            while table[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            table[at] = hash & 0xffff_ffff_0000_0000 | (number as u64 + 1);
        }
        self.table = table;
    }

    fn see(&mut self, classes: Classes, state: u32, step: Option<u8>) {
        for class in classes.iter() {
            self.seen[class as usize].get_or_insert(Seen { state, step });
        }
    }

    fn met(&mut self, bound: Bound) {
        if !self.bounds.contains(&bound) {
            self.bounds.push(bound);
        }
    }

    /// The steps from the beginning to a state, as they are taken from the beginning without renaming anybody.
    pub fn trace<M: Machine<State = S>>(&self, machine: &M, to: u32) -> Vec<u8> {
        let mut steps = Vec::new();
        let mut at = to;
        while at != 0 {
            steps.push(self.steps[at as usize]);
            at = self.parents[at as usize];
        }
        steps.reverse();
        let mut turned = false;
        for step in &mut steps {
            let mirrored = *step & MIRRORED != 0;
            *step &= !MIRRORED;
            if turned {
                *step = machine.mirrored(*step);
            }
            turned ^= mirrored;
        }
        steps
    }

    /// Whether the numbered state stands for its mirror image at the end of its trace.
    pub(super) fn is_turned(&self, to: u32) -> bool {
        let mut turned = false;
        let mut at = to;
        while at != 0 {
            turned ^= self.steps[at as usize] & MIRRORED != 0;
            at = self.parents[at as usize];
        }
        turned
    }
}

/// Visits every state within the limits, and notes where each class is seen first.
pub fn search<M: Machine>(machine: &M, limits: Limits) -> Space<M::State> {
    let mut space = Space::new();
    let canonical = |state: M::State| match limits.symmetry {
        true => machine.canonical(&state),
        false => (state, false),
    };
    space.insert(canonical(machine.initial()).0, 0, 0);
    let mut at = 0;
    let mut known: Classes = Classes::default();
    while (at as usize) < space.states.len() {
        let expands = (space.levels.len() as u32 - 1) < limits.depth;
        let level_ends = space.states.len() as u32;
        while at < level_ends {
            let state = space.states[at as usize];
            let steps = machine.steps(&state);
            let classes = machine.classes(&state, steps);
            if !classes.without(known).is_empty() {
                space.see(classes, at, None);
                known = known.and(classes);
            }
            if machine.is_finished(&state) {
                space.finished += 1;
            }
            if !expands {
                if steps != 0 {
                    space.met(Bound::Depth);
                }
                at += 1;
                continue;
            }
            let mut chosen = match limits.reduce {
                true => machine.ample(&state, steps),
                false => steps,
            };
            let mut done = 0;
            let mut all_new = true;
            loop {
                let mut left = chosen & !done;
                done |= chosen;
                while left != 0 {
                    let step = left.trailing_zeros() as u8;
                    left &= left - 1;
                    let came: Came<M::State> = machine.apply(&state, step);
                    if !came.classes.without(known).is_empty() {
                        space.see(came.classes, at, Some(step));
                        known = known.and(came.classes);
                    }
                    if came.cut {
                        space.met(Bound::Queue);
                        continue;
                    }
                    let (next, mirrored) = canonical(came.state);
                    if space.states.len() >= limits.states && space.find(&next).is_none() {
                        space.met(Bound::States);
                        continue;
                    }
                    let step = step | if mirrored { MIRRORED } else { 0 };
                    let (_, new) = space.insert(next, at, step);
                    space.transitions += 1;
                    all_new &= new;
                }
                // a step must not be put off for ever: where the few lead to what is known, all are taken
                if all_new || done == steps {
                    break;
                }
                chosen = steps;
            }
            at += 1;
        }
        if space.states.len() as u32 > level_ends {
            space.levels.push(level_ends);
        }
    }
    space
}
