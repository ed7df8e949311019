//! Peers that are gone while something of them is still waited for: how they ended, and what that makes of the run.

use super::failure::{Result, Stop, StopKind};
use super::peers::PeerState;
use super::resolve::Player;
use super::run::Run;
use super::steps::Waiting;
use crate::judge::matcher::{Matcher, Stream};
use crate::judge::verdict::FailKind;
use crate::scenario::Diagnostic;
use crate::scenario::span::Span;
use crate::sys::child::Exit;
use crate::sys::clock::Moment;
use crate::sys::poll::wait_to_read;
use crate::sys::signal;
use crate::trace::{EventKind, LinkId, PeerId};
use crate::wire::{Channel, Party};

/// How long the end of a process that has closed its socket is waited for, to tell a crash from a close.
const END_GRACE_MS: u64 = 200;

/// Who is gone, as the last line of a failure says it.
type Gone = (FailKind, String);

impl Run<'_> {
    /// Waits for the end of a process, for a while. Other peers are not looked after meanwhile.
    pub(super) fn wait_for_end(&mut self, peer: PeerId, deadline: Moment) -> Result<Option<Exit>> {
        loop {
            self.collect_child(peer);
            let Some(child) = &self.peers[peer.0].child else {
                return Ok(None);
            };
            if child.exit().is_some() || self.has_run_out(deadline) {
                return Ok(child.exit());
            }
            let interrupt = signal::interrupt_fd().filter(|_| self.heeds_signals);
            let fds = child.watch().chain(interrupt);
            wait_to_read(fds, Some(self.clock.until(self.extended(deadline))))
                .map_err(|e| Stop::harness(format!("poll: {e}"), Span::default()))?;
            if self.heeds_signals && signal::interrupted() {
                return Err(interrupted());
            }
        }
    }

    /// How a peer is gone that has closed its socket or was found to have ended. A process that closes its socket mostly
    /// ends, and how it ended is worth waiting for.
    pub(super) fn how_gone(&mut self, peer: PeerId) -> Result<Gone> {
        // a thread that is held could not end
        self.let_all_go();
        let deadline = self.clock.now().plus_ms(END_GRACE_MS);
        let exit = self.wait_for_end(peer, deadline)?;
        let state = &self.peers[peer.0];
        let name = &state.spec.name;
        Ok(match exit {
            None => (FailKind::Wrong, format!("`{name}` closed the connection")),
            Some(exit) if state.asked_to_end => (FailKind::Wrong, format!("`{name}` ended as asked: {exit}")),
            Some(exit) => (FailKind::of_end(exit), format!("`{name}` ended: {exit}")),
        })
    }

    /// Fails an expectation of which nothing came, if nothing can come any more.
    pub(super) fn check_gone(&mut self, span: Span, matchers: &[(Matcher, Option<String>)]) -> Result<()> {
        let all_gone = matchers.iter().all(|(m, _)| self.is_exhausted(m.stream));
        let (true, Some((first, _))) = (all_gone, matchers.first()) else {
            return Ok(());
        };
        let (kind, actual) = self.how_gone(first.stream.peer())?;
        let expected: Vec<String> = matchers.iter().map(|(m, _)| m.to_string()).collect();
        let diagnostic = Diagnostic::error("the peer is gone before what was expected came")
            .at(span)
            .expected_actual(expected.join(" or "), actual);
        Err(Stop::fail(kind, diagnostic))
    }

    /// Whether a stream will never have another event.
    fn is_exhausted(&self, stream: Stream) -> bool {
        let state = &self.peers[stream.peer().0];
        if state.has_ended() {
            return !matches!(stream, Stream::Exits(_));
        }
        let (Stream::Messages(_, Channel::Main, on), Some(last)) = (stream, state.link) else {
            return false;
        };
        let link = &self.links[on.unwrap_or(last).0];
        link.generation > 0 && !link.main.end_ref(state.spec.party).is_open()
    }

    /// Fails a simulated front-end's wait for the other side, if that is gone.
    pub(super) fn check_front_gone(&mut self, peer: PeerId, span: Span, waits_for: &str) -> Result<()> {
        match self.peers[peer.0].link {
            Some(link) if self.was_cut(link) => self.lost(link, span, waits_for),
            _ => Ok(()),
        }
    }

    /// Fails a step that waits for something to cross a link, if one of the link's processes has ended by itself, or the
    /// connection is gone and nothing is under way that could make another one.
    pub(super) fn check_link(&mut self, at: usize, span: Span, waiting: &Waiting) -> Result<()> {
        let (peer, by_socket) = match waiting {
            Waiting::Delivery(delivery) => (delivery.from(), true),
            Waiting::Traffic(id) => (self.delivery_from(*id), true),
            Waiting::Submitted(submitted) => (submitted.peer(), true),
            Waiting::Echo { peer, .. } | Waiting::OpenRequest { peer, .. } => (*peer, true),
            // QEMU carries on without its back-end, and may connect again
            Waiting::Qemu(peer, _) | Waiting::Calls { peer, .. } => (*peer, false),
            _ => return Ok(()),
        };
        let used = match waiting {
            Waiting::Delivery(delivery) => self.link_with(delivery.from(), delivery.to()),
            _ => self.peers[peer.0].link,
        };
        let Some(link) = used else {
            return Ok(());
        };
        let ends = [self.links[link.0].front, self.links[link.0].back];
        let one_ended = ends.iter().any(|end| has_ended_by_itself(&self.peers[end.0]));
        let alone = self
            .tracks
            .iter()
            .enumerate()
            .all(|(i, track)| i == at || track.is_done() || !track.children.is_empty());
        if one_ended || by_socket && alone && self.was_cut(link) {
            let waits_for = self.waits_for(waiting);
            return self.lost(link, span, &waits_for);
        }
        Ok(())
    }

    /// A link was connected, and is so no more.
    fn was_cut(&self, link: LinkId) -> bool {
        let link = &self.links[link.0];
        link.generation > 0 && !link.is_connected()
    }

    fn lost(&mut self, link: LinkId, span: Span, waits_for: &str) -> Result<()> {
        let (front, back) = (self.links[link.0].front, self.links[link.0].back);
        // both ends are down by now; the one with something to tell is the culprit
        let culprit = [front, back]
            .into_iter()
            .find(|end| has_ended_by_itself(&self.peers[end.0]))
            .unwrap_or(
                if self.peers[back.0].spec.is_simulated() && !self.peers[front.0].spec.is_simulated() {
                    front
                } else {
                    back
                },
            );
        let (kind, actual) = self.how_gone(culprit)?;
        let diagnostic = Diagnostic::error("the connection is gone")
            .at(span)
            .expected_actual(waits_for, actual);
        Err(Stop::fail(kind, diagnostic))
    }

    /// A process that should have made a connection has ended.
    pub(super) fn check_starting(&self, link: LinkId, span: Span) -> Result<()> {
        for party in [Party::FrontEnd, Party::BackEnd] {
            let state = &self.peers[self.links[link.0].peer(party).0];
            let open = self.links[link.0].main.end_ref(party).is_open();
            if let (false, Some(exit)) = (open, state.child.as_ref().and_then(|c| c.exit())) {
                let message = format!(
                    "`{}` ({}) ended before it was connected",
                    state.spec.name, state.spec.label
                );
                // one that has been connected before did start
                let kind = match exit {
                    _ if exit.is_crash() && !state.asked_to_end => FailKind::Crash,
                    _ if self.links[link.0].generation == 0 => FailKind::Start,
                    _ => FailKind::Wrong,
                };
                let diagnostic = Diagnostic::error(message)
                    .at(span)
                    .expected_actual("a connection", format!("it ended: {exit}"));
                return Err(Stop::fail(kind, diagnostic));
            }
        }
        Ok(())
    }

    /// The first process that has ended by itself when it should not have, and how.
    pub(super) fn ended_by_itself(&self) -> Option<(&PeerState, Exit)> {
        let mut ended = self.peers.iter().filter(|peer| has_ended_by_itself(peer));
        ended.find_map(|peer| Some((peer, peer.child.as_ref()?.exit()?)))
    }

    /// Gives a process that has closed its connection the time to end by itself, so that being asked to end does not hide
    /// a crash.
    pub(super) fn await_own_end(&mut self, peer: PeerId) -> Result<()> {
        let Some(link) = self.peers[peer.0].link else {
            return Ok(());
        };
        let closes = self.timeline.events().iter().rev().find_map(|event| match &event.kind {
            EventKind::Connected { .. } if event.link == Some(link) => Some(false),
            EventKind::Closed {
                channel: Channel::Main, ..
            } if event.link == Some(link) => Some(event.peer == Some(peer)),
            _ => None,
        });
        if closes == Some(true) {
            let deadline = self.clock.now().plus_ms(END_GRACE_MS);
            self.wait_for_end(peer, deadline)?;
        }
        Ok(())
    }
}

/// The run was interrupted.
pub(super) fn interrupted() -> Box<Stop> {
    let diagnostic = Diagnostic::error("interrupted");
    Box::new(Stop {
        kind: StopKind::Interrupted,
        diagnostic,
    })
}

fn has_ended_by_itself(peer: &PeerState) -> bool {
    let Some(exit) = peer.child.as_ref().and_then(|c| c.exit()) else {
        return false;
    };
    let own_end = matches!(&peer.spec.player, Player::Program(entry) if entry.ends_with_connection);
    !peer.asked_to_end && peer.spec.exit.is_none() && !(own_end && exit == Exit::Status(0))
}
