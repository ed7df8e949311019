//! Modelled endpoints and the schedules that are for them.

use super::super::model::Schedule;
use super::super::retry;
use super::super::span::Span;
use super::Cx;

impl<'a> Cx<'a> {
    /// The declarations together make a model.
    pub(super) fn model(&mut self) {
        if let Err(error) = retry::modelled(self.scenario) {
            self.report(error);
        }
    }

    pub(super) fn schedule(&mut self, schedule: &'a Schedule, place: Span) {
        for error in retry::check(self.scenario, schedule, place) {
            self.report(error);
        }
    }
}
