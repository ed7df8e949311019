//! A run in which every place where order is free is asked about: which message, reply, signal or close goes on next, which
//! thread that has been told of something runs on, whether the next step of a strand begins already. Nothing is decided
//! here; a [`Scheduler`] is asked whenever all peers are at rest, which is seen by what their threads do, never by waiting.
//!
//! `choices` says what can happen next and does it, `settle` brings the run to the next such moment.

mod choices;
mod settle;

use std::collections::BTreeMap;
use std::fmt;

use super::Environment;
use super::end;
use super::failure::{Stop, StopKind};
use super::run::Run;
use crate::judge::outcome::Outcome;
use crate::scenario::model::Step;
use crate::scenario::span::At;
use crate::scenario::{Diagnostic, Plan};
use crate::sys::clock::Moment;
use crate::sys::steer::Steered;
use crate::trace::{PeerId, Timeline};

/// Choices of one run, at most: a run that goes on like that does not end.
const CHOICES_MAX: usize = 20_000;
/// Timers that fire one after the other, with nothing else to happen, until that counts as nothing.
const TIMERS_MAX: usize = 500;
/// What a run may take beyond its limit: many of them on a machine that is busy must not say less than one.
const BUSY_MS_MAX: u64 = 30_000;
/// Virtual time that passes with every choice.
const TICK_NS: u64 = 1_000_000;

/// What kind of thing can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A thread that has been told of something runs on.
    Thread,
    /// A request arrives.
    Message,
    /// A reply or an ack arrives.
    Reply,
    /// A kick arrives.
    Kick,
    /// A call arrives.
    Call,
    /// A ring's error arrives.
    Error,
    /// A close arrives.
    Close,
    /// The timer of a simulated peer fires.
    Timer,
    /// A step of the script begins.
    Step,
    /// A peer's process is killed.
    Kill,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Thread,
        Self::Message,
        Self::Reply,
        Self::Kick,
        Self::Call,
        Self::Error,
        Self::Close,
        Self::Timer,
        Self::Step,
        Self::Kill,
    ];

    /// The plural.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Thread => "threads",
            Self::Message => "messages",
            Self::Reply => "replies",
            Self::Kick => "kicks",
            Self::Call => "calls",
            Self::Error => "errors",
            Self::Close => "closes",
            Self::Timer => "timers",
            Self::Step => "steps",
            Self::Kill => "kills",
        }
    }
}

/// Something that can happen next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What, in words, the same in every run; the second time it says so.
    pub name: String,
    /// What kind of thing.
    pub kind: Kind,
    /// Whose: the queue, thread or strand that it is the next of.
    pub actor: String,
    /// Where it comes from and where it goes, for a picture: columns of peers.
    pub between: (Option<String>, Option<String>),
    /// How a scenario says it.
    pub means: Means,
}

/// What happens, in the terms of the scenario language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Means {
    /// Something that a pattern matches crosses the link; the pattern in YAML's flow style, and how many that match it went
    /// before.
    Crosses {
        /// As in `{from: front, message: SET_OWNER}`.
        pattern: String,
        /// Before this one.
        before: usize,
    },
    /// A thread runs on.
    Thread {
        /// Whose.
        peer: String,
        /// The ring whose kick it was told of.
        kick: Option<u16>,
        /// It was told of the socket.
        socket: bool,
        /// The kind of wait, as `waits_in` says it.
        waits_in: &'static str,
    },
    /// The step at that line begins.
    Step {
        /// Its line.
        line: u32,
    },
    /// Something that scenarios cannot order.
    Other,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Who decides.
pub trait Scheduler {
    /// The next thing to happen, by its place in `choices`, of which there is at least one. The first is what happens when
    /// nobody interferes.
    fn choose(&mut self, choices: &[Choice]) -> usize;
}

/// What may be chosen beyond the order of what happens anyway.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// A process may be killed, once in a run.
    pub kill: bool,
    /// Threads stop wherever they are told of something, not only of a kick, a call or an error.
    pub every_wake: bool,
}

/// What came of a steered run.
#[derive(Debug)]
pub struct SteeredRun {
    /// As of any other run.
    pub outcome: Outcome,
    /// Its timeline, a line an event, in virtual time.
    pub timeline: Vec<String>,
}

/// The part of a run that steers it.
pub(super) struct Steering<'s> {
    scheduler: &'s mut dyn Scheduler,
    limits: Limits,
    /// A process was killed: the script's expectations say nothing any more.
    killed: bool,
    /// The threads of each peer's process.
    processes: BTreeMap<PeerId, Steered>,
    /// How often each thing has happened.
    counts: BTreeMap<String, usize>,
    made: usize,
    /// Until when threads that pause are waited for, by the clock.
    patience: Moment,
    /// Timers that have fired since something else could happen.
    timers: usize,
    /// The track whose next step may begin.
    begins: Option<usize>,
    /// What could not be moved although nothing kept it.
    stuck: Vec<String>,
}

impl fmt::Debug for Steering<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Steering")
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}

impl<'s> Steering<'s> {
    fn new(scheduler: &'s mut dyn Scheduler, limits: Limits) -> Self {
        Self {
            scheduler,
            limits,
            killed: false,
            processes: BTreeMap::new(),
            counts: BTreeMap::new(),
            made: 0,
            patience: Moment::default(),
            timers: 0,
            begins: None,
            stuck: Vec::new(),
        }
    }

    /// Lets the threads of a process go on as they like, until they are at rest again.
    pub(super) fn let_go(&mut self, peer: PeerId) {
        self.processes.remove(&peer);
    }

    /// Whether nothing but timers has been there for long. Asked before each choice.
    fn has_waited_for_timers(&mut self, only_timers: bool) -> bool {
        self.timers = if only_timers { self.timers + 1 } else { 0 };
        self.timers > TIMERS_MAX
    }

    /// The present moment of virtual time.
    fn now(&self) -> Moment {
        Moment {
            ns: TICK_NS * self.made as u64,
        }
    }
}

/// The clock has ended a steered run. That says nothing about its schedule.
pub(super) fn out_of_time() -> Box<Stop> {
    let message = "the scenario's limit was reached while something still went on";
    Box::new(Stop {
        kind: StopKind::OutOfTime,
        diagnostic: Diagnostic::error(message),
    })
}

impl<'a> Run<'a> {
    /// Has somebody decide about the order of things, from now on.
    pub(super) fn begin_steering(&mut self, steering: Option<Steering<'a>>) {
        if let Some(steering) = &steering {
            self.timeline.set_now(steering.now());
            // nothing is waited for here, so it only ends what goes on and on
            self.deadline = self.deadline.plus_ms(BUSY_MS_MAX);
        }
        self.steering = steering;
    }

    /// Whether a track's next step may begin. Asked once, when it could.
    pub(super) fn may_begin(&mut self, track: usize, step: &Step) -> bool {
        let Some(steering) = &mut self.steering else {
            return true;
        };
        if !choices::is_chosen(step) {
            return true;
        }
        steering.begins.take_if(|chosen| *chosen == track).is_some()
    }
}

/// Why a scenario cannot be steered: a step of it that is no choice of a scheduler.
pub fn unsteerable(plan: &Plan) -> Option<Diagnostic> {
    fn find(steps: &[At<Step>]) -> Option<Diagnostic> {
        steps.iter().find_map(|step| {
            let why = match &step.value {
                Step::HoldThread(_) => "`hold_thread` cannot be explored: holding threads is what exploring does",
                Step::Deliver(deliver) if Run::is_traffic(deliver) => {
                    "`deliver` with a load of its own cannot be explored: threads carry it at their own speed"
                }
                Step::Repeat(repeat) => return find(&repeat.steps),
                Step::Sanity(steps) => return find(steps),
                Step::Together(tracks) => return tracks.iter().find_map(|(_, steps)| find(steps)),
                _ => return None,
            };
            Some(Diagnostic::error(why).at(step.span))
        })
    }
    find(&plan.scenario.steps)
}

/// Runs a scenario as a scheduler wants it.
pub fn steer<'a>(
    plan: &'a Plan,
    environment: &'a Environment,
    scheduler: &'a mut dyn Scheduler,
    limits: Limits,
) -> SteeredRun {
    let mut timeline = Vec::new();
    let keep = |full: &Timeline| timeline = full.lines();
    let outcome = end::steered(plan, environment, Steering::new(scheduler, limits), keep);
    SteeredRun { outcome, timeline }
}
