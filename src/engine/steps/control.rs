//! Steps that control what crosses a link: what they ask for, looked up; and what neither peer sent.

use std::os::fd::AsFd;

use super::super::control::{Act, Change, Control, Cuts, HoldState};
use super::super::failure::{Result, Stop};
use super::super::patterns::channel;
use super::super::resolve::header;
use super::super::run::Run;
use super::messages::{make_fd, needed_fds};
use crate::judge::value::{FeatureSpace, to_value};
use crate::link::{Chunk, Kept, Parcel};
use crate::scenario::link_steps::{Alter, Hold, Inject, Join, Reorder, Signals, Split};
use crate::scenario::model::Pattern;
use crate::scenario::scalar::{Node, Num};
use crate::scenario::span::{At, Span};
use crate::scenario::{Diagnostic, eval_node, eval_num};
use crate::sys::fd::fd_type;
use crate::trace::{EventKind, Injected, LinkId, Meddling, SignalKind};
use crate::wire::{Message, MessageSpec, Party, Payload, Value, find, flags};

/// How often a control applies: `times`, `always`.
type Often<'a> = (Option<&'a At<Num>>, bool);

impl Run<'_> {
    pub(super) fn hold_step(&mut self, hold: &Hold, span: Span) -> Result<()> {
        let matcher = self.matcher(&hold.when, span)?;
        self.holds.push(HoldState {
            name: hold.name.value.clone(),
            matcher,
            alone: hold.alone,
        });
        Ok(())
    }

    /// Whether a hold keeps something.
    pub(super) fn is_holding(&self, name: &str) -> bool {
        let by_it = |kept: &Option<Kept>| matches!(kept, Some(Kept::By(hold)) if hold == name);
        self.links.iter().any(|link| {
            let signal = link.relays.iter().flat_map(|r| &r.waiting).any(|s| by_it(&s.kept));
            signal || link.under_way().any(|transit| by_it(&transit.kept))
        })
    }

    /// Has something done to what a pattern describes.
    pub(super) fn control(
        &mut self,
        step: &'static str,
        span: Span,
        when: &Pattern,
        (times, always): Often,
        act: Act,
    ) -> Result<()> {
        let matcher = self.matcher(when, span)?;
        let left = match (times, always) {
            (_, true) => u64::MAX,
            (Some(times), false) => eval_num(times, &self.bindings)?,
            (None, false) => 1,
        };
        self.controls.push(Control {
            step,
            span: matcher.span,
            matcher,
            act,
            left,
            done: 0,
        });
        Ok(())
    }

    pub(super) fn reorder_step(&mut self, reorder: &Reorder, span: Span) -> Result<()> {
        let behind = Box::new(self.matcher(&reorder.behind, span)?);
        let act = Act::Reorder { behind, arrived: None };
        self.control("reorder", span, &reorder.when, (None, false), act)
    }

    pub(super) fn join_step(&mut self, join: &Join, span: Span) -> Result<()> {
        let with = Box::new(self.matcher(&join.with, span)?);
        self.control("join", span, &join.when, (None, false), Act::Join { with })
    }

    pub(super) fn split_step(&mut self, split: &Split, span: Span) -> Result<()> {
        let cuts = match &split.pieces_of {
            Some(size) => {
                let bytes = eval_num(size, &self.bindings)?;
                Cuts::PiecesOf(usize::try_from(bytes).unwrap_or(usize::MAX))
            }
            None => Cuts::At(self.offsets(&split.at)?),
        };
        let often = (split.times.as_ref(), split.always);
        self.control("split", span, &split.when, often, Act::Split(cuts))
    }

    pub(super) fn alter_step(&mut self, alter: &Alter, span: Span) -> Result<()> {
        let space = self.matcher(&alter.when, span)?.space;
        let value = alter.value.as_ref().or(alter.status.as_ref());
        let change = Change {
            value: value.map(|v| self.value(v, space)).transpose()?,
            fields: self.field_values(&alter.fields, space)?,
            need_reply: alter.need_reply.as_ref().map(|n| n.value),
            header: header(alter.header.as_ref(), &self.bindings)?,
            payload: alter.payload.as_ref().map(|p| p.value.0.clone()),
            fds: alter.fds.clone(),
        };
        let often = (alter.times.as_ref(), alter.always);
        self.control("alter", span, &alter.when, often, Act::Alter(Box::new(change)))
    }

    fn value(&self, node: &At<Node>, space: FeatureSpace) -> Result<Value> {
        let value = eval_node(node, &self.bindings)?;
        to_value(&value, space).map_err(|e| Stop::wrong(Diagnostic::error(e).at(node.span)))
    }

    /// Gives one side what the other has never sent, ahead of all that waits.
    pub(super) fn inject_step(&mut self, inject: &Inject, span: Span) -> Result<()> {
        let peer = self.peer(&inject.from.value, inject.from.span)?;
        let link = self.link_of(peer, inject.from.span)?;
        let from = self.peers[peer.0].spec.party;
        let signals = [
            (&inject.kick, SignalKind::Kick),
            (&inject.call, SignalKind::Call),
            (&inject.error, SignalKind::Error),
        ];
        if let Some((ring, kind)) = signals
            .into_iter()
            .find_map(|(ring, kind)| Some((ring.as_ref()?, kind)))
        {
            return self.inject_signal(link, from, ring, kind);
        }
        if let Some(closed) = &inject.closed {
            let channel = channel(Some(closed))?;
            self.injected(link, from, Injected::Close(channel));
            self.deliver_close(link, channel, from.other());
            return Ok(());
        }
        let parcel = self.parcel(inject, from, span)?;
        let what = Injected::Message {
            message: Box::new(parcel.message.clone()),
            fds: parcel.chunk.fds.iter().map(|fd| fd_type(fd.as_fd())).collect(),
        };
        self.injected(link, from, what);
        self.deliver(link, from, None, parcel);
        Ok(())
    }

    fn inject_signal(&mut self, link: LinkId, from: Party, ring: &At<Num>, kind: SignalKind) -> Result<()> {
        let index = self.ring(ring)?;
        let Some(relay) = self.links[link.0].relays.latest(kind, index) else {
            let error = format!("the {kind}s of ring {index} are not relayed");
            let help = "its eventfd has not come, or `relay` of this `connect` does not name them";
            return Err(Stop::wrong(Diagnostic::error(error).at(ring.span).help(help)));
        };
        let given = relay.give();
        self.injected(link, from, Injected::Signal { ring: index, kind });
        given.map_err(|e| Stop::wrong(Diagnostic::error(format!("it cannot be signalled: {e}")).at(ring.span)))
    }

    fn injected(&mut self, link: LinkId, from: Party, what: Injected) {
        let peer = self.links[link.0].peer(from);
        let is_signal = matches!(what, Injected::Signal { .. });
        let how = Meddling::Injected(what);
        self.record(Some(peer), Some(link), EventKind::Meddled { of: None, how });
        if !is_signal {
            self.disturbed(link);
        }
    }

    /// The message of an `inject`.
    fn parcel(&self, inject: &Inject, from: Party, span: Span) -> Result<Parcel> {
        let channel = channel(inject.channel.as_ref())?;
        let (Some(name), is_reply) = (
            inject.message.as_ref().or(inject.reply_to.as_ref()),
            inject.message.is_none(),
        ) else {
            return Err(Stop::wrong(Diagnostic::error("`inject` names nothing").at(span)));
        };
        let wrong = |e: String| Stop::wrong(Diagnostic::error(e).at(name.span));
        let spec: &MessageSpec = find(self.dialect, &name.value, Some(channel)).map_err(|e| wrong(e.to_string()))?;
        let peer = self.peer(&inject.from.value, inject.from.span)?;
        let space = FeatureSpace::of(self.dialect, spec.id, self.device_kind(peer));
        let mut fields = self.field_values(&inject.fields, space)?;
        if let Some(value) = inject.value.as_ref().or(inject.status.as_ref()) {
            fields.push(("value".to_owned(), self.value(value, space)?));
        }
        let names = || fields.iter().map(|(name, _)| name.as_str());
        let layout = if is_reply {
            spec.reply_layout(names())
        } else {
            spec.request_layout(names())
        };
        let mut payload = Payload::build(layout, &fields).map_err(|e| wrong(e.to_string()))?;
        if let Some(bytes) = &inject.payload {
            payload = Payload::Raw(bytes.value.0.clone());
        }
        let mut message = Message::request(spec, payload).need_reply(inject.need_reply);
        if is_reply {
            message.flags |= flags::REPLY;
        }
        let fds = match &inject.fds {
            Some(kinds) => kinds
                .iter()
                .map(|kind| make_fd(kind.value, kind.span))
                .collect::<Result<Vec<_>>>()?,
            None if is_reply || from != message.sender() => Vec::new(),
            // only the end that is passed on: nobody listens at the other one
            None => needed_fds(spec, &message.payload, name.span)?
                .into_iter()
                .take(1)
                .collect(),
        };
        let patch = header(inject.header.as_ref(), &self.bindings)?;
        let bytes = patch.encode(&message, &message.payload.encode());
        message.request = patch.request.unwrap_or(message.request);
        message.flags = patch.flags.unwrap_or(message.flags);
        message.conn_id = patch.conn_id.unwrap_or(message.conn_id);
        Ok(Parcel {
            message,
            chunk: Chunk::new(bytes, fds),
            split: self.offsets(&inject.split)?,
        })
    }
}

/// Kinds of notifications by their words.
pub(super) fn signal_kind(signals: Signals) -> SignalKind {
    match signals {
        Signals::Kicks => SignalKind::Kick,
        Signals::Calls => SignalKind::Call,
        Signals::Errors => SignalKind::Error,
    }
}
