//! Runs without end: strongly connected components of the state graph, which of them a weakly fair run can stay in, and
//! the shortest way into such a run and once around.
//!
//! A run is weakly fair if whatever one end could do of one kind from some point on without a break, is done again and
//! again. A component holds such a run if each kind of step that is possible in all of its states is also taken between
//! two of them: the run that visits all of it is then fair; and if any smaller run in it is fair, that one is too.

use std::collections::{HashMap, VecDeque};

use super::machine::Machine;
use super::search::Space;

/// Ways into a run without end, and once around.
#[derive(Debug, Clone)]
pub(super) struct Lasso {
    /// Where the cycle begins.
    pub(super) entry: u32,
    /// Once around.
    pub(super) cycle: Vec<u8>,
}

/// The shortest of each kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Cycles {
    /// No end can be reached any more.
    pub(super) inescapable: Option<Lasso>,
    /// An end could be reached.
    pub(super) escapable: Option<Lasso>,
    /// One end goes on and on while the other waits.
    pub(super) starved: Option<Lasso>,
}

/// States of a component from which once around is tried, and states of one such try.
const ENTRIES_MAX: usize = 64;
const TRY_MAX: usize = 400_000;
/// An end that never stops has completed something.
const PROGRESS: u32 = 1 << 31;

/// Finds the cycles of a space that was searched without reductions.
pub(super) fn cycles<M: Machine>(machine: &M, space: &Space<M::State>) -> Cycles {
    let components = Components::of(machine, space);
    let mut cycles = Cycles::default();
    for component in &components.fair {
        let progress = component.waits && component.progress;
        let place = if progress {
            &mut cycles.starved
        } else if component.progress {
            // it goes on and on as it should, and nobody waits
            continue;
        } else if component.ends {
            &mut cycles.escapable
        } else {
            &mut cycles.inescapable
        };
        let length = |lasso: &Lasso| space.depth(lasso.entry) as usize + lasso.cycle.len();
        let nearest = component.members.iter().min().copied().unwrap_or(0);
        if place
            .as_ref()
            .is_some_and(|lasso| length(lasso) <= space.depth(nearest) as usize)
        {
            continue;
        }
        let found = shortest(machine, space, component, progress);
        if let Some(found) = found
            && place.as_ref().is_none_or(|lasso| length(&found) < length(lasso))
        {
            *place = Some(found);
        }
    }
    cycles
}

/// A component that a weakly fair run can stay in.
struct Component {
    members: Vec<u32>,
    ends: bool,
    waits: bool,
    progress: bool,
}

struct Components {
    fair: Vec<Component>,
}

/// A state, and which steps have been taken or were impossible somewhere.
type At = (u32, u32);

const UNSEEN: u32 = u32::MAX;

impl Components {
    /// Tarjan's algorithm with a stack of its own. Successors are computed anew, so nothing but two numbers a state is kept.
    fn of<M: Machine>(machine: &M, space: &Space<M::State>) -> Self {
        let count = space.len();
        let mut index = vec![UNSEEN; count];
        let mut low = vec![0u32; count];
        // whether an end can be reached, once the component is known; 2 while it is on the stack
        let mut ends = vec![2u8; count];
        let mut open: Vec<u32> = Vec::new();
        let mut frames: Vec<(u32, u32)> = vec![(0, u32::MAX)];
        let mut next = 0;
        let mut fair = Vec::new();
        while let Some((at, left)) = frames.last_mut() {
            let node = *at;
            let state = space.state(node);
            if *left == u32::MAX {
                index[node as usize] = next;
                low[node as usize] = next;
                next += 1;
                open.push(node);
                *left = machine.steps(state);
            }
            if *left != 0 {
                let step = left.trailing_zeros() as u8;
                *left &= *left - 1;
                let Some(to) = successor(machine, space, node, step) else {
                    continue;
                };
                if index[to as usize] == UNSEEN {
                    frames.push((to, u32::MAX));
                } else if ends[to as usize] == 2 {
                    low[node as usize] = low[node as usize].min(index[to as usize]);
                }
                continue;
            }
            frames.pop();
            if let Some((parent, _)) = frames.last() {
                low[*parent as usize] = low[*parent as usize].min(low[node as usize]);
            }
            if low[node as usize] != index[node as usize] {
                continue;
            }
            let from = open.iter().rposition(|member| *member == node).unwrap_or(0);
            let members = open.split_off(from);
            if let Some(component) = judge(machine, space, members, &mut ends) {
                fair.push(component);
            }
        }
        Self { fair }
    }
}

fn successor<M: Machine>(machine: &M, space: &Space<M::State>, node: u32, step: u8) -> Option<u32> {
    let came = machine.apply(space.state(node), step);
    if came.cut {
        return None;
    }
    space.find(&came.state)
}

/// Whether a component that is complete ends, and whether a fair run can stay in it.
fn judge<M: Machine>(machine: &M, space: &Space<M::State>, members: Vec<u32>, ends: &mut [u8]) -> Option<Component> {
    let mut sorted = members;
    sorted.sort_unstable();
    let mut component = Component {
        ends: false,
        waits: true,
        progress: false,
        members: Vec::new(),
    };
    let (mut always, mut taken) = (u32::MAX, 0);
    for node in &sorted {
        let state = space.state(*node);
        let steps = machine.steps(state);
        always &= steps;
        component.ends |= machine.is_finished(state);
        component.waits &= machine.is_waiting(state);
        let mut left = steps;
        while left != 0 {
            let step = left.trailing_zeros() as u8;
            left &= left - 1;
            let Some(to) = successor(machine, space, *node, step) else {
                continue;
            };
            if sorted.binary_search(&to).is_ok() {
                taken |= 1 << step;
                component.progress |= machine.apply(state, step).progress;
            } else {
                component.ends |= ends[to as usize] == 1;
            }
        }
    }
    for node in &sorted {
        ends[*node as usize] = u8::from(component.ends);
    }
    if taken == 0 || always & !taken != 0 {
        return None;
    }
    component.members = sorted;
    Some(component)
}

/// The shortest way into a component and once around, so that what was possible all the way was done.
fn shortest<M: Machine>(machine: &M, space: &Space<M::State>, component: &Component, progress: bool) -> Option<Lasso> {
    let mut best: Option<Lasso> = None;
    for entry in component.members.iter().take(ENTRIES_MAX) {
        let depth = space.depth(*entry) as usize;
        let most = best.as_ref().map_or(usize::MAX, |lasso| {
            space.depth(lasso.entry) as usize + lasso.cycle.len()
        });
        if depth + 1 >= most {
            continue;
        }
        if let Some(cycle) = around(machine, space, component, *entry, progress, most - depth) {
            best = Some(Lasso { entry: *entry, cycle });
        }
    }
    best
}

/// The shortest fair cycle through a state that is shorter than `most`.
fn around<M: Machine>(
    machine: &M,
    space: &Space<M::State>,
    component: &Component,
    entry: u32,
    progress: bool,
    most: usize,
) -> Option<Vec<u8>> {
    let idle = |node: u32| !machine.steps(space.state(node)) & !PROGRESS;
    let wanted = if progress { u32::MAX } else { !PROGRESS };
    let start = (entry, idle(entry));
    // from where, and by which step
    let mut came: HashMap<At, (At, u8)> = HashMap::new();
    let mut queue = VecDeque::from([(start, 0u32)]);
    while let Some(((node, mask), length)) = queue.pop_front() {
        if length as usize + 1 >= most || came.len() > TRY_MAX {
            return None;
        }
        let mut left = machine.steps(space.state(node));
        while left != 0 {
            let step = left.trailing_zeros() as u8;
            left &= left - 1;
            let Some(to) = successor(machine, space, node, step) else {
                continue;
            };
            if component.members.binary_search(&to).is_err() {
                continue;
            }
            let gain = if machine.apply(space.state(node), step).progress {
                PROGRESS
            } else {
                0
            };
            let next = (to, mask | idle(to) | 1 << step | gain);
            if to == entry && next.1 & wanted == wanted {
                let mut cycle = vec![step];
                let mut at = (node, mask);
                while at != start || cycle.len() < length as usize + 1 {
                    let Some((before, step)) = came.get(&at) else { break };
                    cycle.push(*step);
                    at = *before;
                }
                cycle.reverse();
                return Some(cycle);
            }
            if next != start && !came.contains_key(&next) {
                came.insert(next, ((node, mask), step));
                queue.push_back((next, length + 1));
            }
        }
    }
    None
}
