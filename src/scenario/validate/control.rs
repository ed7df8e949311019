//! Steps that control what crosses a link: what can be kept, changed or made up there, and what goes together.

use super::super::diagnostic::Diagnostic;
use super::super::link_steps::{Alter, Inject, Join, Meddle, Reorder, Signals, Split};
use super::super::model::{Pattern, Step};
use super::super::scalar::Num;
use super::super::span::{At, Span};
use super::Cx;
use super::patterns::kinds;
use crate::wire::{MessageSpec, Party};

/// What crosses a link as a message; only this has bytes.
const MESSAGES: [&str; 2] = ["message", "reply_to"];
/// What crosses a link as a notification, and the word for `relay`.
const SIGNALS: [(&str, Signals, &str, Party); 3] = [
    ("kick", Signals::Kicks, "kicks", Party::FrontEnd),
    ("call", Signals::Calls, "calls", Party::BackEnd),
    ("error", Signals::Errors, "errors", Party::BackEnd),
];

impl<'a> Cx<'a> {
    /// A pattern of something that crosses a link. `step` does something to it.
    pub(super) fn crossing(&mut self, step: &str, pattern: &'a Pattern, place: Span, takes: &[&str]) {
        self.pattern(pattern, place, false);
        let Some((kind, at)) = kinds(pattern).first().copied() else {
            return;
        };
        let at = if at.line > 0 { at } else { place };
        if matches!(kind, "exits" | "event") {
            let error = Diagnostic::error(format!(
                "`{kind}` does not cross the link, so it cannot be controlled there"
            ));
            self.report(error.at(at));
        } else if !takes.is_empty() && !takes.contains(&kind) {
            let error = Diagnostic::error(format!("`{step}` is for messages, and `{kind}` is none")).at(at);
            self.report(error);
        } else {
            self.relayed(kind, at);
        }
    }

    /// A kick, call or error can be controlled only where it goes through the harness.
    fn relayed(&mut self, kind: &str, at: Span) {
        let Some((_, wanted, word, _)) = SIGNALS.iter().find(|(name, ..)| *name == kind) else {
            return;
        };
        if !relays(&self.scenario.steps, *wanted) {
            let error = Diagnostic::error(format!("{word} go from peer to peer, past the harness")).at(at);
            self.report(error.help(format!("add `relay: [{word}]` to the `connect` step")));
        }
    }

    pub(super) fn meddle(&mut self, step: &'static str, meddle: &'a Meddle, place: Span) {
        let takes: &[&str] = match step {
            "duplicate" => &["message", "reply_to", "kick", "call", "error"],
            _ => &[],
        };
        if let (true, Some(closed)) = (step == "duplicate", &meddle.when.closed) {
            self.pattern(&meddle.when, place, false);
            self.report(Diagnostic::error("a socket is closed only once").at(closed.span));
        } else {
            self.crossing(step, &meddle.when, place, takes);
        }
        self.often(meddle.times.as_ref(), meddle.always);
    }

    pub(super) fn reorder(&mut self, reorder: &'a Reorder, place: Span) {
        self.crossing("reorder", &reorder.when, place, &[]);
        self.crossing("reorder", &reorder.behind, place, &[]);
    }

    pub(super) fn join(&mut self, join: &'a Join, place: Span) {
        self.crossing("join", &join.when, place, &MESSAGES);
        self.crossing("join", &join.with, place, &MESSAGES);
        let text = |name: &'a Option<At<String>>| name.as_ref().map(|n| n.value.as_str());
        let channel = |pattern: &'a Pattern| text(&pattern.channel).unwrap_or("main");
        let (when, with) = (&join.when, &join.with);
        if text(&when.from) != text(&with.from) || channel(when) != channel(with) {
            let error = "only messages from the same peer on the same socket can arrive in one piece";
            let at = with.from.as_ref().map_or(place, |from| from.span);
            self.report(Diagnostic::error(error).at(at));
        }
    }

    pub(super) fn split(&mut self, split: &'a Split, place: Span) {
        self.crossing("split", &split.when, place, &MESSAGES);
        self.often(split.times.as_ref(), split.always);
        match (split.at.first(), &split.pieces_of) {
            (None, None) => {
                let error = Diagnostic::error("`split` does not say where").at(place);
                self.report(error.help("give offsets, `at: [12]`, or a size, `pieces_of: 1`"));
            }
            (Some(at), Some(size)) => {
                let error = Diagnostic::error("a message is cut either `at` offsets or in `pieces_of` a size");
                self.report(error.at(size.span).note(at.span, "offsets"));
            }
            _ => {}
        }
        if let Some(size) = split.pieces_of.as_ref().filter(|size| size.value == Num::Literal(0)) {
            self.report(Diagnostic::error("a piece has at least one byte").at(size.span));
        }
    }

    pub(super) fn alter(&mut self, alter: &'a Alter, place: Span) {
        self.crossing("alter", &alter.when, place, &MESSAGES);
        self.often(alter.times.as_ref(), alter.always);
        if let (Some(value), Some(status)) = (&alter.value, &alter.status) {
            let both = Diagnostic::error("`status` is the same as `value`; give one").at(status.span);
            self.report(both.note(value.span, "the other"));
        }
        let value = alter.value.as_ref().or(alter.status.as_ref()).map(|v| v.span);
        let typed = value.or_else(|| alter.fields.iter().next().map(|(key, _)| key.span));
        if let (Some(payload), Some(typed)) = (&alter.payload, typed) {
            let error = "`payload` is the whole payload; `value` and `fields` change the usual one";
            self.report(Diagnostic::error(error).at(payload.span).note(typed, "changed here"));
        }
        let others = alter.need_reply.is_some() || alter.header.is_some() || alter.fds.is_some();
        if typed.is_none() && alter.payload.is_none() && !others {
            let error = Diagnostic::error("`alter` changes nothing").at(place);
            self.report(error.help("one of: value, fields, need_reply, header, payload, fds"));
        }
        let Some((spec, reply)) = self.known(&alter.when) else {
            return;
        };
        self.content(spec, reply, alter.fields.iter().map(|(key, _)| key), value);
    }

    pub(super) fn inject(&mut self, inject: &'a Inject, place: Span) {
        let Some(peer) = self.peer(&inject.from) else { return };
        let given: Vec<(&str, Span)> = [
            ("message", inject.message.as_ref().map(|n| n.span)),
            ("reply_to", inject.reply_to.as_ref().map(|n| n.span)),
            ("kick", inject.kick.as_ref().map(|n| n.span)),
            ("call", inject.call.as_ref().map(|n| n.span)),
            ("error", inject.error.as_ref().map(|n| n.span)),
            ("closed", inject.closed.as_ref().map(|n| n.span)),
        ]
        .into_iter()
        .filter_map(|(name, at)| Some((name, at?)))
        .collect();
        let (kind, at) = match given.as_slice() {
            [] => {
                let error = Diagnostic::error("`inject` does not say what is to arrive").at(place);
                return self.report(error.help("one of: message, reply_to, kick, call, error, closed"));
            }
            [one] => *one,
            [(first, at), (second, again), ..] => {
                let error = format!("one thing is injected at a time; here are `{first}` and `{second}`");
                return self.report(Diagnostic::error(error).at(*again).note(*at, "the first"));
            }
        };
        if let Some((_, _, word, party)) = SIGNALS.iter().find(|(name, ..)| *name == kind) {
            if peer.party != *party {
                let error = Diagnostic::error(format!(
                    "{word} come from a {party}, and `{}` is none",
                    inject.from.value
                ));
                self.report(error.at(inject.from.span).note(peer.name.span, "declared here"));
            }
            self.relayed(kind, at);
        }
        self.channel(inject.closed.as_ref().or(inject.channel.as_ref()));
        let value = inject.value.as_ref().or(inject.status.as_ref()).map(|v| v.span);
        let fields = || inject.fields.iter().map(|(key, _)| key);
        let content = value.or_else(|| fields().next().map(|key| key.span));
        if let (false, Some(content)) = (MESSAGES.contains(&kind), content) {
            return self.report(Diagnostic::error(format!("`{kind}` has no payload")).at(content));
        }
        if let (Some(payload), Some(content)) = (&inject.payload, content) {
            let error = "`payload` is the whole payload; there is no other";
            self.report(Diagnostic::error(error).at(payload.span).note(content, "the other"));
        }
        let (sender, channel) = (Some((&inject.from, peer.party)), inject.channel.as_ref());
        let found = match (&inject.message, &inject.reply_to) {
            (Some(name), _) => self.request_from(name, channel, sender).map(|spec| (spec, false)),
            (None, Some(name)) => self.reply_from(name, channel, sender).map(|spec| (spec, true)),
            (None, None) => None,
        };
        if let Some((spec, reply)) = found {
            self.content(spec, reply, fields(), value);
        }
    }

    /// The names of payload fields, and whether there is a single value.
    fn content(
        &mut self,
        spec: &'static MessageSpec,
        reply: bool,
        fields: impl Iterator<Item = &'a At<String>>,
        value: Option<Span>,
    ) {
        let (name, layouts) = match reply {
            true => (format!("the reply to {}", spec.name), spec.reply.layouts),
            false => (spec.name.to_owned(), spec.request),
        };
        self.field_names(&name, layouts, fields);
        if let Some(at) = value {
            self.plain_value(spec, reply, layouts, at);
        }
    }

    /// The message that a pattern is about, if there is one of that name. Reported elsewhere if not.
    fn known(&self, pattern: &Pattern) -> Option<(&'static MessageSpec, bool)> {
        let name = pattern.message.as_ref().or(pattern.reply_to.as_ref())?;
        let channel = pattern.channel.as_ref().map_or("main", |c| &c.value).parse().ok()?;
        let spec = crate::wire::find(self.scenario.dialect(), &name.value, Some(channel)).ok()?;
        Some((spec, pattern.message.is_none()))
    }

    fn often(&mut self, times: Option<&At<Num>>, always: bool) {
        let Some(times) = times else { return };
        if always {
            self.report(Diagnostic::error("`always` is any number of times").at(times.span));
        }
        if times.value == Num::Literal(0) {
            self.report(Diagnostic::error("0 times is never").at(times.span));
        }
    }
}

/// Whether any connection relays such notifications.
fn relays(steps: &[At<Step>], wanted: Signals) -> bool {
    steps.iter().any(|step| match &step.value {
        Step::Connect(connect) => connect.relay.iter().any(|kind| kind.value == wanted),
        Step::Repeat(repeat) => relays(&repeat.steps, wanted),
        Step::Sanity(steps) => relays(steps, wanted),
        Step::Together(tracks) => tracks.iter().any(|(_, track)| relays(track, wanted)),
        _ => false,
    })
}
