//! Requests and replies on a timeline: every request that wants an answer has exactly one, in order, and no answer is
//! without its request (VU-COM, VU-ACK).

use std::collections::VecDeque;

use crate::trace::{EventKind, LinkId, Seq, Timeline};
use crate::wire::{Channel, Due, Message, Payload, id};

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
    open: [VecDeque<Open>; 2],
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
            EventKind::Message { message, .. } => sessions[at].message(seq, message, &mut faults),
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
    fn message(&mut self, seq: Seq, message: &Message, faults: &mut Vec<AckFault>) {
        let open = &mut self.open[index(message.channel)];
        if !message.is_reply() {
            if let (id::frontend::SET_PROTOCOL_FEATURES, Channel::Main, Payload::U64(features)) =
                (message.request, message.channel, &message.payload)
            {
                self.protocol_features = *features;
            }
            let wants = message.needs_reply();
            let due = message
                .spec()
                .map_or(Due::Open, |s| s.reply.due(wants, self.protocol_features));
            open.push_back(Open {
                seq,
                request: message.clone(),
                due,
                overtaken_by: None,
            });
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

    /// A socket is closed: what was asked last may stay without answer, but not what others have overtaken.
    fn close(&mut self, channel: Channel, faults: &mut Vec<AckFault>) {
        self.closed[index(channel)] = true;
        for open in self.open[index(channel)].drain(..) {
            open.unanswered(faults, true);
        }
    }

    fn end(&mut self, faults: &mut Vec<AckFault>, closed: bool) {
        for open in self.open.iter_mut().flat_map(|queue| queue.drain(..)) {
            open.unanswered(faults, closed);
        }
    }
}

impl Open {
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
    use crate::wire::Party;

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
}
