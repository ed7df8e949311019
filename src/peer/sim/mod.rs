//! Simulated peers: state machines without I/O. Messages, kicks and timers go in; messages, kicks, calls and timers come
//! out. Who carries them over a socket, and whether at all, is the engine's business.

pub mod answer;
pub mod back;
pub mod front;
pub mod loan;
pub mod pci;
pub mod retry;
pub mod wanted;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::trace::DeviceNote;
use crate::wire::{Channel, Message};

/// What a simulated peer wants done.
#[derive(Debug)]
pub enum Output {
    /// Send a message.
    Send(Outgoing),
    /// Signal the kick eventfd of a ring.
    Kick {
        /// The ring.
        ring: u16,
        /// Its eventfd.
        fd: Arc<OwnedFd>,
    },
    /// Signal the call eventfd of a ring.
    Call {
        /// The ring.
        ring: u16,
        /// Its eventfd.
        fd: Arc<OwnedFd>,
    },
    /// Close a socket.
    Close(Channel),
    /// Call `timer(token)` after some milliseconds.
    Later {
        /// To be handed back.
        token: u64,
        /// How long.
        ms: u64,
    },
    /// Something that the other side did wrong, or that this peer could not do.
    Fault(String),
    /// Data crossed shared memory.
    Data(String),
    /// Something happened to a vhost-pci device.
    Device(DeviceNote),
}

/// A message on its way out.
#[derive(Debug)]
pub struct Outgoing {
    /// The message.
    pub message: Message,
    /// The bytes to send, if they differ from the message's own.
    pub bytes: Option<Vec<u8>>,
    /// What is attached.
    pub fds: Vec<OwnedFd>,
    /// Offsets to cut it at.
    pub split: Vec<usize>,
    /// The peer's own state machine sent it, not a step of the script.
    pub automatic: bool,
    /// The script composed it, or something of it.
    pub scripted: bool,
}

impl Outgoing {
    /// A message of the peer's own accord.
    pub fn automatic(message: Message, fds: Vec<OwnedFd>) -> Self {
        Self {
            message,
            bytes: None,
            fds,
            split: Vec::new(),
            automatic: true,
            scripted: false,
        }
    }
}
