//! A modern virtio-pci driver (virtio 1.x, 3.1 and 4.1) played over qtest.

use super::error::QemuError;
use super::exchange::{Chain, DriverReport, FeatureChoice, RingPlace, Used};
use super::pci::{self, PciDevice};
use super::qtest::{Batch, QtestClient};
use super::ring::{self, GuestBytes, Ring};

/// Registers of the common configuration (virtio 1.x, 4.1.4.3).
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub(super) const DEVICE_FEATURE: u64 = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub(super) const DRIVER_FEATURE: u64 = 0x0c;
    pub(super) const NUM_QUEUES: u64 = 0x12;
    pub(super) const STATUS: u64 = 0x14;
    pub(super) const QUEUE_SELECT: u64 = 0x16;
    pub(super) const QUEUE_SIZE: u64 = 0x18;
    pub(super) const QUEUE_ENABLE: u64 = 0x1c;
    pub(super) const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    pub(super) const QUEUE_DESC: u64 = 0x20;
    pub(super) const QUEUE_DRIVER: u64 = 0x28;
    pub(super) const QUEUE_DEVICE: u64 = 0x30;
}

const ACKNOWLEDGE: u8 = 0x01;
const DRIVER: u8 = 0x02;
const DRIVER_OK: u8 = 0x04;
const FEATURES_OK: u8 = 0x08;

pub(super) const F_EVENT_IDX: u64 = 1 << 29;
pub(super) const F_VERSION_1: u64 = 1 << 32;
const F_RING_PACKED: u64 = 1 << 34;
/// IN_ORDER, SR_IOV, NOTIFICATION_DATA, NOTIF_CONFIG_DATA, RING_RESET: this driver honours none of them. ACCESS_PLATFORM asks nothing
/// of it: it never switches an IOMMU on, so that the device's addresses are the guest's.
const UNSUPPORTED: u64 = 1 << 35 | 1 << 37 | 1 << 38 | 1 << 39 | 1 << 40;

/// Rings and buffers live here: above the firmware's and legacy holes, below the least memory that can be configured.
const ARENA: std::ops::Range<u64> = 16 << 20..64 << 20;
/// QEMU's VIRTIO_QUEUE_MAX.
const RINGS_MAX: u16 = 1024;
const RING_SIZE_MAX: u16 = 1024;

impl GuestBytes for QtestClient {
    fn read(&mut self, gpa: u64, buffer: &mut [u8]) -> Result<(), QemuError> {
        Self::read(self, gpa, buffer)
    }

    fn write_in_order(&mut self, writes: &[(u64, Vec<u8>)]) -> Result<(), QemuError> {
        let mut batch = Batch::default();
        for (gpa, bytes) in writes {
            batch.write(*gpa, bytes);
        }
        self.run(batch).map(drop)
    }
}

/// A ring and the address that kicks it.
#[derive(Debug)]
struct Kickable {
    ring: Ring,
    notify: u64,
}

/// The driver of one device.
#[derive(Debug)]
pub(super) struct VirtioPci {
    device: PciDevice,
    offered: u64,
    accepted: u64,
    status: u8,
    rings_max: u16,
    rings: Vec<Kickable>,
}

impl VirtioPci {
    /// Finds the device, resets it and negotiates features up to FEATURES_OK.
    pub(super) fn negotiate(client: &mut QtestClient, choice: FeatureChoice) -> Result<Self, QemuError> {
        let device = pci::find(client)?;
        let offered = Self::reset_and_greet(client, &device)?;
        let accepted = match choice {
            FeatureChoice::All => offered & !UNSUPPORTED,
            FeatureChoice::Mask(mask) => offered & (mask | F_VERSION_1),
            FeatureChoice::Exact(bits) => bits,
        };
        let at = device.common.base;
        let mut batch = Batch::default();
        for half in 0..2 {
            batch.write32(at + common::DRIVER_FEATURE_SELECT, half);
            batch.write32(at + common::DRIVER_FEATURE, (accepted >> (32 * half)) as u32);
        }
        batch.write8(at + common::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        let status = batch.read8(at + common::STATUS);
        // Only now: the number of rings depends on the features.
        let rings_max = batch.read16(at + common::NUM_QUEUES);
        let answers = client.run(batch)?;
        let status = answers.number(status)? as u8;
        if status & FEATURES_OK == 0 {
            return Err(QemuError::FeaturesRefused {
                offered,
                accepted,
                status,
            });
        }
        let rings_max = answers.number(rings_max)? as u16;
        if rings_max > RINGS_MAX {
            let what = format!("it claims {rings_max} rings, {RINGS_MAX} are possible");
            return Err(QemuError::BadDevice {
                slot: device.slot,
                what,
            });
        }
        Ok(Self {
            device,
            offered,
            accepted,
            status,
            rings_max,
            rings: Vec::new(),
        })
    }

    /// Status 0, read back; then ACKNOWLEDGE, DRIVER and the offered features, all in one round trip.
    fn reset_and_greet(client: &mut QtestClient, device: &PciDevice) -> Result<u64, QemuError> {
        let at = device.common.base;
        let mut batch = Batch::default();
        batch.write8(at + common::STATUS, 0);
        let status = batch.read8(at + common::STATUS);
        batch.write8(at + common::STATUS, ACKNOWLEDGE);
        batch.write8(at + common::STATUS, ACKNOWLEDGE | DRIVER);
        let halves = [0, 1].map(|half| {
            batch.write32(at + common::DEVICE_FEATURE_SELECT, half);
            batch.read32(at + common::DEVICE_FEATURE)
        });
        let answers = client.run(batch)?;
        check_reset(device, answers.number(status)? as u8)?;
        Ok(answers.number(halves[0])? | answers.number(halves[1])? << 32)
    }

    /// Places the rings and writes DRIVER_OK.
    pub(super) fn start(
        &mut self,
        client: &mut QtestClient,
        rings: Option<u16>,
        ring_size: u16,
    ) -> Result<(), QemuError> {
        if !ring_size.is_power_of_two() || ring_size > RING_SIZE_MAX {
            let what = format!("ring size {ring_size}: not a power of two up to {RING_SIZE_MAX}");
            return Err(QemuError::Config { what });
        }
        let count = rings.unwrap_or(self.rings_max);
        if count > self.rings_max {
            return Err(QemuError::NoRing {
                ring: count - 1,
                rings: self.rings_max,
            });
        }
        let at = self.device.common.base;
        let mut batch = Batch::default();
        let asked: Vec<_> = (0..count)
            .map(|index| {
                batch.write16(at + common::QUEUE_SELECT, index);
                (
                    batch.read16(at + common::QUEUE_SIZE),
                    batch.read16(at + common::QUEUE_NOTIFY_OFF),
                )
            })
            .collect();
        let answers = client.run(batch)?;

        let mut batch = Batch::default();
        let mut placed = Vec::with_capacity(count.into());
        let mut next = ARENA.start;
        for (index, (size_max, notify)) in (0..count).zip(asked) {
            let size = ring_size.min(answers.number(size_max)? as u16);
            let (place, end) = ring::lay_out(index, size, next);
            next = end;
            let notify = self.notify_address(index, answers.number(notify)?)?;
            place_ring(&mut batch, at, place);
            placed.push(Kickable {
                ring: Ring::new(place, self.has(F_RING_PACKED), self.has(F_EVENT_IDX)),
                notify,
            });
        }
        if next > ARENA.end {
            let what = format!("{count} rings of {ring_size} entries need more than the arena {ARENA:#x?}");
            return Err(QemuError::Config { what });
        }
        batch.write8(at + common::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        let status = batch.read8(at + common::STATUS);
        let answers = client.run(batch)?;
        self.status = answers.number(status)? as u8;
        self.rings = placed;
        Ok(())
    }

    fn notify_address(&self, ring: u16, offset: u64) -> Result<u64, QemuError> {
        let offset = offset * u64::from(self.device.notify_step);
        if offset + 2 > u64::from(self.device.notify.len) {
            let what = format!("notify register of ring {ring} lies outside its window");
            return Err(QemuError::BadDevice {
                slot: self.device.slot,
                what,
            });
        }
        Ok(self.device.notify.base + offset)
    }

    /// Writes status 0 and reads it back. The rings are gone.
    pub(super) fn reset(&mut self, client: &mut QtestClient) -> Result<u8, QemuError> {
        let at = self.device.common.base;
        let mut batch = Batch::default();
        batch.write8(at + common::STATUS, 0);
        let status = batch.read8(at + common::STATUS);
        self.rings.clear();
        self.status = client.run(batch)?.number(status)? as u8;
        check_reset(&self.device, self.status)?;
        Ok(self.status)
    }

    pub(super) fn read_status(&mut self, client: &mut QtestClient) -> Result<u8, QemuError> {
        read_byte(client, self.device.common.base + common::STATUS)
    }

    pub(super) fn read_isr(&mut self, client: &mut QtestClient) -> Result<u8, QemuError> {
        read_byte(client, self.device.isr.base)
    }

    pub(super) fn notify(&mut self, client: &mut QtestClient, ring: u16) -> Result<(), QemuError> {
        let address = self.kickable(ring)?.notify;
        let mut batch = Batch::default();
        batch.write16(address, ring);
        client.run(batch).map(drop)
    }

    /// Makes a chain available and returns its head; kicks if asked to.
    pub(super) fn submit(
        &mut self,
        client: &mut QtestClient,
        ring: u16,
        chain: &Chain,
        notify: bool,
    ) -> Result<u16, QemuError> {
        let head = self.kickable(ring)?.ring.submit(client, chain)?;
        if notify {
            self.notify(client, ring)?;
        }
        Ok(head)
    }

    /// What the device has used on a ring.
    pub(super) fn poll(&mut self, client: &mut QtestClient, ring: u16) -> Result<Vec<Used>, QemuError> {
        self.kickable(ring)?.ring.poll(client)
    }

    /// Device configuration bytes, one access a byte, as a guest reads a packed structure.
    pub(super) fn read_config(&self, client: &mut QtestClient, offset: u32, len: u32) -> Result<Vec<u8>, QemuError> {
        let base = self.config_address(offset, len)?;
        let mut batch = Batch::default();
        let slots: Vec<_> = (0..u64::from(len)).map(|at| batch.read8(base + at)).collect();
        let answers = client.run(batch)?;
        slots.into_iter().map(|slot| Ok(answers.number(slot)? as u8)).collect()
    }

    pub(super) fn write_config(&self, client: &mut QtestClient, offset: u32, bytes: &[u8]) -> Result<(), QemuError> {
        let base = self.config_address(offset, u32::try_from(bytes.len()).unwrap_or(u32::MAX))?;
        let mut batch = Batch::default();
        for (address, byte) in (base..).zip(bytes) {
            batch.write8(address, *byte);
        }
        client.run(batch).map(drop)
    }

    fn config_address(&self, offset: u32, len: u32) -> Result<u64, QemuError> {
        let window = self
            .device
            .config
            .filter(|window| u64::from(offset) + u64::from(len) <= window.len.into());
        let window = window.ok_or_else(|| QemuError::BadDevice {
            slot: self.device.slot,
            what: format!("no {len} configuration bytes at {offset}"),
        })?;
        Ok(window.base + u64::from(offset))
    }

    pub(super) fn slot(&self) -> u8 {
        self.device.slot
    }

    pub(super) fn has(&self, feature: u64) -> bool {
        self.accepted & feature != 0
    }

    pub(super) fn ring_count(&self) -> u16 {
        self.rings.len() as u16
    }

    pub(super) fn ring(&mut self, ring: u16) -> Result<&Ring, QemuError> {
        Ok(&self.kickable(ring)?.ring)
    }

    pub(super) fn report(&self) -> DriverReport {
        DriverReport {
            slot: self.device.slot,
            virtio_id: self.device.virtio_id,
            offered: self.offered,
            accepted: self.accepted,
            status: self.status,
            rings_max: self.rings_max,
            rings: self.rings.iter().map(|kickable| kickable.ring.place()).collect(),
        }
    }

    fn kickable(&mut self, ring: u16) -> Result<&mut Kickable, QemuError> {
        let rings = self.ring_count();
        self.rings
            .get_mut(usize::from(ring))
            .ok_or(QemuError::NoRing { ring, rings })
    }
}

fn check_reset(device: &PciDevice, status: u8) -> Result<(), QemuError> {
    if status != 0 {
        let what = format!("status is {status:#04x} after a reset");
        return Err(QemuError::BadDevice {
            slot: device.slot,
            what,
        });
    }
    Ok(())
}

/// Zeroes a ring's memory and enables it. No MSI-X vectors are set: the device raises its interrupt line.
fn place_ring(batch: &mut Batch, common: u64, place: RingPlace) {
    batch.zero(place.desc, place.used + 6 + 8 * u64::from(place.size) - place.desc);
    batch.write16(common + common::QUEUE_SELECT, place.ring);
    batch.write16(common + common::QUEUE_SIZE, place.size);
    batch.write64(common + common::QUEUE_DESC, place.desc);
    batch.write64(common + common::QUEUE_DRIVER, place.avail);
    batch.write64(common + common::QUEUE_DEVICE, place.used);
    batch.write16(common + common::QUEUE_ENABLE, 1);
}

fn read_byte(client: &mut QtestClient, address: u64) -> Result<u8, QemuError> {
    let mut batch = Batch::default();
    let slot = batch.read8(address);
    Ok(client.run(batch)?.number(slot)? as u8)
}
