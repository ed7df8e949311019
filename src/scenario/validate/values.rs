//! Values that a field can have. One that it cannot have makes a condition that nothing meets, and a negated one that
//! nothing breaks, so neither says anything about a peer.

use crate::wire::{Base, FieldSpec, Layout, MessageSpec};

use super::super::diagnostic::Diagnostic;
use super::super::eval::as_u64;
use super::super::scalar::{FieldMatch, Node, Num, parse_hex};
use super::super::span::{At, Span};
use super::Cx;
use super::peers::Peer;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// A number below two to the power of this.
    Number(u32),
    /// Bytes, so many if this is not 0.
    Bytes(u32),
    /// Records.
    List,
}

/// The field that a layout is about, which `value` and `status` mean.
const MAIN_FIELDS: [(Layout, &str); 4] = [
    (Layout::U64, "value"),
    (Layout::VringBase, "indices"),
    (Layout::VringState, "num"),
    (Layout::VringFd, "index"),
];

impl Holds {
    fn of(field: &FieldSpec) -> Self {
        match field.base {
            Base::Decimal | Base::Hex => Self::Number(field.bits),
            Base::Bytes => Self::Bytes(field.bits / 8),
            Base::List => Self::List,
        }
    }

    /// What the main field holds in each of some layouts.
    pub(super) fn in_value(layouts: &[Layout]) -> Vec<Self> {
        let main = |layout: &Layout| MAIN_FIELDS.iter().find(|(of, _)| of == layout);
        let fields = layouts
            .iter()
            .filter_map(|layout| layout.field(main(layout)?.1))
            .map(Self::of);
        fields.collect()
    }

    /// What stands at a path in each of the layouts that have it.
    pub(super) fn at(path: &str, layouts: &[Layout]) -> Vec<Self> {
        let root = path.split(['.', '[']).next().unwrap_or("");
        if root == "num_regions" && layouts.contains(&Layout::MemTable) {
            return vec![Self::Number(32)];
        }
        let rest = &path[root.len()..];
        let inside = |field: &FieldSpec| match (rest.split_once("]."), field.base) {
            (None, _) if rest.is_empty() => Some(Self::of(field)),
            (None, Base::Bytes) => Some(Self::Number(8)),
            (Some((_, name)), _) => field.items.iter().find(|item| item.name == name).map(Self::of),
            _ => None,
        };
        let fields = layouts.iter().filter_map(|layout| layout.field(root));
        fields.filter_map(inside).collect()
    }

    fn words(self) -> String {
        match self {
            Self::Number(64) => "a number".to_owned(),
            Self::Number(bits) => format!("a number of {bits} bits"),
            Self::Bytes(0) => "bytes in hex".to_owned(),
            Self::Bytes(count) => format!("{count} bytes in hex"),
            Self::List => "a list of maps".to_owned(),
        }
    }

    /// Whether a value without references can be in the field.
    fn takes(self, node: &Node) -> bool {
        match (self, node) {
            // names of features, which are looked up on their own
            (Self::Number(_), Node::List(names)) => names.iter().all(|n| matches!(n.value, Node::Text(_))),
            (Self::Number(bits), _) => as_u64(node).is_some_and(|n| bits >= 64 || n >> bits == 0),
            (Self::Bytes(count), Node::Text(text)) => {
                parse_hex(text).is_ok_and(|bytes| count == 0 || bytes.len() == count as usize)
            }
            (Self::Bytes(count), Node::Number(n)) => Self::Bytes(count).takes(&Node::Text(n.to_string())),
            (Self::List, Node::List(items)) => {
                !items.is_empty() && items.iter().all(|i| matches!(i.value, Node::Map(_)))
            }
            _ => false,
        }
    }
}

impl<'a> Cx<'a> {
    /// Values of a condition that can never be in the field `name`; `holds` is empty if that is not known.
    pub(super) fn values(
        &mut self,
        name: &str,
        condition: &FieldMatch,
        holds: &[Holds],
        features: Option<(&'static MessageSpec, Option<Peer<'a>>)>,
    ) {
        let all = condition.is.iter().chain(&condition.not).chain(&condition.one_of);
        for node in all.clone() {
            self.value(name, node, holds, features);
        }
        let Some(first) = holds.first() else { return };
        let widest = holds.iter().filter_map(|holds| match holds {
            Holds::Number(bits) => Some(*bits),
            _ => None,
        });
        let Some(bits) = widest.max() else {
            let numbers = [&condition.min, &condition.max, &condition.mask];
            let places = numbers.into_iter().flatten().map(|num| num.span);
            let names = condition.has.iter().chain(&condition.lacks).map(|name| name.span);
            if let Some(place) = places.chain(names).next() {
                let error = format!("`{name}` is {}, and has no such condition", first.words());
                self.report(Diagnostic::error(error).at(place));
            }
            return;
        };
        if let Some(min) = &condition.min
            && let Num::Literal(least) = min.value
        {
            self.value(
                name,
                &At {
                    value: Node::Number(least),
                    span: min.span,
                },
                &[Holds::Number(bits)],
                None,
            );
        }
        if let Some(mask) = condition.mask.as_ref().filter(|mask| mask.value == Num::Literal(0)) {
            self.report(Diagnostic::error("under the mask 0 everything is 0").at(mask.span));
        }
        if let Some(mask) = &condition.mask
            && let Num::Literal(bits) = mask.value
        {
            for node in all {
                let beyond = as_u64(&node.value).filter(|n| n & !bits != 0);
                if let Some(number) = beyond {
                    let error = format!("nothing is {number:#x} under the mask {bits:#x}");
                    self.report(Diagnostic::error(error).at(node.span).note(mask.span, "the mask"));
                }
            }
        }
    }

    /// One value, for a condition or to be sent.
    pub(super) fn value(
        &mut self,
        name: &str,
        node: &At<Node>,
        holds: &[Holds],
        features: Option<(&'static MessageSpec, Option<Peer<'a>>)>,
    ) {
        if holds.is_empty() || has_reference(&node.value) {
            return;
        }
        if !holds.iter().any(|holds| holds.takes(&node.value)) {
            let mut kinds: Vec<String> = holds.iter().map(|holds| holds.words()).collect();
            kinds.dedup();
            let shown = match &node.value {
                Node::Map(_) => "a map".to_owned(),
                Node::List(_) => "a list like this".to_owned(),
                plain => format!("`{plain}`"),
            };
            let error = format!("`{name}` is {}, and never {shown}", kinds.join(" or "));
            self.report(Diagnostic::error(error).at(node.span));
            return;
        }
        let (Node::List(names), Some((spec, from))) = (&node.value, features) else {
            return;
        };
        for name in names {
            if let Node::Text(text) = &name.value {
                self.feature(text, name.span, Some(spec), from);
            }
        }
    }

    /// A feature bit's name, in what a message carries.
    pub(super) fn feature(
        &mut self,
        name: &str,
        place: Span,
        spec: Option<&'static MessageSpec>,
        from: Option<Peer<'a>>,
    ) {
        use crate::wire::{DeviceKind, features};
        let looked_up = match spec.map(|spec| spec.name) {
            Some("GET_PROTOCOL_FEATURES" | "SET_PROTOCOL_FEATURES") => {
                features::parse_protocol_in(self.scenario.dialect(), name).map(drop)
            }
            Some("GET_FEATURES" | "SET_FEATURES") => {
                super::peers::virtio(from.and_then(|peer| self.device_kind(peer)), name)
            }
            // other words have no names; their bits do
            _ => features::parse_virtio(DeviceKind::Other, name).map(drop),
        };
        if let Err(unknown) = looked_up {
            let name = At {
                value: name.to_owned(),
                span: place,
            };
            self.unknown_feature(&name, &unknown);
        }
    }
}

fn has_reference(node: &Node) -> bool {
    match node {
        Node::Text(text) => text.contains("${"),
        Node::List(items) => items.iter().any(|item| has_reference(&item.value)),
        Node::Map(map) => map.iter().any(|(_, value)| has_reference(&value.value)),
        _ => false,
    }
}
