//! What a script did to something that crosses a link.

use std::fmt;

use super::event::{FdNote, Seq};
use crate::wire::{Channel, Message};

/// How what arrives differs from what was sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Meddling {
    /// It does not arrive.
    Dropped,
    /// It arrives twice.
    Repeated,
    /// It arrives after something that was sent later.
    Behind {
        /// What that is.
        other: Seq,
    },
    /// It arrives in pieces.
    Split {
        /// How many.
        pieces: usize,
    },
    /// It arrives in one piece with what follows.
    Joined {
        /// How many messages there are in that piece.
        messages: usize,
    },
    /// Something else arrives.
    Altered {
        /// What.
        message: Box<Message>,
        /// What is attached to it.
        fds: Vec<FdNote>,
    },
    /// Neither peer sent it. The event's peer is the one in whose name it comes.
    Injected(Injected),
}

/// What neither peer sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Injected {
    /// A message.
    Message {
        /// Which.
        message: Box<Message>,
        /// What is attached.
        fds: Vec<FdNote>,
    },
    /// A signal on an eventfd that the link relays.
    Signal {
        /// Of which ring.
        ring: u16,
        /// What kind.
        kind: SignalKind,
    },
    /// The close of a socket.
    Close(Channel),
}

/// What an eventfd of a ring is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalKind {
    /// The front-end has made buffers available.
    Kick,
    /// The back-end has used buffers.
    Call,
    /// The back-end has met an error.
    Error,
}

impl fmt::Display for SignalKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Kick => "kick",
            Self::Call => "call",
            Self::Error => "error",
        })
    }
}

impl fmt::Display for Meddling {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Dropped => f.write_str("dropped"),
            Self::Repeated => f.write_str("repeated"),
            Self::Behind { .. } => f.write_str("arrives late"),
            Self::Split { pieces } => write!(f, "cut into {pieces} pieces"),
            Self::Joined { messages } => write!(f, "joined, {messages} messages in one piece"),
            Self::Altered { message, fds } => {
                write!(f, "altered to {message}")?;
                attached(f, fds)
            }
            Self::Injected(Injected::Message { message, fds }) => {
                write!(f, "injected: {message}")?;
                attached(f, fds)
            }
            Self::Injected(Injected::Signal { ring, kind }) => write!(f, "injected: {kind} ring={ring}"),
            Self::Injected(Injected::Close(channel)) => write!(f, "injected: closed {channel}"),
        }
    }
}

fn attached(f: &mut fmt::Formatter, fds: &[FdNote]) -> fmt::Result {
    if fds.is_empty() {
        return Ok(());
    }
    let fds: Vec<String> = fds.iter().map(ToString::to_string).collect();
    write!(f, " fds=[{}]", fds.join(" "))
}
