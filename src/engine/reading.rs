//! Reading what real peers send: whole messages, what is none, and ends. Nothing is read for a side that does not take it.

use super::run::Run;
use crate::link::{Cargo, Chunk, End, Incoming, MESSAGES_PER_TURN, Transit};
use crate::trace::{EventKind, LinkId, PeerId};
use crate::wire::{Channel, Party};

/// Bytes of something malformed that are kept on the timeline.
const MALFORMED_BYTES_MAX: usize = 64;
/// Pieces of what cannot be framed that are told of one by one on each socket and in each direction. All are passed on.
const RAW_EVENTS_MAX: u32 = 16;
/// Bytes that wait for a real peer to read them, after which nothing more is read for it.
const QUEUED_BYTES_MAX: usize = 256 * 1024;
/// Descriptors that wait for a real peer, likewise.
const QUEUED_FDS_MAX: usize = 512;
/// Messages on their way from one peer, after which nothing more is read from it.
const TRANSIT_MAX: usize = 1024;

impl Run<'_> {
    /// Whether a stream is not to be read now: what it brought before has not been taken yet, or the other side of the
    /// connection is still to come.
    pub(super) fn is_blocked(&self, link: LinkId, channel: Channel, from: Party) -> bool {
        let is_early = self.links[link.0].awaited && channel == Channel::Main;
        if is_early && !self.links[link.0].main.end_ref(from.other()).is_open() {
            return true;
        }
        let socket = self.links[link.0].socket_ref(channel);
        let (bytes, fds) = match socket.end_ref(from.other()) {
            End::Remote(stream) => (stream.queued_bytes(), stream.unsent_fds()),
            End::Absent | End::Local => (0, 0),
        };
        bytes > QUEUED_BYTES_MAX || fds > QUEUED_FDS_MAX || socket.under_way(from).len() > TRANSIT_MAX
    }

    /// Reads all that a peer has sent before it ended.
    pub(super) fn read_last_words(&mut self, peer: PeerId) {
        for link in 0..self.links.len() {
            for party in [Party::FrontEnd, Party::BackEnd] {
                if self.links[link].peer(party) != peer {
                    continue;
                }
                for channel in Channel::ALL {
                    self.read_to_end(LinkId(link), channel, party);
                }
            }
        }
    }

    /// Reads what a peer has said before it closed, as far as there is room for it.
    pub(super) fn read_to_end(&mut self, link: LinkId, channel: Channel, party: Party) {
        while self.read_stream(link, channel, party) && self.timeline.is_full().is_none() {}
    }

    /// Reads what a real peer has sent, and sends what it was not ready for. True if there was something.
    pub(super) fn read_stream(&mut self, link: LinkId, channel: Channel, party: Party) -> bool {
        self.read_messages(link, channel, party, MESSAGES_PER_TURN)
    }

    /// The same, up to so many messages.
    pub(super) fn read_messages(&mut self, link: LinkId, channel: Channel, party: Party, count: usize) -> bool {
        let blocked = self.is_blocked(link, channel, party);
        let socket = self.links[link.0].socket(channel);
        let between_real = matches!(socket.end_ref(party.other()), End::Remote(_));
        let End::Remote(stream) = socket.end(party) else {
            return false;
        };
        let lost = stream.flush().is_err();
        let incoming = if blocked { Vec::new() } else { stream.read_up_to(count) };
        let some = !incoming.is_empty();
        for item in incoming {
            match item {
                Incoming::Frame(frame) => self.receive(link, channel, party, frame),
                Incoming::Malformed { why, chunk } => {
                    self.malformed(link, channel, party, why, &chunk);
                    if between_real {
                        // what the other side makes of it is its own affair
                        self.pass_raw(link, channel, party, chunk);
                    } else {
                        self.close_side(link, channel, party, 0);
                    }
                }
                Incoming::Raw(chunk) => {
                    let passed = &mut self.links[link.0].socket(channel).raw_chunks;
                    *passed = passed.saturating_add(1);
                    if *passed <= RAW_EVENTS_MAX {
                        self.malformed(link, channel, party, "goes on".to_owned(), &chunk);
                    }
                    self.pass_raw(link, channel, party, chunk);
                }
                Incoming::Closed { partial, half } => {
                    let len = partial.bytes.len();
                    if between_real {
                        self.pass_raw(link, channel, party, partial);
                    }
                    if half && between_real {
                        let peer = self.links[link.0].peer(party);
                        let seq = self.record(Some(peer), Some(link), EventKind::HalfClosed { from: party, channel });
                        let transit = Transit::new(seq, Cargo::EndOfSending);
                        self.links[link.0].socket(channel).push(party, transit);
                    } else {
                        self.close_side(link, channel, party, len);
                    }
                }
            }
        }
        // what it said before it closed is read first
        if lost && !some && !blocked {
            self.close_side(link, channel, party, 0);
        }
        some
    }

    fn malformed(&mut self, link: LinkId, channel: Channel, from: Party, why: String, chunk: &Chunk) {
        let peer = self.links[link.0].peer(from);
        let kept = chunk.bytes.len().min(MALFORMED_BYTES_MAX);
        let kind = EventKind::Malformed {
            from,
            channel,
            why,
            bytes: chunk.bytes[..kept].to_vec(),
        };
        self.record(Some(peer), Some(link), kind);
    }

    fn pass_raw(&mut self, link: LinkId, channel: Channel, from: Party, chunk: Chunk) {
        if !chunk.is_empty() {
            let transit = Transit::new(None, Cargo::Raw(chunk));
            self.links[link.0].socket(channel).push(from, transit);
        }
    }
}
