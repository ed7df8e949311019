//! What the two parties of a link know. While a link is left alone, both know what was sent. Where the script takes a hand in
//! what crosses it, each knows what it has sent itself and what has reached it, and is judged by that: a request that was
//! dropped is one that its sender made and the other side never saw.

use super::apply::Terms;
use super::dialect::Both;
use super::look::{Facts, Look, index, side};
use super::open::Match;
use super::profile::Profile;
use super::{Blame, Found, Script, check_message, rule, rules};
use crate::trace::{EventKind, FdNote, Seq};
use crate::wire::{Channel, Message, Party};

/// Messages with something wrong in them that are remembered until they arrive.
const WRONG_MAX: usize = 1024;

/// A message as it reaches somebody.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// The event that it comes of.
    pub seq: Seq,
    /// Who sent it, or is made out to have.
    pub from: Party,
    /// What it says now.
    pub message: &'a Message,
    /// What is attached now.
    pub fds: &'a [FdNote],
    /// Bytes of payload that its header announces.
    pub size: u32,
}

/// One link.
#[derive(Debug)]
pub(super) struct Session {
    /// What was sent, whatever became of it. Not certain once the script has taken a hand.
    pub(super) sent: Facts,
    /// What the front-end and the back-end know, where arrivals are told.
    known: Option<Box<[Facts; 2]>>,
    pub(super) tells_arrivals: bool,
    /// What arrives may be something else than what was sent.
    is_disturbed: bool,
    /// Messages on their way that broke a rule when they were sent.
    wrong: Vec<(Seq, Blame)>,
    pub(super) profile: Profile,
    pub(super) scripts: [Script; 2],
    /// On a link in another dialect than vhost-user.
    pub(super) both: Both,
}

impl Session {
    pub(super) fn new(profile: Profile) -> Self {
        Self {
            sent: Facts::default(),
            known: None,
            tells_arrivals: false,
            is_disturbed: false,
            wrong: Vec::new(),
            profile,
            scripts: Default::default(),
            both: Both::default(),
        }
    }

    /// A connection begins.
    pub(super) fn connected(&mut self) {
        (self.sent, self.both) = (Facts::default(), Both::default());
        self.known = self.tells_arrivals.then(Box::default);
        self.is_disturbed = false;
        self.wrong.clear();
    }

    pub(super) fn disturbed(&mut self) {
        self.sent.is_lost = true;
        self.is_disturbed = true;
    }

    /// What a party knows.
    fn facts(&self, party: Party) -> &Facts {
        self.known.as_ref().map_or(&self.sent, |known| &known[side(party)])
    }

    /// What is wrong with a message of a party, as far as it can know.
    pub(super) fn check(&self, from: Party, message: &Message, fds: &[FdNote], size: u32) -> Found {
        let facts = self.facts(from);
        if facts.is_lost {
            return Found::default();
        }
        facts.check(from, message, fds, size, self.profile)
    }

    /// The same for something that is no message.
    pub(super) fn check_event(&self, party: Party, kind: &EventKind) -> Found {
        let (facts, mut found) = (self.facts(party), Found::default());
        if facts.is_lost {
            return found;
        }
        for rule in rules() {
            if let rule::Check::Event(check) = rule.check
                && let Some(finding) = check(facts, kind)
            {
                found.add(rule, finding, self.profile);
            }
        }
        found
    }

    /// Takes in what a party has sent.
    pub(super) fn sent(&mut self, seq: Seq, from: Party, message: &Message, size: u32, blame: Blame) {
        let by_hand = self.is_by_hand(from, message);
        self.sent.take_in(seq, from, message, size, by_hand, blame);
        if let Some(known) = &mut self.known {
            known[side(from)].take_in(seq, from, message, size, by_hand, blame);
            if blame.is_free && self.wrong.len() < WRONG_MAX {
                self.wrong.push((seq, blame));
            }
        }
    }

    /// Takes in what reaches a party. What is wrong with it was found when it was sent, or is the script's.
    pub(super) fn arrived(&mut self, arrival: &Arrival) {
        let Arrival {
            seq,
            from,
            message,
            fds,
            size,
        } = *arrival;
        let by_hand = self.is_by_hand(from, message);
        let (profile, is_disturbed) = (self.profile, self.is_disturbed);
        let wrong = self.wrong.iter().find(|(wrong, _)| *wrong == seq);
        let mut blame = wrong.map_or(Blame::default(), |(_, blame)| *blame);
        let Some(known) = self.known.as_mut().filter(|_| !message.dialect.is_pci()) else {
            return;
        };
        let facts = &mut known[side(from.other())];
        // it may be right for who sent it and wrong for whom it reaches: that knows of something else
        if is_disturbed && !facts.is_lost && !facts.check(from, message, fds, size, profile).broken.is_empty() {
            blame = Blame {
                is_free: true,
                is_deliberate: true,
            };
        }
        facts.take_in(seq, from, message, size, by_hand, blame);
    }

    /// Takes in what both sides see at once; a close is only its own side's affair until it arrives.
    pub(super) fn take_event(&mut self, kind: &EventKind) {
        self.sent.take_event(kind);
        let Some(known) = &mut self.known else { return };
        match kind {
            EventKind::Closed { from, .. } => known[side(*from)].take_event(kind),
            _ => known.iter_mut().for_each(|facts| facts.take_event(kind)),
        }
    }

    pub(super) fn close_arrived(&mut self, channel: Channel, from: Party) {
        if let Some(known) = &mut self.known {
            known[side(from.other())].closed[index(channel)][side(from)] = true;
        }
    }

    pub(super) fn owed(&self) -> Vec<Seq> {
        let of = |channel: Channel| {
            let facts = self.facts(channel.requester().other());
            let queue = (!facts.is_lost).then(|| facts.queue(channel).owed());
            queue.into_iter().flatten().map(|open| open.seq)
        };
        Channel::ALL.into_iter().flat_map(of).collect()
    }

    /// Whether the script answers it.
    fn is_by_hand(&self, from: Party, message: &Message) -> bool {
        self.scripts[side(from.other())].answers.contains(&message.request)
    }
}

impl Facts {
    fn check(&self, from: Party, message: &Message, fds: &[FdNote], size: u32, profile: Profile) -> Found {
        let look = Look {
            facts: self,
            from,
            message,
            fds,
            size,
            spec: message.spec(),
            matched: self.matched(from, message),
        };
        if look.is_free() {
            return Found::default();
        }
        check_message(&look, profile)
    }

    fn take_in(&mut self, seq: Seq, from: Party, message: &Message, size: u32, by_hand: bool, blame: Blame) {
        if self.is_lost {
            return;
        }
        let matched = self.matched(from, message);
        let free = blame.is_free;
        self.apply(seq, from, message, matched, Terms { free, by_hand });
        if blame.is_deliberate {
            self.disturb(message);
        }
        // a script announced another size than it sent: the peer waits for the rest, or takes it for a header
        if usize::try_from(size).unwrap_or(usize::MAX) != message.payload.encode().len() {
            self.is_lost = true;
        }
    }

    /// What a message answers, if it is in the direction of replies.
    fn matched(&self, from: Party, message: &Message) -> Option<Match> {
        let channel = message.channel;
        let answers = message.is_reply() && from == channel.requester().other();
        answers.then(|| self.queue(channel).find(message))
    }
}

impl Look<'_> {
    /// Whether it answers what the script did wrong, or may.
    fn is_free(&self) -> bool {
        match self.matched {
            Some(Match::Free) => true,
            Some(Match::Answers { .. }) => self.answered().is_some_and(|open| open.free),
            _ => false,
        }
    }
}
