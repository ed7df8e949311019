//! The steps: how each begins, what it waits for, and when it is done.

mod asks;
mod contents;
mod control;
mod data;
mod expect;
mod guest;
mod inflight;
mod messages;
mod migration;
mod process;
mod qemu;
mod replay;
mod rings;
mod schedule;
mod setup;
mod threads;
mod unordered;
mod vain;

use super::control::Act;
use super::failure::{Result, Stop};
use super::patterns::channel;
use super::run::{Never, Run};
use super::tracks::Track;
use super::traffic::DeliveryId;
use crate::judge::matcher::Matcher;
use crate::judge::oracle::Seen;
use crate::memory::Inflight;
use crate::peer::qemu::CommandId;
use crate::scenario::model::{Pattern, Step};
use crate::scenario::scalar::{Duration, Node};
use crate::scenario::span::{At, Span};
use crate::scenario::{Diagnostic, eval_num};
use crate::sys::clock::Moment;
use crate::trace::{LinkId, PeerId, SignalKind};
use crate::wire::Party;

use control::signal_kind;
pub(super) use data::{Delivery, Submitted};
pub(super) use messages::make_fd;
use replay::Replaying;
pub(super) use schedule::{Ends, Scheduled};
pub(super) use threads::ThreadHold;
use threads::Wanted;
use unordered::Unordered;

/// What a step that has begun waits for.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Nothing: it was done when it began.
    Nothing,
    /// Both ends of a link.
    Connection(LinkId),
    /// One of these patterns; `any` others may come before it.
    OneOf {
        matchers: Vec<(Matcher, Option<String>)>,
        skip_others: bool,
    },
    /// All of these, in any order.
    All(Unordered),
    /// A simulated front-end's own requests.
    Front { peer: PeerId, setup: bool },
    /// The answers to what a simulated peer has asked.
    Answered(PeerId),
    /// A QEMU command, and others to be submitted after it.
    Qemu(PeerId, CommandId),
    /// QMP calls one after the other.
    Calls {
        peer: PeerId,
        at: usize,
        id: Option<CommandId>,
        unplug: bool,
        deleted_from: crate::trace::Seq,
    },
    /// One side of a recorded conversation.
    Replay(Box<Replaying>),
    /// Steps of modelled endpoints.
    Schedule(Box<Scheduled>),
    /// Frames on their way.
    Delivery(Box<Delivery>),
    /// A delivery on threads of its own.
    Traffic(DeliveryId),
    /// A block request.
    Submitted(Box<Submitted>),
    /// Requests to a generic device: peer, those on their way, how many are still to be sent.
    Echo {
        peer: PeerId,
        ring: u16,
        size: usize,
        open: Vec<u64>,
        left: u64,
        number: u64,
    },
    /// Tracks.
    Tracks,
    /// The other tracks at the barrier of that name.
    Barrier(String),
    /// An open request to reply to.
    OpenRequest { peer: PeerId, request: u32 },
    /// The end of a process that is to be restarted.
    Restart(PeerId),
    /// A thread to hold: it has to be found, and then attached to.
    Thread(Box<Wanted>),
    /// The thread of that hold to be held.
    Held(String),
    /// The thread of that hold to be let go.
    LetGo(String),
    /// Every thread of a process to sleep.
    Idle(PeerId),
    /// The oracle to have seen so many chains of a ring.
    Ring { link: LinkId, ring: u32, wanted: Seen },
    /// So many requests to be in flight, by an inflight area.
    InFlight {
        area: Inflight,
        peer: PeerId,
        ring: u16,
        wanted: usize,
    },
}

impl Waiting {
    /// Whether it is for other tracks, and not for a peer.
    pub(super) fn is_for_tracks(&self) -> bool {
        matches!(self, Waiting::Tracks | Waiting::Barrier(_))
    }
}

/// The step's name in the language.
pub(super) fn name(step: &Step) -> &'static str {
    match step {
        Step::Start(_) => "start",
        Step::Connect(_) => "connect",
        Step::Setup(_) => "setup",
        Step::Send(_) => "send",
        Step::Raw(_) => "raw",
        Step::Reply(_) => "reply",
        Step::Request(_) => "request",
        Step::Answered(_) => "answered",
        Step::AskDuring(_) => "ask_during",
        Step::Shared(_) => "shared",
        Step::Expect(_) => "expect",
        Step::AnyOf(_) => "any_of",
        Step::Unordered(_) => "unordered",
        Step::Optional(_) => "optional",
        Step::Until(_) => "until",
        Step::Never(_) => "never",
        Step::NotYet(_) => "not_yet",
        Step::Repeat(_) => "repeat",
        Step::Sanity(_) => "sanity",
        Step::Together(_) => "together",
        Step::Barrier(_) => "barrier",
        Step::Use(_) => "use",
        Step::Hold(_) => "hold",
        Step::Drop(_) => "drop",
        Step::Duplicate(_) => "duplicate",
        Step::Reorder(_) => "reorder",
        Step::Join(_) => "join",
        Step::Split(_) => "split",
        Step::Alter(_) => "alter",
        Step::Inject(_) => "inject",
        Step::Release(_) => "release",
        Step::HoldThread(_) => "hold_thread",
        Step::UntilHeld(_) => "until_held",
        Step::UntilRing(_) => "until_ring",
        Step::UntilIdle(_) => "until_idle",
        Step::Replay(_) => "replay",
        Step::Schedule(_) => "schedule",
        Step::Kick(_) => "kick",
        Step::Call(_) => "call",
        Step::Close(_) => "close",
        Step::Kill(_) => "kill",
        Step::Restart(_) => "restart",
        Step::Stop(_) => "stop",
        Step::Continue(_) => "continue",
        Step::Ring(_) => "ring",
        Step::Memory(_) => "memory",
        Step::Write(_) => "write",
        Step::Deliver(_) => "deliver",
        Step::Blk(_) => "blk",
        Step::Await(_) => "await",
        Step::Echo(_) => "echo",
        Step::Image(_) => "image",
        Step::Migration(_) => "migration",
        Step::Dies(_) => "dies",
        Step::Inflight(_) => "inflight",
        Step::Config(_) => "config",
        Step::Driver(_) => "driver",
        Step::Qmp(_) => "qmp",
        Step::Qtest(_) => "qtest",
        Step::Guest(_) => "guest",
        Step::Pci(_) => "pci",
    }
}

impl<'a> Run<'a> {
    /// When a step that begins now gives up.
    pub(super) fn step_deadline(&self, step: &Step) -> Moment {
        let own: Option<&At<Duration>> = match step {
            Step::Connect(s) => s.within.as_ref(),
            Step::Setup(s) => s.within.as_ref(),
            Step::Expect(p) | Step::Until(p) => p.within.as_ref(),
            Step::AnyOf(ps) | Step::Unordered(ps) => ps.iter().filter_map(|p| p.within.as_ref()).next(),
            Step::Request(s) => s.within.as_ref(),
            Step::Ring(s) => s.within.as_ref(),
            Step::Memory(s) => s.within.as_ref(),
            Step::Migration(s) => s.within.as_ref(),
            Step::Deliver(s) => s.within.as_ref(),
            Step::Blk(s) => s.within.as_ref(),
            Step::Await(s) => s.within.as_ref(),
            Step::Echo(s) => s.within.as_ref(),
            Step::HoldThread(s) => s.within.as_ref(),
            Step::Replay(s) => s.within.as_ref(),
            Step::Config(s) => s.within.as_ref(),
            Step::Driver(s) => s.within.as_ref(),
            Step::Qmp(s) => s.within.as_ref(),
            Step::Qtest(s) => s.within.as_ref(),
            Step::Guest(s) => s.within.as_ref(),
            _ => None,
        };
        own.map_or(self.deadline, |d| self.clock.now().plus_ms(d.ms).min(self.deadline))
    }

    /// Begins a step.
    pub(super) fn begin(&mut self, at: usize, step: &'a At<Step>) -> Result<Waiting> {
        let span = step.span;
        match &step.value {
            Step::Start(peer) => {
                let peer = self.peer(&peer.value, peer.span)?;
                self.start(peer, span)?;
            }
            Step::Connect(connect) => {
                let front = self.peer(&connect.from.value, connect.from.span)?;
                let back = self.peer(&connect.to.value, connect.to.span)?;
                let link = self.link_between(front, back);
                self.links[link.0].pci_socket = connect.socket.as_ref().map(|socket| socket.value.clone());
                self.begin_connection(link, span)?;
                let relay = connect.relay.iter().map(|kind| signal_kind(kind.value));
                self.links[link.0].relays.wanted = match self.steering {
                    Some(_) => vec![SignalKind::Kick, SignalKind::Call, SignalKind::Error],
                    None => relay.collect(),
                };
                self.make_room(link, connect.room.as_ref())?;
                return Ok(match self.is_served(link) {
                    true => Waiting::Nothing,
                    false => Waiting::Connection(link),
                });
            }
            Step::Setup(setup) => return self.begin_setup(setup),
            Step::Send(send) => self.send_step(send)?,
            Step::Raw(raw) => self.raw_step(raw)?,
            Step::Reply(reply) => return self.begin_reply(reply),
            Step::Expect(pattern) => return self.one_of(std::slice::from_ref(pattern), span, false),
            Step::Until(pattern) => return self.one_of(std::slice::from_ref(pattern), span, true),
            Step::AnyOf(patterns) => return self.one_of(patterns, span, false),
            Step::Unordered(patterns) => return Ok(Waiting::All(Unordered::new(self.matchers(patterns, span)?))),
            Step::Optional(optional) => {
                let matcher = self.matcher(&optional.when, span)?;
                let at_most = optional
                    .at_most
                    .as_ref()
                    .map_or(Ok(1), |n| eval_num(n, &self.bindings))?;
                self.tracks[at].optional.push((matcher, at_most));
            }
            Step::NotYet(pattern) => self.not_yet(at, pattern, span)?,
            Step::Never(pattern) => {
                let never = Never {
                    matcher: self.matcher(pattern, span)?,
                    span,
                    from: self.timeline.end(),
                };
                self.nevers.push(never);
            }
            Step::Together(tracks) => return Ok(self.fork(at, tracks.iter().map(|(_, steps)| steps.as_slice()))),
            Step::Barrier(name) => {
                self.tracks[at].barrier = Some(name.value.clone());
                return Ok(Waiting::Barrier(name.value.clone()));
            }
            Step::Hold(hold) => self.hold_step(hold, span)?,
            Step::Drop(what) => {
                let often = (what.times.as_ref(), what.always);
                self.control("drop", span, &what.when, often, Act::Drop)?;
            }
            Step::Duplicate(what) => {
                let often = (what.times.as_ref(), what.always);
                self.control("duplicate", span, &what.when, often, Act::Duplicate)?;
            }
            Step::Reorder(reorder) => self.reorder_step(reorder, span)?,
            Step::Join(join) => self.join_step(join, span)?,
            Step::Split(split) => self.split_step(split, span)?,
            Step::Alter(alter) => self.alter_step(alter, span)?,
            Step::Inject(inject) => self.inject_step(inject, span)?,
            Step::Release(name) => {
                self.holds.retain(|h| h.name != name.value);
                return Ok(self.begin_let_go(&name.value));
            }
            Step::HoldThread(hold) => return self.begin_hold_thread(hold),
            Step::UntilHeld(name) => return Ok(Waiting::Held(name.value.clone())),
            Step::UntilIdle(name) => return Ok(Waiting::Idle(self.peer(&name.value, name.span)?)),
            Step::UntilRing(wait) => return self.begin_until_ring(wait),
            Step::Replay(replay) => return self.begin_replay(replay),
            Step::Schedule(schedule) => return self.begin_schedule(schedule, span),
            Step::Kick(kick) => {
                let peer = self.peer(&kick.from.value, kick.from.span)?;
                let ring = self.ring(&kick.ring)?;
                let front = self.peers[peer.0].sim.front().ok_or_else(|| not_front(span))?;
                front
                    .kick(ring)
                    .map_err(|e| Stop::script(Diagnostic::error(e.to_string()).at(span)))?;
            }
            Step::Call(call) => {
                let peer = self.peer(&call.from.value, call.from.span)?;
                let ring = self.ring(&call.ring)?;
                let back = self.peers[peer.0].sim.back().ok_or_else(|| not_back(span))?;
                back.call(ring)
                    .map_err(|e| Stop::wrong(Diagnostic::error(e.to_string()).at(span)))?;
            }
            Step::Close(close) => {
                let peer = self.peer(&close.peer.value, close.peer.span)?;
                let channel = channel(close.channel.as_ref())?;
                let party = self.peers[peer.0].spec.party;
                let link = self.link_to(peer, close.to.as_ref(), span)?;
                self.disturb_link(peer);
                self.close_side(link, channel, party, 0);
                if party == Party::BackEnd && channel == crate::wire::Channel::Main {
                    self.tell_server_of_close(link);
                }
            }
            Step::Kill(kill) => self.kill_step(kill, span)?,
            Step::Restart(name) => {
                let peer = self.peer(&name.value, name.span)?;
                return self.begin_restart(peer, span);
            }
            Step::Stop(name) => {
                let peer = self.peer(&name.value, name.span)?;
                self.signal_process(peer, nix::sys::signal::Signal::SIGSTOP, span)?;
            }
            Step::Continue(name) => {
                let peer = self.peer(&name.value, name.span)?;
                self.signal_process(peer, nix::sys::signal::Signal::SIGCONT, span)?;
            }
            Step::Ring(ring) => return self.begin_ring(ring, span),
            Step::Memory(memory) => return self.begin_memory(memory, span),
            Step::Write(write) => return self.begin_write(write, span),
            Step::Deliver(deliver) if Self::is_traffic(deliver) => {
                let id = self.begin_traffic(deliver, span)?;
                let waits = deliver.wait.as_ref().is_none_or(|wait| wait.value);
                return Ok(if waits { Waiting::Traffic(id) } else { Waiting::Nothing });
            }
            Step::Deliver(deliver) => return self.begin_delivery(deliver, span),
            Step::Blk(blk) => return self.begin_blk(blk, span),
            Step::Await(wanted) => return self.begin_await(wanted),
            Step::Echo(echo) => return self.begin_echo(echo, span),
            Step::Image(image) => self.image_step(image, span)?,
            Step::Migration(step) => return self.begin_migration(step, span),
            Step::Dies(step) => self.dies_step(step, span)?,
            Step::Inflight(step) => return self.begin_inflight(step, span),
            Step::Config(config) => {
                let peer = self.peer(&config.peer.value, config.peer.span)?;
                if self.peers[peer.0].spec.is_simulated() {
                    return self.sim_config_step(config, span);
                }
                return self.begin_config(config, span);
            }
            Step::Request(request) => return self.begin_request(request),
            Step::Answered(name) => return Ok(Waiting::Answered(self.peer(&name.value, name.span)?)),
            Step::AskDuring(ask) => self.ask_during_step(ask)?,
            Step::Shared(shared) => self.shared_step(shared, span)?,
            Step::Driver(driver) => return self.begin_driver(driver, span),
            Step::Qmp(qmp) => return self.begin_qmp(qmp),
            Step::Qtest(qtest) => return self.begin_qtest(qtest),
            Step::Guest(guest) => return self.begin_guest(guest),
            Step::Pci(pci) => self.pci_step(pci, span)?,
            // frames of the track, not steps that wait
            Step::Repeat(_) | Step::Sanity(_) | Step::Use(_) => {}
        }
        Ok(Waiting::Nothing)
    }

    /// Looks whether a step is done.
    pub(super) fn poll(&mut self, at: usize, step: &'a At<Step>, waiting: &mut Waiting) -> Result<bool> {
        let span = step.span;
        match waiting {
            Waiting::Nothing => Ok(true),
            Waiting::Connection(link) => {
                if self.connection_made(*link) {
                    return Ok(true);
                }
                self.check_starting(*link, span)?;
                Ok(false)
            }
            Waiting::OneOf { matchers, skip_others } => self.poll_one_of(at, span, matchers, *skip_others),
            Waiting::All(unordered) => self.poll_all(at, span, unordered),
            Waiting::Front { peer, setup } => self.poll_front(at, step, *peer, *setup),
            Waiting::Answered(peer) => self.poll_answered(span, *peer),
            Waiting::Qemu(peer, id) => self.poll_qemu(at, step, *peer, *id),
            Waiting::Calls { .. } => self.poll_calls(span, waiting),
            Waiting::Replay(replaying) => self.poll_replay(span, replaying),
            Waiting::Schedule(scheduled) => self.poll_schedule(scheduled),
            Waiting::Delivery(delivery) => self.poll_delivery(span, delivery),
            Waiting::Traffic(id) => Ok(self.is_delivered(*id)),
            Waiting::Submitted(submitted) => self.poll_submitted(span, submitted),
            Waiting::Echo { .. } => self.poll_echo(span, waiting),
            Waiting::Tracks => Ok(self.join(at)),
            Waiting::Barrier(_) => Ok(self.pass_barrier(at)),
            Waiting::OpenRequest { peer, request } => {
                let Step::Reply(reply) = &step.value else {
                    return Ok(true);
                };
                self.poll_reply(reply, *peer, *request)
            }
            Waiting::Restart(peer) => self.poll_restart(*peer, span),
            Waiting::Thread(wanted) => self.poll_hold_thread(span, wanted),
            Waiting::Held(name) => self.poll_held(span, name),
            Waiting::LetGo(name) => Ok(self.poll_let_go(name)),
            Waiting::Idle(peer) => self.poll_idle(span, *peer),
            Waiting::Ring { link, ring, wanted } => Ok(self.ring_has_seen(*link, *ring, *wanted)),
            Waiting::InFlight {
                area,
                peer,
                ring,
                wanted,
            } => self.has_in_flight(area, (*peer, *ring), *wanted, span),
        }
    }

    fn fork(&mut self, at: usize, strands: impl Iterator<Item = &'a [At<Step>]>) -> Waiting {
        let mut children = Vec::new();
        for steps in strands {
            let child = Track::child(&self.tracks[at], steps);
            children.push(self.tracks.len());
            self.tracks.push(child);
        }
        for child in &children {
            self.tracks[*child].siblings = children.clone();
        }
        self.tracks[at].children = children;
        Waiting::Tracks
    }

    /// All strands are through: reading goes on behind what any of them has read.
    fn join(&mut self, at: usize) -> bool {
        if !self.tracks[at]
            .children
            .iter()
            .all(|child| self.tracks[*child].is_done())
        {
            return false;
        }
        for child in std::mem::take(&mut self.tracks[at].children) {
            let (cursors, floor) = (self.tracks[child].cursors.clone(), self.tracks[child].floor);
            let parent = &mut self.tracks[at];
            for (stream, seq) in cursors {
                let cursor = parent.cursors.entry(stream).or_default();
                *cursor = (*cursor).max(seq);
            }
            parent.floor = parent.floor.max(floor);
        }
        true
    }

    /// Whether everyone who names this barrier has come to it. The last one lets all go.
    fn pass_barrier(&mut self, at: usize) -> bool {
        let Some(name) = self.tracks[at].barrier.clone() else {
            return true;
        };
        let siblings = self.tracks[at].siblings.clone();
        let names_it = |track: &Track| track.step_names_barrier(&name) && !track.is_done();
        let missing = siblings.iter().any(|s| {
            let track = &self.tracks[*s];
            track.barrier.as_deref() != Some(name.as_str()) && names_it(track)
        });
        if missing {
            return false;
        }
        for sibling in siblings {
            if self.tracks[sibling].barrier.as_deref() == Some(name.as_str()) {
                self.tracks[sibling].barrier = None;
            }
        }
        true
    }

    /// The link of a peer.
    pub(super) fn link_of(&self, peer: PeerId, span: Span) -> Result<LinkId> {
        let name = &self.peers[peer.0].spec.name;
        let error = || Stop::script(Diagnostic::error(format!("`{name}` is not connected")).at(span));
        self.peers[peer.0].link.ok_or_else(error)
    }

    /// Binds what a pattern's `as` names.
    pub(super) fn bind(&mut self, name: Option<&str>, message: Option<&crate::wire::Message>) {
        let (Some(name), Some(message)) = (name, message) else {
            return;
        };
        let (main, fields) = crate::judge::value::binding_of(message);
        self.bindings.bind_message(name, main, fields);
    }

    /// Binds a number.
    pub(super) fn bind_number(&mut self, name: Option<&At<String>>, value: u64) {
        if let Some(name) = name {
            self.bindings.bind(&name.value, Node::Number(value));
        }
    }

    fn matchers(&self, patterns: &[Pattern], span: Span) -> Result<Vec<(Matcher, Option<String>)>> {
        let one = |p: &Pattern| {
            let place = pattern_span(p, span);
            Ok((self.matcher(p, place)?, p.bind.as_ref().map(|b| b.value.clone())))
        };
        patterns.iter().map(one).collect()
    }

    fn one_of(&self, patterns: &[impl std::borrow::Borrow<Pattern>], span: Span, skip_others: bool) -> Result<Waiting> {
        let mut matchers = Vec::new();
        for pattern in patterns {
            matchers.extend(self.matchers(std::slice::from_ref(pattern.borrow()), span)?);
        }
        Ok(Waiting::OneOf { matchers, skip_others })
    }
}

/// The most telling place of a pattern.
fn pattern_span(pattern: &Pattern, fallback: Span) -> Span {
    let places = [&pattern.message, &pattern.reply_to, &pattern.event, &pattern.closed];
    places
        .into_iter()
        .flatten()
        .map(|p| p.span)
        .find(|s| s.line > 0)
        .unwrap_or(fallback)
}

fn not_front(span: Span) -> Box<Stop> {
    Stop::harness("only a simulated front-end can do this", span)
}

fn not_back(span: Span) -> Box<Stop> {
    Stop::harness("only a simulated back-end can do this", span)
}
