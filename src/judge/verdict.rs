//! What a run of a scenario came to.

use std::fmt;

use serde::Serialize;

use crate::sys::child::Exit;

/// The verdict on one scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything asserted held.
    Pass,
    /// Something did not.
    Fail(FailKind),
    /// The peer does not offer what the scenario needs; probed, not assumed.
    Unsupported,
    /// It was not run.
    Skipped,
    /// It failed as its `expected_fail` says.
    ExpectedFail,
    /// It passed although its `expected_fail` says otherwise.
    UnexpectedPass,
    /// It ran, and nothing can be said.
    Inconclusive,
}

/// The kinds of failure that a user treats differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailKind {
    /// A peer did something else than expected.
    Wrong,
    /// A peer's process died.
    Crash,
    /// Something that was waited for did not come in time.
    Hang,
    /// A process, socket or other resource was left behind.
    Leak,
    /// A peer could not be started at all.
    Start,
    /// The scenario asks for something that cannot be, which showed only when it ran.
    Script,
    /// The harness itself is at fault.
    Harness,
}

impl FailKind {
    /// What it is that a process ended in this way when it should not have.
    pub fn of_end(exit: Exit) -> Self {
        if exit.is_crash() {
            FailKind::Crash
        } else {
            FailKind::Wrong
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Verdict::Pass => "pass",
            Verdict::Fail(_) => "fail",
            Verdict::Unsupported => "unsupported",
            Verdict::Skipped => "skipped",
            Verdict::ExpectedFail => "expected-fail",
            Verdict::UnexpectedPass => "unexpected-pass",
            Verdict::Inconclusive => "inconclusive",
        })
    }
}

impl fmt::Display for FailKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            FailKind::Wrong => "wrong",
            FailKind::Crash => "crash",
            FailKind::Hang => "hang",
            FailKind::Leak => "leak",
            FailKind::Start => "start",
            FailKind::Script => "script",
            FailKind::Harness => "harness",
        })
    }
}
