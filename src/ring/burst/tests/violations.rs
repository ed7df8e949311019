//! What each side notices about the other: the names are those of the chain-by-chain rings.

use std::sync::atomic::Ordering;

use crate::memory::{GuestAccess, MemoryError};

use super::*;

/// A driver with three chains out, of which the second is longer, and one that is not published.
fn split_out(in_order: bool) -> (Pair, crate::ring::SplitLayout) {
    let options = RingOptions {
        in_order,
        ..RingOptions::default()
    };
    let mut pair = Pair::new(false, 8, 0, options);
    let two = [Buffer::readable(DATA, 4), Buffer::writable(DATA, 4)];
    for token in 0..3 {
        pair.driver.add_chain(token, &two).unwrap();
    }
    pair.driver.publish();
    pair.driver.add(3, Buffer::writable(DATA, 4)).unwrap();
    let Layout::Split(layout) = pair.layout else {
        unreachable!()
    };
    (pair, layout)
}

/// Writes used elements as a faulty device would, and the index.
fn put_used(pair: &Pair, layout: &crate::ring::SplitLayout, elements: &[(u32, u32)]) {
    for (at, (id, len)) in elements.iter().enumerate() {
        let slot = layout.used_slot(at as u16);
        pair.memory.write(slot, &id.to_le_bytes()).unwrap();
        pair.memory.write(slot + 4, &len.to_le_bytes()).unwrap();
    }
    pair.memory
        .store_u16(layout.used_idx(), elements.len() as u16, Ordering::Release)
        .unwrap();
}

#[test]
fn a_split_driver_names_what_a_faulty_device_returns() {
    // Broken: a back-end that corrupts its used ring under traffic passes, or packets before the fault are lost.
    let jumped = RingError::UsedJumped {
        from: 0,
        to: 4,
        outstanding: 3,
    };
    let cases: [(&[(u32, u32)], RingError); 6] = [
        (&[(0, 0), (8, 0)], RingError::UnknownHead { id: 8 }),
        (&[(0, 0), (1, 0)], RingError::UnknownHead { id: 1 }),
        (&[(0, 0), (u32::MAX, 0)], RingError::UnknownHead { id: u32::MAX }),
        (&[(0, 0), (0, 0)], RingError::ReturnedTwice { head: 0 }),
        (&[(0, 0), (6, 0)], RingError::NotPublished { head: 6 }),
        (
            &[(0, 0), (2, 5)],
            RingError::UsedTooLong {
                head: 2,
                len: 5,
                writable: 4,
            },
        ),
    ];
    for in_order in [false, true] {
        let mut done = [Done::default(); 8];
        for (elements, error) in &cases {
            let (mut pair, layout) = split_out(in_order);
            put_used(&pair, &layout, elements);
            assert_eq!(pair.driver.reap(&mut done), Ok(1), "{error}");
            assert!(pair.driver.ask_for_call());
            assert_eq!(pair.driver.reap(&mut done), Err(error.clone()));
            assert_eq!((pair.driver.reap(&mut done), pair.driver.outstanding()), (Ok(0), 1));
        }
        let (mut pair, layout) = split_out(in_order);
        put_used(&pair, &layout, &[(0, 0); 4]);
        assert_eq!(pair.driver.reap(&mut done), Err(jumped.clone()));
        assert_eq!(pair.driver.reap(&mut done), Err(jumped.clone()), "nothing moves");
    }
}

#[test]
fn in_order_a_later_chain_stands_for_those_before_it_and_no_more() {
    // Broken: with IN_ORDER buffers are taken for returned that the device still has, or are lost.
    let (mut pair, layout) = split_out(true);
    let mut done = [Done::default(); 8];
    put_used(&pair, &layout, &[(4, 3), (0, 0), (0, 0)]);
    assert_eq!(pair.driver.reap(&mut done), Ok(3));
    assert_eq!(
        done[..3].iter().map(|d| (d.token, d.len)).collect::<Vec<_>>(),
        [(0, 4), (1, 4), (2, 3)]
    );
    // the index has room for two, and the third is named
    let (mut pair, layout) = split_out(true);
    put_used(&pair, &layout, &[(4, 3), (0, 0)]);
    assert_eq!(pair.driver.reap(&mut done), Err(RingError::OutOfOrder { head: 4 }));
}

#[test]
fn a_packed_driver_names_what_a_faulty_device_returns() {
    // Broken: a back-end that corrupts a packed ring under traffic passes.
    let cases = [
        (9u16, 0u32, RingError::UnknownHead { id: 9 }),
        (7, 0, RingError::UnknownHead { id: 7 }),
        (0, 0, RingError::ReturnedTwice { head: 0 }),
        (3, 0, RingError::NotPublished { head: 3 }),
        (
            1,
            5,
            RingError::UsedTooLong {
                head: 1,
                len: 5,
                writable: 4,
            },
        ),
    ];
    for in_order in [false, true] {
        for (id, len, error) in cases.clone() {
            let options = RingOptions {
                in_order,
                ..RingOptions::default()
            };
            let mut pair = Pair::new(true, 8, 0x8000_8000, options);
            let two = [Buffer::readable(DATA, 4), Buffer::writable(DATA, 4)];
            (0..3).for_each(|token| pair.driver.add_chain(token, &two).unwrap());
            pair.driver.publish();
            pair.driver.add(3, Buffer::writable(DATA, 4)).unwrap();
            let Layout::Packed(layout) = pair.layout else {
                unreachable!()
            };
            let used = |at: u16, id: u16, len: u32| {
                let word = u64::from(len) | u64::from(id) << 32 | 0x8080 << 48;
                pair.memory.write(layout.slot(at) + 8, &word.to_le_bytes()).unwrap();
            };
            used(0, 0, 4);
            used(2, id, len);
            let mut done = [Done::default(); 8];
            assert_eq!(pair.driver.reap(&mut done), Ok(1), "{error}");
            assert!(pair.driver.ask_for_call());
            assert_eq!(pair.driver.reap(&mut done), Err(error));
            assert_eq!(pair.driver.outstanding(), 1);
        }
    }
    let mut pair = Pair::new(true, 8, 0x8000_8000, RingOptions::default());
    let Layout::Packed(layout) = pair.layout else {
        unreachable!()
    };
    pair.memory
        .write(layout.slot(0) + 14, &0x8080u16.to_le_bytes())
        .unwrap();
    let none = RingError::NoneOutstanding { at: 0, id: 0 };
    assert_eq!(pair.driver.reap(&mut [Done::default()]), Err(none));
}

/// Descriptors as they stand in a table: address, length, flags, next or id.
type Raw = (u64, u32, u16, u16);

fn put(pair: &Pair, at: u64, packed: bool, (addr, len, flags, next): Raw) {
    let mut raw = [0; 16];
    raw[..8].copy_from_slice(&addr.to_le_bytes());
    raw[8..12].copy_from_slice(&len.to_le_bytes());
    let (third, fourth) = if packed { (next, flags) } else { (flags, next) };
    raw[12..14].copy_from_slice(&third.to_le_bytes());
    raw[14..].copy_from_slice(&fourth.to_le_bytes());
    pair.memory.write(at, &raw).unwrap();
}

#[test]
fn a_split_device_survives_and_names_what_a_hostile_driver_writes() {
    // Broken: a front-end that corrupts its descriptors ends the harness, or is served.
    let wild = |error: &RingError| matches!(error, RingError::Memory(MemoryError::Unmapped { .. }));
    type Check = fn(&RingError) -> bool;
    let cases: [(&[Raw], Check); 9] = [
        (&[(DATA, 4, 1, 9)], |e| {
            matches!(e, RingError::NextOutOfRange { next: 9, size: 4, .. })
        }),
        (&[(DATA, 4, 1, 1), (DATA, 4, 1, 0)], |e| {
            matches!(e, RingError::Loop { limit: 4, .. })
        }),
        (&[(DATA, 4, 3, 1), (DATA, 4, 0, 0)], |e| {
            matches!(e, RingError::ReadableAfterWritable { index: 1, .. })
        }),
        (&[(u64::MAX, 4, 0, 0)], |e| {
            matches!(e, RingError::ChainTooLong { head: 0 })
        }),
        (&[(DATA, u32::MAX, 1, 1), (DATA, u32::MAX, 0, 0)], |_| true),
        (&[(DATA, 15, 4, 0)], |e| {
            matches!(e, RingError::IndirectLength { length: 15, .. })
        }),
        (&[(DATA, 0, 4, 0)], |e| {
            matches!(e, RingError::IndirectLength { length: 0, .. })
        }),
        (&[(DATA, 16, 5, 1)], |e| matches!(e, RingError::IndirectFlags { .. })),
        (&[(0xffff_0000, 4, 0, 0)], |_| true),
    ];
    for (index, (descriptors, check)) in cases.iter().enumerate() {
        let mut pair = Pair::new(false, 4, 0, RingOptions::default());
        let reach = pair.reach.clone();
        let Layout::Split(layout) = pair.layout else {
            unreachable!()
        };
        pair.driver.add(0, Buffer::readable(DATA, 4)).unwrap();
        pair.driver.publish();
        // a good one before it
        put(&pair, layout.desc_at(3), false, (DATA, 4, 0, 0));
        pair.memory.write(layout.avail_slot(0), &3u16.to_le_bytes()).unwrap();
        for (at, raw) in descriptors.iter().enumerate() {
            put(&pair, layout.desc_at(at as u16), false, *raw);
        }
        pair.memory.write(layout.avail_slot(1), &0u16.to_le_bytes()).unwrap();
        pair.memory.store_u16(layout.avail_idx(), 2, Ordering::Release).unwrap();
        let mut chains = Chains::new();
        assert_eq!(pair.device.take(&reach, &mut chains, 8), Ok(1), "case {index}");
        assert!(pair.device.ask_for_kick());
        let error = pair.device.take(&reach, &mut chains, 8).unwrap_err();
        assert!(check(&error), "case {index}: {error}");
        assert!(index < 8 || wild(&error));
        assert_eq!(
            (pair.device.take(&reach, &mut chains, 8), pair.device.taken()),
            (Ok(0), 1)
        );
    }
    let mut pair = Pair::new(false, 4, 0, RingOptions::default());
    let reach = pair.reach.clone();
    let Layout::Split(layout) = pair.layout else {
        unreachable!()
    };
    pair.memory.store_u16(layout.avail_idx(), 5, Ordering::Release).unwrap();
    let jumped = RingError::AvailJumped {
        from: 0,
        to: 5,
        size: 4,
    };
    assert_eq!(pair.device.take(&reach, &mut Chains::new(), 8), Err(jumped));
    pair.memory.write(layout.avail_slot(0), &4u16.to_le_bytes()).unwrap();
    pair.memory.store_u16(layout.avail_idx(), 1, Ordering::Release).unwrap();
    let head = RingError::HeadOutOfRange { head: 4, size: 4 };
    assert_eq!(pair.device.take(&reach, &mut Chains::new(), 8), Err(head));
}

#[test]
fn a_packed_device_survives_and_names_what_a_hostile_driver_writes() {
    // Broken: a front-end that corrupts a packed ring ends the harness, or the device loses its place in the ring.
    type Check = fn(&RingError) -> bool;
    let available = 0x80;
    let cases: [(&[Raw], Check); 6] = [
        (&[(DATA, 4, 1, 0); 4], |e| matches!(e, RingError::Loop { limit: 4, .. })),
        (&[(DATA, 4, 3, 0), (DATA, 4, 0, 0)], |e| {
            matches!(e, RingError::ReadableAfterWritable { index: 1, .. })
        }),
        (&[(u64::MAX, 4, 0, 0)], |e| matches!(e, RingError::ChainTooLong { .. })),
        (&[(DATA, 15, 4, 0)], |e| {
            matches!(e, RingError::IndirectLength { length: 15, .. })
        }),
        (&[(DATA, 16, 5, 0), (DATA, 4, 0, 0)], |e| {
            matches!(e, RingError::IndirectFlags { .. })
        }),
        (&[(0xffff_0000, 4, 0, 0)], |e| matches!(e, RingError::Memory(_))),
    ];
    for (index, (descriptors, check)) in cases.iter().enumerate() {
        let mut pair = Pair::new(true, 4, 0x8000_8000, RingOptions::default());
        let reach = pair.reach.clone();
        let Layout::Packed(layout) = pair.layout else {
            unreachable!()
        };
        for (at, (addr, len, flags, id)) in descriptors.iter().enumerate() {
            put(
                &pair,
                layout.slot(at as u16),
                true,
                (*addr, *len, *flags | available, *id),
            );
        }
        let mut chains = Chains::new();
        let error = pair.device.take(&reach, &mut chains, 8).unwrap_err();
        assert!(check(&error), "case {index}: {error}");
        assert_eq!(
            (pair.device.take(&reach, &mut chains, 8), pair.device.taken()),
            (Ok(0), 0)
        );
        // it stands behind the chain
        let next = crate::ring::packed::Position::START.advanced(descriptors.len() as u16, 4);
        assert_eq!(pair.device.base() as u16, next.to_bits(), "case {index}");
    }
}
