//! A request that a simulated peer is to make of its own accord, in a form that is legal where it stands.

use std::os::fd::OwnedFd;

use super::answer::with_fields;
use crate::wire::{FieldError, Message, Payload, Value};

/// What is asked for; the peer composes the rest from what it knows.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The request's id, on the socket on which the peer asks.
    pub request: u32,
    /// The ring that it is about, where it is about one.
    pub ring: u16,
    /// Payload fields that differ from those that the peer would choose.
    pub fields: Vec<(String, Value)>,
    /// Sets or clears need_reply; without it the flag is set where it has a meaning.
    pub need_reply: Option<bool>,
    /// The status that it has to be answered with.
    pub status: Status,
}

/// A status that an answer has to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// Whatever it is.
    #[default]
    Any,
    /// This one.
    Is(u64),
    /// Any that says no.
    Refused,
}

impl Wanted {
    /// The ordinary form of a request, which has to succeed.
    pub fn plain(request: u32, ring: u16) -> Self {
        Self {
            request,
            ring,
            status: Status::Is(0),
            ..Self::default()
        }
    }

    /// The payload with the fields that were asked for.
    pub(super) fn changed(&self, payload: Payload) -> Result<Payload, FieldError> {
        if self.fields.is_empty() {
            return Ok(payload);
        }
        with_fields(&payload, &self.fields)
    }
}

/// A request that was composed.
#[derive(Debug)]
pub(super) struct Composed {
    pub(super) message: Message,
    pub(super) fds: Vec<OwnedFd>,
}

/// The status of a reply that is not the one that was wanted.
pub(super) fn unwanted(wanted: Status, reply: &Message) -> Option<u64> {
    let status = reply.payload.as_u64()?;
    let as_wanted = match wanted {
        Status::Any => true,
        Status::Is(wanted) => wanted == status,
        Status::Refused => status != 0,
    };
    (!as_wanted).then_some(status)
}
