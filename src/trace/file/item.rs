//! One event as one line, and back.

use std::fmt::Write as _;

use serde::Deserialize;

use super::header::{Header, PeerNote};
use super::reader::{Wrong, message};
use super::scalar::{bounded, finish, hex, unhex};
use crate::sys::child::Exit;
use crate::sys::clock::Moment;
use crate::sys::fd::FdType;
use crate::trace::{Event, EventKind, LinkId, PeerId};
use crate::wire::{Channel, Party, notation, push_decimal};

/// The line of an event, without its end; `None` for what the harness itself did, which is not part of a trace.
pub(super) fn print(header: &Header, event: &Event) -> Option<String> {
    let mut text = String::with_capacity(128);
    print_to(&mut text, header, event).then_some(text)
}

/// The same at the end of a text, which stays as it is if there is no line.
pub(super) fn print_to(text: &mut String, header: &Header, event: &Event) -> bool {
    let start = text.len();
    let mut line = Line { header, event, text };
    let us = event.at.ns / 1000;
    line.text.push_str("- {ms: ");
    push_decimal(line.text, us / 1000);
    let fraction = us % 1000;
    line.text.push_str(match fraction {
        0..10 => ".00",
        10..100 => ".0",
        _ => ".",
    });
    push_decimal(line.text, fraction);
    match &event.kind {
        EventKind::Connected { generation } => line.link(false).field("connected", &generation.to_string()),
        EventKind::Message {
            from,
            message,
            fds,
            size,
            // what a script meant is not on the wire
            scripted: _,
        } => {
            line.link(false).from(Some(*from)).field("message", "");
            let shown = line.text.len();
            notation::print_to(line.text, header.dialect, message);
            finish(line.text, shown);
            for (i, fd) in fds.iter().enumerate() {
                line.text.push_str(if i == 0 { ", fds: [" } else { ", " });
                let shown = line.text.len();
                write!(line.text, "{fd}").expect("a String takes any text");
                finish(line.text, shown);
            }
            line.text.push_str(if fds.is_empty() { "" } else { "]" });
            if *size as usize != message.payload.encoded_len() {
                line.field("size", &size.to_string());
            }
        }
        EventKind::Malformed {
            from,
            channel,
            why,
            bytes,
        } => {
            line.link(false).from(Some(*from)).field("malformed", &bounded(why));
            line.channel(*channel).field("bytes", &format!("\"{}\"", hex(bytes)));
        }
        EventKind::Kick { ring, count } => line
            .link(false)
            .from(Some(Party::FrontEnd))
            .signal("kick", *ring, *count),
        EventKind::Call { ring, count } => line
            .link(false)
            .from(Some(Party::BackEnd))
            .signal("call", *ring, *count),
        EventKind::RingError { ring } => line.link(false).from(Some(Party::BackEnd)).signal("error", *ring, 1),
        EventKind::Closed { from, channel, partial } => {
            line.link(false).from(Some(*from)).field("closed", channel.name());
            if *partial > 0 {
                line.field("partial", &partial.to_string());
            }
        }
        EventKind::HalfClosed { from, channel } => {
            line.link(false).from(Some(*from)).field("half_closed", channel.name());
        }
        EventKind::Started { program, pid } => {
            line.from(None).field("started", &bounded(program));
            line.field("pid", &pid.to_string());
        }
        EventKind::Exited { exit, asked } => {
            let exit = match exit {
                Exit::Status(status) => format!("status {status}"),
                Exit::Signal(signal) => format!("signal {signal}"),
            };
            line.from(None).field("exited", &exit);
            if *asked {
                line.field("asked", "true");
            }
        }
        EventKind::Qmp { name } => line.from(None).field("event", &bounded(name)),
        EventKind::Fault { what } => line.link(true).from(None).field("fault", &bounded(what)),
        // read back as words: what it tells in numbers is of the run that made it
        EventKind::Device { note } => line.link(true).from(None).field("data", &bounded(&note.to_string())),
        EventKind::Data { what } => line.link(true).from(None).field("data", &bounded(what)),
        _ => {
            text.truncate(start);
            return false;
        }
    }
    text.push('}');
    true
}

struct Line<'a> {
    header: &'a Header,
    event: &'a Event,
    text: &'a mut String,
}

impl Line<'_> {
    fn field(&mut self, key: &str, value: &str) {
        self.text.push_str(", ");
        self.text.push_str(key);
        self.text.push_str(": ");
        self.text.push_str(value);
    }

    /// The link; the first one is not mentioned where an event is always on a link.
    fn link(&mut self, always: bool) -> &mut Self {
        if let Some(LinkId(link)) = self.event.link
            && (always || link > 0)
        {
            self.field("link", &link.to_string());
        }
        self
    }

    fn from(&mut self, party: Option<Party>) -> &mut Self {
        let peers = &self.header.peers;
        let of_party = || peers.iter().find(|p| Some(p.party) == party);
        let peer = self.event.peer.and_then(|p| peers.get(p.0)).or_else(of_party);
        if let Some(PeerNote { name, .. }) = peer {
            self.field("from", "");
            let start = self.text.len();
            self.text.push_str(name);
            finish(self.text, start);
        }
        self
    }

    fn channel(&mut self, channel: Channel) -> &mut Self {
        if channel != Channel::Main {
            self.field("channel", channel.name());
        }
        self
    }

    fn signal(&mut self, key: &str, ring: u16, count: u64) {
        self.field(key, &ring.to_string());
        if count != 1 {
            self.field("count", &count.to_string());
        }
    }
}

/// An event as YAML sees it. Exactly one of the keys that say what happened is there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    ms: f64,
    link: Option<usize>,
    from: Option<String>,
    channel: Option<String>,
    connected: Option<u32>,
    message: Option<String>,
    #[serde(default)]
    fds: Vec<String>,
    size: Option<u32>,
    malformed: Option<String>,
    bytes: Option<String>,
    kick: Option<u16>,
    call: Option<u16>,
    error: Option<u16>,
    count: Option<u64>,
    closed: Option<String>,
    partial: Option<usize>,
    half_closed: Option<String>,
    started: Option<String>,
    pid: Option<i32>,
    exited: Option<String>,
    #[serde(default)]
    asked: bool,
    event: Option<String>,
    fault: Option<String>,
    data: Option<String>,
}

/// What is wrong with a line, and at which column.
pub(super) type Misread = (usize, Wrong);

/// Reads a line that begins with `- `.
pub(super) fn parse(header: &Header, line: &str) -> Result<Event, Misread> {
    let start = line.len() - line.trim_start().len();
    let Some(body) = line[start..].strip_prefix("- ") else {
        return Err((start + 1, Wrong::NoEvent));
    };
    let offset = start + 2;
    let item: Vec<Item> = serde_yaml::from_str(&line[start..]).map_err(|error| {
        let column = error.location().map_or(1, |l| usize::try_from(l.column()).unwrap_or(1));
        (start + column, Wrong::Yaml(message(&error)))
    })?;
    let Ok([item]) = <[Item; 1]>::try_from(item) else {
        return Err((offset, Wrong::NoEvent));
    };
    let key_at = |key: &str| body.find(&format!("{key}:")).map_or(offset + 1, |at| offset + at + 1);
    Reading { header, item: &item }
        .event()
        .map_err(|(key, wrong)| (key_at(key), wrong))
}

struct Reading<'a> {
    header: &'a Header,
    item: &'a Item,
}

type Keyed<T> = Result<T, (&'static str, Wrong)>;

impl Reading<'_> {
    fn event(&self) -> Keyed<Event> {
        let item = self.item;
        let peer = self.peer()?;
        let kind = self.kind(peer)?;
        let linked = !matches!(
            kind,
            EventKind::Started { .. }
                | EventKind::Exited { .. }
                | EventKind::Qmp { .. }
                | EventKind::Fault { .. }
                | EventKind::Data { .. }
        );
        Ok(Event {
            at: moment(item.ms)?,
            peer: peer.map(|(id, _)| id),
            link: item.link.or(linked.then_some(0)).map(LinkId),
            kind,
        })
    }

    fn peer(&self) -> Keyed<Option<(PeerId, Party)>> {
        let Some(name) = &self.item.from else { return Ok(None) };
        let found = self.header.peers.iter().position(|p| p.name == *name);
        let id = found.ok_or_else(|| ("from", Wrong::Peer(name.clone())))?;
        Ok(Some((PeerId(id), self.header.peers[id].party)))
    }

    fn kind(&self, peer: Option<(PeerId, Party)>) -> Keyed<EventKind> {
        let item = self.item;
        let party = || peer.map(|(_, party)| party).ok_or(("ms", Wrong::Missing("from")));
        let count = item.count.unwrap_or(1);
        let mut found: Vec<EventKind> = Vec::new();
        if let Some(generation) = item.connected {
            found.push(EventKind::Connected { generation });
        }
        if let Some(text) = &item.message {
            let message = notation::parse(self.header.dialect, text).map_err(|e| ("message", Wrong::Notation(e)))?;
            let fds = item
                .fds
                .iter()
                .map(|fd| fd.parse().map_err(|_| ("fds", Wrong::Fd(fd.clone()))));
            let own = u32::try_from(message.payload.encode().len()).unwrap_or(u32::MAX);
            found.push(EventKind::Message {
                from: party()?,
                fds: fds.collect::<Keyed<Vec<FdType>>>()?,
                size: item.size.unwrap_or(own),
                message,
                scripted: false,
            });
        }
        if let Some(why) = &item.malformed {
            let bytes = item.bytes.as_deref().unwrap_or_default();
            found.push(EventKind::Malformed {
                from: party()?,
                channel: channel("channel", item.channel.as_deref().unwrap_or("main"))?,
                why: why.clone(),
                bytes: unhex(bytes).ok_or(("bytes", Wrong::Hex))?,
            });
        }
        found.extend(item.kick.map(|ring| EventKind::Kick { ring, count }));
        found.extend(item.call.map(|ring| EventKind::Call { ring, count }));
        found.extend(item.error.map(|ring| EventKind::RingError { ring }));
        if let Some(name) = &item.closed {
            found.push(EventKind::Closed {
                from: party()?,
                channel: channel("closed", name)?,
                partial: item.partial.unwrap_or(0),
            });
        }
        if let Some(name) = &item.half_closed {
            found.push(EventKind::HalfClosed {
                from: party()?,
                channel: channel("half_closed", name)?,
            });
        }
        if let Some(program) = &item.started {
            found.push(EventKind::Started {
                program: program.clone(),
                pid: item.pid.unwrap_or(0),
            });
        }
        if let Some(text) = &item.exited {
            found.push(EventKind::Exited {
                exit: exit(text)?,
                asked: item.asked,
            });
        }
        found.extend(item.event.clone().map(|name| EventKind::Qmp { name }));
        found.extend(item.fault.clone().map(|what| EventKind::Fault { what }));
        found.extend(item.data.clone().map(|what| EventKind::Data { what }));
        let Ok([kind]) = <[EventKind; 1]>::try_from(found) else {
            return Err(("ms", Wrong::Kinds));
        };
        Ok(kind)
    }
}

/// Microseconds that a trace can last.
const TIME_US_MAX: f64 = (1u64 << 48) as f64;

fn moment(ms: f64) -> Keyed<Moment> {
    let us = (ms * 1000.0).round();
    // further on the fraction of a double does not tell microseconds apart, and eight years are enough
    if !(0.0..TIME_US_MAX).contains(&us) {
        return Err(("ms", Wrong::Time));
    }
    Ok(Moment { ns: us as u64 * 1000 })
}

fn channel(key: &'static str, name: &str) -> Keyed<Channel> {
    name.parse().map_err(|_| (key, Wrong::Channel(name.to_owned())))
}

fn exit(text: &str) -> Keyed<Exit> {
    let wrong = || ("exited", Wrong::Exit(text.to_owned()));
    let (kind, number) = text.split_once(' ').ok_or_else(wrong)?;
    let number: i32 = number.parse().map_err(|_| wrong())?;
    match kind {
        "status" => Ok(Exit::Status(number)),
        "signal" => Ok(Exit::Signal(number)),
        _ => Err(wrong()),
    }
}
