//! One made-up violation for each rule, in a split ring and, where the rule is seen there too, in a packed one; and for each
//! mark a session in which it happens.

use super::rig::{DATA, EVENT_IDX, FEATURES, I, IN_ORDER, INDIRECT, LAYOUT, LOG_ALL, N, PACKED, Rig, SIZE, TABLE, W};
use crate::judge::oracle::{Mark, Terms};

/// Outside of guest memory.
const NOWHERE: u64 = 0x4000_0000;

pub(super) type Case = fn() -> Rig;

/// Each ends with one violation of its rule.
pub(super) const CASES: &[(&str, Case)] = &[
    ("used-ahead", || {
        let mut rig = Rig::split();
        rig.put_u16(LAYOUT.used_idx(), 1);
        rig.look();
        rig
    }),
    ("used-back", || {
        let mut rig = with_two_returned();
        rig.put_u16(LAYOUT.used_idx(), 1);
        rig.look();
        rig
    }),
    ("chain-returned-twice", || {
        let mut rig = Rig::split();
        rig.offer_seen(0);
        rig.offer_seen(1);
        rig.give(0, 0);
        rig.look();
        rig.give(0, 0);
        rig.look();
        rig
    }),
    ("chain-returned-twice", || {
        let mut rig = Rig::packed();
        rig.offer_packed(3, &[(DATA, 1, 0)]);
        rig.offer_packed(4, &[(DATA, 1, 0)]);
        rig.give_packed(3, 0, 1);
        rig.give_packed(3, 0, 1);
        rig
    }),
    ("chain-never-available", || {
        let mut rig = Rig::split();
        rig.offer_seen(0);
        rig.give(5, 0);
        rig.look();
        rig
    }),
    ("chain-never-available", || {
        let mut rig = Rig::packed();
        rig.offer_packed(3, &[(DATA, 1, 0)]);
        rig.give_packed(7, 0, 1);
        rig
    }),
    ("used-id-out-of-range", || {
        let mut rig = Rig::split();
        rig.offer_seen(0);
        rig.give(8, 0);
        rig.look();
        rig
    }),
    ("used-length", || {
        let mut rig = Rig::split();
        rig.desc(0, DATA, 100, N, 1);
        rig.desc(1, DATA, 100, W, 0);
        rig.offer_seen(0);
        rig.give(0, 101);
        rig.look();
        rig
    }),
    ("used-length", || {
        let mut rig = Rig::packed();
        rig.offer_packed(0, &[(DATA, 100, 0), (DATA, 100, W)]);
        rig.give_packed(0, 101, 2);
        rig
    }),
    ("used-in-order", || {
        let mut rig = Rig::started(FEATURES & !LOG_ALL | IN_ORDER, true);
        rig.offer_seen(0);
        rig.offer_seen(1);
        rig.give(1, 0);
        rig.look();
        rig
    }),
    // a batch, and then one of its chains again
    ("used-in-order", || {
        let mut rig = Rig::started(FEATURES & !LOG_ALL | IN_ORDER, true);
        (0..3).for_each(|head| rig.offer_seen(head));
        rig.give_batch(1, 0, 2);
        rig.give(0, 0);
        rig.look();
        rig
    }),
    ("used-in-order", || {
        let mut rig = Rig::started(FEATURES & !LOG_ALL | PACKED | IN_ORDER, true);
        rig.offer_packed(3, &[(DATA, 1, 0)]);
        rig.offer_packed(4, &[(DATA, 1, 0)]);
        rig.give_packed(4, 0, 1);
        rig.give_packed(3, 0, 1);
        rig
    }),
    ("wrote-outside-memory", || {
        let mut rig = Rig::split();
        rig.oracle.allow("buffer-outside-memory");
        rig.desc(0, DATA, 100, W | N, 1);
        rig.desc(1, NOWHERE, 100, W, 0);
        rig.offer_seen(0);
        rig.give(0, 101);
        rig.look();
        rig
    }),
    ("used-while-stopped", || {
        let mut rig = Rig::split();
        rig.offer_seen(0);
        rig.stop(0);
        rig.give(0, 0);
        rig.look();
        rig
    }),
    // one that the driver could not have made: it names a chain that the device has
    ("used-while-stopped", || {
        let mut rig = Rig::split();
        rig.set_terms(Terms::default());
        rig.offer_seen(0);
        rig.stop(0);
        rig.give(0, 0);
        rig.look();
        rig
    }),
    // the index stays
    ("used-while-stopped", || {
        let mut rig = Rig::split();
        rig.offer_seen(0);
        rig.stop(0);
        rig.put_u16(LAYOUT.used_slot(0), 7);
        rig.look();
        rig
    }),
    ("used-while-stopped", || {
        let mut rig = Rig::packed();
        rig.offer_packed(0, &[(DATA, 1, 0)]);
        rig.stop(0x8000_8000);
        rig.give_packed(0, 0, 1);
        rig
    }),
    ("stopped-undrained", || {
        let mut rig = Rig::split();
        rig.offer_seen(0);
        rig.stop(1);
        rig
    }),
    ("stopped-undrained", || {
        let mut rig = Rig::packed();
        rig.offer_packed(0, &[(DATA, 1, 0)]);
        rig.stop(0x8000_8001);
        rig
    }),
    ("base-outside-ring", || {
        let mut rig = with_two_returned();
        rig.stop(1);
        rig
    }),
    ("served-while-disabled", || {
        let mut rig = Rig::started(FEATURES & !LOG_ALL, false);
        rig.desc(0, DATA, 1, W, 0);
        rig.offer_seen(0);
        rig.give(0, 1);
        rig.look();
        rig
    }),
    // enabled once, and the back-end has read that it is disabled
    ("served-while-disabled", || {
        let mut rig = Rig::split();
        rig.say("front SET_VRING_ENABLE index=0 num=0");
        rig.settle();
        rig.desc(0, DATA, 1, W, 0);
        rig.offer_seen(0);
        rig.give(0, 1);
        rig.look();
        rig
    }),
    ("served-while-disabled", || {
        let mut rig = Rig::started(FEATURES & !LOG_ALL | PACKED, false);
        rig.offer_packed(0, &[(DATA, 1, W)]);
        rig.give_packed(0, 1, 1);
        rig
    }),
    ("buffer-unlogged", || {
        let mut rig = Rig::logged(0);
        rig.desc(0, DATA, 0x1001, W, 0);
        rig.offer_seen(0);
        rig.give(0, 0x1001);
        rig.log.as_ref().unwrap().mark(DATA, 1).unwrap();
        rig.stop(1);
        rig
    }),
    ("used-unlogged", || {
        let mut rig = Rig::logged(1);
        rig.desc(0, DATA, 1, 0, 0);
        rig.offer_seen(0);
        rig.give(0, 0);
        // the ring's own page is not the one
        rig.log.as_ref().unwrap().mark(LAYOUT.used, 16).unwrap();
        rig.stop(1);
        rig
    }),
    ("device-flags", || {
        let mut rig = Rig::split();
        rig.put_u16(LAYOUT.used_flags(), 2);
        rig.look();
        rig
    }),
    ("device-flags", || {
        let mut rig = Rig::packed();
        rig.put_u16(0x2002, 2);
        rig.look();
        rig
    }),
    ("driver-flags", || {
        let mut rig = Rig::split();
        rig.put_u16(LAYOUT.avail_flags(), 4);
        rig.look();
        rig
    }),
    ("driver-flags", || {
        let mut rig = Rig::started(FEATURES & !LOG_ALL | PACKED | EVENT_IDX, true);
        rig.put_u16(0x1002, 3);
        rig.look();
        rig
    }),
    ("available-too-far", || {
        let mut rig = Rig::split();
        rig.put_u16(LAYOUT.avail_idx(), SIZE + 1);
        rig.look();
        rig
    }),
    ("head-out-of-range", || {
        let mut rig = Rig::split();
        rig.offer_seen(8);
        rig
    }),
    ("chain-available-twice", || {
        let mut rig = Rig::split();
        rig.offer_seen(0);
        rig.offer_seen(0);
        rig
    }),
    ("chain-available-twice", || {
        let mut rig = Rig::packed();
        rig.offer_packed(0, &[(DATA, 1, 0)]);
        rig.offer_packed(0, &[(DATA, 1, 0)]);
        rig
    }),
    ("next-out-of-range", || {
        let mut rig = Rig::split();
        rig.desc(0, DATA, 1, N, 8);
        rig.offer_seen(0);
        rig
    }),
    ("next-out-of-range", || indirect(2 * 16, &[(DATA, 1, N, 2)])),
    ("chain-endless", || {
        let mut rig = Rig::split();
        rig.desc(0, DATA, 1, N, 1);
        rig.desc(1, DATA, 1, N, 0);
        rig.offer_seen(0);
        rig
    }),
    ("chain-endless", || {
        let mut rig = Rig::packed();
        // the last descriptor goes on as well
        (0..8).for_each(|slot| rig.desc(slot, DATA, 1, 0, N | 1 << 7));
        rig.look();
        rig
    }),
    ("chain-endless", || {
        indirect(2 * 16, &[(DATA, 1, N, 1), (DATA, 1, N, 0)])
    }),
    ("chain-too-long", || {
        let mut rig = Rig::split();
        rig.desc(0, DATA, u32::MAX, N, 1);
        rig.desc(1, DATA, 2, 0, 0);
        rig.offer_seen(0);
        rig
    }),
    ("chain-too-long", || {
        let mut rig = Rig::split();
        rig.desc(0, u64::MAX, 2, 0, 0);
        rig.offer_seen(0);
        rig
    }),
    ("readable-after-writable", || {
        let mut rig = Rig::split();
        rig.desc(0, DATA, 1, W | N, 1);
        rig.desc(1, DATA, 1, 0, 0);
        rig.offer_seen(0);
        rig
    }),
    ("readable-after-writable", || {
        let mut rig = Rig::packed();
        rig.offer_packed(0, &[(DATA, 1, W), (DATA, 1, 0)]);
        rig
    }),
    ("indirect-unnegotiated", || {
        let mut rig = Rig::started(FEATURES & !LOG_ALL & !INDIRECT, true);
        rig.desc(0, TABLE, 16, I, 0);
        rig.offer_seen(0);
        rig
    }),
    ("indirect-in-chain", || {
        let mut rig = Rig::split();
        rig.desc(0, TABLE, 16, I | N, 1);
        rig.offer_seen(0);
        rig
    }),
    ("indirect-in-chain", || {
        let mut rig = Rig::packed();
        rig.offer_packed(0, &[(DATA, 1, 0), (TABLE, 16, I)]);
        rig
    }),
    ("indirect-in-table", || indirect(16, &[(TABLE, 16, I, 0)])),
    ("indirect-length", || indirect(15, &[])),
    ("indirect-length", || indirect(0, &[])),
    ("indirect-length", || indirect(1025 * 16, &[])),
    ("buffer-outside-memory", || {
        let mut rig = Rig::split();
        rig.desc(0, super::rig::MEMORY_BYTES - 1, 2, 0, 0);
        rig.offer_seen(0);
        rig
    }),
    ("buffer-outside-memory", || {
        let mut rig = Rig::split();
        rig.desc(0, NOWHERE, 16, I, 0);
        rig.offer_seen(0);
        rig
    }),
    ("buffer-outside-memory", || {
        let mut rig = Rig::packed();
        rig.offer_packed(0, &[(NOWHERE, 1, 0)]);
        rig
    }),
];

/// A chain with an indirect table of so many bytes.
fn indirect(bytes: u32, table: &[(u64, u32, u16, u16)]) -> Rig {
    let mut rig = Rig::split();
    for (i, (address, length, flags, next)) in table.iter().enumerate() {
        rig.desc_at(TABLE, i as u16, *address, *length, *flags, *next);
    }
    rig.desc(0, TABLE, bytes, I, 0);
    rig.offer_seen(0);
    rig
}

fn with_two_returned() -> Rig {
    let mut rig = Rig::split();
    for head in [0, 1] {
        rig.offer_seen(head);
        rig.give(u32::from(head), 0);
        rig.look();
    }
    rig
}

fn told(mark: Mark) -> Rig {
    let mut rig = Rig::split();
    rig.oracle.told(mark);
    rig
}

/// So many chains go round, and each is seen.
fn go_round(rig: &mut Rig, chains: u32) {
    for i in 0..chains {
        let head = (i % 8) as u16;
        rig.desc(head, DATA, 4, W, 0);
        rig.offer_seen(head);
        rig.give(u32::from(head), 4);
        rig.look();
    }
}

/// Sessions in which nothing is wrong, and the mark that each shows.
pub(super) const MARKS: &[(Mark, Case)] = &[
    (Mark::SplitRing, Rig::split),
    (Mark::PackedRing, Rig::packed),
    (Mark::ChainAvailable, with_two_returned),
    (Mark::ChainReturned, with_two_returned),
    (Mark::ChainJudged, with_two_returned),
    (Mark::LengthJudged, with_two_returned),
    (Mark::RingWrapped, || {
        let mut rig = Rig::split();
        go_round(&mut rig, 8);
        rig
    }),
    (Mark::RingWrapped, || {
        let mut rig = Rig::packed();
        for i in 0..20 {
            rig.offer_packed(i % 8, &[(DATA, 4, 0), (DATA, 4, W), (DATA, 4, W)]);
            rig.give_packed(i % 8, 8, 3);
        }
        rig
    }),
    (Mark::IndexWrapped, || {
        let mut rig = Rig::split();
        go_round(&mut rig, 0x1_0000);
        rig
    }),
    (Mark::RingFull, || {
        let mut rig = Rig::split();
        (0..8).for_each(|head| rig.offer(head));
        rig.look();
        (0..8).for_each(|head| rig.give(head, 0));
        rig.look();
        rig
    }),
    (Mark::RingFull, || {
        let mut rig = Rig::packed();
        rig.offer_packed(0, &[(DATA, 1, 0); 8]);
        rig.give_packed(0, 0, 8);
        rig
    }),
    (Mark::BatchReturned, || {
        let mut rig = Rig::started(FEATURES & !LOG_ALL | IN_ORDER, true);
        for _ in 0..3 {
            (0..4).for_each(|head| rig.offer_seen(head));
            rig.give_batch(3, 0, 4);
            rig.look();
        }
        rig
    }),
    (Mark::BatchReturned, || {
        let mut rig = Rig::started(FEATURES & !LOG_ALL | PACKED | IN_ORDER, true);
        for _ in 0..5 {
            rig.offer_packed(3, &[(DATA, 1, 0), (DATA, 4, W)]);
            rig.offer_packed(4, &[(DATA, 1, W)]);
            rig.give_packed(4, 1, 3);
        }
        rig
    }),
    (Mark::FramesMerged, || told(Mark::FramesMerged)),
    (Mark::FramesNotified, || told(Mark::FramesNotified)),
    (Mark::FramesPolled, || told(Mark::FramesPolled)),
    (Mark::ManyDescriptors, || {
        let mut rig = Rig::packed();
        rig.offer_packed(0, &[(DATA, 1, 0), (DATA, 1, W)]);
        rig
    }),
    (Mark::IndirectUsed, || {
        indirect(3 * 16, &[(DATA, 1, N, 2), (0, 0, 0, 0), (DATA, 1, W, 0)])
    }),
    (Mark::IndirectUsed, || {
        let mut rig = Rig::packed();
        rig.desc_at(TABLE, 0, DATA, 1, 0, 0);
        rig.desc_at(TABLE, 1, DATA, 1, 0, W);
        rig.offer_packed(0, &[(TABLE, 32, I)]);
        rig
    }),
    (Mark::OutOfOrder, || {
        let mut rig = Rig::split();
        rig.offer_seen(0);
        rig.offer_seen(1);
        rig.give(1, 0);
        rig.look();
        rig
    }),
    (Mark::OutOfOrder, || {
        let mut rig = Rig::packed();
        rig.offer_packed(0, &[(DATA, 1, 0)]);
        rig.offer_packed(1, &[(DATA, 1, 0)]);
        rig.give_packed(1, 0, 1);
        rig
    }),
    (Mark::EventIdxUsed, || {
        let mut rig = Rig::started(FEATURES & !LOG_ALL | EVENT_IDX, true);
        rig.put_u16(LAYOUT.avail_event(), 1);
        rig.look();
        rig
    }),
    (Mark::KicksSuppressed, || {
        let mut rig = Rig::split();
        rig.put_u16(LAYOUT.used_flags(), 1);
        rig.offer_seen(0);
        rig
    }),
    (Mark::KicksSuppressed, || {
        let mut rig = Rig::started(FEATURES & !LOG_ALL | EVENT_IDX, true);
        rig.put_u16(LAYOUT.avail_event(), 5);
        rig.offer_seen(0);
        rig
    }),
    (Mark::CallsSuppressed, || {
        let mut rig = Rig::split();
        rig.put_u16(LAYOUT.avail_flags(), 1);
        rig.offer_seen(0);
        rig.give(0, 0);
        rig.look();
        rig
    }),
    (Mark::StoppedDrained, || {
        let mut rig = with_two_returned();
        rig.stop(2);
        rig
    }),
    (Mark::StoppedQuiet, || {
        let mut rig = with_two_returned();
        rig.stop(2);
        // put there in advance
        rig.offer_seen(2);
        rig
    }),
    (Mark::Restarted, || {
        let mut rig = with_two_returned();
        rig.stop(2);
        rig.start(2, 0);
        rig.offer_seen(2);
        rig.give(2, 0);
        rig.look();
        rig
    }),
    (Mark::DisabledWaiting, || {
        let mut rig = Rig::started(FEATURES & !LOG_ALL, false);
        rig.desc(0, DATA, 1, W, 0);
        rig.offer_seen(0);
        rig.say("front SET_VRING_ENABLE index=0 num=1");
        rig.give(0, 1);
        rig.look();
        rig
    }),
    (Mark::MemoryReplaced, || {
        let mut rig = with_two_returned();
        rig.say("front SET_MEM_TABLE regions=[{guest_address=0x0 size=0x100000 user_address=0x7f0000000000 mmap_offset=0x0}] fds=[memfd:0x100000]");
        rig.offer_seen(2);
        rig.give(2, 0);
        rig.look();
        rig
    }),
    (Mark::PagesLogged, || {
        let mut rig = Rig::logged(1);
        rig.desc(0, DATA, 0x2000, W, 0);
        rig.offer_seen(0);
        rig.give(0, 0x1001);
        let log = rig.log.as_ref().unwrap();
        log.mark(DATA, 0x1001).unwrap();
        log.mark(0x3_0000, 16).unwrap();
        rig.stop(1);
        rig
    }),
    (Mark::LostTrack, || {
        let mut rig = Rig::split();
        for i in 0..9 {
            rig.offer(i % 8);
            rig.give(u32::from(i % 8), 0);
        }
        rig.look();
        rig
    }),
    (Mark::LostTrack, || {
        let mut rig = Rig::packed();
        // at the next look it is back already
        rig.desc(0, DATA, 1, 0, 1 << 7 | 1 << 15);
        rig.look();
        rig
    }),
];
