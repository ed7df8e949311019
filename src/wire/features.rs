//! Names of feature bits: those of the protocol, and those of virtio and vhost for a kind of device.

use std::fmt;
use std::str::FromStr;

use super::dialect::Dialect;
use super::protocol::ProtocolFeature;
use super::suggest;
use super::table::pci;

/// The kind of device, as far as it decides the meaning of feature bits 0 to 23.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeviceKind {
    /// A network card.
    Net,
    /// A disk.
    Blk,
    /// Anything else.
    #[default]
    Other,
}

/// A virtio or vhost feature bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureBit {
    /// The bit number.
    pub bit: u8,
    /// The name without prefix.
    pub name: &'static str,
    /// Other names.
    pub aliases: &'static [&'static str],
}

impl FeatureBit {
    /// The bit as a mask.
    pub const fn mask(&self) -> u64 {
        1 << self.bit
    }
}

/// A name that no feature bit has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {what} feature is called {name:?}{}", suggest::did_you_mean(.suggestions))]
pub struct UnknownFeature {
    /// Which table was searched.
    pub what: &'static str,
    /// What was written.
    pub name: String,
    /// Features with a similar name.
    pub suggestions: Vec<&'static str>,
}

/// VHOST_F_LOG_ALL: the back-end logs its writes.
pub const LOG_ALL: u64 = 1 << 26;
/// VHOST_USER_F_PROTOCOL_FEATURES: there are protocol features.
pub const PROTOCOL_FEATURES: u64 = 1 << 30;
/// VIRTIO_RING_F_INDIRECT_DESC.
pub const INDIRECT_DESC: u64 = 1 << 28;
/// VIRTIO_RING_F_EVENT_IDX.
pub const EVENT_IDX: u64 = 1 << 29;
/// VIRTIO_F_VERSION_1.
pub const VERSION_1: u64 = 1 << 32;
/// VIRTIO_F_ACCESS_PLATFORM, formerly IOMMU_PLATFORM.
pub const ACCESS_PLATFORM: u64 = 1 << 33;
/// VIRTIO_F_RING_PACKED.
pub const RING_PACKED: u64 = 1 << 34;
/// VIRTIO_F_IN_ORDER: the device returns chains in their order, and may tell of the last of many only.
pub const IN_ORDER: u64 = 1 << 35;

macro_rules! bits {
    ($( $bit:literal $name:literal $($alias:literal)* ),* $(,)?) => {
        &[ $( FeatureBit { bit: $bit, name: $name, aliases: &[$($alias),*] }, )* ]
    };
}

const COMMON: &[FeatureBit] = bits![
    24 "NOTIFY_ON_EMPTY", 26 "LOG_ALL", 27 "ANY_LAYOUT", 28 "INDIRECT_DESC", 29 "EVENT_IDX", 30 "PROTOCOL_FEATURES",
    32 "VERSION_1", 33 "ACCESS_PLATFORM" "IOMMU_PLATFORM", 34 "RING_PACKED", 35 "IN_ORDER", 36 "ORDER_PLATFORM",
    37 "SR_IOV", 38 "NOTIFICATION_DATA", 39 "NOTIF_CONFIG_DATA", 40 "RING_RESET", 41 "ADMIN_VQ",
];

const NET: &[FeatureBit] = bits![
    0 "CSUM", 1 "GUEST_CSUM", 2 "CTRL_GUEST_OFFLOADS", 3 "MTU", 5 "MAC", 6 "GSO", 7 "GUEST_TSO4", 8 "GUEST_TSO6",
    9 "GUEST_ECN", 10 "GUEST_UFO", 11 "HOST_TSO4", 12 "HOST_TSO6", 13 "HOST_ECN", 14 "HOST_UFO", 15 "MRG_RXBUF",
    16 "STATUS", 17 "CTRL_VQ", 18 "CTRL_RX", 19 "CTRL_VLAN", 20 "CTRL_RX_EXTRA", 21 "GUEST_ANNOUNCE", 22 "MQ",
    23 "CTRL_MAC_ADDR", 52 "VQ_NOTF_COAL", 53 "NOTF_COAL", 54 "GUEST_USO4", 55 "GUEST_USO6", 56 "HOST_USO",
    57 "HASH_REPORT", 59 "GUEST_HDRLEN", 60 "RSS", 61 "RSC_EXT", 62 "STANDBY", 63 "SPEED_DUPLEX",
];

const BLK: &[FeatureBit] = bits![
    0 "BARRIER", 1 "SIZE_MAX", 2 "SEG_MAX", 4 "GEOMETRY", 5 "RO", 6 "BLK_SIZE", 7 "SCSI", 9 "FLUSH" "WCE",
    10 "TOPOLOGY", 11 "CONFIG_WCE", 12 "MQ", 13 "DISCARD", 14 "WRITE_ZEROES", 15 "LIFETIME", 16 "SECURE_ERASE",
    17 "ZONED",
];

/// The named virtio and vhost feature bits of a kind of device: its own ones, then those of every device.
pub fn virtio_bits(device: DeviceKind) -> impl Iterator<Item = &'static FeatureBit> + Clone {
    let own: &[FeatureBit] = match device {
        DeviceKind::Net => NET,
        DeviceKind::Blk => BLK,
        DeviceKind::Other => &[],
    };
    own.iter().chain(COMMON)
}

/// The bit number of a virtio or vhost feature: its name with or without `VIRTIO_F_`, `VIRTIO_NET_F_`, `VIRTIO_BLK_F_`,
/// `VIRTIO_RING_F_`, `VHOST_F_` or `VHOST_USER_F_`, or `bit33`.
pub fn parse_virtio(device: DeviceKind, name: &str) -> Result<u8, UnknownFeature> {
    const PREFIXES: &[&str] = &["VIRTIO_F_", "VIRTIO_RING_F_", "VHOST_USER_F_", "VHOST_F_"];
    let upper = name.trim().to_ascii_uppercase();
    let own = match device {
        DeviceKind::Net => "VIRTIO_NET_F_",
        DeviceKind::Blk => "VIRTIO_BLK_F_",
        DeviceKind::Other => "VIRTIO_F_",
    };
    let short = PREFIXES
        .iter()
        .chain([&own])
        .find_map(|prefix| upper.strip_prefix(prefix))
        .unwrap_or(&upper);
    if let Some(bit) = numbered(short) {
        return Ok(bit);
    }
    let found = virtio_bits(device).find(|bit| bit.name == short || bit.aliases.contains(&short));
    found.map(|bit| bit.bit).ok_or_else(|| {
        let names = virtio_bits(device).flat_map(|bit| std::iter::once(bit.name).chain(bit.aliases.iter().copied()));
        UnknownFeature {
            what: "virtio",
            name: name.to_owned(),
            suggestions: suggest::similar(short, names),
        }
    })
}

/// The bit number of a protocol feature: its current or old name with or without `VHOST_USER_PROTOCOL_F_`, or `bit24`.
pub fn parse_protocol(name: &str) -> Result<u8, UnknownFeature> {
    let upper = name.trim().to_ascii_uppercase();
    let short = upper.strip_prefix("VHOST_USER_PROTOCOL_F_").unwrap_or(&upper);
    if let Some(bit) = numbered(short) {
        return Ok(bit);
    }
    let all = ProtocolFeature::ALL.iter();
    let found = all
        .clone()
        .find(|feature| feature.name() == short || feature.aliases().contains(&short));
    found.map(|feature| feature.bit()).ok_or_else(|| {
        let names = all.flat_map(|feature| std::iter::once(feature.name()).chain(feature.aliases().iter().copied()));
        UnknownFeature {
            what: "protocol",
            name: name.to_owned(),
            suggestions: suggest::similar(short, names),
        }
    })
}

impl FromStr for ProtocolFeature {
    type Err = UnknownFeature;

    fn from_str(name: &str) -> Result<Self, UnknownFeature> {
        let unassigned = || UnknownFeature {
            what: "protocol",
            name: name.to_owned(),
            suggestions: Vec::new(),
        };
        Self::from_bit(parse_protocol(name)?).ok_or_else(unassigned)
    }
}

/// Names for the bits of a protocol feature word: `MQ|REPLY_ACK|bit40`, or `none`.
pub fn describe_protocol(value: u64) -> String {
    describe_protocol_in(Dialect::VhostUser, value)
}

/// The bit number of a protocol feature in a dialect, which may have another meaning for it.
pub fn parse_protocol_in(dialect: Dialect, name: &str) -> Result<u8, UnknownFeature> {
    pci::protocol_bit(dialect, name).map_or_else(|| parse_protocol(name), Ok)
}

/// Names for the bits of a protocol feature word in a dialect.
pub fn describe_protocol_in(dialect: Dialect, value: u64) -> String {
    describe(value, |bit| {
        let own = pci::protocol_bit_name(dialect, bit);
        own.or_else(|| ProtocolFeature::from_bit(bit).map(ProtocolFeature::name))
    })
}

/// Names for the bits of a virtio feature word of a kind of device, likewise.
pub fn describe_virtio(device: DeviceKind, value: u64) -> String {
    describe(value, |bit| {
        virtio_bits(device)
            .find(|known| known.bit == bit)
            .map(|known| known.name)
    })
}

/// Names of all set bits, lowest first, joined by `|`; `bit40` for one without a name.
pub fn describe(value: u64, name: impl Fn(u8) -> Option<&'static str>) -> String {
    let set = (0..64u8).filter(|bit| value >> bit & 1 != 0);
    let names: Vec<String> = set
        .map(|bit| name(bit).map_or_else(|| format!("bit{bit}"), str::to_owned))
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join("|")
    }
}

fn numbered(short: &str) -> Option<u8> {
    short.strip_prefix("BIT")?.parse().ok().filter(|bit| *bit < 64)
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Net => "net",
            Self::Blk => "blk",
            Self::Other => "other",
        })
    }
}
