//! The links of a run: which peers, and their two sockets.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use crate::link::signals::Relays;
use crate::link::{Socket, Transit};
use crate::sys::threads::own_eventfd_id;
use crate::trace::PeerId;
use crate::wire::{Channel, Message, Party, Payload, id};

/// A front-end and a back-end that are, or were, connected.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) front: PeerId,
    pub(super) back: PeerId,
    pub(super) main: Socket,
    pub(super) channel: Socket,
    /// Eventfds that lead through the harness.
    pub(super) relays: Relays,
    /// Connections it has had.
    pub(super) generation: u32,
    /// The script asked for a connection. Otherwise a peer that connects on its own is left waiting in the backlog.
    pub(super) awaited: bool,
    /// Our end of the channel, until the message that carries the other end is delivered.
    pub(super) channel_end: Option<OwnedFd>,
    /// The kernel's numbers of the rings' kick eventfds, as SET_VRING_KICK brought them.
    pub(super) kicks: BTreeMap<u8, u64>,
    /// The socket of a vhost-pci server on which it is to be made; its first if none is named.
    pub(super) pci_socket: Option<String>,
    /// Messages that the main socket and the channel hold in each direction, if that is bounded.
    pub(super) rooms: [Option<usize>; 2],
    /// XEN_MMAP is negotiated, which changes the layout of regions.
    pub(super) xen: bool,
}

impl Link {
    pub(super) fn new(front: PeerId, back: PeerId) -> Self {
        Self {
            front,
            back,
            main: Socket::default(),
            channel: Socket::default(),
            relays: Relays::default(),
            generation: 0,
            awaited: false,
            channel_end: None,
            kicks: BTreeMap::new(),
            pci_socket: None,
            rooms: [None; 2],
            xen: false,
        }
    }

    pub(super) fn socket(&mut self, channel: Channel) -> &mut Socket {
        match channel {
            Channel::Main => &mut self.main,
            Channel::Backend => &mut self.channel,
        }
    }

    pub(super) fn socket_ref(&self, channel: Channel) -> &Socket {
        match channel {
            Channel::Main => &self.main,
            Channel::Backend => &self.channel,
        }
    }

    /// Messages that a socket holds in each direction, if that is bounded.
    pub(super) fn room(&self, channel: Channel) -> Option<usize> {
        match channel {
            Channel::Main => self.rooms[0],
            Channel::Backend => self.rooms[1],
        }
    }

    /// Whether the room on a socket is bounded.
    pub(super) fn is_bounded(&self) -> bool {
        self.rooms.iter().any(Option::is_some)
    }

    pub(super) fn peer(&self, party: Party) -> PeerId {
        match party {
            Party::FrontEnd => self.front,
            Party::BackEnd => self.back,
        }
    }

    /// Remembers which eventfd a ring is kicked through.
    pub(super) fn note_kick(&mut self, from: Party, message: &Message, fds: &[OwnedFd]) {
        if let (Party::FrontEnd, id::frontend::SET_VRING_KICK, Payload::VringFd(ring), [fd, ..]) =
            (from, message.request, &message.payload, fds)
            && let Some(event) = own_eventfd_id(fd.as_fd())
        {
            self.kicks.insert(ring.index, event);
        }
    }

    /// Everything that is on its way on either socket.
    pub(super) fn under_way(&self) -> impl Iterator<Item = &Transit> {
        let parties = [Party::FrontEnd, Party::BackEnd];
        let sockets = [&self.main, &self.channel];
        sockets
            .into_iter()
            .flat_map(move |socket| parties.into_iter().flat_map(move |from| socket.under_way(from)))
    }

    /// Descriptors that have not been delivered.
    pub(super) fn fds_under_way(&self) -> usize {
        self.main.fds_under_way() + self.channel.fds_under_way()
    }

    /// Nothing is on its way.
    pub(super) fn is_delivered(&self) -> bool {
        self.under_way().next().is_none()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.main.front.is_open() && self.main.back.is_open()
    }
}
