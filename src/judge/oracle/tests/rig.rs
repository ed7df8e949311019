//! A session made up for a test: guest memory, messages as text, and the test's own hands in the rings.

use std::sync::atomic::Ordering;

use crate::judge::monitor::tests::text;
use crate::judge::monitor::{Monitor, Profile};
use crate::judge::oracle::{Alarm, Oracle, Terms};
use crate::memory::{DirtyLog, GuestAccess, GuestMemory, MemoryOptions, RegionLayout, UserAddresses};
use crate::ring::SplitLayout;
use crate::ring::split::{DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, Descriptor};
use crate::sys::clock::Moment;
use crate::trace::{Event, EventKind, LinkId, Seq};
use crate::wire::Payload;

/// Guest memory begins at 0 and has this many bytes.
pub(super) const MEMORY_BYTES: u64 = 0x10_0000;
/// Where buffers lie.
pub(super) const DATA: u64 = 0x1_0000;
/// Where an indirect table lies.
pub(super) const TABLE: u64 = 0x8000;
pub(super) const SIZE: u16 = 8;
pub(super) const LAYOUT: SplitLayout = SplitLayout {
    size: SIZE,
    desc: 0,
    avail: 0x1000,
    used: 0x2000,
};
pub(super) const W: u16 = DESC_F_WRITE;
pub(super) const N: u16 = DESC_F_NEXT;
pub(super) const I: u16 = DESC_F_INDIRECT;
const LINK: LinkId = LinkId(0);

/// Bits of SET_FEATURES: VERSION_1, bit 30, INDIRECT_DESC, LOG_ALL.
pub(super) const FEATURES: u64 = 0x1_5400_0000;
pub(super) const LOG_ALL: u64 = 1 << 26;
pub(super) const EVENT_IDX: u64 = 1 << 29;
pub(super) const INDIRECT: u64 = 1 << 28;
pub(super) const PACKED: u64 = 1 << 34;
pub(super) const IN_ORDER: u64 = 1 << 35;

pub(super) struct Rig {
    pub(super) memory: GuestMemory,
    /// What is handed over instead of that memory.
    pub(super) file: Option<std::fs::File>,
    pub(super) log: Option<DirtyLog>,
    pub(super) oracle: Oracle,
    monitor: Monitor,
    count: usize,
    pub(super) now: Moment,
    pub(super) alarms: Vec<Alarm>,
    /// Where a packed ring goes on, and its wrap counter: driver, device.
    pub(super) packed: [(u16, bool); 2],
}

impl Rig {
    /// Connected, with memory and features.
    pub(super) fn connected(features: u64) -> Self {
        let layout = RegionLayout {
            guest_address: 0,
            size: MEMORY_BYTES,
        };
        let options = MemoryOptions {
            user_addresses: UserAddresses::Synthetic(0x7f00_0000_0000),
            ..MemoryOptions::default()
        };
        let mut oracle = Oracle::new();
        let terms = Terms {
            is_paced: true,
            driver_is_ours: true,
            device_is_plain: true,
            ..Terms::default()
        };
        oracle.set_terms(LINK, terms);
        let mut rig = Self {
            memory: GuestMemory::new(&[layout], options).unwrap(),
            file: None,
            log: None,
            oracle,
            monitor: Monitor::new(Profile::strict()),
            count: 0,
            now: Moment::default(),
            alarms: Vec::new(),
            packed: [(0, true); 2],
        };
        rig.say("connected");
        rig.shake_hands(features);
        rig
    }

    pub(super) fn shake_hands(&mut self, features: u64) {
        self.say(&format!(
            "front GET_FEATURES
            back reply to GET_FEATURES value={:#x}
            front GET_PROTOCOL_FEATURES
            back reply to GET_PROTOCOL_FEATURES value=0xb
            front SET_PROTOCOL_FEATURES value=0xb
            front SET_OWNER
            front SET_FEATURES value={features:#x}
            front SET_MEM_TABLE regions=[{{guest_address=0x0 size=0x100000 user_address=0x7f0000000000 mmap_offset=0x0}}] fds=[memfd:0x100000]",
            FEATURES | EVENT_IDX | PACKED | IN_ORDER,
        ));
    }

    /// The same with a ring of eight descriptors started at 0, and perhaps enabled.
    pub(super) fn started(features: u64, enabled: bool) -> Self {
        let mut rig = Self::connected(features);
        let base = if features & PACKED != 0 { 0x8000_8000_u32 } else { 0 };
        rig.start(base, 0);
        if enabled {
            rig.say("front SET_VRING_ENABLE index=0 num=1");
        }
        rig.settle();
        rig
    }

    pub(super) fn split() -> Self {
        Self::started(FEATURES & !LOG_ALL, true)
    }

    pub(super) fn packed() -> Self {
        Self::started(FEATURES & !LOG_ALL | PACKED, true)
    }

    /// With a dirty log, which the back-end knows of.
    pub(super) fn logged(flags: u32) -> Self {
        let mut rig = Self::connected(FEATURES);
        rig.say("front SET_LOG_BASE size=0x20 offset=0x0 fds=[memfd:0x20]\nback reply to SET_LOG_BASE as raw payload=");
        rig.start(0, flags);
        rig.say("front SET_VRING_ENABLE index=0 num=1");
        rig.settle();
        rig
    }

    pub(super) fn start(&mut self, base: u32, flags: u32) {
        self.say(&format!(
            "front SET_VRING_NUM index=0 num=8
            front SET_VRING_BASE index=0 indices={base:#x}
            front SET_VRING_ADDR index=0 flags={flags:#x} descriptor=0x7f0000000000 used=0x7f0000002000 available=0x7f0000001000 log=0x30000
            front SET_VRING_KICK index=0 fds=[eventfd]"
        ));
    }

    pub(super) fn stop(&mut self, base: u32) {
        self.say(&format!(
            "front GET_VRING_BASE index=0 num=0\nback reply to GET_VRING_BASE index=0 indices={base:#x}"
        ));
    }

    /// Round trips after which the back-end has read what was sent before.
    pub(super) fn settle(&mut self) {
        self.say(&"front GET_QUEUE_NUM\nback reply to GET_QUEUE_NUM value=0x1\n".repeat(3));
    }

    pub(super) fn say(&mut self, text: &str) {
        text::events(text).iter().for_each(|event| self.event(event));
    }

    fn event(&mut self, event: &Event) {
        self.look();
        let seq = Seq(self.count);
        self.count += 1;
        self.monitor.observe(event, seq);
        let facts = self.monitor.facts(LINK).unwrap();
        let alarms = self.oracle.event(LINK, &event.kind, facts, self.now);
        self.alarms.extend(alarms);
        if let EventKind::Message { message, .. } = &event.kind
            && Oracle::wants_files(message)
        {
            let files = match message.payload {
                Payload::Log(_) => {
                    let (log, file) = DirtyLog::allocate(MEMORY_BYTES).unwrap();
                    self.log = Some(log);
                    vec![file]
                }
                _ => vec![match &self.file {
                    Some(file) => file.try_clone().unwrap().into(),
                    None => self.memory.dup(0).unwrap(),
                }],
            };
            self.oracle.take_files(LINK, message, files, facts, self.now);
        }
    }

    pub(super) fn set_terms(&mut self, terms: Terms) {
        self.oracle.set_terms(LINK, terms);
    }

    pub(super) fn look(&mut self) {
        self.now.ns += 100_000;
        let alarms = self.oracle.look(LINK, self.now);
        self.alarms.extend(alarms);
    }

    /// The rules that were broken and not allowed.
    pub(super) fn broken(&self) -> Vec<&'static str> {
        let own = self.alarms.iter().filter(|alarm| !alarm.deliberate);
        own.map(|alarm| alarm.rule.id).collect()
    }

    pub(super) fn put_u16(&self, at: u64, value: u16) {
        self.memory.store_u16(at, value, Ordering::Release).unwrap();
    }

    fn get_u16(&self, at: u64) -> u16 {
        self.memory.load_u16(at, Ordering::Acquire).unwrap()
    }

    /// Writes a descriptor of a split table.
    pub(super) fn desc_at(&self, table: u64, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        let desc = Descriptor { addr, len, flags, next };
        self.memory
            .write(table + 16 * u64::from(index), &desc.to_bytes())
            .unwrap();
    }

    pub(super) fn desc(&self, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        self.desc_at(LAYOUT.desc, index, addr, len, flags, next);
    }

    /// Makes a chain available on the split ring.
    pub(super) fn offer(&self, head: u16) {
        let index = self.get_u16(LAYOUT.avail_idx());
        self.put_u16(LAYOUT.avail_slot(index), head);
        self.put_u16(LAYOUT.avail_idx(), index.wrapping_add(1));
    }

    /// The same, and the oracle sees it.
    pub(super) fn offer_seen(&mut self, head: u16) {
        self.offer(head);
        self.look();
    }

    /// Returns a chain on the split ring.
    pub(super) fn give(&self, id: u32, length: u32) {
        self.give_batch(id, length, 1);
    }

    /// The same of so many chains, by the last of them.
    pub(super) fn give_batch(&self, id: u32, length: u32, chains: u16) {
        let index = self.get_u16(LAYOUT.used_idx());
        let mut raw = [0; 8];
        raw[..4].copy_from_slice(&id.to_le_bytes());
        raw[4..].copy_from_slice(&length.to_le_bytes());
        self.memory.write(LAYOUT.used_slot(index), &raw).unwrap();
        self.put_u16(LAYOUT.used_idx(), index.wrapping_add(chains));
    }

    /// Makes a chain available on the packed ring: address, bytes and flags of each descriptor.
    pub(super) fn offer_packed(&mut self, id: u16, chain: &[(u64, u32, u16)]) {
        let (first, _) = self.packed[0];
        let mut head = None;
        for (i, (address, length, flags)) in chain.iter().enumerate() {
            let (at, wrap) = self.packed[0];
            let next = if i + 1 < chain.len() { N } else { 0 };
            let flags = flags | next | if wrap { 1 << 7 } else { 1 << 15 };
            self.desc(at, *address, *length, id, 0);
            if at == first && i == 0 {
                head = Some(flags);
            } else {
                self.put_u16(16 * u64::from(at) + 14, flags);
            }
            self.packed[0] = step(self.packed[0], 1);
        }
        self.put_u16(16 * u64::from(first) + 14, head.unwrap());
        self.look();
    }

    /// Returns a chain of some slots on the packed ring.
    pub(super) fn give_packed(&mut self, id: u16, length: u32, slots: u16) {
        let (at, wrap) = self.packed[1];
        self.memory
            .write(16 * u64::from(at) + 8, &length.to_le_bytes())
            .unwrap();
        self.put_u16(16 * u64::from(at) + 12, id);
        self.put_u16(16 * u64::from(at) + 14, if wrap { 1 << 7 | 1 << 15 } else { 0 });
        self.packed[1] = step(self.packed[1], slots);
        self.look();
    }
}

fn step((at, wrap): (u16, bool), slots: u16) -> (u16, bool) {
    let next = at + slots;
    (next % SIZE, wrap ^ (next >= SIZE))
}
