//! One side of a recorded conversation, played again by a simulated peer. What was recorded says what to send and what to
//! wait for; features, counts, addresses and descriptors are those of the present conversation. What the other side says is
//! not judged here: the two conversations are compared when this one is over.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::super::failure::{Result, Stop};
use super::super::run::Run;
use super::Waiting;
use super::messages::needed_fds;
use crate::link::End;
use crate::peer::sim::Outgoing;
use crate::scenario::Diagnostic;
use crate::scenario::model::Replay;
use crate::scenario::span::Span;
use crate::sys::fd as make;
use crate::trace::file::Trace;
use crate::trace::{Event, EventKind, FdNote, LinkId, PeerId, Seq};
use crate::wire::{Channel, Gate, MemTable, Message, Party, Payload, ProtocolFeature, flags, id};

/// VHOST_USER_F_PROTOCOL_FEATURES.
const F_PROTOCOL_FEATURES: u64 = 1 << 30;

/// A recording that is being played.
#[derive(Debug)]
pub(in super::super) struct Replaying {
    peer: PeerId,
    link: LinkId,
    party: Party,
    /// The events of the recorded link.
    events: Vec<Event>,
    next: usize,
    connections: usize,
    /// Recorded requests of this side that wait for their recorded answer, and the message that was sent for each.
    asked: VecDeque<(Message, Option<(Message, Seq)>)>,
    /// Present answers that have been taken for one.
    taken: BTreeSet<Seq>,
    /// What the trace says that was negotiated when it was made: REPLY_ACK.
    acknowledged_then: bool,
    /// How many rings the present back-end says it has.
    queues: Option<u64>,
    /// Data that is being carried again.
    data: Option<Waiting>,
    /// Requests of the front-end before the back-end's next one, as recorded, and how many have come by now.
    heard: usize,
    come: (usize, Seq),
    /// SET_FEATURES was sent.
    acknowledged: bool,
    /// Something was sent and may not be on its way yet.
    unsent: bool,
}

impl Replaying {
    pub(super) fn waits_for(&self) -> String {
        match self.events.get(self.next).map(|event| &event.kind) {
            Some(EventKind::Message { message, .. }) => format!("{message}, as it was recorded"),
            Some(EventKind::Closed { .. }) => "the end of the connection, as it was recorded".to_owned(),
            Some(EventKind::Data { what }) => format!("what was recorded as `{what}`"),
            _ => "the rest of the recording".to_owned(),
        }
    }
}

impl Run<'_> {
    pub(super) fn begin_replay(&mut self, step: &Replay) -> Result<Waiting> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let link = self.link_of(peer, step.peer.span)?;
        let of_link = LinkId(self.number(step.link.as_ref(), 0)?.try_into().unwrap_or(usize::MAX));
        let trace: Arc<Trace> = match self.plan.traces.get(&step.trace.value) {
            Some(trace) => Arc::clone(trace),
            None => return Err(Stop::harness("the trace was not loaded", step.trace.span)),
        };
        let last = match &step.to_line {
            Some(line) => Some(self.number(Some(line), 0)?),
            None => None,
        };
        let played = |line: usize| last.is_none_or(|last| line as u64 <= last);
        let events: Vec<Event> = trace
            .events
            .iter()
            .zip(&trace.lines)
            .filter(|(event, line)| event.link == Some(of_link) && played(**line))
            .map(|(event, _)| event.clone())
            .collect();
        if !events.iter().any(|e| e.kind.message().is_some()) {
            let message = format!("nothing was said on link {} of this trace, up to that line", of_link.0);
            return Err(Stop::wrong(Diagnostic::error(message).at(step.trace.span)));
        }
        let party = self.peers[peer.0].spec.party;
        let acknowledged_then = events.iter().filter_map(|e| e.kind.message()).any(|m| {
            let negotiates = m.request == id::frontend::SET_PROTOCOL_FEATURES && m.channel == Channel::Main;
            negotiates
                && !m.is_reply()
                && m.payload
                    .as_u64()
                    .is_some_and(|bits| bits & ProtocolFeature::ReplyAck.mask() != 0)
        });
        Ok(Waiting::Replay(Box::new(Replaying {
            peer,
            link,
            party,
            events,
            next: 0,
            connections: 0,
            asked: VecDeque::new(),
            taken: BTreeSet::new(),
            acknowledged_then,
            queues: None,
            data: None,
            heard: 0,
            come: (0, Seq(0)),
            acknowledged: false,
            unsent: false,
        })))
    }

    pub(super) fn poll_replay(&mut self, span: Span, replay: &mut Replaying) -> Result<bool> {
        loop {
            if let Some(waiting) = &mut replay.data {
                let done = match waiting {
                    Waiting::Submitted(submitted) => self.poll_submitted(span, submitted)?,
                    Waiting::Delivery(delivery) => self.poll_delivery(span, delivery)?,
                    _ => true,
                };
                if !done && std::mem::take(&mut replay.unsent) {
                    self.relay();
                    continue;
                }
                if !done {
                    return Ok(false);
                }
                replay.data = None;
            }
            let Some(event) = replay.events.get(replay.next).cloned() else {
                return Ok(true);
            };
            let goes_on = match (&event.kind, replay.party) {
                (EventKind::Connected { .. }, _) => {
                    replay.connections += 1;
                    // what another connection said is another conversation
                    if replay.connections > 1 {
                        return Ok(true);
                    }
                    true
                }
                (
                    EventKind::Closed {
                        from,
                        channel: Channel::Main,
                        ..
                    },
                    party,
                ) => {
                    if *from == party {
                        self.close_side(replay.link, Channel::Main, party, 0);
                        return Ok(true);
                    }
                    // a front-end that is driven ends when it is asked to
                    party == Party::BackEnd
                        || matches!(self.links[replay.link.0].main.end_ref(party.other()), End::Absent)
                }
                (EventKind::Message { from, message, fds, .. }, Party::FrontEnd) => {
                    self.replay_front(span, replay, *from, message, fds)?
                }
                (EventKind::Message { from, message, fds, .. }, Party::BackEnd) => {
                    self.replay_back(span, replay, *from, message, fds)?
                }
                (EventKind::Data { what }, Party::FrontEnd) => {
                    replay.data = self.data_again(replay.peer, what, span)?;
                    replay.unsent = true;
                    true
                }
                _ => true,
            };
            if !goes_on && std::mem::take(&mut replay.unsent) {
                self.relay();
                continue;
            }
            if !goes_on {
                // whoever is gone says nothing more
                let gone = matches!(
                    self.links[replay.link.0].main.end_ref(replay.party.other()),
                    End::Absent
                );
                return Ok(gone && self.links[replay.link.0].is_delivered());
            }
            replay.next += 1;
        }
    }

    /// An event of a recorded front-end's conversation. False: what it needs has not come yet.
    fn replay_front(
        &mut self,
        span: Span,
        replay: &mut Replaying,
        from: Party,
        message: &Message,
        fds: &[FdNote],
    ) -> Result<bool> {
        // requests on the channel, and answers to them, come when they come; they are answered when they do
        if message.channel == Channel::Backend {
            return Ok(true);
        }
        match (from, message.is_reply()) {
            (Party::FrontEnd, false) => {
                let sent = self.send_again(span, replay, message, fds)?;
                replay.unsent = true;
                replay.asked.push_back((message.clone(), sent));
            }
            (Party::BackEnd, true) => {
                let Some(at) = replay.asked.iter().position(|(asked, _)| message.answers(asked)) else {
                    return Ok(true);
                };
                let Some((request, seq)) = replay.asked[at].1.clone() else {
                    replay.asked.remove(at);
                    return Ok(true);
                };
                let own = self.links[replay.link.0].peer(Party::BackEnd);
                let answer = self.timeline.since(seq).find_map(|(seq, event)| match &event.kind {
                    EventKind::Message {
                        from: Party::BackEnd,
                        message,
                        ..
                    } if event.peer == Some(own) && message.answers(&request) && !replay.taken.contains(&seq) => {
                        Some((seq, message.clone()))
                    }
                    _ => None,
                });
                let Some((seq, answer)) = answer else {
                    // nobody owes this one an answer
                    let owed = self.is_answered(replay, &request);
                    if !owed {
                        replay.asked.remove(at);
                    }
                    return Ok(!owed);
                };
                replay.taken.insert(seq);
                if answer.request == id::frontend::GET_QUEUE_NUM {
                    replay.queues = answer.payload.as_u64();
                }
                // all that was asked before has been answered, or never will be
                replay.asked.drain(..=at);
            }
            _ => {}
        }
        Ok(true)
    }

    /// Whether a message that was sent has to be answered by the present back-end.
    fn is_answered(&mut self, replay: &Replaying, sent: &Message) -> bool {
        let [.., negotiated] = self.bits(replay.peer);
        let due = sent.spec().map(|spec| spec.reply.due(sent.needs_reply(), negotiated));
        due != Some(crate::wire::Due::Forbidden)
    }

    /// Offered and negotiated virtio bits, offered and negotiated protocol bits.
    fn bits(&mut self, peer: PeerId) -> [u64; 4] {
        self.peers[peer.0]
            .sim
            .front()
            .map(|front| front.features())
            .unwrap_or_default()
    }

    /// Sends a recorded request as the present back-end can take it; `None` if it cannot at all.
    fn send_again(
        &mut self,
        span: Span,
        replay: &mut Replaying,
        recorded: &Message,
        fds: &[FdNote],
    ) -> Result<Option<(Message, Seq)>> {
        let [offered, negotiated, protocol_offered, protocol] = self.bits(replay.peer);
        let mut message = recorded.clone();
        if message.needs_reply() && replay.acknowledged_then && protocol & ProtocolFeature::ReplyAck.mask() == 0 {
            message.flags &= !flags::NEED_REPLY;
        }
        match (message.request, &mut message.payload) {
            (id::frontend::SET_FEATURES, Payload::U64(bits)) => {
                *bits &= offered;
                replay.acknowledged = true;
            }
            (id::frontend::SET_PROTOCOL_FEATURES, Payload::U64(bits)) => *bits &= protocol_offered,
            (_, payload) => {
                let index = payload.ring_index();
                if let (Some(index), Some(queues)) = (index, replay.queues)
                    && u64::from(index) >= queues
                {
                    return Ok(None);
                }
            }
        }
        let slots = matches!(recorded.request, id::frontend::ADD_MEM_REG | id::frontend::REM_MEM_REG);
        let whole = slots && protocol & ProtocolFeature::ConfigureMemSlots.mask() == 0;
        // until they are acknowledged, what was offered will be
        let negotiated = if replay.acknowledged { negotiated } else { offered };
        let open = |gate: &Gate| gate.is_open((offered, protocol_offered), (negotiated, protocol));
        let allowed = recorded.spec().is_none_or(|spec| spec.gates.iter().all(open));
        // the first questions are asked before anything is known
        let early = matches!(
            recorded.request,
            id::frontend::GET_FEATURES | id::frontend::SET_FEATURES
        );
        let enable = recorded.request == id::frontend::SET_VRING_ENABLE && offered & F_PROTOCOL_FEATURES == 0;
        if !whole && !early && (!allowed || enable) {
            return Ok(None);
        }
        let files: Vec<u64> = fds
            .iter()
            .map(|fd| match fd {
                FdNote::Memfd { size } | FdNote::File { size } => *size,
                _ => 0,
            })
            .collect();
        let Some(front) = self.peers[replay.peer.0].sim.front() else {
            return Ok(None);
        };
        let wrong = |e: &dyn std::fmt::Display| Stop::wrong(Diagnostic::error(format!("{recorded}: {e}")).at(span));
        front.sent(&message);
        let mut made = front.announce(&message, &files).map_err(|e| wrong(&e))?;
        if whole {
            message = whole_table(front.regions());
            made = front.announce(&message, &[]).map_err(|e| wrong(&e))?;
            front.sent(&message);
        }
        if made.is_empty() && !fds.is_empty() {
            made = self.made_again(span, replay.peer, &mut message, fds)?;
        }
        let front = self.peers[replay.peer.0].sim.front();
        if let Some(front) = front {
            front.adopt(&message, &made).map_err(|e| wrong(&e))?;
        }
        let seq = self.timeline.end();
        let outgoing = Outgoing {
            message: message.clone(),
            bytes: None,
            fds: made,
            split: Vec::new(),
            automatic: false,
            scripted: true,
        };
        self.send(replay.link, replay.peer, outgoing);
        Ok(Some((message, seq)))
    }

    /// Descriptors as they came with a recorded message. The inflight area goes back as it was handed out.
    fn made_again(&mut self, span: Span, peer: PeerId, message: &mut Message, fds: &[FdNote]) -> Result<Vec<OwnedFd>> {
        if message.request == id::frontend::SET_INFLIGHT_FD
            && message.channel == Channel::Main
            && let Some((fd, area)) = self.peers[peer.0].sim.front().and_then(|front| front.inflight())
        {
            message.payload = Payload::Inflight(area);
            return Ok(vec![fd]);
        }
        let needed = match message.spec() {
            Some(spec) => needed_fds(spec, &message.payload, span)?,
            None => Vec::new(),
        };
        if !needed.is_empty() {
            return Ok(needed);
        }
        let one = |fd: &FdNote| {
            let made = match fd {
                FdNote::Eventfd => make::eventfd(),
                FdNote::Socket => make::socket_pair().map(|(end, _)| end),
                FdNote::Memfd { size } | FdNote::File { size } => make::memfd("vuh", *size),
                FdNote::Pipe => make::pipe().map(|(end, _)| end),
                FdNote::Userfault | FdNote::Other => make::null(),
            };
            made.map_err(|e| Stop::harness(format!("descriptor: {e}"), span))
        };
        fds.iter().map(one).collect()
    }

    /// An event of a recorded back-end's conversation: its answers are given by the simulated one as they are asked for;
    /// what it asked itself is asked when as much has been heard from the front-end as then.
    fn replay_back(
        &mut self,
        span: Span,
        replay: &mut Replaying,
        from: Party,
        message: &Message,
        fds: &[FdNote],
    ) -> Result<bool> {
        if message.is_reply() {
            return Ok(true);
        }
        if from == Party::FrontEnd {
            // a request that this front-end does not make must not be waited for: what is asked next says when
            if message.channel == Channel::Main {
                replay.heard += 1;
            }
            return Ok(true);
        }
        let front = self.links[replay.link.0].peer(Party::FrontEnd);
        let (come, from) = replay.come;
        let new = self.timeline.since(from).filter(|(_, event)| {
            let request = |m: &Message| m.channel == Channel::Main && !m.is_reply();
            event.peer == Some(front) && event.kind.message().is_some_and(request)
        });
        replay.come = (come + new.count(), self.timeline.end());
        if replay.come.0 < replay.heard {
            return Ok(false);
        }
        replay.unsent = true;
        let mut message = message.clone();
        let made = self.made_again(span, replay.peer, &mut message, fds)?;
        let outgoing = Outgoing {
            message,
            bytes: None,
            fds: made,
            split: Vec::new(),
            automatic: false,
            scripted: true,
        };
        self.send(replay.link, replay.peer, outgoing);
        Ok(true)
    }
}

/// All regions at once, for a back-end without memory slots.
fn whole_table(regions: &[crate::memory::MemRegionDesc]) -> Message {
    let table = MemTable {
        regions: regions
            .iter()
            .map(|r| crate::wire::MemRegion {
                guest_address: r.guest_address,
                size: r.size,
                user_address: r.user_address,
                mmap_offset: r.mmap_offset,
                ..crate::wire::MemRegion::default()
            })
            .collect(),
        ..MemTable::default()
    };
    let spec = crate::wire::spec(
        crate::wire::Dialect::VhostUser,
        Channel::Main,
        id::frontend::SET_MEM_TABLE,
    )
    .expect("SET_MEM_TABLE is in the table");
    Message::request(spec, table)
}
