//! Bringing a run to the next moment at which nothing goes on any more by itself: all that came has been taken in, all
//! strands of the script wait, and every thread of every process sleeps or is held. Then something is chosen, until the
//! script is through or nothing can happen any more.

use std::io;
use std::time::Duration;

use super::{CHOICES_MAX, Choice, Kind};
use crate::engine::failure::{Result, Stop, StopKind};
use crate::engine::gone;
use crate::engine::run::{Run, Token};
use crate::engine::steps::Waiting;
use crate::judge::verdict::FailKind;
use crate::link::End;
use crate::scenario::Diagnostic;
use crate::scenario::span::Span;
use crate::sys::clock::Moment;
use crate::sys::poll::wait;
use crate::sys::signal;
use crate::sys::steer::{Rest, Steered, Worth};
use crate::trace::{EventKind, PeerId};

/// Looks at a process that runs, after which the time between two is longer.
const EAGER_LOOKS: u32 = 400;
/// Pauses of a thread, after which it goes on by itself, that are waited for.
const PAUSE_MS_MAX: u64 = 60;
/// Between two looks then.
const LOOK_INTERVAL: Duration = Duration::from_micros(200);

/// Whether a step says that its peer did not do what the script expects.
fn is_expectation(stop: &Stop) -> bool {
    matches!(stop.kind, StopKind::Fail(FailKind::Wrong | FailKind::Hang))
}

/// How a run comes to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// The script is through.
    Done,
    /// Nothing happens by itself. A clock may still make something happen if `timed`.
    Quiet { timed: bool },
}

impl Run<'_> {
    /// Runs the script to its end, and all that is under way then.
    pub(in crate::engine) fn steered_script(&mut self) -> Result<()> {
        loop {
            let settled = self.settle()?;
            let mut choices = self.choices();
            if settled == Settled::Done {
                // what is left on the links may still make somebody fall
                choices.retain(|(choice, _)| !matches!(choice.kind, Kind::Step | Kind::Kill | Kind::Timer));
            }
            // somebody who looks for something every millisecond is at rest
            let only_timers = choices
                .iter()
                .all(|(choice, _)| matches!(choice.kind, Kind::Kill | Kind::Timer));
            let waits = self
                .steering
                .as_mut()
                .is_some_and(|s| s.has_waited_for_timers(only_timers));
            let can_happen = !waits && choices.iter().any(|(choice, _)| choice.kind != Kind::Kill);
            if !can_happen {
                // looking at what may go has shown what is held
                if settled != Settled::Done && self.advance_tracks()? {
                    continue;
                }
                match settled {
                    Settled::Done => return self.settle_answers(),
                    _ if self.is_killed() => return Ok(()),
                    Settled::Quiet { timed: true } if !self.is_past(self.deadline) => {
                        self.wait_for_clock()?;
                        continue;
                    }
                    Settled::Quiet { .. } => return Err(self.nothing_can_happen()),
                }
            }
            self.choose(choices)?;
        }
    }

    /// The script is through and nothing is under way: a program that owes an answer and does not give it will not.
    fn settle_answers(&mut self) -> Result<()> {
        if self.is_killed() {
            return Ok(());
        }
        self.let_all_go();
        self.await_answers()
    }

    fn choose(&mut self, choices: Vec<(Choice, super::choices::Act)>) -> Result<()> {
        let (listed, acts): (Vec<Choice>, Vec<_>) = choices.into_iter().unzip();
        let Some(steering) = &mut self.steering else {
            return Ok(());
        };
        if steering.made >= CHOICES_MAX {
            let message = format!("more than {CHOICES_MAX} things happened, and more can");
            return Err(Stop::fail(FailKind::Hang, Diagnostic::error(message)));
        }
        let chosen = steering.scheduler.choose(&listed).min(listed.len().saturating_sub(1));
        steering.made += 1;
        let now = steering.now();
        self.timeline.set_now(now);
        self.perform_choice(&listed[chosen], &acts[chosen])
    }

    fn settle(&mut self) -> Result<Settled> {
        let patience = self.clock.now().plus_ms(PAUSE_MS_MAX);
        if let Some(steering) = &mut self.steering {
            steering.patience = patience;
        }
        let mut looks = 0;
        loop {
            self.relay();
            self.check_always()?;
            // a step that begins may have something to send and then wait
            let went_on = match self.advance_tracks() {
                // who is gone cannot do what the script expects of them; the others must not fall, that is all
                Err(stop) if self.is_killed() && is_expectation(&stop) => return Ok(Settled::Done),
                went_on => went_on?,
            };
            if went_on || self.take_outputs() {
                self.check_limit()?;
                looks = 0;
                continue;
            }
            if self.heeds_signals && signal::interrupted() {
                return Err(gone::interrupted());
            }
            if self.is_past(self.deadline) {
                self.check_limit()?;
            }
            if self.take_in_all()? || self.attend()? {
                looks = 0;
                continue;
            }
            let connecting =
                |track: &crate::engine::tracks::Track| matches!(track.waiting, Some(Waiting::Connection(_)));
            if self.tracks.iter().any(connecting) {
                self.wait_for_events()?;
                continue;
            }
            match self.all_at_rest()? {
                // what somebody said before it fell asleep is there now
                Some(_) if self.take_in_all()? => {}
                Some(_) if self.tracks[0].is_done() => return Ok(Settled::Done),
                Some(rest) => {
                    let timed = rest == Rest::Timed;
                    return Ok(Settled::Quiet { timed });
                }
                None => {
                    looks += 1;
                    match looks > EAGER_LOOKS {
                        true => std::thread::sleep(LOOK_INTERVAL),
                        false => std::thread::yield_now(),
                    }
                }
            }
        }
    }

    /// Takes in all that has come. True if there was something.
    fn take_in_all(&mut self) -> Result<bool> {
        let ready = wait(&self.interests(), Some(Duration::ZERO));
        let ready = ready.map_err(|e| Stop::harness(format!("poll: {e}"), Span::default()))?;
        let mut some = !ready.is_empty();
        if ready.iter().any(|token| matches!(token, Token::Qemu(_))) {
            self.read_all_streams();
        }
        for token in ready {
            self.take_in(token);
        }
        for (link, channel, party) in self.streams_with_pieces() {
            let left = |run: &Self| match run.links[link.0].socket_ref(channel).end_ref(party) {
                End::Remote(stream) => stream.queued_bytes(),
                _ => 0,
            };
            let before = left(self);
            some |= self.read_stream(link, channel, party) || left(self) != before;
        }
        self.repeat_signals();
        self.look_at_rings();
        Ok(some)
    }

    /// Lets traced threads run on through what is nobody's choice. True if there was something.
    fn attend(&mut self) -> Result<bool> {
        let Some(steering) = &mut self.steering else {
            return Ok(false);
        };
        let relays = self.links.iter().flat_map(|link| link.relays.iter());
        let signals: Vec<u64> = relays.filter_map(|relay| relay.sink_id).collect();
        let worth = match steering.limits.every_wake {
            true => Worth::Everything,
            false => Worth::Events(&signals),
        };
        let mut some = false;
        for process in steering.processes.values_mut() {
            some |= process.attend(worth).map_err(|error| refused(&error))?;
        }
        Ok(some)
    }

    /// How all processes rest; nothing if one of them does not.
    fn all_at_rest(&mut self) -> Result<Option<Rest>> {
        let mut all = Rest::Asleep;
        for at in 0..self.peers.len() {
            let peer = &self.peers[at];
            let Some(steering) = &mut self.steering else { break };
            let running = peer
                .child
                .as_ref()
                .filter(|child| child.exit().is_none() && !peer.stopped);
            let Some(pid) = running.map(crate::sys::child::Child::pid) else {
                if !peer.stopped {
                    steering.processes.remove(&PeerId(at));
                }
                continue;
            };
            let process = steering.processes.entry(PeerId(at)).or_insert_with(|| Steered::of(pid));
            if process.pid() != pid {
                *process = Steered::of(pid);
            }
            match process.rest() {
                Ok(Rest::Busy) => return Ok(None),
                // what it does after a short pause belongs to what it has been doing
                Ok(Rest::Pausing)
                    if self.clock.now() < self.steering.as_ref().map_or(Moment::default(), |s| s.patience) =>
                {
                    return Ok(None);
                }
                Ok(Rest::Pausing) => all = Rest::Timed,
                Ok(rest) => all = if rest == Rest::Timed { rest } else { all },
                // its end comes as an event of its own
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(refused(&error)),
            }
        }
        Ok(Some(all))
    }

    /// Only a clock can make something happen: waits until one does.
    fn wait_for_clock(&mut self) -> Result<()> {
        let before = self.timeline.end();
        loop {
            self.relay();
            self.check_always()?;
            if self.take_in_all()? || self.attend()? || self.advance_tracks()? || self.timeline.end() != before {
                return Ok(());
            }
            if self.heeds_signals && signal::interrupted() {
                return Err(gone::interrupted());
            }
            if self.is_past(self.deadline) || self.all_at_rest()?.is_none() {
                return Ok(());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Everybody rests, nothing is under way, and the script still waits: it would wait for ever.
    fn nothing_can_happen(&mut self) -> Box<Stop> {
        // of several strands, one that waits for a peer
        let waits = |track: &crate::engine::tracks::Track| track.waiting.as_ref().is_some_and(|w| !w.is_for_tracks());
        let at = self.tracks.iter().position(waits).unwrap_or(0);
        let (Some(step), Some(waiting)) = (self.tracks[at].step(), self.tracks[at].waiting.take()) else {
            return Stop::fail(FailKind::Hang, Diagnostic::error("nothing can happen any more"));
        };
        let mut stop = self.timed_out(at, step, &waiting);
        stop.diagnostic.label =
            Some("nothing can happen any more: every peer rests, and nothing is under way".to_owned());
        stop
    }

    /// Whether somebody was killed who was to live.
    pub(in crate::engine) fn is_killed(&self) -> bool {
        self.steering.as_ref().is_some_and(|steering| steering.killed)
    }

    /// Ends holding threads, for the rest of the run.
    pub(in crate::engine) fn let_all_go(&mut self) {
        if let Some(steering) = &mut self.steering {
            steering.processes.clear();
        }
    }

    /// Whether nothing is left to arrive at a peer, and none of its threads is held.
    pub(in crate::engine) fn is_idle_steered(&mut self, peer: PeerId) -> Result<bool> {
        if self.all_at_rest()?.is_none() {
            return Ok(false);
        }
        let choices = self.choices();
        let name = self.peers[peer.0].spec.name.clone();
        let concerns = |choice: &Choice| match choice.kind {
            Kind::Step | Kind::Kill => false,
            _ => choice.between.1.as_deref() == Some(name.as_str()),
        };
        Ok(!choices.iter().any(|(choice, _)| concerns(choice)))
    }

    pub(super) fn note_thread(&mut self, peer: PeerId, what: String) {
        let link = self.peers[peer.0].link;
        self.record(Some(peer), link, EventKind::Thread { what });
    }
}

/// Looking at a process, or tracing it, did not work.
fn refused(error: &io::Error) -> Box<Stop> {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let message = format!(
                "ptrace is not permitted here, which exploring a process needs ({error}); `vuh doctor` shows the ptrace scope"
            );
            Box::new(Stop {
                kind: StopKind::Unsupported,
                diagnostic: Diagnostic::error(message),
            })
        }
        _ => Stop::harness(
            format!("the threads of the process cannot be looked at: {error}"),
            Span::default(),
        ),
    }
}
