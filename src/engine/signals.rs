//! Kicks, calls and errors that go through the harness: eventfds replaced as the messages bring them, each signal an event,
//! passed on as the script lets it.

use std::os::fd::{AsFd, OwnedFd};

use super::control::{Act, Fate};
use super::run::Run;
use crate::link::signals::{Relay, Signal};
use crate::sys::fd::{FdType, fd_type};
use crate::trace::{EventKind, LinkId, Meddling, PeerId, SignalKind};
use crate::wire::{Channel, Message, Party, Payload, id};

impl Run<'_> {
    /// Puts an eventfd of the harness in the place of the one that a message brings, if its signals are to be relayed.
    pub(super) fn divert(&mut self, link: LinkId, from: Party, message: &Message, fds: &mut [OwnedFd]) {
        let kind = match (from, message.channel, message.request) {
            (Party::FrontEnd, Channel::Main, id::frontend::SET_VRING_KICK) => SignalKind::Kick,
            (Party::FrontEnd, Channel::Main, id::frontend::SET_VRING_CALL) => SignalKind::Call,
            (Party::FrontEnd, Channel::Main, id::frontend::SET_VRING_ERR) => SignalKind::Error,
            _ => return,
        };
        let (Payload::VringFd(ring), [fd], false) = (&message.payload, fds, message.is_reply()) else {
            return;
        };
        let relays = &mut self.links[link.0].relays;
        if !relays.has(kind) || fd_type(fd.as_fd()) != FdType::Eventfd {
            return;
        }
        match relays.divert(kind, u16::from(ring.index), fd) {
            // what was signalled before is there as soon as the message is
            Ok(Some(id)) => drop(self.take_signal(link, id)),
            Ok(None) => self.not_relayed(link, kind, "there are too many"),
            Err(error) => self.not_relayed(link, kind, &error.to_string()),
        }
    }

    fn not_relayed(&mut self, link: LinkId, kind: SignalKind, why: &str) {
        let what = format!("a {kind} eventfd is not relayed: {why}");
        self.record(None, Some(link), EventKind::Fault { what });
    }

    /// Takes in the signals of one eventfd. True if there were any.
    pub(super) fn take_signal(&mut self, link: LinkId, id: u64) -> bool {
        let relays = &mut self.links[link.0].relays;
        let Some(relay) = relays.get(id) else { return false };
        let (kind, ring, from) = (relay.kind, relay.ring, relay.from());
        let count = match relay.take() {
            Ok(Some(count)) => count,
            Ok(None) => return false,
            Err(error) => {
                // it would poll readable for ever
                relays.remove(id);
                self.not_relayed(link, kind, &error.to_string());
                return false;
            }
        };
        let peer = self.links[link.0].peer(from);
        let event = match kind {
            SignalKind::Kick => EventKind::Kick { ring, count },
            SignalKind::Call => EventKind::Call { ring, count },
            SignalKind::Error => EventKind::RingError { ring },
        };
        let seq = self.record(Some(peer), Some(link), event);
        if let Some(relay) = self.links[link.0].relays.get(id) {
            relay.waiting.push_back(Signal { seq, kept: None });
        }
        true
    }

    /// Takes in all signals of a link. True if there were any.
    pub(super) fn take_signals(&mut self, link: LinkId) -> bool {
        let ids: Vec<u64> = self.links[link.0].relays.iter().map(|r| r.id).collect();
        let mut some = false;
        for id in ids {
            some |= self.take_signal(link, id);
        }
        some
    }

    /// Passes on the signals of a link that may go. True if one went.
    pub(super) fn deliver_signals(&mut self, link: LinkId) -> bool {
        let waits = |r: &&Relay| !r.waiting.is_empty();
        let ids: Vec<u64> = self.links[link.0].relays.iter().filter(waits).map(|r| r.id).collect();
        let mut moved = false;
        for id in ids {
            while self.deliver_signal(link, id) {
                moved = true;
            }
        }
        moved
    }

    /// Passes on the oldest signal that may go. True if one went.
    pub(super) fn deliver_signal(&mut self, link: LinkId, id: u64) -> bool {
        let Some((place, fate)) = self.next_signal(link, id) else {
            return false;
        };
        let Some(relay) = self.links[link.0].relays.get(id) else {
            return false;
        };
        let (from, seq) = (relay.from(), relay.waiting.get(place).and_then(|signal| signal.seq));
        let repeated = match seq {
            Some(seq) if fate == Fate::Goes => self.use_up(seq, |act| matches!(act, Act::Duplicate)).is_some(),
            _ => false,
        };
        if let (true, Some(seq)) = (repeated, seq) {
            self.meddled(link, from, seq, Meddling::Repeated);
        }
        let Some(relay) = self.links[link.0].relays.get(id) else {
            return false;
        };
        relay.waiting.remove(place);
        if fate == Fate::Dropped {
            return true;
        }
        let given = relay.give();
        if repeated {
            relay.give_again();
        }
        if let Err(error) = given {
            let what = format!("the other side's descriptor cannot be signalled: {error}");
            self.record(None, Some(link), EventKind::Fault { what });
        }
        self.arrived(seq);
        true
    }

    /// The oldest signal of an eventfd that does not wait: its place, and whether it goes or is dropped, which has then to
    /// be done.
    pub(super) fn next_signal(&mut self, link: LinkId, id: u64) -> Option<(usize, Fate)> {
        let mut place = 0;
        loop {
            let relay = self.links[link.0].relays.get(id)?;
            let from = relay.from();
            let signal = relay.waiting.get_mut(place)?;
            let (seq, mut kept) = (signal.seq, signal.kept.take());
            let fate = self.fate(link, from, seq, &mut kept);
            let relay = self.links[link.0].relays.get(id)?;
            if let Some(signal) = relay.waiting.get_mut(place) {
                signal.kept = kept;
            }
            match fate {
                Fate::Waits { lets_pass: false } => return None,
                Fate::Waits { lets_pass: true } => place += 1,
                Fate::Dropped | Fate::Goes => return Some((place, fate)),
            }
        }
    }

    /// Gives the repetitions whose turn has come. True if others still wait.
    pub(super) fn repeat_signals(&mut self) -> bool {
        let mut waits = false;
        for link in &mut self.links {
            for relay in link.relays.iter_mut() {
                // a descriptor that cannot be signalled was reported the first time
                let _ = relay.repeat();
                waits |= relay.waits_for_reader();
            }
        }
        waits
    }

    /// Whether signals are on their way to a party. What is kept is not, and what could go has gone.
    pub(super) fn has_signals_for(&mut self, link: LinkId, party: Party) -> bool {
        let repeats = |r: &Relay| r.from() != party && r.waits_for_reader();
        self.take_signals(link) || self.links[link.0].relays.iter().any(repeats)
    }

    /// Whether a simulated peer's own signals are put on the timeline where they are relayed.
    pub(super) fn is_relayed(&self, peer: PeerId, kind: SignalKind) -> bool {
        self.peers[peer.0]
            .link
            .is_some_and(|l| self.links[l.0].relays.has(kind))
    }
}
