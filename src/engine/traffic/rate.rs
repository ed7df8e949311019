//! `check: rate`: what was negotiated first, then the rate or the ratio, then whether that can be told at all.

use crate::engine::failure::{Result, Stop, StopKind};
use crate::engine::run::Run;
use crate::judge::rate::{Limits, Said};
use crate::judge::rated::{Measured, Rated};
use crate::judge::verdict::FailKind;
use crate::scenario::model::{NegotiatedCheck, RateCheck};
use crate::scenario::span::{At, Span};
use crate::scenario::{Diagnostic, eval_num};
use crate::trace::EventKind;
use crate::wire::DeviceKind;
use crate::wire::features::parse_virtio;

impl Run<'_> {
    /// Judges a rate.
    pub(in crate::engine) fn check_rate(&mut self, check: &RateCheck, span: Span) -> Result<()> {
        let measured = self.measured(&check.of)?;
        let base = check.ratio_to.as_ref().map(|name| self.measured(name)).transpose()?;
        if let Some(wanted) = &check.negotiated {
            self.check_negotiated(wanted, &measured)?;
        }
        if let Some(base) = &base {
            let unlike = measured.negotiated != base.negotiated;
            if unlike && !check.unlike {
                let diagnostic = Diagnostic::error("the two deliveries are not alike, and so are their rates")
                    .at(check.ratio_to.as_ref().map_or(span, |name| name.span))
                    .expected_actual(&measured.negotiated, &base.negotiated)
                    .help("if that is what is to be compared: `unlike: true`");
                return Err(Stop::wrong(diagnostic));
            }
        }
        let limits = Limits {
            at_least: check.at_least.as_ref().map(|limit| limit.value.0),
            at_most: check.at_most.as_ref().map(|limit| limit.value.0),
        };
        let rated = Rated::judge(measured, base, limits);
        self.traffic.rated.push(rated.clone());
        let (what, shown, interval) = (rated.subject(), rated.shown(), rated.interval());
        let negotiated = &rated.measured.negotiated;
        let peer = self.peers.first().map(|_| crate::trace::PeerId(0));
        let event = format!("{what}: {shown} ({negotiated})");
        self.record(peer, None, EventKind::Data { what: event });
        let stop = match rated.said {
            Said::Holds(_) => None,
            Said::Broken(_) => Some(StopKind::Fail(FailKind::Wrong)),
            Said::Noise(_) | Said::TooFew { .. } => Some(StopKind::Noise),
        };
        let Some(kind) = stop else { return Ok(()) };
        let message = match kind {
            StopKind::Noise => format!("nothing can be said of the {what}"),
            _ => format!("the {what} is not within its limits"),
        };
        let place = match (&check.at_least, &check.at_most, interval) {
            (Some(least), _, Some(interval)) if interval.low < least.value.0 => least.span,
            (_, Some(most), _) => most.span,
            (Some(least), ..) => least.span,
            _ => span,
        };
        let diagnostic = Diagnostic::error(message)
            .at(place)
            .expected_actual(limits, shown)
            .footer(format!("measured  {negotiated}, {}", negotiated.frames));
        Err(Box::new(Stop { kind, diagnostic }))
    }

    fn measured(&self, name: &At<String>) -> Result<Measured> {
        let found = self
            .traffic
            .measured
            .iter()
            .rev()
            .find(|measured| measured.name == name.value);
        found.cloned().ok_or_else(|| {
            let message = format!("no delivery `{}` was measured", name.value);
            Stop::script(Diagnostic::error(message).at(name.span))
        })
    }

    fn check_negotiated(&self, wanted: &NegotiatedCheck, measured: &Measured) -> Result<()> {
        let is = &measured.negotiated;
        let wrong = |span: Span, what: &str, expected: String, actual: String| {
            let message = format!("the rate would mean nothing: another {what} was negotiated");
            Stop::wrong(Diagnostic::error(message).at(span).expected_actual(expected, actual))
        };
        if let Some(size) = &wanted.ring_size {
            let number = eval_num(size, &self.bindings)?;
            if number != u64::from(is.ring_size) {
                return Err(wrong(
                    size.span,
                    "ring size",
                    number.to_string(),
                    is.ring_size.to_string(),
                ));
            }
        }
        for (asked, found, what) in [
            (&wanted.packed, is.packed, "kind of ring"),
            (&wanted.huge_pages, is.huge_pages, "size of pages"),
        ] {
            if let Some(asked) = asked.as_ref().filter(|asked| asked.value != found) {
                return Err(wrong(asked.span, what, asked.value.to_string(), found.to_string()));
            }
        }
        for name in &wanted.features {
            let bit = parse_virtio(DeviceKind::Net, &name.value);
            let has = bit.is_ok_and(|bit| is.features & (1 << bit) != 0);
            if !has {
                return Err(wrong(
                    name.span,
                    "set of features",
                    name.value.clone(),
                    format!("{:#x}", is.features),
                ));
            }
        }
        Ok(())
    }
}
