//! Standing peers up: processes started, sockets listened on or dialled, links connected.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::Signal;

use super::failure::{Result, Stop};
use super::link::Link;
use super::peers::{Attach, PeerState, Qemu};
use super::resolve::Player;
use super::run::Run;
use crate::judge::verdict::FailKind;
use crate::link::{End, Stream};
use crate::peer::catalogue::FdRole;
use crate::peer::qemu::{
    Attach as QemuAttach, ChardevEnd, Property, QemuCommand, QemuConfig, QemuDevice, QemuHandle, Value,
};
use crate::scenario::Diagnostic;
use crate::scenario::span::Span;
use crate::sys::child::{Child, Spec};
use crate::sys::{fd, socket};
use crate::trace::{EventKind, LinkId, PeerId};
use crate::wire::Party;

impl Run<'_> {
    /// The link between two peers; made when it is first asked for.
    pub(super) fn link_between(&mut self, front: PeerId, back: PeerId) -> LinkId {
        let found = self.links.iter().position(|l| l.front == front && l.back == back);
        let link = LinkId(found.unwrap_or_else(|| {
            self.links.push(Link::new(front, back));
            self.links.len() - 1
        }));
        self.peers[front.0].link = Some(link);
        self.peers[back.0].link = Some(link);
        link
    }

    /// Starts a peer, as far as that can be done without waiting.
    pub(super) fn start(&mut self, peer: PeerId, span: Span) -> Result<()> {
        let state = &self.peers[peer.0];
        if state.child.as_ref().is_some_and(|c| c.exit().is_none()) {
            return Ok(());
        }
        let idle = matches!(state.attach, Attach::Idle);
        match &state.spec.player {
            Player::Simulated => Ok(()),
            Player::Listen(path) if idle => {
                let listener = socket::listen_anew(path);
                let listener = listener.map_err(|e| cannot_start(state, span, &format!("listen: {e}")))?;
                self.peers[peer.0].socket = path.clone();
                self.peers[peer.0].attach = Attach::Listening(listener);
                Ok(())
            }
            Player::Connect(path) if idle => {
                socket::check_path(path).map_err(|e| cannot_start(state, span, &e.to_string()))?;
                let path = path.clone();
                self.peers[peer.0].attach = Attach::Dialling(path);
                Ok(())
            }
            Player::Listen(_) | Player::Connect(_) => Ok(()),
            Player::Program(_) | Player::Command(_) => self.start_process(peer, span),
        }
    }

    fn start_process(&mut self, peer: PeerId, span: Span) -> Result<()> {
        let state = &mut self.peers[peer.0];
        // drops the one before, and whatever it has left behind
        state.child = None;
        state.qemu = None;
        state.asked_to_end = false;
        state.stopped = false;
        let failed = |state: &PeerState, e: &dyn std::fmt::Display| cannot_start(state, span, &e.to_string());
        // the peer's own socket file of the last time would be in the way
        let _ = std::fs::remove_file(&state.socket);
        if state.spec.is_qemu() {
            return self.start_qemu(peer, span);
        }
        if !matches!(state.spec.fd_role(), Some(FdRole::Connected)) {
            socket::check_path(&state.socket).map_err(|e| failed(state, &e))?;
        }
        let mut inherited: Option<OwnedFd> = None;
        let attach = match (state.spec.fd_role(), listens(&state.spec)) {
            (Some(FdRole::Connected), _) => {
                let (ours, theirs) = fd::socket_pair().map_err(|e| failed(state, &e))?;
                inherited = Some(theirs);
                Attach::Ready(ours)
            }
            (Some(FdRole::Listening), _) => {
                let listener = std::os::unix::net::UnixListener::bind(&state.socket).map_err(|e| failed(state, &e))?;
                inherited = Some(listener.into());
                Attach::Dialling(state.socket.clone())
            }
            (None, true) => Attach::Dialling(state.socket.clone()),
            (None, false) => Attach::Listening(socket::listen(&state.socket).map_err(|e| failed(state, &e))?),
        };
        let (program, mut args) = match &state.spec.player {
            Player::Program(entry) => (self.environment.catalogue.program(entry), entry.command.clone()),
            Player::Command(words) => match words.split_first() {
                Some((program, args)) => (program.into(), args.to_vec()),
                None => return Err(failed(state, &"the command line is empty")),
            },
            _ => return Ok(()),
        };
        args.extend(state.spec.args.iter().cloned());
        if args.iter().any(|a| a.contains("{image}")) && state.image.is_none() {
            let path = self.directory.join(format!("{}.img", peer.0));
            let file = std::fs::File::create(&path).and_then(|f| f.set_len(state.spec.capacity));
            file.map_err(|e| failed(state, &format!("{}: {e}", path.display())))?;
            state.image = Some(path);
        }
        let filled: Vec<OsString> = args
            .iter()
            .map(|arg| fill(arg, state, inherited.as_ref(), &self.directory, self.environment))
            .collect();
        // the process starts in the run's directory, and a relative program is meant from here
        let found = match program.components().count() {
            0 | 1 => program.clone(),
            _ => std::path::absolute(&program).map_err(|e| failed(state, &e))?,
        };
        let spec = Spec {
            program: found.into(),
            args: filled,
            directory: self.directory.clone(),
            inherit: inherited.iter().map(AsFd::as_fd).collect(),
        };
        let child = Child::spawn(&spec).map_err(|e| failed(state, &format!("{}: {e}", program.display())))?;
        let pid = child.pid();
        state.child = Some(child);
        state.attach = attach;
        self.record(
            Some(peer),
            None,
            EventKind::Started {
                program: program.display().to_string(),
                pid,
            },
        );
        Ok(())
    }

    fn start_qemu(&mut self, peer: PeerId, span: Span) -> Result<()> {
        let remaining = self.patience(self.deadline);
        let state = &mut self.peers[peer.0];
        let directory = self.directory.join(format!("q{}", peer.0));
        let config = qemu_config(state, &directory).map_err(|e| cannot_start(state, span, &e))?;
        let failed = |state: &PeerState, e: &dyn std::fmt::Display| cannot_start(state, span, &e.to_string());
        std::fs::create_dir_all(&directory).map_err(|e| failed(state, &e))?;
        let command = QemuCommand::new(&config).map_err(|e| failed(state, &e))?;
        let firmware = command.firmware.as_ref().map_or(Ok(()), |firmware| firmware.write());
        firmware.map_err(|e| failed(state, &e))?;
        let handle = QemuHandle::listen(&command.sockets, remaining).map_err(|e| failed(state, &e))?;
        state.attach = match &config.vhost_socket {
            ChardevEnd::Listen { path } => Attach::Dialling(path.clone()),
            ChardevEnd::Connect { path, .. } => Attach::Listening(socket::listen(path).map_err(|e| failed(state, &e))?),
        };
        let program = command.program.to_string_lossy().into_owned();
        let spec = Spec {
            program: command.program,
            args: command.args,
            directory,
            inherit: Vec::new(),
        };
        let child = Child::spawn(&spec).map_err(|e| failed(state, &format!("{program}: {e}")))?;
        let pid = child.pid();
        state.child = Some(child);
        let (plug, unplug) = (command.plug, command.unplug);
        state.qemu = Some(Qemu {
            handle,
            plug,
            unplug,
            finished: Vec::new(),
            slot: None,
        });
        self.record(Some(peer), None, EventKind::Started { program, pid });
        Ok(())
    }

    /// Whether a socket has to be tried again and again.
    pub(super) fn is_dialling(&self) -> bool {
        self.peers
            .iter()
            .any(|p| matches!(p.attach, Attach::Dialling(_)) && self.is_awaited(p))
    }

    /// Whether a connection with this peer is to be made now.
    pub(super) fn is_awaited(&self, peer: &PeerState) -> bool {
        peer.link.is_some_and(|l| {
            let link = &self.links[l.0];
            link.awaited && !link.main.end_ref(peer.spec.party).is_open()
        })
    }

    /// Tries to connect to peers that listen.
    pub(super) fn dial(&mut self) {
        for peer in 0..self.peers.len() {
            let state = &self.peers[peer];
            let Attach::Dialling(path) = &state.attach else {
                continue;
            };
            if !self.is_awaited(state) || state.has_ended() {
                continue;
            }
            match socket::connect(path) {
                Ok(None) => {}
                Ok(Some(stream)) => self.attach(PeerId(peer), stream),
                Err(error) => {
                    let what = format!("connect to {}: {error}", path.display());
                    self.record(Some(PeerId(peer)), None, EventKind::Fault { what });
                }
            }
        }
    }

    /// A peer connects to the socket that was made for it.
    pub(super) fn accept(&mut self, peer: PeerId) {
        let Attach::Listening(listener) = &self.peers[peer.0].attach else {
            return;
        };
        if let Ok(Some(stream)) = socket::accept(listener) {
            self.attach(peer, stream);
        }
    }

    /// Makes a connected socket a peer's end of its link.
    fn attach(&mut self, peer: PeerId, stream: OwnedFd) {
        let party = self.peers[peer.0].spec.party;
        let Some(link) = self.peers[peer.0].link else { return };
        match Stream::new(stream, self.dialect) {
            Ok(stream) => *self.links[link.0].main.end(party) = End::Remote(stream),
            Err(error) => {
                let what = format!("socket: {error}");
                self.record(Some(peer), Some(link), EventKind::Fault { what });
            }
        }
    }

    /// Begins a connection of a link: what the last one left is dropped, both peers are started.
    pub(super) fn begin_connection(&mut self, link: LinkId, span: Span) -> Result<()> {
        let (front, back) = (self.links[link.0].front, self.links[link.0].back);
        for peer in [front, back] {
            // a process that is gone is replaced; unless a step made it end, it has to have ended as it should
            if let Some(exit) = self.peers[peer.0].child.as_ref().and_then(|c| c.exit()) {
                self.judge_end(peer.0, exit, true)?;
            }
            self.start(peer, span)?;
        }
        let state = &mut self.links[link.0];
        state.main.clear();
        state.channel.clear();
        state.channel_end = None;
        state.relays.clear();
        state.xen = false;
        state.awaited = true;
        if self.peers[front.0].spec.modelled {
            return self.connect_modelled(link, span);
        }
        for (peer, party) in [(front, Party::FrontEnd), (back, Party::BackEnd)] {
            if self.peers[peer.0].spec.is_simulated() {
                *self.links[link.0].main.end(party) = End::Local;
                self.with_rings(peer, |sim| {
                    if let Some(front) = sim.front() {
                        front.connected();
                    }
                    if let Some(back) = sim.back() {
                        back.connected();
                    }
                });
            } else if let Attach::Ready(_) = &self.peers[peer.0].attach
                && let Attach::Ready(stream) = std::mem::replace(&mut self.peers[peer.0].attach, Attach::Idle)
            {
                self.attach(peer, stream);
            }
        }
        self.accept_master(link, span)?;
        self.dial();
        Ok(())
    }

    /// Whether a connection that was begun is there. Records it when it is.
    pub(super) fn connection_made(&mut self, link: LinkId) -> bool {
        if !self.links[link.0].is_connected() {
            return false;
        }
        self.links[link.0].awaited = false;
        self.links[link.0].generation += 1;
        let generation = self.links[link.0].generation;
        self.record(None, Some(link), EventKind::Connected { generation });
        true
    }

    /// Sends a signal to a peer's process.
    pub(super) fn signal_process(&mut self, peer: PeerId, signal: Signal, span: Span) -> Result<()> {
        if let (Signal::SIGSTOP, Some(steering)) = (signal, &mut self.steering) {
            // a traced thread stops for its tracer first
            steering.let_go(peer);
        }
        let state = &mut self.peers[peer.0];
        let Some(child) = &state.child else {
            return Err(Stop::script(
                Diagnostic::error(format!("`{}` has not been started", state.spec.name)).at(span),
            ));
        };
        match signal {
            Signal::SIGSTOP => state.stopped = true,
            Signal::SIGCONT => state.stopped = false,
            _ => state.asked_to_end = true,
        }
        child
            .signal(signal)
            .map_err(|e| Stop::harness(format!("kill: {e}"), span))
    }
}

fn listens(spec: &super::resolve::Peer) -> bool {
    let by_default = match &spec.player {
        Player::Program(entry) => entry.listens,
        // the program conventions: --socket-path is where a back-end listens
        _ => spec.party == Party::BackEnd,
    };
    spec.listens.unwrap_or(by_default)
}

fn qemu_config(state: &PeerState, directory: &std::path::Path) -> std::result::Result<QemuConfig, String> {
    let spec = &state.spec;
    let mut device =
        QemuDevice::named(&spec.device).ok_or_else(|| format!("QEMU has no vhost-user device `{}`", spec.device))?;
    let is_net = spec.device == "net";
    device.queues = if is_net { spec.queues.div_ceil(2) } else { spec.queues };
    if let Some(mtu) = spec.mtu {
        device.properties.push(Property::new("host_mtu", Value::Int(mtu)));
    }
    let path = state.socket.clone();
    let end = if spec.listens == Some(true) {
        ChardevEnd::Listen { path }
    } else {
        let reconnect_ms = spec.reconnect_ms.and_then(|ms| u32::try_from(ms).ok());
        ChardevEnd::Connect { path, reconnect_ms }
    };
    let mut config = QemuConfig::new(directory, device, end);
    config.memory_mib = spec.qemu_memory_mib;
    config.guest.clone_from(&spec.guest);
    config.attach = if spec.plugged {
        QemuAttach::AtStart
    } else {
        QemuAttach::ByHotplug
    };
    config.extra_args = spec.args.iter().map(OsString::from).collect();
    Ok(config)
}

fn fill(
    arg: &str,
    state: &PeerState,
    inherited: Option<&OwnedFd>,
    directory: &std::path::Path,
    environment: &super::Environment,
) -> OsString {
    use std::os::fd::AsRawFd;
    let spec = &state.spec;
    let values = [
        ("{socket}", state.socket.display().to_string()),
        ("{fd}", inherited.map_or(-1, |fd| fd.as_raw_fd()).to_string()),
        (
            "{image}",
            state.image.as_ref().map_or(String::new(), |p| p.display().to_string()),
        ),
        ("{device}", spec.device.clone()),
        (
            "{queues}",
            if spec.device == "net" {
                spec.queues.div_ceil(2)
            } else {
                spec.queues
            }
            .to_string(),
        ),
        ("{rings}", spec.queues.to_string()),
        ("{ring_size}", spec.ring_size.to_string()),
        ("{capacity}", spec.capacity.to_string()),
        ("{run_dir}", directory.display().to_string()),
        ("{vuh}", environment.catalogue.vuh().display().to_string()),
    ];
    values
        .iter()
        .fold(arg.to_owned(), |text, (name, value)| text.replace(name, value))
        .into()
}

fn cannot_start(state: &PeerState, span: Span, why: &str) -> Box<Stop> {
    let message = format!("`{}` ({}) cannot be started", state.spec.name, state.spec.label);
    Stop::fail(
        FailKind::Start,
        Diagnostic::error(message).at(span).footer(why.to_owned()),
    )
}
