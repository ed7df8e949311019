//! Reading the notation: words first, then the layout that the field names tell, then the values.

use super::super::dialect::{Channel, Dialect};
use super::super::fields::{FieldError, Value};
use super::super::header::flags;
use super::super::layout::FieldSpec;
use super::super::message::Message;
use super::super::names::find;
use super::super::payload::{Layout, Payload};
use super::super::suggest;
use super::NotationError;

/// Parses one message.
pub fn parse(dialect: Dialect, line: &str) -> Result<Message, NotationError> {
    let mut cursor = Cursor { rest: line.trim() };
    if cursor.word("raw") {
        return raw(dialect, cursor);
    }
    let is_reply = cursor.word("reply");
    if is_reply && !cursor.word("to") {
        return Err(cursor.expected("`to` after `reply`"));
    }
    let name = cursor.token();
    if name.is_empty() {
        return Err(cursor.expected("a message"));
    }
    let (name, need_reply) = name.strip_suffix('!').map_or((name, false), |name| (name, true));
    let spec = find(dialect, name, cursor.channel()?)?;
    let layout = cursor.layout()?;
    let mut fields = cursor.fields()?;

    let reply_bit = if is_reply { flags::REPLY } else { 0 };
    let need_reply_bit = if need_reply { flags::NEED_REPLY } else { 0 };
    let conn_id = take_conn_id(dialect, &mut fields)?;
    let mut message_flags = dialect.version() | reply_bit | need_reply_bit;
    if let Some(at) = fields.iter().position(|(name, _)| *name == "header_flags") {
        let (_, text) = fields.remove(at);
        message_flags = word(&text, "header_flags")?;
        for (bit, wanted, word) in [
            (flags::REPLY, is_reply, "reply to"),
            (flags::NEED_REPLY, need_reply, "!"),
        ] {
            if (message_flags & bit != 0) != wanted {
                return Err(NotationError::Flags {
                    flags: message_flags,
                    word,
                });
            }
        }
    }

    let names = fields.iter().map(|(name, _)| *name);
    let layout = layout.unwrap_or_else(|| {
        if is_reply {
            spec.reply_layout(names)
        } else {
            spec.request_layout(names)
        }
    });
    let payload = payload(layout, fields)?;
    Ok(Message {
        dialect,
        conn_id,
        channel: spec.channel,
        request: spec.id,
        flags: message_flags,
        payload,
    })
}

/// The rest of `raw [on CHANNEL] request=N flags=N [as LAYOUT] …`.
fn raw(dialect: Dialect, mut cursor: Cursor<'_>) -> Result<Message, NotationError> {
    let channel = cursor.channel()?.unwrap_or(Channel::Main);
    let mut number = |name: &'static str, expected: &'static str| {
        let missing = cursor.expected(expected);
        let text = cursor
            .token()
            .strip_prefix(name)
            .and_then(|text| text.strip_prefix('='));
        word(&Text::Plain(text.ok_or(missing)?), name)
    };
    let request = number("request", "`request=`, the id of a raw message")?;
    let flags = number("flags", "`flags=`, the header's flags of a raw message")?;
    let layout = cursor.layout()?.unwrap_or(Layout::Raw);
    let mut fields = cursor.fields()?;
    let conn_id = take_conn_id(dialect, &mut fields)?;
    let payload = payload(layout, fields)?;
    Ok(Message {
        dialect,
        conn_id,
        channel,
        request,
        flags,
        payload,
    })
}

/// Takes the connection id out of the fields; without one the sender is anonymous.
fn take_conn_id(dialect: Dialect, fields: &mut Vec<(&str, Text<'_>)>) -> Result<u64, NotationError> {
    let given = |(name, _): &(&str, Text<'_>)| *name == "conn_id";
    let Some(at) = fields.iter().position(given).filter(|_| dialect.has_conn_id()) else {
        return Ok(dialect.no_conn_id());
    };
    match fields.remove(at).1 {
        Text::Plain("anonymous") => Ok(Dialect::ANONYMOUS),
        text => {
            let (_, value) = text.read("conn_id", &[FieldSpec::number("conn_id")])?;
            Ok(value.as_u64().unwrap_or(0))
        }
    }
}

fn payload(layout: Layout, fields: Vec<(&str, Text<'_>)>) -> Result<Payload, NotationError> {
    let fields: Result<Vec<_>, FieldError> = fields
        .iter()
        .map(|(name, text)| text.read(name, layout.fields()))
        .collect();
    Ok(Payload::build(layout, &fields?)?)
}

fn word(text: &Text<'_>, field: &'static str) -> Result<u32, NotationError> {
    let spec = FieldSpec {
        bits: 32,
        ..FieldSpec::number(field)
    };
    let (_, value) = text.read(field, &[spec])?;
    let value = value.as_u64().unwrap_or(0);
    Ok(u32::try_from(value).map_err(|_| FieldError::TooLarge { field, value, bits: 32 })?)
}

/// A value as it is written, before the field's kind is known.
enum Text<'a> {
    Plain(&'a str),
    List(Vec<Vec<(&'a str, &'a str)>>),
}

impl Text<'_> {
    /// The value for the field `name`. Unknown names pass: `build` refuses them with a better error.
    fn read(&self, name: &str, specs: &[FieldSpec]) -> Result<(String, Value), FieldError> {
        let spec = specs.iter().find(|spec| spec.name == name);
        let value = match (self, spec) {
            (Self::Plain(text), Some(spec)) => spec.parse(text)?,
            (Self::Plain(_), None) => Value::U64(0),
            (Self::List(items), spec) => {
                let specs = spec.map_or(&[][..], |spec| spec.items);
                let field = |(name, text): &(&str, &str)| Text::Plain(text).read(name, specs);
                Value::List(
                    items
                        .iter()
                        .map(|item| item.iter().map(field).collect())
                        .collect::<Result<_, _>>()?,
                )
            }
        };
        Ok((name.to_owned(), value))
    }
}

/// What is left of the line.
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn expected(&self, expected: &'static str) -> NotationError {
        NotationError::Expected {
            expected,
            at: self.rest.to_owned(),
        }
    }

    /// Takes everything up to white space or a bracket.
    fn token(&mut self) -> &'a str {
        let end = self
            .rest
            .find(|c: char| c.is_whitespace() || "[]{}".contains(c))
            .unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        token
    }

    /// Takes the next token if it is `word`.
    fn word(&mut self, word: &str) -> bool {
        let mut ahead = Cursor { rest: self.rest };
        let is_next = ahead.token() == word;
        if is_next {
            self.rest = ahead.rest;
        }
        is_next
    }

    /// Takes `mark` if it is next.
    fn mark(&mut self, mark: char) -> bool {
        let stripped = self.rest.strip_prefix(mark);
        self.rest = stripped.map_or(self.rest, str::trim_start);
        stripped.is_some()
    }

    fn channel(&mut self) -> Result<Option<Channel>, NotationError> {
        if !self.word("on") {
            return Ok(None);
        }
        let before = self.expected("a channel, main or backend, after `on`");
        self.token().parse().map(Some).map_err(|_| before)
    }

    fn layout(&mut self) -> Result<Option<Layout>, NotationError> {
        if !self.word("as") {
            return Ok(None);
        }
        let name = self.token();
        let layout = Layout::parse(name).ok_or_else(|| {
            let suggestions = suggest::similar(name, Layout::ALL.iter().map(|layout| layout.name()));
            NotationError::Layout {
                name: name.to_owned(),
                suggestions,
            }
        });
        layout.map(Some)
    }

    fn fields(&mut self) -> Result<Vec<(&'a str, Text<'a>)>, NotationError> {
        let mut fields = Vec::new();
        while !self.rest.is_empty() {
            let name = self.name()?;
            let text = if self.rest.starts_with('[') {
                self.list()?
            } else {
                Text::Plain(self.value())
            };
            fields.push((name, text));
        }
        Ok(fields)
    }

    /// Takes `name=`. What follows the sign belongs to the value, so white space there means an empty one.
    fn name(&mut self) -> Result<&'a str, NotationError> {
        let is_name = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match self.rest.split_once('=') {
            Some((name, rest)) if is_name(&name) => {
                self.rest = rest;
                Ok(name)
            }
            _ => Err(self.expected("a field, written name=value")),
        }
    }

    fn value(&mut self) -> &'a str {
        if self.rest.starts_with(char::is_whitespace) {
            self.rest = self.rest.trim_start();
            return "";
        }
        self.token()
    }

    fn list(&mut self) -> Result<Text<'a>, NotationError> {
        self.mark('[');
        let mut items = Vec::new();
        while !self.mark(']') {
            if !self.mark('{') {
                return Err(self.expected("`{` or `]`"));
            }
            let mut item = Vec::new();
            while !self.mark('}') {
                let name = self.name()?;
                item.push((name, self.value()));
            }
            items.push(item);
        }
        Ok(Text::List(items))
    }
}
