//! Tracks: where each strand of the script stands. One track runs the scenario; `together` adds one for each of its
//! strands. A track goes on until its step has to wait.

use std::collections::BTreeMap;

use super::failure::{Result, Stop, StopKind};
use super::run::Run;
use super::steps::Waiting;
use crate::judge::matcher::{Matcher, Stream};
use crate::judge::verdict::FailKind;
use crate::scenario::model::{Repeat, Step};
use crate::scenario::scalar::Node;
use crate::scenario::span::At;
use crate::scenario::{Diagnostic, eval_num};
use crate::sys::clock::Moment;
use crate::sys::signal;
use crate::trace::{EventKind, Seq};

/// Passes of one `repeat`, at most.
const REPEAT_MAX: u64 = 1_000_000;
/// Steps of one track before sockets, limits and other tracks are looked at again.
const STEPS_PER_TURN: usize = 256;

/// One strand of the script.
#[derive(Debug)]
pub(super) struct Track<'a> {
    frames: Vec<Frame<'a>>,
    /// Up to where each stream has been read.
    pub(super) cursors: BTreeMap<Stream, Seq>,
    /// Nothing before this is read.
    pub(super) floor: Seq,
    /// What may come before the next expectation, and how often still.
    pub(super) optional: Vec<(Matcher, u64)>,
    /// What the present step waits for; `None` before it has begun.
    pub(super) waiting: Option<Waiting>,
    /// When the present step gives up.
    pub(super) deadline: Moment,
    /// Tracks that it waits for.
    pub(super) children: Vec<usize>,
    /// All tracks of the same `together`, itself included.
    pub(super) siblings: Vec<usize>,
    /// The barrier at which it waits.
    pub(super) barrier: Option<String>,
}

#[derive(Debug)]
struct Frame<'a> {
    steps: &'a [At<Step>],
    next: usize,
    repeat: Option<(&'a Repeat, u64, u64)>,
    /// The steps are ordinary conversation around a negative case.
    sanity: bool,
}

impl<'a> Track<'a> {
    /// The track that runs the scenario.
    pub(super) fn main(steps: &'a [At<Step>]) -> Self {
        Self {
            frames: vec![Frame {
                steps,
                next: 0,
                repeat: None,
                sanity: false,
            }],
            cursors: BTreeMap::new(),
            floor: Seq(0),
            optional: Vec::new(),
            waiting: None,
            deadline: Moment::default(),
            children: Vec::new(),
            siblings: Vec::new(),
            barrier: None,
        }
    }

    /// A track of a `together`: it reads from where its parent stands.
    pub(super) fn child(parent: &Track<'a>, steps: &'a [At<Step>]) -> Self {
        Self {
            cursors: parent.cursors.clone(),
            floor: parent.floor,
            ..Self::main(steps)
        }
    }

    /// Nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.frames.is_empty()
    }

    /// The present step.
    pub(super) fn step(&self) -> Option<&'a At<Step>> {
        let frame = self.frames.last()?;
        frame.steps.get(frame.next)
    }

    /// The present step, or the last one where a list of steps is through.
    fn latest(&self) -> Option<&'a At<Step>> {
        self.step().or_else(|| self.frames.last()?.steps.last())
    }

    /// Where a stream is to be read from.
    pub(super) fn cursor(&self, stream: Stream) -> Seq {
        let cursor = self.cursors.get(&stream).copied().unwrap_or_default();
        match stream {
            // what a handshake makes of a device is what a scenario asks for behind it
            Stream::Devices(..) => cursor,
            _ => cursor.max(self.floor),
        }
    }
}

impl<'a> Run<'a> {
    /// Lets every track go as far as it can. True if one of them moved.
    pub(super) fn advance_tracks(&mut self) -> Result<bool> {
        let mut moved = false;
        let mut at = 0;
        // tracks may be added on the way
        while at < self.tracks.len() {
            for _ in 0..STEPS_PER_TURN {
                if !self.advance_track(at).map_err(|stop| self.tracks[at].judge(stop))? {
                    break;
                }
                moved = true;
                self.relay();
            }
            at += 1;
        }
        Ok(moved)
    }

    fn advance_track(&mut self, at: usize) -> Result<bool> {
        let Some(step) = self.tracks[at].step() else {
            return self.leave_frame(at);
        };
        if let Step::Repeat(repeat) = &step.value {
            return self.enter_repeat(at, repeat);
        }
        if let (Step::Sanity(steps), Some(frame)) = (&step.value, self.tracks[at].frames.last_mut()) {
            frame.next += 1;
            self.tracks[at].frames.push(Frame {
                steps,
                next: 0,
                repeat: None,
                sanity: true,
            });
            return Ok(true);
        }
        if self.tracks[at].waiting.is_none() {
            if !self.may_begin(at, &step.value) {
                return Ok(false);
            }
            self.record(
                None,
                None,
                EventKind::Step {
                    line: step.span.line,
                    what: super::steps::name(&step.value),
                },
            );
            self.tracks[at].deadline = self.step_deadline(&step.value);
            let waiting = self.begin(at, step)?;
            self.tracks[at].waiting = Some(waiting);
        }
        let Some(mut waiting) = self.tracks[at].waiting.take() else {
            return Ok(false);
        };
        if self.poll(at, step, &mut waiting)? {
            if let Some(frame) = self.tracks[at].frames.last_mut() {
                frame.next += 1;
            }
            return Ok(true);
        }
        self.check_link(at, step.span, &waiting)?;
        let deadline = self.tracks[at].deadline;
        // in a steered run nothing waits in vain before nothing can happen any more
        if self.steering.is_none() && self.has_run_out(deadline) && self.is_to_blame(at, &waiting) {
            return Err(self.timed_out(at, step, &waiting));
        }
        self.tracks[at].waiting = Some(waiting);
        Ok(false)
    }

    /// Whether a step that has waited too long is the one to report: tracks that wait for other tracks do so because one of
    /// those hangs.
    fn is_to_blame(&self, at: usize, waiting: &Waiting) -> bool {
        let hangs_itself = |track: &Track| matches!(&track.waiting, Some(w) if !w.is_for_tracks());
        !waiting.is_for_tracks() || !self.tracks.iter().enumerate().any(|(i, t)| i != at && hangs_itself(t))
    }

    fn enter_repeat(&mut self, at: usize, repeat: &'a Repeat) -> Result<bool> {
        let times = eval_num(&repeat.times, &self.bindings)?;
        if times > REPEAT_MAX {
            let message = format!("{times} passes, more than {REPEAT_MAX}");
            return Err(Stop::script(Diagnostic::error(message).at(repeat.times.span)));
        }
        if let Some(frame) = self.tracks[at].frames.last_mut() {
            frame.next += 1;
        }
        if times > 0 {
            self.bind_pass(repeat, 0);
            self.tracks[at].frames.push(Frame {
                steps: &repeat.steps,
                next: 0,
                repeat: Some((repeat, 0, times)),
                sanity: false,
            });
        }
        Ok(true)
    }

    /// The steps of a frame are through: another pass, or back to the frame around it.
    fn leave_frame(&mut self, at: usize) -> Result<bool> {
        let Some(frame) = self.tracks[at].frames.last_mut() else {
            return Ok(false);
        };
        match &mut frame.repeat {
            Some((repeat, pass, times)) if *pass + 1 < *times => {
                *pass += 1;
                let (repeat, pass) = (*repeat, *pass);
                frame.next = 0;
                self.bind_pass(repeat, pass);
            }
            _ => {
                self.tracks[at].frames.pop();
            }
        }
        Ok(true)
    }

    fn bind_pass(&mut self, repeat: &Repeat, pass: u64) {
        if let Some(name) = &repeat.bind {
            self.bindings.bind(&name.value, Node::Number(pass));
        }
    }

    /// A script whose steps all go through at once has its limit, too.
    pub(super) fn check_limit(&self) -> Result<()> {
        if signal::interrupted() {
            return Err(super::gone::interrupted());
        }
        if !self.has_run_out(self.deadline) {
            return Ok(());
        }
        let step = self.tracks.iter().rev().find_map(Track::latest);
        let diagnostic = Diagnostic::error("the scenario did not come to its end")
            .at(step.map(|step| step.span).unwrap_or_default())
            .label("the scenario's limit was reached here");
        if self.steering.is_some() {
            return Err(super::steer::out_of_time());
        }
        Err(Stop::fail(FailKind::Hang, diagnostic))
    }

    /// When the first of the present steps gives up.
    pub(super) fn next_deadline(&self) -> Moment {
        let steps = self.tracks.iter().filter(|t| t.waiting.is_some()).map(|t| t.deadline);
        self.extended(steps.min().unwrap_or(self.deadline).min(self.deadline))
    }
}

impl Track<'_> {
    /// A failure of the ordinary conversation around a case is no verdict on the case.
    fn judge(&self, mut stop: Box<Stop>) -> Box<Stop> {
        let about_peer = matches!(
            stop.kind,
            StopKind::Fail(FailKind::Wrong | FailKind::Hang | FailKind::Crash)
        );
        if about_peer && self.frames.iter().any(|frame| frame.sanity) {
            stop.kind = StopKind::Insane;
        }
        stop
    }

    /// Whether a barrier of that name is still before it, or where it stands.
    pub(super) fn step_names_barrier(&self, name: &str) -> bool {
        self.frames
            .iter()
            .any(|frame| frame.steps.iter().skip(frame.next).any(|step| has_barrier(step, name)))
    }
}

fn has_barrier(step: &At<Step>, name: &str) -> bool {
    match &step.value {
        Step::Barrier(barrier) => barrier.value == name,
        Step::Repeat(repeat) => repeat.steps.iter().any(|step| has_barrier(step, name)),
        Step::Sanity(steps) => steps.iter().any(|step| has_barrier(step, name)),
        _ => false,
    }
}
