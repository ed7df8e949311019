//! The document's assumptions written down a second time, as plainly as possible: lists and enums instead of packed bits, one
//! function for the rules, a set of states. Nothing is shared with the machine but the tables of policies and programs.

use std::collections::{BTreeSet, VecDeque};

use crate::peer::sim::retry::{Matching, OnTimeout, Policy, Program, Regime, Resends, Strategy, Timers, Unexpected};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum What {
    Request,
    Reply,
    Busy,
}

/// Who owns the operation, which it is, and what the message says of it.
type Letter = (usize, usize, What);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Doing {
    Idle,
    Waiting,
    Asleep,
    AboutToSendAgain,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct End {
    next: usize,
    doing: Doing,
    sent_again: u8,
    stuck_with: Option<Letter>,
    aside: Vec<Letter>,
    inbox: Vec<Letter>,
    /// Of its own operations: how each ended, and how often the other end applied it.
    ended: Vec<Option<bool>>,
    applied: Vec<u8>,
    unframed: bool,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct World {
    ends: Vec<End>,
    closed: Option<usize>,
}

pub(super) struct Naive<'a> {
    policies: [&'a Policy; 2],
    programs: [Vec<(u16, bool, bool)>; 2],
    capacity: Option<usize>,
    regime: Regime,
    resends: Resends,
    queue_max: usize,
}

pub(super) struct Count {
    pub(super) states: usize,
    pub(super) transitions: u64,
    pub(super) hang: bool,
    pub(super) failed: bool,
    pub(super) twice: bool,
    pub(super) lost: bool,
}

impl<'a> Naive<'a> {
    pub(super) fn new(strategy: &'a Strategy, program: &Program, regime: Regime, resends: Resends) -> Self {
        let list = |script: &crate::peer::sim::retry::Script| {
            let ops = script.operations().iter();
            ops.map(|op| (op.id, op.answered, op.is_get)).collect()
        };
        Self {
            policies: [&strategy.front, &strategy.back],
            programs: [list(&program.front), list(&program.back)],
            capacity: None,
            regime,
            resends,
            queue_max: 16,
        }
    }

    pub(super) fn with(self, capacity: Option<usize>, queue_max: usize) -> Self {
        Self {
            capacity,
            queue_max,
            ..self
        }
    }

    pub(super) fn count(&self) -> Count {
        let end = |side: usize| End {
            next: 0,
            doing: Doing::Idle,
            sent_again: 0,
            stuck_with: None,
            aside: vec![],
            inbox: vec![],
            ended: vec![None; self.programs[side].len()],
            applied: vec![0; self.programs[side].len()],
            unframed: false,
        };
        let first = World {
            ends: vec![end(0), end(1)],
            closed: None,
        };
        let mut known = BTreeSet::from([first.clone()]);
        let mut todo = VecDeque::from([first]);
        let mut count = Count {
            states: 0,
            transitions: 0,
            hang: false,
            failed: false,
            twice: false,
            lost: false,
        };
        while let Some(world) = todo.pop_front() {
            count.states += 1;
            let after = self.after(&world);
            let all_done =
                (0..2).all(|s| world.ends[s].next == self.programs[s].len() && world.ends[s].doing == Doing::Idle);
            let stuck = world.ends.iter().any(|end| end.stuck_with.is_some());
            count.hang |= after.is_empty() && world.closed.is_none() && (!all_done || stuck);
            for side in 0..2 {
                let end = &world.ends[side];
                count.failed |= end.ended.contains(&Some(false));
                count.twice |= end.applied.iter().any(|n| *n > 1);
                for (op, ended) in end.ended.iter().enumerate() {
                    let letter = (side, op, What::Request);
                    let other = &world.ends[1 - side];
                    let left = other.inbox.contains(&letter)
                        || other.aside.contains(&letter)
                        || end.stuck_with == Some(letter);
                    count.lost |= *ended == Some(true) && end.applied[op] == 0 && !left && world.closed.is_none();
                }
            }
            for next in after {
                if next.ends.iter().any(|e| e.inbox.len() > self.queue_max) {
                    continue;
                }
                count.transitions += 1;
                if known.insert(next.clone()) {
                    todo.push_back(next);
                }
            }
        }
        count
    }

    fn after(&self, world: &World) -> Vec<World> {
        if world.closed.is_some() {
            return vec![];
        }
        let mut ordinary = vec![];
        let mut timed = vec![];
        for side in 0..2 {
            let end = &world.ends[side];
            if let Some(letter) = end.stuck_with {
                let room = self.capacity.is_none_or(|c| world.ends[1 - side].inbox.len() < c);
                if room {
                    let mut next = world.clone();
                    next.ends[side].stuck_with = None;
                    next.ends[1 - side].inbox.push(letter);
                    ordinary.push(next);
                }
                continue;
            }
            let reads = matches!(end.doing, Doing::Idle | Doing::Waiting | Doing::AboutToSendAgain);
            let serves_first = end.doing == Doing::Idle && !end.aside.is_empty();
            if reads && !serves_first && !end.inbox.is_empty() {
                let mut next = world.clone();
                let letter = next.ends[side].inbox.remove(0);
                self.read(&mut next, side, letter);
                ordinary.push(next);
            }
            if end.doing == Doing::Idle && end.next < self.programs[side].len() {
                let mut next = world.clone();
                let op = end.next;
                self.put(&mut next, side, (side, op, What::Request));
                if self.programs[side][op].1 {
                    next.ends[side].doing = Doing::Waiting;
                } else {
                    next.ends[side].ended[op] = Some(true);
                    next.ends[side].next += 1;
                }
                ordinary.push(next);
            }
            if serves_first {
                let mut next = world.clone();
                let letter = next.ends[side].aside.remove(0);
                self.obey(&mut next, side, letter);
                ordinary.push(next);
            }
            if end.doing == Doing::Asleep {
                let mut next = world.clone();
                next.ends[side].doing = Doing::Waiting;
                ordinary.push(next);
            }
            if end.doing == Doing::AboutToSendAgain {
                let mut next = world.clone();
                next.ends[side].doing = Doing::Waiting;
                self.put(&mut next, side, (side, end.next, What::Request));
                ordinary.push(next);
            }
            if end.doing == Doing::Waiting {
                let (_, _, is_get) = self.programs[side][end.next];
                let timer = match self.policies[side].timers {
                    Timers::None => false,
                    Timers::Sets => !is_get,
                    Timers::All => true,
                };
                let everywhere = || {
                    let ends = world.ends.iter();
                    ends.flat_map(|e| e.inbox.iter().chain(&e.aside).chain(&e.stuck_with))
                        .any(|(owner, op, _)| (*owner, *op) == (side, end.next))
                };
                if timer && (self.regime != Regime::Sync || !everywhere()) {
                    let mut next = world.clone();
                    self.time_out(&mut next, side);
                    timed.push(next);
                }
            }
        }
        match self.regime {
            Regime::Slow if !ordinary.is_empty() => ordinary,
            _ => {
                ordinary.extend(timed);
                ordinary
            }
        }
    }

    fn put(&self, world: &mut World, side: usize, letter: Letter) {
        let full = self.capacity.is_some_and(|c| world.ends[1 - side].inbox.len() >= c);
        if full {
            world.ends[side].stuck_with = Some(letter);
        } else {
            world.ends[1 - side].inbox.push(letter);
        }
    }

    fn end_operation(world: &mut World, side: usize, fine: bool) {
        let end = &mut world.ends[side];
        end.ended[end.next] = Some(fine);
        end.next += 1;
        end.doing = Doing::Idle;
        end.sent_again = 0;
    }

    fn obey(&self, world: &mut World, side: usize, (owner, op, _): Letter) {
        let before = world.ends[owner].applied[op];
        if !(self.policies[side].drops_duplicates && before > 0) {
            world.ends[owner].applied[op] = (before + 1).min(2);
        }
        if self.programs[owner][op].1 {
            self.put(world, side, (owner, op, What::Reply));
        }
    }

    fn close(world: &mut World, side: usize) {
        world.closed = Some(side);
        world.ends.iter_mut().for_each(|end| end.inbox.clear());
    }

    fn once_more(&self, world: &mut World, side: usize, at_once: bool) {
        let end = &mut world.ends[side];
        if let Resends::AtMost(most) = self.resends {
            if end.sent_again == most {
                return Self::end_operation(world, side, false);
            }
            end.sent_again += 1;
        }
        if at_once {
            let op = end.next;
            self.put(world, side, (side, op, What::Request));
        } else {
            end.doing = Doing::AboutToSendAgain;
        }
    }

    fn time_out(&self, world: &mut World, side: usize) {
        match self.policies[side].on_timeout {
            OnTimeout::Close => Self::close(world, side),
            OnTimeout::Resend => self.once_more(world, side, true),
            OnTimeout::ServeThenResend => self.once_more(world, side, false),
        }
    }

    fn read(&self, world: &mut World, side: usize, letter: Letter) {
        let (owner, op, what) = letter;
        let policy = self.policies[side];
        if world.ends[side].unframed {
            return Self::close(world, side);
        }
        if world.ends[side].doing != Doing::Waiting {
            if what == What::Request {
                self.obey(world, side, letter);
            }
            return;
        }
        let mine = world.ends[side].next;
        let same_id = self.programs[owner][op].0 == self.programs[side][mine].0;
        let is_answer = match policy.matching {
            Matching::IdOnly => same_id,
            Matching::IdAndReply => what != What::Request && same_id,
            Matching::Sequence => what != What::Request && op == mine,
        };
        if is_answer {
            return match what {
                What::Busy => self.once_more(world, side, true),
                _ => Self::end_operation(world, side, true),
            };
        }
        let is_request = what == What::Request;
        match policy.while_waiting {
            Unexpected::Error => {
                Self::end_operation(world, side, false);
                if is_request && policy.flags_before_payload && !self.programs[owner][op].2 {
                    world.ends[side].unframed = true;
                }
            }
            Unexpected::Close => Self::close(world, side),
            Unexpected::Serve if is_request => self.obey(world, side, letter),
            Unexpected::Queue if is_request => world.ends[side].aside.push(letter),
            Unexpected::Busy if is_request => {
                if self.programs[owner][op].1 {
                    self.put(world, side, (owner, op, What::Busy));
                }
            }
            _ => {
                if policy.sleeps {
                    world.ends[side].doing = Doing::Asleep;
                }
            }
        }
    }
}
