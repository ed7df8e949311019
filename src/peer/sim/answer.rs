//! Scripted answers: how a reply differs from the one the peer would have given.

use std::os::fd::OwnedFd;

use super::Outgoing;
use crate::wire::{Dialect, FieldError, Header, Message, Payload, Value};

/// What a scripted answer changes. The default changes nothing.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The only number of the payload (a u64 answer or a status).
    pub value: Option<u64>,
    /// Fields that differ.
    pub fields: Vec<(String, Value)>,
    /// Header words that replace the computed ones: request, flags, size.
    pub header: HeaderPatch,
    /// Payload bytes instead of a typed payload.
    pub payload: Option<Vec<u8>>,
    /// No answer at all.
    pub silent: bool,
    /// The answer is sent twice.
    pub twice: bool,
    /// The connection is closed instead.
    pub close: bool,
    /// The answer is sent this much later.
    pub after_ms: Option<u64>,
    /// Only the n-th request of its kind, from 1.
    pub nth: Option<u64>,
    /// Offsets to cut it at.
    pub split: Vec<usize>,
}

/// Header words to replace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeaderPatch {
    /// Request id.
    pub request: Option<u32>,
    /// Flags.
    pub flags: Option<u32>,
    /// Announced payload size.
    pub size: Option<u32>,
}

impl HeaderPatch {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Header and payload as bytes, the patch applied.
    pub fn encode(&self, message: &Message, payload: &[u8], dialect: Dialect) -> Vec<u8> {
        let header = Header {
            request: self.request.unwrap_or(message.request),
            flags: self.flags.unwrap_or(message.flags),
            size: self.size.unwrap_or(u32::try_from(payload.len()).unwrap_or(u32::MAX)),
        };
        let mut bytes = header.encode(dialect);
        bytes.extend_from_slice(payload);
        bytes
    }
}

impl Answer {
    /// The reply that goes out in place of `reply`.
    pub fn apply(&self, reply: Message, fds: Vec<OwnedFd>, dialect: Dialect) -> Result<Outgoing, FieldError> {
        let mut reply = reply;
        if let Some(value) = self.value {
            reply.payload = with_number(reply.payload, value)?;
        }
        if !self.fields.is_empty() {
            reply.payload = with_fields(&reply.payload, &self.fields)?;
        }
        let mut bytes = None;
        if self.payload.is_some() || !self.header.is_empty() {
            let payload = self.payload.clone().unwrap_or_else(|| reply.payload.encode());
            bytes = Some(self.header.encode(&reply, &payload, dialect));
            if let Some(raw) = &self.payload {
                reply.payload = Payload::Raw(raw.clone());
            }
        }
        Ok(Outgoing {
            message: reply,
            bytes,
            fds,
            split: self.split.clone(),
            automatic: true,
            scripted: true,
        })
    }
}

/// The payload with its main number replaced: a u64, the indices of a ring, the number of a ring state.
fn with_number(payload: Payload, value: u64) -> Result<Payload, FieldError> {
    Ok(match payload {
        Payload::VringBase(mut base) => {
            base.indices = value as u32;
            Payload::VringBase(base)
        }
        Payload::VringState(mut state) => {
            state.num = value as u32;
            Payload::VringState(state)
        }
        _ => Payload::U64(value),
    })
}

/// The payload with some fields replaced.
pub fn with_fields(payload: &Payload, changes: &[(String, Value)]) -> Result<Payload, FieldError> {
    let mut fields: Vec<(String, Value)> = payload
        .fields()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    for (name, value) in changes {
        match fields.iter_mut().find(|(field, _)| field == name) {
            Some(field) => field.1 = value.clone(),
            // not a field of this layout: let `build` say so
            None => fields.push((name.clone(), value.clone())),
        }
    }
    Payload::build(payload.layout(), &fields)
}
