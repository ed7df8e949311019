//! What a step waits for, and what is said when it has waited in vain.

use super::super::failure::Stop;
use super::super::resolve::Player;
use super::super::run::Run;
use super::rings::chains;
use super::{Waiting, name};
use crate::judge::matcher::Matcher;
use crate::judge::verdict::FailKind;
use crate::scenario::Diagnostic;
use crate::scenario::model::Step;
use crate::scenario::span::At;
use crate::trace::{EventKind, Seq};
use crate::wire::Party;

impl Run<'_> {
    /// What a step waits for, in words.
    pub(in super::super) fn waits_for(&self, waiting: &Waiting) -> String {
        match waiting {
            Waiting::OneOf { matchers, .. } => list(matchers, " or "),
            Waiting::All(unordered) => list(&unordered.missing(), " and "),
            Waiting::Connection(link) => self.missing_end(*link),
            Waiting::Front { peer, .. } | Waiting::Answered(peer) => self.front_waits_for(*peer),
            Waiting::Qemu(peer, _) if self.peers[peer.0].spec.has_guest() => {
                "the answer of QEMU or its guest".to_owned()
            }
            Waiting::Qemu(..) | Waiting::Calls { .. } => "QEMU's answer".to_owned(),
            Waiting::Replay(replaying) => replaying.waits_for(),
            Waiting::Schedule(scheduled) => scheduled.waits_for(),
            Waiting::Delivery(delivery) => delivery.waits_for(),
            Waiting::Traffic(id) => self.delivery_waits_for(*id),
            Waiting::Submitted(submitted) => submitted.waits_for(),
            Waiting::Echo { open, left, .. } => format!("{} more echoes", open.len() as u64 + left),
            Waiting::Tracks => "the tracks of `together` to end".to_owned(),
            Waiting::Barrier(name) => format!("the other tracks at the barrier `{name}`"),
            Waiting::OpenRequest { .. } => "a request to reply to".to_owned(),
            Waiting::Restart(peer) => format!("the end of `{}`", self.peers[peer.0].spec.name),
            Waiting::Thread(wanted) => self.thread_wanted(wanted),
            Waiting::Held(name) => self.hold_waits_for(name),
            Waiting::LetGo(name) => format!("the thread of `{name}` to go on"),
            Waiting::Idle(peer) => format!("every thread of `{}` to sleep", self.peers[peer.0].spec.name),
            Waiting::Ring { ring, wanted, .. } => chains(*ring, Some(*wanted)),
            Waiting::InFlight { ring, wanted, .. } => format!("{wanted} requests in flight on ring {ring}"),
            Waiting::Nothing => "nothing".to_owned(),
        }
    }

    /// A step has waited in vain. A process that crashed meanwhile is the better explanation.
    pub(in super::super) fn timed_out(&self, at: usize, step: &At<Step>, waiting: &Waiting) -> Box<Stop> {
        let limit = if self.tracks[at].deadline >= self.deadline {
            "the scenario's"
        } else {
            "the step's"
        };
        let mut diagnostic = Diagnostic::error(format!("`{}` waited in vain", name(&step.value)))
            .at(step.span)
            .label(format!("{limit} limit was reached here"))
            .expected_actual(self.waits_for(waiting), self.what_is_there(waiting));
        for line in self.stuck() {
            diagnostic = diagnostic.footer(format!("because   {line}"));
        }
        match self.ended_by_itself() {
            Some((peer, exit)) => {
                let footer = format!("because   `{}` ended: {exit}", peer.spec.name);
                Stop::fail(FailKind::of_end(exit), diagnostic.footer(footer))
            }
            None if self.is_nobody_there(waiting) => Stop::fail(FailKind::Start, diagnostic),
            None => Stop::fail(FailKind::Hang, diagnostic),
        }
    }

    /// A peer that others should have started has never been seen.
    fn is_nobody_there(&self, waiting: &Waiting) -> bool {
        let Waiting::Connection(link) = waiting else {
            return false;
        };
        let link = &self.links[link.0];
        let absent = |party| {
            let peer = &self.peers[link.peer(party).0];
            matches!(peer.spec.player, Player::Connect(_) | Player::Listen(_)) && !link.main.end_ref(party).is_open()
        };
        link.generation == 0 && (absent(Party::FrontEnd) || absent(Party::BackEnd))
    }

    /// How far it has come with what a step waits for.
    fn what_is_there(&self, waiting: &Waiting) -> String {
        match waiting {
            Waiting::Ring { link, ring, .. } => chains(*ring, self.ring_seen(*link, *ring)),
            _ => self.what_came_instead(),
        }
    }

    /// The last thing that any peer did, for a person who wonders what it is doing.
    pub(in super::super) fn what_came_instead(&self) -> String {
        let last = self
            .timeline
            .since(Seq(0))
            .filter(|(_, e)| !matches!(e.kind, EventKind::Step { .. }));
        match last.last() {
            Some((seq, event)) => format!(
                "nothing came after {} ({:.3} ms)",
                self.timeline.describe(seq),
                event.at.ms()
            ),
            None => "nothing came at all".to_owned(),
        }
    }
}

fn list(matchers: &[(Matcher, Option<String>)], separator: &str) -> String {
    let all: Vec<String> = matchers.iter().map(|(m, _)| m.to_string()).collect();
    all.join(separator)
}
