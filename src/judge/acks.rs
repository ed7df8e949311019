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
    open: [VecDeque<(Seq, Message, Due)>; 2],
    closed: [bool; 2],
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
            EventKind::Closed { channel, .. } => {
                sessions[at].open[index(*channel)].clear();
                sessions[at].closed[index(*channel)] = true;
            }
            _ => {}
        }
    }
    for session in &sessions {
        for (seq, request, due) in session.open.iter().flatten() {
            if *due == Due::Required {
                faults.push(AckFault {
                    at: *seq,
                    what: format!("{request} was never answered"),
                });
            }
        }
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
            open.push_back((seq, message.clone(), due));
            return;
        }
        // requests that need no answer may stand before the one that is answered
        match open
            .iter()
            .position(|(_, request, due)| message.answers(request) && *due != Due::Forbidden)
        {
            None => faults.push(AckFault {
                at: seq,
                what: format!("{message} answers no request"),
            }),
            Some(at) => {
                for (_, request, due) in open.drain(..at) {
                    if due == Due::Required {
                        let what = format!("{message} came before the answer to {request}");
                        faults.push(AckFault { at: seq, what });
                    }
                }
                open.pop_front();
            }
        }
    }
}

fn index(channel: Channel) -> usize {
    match channel {
        Channel::Main => 0,
        Channel::Backend => 1,
    }
}
