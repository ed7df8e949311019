//! PCI configuration space by ports 0xcf8 and 0xcfc: finding the virtio device, placing its BARs, reading its capabilities.

use std::collections::BTreeMap;

use super::error::QemuError;
use super::qtest::{Batch, QtestClient, Slot};

const ADDRESS_PORT: u16 = 0xcf8;
const DATA_PORT: u16 = 0xcfc;
const SLOTS: u8 = 32;
const VIRTIO_VENDOR: u32 = 0x1af4;
/// Modern virtio devices: 0x1040 plus the virtio id.
const MODERN_IDS: std::ops::RangeInclusive<u32> = 0x1040..=0x107f;
/// Above all RAM below 4 GiB (at most 3 GiB), below the APICs.
const BAR_WINDOW: std::ops::Range<u64> = 0xe000_0000..0xf000_0000;
const CONFIG_BYTES: u16 = 256;
/// More capabilities than fit the configuration space mean a loop in the list.
const CAPABILITIES_MAX: usize = 48;
const VENDOR_CAPABILITY: u8 = 0x09;

/// A register window in guest-physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) base: u64,
    pub(super) len: u32,
}

/// A virtio device whose registers are mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PciDevice {
    pub(super) slot: u8,
    pub(super) virtio_id: u16,
    pub(super) common: Window,
    pub(super) notify: Window,
    /// Bytes from one ring's notify register to the next.
    pub(super) notify_step: u32,
    pub(super) isr: Window,
    /// Absent if the device has no configuration.
    pub(super) config: Option<Window>,
}

/// Finds the first modern virtio device of bus 0 and maps it. A machine reset forgets BARs, so this is done before each use.
pub(super) fn find(client: &mut QtestClient) -> Result<PciDevice, QemuError> {
    let (slot, id) = scan(client)?;
    let image = read_image(client, slot)?;
    let capabilities = parse_capabilities(slot, &image)?;
    let bars = place_bars(client, slot, &image, &capabilities)?;
    let window = |kind: CapabilityKind| -> Result<Option<(Window, u32)>, QemuError> {
        let Some(found) = capabilities.iter().find(|capability| capability.kind == kind) else {
            return Ok(None);
        };
        let bar = bars[&found.bar];
        if u64::from(found.offset) + u64::from(found.len) > bar.size {
            return Err(bad(
                slot,
                format!("{kind:?} capability reaches beyond BAR {}", found.bar),
            ));
        }
        Ok(Some((
            Window {
                base: bar.base + u64::from(found.offset),
                len: found.len,
            },
            found.notify_step,
        )))
    };
    let need = |kind: CapabilityKind| window(kind)?.ok_or_else(|| bad(slot, format!("no {kind:?} capability")));
    let (notify, notify_step) = need(CapabilityKind::Notify)?;
    Ok(PciDevice {
        slot,
        virtio_id: (id - MODERN_IDS.start()) as u16,
        common: need(CapabilityKind::Common)?.0,
        notify,
        notify_step,
        isr: need(CapabilityKind::Isr)?.0,
        config: window(CapabilityKind::Device)?.map(|(window, _)| window),
    })
}

fn bad(slot: u8, what: String) -> QemuError {
    QemuError::BadDevice { slot, what }
}

fn select(batch: &mut Batch, slot: u8, register: u16) {
    batch.out32(
        ADDRESS_PORT,
        0x8000_0000 | u32::from(slot) << 11 | u32::from(register & 0xfc),
    );
}

fn config_read(batch: &mut Batch, slot: u8, register: u16) -> Slot {
    select(batch, slot, register);
    batch.in32(DATA_PORT)
}

fn config_write(batch: &mut Batch, slot: u8, register: u16, value: u32) {
    select(batch, slot, register);
    batch.out32(DATA_PORT, value);
}

/// The slot and PCI device id of the first modern virtio device.
fn scan(client: &mut QtestClient) -> Result<(u8, u32), QemuError> {
    let mut batch = Batch::default();
    let ids: Vec<_> = (0..SLOTS)
        .map(|slot| (slot, config_read(&mut batch, slot, 0)))
        .collect();
    let answers = client.run(batch)?;
    for (slot, id) in ids {
        let id = answers.number32(id)?;
        if id & 0xffff == VIRTIO_VENDOR && MODERN_IDS.contains(&(id >> 16)) {
            return Ok((slot, id >> 16));
        }
    }
    Err(QemuError::NoDevice { slots: SLOTS })
}

fn read_image(client: &mut QtestClient, slot: u8) -> Result<Vec<u8>, QemuError> {
    let mut batch = Batch::default();
    let words: Vec<_> = (0..CONFIG_BYTES)
        .step_by(4)
        .map(|register| config_read(&mut batch, slot, register))
        .collect();
    let answers = client.run(batch)?;
    let mut image = Vec::with_capacity(CONFIG_BYTES.into());
    for word in words {
        image.extend_from_slice(&answers.number32(word)?.to_le_bytes());
    }
    Ok(image)
}

/// `cfg_type` of virtio 1.x, 4.1.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CapabilityKind {
    Common,
    Notify,
    Isr,
    Device,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Capability {
    kind: CapabilityKind,
    bar: u8,
    offset: u32,
    len: u32,
    notify_step: u32,
}

fn parse_capabilities(slot: u8, image: &[u8]) -> Result<Vec<Capability>, QemuError> {
    let byte = |at: usize| image.get(at).copied().unwrap_or(0);
    let word = |at: usize| u32::from_le_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]);
    let mut found = Vec::new();
    let mut at = usize::from(byte(0x34) & 0xfc);
    for _ in 0..CAPABILITIES_MAX {
        if at == 0 {
            return Ok(found);
        }
        let kind = match byte(at + 3) {
            1 => Some(CapabilityKind::Common),
            2 => Some(CapabilityKind::Notify),
            3 => Some(CapabilityKind::Isr),
            4 => Some(CapabilityKind::Device),
            _ => None,
        };
        // BARs 6 and 7 are reserved: such capabilities are to be ignored.
        if let (VENDOR_CAPABILITY, Some(kind), bar @ 0..=5) = (byte(at), kind, byte(at + 4)) {
            let notify_step = if kind == CapabilityKind::Notify {
                word(at + 16)
            } else {
                0
            };
            found.push(Capability {
                kind,
                bar,
                offset: word(at + 8),
                len: word(at + 12),
                notify_step,
            });
        }
        at = usize::from(byte(at + 1) & 0xfc);
    }
    Err(bad(slot, "the capability list has no end".into()))
}

#[derive(Debug, Clone, Copy)]
struct Bar {
    base: u64,
    size: u64,
}

/// Sizes and places every BAR that a capability names, then lets the device decode memory and master the bus.
fn place_bars(
    client: &mut QtestClient,
    slot: u8,
    image: &[u8],
    capabilities: &[Capability],
) -> Result<BTreeMap<u8, Bar>, QemuError> {
    let mut batch = Batch::default();
    let mut asked = BTreeMap::new();
    for capability in capabilities {
        let bar = capability.bar;
        let register = 0x10 + 4 * u16::from(bar);
        let flags = image[usize::from(register)];
        if flags & 1 != 0 {
            return Err(bad(slot, format!("BAR {bar} is not memory")));
        }
        let wide = flags & 6 == 4;
        if wide && bar == 5 {
            return Err(bad(slot, "BAR 5 claims to be 64 bits wide".into()));
        }
        asked.entry(bar).or_insert_with(|| {
            config_write(&mut batch, slot, register, u32::MAX);
            (register, wide, config_read(&mut batch, slot, register))
        });
    }
    let answers = client.run(batch)?;

    let mut batch = Batch::default();
    let mut bars = BTreeMap::new();
    let mut next = BAR_WINDOW.start;
    for (bar, (register, wide, mask)) in asked {
        let size = u64::from(!(answers.number32(mask)? & !0xf)) + 1;
        if !size.is_power_of_two() || size < 16 {
            return Err(bad(slot, format!("BAR {bar} has size {size:#x}")));
        }
        let base = next.next_multiple_of(size);
        next = base + size;
        if next > BAR_WINDOW.end {
            return Err(bad(slot, format!("BAR {bar} of {size:#x} bytes does not fit")));
        }
        config_write(&mut batch, slot, register, base as u32);
        if wide {
            config_write(&mut batch, slot, register + 4, 0);
        }
        bars.insert(bar, Bar { base, size });
    }
    config_write(&mut batch, slot, 0x04, 0x0006);
    client.run(batch)?;
    Ok(bars)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(capabilities: &[(usize, [u8; 20])]) -> Vec<u8> {
        let mut image = vec![0; 256];
        image[0x34] = capabilities[0].0 as u8;
        for (at, bytes) in capabilities {
            image[*at..at + 20].copy_from_slice(bytes);
        }
        image
    }

    /// Broken: the driver writes to the wrong registers.
    #[test]
    fn capabilities_are_read() {
        let notify = [9, 0x60, 20, 2, 4, 0, 0, 0, 0, 0x30, 0, 0, 0, 0x10, 0, 0, 4, 0, 0, 0];
        let msix = [0x11, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let found = parse_capabilities(2, &image(&[(0x40, notify), (0x60, msix)])).unwrap();
        assert_eq!(
            found,
            [Capability {
                kind: CapabilityKind::Notify,
                bar: 4,
                offset: 0x3000,
                len: 0x1000,
                notify_step: 4
            }]
        );
    }

    /// Broken: a device whose capability list bites its tail hangs the harness.
    #[test]
    fn a_circular_capability_list_ends() {
        let mut circle = [0; 20];
        circle[0] = 5;
        circle[1] = 0x40;
        assert!(matches!(
            parse_capabilities(2, &image(&[(0x40, circle)])),
            Err(QemuError::BadDevice { slot: 2, .. })
        ));
    }
}
