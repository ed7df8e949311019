//! Payload fields by name: the generic values that scenarios, traces and the notation speak.

use std::fmt;

use super::layout::FieldSpec;

/// The value of one payload field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// An integer of any width.
    U64(u64),
    /// A run of bytes.
    Bytes(Vec<u8>),
    /// A list of records, such as memory regions.
    List(Vec<Vec<(String, Value)>>),
}

impl Value {
    /// The integer, if this is one.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::U64(value) => Some(*value),
            _ => None,
        }
    }

    /// What kind of value this is, for messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::U64(_) => "a number",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Self::U64(value) => *value == 0,
            Self::Bytes(bytes) => bytes.iter().all(|b| *b == 0),
            Self::List(items) => items.is_empty(),
        }
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::U64(value)
    }
}

/// Without a field table at hand: numbers below 0x10000 in decimal, others in hex, bytes as hex digits.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U64(value) if *value < 0x1_0000 => write!(f, "{value}"),
            Self::U64(value) => write!(f, "{value:#x}"),
            Self::Bytes(bytes) => bytes.iter().try_for_each(|b| write!(f, "{b:02x}")),
            Self::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    f.write_str(if i == 0 { "{" } else { " {" })?;
                    for (j, (name, value)) in item.iter().enumerate() {
                        let space = if j == 0 { "" } else { " " };
                        write!(f, "{space}{name}={value}")?;
                    }
                    f.write_str("}")?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Why a field could not be read or set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// No such field in this layout.
    #[error("{layout} has no field {field:?}{}", super::suggest::did_you_mean(.suggestions))]
    Unknown {
        /// The layout's name.
        layout: &'static str,
        /// What was written.
        field: String,
        /// Fields with a similar name.
        suggestions: Vec<&'static str>,
    },
    /// The same field twice.
    #[error("field {field} is given twice")]
    Duplicate {
        /// The field.
        field: String,
    },
    /// The number does not fit into the field.
    #[error("{value:#x} does not fit into {field}, which has {bits} bits")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// The value given.
        value: u64,
        /// The field's width.
        bits: u32,
    },
    /// A text that cannot be read as the field's value.
    #[error("{field} takes {expected}, not {text:?}")]
    Text {
        /// The field.
        field: &'static str,
        /// What was written.
        text: String,
        /// What it takes.
        expected: &'static str,
    },
    /// A number where bytes are wanted, or the like.
    #[error("{field} takes {expected}, not {found}")]
    WrongKind {
        /// The field.
        field: &'static str,
        /// The kind it takes.
        expected: &'static str,
        /// The kind given.
        found: &'static str,
    },
    /// Too many or too few bytes or items.
    #[error("{field} takes {expected} {unit}, not {found}")]
    Length {
        /// The field.
        field: &'static str,
        /// How many it takes.
        expected: usize,
        /// How many were given.
        found: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// A path such as `regions[7].size` that leads nowhere.
    #[error("{path:?} leads to no value: {why}")]
    Path {
        /// The path.
        path: String,
        /// Where it breaks off.
        why: &'static str,
    },
}

/// The value given for `name`, if any.
pub(crate) fn given<'a>(fields: &'a [(String, Value)], name: &str) -> Option<&'a Value> {
    fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
}

/// Refuses names that `specs` does not have, and names given twice.
pub(crate) fn check_names(
    layout: &'static str,
    specs: &[FieldSpec],
    fields: &[(String, Value)],
) -> Result<(), FieldError> {
    for (i, (field, _)) in fields.iter().enumerate() {
        if !specs.iter().any(|spec| spec.name == field) {
            let suggestions = super::suggest::similar(field, specs.iter().map(|spec| spec.name));
            return Err(FieldError::Unknown {
                layout,
                field: field.clone(),
                suggestions,
            });
        }
        if fields[..i].iter().any(|(earlier, _)| earlier == field) {
            return Err(FieldError::Duplicate { field: field.clone() });
        }
    }
    Ok(())
}

/// Follows `name`, `name[3]`, `name[3].field` through `fields`.
pub(crate) fn follow(
    layout: &'static str,
    specs: &[FieldSpec],
    fields: Vec<(&'static str, Value)>,
    path: &str,
) -> Result<Value, FieldError> {
    let broken = |why| FieldError::Path {
        path: path.to_owned(),
        why,
    };
    let name = path.split(['[', '.']).next().unwrap_or(path);
    let rest = &path[name.len()..];
    let Some((_, value)) = fields.into_iter().find(|(field, _)| *field == name) else {
        let suggestions = super::suggest::similar(name, specs.iter().map(|spec| spec.name));
        return Err(FieldError::Unknown {
            layout,
            field: name.to_owned(),
            suggestions,
        });
    };
    if rest.is_empty() {
        return Ok(value);
    }
    let (index, rest) = rest
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .ok_or_else(|| broken("only a list has parts, written name[0].part"))?;
    let index: usize = index.parse().map_err(|_| broken("the index is not a number"))?;
    match value {
        Value::List(items) => {
            let item = items
                .into_iter()
                .nth(index)
                .ok_or_else(|| broken("the list is shorter"))?;
            let part = rest
                .strip_prefix('.')
                .ok_or_else(|| broken("the item's field is missing"))?;
            let found = item.into_iter().find(|(field, _)| field == part);
            found
                .map(|(_, value)| value)
                .ok_or_else(|| broken("the item has no such field"))
        }
        Value::Bytes(bytes) if rest.is_empty() => {
            let byte = bytes.get(index).ok_or_else(|| broken("there are fewer bytes"))?;
            Ok(Value::U64(u64::from(*byte)))
        }
        _ => Err(broken("only a list has parts, written name[0].part")),
    }
}
