//! Requests and replies on a timeline: every request that wants an answer has exactly one, in order, and no answer is
//! without its request (VU-COM, VU-ACK). A peer owes answers to what has arrived, whatever was done to it on the link.

use std::collections::VecDeque;

use crate::trace::{EventKind, Injected, LinkId, Meddling, Seq, Timeline};
use crate::wire::{Channel, Due, Message, Party, Payload, id};

/// Something wrong with the replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckFault {
    /// The event at which it shows.
    pub at: Seq,
    /// What.
    pub what: String,
}

struct Session {
    link: LinkId,
    protocol_features: u64,
    /// Of the main socket, of the channel, and of the back-end on the main socket where a dialect has such requests.
    open: [VecDeque<Open>; 3],
    closed: [bool; 2],
}

/// A request that is not answered yet.
struct Open {
    seq: Seq,
    request: Message,
    due: Due,
    /// The answer to a later request that came first.
    overtaken_by: Option<(Seq, Message)>,
}

/// Looks through the whole timeline.
pub fn check(timeline: &Timeline) -> Vec<AckFault> {
    let mut sessions: Vec<Session> = Vec::new();
    let mut faults = Vec::new();
    for (seq, event) in timeline.since(Seq(0)) {
        let Some(link) = event.link else { continue };
        let at = sessions.iter().position(|s| s.link == link).unwrap_or_else(|| {
            sessions.push(Session {
                link,
                protocol_features: 0,
                open: Default::default(),
                closed: [false; 2],
            });
            sessions.len() - 1
        });
        match &event.kind {
            // a new connection owes nothing for the old one
            EventKind::Connected { .. } => {
                sessions[at].end(&mut faults, true);
                sessions[at] = Session {
                    link,
                    protocol_features: 0,
                    open: Default::default(),
                    closed: [false; 2],
                };
            }
            // nobody is there any more to hear it
            EventKind::Message { message, .. } if sessions[at].closed[index(message.channel)] => {}
            EventKind::Message { from, message, .. } => {
                let queue = queue(message, *from);
                sessions[at].message(seq, message, queue, &mut faults);
            }
            EventKind::Meddled { of, how } => sessions[at].meddled(seq, *of, how, &mut faults),
            EventKind::Closed { channel, .. } => sessions[at].close(*channel, &mut faults),
            _ => {}
        }
    }
    for session in &mut sessions {
        session.end(&mut faults, false);
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

impl Session {
    fn message(&mut self, seq: Seq, message: &Message, queue: usize, faults: &mut Vec<AckFault>) {
        let open = &mut self.open[queue];
        if !message.is_reply() {
            if let (id::frontend::SET_PROTOCOL_FEATURES, Channel::Main, Payload::U64(features)) =
                (message.request, message.channel, &message.payload)
            {
                self.protocol_features = *features;
            }
            open.push_back(Open::new(seq, message, self.protocol_features));
            return;
        }
        // requests that need no answer may stand before the one that is answered
        let answered = open
            .iter()
            .position(|o| message.answers(&o.request) && o.due != Due::Forbidden);
        let Some(at) = answered else {
            let what = format!("{message} answers no request");
            faults.push(AckFault { at: seq, what });
            return;
        };
        for overtaken in open.range_mut(..at).filter(|o| o.due == Due::Required) {
            overtaken.overtaken_by.get_or_insert_with(|| (seq, message.clone()));
        }
        if let Some(Open {
            request,
            overtaken_by: Some((at, earlier)),
            ..
        }) = open.remove(at)
        {
            let what = format!("{earlier} came before the answer to {request}");
            faults.push(AckFault { at, what });
        }
        // once a later request is answered, an answer that may be left out cannot come any more
        let mut place = 0..;
        open.retain(|o| place.next() >= Some(at) || o.due == Due::Required);
    }

    /// The script has taken a hand: what was asked is not what arrives.
    fn meddled(&mut self, seq: Seq, of: Option<Seq>, how: &Meddling, faults: &mut Vec<AckFault>) {
        if let Meddling::Injected(Injected::Message { message, .. }) = how {
            // a reply of nobody answers for nobody
            if !message.is_reply() {
                self.message(seq, message, index(message.channel), faults);
            }
            return;
        }
        if let Meddling::Altered { message, .. } = how
            && let (id::frontend::SET_PROTOCOL_FEATURES, Payload::U64(features)) = (message.request, &message.payload)
        {
            self.protocol_features = *features;
        }
        let features = self.protocol_features;
        for open in &mut self.open {
            let Some(at) = open.iter().position(|o| Some(o.seq) == of) else {
                continue;
            };
            match how {
                Meddling::Dropped => drop(open.remove(at)),
                Meddling::Behind { .. } => {
                    let late = open.remove(at);
                    open.extend(late);
                }
                Meddling::Repeated => {
                    let again = Open::new(open[at].seq, &open[at].request, features);
                    open.insert(at + 1, again);
                }
                Meddling::Altered { message, .. } => open[at] = Open::new(open[at].seq, message, features),
                Meddling::Split { .. } | Meddling::Joined { .. } | Meddling::Injected(_) => {}
            }
        }
    }

    /// A socket is closed: what was asked last may stay without answer, but not what others have overtaken.
    fn close(&mut self, channel: Channel, faults: &mut Vec<AckFault>) {
        self.closed[index(channel)] = true;
        let queues: &[usize] = if channel == Channel::Main { &[0, 2] } else { &[1] };
        for queue in queues {
            for open in self.open[*queue].drain(..) {
                open.unanswered(faults, true);
            }
        }
    }

    fn end(&mut self, faults: &mut Vec<AckFault>, closed: bool) {
        for open in self.open.iter_mut().flat_map(|queue| queue.drain(..)) {
            open.unanswered(faults, closed);
        }
    }
}

impl Open {
    fn new(seq: Seq, request: &Message, protocol_features: u64) -> Self {
        let wants = request.needs_reply();
        let due = request
            .spec()
            .map_or(Due::Open, |s| s.reply.due(wants, protocol_features));
        Self {
            seq,
            request: request.clone(),
            due,
            overtaken_by: None,
        }
    }

    fn unanswered(self, faults: &mut Vec<AckFault>, closed: bool) {
        let Self { seq: at, request, .. } = self;
        let what = match self.overtaken_by {
            Some((_, later)) => format!("{request} was never answered; the next answer was {later}"),
            None if closed || self.due != Due::Required => return,
            None => format!("{request} was never answered"),
        };
        faults.push(AckFault { at, what });
    }
}

/// The queue of a message: that of its socket, or that of the back-end's requests where both sides make some on one socket.
fn queue(message: &Message, from: Party) -> usize {
    let requester = if message.is_reply() { from.other() } else { from };
    let is_own = message.dialect.is_pci() && message.channel == Channel::Main && requester == Party::BackEnd;
    if is_own { 2 } else { index(message.channel) }
}

fn index(channel: Channel) -> usize {
    match channel {
        Channel::Main => 0,
        Channel::Backend => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::Clock;
    use crate::trace::PeerId;

    /// The faults of a conversation in the notation; `reply to` tells the sides apart.
    fn faults(lines: &[&str]) -> Vec<String> {
        let mut timeline = Timeline::new(Clock::start(), vec!["front".into(), "back".into()]);
        for line in lines {
            let kind = match *line {
                "closed" => EventKind::Closed {
                    from: Party::BackEnd,
                    channel: Channel::Main,
                    partial: 0,
                },
                line if line.starts_with("injected ") => EventKind::Meddled {
                    of: None,
                    how: Meddling::Injected(Injected::Message {
                        message: Box::new(line["injected ".len()..].parse().unwrap()),
                        fds: Vec::new(),
                    }),
                },
                // about the event before it
                "dropped" | "repeated" => EventKind::Meddled {
                    of: Some(Seq(timeline.end().0 - 1)),
                    how: match *line {
                        "dropped" => Meddling::Dropped,
                        _ => Meddling::Repeated,
                    },
                },
                line if line.starts_with("altered ") => EventKind::Meddled {
                    of: Some(Seq(timeline.end().0 - 1)),
                    how: Meddling::Altered {
                        message: Box::new(line["altered ".len()..].parse().unwrap()),
                        fds: Vec::new(),
                    },
                },
                line => EventKind::Message {
                    from: Party::FrontEnd,
                    message: line.parse().unwrap(),
                    fds: Vec::new(),
                    size: 0,
                    scripted: false,
                },
            };
            timeline.push(Some(PeerId(0)), Some(LinkId(0)), kind);
        }
        check(&timeline).into_iter().map(|f| f.what).collect()
    }

    const REPLY_ACK: &str = "SET_PROTOCOL_FEATURES value=0x8";

    /// Broken: a conversation as it should be is blamed.
    #[test]
    fn one_answer_each_in_order() {
        let none: [&str; 0] = [];
        assert_eq!(
            faults(&[
                "GET_FEATURES",
                REPLY_ACK,
                "SET_OWNER!",
                "GET_STATUS",
                "reply to GET_FEATURES value=0x0",
                "reply to SET_OWNER value=0x0",
                "reply to GET_STATUS value=0x0",
            ]),
            none
        );
        // what was asked last may be cut off
        assert_eq!(faults(&["GET_FEATURES", "closed"]), none);
    }

    /// Broken: what is said of a missing, late or second answer is not what happened.
    #[test]
    fn each_fault_is_told_apart() {
        assert_eq!(faults(&["GET_FEATURES"]), ["GET_FEATURES was never answered"]);
        assert_eq!(
            faults(&[
                "GET_FEATURES",
                "reply to GET_FEATURES value=0x1",
                "reply to GET_FEATURES value=0x1"
            ]),
            ["reply to GET_FEATURES value=0x1 answers no request"]
        );
        assert_eq!(
            faults(&[
                "GET_FEATURES",
                "GET_STATUS",
                "reply to GET_STATUS value=0x0",
                "reply to GET_FEATURES value=0x1"
            ]),
            ["reply to GET_STATUS value=0x0 came before the answer to GET_FEATURES"]
        );
        assert_eq!(
            faults(&[REPLY_ACK, "SET_OWNER!", "GET_STATUS", "reply to GET_STATUS value=0x0"]),
            ["SET_OWNER! was never answered; the next answer was reply to GET_STATUS value=0x0"]
        );
        assert_eq!(
            faults(&["GET_FEATURES", "GET_STATUS", "reply to GET_STATUS value=0x0", "closed"]),
            ["GET_FEATURES was never answered; the next answer was reply to GET_STATUS value=0x0"]
        );
        assert_eq!(
            faults(&["SET_OWNER", "reply to SET_OWNER value=0x0"]),
            ["reply to SET_OWNER value=0x0 answers no request"]
        );
    }

    /// Broken: a peer is blamed for what the script did, or is not held to what arrived.
    #[test]
    fn what_arrives_is_answered() {
        let none: [&str; 0] = [];
        let answer = "reply to GET_STATUS value=0x0";
        assert_eq!(faults(&["GET_STATUS", "dropped"]), none);
        assert_eq!(faults(&["GET_STATUS", "repeated", answer, answer]), none);
        assert_eq!(faults(&["injected GET_STATUS", answer]), none);
        assert_eq!(faults(&[REPLY_ACK, "SET_OWNER!", "altered SET_OWNER"]), none);
        assert_eq!(
            faults(&["GET_STATUS", "repeated", answer]),
            ["GET_STATUS was never answered"]
        );
        assert_eq!(faults(&["injected GET_STATUS"]), ["GET_STATUS was never answered"]);
        assert_eq!(
            faults(&["GET_STATUS", "injected reply to GET_STATUS value=0x0"]),
            ["GET_STATUS was never answered"]
        );
    }
}
