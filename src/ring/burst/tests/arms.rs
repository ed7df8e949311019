//! The same moves made by different implementations.

use std::sync::Arc;

use virtio_queue::{Queue, QueueT};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use crate::memory::{GuestMemory, Reach, RegionTable};
use crate::ring::{self, HeadIndex, SplitLayout};

use super::*;

/// A chain as a device sees it, in guest addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: u16,
    pub(super) readable: Vec<(u64, u32)>,
    pub(super) writable: Vec<(u64, u32)>,
}

pub(super) trait DriverArm {
    /// False if there is no room.
    fn add(&mut self, token: u32, chain: &[Buffer], indirect: bool) -> bool;
    fn publish(&mut self);
    fn reap(&mut self) -> Vec<(u32, u32)>;
    fn needs_kick(&mut self) -> bool;
}

pub(super) trait DeviceArm {
    fn take(&mut self, limit: usize) -> Vec<Seen>;
    fn give(&mut self, returned: &[(u16, u32)]);
    fn needs_call(&mut self) -> bool;
}

/// A driver that works in bursts, or chain by chain.
pub(super) fn driver(
    in_bursts: bool,
    layout: Layout,
    base: u32,
    memory: &Arc<GuestMemory>,
    options: RingOptions,
) -> Box<dyn DriverArm> {
    if in_bursts {
        let reach = memory.reach();
        let mut driver = Driver::new(layout, base, &reach, options).unwrap();
        driver.init();
        return Box::new(Bursts { driver, reach });
    }
    let mut driver = ring::RingDriver::with_base(layout, base).unwrap();
    driver.init(&**memory).unwrap();
    driver.set_event_idx(options.event_idx);
    driver.set_in_order(options.in_order);
    Box::new(ByChains {
        driver,
        memory: Arc::clone(memory),
        tokens: Vec::new(),
    })
}

/// Tables of one token do not overlap those of another.
fn table_of(token: u32) -> u64 {
    TABLES + 64 * u64::from(token % 256)
}

struct Bursts {
    driver: Driver,
    reach: Reach,
}

impl DriverArm for Bursts {
    fn add(&mut self, token: u32, chain: &[Buffer], indirect: bool) -> bool {
        match (indirect, chain) {
            (true, _) => {
                let table = self.reach.place(table_of(token), 64).unwrap();
                self.driver.add_indirect(token, chain, table).is_ok()
            }
            (false, [one]) => self.driver.add(token, *one).is_ok(),
            (false, _) => self.driver.add_chain(token, chain).is_ok(),
        }
    }

    fn publish(&mut self) {
        self.driver.publish();
    }

    fn reap(&mut self) -> Vec<(u32, u32)> {
        let mut all = Vec::new();
        let mut done = [Done::default(); 3];
        loop {
            let count = self.driver.reap(&mut done).unwrap();
            all.extend(done[..count].iter().map(|done| (done.token, done.len)));
            if count < done.len() {
                return all;
            }
        }
    }

    fn needs_kick(&mut self) -> bool {
        self.driver.needs_kick()
    }
}

pub(super) struct BurstDevice {
    pub(super) device: Device,
    pub(super) reach: Reach,
    /// Descriptors of the chains that are taken, by id.
    pub(super) tickets: Vec<Ticket>,
}

impl DeviceArm for BurstDevice {
    fn take(&mut self, limit: usize) -> Vec<Seen> {
        let mut chains = Chains::new();
        self.device.take(&self.reach, &mut chains, limit).unwrap();
        self.tickets.extend(chains.iter().map(|chain| chain.ticket));
        let list = |places: &[crate::sys::shared::Place<'_>]| {
            places.iter().map(|p| (p.guest_address(), p.len() as u32)).collect()
        };
        chains
            .iter()
            .map(|chain| Seen {
                id: chain.ticket.id,
                readable: list(chain.readable),
                writable: list(chain.writable),
            })
            .collect()
    }

    fn give(&mut self, returned: &[(u16, u32)]) {
        for (id, len) in returned {
            let at = self.tickets.iter().position(|ticket| ticket.id == *id).unwrap();
            self.device.give(self.tickets.swap_remove(at), *len);
        }
        self.device.flush();
    }

    fn needs_call(&mut self) -> bool {
        self.device.needs_call()
    }
}

/// The chain-by-chain driver.
struct ByChains {
    driver: ring::RingDriver,
    memory: Arc<GuestMemory>,
    tokens: Vec<(HeadIndex, u32)>,
}

impl DriverArm for ByChains {
    fn add(&mut self, token: u32, chain: &[Buffer], indirect: bool) -> bool {
        let added = match indirect {
            true => self.driver.add_indirect(&*self.memory, chain, table_of(token)),
            false => self.driver.add(&*self.memory, chain),
        };
        if let Ok(head) = added {
            self.tokens.push((head, token));
        }
        added.is_ok()
    }

    fn publish(&mut self) {
        self.driver.publish(&*self.memory).unwrap();
    }

    fn reap(&mut self) -> Vec<(u32, u32)> {
        let used = std::iter::from_fn(|| self.driver.poll_used(&*self.memory).unwrap()).collect::<Vec<_>>();
        let mut token = |head| {
            let at = self.tokens.iter().position(|(there, _)| *there == head).unwrap();
            self.tokens.remove(at).1
        };
        used.iter().map(|used| (token(used.head), used.len)).collect()
    }

    fn needs_kick(&mut self) -> bool {
        self.driver.needs_kick(&*self.memory).unwrap()
    }
}

/// The chain-by-chain device of a split ring.
pub(super) struct SlowSplitDevice {
    pub(super) device: ring::SplitDevice,
    pub(super) table: RegionTable,
}

impl DeviceArm for SlowSplitDevice {
    fn take(&mut self, limit: usize) -> Vec<Seen> {
        let pop = |_| self.device.pop(&self.table).unwrap();
        let chains = (0..limit).map_while(pop);
        chains
            .map(|chain| Seen {
                id: chain.head,
                readable: chain.readable,
                writable: chain.writable,
            })
            .collect()
    }

    fn give(&mut self, returned: &[(u16, u32)]) {
        for (id, len) in returned {
            self.device.push(&self.table, *id, *len).unwrap();
        }
    }

    fn needs_call(&mut self) -> bool {
        self.device.needs_call(&self.table).unwrap()
    }
}

/// rust-vmm's device of a split ring.
pub(super) struct VirtioQueue {
    pub(super) queue: Queue,
    pub(super) memory: GuestMemoryMmap,
}

impl VirtioQueue {
    pub(super) fn new(memory: &GuestMemory, layout: &SplitLayout, event_idx: bool) -> Self {
        let file = FileOffset::new(std::fs::File::from(memory.dup(0).unwrap()), 0);
        let region = MmapRegion::from_file(file, MEMORY_BYTES as usize).unwrap();
        let region = GuestRegionMmap::new(region, GuestAddress(0)).unwrap();
        let memory = GuestMemoryMmap::from_regions(vec![region]).unwrap();
        let mut queue = Queue::new(layout.size).unwrap();
        let halves = |address: u64| (Some(address as u32), Some((address >> 32) as u32));
        queue.set_size(layout.size);
        let (low, high) = halves(layout.desc);
        queue.set_desc_table_address(low, high);
        let (low, high) = halves(layout.avail);
        queue.set_avail_ring_address(low, high);
        let (low, high) = halves(layout.used);
        queue.set_used_ring_address(low, high);
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        Self { queue, memory }
    }
}

impl DeviceArm for VirtioQueue {
    fn take(&mut self, limit: usize) -> Vec<Seen> {
        let list = |chain: virtio_queue::DescriptorChain<&GuestMemoryMmap>, writable: bool| {
            let wanted = chain.filter(|desc| desc.is_write_only() == writable);
            wanted.map(|desc| (desc.addr().0, desc.len())).collect()
        };
        let pop = |_| self.queue.pop_descriptor_chain(&self.memory);
        let chains = (0..limit).map_while(pop);
        chains
            .map(|chain| Seen {
                id: chain.head_index(),
                readable: list(chain.clone(), false),
                writable: list(chain, true),
            })
            .collect()
    }

    fn give(&mut self, returned: &[(u16, u32)]) {
        for (id, len) in returned {
            self.queue.add_used(&self.memory, *id, *len).unwrap();
        }
    }

    fn needs_call(&mut self) -> bool {
        self.queue.needs_notification(&self.memory).unwrap()
    }
}

/// The chain-by-chain device of a packed ring.
pub(super) struct SlowPackedDevice {
    pub(super) device: ring::PackedDevice,
    pub(super) table: RegionTable,
    pub(super) taken: Vec<(u16, u16)>,
}

impl DeviceArm for SlowPackedDevice {
    fn take(&mut self, limit: usize) -> Vec<Seen> {
        let pop = |_| self.device.pop(&self.table).unwrap();
        let chains = (0..limit).map_while(pop).collect::<Vec<_>>();
        self.taken
            .extend(chains.iter().map(|taken| (taken.chain.head, taken.descriptors)));
        chains
            .into_iter()
            .map(|taken| Seen {
                id: taken.chain.head,
                readable: taken.chain.readable,
                writable: taken.chain.writable,
            })
            .collect()
    }

    fn give(&mut self, returned: &[(u16, u32)]) {
        for (id, len) in returned {
            let at = self.taken.iter().position(|(taken, _)| taken == id).unwrap();
            let (_, descriptors) = self.taken.swap_remove(at);
            self.device.push(&self.table, *id, descriptors, *len).unwrap();
        }
    }

    fn needs_call(&mut self) -> bool {
        self.device.needs_call(&self.table).unwrap()
    }
}
