//! The inflight area over real memfds, and back-ends that die at every write to it.

use std::os::fd::OwnedFd;

use super::*;
use crate::memory::guest::sealed_memfd;
use crate::memory::{GuestAccess, MemRegionDesc, MemoryError, RegionTable};

fn split(queues: u16, queue_size: u16) -> (SplitInflight, OwnedFd, u64) {
    let (area, fd) = Inflight::allocate(InflightFormat::Split, queues, queue_size).unwrap();
    let size = area.size();
    (split_of(area), fd, size)
}

fn split_of(area: Inflight) -> SplitInflight {
    match area {
        Inflight::Split(area) => area,
        Inflight::Packed(_) => panic!("it is of split rings"),
    }
}

fn again(fd: &OwnedFd, size: u64, queues: u16, queue_size: u16) -> SplitInflight {
    let fd = fd.try_clone().unwrap();
    split_of(Inflight::map(fd, InflightFormat::Split, 0, size, queues, queue_size).unwrap())
}

#[test]
fn inflight_strides_are_those_of_the_implementations() {
    // Broken: a back-end that restarts reads another queue's records. libvhost-user: ALIGN_UP(16 * n + 2, 64).
    for size in [4u16, 8, 64, 128, 256, 1024, 32768] {
        assert_eq!(
            InflightFormat::Split.stride(size),
            (16 * u64::from(size) + 2).next_multiple_of(64)
        );
        assert_eq!(InflightFormat::Split.stride(size), 16 * u64::from(size) + 64);
        // DPDK's, which counts the header of 29 bytes as it is declared
        assert_eq!(
            InflightFormat::Packed.stride(size),
            (32 * u64::from(size) + 29).next_multiple_of(64)
        );
    }
}

#[test]
fn inflight_survives_a_crash_in_the_middle_of_a_batch() {
    // Broken: after a reconnect requests are lost, done twice or done in another order.
    let (mut area, fd, size) = split(2, 8);
    assert_eq!(area.init(1, 0), Ok(true));
    assert_eq!(area.init(1, 0), Ok(false));
    for head in [3, 0, 7, 5, 1] {
        area.fetch(1, head).unwrap();
    }
    area.link(1, 0).unwrap();
    area.complete(1, &[0], 1).unwrap();
    area.link(1, 5).unwrap();
    area.link(1, 3).unwrap();
    // used.idx has gone to 3, and here the back-end dies: the flags of 5 and 3 are still set.
    drop(area);
    let mut next = again(&fd, size, 2, 8);
    let looks = Inflight::map_to_look(fd.try_clone().unwrap(), InflightFormat::Split, 0, size, 2, 8);
    let looks = split_of(looks.unwrap());
    assert_eq!(
        (looks.left_by_crash(1, 3), looks.left_over(1)),
        (Ok(vec![7, 1]), Ok(vec![3, 7, 5, 1]))
    );
    assert_eq!(next.recover(1, 3), Ok(vec![7, 1]));
    assert_eq!((looks.left_over(1), looks.noted_used(1)), (Ok(vec![7, 1]), Ok(3)));
    assert_eq!((next.is_inflight(1, 3), next.is_inflight(1, 7)), (Ok(false), Ok(true)));
    next.fetch(1, 3).unwrap();
    // What is fetched after the restart is younger than what was left over.
    let mut third = again(&fd, size, 2, 8);
    assert_eq!(third.recover(1, 3), Ok(vec![7, 1, 3]));
    assert_eq!(third.recover(0, 0), Ok(vec![]));
}

#[test]
fn inflight_area_of_a_hostile_front_end_is_refused() {
    // Broken: indices that a peer wrote lead outside the area.
    let (mut area, fd, bytes) = split(1, 8);
    area.init(0, 0).unwrap();
    assert!(matches!(
        area.fetch(0, 8),
        Err(MemoryError::BadInflight { what: "head", .. })
    ));
    assert!(matches!(
        area.fetch(1, 0),
        Err(MemoryError::BadInflight { what: "queue", .. })
    ));
    area.fetch(0, 3).unwrap();
    assert!(matches!(
        area.recover(0, 9),
        Err(MemoryError::BadInflight {
            what: "used_idx lag",
            ..
        })
    ));
    area.clear(0, 3).unwrap();
    let mut raw = GuestLike::new(fd.try_clone().unwrap(), bytes);
    raw.put(12, &0xfffeu16.to_le_bytes());
    assert!(matches!(
        area.recover(0, 1),
        Err(MemoryError::BadInflight { what: "head", .. })
    ));
    raw.put(10, &9u16.to_le_bytes());
    assert!(matches!(
        area.recover(0, 0),
        Err(MemoryError::BadInflight { what: "desc_num", .. })
    ));
    raw.put(10, &8u16.to_le_bytes());
    raw.put(16, &[1]);
    raw.put(16 + 8, &u64::MAX.to_le_bytes());
    assert_eq!(area.recover(0, 0), Ok(vec![0]));
    area.fetch(0, 1).unwrap();
    for (offset, size, queues, queue_size) in [(0, 100, 1, 8), (0, 192, 0, 8), (0, 192, 1, 0), (0, 192, 2, 8)] {
        let mapped = Inflight::map(
            fd.try_clone().unwrap(),
            InflightFormat::Split,
            offset,
            size,
            queues,
            queue_size,
        );
        assert!(
            matches!(mapped, Err(MemoryError::BadInflight { .. })),
            "{size} {queues} {queue_size}"
        );
    }
    let odd = Inflight::map(sealed_memfd(0x1000).unwrap(), InflightFormat::Split, 4, 192, 1, 8);
    assert!(matches!(
        odd,
        Err(MemoryError::BadInflight {
            what: "mmap_offset",
            ..
        })
    ));
}

/// The area's bytes as a peer reaches them.
struct GuestLike(RegionTable);

impl GuestLike {
    fn new(fd: OwnedFd, size: u64) -> Self {
        let mut table = RegionTable::new();
        let region = MemRegionDesc {
            guest_address: 0,
            size,
            user_address: 0,
            mmap_offset: 0,
        };
        table.map(region, fd).unwrap();
        Self(table)
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.0.write(at, bytes).unwrap();
    }
}

const START: UsedPosition = UsedPosition { at: 0, wrap: true };

fn packed(queue_size: u16) -> (PackedInflight, OwnedFd, u64) {
    let (area, fd) = Inflight::allocate(InflightFormat::Packed, 1, queue_size).unwrap();
    let size = area.size();
    (packed_of(area), fd, size)
}

fn packed_of(area: Inflight) -> PackedInflight {
    match area {
        Inflight::Packed(area) => area,
        Inflight::Split(_) => panic!("it is of packed rings"),
    }
}

fn packed_again(fd: &OwnedFd, size: u64, queue_size: u16) -> PackedInflight {
    let fd = fd.try_clone().unwrap();
    packed_of(Inflight::map(fd, InflightFormat::Packed, 0, size, 1, queue_size).unwrap())
}

fn chain(id: u16, descriptors: u16) -> Vec<InflightDescriptor> {
    let descriptor = |nth| InflightDescriptor {
        addr: u64::from(id) << 32 | u64::from(nth),
        len: 100 + u32::from(nth),
        id,
        flags: 0x80 | u16::from(nth + 1 < descriptors),
    };
    (0..descriptors).map(descriptor).collect()
}

#[test]
fn a_packed_chain_is_recorded_as_the_specification_lays_it_out() {
    // Broken: another implementation reads other requests out of the area than were written into it.
    let (mut area, fd, size) = packed(4);
    assert_eq!(area.init(0, UsedPosition { at: 3, wrap: false }), Ok(true));
    assert_eq!(area.fetch(0, &chain(7, 2)), Ok(0));
    assert_eq!(area.fetch(0, &chain(9, 1)), Ok(2));
    let raw = GuestLike::new(fd, size);
    let half = |at| raw.0.read_u16(at).unwrap();
    // version, desc_num, free_head, old_free_head, used_idx, old_used_idx, both wrap counters
    let header: Vec<u16> = (8..22).step_by(2).map(half).collect();
    assert_eq!(header, [1, 4, 3, 3, 3, 3, 0]);
    // inflight, next, last, num, and of the second entry id, flags, len and addr
    let entry = |at: u64| [half(at) & 0xff, half(at + 2), half(at + 4), half(at + 6)];
    assert_eq!(entry(32), [1, 1, 1, 2]);
    assert_eq!(entry(32 + 64), [1, 3, 2, 1]);
    let counters = [32, 32 + 64].map(|at| raw.0.read_u64(at + 8).unwrap());
    assert_eq!(counters, [0, 1]);
    assert_eq!([half(32 + 32 + 16), half(32 + 32 + 18)], [7, 0x80]);
    assert_eq!(raw.0.read_u32(32 + 32 + 20), Ok(101));
    assert_eq!(raw.0.read_u64(32 + 32 + 24), Ok(7 << 32 | 1));
}

/// A ring as far as recovery looks at it: the slot at `old_used_idx` is available, or is not any more.
struct Shown {
    chains: Vec<u16>,
    by: UsedPosition,
}

/// What a back-end does that takes four chains, puts one back, and returns the others in two batches, until its life is over.
/// Gives the chains that were certainly taken, the one that was being taken or put back, and the batches whose slots said
/// that they were returned.
fn work(area: &mut PackedInflight, life: &Life) -> (Vec<u16>, Option<u16>, Vec<Shown>) {
    let (mut taken, mut shown) = (Vec::new(), Vec::new());
    let mut entries = Vec::new();
    for id in 0..4 {
        let entry = area.fetch(0, &chain(id, 1 + id % 2)).unwrap();
        if life.is_over() {
            return (taken, Some(id), shown);
        }
        entries.push(entry);
        taken.push(id);
    }
    area.put_back(0, entries[3]).unwrap();
    taken.pop();
    if life.is_over() {
        return (taken, Some(3), shown);
    }
    let mut at = 0;
    for batch in [vec![2usize, 0], vec![1]] {
        for id in &batch {
            area.link(0, entries[*id]).unwrap();
            at += 1 + *id as u16 % 2;
        }
        let by = UsedPosition { at, wrap: true };
        area.advance(0, by).unwrap();
        // the store to the ring
        if !life.writes() {
            return (taken, None, shown);
        }
        let chains = batch.iter().map(|id| *id as u16).collect();
        shown.push(Shown { chains, by });
        for id in &batch {
            area.clear(0, entries[*id]).unwrap();
        }
        area.note(0).unwrap();
    }
    (taken, None, shown)
}

/// Whether the slot where the ring stood before the batch is not available any more.
fn is_returned(area: &PackedInflight, shown: &[Shown]) -> bool {
    let [used, old] = area.positions(0).unwrap();
    used != old && shown.last().is_some_and(|last| last.by == used)
}

#[test]
fn a_packed_area_is_right_after_a_death_at_every_write() {
    // Broken: a request is lost or done twice when a back-end dies between two particular writes, or its successor does.
    let mut deaths = 0;
    for write in 1.. {
        let (mut area, fd, size) = packed(8);
        area.init(0, START).unwrap();
        let life = Life::until(write);
        area.area_mut().life = Some(life.clone());
        let (taken, doubtful, shown) = work(&mut area, &life);
        drop(area);
        if !life.is_over() {
            break;
        }
        deaths = write;
        let back: Vec<u16> = shown.iter().flat_map(|shown| shown.chains.clone()).collect();
        // each successor dies as well, one write later than the one before it, until one lives
        for second in 1.. {
            let mut next = packed_again(&fd, size, 8);
            let life = Life::until(second);
            next.area_mut().life = Some(life.clone());
            let returned = is_returned(&next, &shown);
            let expected = next.left_by_crash(0, returned).unwrap();
            let left = next.recover(0, returned).unwrap();
            if life.is_over() {
                continue;
            }
            assert_eq!(left, expected, "death at write {write}");
            let ids: Vec<u16> = left.iter().map(|entry| next.chain(0, *entry).unwrap()[0].id).collect();
            let certain: Vec<u16> = taken.iter().copied().filter(|id| !back.contains(id)).collect();
            let with_it: Vec<u16> = certain.iter().copied().chain(doubtful).collect();
            assert!(
                ids == certain || ids == with_it,
                "death at write {write}: {ids:?} and not {certain:?}"
            );
            let whole: Vec<u16> = left
                .iter()
                .map(|entry| next.chain(0, *entry).unwrap().len() as u16)
                .collect();
            let free = next.free_list(0).unwrap();
            assert_eq!(
                free.len() as u16 + whole.iter().sum::<u16>(),
                8,
                "death at write {write}"
            );
            for (entry, id) in left.iter().zip(&ids) {
                assert_eq!(
                    next.chain(0, *entry).unwrap(),
                    chain(*id, 1 + id % 2),
                    "death at write {write}"
                );
            }
            let at = shown.last().map_or(START, |shown| shown.by);
            assert_eq!(next.positions(0), Ok([at, at]), "death at write {write}");
            break;
        }
    }
    assert!(deaths > 60, "it dies at each of {deaths} writes");
}

#[test]
fn stale_marks_on_free_entries_are_not_in_flight() {
    // Broken: what was returned is done again, since an entry still says that it is in flight (VU-IFL-16).
    let (mut area, fd, size) = packed(8);
    area.init(0, START).unwrap();
    for id in [3, 1, 2] {
        area.fetch(0, &chain(id, 1)).unwrap();
    }
    let mut raw = GuestLike::new(fd.try_clone().unwrap(), size);
    // entries 4 and 7 are free, and the counters of those that are not are shuffled
    for entry in [4u64, 7] {
        raw.put(32 + 32 * entry, &[1]);
    }
    for (entry, counter) in [(0u64, 12u64), (1, 10), (2, 11)] {
        raw.put(32 + 32 * entry + 8, &counter.to_le_bytes());
    }
    let mut next = packed_again(&fd, size, 8);
    assert_eq!(next.recover(0, false), Ok(vec![1, 2, 0]));
    // what is taken after the restart is younger than what was left over
    assert_eq!(next.fetch(0, &chain(5, 1)), Ok(3));
    assert_eq!(next.left_over(0), Ok(vec![1, 2, 0, 3]));
}

#[test]
fn the_slot_of_before_decides_over_a_batch_of_the_whole_ring() {
    // Broken: a batch that goes once around leaves used_idx where it was, and is taken for none.
    for (returned, left) in [(true, vec![]), (false, vec![0, 1])] {
        let (mut area, fd, size) = packed(4);
        area.init(0, START).unwrap();
        for id in [0, 1] {
            area.fetch(0, &chain(id, 2)).unwrap();
        }
        for entry in [0, 2] {
            area.link(0, entry).unwrap();
        }
        area.advance(0, UsedPosition { at: 0, wrap: false }).unwrap();
        let mut next = packed_again(&fd, size, 4);
        assert_eq!(next.is_cut_off(0), Ok(true));
        let ids = next.recover(0, returned).unwrap();
        let ids: Vec<u16> = ids.iter().map(|entry| next.chain(0, *entry).unwrap()[0].id).collect();
        assert_eq!(ids, left);
    }
}

#[test]
fn a_packed_area_of_a_hostile_front_end_is_refused() {
    // Broken: indices that a peer wrote lead outside the area, or around in it for ever.
    let (mut area, fd, size) = packed(4);
    area.init(0, START).unwrap();
    area.fetch(0, &chain(1, 2)).unwrap();
    let mut raw = GuestLike::new(fd, size);
    let refused = |result: Result<Vec<u16>, MemoryError>, field: &str| match result {
        Err(MemoryError::BadInflight { what, .. }) => assert_eq!(what, field),
        other => panic!("{other:?} and not an error about {field}"),
    };
    // num, and a last that is not the last
    raw.put(32 + 6, &5u16.to_le_bytes());
    refused(area.chain(0, 0).map(|_| Vec::new()), "num");
    raw.put(32 + 6, &1u16.to_le_bytes());
    refused(area.chain(0, 0).map(|_| Vec::new()), "last");
    raw.put(32 + 4, &9u16.to_le_bytes());
    refused(area.link(0, 0).map(|()| Vec::new()), "head");
    // a list of free entries that goes round
    raw.put(32 + 3 * 32 + 2, &2u16.to_le_bytes());
    refused(area.recover(0, false), "free_head");
    raw.put(14, &7u16.to_le_bytes());
    refused(area.fetch(0, &chain(2, 1)).map(|_| Vec::new()), "free_head");
    raw.put(10, &9u16.to_le_bytes());
    refused(area.recover(0, false), "desc_num");
}
