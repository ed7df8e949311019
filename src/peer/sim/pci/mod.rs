//! The simulated vhost-pci server: a slave with listening sockets and many masters, each of which gets a device made of its
//! memory. A state machine without I/O, like its neighbours; connections are told apart by who accepted them, and never by
//! what a header says.
//!
//! `words` is what messages mean in either proposal, `table` which are taken in which state, `entry` what is known of one
//! master, `server` what becomes of messages, `life` how devices come and go, `pool` the memory that is mapped, `bar` how
//! large a device is, `fault` the deviations that a peer can be given, `docs` the page of it all.

mod bar;
pub mod docs;
mod entry;
mod fault;
mod life;
mod pool;
mod server;
mod table;
#[cfg(test)]
mod tests;
mod words;

pub use bar::{Bar, FIXED_BYTES, Generation, METADATA_BYTES, Overflow};
pub use fault::{Fault, Faults, Role};
pub use server::{Command, Halves, PciServer};
pub use table::{Cell, Permit, Profile, ROWS, Row, State, permit};
pub use words::Word;

use crate::wire::{Dialect, ProtocolFeature, features, pci};

/// Virtio ids that the server serves: net, scsi, gpu, input. Net carries data, the others are set up only.
pub const KINDS: [u16; 4] = [NET, 8, 16, 18];
/// The virtio id of a network device.
pub const NET: u16 = 1;

/// What net devices offer on top: MRG_RXBUF, CTRL_VQ, MQ.
const F_NET: u64 = 1 << 15 | 1 << 17 | 1 << 22;

/// How connections are taken to be of one VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Grouping {
    /// By the UUID that each says.
    #[default]
    Uuid,
    /// By the listening socket, of which each VM has one.
    Listener,
}

/// How a server looks.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// What it speaks.
    pub dialect: Dialect,
    /// Whose rule the size of a BAR follows.
    pub generation: Generation,
    /// How much order it asks for.
    pub profile: Profile,
    /// Its listening sockets by their chardevs' names.
    pub servers: Vec<String>,
    /// Masters at a time on one socket.
    pub clients: usize,
    /// The memory of a VM is mapped once.
    pub sharing: bool,
    /// How connections of a VM are known.
    pub grouping: Grouping,
    /// The device is there before its master is, as in the last proposal; otherwise the socket makes it.
    pub device_first: bool,
    /// Rings of a device.
    pub queues: u16,
    /// Its deviations.
    pub faults: Faults,
}

impl ServerConfig {
    /// Feature bits of a kind of device; without a kind only that there are protocol features.
    fn features(kind: Option<u16>) -> u64 {
        match kind {
            None => features::PROTOCOL_FEATURES,
            Some(NET) => features::PROTOCOL_FEATURES | features::VERSION_1 | F_NET,
            Some(_) => features::PROTOCOL_FEATURES | features::VERSION_1,
        }
    }

    /// Protocol feature bits that it offers.
    fn protocol_features() -> u64 {
        ProtocolFeature::Mq.mask() | ProtocolFeature::ReplyAck.mask() | pci::F_VHOST_PCI | pci::F_DEV_INFO
    }
}
