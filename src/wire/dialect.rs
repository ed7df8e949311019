//! Who speaks, on which socket, and in which dialect.

use std::fmt;
use std::str::FromStr;

/// A dialect of the protocol: it decides the header, the request ids and their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Dialect {
    /// vhost-user, version 1, with a header of 12 bytes.
    #[default]
    VhostUser,
    /// vhost-pci as first proposed (October and November 2016): version 2, a header of 20 bytes with a connection id, one
    /// server for many masters, requests of the slave on the main socket.
    VhostPci,
    /// vhost-pci as it came next (December 2016 and January 2017): the header of vhost-user, one master for one slave.
    VhostPciG2,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 3] = [Self::VhostUser, Self::VhostPci, Self::VhostPciG2];
    /// The connection id of a master that has not been given one.
    pub const ANONYMOUS: u64 = u64::MAX;

    /// `vhost-user`, `vhost-pci` or `vhost-pci-g2`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::VhostUser => "vhost-user",
            Self::VhostPci => "vhost-pci",
            Self::VhostPciG2 => "vhost-pci-g2",
        }
    }

    /// Bytes of a header on the wire.
    pub const fn header_len(self) -> usize {
        match self {
            Self::VhostUser | Self::VhostPciG2 => 12,
            Self::VhostPci => 20,
        }
    }

    /// The version that a header's flags carry.
    pub const fn version(self) -> u32 {
        match self {
            Self::VhostUser | Self::VhostPciG2 => 0x1,
            Self::VhostPci => 0x2,
        }
    }

    /// Whether headers have a connection id.
    pub const fn has_conn_id(self) -> bool {
        matches!(self, Self::VhostPci)
    }

    /// The connection id of whoever has none: all ones where headers have one, else 0.
    pub const fn no_conn_id(self) -> u64 {
        if self.has_conn_id() { Self::ANONYMOUS } else { 0 }
    }

    /// Whether it is one of the vhost-pci proposals.
    pub const fn is_pci(self) -> bool {
        !matches!(self, Self::VhostUser)
    }
}

impl FromStr for Dialect {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let found = Self::ALL.into_iter().find(|dialect| dialect.name() == word);
        found.ok_or_else(|| UnknownWord {
            word: word.to_owned(),
            what: "dialect",
            expected: "vhost-user, vhost-pci or vhost-pci-g2",
        })
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One of the two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Party {
    /// The side that owns the guest: QEMU, a VMM ("master" in older texts).
    FrontEnd,
    /// The side that implements the device ("slave" in older texts).
    BackEnd,
}

impl Party {
    /// The peer of this party.
    pub const fn other(self) -> Self {
        match self {
            Self::FrontEnd => Self::BackEnd,
            Self::BackEnd => Self::FrontEnd,
        }
    }

    /// `front-end` or `back-end`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FrontEnd => "front-end",
            Self::BackEnd => "back-end",
        }
    }
}

/// One of the two sockets between a front-end and a back-end. Each has its own request ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// The main socket: requests come from the front-end.
    Main,
    /// The back-end channel (SET_BACKEND_REQ_FD): requests come from the back-end.
    Backend,
}

impl Channel {
    /// Both channels.
    pub const ALL: [Self; 2] = [Self::Main, Self::Backend];

    /// The party whose requests travel on this channel; the other one replies.
    pub const fn requester(self) -> Party {
        match self {
            Self::Main => Party::FrontEnd,
            Self::Backend => Party::BackEnd,
        }
    }

    /// `main` or `backend`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Backend => "backend",
        }
    }
}

/// A word that names no dialect, party or channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not a {what}: expected {expected}")]
pub struct UnknownWord {
    /// What was written.
    pub word: String,
    /// What it should have named.
    pub what: &'static str,
    /// The accepted spellings.
    pub expected: &'static str,
}

impl FromStr for Party {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "front-end" | "frontend" | "master" => Ok(Self::FrontEnd),
            "back-end" | "backend" | "slave" => Ok(Self::BackEnd),
            _ => {
                let expected = "front-end (frontend, master) or back-end (backend, slave)";
                Err(UnknownWord {
                    word: word.to_owned(),
                    what: "party",
                    expected,
                })
            }
        }
    }
}

impl FromStr for Channel {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "main" => Ok(Self::Main),
            "backend" | "back-end" | "slave" => Ok(Self::Backend),
            _ => {
                let expected = "main or backend (back-end, slave)";
                Err(UnknownWord {
                    word: word.to_owned(),
                    what: "channel",
                    expected,
                })
            }
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
