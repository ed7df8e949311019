//! Patterns: exactly one kind each, messages that their peer can send, fields that exist, conditions that make sense.

use crate::spec::MARK_IDS;
use crate::wire::{Layout, MessageSpec, Party};

use super::super::diagnostic::Diagnostic;
use super::super::model::{Check, Pattern, PatternRef};
use super::super::scalar::FieldMatch;
use super::super::span::{At, Span};
use super::super::suggest::did_you_mean;
use super::peers::Peer;
use super::values::Holds;
use super::{Cx, Kinds};

/// What a pattern is about, and where it says so.
pub(super) fn kinds(pattern: &Pattern) -> Vec<(&'static str, Span)> {
    let place = |text: &Option<At<String>>| text.as_ref().map(|t| t.span);
    [
        ("message", place(&pattern.message)),
        ("reply_to", place(&pattern.reply_to)),
        ("kick", pattern.kick.as_ref().map(|k| k.span)),
        ("call", pattern.call.as_ref().map(|c| c.span)),
        ("error", pattern.error.as_ref().map(|e| e.span)),
        ("closed", place(&pattern.closed)),
        (
            "exits",
            pattern
                .exits
                .as_ref()
                .map(|_| pattern.from.as_ref().map_or(Span::default(), |f| f.span)),
        ),
        ("event", place(&pattern.event)),
        ("device", place(&pattern.device)),
    ]
    .into_iter()
    .filter_map(|(name, place)| Some((name, place?)))
    .collect()
}

impl<'a> Cx<'a> {
    pub(super) fn checks(&mut self, checks: &'a [At<Check>]) {
        for check in checks {
            match &check.value {
                Check::Order(patterns) | Check::HappensBefore(patterns) => {
                    if patterns.len() < 2 {
                        self.report(Diagnostic::error("an order has at least two members").at(check.span));
                    }
                    patterns.iter().for_each(|pattern| self.pattern_ref(pattern));
                }
                Check::Acks(_) => {}
                Check::Count(count) => {
                    self.pattern(&count.of, check.span, false);
                    self.condition(&count.is, None, None);
                    self.values("is", &count.is, &[Holds::Number(64)], None);
                }
                Check::Never(pattern) => self.pattern(pattern, check.span, false),
                Check::Marks(marks) => self.marks(marks, check.span),
                Check::Rate(rate) => self.rate(rate, check.span),
                Check::Stderr(stderr) => {
                    self.actor(&stderr.peer, "stderr", None, Kinds::Process);
                    self.stderr_says(stderr);
                    if stderr.contains.is_none() && stderr.lacks.is_none() {
                        let error = "`stderr` says neither what it contains nor what it lacks";
                        self.report(Diagnostic::error(error).at(stderr.peer.span));
                    }
                }
            }
        }
    }

    fn marks(&mut self, marks: &'a [At<String>], span: Span) {
        if marks.is_empty() {
            self.report(Diagnostic::error("`marks` names nothing that has to happen").at(span));
        }
        for mark in marks.iter().filter(|mark| !MARK_IDS.contains(&mark.value.as_str())) {
            let help = did_you_mean(&mark.value, MARK_IDS.iter().copied());
            let error = format!("the ring oracle has no mark `{}`", mark.value);
            self.report(Diagnostic::error(error).at(mark.span).maybe_help(help));
        }
    }

    /// A member of an order. The short form names no channel: the message's own is meant.
    fn pattern_ref(&mut self, pattern: &'a PatternRef) {
        let short = |name: &Option<At<String>>| name.as_ref().is_some_and(|n| n.span == pattern.0.span);
        match &pattern.0.value {
            Pattern {
                message: Some(name), ..
            } if short(&pattern.0.message) => {
                self.message(name, None);
            }
            Pattern {
                reply_to: Some(name), ..
            } if short(&pattern.0.reply_to) => {
                self.message(name, None);
            }
            map => self.pattern(map, pattern.0.span, false),
        }
    }

    /// One pattern. `place` is pointed at when it is empty; `binds`: whether `as` and `within` mean something here.
    pub(super) fn pattern(&mut self, pattern: &'a Pattern, place: Span, binds: bool) {
        let from = pattern.from.as_ref().and_then(|name| Some((name, self.peer(name)?)));
        let place = pattern.from.as_ref().map_or(place, |f| f.span);
        let kinds = kinds(pattern);
        match kinds.as_slice() {
            [] => self.report(
                Diagnostic::error("the pattern does not say what is to come")
                    .at(place)
                    .help("one of: message, reply_to, kick, call, error, closed, exits, event, device"),
            ),
            [_] => {}
            [(first, at), (second, again), ..] => self.report(
                Diagnostic::error(format!(
                    "a pattern is about one thing; this one has `{first}` and `{second}`"
                ))
                .at(*again)
                .note(*at, "the first"),
            ),
        }
        if !binds {
            let useless = [
                ("as", pattern.bind.as_ref().map(|b| b.span)),
                ("within", pattern.within.as_ref().map(|w| w.span)),
            ];
            for (field, at) in useless {
                let Some(at) = at else { continue };
                self.report(Diagnostic::error(format!("`{field}` has no meaning here: nothing is waited for")).at(at));
            }
        }
        let sender = from.map(|(name, peer)| (name, peer.party));
        let spec = self.pattern_message(pattern, sender);
        self.pattern_kind(pattern, from);
        self.pattern_content(
            pattern,
            spec,
            from.map(|(_, peer)| peer),
            kinds.first().map(|(name, _)| *name),
        );
    }

    /// The message of a pattern, and whether it is its reply that is meant.
    fn pattern_message(
        &mut self,
        pattern: &Pattern,
        sender: Option<(&At<String>, Party)>,
    ) -> Option<(&'static MessageSpec, bool)> {
        let channel = pattern.channel.as_ref();
        if let Some(name) = &pattern.message {
            return Some((self.request_from(name, channel, sender)?, false));
        }
        let name = pattern.reply_to.as_ref()?;
        Some((self.reply_from(name, channel, sender)?, true))
    }

    /// Kicks, calls, closes, ends and events: who can make them.
    fn pattern_kind(&mut self, pattern: &Pattern, from: Option<(&At<String>, Peer<'a>)>) {
        if let Some(closed) = &pattern.closed {
            self.channel(Some(closed));
        }
        if let Some(device) = &pattern.device {
            self.device_change(device);
        }
        self.other_end(pattern.to.as_ref());
        if let Some(exit) = &pattern.exits {
            self.exit_rule(exit, pattern.from.as_ref().map_or(Span::default(), |f| f.span));
        }
        let Some((name, peer)) = from else { return };
        let wrong = |what: &str, party: Party| {
            Diagnostic::error(format!("a {} never {what}", peer.party))
                .at(name.span)
                .help(format!("the {party} does"))
        };
        if pattern.kick.is_some() && peer.party == Party::BackEnd {
            self.report(wrong("kicks", Party::FrontEnd));
        }
        if pattern.call.is_some() && peer.party == Party::FrontEnd {
            self.report(wrong("calls", Party::BackEnd));
        }
        if pattern.error.is_some() && peer.party == Party::FrontEnd {
            self.report(wrong("signals errors of a ring", Party::BackEnd));
        }
        if pattern.exits.is_some() {
            self.actor(name, "exits", None, Kinds::Process);
        }
        if pattern.event.is_some() {
            self.actor(name, "event", Some(Party::FrontEnd), Kinds::Qemu);
        }
    }

    /// What is asked of the content: only a message has fields, and only those of its layouts.
    fn pattern_content(
        &mut self,
        pattern: &Pattern,
        spec: Option<(&'static MessageSpec, bool)>,
        from: Option<Peer<'a>>,
        kind: Option<&str>,
    ) {
        let conditions = [
            ("value", &pattern.value),
            ("status", &pattern.status),
            ("fds", &pattern.fds),
            ("size", &pattern.size),
        ];
        if let (Some(value), Some(status)) = (&pattern.value, &pattern.status) {
            let error = Diagnostic::error("`status` is the same as `value`; give one").at(status.span);
            self.report(error.note(value.span, "the other"));
        }
        let is_message = matches!(kind, None | Some("message" | "reply_to"));
        for (name, condition) in conditions {
            let Some(condition) = condition else { continue };
            if let (false, Some(kind)) = (is_message, kind) {
                self.report(Diagnostic::error(format!("`{kind}` has no `{name}`")).at(condition.span));
                continue;
            }
            self.condition(condition, spec.map(|(spec, _)| spec), from);
            if matches!(name, "fds" | "size") {
                self.values(name, condition, &[Holds::Number(32)], None);
            }
        }
        let has_fields = is_message || kind == Some("device");
        if let (false, Some(kind), Some((key, _))) = (has_fields, kind, pattern.fields.iter().next()) {
            self.report(Diagnostic::error(format!("`{kind}` has no fields")).at(key.span));
        }
        if let (true, Some(need_reply)) = (pattern.reply_to.is_some(), &pattern.need_reply) {
            self.report(Diagnostic::error("a reply never has need_reply").at(need_reply.span));
        }
        for (_, condition) in pattern.fields.iter() {
            self.condition(condition, spec.map(|(spec, _)| spec), from);
        }
        let Some((spec, reply)) = spec else { return };
        let layouts = if reply { spec.reply.layouts } else { spec.request };
        self.field_names(&named(spec, reply), layouts, pattern.fields.iter().map(|(key, _)| key));
        for (name, value) in [("value", &pattern.value), ("status", &pattern.status)] {
            let Some(value) = value else { continue };
            self.plain_value(spec, reply, layouts, value.span);
            self.values(name, value, &Holds::in_value(layouts), Some((spec, from)));
        }
        for (path, condition) in pattern.fields.iter() {
            let holds = Holds::at(&path.value, layouts);
            self.values(&path.value, condition, &holds, Some((spec, from)));
        }
    }

    /// `value` and `status` are the number of a u64, or the field that the message is about.
    pub(super) fn plain_value(&mut self, spec: &MessageSpec, reply: bool, layouts: &[Layout], place: Span) {
        if !Holds::in_value(layouts).is_empty() {
            return;
        }
        let known: Vec<&str> = layouts.iter().flat_map(|layout| layout.field_names()).collect();
        let error = Diagnostic::error(format!("{} has no single value", named(spec, reply))).at(place);
        self.report(match known.is_empty() {
            true => error.help("it carries no payload"),
            false => error.help(format!("use `fields`: {}", known.join(", "))),
        });
    }

    /// The feature names of a condition; contradictions that no value can meet.
    pub(super) fn condition(
        &mut self,
        condition: &At<FieldMatch>,
        spec: Option<&'static MessageSpec>,
        from: Option<Peer<'a>>,
    ) {
        for name in condition.has.iter().chain(&condition.lacks) {
            self.feature(&name.value, name.span, spec, from);
        }
        if let Some(both) = condition
            .lacks
            .iter()
            .find(|l| condition.has.iter().any(|h| h.value == l.value))
        {
            self.report(Diagnostic::error(format!("`{}` is in `has` and in `lacks`", both.value)).at(both.span));
        }
        use super::super::scalar::Num::Literal;
        if let (Some(min), Some(max)) = (&condition.min, &condition.max)
            && let (Literal(low), Literal(high)) = (&min.value, &max.value)
            && low > high
        {
            let error = Diagnostic::error(format!("nothing is at least {low} and at most {high}")).at(max.span);
            self.report(error.note(min.span, "the lower bound"));
        }
        if let (Some(mask), None) = (&condition.mask, &condition.is) {
            self.report(Diagnostic::error("`mask` without `is` asks for nothing").at(mask.span));
        }
        if condition.value == FieldMatch::default() {
            self.report(Diagnostic::error("a condition that asks for nothing").at(condition.span));
        }
    }
}

fn named(spec: &MessageSpec, reply: bool) -> String {
    let name = spec.name;
    if reply {
        format!("the reply to {name}")
    } else {
        name.to_owned()
    }
}
