//! vhost-pci peers in a run: what their declarations mean, which of a server's connections a step is about, commands.

use super::failure::{Result, Stop};
use super::peers::{PeerState, Sim};
use super::resolve::Peer;
use super::run::Run;
use crate::judge::value::{FeatureSpace, to_value};
use crate::judge::verdict::FailKind;
use crate::peer::sim::back::SimBack;
use crate::peer::sim::front::{MasterConfig, SimFront};
use crate::peer::sim::pci::{Command, Fault, Faults, Generation, Grouping, Halves, NET, Profile, Role, ServerConfig};
use crate::scenario::model::{PciCommand, PciDecl, PciGeneration, PciGrouping, PciOwner, PciProfile, PciStep};
use crate::scenario::span::{At, Span};
use crate::scenario::{Bindings, Diagnostic, eval_node, eval_num};
use crate::sys::fd::drain_event;
use crate::trace::{EventKind, LinkId, PeerId};
use crate::wire::{Dialect, Party, Value};

/// What stands after `backend:` for a server.
pub(super) const SERVER: &str = "vhost-pci-server";
/// Masters at a time on one socket, where the dialect allows many.
const CLIENTS_DEFAULT: u64 = 1024;

/// What a peer is in vhost-pci.
#[derive(Debug, Clone, Default)]
pub(super) struct Pci {
    pub(super) server: Option<ServerConfig>,
    pub(super) master: Option<MasterConfig>,
}

/// Evaluates a declaration.
pub(super) fn evaluate(
    decl: Option<&PciDecl>,
    party: Party,
    label: &str,
    dialect: Dialect,
    queues: u16,
) -> std::result::Result<Pci, Diagnostic> {
    let none = Bindings::default();
    let fallback = PciDecl::default();
    let decl = decl.unwrap_or(&fallback);
    let role = if party == Party::FrontEnd {
        Role::Master
    } else {
        Role::Server
    };
    let fault = |name: &At<String>| {
        let found = Fault::named(&name.value).filter(|fault| fault.role() == role);
        found.ok_or_else(|| Diagnostic::error(format!("there is no fault `{}`", name.value)).at(name.span))
    };
    let faults = Faults(decl.faults.iter().map(fault).collect::<std::result::Result<_, _>>()?);
    let mut pci = Pci::default();
    if party == Party::FrontEnd && dialect.is_pci() {
        let uuid = decl.vm.as_ref().map_or(Ok([0; 16]), |vm| {
            let bytes: std::result::Result<[u8; 16], _> = vm.value.0.clone().try_into();
            bytes.map_err(|_| Diagnostic::error("a UUID has 16 bytes").at(vm.span))
        })?;
        let virtio_id = decl
            .virtio_id
            .as_ref()
            .map_or(Ok(u64::from(NET)), |n| eval_num(n, &none))?;
        let place = decl.virtio_id.as_ref().map_or(Span::default(), |n| n.span);
        let virtio_id = u16::try_from(virtio_id).map_err(|_| Diagnostic::error("a virtio id has 16 bits").at(place))?;
        pci.master = Some(MasterConfig {
            uuid,
            virtio_id,
            part: (0, 1),
            faults,
        });
        return Ok(pci);
    }
    if label != SERVER {
        return Ok(pci);
    }
    let clients = if dialect.has_conn_id() { CLIENTS_DEFAULT } else { 1 };
    let clients = decl.clients.as_ref().map_or(Ok(clients), |n| eval_num(n, &none))?;
    let generation = match decl.generation.as_ref().map(|g| g.value) {
        None if dialect == Dialect::VhostPciG2 => Generation::G2,
        None | Some(PciGeneration::G1) => Generation::G1,
        Some(PciGeneration::G2) => Generation::G2,
        Some(PciGeneration::G3) => Generation::G3,
        Some(PciGeneration::G4) => Generation::G4,
    };
    let named = decl.servers.as_ref().map(|servers| servers.value.iter());
    let servers = named.map_or_else(
        || vec!["a".to_owned()],
        |names| names.map(|name| name.value.clone()).collect(),
    );
    pci.server = Some(ServerConfig {
        dialect,
        generation,
        profile: match decl.profile.as_ref().map(|p| p.value) {
            Some(PciProfile::Strict) => Profile::Strict,
            _ => Profile::Liberal,
        },
        servers,
        clients: usize::try_from(clients).unwrap_or(usize::MAX),
        sharing: decl.sharing.as_ref().is_none_or(|s| s.value),
        grouping: match decl.grouping.as_ref().map(|g| g.value) {
            Some(PciGrouping::Listener) => Grouping::Listener,
            _ => Grouping::Uuid,
        },
        device_first: decl.owner.as_ref().is_some_and(|owner| owner.value == PciOwner::Device),
        queues,
        faults,
    });
    Ok(pci)
}

impl Run<'_> {
    /// The link between a peer and the one that a step names on the other side; without a name, the peer's only or last one.
    pub(super) fn link_to(&self, peer: PeerId, to: Option<&At<String>>, span: Span) -> Result<LinkId> {
        let Some(to) = to else { return self.link_of(peer, span) };
        let other = self.peer(&to.value, to.span)?;
        self.link_with(peer, other).ok_or_else(|| {
            let (name, other) = (&self.peers[peer.0].spec.name, &to.value);
            Stop::script(Diagnostic::error(format!("`{name}` and `{other}` are not connected")).at(to.span))
        })
    }

    /// The link of a server that there is only one master for.
    pub(super) fn only_link(&self, peer: PeerId) -> Option<LinkId> {
        if !matches!(self.peers[peer.0].sim, Sim::Server(_)) {
            return None;
        }
        let mut masters = self
            .peers
            .iter()
            .enumerate()
            .filter(|(_, p)| p.spec.party == Party::FrontEnd);
        match (masters.next(), masters.next()) {
            (Some((master, _)), None) => self.link_with(peer, PeerId(master)),
            _ => None,
        }
    }

    /// The link of two peers, if they have, or had, one.
    pub(super) fn link_with(&self, one: PeerId, other: PeerId) -> Option<LinkId> {
        let both = |link: &super::link::Link| {
            [link.front, link.back] == [one, other] || [link.front, link.back] == [other, one]
        };
        self.links.iter().position(both).map(LinkId)
    }

    /// The rings and the device of a simulated back-end that serve a certain front-end.
    pub(super) fn back_for(&mut self, peer: PeerId, front: PeerId) -> Option<&mut SimBack> {
        let link = self.link_with(peer, front);
        self.peers[peer.0].sim.back_on(link)
    }

    /// Whether a vhost-pci server is at a link's end. Its connections are there as soon as they are begun.
    pub(super) fn is_served(&self, link: LinkId) -> bool {
        matches!(self.peers[self.links[link.0].back.0].sim, Sim::Server(_))
    }

    /// A master's connection has been begun: its server lets it in, or does not.
    pub(super) fn accept_master(&mut self, link: LinkId, span: Span) -> Result<()> {
        let back = self.links[link.0].back;
        let socket = self.links[link.0].pci_socket.clone();
        let Sim::Server(server) = &mut self.peers[back.0].sim else {
            return Ok(());
        };
        // what is left of the connection before
        server.closed(link.0);
        let first = server.listening().next().map(str::to_owned);
        // without any, the master finds nobody
        let socket = socket.or(first).unwrap_or_default();
        let accepted = server.accept(link.0, &socket);
        accepted.map_err(|error| Stop::harness(error.to_string(), span))?;
        // before the server says anything: it may hang up at once
        self.connection_made(link);
        Ok(())
    }

    /// A side of a link is gone, which a server at the other side learns.
    pub(super) fn tell_server_of_close(&mut self, link: LinkId) {
        let back = self.links[link.0].back;
        if let Sim::Server(server) = &mut self.peers[back.0].sim {
            server.closed(link.0);
        }
    }

    /// The connection id under which the script speaks for a peer.
    pub(super) fn conn_id(&self, peer: PeerId, link: LinkId) -> u64 {
        let id = match &self.peers[peer.0].sim {
            Sim::Front(front) => Some(front.conn_id()),
            Sim::Server(server) => server.conn_id(link.0),
            Sim::None | Sim::Back(_) => None,
        };
        id.unwrap_or(self.dialect.no_conn_id())
    }

    /// A kick eventfd that a server was given has become readable.
    pub(super) fn take_server_kick(&mut self, peer: PeerId, link: LinkId, ring: u16) {
        let Sim::Server(server) = &mut self.peers[peer.0].sim else {
            return;
        };
        let counted = server
            .watches_of(link.0)
            .find(|(r, _)| *r == ring)
            .map(|(_, fd)| drain_event(fd));
        match counted {
            Some(Ok(Some(_))) => server.kicked(link.0, ring),
            Some(Ok(None)) | None => {}
            Some(Err(error)) => {
                // it would poll readable for ever
                server.forget_kick(link.0, ring);
                let what = format!("the kick descriptor of ring {ring} gives nothing, and is left alone: {error}");
                self.record(Some(peer), Some(link), EventKind::Fault { what });
            }
        }
    }

    /// `pci`.
    pub(super) fn pci_step(&mut self, step: &PciStep, span: Span) -> Result<()> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let missing =
            |what: &str| Stop::script(Diagnostic::error(format!("`{what}` is missing")).at(step.command.span));
        let socket = || {
            step.socket
                .as_ref()
                .map(|s| s.value.clone())
                .ok_or_else(|| missing("socket"))
        };
        let conn = |run: &Self| match &step.to {
            Some(_) => run.link_to(peer, step.to.as_ref(), span),
            None => Err(missing("to")),
        };
        let command = match step.command.value {
            PciCommand::Listen => Command::Listen(socket()?),
            PciCommand::Close => Command::Close(socket()?),
            PciCommand::Quit => Command::Quit,
            PciCommand::Audit => Command::Audit,
            PciCommand::Disconnect => Command::Disconnect(conn(self)?.0),
            PciCommand::Acknowledge => {
                let conn = conn(self)?.0;
                let node = step.features.as_ref().ok_or_else(|| missing("features"))?;
                let value = eval_node(node, &self.bindings)?;
                let space = FeatureSpace::Virtio(crate::wire::DeviceKind::Net);
                let value = to_value(&value, space).map_err(|e| Stop::script(Diagnostic::error(e).at(node.span)))?;
                let Value::U64(features) = value else {
                    return Err(Stop::script(Diagnostic::error("these are no features").at(node.span)));
                };
                let only = if step.low_half { Halves::Low } else { Halves::Both };
                Command::Acknowledge { conn, features, only }
            }
        };
        let Sim::Server(server) = &mut self.peers[peer.0].sim else {
            return Err(Stop::harness("only a vhost-pci server can do this", span));
        };
        match (server.command(&command), step.refused) {
            (Ok(()), false) | (Err(_), true) => Ok(()),
            (Err(why), false) => Err(Stop::wrong(Diagnostic::error(why).at(step.command.span))),
            (Ok(()), true) => {
                let diagnostic = Diagnostic::error("the server carried the command out").at(step.command.span);
                Err(Stop::wrong(diagnostic.expected_actual("refused", "carried out")))
            }
        }
    }

    /// A server holds nothing once nobody is connected any more.
    pub(super) fn servers_hold_nothing(&mut self) -> Result<()> {
        for link in 0..self.links.len() {
            self.tell_server_of_close(LinkId(link));
        }
        for peer in &self.peers {
            let Sim::Server(server) = &peer.sim else { continue };
            let [connections, devices, mappings, fds] = server.holds();
            if [connections, devices, mappings, fds] != [0; 4] {
                let holds =
                    format!("{connections} connections, {devices} devices, {mappings} mappings, {fds} descriptors");
                let what = format!("`{}` keeps what it had of masters that are gone", peer.spec.name);
                let diagnostic = Diagnostic::error(what).at(peer.spec.span);
                return Err(Stop::fail(FailKind::Leak, diagnostic.expected_actual("nothing", holds)));
            }
        }
        Ok(())
    }
}

/// What makes two masters use one memory: the VM, and memory of the same shape.
fn vm_of(peer: &Peer) -> Option<([u8; 16], u64, u16)> {
    let uuid = peer.pci.master.as_ref()?.uuid;
    (uuid != [0; 16]).then_some((uuid, peer.memory_size, peer.regions))
}

/// Gives masters of one VM their parts of its memory.
pub(super) fn share_memory(peers: &mut [Peer]) {
    let vms: Vec<_> = peers.iter().map(vm_of).collect();
    for (at, peer) in peers.iter_mut().enumerate() {
        let same = |other: &&Option<([u8; 16], u64, u16)>| other.is_some() && **other == vms[at];
        if let Some(master) = &mut peer.pci.master {
            let of = vms.iter().filter(same).count().max(1);
            master.part = (vms[..at].iter().filter(same).count(), of);
        }
    }
}

/// The front-end whose memory a master uses as well: the first one of its VM.
pub(super) fn same_vm<'s>(states: &'s [PeerState], spec: &Peer) -> Option<&'s SimFront> {
    let wanted = vm_of(spec)?;
    states.iter().find_map(|state| match &state.sim {
        Sim::Front(front) if vm_of(&state.spec) == Some(wanted) => Some(&**front),
        _ => None,
    })
}
