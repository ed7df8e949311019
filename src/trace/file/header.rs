//! What stands before the events: what made the trace, in which dialect it is, and who the peers were.

use std::fmt::Write as _;

use serde::Deserialize;

use super::scalar::{bounded, scalar};
use super::{VERSION, Wrong};
use crate::wire::{DeviceKind, Dialect, Party};

/// Peers that a header may name.
const PEERS_MAX: usize = 64;

/// The header of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// What made it.
    pub made: Made,
    /// The dialect of its messages.
    pub dialect: Dialect,
    /// The device, if it is known: it gives feature bits their names.
    pub device: Option<String>,
    /// The peers, in the order of their ids.
    pub peers: Vec<PeerNote>,
    /// Events before the first one that were not kept.
    pub skipped: u64,
}

/// What made a trace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Made {
    /// Program and version.
    pub by: String,
    /// Its command line.
    pub command: String,
    /// When, if somebody cared to say.
    pub at: Option<String>,
    /// What else a reader should know: what was cut out, what is to be seen.
    pub note: Option<String>,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerNote {
    /// Its name in the events.
    pub name: String,
    /// Its role.
    pub party: Party,
    /// Who played it: a catalogue name, a command line, a socket path.
    pub player: String,
    /// The version of the program, as it says itself.
    pub version: Option<String>,
}

impl Header {
    /// The device's kind, for the names of feature bits.
    pub fn device_kind(&self) -> DeviceKind {
        match self.device.as_deref() {
            Some("net") => DeviceKind::Net,
            Some("blk") => DeviceKind::Blk,
            _ => DeviceKind::Other,
        }
    }

    /// The names of the peers.
    pub fn names(&self) -> Vec<String> {
        self.peers.iter().map(|p| p.name.clone()).collect()
    }

    /// The header as text, up to and with the line before the first event.
    pub fn print(&self) -> String {
        let Self {
            made,
            dialect,
            device,
            peers,
            skipped,
        } = self;
        let mut text = format!("trace: {VERSION}\nmade:\n");
        let mut line = |indent: &str, key: &str, value: &str| {
            writeln!(text, "{indent}{key}: {value}").expect("a String takes any text");
        };
        line("  ", "by", &bounded(&made.by));
        line("  ", "command", &bounded(&made.command));
        for (key, value) in [("at", &made.at), ("note", &made.note)] {
            if let Some(value) = value {
                line("  ", key, &bounded(value));
            }
        }
        line("", "dialect", dialect.name());
        if let Some(device) = device {
            line("", "device", &scalar(device));
        }
        if *skipped > 0 {
            line("", "skipped", &skipped.to_string());
        }
        text.push_str("peers:\n");
        for peer in peers {
            let key = match peer.party {
                Party::FrontEnd => "frontend",
                Party::BackEnd => "backend",
            };
            let version = peer.version.iter().map(|v| format!(", version: {}", bounded(v)));
            let version: String = version.collect();
            let (name, player) = (scalar(&peer.name), bounded(&peer.player));
            writeln!(text, "- {{name: {name}, {key}: {player}{version}}}").expect("a String takes any text");
        }
        text.push_str("events:\n");
        text
    }

    /// Reads what [`Header::print`] wrote, or somebody wrote by hand. The `events:` line is not part of `text`.
    ///
    /// # Errors
    /// What is wrong, with its line and column in `text`.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, usize, Wrong)> {
        let at = |error: &serde_yaml::Error| {
            let place = error.location();
            place.map_or((1, 1), |l| (narrow(l.line()), narrow(l.column())))
        };
        let yaml = |error: serde_yaml::Error| {
            let (line, column) = at(&error);
            (line, column, Wrong::Yaml(super::reader::message(&error)))
        };
        // the version first: everything else may be another in another version
        let version: Version = serde_yaml::from_str(text).map_err(yaml)?;
        if version.trace != VERSION {
            return Err((1, 1, Wrong::Version(version.trace)));
        }
        let file: File = serde_yaml::from_str(text).map_err(yaml)?;
        let other = |wrong: Wrong| (1, 1, wrong);
        let dialect: Dialect = match file.dialect.parse() {
            Ok(dialect) => dialect,
            Err(_) => return Err(other(Wrong::Dialect(file.dialect))),
        };
        if file.peers.len() > PEERS_MAX {
            return Err(other(Wrong::Peers(file.peers.len())));
        }
        let peer = |peer: Peer| {
            let (party, player) = match (peer.frontend, peer.backend) {
                (Some(player), None) => (Party::FrontEnd, player),
                (None, Some(player)) => (Party::BackEnd, player),
                _ => return Err(other(Wrong::Role(peer.name))),
            };
            Ok(PeerNote {
                name: peer.name,
                party,
                player,
                version: peer.version,
            })
        };
        Ok(Self {
            made: Made {
                by: file.made.by,
                command: file.made.command,
                at: file.made.at,
                note: file.made.note,
            },
            dialect,
            device: file.device,
            peers: file.peers.into_iter().map(peer).collect::<Result<_, _>>()?,
            skipped: file.skipped,
        })
    }
}

fn narrow(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[derive(Deserialize)]
struct Version {
    trace: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "trace")]
    _trace: u32,
    made: FileMade,
    dialect: String,
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    skipped: u64,
    #[serde(default)]
    peers: Vec<Peer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileMade {
    by: String,
    command: String,
    #[serde(default)]
    at: Option<String>,
    #[serde(default)]
    note: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Peer {
    name: String,
    #[serde(default)]
    frontend: Option<String>,
    #[serde(default)]
    backend: Option<String>,
    #[serde(default)]
    version: Option<String>,
}
