//! What a Linux guest is told to do.

use super::super::failure::{Result, Stop};
use super::super::run::Run;
use super::Waiting;
use crate::peer::qemu::Command;
use crate::scenario::Diagnostic;
use crate::scenario::model::{GuestAction, GuestStep};
use crate::trace::PeerId;

impl Run<'_> {
    pub(super) fn begin_guest(&mut self, step: &GuestStep) -> Result<Waiting> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let action = step.action.value;
        if action == GuestAction::Unbind {
            self.disturb_link(peer);
        }
        let line = match action {
            GuestAction::Features => "features",
            GuestAction::Counts => "counts",
            GuestAction::Unbind => "unbind",
            GuestAction::Bind => "bind",
        };
        self.submit_qemu(peer, Command::Guest(line.to_owned()), step.action.span)
    }

    /// The guest has done it, and says this.
    pub(super) fn check_guest(&mut self, step: &GuestStep, peer: PeerId, said: &str) -> Result<()> {
        if step.action.value == GuestAction::Bind {
            self.is_set_up(peer);
        }
        match &step.is {
            Some(wanted) if wanted.value != said => {
                let diagnostic = Diagnostic::error("the guest says something else")
                    .at(wanted.span)
                    .expected_actual(&wanted.value, said);
                Err(Stop::wrong(diagnostic))
            }
            _ => Ok(()),
        }
    }
}
