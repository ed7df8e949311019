//! The small values of the language: numbers with references, durations, sizes, hex bytes, field conditions, free-form
//! nodes, and maps that keep their order. Each is read by a visitor of its own, so that errors name what was expected.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::model::{Pattern, PatternRef};
use super::span::At;

/// A number, or an expression over parameters and bindings: `${name}`, `${name + 1}`, `${name.field}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Num {
    /// As written.
    Literal(u64),
    /// To be looked up at run time; the text with its `${}`.
    Reference(String),
}

/// A duration, kept in milliseconds: `50 ms`, `5 s`, `1 min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration {
    /// Milliseconds.
    pub ms: u64,
}

/// A size in bytes: `512`, `64 KiB`, `1 MiB`, or a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size(pub Num);

/// Bytes in hex, spaces allowed: `00 01 02`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

/// A free-form value: a field to send, a parameter, the argument of a QMP command.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `null` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer that is not negative.
    Number(u64),
    /// A negative integer.
    Negative(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text; may contain references.
    Text(String),
    /// A list.
    List(Vec<At<Node>>),
    /// A map, in its order.
    Map(Ordered<At<Node>>),
}

/// A condition on a field. A plain value means equality; a map gives one or more of the named conditions, all of which must hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FieldMatch {
    /// Equal to this.
    pub is: Option<At<Node>>,
    /// Different from this.
    pub not: Option<At<Node>>,
    /// At least this.
    pub min: Option<At<Num>>,
    /// At most this.
    pub max: Option<At<Num>>,
    /// `is` is compared after this mask.
    pub mask: Option<At<Num>>,
    /// Feature names whose bits are set.
    pub has: Vec<At<String>>,
    /// Feature names whose bits are clear.
    pub lacks: Vec<At<String>>,
    /// Equal to one of these.
    pub one_of: Vec<At<Node>>,
}

/// A map that keeps the order of the file and the place of each key.
#[derive(Debug, Clone, PartialEq)]
pub struct Ordered<T>(pub Vec<(At<String>, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Ordered<T> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&T> {
        self.0.iter().find(|(k, _)| k.value == key).map(|(_, v)| v)
    }

    /// Keys and values in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&At<String>, &T)> {
        self.0.iter().map(|(k, v)| (k, v))
    }

    /// The keys in the file's order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(k, _)| k.value.as_str())
    }

    /// No entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for MapVisitor<T> {
            type Value = Ordered<T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<At<String>>()? {
                    entries.push((key, map.next_value()?));
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(MapVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Ordered<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("MapOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({"type": "object", "additionalProperties": value})
    }
}

/// Reads a decimal or `0x` number, `_` allowed between digits.
pub fn parse_u64(text: &str) -> Option<u64> {
    let digits = text.trim().replace('_', "");
    match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}

fn parse_num(text: &str) -> Option<Num> {
    if text.contains("${") {
        return Some(Num::Reference(text.to_owned()));
    }
    parse_u64(text).map(Num::Literal)
}

impl<'de> Deserialize<'de> for Num {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumVisitor;
        impl Visitor<'_> for NumVisitor {
            type Value = Num;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number (decimal or 0x) or a reference like ${name}")
            }

            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Num, E> {
                Ok(Num::Literal(v))
            }

            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Num, E> {
                u64::try_from(v)
                    .map(Num::Literal)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(v), &self))
            }

            fn visit_bool<E: de::Error>(self, v: bool) -> Result<Num, E> {
                Ok(Num::Literal(u64::from(v)))
            }

            fn visit_str<E: de::Error>(self, v: &str) -> Result<Num, E> {
                parse_num(v).ok_or_else(|| E::invalid_value(de::Unexpected::Str(v), &self))
            }
        }
        deserializer.deserialize_any(NumVisitor)
    }
}

/// A number that may have a fraction: `1000000`, `0.9`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decimal(pub f64);

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DecimalVisitor;
        impl Visitor<'_> for DecimalVisitor {
            type Value = Decimal;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number that is not negative, like 1000000 or 0.9")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Decimal, E> {
                Ok(Decimal(value as f64))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Decimal, E> {
                match value.is_finite() && value >= 0.0 {
                    true => Ok(Decimal(value)),
                    false => Err(E::invalid_value(de::Unexpected::Float(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(DecimalVisitor)
    }
}

impl JsonSchema for Decimal {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Decimal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "description": "a number that may have a fraction, like 1000000 or 0.9" })
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl std::str::FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a duration; write a number and a unit: `50 ms`, `5 s`, `2 min`");
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (digits, unit) = trimmed.split_at(split);
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        let factor = match unit.trim() {
            "ms" => 1,
            "s" => 1000,
            "min" => 60_000,
            _ => return Err(wrong()),
        };
        let ms = number.checked_mul(factor).filter(|ms| *ms <= MAX_DURATION_MS);
        ms.map(|ms| Duration { ms })
            .ok_or_else(|| format!("`{text}` is longer than a day"))
    }
}

const MAX_DURATION_MS: u64 = 24 * 60 * 60 * 1000;

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.ms {
            ms if ms % 1000 == 0 => write!(f, "{} s", ms / 1000),
            ms => write!(f, "{ms} ms"),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a size: bytes, or a number with KiB, MiB or GiB")
            }

            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Size, E> {
                Ok(Size(Num::Literal(v)))
            }

            fn visit_str<E: de::Error>(self, v: &str) -> Result<Size, E> {
                let wrong = || E::invalid_value(de::Unexpected::Str(v), &self);
                for (suffix, shift) in [("KiB", 10), ("MiB", 20), ("GiB", 30)] {
                    if let Some(number) = v.trim().strip_suffix(suffix) {
                        let number = parse_u64(number).filter(|n| *n < 1 << 30).ok_or_else(wrong)?;
                        return Ok(Size(Num::Literal(number << shift)));
                    }
                }
                parse_num(v).map(Size).ok_or_else(wrong)
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_hex(&text).map(Bytes).map_err(de::Error::custom)
    }
}

/// Reads hex digits in pairs; spaces and `_` are skipped.
pub fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '_')
        .map(|c| {
            c.to_digit(16)
                .ok_or_else(|| format!("`{c}` is not a hex digit; bytes are written as `00 01 ff`"))
        })
        .collect::<Result<_, _>>()?;
    if !digits.len().is_multiple_of(2) {
        return Err(format!("{} hex digits are not whole bytes", digits.len()));
    }
    Ok(digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;
        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E: de::Error>(self, v: bool) -> Result<Node, E> {
                Ok(Node::Bool(v))
            }

            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Node, E> {
                Ok(Node::Number(v))
            }

            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Node, E> {
                Ok(u64::try_from(v).map_or(Node::Negative(v), Node::Number))
            }

            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Node, E> {
                Ok(Node::Float(v))
            }

            fn visit_str<E: de::Error>(self, v: &str) -> Result<Node, E> {
                Ok(Node::Text(v.to_owned()))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Node::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Node, A::Error> {
                Ordered::deserialize(MapAccessDeserializer::new(map)).map(Node::Map)
            }
        }
        deserializer.deserialize_any(NodeVisitor)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Node::Null => f.write_str("null"),
            Node::Bool(v) => write!(f, "{v}"),
            Node::Number(v) => write!(f, "{v}"),
            Node::Negative(v) => write!(f, "{v}"),
            Node::Float(v) => write!(f, "{v}"),
            Node::Text(v) => f.write_str(v),
            Node::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{}", if i > 0 { ", " } else { "" }, item.value)?;
                }
                f.write_str("]")
            }
            Node::Map(map) => {
                f.write_str("{")?;
                for (i, (key, value)) in map.iter().enumerate() {
                    write!(f, "{}{}: {}", if i > 0 { ", " } else { "" }, key.value, value.value)?;
                }
                f.write_str("}")
            }
        }
    }
}

impl<'de> Deserialize<'de> for FieldMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Conditions {
            #[serde(default)]
            is: Option<At<Node>>,
            #[serde(default)]
            not: Option<At<Node>>,
            #[serde(default)]
            min: Option<At<Num>>,
            #[serde(default)]
            max: Option<At<Num>>,
            #[serde(default)]
            mask: Option<At<Num>>,
            #[serde(default)]
            has: Vec<At<String>>,
            #[serde(default)]
            lacks: Vec<At<String>>,
            #[serde(default)]
            one_of: Vec<At<Node>>,
        }
        struct MatchVisitor;
        impl<'de> Visitor<'de> for MatchVisitor {
            type Value = FieldMatch;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value, or a map of conditions (is, not, min, max, mask, has, lacks, one_of)")
            }

            fn visit_bool<E: de::Error>(self, v: bool) -> Result<FieldMatch, E> {
                Ok(FieldMatch::equal(Node::Bool(v)))
            }

            fn visit_u64<E: de::Error>(self, v: u64) -> Result<FieldMatch, E> {
                Ok(FieldMatch::equal(Node::Number(v)))
            }

            fn visit_i64<E: de::Error>(self, v: i64) -> Result<FieldMatch, E> {
                u64::try_from(v)
                    .map(|v| FieldMatch::equal(Node::Number(v)))
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(v), &self))
            }

            fn visit_str<E: de::Error>(self, v: &str) -> Result<FieldMatch, E> {
                Ok(FieldMatch::equal(Node::Text(v.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FieldMatch, A::Error> {
                let c = Conditions::deserialize(MapAccessDeserializer::new(map))?;
                let Conditions {
                    is,
                    not,
                    min,
                    max,
                    mask,
                    has,
                    lacks,
                    one_of,
                } = c;
                Ok(FieldMatch {
                    is,
                    not,
                    min,
                    max,
                    mask,
                    has,
                    lacks,
                    one_of,
                })
            }
        }
        struct Inner(FieldMatch);
        impl<'de> Deserialize<'de> for Inner {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(MatchVisitor).map(Inner)
            }
        }
        let mut at = At::<Inner>::deserialize(deserializer)?;
        if let Some(plain) = at.value.0.is.as_mut().filter(|is| is.span.line == 0) {
            plain.span = at.span;
        }
        Ok(at.value.0)
    }
}

impl FieldMatch {
    /// The condition that a plain value stands for.
    pub fn equal(node: Node) -> Self {
        Self {
            is: Some(At::nowhere(node)),
            ..Self::default()
        }
    }
}

impl<'de> Deserialize<'de> for PatternRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RefVisitor;
        impl<'de> Visitor<'de> for RefVisitor {
            type Value = Pattern;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("`NAME`, `reply to NAME`, or a map like {from: front, message: NAME}")
            }

            fn visit_str<E: de::Error>(self, v: &str) -> Result<Pattern, E> {
                let named = |name: &str| Some(At::nowhere(name.trim().to_owned()));
                Ok(match v.trim().strip_prefix("reply to ") {
                    Some(name) => Pattern {
                        reply_to: named(name),
                        ..Pattern::default()
                    },
                    None => Pattern {
                        message: named(v),
                        ..Pattern::default()
                    },
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Pattern, A::Error> {
                Pattern::deserialize(MapAccessDeserializer::new(map))
            }
        }
        struct Inner(Pattern);
        impl<'de> Deserialize<'de> for Inner {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(RefVisitor).map(Inner)
            }
        }
        let mut at = At::<Inner>::deserialize(deserializer)?;
        for name in [&mut at.value.0.message, &mut at.value.0.reply_to]
            .into_iter()
            .flatten()
        {
            if name.span.line == 0 {
                name.span = at.span;
            }
        }
        Ok(PatternRef(at.map(|inner| inner.0)))
    }
}

macro_rules! any_schema {
    ($($ty:ty => $name:literal, $schema:tt;)*) => {$(
        impl JsonSchema for $ty {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

any_schema! {
    Num => "Number", {"description": "a number (decimal or 0x) or a reference like ${name}", "type": ["integer", "string", "boolean"], "minimum": 0};
    Duration => "Duration", {"description": "a number and a unit: 50 ms, 5 s, 2 min", "type": "string", "pattern": "^\\s*[0-9]+\\s*(ms|s|min)\\s*$|[$][{]"};
    Size => "Size", {"description": "bytes, or a number with KiB, MiB or GiB", "type": ["integer", "string"], "minimum": 0};
    Bytes => "Bytes", {"description": "bytes in hex", "type": "string", "pattern": "^[0-9a-fA-F_\\s]*$|[$][{]"};
}

/// What a value can be; without `null`, which is nowhere one of the language's own.
const VALUE_TYPES: [&str; 6] = ["boolean", "integer", "number", "string", "array", "object"];

impl JsonSchema for Node {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Value".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<Self>();
        json_schema!({"description": "any value", "type": VALUE_TYPES, "items": value, "additionalProperties": value})
    }
}

impl JsonSchema for FieldMatch {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FieldMatch".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let with = |mut schema: Schema, about: &str| {
            schema.insert("description".to_owned(), about.into());
            schema
        };
        let value = generator.subschema_for::<Node>();
        let num = generator.subschema_for::<Num>();
        let values = json_schema!({"type": "array", "items": value});
        let names = json_schema!({"type": "array", "items": {"type": "string"}});
        json_schema!({
            "description": "A condition on a field. A plain value means equality; a map gives conditions that must all hold.",
            "anyOf": [
                {"type": ["integer", "string", "boolean"]},
                {"type": "object", "additionalProperties": false, "properties": {
                    "is": with(value.clone(), "Equal to this."),
                    "not": with(value, "Different from this."),
                    "min": with(num.clone(), "At least this."),
                    "max": with(num.clone(), "At most this."),
                    "mask": with(num, "`is`, `not` and `one_of` compare only the bits of this mask."),
                    "has": with(names.clone(), "Names of feature bits that are set."),
                    "lacks": with(names, "Names of feature bits that are clear."),
                    "one_of": with(values, "Equal to one of these.")
                }}
            ]
        })
    }
}

impl JsonSchema for PatternRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PatternRef".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let pattern = generator.subschema_for::<Pattern>();
        json_schema!({"anyOf": [{"type": "string"}, pattern]})
    }
}
