//! A trace as what can be compared: each request with its answer, each end, by link and socket.

use std::collections::BTreeMap;

use crate::sys::fd::FdType;
use crate::trace::file::Trace;
use crate::trace::{EventKind, LinkId};
use crate::wire::features::{describe_protocol, describe_virtio};
use crate::wire::{Channel, DeviceKind, Message, Payload, Value, id};

/// A request with its answer, or an end.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    /// The event's number.
    pub(super) at: usize,
    /// What has to be the same for two to be compared.
    pub(super) key: String,
    /// In full.
    pub(super) text: String,
    /// What else is compared, by name.
    pub(super) parts: Vec<(String, String)>,
    /// The request, while it is not answered.
    open: Option<Message>,
}

/// Entries in their order, by link and socket.
pub(super) type Groups = BTreeMap<Option<(LinkId, Channel)>, Vec<Entry>>;

pub(super) fn entries(trace: &Trace, device: DeviceKind) -> Groups {
    let mut groups = Groups::new();
    let mut regions: BTreeMap<LinkId, Regions> = BTreeMap::new();
    for (at, event) in trace.events.iter().enumerate() {
        let link = event.link.unwrap_or(LinkId(0));
        let plain = |text: String| Entry {
            at,
            key: text.clone(),
            text,
            ..Entry::default()
        };
        let (place, entry) = match &event.kind {
            EventKind::Message { message, fds, .. } => {
                let known = regions.entry(link).or_default();
                known.learn(message);
                let mut parts = known.parts(message, device);
                if !fds.is_empty() {
                    parts.push(("fds".to_owned(), kinds(fds)));
                }
                let group = groups.entry(Some((link, message.channel))).or_default();
                let request = group
                    .iter_mut()
                    .find(|e| e.open.as_ref().is_some_and(|r| message.answers(r)));
                if let Some(request) = request {
                    request.open = None;
                    let named = |(name, value): (String, String)| {
                        let name = if name == "features" {
                            "reply".to_owned()
                        } else {
                            format!("reply {name}")
                        };
                        (name, value)
                    };
                    if !matches!(parts.first(), Some((name, _)) if name == "features") {
                        request.parts.push(("reply".to_owned(), "there".to_owned()));
                    }
                    request.parts.extend(parts.into_iter().map(named));
                    continue;
                }
                let reply = if message.is_reply() { "reply to " } else { "" };
                let mark = if message.needs_reply() { "!" } else { "" };
                let entry = Entry {
                    at,
                    key: format!("{reply}{}{mark}{}", message.name(), ring(message)),
                    text: message.to_string(),
                    parts,
                    open: (!message.is_reply()).then(|| message.clone()),
                };
                (Some((link, message.channel)), entry)
            }
            EventKind::Malformed { channel, why, .. } => (Some((link, *channel)), plain(format!("malformed: {why}"))),
            EventKind::Closed { from, channel, partial } => {
                let cut = if *partial > 0 {
                    format!(" after {partial} bytes")
                } else {
                    String::new()
                };
                (Some((link, *channel)), plain(format!("closed by the {from}{cut}")))
            }
            EventKind::HalfClosed { from, channel } => (
                Some((link, *channel)),
                plain(format!("closed for sending by the {from}")),
            ),
            EventKind::Exited { exit, .. } => {
                let exit = match exit {
                    crate::sys::child::Exit::Status(status) => format!("status {status}"),
                    crate::sys::child::Exit::Signal(signal) => format!("signal {signal}"),
                };
                (None, plain(format!("exited: {exit}")))
            }
            // when rings are signalled, and how often, depends on the clock
            _ => continue,
        };
        groups.entry(place).or_default().push(entry);
    }
    groups
}

/// What is said of one ring is not compared with what is said of another.
fn ring(message: &Message) -> String {
    let index = message.payload.fields().into_iter().find(|(name, _)| *name == "index");
    index.map_or(String::new(), |(name, value)| format!(" {name}={value}"))
}

fn kinds(fds: &[FdType]) -> String {
    let fds: Vec<String> = fds.iter().map(ToString::to_string).collect();
    format!("[{}]", fds.join(" "))
}

/// Where the front-end has its memory: addresses of a process are compared by their place in it.
#[derive(Debug, Default)]
struct Regions(Vec<(u64, u64)>);

impl Regions {
    fn learn(&mut self, message: &Message) {
        let regions: Vec<_> = match &message.payload {
            Payload::MemTable(table) => {
                self.0.clear();
                table.regions.clone()
            }
            Payload::MemReg(reg) => vec![reg.region],
            _ => return,
        };
        if message.is_reply() {
            return;
        }
        for region in regions {
            if !self.0.contains(&(region.user_address, region.size)) {
                self.0.push((region.user_address, region.size));
            }
        }
    }

    fn place(&self, address: u64) -> Option<String> {
        let inside = |(base, size): &(u64, u64)| address.checked_sub(*base).is_some_and(|offset| offset < *size);
        let index = self.0.iter().position(inside)?;
        Some(format!("region {index} + {:#x}", address - self.0[index].0))
    }

    fn parts(&self, message: &Message, device: DeviceKind) -> Vec<(String, String)> {
        if let (Channel::Main, Payload::U64(bits)) = (message.channel, &message.payload) {
            let names = match message.request {
                id::frontend::GET_FEATURES | id::frontend::SET_FEATURES => Some(describe_virtio(device, *bits)),
                id::frontend::GET_PROTOCOL_FEATURES | id::frontend::SET_PROTOCOL_FEATURES => {
                    Some(describe_protocol(*bits))
                }
                _ => None,
            };
            if let Some(names) = names {
                return vec![("features".to_owned(), format!("{{{names}}}"))];
            }
        }
        let mut parts = Vec::new();
        let layout = message.payload.layout();
        for (name, value) in message.payload.fields() {
            let spec = layout.field(name);
            match &value {
                Value::List(items) => {
                    for (index, item) in items.iter().enumerate() {
                        for (field, value) in item {
                            parts.push((format!("{name}[{index}].{field}"), self.shown(field, value, item)));
                        }
                    }
                }
                value => {
                    let fields = message.payload.fields();
                    let fields: Vec<(String, Value)> = fields.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
                    let shown = match spec {
                        Some(spec) if !is_address(name) => spec.show(value),
                        _ => self.shown(name, value, &fields),
                    };
                    parts.push((name.to_owned(), shown));
                }
            }
        }
        parts
    }

    fn shown(&self, name: &str, value: &Value, beside: &[(String, Value)]) -> String {
        let Some(number) = value.as_u64().filter(|_| is_address(name)) else {
            return value.to_string();
        };
        let same_as_user = beside.iter().any(|(n, v)| n == "user_address" && v == value);
        if name == "guest_address" && !same_as_user {
            return format!("{number:#x}");
        }
        self.place(number).unwrap_or_else(|| format!("{number:#x}"))
    }
}

/// Fields that hold addresses of the front-end's process, or may do so.
fn is_address(name: &str) -> bool {
    ["user_address", "guest_address", "descriptor", "used", "available"].contains(&name)
}
