//! Scripted answers: how a reply differs from the one the peer would have given.

use std::os::fd::OwnedFd;

use super::{Outgoing, Output};
use crate::wire::{Channel, FieldError, Header, Message, Payload, Value};

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

/// Scripted answers by request, and how often each was asked.
#[derive(Debug, Default)]
pub struct Scripts {
    answers: Vec<(u32, Answer)>,
    seen: Vec<(u32, u64)>,
    /// Answers that are put off, by the token of their timer.
    later: Vec<(u64, Outgoing)>,
    serial: u64,
}

/// Tokens of timers of put-off answers begin here, so that they meet no others.
const FIRST_TOKEN: u64 = 1 << 48;

impl Scripts {
    /// Answers by request id.
    pub fn new(answers: Vec<(u32, Answer)>) -> Self {
        Self {
            answers,
            ..Self::default()
        }
    }

    /// How a request that has just come is to be answered, if the script says.
    pub fn answer(&mut self, request: u32) -> Option<Answer> {
        let nth = match self.seen.iter_mut().find(|(id, _)| *id == request) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                self.seen.push((request, 1));
                1
            }
        };
        let fits = |(id, answer): &&(u32, Answer)| *id == request && answer.nth.is_none_or(|n| n == nth);
        self.answers.iter().find(fits).map(|(_, answer)| answer.clone())
    }

    /// What comes of a scripted answer.
    pub fn outputs(&mut self, answer: &Answer, reply: Message, fds: Vec<OwnedFd>) -> Vec<Output> {
        let channel: Channel = reply.channel;
        if answer.close {
            return vec![Output::Close(channel)];
        }
        if answer.silent {
            return Vec::new();
        }
        let mut outputs = Vec::new();
        for _ in 0..if answer.twice { 2 } else { 1 } {
            let copies: Vec<OwnedFd> = fds.iter().filter_map(|fd| fd.try_clone().ok()).collect();
            match (answer.apply(reply.clone(), copies), answer.after_ms) {
                (Ok(outgoing), None) => outputs.push(Output::Send(outgoing)),
                (Ok(outgoing), Some(ms)) => {
                    self.serial += 1;
                    let token = FIRST_TOKEN + self.serial;
                    self.later.push((token, outgoing));
                    outputs.push(Output::Later { token, ms });
                }
                (Err(error), _) => {
                    let what = format!("the scripted answer does not fit: {error}");
                    outputs.push(Output::Fault(what));
                }
            }
        }
        outputs
    }

    /// The answer whose time has come.
    pub fn due(&mut self, token: u64) -> Option<Outgoing> {
        let at = self.later.iter().position(|(t, _)| *t == token)?;
        Some(self.later.remove(at).1)
    }

    /// A new connection: what was put off is not sent any more.
    pub fn connected(&mut self) {
        self.later.clear();
    }
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
    /// The connection id, where the dialect has one.
    pub conn_id: Option<u64>,
}

impl HeaderPatch {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Header and payload as bytes, the patch applied.
    pub fn encode(&self, message: &Message, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            request: self.request.unwrap_or(message.request),
            flags: self.flags.unwrap_or(message.flags),
            size: self.size.unwrap_or(u32::try_from(payload.len()).unwrap_or(u32::MAX)),
            conn_id: self.conn_id.unwrap_or(message.conn_id),
        };
        let mut bytes = header.encode(message.dialect);
        bytes.extend_from_slice(payload);
        bytes
    }
}

impl Answer {
    /// The reply that goes out in place of `reply`.
    pub fn apply(&self, reply: Message, fds: Vec<OwnedFd>) -> Result<Outgoing, FieldError> {
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
            bytes = Some(self.header.encode(&reply, &payload));
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

/// The payload with its main field replaced: by a number, or bytes where that is what it carries.
pub fn with_value(payload: Payload, value: &Value) -> Result<Payload, FieldError> {
    match value {
        Value::U64(number) => with_number(payload, *number),
        other => with_fields(&payload, &[("value".to_owned(), other.clone())]),
    }
}

/// The payload with some fields replaced; `regions[0].size` is a field of an element.
pub fn with_fields(payload: &Payload, changes: &[(String, Value)]) -> Result<Payload, FieldError> {
    let mut fields: Vec<(String, Value)> = payload
        .fields()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    for (name, value) in changes {
        if let Some(inner) = element(&mut fields, name) {
            *inner = value.clone();
            continue;
        }
        match fields.iter_mut().find(|(field, _)| field == name) {
            Some(field) => field.1 = value.clone(),
            // not a field of this layout: let `build` say so
            None => fields.push((name.clone(), value.clone())),
        }
    }
    Payload::build(payload.layout(), &fields)
}

/// The field of an element that a path like `regions[0].size` leads to.
fn element<'f>(fields: &'f mut [(String, Value)], path: &str) -> Option<&'f mut Value> {
    let (list, rest) = path.split_once('[')?;
    let (index, inner) = rest.split_once("].")?;
    let index: usize = index.parse().ok()?;
    let (_, Value::List(records)) = fields.iter_mut().find(|(name, _)| name == list)? else {
        return None;
    };
    let record = records.get_mut(index)?;
    record
        .iter_mut()
        .find(|(name, _)| name == inner)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{MemRegion, MemTable};

    /// Broken: a region of a memory table cannot be altered alone.
    #[test]
    fn a_field_of_an_element_is_replaced() {
        let regions = vec![MemRegion::default(), MemRegion::default()];
        let table = Payload::MemTable(MemTable {
            regions,
            ..MemTable::default()
        });
        let change = ("regions[1].size".to_owned(), Value::U64(7));
        let Payload::MemTable(table) = with_fields(&table, &[change]).unwrap() else {
            panic!("another layout");
        };
        assert_eq!((table.regions[0].size, table.regions[1].size), (0, 7));
        let beyond = ("regions[2].size".to_owned(), Value::U64(7));
        assert!(with_fields(&Payload::MemTable(table), &[beyond]).is_err());
    }
}
