//! What crosses the links: recording, and doing what simulated peers want done.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use super::run::Run;
use crate::link::{Cargo, Chunk, End, Frame, Parcel, Transit};
use crate::peer::qemu::Completion;
use crate::peer::sim::{Outgoing, Output};
use crate::sys::fd::{FdType, drain_event, fd_type, signal_event};
use crate::trace::{EventKind, LinkId, PeerId, Seq, SignalKind};
use crate::wire::{Channel, DecodeContext, Header, Message, Party, Payload, ProtocolFeature, id};

impl Run<'_> {
    /// Takes in what simulated peers want done. True if there was something.
    pub(super) fn take_outputs(&mut self) -> bool {
        let mut moved = false;
        for peer in 0..self.peers.len() {
            moved |= self.unblock(PeerId(peer));
            while (self.peers[peer].blocked.is_empty() || self.peers[peer].sim.has_threads())
                && let Some((link, output)) = self.peers[peer].sim.next_output()
            {
                self.perform(PeerId(peer), link, output);
                moved = true;
            }
        }
        moved
    }

    /// Moves everything that can move: outputs of simulated peers onto the links, messages across them.
    pub(super) fn relay(&mut self) {
        loop {
            let mut moved = self.take_outputs();
            if self.steering.is_some() {
                // what is on a link moves when it is chosen
                if moved {
                    continue;
                }
                return;
            }
            for link in 0..self.links.len() {
                for channel in Channel::ALL {
                    for from in [Party::FrontEnd, Party::BackEnd] {
                        while self.deliver_next(LinkId(link), channel, from) {
                            moved = true;
                            // where room is short, a peer answers what it was given before it is given more
                            if self.links[link].is_bounded() {
                                break;
                            }
                        }
                    }
                }
                moved |= self.deliver_signals(LinkId(link));
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
        let payload = frame.payload(self.dialect);
        let message = Message::decode(self.dialect, channel, context, &frame.header, payload);
        if frame.chunk.lost_fds {
            let peer = self.links[link.0].peer(from);
            let what = "descriptors were lost: the harness cannot have more open".to_owned();
            self.record(Some(peer), Some(link), EventKind::Fault { what });
        }
        // what a schedule makes modelled endpoints say is meant to be as it is
        let scripted = self.peers[self.links[link.0].front.0].spec.modelled;
        self.enter(link, from, message, frame.chunk, Vec::new(), scripted);
    }

    /// A message comes onto a link.
    fn enter(
        &mut self,
        link: LinkId,
        from: Party,
        message: Message,
        mut chunk: Chunk,
        split: Vec<usize>,
        scripted: bool,
    ) -> Option<Seq> {
        if let (id::frontend::SET_PROTOCOL_FEATURES, Payload::U64(features)) = (message.request, &message.payload)
            && message.channel == Channel::Main
            && !message.is_reply()
        {
            self.links[link.0].xen = features & ProtocolFeature::XenMmap.mask() != 0;
        }
        self.divert(link, from, &message, &mut chunk.fds);
        if !self.timeline.is_recorded() {
            self.links[link.0].note_kick(from, &message, &chunk.fds);
        }
        let notes: Vec<FdType> = chunk.fds.iter().map(|fd| fd_type(fd.as_fd())).collect();
        let (shown, size) = self.spoken(link, &message, &chunk.bytes, scripted);
        let peer = self.links[link.0].peer(from);
        let files = self.copy_files(from, &shown, &chunk.fds);
        let spoken = scripted.then(|| shown.clone());
        let kind = EventKind::Message {
            from,
            message: shown,
            fds: notes,
            size,
            scripted,
        };
        let seq = self.record(Some(peer), Some(link), kind);
        if let Some(files) = files {
            self.show_files(link, files);
        }
        // where the header tells who speaks, a simulated peer has to see the header that was sent
        let message = match &spoken {
            Some(spoken) if self.dialect.is_pci() => spoken.clone(),
            _ => message,
        };
        let channel = message.channel;
        let parcel = Parcel { message, chunk, split };
        let transit = Transit::new(seq, Cargo::Message(parcel));
        self.links[link.0].socket(channel).push(from, transit);
        seq
    }

    /// What the bytes of a message say, which a script may have made other than the message, and how long its payload says
    /// that it is.
    pub(super) fn spoken(&self, link: LinkId, message: &Message, bytes: &[u8], scripted: bool) -> (Message, u32) {
        let header = Header::decode(self.dialect, bytes).unwrap_or_else(|| message.header());
        let payload = bytes.get(self.dialect.header_len()..).unwrap_or_default();
        let spoken = if scripted && usize::try_from(header.size) == Ok(payload.len()) {
            let context = DecodeContext {
                xen_mmap: self.links[link.0].xen,
            };
            Message::decode(self.dialect, message.channel, context, &header, payload)
        } else {
            Message {
                request: header.request,
                flags: header.flags,
                conn_id: header.conn_id,
                ..message.clone()
            }
        };
        (spoken, header.size)
    }

    /// A side of a socket is gone.
    pub(super) fn close_side(&mut self, link: LinkId, channel: Channel, party: Party, partial: usize) {
        let peer = self.links[link.0].peer(party);
        let socket = self.links[link.0].socket(channel);
        if !socket.end_ref(party).is_open() {
            return;
        }
        *socket.end(party) = End::Absent;
        let closed = EventKind::Closed {
            from: party,
            channel,
            partial,
        };
        let seq = self.record(Some(peer), Some(link), closed);
        let socket = self.links[link.0].socket(channel);
        socket.push(party, Transit::new(seq, Cargo::Close));
    }

    /// Whether a socket takes another message of a simulated peer now.
    fn has_room_for(&self, link: LinkId, peer: PeerId, outgoing: &Outgoing) -> bool {
        let from = self.peers[peer.0].spec.party;
        let link = &self.links[link.0];
        let channel = outgoing.message.channel;
        let under_way = link.socket_ref(channel).under_way(from);
        link.room(channel).is_none_or(|room| under_way.len() < room)
    }

    /// Sends what a simulated peer had no room for, as far as there is some now. True if there was.
    fn unblock(&mut self, peer: PeerId) -> bool {
        let Some(link) = self.peers[peer.0].link else {
            return false;
        };
        let mut moved = false;
        let mut still: VecDeque<Outgoing> = VecDeque::new();
        while let Some(outgoing) = self.peers[peer.0].blocked.pop_front() {
            let behind = still.iter().any(|s| s.message.channel == outgoing.message.channel);
            if !behind && self.has_room_for(link, peer, &outgoing) {
                self.send(link, peer, outgoing);
                moved = true;
            } else {
                still.push_back(outgoing);
            }
        }
        self.peers[peer.0].blocked = still;
        moved
    }

    fn perform(&mut self, peer: PeerId, link: Option<LinkId>, output: Output) {
        let link = link.or(self.peers[peer.0].link);
        match output {
            Output::Send(outgoing) => match link {
                Some(link)
                    if self.peers[peer.0].is_stuck(outgoing.message.channel)
                        || !self.has_room_for(link, peer, &outgoing) =>
                {
                    self.peers[peer.0].blocked.push_back(outgoing);
                }
                Some(link) => drop(self.send(link, peer, outgoing)),
                None => {}
            },
            Output::Kick { ring, fd } => self.signal(peer, link, fd.as_fd(), SignalKind::Kick, ring),
            Output::Call { ring, fd } => self.signal(peer, link, fd.as_fd(), SignalKind::Call, ring),
            Output::Close(channel) => {
                if let Some(link) = link {
                    self.close_side(link, channel, self.peers[peer.0].spec.party, 0);
                }
            }
            Output::Later { token, ms } => self.timers.push((self.timeline.now().plus_ms(ms), peer, token)),
            Output::Fault(what) => {
                self.record(Some(peer), link, EventKind::Fault { what });
            }
            Output::Data(what) => {
                self.record(Some(peer), link, EventKind::Data { what });
            }
            Output::Device(note) => {
                self.record(Some(peer), link, EventKind::Device { note });
            }
        }
    }

    fn signal(&mut self, peer: PeerId, link: Option<LinkId>, fd: std::os::fd::BorrowedFd, kind: SignalKind, ring: u16) {
        let relayed = self.is_relayed(peer, kind);
        if !relayed {
            let event = match kind {
                SignalKind::Kick => EventKind::Kick { ring, count: 1 },
                _ => EventKind::Call { ring, count: 1 },
            };
            self.record(Some(peer), link, event);
        }
        if let Err(error) = signal_event(fd) {
            let what = format!("the other side's descriptor cannot be signalled: {error}");
            self.record(Some(peer), link, EventKind::Fault { what });
        }
        if let (true, Some(link)) = (relayed, link) {
            self.take_signals(link);
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
        let is_main = message.channel == Channel::Main && !message.dialect.is_pci();
        if is_main && is_request && message.request == id::frontend::SET_BACKEND_REQ_FD {
            // the second descriptor is our end of the pair
            self.links[link.0].channel_end = if fds.len() > 1 { fds.pop() } else { None };
        }
        let chunk = Chunk::new(bytes.unwrap_or_else(|| message.encode(self.dialect)), fds);
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
            && !self.is_relayed(peer, SignalKind::Kick)
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
            && !self.is_relayed(peer, SignalKind::Call)
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
