//! What a lane writes into an inflight area, so that whoever comes after it when it is killed knows what it had in hand.
//!
//! Lanes return chains in the order in which they took them, so what is in flight is what a split ring has made available
//! behind its used index, and is taken again from there. What only the area tells is how far a burst had got.

use super::Trouble;
use crate::memory::{MemoryError, SplitInflight};
use crate::ring::burst::{Chains, Ticket};

/// The region of a split ring in an inflight area.
#[derive(Debug)]
pub struct Record {
    area: SplitInflight,
    queue: u16,
    /// The used index.
    used_idx: u16,
    /// Heads that are given and not yet noted as returned.
    given: Vec<u16>,
    /// Another one had the ring, and it was not settled yet what it has left.
    inherits: bool,
}

impl Record {
    /// For a ring whose used index is this one now.
    pub fn begin(mut area: SplitInflight, queue: u16, used_idx: u16) -> Result<Self, MemoryError> {
        let fresh = area.init(queue, used_idx)?;
        Ok(Self {
            area,
            queue,
            used_idx,
            given: Vec::new(),
            inherits: !fresh,
        })
    }

    /// The used index as far as it was brought.
    #[must_use]
    pub fn used_idx(&self) -> u16 {
        self.used_idx
    }

    /// Whether it was killed after the driver saw a burst, and before the area said so.
    pub(super) fn is_cut_off(&self) -> Result<bool, MemoryError> {
        Ok(self.used_idx != self.area.noted_used(self.queue)?)
    }

    /// How many chains are in flight.
    pub(super) fn in_flight(&self) -> Result<usize, MemoryError> {
        Ok(self.area.left_over(self.queue)?.len())
    }

    /// What was returned is over (VU-IFL-11), and the rest is taken again from the ring, in the order in which it was taken
    /// (VU-IFL-12).
    fn settle(&mut self) -> Result<(), MemoryError> {
        if !std::mem::take(&mut self.inherits) {
            return Ok(());
        }
        for head in self.area.recover(self.queue, self.used_idx)? {
            self.area.clear(self.queue, head)?;
        }
        Ok(())
    }

    /// All of these were taken (VU-IFL-08).
    fn fetch(&mut self, chains: &Chains<'_>) -> Result<(), MemoryError> {
        self.settle()?;
        chains
            .iter()
            .try_for_each(|chain| self.area.fetch(self.queue, chain.ticket.id))
    }

    /// The `count` that were taken last are put back.
    fn put_back(&mut self, chains: &Chains<'_>, count: usize) -> Result<(), MemoryError> {
        let back = (chains.len() - count..chains.len()).filter_map(|at| chains.get(at));
        back.map(|chain| chain.ticket.id)
            .try_for_each(|head| self.area.clear(self.queue, head))
    }

    /// These are about to be returned (VU-IFL-09).
    fn link(&mut self, given: impl Iterator<Item = Ticket>) -> Result<(), MemoryError> {
        for ticket in given {
            self.given.push(ticket.id);
            self.area.link(self.queue, ticket.id)?;
        }
        Ok(())
    }

    /// The driver sees all that was linked (VU-IFL-10).
    fn returned(&mut self) -> Result<(), MemoryError> {
        self.used_idx = self.used_idx.wrapping_add(self.given.len() as u16);
        self.area.complete(self.queue, &self.given, self.used_idx)?;
        self.given.clear();
        Ok(())
    }
}

/// The record of a ring, where there is an area to write it into. Without one each of these is a look at a pointer.
#[derive(Debug, Default)]
pub struct Records(Option<Box<Record>>);

impl Records {
    /// With a record, or without.
    #[must_use]
    pub fn new(record: Option<Record>) -> Self {
        Self(record.map(Box::new))
    }

    pub(super) fn of(&self) -> Option<&Record> {
        self.0.as_deref()
    }

    /// Whether another one had the ring, and it was not settled yet what it has left.
    #[inline]
    pub(super) fn inherits(&self) -> bool {
        self.0.as_ref().is_some_and(|record| record.inherits)
    }

    /// So many of those that another one had in hand were returned in its place.
    pub(super) fn returned_for_it(&mut self, chains: u16) {
        if let Some(record) = &mut self.0 {
            record.used_idx = record.used_idx.wrapping_add(chains);
        }
    }

    /// Settles what another one has left.
    pub(super) fn settle(&mut self) -> Result<(), Trouble> {
        self.with(Record::settle)
    }

    /// These were taken.
    #[inline]
    pub(in crate::traffic) fn taken(&mut self, chains: &Chains<'_>) -> Result<(), Trouble> {
        self.with(|record| record.fetch(chains))
    }

    /// The `count` that were taken last are about to be put back.
    #[inline]
    pub(super) fn put_back(&mut self, chains: &Chains<'_>, count: usize) -> Result<(), Trouble> {
        self.with(|record| record.put_back(chains, count))
    }

    /// The first `count` of these are about to be shown to the driver.
    #[inline]
    pub(super) fn given(&mut self, chains: &Chains<'_>, count: usize) -> Result<(), Trouble> {
        self.with(|record| record.link(chains.iter().take(count).map(|chain| chain.ticket)))
    }

    /// The driver was shown them.
    #[inline]
    pub(super) fn returned(&mut self) -> Result<(), Trouble> {
        self.with(Record::returned)
    }

    #[inline]
    fn with(&mut self, act: impl FnOnce(&mut Record) -> Result<(), MemoryError>) -> Result<(), Trouble> {
        match &mut self.0 {
            None => Ok(()),
            Some(record) => Ok(act(record)?),
        }
    }
}
