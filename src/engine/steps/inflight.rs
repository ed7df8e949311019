//! What the inflight area says that a front-end keeps.

use super::super::failure::{Result, Stop};
use super::super::run::Run;
use super::{Waiting, not_back, not_front};
use crate::memory::{Inflight, MemoryError};
use crate::peer::sim::back::inflight::Moment;
use crate::scenario::model::{DiesAt, DiesStep, InflightStep};
use crate::scenario::span::{At, Span};
use crate::scenario::{Diagnostic, eval_num};
use crate::trace::PeerId;

impl Run<'_> {
    pub(super) fn dies_step(&mut self, step: &DiesStep, span: Span) -> Result<()> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let request = self.number(step.request.as_ref(), 1)?;
        let moment = step.at.as_ref().map(|at| match at.value {
            DiesAt::Taken => Moment::Taken,
            DiesAt::CarriedOut => Moment::CarriedOut,
            DiesAt::Linked => Moment::Linked,
            DiesAt::Used => Moment::Used,
            DiesAt::HalfCleared => Moment::HalfCleared,
            DiesAt::Cleared => Moment::Cleared,
            DiesAt::Uncalled => Moment::Uncalled,
        });
        let write = step
            .write
            .as_ref()
            .map(|write| self.number(Some(write), 1))
            .transpose()?;
        let back = self.peers[peer.0].sim.back().ok_or_else(|| not_back(span))?;
        match write {
            Some(write) => back.dies_before(write),
            None => back.dies_at(moment, request),
        }
        Ok(())
    }

    pub(super) fn begin_inflight(&mut self, step: &InflightStep, span: Span) -> Result<Waiting> {
        let Some(at_least) = &step.at_least else {
            return self.inflight_step(step, span).map(|()| Waiting::Nothing);
        };
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let ring = step.ring.as_ref().map_or(Ok(0), |ring| self.ring(ring))?;
        let wanted = eval_num(at_least, &self.bindings)? as usize;
        let area = self.inflight_area(peer, step, span)?;
        Ok(Waiting::InFlight {
            area,
            peer,
            ring,
            wanted,
        })
    }

    /// Whether so many requests are in flight, or all have come back before anybody saw.
    pub(super) fn has_in_flight(
        &mut self,
        area: &Inflight,
        (peer, ring): (PeerId, u16),
        wanted: usize,
        span: Span,
    ) -> Result<bool> {
        let marked = match area {
            Inflight::Split(area) => area.left_over(ring),
            Inflight::Packed(area) => area.left_over(ring),
        };
        let marked = marked.map_err(|error| Stop::wrong(Diagnostic::error(error.to_string()).at(span)))?;
        let front = self.peers[peer.0].sim.front().ok_or_else(|| not_front(span))?;
        Ok(marked.len() >= wanted || front.outstanding(ring) == 0)
    }

    /// The area that a front-end keeps.
    fn inflight_area(&mut self, peer: PeerId, step: &InflightStep, span: Span) -> Result<Inflight> {
        let front = self.peers[peer.0].sim.front().ok_or_else(|| not_front(span))?;
        let wrong = |message: String, place: Span| Stop::wrong(Diagnostic::error(message).at(place));
        match front.look_at_inflight() {
            Some(mapped) => mapped.map_err(|error| wrong(error.to_string(), span)),
            None => Err(wrong(
                "the back-end has handed out no inflight area".to_owned(),
                step.peer.span,
            )),
        }
    }

    fn inflight_step(&mut self, step: &InflightStep, span: Span) -> Result<()> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let ring = step.ring.as_ref().map_or(Ok(0), |ring| self.ring(ring))?;
        let wrong = |message: String, place: Span| Stop::wrong(Diagnostic::error(message).at(place));
        let found = Found::look(&self.inflight_area(peer, step, span)?, ring);
        let found = found.map_err(|error| wrong(error.to_string(), span))?;
        if let Some(requests) = &step.requests {
            let wanted = self.heads_of(peer, ring, requests)?;
            if wanted != found.marked {
                let expected = format!("heads {wanted:?}, the oldest first");
                return Err(others(expected, format!("{:?}", found.marked), span));
            }
        }
        if let Some(count) = &step.count {
            let (wanted, actual) = (eval_num(count, &self.bindings)?, found.marked.len());
            if wanted != actual as u64 {
                return Err(others(format!("{wanted} requests"), format!("{actual}"), count.span));
            }
        }
        if let Some(descriptors) = &step.descriptors {
            let wanted: Vec<u64> = descriptors
                .iter()
                .map(|number| eval_num(number, &self.bindings))
                .collect::<std::result::Result<_, _>>()?;
            if wanted != found.descriptors {
                let expected = format!("of {wanted:?} descriptors");
                return Err(others(expected, format!("of {:?}", found.descriptors), span));
            }
        }
        for (field, number) in step.fields.iter() {
            let wanted = eval_num(number, &self.bindings)?;
            let actual = found.fields.iter().find(|(name, _)| *name == field.value);
            let Some((_, actual)) = actual else {
                let message = format!("the area of this ring has no field `{}`", field.value);
                return Err(wrong(message, field.span));
            };
            if wanted != *actual {
                let message = format!("`{}` of the inflight area is another one", field.value);
                let diagnostic = Diagnostic::error(message).at(number.span);
                return Err(Stop::wrong(
                    diagnostic.expected_actual(format!("{wanted}"), format!("{actual}")),
                ));
            }
        }
        if step.settled {
            let Some(front) = self.peers[peer.0].sim.front() else {
                return Err(not_front(span));
            };
            let used = front.used_index(ring).map_err(|error| wrong(error.to_string(), span))?;
            let expected = || format!("nothing in flight, used index {used:#x} noted");
            if !found.marked.is_empty() || found.noted != used {
                let actual = format!("heads {:?}, used index {:#x}", found.marked, found.noted);
                return Err(others(expected(), actual, span));
            }
            if let Some(actual) = found.unsettled {
                return Err(others(expected(), actual, span));
            }
        }
        Ok(())
    }

    /// The heads of block requests that were given names.
    fn heads_of(&mut self, peer: PeerId, ring: u16, requests: &[At<String>]) -> Result<Vec<u16>> {
        let mut heads = Vec::new();
        for name in requests {
            let is_it = |(other, _): &&(String, super::Submitted)| *other == name.value;
            let submitted = self.submitted.iter().find(is_it);
            let number = submitted.and_then(|(_, submitted)| submitted.number());
            let front = self.peers[peer.0].sim.front();
            let head = number.and_then(|number| front?.head_of(ring, number));
            heads.push(head.ok_or_else(|| {
                let message = format!("no request `{}` is on ring {ring}", name.value);
                Stop::wrong(Diagnostic::error(message).at(name.span))
            })?);
        }
        Ok(heads)
    }
}

fn others(expected: String, actual: String, place: Span) -> Box<Stop> {
    let diagnostic = Diagnostic::error("other requests are in flight, by the inflight area").at(place);
    Stop::wrong(diagnostic.expected_actual(expected, actual))
}

/// What the region of a ring says.
struct Found {
    /// Heads or buffer ids that are in flight, oldest first.
    marked: Vec<u16>,
    /// How many descriptors each has.
    descriptors: Vec<u64>,
    /// The used index that was noted, of a packed ring as SET_VRING_BASE writes it.
    noted: u16,
    /// What is left of a batch that should be over.
    unsettled: Option<String>,
    fields: Vec<(&'static str, u64)>,
}

impl Found {
    fn look(area: &Inflight, ring: u16) -> std::result::Result<Self, MemoryError> {
        let [version, desc_num] = area.header(ring)?;
        let mut fields = vec![("version", version.into()), ("desc_num", desc_num.into())];
        match area {
            Inflight::Split(area) => {
                let noted = area.noted_used(ring)?;
                fields.extend([
                    ("last_batch_head", area.last_linked(ring)?.into()),
                    ("used_idx", noted.into()),
                ]);
                let marked = area.left_over(ring)?;
                Ok(Self {
                    descriptors: vec![1; marked.len()],
                    marked,
                    noted,
                    unsettled: None,
                    fields,
                })
            }
            Inflight::Packed(area) => {
                let [used, old] = area.positions(ring)?;
                let [free, old_free] = area.free_heads(ring)?;
                fields.extend([
                    ("free_head", free.into()),
                    ("old_free_head", old_free.into()),
                    ("used_idx", used.at.into()),
                    ("old_used_idx", old.at.into()),
                    ("used_wrap_counter", used.wrap.into()),
                    ("old_used_wrap_counter", old.wrap.into()),
                ]);
                let (mut marked, mut descriptors) = (Vec::new(), Vec::new());
                for entry in area.left_over(ring)? {
                    let chain = area.chain(ring, entry)?;
                    marked.extend(chain.last().map(|last| last.id));
                    descriptors.push(chain.len() as u64);
                }
                let listed = area.free_list(ring)?.len();
                let unsettled = match (used == old && free == old_free, listed == usize::from(desc_num)) {
                    (false, _) => Some(format!("{used:?} after {old:?}, free from {free} after {old_free}")),
                    (true, false) => Some(format!("{listed} of {desc_num} entries are free")),
                    (true, true) => None,
                };
                Ok(Self {
                    marked,
                    descriptors,
                    noted: used.at | u16::from(used.wrap) << 15,
                    unsettled,
                    fields,
                })
            }
        }
    }
}
