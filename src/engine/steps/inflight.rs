//! What the inflight area says that a front-end keeps.

use super::super::failure::{Result, Stop};
use super::super::run::Run;
use super::{not_back, not_front};
use crate::memory::Inflight;
use crate::peer::sim::back::inflight::Moment;
use crate::scenario::model::{DiesAt, DiesStep, InflightStep};
use crate::scenario::span::Span;
use crate::scenario::{Diagnostic, eval_num};

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
        let back = self.peers[peer.0].sim.back().ok_or_else(|| not_back(span))?;
        back.dies_at(moment, request);
        Ok(())
    }

    pub(super) fn inflight_step(&mut self, step: &InflightStep, span: Span) -> Result<()> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let ring = step.ring.as_ref().map_or(Ok(0), |ring| self.ring(ring))?;
        let wrong = |message: String, place: Span| Stop::wrong(Diagnostic::error(message).at(place));
        let named: Vec<(&str, Option<u64>)> = step
            .requests
            .iter()
            .flatten()
            .map(|name| {
                let is_it = |(other, _): &&(String, super::Submitted)| *other == name.value;
                let submitted = self.submitted.iter().find(is_it);
                (
                    name.value.as_str(),
                    submitted.and_then(|(_, submitted)| submitted.number()),
                )
            })
            .collect();
        let Some(front) = self.peers[peer.0].sim.front() else {
            return Err(not_front(span));
        };
        let Some((fd, told)) = front.inflight() else {
            let message = "the back-end has handed out no inflight area".to_owned();
            return Err(wrong(message, step.peer.span));
        };
        let mapped = Inflight::map_to_look(fd, told.mmap_offset, told.mmap_size, told.num_queues, told.queue_size);
        let area = mapped.map_err(|error| wrong(error.to_string(), span))?;
        let marked = area.left_over(ring).map_err(|error| wrong(error.to_string(), span))?;
        let in_flight = |expected: String, actual: String, place: Span| {
            let diagnostic = Diagnostic::error("other requests are in flight, by the inflight area").at(place);
            Err(Stop::wrong(diagnostic.expected_actual(expected, actual)))
        };
        if let Some(requests) = &step.requests {
            let mut wanted = Vec::new();
            for ((name, number), place) in named.iter().zip(requests.iter().map(|name| name.span)) {
                let head = number.and_then(|number| front.head_of(ring, number));
                wanted.push(head.ok_or_else(|| wrong(format!("no request `{name}` is on ring {ring}"), place))?);
            }
            if wanted != marked {
                return in_flight(
                    format!("heads {wanted:?}, the oldest first"),
                    format!("{marked:?}"),
                    span,
                );
            }
        }
        if let Some(count) = &step.count {
            let wanted = eval_num(count, &self.bindings)?;
            if wanted != marked.len() as u64 {
                return in_flight(format!("{wanted} requests"), format!("{}", marked.len()), count.span);
            }
        }
        let Some(front) = self.peers[peer.0].sim.front().filter(|_| step.settled) else {
            return Ok(());
        };
        let used = front.used_index(ring).map_err(|error| wrong(error.to_string(), span))?;
        let Some(used) = used else {
            let message = "whether an area is settled can be seen of split rings".to_owned();
            return Err(wrong(message, span));
        };
        let noted = area.noted_used(ring).map_err(|error| wrong(error.to_string(), span))?;
        if !marked.is_empty() || noted != used {
            let expected = format!("nothing in flight, used index {used} noted");
            return in_flight(expected, format!("heads {marked:?}, used index {noted}"), span);
        }
        Ok(())
    }
}
