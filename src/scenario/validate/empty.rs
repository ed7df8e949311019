//! What says nothing: conditions that everything meets, members of a choice that are never chosen, peers that are not used,
//! passes that are not made, limits that are over at once.

use crate::peer::catalogue::unknown_placeholder;

use super::super::diagnostic::{Diagnostic, SourceFile};
use super::super::model::{ExitRule, Pattern, Scenario, StderrCheck, Step};
use super::super::scalar::{Duration, Node, Num};
use super::super::span::{At, Span};
use super::super::yaml::slice;
use super::Cx;
use super::peers::Kind;

impl<'a> Cx<'a> {
    /// `exits: {}` looks like a condition and is none.
    pub(super) fn exit_says(&mut self, exit: &ExitRule, place: Span) {
        if exit.status.is_none() && exit.signal.is_none() && !exit.any {
            let error = Diagnostic::error("it is not said how the process ends").at(place);
            self.report(error.help("`status: 0`, `signal: SIGKILL`, or `any: true`"));
        }
    }

    /// Every text contains nothing.
    pub(super) fn stderr_says(&mut self, check: &StderrCheck) {
        for text in [&check.contains, &check.lacks].into_iter().flatten() {
            if text.value.is_empty() {
                self.report(Diagnostic::error("every text contains nothing").at(text.span));
            }
        }
    }

    /// A member that an earlier one takes everything from, and that binds nothing.
    pub(super) fn members(&mut self, patterns: &'a [Pattern]) {
        for (at, pattern) in patterns.iter().enumerate() {
            let Some((wide, place)) = place(pattern).and_then(|place| {
                let before = patterns[..at].iter().find(|wide| is_wider(wide, pattern))?;
                Some((before, place))
            }) else {
                continue;
            };
            let first = self::place(wide).unwrap_or_default();
            let error = Diagnostic::error("this is never chosen: one before it takes all that it fits").at(place);
            self.report(error.note(first, "the one before"));
        }
    }

    /// What is asked of frames, for a device that has none.
    pub(super) fn carries_frames(&mut self, name: &At<String>) {
        let found = self.peers.iter().find(|peer| peer.name.value == name.value).copied();
        let Some(peer) = found.filter(|peer| peer.kind == Kind::Simulated) else {
            return;
        };
        let device = peer.decl.device.as_ref().map_or(
            if self.scenario.dialect().is_pci() {
                "net"
            } else {
                "generic"
            },
            |device| device.value.as_str(),
        );
        if device != "net" {
            let error = format!("`{}` is a {device} device, which carries no frames", name.value);
            self.report(
                Diagnostic::error(error)
                    .at(name.span)
                    .note(peer.name.span, "declared here"),
            );
        }
    }

    /// A number of things that is none. A parameter may come to it; what is written may not.
    pub(super) fn some(&mut self, what: &str, num: Option<&At<Num>>) {
        let Some(num) = num.filter(|num| num.value == Num::Literal(0) && !self.comes_of_reference(num.span)) else {
            return;
        };
        self.report(Diagnostic::error(format!("`{what}: 0` does nothing")).at(num.span));
    }

    fn comes_of_reference(&self, span: Span) -> bool {
        let text = self
            .sources
            .get(span.source as usize)
            .map_or("", |source: &SourceFile| &*source.text);
        slice(text, span).contains("${") || span.line == 0
    }

    /// Pieces end further on, each.
    pub(super) fn pieces(&mut self, split: &[At<Num>]) {
        let mut last = 0;
        for offset in split {
            let Num::Literal(number) = offset.value else { return };
            if number <= last {
                let error = format!("a piece that ends at byte {number} has nothing in it");
                self.report(
                    Diagnostic::error(error)
                        .at(offset.span)
                        .help("offsets grow, and begin behind 0"),
                );
                return;
            }
            last = number;
        }
    }

    /// Numbers of one step.
    pub(super) fn step_says(&mut self, step: &'a Step) {
        match step {
            Step::Repeat(step) => self.some("times", Some(&step.times)),
            Step::Deliver(step) => {
                self.some("packets", step.packets.as_ref());
                self.carries_frames(&step.from);
                self.carries_frames(&step.to);
            }
            Step::Echo(step) => self.some("requests", step.requests.as_ref()),
            Step::AnyOf(patterns) => self.members(patterns),
            Step::Send(step) => self.pieces(&step.split),
            Step::Raw(step) => self.pieces(&step.split),
            Step::Reply(step) => self.pieces(&step.split),
            _ => {}
        }
    }

    /// A command with a word in braces that stands for nothing.
    pub(super) fn placeholders(&mut self, command: &At<String>) {
        if let Some(unknown) = unknown_placeholder(&command.value) {
            let known = crate::peer::catalogue::PLACEHOLDERS.join(", ");
            let error = Diagnostic::error(format!("`{unknown}` stands for nothing")).at(command.span);
            self.report(error.help(format!("there are {known}")));
        }
    }
}

/// Where a pattern is written.
fn place(pattern: &Pattern) -> Option<Span> {
    let name = pattern.message.as_ref().or(pattern.reply_to.as_ref());
    name.or(pattern.from.as_ref()).map(|text| text.span)
}

/// Whether a pattern takes every message that another one fits: it is about the same, and has no conditions or the same.
fn is_wider(wide: &Pattern, narrow: &Pattern) -> bool {
    let channel = |p: &Pattern| p.channel.as_ref().map_or("main".to_owned(), |c| c.value.clone());
    let named = wide.message.is_some() || wide.reply_to.is_some();
    let same = wide.message == narrow.message && wide.reply_to == narrow.reply_to && wide.from == narrow.from;
    let has_none = |p: &Pattern| {
        let of_message = p.need_reply.is_none() && p.fds.is_none() && p.size.is_none();
        of_message && p.value.is_none() && p.status.is_none() && p.fields.is_empty()
    };
    let equal = wide.need_reply == narrow.need_reply
        && wide.value == narrow.value
        && wide.status == narrow.status
        && wide.fields == narrow.fields
        && wide.fds == narrow.fds
        && wide.size == narrow.size;
    named && same && channel(wide) == channel(narrow) && (has_none(wide) || equal) && narrow.bind.is_none()
}

/// Peers that no step and no check names.
pub(super) fn unused_peers(scenario: &Scenario, tree: &At<Node>) -> Vec<Diagnostic> {
    let Node::Map(map) = &tree.value else { return Vec::new() };
    let parts: Vec<&At<Node>> = ["steps", "check"].iter().filter_map(|key| map.get(key)).collect();
    // another member of the family may be about it
    let parameters = scenario.parameters.iter();
    let values = parameters.flat_map(|(_, p)| p.default.iter().chain(p.values.iter().flatten()));
    let parts: Vec<&At<Node>> = parts.into_iter().chain(values).collect();
    let unused = scenario
        .peers
        .iter()
        .filter(|(name, _)| !parts.iter().any(|part| names(part, &name.value)));
    unused
        .map(|(name, _)| {
            Diagnostic::error(format!("the peer `{}` takes no part", name.value))
                .at(name.span)
                .help("no step and no check names it")
        })
        .collect()
}

fn names(node: &At<Node>, peer: &str) -> bool {
    match &node.value {
        Node::Text(text) => text == peer,
        Node::List(items) => items.iter().any(|item| names(item, peer)),
        Node::Map(map) => map.iter().any(|(_, value)| names(value, peer)),
        _ => false,
    }
}

/// Limits that are over before anything can come.
pub(super) fn no_time(node: &At<Node>, wrong: &mut Vec<Diagnostic>) {
    match &node.value {
        Node::List(items) => items.iter().for_each(|item| no_time(item, wrong)),
        Node::Map(map) => {
            for (key, value) in map.iter() {
                let is_limit = ["within", "timeout"].contains(&key.value.as_str());
                if let (true, Node::Text(text)) = (is_limit, &value.value)
                    && text.parse::<Duration>().is_ok_and(|limit| limit.ms == 0)
                {
                    let error = format!("nothing can come in `{}: {text}`", key.value);
                    wrong.push(Diagnostic::error(error).at(value.span));
                }
                no_time(value, wrong);
            }
        }
        _ => {}
    }
}
