//! What a message means to a vhost-pci peer, whichever proposal it is said in.

use crate::wire::id::{frontend, g1, g2};
use crate::wire::pci::{connection, vhost_pci};
use crate::wire::{Dialect, Message, Payload, VringFd};

/// The meaning of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Word {
    /// The connection id is asked for.
    ConnId,
    /// The kind of device, and in the first proposal whose it is.
    DevInfo,
    /// The slave's device is to be created.
    Init,
    /// The devices are to go on.
    On,
    /// They are to part.
    Off,
    /// A value of SET_PEER_CONNECTION or SET_VHOST_PCI that means nothing.
    Neither,
    /// A request that vhost-user has as well, by its id.
    Common(u32),
    /// A request that the dialect does not have.
    Unknown,
}

impl Word {
    /// The meaning of a message in its dialect.
    pub fn of(message: &Message) -> Self {
        let value = message.payload.as_u64();
        match (message.dialect, message.request) {
            (Dialect::VhostPci, g1::GET_CONN_ID) => Self::ConnId,
            (Dialect::VhostPci, g1::SET_DEV_INFO) | (Dialect::VhostPciG2, g2::SET_DEVICE_ID) => Self::DevInfo,
            (Dialect::VhostPci, g1::SET_PEER_CONNECTION) => match value {
                Some(connection::INIT) => Self::Init,
                Some(connection::ON) => Self::On,
                Some(connection::OFF) => Self::Off,
                _ => Self::Neither,
            },
            // only the low byte is looked at
            (Dialect::VhostPciG2, g2::SET_VHOST_PCI) => match value.map(|value| value & 0xff) {
                Some(vhost_pci::START) => Self::Init,
                Some(vhost_pci::STOP) => Self::Off,
                _ => Self::Neither,
            },
            (_, id) if message.spec().is_some() => Self::Common(id),
            _ => Self::Unknown,
        }
    }

    /// The name in a table: that of the message, with its value where that matters.
    pub fn name(self, dialect: Dialect) -> String {
        let text = match (self, dialect) {
            (Self::ConnId, _) => "GET_CONN_ID",
            (Self::DevInfo, Dialect::VhostPciG2) => "SET_DEVICE_ID",
            (Self::DevInfo, _) => "SET_DEV_INFO",
            (Self::Init, Dialect::VhostPciG2) => "SET_VHOST_PCI start",
            (Self::Init, _) => "SET_PEER_CONNECTION init",
            (Self::On, _) => "SET_PEER_CONNECTION on",
            (Self::Off, Dialect::VhostPciG2) => "SET_VHOST_PCI stop",
            (Self::Off, _) => "SET_PEER_CONNECTION off",
            (Self::Neither, _) => "any other value of it",
            (Self::Common(id), _) => {
                let spec = crate::wire::spec(dialect, crate::wire::Channel::Main, id);
                spec.map_or("?", |spec| spec.name)
            }
            (Self::Unknown, _) => "an unknown request",
        };
        text.to_owned()
    }
}

/// The ring that a message is about, if it configures one.
pub(super) fn ring_of(message: &Message) -> Option<u32> {
    message.payload.ring_index()
}

/// The same message about another ring.
pub(super) fn about_ring(mut message: Message, ring: u32) -> Message {
    match &mut message.payload {
        Payload::VringState(state) => state.index = ring,
        Payload::VringAddr(address) => address.index = ring,
        Payload::VringBase(base) => base.index = ring,
        Payload::VringFd(VringFd { index, .. }) => *index = ring as u8,
        _ => {}
    }
    message
}

/// Whether it sets up a ring before it starts.
pub(super) fn configures_ring(id: u32) -> bool {
    matches!(
        id,
        frontend::SET_VRING_NUM | frontend::SET_VRING_ADDR | frontend::SET_VRING_BASE
    )
}
