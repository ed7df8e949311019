//! The inflight area as the simulated back-end keeps it: what is recorded when a request is taken and returned, what a
//! successor does again, and where a back-end dies in between.
//!
//! Requests come back in the order that is hardest to recover from: of those that were taken together the newest first (unless
//! IN_ORDER was negotiated), several with one step of the ring.

mod book;
mod packed;
mod recorder;
mod split;

use super::SimBack;
use crate::memory::{InflightFormat, Life};
use crate::wire::features::RING_PACKED;

pub(super) use recorder::{Places, Recorder, Turn};

/// Where on the way of a request a back-end dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It has been taken and recorded, and not been carried out.
    Taken,
    /// It has been carried out, and nobody has been told.
    CarriedOut,
    /// Its batch is linked in the area, and the driver does not see it yet.
    Linked,
    /// The driver sees it, and the area still says that it is in flight.
    Used,
    /// Of its batch one is not in flight any more, for others the area says so.
    HalfCleared,
    /// None of its batch is in flight, and the area does not know that the batch is over.
    Cleared,
    /// All is recorded, and the driver has not been called.
    Uncalled,
}

impl Moment {
    /// In the order of a request's way.
    pub const ALL: [Self; 7] = [
        Self::Taken,
        Self::CarriedOut,
        Self::Linked,
        Self::Used,
        Self::HalfCleared,
        Self::Cleared,
        Self::Uncalled,
    ];
}

/// What a back-end does wrong with the inflight area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is recorded.
    RecordsNothing,
    /// What was returned stays in flight.
    ClearsNothing,
    /// A successor does not look at what was cut off between the ring and the area.
    NoRollback,
    /// A successor takes one request out of a batch that was cut off, and not all of it.
    RollsOneBack,
    /// A successor forgets what was in flight.
    ForgetsAll,
    /// A successor carries each request out twice.
    Twice,
    /// A successor begins with the newest.
    NewestFirst,
}

/// When a life ends.
#[derive(Debug)]
enum End {
    /// When so many requests have come to a moment.
    At(Moment, u64),
    /// Before one of the writes to the area or the ring.
    Before(Life),
}

/// The lives of a back-end.
#[derive(Debug, Default)]
pub(super) struct Lives {
    ends: Option<End>,
    /// How many have ended so.
    ended: usize,
    dying: bool,
    dead: bool,
}

impl Lives {
    /// The next one begins.
    pub(super) fn begin(&mut self) {
        (self.dying, self.dead) = (false, false);
    }

    /// This one is over.
    pub(super) fn end(&mut self) {
        self.ends = None;
        self.ended += 1;
        (self.dying, self.dead) = (false, true);
    }

    pub(super) fn is_dying(&self) -> bool {
        self.dying || self.last_writes().is_some_and(Life::is_over)
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    /// The writes that are left, if they are counted.
    pub(super) fn last_writes(&self) -> Option<&Life> {
        match &self.ends {
            Some(End::Before(life)) => Some(life),
            _ => None,
        }
    }

    /// So many requests came to this moment. True if there is nothing after it.
    fn comes_to(&mut self, moment: Moment, requests: usize) -> bool {
        if let Some(End::At(at, left)) = &mut self.ends
            && *at == moment
        {
            *left = left.saturating_sub(requests as u64);
            self.dying = *left == 0;
        }
        self.is_dying()
    }
}

impl SimBack {
    /// It will die when so many requests, from 1, have come to a moment of their way; without one, to another one each time.
    pub fn dies_at(&mut self, moment: Option<Moment>, request: u64) {
        let in_turn = Moment::ALL[self.lives.ended % Moment::ALL.len()];
        self.lives.ends = Some(End::At(moment.unwrap_or(in_turn), request.max(1)));
    }

    /// It will die before that write to the inflight area or to a ring, from 1.
    pub fn dies_before(&mut self, write: u64) {
        let life = Life::until(write.max(1));
        if let Some(recorder) = &mut self.inflight {
            recorder.lives(life.clone());
        }
        self.lives.ends = Some(End::Before(life));
    }

    /// The format that an area of these rings has.
    pub(super) fn inflight_format(&self) -> InflightFormat {
        match self.features & RING_PACKED {
            0 => InflightFormat::Split,
            _ => InflightFormat::Packed,
        }
    }
}
