//! Steps about what simulated peers ask and share: requests that the peer can make, fields that they have, and options that
//! say something.

use crate::wire::{Channel, Dialect, Party};

use super::super::diagnostic::Diagnostic;
use super::super::model::{AskDuring, ConfigStep, DiesStep, InflightStep, PeerDecl, RequestStep, SharedStep};
use super::super::scalar::{Node, Num, Ordered};
use super::super::span::{At, Span};
use super::peers::{Kind, Peer};
use super::values::Holds;
use super::{Cx, Kinds};

impl<'a> Cx<'a> {
    pub(super) fn request_step(&mut self, step: &'a RequestStep) {
        let Some(peer) = self.actor(&step.peer, "request", None, Kinds::Simulated) else {
            return;
        };
        let channel = asks_on(peer.party);
        self.asked(&step.message, channel, &step.fields, peer);
        self.one_status(step.status.as_ref(), step.refused);
        self.ring_of("ring", step.ring.as_ref(), Some(peer));
    }

    pub(super) fn ask_during(&mut self, step: &'a AskDuring) {
        let Some(peer) = self.actor(&step.peer, "ask_during", Some(Party::BackEnd), Kinds::Simulated) else {
            return;
        };
        self.message(&step.request, Some(Channel::Main));
        self.asked(&step.message, Channel::Backend, &step.fields, peer);
        self.one_status(step.status.as_ref(), step.refused);
        self.ring_of("ring", step.ring.as_ref(), Some(peer));
    }

    fn one_status(&mut self, status: Option<&At<Num>>, refused: bool) {
        if let (Some(status), true) = (status, refused) {
            let error = "`refused` is any status but 0, and `status` is a certain one: give one of the two";
            self.report(Diagnostic::error(error).at(status.span));
        }
    }

    fn asked(&mut self, name: &At<String>, channel: Channel, fields: &'a Ordered<At<Node>>, peer: Peer<'a>) {
        let of_other = crate::wire::find(Dialect::VhostUser, &name.value, Some(channel)).is_err()
            && crate::wire::find(Dialect::VhostUser, &name.value, None).is_ok();
        if of_other {
            let error = format!("a {} never sends {}", peer.party, name.value);
            self.report(
                Diagnostic::error(error)
                    .at(name.span)
                    .note(peer.name.span, format!("`{}` is a {}", peer.name.value, peer.party)),
            );
            return;
        }
        let Some(spec) = self.message(name, Some(channel)) else {
            return;
        };
        self.field_names(spec.name, spec.request, fields.iter().map(|(key, _)| key));
        for (path, node) in fields.iter() {
            let holds = Holds::at(&path.value, spec.request);
            self.value(&path.value, node, &holds, Some((spec, Some(peer))));
        }
    }

    pub(super) fn shared_step(&mut self, step: &SharedStep, place: Span) {
        self.actor(&step.peer, "shared", None, Kinds::Simulated);
        self.within("region", step.region.as_ref(), 0, 255);
        match (&step.write, &step.is, step.absent) {
            (None, None, false) => {
                let error = Diagnostic::error("`shared` neither reads nor writes").at(place);
                self.report(error.help("give `write`, `is`, or `absent: true`"));
            }
            (Some(bytes), _, true) | (_, Some(bytes), true) => {
                let error = Diagnostic::error("where nothing is mapped, nothing can be read or written");
                self.report(error.at(bytes.span));
            }
            _ => {}
        }
    }

    pub(super) fn dies(&mut self, step: &DiesStep) {
        self.actor(&step.peer, "dies", Some(Party::BackEnd), Kinds::Simulated);
        let other = step
            .at
            .as_ref()
            .map(|at| at.span)
            .or(step.request.as_ref().map(|request| request.span));
        if let (Some(write), Some(other)) = (&step.write, other) {
            let error = Diagnostic::error("it dies at a moment of a request's way, or before a write, not both");
            self.report(error.at(write.span).note(other, "here is the moment"));
        }
    }

    pub(super) fn inflight(&mut self, step: &InflightStep) {
        for (field, _) in step
            .fields
            .iter()
            .filter(|(field, _)| !INFLIGHT_FIELDS.contains(&field.value.as_str()))
        {
            let error = format!("an inflight area has no field `{}`", field.value);
            let fields = INFLIGHT_FIELDS.join("`, `");
            self.report(
                Diagnostic::error(error)
                    .at(field.span)
                    .help(format!("its fields are `{fields}`")),
            );
        }
        let Some(peer) = self.actor(&step.peer, "inflight", Some(Party::FrontEnd), Kinds::Simulated) else {
            return;
        };
        let says = step.requests.is_some()
            || step.count.is_some()
            || step.at_least.is_some()
            || step.descriptors.is_some()
            || step.settled;
        if !says && step.fields.is_empty() {
            let error = Diagnostic::error("`inflight` says nothing of what is in flight").at(step.peer.span);
            self.report(error.help("give `requests`, `count`, `at_least`, `descriptors`, `fields` or `settled`"));
        }
        if let (Some(at_least), true) = (
            &step.at_least,
            step.requests.is_some() || step.count.is_some() || step.settled,
        ) {
            let error = Diagnostic::error("`at_least` waits, and nothing else is looked at in the same step");
            self.report(error.at(at_least.span).help("make two steps of it"));
        }
        if peer.decl.keeps_inflight.as_ref().is_none_or(|keeps| !keeps.value) {
            let error = format!("`{}` has no inflight area", step.peer.value);
            let error = Diagnostic::error(error).at(step.peer.span);
            self.report(error.help("a front-end with `keeps_inflight: true` has one"));
        }
    }

    pub(super) fn config(&mut self, config: &ConfigStep) {
        let Some(peer) = self.actor(&config.peer, "config", None, Kinds::Started) else {
            return;
        };
        match (&config.is, &config.write) {
            (Some(is), Some(write)) => {
                let error = Diagnostic::error("`config` reads or writes, not both").at(write.span);
                self.report(error.note(is.span, "reads"));
            }
            (None, None) => {
                let error =
                    Diagnostic::error("`config` neither reads (`is`) nor writes (`write`)").at(config.peer.span);
                self.report(error);
            }
            (Some(is), None) if peer.party == Party::BackEnd => {
                let error = Diagnostic::error("a back-end changes its configuration space, and others read it");
                self.report(error.at(is.span).help("give `write`"));
            }
            (None, Some(write)) if peer.party == Party::FrontEnd && peer.kind == Kind::Simulated => {
                let error = Diagnostic::error("of a simulated front-end it is asked what it knows of the space");
                self.report(error.at(write.span).help("`send` SET_CONFIG writes to it"));
            }
            _ => {}
        }
    }

    /// Fields of a declaration that only one of the two parties has.
    pub(super) fn of_party(&mut self, decl: &PeerDecl, peer: Peer<'a>) {
        let serves = decl.serves_channel.as_ref().map(|s| s.span);
        let reads = decl.reads_while_asking.as_ref().map(|r| r.span);
        let shared = decl.shared_memory.first().map(|s| s.span);
        for (place, field, party) in [
            (serves, "serves_channel", Party::FrontEnd),
            (reads, "reads_while_asking", Party::BackEnd),
            (shared, "shared_memory", Party::BackEnd),
            (
                decl.inflight_fault.as_ref().map(|f| f.span),
                "inflight_fault",
                Party::BackEnd,
            ),
            (
                decl.keeps_inflight.as_ref().map(|k| k.span),
                "keeps_inflight",
                Party::FrontEnd,
            ),
        ] {
            let Some(place) = place else { continue };
            if peer.party != party || peer.kind != Kind::Simulated {
                let error = format!("`{field}` is for a simulated {party}");
                self.report(
                    Diagnostic::error(error)
                        .at(place)
                        .note(peer.value.span, "declared here"),
                );
            }
        }
        if decl.shared_memory.len() > crate::wire::ShmemConfig::REGIONS_MAX
            && let Some(place) = shared
        {
            let most = crate::wire::ShmemConfig::REGIONS_MAX;
            self.report(Diagnostic::error(format!("more than {most} shared memory regions")).at(place));
        }
    }
}

/// What a region of an inflight area begins with, in either format.
const INFLIGHT_FIELDS: [&str; 9] = [
    "version",
    "desc_num",
    "last_batch_head",
    "used_idx",
    "free_head",
    "old_free_head",
    "old_used_idx",
    "used_wrap_counter",
    "old_used_wrap_counter",
];

fn asks_on(party: Party) -> Channel {
    match party {
        Party::FrontEnd => Channel::Main,
        Party::BackEnd => Channel::Backend,
    }
}
