//! Schedules by chance, from a seed: each choice by itself, or by priorities that change at a few points (PCT: Burckhardt,
//! Kothari, Musuvathi, Nagarakatte, ASPLOS 2010). The same seed gives the same schedules.

use crate::explore::Search;
use crate::peer::sim::retry::channels::Act;
use crate::peer::sim::retry::play::{Model, Position};
use crate::peer::sim::retry::{Class, Classes, Done, Phase, Step, TokenKind};

/// Steps of one schedule, at most, if nothing else is said.
const DEPTH_DEFAULT: u32 = 200;
/// Points at which priorities change.
const CHANGES: usize = 2;

/// What a number of schedules came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sampled {
    /// Steps in all.
    pub steps: u64,
    /// Schedules in which a request came to somebody who waited for an answer.
    pub collided: u64,
    /// Schedules in which all was done.
    pub ended: u64,
    /// Each class: how many schedules came to it, and the shortest of them.
    pub found: Vec<(Class, u64, Vec<u8>)>,
}

/// A generator of 64-bit numbers (SplitMix64): its whole state is one number.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of so many.
    pub fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(count)) >> 64) as u64
    }
}

/// Runs so many schedules of a model.
pub fn sample(model: &Model, search: Search, seed: u64, schedules: u64, depth: Option<u32>) -> Sampled {
    let depth = depth.unwrap_or(DEPTH_DEFAULT);
    let mut sampled = Sampled::default();
    for number in 0..schedules {
        // each schedule has its own beginning, so that any of them can be run alone
        let mut chance = Chance::new(seed ^ Chance::new(number).draw());
        let mut choose = Chooser::new(search, &mut chance, depth);
        run(model, &mut choose, depth, &mut sampled);
    }
    sampled
}

struct Chooser<'a> {
    chance: &'a mut Chance,
    /// Of each kind of step, the higher the sooner; none: each choice by itself.
    priorities: Option<[u64; 32]>,
    changes: Vec<u64>,
}

impl<'a> Chooser<'a> {
    fn new(search: Search, chance: &'a mut Chance, depth: u32) -> Self {
        let mut priorities = None;
        let mut changes = Vec::new();
        if search == Search::Pct {
            let mut all = [0; 32];
            all.iter_mut()
                .for_each(|priority| *priority = (chance.draw() >> 1) | 1 << 62);
            priorities = Some(all);
            // the programs are short: most runs end long before the bound
            let horizon = u64::from(depth.min(24));
            changes = (0..CHANGES).map(|_| chance.below(horizon)).collect();
        }
        Self {
            chance,
            priorities,
            changes,
        }
    }

    fn choose(&mut self, steps: u32, at: u32) -> u8 {
        let Some(priorities) = &mut self.priorities else {
            let mut left = self.chance.below(u64::from(steps.count_ones()));
            let mut rest = steps;
            while left > 0 {
                rest &= rest - 1;
                left -= 1;
            }
            return rest.trailing_zeros() as u8;
        };
        let best = |priorities: &[u64; 32]| {
            let possible = (0..32u8).filter(|step| steps >> step & 1 == 1);
            possible.max_by_key(|step| priorities[usize::from(*step)]).unwrap_or(0)
        };
        let first = best(priorities);
        if let Some(which) = self.changes.iter().position(|change| *change == u64::from(at)) {
            priorities[usize::from(first)] = which as u64;
            return best(priorities);
        }
        first
    }
}

fn run(model: &Model, choose: &mut Chooser, depth: u32, sampled: &mut Sampled) {
    let mut at = model.initial();
    let mut classes = Classes::default();
    let mut steps = Vec::new();
    let mut collided = false;
    loop {
        let new = model.classes(&at).without(classes);
        classes = classes.and(new);
        note(sampled, new, &steps);
        let possible = model.steps(&at);
        if possible == 0 || steps.len() as u32 >= depth {
            break;
        }
        let step = choose.choose(possible, steps.len() as u32);
        steps.push(step);
        let (next, wrong, collides, cut) = take(model, &at, step);
        if cut {
            break;
        }
        collided |= collides;
        let new = wrong.without(classes);
        classes = classes.and(new);
        note(sampled, new, &steps);
        at = next;
    }
    sampled.steps += steps.len() as u64;
    sampled.collided += u64::from(collided);
    sampled.ended += u64::from(model.is_finished(&at));
}

fn take(model: &Model, at: &Position, step: u8) -> (Position, Classes, bool, bool) {
    match (model, at) {
        (Model::One(system), Position::One(state)) => {
            let step = Step::from_code(step);
            let waits = matches!(state.phase(step.side), Phase::Waiting);
            let (next, effect) = system.apply(state, step);
            let request = effect.read.is_some_and(|token| token.kind() == TokenKind::Request);
            let collides = waits && request && effect.done != Done::Nothing;
            (Position::One(next), effect.classes, collides, effect.cut)
        }
        (Model::Two(case), Position::Two(state)) => match Act::from_code(step) {
            Some(act) => {
                let (next, moved) = case.apply(state, act);
                (Position::Two(next), moved.classes, false, false)
            }
            None => (*at, Classes::default(), false, true),
        },
        _ => (*at, Classes::default(), false, true),
    }
}

fn note(sampled: &mut Sampled, classes: Classes, steps: &[u8]) {
    for class in classes.iter() {
        match sampled.found.iter_mut().find(|(known, ..)| *known == class) {
            Some((_, count, shortest)) => {
                *count += 1;
                if steps.len() < shortest.len() {
                    *shortest = steps.to_vec();
                }
            }
            None => {
                sampled.found.push((class, 1, steps.to_vec()));
                sampled.found.sort_by_key(|(class, ..)| *class);
            }
        }
    }
}
