//! The vhost-user devices QEMU knows, as one table: what each is called, how it hangs on its socket, which properties it has.
//!
//! A new device is a new row. Names and defaults are those of QEMU 10.0 (`-device NAME,help`).

use std::borrow::Cow;

use super::error::QemuError;

/// A property's value. Typed, because QMP `device_add` takes no strings for numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `on` or `off`.
    Bool(bool),
    /// A number.
    Int(u64),
    /// Text.
    Text(Cow<'static, str>),
}

impl Value {
    /// As QMP takes it.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Bool(on) => (*on).into(),
            Self::Int(number) => (*number).into(),
            Self::Text(text) => text.as_ref().into(),
        }
    }
}

/// As the command line takes it: a comma inside a value is doubled.
impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(on) => f.write_str(if *on { "on" } else { "off" }),
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(&text.replace(',', ",,")),
        }
    }
}

/// One `-device` property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its value.
    pub value: Value,
}

impl Property {
    /// A property from a name and a value.
    pub fn new(name: impl Into<Cow<'static, str>>, value: Value) -> Self {
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
    /// Properties that it gets unless the configuration sets them.
    pub fixed: &'static [Property],
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

impl QemuDevice {
    /// The `-device` properties: the table's, then the configuration's, which replace those of the same name.
    ///
    /// # Errors
    /// [`QemuError::Config`] if the table has no way to set what the configuration asks for.
    pub(super) fn effective_properties(&self) -> Result<Vec<Property>, QemuError> {
        let kind = self.kind;
        let mut properties = kind.fixed.to_vec();
        let queues = u64::from(self.queues);
        match (kind.attachment, kind.queues_property) {
            // Two rings a pair, one for control, one vector for configuration changes.
            (Attachment::Netdev, _) => properties.extend([
                Property::new("mq", Value::Bool(queues > 1)),
                Property::new("vectors", Value::Int(2 * queues + 2)),
            ]),
            (_, Some(name)) => properties.push(Property::new(name, Value::Int(queues))),
            (Attachment::Chardev, None) if self.queues != kind.default_queues => {
                return Err(QemuError::Config {
                    what: format!("the number of queues of {} cannot be set", kind.name),
                });
            }
            (_, None) => {}
        }
        if let Some(size) = self.ring_size {
            if kind.ring_size_properties.is_empty() {
                return Err(QemuError::Config {
                    what: format!("the ring size of {} cannot be set", kind.name),
                });
            }
            let sizes = kind.ring_size_properties.iter();
            properties.extend(sizes.map(|name| Property::new(*name, Value::Int(size.into()))));
        }
        for property in &self.properties {
            match properties.iter_mut().find(|present| present.name == property.name) {
                Some(present) => present.value.clone_from(&property.value),
                None => properties.push(property.clone()),
            }
        }
        Ok(properties)
    }
}

/// Without it these devices start as transitional ones, with a legacy interface in front.
const MODERN: Property = Property {
    name: Cow::Borrowed("disable-legacy"),
    value: Value::Text(Cow::Borrowed("on")),
};
/// No option ROM: nothing would run it, and loading it costs start-up time.
const NO_ROM: Property = Property {
    name: Cow::Borrowed("romfile"),
    value: Value::Text(Cow::Borrowed("")),
};
const MAC: Property = Property {
    name: Cow::Borrowed("mac"),
    value: Value::Text(Cow::Borrowed("52:54:00:12:34:56")),
};
const TAG: Property = Property {
    name: Cow::Borrowed("tag"),
    value: Value::Text(Cow::Borrowed("fs0")),
};

/// The common row, from which the others deviate.
const PLAIN: DeviceKind = DeviceKind {
    name: "",
    qemu_name: "",
    attachment: Attachment::Chardev,
    virtio_id: 0,
    default_queues: 1,
    queues_property: None,
    ring_size_properties: &[],
    fixed: &[],
};

const TABLE: &[DeviceKind] = &[
    DeviceKind {
        name: "net",
        qemu_name: "virtio-net-pci",
        attachment: Attachment::Netdev,
        virtio_id: 1,
        ring_size_properties: &["rx_queue_size", "tx_queue_size"],
        fixed: &[MODERN, MAC, NO_ROM],
        ..PLAIN
    },
    DeviceKind {
        name: "blk",
        qemu_name: "vhost-user-blk-pci",
        virtio_id: 2,
        queues_property: Some("num-queues"),
        ring_size_properties: &["queue-size"],
        fixed: &[MODERN],
        ..PLAIN
    },
    DeviceKind {
        name: "rng",
        qemu_name: "vhost-user-rng-pci",
        virtio_id: 4,
        ..PLAIN
    },
    DeviceKind {
        name: "scsi",
        qemu_name: "vhost-user-scsi-pci",
        virtio_id: 8,
        queues_property: Some("num_queues"),
        ring_size_properties: &["virtqueue_size"],
        fixed: &[MODERN],
        ..PLAIN
    },
    DeviceKind {
        name: "gpu",
        qemu_name: "vhost-user-gpu-pci",
        virtio_id: 16,
        ..PLAIN
    },
    DeviceKind {
        name: "input",
        qemu_name: "vhost-user-input-pci",
        virtio_id: 18,
        ..PLAIN
    },
    DeviceKind {
        name: "vsock",
        qemu_name: "vhost-user-vsock-pci",
        virtio_id: 19,
        fixed: &[MODERN],
        ..PLAIN
    },
    DeviceKind {
        name: "crypto",
        qemu_name: "virtio-crypto-pci",
        attachment: Attachment::Cryptodev,
        virtio_id: 20,
        ..PLAIN
    },
    DeviceKind {
        name: "snd",
        qemu_name: "vhost-user-snd-pci",
        virtio_id: 25,
        ..PLAIN
    },
    DeviceKind {
        name: "fs",
        qemu_name: "vhost-user-fs-pci",
        virtio_id: 26,
        queues_property: Some("num-request-queues"),
        ring_size_properties: &["queue-size"],
        fixed: &[TAG],
        ..PLAIN
    },
    DeviceKind {
        name: "i2c",
        qemu_name: "vhost-user-i2c-pci",
        virtio_id: 34,
        ..PLAIN
    },
    DeviceKind {
        name: "gpio",
        qemu_name: "vhost-user-gpio-pci",
        virtio_id: 41,
        ..PLAIN
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken: a scenario's own property appears twice or loses against the table's.
    #[test]
    fn configured_properties_replace_the_table() {
        let mut device = QemuDevice::named("net").unwrap();
        device.queues = 2;
        device
            .properties
            .push(Property::new("mac", Value::Text("52:54:00:00:00:01".into())));
        device.properties.push(Property::new("host_mtu", Value::Int(1400)));
        let text: Vec<_> = device
            .effective_properties()
            .unwrap()
            .iter()
            .map(|p| format!("{}={}", p.name, p.value))
            .collect();
        assert_eq!(
            text.join(" "),
            "disable-legacy=on mac=52:54:00:00:00:01 romfile= mq=on vectors=6 host_mtu=1400"
        );
    }

    /// Broken: a setting that QEMU has no option for is dropped in silence.
    #[test]
    fn what_cannot_be_set_is_refused() {
        let mut device = QemuDevice::named("rng").unwrap();
        device.ring_size = Some(64);
        assert!(matches!(device.effective_properties(), Err(QemuError::Config { .. })));
        let mut device = QemuDevice::named("vhost-user-rng-pci").unwrap();
        device.queues = 3;
        assert!(matches!(device.effective_properties(), Err(QemuError::Config { .. })));
    }
}
