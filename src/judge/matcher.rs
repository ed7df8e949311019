//! A pattern with all its names looked up, and whether an event is what it describes.

use std::fmt;

use super::value::{FeatureSpace, describe, main_field, mismatch};
use crate::scenario::scalar::FieldMatch;
use crate::scenario::span::{At, Span};
use crate::sys::child::Exit;
use crate::trace::{DeviceChange, DeviceNote, Event, EventKind, LinkId, PeerId};
use crate::wire::{Base, Channel, Dialect, Layout, Message, Payload, Value, spec};

/// The word of the header that can be asked for like a field, in the dialect that has it.
pub const CONN_ID: &str = "conn_id";

/// Events that are read in their order, independent of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Messages of a peer on a socket; of one with several links, those on a certain one.
    Messages(PeerId, Channel, Option<LinkId>),
    /// Kicks of a ring.
    Kicks(PeerId, u16),
    /// Calls of a ring.
    Calls(PeerId, u16),
    /// Errors of a ring.
    Errors(PeerId, u16),
    /// A peer's closing of a socket.
    Closes(PeerId, Channel, Option<LinkId>),
    /// The end of a peer's process.
    Exits(PeerId),
    /// QMP events of a peer.
    Qmp(PeerId),
    /// Changes of a kind of the devices of a vhost-pci peer.
    Devices(PeerId, DeviceChange, Option<LinkId>),
}

impl Stream {
    /// Whose events these are.
    pub fn peer(self) -> PeerId {
        match self {
            Stream::Messages(peer, ..)
            | Stream::Kicks(peer, _)
            | Stream::Calls(peer, _)
            | Stream::Errors(peer, _)
            | Stream::Closes(peer, ..)
            | Stream::Exits(peer)
            | Stream::Qmp(peer)
            | Stream::Devices(peer, ..) => peer,
        }
    }

    /// Whether an event belongs to it.
    pub fn has(self, event: &Event) -> bool {
        if event.peer != Some(self.peer()) {
            return false;
        }
        let link = match self {
            Stream::Messages(_, _, link) | Stream::Closes(_, _, link) | Stream::Devices(_, _, link) => link,
            _ => None,
        };
        if link.is_some() && link != event.link {
            return false;
        }
        match (self, &event.kind) {
            (Stream::Messages(_, channel, _), EventKind::Message { message, .. }) => message.channel == channel,
            (Stream::Messages(_, channel, _), EventKind::Malformed { channel: on, .. }) => *on == channel,
            (Stream::Kicks(_, ring), EventKind::Kick { ring: r, .. }) => *r == ring,
            (Stream::Calls(_, ring), EventKind::Call { ring: r, .. }) => *r == ring,
            (Stream::Errors(_, ring), EventKind::RingError { ring: r }) => *r == ring,
            (Stream::Closes(_, channel, _), EventKind::Closed { channel: on, .. }) => *on == channel,
            (Stream::Exits(_), EventKind::Exited { .. }) => true,
            (Stream::Qmp(_), EventKind::Qmp { .. }) => true,
            (Stream::Devices(_, change, _), EventKind::Device { note }) => note.change == change,
            _ => false,
        }
    }
}

/// How a process must have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitMatch {
    /// In any way.
    Any,
    /// Just so.
    Is(Exit),
}

/// What kind of event is meant.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A request.
    Request(u32, String),
    /// A reply.
    Reply(u32, String),
    /// A kick, call or close; the stream says which.
    Signal,
    /// The end of a process.
    Exit(ExitMatch),
    /// A QMP event.
    Qmp(String),
    /// A change of a device.
    Device(DeviceChange),
}

/// A pattern, ready to be compared.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// Where to look.
    pub stream: Stream,
    /// The peer's name, for messages.
    pub peer: String,
    /// What kind.
    pub what: What,
    /// Where it is written.
    pub span: Span,
    /// The need_reply flag.
    pub need_reply: Option<At<bool>>,
    /// Conditions on fields, by path; an empty path is the main field.
    pub fields: Vec<(String, At<FieldMatch>)>,
    /// Number of descriptors.
    pub fds: Option<At<FieldMatch>>,
    /// Payload bytes.
    pub size: Option<At<FieldMatch>>,
    /// Names of feature bits in its fields.
    pub space: FeatureSpace,
    /// The dialect of its messages.
    pub dialect: Dialect,
}

/// What is wrong about an event, and the condition that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// What.
    pub why: String,
    /// Where the condition is written; `None` if it is altogether another event.
    pub condition: Option<Span>,
}

impl Mismatch {
    fn of(condition: Span, why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            condition: Some(condition),
        }
    }
}

impl Matcher {
    /// Whether an event of the stream is the one described; if not, what is wrong about it.
    pub fn check(&self, event: &Event) -> Result<(), Mismatch> {
        match (&self.what, &event.kind) {
            (What::Signal, _) => Ok(()),
            (What::Qmp(name), EventKind::Qmp { name: actual }) if name == actual => Ok(()),
            (What::Device(change), EventKind::Device { note }) if note.change == *change => self.check_device(note),
            (What::Exit(ExitMatch::Any), _) => Ok(()),
            (What::Exit(ExitMatch::Is(wanted)), EventKind::Exited { exit, .. }) if exit == wanted => Ok(()),
            (What::Request(id, _), EventKind::Message { message, fds, size, .. })
                if !message.is_reply() && message.request == *id =>
            {
                self.check_message(message, fds.len(), *size)
            }
            (What::Reply(id, _), EventKind::Message { message, fds, size, .. })
                if message.is_reply() && message.request == *id =>
            {
                self.check_message(message, fds.len(), *size)
            }
            _ => Err(Mismatch {
                why: "this is something else".to_owned(),
                condition: None,
            }),
        }
    }

    fn check_device(&self, note: &DeviceNote) -> Result<(), Mismatch> {
        for (name, condition) in &self.fields {
            let wrong = |why: String| Mismatch::of(condition.span, why);
            let value = note.field(name).ok_or_else(|| wrong(format!("{name} is not told")))?;
            if let Some(why) = mismatch(&Value::U64(value), &condition.value, self.space) {
                return Err(wrong(format!("{name} {why}")));
            }
        }
        Ok(())
    }

    fn check_message(&self, message: &Message, fds: usize, size: u32) -> Result<(), Mismatch> {
        if let Some(wanted) = &self.need_reply
            && message.needs_reply() != wanted.value
        {
            let why = if wanted.value {
                "need_reply is not set"
            } else {
                "need_reply is set"
            };
            return Err(Mismatch::of(wanted.span, why));
        }
        for (path, condition) in &self.fields {
            let wrong = |why: String| Mismatch::of(condition.span, why);
            if path == CONN_ID {
                if let Some(why) = mismatch(&Value::U64(message.conn_id), &condition.value, self.space) {
                    return Err(wrong(format!("{path} {why}")));
                }
                continue;
            }
            // the status of a reply that the table knows nothing about
            if let (true, Payload::Raw(bytes)) = (path.is_empty(), &message.payload)
                && let Some(number) = bytes.first_chunk::<8>().filter(|_| bytes.len() == 8)
            {
                let number = Value::U64(u64::from_ne_bytes(*number));
                match mismatch(&number, &condition.value, self.space) {
                    None => continue,
                    Some(why) => return Err(wrong(format!("value {why}"))),
                }
            }
            let name = if path.is_empty() {
                main_field(message.payload.layout()).ok_or_else(|| wrong("its payload has no value".to_owned()))?
            } else {
                path
            };
            let value = message.payload.get(name).map_err(|e| wrong(e.to_string()))?;
            if let Some(why) = mismatch(&value, &condition.value, self.space) {
                return Err(wrong(format!("{name} {why}")));
            }
        }
        let counts = [
            ("the number of descriptors", &self.fds, fds as u64),
            ("the payload's size", &self.size, u64::from(size)),
        ];
        for (name, condition, actual) in counts {
            if let Some(condition) = condition
                && let Some(why) = mismatch(&Value::U64(actual), &condition.value, self.space)
            {
                return Err(Mismatch::of(condition.span, format!("{name} {why}, but {actual}")));
            }
        }
        Ok(())
    }

    /// The bits of a message by name, if a condition names bits.
    pub fn bits_by_name(&self, message: &Message) -> Option<String> {
        let (path, _) = self
            .fields
            .iter()
            .find(|(_, c)| !c.value.has.is_empty() || !c.value.lacks.is_empty())?;
        let name = if path.is_empty() {
            main_field(message.payload.layout())?
        } else {
            path
        };
        let value = message.payload.get(name).ok()?.as_u64()?;
        Some(self.space.names(value))
    }

    /// The name of a field, and the base in which messages print it.
    fn field<'m>(&'m self, path: &'m str) -> (&'m str, Base) {
        let Stream::Messages(_, channel, _) = self.stream else {
            return (path, Base::Decimal);
        };
        let (id, is_reply) = match &self.what {
            What::Request(id, _) => (*id, false),
            What::Reply(id, _) => (*id, true),
            _ => return (path, Base::Decimal),
        };
        let layout = spec(self.dialect, channel, id).map_or(Layout::U64, |spec| {
            let named = [path].into_iter().filter(|p| !p.is_empty());
            if is_reply {
                spec.reply_layout(named)
            } else {
                spec.request_layout(named)
            }
        });
        let name = if path.is_empty() {
            main_field(layout).unwrap_or("value")
        } else {
            path
        };
        let (list, item) = name
            .split_once("].")
            .map_or((name, None), |(list, item)| (list, Some(item)));
        let found = layout.field(list.split('[').next().unwrap_or(list));
        let found = match item {
            Some(item) => found.and_then(|list| list.items.iter().find(|f| f.name == item)),
            None => found,
        };
        (name, found.map_or(Base::Decimal, |f| f.base))
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let bang = if self.need_reply.as_ref().is_some_and(|n| n.value) {
            "!"
        } else {
            ""
        };
        match (&self.what, self.stream) {
            (What::Request(_, name), _) => write!(f, "{name}{bang}")?,
            (What::Reply(_, name), _) => write!(f, "reply to {name}")?,
            (What::Signal, Stream::Kicks(_, ring)) => write!(f, "kick ring={ring}")?,
            (What::Signal, Stream::Calls(_, ring)) => write!(f, "call ring={ring}")?,
            (What::Signal, Stream::Errors(_, ring)) => write!(f, "error ring={ring}")?,
            (What::Signal, Stream::Closes(_, channel, _)) => write!(f, "closed {channel}")?,
            (What::Signal, _) => f.write_str("anything")?,
            (What::Exit(ExitMatch::Any), _) => f.write_str("ended")?,
            (What::Exit(ExitMatch::Is(exit)), _) => write!(f, "ended: {exit}")?,
            (What::Qmp(name), _) => write!(f, "QMP event {name}")?,
            (What::Device(change), _) => write!(f, "device {change}")?,
        }
        if let Stream::Messages(_, Channel::Backend, _) = self.stream {
            f.write_str(" on backend")?;
        }
        for (path, condition) in &self.fields {
            let (name, base) = self.field(path);
            write!(f, " {name}{}", describe(&condition.value, base))?;
        }
        if let Some(condition) = &self.fds {
            write!(f, " fds{}", describe(&condition.value, Base::Decimal))?;
        }
        if let Some(condition) = &self.size {
            write!(f, " size{}", describe(&condition.value, Base::Decimal))?;
        }
        write!(f, " from {}", self.peer)
    }
}
