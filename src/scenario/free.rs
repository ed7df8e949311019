//! Values that may hold `null`, which the language itself has no use for: what goes to QMP and comes from there, and parts of
//! a file before they are read.

use std::fmt;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::scalar::{Node, Ordered};
use super::span::At;

/// The name by which a deserializer is told that the value to come may hold `null`. Elsewhere a key without a value is an
/// error.
pub(super) const FREE: &str = "$vhost_user_harness::Free";

/// A value that may hold `null`: it is not the language's own (QMP), or it is not read yet.
struct Free(At<Node>);

impl<'de> Deserialize<'de> for Free {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FreeVisitor;
        impl<'de> Visitor<'de> for FreeVisitor {
            type Value = Free;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Free, D::Error> {
                At::deserialize(deserializer).map(Free)
            }
        }
        deserializer.deserialize_newtype_struct(FREE, FreeVisitor)
    }
}

/// Reads a field that may hold `null` somewhere inside, and not in its own place.
pub(super) fn free<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<At<Node>>, D::Error> {
    let Free(node) = Free::deserialize(deserializer)?;
    match node.value {
        Node::Null => Err(de::Error::invalid_type(de::Unexpected::Unit, &"a value")),
        _ => Ok(Some(node)),
    }
}

/// Reads a list of values that may hold `null`.
pub(super) fn free_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<At<Node>>, D::Error> {
    let items = Vec::<Free>::deserialize(deserializer)?;
    Ok(items.into_iter().map(|Free(node)| node).collect())
}

/// Reads a map to values that may be `null`.
pub(super) fn free_map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ordered<At<Node>>, D::Error> {
    let map = Ordered::<Free>::deserialize(deserializer)?;
    Ok(Ordered(
        map.0.into_iter().map(|(key, Free(node))| (key, node)).collect(),
    ))
}

/// A value of another language, which may hold `null` inside.
pub(super) fn free_schema(generator: &mut SchemaGenerator) -> Schema {
    let value = generator.subschema_for::<Node>();
    json_schema!({"anyOf": [value, {"type": "array"}, {"type": "object"}]})
}

/// A map to such values.
pub(super) fn free_map_schema(generator: &mut SchemaGenerator) -> Schema {
    let map = generator.subschema_for::<Ordered<Node>>();
    json_schema!({"anyOf": [map, {"type": "object"}]})
}
