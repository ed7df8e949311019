//! What a scenario says of vhost-pci peers.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::scalar::{Bytes, Node, Num};
use super::super::span::At;

/// A peer of vhost-pci: of `backend: vhost-pci-server` its sockets and rules, of a simulated front-end its VM and device.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PciDecl {
    /// Server: its listening sockets, by the names of their chardevs. Default: one, called `a`.
    #[serde(default)]
    pub servers: Option<At<Vec<At<String>>>>,
    /// Server: how much order it asks for; default `liberal`.
    #[serde(default)]
    pub profile: Option<At<PciProfile>>,
    /// Server: whose rule the size of a BAR follows; default g1, in the second dialect g2.
    #[serde(default)]
    pub generation: Option<At<PciGeneration>>,
    /// Server: masters at a time on one socket. Default 1024, in the second dialect 1.
    #[serde(default)]
    pub clients: Option<At<Num>>,
    /// Server: the memory of a VM is mapped once for all its devices; default true.
    #[serde(default)]
    pub sharing: Option<At<bool>>,
    /// Server: how connections of one VM are known; default `uuid`.
    #[serde(default)]
    pub grouping: Option<At<PciGrouping>>,
    /// Server: what makes the device; default `socket`.
    #[serde(default)]
    pub owner: Option<At<PciOwner>>,
    /// Master: the UUID of its VM. Masters of one VM share its memory. Default: none.
    #[serde(default)]
    pub vm: Option<At<Bytes>>,
    /// Master: the virtio id of its device; default 1, net.
    #[serde(default)]
    pub virtio_id: Option<At<Num>>,
    /// Named deviations of this peer.
    #[serde(default)]
    pub faults: Vec<At<String>>,
}

/// How much order a server asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PciProfile {
    /// What does no harm is let through, and noted.
    Liberal,
    /// The order of the proposal.
    Strict,
}

/// The published generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PciGeneration {
    /// Twice the memory.
    G1,
    /// Likewise.
    G2,
    /// As much as there is.
    G3,
    /// 64 GiB, and a page of metadata first.
    G4,
}

/// How connections of one VM are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PciGrouping {
    /// By the UUID that each says.
    Uuid,
    /// By the socket: each VM has one of its own.
    Listener,
}

/// What makes a server's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PciOwner {
    /// The socket: it comes with its master and goes with it.
    Socket,
    /// It is there, and has a socket.
    Device,
}

/// `pci`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PciStep {
    /// The server.
    pub peer: At<String>,
    /// What is done.
    pub command: At<PciCommand>,
    /// `acknowledge` and `disconnect`: the master on the other side.
    #[serde(default)]
    pub to: Option<At<String>>,
    /// `listen` and `close`: the socket.
    #[serde(default)]
    pub socket: Option<At<String>>,
    /// `acknowledge`: the features that the slave's driver wants.
    #[serde(default)]
    pub features: Option<At<Node>>,
    /// `acknowledge`: only the lower 32 bits are written.
    #[serde(default)]
    pub low_half: bool,
    /// The command has to be refused.
    #[serde(default)]
    pub refused: bool,
}

/// What an administrator or the slave's guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PciCommand {
    /// Another socket listens.
    Listen,
    /// The slave's driver acknowledges features.
    Acknowledge,
    /// The server asks a master to part.
    Disconnect,
    /// A socket goes, and its devices with it.
    Close,
    /// All sockets go.
    Quit,
    /// The server tells what it holds: `device: holds`.
    Audit,
}
