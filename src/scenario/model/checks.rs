//! What must hold over the whole timeline.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::scalar::{Decimal, FieldMatch, Num};
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
    /// How many frames a second a delivery with a name came to, or how many of those that another one came to.
    Rate(Box<RateCheck>),
    /// What a process wrote to its standard error.
    Stderr(StderrCheck),
}

/// `rate`. It fails if the rate is outside of its limits for certain, and is inconclusive if that cannot be told.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateCheck {
    /// The delivery.
    pub of: At<String>,
    /// The least it may come to: frames a second, or with `ratio_to` a number like `0.9`.
    #[serde(default)]
    pub at_least: Option<At<Decimal>>,
    /// The most it may come to.
    #[serde(default)]
    pub at_most: Option<At<Decimal>>,
    /// The delivery that was its `baseline`.
    #[serde(default)]
    pub ratio_to: Option<At<String>>,
    /// What must have been negotiated for the rate to mean anything.
    #[serde(default)]
    pub negotiated: Option<NegotiatedCheck>,
    /// The two deliveries may differ in what was negotiated: that is what is compared.
    #[serde(default)]
    pub unlike: bool,
}

/// What must have been negotiated.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NegotiatedCheck {
    /// Descriptors of the ring.
    #[serde(default)]
    pub ring_size: Option<At<Num>>,
    /// The rings are packed, or not.
    #[serde(default)]
    pub packed: Option<At<bool>>,
    /// Feature bits by name.
    #[serde(default)]
    pub features: Vec<At<String>>,
    /// Memory is on huge pages, or not.
    #[serde(default)]
    pub huge_pages: Option<At<bool>>,
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
