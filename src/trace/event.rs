//! One event.

use std::fmt;

use super::device::DeviceNote;
use super::meddling::Meddling;
use crate::sys::child::Exit;
use crate::sys::clock::Moment;
use crate::sys::fd::FdType;
use crate::wire::{Channel, Message, Party};

/// An event's place on its timeline, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub usize);

/// A peer of the scenario, in the order of its `peers` map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub usize);

/// A pair of peers that are, or were, connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub usize);

/// A file descriptor that travelled with a message.
pub type FdNote = FdType;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When.
    pub at: Moment,
    /// Who did it: the peer from which the message, kick or close came.
    pub peer: Option<PeerId>,
    /// On which link.
    pub link: Option<LinkId>,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// A peer's process was started.
    Started {
        /// Its program.
        program: String,
        /// Its process id.
        pid: i32,
    },
    /// The link is connected (again).
    Connected {
        /// How many connections it has had, this one included.
        generation: u32,
    },
    /// A message came from a peer onto the link.
    Message {
        /// The sender's role.
        from: Party,
        /// The message.
        message: Message,
        /// What was attached.
        fds: Vec<FdNote>,
        /// Payload bytes as announced by the header.
        size: u32,
        /// The script composed it, or something of it; what is wrong with it is meant to be.
        scripted: bool,
    },
    /// Bytes that are not a message: a header cut short, or one that announces more than the harness takes.
    Malformed {
        /// The sender's role.
        from: Party,
        /// On which socket.
        channel: Channel,
        /// Why.
        why: String,
        /// The first bytes.
        bytes: Vec<u8>,
    },
    /// A hold keeps the message, close or signal of that event.
    Held {
        /// Which.
        message: Seq,
        /// The hold's name.
        hold: String,
    },
    /// What was held goes on.
    Released {
        /// Which.
        message: Seq,
    },
    /// The script took a hand in what crosses the link: what arrives is not what was sent.
    Meddled {
        /// The event of what was sent; none if nothing was.
        of: Option<Seq>,
        /// What becomes of it.
        how: Meddling,
    },
    /// The front-end signalled a ring's kick eventfd.
    Kick {
        /// The ring.
        ring: u16,
        /// Times since it was last looked at.
        count: u64,
    },
    /// The back-end signalled a ring's call eventfd.
    Call {
        /// The ring.
        ring: u16,
        /// Times since it was last looked at.
        count: u64,
    },
    /// The back-end signalled a ring's error eventfd.
    RingError {
        /// The ring.
        ring: u16,
    },
    /// A side closed a socket.
    Closed {
        /// Who.
        from: Party,
        /// Which socket.
        channel: Channel,
        /// Bytes of a message that was never completed.
        partial: usize,
    },
    /// A side sends nothing more on a socket, and still reads it.
    HalfClosed {
        /// Who.
        from: Party,
        /// Which socket.
        channel: Channel,
    },
    /// A process ended.
    Exited {
        /// How.
        exit: Exit,
        /// The harness asked for it.
        asked: bool,
    },
    /// QEMU reported an event.
    Qmp {
        /// Its name.
        name: String,
    },
    /// A simulated peer noticed something wrong with what the other side did.
    Fault {
        /// What.
        what: String,
    },
    /// Something happened to the device of a simulated vhost-pci peer.
    Device {
        /// What.
        note: DeviceNote,
    },
    /// Data crossed shared memory and was checked.
    Data {
        /// What.
        what: String,
    },
    /// A thread of a peer's process is watched, held or let go.
    Thread {
        /// Which, and what.
        what: String,
    },
    /// A step began.
    Step {
        /// Its line in the scenario.
        line: u32,
        /// The step's name.
        what: &'static str,
    },
}

impl EventKind {
    /// Whether it is about a message on the main socket or the channel.
    pub fn message(&self) -> Option<&Message> {
        match self {
            EventKind::Message { message, .. } => Some(message),
            _ => None,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            EventKind::Started { program, pid } => write!(f, "started {program} (pid {pid})"),
            EventKind::Connected { generation: 1 } => write!(f, "connected"),
            EventKind::Connected { generation } => write!(f, "connected again (connection {generation})"),
            EventKind::Message { message, fds, .. } => {
                write!(f, "{message}")?;
                if !fds.is_empty() {
                    let fds: Vec<String> = fds.iter().map(ToString::to_string).collect();
                    write!(f, " fds=[{}]", fds.join(" "))?;
                }
                Ok(())
            }
            EventKind::Malformed {
                channel, why, bytes, ..
            } => {
                write!(f, "malformed on {channel}: {why}:")?;
                bytes.iter().take(24).try_for_each(|b| write!(f, " {b:02x}"))
            }
            EventKind::Held { hold, .. } => write!(f, "held by `{hold}`"),
            EventKind::Released { .. } => write!(f, "released"),
            EventKind::Meddled { how, .. } => write!(f, "{how}"),
            EventKind::Kick { ring, count: 1 } => write!(f, "kick ring={ring}"),
            EventKind::Kick { ring, count } => write!(f, "kick ring={ring} x{count}"),
            EventKind::Call { ring, count: 1 } => write!(f, "call ring={ring}"),
            EventKind::Call { ring, count } => write!(f, "call ring={ring} x{count}"),
            EventKind::RingError { ring } => write!(f, "error ring={ring}"),
            EventKind::Closed {
                channel, partial: 0, ..
            } => write!(f, "closed {channel}"),
            EventKind::Closed { channel, partial, .. } => {
                write!(f, "closed {channel} after {partial} bytes of a message")
            }
            EventKind::HalfClosed { channel, .. } => write!(f, "closed {channel} for sending"),
            EventKind::Exited { exit, asked: true } => write!(f, "ended as asked: {exit}"),
            EventKind::Exited { exit, asked: false } => write!(f, "ended: {exit}"),
            EventKind::Qmp { name } => write!(f, "QMP event {name}"),
            EventKind::Fault { what } => write!(f, "fault: {what}"),
            EventKind::Device { note } => write!(f, "{note}"),
            EventKind::Data { what } | EventKind::Thread { what } => write!(f, "{what}"),
            EventKind::Step { line, what } => write!(f, "step {what} (line {line})"),
        }
    }
}
