//! From a tree of values to typed structs: a serde deserializer over [`Node`] that knows the place of everything, so that
//! an error points at the key or the value that is wrong and speaks of steps and fields, not of Rust types.

use std::fmt;

use serde::de::value::SeqDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess,
    Visitor,
};

use super::diagnostic::{Diagnostic, SourceFile};
use super::free::FREE;
use super::scalar::Node;
use super::span::{AT, At, Span};
use super::suggest::did_you_mean;
use super::yaml::slice;

/// Reads a value of type `T`.
///
/// # Errors
/// The first thing in it that does not fit.
pub(super) fn read<'de, T: de::Deserialize<'de>>(
    node: &'de At<Node>,
    sources: &'de [SourceFile],
) -> Result<T, Diagnostic> {
    read_under(None, node, sources)
}

/// The same for a value that stands under a key, which errors then name.
///
/// # Errors
/// The first thing in it that does not fit.
pub(super) fn read_under<'de, T: de::Deserialize<'de>>(
    key: Option<&'de At<String>>,
    node: &'de At<Node>,
    sources: &'de [SourceFile],
) -> Result<T, Diagnostic> {
    let reader = Reader {
        node,
        key,
        sources,
        free: false,
    };
    T::deserialize(reader).map_err(|e| e.at(node.span).0)
}

/// An error on its way up; it gets its place from the innermost value that knows one.
#[derive(Debug)]
struct ReadError(Diagnostic);

impl ReadError {
    fn at(self, span: Span) -> Self {
        Self(match self.0.span {
            Some(_) => self.0,
            None => self.0.at(span),
        })
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Diagnostic::error(message.to_string()))
    }

    fn invalid_type(found: Unexpected, expected: &dyn de::Expected) -> Self {
        Self(Diagnostic::error(format!(
            "expected {expected}, found {}",
            plain(found)
        )))
    }

    fn invalid_value(found: Unexpected, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        unknown_field(field, None, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self(Diagnostic::error(format!("the field `{field}` is missing")))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self(
            Diagnostic::error(format!("`{field}` is given twice")).help("one of them may be the old name of the other"),
        )
    }
}

fn plain(found: Unexpected) -> String {
    match found {
        Unexpected::Bool(b) => format!("`{b}`"),
        Unexpected::Unsigned(n) => format!("the number {n}"),
        Unexpected::Signed(n) => format!("the number {n}"),
        Unexpected::Float(n) => format!("the number {n}"),
        Unexpected::Str(text) => format!("`{text}`"),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        other => other.to_string(),
    }
}

fn unknown_field(field: &str, context: Option<&At<String>>, expected: &[&str]) -> ReadError {
    let place = context.map_or(String::new(), |key| format!(" in `{}`", key.value));
    let known = format!("fields here: {}", expected.join(", "));
    let error = Diagnostic::error(format!("unknown field `{field}`{place}"));
    ReadError(match did_you_mean(field, expected.iter().copied()) {
        Some(help) => error.help(help),
        None => error.help(known),
    })
}

/// What the values of an enum are called in the language.
fn noun(rust_name: &str) -> &'static str {
    match rust_name {
        "Step" => "step",
        "Check" => "check",
        "SetupState" => "state",
        "FdKind" => "kind of file descriptor",
        "BlkStatus" => "status",
        "AckRule" => "rule",
        name if name.ends_with("Action") => "action",
        _ => "value",
    }
}

#[derive(Clone, Copy)]
struct Reader<'de> {
    node: &'de At<Node>,
    key: Option<&'de At<String>>,
    sources: &'de [SourceFile],
    /// Inside of a value that may hold `null`.
    free: bool,
}

impl<'de> Reader<'de> {
    fn expected(&self, what: &str) -> ReadError {
        let found = match &self.node.value {
            Node::Null => "nothing".to_owned(),
            Node::List(_) => "a list".to_owned(),
            Node::Map(_) => "a map".to_owned(),
            Node::Text(text) => format!("`{text}`"),
            Node::Bool(_) | Node::Number(_) | Node::Negative(_) | Node::Float(_) => format!("`{}`", self.written()),
        };
        let place = self.key.map_or(String::new(), |key| format!(" for `{}`", key.value));
        ReadError(Diagnostic::error(format!("expected {what}{place}, found {found}"))).at(self.span())
    }

    /// The place of the value; that of its key if there is no value.
    fn span(&self) -> Span {
        match (&self.node.value, self.key) {
            (Node::Null, Some(key)) if self.node.span.len == 0 => key.span,
            _ => self.node.span,
        }
    }

    /// The place to point at for something that is not in a map: the map if it is in braces, else its key.
    fn whole(&self, key: &At<String>) -> Span {
        let text = self
            .sources
            .get(self.node.span.source as usize)
            .map_or("", |s| &*s.text);
        match slice(text, self.node.span).starts_with('{') {
            true => self.node.span,
            false => key.span,
        }
    }

    /// A scalar as the file has it (`0x10`, `00`), unless it came out of a reference.
    fn written(&self) -> String {
        let text = self.sources.get(self.node.span.source as usize).map(|s| &*s.text);
        match text.map(|text| slice(text, self.node.span)) {
            Some(written) if !written.is_empty() && !written.contains('$') && self.node.span.line > 0 => {
                written.to_owned()
            }
            _ => self.node.value.to_string(),
        }
    }

    fn map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let Node::Map(map) = &self.node.value else {
            return Err(self.expected("a map"));
        };
        visitor.visit_map(Entries {
            entries: map.0.iter(),
            value: None,
            reader: self,
        })
    }

    fn list<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let Node::List(items) = &self.node.value else {
            return Err(self.expected("a list"));
        };
        visitor.visit_seq(Items {
            items: items.iter(),
            reader: self,
        })
    }

    fn text<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Node::Text(text) => visitor.visit_str(text),
            Node::Null | Node::List(_) | Node::Map(_) => Err(self.expected("text")),
            _ => visitor.visit_str(&self.written()),
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let result = match &self.node.value {
            Node::Null if self.free => visitor.visit_unit(),
            // a key without a value would take away what it was to say, and nobody would see that
            Node::Null => Err(de::Error::invalid_type(Unexpected::Unit, &visitor)),
            Node::Bool(b) => visitor.visit_bool(*b),
            Node::Number(n) => visitor.visit_u64(*n),
            Node::Negative(n) => visitor.visit_i64(*n),
            Node::Float(n) => visitor.visit_f64(*n),
            Node::Text(text) => visitor.visit_str(text),
            Node::List(_) => self.list(visitor),
            Node::Map(_) => self.map(visitor),
        };
        result.map_err(|e| e.at(self.span()))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.node.value {
            Node::Bool(b) => visitor.visit_bool(b),
            _ => Err(self.expected("true or false")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.text(visitor).map_err(|e| e.at(self.span()))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        // what is there has a value; only what is left out is `None`
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name == FREE {
            return visitor.visit_newtype_struct(Self { free: true, ..self });
        }
        if name != AT {
            return visitor.visit_newtype_struct(self);
        }
        let at = Placed {
            span: self.span(),
            value: Some(self),
            passed: false,
        };
        visitor.visit_seq(at).map_err(|e| e.at(self.span()))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.list(visitor).map_err(|e| e.at(self.span()))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.map(visitor).map_err(|e| e.at(self.span()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if let Node::Map(map) = &self.node.value
            && let Some((key, _)) = map.iter().find(|(key, _)| !fields.contains(&key.value.as_str()))
        {
            return Err(unknown_field(&key.value, self.key, fields).at(key.span));
        }
        self.map(visitor).map_err(|mut e| {
            if e.0.span.is_none()
                && let Some(key) = self.key
                && let Some(fact) = e.0.message.strip_suffix(" is missing")
            {
                e.0.message = format!("{fact} of `{}` is missing", key.value);
                return e.at(self.whole(key));
            }
            e.at(self.span())
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let noun = noun(name);
        let (tag, span, content) = match &self.node.value {
            Node::Text(text) => (text, self.node.span, None),
            Node::Map(map) => match map.0.as_slice() {
                [(key, value)] => (&key.value, key.span, Some((key, value))),
                [] => return Err(self.expected(&format!("a {noun}"))),
                [(first, _), (second, _), ..] => {
                    return Err(ReadError(
                        Diagnostic::error(format!(
                            "a {noun} is a map with one key; `{}` is a second one",
                            second.value
                        ))
                        .at(second.span)
                        .note(first.span, "the first")
                        .help(format!(
                            "a {noun} of its own begins with `- `; what belongs to `{}` is indented below it",
                            first.value
                        )),
                    ));
                }
            },
            _ => return Err(self.expected(&format!("a {noun}"))),
        };
        if !variants.contains(&tag.as_str()) {
            let error = Diagnostic::error(format!("unknown {noun} `{tag}`")).at(span);
            return Err(ReadError(match did_you_mean(tag, variants.iter().copied()) {
                Some(help) => error.help(help),
                None => error.help(format!("one of: {}", variants.join(", "))),
            }));
        }
        let chosen = Chosen {
            tag,
            span,
            content,
            reader: self,
        };
        visitor.visit_enum(chosen).map_err(|e| e.at(span))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, (At<String>, At<Node>)>,
    value: Option<(&'de At<String>, &'de At<Node>)>,
    reader: Reader<'de>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some((key, value));
        seed.deserialize(Key(key)).map(Some).map_err(|e| e.at(key.span))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let (key, node) = self.value.take().expect("serde asks for a key before its value");
        seed.deserialize(Reader {
            node,
            key: Some(key),
            ..self.reader
        })
    }
}

struct Items<'de> {
    items: std::slice::Iter<'de, At<Node>>,
    reader: Reader<'de>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some(node) = self.items.next() else { return Ok(None) };
        seed.deserialize(Reader {
            node,
            key: None,
            ..self.reader
        })
        .map(Some)
    }
}

struct Key<'de>(&'de At<String>);

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_borrowed_str(&self.0.value)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name != AT {
            return visitor.visit_newtype_struct(self);
        }
        visitor.visit_seq(Placed {
            span: self.0.span,
            value: Some(self),
            passed: false,
        })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// What an [`At`] is read from: the span, then the value.
struct Placed<D> {
    span: Span,
    value: Option<D>,
    passed: bool,
}

impl<'de, D: Deserializer<'de, Error = ReadError>> SeqAccess<'de> for Placed<D> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        if !self.passed {
            self.passed = true;
            return seed
                .deserialize(SeqDeserializer::new(self.span.to_words().into_iter()))
                .map(Some);
        }
        self.value.take().map(|value| seed.deserialize(value)).transpose()
    }
}

struct Chosen<'de> {
    tag: &'de str,
    span: Span,
    content: Option<(&'de At<String>, &'de At<Node>)>,
    reader: Reader<'de>,
}

impl<'de> EnumAccess<'de> for Chosen<'de> {
    type Error = ReadError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), ReadError> {
        let tag: de::value::StrDeserializer<'_, ReadError> = self.tag.into_deserializer();
        Ok((seed.deserialize(tag)?, self))
    }
}

impl<'de> VariantAccess<'de> for Chosen<'de> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        match self.content {
            None => Ok(()),
            Some((_, node)) => {
                Err(ReadError(Diagnostic::error(format!("`{}` takes no value", self.tag))).at(node.span))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ReadError> {
        let Some((key, node)) = self.content else {
            return Err(ReadError(
                Diagnostic::error(format!("`{}` needs a value", self.tag)).at(self.span),
            ));
        };
        seed.deserialize(Reader {
            node,
            key: Some(key),
            ..self.reader
        })
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, ReadError> {
        self.newtype_variant_seed(Whole(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, ReadError> {
        self.newtype_variant_seed(Whole(visitor))
    }
}

/// A visitor as a seed, for the enum shapes that the language has none of.
struct Whole<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Whole<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        deserializer.deserialize_any(self.0)
    }
}
