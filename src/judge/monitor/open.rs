//! Requests that wait for their answers, and which of them a reply answers (I1 to I3). One queue for each socket.

use std::collections::VecDeque;

use super::look::Facts;
use crate::trace::Seq;
use crate::wire::{Due, Message, ProtocolFeature, ReplyKind, id};

/// Requests kept of one socket. The oldest that need no answer go first.
pub const OPEN_MAX: usize = 1024;

/// A request that may still be answered.
#[derive(Debug, Clone)]
pub struct Open {
    /// Its event.
    pub seq: Seq,
    /// The request.
    pub message: Message,
    /// Whether an answer has to come.
    pub due: Due,
    /// REPLY_ACK was negotiated when it was sent.
    pub reply_ack: bool,
    /// Its answer is the table of postcopy.
    pub wants_table: bool,
    /// The script broke a rule with it, so that whatever comes is right.
    pub free: bool,
    /// The script answers it, when and how it likes.
    pub by_hand: bool,
}

/// What a reply answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// The request at this place; one before it had to be answered first.
    Answers {
        /// Place in the queue.
        at: usize,
        /// Place of the oldest request that it overtook.
        overtook: Option<usize>,
    },
    /// That request must not be answered.
    Unasked(usize),
    /// The request last answered, once more.
    Again,
    /// Another request has to be answered, and none of this id waits.
    OtherId(usize),
    /// Nothing waits.
    Nothing,
    /// Something of the script's is open, so nothing can be said.
    Free,
}

/// The open requests of one socket.
#[derive(Debug, Default)]
pub struct Queue {
    open: VecDeque<Open>,
    last: Option<u32>,
}

impl Queue {
    /// What `reply` answers.
    pub fn find(&self, reply: &Message) -> Match {
        let same = |open: &Open| open.message.request == reply.request;
        let owed = |open: &Open| open.due == Due::Required && !open.free && !open.by_hand;
        let wanted = self
            .open
            .iter()
            .position(|o| same(o) && (o.due != Due::Forbidden || o.free));
        if let Some(at) = wanted {
            let overtook = self.open.iter().take(at).position(owed);
            return Match::Answers { at, overtook };
        }
        if self.open.iter().any(|o| o.free) {
            return Match::Free;
        }
        if let Some(at) = self.open.iter().position(same) {
            return Match::Unasked(at);
        }
        if self.last == Some(reply.request) {
            return Match::Again;
        }
        match self.open.iter().position(owed) {
            Some(at) => Match::OtherId(at),
            None => Match::Nothing,
        }
    }

    /// The request at a place.
    pub fn get(&self, at: usize) -> Option<&Open> {
        self.open.get(at)
    }

    /// Adds a request.
    pub fn push(&mut self, open: Open) {
        if self.open.len() >= OPEN_MAX {
            let spare = self.open.iter().position(|o| o.due != Due::Required).unwrap_or(0);
            self.open.remove(spare);
        }
        self.open.push_back(open);
    }

    /// Takes the request out that was answered, with those before it that will not be answered any more.
    pub fn take(&mut self, at: usize) -> Option<Open> {
        let taken = self.open.remove(at)?;
        let keep = |o: &Open| o.by_hand || o.free || o.due == Due::Required;
        let mut place = 0;
        self.open.retain(|o| {
            place += 1;
            place > at || keep(o)
        });
        // which of two was meant is not certain, so the later one is not owed an answer any more
        if taken.due == Due::Open {
            let request = taken.message.request;
            let later = self.open.iter_mut().find(|o| o.message.request == request);
            if let Some(later) = later {
                later.due = Due::Open;
            }
        }
        self.last = Some(taken.message.request);
        Some(taken)
    }

    /// What had to be answered and was not.
    pub fn owed(&self) -> impl Iterator<Item = &Open> {
        self.open
            .iter()
            .filter(|o| o.due == Due::Required && !o.free && !o.by_hand)
    }
}

/// Whether an answer to a request is due, as things stand.
pub fn due(facts: &Facts, message: &Message) -> Due {
    let Some(spec) = message.spec() else {
        // refused with an answer, or with a closed connection (VU-ROB-01)
        return Due::Open;
    };
    let need_reply = message.needs_reply();
    let due = match (message.request, &message.payload) {
        (id::frontend::SET_PROTOCOL_FEATURES, _) if need_reply => Due::Open,
        _ if spec.reply.kind == ReplyKind::PostcopyTable => {
            let acked = need_reply && facts.has(ProtocolFeature::ReplyAck);
            match (facts.wants_table(message), acked, need_reply) {
                (true, ..) | (_, true, _) => Due::Required,
                (_, _, true) => Due::Open,
                _ => Due::Forbidden,
            }
        }
        _ => spec.reply.due(need_reply, facts.protocol),
    };
    let own = matches!(spec.reply.kind, ReplyKind::Always | ReplyKind::FdOnly);
    if facts.negotiation_is_uncertain && !own {
        return Due::Open;
    }
    due
}
