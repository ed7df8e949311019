//! What must hold over the whole timeline.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::scalar::FieldMatch;
use super::super::span::At;
use super::Pattern;

/// One check over the whole timeline: a map with one key.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Each of these is there, and the first of each comes after the first of the one before. Several `order` checks make a partial order.
    Order(Vec<PatternRef>),
    /// Whenever the last of these happens, all others have happened before.
    HappensBefore(Vec<PatternRef>),
    /// `exactly-one`: every request that wants an answer has exactly one, in order, and no answer is without request.
    Acks(At<AckRule>),
    /// How often something is there.
    Count(Box<Count>),
    /// It is never there.
    Never(Box<Pattern>),
    /// Each of these has happened in the rings, as far as the ring oracle could see: `ring-wrapped`, `indirect-used` and so on.
    Marks(Vec<At<String>>),
    /// What a process wrote to its standard error.
    Stderr(StderrCheck),
}

/// How replies are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AckRule {
    /// Every request that wants an answer has exactly one.
    ExactlyOne,
}

/// `count`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Of what.
    pub of: Pattern,
    /// How many.
    pub is: At<FieldMatch>,
}

/// `stderr`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StderrCheck {
    /// The peer.
    pub peer: At<String>,
    /// Text that must be there.
    #[serde(default)]
    pub contains: Option<At<String>>,
    /// Text that must not be there.
    #[serde(default)]
    pub lacks: Option<At<String>>,
}

/// A pattern, or the short form `NAME` or `reply to NAME`.
#[derive(Debug, Clone, Default)]
pub struct PatternRef(pub At<Pattern>);
