//! What crosses the links: recording, holding, delivering, and doing what simulated peers want done.

use std::os::fd::{AsFd, OwnedFd};

use super::link::Link;
use super::peers::Sim;
use super::run::Run;
use crate::link::{Chunk, End, Frame, Stream, Transit};
use crate::peer::qemu::Completion;
use crate::peer::sim::{Outgoing, Output};
use crate::sys::fd::{FdType, drain_event, fd_type, signal_event, socket_pair};
use crate::trace::{EventKind, LinkId, PeerId, Seq};
use crate::wire::{Channel, DecodeContext, Dialect, Header, Message, Party, Payload, ProtocolFeature, id};

const DIALECT: Dialect = Dialect::VhostUser;

impl Run<'_> {
    /// Moves everything that can move: outputs of simulated peers onto the links, messages across them.
    pub(super) fn relay(&mut self) {
        loop {
            let mut moved = false;
            for peer in 0..self.peers.len() {
                while let Some(output) = self.peers[peer].sim.next_output() {
                    self.perform(PeerId(peer), output);
                    moved = true;
                }
            }
            for link in 0..self.links.len() {
                for channel in Channel::ALL {
                    for from in [Party::FrontEnd, Party::BackEnd] {
                        while self.deliver_next(LinkId(link), channel, from) {
                            moved = true;
                        }
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Reads every real peer's sockets.
    pub(super) fn read_all_streams(&mut self) {
        for link in 0..self.links.len() {
            for channel in Channel::ALL {
                for party in [Party::FrontEnd, Party::BackEnd] {
                    self.read_stream(LinkId(link), channel, party);
                }
            }
        }
    }

    /// Streams on which a piece of a message waits until the one before it has been read.
    pub(super) fn streams_with_pieces(&self) -> Vec<(LinkId, Channel, Party)> {
        let mut found = Vec::new();
        for (i, link) in self.links.iter().enumerate() {
            for channel in Channel::ALL {
                let socket = link.socket_ref(channel);
                let waits =
                    |party: &Party| matches!(socket.end_ref(*party), End::Remote(stream) if stream.waits_for_reader());
                let parties = [Party::FrontEnd, Party::BackEnd].into_iter().filter(waits);
                found.extend(parties.map(|party| (LinkId(i), channel, party)));
            }
        }
        found
    }

    pub(super) fn receive(&mut self, link: LinkId, channel: Channel, from: Party, frame: Frame) {
        let context = DecodeContext {
            xen_mmap: self.links[link.0].xen,
        };
        let message = Message::decode(DIALECT, channel, context, &frame.header, frame.payload(DIALECT));
        if frame.chunk.lost_fds {
            let peer = self.links[link.0].peer(from);
            let what = "descriptors were lost: the harness cannot have more open".to_owned();
            self.record(Some(peer), Some(link), EventKind::Fault { what });
        }
        self.enter(link, from, message, frame.chunk, Vec::new(), false);
    }

    /// A message comes onto a link.
    fn enter(
        &mut self,
        link: LinkId,
        from: Party,
        message: Message,
        chunk: Chunk,
        split: Vec<usize>,
        scripted: bool,
    ) -> Option<Seq> {
        if let (id::frontend::SET_PROTOCOL_FEATURES, Payload::U64(features)) = (message.request, &message.payload)
            && message.channel == Channel::Main
            && !message.is_reply()
        {
            self.links[link.0].xen = features & ProtocolFeature::XenMmap.mask() != 0;
        }
        if !self.timeline.is_recorded() {
            self.links[link.0].note_kick(from, &message, &chunk.fds);
        }
        let notes: Vec<FdType> = chunk.fds.iter().map(|fd| fd_type(fd.as_fd())).collect();
        // what the bytes say: a script may have sent others than the message's own
        let header = Header::decode(DIALECT, &chunk.bytes).unwrap_or_else(|| message.header());
        let payload = chunk.bytes.get(DIALECT.header_len()..).unwrap_or_default();
        let shown = if scripted && usize::try_from(header.size) == Ok(payload.len()) {
            let context = DecodeContext {
                xen_mmap: self.links[link.0].xen,
            };
            Message::decode(DIALECT, message.channel, context, &header, payload)
        } else {
            Message {
                request: header.request,
                flags: header.flags,
                ..message.clone()
            }
        };
        let peer = self.links[link.0].peer(from);
        let kind = EventKind::Message {
            from,
            message: shown,
            fds: notes,
            size: header.size,
            scripted,
        };
        let seq = self.record(Some(peer), Some(link), kind);
        let channel = message.channel;
        let transit = Transit::Message {
            seq,
            message,
            chunk,
            split,
            held_by: None,
        };
        self.links[link.0].socket(channel).push(from, transit);
        seq
    }

    /// A side of a socket is gone.
    pub(super) fn close_side(&mut self, link: LinkId, channel: Channel, party: Party, partial: usize) {
        let peer = self.links[link.0].peer(party);
        let socket = self.links[link.0].socket(channel);
        if !socket.end_ref(party).is_open() {
            return;
        }
        *socket.end(party) = End::Absent;
        socket.push(party, Transit::Close);
        self.record(
            Some(peer),
            Some(link),
            EventKind::Closed {
                from: party,
                channel,
                partial,
            },
        );
    }

    /// Delivers the oldest item from a party, unless a hold keeps it. True if something moved.
    fn deliver_next(&mut self, link: LinkId, channel: Channel, from: Party) -> bool {
        let Some(first) = self.links[link.0].socket(channel).next(from) else {
            return false;
        };
        if let Transit::Message { seq, held_by, .. } = first {
            let (seq, held) = (*seq, held_by.clone());
            if held.is_none()
                && let Some(name) = self.hold_for(seq)
            {
                let socket = self.links[link.0].socket(channel);
                if let Some(Transit::Message { held_by, .. }) = socket.next(from) {
                    *held_by = Some(name.clone());
                }
                let peer = self.links[link.0].peer(from);
                if let Some(message) = seq {
                    self.record(Some(peer), Some(link), EventKind::Held { message, hold: name });
                }
                return false;
            }
            if held.is_some_and(|name| self.holds.iter().any(|h| h.name == name)) {
                return false;
            }
        } else if matches!(first, Transit::Close)
            && matches!(self.links[link.0].socket(channel).end(from.other()), End::Remote(s) if !s.is_flushed())
        {
            // what was sent before the close goes first
            return false;
        }
        let Some(item) = self.links[link.0].socket(channel).pop(from) else {
            return false;
        };
        match item {
            Transit::Close => self.deliver_close(link, channel, from.other()),
            Transit::Raw(chunk) => self.deliver_remote(link, channel, from.other(), chunk, &[]),
            Transit::EndOfSending => {
                if let End::Remote(stream) = self.links[link.0].socket(channel).end(from.other()) {
                    stream.end_sending();
                }
                self.flush(link, channel, from.other());
            }
            Transit::Message {
                seq,
                message,
                chunk,
                split,
                held_by,
            } => {
                if let (Some(_), Some(message)) = (held_by, seq) {
                    let peer = self.links[link.0].peer(from);
                    self.record(Some(peer), Some(link), EventKind::Released { message });
                }
                self.deliver(link, from, seq, message, chunk, &split);
            }
        }
        true
    }

    fn hold_for(&self, seq: Option<Seq>) -> Option<String> {
        let event = self.timeline.get(seq?)?;
        let hold = self
            .holds
            .iter()
            .find(|h| h.matcher.stream.has(event) && h.matcher.check(event).is_ok())?;
        Some(hold.name.clone())
    }

    fn deliver(
        &mut self,
        link: LinkId,
        from: Party,
        seq: Option<Seq>,
        message: Message,
        mut chunk: Chunk,
        split: &[usize],
    ) {
        let channel = message.channel;
        let sets_channel = channel == Channel::Main
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
            End::Local => match &mut self.peers[peer.0].sim {
                Sim::Front(front) => {
                    if front.message(&message)
                        && let Some(seq) = seq
                    {
                        self.claimed.insert(seq);
                    }
                }
                Sim::Back(back) => back.message(message, chunk.fds),
                Sim::None => {}
            },
            End::Remote(_) => self.deliver_remote(link, channel, to, chunk, split),
        }
    }

    fn deliver_remote(&mut self, link: LinkId, channel: Channel, to: Party, chunk: Chunk, split: &[usize]) {
        if let End::Remote(stream) = self.links[link.0].socket(channel).end(to) {
            stream.queue(chunk, split);
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

    fn deliver_close(&mut self, link: LinkId, channel: Channel, to: Party) {
        let party = to.other();
        if !self.peers[self.links[link.0].peer(party).0].spec.is_simulated() {
            // what it said before it could know; a socket closed with something unread would end with an error
            self.read_stream(link, channel, to);
        }
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

    fn perform(&mut self, peer: PeerId, output: Output) {
        let link = self.peers[peer.0].link;
        match output {
            Output::Send(outgoing) => {
                if let Some(link) = link {
                    self.send(link, peer, outgoing);
                }
            }
            Output::Kick { ring, fd } => {
                self.record(Some(peer), link, EventKind::Kick { ring, count: 1 });
                self.signal(peer, fd.as_fd());
            }
            Output::Call { ring, fd } => {
                self.record(Some(peer), link, EventKind::Call { ring, count: 1 });
                self.signal(peer, fd.as_fd());
            }
            Output::Close(channel) => {
                if let Some(link) = link {
                    self.close_side(link, channel, self.peers[peer.0].spec.party, 0);
                }
            }
            Output::Later { token, ms } => self.timers.push((self.clock.now().plus_ms(ms), peer, token)),
            Output::Fault(what) => {
                self.record(Some(peer), link, EventKind::Fault { what });
            }
            Output::Data(what) => {
                self.record(Some(peer), link, EventKind::Data { what });
            }
        }
    }

    fn signal(&mut self, peer: PeerId, fd: std::os::fd::BorrowedFd) {
        if let Err(error) = signal_event(fd) {
            let link = self.peers[peer.0].link;
            let what = format!("the other side's descriptor cannot be signalled: {error}");
            self.record(Some(peer), link, EventKind::Fault { what });
        }
    }

    /// Sends a message of a simulated peer. Gives its event.
    pub(super) fn send(&mut self, link: LinkId, peer: PeerId, outgoing: Outgoing) -> Option<Seq> {
        let Outgoing {
            message,
            bytes,
            mut fds,
            split,
            automatic,
            scripted,
        } = outgoing;
        let from = self.peers[peer.0].spec.party;
        let is_request = !message.is_reply();
        if message.channel == Channel::Main && is_request && message.request == id::frontend::SET_BACKEND_REQ_FD {
            // the second descriptor is our end of the pair
            self.links[link.0].channel_end = if fds.len() > 1 { fds.pop() } else { None };
        }
        let chunk = Chunk::new(bytes.unwrap_or_else(|| message.encode(DIALECT)), fds);
        let own_request = automatic && is_request && from == Party::FrontEnd;
        let seq = self.enter(link, from, message, chunk, split, scripted);
        if let (true, Some(seq)) = (own_request, seq) {
            self.claimed.insert(seq);
        }
        seq
    }

    /// A kick eventfd that a simulated back-end was given has become readable.
    pub(super) fn take_kick(&mut self, peer: PeerId, ring: u16) {
        let link = self.peers[peer.0].link;
        let Some(back) = self.peers[peer.0].sim.back() else {
            return;
        };
        let counted = back.watches().find(|(r, _)| *r == ring).map(|(_, fd)| drain_event(fd));
        let count = match counted {
            Some(Ok(Some(count))) => count,
            Some(Ok(None)) | None => return,
            Some(Err(error)) => {
                // it would poll readable for ever
                back.forget_kick(ring);
                let what = format!("the kick descriptor of ring {ring} gives nothing, and is left alone: {error}");
                self.record(Some(peer), link, EventKind::Fault { what });
                return;
            }
        };
        if let Some(front) = link.map(|l| self.links[l.0].front)
            && !self.peers[front.0].spec.is_simulated()
        {
            // a simulated front-end's kick is on the timeline already
            self.record(Some(front), link, EventKind::Kick { ring, count });
        }
        if let Some(back) = self.peers[peer.0].sim.back() {
            back.kicked(ring);
        }
    }

    /// A call eventfd of a simulated front-end has become readable.
    pub(super) fn take_call(&mut self, peer: PeerId, ring: u16) {
        let Some(front) = self.peers[peer.0].sim.front() else {
            return;
        };
        let counted = front.watches().find(|(r, _)| *r == ring).map(|(_, fd)| drain_event(fd));
        let Some(Ok(Some(count))) = counted else { return };
        let link = self.peers[peer.0].link;
        if let Some(back) = link.map(|l| self.links[l.0].back)
            && !self.peers[back.0].spec.is_simulated()
        {
            self.record(Some(back), link, EventKind::Call { ring, count });
        }
        if let Some(Err(error)) = self.peers[peer.0].sim.front().map(|front| front.called(ring)) {
            self.record(
                Some(peer),
                link,
                EventKind::Fault {
                    what: error.to_string(),
                },
            );
            self.violation.get_or_insert(error.to_string());
        }
    }

    /// Takes in what QEMU's handle reports.
    pub(super) fn collect_qemu(&mut self, peer: PeerId) {
        let Some(qemu) = &mut self.peers[peer.0].qemu else {
            return;
        };
        for completion in qemu.collect() {
            if let Completion::QmpEvent { name, .. } = completion {
                self.record(Some(peer), None, EventKind::Qmp { name });
            }
        }
    }

    /// Takes in a process's output, and its end.
    pub(super) fn collect_child(&mut self, peer: PeerId) {
        let state = &mut self.peers[peer.0];
        let Some(exit) = state.child.as_mut().and_then(|c| c.collect()) else {
            return;
        };
        let asked = state.asked_to_end;
        state.exits.push(exit.to_string());
        // its last messages are in the socket still
        self.read_all_streams();
        self.read_last_words(peer);
        self.record(Some(peer), None, EventKind::Exited { exit, asked });
    }
}
