//! What can happen next in a run that is steered, in the order in which it happens when nobody interferes: threads go on,
//! then what is under way arrives, oldest first, then steps begin, then timers fire.

use nix::sys::signal::Signal;

use super::{Choice, Kind, Means};
use crate::engine::control::Fate;
use crate::engine::failure::{Result, Stop};
use crate::engine::run::Run;
use crate::link::signals::Relay;
use crate::scenario::model::Step;
use crate::scenario::span::Span;
use crate::sys::steer::{Stopped, Told};
use crate::sys::threads::Wait;
use crate::trace::{EventKind, LinkId, PeerId, Seq, SignalKind};
use crate::wire::{Channel, Message, Party, Payload};

/// What to do for a choice.
#[derive(Debug, Clone)]
pub(super) enum Act {
    LetGo(PeerId, i32),
    Deliver(LinkId, Channel, Party),
    Signal(LinkId, u64),
    /// The timer at that place.
    Timer(usize),
    Begin(usize),
    Kill(PeerId),
}

type Listed = Vec<(Choice, Act)>;

impl Run<'_> {
    /// All that can happen now.
    pub(super) fn choices(&mut self) -> Listed {
        let mut choices = self.thread_choices();
        let mut arrivals = self.arrivals();
        arrivals.sort_by_key(|(seq, ..)| *seq);
        choices.extend(arrivals.into_iter().map(|(_, choice, act)| (choice, act)));
        choices.extend(self.step_choices());
        choices.extend(self.timer_choices());
        choices.extend(self.kill_choices());
        if let Some(steering) = &self.steering {
            choices.retain(|(choice, _)| !steering.stuck.contains(&choice.name));
            for (choice, _) in &mut choices {
                if let Some(times) = steering.counts.get(choice.name.as_str()) {
                    choice.name = format!("{} (again: {})", choice.name, times + 1);
                }
            }
        }
        // two threads of one name, told of the same
        for at in 1..choices.len() {
            let twins = choices[..at]
                .iter()
                .filter(|(c, _)| c.base() == choices[at].0.base())
                .count();
            if twins > 0 {
                let name = format!("{} ({} of such)", choices[at].0.name, twins + 1);
                choices[at].0.name = name;
            }
        }
        choices
    }

    fn thread_choices(&self) -> Listed {
        let Some(steering) = &self.steering else {
            return Vec::new();
        };
        let mut listed = Vec::new();
        for (peer, process) in &steering.processes {
            for stopped in process.stopped() {
                listed.push((self.thread_choice(*peer, stopped), Act::LetGo(*peer, stopped.tid)));
            }
        }
        listed
    }

    fn thread_choice(&self, peer: PeerId, stopped: &Stopped) -> Choice {
        let name = &self.peers[peer.0].spec.name;
        let mut kick = None;
        let mut words = Vec::new();
        for told in &stopped.told {
            if let Told::Event(id) = told
                && let Some((kind, ring)) = self.signal_of(peer, *id)
            {
                if kind == SignalKind::Kick {
                    kick = Some(ring);
                }
                words.push(format!("the {kind} of ring {ring}"));
            }
        }
        if words.is_empty() {
            // what else there was is not always the same
            words.push("something of its own".to_owned());
        }
        Choice {
            name: format!(
                "thread {} of {name}, told of {}, goes on",
                stopped.name,
                words.join(" and ")
            ),
            kind: Kind::Thread,
            actor: format!("{name}/{}", stopped.tid),
            between: (None, Some(name.clone())),
            means: Means::Thread {
                peer: name.clone(),
                kick,
                socket: stopped.told.contains(&Told::Socket),
                waits_in: match stopped.call.wait() {
                    Some(Wait::Poll) => "poll",
                    Some(Wait::Read) => "read",
                    Some(Wait::Receive) => "recv",
                    _ => "epoll",
                },
            },
        }
    }

    /// What an eventfd that a peer waits for is there for.
    fn signal_of(&self, peer: PeerId, id: u64) -> Option<(SignalKind, u16)> {
        let link = &self.links[self.peers[peer.0].link?.0];
        let is_it = |relay: &&Relay| relay.sink_id == Some(id);
        if let Some(relay) = link.relays.iter().find(is_it) {
            return Some((relay.kind, relay.ring));
        }
        let (ring, _) = link.kicks.iter().find(|(_, event)| **event == id)?;
        Some((SignalKind::Kick, u16::from(*ring)))
    }

    /// What is under way and may go, with its event.
    fn arrivals(&mut self) -> Vec<(Option<Seq>, Choice, Act)> {
        let mut found = Vec::new();
        for link in (0..self.links.len()).map(LinkId) {
            for channel in Channel::ALL {
                for from in [Party::FrontEnd, Party::BackEnd] {
                    // what is to be dropped goes at once
                    while let Some((place, fate)) = self.next_parcel(link, channel, from) {
                        let seq = self.links[link.0].socket(channel).at(from, place).and_then(|t| t.seq);
                        if fate == Fate::Dropped {
                            self.links[link.0].socket(channel).take(from, place);
                            continue;
                        }
                        if seq.is_some_and(|seq| self.joined_with(seq).is_some())
                            && seq
                                .and_then(|seq| self.partner(link, channel, from, place, seq))
                                .is_none()
                        {
                            break;
                        }
                        let actor = format!("{} on {channel}", self.name_of(link, from));
                        found.push((
                            seq,
                            self.arrival(link, from, seq, actor),
                            Act::Deliver(link, channel, from),
                        ));
                        break;
                    }
                }
            }
            let ids: Vec<u64> = self.links[link.0].relays.iter().map(|relay| relay.id).collect();
            for id in ids {
                while let Some((place, fate)) = self.next_signal(link, id) {
                    let Some(relay) = self.links[link.0].relays.get(id) else {
                        break;
                    };
                    let from = relay.from();
                    if fate == Fate::Dropped {
                        relay.waiting.remove(place);
                        continue;
                    }
                    let seq = relay.waiting.get(place).and_then(|signal| signal.seq);
                    let actor = format!("{} of ring {}", relay.kind, relay.ring);
                    found.push((seq, self.arrival(link, from, seq, actor), Act::Signal(link, id)));
                    break;
                }
            }
        }
        found
    }

    fn name_of(&self, link: LinkId, party: Party) -> String {
        self.peers[self.links[link.0].peer(party).0].spec.name.clone()
    }

    fn arrival(&self, link: LinkId, from: Party, seq: Option<Seq>, actor: String) -> Choice {
        let (sender, receiver) = (self.name_of(link, from), self.name_of(link, from.other()));
        let kind = seq.and_then(|seq| self.timeline.get(seq)).map(|event| &event.kind);
        let (kind, what, pattern) = match kind {
            Some(EventKind::Message { message, .. }) => {
                let (what, pattern) = describe(message);
                let kind = if message.is_reply() { Kind::Reply } else { Kind::Message };
                (kind, what, pattern)
            }
            Some(EventKind::Kick { ring, .. }) => (Kind::Kick, format!("kick of ring {ring}"), format!("kick: {ring}")),
            Some(EventKind::Call { ring, .. }) => (Kind::Call, format!("call of ring {ring}"), format!("call: {ring}")),
            Some(EventKind::RingError { ring }) => {
                (Kind::Error, format!("error of ring {ring}"), format!("error: {ring}"))
            }
            Some(EventKind::Closed { channel, .. } | EventKind::HalfClosed { channel, .. }) => {
                (Kind::Close, format!("close of {channel}"), format!("closed: {channel}"))
            }
            _ => (Kind::Message, "bytes that are no message".to_owned(), String::new()),
        };
        let pattern = format!("{{from: {sender}, {pattern}}}");
        let before = match pattern.as_str() {
            "" => 0,
            _ => self
                .steering
                .as_ref()
                .map_or(0, |s| s.counts.get(&pattern).copied().unwrap_or(0)),
        };
        Choice {
            name: format!("{what} from {sender} arrives at {receiver}"),
            kind,
            actor,
            between: (Some(sender), Some(receiver)),
            means: Means::Crosses { pattern, before },
        }
    }

    fn timer_choices(&self) -> Listed {
        let mut timers: Vec<_> = self.timers.iter().enumerate().collect();
        timers.sort_by_key(|(place, (at, ..))| (*at, *place));
        let one = |(place, (_, peer, _)): (usize, &(_, PeerId, u64))| {
            let name = self.peers[peer.0].spec.name.clone();
            let choice = Choice {
                name: format!("a timer of {name} fires"),
                kind: Kind::Timer,
                actor: format!("timers of {name}"),
                between: (None, Some(name)),
                means: Means::Other,
            };
            (choice, Act::Timer(place))
        };
        // they fire in their order
        timers.into_iter().take(1).map(one).collect()
    }

    fn step_choices(&self) -> Listed {
        let mut listed = Vec::new();
        for (at, track) in self.tracks.iter().enumerate() {
            let (Some(step), None) = (track.step(), &track.waiting) else {
                continue;
            };
            if !is_chosen(&step.value) {
                continue;
            }
            let line = step.span.line;
            let choice = Choice {
                name: format!(
                    "step `{}` (line {line}) begins",
                    crate::engine::steps::name(&step.value)
                ),
                kind: Kind::Step,
                actor: format!("strand {at}"),
                between: (None, None),
                means: Means::Step { line },
            };
            listed.push((choice, Act::Begin(at)));
        }
        listed
    }

    fn kill_choices(&self) -> Listed {
        let Some(steering) = &self.steering else {
            return Vec::new();
        };
        let alive = |peer: &PeerId| self.peers[peer.0].child.as_ref().is_some_and(|c| c.exit().is_none());
        let mayhem = steering.limits.kill && !steering.killed;
        let victims = (0..self.peers.len()).map(PeerId).filter(|peer| mayhem && alive(peer));
        victims
            .map(|peer| {
                let name = self.peers[peer.0].spec.name.clone();
                let choice = Choice {
                    name: format!("{name} is killed"),
                    kind: Kind::Kill,
                    actor: format!("kill {name}"),
                    between: (None, Some(name)),
                    means: Means::Other,
                };
                (choice, Act::Kill(peer))
            })
            .collect()
    }

    /// Does what was chosen.
    pub(super) fn perform_choice(&mut self, choice: &Choice, act: &Act) -> Result<()> {
        let mut moved = true;
        match act {
            Act::LetGo(peer, tid) => {
                self.note_thread(*peer, choice.name.clone());
                let Some(process) = self.steering.as_mut().and_then(|s| s.processes.get_mut(peer)) else {
                    return Ok(());
                };
                let done = process.let_go(*tid);
                done.map_err(|e| Stop::harness(format!("a thread cannot be let go: {e}"), Span::default()))?;
            }
            Act::Deliver(link, channel, from) => moved = self.deliver_next(*link, *channel, *from),
            Act::Signal(link, id) => moved = self.deliver_signal(*link, *id),
            Act::Timer(place) => {
                let (_, peer, token) = self.timers.remove(*place);
                if let Some(back) = self.peers[peer.0].sim.back() {
                    back.timer(token);
                }
            }
            Act::Begin(track) => {
                if let Some(steering) = &mut self.steering {
                    steering.begins = Some(*track);
                }
            }
            Act::Kill(peer) => {
                self.signal_process(*peer, Signal::SIGKILL, Span::default())?;
                if let Some(steering) = &mut self.steering {
                    steering.killed = true;
                    // a dead process is not traced
                    steering.processes.remove(peer);
                }
            }
        }
        if let Some(steering) = &mut self.steering {
            if !moved {
                steering.stuck.push(choice.name.clone());
                return Ok(());
            }
            steering.stuck.clear();
            *steering.counts.entry(choice.base().to_owned()).or_default() += 1;
            if let Means::Crosses { pattern, .. } = &choice.means {
                *steering.counts.entry(pattern.clone()).or_default() += 1;
            }
        }
        Ok(())
    }
}

impl Choice {
    /// Its name without the number of times.
    pub(super) fn base(&self) -> &str {
        self.name.split(" (again: ").next().unwrap_or(&self.name)
    }
}

/// A message in words, and as a pattern of the scenario language. Addresses differ from run to run and are left out.
fn describe(message: &Message) -> (String, String) {
    let (fields, shown) = match &message.payload {
        Payload::VringState(state) if !message.is_reply() => (
            format!(", fields: {{index: {}, num: {}}}", state.index, state.num),
            format!(" index={} num={}", state.index, state.num),
        ),
        Payload::VringFd(fd) => (String::new(), format!(" index={}", fd.index)),
        _ => (String::new(), String::new()),
    };
    let name = message.name();
    let channel = match message.channel {
        Channel::Main => "",
        Channel::Backend => ", channel: backend",
    };
    match message.is_reply() {
        true => (format!("reply to {name}{shown}"), format!("reply_to: {name}{channel}")),
        false => (format!("{name}{shown}"), format!("message: {name}{channel}{fields}")),
    }
}

/// Whether beginning a step is worth a choice: the others only look, or wait.
pub(in crate::engine) fn is_chosen(step: &Step) -> bool {
    !matches!(
        step,
        Step::Expect(_)
            | Step::AnyOf(_)
            | Step::Unordered(_)
            | Step::Optional(_)
            | Step::Until(_)
            | Step::Never(_)
            | Step::Repeat(_)
            | Step::Sanity(_)
            | Step::Together(_)
            | Step::Barrier(_)
            | Step::Use(_)
            | Step::Hold(_)
            | Step::Drop(_)
            | Step::Duplicate(_)
            | Step::Reorder(_)
            | Step::Join(_)
            | Step::Split(_)
            | Step::Alter(_)
            | Step::Release(_)
            | Step::UntilHeld(_)
            | Step::UntilIdle(_)
            | Step::Await(_)
            | Step::Start(_)
    )
}
