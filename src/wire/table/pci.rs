//! The requests of the vhost-pci proposals: those of vhost-user that existed then, with the same ids, and their own.
//!
//! The proposals take ids and bits that vhost-user gave to something else later: 20 is NET_SET_MTU there, 21
//! SET_BACKEND_REQ_FD, protocol bit 4 NET_MTU, bit 5 BACKEND_REQ. So a number means something only in its dialect.
//!
//! What the first proposal does not number is numbered here, next to what it does: GET_CONN_ID is 20 and
//! SET_PEER_CONNECTION 22, around SET_DEV_INFO, which is 21 in its text; protocol bit 4, the first that was free, is
//! VHOST_PCI; bit 5 is the DEV_INFO that its review asked for.

use super::super::dialect::{Channel, Dialect};
use super::super::payload::Layout::{DevInfo, U64};
use super::MessageSpec;
use super::MessageSpec as M;
use super::ReplyKind::Always;
use super::frontend;

/// Ids of the first proposal that vhost-user has not, or has for something else.
pub mod g1 {
    /// Asks for the connection id. The number is ours.
    pub const GET_CONN_ID: u32 = 20;
    /// Says which device it is and whose.
    pub const SET_DEV_INFO: u32 = 21;
    /// Turns the connection of two devices off or on, or creates the slave's. The number is ours.
    pub const SET_PEER_CONNECTION: u32 = 22;
}

/// Ids of the second proposal, likewise.
pub mod g2 {
    /// Says which device it is.
    pub const SET_DEVICE_ID: u32 = 20;
    /// Starts or stops the slave's device.
    pub const SET_VHOST_PCI: u32 = 21;
}

/// VHOST_USER_PROTOCOL_F_VHOST_PCI, in both proposals (the number is ours in the first).
pub const F_VHOST_PCI: u64 = 1 << 4;
/// The bit of SET_DEV_INFO (the first proposal's review asks for one, the number is ours) and of SET_DEVICE_ID.
pub const F_DEV_INFO: u64 = 1 << 5;

/// The values of SET_PEER_CONNECTION.
pub mod connection {
    /// The devices are to part.
    pub const OFF: u64 = 0;
    /// They are to go on.
    pub const ON: u64 = 1;
    /// The slave's device is to be created.
    pub const INIT: u64 = 2;
}

/// The values of SET_VHOST_PCI.
pub mod vhost_pci {
    /// The slave's device is to be created.
    pub const START: u64 = 0;
    /// It is to go.
    pub const STOP: u64 = 1;
}

/// Names of the protocol bits that differ from those of vhost-user, by dialect.
pub fn protocol_bit(dialect: Dialect, name: &str) -> Option<u8> {
    let upper = name.trim().to_ascii_uppercase();
    let short = upper.strip_prefix("VHOST_USER_PROTOCOL_F_").unwrap_or(&upper);
    [4, 5]
        .into_iter()
        .find(|bit| protocol_bit_name(dialect, *bit) == Some(short))
}

/// The name of such a bit.
pub fn protocol_bit_name(dialect: Dialect, bit: u8) -> Option<&'static str> {
    match (dialect, bit) {
        (Dialect::VhostPci | Dialect::VhostPciG2, 4) => Some("VHOST_PCI"),
        (Dialect::VhostPci, 5) => Some("DEV_INFO"),
        (Dialect::VhostPciG2, 5) => Some("SET_DEVICE_ID"),
        _ => None,
    }
}

/// Requests of vhost-user that were there when vhost-pci was proposed: GET_FEATURES to SEND_RARP.
const INHERITED: usize = frontend::id::SEND_RARP as usize;

/// The table of the first proposal.
pub(super) const G1: &[MessageSpec] = &table::<3, 22>(Dialect::VhostPci, G1_OWN);
/// The table of the second.
pub(super) const G2: &[MessageSpec] = &table::<2, 21>(Dialect::VhostPciG2, G2_OWN);

const G1_OWN: [MessageSpec; 3] = [
    M::device("Asks for the connection id. The only request of a master that has none.")
        .replies(Always, &[U64])
        .since("vhost-pci server code, 2016; the number is ours")
        .named(Channel::Main, g1::GET_CONN_ID, "GET_CONN_ID"),
    M::device("Says which virtio device it is and of which VM. Once a connection, before memory and rings.")
        .carries(&[DevInfo])
        .needs("VHOST_PCI or DEV_INFO negotiated", &[])
        .since("vhost-pci v1, 2016")
        .named(Channel::Main, g1::SET_DEV_INFO, "SET_DEV_INFO"),
    M::device("0 off, 1 on, 2 init: the slave creates its device. From the slave: it wants to part.")
        .carries(&[U64])
        .needs("VHOST_PCI negotiated", &[])
        .both_ways()
        .since("vhost-pci v1, 2016; the number is ours")
        .named(Channel::Main, g1::SET_PEER_CONNECTION, "SET_PEER_CONNECTION"),
];

const G2_OWN: [MessageSpec; 2] = [
    M::device("Says which virtio device it is.")
        .carries(&[U64])
        .needs("SET_DEVICE_ID negotiated", &[])
        .since("vhost-pci v0.1, December 2016")
        .named(Channel::Main, g2::SET_DEVICE_ID, "SET_DEVICE_ID"),
    M::device("The low byte: 0 start, which creates the slave's device; 1 stop.")
        .carries(&[U64])
        .needs("VHOST_PCI negotiated", &[])
        .since("vhost-pci v0.1, December 2016")
        .named(Channel::Main, g2::SET_VHOST_PCI, "SET_VHOST_PCI"),
];

/// The inherited requests, then a proposal's own.
const fn table<const OWN: usize, const ALL: usize>(dialect: Dialect, own: [MessageSpec; OWN]) -> [MessageSpec; ALL] {
    let mut all = [own[0]; ALL];
    let mut at = 0;
    while at < ALL {
        let spec = if at < INHERITED {
            frontend::REQUESTS[at]
        } else {
            own[at - INHERITED]
        };
        let spec = spec.said_in(dialect);
        // the slave tells the master of features that its driver gave up
        all[at] = if spec.id == frontend::id::SET_FEATURES {
            spec.both_ways()
        } else {
            spec
        };
        at += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::{all, spec};
    use super::*;

    /// Broken: an id of a proposal means what it means in vhost-user, or the other way round.
    #[test]
    fn the_same_number_means_another_thing_in_each_dialect() {
        let name = |dialect, id| spec(dialect, Channel::Main, id).map(|spec| spec.name);
        let names = |id| Dialect::ALL.map(|dialect| name(dialect, id).unwrap_or("-"));
        assert_eq!(names(20), ["NET_SET_MTU", "GET_CONN_ID", "SET_DEVICE_ID"]);
        assert_eq!(names(21), ["SET_BACKEND_REQ_FD", "SET_DEV_INFO", "SET_VHOST_PCI"]);
        assert_eq!(names(22), ["IOTLB_MSG", "SET_PEER_CONNECTION", "-"]);
        assert_eq!(names(2), ["SET_FEATURES"; 3]);
    }

    /// Broken: a row says that it is of another dialect, or stands twice.
    #[test]
    fn the_tables_are_in_order() {
        for dialect in Dialect::ALL {
            let ids: Vec<u32> = all(dialect, Channel::Main).iter().map(|spec| spec.id).collect();
            assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
            assert!(all(dialect, Channel::Main).iter().all(|spec| spec.dialect == dialect));
        }
        let both = |dialect| -> Vec<&str> {
            let specs = all(dialect, Channel::Main).iter();
            specs.filter(|spec| spec.from_both).map(|spec| spec.name).collect()
        };
        assert_eq!(both(Dialect::VhostUser), Vec::<&str>::new());
        assert_eq!(both(Dialect::VhostPci), ["SET_FEATURES", "SET_PEER_CONNECTION"]);
        assert_eq!(both(Dialect::VhostPciG2), ["SET_FEATURES"]);
    }
}
