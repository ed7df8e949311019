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
    /// The status that it has to be answered with; `None`: any.
    pub status: Option<u64>,
}

impl Wanted {
    /// The ordinary form of a request, which has to succeed.
    pub fn plain(request: u32, ring: u16) -> Self {
        Self {
            request,
            ring,
            status: Some(0),
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

/// Whether a reply is a status that differs from the one that was wanted.
pub(super) fn refused(wanted: Option<u64>, reply: &Message) -> Option<u64> {
    let status = reply.payload.as_u64()?;
    wanted.filter(|wanted| *wanted != status).map(|_| status)
}
