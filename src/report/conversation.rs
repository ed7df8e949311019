//! A trace for people: one line an event, aligned, messages in the notation of the scenarios.

use super::style::harmless;
use crate::trace::file::Header;
use crate::trace::{Event, EventKind};
use crate::wire::features::{describe_protocol_in, describe_virtio};
use crate::wire::{Channel, Message, Payload, id};

/// How lines are made.
#[derive(Debug, Clone)]
pub struct Lines {
    header: Header,
    width: usize,
    /// Several links: each line says which.
    links: bool,
    /// Feature bits by name.
    names: bool,
}

impl Lines {
    /// Lines of a trace with this header.
    pub fn new(header: &Header, links: bool, names: bool) -> Self {
        let widths = header.peers.iter().map(|p| p.name.chars().count());
        Self {
            width: widths.max().unwrap_or(0),
            header: header.clone(),
            links,
            names,
        }
    }

    /// What made the trace, and who takes part.
    pub fn title(&self) -> Vec<String> {
        let made = &self.header.made;
        let mut lines = vec![format!("# {}", made.command)];
        lines.extend(made.note.iter().map(|note| format!("# {note}")));
        for peer in &self.header.peers {
            let version = peer.version.as_ref().map_or(String::new(), |v| format!(", {v}"));
            lines.push(format!(
                "# {} is the {}: {}{version}",
                peer.name, peer.party, peer.player
            ));
        }
        if self.header.skipped > 0 {
            lines.push(format!("# {} events before these were not kept", self.header.skipped));
        }
        lines.iter().map(|line| harmless(line)).collect()
    }

    /// The line of an event.
    pub fn line(&self, event: &Event) -> String {
        let peer = event.peer.and_then(|p| self.header.peers.get(p.0));
        let who = peer.map_or("", |p| p.name.as_str());
        let link = match event.link {
            Some(link) if self.links => format!("{:>3}  ", link.0),
            None if self.links => "     ".to_owned(),
            _ => String::new(),
        };
        let names = match &event.kind {
            EventKind::Message { message, .. } if self.names => self.feature_names(message),
            _ => String::new(),
        };
        let line = format!(
            "{:>11.3}  {link}{who:width$}  {}{names}",
            event.at.ms(),
            event.kind,
            width = self.width
        );
        harmless(line.trim_end())
    }

    fn feature_names(&self, message: &Message) -> String {
        let (Channel::Main, Payload::U64(bits)) = (message.channel, &message.payload) else {
            return String::new();
        };
        let replied = message.is_reply();
        let names = match message.request {
            id::frontend::GET_FEATURES if replied => describe_virtio(self.header.device_kind(), *bits),
            id::frontend::SET_FEATURES if !replied => describe_virtio(self.header.device_kind(), *bits),
            id::frontend::GET_PROTOCOL_FEATURES if replied => describe_protocol_in(message.dialect, *bits),
            id::frontend::SET_PROTOCOL_FEATURES if !replied => describe_protocol_in(message.dialect, *bits),
            _ => return String::new(),
        };
        format!("  ({names})")
    }
}
