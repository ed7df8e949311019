//! Passing on what is on its way: messages and closes from one end of a socket to the other, in the order in which the
//! script lets them.

use std::os::fd::OwnedFd;

use super::control::{Act, Fate};
use super::failure::Stop;
use super::link::Link;
use super::peers::Sim;
use super::run::Run;
use crate::link::{Cargo, End, Parcel, Stream, Transit};
use crate::scenario::Diagnostic;
use crate::sys::fd::{duplicate, socket_pair};
use crate::trace::{LinkId, Meddling, Seq};
use crate::wire::{Channel, Dialect, Message, Party, id};

const DIALECT: Dialect = Dialect::VhostUser;

impl Run<'_> {
    /// Passes on the oldest item from a party that may go. True if something moved.
    pub(super) fn deliver_next(&mut self, link: LinkId, channel: Channel, from: Party) -> bool {
        let mut place = 0;
        while let Some(fate) = self.fate_at(link, channel, from, place) {
            let transit = self.links[link.0].socket(channel).at(from, place);
            let is_close = transit.is_some_and(|t| t.is_close());
            match fate {
                Fate::Waits { lets_pass: false } => return false,
                Fate::Waits { lets_pass: true } => place += 1,
                Fate::Dropped => {
                    self.links[link.0].socket(channel).take(from, place);
                    return true;
                }
                // what was sent before the close goes first
                Fate::Goes if is_close && (place > 0 || self.waits_for_reader(link, channel, from.other())) => {
                    return false;
                }
                Fate::Goes => return self.forward(link, channel, from, place),
            }
        }
        false
    }

    fn waits_for_reader(&self, link: LinkId, channel: Channel, to: Party) -> bool {
        let end = self.links[link.0].socket_ref(channel).end_ref(to);
        matches!(end, End::Remote(stream) if stream.waits_for_reader())
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
                Cargo::Close => self.deliver_close(link, channel, from.other()),
                Cargo::Message(parcel) => self.pass_on(link, from, seq, parcel),
            }
            self.arrived(seq);
        }
        if count > 1 {
            self.gather(link, channel, from.other(), false);
        }
        true
    }

    /// Where the message is that another one is to arrive in one piece with.
    fn partner(&self, link: LinkId, channel: Channel, from: Party, place: usize, first: Seq) -> Option<usize> {
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
            // without a descriptor that cannot be duplicated it is another message, but none is not better
            let fds = parcel.fds.iter().filter_map(|fd| duplicate(fd).ok()).collect();
            let copy = Parcel {
                message: parcel.message.clone(),
                bytes: parcel.bytes.clone(),
                fds,
                split: parcel.split.clone(),
            };
            self.deliver(link, from, seq, copy);
        }
        self.deliver(link, from, seq, parcel);
    }

    /// Gives a message to the other side.
    pub(super) fn deliver(&mut self, link: LinkId, from: Party, seq: Option<Seq>, parcel: Parcel) {
        let Parcel {
            message,
            bytes,
            mut fds,
            split,
        } = parcel;
        let channel = message.channel;
        let sets_channel = channel == Channel::Main
            && from == Party::FrontEnd
            && message.request == id::frontend::SET_BACKEND_REQ_FD
            && !message.is_reply();
        if sets_channel {
            self.open_channel(link, &mut fds);
        }
        let to = from.other();
        let peer = self.links[link.0].peer(to);
        match self.links[link.0].socket(channel).end(to) {
            // it closed before this could be delivered
            End::Absent => {}
            End::Local => self.deliver_here(peer.0, seq, message, fds),
            End::Remote(stream) => {
                stream.queue(&bytes, fds, &split);
                self.flush(link, channel, to);
            }
        }
    }

    /// Gives a message to a simulated peer.
    fn deliver_here(&mut self, peer: usize, seq: Option<Seq>, message: Message, fds: Vec<OwnedFd>) {
        match &mut self.peers[peer].sim {
            Sim::Front(front) => {
                if front.message(&message)
                    && let Some(seq) = seq
                {
                    self.claimed.insert(seq);
                }
            }
            Sim::Back(back) => back.message(message, fds),
            Sim::None => {}
        }
    }

    fn flush(&mut self, link: LinkId, channel: Channel, to: Party) {
        let End::Remote(stream) = self.links[link.0].socket(channel).end(to) else {
            return;
        };
        if stream.flush().is_err() {
            // what it said before it closed is in the socket still
            while self.read_stream(link, channel, to) && self.timeline.is_full().is_none() {}
            self.close_side(link, channel, to, 0);
        }
    }

    pub(super) fn deliver_close(&mut self, link: LinkId, channel: Channel, to: Party) {
        // dropping a real peer's socket is how it learns of it
        *self.links[link.0].socket(channel).end(to) = End::Absent;
        if channel == Channel::Main {
            // the channel does not outlive its connection
            self.links[link.0].channel.clear();
            self.links[link.0].channel_end = None;
        }
    }

    /// The front-end passes one end of the channel: puts the harness between the two.
    fn open_channel(&mut self, link: LinkId, fds: &mut Vec<OwnedFd>) {
        let Link {
            main,
            channel,
            channel_end,
            ..
        } = &mut self.links[link.0];
        let remote = |fd: OwnedFd| Stream::new(fd, DIALECT).map(End::Remote).unwrap_or_default();
        channel.clear();
        match (&main.front, &main.back) {
            (End::Local, End::Local) => (channel.front, channel.back) = (End::Local, End::Local),
            (End::Local, _) => {
                channel.front = End::Local;
                channel.back = channel_end.take().map(remote).unwrap_or_default();
            }
            (_, End::Local) => {
                channel.back = End::Local;
                channel.front = fds.pop().map(remote).unwrap_or_default();
            }
            _ => {
                if let (Some(theirs), Ok((ours, passed))) = (fds.pop(), socket_pair()) {
                    channel.front = remote(theirs);
                    channel.back = remote(ours);
                    fds.push(passed);
                }
            }
        }
    }
}
