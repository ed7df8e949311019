//! Each rule on a made-up violation, each mark in a session where it happens, and the oracle among peers that do not wait
//! for it.

mod cases;
mod rig;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::judge::monitor::Setting;
use crate::memory::GuestMemory;
use crate::ring::{Buffer, SplitDevice, SplitDriver};
use crate::spec::{MARK_IDS, RING_RULE_IDS, requirement};
use crate::sys::clock::Clock;
use cases::{CASES, MARKS};
use rig::{DATA, EVENT_IDX, FEATURES, LAYOUT, LOG_ALL, N, PACKED, Rig, SIZE, W};

/// Broken: a rule does not see its violation, or another rule speaks too.
#[test]
fn each_rule_fires_on_its_violation_alone() {
    for (at, (rule, case)) in CASES.iter().enumerate() {
        assert_eq!(case().broken(), [*rule], "case {at}");
    }
}

/// Broken: a rule has no violation that shows that it can fire.
#[test]
fn each_rule_has_a_violation() {
    let shown: BTreeSet<&str> = CASES.iter().map(|case| case.0).collect();
    let all: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(shown, all);
}

/// Broken: a mark is not set where it should be, or a rule speaks though nothing is wrong.
#[test]
fn each_mark_is_set_in_silence() {
    for (at, (mark, case)) in MARKS.iter().enumerate() {
        let rig = case();
        assert_eq!(rig.broken(), Vec::<&str>::new(), "case {at}: {}", mark.id());
        assert!(rig.oracle.marks().contains(mark), "case {at}: {}", mark.id());
    }
    let shown: BTreeSet<Mark> = MARKS.iter().map(|case| case.0).collect();
    assert_eq!(shown.len(), Mark::ALL.len(), "a mark has no session that shows it");
}

/// Broken: a mark is set in sessions where nothing of the kind happens.
#[test]
fn a_quiet_session_has_few_marks() {
    let rig = Rig::split();
    assert_eq!(rig.oracle.marks().iter().collect::<Vec<_>>(), [&Mark::SplitRing]);
}

/// Broken: a rule cites what does not exist or has no source, or names are not known to scenarios.
#[test]
fn rules_are_named_and_sourced() {
    let ids: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(ids, RING_RULE_IDS, "spec::RING_RULE_IDS is out of date");
    let marks: Vec<&str> = Mark::ALL.iter().map(|mark| mark.id()).collect();
    assert_eq!(marks, MARK_IDS, "spec::MARK_IDS is out of date");
    let names: BTreeSet<&str> = ids.iter().chain(crate::spec::RULE_IDS).copied().collect();
    assert_eq!(
        names.len(),
        ids.len() + crate::spec::RULE_IDS.len(),
        "two rules share a name"
    );
    for rule in RULES {
        assert!(rule.text.ends_with('.'), "{}", rule.id);
        assert!(!rule.section.is_empty() || !rule.requirements.is_empty(), "{}", rule.id);
        for id in rule.requirements {
            assert!(requirement(id).is_ok(), "{}: {id}", rule.id);
        }
    }
}

/// Broken: a setting excuses nothing, or is not needed.
#[test]
fn each_setting_excuses_its_difference() {
    assert_eq!(
        Setting::RINGS,
        [
            Setting::DisabledServed,
            Setting::PackedBaseHalf,
            Setting::PackedStartHalf
        ]
    );
    let dpdk = Profile::practice().program(Party::BackEnd, "dpdk");
    for (profile, broken) in [(Profile::practice(), vec!["stopped-undrained"]), (dpdk, vec![])] {
        let mut rig = Rig::packed();
        rig.set_terms(Terms {
            profile,
            ..Terms::default()
        });
        rig.offer_packed(0, &[(DATA, 1, 0)]);
        rig.give_packed(0, 0, 1);
        rig.look();
        rig.stop(0x8001);
        assert_eq!(rig.broken(), broken);
        assert_eq!(rig.oracle.excused().count(), 1 - broken.len());
    }
    // a ring that begins in the middle, as it would if the other half were meant: nothing is known of what is under way
    let dpdk = Profile::practice().program(Party::FrontEnd, "dpdk");
    for (profile, judged) in [(Profile::practice(), false), (dpdk, true)] {
        let mut rig = Rig::connected(FEATURES & !LOG_ALL | PACKED);
        rig.set_terms(Terms {
            profile,
            is_paced: true,
            driver_is_ours: true,
            ..Terms::default()
        });
        rig.start(0x8000, 0);
        rig.say("front SET_VRING_ENABLE index=0 num=1");
        rig.settle();
        rig.offer_packed(0, &[(DATA, 1, 0)]);
        rig.look();
        assert_eq!(rig.oracle.marks().contains(&Mark::ChainJudged), judged);
    }
    for (profile, broken) in [
        (Profile::practice(), vec!["served-while-disabled"]),
        (
            Profile::practice().program(Party::BackEnd, "qemu-storage-daemon"),
            vec![],
        ),
    ] {
        let mut rig = Rig::started(FEATURES & !LOG_ALL, false);
        rig.set_terms(Terms {
            profile,
            is_paced: true,
            driver_is_ours: true,
            ..Terms::default()
        });
        rig.desc(0, DATA, 1, W, 0);
        rig.offer_seen(0);
        rig.give(0, 1);
        rig.look();
        assert_eq!(rig.broken(), broken);
        assert_eq!(rig.oracle.excused().count(), 1 - broken.len());
    }
}

/// Broken: what a scenario allows fails it, or what it allowed in vain is not noted.
#[test]
fn allowed_rules_are_deliberate() {
    let mut rig = Rig::split();
    ["VU-VRB-05", "used-back"].iter().for_each(|id| rig.oracle.allow(id));
    rig.offer_seen(0);
    rig.stop(1);
    assert!(matches!(rig.alarms[..], [Alarm { deliberate: true, .. }]));
    assert_eq!(rig.oracle.never_happened().collect::<Vec<_>>(), ["used-back"]);
}

/// Broken: a driver that makes a chain available again as soon as it has come back, between two looks, is blamed for it.
#[test]
fn a_packed_chain_may_go_out_again_at_once() {
    let mut rig = Rig::packed();
    rig.offer_packed(3, &[(DATA, 1, W)]);
    // both at once, as far as the oracle can tell: the used slot, and the same chain in the next one
    rig.put_u16(14, 1 << 7 | 1 << 15 | W);
    rig.offer_packed(3, &[(DATA, 1, W)]);
    assert_eq!(rig.broken(), Vec::<&str>::new());
    let seen = rig.oracle.seen(LinkId(0), 0);
    assert!(
        seen.is_some_and(|seen| seen.available == 2 && seen.returned == 1),
        "{seen:?}"
    );
}

/// Broken: a real driver that makes a packed chain available twice is let pass, because it might have come back unseen.
#[test]
fn a_packed_chain_that_lies_where_it_was_has_not_come_back() {
    let mut rig = Rig::packed();
    rig.set_terms(Terms {
        is_paced: true,
        ..Terms::default()
    });
    rig.offer_packed(3, &[(DATA, 1, N), (DATA, 1, W)]);
    rig.offer_packed(3, &[(DATA, 1, W)]);
    assert_eq!(rig.broken(), ["chain-available-twice"]);
}

/// Broken: a driver whose chain came back unseen, because the ring went round, is blamed for making it available again.
#[test]
fn a_packed_chain_whose_slots_changed_may_have_come_back() {
    // two rounds later another chain lies there, and one round later it has come back as well
    let rounds: [fn(&mut Rig); 2] = [
        |rig| {
            rig.packed[0] = (0, true);
            rig.offer_packed(5, &[(DATA, 1, W)]);
        },
        |rig| rig.put_u16(14, 0),
    ];
    for round in rounds {
        let mut rig = Rig::packed();
        rig.offer_packed(3, &[(DATA, 1, W)]);
        round(&mut rig);
        rig.offer_packed(3, &[(DATA, 1, W)]);
        assert!(rig.oracle.marks().contains(&Mark::LostTrack));
        assert_eq!(rig.broken(), Vec::<&str>::new());
    }
}

/// Broken: a slot of a packed ring that was returned and filled again between two looks goes unnoticed, and nothing after it is judged.
#[test]
fn a_packed_slot_filled_again_unseen_is_told() {
    let mut rig = Rig::packed();
    for id in 0..SIZE {
        rig.offer_packed(id, &[(DATA, 1, W)]);
    }
    rig.look();
    assert!(
        rig.oracle
            .seen(LinkId(0), 0)
            .is_some_and(|seen| seen.available == u64::from(SIZE))
    );
    // all that is left of the return is that the slot is available once more
    rig.offer_packed(0, &[(DATA, 1, W)]);
    rig.look();
    assert!(rig.oracle.marks().contains(&Mark::LostTrack));
    assert_eq!(rig.oracle.seen(LinkId(0), 0), None);
    assert_eq!(rig.broken(), Vec::<&str>::new());
}

/// Broken: what a driver does with the memory of a ring that is stopped is held against the device.
#[test]
fn a_driver_may_use_a_stopped_ring_anew() {
    let mut rig = Rig::split();
    rig.set_terms(Terms::default());
    rig.offer_seen(0);
    rig.give(0, 0);
    rig.look();
    rig.stop(1);
    rig.memory.write(0, &[0; 0x3000]).unwrap();
    rig.look();
    rig.memory.write(0, &[0xff; 0x3000]).unwrap();
    rig.look();
    assert_eq!(rig.broken(), Vec::<&str>::new());
}

/// Broken: the oracle reads indices where it cannot know what they mean, and blames somebody.
#[test]
fn it_is_blind_where_it_cannot_be_certain() {
    for text in [
        "front closed main",
        "front RESET_OWNER",
        "connected",
        "script front SET_VRING_NUM index=0 num=7",
        "front SET_VRING_ENDIAN index=0 num=1",
        "front GET_VRING_BASE index=0 num=0\nscript back reply to GET_VRING_BASE index=0 indices=0x0",
        "front SET_MEM_TABLE as raw payload=00 fds=[memfd:0x1000]",
    ] {
        let mut rig = Rig::split();
        rig.offer_seen(0);
        rig.say(text);
        assert!(!rig.oracle.is_watching(), "{text}");
        rig.give(3, 9);
        rig.look();
        assert_eq!(rig.broken(), Vec::<&str>::new(), "{text}");
    }
}

/// Broken: a device is blamed for returning a chain as often as the driver made it available.
#[test]
fn a_drivers_fault_is_not_the_devices() {
    let mut rig = Rig::split();
    rig.offer(0);
    rig.offer(0);
    rig.look();
    rig.offer_seen(0);
    for _ in 0..3 {
        rig.give(0, 0);
        rig.look();
    }
    assert_eq!(rig.broken(), ["chain-available-twice"; 2]);
}

/// Broken: a state of which the back-end has not read yet is held against it.
#[test]
fn what_the_back_end_need_not_know_is_not_held_against_it() {
    let mut rig = Rig::split();
    rig.say("front GET_QUEUE_NUM\nfront GET_QUEUE_NUM\nfront GET_QUEUE_NUM\nfront SET_VRING_ENABLE index=0 num=0");
    rig.say(&"back reply to GET_QUEUE_NUM value=0x1\n".repeat(3));
    rig.look();
    rig.desc(0, DATA, 1, W, 0);
    rig.offer_seen(0);
    rig.give(0, 1);
    rig.look();
    assert_eq!(rig.broken(), Vec::<&str>::new());
}

/// Broken: with IN_ORDER a used element is read that the device need not have written.
#[test]
fn in_order_chains_are_counted() {
    let mut rig = Rig::started(FEATURES & !LOG_ALL | 1 << 35, true);
    rig.offer_seen(0);
    rig.offer_seen(1);
    rig.give_batch(1, 0, 2);
    rig.look();
    assert_eq!(rig.broken(), Vec::<&str>::new());
    rig.put_u16(LAYOUT.used_idx(), 3);
    rig.look();
    assert_eq!(rig.broken(), ["used-ahead"]);
}

/// Broken: what a scenario writes into a ring is held against a peer, or what it writes beside one ends the looks.
#[test]
fn what_the_scenario_writes_is_nobodys_fault() {
    let mut rig = Rig::split();
    rig.oracle.disturbed(LinkId(0), LAYOUT.used + 70, 4);
    rig.oracle.disturbed(LinkId(0), LAYOUT.used - 4, 4);
    assert!(rig.oracle.is_watching());
    rig.oracle.disturbed(LinkId(0), LAYOUT.used - 4, 5);
    rig.give(3, 9);
    rig.look();
    assert!(!rig.oracle.is_watching());
    assert_eq!(rig.broken(), Vec::<&str>::new());
}

/// Broken: memory that goes away under a ring ends the harness, or is held against a peer.
#[test]
fn truncated_memory_ends_the_looks() {
    let mut rig = Rig::split();
    let file = memory_file();
    rig.oracle = Oracle::new();
    let mut rig = with_memory_of(rig, &file);
    assert!(rig.oracle.is_watching());
    file.set_len(0x1000).unwrap();
    rig.look();
    rig.look();
    assert!(!rig.oracle.is_watching());
    assert_eq!(rig.broken(), Vec::<&str>::new());
}

fn memory_file() -> std::fs::File {
    std::fs::File::from(crate::sys::fd::memfd("vuh", rig::MEMORY_BYTES).unwrap())
}

/// The same session, with a file as memory that can be truncated.
fn with_memory_of(mut rig: Rig, file: &std::fs::File) -> Rig {
    rig.file = Some(file.try_clone().unwrap());
    rig.say("connected");
    rig.shake_hands(FEATURES & !LOG_ALL);
    rig.start(0, 0);
    rig
}

/// Broken: what is written into a ring makes the oracle panic, hang or grow.
#[test]
fn nonsense_is_survived() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for features in [
        FEATURES,
        FEATURES | EVENT_IDX,
        FEATURES | PACKED,
        FEATURES | PACKED | EVENT_IDX,
    ] {
        let mut rig = Rig::started(features, true);
        for _ in 0..4000 {
            let value = random();
            let at = match value % 4 {
                0 => value >> 8 & 0x7f,
                1 => 0x1000 + (value >> 8 & 0x1f),
                2 => 0x2000 + (value >> 8 & 0x4f),
                _ => rig::TABLE + (value >> 8 & 0xff),
            };
            // small numbers make more sense
            let byte = if value >> 20 & 1 == 0 {
                value >> 24 & 0x7
            } else {
                value >> 24 & 0xff
            };
            rig.memory.write(at, &[byte as u8]).unwrap();
            rig.look();
            if value >> 32 & 0x3f == 0 {
                rig.stop((value >> 40) as u32);
                rig.start((value >> 33) as u32, 1);
            }
        }
    }
}

/// Broken: a driver and a device that do everything right, and do not wait for anybody, are blamed for something.
#[test]
fn peers_that_do_not_wait_are_not_blamed() {
    for (batch, event_idx) in [(1, false), (3, true), (8, false)] {
        let features = FEATURES & !LOG_ALL | if event_idx { EVENT_IDX } else { 0 };
        let mut rig = Rig::started(features, true);
        rig.set_terms(Terms::default());
        let done = AtomicBool::new(false);
        let (driver_memory, device_memory) = (share(&rig.memory), share(&rig.memory));
        let clock = Clock::start();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                drive(&driver_memory, batch, event_idx);
                done.store(true, Ordering::Release);
            });
            scope.spawn(|| serve(&device_memory, &done));
            while !done.load(Ordering::Acquire) {
                rig.now = clock.now();
                rig.look();
                std::thread::yield_now();
            }
        });
        assert_eq!(rig.broken(), Vec::<&str>::new(), "batches of {batch}");
        let marks = rig.oracle.marks();
        assert!(marks.contains(&Mark::RingWrapped) && marks.contains(&Mark::ChainReturned));
    }
}

/// Broken: a slot that is written again, and not published yet, is taken for what it was before.
#[test]
fn a_batch_in_the_making_is_not_read() {
    let mut rig = Rig::split();
    rig.set_terms(Terms {
        is_paced: true,
        ..Terms::default()
    });
    rig.offer_seen(4);
    for head in [0, 1] {
        rig.offer(head);
        rig.give(u32::from(head), 0);
    }
    rig.give(4, 0);
    // slots of the eight after those three, of which one lies where chain 0 was
    (3..11).for_each(|index| rig.put_u16(LAYOUT.avail_slot(index), 7));
    rig.look();
    assert_eq!(rig.broken(), Vec::<&str>::new());
    // they come, and are known by their names
    (0..7).for_each(|head| rig.offer(head));
    rig.look();
    rig.give(0, 0);
    rig.look();
    rig.give(0, 0);
    rig.look();
    assert_eq!(rig.broken(), ["chain-returned-twice"]);
}

/// The same memory for another thread.
fn share(memory: &GuestMemory) -> crate::memory::RegionTable {
    let mut table = crate::memory::RegionTable::new();
    table.map(memory.regions()[0], memory.dup(0).unwrap()).unwrap();
    table
}

const CHAINS: u32 = 10_000;

fn drive(mem: &dyn GuestAccess, batch: u32, event_idx: bool) {
    let mut driver = SplitDriver::new(LAYOUT).unwrap();
    driver.set_event_idx(event_idx);
    let (mut sent, mut back) = (0, 0);
    while back < CHAINS {
        // of changing length, so that slots are written again which were just read
        for _ in 0..1 + (sent * 5) % batch {
            if sent < CHAINS && driver.free_descriptors() >= if batch == 8 { 1 } else { 2 } {
                let chain = [Buffer::readable(DATA, 8), Buffer::writable(DATA + 0x1000, 8)];
                // with one descriptor each, as many chains as slots are on their way
                let chain = if batch == 8 || sent % 3 == 0 {
                    &chain[1..]
                } else {
                    &chain
                };
                driver.add(mem, chain).unwrap();
                sent += 1;
            }
        }
        // what it has written and not published may be seen
        std::thread::yield_now();
        driver.publish(mem).unwrap();
        while driver.poll_used(mem).unwrap().is_some() {
            back += 1;
        }
        std::thread::yield_now();
    }
}

fn serve(mem: &dyn GuestAccess, done: &AtomicBool) {
    let mut device = SplitDevice::new(LAYOUT, 0).unwrap();
    let mut held = Vec::new();
    while !done.load(Ordering::Acquire) {
        while let Some(chain) = device.pop(mem).unwrap() {
            held.push(chain);
        }
        // the last one first
        while let Some(chain) = held.pop() {
            device.push(mem, chain.head, chain.writable_len() as u32).unwrap();
        }
        std::thread::yield_now();
    }
}
