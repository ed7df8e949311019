//! Messages as one line of text, and back: printing and parsing are inverse.
//!
//! ```text
//! SET_VRING_NUM index=0 num=256
//! SET_VRING_ENABLE! index=0 num=1                     `!` is need_reply
//! reply to GET_FEATURES value=0x175007e46
//! CONFIG_CHANGE_MSG! on backend                       the back-end channel
//! SET_MEM_TABLE regions=[{guest_address=0x0 size=0xc0000 user_address=0x7f00 mmap_offset=0x0}]
//! GET_FEATURES as vring_state index=0 num=0           a payload that the fields alone would not tell
//! SET_OWNER header_flags=0x11                         flags beyond version 1, reply and need_reply
//! raw request=99 flags=0x1 payload=0011aabb           an unassigned id; `raw on backend …` likewise
//! SET_OWNER conn_id=3                                 in a dialect whose headers have one; `conn_id=anonymous`: all ones
//! ```
//!
//! Numbers are decimal, `0x` or `0b`, `_` separates digits; bytes are hex digits, `-` and `:` may separate them. Padding
//! and reserved bits are left out while they are zero, and a field that is not given is zero.

mod parser;

use std::fmt::{self, Write as _};
use std::str::FromStr;

use super::dialect::{Channel, Dialect};
use super::fields::{FieldError, Value};
use super::header::flags;
use super::layout::{FieldSpec, show_all};
use super::message::Message;
use super::names::UnknownName;
use super::payload::Layout;

pub use parser::parse;

/// Why a line is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotationError {
    /// Something else was expected at this place.
    #[error("expected {expected}, found {}", found(.at))]
    Expected {
        /// What.
        expected: &'static str,
        /// The rest of the line from there.
        at: String,
    },
    /// The message has an unknown name.
    #[error(transparent)]
    Name(#[from] UnknownName),
    /// A field is unknown, or its value does not fit.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// No layout of that name.
    #[error("no payload layout is called {name:?}{}", super::suggest::did_you_mean(.suggestions))]
    Layout {
        /// What was written.
        name: String,
        /// Layouts with a similar name.
        suggestions: Vec<&'static str>,
    },
    /// `header_flags` and the words before it say different things.
    #[error("header_flags={flags:#x} contradicts {word:?}: a reply has 0x4, `!` is 0x8")]
    Flags {
        /// The number given.
        flags: u32,
        /// The words that it contradicts.
        word: &'static str,
    },
}

fn found(rest: &str) -> String {
    if rest.is_empty() {
        "the end of the line".to_owned()
    } else {
        format!("{rest:?}")
    }
}

/// Prints a message on one line.
pub fn print(dialect: Dialect, message: &Message) -> String {
    let mut line = String::new();
    print_to(&mut line, dialect, message);
    line
}

/// The same, at the end of a line.
pub fn print_to(line: &mut String, dialect: Dialect, message: &Message) {
    let layout = message.payload.layout();
    let fields = message.payload.fields();
    let known = message.spec_in(dialect);

    match known {
        Some(spec) => {
            line.push_str(if message.is_reply() { "reply to " } else { "" });
            line.push_str(spec.name);
            line.push_str(if message.needs_reply() { "!" } else { "" });
            line.push_str(on(message.channel));
        }
        None => {
            let (request, flags) = (message.request, message.flags);
            write!(line, "raw{} request={request} flags={flags:#x}", on(message.channel))
                .expect("a String takes any text");
        }
    }

    let names = fields
        .iter()
        .filter(|(name, value)| is_shown(layout.field(name), value))
        .map(|(name, _)| *name);
    let told = match known {
        Some(spec) if message.is_reply() => spec.reply_layout(names),
        Some(spec) => spec.request_layout(names),
        None => Layout::Raw,
    };
    if told != layout {
        line.push_str(" as ");
        line.push_str(layout.name());
    }
    show_all(line, " ", layout.fields(), &fields);
    if dialect.has_conn_id() {
        match message.conn_id {
            Dialect::ANONYMOUS => line.push_str(" conn_id=anonymous"),
            id => write!(line, " conn_id={id}").expect("a String takes any text"),
        }
    }
    let words = flags::REPLY | flags::NEED_REPLY;
    if known.is_some() && message.flags & !words != dialect.version() {
        write!(line, " header_flags={:#x}", message.flags).expect("a String takes any text");
    }
}

fn on(channel: Channel) -> &'static str {
    match channel {
        Channel::Main => "",
        Channel::Backend => " on backend",
    }
}

fn is_shown(spec: Option<&FieldSpec>, value: &Value) -> bool {
    !(value.is_zero() && spec.is_some_and(|spec| spec.quiet))
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&print(self.dialect, self))
    }
}

impl FromStr for Message {
    type Err = NotationError;

    fn from_str(line: &str) -> Result<Self, NotationError> {
        parse(Dialect::VhostUser, line)
    }
}
