//! A front-end's memory copied by the dirty log while a delivery writes to it.

use super::super::failure::{Result, Stop, StopKind};
use super::super::run::Run;
use super::{Waiting, not_front};
use crate::peer::sim::front::FrontError;
use crate::scenario::Diagnostic;
use crate::scenario::model::{MigrationAction, MigrationStep};
use crate::scenario::span::Span;
use crate::trace::{EventKind, PeerId};

impl Run<'_> {
    pub(super) fn begin_migration(&mut self, step: &MigrationStep, span: Span) -> Result<Waiting> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        if step.action.value == MigrationAction::Begin {
            let begun = self.with_rings(peer, |sim| sim.front().map(|front| front.begin_migration()));
            return match begun.ok_or_else(|| not_front(span))? {
                Ok(()) => Ok(Waiting::Front { peer, setup: false }),
                Err(error @ FrontError::NoLog) => Err(Box::new(Stop {
                    kind: StopKind::Unsupported,
                    diagnostic: Diagnostic::error(error.to_string()).at(span),
                })),
                Err(error) => Err(Stop::wrong(Diagnostic::error(error.to_string()).at(span))),
            };
        }
        let wrong = |error: FrontError| Stop::wrong(Diagnostic::error(error.to_string()).at(span));
        let front = self.peers[peer.0].sim.front().ok_or_else(|| not_front(span))?;
        let pages = front.copy_dirty().map_err(wrong)?;
        if step.action.value == MigrationAction::Copy {
            return Ok(Waiting::Nothing);
        }
        if let Some(byte) = front.unlogged().map_err(wrong)? {
            let diagnostic =
                Diagnostic::error("the back-end has written to a page that is not in the dirty log").at(span);
            let (address, is, copied) = (byte.address, byte.is, byte.copied);
            let diagnostic = diagnostic.expected_actual(
                "every page that was written logged since it was copied",
                format!("{is:#04x} at guest address {address:#x}, and {copied:#04x} in the copy"),
            );
            return Err(Stop::wrong(diagnostic));
        }
        let link = self.peers[peer.0].link;
        let what = format!("{pages} dirty pages were copied, and the copy is what memory is");
        self.record(Some(peer), link, EventKind::Data { what });
        Ok(Waiting::Nothing)
    }

    /// The back-end logs from now on.
    pub(super) fn copy_all(&mut self, peer: PeerId, span: Span) -> Result<()> {
        let copied = self.peers[peer.0].sim.front().map(|front| front.copy_all());
        match copied {
            Some(Err(error)) => Err(Stop::wrong(Diagnostic::error(error.to_string()).at(span))),
            _ => Ok(()),
        }
    }
}
