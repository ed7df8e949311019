//! Messages as one line of text, and back.

use std::fmt;
use std::str::FromStr;

use super::dialect::Dialect;
use super::message::Message;

/// Why a line is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotationError {
    /// Something else was expected at this place.
    #[error("expected {expected} at {at:?}")]
    Expected {
        /// What.
        expected: &'static str,
        /// The rest of the line from there.
        at: String,
    },
}

/// Prints a message.
pub fn print(_dialect: Dialect, _message: &Message) -> String {
    String::new()
}

/// Parses a message.
pub fn parse(_dialect: Dialect, line: &str) -> Result<Message, NotationError> {
    Err(NotationError::Expected {
        expected: "a message",
        at: line.to_owned(),
    })
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&print(Dialect::VhostUser, self))
    }
}

impl FromStr for Message {
    type Err = NotationError;

    fn from_str(line: &str) -> Result<Self, NotationError> {
        parse(Dialect::VhostUser, line)
    }
}
