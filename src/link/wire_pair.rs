//! One of the two sockets of a connection as the harness sees it: two ends, and what is on its way between them.

use std::collections::VecDeque;

use super::stream::{Chunk, Stream};
use crate::trace::Seq;
use crate::wire::{Message, Party};

/// Where a side of a socket ends.
#[derive(Debug, Default)]
pub enum End {
    /// Nothing there: not connected yet, or closed.
    #[default]
    Absent,
    /// At a peer that the harness simulates.
    Local,
    /// At a real program.
    Remote(Stream),
}

impl End {
    /// Whether messages can be delivered to it.
    pub fn is_open(&self) -> bool {
        !matches!(self, End::Absent)
    }
}

/// A message, or a close, on its way from one end to the other.
#[derive(Debug)]
pub enum Transit {
    /// A message.
    Message {
        /// Its event; `None` if the timeline is full.
        seq: Option<Seq>,
        /// As decoded, for the holds.
        message: Message,
        /// All bytes, header included, and what is attached, exactly as they came.
        chunk: Chunk,
        /// Offsets at which it is to be cut when it is sent.
        split: Vec<usize>,
        /// The hold that keeps it.
        held_by: Option<String>,
    },
    /// What is no message, or only the beginning of one.
    Raw(Chunk),
    /// The sender sends nothing more, and still reads.
    EndOfSending,
    /// The sender closed.
    Close,
}

impl Transit {
    fn fds(&self) -> usize {
        match self {
            Transit::Message { chunk, .. } | Transit::Raw(chunk) => chunk.fds.len(),
            Transit::EndOfSending | Transit::Close => 0,
        }
    }
}

/// The main socket or the back-end channel of a link.
#[derive(Debug, Default)]
pub struct Socket {
    /// The front-end's side.
    pub front: End,
    /// The back-end's side.
    pub back: End,
    /// Pieces of what cannot be framed that have crossed.
    pub raw_chunks: u32,
    from_front: VecDeque<Transit>,
    from_back: VecDeque<Transit>,
    /// Descriptors in the two queues.
    fds: usize,
}

impl Socket {
    /// A party's end.
    pub fn end(&mut self, party: Party) -> &mut End {
        match party {
            Party::FrontEnd => &mut self.front,
            Party::BackEnd => &mut self.back,
        }
    }

    /// A party's end, to look at.
    pub fn end_ref(&self, party: Party) -> &End {
        match party {
            Party::FrontEnd => &self.front,
            Party::BackEnd => &self.back,
        }
    }

    /// Puts something on its way from a party.
    pub fn push(&mut self, from: Party, transit: Transit) {
        self.fds += transit.fds();
        self.queue(from).push_back(transit);
    }

    /// What is next to be delivered from a party.
    pub fn next(&mut self, from: Party) -> Option<&mut Transit> {
        self.queue(from).front_mut()
    }

    /// Takes what is next to be delivered from a party.
    pub fn pop(&mut self, from: Party) -> Option<Transit> {
        let transit = self.queue(from).pop_front()?;
        self.fds -= transit.fds();
        Some(transit)
    }

    /// Descriptors that are under way: in a queue, or waiting for room at a real peer.
    pub fn fds_under_way(&self) -> usize {
        let waiting = |end: &End| match end {
            End::Remote(stream) => stream.unsent_fds(),
            _ => 0,
        };
        self.fds + waiting(&self.front) + waiting(&self.back)
    }

    fn queue(&mut self, from: Party) -> &mut VecDeque<Transit> {
        match from {
            Party::FrontEnd => &mut self.from_front,
            Party::BackEnd => &mut self.from_back,
        }
    }

    /// What is on its way from a party, to look at.
    pub fn queue_ref(&self, from: Party) -> &VecDeque<Transit> {
        match from {
            Party::FrontEnd => &self.from_front,
            Party::BackEnd => &self.from_back,
        }
    }

    /// Nothing is connected and nothing on its way.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
