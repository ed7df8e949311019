//! Why a run stops before its end.

use crate::judge::verdict::FailKind;
use crate::scenario::Diagnostic;
use crate::scenario::span::Span;

/// A run that cannot go on.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) kind: StopKind,
    pub(super) diagnostic: Diagnostic,
}

/// The kinds of not going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopKind {
    Fail(FailKind),
    Unsupported,
    Interrupted,
    /// The clock ended it while something still went on.
    OutOfTime,
    /// What was measured scatters too much to say anything.
    Noise,
    /// What had to work for the case to mean something did not.
    Insane,
}

/// What steps return.
pub(super) type Result<T> = std::result::Result<T, Box<Stop>>;

impl Stop {
    /// A failure with its place.
    pub(super) fn fail(kind: FailKind, diagnostic: Diagnostic) -> Box<Self> {
        Box::new(Self {
            kind: StopKind::Fail(kind),
            diagnostic,
        })
    }

    /// A peer did something else than expected.
    pub(super) fn wrong(diagnostic: Diagnostic) -> Box<Self> {
        Self::fail(FailKind::Wrong, diagnostic)
    }

    /// The scenario is wrong, and no peer is to blame.
    pub(super) fn script(diagnostic: Diagnostic) -> Box<Self> {
        Self::fail(FailKind::Script, diagnostic)
    }

    /// The harness cannot do what the step says.
    pub(super) fn harness(message: impl Into<String>, span: Span) -> Box<Self> {
        Self::fail(FailKind::Harness, Diagnostic::error(message).at(span))
    }
}

/// A diagnostic of the language (an unbound reference, a wrong number) is a mistake of the scenario.
impl From<Diagnostic> for Box<Stop> {
    fn from(diagnostic: Diagnostic) -> Self {
        Stop::script(diagnostic)
    }
}
