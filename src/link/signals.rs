//! Kick, call and error eventfds that lead through the harness instead of from peer to peer, so that each signal is an
//! event that can be kept, dropped or repeated. Never decides which.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::wire_pair::Kept;
use crate::sys::fd::{drain_event, duplicate, eventfd_like, is_readable, signal_event};
use crate::sys::threads::own_eventfd_id;
use crate::trace::{Seq, SignalKind};
use crate::wire::Party;

/// Relayed eventfds of one link, at most. A peer that replaces them without end gets the later ones passed through.
const RELAYS_MAX: usize = 3 * 256;

/// A signal on its way.
#[derive(Debug)]
pub struct Signal {
    /// Its event; `None` if the timeline is full.
    pub seq: Option<Seq>,
    /// What keeps it, or has kept it.
    pub kept: Option<Kept>,
}

/// One eventfd of a peer and the harness's own in its place.
#[derive(Debug)]
pub struct Relay {
    /// Tells it apart for ever.
    pub id: u64,
    /// What it is for.
    pub kind: SignalKind,
    /// Of which ring.
    pub ring: u16,
    /// What is signalled by the one side ...
    source: OwnedFd,
    /// ... and to be signalled for the other.
    sink: OwnedFd,
    /// The kernel's number of that.
    pub sink_id: Option<u64>,
    /// Signals that have not been passed on, oldest first.
    pub waiting: VecDeque<Signal>,
    /// Signals to be given once the one before has been taken.
    again: u64,
}

impl Relay {
    /// Who signals.
    pub fn from(&self) -> Party {
        match self.kind {
            SignalKind::Kick => Party::FrontEnd,
            SignalKind::Call | SignalKind::Error => Party::BackEnd,
        }
    }

    /// For poll.
    pub fn source(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }

    /// How often it has been signalled since the last time.
    pub fn take(&self) -> io::Result<Option<u64>> {
        drain_event(self.source.as_fd())
    }

    /// Passes a signal on.
    pub fn give(&self) -> io::Result<()> {
        signal_event(self.sink.as_fd())
    }

    /// Passes a signal on once more, after the other side has taken the one before: an eventfd only counts.
    pub fn give_again(&mut self) {
        self.again += 1;
    }

    /// Whether a repetition waits for the other side.
    pub fn waits_for_reader(&self) -> bool {
        self.again > 0
    }

    /// Gives a repetition whose turn has come.
    pub fn repeat(&mut self) -> io::Result<()> {
        if self.again > 0 && !is_readable(self.sink.as_fd())? {
            self.again -= 1;
            self.give()?;
        }
        Ok(())
    }
}

/// All relays of a link.
#[derive(Debug, Default)]
pub struct Relays {
    /// Which kinds are relayed.
    pub wanted: Vec<SignalKind>,
    list: Vec<Relay>,
    next: u64,
}

impl Relays {
    /// Whether signals of a kind come this way.
    pub fn has(&self, kind: SignalKind) -> bool {
        self.wanted.contains(&kind)
    }

    /// Puts the harness's own eventfd in the place of a peer's. `Ok(None)` if there are too many already.
    pub fn divert(&mut self, kind: SignalKind, ring: u16, fd: &mut OwnedFd) -> io::Result<Option<u64>> {
        // the one before stays until the other side has learnt of this one
        let older = |r: &Relay| r.kind == kind && r.ring == ring;
        if self.list.iter().filter(|r| older(r)).count() > 1
            && let Some(oldest) = self.list.iter().position(older)
        {
            self.list.remove(oldest);
        }
        if self.list.len() >= RELAYS_MAX {
            return Ok(None);
        }
        let own = eventfd_like(fd.as_fd())?;
        let kept = duplicate(&own)?;
        let theirs = std::mem::replace(fd, own);
        let (source, sink) = match kind {
            SignalKind::Kick => (theirs, kept),
            SignalKind::Call | SignalKind::Error => (kept, theirs),
        };
        let id = self.next;
        self.next += 1;
        let sink_id = own_eventfd_id(sink.as_fd());
        self.list.push(Relay {
            sink_id,
            id,
            kind,
            ring,
            source,
            sink,
            waiting: VecDeque::new(),
            again: 0,
        });
        Ok(Some(id))
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Relay> {
        self.list.iter()
    }

    /// All of them, oldest first.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Relay> {
        self.list.iter_mut()
    }

    /// One of them, if it is there still.
    pub fn get(&mut self, id: u64) -> Option<&mut Relay> {
        self.list.iter_mut().find(|relay| relay.id == id)
    }

    /// The latest one of a ring.
    pub fn latest(&mut self, kind: SignalKind, ring: u16) -> Option<&mut Relay> {
        self.list.iter_mut().rev().find(|r| r.kind == kind && r.ring == ring)
    }

    /// Forgets one that gives nothing.
    pub fn remove(&mut self, id: u64) {
        self.list.retain(|relay| relay.id != id);
    }

    /// Begins anew, for another connection.
    pub fn clear(&mut self) {
        self.list.clear();
        self.wanted.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd::eventfd;

    /// Broken: what a peer signals does not reach the other one, or comes by itself.
    #[test]
    fn a_kick_goes_from_the_one_eventfd_to_the_other() {
        let mut relays = Relays::default();
        let theirs = eventfd().unwrap();
        let mut passed = duplicate(&theirs).unwrap();
        let id = relays.divert(SignalKind::Kick, 0, &mut passed).unwrap().unwrap();
        signal_event(theirs.as_fd()).unwrap();
        signal_event(theirs.as_fd()).unwrap();
        let relay = relays.get(id).unwrap();
        assert_eq!(relay.take().unwrap(), Some(2));
        assert_eq!(drain_event(passed.as_fd()).unwrap(), None);
        relay.give().unwrap();
        assert_eq!(drain_event(passed.as_fd()).unwrap(), Some(1));
        assert_eq!(drain_event(theirs.as_fd()).unwrap(), None);
    }

    /// Broken: a call goes the wrong way.
    #[test]
    fn a_call_goes_the_other_way() {
        let mut relays = Relays::default();
        let theirs = eventfd().unwrap();
        let mut passed = duplicate(&theirs).unwrap();
        let id = relays.divert(SignalKind::Call, 3, &mut passed).unwrap().unwrap();
        signal_event(passed.as_fd()).unwrap();
        let relay = relays.get(id).unwrap();
        assert_eq!(relay.take().unwrap(), Some(1));
        relay.give().unwrap();
        assert_eq!(drain_event(theirs.as_fd()).unwrap(), Some(1));
    }

    /// Broken: a repeated signal is one signal, because the second comes before the first was taken.
    #[test]
    fn a_repetition_waits_until_the_first_was_taken() {
        let mut relays = Relays::default();
        let mut passed = eventfd().unwrap();
        let id = relays.divert(SignalKind::Kick, 0, &mut passed).unwrap().unwrap();
        let relay = relays.get(id).unwrap();
        relay.give().unwrap();
        relay.give_again();
        relay.repeat().unwrap();
        assert!(relay.waits_for_reader());
        assert_eq!(drain_event(passed.as_fd()).unwrap(), Some(1));
        relay.repeat().unwrap();
        assert!(!relay.waits_for_reader());
        assert_eq!(drain_event(passed.as_fd()).unwrap(), Some(1));
    }

    /// Broken: a peer that replaces its eventfd for ever uses up all descriptors.
    #[test]
    fn two_of_a_ring_are_kept() {
        let mut relays = Relays::default();
        for _ in 0..5 {
            relays.divert(SignalKind::Call, 1, &mut eventfd().unwrap()).unwrap();
        }
        assert_eq!(relays.iter().map(|r| r.id).collect::<Vec<_>>(), [3, 4]);
    }
}
