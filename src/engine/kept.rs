//! What is kept of a run besides its files: the conversation on each of its links, as a trace.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use super::Environment;
use super::record::header;
use super::run::Run;
use crate::trace::file::{Made, Writer};
use crate::trace::{Event, EventKind, LinkId, PeerId};

impl Run<'_> {
    /// Writes `trace-N.yaml` for each link N into the folder of the run: what was sent on it, and what became of its two processes.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn keep_traces(&self, environment: &Environment, folder: &Path) -> io::Result<()> {
        if self.dialect.is_pci() {
            // a trace is of vhost-user
            return Ok(());
        }
        for (number, link) in self.links.iter().enumerate() {
            let ends = [link.front, link.back];
            let made = Made {
                by: concat!("vuh ", env!("CARGO_PKG_VERSION")).to_owned(),
                command: format!("vuh run {} --keep kept", self.plan.id),
                at: None,
                note: Some(format!("link {number} of the scenario {}", self.plan.id)),
            };
            let peers = ends.map(|peer| &self.peers[peer.0].spec);
            let path = folder.join(format!("trace-{number}.yaml"));
            let mut writer = Writer::new(BufWriter::new(File::create(path)?), header(made, peers, environment))?;
            for event in self.timeline.events() {
                if let Some(event) = on_link(event, LinkId(number), ends) {
                    writer.event(&event)?;
                }
            }
            writer.finish()?;
        }
        Ok(())
    }
}

/// An event as a trace of one link tells it, if it belongs there.
fn on_link(event: &Event, link: LinkId, ends: [PeerId; 2]) -> Option<Event> {
    let end = event.peer.and_then(|peer| ends.iter().position(|end| *end == peer));
    let belongs = match event.link {
        Some(other) => other == link,
        None => end.is_some(),
    };
    // steps of the harness are not part of a trace, nor is what a scenario did to a message
    if !belongs || matches!(event.kind, EventKind::Step { .. } | EventKind::Meddled { .. }) {
        return None;
    }
    Some(Event {
        peer: end.map(PeerId),
        link: event.link.map(|_| LinkId(0)),
        ..event.clone()
    })
}
