//! After the last step: answers that are still due are waited for, so that what is judged over the whole timeline, and
//! what must never happen, sees them too.

use super::failure::Result;
use super::run::Run;
use crate::link::{End, Kept};
use crate::trace::LinkId;
use crate::wire::Party;

impl Run<'_> {
    /// Waits until no program owes an answer, or the scenario's limit is reached. What is missing then is for the checks to
    /// say. What somebody keeps back on purpose is not waited for.
    pub(super) fn await_answers(&mut self) -> Result<()> {
        while self.owes_answers() && !self.has_run_out(self.deadline) {
            self.wait_for_events()?;
            self.relay();
            self.check_always()?;
        }
        Ok(())
    }

    fn owes_answers(&self) -> bool {
        (0..self.links.len()).map(LinkId).any(|link| {
            let owed = self.watchers.owed(link);
            owed.iter().any(|seq| self.may_come(link, *seq))
        })
    }

    /// Whether the answer to a request can come of itself: a program has been given it, runs, and is still connected. A
    /// simulated peer has answered at once, unless the scenario keeps it from answering.
    fn may_come(&self, link: LinkId, request: crate::trace::Seq) -> bool {
        let Some(message) = self.timeline.get(request).and_then(|event| event.kind.message()) else {
            return false;
        };
        let socket = self.links[link.0].socket_ref(message.channel);
        let asks = message.channel.requester();
        let answers = socket.end_ref(asks.other());
        if !matches!(answers, End::Remote(_)) || !socket.end_ref(asks).is_open() {
            return false;
        }
        let peer = self.links[link.0].peer(asks.other());
        let state = &self.peers[peer.0];
        let kept = |from: Party| {
            let mut items = socket.under_way(from);
            items.any(|item| matches!(item.kept, Some(Kept::By(_) | Kept::Behind(_))))
        };
        // it does what a schedule says, and nothing of itself
        if state.spec.modelled {
            return false;
        }
        let held = self.threads.iter().any(|hold| hold.is_of(peer));
        !state.stopped && !state.asked_to_end && !state.has_ended() && !held && !kept(asks) && !kept(asks.other())
    }
}
