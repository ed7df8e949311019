//! Rules about memory regions, the dirty log and translations.

use super::super::look::Look;
use super::super::profile::Setting;
use super::super::rule::Bound::{Back, Front};
use super::super::rule::{Finding, On, Rule, rule};
use crate::wire::id::{backend, frontend as id};
use crate::wire::{Channel, MemRegion, Payload, ProtocolFeature};

const TABLES: &[u32] = &[id::SET_MEM_TABLE, id::ADD_MEM_REG];
/// Bytes that one bit of the log stands for.
const LOG_PAGE: u64 = 4096;
/// Xen: foreign, grant, not in advance.
const XEN_FLAGS: u32 = 0x103;
/// IOTLB message types.
const MISS: u8 = 1;
const UPDATE: u8 = 2;
const INVALIDATE: u8 = 3;
const ACCESS_FAIL: u8 = 4;

const fn main(
    id: &'static str,
    requirements: &'static [&'static str],
    requests: &'static [u32],
    check: fn(&Rule, &Look) -> Option<Finding>,
    text: &'static str,
) -> Rule {
    rule(
        id,
        Front,
        requirements,
        On::Request(Channel::Main, requests),
        check,
        text,
    )
}

pub(super) static RULES: &[Rule] = &[
    main(
        "region-wraps",
        &["VU-MEM-08", "VU-MEM-10"],
        TABLES,
        wraps,
        "A region ends before the address space does.",
    ),
    main(
        "regions-overlap-in-guest",
        &["VU-MEM-05", "VU-MEM-07"],
        TABLES,
        overlap_guest,
        "The guest addresses of regions do not overlap.",
    ),
    main(
        "regions-overlap-in-user",
        &["VU-MEM-06", "VU-MEM-07"],
        TABLES,
        overlap_user,
        "The user addresses of regions do not overlap.",
    ),
    main(
        "region-with-guest-addresses",
        &["VU-PAY-07"],
        TABLES,
        guest_addresses,
        "With GPA_ADDRESSES the user address of a region is its guest address.",
    ),
    main(
        "region-xen-flags",
        &["VU-XEN-01"],
        TABLES,
        xen_flags,
        "Xen's flags of a region are 0x1, 0x2 and 0x100.",
    ),
    main(
        "region-beyond-file",
        &["VU-MEM-04"],
        TABLES,
        beyond_file,
        "A region lies within its file.",
    ),
    main(
        "slots-exceeded",
        &["VU-MEM-14"],
        &[id::ADD_MEM_REG],
        slots,
        "There are no more regions than GET_MAX_MEM_SLOTS allows.",
    ),
    main(
        "removes-unknown-region",
        &["VU-MEM-17"],
        &[id::REM_MEM_REG],
        removes,
        "REM_MEM_REG names a region that is there, by both addresses and its size.",
    ),
    main(
        "log-too-small",
        &["VU-LOG-09"],
        &[id::SET_LOG_BASE],
        log_size,
        "The log has a bit for every page of the memory regions.",
    ),
    main(
        "log-beyond-file",
        &["VU-LOG-10"],
        &[id::SET_LOG_BASE],
        log_file,
        "The log lies within its file.",
    ),
    main(
        "iotlb-update",
        &["VU-PAY-12", "VU-IOM-02", "VU-IOM-04"],
        &[id::IOTLB_MSG],
        update,
        "The front-end's IOTLB messages are updates (2) and invalidations (3), with permissions 0 to 3.",
    ),
    main(
        "iotlb-outside-memory",
        &["VU-IOM-03"],
        &[id::IOTLB_MSG],
        outside,
        "An IOTLB update stays within the memory regions.",
    ),
    rule(
        "iotlb-miss",
        Back,
        &["VU-PAY-12", "VU-IOM-07", "VU-IOM-08"],
        On::Request(Channel::Backend, &[backend::IOTLB_MSG]),
        miss,
        "The back-end's IOTLB messages are misses (1) and access failures (4), with permissions 0 to 3.",
    ),
];

fn announced<'a>(look: &'a Look) -> &'a [MemRegion] {
    match &look.message.payload {
        Payload::MemTable(table) => &table.regions,
        Payload::MemReg(reg) => std::slice::from_ref(&reg.region),
        _ => &[],
    }
}

fn wraps(_: &Rule, look: &Look) -> Option<Finding> {
    let wraps = |r: &&MemRegion| {
        let over = |base: u64| r.size > 0 && base.checked_add(r.size - 1).is_none();
        over(r.guest_address) || over(r.user_address)
    };
    let region = announced(look).iter().find(wraps)?;
    Finding::new("an end below 2^64", show(region))
}

fn show(region: &MemRegion) -> String {
    format!(
        "guest {:#x}, user {:#x}, {:#x} bytes",
        region.guest_address, region.user_address, region.size
    )
}

/// The first new region that overlaps another one, new or already there, by `base`.
fn overlap(look: &Look, base: fn(&MemRegion) -> u64) -> Option<Finding> {
    let meet = |a: &MemRegion, b: &MemRegion| {
        let (a_base, b_base) = (base(a), base(b));
        let before = |low: u64, size: u64, high: u64| high - low < size;
        if a_base <= b_base {
            before(a_base, a.size, b_base) && b.size > 0
        } else {
            before(b_base, b.size, a_base) && a.size > 0
        }
    };
    let new = announced(look);
    let adds = look.message.request == id::ADD_MEM_REG;
    let there: &[MemRegion] = if adds && look.facts.regions_known && !look.facts.is_uncertain {
        &look.facts.regions
    } else {
        &[]
    };
    for (i, region) in new.iter().enumerate() {
        if let Some(other) = there.iter().chain(&new[..i]).find(|other| meet(region, other)) {
            return Finding::new(format!("nothing that overlaps {}", show(other)), show(region));
        }
    }
    None
}

fn overlap_guest(_: &Rule, look: &Look) -> Option<Finding> {
    overlap(look, |region| region.guest_address)
}

fn overlap_user(_: &Rule, look: &Look) -> Option<Finding> {
    // they are the guest addresses then
    if look.facts.has(ProtocolFeature::GpaAddresses) {
        None
    } else {
        overlap(look, |region| region.user_address)
    }
}

fn guest_addresses(_: &Rule, look: &Look) -> Option<Finding> {
    if !look.facts.has(ProtocolFeature::GpaAddresses) || look.facts.negotiation_is_uncertain {
        return None;
    }
    let region = announced(look).iter().find(|r| r.user_address != r.guest_address)?;
    Finding::new(format!("user address {:#x}", region.guest_address), show(region))
}

fn xen_flags(_: &Rule, look: &Look) -> Option<Finding> {
    let unknown = |r: &MemRegion| r.xen.map(|xen| xen.flags & !XEN_FLAGS).filter(|bits| *bits != 0);
    let bits = announced(look).iter().find_map(unknown)?;
    Finding::new("flags within 0x103", format!("{bits:#x} as well"))
}

fn beyond_file(_: &Rule, look: &Look) -> Option<Finding> {
    for (i, region) in announced(look).iter().enumerate() {
        let Some(size) = look.file_size(i) else { continue };
        let end = region.mmap_offset.saturating_add(region.size);
        if end > size {
            let expected = format!("a file of {end:#x} bytes for {}", show(region));
            return Finding::new(expected, format!("one of {size:#x} bytes"));
        }
    }
    None
}

fn slots(_: &Rule, look: &Look) -> Option<Finding> {
    let facts = look.facts;
    let there = facts.regions.len() as u64 + 1;
    let slots = facts
        .slots
        .filter(|slots| there > *slots && facts.regions_known && !facts.is_uncertain)?;
    Some(Finding::new(format!("{slots} regions at most"), format!("{there} regions"))?.unless(Setting::SlotsIgnored))
}

fn removes(_: &Rule, look: &Look) -> Option<Finding> {
    let region = announced(look).first()?;
    let facts = look.facts;
    if !facts.regions_known || facts.is_uncertain || facts.regions.iter().any(|r| same_region(r, region)) {
        return None;
    }
    let there: Vec<String> = facts.regions.iter().map(show).collect();
    Finding::new(format!("one of: {}", there.join("; ")), show(region))
}

/// Whether REM_MEM_REG of `b` means `a` (VU-MEM-17).
pub(in super::super) fn same_region(a: &MemRegion, b: &MemRegion) -> bool {
    (a.guest_address, a.user_address, a.size) == (b.guest_address, b.user_address, b.size)
}

fn log_size(_: &Rule, look: &Look) -> Option<Finding> {
    let Payload::Log(log) = &look.message.payload else {
        return None;
    };
    let facts = look.facts;
    let end = facts
        .regions
        .iter()
        .map(|r| r.guest_address.saturating_add(r.size))
        .max()?;
    let needed = end.div_ceil(LOG_PAGE).div_ceil(8);
    if log.size >= needed || !facts.regions_known || facts.is_uncertain {
        return None;
    }
    Finding::new(
        format!("{needed:#x} bytes for memory up to {end:#x}"),
        format!("{:#x} bytes", log.size),
    )
}

fn log_file(_: &Rule, look: &Look) -> Option<Finding> {
    let Payload::Log(log) = &look.message.payload else {
        return None;
    };
    let (end, size) = (log.offset.saturating_add(log.size), look.file_size(0)?);
    (end > size).then(|| Finding::new(format!("a file of {end:#x} bytes"), format!("one of {size:#x} bytes")))?
}

fn translation(look: &Look, kinds: [u8; 2], words: &str) -> Option<Finding> {
    let Payload::Iotlb(iotlb) = &look.message.payload else {
        return None;
    };
    if !kinds.contains(&iotlb.kind) {
        return Finding::new(words, look.shown());
    }
    (iotlb.permissions > 3).then(|| Finding::new("permissions 0 to 3", look.shown()))?
}

fn update(_: &Rule, look: &Look) -> Option<Finding> {
    translation(look, [UPDATE, INVALIDATE], "type 2 or 3")
}

fn miss(_: &Rule, look: &Look) -> Option<Finding> {
    translation(look, [MISS, ACCESS_FAIL], "type 1 or 4")
}

fn outside(_: &Rule, look: &Look) -> Option<Finding> {
    let Payload::Iotlb(iotlb) = &look.message.payload else {
        return None;
    };
    let facts = look.facts;
    let certain = facts.regions_known && !facts.is_uncertain && !facts.negotiation_is_uncertain;
    if iotlb.kind != UPDATE || iotlb.size == 0 || !certain {
        return None;
    }
    let last = iotlb.user_address.checked_add(iotlb.size - 1);
    let inside = facts.is_in_memory(iotlb.user_address) && last.is_some_and(|last| facts.is_in_memory(last));
    (!inside).then(|| Finding::new("addresses within a memory region", look.shown()))?
}
