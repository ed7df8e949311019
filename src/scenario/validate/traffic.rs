//! Deliveries with a load of their own, and the rates that are asked of them.

use crate::wire::DeviceKind;
use crate::wire::features::parse_virtio;

use super::super::diagnostic::Diagnostic;
use super::super::model::{Deliver, RateCheck, Step};
use super::super::span::{At, Span};
use super::{Cx, Kinds};

/// Percent by which a back-end may be slowed, at most.
const SLOWED_MAX: u64 = 95;

impl<'a> Cx<'a> {
    pub(super) fn deliver(&mut self, step: &'a Deliver) {
        self.actor(&step.from, "deliver", None, Kinds::Started);
        self.actor(&step.to, "deliver", None, Kinds::Started);
        self.within("burst", step.burst.as_ref(), 1, 256);
        self.within("in_flight", step.in_flight.as_ref(), 1, u64::from(u16::MAX));
        if let (Some(packets), Some(time)) = (&step.packets, &step.duration) {
            let error =
                Diagnostic::error("a delivery has a number of `packets`, or goes on `for` a time").at(time.span);
            self.report(error.note(packets.span, "the number"));
        }
        if let (Some(size), true) = (&step.size, step.imix || step.sizes.is_some()) {
            self.report(
                Diagnostic::error("`size` beside `sizes` or `imix`: frames have one or the other").at(size.span),
            );
        }
        if let Some(against) = &step.baseline {
            self.actor(&against.from, "deliver", None, Kinds::Simulated);
            self.actor(&against.to, "deliver", None, Kinds::Simulated);
            if step.duration.is_none() || step.bind.is_none() {
                let error = "a delivery with a `baseline` goes on `for` a time, and has a name (`as`)";
                self.report(Diagnostic::error(error).at(against.from.span));
            }
        }
        if step.wait.as_ref().is_some_and(|wait| !wait.value) && step.bind.is_none() {
            let error = "a delivery that is not waited for needs a name (`as`), for `await`";
            self.report(Diagnostic::error(error).at(step.from.span));
        }
    }

    pub(super) fn rate(&mut self, check: &'a RateCheck, place: Span) {
        let mut deliveries = Vec::new();
        collect(&self.scenario.steps, &mut deliveries);
        let named = |name: &str| {
            deliveries
                .iter()
                .find(|step| step.bind.as_ref().is_some_and(|b| b.value == name))
        };
        let (of, base) = (named(&check.of.value).copied(), check.ratio_to.as_ref());
        if of.is_none() {
            let error = format!("no delivery is called `{}`", check.of.value);
            self.report(Diagnostic::error(error).at(check.of.span));
        }
        if let (Some(of), Some(base)) = (of, base)
            && of.baseline.as_ref().is_none_or(|own| own.bind.value != base.value)
        {
            let error = format!("`{}` is not the `baseline` of `{}`", base.value, check.of.value);
            self.report(Diagnostic::error(error).at(base.span));
        }
        if check.at_least.is_none() && check.at_most.is_none() {
            self.report(Diagnostic::error("`rate` says neither the least nor the most").at(place));
        }
        for name in check.negotiated.iter().flat_map(|wanted| &wanted.features) {
            if parse_virtio(DeviceKind::Net, &name.value).is_err() {
                let error = format!("`{}` is no feature of a network device", name.value);
                self.report(Diagnostic::error(error).at(name.span));
            }
        }
    }

    pub(super) fn slowed(&mut self) {
        let scenario = self.scenario;
        for (_, peer) in scenario.peers.iter() {
            self.within("slowed_percent", peer.slowed_percent.as_ref(), 0, SLOWED_MAX);
        }
    }
}

fn collect<'a>(steps: &'a [At<Step>], into: &mut Vec<&'a Deliver>) {
    for step in steps {
        match &step.value {
            Step::Deliver(deliver) => into.push(deliver),
            Step::Repeat(repeat) => collect(&repeat.steps, into),
            Step::Sanity(steps) => collect(steps, into),
            Step::Together(tracks) => tracks.iter().for_each(|(_, steps)| collect(steps, into)),
            _ => {}
        }
    }
}
