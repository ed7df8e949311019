//! Split rings: what each side writes, and what each side notices about the other.

use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::memory::{GuestAccess, GuestMemory, MemoryError, MemoryOptions, RegionLayout};
use crate::ring::{Buffer, Chain, HeadIndex, RingError, SplitDevice, SplitDriver, SplitLayout, Used};

const MEMORY_BYTES: u64 = 0x1_0000;
const DATA: u64 = 0x8000;

fn memory() -> GuestMemory {
    let layout = [RegionLayout {
        guest_address: 0,
        size: MEMORY_BYTES,
    }];
    GuestMemory::new(&layout, MemoryOptions::default()).unwrap()
}

fn ring(size: u16, base: u16) -> (GuestMemory, SplitDriver, SplitDevice) {
    let mem = memory();
    let (layout, _) = SplitLayout::pack_at(0x100, size).unwrap();
    let mut driver = SplitDriver::with_base(layout, base).unwrap();
    driver.init(&mem).unwrap();
    let device = SplitDevice::start(layout, base, &mem).unwrap();
    (mem, driver, device)
}

/// Writes a descriptor as a hostile driver would.
fn put(mem: &GuestMemory, device: &SplitDevice, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
    mem.write(
        device.layout().desc_at(index),
        &Descriptor { addr, len, flags, next }.to_bytes(),
    )
    .unwrap();
}

/// Makes a head available as a hostile driver would.
fn avail(mem: &GuestMemory, device: &SplitDevice, head: u16) {
    let idx = mem.load_u16(device.layout().avail_idx(), Ordering::Relaxed).unwrap();
    mem.write(device.layout().avail_slot(idx), &head.to_le_bytes()).unwrap();
    mem.store_u16(device.layout().avail_idx(), idx.wrapping_add(1), Ordering::Release)
        .unwrap();
}

#[test]
fn layout_is_packed_aligned_and_checked() {
    // Broken: SET_VRING_ADDR carries addresses a conforming back-end refuses.
    for size in [1u16, 2, 4, 256, 0x8000] {
        for base in [0u64, 1, 0x1001, 0xffff] {
            let (layout, bytes) = SplitLayout::pack_at(base, size).unwrap();
            assert!(layout.desc >= base && layout.avail >= layout.desc + 16 * u64::from(size));
            assert!(layout.used >= layout.avail + SplitLayout::avail_bytes(size));
            assert_eq!(base + bytes, layout.used + SplitLayout::used_bytes(size));
        }
    }
    for size in [0u16, 3, 0xffff] {
        assert!(matches!(SplitLayout::pack_at(0, size), Err(RingError::Size { .. })));
    }
    assert!(matches!(
        SplitLayout::pack_at(u64::MAX - 20, 4),
        Err(RingError::Overflow { .. })
    ));
    let good = SplitLayout {
        size: 4,
        desc: 0x10,
        avail: 0x100,
        used: 0x200,
    };
    assert_eq!(good.validate(), Ok(()));
    for bad in [
        SplitLayout { desc: 0x18, ..good },
        SplitLayout { avail: 0x101, ..good },
        SplitLayout { used: 0x202, ..good },
    ] {
        assert!(matches!(bad.validate(), Err(RingError::Alignment { .. })));
    }
    let outside = SplitLayout {
        used: MEMORY_BYTES - 4,
        ..good
    };
    assert!(matches!(
        outside.check(&memory()),
        Err(RingError::Memory(MemoryError::Unmapped { .. }))
    ));
}

#[test]
fn chain_arrives_as_it_was_added_direct_and_indirect() {
    // Broken: a device sees other buffers than the driver gave.
    let (mem, mut driver, mut device) = ring(4, 0xffff);
    let buffers = [
        Buffer::readable(DATA, 16),
        Buffer::readable(DATA + 64, 8),
        Buffer::writable(DATA + 128, 32),
    ];
    let direct = driver.add(&mem, &buffers).unwrap();
    assert_eq!(driver.free_descriptors(), 1);
    let indirect = driver.add_indirect(&mem, &buffers, DATA + 0x1000).unwrap();
    assert_eq!(
        driver.add(&mem, &buffers),
        Err(RingError::NoDescriptors { wanted: 3, free: 0 })
    );
    assert_eq!(device.pop(&mem), Ok(None));
    driver.publish(&mem).unwrap();
    for head in [direct, indirect] {
        let chain = device.pop(&mem).unwrap().unwrap();
        let readable = vec![(DATA, 16), (DATA + 64, 8)];
        assert_eq!(
            chain,
            Chain {
                head: head.0,
                readable,
                writable: vec![(DATA + 128, 32)]
            }
        );
    }
    assert_eq!((device.base(), device.taken()), (1, 2));
    // Returned in the other order.
    device.push(&mem, indirect.0, 32).unwrap();
    device.push(&mem, direct.0, 0).unwrap();
    assert_eq!(
        driver.poll_used(&mem),
        Ok(Some(Used {
            head: indirect,
            len: 32
        }))
    );
    assert_eq!(driver.poll_used(&mem), Ok(Some(Used { head: direct, len: 0 })));
    assert_eq!(driver.poll_used(&mem), Ok(None));
    assert_eq!(
        (driver.free_descriptors(), driver.outstanding(), device.taken()),
        (4, 0, 0)
    );
}

#[test]
fn chain_reads_and_writes_across_its_buffers_and_no_further() {
    // Broken: data is shifted at buffer borders, or a device writes past its buffers.
    let mem = memory();
    mem.write(DATA, b"abcdefgh").unwrap();
    let chain = Chain {
        head: 0,
        readable: vec![(DATA, 3), (DATA + 4, 0), (DATA + 5, 3)],
        writable: vec![(DATA + 32, 2), (DATA + 40, 2)],
    };
    assert_eq!(chain.read_all(&mem, 100).unwrap(), b"abcfgh");
    assert_eq!(chain.read_all(&mem, 4).unwrap(), b"abcf");
    assert_eq!(chain.read_range(&mem, 2, 3).unwrap(), b"cfg");
    assert_eq!(chain.read_range(&mem, 9, 3).unwrap(), b"");
    assert_eq!(chain.write(&mem, b"12345"), Ok(4));
    assert_eq!(chain.write_at(&mem, 3, b"xy"), Ok(1));
    let mut seen = [0; 11];
    mem.read(DATA + 32, &mut seen).unwrap();
    assert_eq!(&seen, b"12\0\0\0\0\0\x003x\0");
    let wild = Chain {
        head: 0,
        readable: vec![(u64::MAX - 1, 8)],
        writable: vec![],
    };
    assert!(wild.read_all(&mem, 8).is_err() && wild.read_range(&mem, 4, 4).is_err());
}

#[test]
fn driver_refuses_chains_virtio_forbids() {
    // Broken: the harness itself breaks the rules it judges.
    let (mem, mut driver, _) = ring(4, 0);
    assert!(matches!(driver.add(&mem, &[]), Err(RingError::BadChain { .. })));
    let mixed = [Buffer::writable(DATA, 1), Buffer::readable(DATA, 1)];
    assert!(matches!(driver.add(&mem, &mixed), Err(RingError::BadChain { .. })));
    assert!(matches!(
        driver.add_indirect(&mem, &mixed, DATA),
        Err(RingError::BadChain { .. })
    ));
    assert_eq!(driver.free_descriptors(), 4);
}

#[test]
fn driver_notices_what_a_faulty_device_returns() {
    // Broken: a back-end that corrupts its used ring passes.
    let (mem, mut driver, mut device) = ring(8, 0);
    let heads: Vec<u16> = (0..3)
        .map(|_| {
            driver
                .add(&mem, &[Buffer::readable(DATA, 4), Buffer::writable(DATA, 4)])
                .unwrap()
                .0
        })
        .collect();
    assert_eq!(heads, [0, 2, 4]);
    driver.publish(&mem).unwrap();
    let unpublished = driver.add(&mem, &[Buffer::writable(DATA, 4)]).unwrap();
    let last = driver.layout().used_idx();

    mem.store_u16(last, 4, Ordering::Release).unwrap();
    let jumped = RingError::UsedJumped {
        from: 0,
        to: 4,
        outstanding: 3,
    };
    assert_eq!(driver.poll_used(&mem), Err(jumped));
    mem.store_u16(last, 0xffff, Ordering::Release).unwrap();
    assert!(matches!(
        driver.poll_used(&mem),
        Err(RingError::UsedJumped { to: 0xffff, .. })
    ));
    mem.store_u16(last, 0, Ordering::Release).unwrap();

    device.push(&mem, 2, 5).unwrap();
    assert_eq!(
        driver.poll_used(&mem),
        Err(RingError::UsedTooLong {
            head: 2,
            len: 5,
            writable: 4
        })
    );
    device.push(&mem, 2, 0).unwrap();
    assert_eq!(driver.poll_used(&mem), Err(RingError::ReturnedTwice { head: 2 }));
    device.push(&mem, unpublished.0, 0).unwrap();
    assert_eq!(
        driver.poll_used(&mem),
        Err(RingError::NotPublished { head: unpublished.0 })
    );
    device.push(&mem, 0, 0).unwrap();
    assert!(matches!(
        driver.poll_used(&mem),
        Err(RingError::UsedJumped { outstanding: 0, .. })
    ));
}

#[test]
fn driver_notices_heads_that_are_none() {
    // Broken: a back-end returns descriptor numbers out of thin air.
    let (mem, mut driver, mut device) = ring(8, 0);
    for _ in 0..3 {
        driver
            .add(&mem, &[Buffer::readable(DATA, 4), Buffer::writable(DATA, 4)])
            .unwrap();
    }
    driver.publish(&mem).unwrap();
    for id in [1u16, 7, 8] {
        device.push(&mem, id, 0).unwrap();
        assert_eq!(
            driver.poll_used(&mem),
            Err(RingError::UnknownHead { id: u32::from(id) })
        );
    }
    let (mem, mut driver, mut device) = ring(8, 0);
    driver.add(&mem, &[Buffer::readable(DATA, 4)]).unwrap();
    driver.publish(&mem).unwrap();
    device.push(&mem, 0, 0).unwrap();
    mem.write(driver.layout().used_slot(0), &0x1_0000u32.to_le_bytes())
        .unwrap();
    assert_eq!(driver.poll_used(&mem), Err(RingError::UnknownHead { id: 0x1_0000 }));
}

#[test]
fn device_survives_hostile_rings() {
    // Broken: a driver can make a simulated back-end loop, panic or read outside its memory.
    let (mem, _, mut device) = ring(4, 0);
    let mut expect = |head: u16, expected: RingError| {
        avail(&mem, &device, head);
        assert_eq!(device.pop(&mem), Err(expected));
    };
    expect(4, RingError::HeadOutOfRange { head: 4, size: 4 });
    let (mem, _, device) = ring(4, 0);
    // Each case: descriptors 0 to 3 as (addr, len, flags, next), and the error.
    type Case = ([(u64, u32, u16, u16); 4], RingError);
    let idle = (DATA, 1, 0, 0);
    let cases: Vec<Case> = vec![
        (
            [(DATA, 1, DESC_F_NEXT, 0), idle, idle, idle],
            RingError::Loop { head: 0, limit: 4 },
        ),
        (
            [(DATA, 1, DESC_F_NEXT, 1), (DATA, 1, DESC_F_NEXT, 0), idle, idle],
            RingError::Loop { head: 0, limit: 4 },
        ),
        (
            [(DATA, 1, DESC_F_NEXT, 4), idle, idle, idle],
            RingError::NextOutOfRange {
                head: 0,
                index: 0,
                next: 4,
                size: 4,
            },
        ),
        (
            [(DATA, 1, DESC_F_NEXT | DESC_F_WRITE, 1), idle, idle, idle],
            RingError::ReadableAfterWritable { head: 0, index: 1 },
        ),
        (
            [(u64::MAX, 2, 0, 0), idle, idle, idle],
            RingError::ChainTooLong { head: 0 },
        ),
        (
            [(DATA, u32::MAX, DESC_F_NEXT, 1), (DATA, 2, 0, 0), idle, idle],
            RingError::ChainTooLong { head: 0 },
        ),
        (
            [(DATA, 0, DESC_F_INDIRECT, 0), idle, idle, idle],
            RingError::IndirectLength { head: 0, length: 0 },
        ),
        (
            [(DATA, 17, DESC_F_INDIRECT, 0), idle, idle, idle],
            RingError::IndirectLength { head: 0, length: 17 },
        ),
        (
            [(DATA, 16 * 1025, DESC_F_INDIRECT, 0), idle, idle, idle],
            RingError::IndirectLength { head: 0, length: 16400 },
        ),
        (
            [(DATA, 16, DESC_F_INDIRECT | DESC_F_NEXT, 1), idle, idle, idle],
            RingError::IndirectFlags {
                head: 0,
                what: "NEXT set",
            },
        ),
    ];
    for (table, expected) in cases {
        let mut device = device.clone();
        for (index, (addr, len, flags, next)) in table.into_iter().enumerate() {
            put(&mem, &device, index as u16, addr, len, flags, next);
        }
        mem.store_u16(device.layout().avail_idx(), 0, Ordering::Release)
            .unwrap();
        avail(&mem, &device, 0);
        assert_eq!(device.pop(&mem), Err(expected));
        assert_eq!((device.base(), device.taken()), (1, 0));
    }
}

#[test]
fn device_survives_hostile_indirect_tables_and_indices() {
    // Broken: a driver hides a loop in an indirect table, or makes the device run ahead.
    let (mem, _, device) = ring(4, 0);
    put(&mem, &device, 0, DATA, 32, DESC_F_INDIRECT, 0);
    avail(&mem, &device, 0);
    let table = |first: Descriptor, second: Descriptor| {
        mem.write(DATA, &first.to_bytes()).unwrap();
        mem.write(DATA + 16, &second.to_bytes()).unwrap();
        device.clone().pop(&mem)
    };
    let plain = Descriptor {
        addr: DATA,
        len: 1,
        flags: 0,
        next: 0,
    };
    let next = |to: u16| Descriptor {
        flags: DESC_F_NEXT,
        next: to,
        ..plain
    };
    assert_eq!(table(next(0), plain), Err(RingError::Loop { head: 0, limit: 2 }));
    assert_eq!(
        table(next(2), plain),
        Err(RingError::NextOutOfRange {
            head: 0,
            index: 0,
            next: 2,
            size: 2
        })
    );
    let nested = Descriptor {
        len: 16,
        flags: DESC_F_INDIRECT,
        ..plain
    };
    assert!(matches!(table(next(1), nested), Err(RingError::IndirectFlags { .. })));
    assert!(table(next(1), plain).unwrap().is_some());

    put(&mem, &device, 0, MEMORY_BYTES, 32, DESC_F_INDIRECT, 0);
    assert!(matches!(device.clone().pop(&mem), Err(RingError::Memory(_))));
    for to in [5u16, 0xffff] {
        mem.store_u16(device.layout().avail_idx(), to, Ordering::Release)
            .unwrap();
        let mut device = device.clone();
        assert_eq!(device.pop(&mem), Err(RingError::AvailJumped { from: 0, to, size: 4 }));
        assert_eq!(device.base(), 0);
    }
    assert!(matches!(device.clone().undo_pop(), Err(RingError::NothingTaken { .. })));
}

#[test]
fn a_chain_put_back_comes_again_and_base_counts_it() {
    // Broken: GET_VRING_BASE skips a buffer that was looked at and not used.
    let (mem, mut driver, mut device) = ring(2, 0xffff);
    driver.add(&mem, &[Buffer::writable(DATA, 4)]).unwrap();
    driver.publish(&mem).unwrap();
    let chain = device.pop(&mem).unwrap();
    device.undo_pop().unwrap();
    assert_eq!(device.base(), 0xffff);
    let mut again = SplitDevice::start(*device.layout(), device.base(), &mem).unwrap();
    assert_eq!(again.pop(&mem).unwrap(), chain);
    assert_eq!(again.resubmit(&mem, 0).unwrap(), chain.unwrap());
    assert!(matches!(again.resubmit(&mem, 2), Err(RingError::HeadOutOfRange { .. })));
}

#[test]
fn flags_suppress_kicks_and_calls() {
    // Broken: kicks or calls are sent that the other side has turned off, or wanted ones are not.
    let (mem, mut driver, mut device) = ring(8, 0);
    assert_eq!(
        (driver.needs_kick(&mem), device.needs_call(&mem)),
        (Ok(false), Ok(true))
    );
    let mut turn = |no_notify: bool, no_interrupt: bool| {
        device.set_no_notify(&mem, no_notify).unwrap();
        driver.set_no_interrupt(&mem, no_interrupt).unwrap();
        driver.add(&mem, &[Buffer::readable(DATA, 4)]).unwrap();
        driver.publish(&mem).unwrap();
        let kick = driver.needs_kick(&mem).unwrap();
        assert!(!driver.needs_kick(&mem).unwrap());
        let head = device.pop(&mem).unwrap().unwrap().head;
        device.push(&mem, head, 0).unwrap();
        let call = device.needs_call(&mem).unwrap();
        assert!(!device.needs_call(&mem).unwrap());
        driver.poll_used(&mem).unwrap().unwrap();
        (kick, call)
    };
    assert_eq!(turn(false, false), (true, true));
    assert_eq!(turn(true, true), (false, false));
    assert_eq!(turn(false, true), (true, false));
}

#[test]
fn event_index_asks_for_one_kick_and_one_call_across_the_wrap() {
    // Broken: with EVENT_IDX a notification is lost when indices pass 65535.
    let (mem, mut driver, mut device) = ring(8, 0xfffe);
    driver.set_event_idx(true);
    device.set_event_idx(true);
    device.needs_call(&mem).unwrap();
    device.set_avail_event(&mem, 0xffff).unwrap();
    driver.set_used_event(&mem, 0).unwrap();
    let (mut kicks, mut calls) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        driver.add(&mem, &[Buffer::readable(DATA, 4)]).unwrap();
        driver.publish(&mem).unwrap();
        kicks.push(driver.needs_kick(&mem).unwrap());
        let head = device.pop(&mem).unwrap().unwrap().head;
        device.push(&mem, head, 0).unwrap();
        calls.push(device.needs_call(&mem).unwrap());
    }
    assert_eq!(kicks, [false, true, false, false]);
    assert_eq!(calls, [false, false, true, false]);
}

#[test]
fn used_writes_for_the_log_are_where_the_ring_was_written() {
    // Broken: the dirty log misses the page of the used element.
    let (mem, mut driver, mut device) = ring(4, 3);
    driver.add(&mem, &[Buffer::readable(DATA, 4)]).unwrap();
    driver.publish(&mem).unwrap();
    let head = device.pop(&mem).unwrap().unwrap().head;
    device.push(&mem, head, 0).unwrap();
    assert_eq!(device.last_used_writes(), [(4 + 8 * 3, 8), (2, 2)]);
}

proptest! {
    #[test]
    fn no_ring_content_makes_the_device_panic_or_loop(bytes in proptest::collection::vec(any::<u8>(), 0x80), idx in 0..5u16) {
        // Broken: fuzzed ring memory crashes a simulated back-end.
        let (mem, _, mut device) = ring(4, 0);
        mem.write(0x100, &bytes).unwrap();
        mem.store_u16(device.layout().avail_idx(), idx, Ordering::Release).unwrap();
        for _ in 0..idx {
            if let Ok(Some(chain)) = device.pop(&mem) {
                let _ = chain.read_all(&mem, 0x1000);
                let _ = chain.write(&mem, &[1; 0x100]);
            }
        }
        prop_assert_eq!(device.base(), idx);
    }

    #[test]
    fn driver_never_loses_descriptors(
        size in 0..5u32, steps in proptest::collection::vec((0..4usize, any::<proptest::sample::Index>(), any::<bool>()), 1..200),
    ) {
        // Broken: after some requests in some order the ring is full with nothing outstanding.
        let size = 1u16 << size;
        let (mem, mut driver, mut device) = ring(size, 0xfff0);
        let mut taken: Vec<Chain> = Vec::new();
        for (parts, pick, publish) in steps {
            let chain: Vec<Buffer> = (0..=parts).map(|at| Buffer::readable(DATA + at as u64, at as u32)).collect();
            let _ = driver.add(&mem, &chain);
            if publish {
                driver.publish(&mem).unwrap();
            }
            while let Some(chain) = device.pop(&mem).unwrap() {
                taken.push(chain);
            }
            if !taken.is_empty() {
                let chain = taken.swap_remove(pick.index(taken.len()));
                device.push(&mem, chain.head, 0).unwrap();
                prop_assert_eq!(driver.poll_used(&mem).unwrap().map(|used| used.head), Some(HeadIndex(chain.head)));
            }
        }
        driver.publish(&mem).unwrap();
        while let Some(chain) = device.pop(&mem).unwrap() {
            taken.push(chain);
        }
        for chain in taken {
            device.push(&mem, chain.head, 0).unwrap();
            driver.poll_used(&mem).unwrap().unwrap();
        }
        prop_assert_eq!((driver.free_descriptors(), driver.outstanding()), (size, 0));
    }
}
