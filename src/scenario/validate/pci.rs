//! vhost-pci: servers with sockets that differ, faults that exist, commands with what they need.

use crate::peer::sim::pci::{Fault, Role};
use crate::trace::DeviceChange;
use crate::wire::Party;

use super::super::diagnostic::Diagnostic;
use super::super::model::{Connect, PciCommand, PciStep};
use super::super::span::At;
use super::super::suggest::did_you_mean;
use super::peers::Peer;
use super::{Cx, Kinds};

/// What stands after `backend:` for a server.
pub(super) const SERVER: &str = "vhost-pci-server";

impl<'a> Cx<'a> {
    /// What a declaration says of vhost-pci.
    pub(super) fn pci(&mut self, peer: Peer<'a>) {
        let is_server = peer.party == Party::BackEnd && peer.value.value == SERVER;
        let dialect = self.scenario.dialect();
        if is_server && !dialect.is_pci() {
            let error = Diagnostic::error(format!("`{SERVER}` does not speak {dialect}")).at(peer.value.span);
            self.report(error.help("add `dialect: vhost-pci` or `dialect: vhost-pci-g2`"));
        }
        if is_server && let Some(field) = scripted(peer) {
            let error = format!(
                "a server answers by itself; `{}` is for `backend: simulated`",
                field.value
            );
            self.report(Diagnostic::error(error).at(field.span));
        }
        let Some(decl) = &peer.decl.pci else { return };
        let name = peer.name;
        if !dialect.is_pci() {
            let error = Diagnostic::error(format!("`pci` means nothing in {dialect}")).at(name.span);
            self.report(error.help("add `dialect: vhost-pci` or `dialect: vhost-pci-g2`"));
        }
        let of_server = [
            ("servers", decl.servers.as_ref().map(|s| s.span)),
            ("profile", decl.profile.as_ref().map(|s| s.span)),
            ("generation", decl.generation.as_ref().map(|s| s.span)),
            ("clients", decl.clients.as_ref().map(|s| s.span)),
            ("sharing", decl.sharing.as_ref().map(|s| s.span)),
            ("grouping", decl.grouping.as_ref().map(|s| s.span)),
            ("owner", decl.owner.as_ref().map(|s| s.span)),
        ];
        let of_master = [
            ("vm", decl.vm.as_ref().map(|s| s.span)),
            ("virtio_id", decl.virtio_id.as_ref().map(|s| s.span)),
        ];
        let others = if is_server { &of_master[..] } else { &of_server[..] };
        let whose = if is_server { "a master" } else { "a server" };
        for (field, place) in others {
            if let Some(place) = place {
                self.report(Diagnostic::error(format!("`{field}` is for {whose}")).at(*place));
            }
        }
        if let Some(servers) = &decl.servers {
            if servers.value.is_empty() {
                let error = Diagnostic::error("a server needs at least one chardev").at(servers.span);
                self.report(error);
            }
            for (at, chardev) in servers.value.iter().enumerate() {
                if chardev.value.is_empty() {
                    self.report(Diagnostic::error("the chardev is missing").at(chardev.span));
                } else if let Some(first) = servers.value[..at].iter().find(|first| first.value == chardev.value) {
                    let error = format!("two sockets are called `{}`", chardev.value);
                    self.report(Diagnostic::error(error).at(chardev.span).note(first.span, "the first"));
                }
            }
        }
        if let Some(vm) = decl.vm.as_ref().filter(|vm| vm.value.0.len() != 16) {
            let bytes = vm.value.0.len();
            self.report(Diagnostic::error(format!("a UUID has 16 bytes, this has {bytes}")).at(vm.span));
        }
        self.within("virtio_id", decl.virtio_id.as_ref(), 0, u64::from(u16::MAX));
        let role = if is_server { Role::Server } else { Role::Master };
        for fault in &decl.faults {
            self.fault(fault, role);
        }
    }

    fn fault(&mut self, name: &At<String>, role: Role) {
        let (who, other) = match role {
            Role::Server => ("server", "master"),
            Role::Master => ("master", "server"),
        };
        match Fault::named(&name.value) {
            Some(fault) if fault.role() == role => {}
            Some(_) => {
                let error = format!("`{}` is a fault of a {other}, not of a {who}", name.value);
                self.report(Diagnostic::error(error).at(name.span));
            }
            None => {
                let names = Fault::ALL
                    .iter()
                    .filter(|fault| fault.role() == role)
                    .map(|fault| fault.name());
                let help = did_you_mean(&name.value, names);
                let error = format!("a {who} has no fault called `{}`", name.value);
                self.report(Diagnostic::error(error).at(name.span).maybe_help(help));
            }
        }
    }

    /// The socket of a `connect`.
    pub(super) fn pci_socket(&mut self, connect: &Connect) {
        let Some(socket) = &connect.socket else { return };
        let Some(server) = self.server(&connect.to) else { return };
        let declared = server.decl.pci.as_ref().and_then(|pci| pci.servers.as_ref());
        let known: Vec<String> = declared.map_or_else(
            || vec!["a".to_owned()],
            |servers| servers.value.iter().map(|s| s.value.clone()).collect(),
        );
        // a command may have it listen later
        let later = self.listens_later(&socket.value);
        if !later && !known.contains(&socket.value) {
            let error = format!("`{}` has no socket `{}`", connect.to.value, socket.value);
            let help = format!("its sockets: {}", known.join(", "));
            self.report(Diagnostic::error(error).at(socket.span).help(help));
        }
    }

    fn listens_later(&self, socket: &str) -> bool {
        use super::super::model::Step;
        let says_so = |step: &At<Step>| match &step.value {
            Step::Pci(pci) => {
                pci.command.value == PciCommand::Listen && pci.socket.as_ref().is_some_and(|s| s.value == socket)
            }
            _ => false,
        };
        self.scenario.steps.iter().any(says_so)
    }

    /// A server by its name.
    fn server(&mut self, name: &At<String>) -> Option<Peer<'a>> {
        let peer = self.actor(name, "pci", Some(Party::BackEnd), Kinds::Simulated)?;
        if peer.value.value != SERVER {
            let error = format!("`{}` is no vhost-pci server", name.value);
            self.report(
                Diagnostic::error(error)
                    .at(name.span)
                    .note(peer.value.span, "declared here"),
            );
            return None;
        }
        Some(peer)
    }

    /// A `pci` step: each command with what it needs, and nothing else.
    pub(super) fn pci_step(&mut self, step: &PciStep) {
        self.server(&step.peer);
        if let Some(to) = &step.to {
            self.actor(to, "to", Some(Party::FrontEnd), Kinds::Simulated);
        }
        let (to, socket, features) = match step.command.value {
            PciCommand::Listen | PciCommand::Close => (false, true, false),
            PciCommand::Acknowledge => (true, false, true),
            PciCommand::Disconnect => (true, false, false),
            PciCommand::Quit | PciCommand::Audit => (false, false, false),
        };
        let fields = [
            ("to", to, step.to.as_ref().map(|t| t.span)),
            ("socket", socket, step.socket.as_ref().map(|s| s.span)),
            ("features", features, step.features.as_ref().map(|f| f.span)),
        ];
        for (name, wanted, given) in fields {
            match (wanted, given) {
                (true, None) => {
                    self.report(Diagnostic::error(format!("`{name}` is missing")).at(step.command.span));
                }
                (false, Some(place)) => {
                    self.report(Diagnostic::error(format!("this command has no `{name}`")).at(place));
                }
                _ => {}
            }
        }
    }

    /// The peer on the other side of a link.
    pub(super) fn other_end(&mut self, to: Option<&At<String>>) {
        if let Some(to) = to {
            self.peer(to);
        }
    }

    /// What happens to a device, by name.
    pub(super) fn device_change(&mut self, name: &At<String>) {
        if name.value.parse::<DeviceChange>().is_err() {
            let known = DeviceChange::ALL.iter().map(|change| change.name());
            let error = Diagnostic::error(format!("nothing called `{}` happens to a device", name.value)).at(name.span);
            let help = did_you_mean(&name.value, known.clone());
            self.report(error.help(help.unwrap_or_else(|| known.collect::<Vec<_>>().join(", "))));
        }
    }
}

/// A field that only a peer has whose answers the script makes.
fn scripted(peer: Peer<'_>) -> Option<&At<String>> {
    let answers = peer.decl.answers.iter().next().map(|(request, _)| request);
    peer.decl.manual.first().or(answers)
}
