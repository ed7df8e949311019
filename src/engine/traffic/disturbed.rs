//! When the script disturbs a delivery, and which frames that may have cost: those that were on their way meanwhile. Frames that were
//! there before, and those that were sent after, must not be lost.

use std::collections::BTreeSet;

use super::Traffic;
use super::group::Group;
use crate::engine::run::Run;
use crate::scenario::model::RingAction;
use crate::trace::PeerId;

/// Disturbances of which the frames are kept, at most; of further ones none may be lost.
const KEPT_MAX: usize = 1 << 16;

/// What disturbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) enum Cause {
    /// A ring of this front-end is stopped.
    Stopped(PeerId, u16),
    /// It is disabled.
    Disabled(PeerId, u16),
    /// There is no back-end behind this front-end that has its rings.
    Alone(PeerId),
}

/// Frames of one stream that may be lost, from the first to the one behind the last, disturbance by disturbance.
pub(super) type Excused = Vec<(u64, u64)>;

/// What disturbs now.
#[derive(Debug, Default)]
pub(super) struct Disturbances {
    now: BTreeSet<Cause>,
}

impl Traffic {
    fn disturb(&mut self, cause: Cause) {
        if self.disturbances.now.is_empty() {
            let groups = self.deliveries.iter_mut().filter(|delivery| !delivery.over);
            groups.flat_map(|d| &mut d.groups).for_each(Group::is_disturbed);
        }
        self.disturbances.now.insert(cause);
    }

    fn is_over(&mut self, causes: &[Cause]) {
        let removed = causes
            .iter()
            .filter(|cause| self.disturbances.now.remove(cause))
            .count();
        if removed > 0 && self.disturbances.now.is_empty() {
            let groups = self.deliveries.iter_mut().filter(|delivery| !delivery.over);
            groups.flat_map(|d| &mut d.groups).for_each(Group::is_calm);
        }
    }
}

impl Run<'_> {
    /// A step is about to do this to a ring.
    pub(in crate::engine) fn disturb_ring(&mut self, front: PeerId, ring: u16, action: RingAction) {
        match action {
            RingAction::Stop => self.traffic.disturb(Cause::Stopped(front, ring)),
            RingAction::Disable => self.traffic.disturb(Cause::Disabled(front, ring)),
            RingAction::Start | RingAction::Enable => {}
        }
    }

    /// The back-end knows of it.
    pub(in crate::engine) fn ring_is_back(&mut self, front: PeerId, ring: u16, action: RingAction) {
        match action {
            RingAction::Start => self.traffic.is_over(&[Cause::Stopped(front, ring)]),
            RingAction::Enable => self.traffic.is_over(&[Cause::Disabled(front, ring)]),
            RingAction::Stop | RingAction::Disable => {}
        }
    }

    /// One of the two at the ends of a front-end's connection is about to go.
    pub(in crate::engine) fn disturb_link(&mut self, peer: PeerId) {
        if let Some(link) = self.peers[peer.0].link {
            let front = self.links[link.0].front;
            self.traffic.disturb(Cause::Alone(front));
        }
    }

    /// A back-end has the rings of this front-end, as they are.
    pub(in crate::engine) fn is_set_up(&mut self, front: PeerId) {
        let rings = 0..self.peers[front.0].spec.queues;
        let mut causes = vec![Cause::Alone(front)];
        causes.extend(rings.flat_map(|ring| [Cause::Stopped(front, ring), Cause::Disabled(front, ring)]));
        self.traffic.is_over(&causes);
    }
}

impl Group {
    /// From here on frames may be lost: all that have not arrived.
    fn is_disturbed(&mut self) {
        for at in 0..self.streams.len() {
            let stream = &self.streams[at];
            let first = self.with_sink(stream, |sink| sink.next_of(stream.id));
            let excused = &mut self.excused[at];
            if excused.len() < KEPT_MAX {
                excused.push((first, u64::MAX));
            }
        }
    }

    /// And up to here: those that are sent from now on arrive.
    fn is_calm(&mut self) {
        for (stream, excused) in self.streams.iter().zip(&mut self.excused) {
            // what was lost is not on its way any more; said while the pump stands still, which then looks again
            let side = self.stations[stream.source.0].pump.borrow();
            let sent = side.lanes[stream.source.1].progress().sent;
            if let Some(credit) = &stream.credit {
                credit.forgive(sent);
            }
            if let Some(last) = excused.last_mut() {
                last.1 = last.1.min(sent);
            }
        }
    }
}

/// How many of these missing numbers, first to last, are not excused, and the first of them.
pub(super) fn inexcusable(missing: impl Iterator<Item = (u64, u64)>, excused: &[(u64, u64)]) -> (u64, Option<u64>) {
    let (mut count, mut first_of_all) = (0, None);
    for (first, last) in missing {
        let mut at = first;
        // they begin one after the other
        for (from, to) in excused {
            if at > last || *from > last {
                break;
            }
            if *to <= at {
                continue;
            }
            if *from > at {
                count += from - at;
                first_of_all.get_or_insert(at);
            }
            at = at.max(*to);
        }
        if at <= last {
            count += last - at + 1;
            first_of_all.get_or_insert(at);
        }
    }
    (count, first_of_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken: a frame that was lost in peace is excused, or one that was lost in a disturbance is not.
    #[test]
    fn only_what_was_under_way_is_excused() {
        let excused = [(10, 20), (15, 30), (40, u64::MAX)];
        let of = |missing: &[(u64, u64)]| inexcusable(missing.iter().copied(), &excused);
        assert_eq!(of(&[(10, 29), (40, 1000)]), (0, None));
        assert_eq!(of(&[(9, 10)]), (1, Some(9)));
        assert_eq!(of(&[(30, 39)]), (10, Some(30)));
        assert_eq!(of(&[(12, 13), (25, 45)]), (10, Some(30)));
        assert_eq!(of(&[(0, 50)]), (20, Some(0)));
        assert_eq!(inexcusable([(3, 4)].into_iter(), &[]), (2, Some(3)));
    }
}
