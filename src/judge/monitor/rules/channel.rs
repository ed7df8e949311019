//! Rules about the back-end's own requests.

use super::super::look::Look;
use super::super::profile::Setting;
use super::super::rule::Bound::{Back, Front};
use super::super::rule::{Finding, On, Rule, rule};
use super::super::states::Passage;
use crate::wire::id::{backend, frontend as id};
use crate::wire::{Channel, Payload};

/// Bytes that sizes of shared memory regions are multiples of: the smallest page there is.
const PAGE: u64 = 4096;

const INBAND: &[u32] = &[backend::VRING_CALL, backend::VRING_ERR];

pub(super) static RULES: &[Rule] = &[
    rule(
        "channel-absent",
        Back,
        &["VU-BCH-05"],
        On::Any,
        absent,
        "There is a back-end channel only after SET_BACKEND_REQ_FD.",
    ),
    rule(
        "request-while-suspended",
        Back,
        &["VU-SUSP-04", "VU-SUSP-01"],
        On::Requests,
        suspended,
        "While all rings are stopped the back-end sends no requests of its own.",
    ),
    rule(
        "inband-call-unacknowledged",
        Back,
        &["VU-INB-05"],
        On::Request(Channel::Backend, INBAND),
        acknowledged,
        "In-band notifications ask for a reply.",
    ),
    rule(
        "inband-kick-unacknowledged",
        Front,
        &["VU-INB-05"],
        On::Request(Channel::Main, &[id::VRING_KICK]),
        acknowledged,
        "In-band notifications ask for a reply.",
    ),
    rule(
        "shmem-flags",
        Back,
        &["VU-PAY-15"],
        On::Request(Channel::Backend, &[backend::SHMEM_MAP]),
        shmem_flags,
        "The flags of SHMEM_MAP are 0 or 1.",
    ),
    rule(
        "shmem-outside-region",
        Back,
        &["VU-SHM-09"],
        On::Request(Channel::Backend, &[backend::SHMEM_MAP]),
        shmem_range,
        "A mapping lies inside a shared memory region of the device.",
    ),
    rule(
        "shmem-overlap",
        Back,
        &["VU-SHM-09", "VU-SHM-08"],
        On::Request(Channel::Backend, &[backend::SHMEM_MAP]),
        shmem_free,
        "A mapping lies where there is none.",
    ),
    rule(
        "shmem-unmap",
        Back,
        &["VU-SHM-12"],
        On::Request(Channel::Backend, &[backend::SHMEM_UNMAP]),
        shmem_unmap,
        "SHMEM_UNMAP names one whole mapping.",
    ),
    rule(
        "shmem-size",
        Back,
        &["VU-SHM-03"],
        On::Reply(Channel::Main, &[id::GET_SHMEM_CONFIG]),
        shmem_size,
        "Sizes of shared memory regions are multiples of the page size.",
    ),
    rule(
        "shmem-config-changed",
        Back,
        &["VU-SHM-02"],
        On::Reply(Channel::Main, &[id::GET_SHMEM_CONFIG]),
        shmem_same,
        "The shared memory regions of a device stay the same for the connection.",
    ),
];

fn absent(_: &Rule, look: &Look) -> Option<Finding> {
    let missing = look.message.channel == Channel::Backend && look.facts.channel == Passage::Absent;
    missing.then(|| Finding::new("SET_BACKEND_REQ_FD before", look.shown()))?
}

fn suspended(_: &Rule, look: &Look) -> Option<Finding> {
    let own = look.message.channel == Channel::Backend && look.facts.channel == Passage::Passed;
    (own && look.facts.is_suspended()).then(|| Finding::new("no request: all rings are stopped", look.shown()))?
}

fn acknowledged(_: &Rule, look: &Look) -> Option<Finding> {
    if look.message.needs_reply() {
        return None;
    }
    Some(Finding::new("need_reply", look.shown())?.unless(Setting::InbandWithoutAck))
}

fn mapping<'a>(look: &'a Look) -> Option<&'a crate::wire::Mmap> {
    match &look.message.payload {
        Payload::Mmap(mapping) => Some(mapping),
        _ => None,
    }
}

fn shmem_flags(_: &Rule, look: &Look) -> Option<Finding> {
    (mapping(look)?.flags > 1).then(|| Finding::new("flags 0 or 1", look.shown()))?
}

fn shmem_range(_: &Rule, look: &Look) -> Option<Finding> {
    let (mapping, sizes) = (mapping(look)?, look.facts.shmem.as_ref()?);
    let size = sizes[usize::from(mapping.shmid)];
    let end = mapping.shm_offset.checked_add(mapping.len);
    let inside = end.is_some_and(|end| end <= size);
    (!inside).then(|| {
        Finding::new(
            format!("within the {size:#x} bytes of region {}", mapping.shmid),
            look.shown(),
        )
    })?
}

fn shmem_free(_: &Rule, look: &Look) -> Option<Finding> {
    let new = mapping(look)?;
    let end = |m: &crate::wire::Mmap| m.shm_offset.saturating_add(m.len);
    let meets = |m: &&crate::wire::Mmap| m.shmid == new.shmid && m.shm_offset < end(new) && new.shm_offset < end(m);
    let other = look
        .facts
        .mappings
        .iter()
        .find(meets)
        .filter(|_| !look.facts.is_uncertain)?;
    Finding::new(
        format!("nothing within {:#x}..{:#x}", other.shm_offset, end(other)),
        look.shown(),
    )
}

fn shmem_unmap(_: &Rule, look: &Look) -> Option<Finding> {
    let gone = mapping(look)?;
    let same = |m: &crate::wire::Mmap| (m.shmid, m.shm_offset, m.len) == (gone.shmid, gone.shm_offset, gone.len);
    let facts = look.facts;
    if facts.is_uncertain || facts.lists_are_full || facts.mappings.iter().any(same) {
        return None;
    }
    Finding::new("a mapping that is there", look.shown())
}

fn shmem_size(_: &Rule, look: &Look) -> Option<Finding> {
    let Payload::ShmemConfig(config) = &look.message.payload else {
        return None;
    };
    let (id, size) = config.sizes.iter().enumerate().find(|(_, size)| *size % PAGE != 0)?;
    Finding::new("multiples of 0x1000", format!("region {id} of {size:#x} bytes"))
}

fn shmem_same(_: &Rule, look: &Look) -> Option<Finding> {
    let (Payload::ShmemConfig(config), Some(before)) = (&look.message.payload, &look.facts.shmem) else {
        return None;
    };
    let changed = (0..before.len()).find(|id| config.sizes[*id] != before[*id])?;
    let expected = format!("region {changed} of {:#x} bytes as before", before[changed]);
    Finding::new(expected, format!("{:#x} bytes", config.sizes[changed]))
}
