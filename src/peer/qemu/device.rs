//! The vhost-user devices QEMU knows, as one table: what each is called, how it hangs on its socket, which properties it has.
//!
//! A new device is a new row. Names and defaults are those of QEMU 10.0 (`-device NAME,help`).

/// A property's value. Typed, because QMP `device_add` takes no strings for numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `on` or `off`.
    Bool(bool),
    /// A number.
    Int(u64),
    /// Text.
    Text(String),
}

/// One `-device` property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

impl Property {
    /// A property from a name and a value.
    pub fn new(name: impl Into<String>, value: Value) -> Self {
        Self {
            name: name.into(),
            value,
        }
    }
}

/// How a device is tied to its chardev.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// `-netdev vhost-user,chardev=…` and `netdev=` on the device.
    Netdev,
    /// `chardev=` on the device itself.
    Chardev,
    /// `-object cryptodev-vhost-user,chardev=…` and `cryptodev=` on the device.
    Cryptodev,
}

/// One row of the device table.
#[derive(Debug)]
pub struct DeviceKind {
    /// The short name used in scenarios: `net`, `blk`, …
    pub name: &'static str,
    /// QEMU's device name.
    pub qemu_name: &'static str,
    /// How it is tied to the chardev.
    pub attachment: Attachment,
    /// Virtio device id; the PCI id is 0x1040 more.
    pub virtio_id: u16,
    /// Queues (queue pairs for net) if the configuration does not say.
    pub default_queues: u16,
    /// Property that takes the number of queues, if it is settable on the device.
    pub queues_property: Option<&'static str>,
    /// Properties that take the ring size.
    pub ring_size_properties: &'static [&'static str],
    /// Text properties that the device wants.
    pub fixed: &'static [(&'static str, &'static str)],
}

/// A device as configured: a row of the table and what deviates from it.
#[derive(Debug, Clone)]
pub struct QemuDevice {
    /// The row.
    pub kind: &'static DeviceKind,
    /// Queues; queue pairs for net.
    pub queues: u16,
    /// The ring size property; QEMU's default if `None`. (The driver may place smaller rings.)
    pub ring_size: Option<u16>,
    /// Further `-device` properties (`host_mtu`, `mac`, `iommu_platform`, …); they replace the table's.
    pub properties: Vec<Property>,
}

impl QemuDevice {
    /// The device with this short name, as the table has it. `None` if there is no such device.
    pub fn named(name: &str) -> Option<Self> {
        let kind = TABLE.iter().find(|kind| kind.name == name || kind.qemu_name == name)?;
        Some(Self {
            kind,
            queues: kind.default_queues,
            ring_size: None,
            properties: Vec::new(),
        })
    }

    /// Every device in the table.
    pub fn table() -> &'static [DeviceKind] {
        TABLE
    }
}

const TABLE: &[DeviceKind] = &[];
