//! From the language's patterns to matchers: peers, messages and values looked up.

use super::failure::{Result, Stop};
use super::run::Run;
use crate::judge::matcher::{ExitMatch, Matcher, Stream, What};
use crate::judge::value::FeatureSpace;
use crate::scenario::model::{ExitRule, Pattern};
use crate::scenario::scalar::FieldMatch;
use crate::scenario::span::{At, Span};
use crate::scenario::{Diagnostic, eval_match, eval_num};
use crate::sys::child::Exit;
use crate::trace::{PeerId, UnknownChange};
use crate::wire::{Channel, Party, find, unassigned};

impl Run<'_> {
    /// The matcher of a pattern that stands at `span`.
    pub(super) fn matcher(&self, pattern: &Pattern, span: Span) -> Result<Matcher> {
        let channel = channel(pattern.channel.as_ref())?;
        // the short forms of `order` name no channel: a name that only the back-end channel knows means that one
        let named = pattern.message.as_ref().or(pattern.reply_to.as_ref());
        let only_elsewhere =
            named.filter(|n| pattern.channel.is_none() && find(self.dialect, &n.value, Some(channel)).is_err());
        let channel = only_elsewhere
            .and_then(|n| find(self.dialect, &n.value, None).ok())
            .map_or(channel, |spec| spec.channel);
        let name = |name: &At<String>| {
            if let Some(id) = unassigned(self.dialect, &name.value, channel) {
                return Ok((id, name.value.clone()));
            }
            find(self.dialect, &name.value, Some(channel))
                .map(|spec| (spec.id, spec.name.to_owned()))
                .map_err(|e| Stop::from_diagnostic(Diagnostic::error(e.to_string()).at(name.span)))
        };
        let from = |party| self.sender(pattern, party, span);
        // where a peer has several connections, the one with that peer
        let on = |peer| {
            let to = pattern.to.as_ref();
            match to {
                Some(_) => self.link_to(peer, to, span).map(Some),
                None => Ok(self.only_link(peer)),
            }
        };
        let requester = channel.requester();
        let (stream, what) = if let Some(message) = &pattern.message {
            let (id, name) = name(message)?;
            let sender = from(requester)?;
            (Stream::Messages(sender, channel, on(sender)?), What::Request(id, name))
        } else if let Some(message) = &pattern.reply_to {
            let (id, name) = name(message)?;
            let sender = from(requester.other())?;
            (Stream::Messages(sender, channel, on(sender)?), What::Reply(id, name))
        } else if let Some(ring) = &pattern.kick {
            (Stream::Kicks(from(Party::FrontEnd)?, self.ring(ring)?), What::Signal)
        } else if let Some(ring) = &pattern.call {
            (Stream::Calls(from(Party::BackEnd)?, self.ring(ring)?), What::Signal)
        } else if let Some(ring) = &pattern.error {
            (Stream::Errors(from(Party::BackEnd)?, self.ring(ring)?), What::Signal)
        } else if let Some(closed) = &pattern.closed {
            let channel = self::channel(Some(closed))?;
            let closer = from(Party::BackEnd)?;
            (Stream::Closes(closer, channel, on(closer)?), What::Signal)
        } else if let Some(rule) = &pattern.exits {
            (
                Stream::Exits(from(Party::BackEnd)?),
                What::Exit(self.exit_match(rule, span)?),
            )
        } else if let Some(event) = &pattern.event {
            (Stream::Qmp(from(Party::FrontEnd)?), What::Qmp(event.value.clone()))
        } else if let Some(device) = &pattern.device {
            let change = device.value.parse();
            let change =
                change.map_err(|e: UnknownChange| Stop::script(Diagnostic::error(e.to_string()).at(device.span)))?;
            let owner = from(Party::BackEnd)?;
            (Stream::Devices(owner, change, on(owner)?), What::Device(change))
        } else {
            return Err(Stop::script(
                Diagnostic::error("the pattern names nothing to wait for").at(span),
            ));
        };
        let peer = &self.peers[stream.peer().0].spec;
        let request = match &what {
            What::Request(id, _) | What::Reply(id, _) => *id,
            _ => 0,
        };
        let space = FeatureSpace::of(self.dialect, request, self.device_kind(stream.peer()));
        let evaluate = |m: &At<FieldMatch>| match eval_match(&m.value, &self.bindings) {
            Ok(value) => Ok(At { value, span: m.span }),
            Err(diagnostic) => Err(Stop::from_diagnostic(diagnostic)),
        };
        let mut fields = Vec::new();
        for condition in [&pattern.value, &pattern.status].into_iter().flatten() {
            fields.push((String::new(), evaluate(condition)?));
        }
        for (path, condition) in pattern.fields.iter() {
            fields.push((path.value.clone(), evaluate(condition)?));
        }
        Ok(Matcher {
            stream,
            peer: peer.name.clone(),
            what,
            span,
            need_reply: pattern.need_reply.clone(),
            fields,
            fds: pattern.fds.as_ref().map(evaluate).transpose()?,
            size: pattern.size.as_ref().map(evaluate).transpose()?,
            space,
            dialect: self.dialect,
        })
    }

    /// The device on a peer's link, by which feature bits are named: either side may have declared it.
    pub(super) fn device_kind(&self, peer: PeerId) -> crate::wire::DeviceKind {
        let kind = self.peers[peer.0].spec.kind;
        let other = self.peers[peer.0].link.map(|l| {
            let link = &self.links[l.0];
            if link.front == peer { link.back } else { link.front }
        });
        match (kind, other) {
            (crate::wire::DeviceKind::Other, Some(other)) => self.peers[other.0].spec.kind,
            _ => kind,
        }
    }

    /// The peer that a pattern is about: the one named, or the only one of the party that can do it.
    fn sender(&self, pattern: &Pattern, party: Party, span: Span) -> Result<PeerId> {
        if let Some(name) = &pattern.from {
            return self.peer(&name.value, name.span);
        }
        let mut candidates = self.peers.iter().enumerate().filter(|(_, p)| p.spec.party == party);
        match (candidates.next(), candidates.next()) {
            (Some((i, _)), None) => Ok(PeerId(i)),
            _ => Err(Stop::script(
                Diagnostic::error(format!("`from` has to say which {party} is meant")).at(span),
            )),
        }
    }

    /// A ring's index.
    pub(super) fn ring(&self, ring: &At<crate::scenario::scalar::Num>) -> Result<u16> {
        let value = eval_num(ring, &self.bindings)?;
        u16::try_from(value)
            .map_err(|_| Stop::script(Diagnostic::error(format!("{value} is no ring index")).at(ring.span)))
    }

    /// How a process must have ended.
    pub(super) fn exit_match(&self, rule: &ExitRule, span: Span) -> Result<ExitMatch> {
        if let Some(signal) = &rule.signal {
            let number = parse_signal(&signal.value)
                .ok_or_else(|| Stop::script(Diagnostic::error(format!("`{}` is no signal", signal.value)).at(span)))?;
            return Ok(ExitMatch::Is(Exit::Signal(number as i32)));
        }
        match &rule.status {
            Some(status) => {
                let value = eval_num(status, &self.bindings)?;
                let status = i32::try_from(value).unwrap_or(i32::MAX);
                Ok(ExitMatch::Is(Exit::Status(status)))
            }
            None => Ok(ExitMatch::Any),
        }
    }
}

impl Stop {
    /// A mistake of the scenario that shows only at run time.
    pub(super) fn from_diagnostic(diagnostic: Diagnostic) -> Box<Self> {
        Stop::script(diagnostic)
    }
}

/// The socket that a step names; the main one if none.
pub(super) fn channel(name: Option<&At<String>>) -> Result<Channel> {
    let Some(name) = name else { return Ok(Channel::Main) };
    name.value
        .parse()
        .map_err(|e: crate::wire::UnknownWord| Stop::script(Diagnostic::error(e.to_string()).at(name.span)))
}

/// `SIGKILL`, `KILL`, `sigkill`.
pub(super) fn parse_signal(name: &str) -> Option<nix::sys::signal::Signal> {
    let upper = name.to_uppercase();
    let full = if upper.starts_with("SIG") {
        upper
    } else {
        format!("SIG{upper}")
    };
    full.parse().ok()
}
