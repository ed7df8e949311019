//! A recorded front-end played again: its memory and rings are made at the addresses that were recorded, so that every
//! address in its messages means what it meant.

use std::os::fd::OwnedFd;

use super::{FrontError, FrontRing, SimFront};
use crate::memory::{GuestAccess, GuestMemory, MemRegionDesc};
use crate::peer::device::BufferPool;
use crate::ring::{Layout, PackedLayout, RingDriver, SplitLayout};
use crate::wire::features::IN_ORDER;
use crate::wire::{MemRegion, Message, Payload, VringAddr, id};

/// VIRTIO_F_RING_PACKED.
const F_RING_PACKED: u64 = 1 << 34;
/// Bytes that buffers are taken from.
const POOL_BYTES: u64 = 4 << 20;
/// Rings of a recorded front-end, at most.
const RINGS_MAX: u16 = 1024;

/// What the messages so far say about a ring that is not started yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Announced {
    size: u16,
    base: u32,
    address: Option<VringAddr>,
    /// The driver stands where the messages say.
    ready: bool,
}

impl SimFront {
    /// Gives up memory and rings of its own: they will be those of recorded messages.
    pub fn play_again(&mut self) -> Result<(), FrontError> {
        self.memory = GuestMemory::new(&[], *self.memory.options())?;
        self.pools.clear();
        self.rings.clear();
        self.announced = Some(Vec::new());
        Ok(())
    }

    /// Makes what a recorded message needs of this front-end: regions, and rings where it says. `files` are the lengths of
    /// the files that came with it. What comes back belongs to the message.
    pub fn announce(&mut self, message: &Message, files: &[u64]) -> Result<Vec<OwnedFd>, FrontError> {
        if let Some(index) = message.payload.ring_index() {
            self.announced_ring(index);
        }
        match (message.request, &message.payload) {
            (id::frontend::SET_MEM_TABLE, Payload::MemTable(table)) => {
                let regions: Vec<MemRegionDesc> = table.regions.iter().map(described).collect();
                for index in (0..self.memory.regions().len()).rev() {
                    if !regions.contains(&self.memory.regions()[index]) {
                        self.memory.remove_region(index)?;
                    }
                }
                let mut fds = Vec::new();
                for (at, region) in regions.into_iter().enumerate() {
                    let index = self
                        .memory
                        .announce_region(region, files.get(at).copied().unwrap_or(0))?;
                    fds.push(self.memory.dup(index)?);
                }
                self.forget_lost_pools();
                return Ok(fds);
            }
            (id::frontend::ADD_MEM_REG, Payload::MemReg(reg)) => {
                let file = files.first().copied().unwrap_or(0);
                let index = self.memory.announce_region(described(&reg.region), file)?;
                return Ok(vec![self.memory.dup(index)?]);
            }
            (id::frontend::REM_MEM_REG, Payload::MemReg(reg)) => {
                let same = |r: &MemRegionDesc| r.guest_address == reg.region.guest_address && r.size == reg.region.size;
                if let Some(index) = self.memory.regions().iter().position(same) {
                    self.memory.remove_region(index)?;
                }
                self.forget_lost_pools();
            }
            (id::frontend::SET_VRING_NUM, Payload::VringState(state)) => {
                if let Some(ring) = self.announced_ring(state.index) {
                    ring.size = state.num.try_into().unwrap_or(0);
                    ring.ready = false;
                }
            }
            (id::frontend::SET_VRING_BASE, Payload::VringBase(base)) => {
                if let Some(ring) = self.announced_ring(base.index) {
                    ring.base = base.indices;
                    ring.ready = false;
                }
            }
            (id::frontend::SET_VRING_ADDR, Payload::VringAddr(address)) => {
                if let Some(ring) = self.announced_ring(address.index) {
                    ring.address = Some(*address);
                    ring.ready = false;
                }
            }
            (id::frontend::SET_VRING_KICK, Payload::VringFd(fd)) => self.start_announced(fd.index.into())?,
            (id::frontend::SET_VRING_ENABLE, Payload::VringState(state)) if state.num == 1 => {
                self.start_announced(state.index)?;
            }
            _ => {}
        }
        Ok(Vec::new())
    }

    /// The regions that the messages so far have announced.
    pub fn regions(&self) -> &[MemRegionDesc] {
        self.memory.regions()
    }

    /// Whether data can be put into a ring.
    pub fn has_driver(&self, ring: u16) -> bool {
        match &self.announced {
            None => ring < self.config.queues,
            Some(rings) => rings.get(usize::from(ring)).is_some_and(|ring| ring.ready),
        }
    }

    fn announced_ring(&mut self, index: u32) -> Option<&mut Announced> {
        let index = u16::try_from(index).ok().filter(|index| *index < RINGS_MAX)?;
        let rings = self.announced.as_mut()?;
        while rings.len() <= usize::from(index) {
            rings.push(Announced::default());
        }
        while self.rings.len() <= usize::from(index) {
            let Ok(driver) = RingDriver::with_base(Layout::Split(SplitLayout::pack_at(0, 1).ok()?.0), 0) else {
                return None;
            };
            self.rings.push(FrontRing {
                driver,
                reset: false,
                kick: None,
                call: None,
                in_band: false,
                base: None,
                lent: None,
                pending: std::collections::BTreeMap::new(),
                tables: std::collections::BTreeMap::new(),
            });
        }
        self.config.queues = self.config.queues.max(index + 1);
        rings.get_mut(usize::from(index))
    }

    /// Lays the driver of a ring where the messages have put it.
    fn start_announced(&mut self, index: u32) -> Result<(), FrontError> {
        let packed = self.features & F_RING_PACKED != 0;
        let event_idx = self.features & super::F_EVENT_IDX != 0;
        let Some(ring) = self.announced_ring(index) else {
            return Ok(());
        };
        let announced = *ring;
        let Some(address) = announced.address.filter(|_| announced.size > 0 && !announced.ready) else {
            return Ok(());
        };
        let size = announced.size;
        let desc = self.memory.user_to_guest(address.descriptor)?;
        let avail = self.memory.user_to_guest(address.available)?;
        let used = self.memory.user_to_guest(address.used)?;
        let layout = match packed {
            false => Layout::Split(SplitLayout {
                size,
                desc,
                avail,
                used,
            }),
            true => Layout::Packed(PackedLayout {
                size,
                ring: desc,
                driver_event: avail,
                device_event: used,
            }),
        };
        let mut driver = RingDriver::with_base(layout, announced.base)?;
        driver.init(&self.memory)?;
        driver.set_event_idx(event_idx);
        driver.set_in_order(self.features & IN_ORDER != 0);
        let at = index as usize;
        self.rings[at].driver = driver;
        self.rings[at].pending.clear();
        self.rings[at].tables.clear();
        self.config.ring_size = announced.size;
        if let Some(ring) = self.announced_ring(index) {
            ring.ready = true;
        }
        if self.pools.is_empty() {
            self.find_pool();
        }
        Ok(())
    }

    /// Room for buffers, away from all rings: the end of the largest region, or its beginning.
    fn find_pool(&mut self) {
        let Some(region) = self.memory.regions().iter().max_by_key(|r| r.size).copied() else {
            return;
        };
        let size = POOL_BYTES.min(region.size / 2);
        let end = region.guest_address + region.size;
        let taken = |start: u64| {
            self.announced
                .iter()
                .flatten()
                .filter_map(|ring| ring.address)
                .any(|address| {
                    [address.descriptor, address.available, address.used]
                        .iter()
                        .any(|user| {
                            let guest = self.memory.user_to_guest(*user).unwrap_or(0);
                            guest + (1 << 20) > start && guest < start + size
                        })
                })
        };
        let start = [
            end - size,
            region.guest_address + region.size / 2 - size / 2,
            region.guest_address,
        ]
        .into_iter()
        .find(|start| !taken(*start));
        if let Some(start) = start {
            self.pools.push((region.guest_address, BufferPool::new(start, size)));
        }
    }

    fn forget_lost_pools(&mut self) {
        let regions = self.memory.regions();
        self.pools
            .retain(|(address, _)| regions.iter().any(|r| r.guest_address == *address));
        if self.pools.is_empty() && self.announced.iter().flatten().any(|ring| ring.ready) {
            self.find_pool();
        }
    }
}

fn described(region: &MemRegion) -> MemRegionDesc {
    MemRegionDesc {
        guest_address: region.guest_address,
        size: region.size,
        user_address: region.user_address,
        mmap_offset: region.mmap_offset,
    }
}
