//! Rings a burst at a time: against the chain-by-chain ones and `virtio-queue` on the same memory, and what each side notices
//! about the other.

mod arms;
mod differential;
mod in_order;
mod violations;

use crate::memory::{GuestMemory, MemoryOptions, RegionLayout};

use super::*;

const MEMORY_BYTES: u64 = 0x4_0000;
/// Where buffers are.
const DATA: u64 = 0x2_0000;
/// Where indirect tables are, one for each token.
const TABLES: u64 = 0x3_0000;
const RING: u64 = 0x100;

fn memory() -> GuestMemory {
    let layout = [RegionLayout {
        guest_address: 0,
        size: MEMORY_BYTES,
    }];
    GuestMemory::new(&layout, MemoryOptions::default()).unwrap()
}

/// A ring between a driver and a device of this room.
struct Pair {
    memory: GuestMemory,
    reach: Reach,
    layout: Layout,
    driver: Driver,
    device: Device,
}

impl Pair {
    fn new(packed: bool, size: u16, base: u32, options: RingOptions) -> Self {
        let memory = memory();
        let reach = memory.reach();
        let (layout, _) = Layout::pack_at(RING, size, packed).unwrap();
        let mut driver = Driver::new(layout, base, &reach, options).unwrap();
        driver.init();
        let device = Device::start(layout, base, &reach, options).unwrap();
        Self {
            memory,
            reach,
            layout,
            driver,
            device,
        }
    }

    /// Both kinds, fresh.
    fn both(size: u16, options: RingOptions) -> [Self; 2] {
        [
            Self::new(false, size, 0, options),
            Self::new(true, size, 0x8000_8000, options),
        ]
    }
}

#[test]
fn a_burst_goes_round_and_round_and_every_buffer_comes_back_once() {
    // Broken: packets are lost, doubled or mixed up where a ring wraps, with or without IN_ORDER, whatever the burst.
    for in_order in [false, true] {
        let options = RingOptions {
            in_order,
            ..RingOptions::default()
        };
        for mut pair in Pair::both(8, options) {
            let reach = pair.reach.clone();
            let mut chains = Chains::new();
            let (mut sent, mut seen, mut back) = (0u32, 0u32, 0u32);
            for round in 0..200u32 {
                pair.driver.publish();
                let before = sent;
                for _ in 0..round % 9 {
                    if pair.driver.free() == 0 {
                        assert!(pair.driver.add(sent, Buffer::readable(DATA, 4)).is_err());
                        break;
                    }
                    let at = DATA + 64 * u64::from(sent % 8);
                    reach.place(at, 4).unwrap().set_u32(0, sent);
                    pair.driver.add(sent, Buffer::readable(at, 4)).unwrap();
                    sent += 1;
                }
                // every other burst is published after the device has looked
                let published = if round % 2 == 0 { sent } else { before };
                if round % 2 == 0 {
                    pair.driver.publish();
                }
                let count = pair.device.take(&reach, &mut chains, 1 + round as usize % 5).unwrap();
                for chain in chains.iter() {
                    assert!(seen < published, "what is not published is seen");
                    assert_eq!(chain.readable[0].get_u32(0), Some(seen));
                    assert!(chain.writable.is_empty());
                    seen += 1;
                    pair.device.give(chain.ticket, 0);
                }
                let mut done = [Done::default(); 16];
                assert_eq!(pair.driver.reap(&mut done), Ok(0), "what is not flushed is returned");
                assert_eq!(usize::from(pair.device.flush()), count);
                let returned = pair.driver.reap(&mut done).unwrap();
                for done in &done[..returned] {
                    assert_eq!((done.token, done.len), (back, 0));
                    back += 1;
                }
                assert_eq!(back, seen);
                assert_eq!(u32::from(pair.driver.outstanding()), published - back);
                assert_eq!(u32::from(pair.driver.free()), 8 - (sent - back));
            }
            assert!(sent > 400);
        }
    }
}

#[test]
fn what_was_put_back_is_taken_again_and_a_base_goes_on_there() {
    // Broken: a ring that is stopped under traffic loses what was taken and not returned, or serves it twice.
    for mut pair in Pair::both(4, RingOptions::default()) {
        let reach = pair.reach.clone();
        let (mut chains, mut done) = (Chains::new(), [Done::default(); 4]);
        let buffers = [Buffer::readable(DATA, 4), Buffer::writable(DATA + 64, 4)];
        for round in 0..20 {
            pair.driver.add_chain(2 * round, &buffers).unwrap();
            pair.driver.add_chain(2 * round + 1, &buffers).unwrap();
            pair.driver.publish();
            assert_eq!(pair.device.take(&reach, &mut chains, 8), Ok(2));
            assert!(pair.device.put_back(&chains, 3).is_err());
            let first = chains.get(0).unwrap().ticket;
            pair.device.put_back(&chains, 1).unwrap();
            pair.device.give(first, 4);
            pair.device.flush();
            assert_eq!(pair.device.taken(), 0);
            let base = pair.device.base();
            pair.device = Device::start(pair.layout, base, &reach, RingOptions::default()).unwrap();
            assert_eq!(pair.device.take(&reach, &mut chains, 8), Ok(1));
            pair.device.give(chains.get(0).unwrap().ticket, 3);
            pair.device.flush();
            assert_eq!(pair.driver.reap(&mut done), Ok(2));
            let got = done.map(|done| (done.token, done.len));
            assert_eq!(got[..2], [(2 * round, 4), (2 * round + 1, 3)]);
        }
    }
}

#[test]
fn notifications_are_asked_for_refused_and_not_missed() {
    // Broken: a side sleeps for ever, or is woken for nothing.
    for event_idx in [false, true] {
        let options = RingOptions {
            event_idx,
            ..RingOptions::default()
        };
        for mut pair in Pair::both(8, options) {
            let reach = pair.reach.clone();
            let (mut chains, mut done) = (Chains::new(), [Done::default(); 8]);
            for round in 0..50 {
                pair.device.refuse_kicks();
                pair.driver.refuse_calls();
                // after a start there may be one call too many, on purpose
                assert!(!pair.driver.needs_kick() && (!pair.device.needs_call() || round == 0));
                pair.driver.add(round, Buffer::readable(DATA, 4)).unwrap();
                pair.driver.publish();
                assert!(!pair.driver.needs_kick());
                assert!(pair.device.ask_for_kick(), "a chain that is there is overlooked");
                pair.device.take(&reach, &mut chains, 8).unwrap();
                let first = chains.get(0).unwrap().ticket;
                assert!(!pair.device.ask_for_kick());
                pair.driver.add(round, Buffer::readable(DATA, 4)).unwrap();
                pair.driver.publish();
                assert!(pair.driver.needs_kick() && !pair.driver.needs_kick());
                pair.device.take(&reach, &mut chains, 8).unwrap();
                pair.device.give(first, 0);
                pair.device.flush();
                assert!(!pair.device.needs_call() || (round == 0 && !event_idx));
                assert!(pair.driver.ask_for_call());
                assert_eq!(pair.driver.reap(&mut done), Ok(1));
                assert!(!pair.driver.ask_for_call());
                pair.device.give(chains.get(0).unwrap().ticket, 0);
                pair.device.flush();
                assert!(pair.device.needs_call() && !pair.device.needs_call());
                assert_eq!(pair.driver.reap(&mut done), Ok(1));
            }
        }
    }
}
