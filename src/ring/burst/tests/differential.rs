//! One list of moves made by several implementations, each on memory of its own: what they see, what they say and what stands
//! in memory afterwards has to be the same.

use std::sync::Arc;

use proptest::prelude::*;
use virtio_queue::QueueT;

use crate::memory::{GuestAccess, RegionTable};
use crate::ring::{self, PackedLayout, SplitLayout};

use super::arms::*;
use super::*;

#[derive(Debug, Clone)]
enum Move {
    Add {
        buffers: Vec<(u8, u8)>,
        writable: usize,
        indirect: bool,
    },
    Publish,
    Take(usize),
    /// Returns this many of the chains that are taken, each time the one at this place of those that are left.
    Give(Vec<u8>),
    Reap,
    Kick,
    Call,
    /// used_event or avail_event, as an offset to where the ring stands.
    UsedEvent(u8),
    AvailEvent(u8),
    Flags(bool, bool),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let buffers = prop::collection::vec((any::<u8>(), 1u8..), 1..4);
    let one = prop_oneof![
        4 => (buffers, 0usize..4, prop::bool::weighted(0.2))
            .prop_map(|(buffers, writable, indirect)| Move::Add { buffers, writable, indirect }),
        2 => Just(Move::Publish),
        2 => (1usize..6).prop_map(Move::Take),
        2 => prop::collection::vec(any::<u8>(), 1..5).prop_map(Move::Give),
        2 => Just(Move::Reap),
        1 => Just(Move::Kick),
        1 => Just(Move::Call),
        1 => any::<u8>().prop_map(Move::UsedEvent),
        1 => any::<u8>().prop_map(Move::AvailEvent),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(driver, device)| Move::Flags(driver, device)),
    ];
    prop::collection::vec(one, 1..120)
}

/// A driver and a device on memory of their own.
struct Arm {
    name: &'static str,
    memory: Arc<GuestMemory>,
    driver: Box<dyn DriverArm>,
    device: Box<dyn DeviceArm>,
    taken: Vec<Seen>,
}

/// What a move has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shown {
    Nothing,
    Room(bool),
    Chains(Vec<Seen>),
    Returned(Vec<(u32, u32)>),
    Notify(bool),
}

impl Arm {
    fn play(&mut self, token: u32, layout: Layout, step: &Move) -> Shown {
        match step {
            Move::Add {
                buffers,
                writable,
                indirect,
            } => {
                let split = buffers.len().saturating_sub(*writable);
                let buffer = |(at, (place, len)): (usize, &(u8, u8))| Buffer {
                    addr: DATA + 16 * u64::from(*place),
                    len: u32::from(*len),
                    writable: at >= split,
                };
                let chain = buffers.iter().enumerate().map(buffer).collect::<Vec<_>>();
                Shown::Room(self.driver.add(token, &chain, *indirect))
            }
            Move::Publish => {
                self.driver.publish();
                Shown::Nothing
            }
            Move::Take(limit) => {
                let chains = self.device.take(*limit);
                self.taken.extend(chains.clone());
                Shown::Chains(chains)
            }
            Move::Give(order) => {
                let mut returned = Vec::new();
                for place in order {
                    if self.taken.is_empty() {
                        break;
                    }
                    let chain = self.taken.remove(usize::from(*place) % self.taken.len());
                    let room = chain.writable.iter().map(|(_, len)| len).sum::<u32>();
                    returned.push((chain.id, room.min(u32::from(*place))));
                }
                self.device.give(&returned);
                Shown::Nothing
            }
            Move::Reap => Shown::Returned(self.driver.reap()),
            Move::Kick => Shown::Notify(self.driver.needs_kick()),
            Move::Call => Shown::Notify(self.device.needs_call()),
            Move::UsedEvent(by) => match layout {
                Layout::Split(layout) => self.wish(layout.used_event(), layout.used_idx(), *by),
                Layout::Packed(layout) => self.packed_wish(layout.driver_event, layout.size, *by),
            },
            Move::AvailEvent(by) => match layout {
                Layout::Split(layout) => self.wish(layout.avail_event(), layout.avail_idx(), *by),
                Layout::Packed(layout) => self.packed_wish(layout.device_event, layout.size, *by),
            },
            Move::Flags(driver, device) => {
                let (driver_flags, device_flags) = match layout {
                    Layout::Split(layout) => (layout.avail_flags(), layout.used_flags()),
                    Layout::Packed(layout) => (layout.driver_event + 2, layout.device_event + 2),
                };
                let store = |at, on: bool| self.memory.write(at, &u16::from(on).to_le_bytes()).unwrap();
                store(driver_flags, *driver);
                store(device_flags, *device);
                Shown::Nothing
            }
        }
    }

    /// Any descriptor and either lap, and the flags that say that one descriptor is wished for.
    fn packed_wish(&self, event: u64, size: u16, by: u8) -> Shown {
        let wish = (u16::from(by) % size) | (u16::from(by & 0x80) << 8);
        self.memory.write(event, &wish.to_le_bytes()).unwrap();
        self.memory.write(event + 2, &2u16.to_le_bytes()).unwrap();
        Shown::Nothing
    }

    fn wish(&self, event: u64, index: u64, by: u8) -> Shown {
        let now = self.memory.read_u16(index).unwrap();
        let wish = now.wrapping_add(u16::from(by % 16)).wrapping_sub(4);
        self.memory.write(event, &wish.to_le_bytes()).unwrap();
        Shown::Nothing
    }

    fn image(&self) -> Vec<u8> {
        let mut bytes = vec![0; MEMORY_BYTES as usize];
        self.memory.read(0, &mut bytes).unwrap();
        bytes
    }
}

pub(super) fn table_of(memory: &GuestMemory) -> RegionTable {
    let mut table = RegionTable::new();
    table.map(memory.regions()[0], memory.dup(0).unwrap()).unwrap();
    table
}

/// Both drivers with each of the three devices.
fn split_arms(layout: SplitLayout, base: u16, event_idx: bool) -> Vec<Arm> {
    let options = RingOptions {
        event_idx,
        in_order: false,
    };
    let mut arms = Vec::new();
    for (name, fast_driver, device) in [
        ("chain by chain", false, 0),
        ("bursts", true, 1),
        ("driver in bursts", true, 0),
        ("device in bursts", false, 1),
        ("virtio-queue with bursts", true, 2),
        ("virtio-queue", false, 2),
    ] {
        let memory = Arc::new(memory());
        let reach = memory.reach();
        let driver = driver(fast_driver, Layout::Split(layout), u32::from(base), &memory, options);
        let device: Box<dyn DeviceArm> = match device {
            0 => {
                let mut device = ring::SplitDevice::start(layout, base, &*memory).unwrap();
                device.set_event_idx(event_idx);
                Box::new(SlowSplitDevice {
                    device,
                    table: table_of(&memory),
                })
            }
            1 => Box::new(BurstDevice {
                device: Device::Split(SplitDevice::start(layout, base, &reach, options).unwrap()),
                reach,
                tickets: Vec::new(),
            }),
            _ => {
                let mut device = VirtioQueue::new(&memory, &layout, event_idx);
                device.queue.set_next_avail(base);
                device.queue.set_next_used(base);
                Box::new(device)
            }
        };
        arms.push(Arm {
            name,
            memory,
            driver,
            device,
            taken: Vec::new(),
        });
    }
    arms
}

/// Both drivers with both devices.
fn packed_arms(layout: PackedLayout, base: u32, event_idx: bool) -> Vec<Arm> {
    let options = RingOptions {
        event_idx,
        in_order: false,
    };
    let mut arms = Vec::new();
    for (name, fast_driver, fast_device) in [
        ("chain by chain", false, false),
        ("bursts", true, true),
        ("driver in bursts", true, false),
        ("device in bursts", false, true),
    ] {
        let memory = Arc::new(memory());
        let reach = memory.reach();
        let driver = driver(fast_driver, Layout::Packed(layout), base, &memory, options);
        let device: Box<dyn DeviceArm> = if fast_device {
            Box::new(BurstDevice {
                device: Device::Packed(PackedDevice::start(layout, base, &reach, options).unwrap()),
                reach,
                tickets: Vec::new(),
            })
        } else {
            let mut device = ring::PackedDevice::start(layout, base, &*memory).unwrap();
            device.set_event_idx(event_idx);
            Box::new(SlowPackedDevice {
                device,
                table: table_of(&memory),
                taken: Vec::new(),
            })
        };
        arms.push(Arm {
            name,
            memory,
            driver,
            device,
            taken: Vec::new(),
        });
    }
    arms
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Broken: the fast rings and the others disagree on what stands in shared memory, or on what is to be read in it.
    #[test]
    fn split_rings_agree(
        moves in moves(), log in 0u32..5, base in prop_oneof![Just(0u16), Just(0xfffb)], event_idx in any::<bool>()
    ) {
        let (layout, _) = SplitLayout::pack_at(RING, 1 << log).unwrap();
        let mut arms = split_arms(layout, base, event_idx);
        // virtio-queue calls by its own count of what it returned, and after a start not once too often
        let mut first_call = true;
        for (token, step) in moves.iter().enumerate() {
            let shown = arms.iter_mut().map(|arm| arm.play(token as u32, Layout::Split(layout), step)).collect::<Vec<_>>();
            let is_call = matches!(step, Move::Call);
            for (arm, other) in arms.iter().zip(&shown).skip(1) {
                if is_call && (first_call || arm.name.starts_with("virtio")) {
                    continue;
                }
                prop_assert_eq!(&shown[0], other, "{} at {}: {:?}", arm.name, token, step);
            }
            first_call &= !is_call;
        }
        arms.iter_mut().for_each(|arm| arm.driver.publish());
        let image = arms[0].image();
        for arm in &arms[1..] {
            let other = arm.image();
            let at = image.iter().zip(&other).position(|(one, other)| one != other);
            // virtio-queue writes avail_event only when it is told to, as the others do
            prop_assert_eq!(at, None, "{} left other bytes in {:?}", arm.name, layout);
        }
    }

    /// Broken: the fast packed rings and the others disagree, on flags, laps, lengths or events; sizes are no powers of two.
    #[test]
    fn packed_rings_agree(
        moves in moves(), size in 1u16..12, base in prop_oneof![Just(0x8000_8000u32), Just(0), Just(0x8000)],
        event_idx in any::<bool>()
    ) {
        let (layout, _) = PackedLayout::pack_at(RING, size).unwrap();
        let mut arms = packed_arms(layout, base, event_idx);
        for (token, step) in moves.iter().enumerate() {
            let shown = arms.iter_mut().map(|arm| arm.play(token as u32, Layout::Packed(layout), step)).collect::<Vec<_>>();
            for (arm, other) in arms.iter().zip(&shown).skip(1) {
                prop_assert_eq!(&shown[0], other, "{} at {}: {:?}", arm.name, token, step);
            }
        }
        arms.iter_mut().for_each(|arm| arm.driver.publish());
        let image = arms[0].image();
        for arm in &arms[1..] {
            let other = arm.image();
            let at = image.iter().zip(&other).position(|(one, other)| one != other);
            prop_assert_eq!(at, None, "{} left other bytes in {:?}", arm.name, layout);
        }
    }
}
