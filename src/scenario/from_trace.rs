//! From a trace to a scenario that plays one side of it: what that side sent is sent, what the other side said is expected.
//! Addresses are not expected again, feature bits only as far as they were used. Rings and data are not played.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::trace::file::{Header, Trace};
use crate::trace::{Event, EventKind, FdNote, LinkId};
use crate::wire::features::{describe_protocol, describe_virtio};
use crate::wire::{Channel, DeviceKind, Layout, Message, Party, Payload, ReplyKind, Value, flags, id};

/// Steps that are written; the rest of the trace is left out, and that is said.
pub const STEPS_MAX: usize = 2_000;

/// Why a trace makes no scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FromTraceError {
    /// The link has no messages.
    #[error("nothing was said on link {0}")]
    Nothing(usize),
}

/// The scenario `id` in which the harness plays `party` as on that link.
///
/// # Errors
/// There is nothing to play.
pub fn from_trace(trace: &Trace, link: LinkId, party: Party, id: &str) -> Result<String, FromTraceError> {
    let of_link = |event: &&Event| event.link == Some(link);
    let events: Vec<&Event> = trace.events.iter().filter(of_link).collect();
    if !events.iter().any(|e| e.kind.message().is_some()) {
        return Err(FromTraceError::Nothing(link.0));
    }
    let mut script = Script::new(&trace.header, &events, party);
    for event in &events {
        if script.steps.len() >= STEPS_MAX || !script.event(event) {
            break;
        }
    }
    Ok(script.print(id))
}

struct Script<'a> {
    header: &'a Header,
    events: &'a [&'a Event],
    party: Party,
    steps: Vec<String>,
    connections: usize,
    /// The other side closed.
    closes: bool,
    left_out: BTreeSet<&'static str>,
    /// Requests that the played side answered, by name.
    manual: BTreeSet<&'static str>,
    /// Feature bits that the played side offered: virtio, protocol.
    offered: [Option<u64>; 2],
    /// Feature bits that were used: virtio, protocol.
    used: [Option<u64>; 2],
}

impl<'a> Script<'a> {
    fn new(header: &'a Header, events: &'a [&'a Event], party: Party) -> Self {
        let last = |request: u32| {
            let mut bits = events.iter().filter_map(|e| match e.kind.message()? {
                Message {
                    channel: Channel::Main,
                    request: r,
                    payload: Payload::U64(bits),
                    flags,
                    ..
                } if *r == request && flags & flags::REPLY == 0 => Some(*bits),
                _ => None,
            });
            bits.next_back()
        };
        Self {
            used: [
                last(id::frontend::SET_FEATURES),
                last(id::frontend::SET_PROTOCOL_FEATURES),
            ],
            header,
            events,
            party,
            steps: Vec::new(),
            connections: 0,
            closes: false,
            left_out: BTreeSet::new(),
            manual: BTreeSet::new(),
            offered: [None; 2],
        }
    }

    /// Adds the step of an event. False if the script ends here.
    fn event(&mut self, event: &Event) -> bool {
        match &event.kind {
            EventKind::Connected { .. } => {
                self.connections += 1;
                if self.connections > 1 {
                    self.left_out.insert("later connections");
                }
                return self.connections == 1;
            }
            EventKind::Message { from, message, fds, .. } => {
                let step = match (*from == self.party, message.is_reply()) {
                    (true, false) => self.send(message, fds),
                    (true, true) => self.reply(message, fds),
                    (false, _) => self.expect(message, fds),
                };
                self.steps.extend(step);
            }
            EventKind::Malformed { .. } => {
                self.left_out.insert("what was no message");
                return false;
            }
            EventKind::Closed { from, channel, .. } if *channel == Channel::Main => {
                let (own, other) = (name(self.party), name(self.party.other()));
                self.closes = *from != self.party;
                self.steps.push(match *from == self.party {
                    true => format!("close: {{peer: {own}}}"),
                    false => format!("expect: {{from: {other}, closed: main}}"),
                });
                return false;
            }
            EventKind::Kick { .. } | EventKind::Call { .. } | EventKind::RingError { .. } => {
                self.left_out.insert("kicks and calls");
            }
            EventKind::Data { .. } => {
                self.left_out.insert("data");
            }
            _ => {}
        }
        true
    }

    fn device(&self) -> DeviceKind {
        self.header.device_kind()
    }

    /// A list of names of feature bits: virtio's, or the protocol's.
    fn names(&self, which: usize, bits: u64) -> String {
        let names = match which {
            _ if bits == 0 => String::new(),
            0 => describe_virtio(self.device(), bits),
            _ => describe_protocol(bits),
        };
        format!("[{}]", names.replace('|', ", "))
    }

    fn send(&mut self, message: &Message, fds: &[FdNote]) -> Option<String> {
        let mut step = Step::new(self.party, message.channel);
        let Some(spec) = message.spec() else {
            step.kind = "raw";
            let header = message.header();
            step.add(
                "header",
                &format!("{{request: {}, flags: {:#x}}}", header.request, header.flags),
            );
            step.hex("payload", &message.payload.encode());
            step.list("fds", fds);
            return Some(step.print());
        };
        step.kind = "send";
        step.add("message", spec.name);
        if message.needs_reply() {
            step.add("need_reply", "true");
        }
        let names: Vec<&str> = message.payload.fields().iter().map(|(n, _)| *n).collect();
        if spec.request_layout(names.into_iter()) == message.payload.layout() {
            step.fields(message, |_| true, "fields", |_, shown| shown);
        } else {
            step.kind = "raw";
            step.items.retain(|(key, _)| !["message", "need_reply"].contains(key));
            step.add(
                "header",
                &format!("{{request: {}, flags: {:#x}}}", message.request, message.flags),
            );
            step.hex("payload", &message.payload.encode());
        }
        let plain = flags::VERSION | flags::NEED_REPLY | flags::REPLY;
        if step.kind == "send" && message.flags & !plain != 0 {
            step.add("header", &format!("{{flags: {:#x}}}", message.flags));
        }
        // what belongs to a message is made for it; only another number has to be said
        if step.kind == "raw" || fds.is_empty() && spec.request_fds.min > 0 && !has_no_fd(message) {
            step.list("fds", fds);
        }
        Some(step.print())
    }

    fn reply(&mut self, message: &Message, fds: &[FdNote]) -> Option<String> {
        let spec = message.spec()?;
        if !fds.is_empty() {
            // the simulated peer makes them, and answers by itself
            return None;
        }
        if message.channel == Channel::Main {
            self.manual.insert(spec.name);
        }
        if let (Channel::Main, Some(which), Payload::U64(bits)) =
            (message.channel, feature_word(message), &message.payload)
        {
            self.offered[which] = Some(*bits);
        }
        let mut step = Step::new(self.party, message.channel);
        step.kind = "reply";
        step.add("to", spec.name);
        match &message.payload {
            Payload::U64(value) => step.add("value", &format!("{value:#x}")),
            Payload::Raw(_) | Payload::Empty => step.hex("payload", &message.payload.encode()),
            _ => step.hex("payload", &message.payload.encode()),
        }
        Some(step.print())
    }

    fn expect(&mut self, message: &Message, fds: &[FdNote]) -> Option<String> {
        let spec = message.spec()?;
        let mut step = Step::new(self.party.other(), message.channel);
        step.kind = "expect";
        step.add(if message.is_reply() { "reply_to" } else { "message" }, spec.name);
        if !message.is_reply() && message.needs_reply() {
            step.add("need_reply", "true");
        }
        if !fds.is_empty() {
            step.add("fds", &fds.len().to_string());
        }
        if let (Channel::Main, Some(which)) = (message.channel, feature_word(message)) {
            let used = self.used[which].unwrap_or(0);
            if used != 0 && message.is_reply() {
                step.add("value", &format!("{{has: {}}}", self.names(which, used)));
            }
            return Some(step.print());
        }
        let is_status = message.is_reply() && !matches!(spec.reply.kind, ReplyKind::Always | ReplyKind::FdOnly);
        match &message.payload {
            Payload::U64(status) if is_status && *status != 0 => step.add("status", "{not: 0}"),
            Payload::U64(_) if is_status => step.add("status", "0"),
            Payload::Raw(_) | Payload::Empty => {}
            // where a ring stopped is a matter of the data, which is not played
            Payload::VringBase(_) if message.is_reply() => {
                step.fields(message, |field| field == "index", "fields", |_, shown| shown);
            }
            payload if payload.layout() != Layout::Raw => {
                step.fields(message, |field| !is_address(field), "fields", |_, shown| shown);
            }
            _ => {}
        }
        Some(step.print())
    }

    fn print(&self, id: &str) -> String {
        let made = &self.header.made.command;
        let (own, other) = (self.party, self.party.other());
        let mut text =
            format!("scenario: {id}\nabout: The {other} no longer answers as it did when it was recorded.\n");
        let mut line = |line: &str| writeln!(text, "{line}").expect("a String takes any text");
        line(&format!("# the {own} of: {}", one_line(made)));
        if !self.left_out.is_empty() {
            let left_out: Vec<&str> = self.left_out.iter().copied().collect();
            line(&format!("# not played: {}", left_out.join(", ")));
        }
        if self.steps.len() >= STEPS_MAX {
            line(&format!("# only the first {STEPS_MAX} steps"));
        }
        line("peers:");
        let device = self.header.device.as_deref().unwrap_or("generic");
        let rings = self.rings();
        let queues = if rings > 1 {
            format!(", queues: {rings}")
        } else {
            String::new()
        };
        let player = self
            .header
            .peers
            .iter()
            .find(|p| p.party == other)
            .map(|p| p.player.as_str());
        let plain = |p: &&str| p.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let player = player.filter(plain).unwrap_or("simulated");
        for party in [Party::FrontEnd, Party::BackEnd] {
            let (name, key) = (name(party), key(party));
            let player = if party == own { "simulated" } else { player };
            let manual: Vec<&str> = self.manual.iter().copied().collect();
            if party != own || manual.is_empty() {
                line(&format!("  {name}: {{{key}: {player}, device: {device}{queues}}}"));
                continue;
            }
            line(&format!("  {name}:\n    {key}: {player}\n    device: {device}"));
            if rings > 1 {
                line(&format!("    queues: {rings}"));
            }
            for (which, word) in ["features", "protocol_features"].into_iter().enumerate() {
                if let Some(bits) = self.offered[which] {
                    line(&format!("    {word}: {{only: {}}}", self.names(which, bits)));
                }
            }
            if device == "net" {
                line("    loopback: true");
            }
            line(&format!("    manual: [{}]", manual.join(", ")));
        }
        line("steps:\n  - connect: {from: front, to: back}");
        let driven = own == Party::BackEnd && player == "qemu";
        let indent = if driven { "        " } else { "  " };
        if driven {
            line("  - together:\n      guest:\n        - setup: {peer: front}");
            if self.closes {
                line("        - kill: {peer: front, signal: SIGTERM}");
            }
            line("      device:");
        }
        for step in &self.steps {
            line(&format!("{indent}- {step}"));
        }
        text
    }

    /// One more than the highest ring that is spoken of.
    fn rings(&self) -> u64 {
        let index = |event: &&&Event| {
            let fields = event.kind.message()?.payload.fields();
            let index = fields.iter().find(|(name, _)| *name == "index");
            index
                .and_then(|(_, value)| value.as_u64())
                .filter(|index| *index < 1024)
        };
        self.events
            .iter()
            .filter_map(|e| index(&e))
            .max()
            .map_or(1, |index| index + 1)
    }
}

/// One step on one line.
struct Step {
    kind: &'static str,
    items: Vec<(&'static str, String)>,
}

impl Step {
    fn new(from: Party, channel: Channel) -> Self {
        let mut items = vec![("from", name(from).to_owned())];
        if channel == Channel::Backend {
            items.push(("channel", "backend".to_owned()));
        }
        Self { kind: "", items }
    }

    fn add(&mut self, key: &'static str, value: &str) {
        self.items.push((key, value.to_owned()));
    }

    fn hex(&mut self, key: &'static str, bytes: &[u8]) {
        self.add(key, &format!("\"{}\"", spaced(bytes)));
    }

    fn list(&mut self, key: &'static str, fds: &[FdNote]) {
        let kinds: Vec<&str> = fds
            .iter()
            .map(|fd| match fd {
                FdNote::Eventfd => "eventfd",
                FdNote::Socket => "socket",
                FdNote::Memfd { .. } | FdNote::File { .. } => "memfd",
                FdNote::Pipe => "pipe",
                FdNote::Userfault | FdNote::Other => "null",
            })
            .collect();
        self.add(key, &format!("[{}]", kinds.join(", ")));
    }

    fn fields(
        &mut self,
        message: &Message,
        wanted: impl Fn(&str) -> bool,
        key: &'static str,
        show: impl Fn(&str, String) -> String,
    ) {
        let layout = message.payload.layout();
        let shown = |field: &str, value: &Value| match value {
            Value::U64(value) => layout
                .field(field)
                .map_or_else(|| format!("{value:#x}"), |spec| spec.show(&Value::U64(*value))),
            Value::Bytes(bytes) => format!("\"{}\"", spaced(bytes)),
            Value::List(items) => {
                let item = |item: &Vec<(String, Value)>| {
                    let fields: Vec<String> = item
                        .iter()
                        .filter(|(name, _)| wanted(name))
                        .map(|(name, value)| match value {
                            Value::U64(value) => format!("{name}: {value:#x}"),
                            Value::Bytes(bytes) => format!("{name}: \"{}\"", spaced(bytes)),
                            Value::List(_) => format!("{name}: []"),
                        })
                        .collect();
                    format!("{{{}}}", fields.join(", "))
                };
                format!("[{}]", items.iter().map(item).collect::<Vec<_>>().join(", "))
            }
        };
        let fields: Vec<String> = message
            .payload
            .fields()
            .iter()
            .filter(|(name, value)| {
                let quiet = layout.field(name).is_some_and(|spec| spec.quiet) && value == &Value::U64(0);
                // a pattern has no form for lists
                wanted(name) && !quiet && !(self.kind == "expect" && matches!(value, Value::List(_)))
            })
            .map(|(name, value)| format!("{name}: {}", show(name, shown(name, value))))
            .collect();
        match &fields[..] {
            [] => {}
            [one] if one.starts_with("value: ") => self.add("value", &one["value: ".len()..]),
            _ => self.add(key, &format!("{{{}}}", fields.join(", "))),
        }
    }

    fn print(&self) -> String {
        let items: Vec<String> = self
            .items
            .iter()
            .map(|(key, value)| format!("{key}: {value}"))
            .collect();
        format!("{}: {{{}}}", self.kind, items.join(", "))
    }
}

fn name(party: Party) -> &'static str {
    match party {
        Party::FrontEnd => "front",
        Party::BackEnd => "back",
    }
}

fn key(party: Party) -> &'static str {
    match party {
        Party::FrontEnd => "frontend",
        Party::BackEnd => "backend",
    }
}

/// Which feature word a message on the main socket is about, if it carries one: virtio's 0, the protocol's 1.
fn feature_word(message: &Message) -> Option<usize> {
    match (message.request, message.is_reply()) {
        (id::frontend::GET_FEATURES, true) | (id::frontend::SET_FEATURES, false) => Some(0),
        (id::frontend::GET_PROTOCOL_FEATURES, true) | (id::frontend::SET_PROTOCOL_FEATURES, false) => Some(1),
        _ => None,
    }
}

fn is_address(field: &str) -> bool {
    [
        "user_address",
        "guest_address",
        "descriptor",
        "used",
        "available",
        "log",
    ]
    .contains(&field)
}

fn has_no_fd(message: &Message) -> bool {
    matches!(&message.payload, Payload::VringFd(fd) if fd.no_fd)
}

/// Pairs of hex digits; with spaces between them, since digits alone may be a number.
fn spaced(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(" ")
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
