//! Source positions: every value that a diagnostic may point at carries where it was written.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

/// A source file of one loaded scenario: 0 is the scenario itself, others are fragment files.
pub type SourceId = u32;

/// Where a value stands in its source. Lines and columns count from 1; `offset` and `len` are bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// The file, an index into the loaded scenario's sources.
    pub source: SourceId,
    /// Line, from 1; 0 when the position is unknown.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Byte offset of the first character.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
}

thread_local! {
    static CURRENT_SOURCE: Cell<SourceId> = const { Cell::new(0) };
}

/// Runs `parse` with `source` as the file that spans belong to. The YAML library knows positions, not files.
pub fn in_source<T>(source: SourceId, parse: impl FnOnce() -> T) -> T {
    let before = CURRENT_SOURCE.replace(source);
    let result = parse();
    CURRENT_SOURCE.set(before);
    result
}

/// A value and where it was written.
#[derive(Debug, Clone, Default)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its position.
    pub span: Span,
}

impl<T> At<T> {
    /// A value that was not read from a file (a default, a command-line option).
    pub fn nowhere(value: T) -> Self {
        Self {
            value,
            span: Span::default(),
        }
    }

    /// The same position with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> At<U> {
        At {
            value: f(self.value),
            span: self.span,
        }
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// The name by which [`At`] asks a deserializer for the place of a value. The deserializer over trees (`read.rs`)
/// answers with the span and the value; the YAML library does not know the name and is asked in its own way.
pub(super) const AT: &str = "$vhost_user_harness::At";

impl Span {
    pub(super) fn to_words(self) -> [u32; 5] {
        [self.source, self.line, self.column, self.offset, self.len]
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AtVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for AtVisitor<T> {
            type Value = At<T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<At<T>, A::Error> {
                let missing = || de::Error::custom("a value without a place");
                let [source, line, column, offset, len]: [u32; 5] = seq.next_element()?.ok_or_else(missing)?;
                let span = Span {
                    source,
                    line,
                    column,
                    offset,
                    len,
                };
                let value = seq.next_element()?.ok_or_else(missing)?;
                Ok(At { value, span })
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<At<T>, D::Error> {
                from_yaml(deserializer)
            }
        }
        deserializer.deserialize_newtype_struct(AT, AtVisitor(PhantomData))
    }
}

fn from_yaml<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<At<T>, D::Error> {
    let spanned = serde_yaml::Spanned::<T>::deserialize(deserializer)?;
    let location = spanned.referenced;
    let span = location.span();
    Ok(At {
        value: spanned.value,
        span: Span {
            source: CURRENT_SOURCE.get(),
            line: u32::try_from(location.line()).unwrap_or(0),
            column: u32::try_from(location.column()).unwrap_or(0),
            offset: span.byte_offset().and_then(|o| u32::try_from(o).ok()).unwrap_or(0),
            len: span.byte_len().and_then(|l| u32::try_from(l).ok()).unwrap_or(0),
        },
    })
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}
