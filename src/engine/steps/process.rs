//! Steps that act on processes.

use nix::sys::signal::Signal;

use super::super::failure::{Result, Stop};
use super::super::patterns::parse_signal;
use super::super::run::Run;
use super::Waiting;
use crate::scenario::Diagnostic;
use crate::scenario::model::Kill;
use crate::scenario::span::Span;
use crate::trace::{LinkId, PeerId};
use crate::wire::Party;

impl Run<'_> {
    pub(super) fn kill_step(&mut self, kill: &Kill, span: Span) -> Result<()> {
        let peer = self.peer(&kill.peer.value, kill.peer.span)?;
        let signal = match &kill.signal {
            None => Signal::SIGKILL,
            Some(name) => parse_signal(&name.value).ok_or_else(|| {
                Stop::script(Diagnostic::error(format!("`{}` is no signal", name.value)).at(name.span))
            })?,
        };
        self.disturb_link(peer);
        self.signal_process(peer, signal, span)
    }

    pub(super) fn begin_restart(&mut self, peer: PeerId, span: Span) -> Result<Waiting> {
        self.disturb_link(peer);
        if !self.peers[peer.0].has_ended() && self.peers[peer.0].child.is_some() {
            self.signal_process(peer, Signal::SIGKILL, span)?;
        }
        Ok(Waiting::Restart(peer))
    }

    pub(super) fn poll_restart(&mut self, peer: PeerId, span: Span) -> Result<bool> {
        if self.peers[peer.0].child.is_some() && !self.peers[peer.0].has_ended() {
            return Ok(false);
        }
        // its end of the connection has to be seen as closed before the new process takes its place
        if let Some(link) = self.peers[peer.0].link {
            let party = self.peers[peer.0].spec.party;
            if self.links[link.0].main.end_ref(party).is_open() {
                return Ok(false);
            }
        }
        self.start(peer, span)?;
        Ok(true)
    }

    /// Which end of a connection is missing, in words.
    pub(super) fn missing_end(&self, link: LinkId) -> String {
        let missing = [Party::FrontEnd, Party::BackEnd]
            .into_iter()
            .filter(|party| !self.links[link.0].main.end_ref(*party).is_open())
            .map(|party| {
                let spec = &self.peers[self.links[link.0].peer(party).0].spec;
                format!("`{}` ({})", spec.name, spec.label)
            });
        let missing: Vec<String> = missing.collect();
        format!("a connection of {}", missing.join(" and "))
    }
}
