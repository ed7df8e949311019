//! The exit codes, all of them, and what leads to each. The only place that knows a number.

use std::process::ExitCode;

use crate::engine::record::RecordError;
use crate::explore::ExploreError;
use crate::judge::verdict::FailKind;
use crate::report::ReportError;
use crate::suite::environment::EnvironmentError;
use crate::suite::summary::count;
use crate::suite::{SelectError, Summary};

use crate::trace::file::TraceError;

use super::fault::UsageError;

/// For `--help`; a test holds it against [`Exit`].
pub(super) const HELP: &str = "\
Exit codes:
    0  all that was selected passed (expected failures and some skips allowed)
    1  at least one failed
    2  wrong use of the command, or a report file that cannot be made
    3  a scenario, trace or catalogue file is invalid, or a scenario turned out to be when it ran
    4  nothing ran: no match, or all skipped or unsupported
    5  none failed, but some are inconclusive
    6  something passed that is known to fail
   10  a peer could not be started, and nothing else failed
   70  a fault of the harness itself, or results that could not be written
  130  interrupted";

/// How `vuh` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All that was selected passed; expected failures are allowed, and some may be skipped.
    Passed = 0,
    /// At least one failed.
    Failed = 1,
    /// Wrong use of the command.
    Usage = 2,
    /// A scenario or catalogue file is invalid.
    Invalid = 3,
    /// Nothing ran: no match, or all skipped or unsupported.
    NothingRan = 4,
    /// None failed, but of some nothing can be said.
    Inconclusive = 5,
    /// Something passed that is known to fail.
    UnexpectedPass = 6,
    /// A peer could not be started, and nothing else failed.
    NotStarted = 10,
    /// A fault of the harness itself, or results that could not be written.
    HarnessFault = 70,
    /// Stopped by a signal.
    Interrupted = 130,
}

impl Exit {
    /// What a run comes to. The worst wins.
    pub fn of(summary: &Summary) -> Self {
        let failed = summary.failed_count();
        let ran = summary.passed_count() + summary.expected_fail;
        debug_assert!(summary.selected >= ran + failed + count(&summary.skipped));
        if summary.interrupted {
            Exit::Interrupted
        } else if summary.failed_as(FailKind::Harness) > 0 {
            Exit::HarnessFault
        } else if summary.failed_as(FailKind::Script) > 0 {
            Exit::Invalid
        } else if failed > 0 && failed == summary.failed_as(FailKind::Start) {
            Exit::NotStarted
        } else if failed > 0 {
            Exit::Failed
        } else if summary.unexpected_pass > 0 {
            Exit::UnexpectedPass
        } else if summary.inconclusive > 0 {
            Exit::Inconclusive
        } else if ran == 0 {
            Exit::NothingRan
        } else {
            Exit::Passed
        }
    }

    /// What an error comes to.
    pub(super) fn of_error(error: &anyhow::Error) -> Self {
        if let Some(error) = error.downcast_ref::<SelectError>() {
            return match error {
                SelectError::NoMatch { .. } | SelectError::Empty { .. } | SelectError::Filtered { .. } => {
                    Exit::NothingRan
                }
                SelectError::Invalid(_) => Exit::Invalid,
                SelectError::NoPath { .. }
                | SelectError::NoRoot { .. }
                | SelectError::Unreadable { .. }
                | SelectError::TooMuch { .. }
                | SelectError::UnknownSetting { .. } => Exit::Usage,
            };
        }
        if let Some(error) = error.downcast_ref::<RecordError>() {
            return match error {
                RecordError::Missing(obstacle) if obstacle.fatal => Exit::NotStarted,
                RecordError::Missing(_) => Exit::NothingRan,
                RecordError::Peer(_) | RecordError::Listen { .. } => Exit::NotStarted,
                RecordError::Write { .. } | RecordError::Harness(_) => Exit::HarnessFault,
            };
        }
        if let Some(error) = error.downcast_ref::<ExploreError>() {
            return match error {
                ExploreError::Schedule { .. } => Exit::Usage,
                ExploreError::Scenario(_) => Exit::Invalid,
                ExploreError::Harness(_) => Exit::HarnessFault,
            };
        }
        if error.is::<TraceError>() {
            return Exit::Invalid;
        }
        match error.downcast_ref::<EnvironmentError>() {
            Some(EnvironmentError::Catalogue(_)) => return Exit::Invalid,
            Some(EnvironmentError::Peer { .. }) => return Exit::Usage,
            None => {}
        }
        match error.downcast_ref::<ReportError>() {
            Some(ReportError::Create { .. }) => Exit::Usage,
            // the results are lost for whoever reads the report, whatever they were
            Some(ReportError::Write { .. }) => Exit::HarnessFault,
            None if error.is::<UsageError>() => Exit::Usage,
            None => Exit::HarnessFault,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::summary::Group;

    fn summary() -> Summary {
        Summary {
            selected: 20,
            ..Summary::default()
        }
    }

    fn passed() -> Summary {
        Summary {
            passed: vec![("on simulated peers".into(), 1)],
            ..summary()
        }
    }

    fn failed(kinds: &[FailKind]) -> Summary {
        Summary {
            failed: kinds.iter().map(|kind| (*kind, 1)).collect(),
            ..passed()
        }
    }

    fn skipped() -> Vec<Group> {
        vec![Group {
            reason: "not here".into(),
            ids: vec!["a".into()],
        }]
    }

    /// Broken: a run turns green that should not, or two causes cannot be told apart.
    #[test]
    fn the_worst_wins() {
        assert_eq!(Exit::of(&passed()), Exit::Passed);
        assert_eq!(
            Exit::of(&Summary {
                skipped: skipped(),
                ..passed()
            }),
            Exit::Passed
        );
        assert_eq!(
            Exit::of(&Summary {
                expected_fail: 1,
                ..summary()
            }),
            Exit::Passed
        );
        assert_eq!(
            Exit::of(&Summary {
                skipped: skipped(),
                ..summary()
            }),
            Exit::NothingRan
        );
        assert_eq!(
            Exit::of(&Summary {
                unsupported: skipped(),
                ..summary()
            }),
            Exit::NothingRan
        );
        assert_eq!(
            Exit::of(&Summary {
                inconclusive: 1,
                ..passed()
            }),
            Exit::Inconclusive
        );
        assert_eq!(
            Exit::of(&Summary {
                inconclusive: 1,
                unexpected_pass: 1,
                ..passed()
            }),
            Exit::UnexpectedPass
        );
        assert_eq!(
            Exit::of(&Summary {
                unexpected_pass: 1,
                ..failed(&[FailKind::Leak])
            }),
            Exit::Failed
        );
        assert_eq!(Exit::of(&failed(&[FailKind::Start])), Exit::NotStarted);
        assert_eq!(Exit::of(&failed(&[FailKind::Start, FailKind::Hang])), Exit::Failed);
        assert_eq!(Exit::of(&failed(&[FailKind::Script, FailKind::Hang])), Exit::Invalid);
        assert_eq!(
            Exit::of(&failed(&[FailKind::Start, FailKind::Harness])),
            Exit::HarnessFault
        );
        assert_eq!(
            Exit::of(&Summary {
                interrupted: true,
                ..failed(&[FailKind::Wrong])
            }),
            Exit::Interrupted
        );
    }

    /// Broken: `--help` names other numbers than there are.
    #[test]
    fn the_help_lists_every_code() {
        let all = [
            Exit::Passed,
            Exit::Failed,
            Exit::Usage,
            Exit::Invalid,
            Exit::NothingRan,
            Exit::Inconclusive,
            Exit::UnexpectedPass,
            Exit::NotStarted,
            Exit::HarnessFault,
            Exit::Interrupted,
        ];
        let listed: Vec<u8> = HELP
            .lines()
            .skip(1)
            .map(|l| l.split_whitespace().next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(listed, all.map(|exit| exit as u8));
    }
}
