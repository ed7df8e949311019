//! What a rule is.

use super::look::{Facts, Look};
use super::profile::Setting;
use crate::trace::EventKind;
use crate::wire::{Channel, Party};

/// One rule of the table.
#[derive(Debug)]
pub struct Rule {
    /// Its permanent name.
    pub id: &'static str,
    /// The requirements that it enforces.
    pub requirements: &'static [&'static str],
    /// Who can break it.
    pub party: Bound,
    /// What it says.
    pub text: &'static str,
    /// How it is checked.
    pub check: Check,
}

/// Whom a rule binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The front-end.
    Front,
    /// The back-end.
    Back,
    /// Both.
    Both,
}

/// Where a rule is checked, and how.
#[derive(Debug)]
pub enum Check {
    /// At these messages.
    Message(On, fn(&Rule, &Look) -> Option<Finding>),
    /// At what is not a message: a close, a call, bytes that are no message.
    Event(fn(&Facts, &EventKind) -> Option<Finding>),
}

/// The messages at which a rule is checked.
#[derive(Debug, Clone, Copy)]
pub enum On {
    /// All.
    Any,
    /// Those in the direction of requests.
    Requests,
    /// These requests, on a socket.
    Request(Channel, &'static [u32]),
    /// Those in the direction of replies, with the reply bit.
    Replies,
    /// Replies to these requests, on a socket.
    Reply(Channel, &'static [u32]),
}

/// What was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What the rule wants.
    pub expected: String,
    /// What was there.
    pub actual: String,
    /// The known difference that this is, if it is one.
    pub excuse: Option<Setting>,
}

impl Finding {
    /// A finding without an excuse.
    pub fn new(expected: impl Into<String>, actual: impl Into<String>) -> Option<Self> {
        Some(Self {
            expected: expected.into(),
            actual: actual.into(),
            excuse: None,
        })
    }

    /// The same, excused by a setting.
    #[must_use]
    pub fn unless(self, excuse: impl Into<Option<Setting>>) -> Self {
        Self {
            excuse: excuse.into(),
            ..self
        }
    }
}

impl On {
    /// Whether a message is one of them.
    pub fn fits(self, look: &Look) -> bool {
        let message = look.message;
        match self {
            Self::Any => true,
            Self::Requests => look.is_request(),
            Self::Request(channel, ids) => {
                look.is_request() && message.channel == channel && ids.contains(&message.request)
            }
            Self::Replies => look.matched.is_some(),
            Self::Reply(channel, ids) => {
                look.matched.is_some() && message.channel == channel && ids.contains(&message.request)
            }
        }
    }
}

impl Bound {
    /// Whether it binds this party.
    pub const fn binds(self, party: Party) -> bool {
        matches!(
            (self, party),
            (Self::Both, _) | (Self::Front, Party::FrontEnd) | (Self::Back, Party::BackEnd)
        )
    }

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Front => "front-end",
            Self::Back => "back-end",
            Self::Both => "both",
        }
    }
}

/// A row of the table for rules about messages.
pub const fn rule(
    id: &'static str,
    party: Bound,
    requirements: &'static [&'static str],
    on: On,
    check: fn(&Rule, &Look) -> Option<Finding>,
    text: &'static str,
) -> Rule {
    Rule {
        id,
        requirements,
        party,
        text,
        check: Check::Message(on, check),
    }
}

/// A row of the table for rules about other events.
pub const fn event_rule(
    id: &'static str,
    party: Bound,
    requirements: &'static [&'static str],
    check: fn(&Facts, &EventKind) -> Option<Finding>,
    text: &'static str,
) -> Rule {
    Rule {
        id,
        requirements,
        party,
        text,
        check: Check::Event(check),
    }
}
