//! Names of messages, channels and payload fields.

use crate::wire::{Channel, Layout, MessageSpec, Party};

use super::super::diagnostic::Diagnostic;
use super::super::span::At;
use super::super::suggest::{did_you_mean, nearest};
use super::Cx;

impl Cx<'_> {
    /// The channel that a step names; main if it names none.
    pub(super) fn channel(&mut self, channel: Option<&At<String>>) -> Option<Channel> {
        let Some(at) = channel else { return Some(Channel::Main) };
        match at.value.parse() {
            Ok(channel) => Some(channel),
            Err(_) => {
                let error = Diagnostic::error(format!("there is no channel `{}`", at.value)).at(at.span);
                self.report(error.help("`main`, or `backend` for requests of the back-end"));
                None
            }
        }
    }

    /// The message of that name on a channel. Without one, on either.
    pub(super) fn message(&mut self, name: &At<String>, channel: Option<Channel>) -> Option<&'static MessageSpec> {
        let unknown = match crate::wire::find(self.scenario.dialect(), &name.value, channel) {
            Ok(spec) => return Some(spec),
            Err(unknown) => unknown,
        };
        let error = match crate::wire::find(self.scenario.dialect(), &name.value, None) {
            Ok(spec) => {
                let on = spec.channel;
                let error = format!("{} travels on the {on} channel", spec.name);
                let help = match on {
                    Channel::Backend => "add `channel: backend`",
                    Channel::Main => "remove `channel: backend`",
                };
                Diagnostic::error(error).at(name.span).help(help)
            }
            Err(_) => {
                let help = did_you_mean(&name.value, unknown.suggestions.iter().copied())
                    .or_else(|| unknown.suggestions.first().map(|s| format!("did you mean `{s}`?")));
                let error = format!("no message is called `{}`", name.value);
                Diagnostic::error(error).at(name.span).maybe_help(help)
            }
        };
        self.report(error);
        None
    }

    /// A request that `sender` has to be able to send. What it can never send is reported once, whatever the channel.
    pub(super) fn request_from(
        &mut self,
        name: &At<String>,
        channel: Option<&At<String>>,
        sender: Option<(&At<String>, Party)>,
    ) -> Option<&'static MessageSpec> {
        let wanted = self.channel(channel)?;
        if crate::wire::unassigned(self.scenario.dialect(), &name.value, wanted).is_some() {
            return None;
        }
        let found = crate::wire::find(self.scenario.dialect(), &name.value, Some(wanted));
        if let (Ok(spec), Some((peer, party))) = (
            found.or_else(|_| crate::wire::find(self.scenario.dialect(), &name.value, None)),
            sender,
        ) && spec.channel.requester() != party
            && !spec.from_both
        {
            let requester = spec.channel.requester();
            self.report(
                Diagnostic::error(format!("a {party} never sends {}", spec.name))
                    .at(name.span)
                    .note(peer.span, format!("`{}` is a {party}", peer.value))
                    .help(format!(
                        "requests on the {} channel come from a {requester}",
                        spec.channel
                    )),
            );
            return None;
        }
        self.message(name, Some(wanted))
    }

    /// A request that `sender` has to be able to answer.
    pub(super) fn reply_from(
        &mut self,
        name: &At<String>,
        channel: Option<&At<String>>,
        sender: Option<(&At<String>, Party)>,
    ) -> Option<&'static MessageSpec> {
        let wanted = self.channel(channel)?;
        if crate::wire::unassigned(self.scenario.dialect(), &name.value, wanted).is_some() {
            return None;
        }
        let found = crate::wire::find(self.scenario.dialect(), &name.value, Some(wanted));
        if let (Ok(spec), Some((peer, party))) = (
            found.or_else(|_| crate::wire::find(self.scenario.dialect(), &name.value, None)),
            sender,
        ) && spec.channel.requester() == party
            && !spec.from_both
        {
            let other = party.other();
            self.report(
                Diagnostic::error(format!("a {party} never replies to {}", spec.name))
                    .at(name.span)
                    .note(peer.span, format!("`{}` is a {party}", peer.value))
                    .help(format!(
                        "requests on the {} channel are answered by a {other}",
                        spec.channel
                    )),
            );
            return None;
        }
        self.message(name, Some(wanted))
    }

    /// Names or paths of fields, which one of the layouts has to have.
    pub(super) fn field_names<'k>(
        &mut self,
        message: &str,
        layouts: &[Layout],
        names: impl Iterator<Item = &'k At<String>>,
    ) {
        for name in names.filter(|name| !name.value.contains("${")) {
            let root = name.value.split(['.', '[']).next().unwrap_or("");
            if name.value == "conn_id" && self.scenario.dialect().has_conn_id() {
                // a word of the header
                continue;
            }
            let known = layouts.iter().flat_map(|layout| layout.field_names());
            let Some(field) = layouts.iter().find_map(|layout| layout.field(root)) else {
                if root == "num_regions" && layouts.contains(&Layout::MemTable) {
                    continue;
                }
                let known: Vec<&str> = known.collect();
                let error = Diagnostic::error(format!("{message} has no field `{root}`")).at(name.span);
                let help = match (nearest(root, known.iter().copied()), known.is_empty()) {
                    (Some(near), _) => format!("did you mean `{near}`?"),
                    (None, true) => "it carries no payload".to_owned(),
                    (None, false) => format!("its fields: {}", known.join(", ")),
                };
                self.report(error.help(help));
                continue;
            };
            let Some((_, inner)) = name.value.split_once("].") else {
                continue;
            };
            let inner = inner.split(['.', '[']).next().unwrap_or("");
            if !field.items.is_empty() && field.items.iter().all(|item| item.name != inner) {
                let known: Vec<&str> = field.items.iter().map(|item| item.name).collect();
                let error = Diagnostic::error(format!("an element of `{root}` has no field `{inner}`")).at(name.span);
                let help = did_you_mean(inner, known.iter().copied());
                self.report(error.help(help.unwrap_or_else(|| format!("its fields: {}", known.join(", ")))));
            }
        }
    }
}
