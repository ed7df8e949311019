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

/// Something on its way from one end to the other.
#[derive(Debug)]
pub struct Transit {
    /// Its event; `None` if the timeline is full.
    pub seq: Option<Seq>,
    /// What keeps it, or has kept it.
    pub kept: Option<Kept>,
    /// What it is.
    pub cargo: Cargo,
}

/// What keeps something on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// The hold of that name.
    By(String),
    /// That control of the script, until something else has arrived.
    Behind(usize),
    /// Nothing any more.
    Free,
}

/// A message, what is none, or an end.
#[derive(Debug)]
pub enum Cargo {
    /// A message.
    Message(Parcel),
    /// What is no message, or only the beginning of one.
    Raw(Chunk),
    /// The sender sends nothing more, and still reads.
    EndOfSending,
    /// The sender closed.
    Close,
}

/// A message and all that belongs to it.
#[derive(Debug)]
pub struct Parcel {
    /// As decoded.
    pub message: Message,
    /// All bytes, header included, and what is attached, exactly as they came.
    pub chunk: Chunk,
    /// Offsets at which it is to be cut when it is sent.
    pub split: Vec<usize>,
}

impl Transit {
    /// Something that nothing keeps.
    pub fn new(seq: Option<Seq>, cargo: Cargo) -> Self {
        Self { seq, kept: None, cargo }
    }

    /// Whether it is the close of the socket.
    pub fn is_close(&self) -> bool {
        matches!(self.cargo, Cargo::Close)
    }

    /// Whether it is a message. What is none never overtakes anything.
    pub fn is_message(&self) -> bool {
        matches!(self.cargo, Cargo::Message(_))
    }

    /// Descriptors attached.
    pub fn fds(&self) -> usize {
        match &self.cargo {
            Cargo::Message(Parcel { chunk, .. }) | Cargo::Raw(chunk) => chunk.fds.len(),
            Cargo::EndOfSending | Cargo::Close => 0,
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

    /// What is on its way from a party, at a place in the queue; the next one to be delivered stands at 0.
    pub fn at(&mut self, from: Party, place: usize) -> Option<&mut Transit> {
        self.queue(from).get_mut(place)
    }

    /// What is on its way from a party, the next one to be delivered first.
    pub fn under_way(&self, from: Party) -> impl ExactSizeIterator<Item = &Transit> {
        match from {
            Party::FrontEnd => self.from_front.iter(),
            Party::BackEnd => self.from_back.iter(),
        }
    }

    /// Takes what is on its way from a party out of the queue.
    pub fn take(&mut self, from: Party, place: usize) -> Option<Transit> {
        let transit = self.queue(from).remove(place)?;
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

    /// Nothing is connected and nothing on its way.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
