//! What a run knows of each peer while it goes on.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::resolve::Peer;
use crate::peer::qemu::{CommandId, Completion, Outcome, QemuError, QemuHandle, QmpCall};
use crate::peer::sim::back::SimBack;
use crate::peer::sim::front::SimFront;
use crate::peer::sim::pci::PciServer;
use crate::peer::sim::{Outgoing, Output};
use crate::sys::child::Child;
use crate::trace::LinkId;
use crate::wire::Channel;

/// The simulation behind a peer, if the harness plays it.
#[derive(Debug)]
pub(super) enum Sim {
    None,
    Front(Box<SimFront>),
    Back(Box<SimBack>),
    /// It has many connections.
    Server(Box<PciServer>),
}

impl Sim {
    pub(super) fn front(&mut self) -> Option<&mut SimFront> {
        match self {
            Sim::Front(front) => Some(front),
            _ => None,
        }
    }

    pub(super) fn back(&mut self) -> Option<&mut SimBack> {
        match self {
            Sim::Back(back) => Some(back),
            _ => None,
        }
    }

    /// Whether it serves the two sockets in threads of their own, so that being stuck on one leaves the other alone.
    pub(super) fn has_threads(&self) -> bool {
        matches!(self, Sim::Front(front) if front.has_threads())
    }

    /// Whether it takes what a socket brings now. What it does not take stays on its way.
    pub(super) fn reads(&self, channel: Channel) -> bool {
        match self {
            Sim::None => true,
            Sim::Front(front) => front.reads(channel),
            Sim::Back(back) => back.reads(channel),
            Sim::Server(_) => true,
        }
    }

    pub(super) fn timer(&mut self, token: u64) {
        match self {
            Sim::None => {}
            Sim::Front(front) => front.timer(token),
            Sim::Back(back) => back.timer(token),
            Sim::Server(server) => server.timer(token),
        }
    }

    /// The rings and the device of a back-end; of a server, those of one of its connections.
    pub(super) fn back_on(&mut self, link: Option<LinkId>) -> Option<&mut SimBack> {
        match self {
            Sim::Back(back) => Some(back),
            Sim::Server(server) => server.back(link?.0),
            Sim::None | Sim::Front(_) => None,
        }
    }

    /// What it wants done next; a server says on which of its links.
    pub(super) fn next_output(&mut self) -> Option<(Option<LinkId>, Output)> {
        match self {
            Sim::None => None,
            Sim::Front(front) => front.next_output().map(|output| (None, output)),
            Sim::Back(back) => back.next_output().map(|output| (None, output)),
            Sim::Server(server) => {
                let (conn, output) = server.next_output()?;
                Some((conn.map(LinkId), output))
            }
        }
    }
}

/// How a connection with a real peer comes about.
#[derive(Debug)]
pub(super) enum Attach {
    /// Nothing has been prepared.
    Idle,
    /// The peer connects to us.
    Listening(UnixListener),
    /// We connect to the peer.
    Dialling(PathBuf),
    /// Connected, and not yet part of a link.
    Ready(OwnedFd),
}

/// QEMU behind a process.
#[derive(Debug)]
pub(super) struct Qemu {
    pub(super) handle: QemuHandle,
    pub(super) plug: Vec<QmpCall>,
    pub(super) unplug: Vec<QmpCall>,
    /// Commands that ended, until their step takes them.
    pub(super) finished: Vec<(CommandId, std::result::Result<Outcome, QemuError>)>,
    /// PCI slot of the device, once the driver has found it.
    pub(super) slot: Option<u8>,
}

impl Qemu {
    pub(super) fn take(&mut self, id: CommandId) -> Option<std::result::Result<Outcome, QemuError>> {
        let at = self.finished.iter().position(|(i, _)| *i == id)?;
        Some(self.finished.swap_remove(at).1)
    }

    /// Completions since the last time; commands are kept for their steps, the rest is returned.
    pub(super) fn collect(&mut self) -> Vec<Completion> {
        let mut others = Vec::new();
        for completion in self.handle.take_completions() {
            match completion {
                Completion::Command { id, result } => {
                    if let Ok(Outcome::Driver(report)) = &result {
                        self.slot = Some(report.slot);
                    }
                    self.finished.push((id, result));
                }
                other => others.push(other),
            }
        }
        others
    }
}

/// A peer of a run.
#[derive(Debug)]
pub(super) struct PeerState {
    pub(super) spec: Peer,
    pub(super) sim: Sim,
    pub(super) child: Option<Child>,
    pub(super) qemu: Option<Qemu>,
    pub(super) attach: Attach,
    pub(super) link: Option<LinkId>,
    /// The harness has sent its process a signal that ends it.
    pub(super) asked_to_end: bool,
    /// What it is about to send, and for which there is no room yet.
    pub(super) blocked: VecDeque<Outgoing>,
    /// Its process was stopped by SIGSTOP.
    pub(super) stopped: bool,
    /// Its image file, if it was given one.
    pub(super) image: Option<PathBuf>,
    /// Its socket path.
    pub(super) socket: PathBuf,
    /// How its processes ended, for the report.
    pub(super) exits: Vec<String>,
}

impl PeerState {
    pub(super) fn new(spec: Peer, sim: Sim, socket: PathBuf) -> Self {
        Self {
            spec,
            sim,
            child: None,
            qemu: None,
            attach: Attach::Idle,
            link: None,
            asked_to_end: false,
            blocked: VecDeque::new(),
            stopped: false,
            image: None,
            socket,
            exits: Vec::new(),
        }
    }

    /// Whether it is stuck in sending on a socket, or in sending at all if it has one thread.
    pub(super) fn is_stuck(&self, channel: Channel) -> bool {
        let threads = self.sim.has_threads();
        self.blocked
            .iter()
            .any(|blocked| !threads || blocked.message.channel == channel)
    }

    /// Its process ended.
    pub(super) fn has_ended(&self) -> bool {
        self.child.as_ref().is_some_and(|c| c.exit().is_some())
    }
}
