//! Modelled endpoints on real sockets: each choice of a schedule is one step of the model, carried out as reading and writing
//! on the two peers' own ends. After each, what is unread on every socket has to be what the model says, byte for byte.

use std::os::fd::{AsFd, OwnedFd};

use super::super::failure::{Result, Stop};
use super::super::run::Run;
use super::Waiting;
use crate::judge::verdict::FailKind;
use crate::link::{End, Stream};
use crate::peer::sim::retry::play::{Io, Model, Play, Position};
use crate::peer::sim::retry::{Class, Classes, Outcome};
use crate::scenario::Diagnostic;
use crate::scenario::model::Schedule;
use crate::scenario::retry::{Modelled, classes, modelled, regime};
use crate::scenario::span::{At, Span};
use crate::sys::{fd, socket};
use crate::trace::LinkId;
use crate::wire::{Channel, Party};

/// Bytes that can be unread on a socket of a model.
const UNREAD_MAX: usize = 4096;

/// The peers' own ends: by side, by channel.
pub(in super::super) type Ends = [[Option<OwnedFd>; 2]; 2];

/// A schedule that is being played.
#[derive(Debug)]
pub(in super::super) struct Scheduled {
    play: Play,
    /// What to do, and where it is written.
    steps: Vec<(u8, Span)>,
    /// Where the cycle begins.
    cycle: usize,
    next: usize,
    /// Where it was when the cycle began.
    began: Option<Position>,
    /// Steps that were possible everywhere in the cycle, and those that were taken.
    always: u32,
    taken: u32,
    comes_to: Classes,
    finished: bool,
    span: Span,
}

const CHANNELS: [Channel; 2] = [Channel::Main, Channel::Backend];

impl Run<'_> {
    /// The peers of a link are modelled endpoints: both get a socket of their own, and the link has the other ends.
    pub(in super::super) fn connect_modelled(&mut self, link: LinkId, span: Span) -> Result<()> {
        let fail = |e: std::io::Error| Stop::harness(format!("socket: {e}"), span);
        let two = matches!(self.model()?.map(|m| m.model), Some(Model::Two(_)));
        let mut ends: Ends = Default::default();
        for channel in CHANNELS.into_iter().take(if two { 2 } else { 1 }) {
            for (side, party) in [Party::FrontEnd, Party::BackEnd].into_iter().enumerate() {
                let (ours, theirs) = fd::socket_pair().map_err(fail)?;
                let stream = Stream::new(ours, self.dialect).map_err(fail)?;
                *self.links[link.0].socket(channel).end(party) = End::Remote(stream);
                ends[side][channel as usize] = Some(theirs);
            }
        }
        self.modelled_ends = ends;
        Ok(())
    }

    fn model(&self) -> Result<Option<Modelled>> {
        modelled(&self.plan.scenario).map_err(Stop::script)
    }

    pub(super) fn begin_schedule(&mut self, schedule: &Schedule, span: Span) -> Result<Waiting> {
        let none = || Stop::script(Diagnostic::error("`schedule` is for modelled endpoints").at(span));
        let regime = regime(schedule).map_err(Stop::script)?;
        let modelled = self.model()?.ok_or_else(none)?.in_regime(regime);
        let read = |choice: &At<String>| Ok((modelled.step(choice).map_err(Stop::script)?, choice.span));
        let mut steps = modelled.steps(schedule).map_err(Stop::script)?;
        let cycle = steps.len();
        let around: Vec<_> = schedule.cycle.iter().map(read).collect::<Result<_>>()?;
        steps.extend(around);
        let peer = self.peer(&modelled.names[0], span)?;
        // a model that is not connected has no sockets
        self.link_of(peer, span)?;
        Ok(Waiting::Schedule(Box::new(Scheduled {
            play: Play::new(modelled.model, self.dialect),
            steps,
            cycle,
            next: 0,
            began: None,
            always: u32::MAX,
            taken: 0,
            comes_to: classes(schedule).map_err(Stop::script)?,
            finished: schedule.finished,
            span,
        })))
    }

    /// Goes on as far as what was sent has arrived.
    pub(super) fn poll_schedule(&mut self, scheduled: &mut Scheduled) -> Result<bool> {
        loop {
            if !self.has_arrived(scheduled)? {
                return Ok(false);
            }
            let Some((step, span)) = scheduled.steps.get(scheduled.next).copied() else {
                return self.judge_schedule(scheduled).map(|()| true);
            };
            if scheduled.next == scheduled.cycle {
                scheduled.began = Some(scheduled.play.position());
            }
            if scheduled.began.is_some() {
                scheduled.always &= scheduled.play.possible();
                scheduled.taken |= 1 << step;
            }
            let taken = scheduled.play.take(step);
            let io = taken.map_err(|e| Stop::wrong(Diagnostic::error(e.to_string()).at(span)))?;
            for io in io {
                self.carry_out(io, span)?;
            }
            scheduled.next += 1;
            self.read_all_streams();
            self.relay();
        }
    }

    fn carry_out(&mut self, io: Io, span: Span) -> Result<()> {
        let lost = |what: &str| Stop::wrong(Diagnostic::error(format!("the socket {what}")).at(span));
        match io {
            Io::Read { side, channel, bytes } => {
                let Some(end) = &self.modelled_ends[side][channel as usize] else {
                    return Err(lost("is closed"));
                };
                let mut buffer = vec![0; bytes.len()];
                let mut have = 0;
                while have < buffer.len() {
                    match socket::receive(end.as_fd(), &mut buffer[have..]) {
                        Ok(Some(received)) if received.len > 0 => have += received.len,
                        _ => return Err(lost("has less to read than the model says")),
                    }
                }
                if buffer != bytes {
                    let error = Diagnostic::error("what was read is not what the model says").at(span);
                    return Err(Stop::wrong(error.expected_actual(hex(&bytes), hex(&buffer))));
                }
            }
            Io::Write { side, channel, bytes } => {
                let Some(end) = &self.modelled_ends[side][channel as usize] else {
                    return Err(lost("is closed"));
                };
                match socket::send(end.as_fd(), &bytes, &[]) {
                    Ok(Some(sent)) if sent == bytes.len() => {}
                    _ => return Err(lost("does not take a message")),
                }
            }
            Io::Close { side } => self.modelled_ends[side] = [None, None],
        }
        Ok(())
    }

    /// Whether what is unread is all that has to be. Something else is wrong at once.
    fn has_arrived(&self, scheduled: &Scheduled) -> Result<bool> {
        if scheduled.play.is_closed() {
            return Ok(true);
        }
        for (side, ends) in self.modelled_ends.iter().enumerate() {
            for (channel, end) in CHANNELS.into_iter().zip(ends) {
                let Some(end) = end else { continue };
                let wanted = scheduled.play.unread(side, channel);
                let there = socket::peek(end.as_fd(), UNREAD_MAX)
                    .map_err(|e| Stop::harness(format!("socket: {e}"), scheduled.span))?;
                if there == wanted {
                    continue;
                }
                if wanted.starts_with(&there) {
                    return Ok(false);
                }
                let place = scheduled.steps.get(scheduled.next.saturating_sub(1)).map(|step| step.1);
                let error = Diagnostic::error("what is unread on a socket is not what the model says");
                let error = error.at(place.unwrap_or(scheduled.span));
                return Err(Stop::wrong(error.expected_actual(hex(&wanted), hex(&there))));
            }
        }
        Ok(true)
    }

    fn judge_schedule(&self, scheduled: &Scheduled) -> Result<()> {
        let place = scheduled.steps.last().map_or(scheduled.span, |step| step.1);
        let wrong = |text: &str| Diagnostic::error(text.to_owned()).at(place);
        if let Some(began) = scheduled.began {
            if began != scheduled.play.position() {
                return Err(Stop::wrong(wrong("the cycle does not lead back to where it began")));
            }
            if scheduled.always & !scheduled.taken != 0 {
                let never = scheduled.always & !scheduled.taken;
                let model = scheduled.play.model;
                let step = never.trailing_zeros() as u8;
                let what = format!("{} {}", ["front-end", "back-end"][model.side(step)], model.words(step));
                let error = wrong("the cycle is not fair").footer(format!("`{what}` is possible all the way"));
                return Err(Stop::wrong(error));
            }
        }
        let cycles: Classes = scheduled.comes_to.iter().filter(|class| class.is_cycle()).collect();
        let came = scheduled.play.classes().and(cycles);
        if came != scheduled.comes_to {
            let error = wrong("the schedule comes to something else");
            let error = error.expected_actual(scheduled.comes_to.to_string(), came.to_string());
            let error = counters(&scheduled.play)
                .into_iter()
                .fold(error, |error, line| error.footer(line));
            return Err(Stop::fail(kind_of(came), error));
        }
        if scheduled.finished && !scheduled.play.is_finished() {
            let error = counters(&scheduled.play)
                .into_iter()
                .fold(wrong("not all is done"), |error, line| error.footer(line));
            return Err(Stop::fail(FailKind::Hang, error));
        }
        Ok(())
    }
}

fn kind_of(classes: Classes) -> FailKind {
    match classes.has(Class::Hang) {
        true => FailKind::Hang,
        false => FailKind::Wrong,
    }
}

/// What became of every operation, and how often it was applied.
fn counters(play: &Play) -> Vec<String> {
    let (Model::One(system), Position::One(state)) = (play.model, play.position()) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for (side, script) in system.script.iter().enumerate() {
        for (at, op) in script.operations().iter().enumerate() {
            let number = u8::try_from(at).unwrap_or(u8::MAX);
            let outcome = match state.outcome(side, number) {
                Outcome::Open => "open",
                Outcome::Fine => "fine",
                Outcome::Failed => "failed",
            };
            let who = ["front-end", "back-end"][side];
            let applied = state.applied(side, number);
            lines.push(format!("{who}'s {} is {outcome}, applied {applied} times", op.name));
        }
    }
    lines
}

fn hex(bytes: &[u8]) -> String {
    match bytes.is_empty() {
        true => "nothing".to_owned(),
        false => bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

impl Scheduled {
    pub(super) fn waits_for(&self) -> String {
        format!("what was sent before choice {} to arrive", self.next + 1)
    }
}
