//! Between the language's values and the fields of messages: building payloads, comparing, and binding.

use crate::scenario::eval::as_u64;
use crate::scenario::model::HeaderDecl;
use crate::scenario::scalar::{FieldMatch, Node, Num, Ordered, parse_hex};
use crate::scenario::span::At;
use crate::wire::features::{describe_protocol_in, describe_virtio, parse_protocol_in, parse_virtio};
use crate::wire::{Base, DeviceKind, Dialect, Layout, Message, Value, id};

/// Which names feature bits have in the fields of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureSpace {
    /// Virtio and vhost bits of a device.
    Virtio(DeviceKind),
    /// Protocol feature bits, in the words of a dialect.
    Protocol(Dialect),
}

impl FeatureSpace {
    /// The space of a main-socket request's u64.
    pub fn of(dialect: Dialect, request: u32, device: DeviceKind) -> Self {
        match request {
            id::frontend::GET_PROTOCOL_FEATURES | id::frontend::SET_PROTOCOL_FEATURES => {
                FeatureSpace::Protocol(dialect)
            }
            _ => FeatureSpace::Virtio(device),
        }
    }

    /// The bit of a name.
    pub fn bit(self, name: &str) -> Result<u8, String> {
        match self {
            FeatureSpace::Virtio(device) => parse_virtio(device, name).map_err(|e| e.to_string()),
            FeatureSpace::Protocol(dialect) => parse_protocol_in(dialect, name).map_err(|e| e.to_string()),
        }
    }

    /// The names of all set bits.
    pub fn names(self, bits: u64) -> String {
        match self {
            FeatureSpace::Virtio(device) => describe_virtio(device, bits),
            FeatureSpace::Protocol(dialect) => describe_protocol_in(dialect, bits),
        }
    }

    /// The mask of some names.
    pub fn mask<'a>(self, mut names: impl Iterator<Item = &'a str>) -> Result<u64, String> {
        names.try_fold(0u64, |mask, name| Ok(mask | 1 << self.bit(name)?))
    }
}

/// A field's value from a node: a number, hex bytes, a list of feature names, a list of maps.
pub fn to_value(node: &Node, space: FeatureSpace) -> Result<Value, String> {
    match node {
        Node::List(items) if items.iter().all(|i| matches!(i.value, Node::Map(_))) && !items.is_empty() => {
            let mut records = Vec::new();
            for item in items {
                if let Node::Map(map) = &item.value {
                    let record: Result<Vec<(String, Value)>, String> = map
                        .iter()
                        .map(|(k, v)| Ok((k.value.clone(), to_value(&v.value, space)?)))
                        .collect();
                    records.push(record?);
                }
            }
            Ok(Value::List(records))
        }
        Node::List(items) => {
            let names: Option<Vec<&str>> = items
                .iter()
                .map(|i| {
                    if let Node::Text(name) = &i.value {
                        Some(name.as_str())
                    } else {
                        None
                    }
                })
                .collect();
            let names = names.ok_or_else(|| format!("{node} is neither a list of feature names nor of maps"))?;
            space.mask(names.into_iter()).map(Value::U64)
        }
        Node::Text(text) if as_u64(node).is_none() => parse_hex(text)
            .map(Value::Bytes)
            .map_err(|_| format!("`{text}` is neither a number nor bytes in hex")),
        other => as_u64(other)
            .map(Value::U64)
            .ok_or_else(|| format!("{other} is not a field's value")),
    }
}

/// A node from a field's value, for bindings.
pub fn to_node(value: &Value) -> Node {
    match value {
        Value::U64(number) => Node::Number(*number),
        Value::Bytes(bytes) => Node::Text(bytes.iter().map(|b| format!("{b:02x}")).collect()),
        Value::List(records) => Node::List(
            records
                .iter()
                .map(|record| {
                    let fields = record
                        .iter()
                        .map(|(k, v)| (At::nowhere(k.clone()), At::nowhere(to_node(v))));
                    At::nowhere(Node::Map(Ordered(fields.collect())))
                })
                .collect(),
        ),
    }
}

/// The field that a message is about: the number of a u64, the indices of a base, the number of a ring state.
pub fn main_field(layout: Layout) -> Option<&'static str> {
    match layout {
        Layout::U64 => Some("value"),
        Layout::VringBase => Some("indices"),
        Layout::VringState => Some("num"),
        Layout::VringFd => Some("index"),
        _ => None,
    }
}

/// What `${name}` and `${name.field}` of a bound message are.
pub fn binding_of(message: &Message) -> (Node, Ordered<At<Node>>) {
    let fields = message.payload.fields();
    let main = main_field(message.payload.layout())
        .and_then(|name| message.payload.get(name).ok())
        .map_or(Node::Text(message.name().into_owned()), |v| to_node(&v));
    let fields = fields
        .iter()
        .map(|(k, v)| (At::nowhere((*k).to_owned()), At::nowhere(to_node(v))))
        .collect();
    (main, Ordered(fields))
}

/// Why a value does not meet a condition; `None` if it does. All numbers in the condition are literals.
pub fn mismatch(value: &Value, condition: &FieldMatch, space: FeatureSpace) -> Option<String> {
    let equal = |node: &Node, mask: Option<u64>| match (value, node) {
        (Value::U64(actual), _) => match to_value(node, space) {
            Ok(Value::U64(wanted)) => actual & mask.unwrap_or(u64::MAX) == wanted,
            _ => false,
        },
        (Value::Bytes(actual), Node::Text(text)) => parse_hex(text).is_ok_and(|wanted| *actual == wanted),
        (Value::Bytes(actual), Node::Number(n)) => parse_hex(&n.to_string()).is_ok_and(|wanted| *actual == wanted),
        (Value::List(_), _) => to_value(node, space).is_ok_and(|wanted| *value == wanted),
        _ => false,
    };
    let literal = |num: &Option<At<Num>>| match num.as_ref().map(|n| &n.value) {
        Some(Num::Literal(n)) => Some(*n),
        _ => None,
    };
    let mask = literal(&condition.mask);
    if let Some(node) = &condition.is
        && !equal(&node.value, mask)
    {
        let under = mask.map_or(String::new(), |m| format!(" under mask {m:#x}"));
        return Some(format!("is not {}{under}", show(&node.value)));
    }
    if let Some(node) = &condition.not
        && equal(&node.value, mask)
    {
        return Some(format!("is {}", show(&node.value)));
    }
    if !condition.one_of.is_empty() && !condition.one_of.iter().any(|n| equal(&n.value, mask)) {
        let wanted: Vec<String> = condition.one_of.iter().map(|n| show(&n.value)).collect();
        return Some(format!("is none of {}", wanted.join(", ")));
    }
    let Value::U64(number) = value else {
        let numeric = condition.min.is_some() || condition.max.is_some() || !condition.has.is_empty();
        return numeric.then(|| "is not a number".to_owned());
    };
    if let Some(min) = literal(&condition.min).filter(|min| number < min) {
        return Some(format!("is less than {min}"));
    }
    if let Some(max) = literal(&condition.max).filter(|max| number > max) {
        return Some(format!("is more than {max}"));
    }
    for (names, wanted) in [(&condition.has, true), (&condition.lacks, false)] {
        for name in names {
            match space.bit(&name.value) {
                Ok(bit) if (number >> bit & 1 == 1) == wanted => {}
                Ok(_) if wanted => return Some(format!("has not {}", name.value)),
                Ok(_) => return Some(format!("has {}", name.value)),
                Err(error) => return Some(error),
            }
        }
    }
    None
}

/// A condition in one line, as it stands after the field's name; its numbers in the base in which the field is printed.
pub fn describe(condition: &FieldMatch, base: Base) -> String {
    let mut parts = Vec::new();
    let show = |node: &Node| match node {
        Node::Number(n) => number_in(*n, base),
        other => other.to_string(),
    };
    if let Some(node) = &condition.is {
        match &condition.mask {
            Some(At {
                value: Num::Literal(mask),
                ..
            }) => parts.push(format!("&{mask:#x}={}", show(&node.value))),
            _ => parts.push(format!("={}", show(&node.value))),
        }
    }
    let number = |n: &At<Num>| match &n.value {
        Num::Literal(n) => number_in(*n, base),
        Num::Reference(text) => text.clone(),
    };
    parts.extend(condition.not.iter().map(|n| format!("!={}", show(&n.value))));
    parts.extend(condition.min.iter().map(|n| format!(">={}", number(n))));
    parts.extend(condition.max.iter().map(|n| format!("<={}", number(n))));
    for (word, names) in [("has", &condition.has), ("lacks", &condition.lacks)] {
        if !names.is_empty() {
            let names: Vec<&str> = names.iter().map(|n| n.value.as_str()).collect();
            parts.push(format!(" {word} {}", names.join("|")));
        }
    }
    if !condition.one_of.is_empty() {
        let all: Vec<String> = condition.one_of.iter().map(|n| show(&n.value)).collect();
        parts.push(format!(" one of {}", all.join(", ")));
    }
    parts.concat()
}

fn number_in(number: u64, base: Base) -> String {
    match base {
        Base::Hex => format!("{number:#x}"),
        _ => number.to_string(),
    }
}

fn show(node: &Node) -> String {
    match node {
        Node::Number(n) if *n >= 0x1_0000 => format!("{n:#x}"),
        other => other.to_string(),
    }
}

/// The header words that a scenario replaces, once their numbers are known.
pub fn header_words(decl: &HeaderDecl) -> [Option<&At<Num>>; 3] {
    [decl.request.as_ref(), decl.flags.as_ref(), decl.size.as_ref()]
}
