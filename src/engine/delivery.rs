//! Passing on what is on its way: messages and closes from one end of a socket to the other, in the order in which the
//! script lets them.

use std::os::fd::{AsFd, OwnedFd};

use super::control::{Act, Fate};
use super::failure::Stop;
use super::link::Link;
use super::peers::Sim;
use super::run::Run;
use crate::link::{Cargo, Chunk, End, Parcel, Stream, Transit};
use crate::scenario::Diagnostic;
use crate::sys::fd::{FdType, duplicate, fd_type, socket_pair};
use crate::trace::{LinkId, Meddling, PeerId, Seq};
use crate::wire::{Channel, Message, Party, id};

impl Run<'_> {
    /// Passes on the oldest item from a party that may go. True if something moved.
    pub(super) fn deliver_next(&mut self, link: LinkId, channel: Channel, from: Party) -> bool {
        match self.next_parcel(link, channel, from) {
            None => false,
            Some((place, Fate::Dropped)) => {
                self.links[link.0].socket(channel).take(from, place);
                true
            }
            Some((place, _)) => self.forward(link, channel, from, place),
        }
    }

    /// The oldest item from a party that does not wait: its place, and whether it goes or is dropped, which has then to be
    /// done.
    pub(super) fn next_parcel(&mut self, link: LinkId, channel: Channel, from: Party) -> Option<(usize, Fate)> {
        let mut place = 0;
        while let Some(fate) = self.fate_at(link, channel, from, place) {
            let transit = self.links[link.0].socket(channel).at(from, place);
            let (is_message, is_close) = transit.map_or((false, false), |t| (t.is_message(), t.is_close()));
            match fate {
                Fate::Waits { lets_pass: false } => return None,
                Fate::Waits { lets_pass: true } => place += 1,
                // only messages overtake; what was sent before the close goes first
                Fate::Goes if !is_message && place > 0 => return None,
                // a peer that is busy takes what has come later, and the end of the connection with it
                Fate::Goes if !self.takes(link, channel, from.other()) => return None,
                Fate::Goes if is_close && !self.is_flushed(link, channel, from.other()) => return None,
                Fate::Goes | Fate::Dropped => return Some((place, fate)),
            }
        }
        None
    }

    /// Whether a party reads what a socket brings. Of a program it is its own affair.
    fn takes(&self, link: LinkId, channel: Channel, to: Party) -> bool {
        if !matches!(self.links[link.0].socket_ref(channel).end_ref(to), End::Local) {
            return true;
        }
        let peer = &self.peers[self.links[link.0].peer(to).0];
        !peer.is_stuck(channel) && peer.sim.reads(channel)
    }

    fn is_flushed(&self, link: LinkId, channel: Channel, to: Party) -> bool {
        let end = self.links[link.0].socket_ref(channel).end_ref(to);
        !matches!(end, End::Remote(stream) if !stream.is_flushed())
    }

    /// What becomes of an item in a queue.
    fn fate_at(&mut self, link: LinkId, channel: Channel, from: Party, place: usize) -> Option<Fate> {
        let transit = self.links[link.0].socket(channel).at(from, place)?;
        let (seq, mut kept) = (transit.seq, transit.kept.take());
        let fate = self.fate(link, from, seq, &mut kept);
        if let Some(transit) = self.links[link.0].socket(channel).at(from, place) {
            transit.kept = kept;
        }
        Some(fate)
    }

    /// Passes on what may go, together with what is to arrive in one piece with it. True if something moved.
    fn forward(&mut self, link: LinkId, channel: Channel, from: Party, place: usize) -> bool {
        let Some(first) = self.links[link.0].socket(channel).at(from, place) else {
            return false;
        };
        let seq = first.seq;
        let mut count = 1;
        if let Some(seq) = seq
            && self.joined_with(seq).is_some()
        {
            let Some(later) = self.partner(link, channel, from, place, seq) else {
                return false;
            };
            count = later - place + 1;
            for later in place + 1..=later {
                match self.fate_at(link, channel, from, later) {
                    Some(Fate::Goes) => {}
                    Some(Fate::Dropped) => {
                        self.links[link.0].socket(channel).take(from, later);
                        return true;
                    }
                    _ => return false,
                }
            }
            self.begin_piece(link, channel, from, place, count, seq);
        }
        for _ in 0..count {
            let Some(Transit { seq, cargo, .. }) = self.links[link.0].socket(channel).take(from, place) else {
                break;
            };
            match cargo {
                Cargo::Message(parcel) => self.pass_on(link, from, seq, parcel),
                Cargo::Raw(chunk) => self.deliver_remote(link, channel, from.other(), chunk, &[]),
                Cargo::EndOfSending => self.end_sending(link, channel, from.other()),
                Cargo::Close => self.deliver_close(link, channel, from.other()),
            }
            self.arrived(seq);
        }
        if count > 1 {
            self.gather(link, channel, from.other(), false);
        }
        true
    }

    /// Where the message is that another one is to arrive in one piece with.
    pub(super) fn partner(
        &self,
        link: LinkId,
        channel: Channel,
        from: Party,
        place: usize,
        first: Seq,
    ) -> Option<usize> {
        let with = self.joined_with(first)?;
        let is_it = |t: &Transit| t.seq.is_some_and(|seq| self.is_for(with, seq));
        let mut later = self.links[link.0].socket_ref(channel).under_way(from).skip(place + 1);
        Some(place + 1 + later.position(is_it)?)
    }

    /// Begins one piece of some messages, all of which may go.
    fn begin_piece(&mut self, link: LinkId, channel: Channel, from: Party, place: usize, count: usize, first: Seq) {
        let under_way = self.links[link.0].socket_ref(channel).under_way(from);
        let with_fds = under_way.skip(place + 1).take(count - 1).any(|t| t.fds() > 0);
        let control = self.use_up(first, |act| matches!(act, Act::Join { .. }));
        if let (true, Some(control)) = (with_fds, control) {
            let diagnostic = Diagnostic::error("these messages cannot arrive in one piece")
                .at(self.controls[control].span)
                .label("descriptors come with a later one, and part the pieces");
            self.stop.get_or_insert(Stop::wrong(diagnostic));
        }
        self.meddled(link, from, first, Meddling::Joined { messages: count });
        self.gather(link, channel, from.other(), true);
    }

    /// Begins or ends making one piece of what goes to a party.
    fn gather(&mut self, link: LinkId, channel: Channel, to: Party, begins: bool) {
        let End::Remote(stream) = self.links[link.0].socket(channel).end(to) else {
            return;
        };
        if begins {
            stream.gather();
            return;
        }
        stream.send_gathered();
        self.flush(link, channel, to);
    }

    /// Passes a message on as the script wants it.
    fn pass_on(&mut self, link: LinkId, from: Party, seq: Option<Seq>, mut parcel: Parcel) {
        let copies = self.work_on(link, from, seq, &mut parcel);
        for _ in 1..copies {
            let copy = Parcel {
                message: parcel.message.clone(),
                chunk: copy_of(&parcel.chunk),
                split: parcel.split.clone(),
            };
            self.deliver(link, from, seq, copy);
        }
        self.deliver(link, from, seq, parcel);
    }

    /// Gives a message to the other side.
    pub(super) fn deliver(&mut self, link: LinkId, from: Party, seq: Option<Seq>, parcel: Parcel) {
        if self.links[link.0]
            .socket(parcel.message.channel)
            .end_ref(from.other())
            .is_open()
        {
            self.note_arrival(link, from, seq, &parcel);
        }
        let Parcel {
            message,
            mut chunk,
            split,
        } = parcel;
        let channel = message.channel;
        let sets_channel = channel == Channel::Main
            && !message.dialect.is_pci()
            && from == Party::FrontEnd
            && message.request == id::frontend::SET_BACKEND_REQ_FD
            && !message.is_reply();
        if sets_channel {
            self.open_channel(link, &mut chunk.fds);
        }
        let to = from.other();
        let peer = self.links[link.0].peer(to);
        match self.links[link.0].socket(channel).end(to) {
            // it closed before this could be delivered
            End::Absent => {}
            End::Local => self.deliver_here(link, peer.0, seq, message, chunk.fds),
            End::Remote(_) => self.deliver_remote(link, channel, to, chunk, &split),
        }
    }

    /// Gives a message to a simulated peer.
    fn deliver_here(&mut self, link: LinkId, peer: usize, seq: Option<Seq>, message: Message, fds: Vec<OwnedFd>) {
        let is_own = self.with_rings(PeerId(peer), |sim| match sim {
            Sim::Front(front) => front.message(&message, fds),
            Sim::Back(back) => {
                back.message(message, fds);
                false
            }
            Sim::Server(server) => {
                server.message(link.0, message, fds);
                false
            }
            Sim::None => false,
        });
        if let (true, Some(seq)) = (is_own, seq) {
            self.claimed.insert(seq);
        }
    }

    fn deliver_remote(&mut self, link: LinkId, channel: Channel, to: Party, chunk: Chunk, split: &[usize]) {
        if let End::Remote(stream) = self.links[link.0].socket(channel).end(to) {
            stream.queue(chunk, split);
        }
        self.flush(link, channel, to);
        if self.timeline.is_recorded() {
            self.converse.passed(link, channel, to);
        }
    }

    fn end_sending(&mut self, link: LinkId, channel: Channel, to: Party) {
        if let End::Remote(stream) = self.links[link.0].socket(channel).end(to) {
            stream.end_sending();
        }
        self.flush(link, channel, to);
    }

    fn flush(&mut self, link: LinkId, channel: Channel, to: Party) {
        let End::Remote(stream) = self.links[link.0].socket(channel).end(to) else {
            return;
        };
        if stream.flush().is_err() {
            // what it said before it closed is in the socket still
            self.read_to_end(link, channel, to);
            if !self.is_blocked(link, channel, to) {
                self.close_side(link, channel, to, 0);
            }
        }
    }

    pub(super) fn deliver_close(&mut self, link: LinkId, channel: Channel, to: Party) {
        let party = to.other();
        if !self.peers[self.links[link.0].peer(party).0].spec.is_simulated() {
            // what it said before it could know; a socket closed with something unread would end with an error
            self.read_stream(link, channel, to);
        }
        self.note_close(link, channel, party);
        // dropping a real peer's socket is how it learns of it
        *self.links[link.0].socket(channel).end(to) = End::Absent;
        if channel == Channel::Main {
            self.tell_server_of_close(link);
            // the channel does not outlive its connection
            self.links[link.0].channel.clear();
            self.links[link.0].channel_end = None;
        }
    }

    /// The front-end passes one end of the channel: puts the harness between the two.
    fn open_channel(&mut self, link: LinkId, fds: &mut Vec<OwnedFd>) {
        let dialect = self.dialect;
        let Link {
            main,
            channel,
            channel_end,
            ..
        } = &mut self.links[link.0];
        let remote = |fd: OwnedFd| Stream::new(fd, dialect).map(End::Remote).unwrap_or_default();
        if fds.is_empty() && !matches!(main.front, End::Local) {
            // nothing is passed, so nothing changes
            return;
        }
        match (&main.front, &main.back) {
            (End::Local, End::Local) => {
                channel.clear();
                (channel.front, channel.back) = (End::Local, End::Local);
            }
            (End::Local, _) => {
                channel.clear();
                channel.front = End::Local;
                channel.back = channel_end.take().map(remote).unwrap_or_default();
            }
            (_, End::Local) => {
                channel.clear();
                channel.back = End::Local;
                channel.front = fds.pop().map(remote).unwrap_or_default();
            }
            _ => {
                // the first is what receivers take; something else than a socket is passed as it is
                if fd_type(fds[0].as_fd()) == FdType::Socket
                    && let Ok((ours, passed)) = socket_pair()
                {
                    let theirs = std::mem::replace(&mut fds[0], passed);
                    channel.clear();
                    channel.front = remote(theirs);
                    channel.back = remote(ours);
                }
            }
        }
    }
}

/// The same again. A descriptor that cannot be duplicated is missing from it: another message, but none is not better.
fn copy_of(chunk: &Chunk) -> Chunk {
    let places = chunk.places.iter().copied().chain(std::iter::repeat(0));
    let fds = chunk
        .fds
        .iter()
        .zip(places)
        .filter_map(|(fd, place)| Some((duplicate(fd).ok()?, place)));
    let (fds, places) = fds.unzip();
    Chunk {
        bytes: chunk.bytes.clone(),
        fds,
        places,
        lost_fds: chunk.lost_fds,
    }
}
