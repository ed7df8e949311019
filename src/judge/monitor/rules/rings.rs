//! Rules about rings: their configuration, when it may change, and notifications.

use super::super::look::{Facts, Look, SETTLED_REPLIES};
use super::super::profile::Setting;
use super::super::rule::Bound::{Back, Front};
use super::super::rule::{Finding, On, Rule, event_rule, rule};
use super::super::states::{RUN, Run};
use super::legal;
use crate::trace::EventKind;
use crate::wire::features::EVENT_IDX;
use crate::wire::id::{backend, frontend as id};
use crate::wire::{Channel, Payload, Scope, VringAddr};

/// Most descriptors of a ring.
const SIZE_MAX: u32 = 0x8000;
/// Bytes of an event area of a packed ring.
const EVENT_AREA: u64 = 4;
/// Bytes that one bit of the log stands for.
const LOG_PAGE: u64 = 4096;
/// The bit of SET_VRING_ADDR that has the used ring logged.
const LOG_FLAG: u32 = 1;

const KICKS: &[u32] = &[id::SET_VRING_KICK, id::VRING_KICK];
const BASES: &[u32] = &[id::GET_VRING_BASE, id::GET_VRING_BASE_SKIP_DRAIN];

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
    rule(
        "ring-index",
        Front,
        &["VU-MQ-02", "VU-MQ-03"],
        On::Requests,
        index,
        "Ring indices are below what GET_QUEUE_NUM said.",
    ),
    main(
        "vring-fd-bits",
        &["VU-VRF-01", "VU-VRF-11"],
        &[id::SET_VRING_KICK, id::SET_VRING_CALL, id::SET_VRING_ERR],
        fd_bits,
        "The payload of SET_VRING_KICK, CALL and ERR is a ring index and bit 8.",
    ),
    main(
        "ring-size",
        &["VU-VRS-01"],
        &[id::SET_VRING_NUM],
        size,
        "A ring has 1 to 32768 descriptors; a split one a power of two.",
    ),
    main(
        "num-while-started",
        &["VU-VRS-01", "VU-RING-19"],
        &[id::SET_VRING_NUM],
        while_started,
        "SET_VRING_NUM comes while the ring is stopped.",
    ),
    main(
        "base-while-started",
        &["VU-VRS-03", "VU-VRS-05"],
        &[id::SET_VRING_BASE],
        while_started,
        "SET_VRING_BASE comes while the ring is stopped.",
    ),
    main(
        "base-bits",
        &["VU-PAY-03", "VU-PAY-02"],
        &[id::SET_VRING_BASE],
        base_bits,
        "The base of a split ring has 16 bits.",
    ),
    main(
        "addr-while-started",
        &["VU-VRS-02", "VU-LOG-03"],
        &[id::SET_VRING_ADDR],
        addr_while_started,
        "While the ring is started SET_VRING_ADDR only changes the log flag.",
    ),
    main(
        "addr-before-num",
        &["VU-VRS-02"],
        &[id::SET_VRING_ADDR],
        addr_before_num,
        "SET_VRING_ADDR comes after SET_VRING_NUM, which says how long the parts are.",
    ),
    main(
        "addr-flags",
        &["VU-PAY-06"],
        &[id::SET_VRING_ADDR],
        addr_flags,
        "SET_VRING_ADDR has no flag but 0x1.",
    ),
    main(
        "addr-misaligned",
        &["VU-PAY-06", "VU-VRS-02"],
        &[id::SET_VRING_ADDR],
        addr_aligned,
        "Ring parts are aligned as virtio wants: descriptors 16, available 2, used 4 bytes; packed 16, 4, 4.",
    ),
    main(
        "addr-outside-memory",
        &["VU-MEM-08", "VU-GPA-02", "VU-GPA-03"],
        &[id::SET_VRING_ADDR],
        addr_in_memory,
        "Ring parts lie in memory regions, unless addresses are I/O virtual.",
    ),
    main(
        "ring-log-too-small",
        &["VU-LOG-14"],
        &[id::SET_VRING_ADDR],
        addr_log,
        "The bits of a logged used ring lie inside the log.",
    ),
    main(
        "ring-started-unconfigured",
        &["VU-RING-08", "VU-RING-09"],
        KICKS,
        unconfigured,
        "A ring has its size and addresses when it is started.",
    ),
    main(
        "enable-value",
        &["VU-RING-16"],
        &[id::SET_VRING_ENABLE],
        enable_value,
        "SET_VRING_ENABLE has num 0 or 1.",
    ),
    main(
        "endian-value",
        &["VU-END-02"],
        &[id::SET_VRING_ENDIAN],
        endian_value,
        "SET_VRING_ENDIAN has num 0 or 1.",
    ),
    main(
        "endian-while-started",
        &["VU-END-04"],
        &[id::SET_VRING_ENDIAN],
        while_started,
        "SET_VRING_ENDIAN comes before the ring is started.",
    ),
    main(
        "get-base-num",
        &["VU-VRB-04"],
        BASES,
        get_base_num,
        "num is 0 in the request for a base.",
    ),
    main(
        "inband-kick-num",
        &["VU-INB-07"],
        &[id::VRING_KICK],
        inband_num,
        "num is 0 in VRING_KICK.",
    ),
    rule(
        "inband-call-num",
        Back,
        &["VU-INB-01"],
        On::Request(Channel::Backend, &[backend::VRING_CALL, backend::VRING_ERR]),
        inband_num,
        "num is 0 in VRING_CALL and VRING_ERR.",
    ),
    rule(
        "base-of-other-ring",
        Back,
        &["VU-VRB-01"],
        On::Reply(Channel::Main, BASES),
        base_ring,
        "The base in a reply is that of the ring that was asked for.",
    ),
    rule(
        "base-reply-bits",
        Back,
        &["VU-PAY-03", "VU-PAY-02"],
        On::Reply(Channel::Main, BASES),
        base_bits,
        "The base of a split ring has 16 bits.",
    ),
    event_rule(
        "call-while-stopped",
        Back,
        &["VU-RING-01", "VU-SUSP-03"],
        call,
        "A stopped ring is not signalled.",
    ),
    event_rule(
        "call-without-file",
        Back,
        &["VU-VRF-07"],
        call_polled,
        "A ring whose call has bit 8 set is not signalled.",
    ),
];

fn index(_: &Rule, look: &Look) -> Option<Finding> {
    let (facts, spec) = (look.facts, look.spec?);
    let (index, count) = (look.message.payload.ring_index()?, facts.queue_num?);
    if spec.scope != Scope::Ring || u64::from(index) < count || facts.is_uncertain {
        return None;
    }
    let pairs = count.saturating_mul(2).saturating_add(1);
    let finding = Finding::new(format!("a ring below {count}"), look.shown())?;
    Some(finding.unless((u64::from(index) < pairs).then_some(Setting::QueueNumPairs)))
}

fn fd_bits(_: &Rule, look: &Look) -> Option<Finding> {
    let Payload::VringFd(fd) = &look.message.payload else {
        return None;
    };
    (fd.reserved != 0).then(|| Finding::new("bits 9 to 63 zero", look.shown()))?
}

fn size(_: &Rule, look: &Look) -> Option<Finding> {
    let Payload::VringState(state) = &look.message.payload else {
        return None;
    };
    let split = look.facts.packed() == Some(false);
    if state.num == 0 || state.num > SIZE_MAX {
        return Finding::new("1 to 32768 descriptors", look.shown());
    }
    (split && !state.num.is_power_of_two()).then(|| Finding::new("a power of two", look.shown()))?
}

/// The ring, if what is known of it is certain.
fn certain(look: &Look) -> Option<super::super::look::RingFacts> {
    if look.facts.is_uncertain {
        return None;
    }
    let ring = look.ring().cloned().unwrap_or_default();
    (!ring.is_unknown).then_some(ring)
}

fn while_started(rule: &Rule, look: &Look) -> Option<Finding> {
    legal(rule, look, &RUN, certain(look)?.run)
}

fn base_bits(_: &Rule, look: &Look) -> Option<Finding> {
    let Payload::VringBase(base) = &look.message.payload else {
        return None;
    };
    let wrong = look.facts.packed() == Some(false) && base.indices >> 16 != 0 && !look.facts.negotiation_is_uncertain;
    wrong.then(|| Finding::new("bits 16 to 31 zero: the ring is split", look.shown()))?
}

fn address<'a>(look: &'a Look) -> Option<&'a VringAddr> {
    match &look.message.payload {
        Payload::VringAddr(address) => Some(address),
        _ => None,
    }
}

fn addr_while_started(_: &Rule, look: &Look) -> Option<Finding> {
    let (new, ring) = (address(look)?, certain(look)?);
    let old = ring.address.filter(|_| ring.run == Run::Started)?;
    let parts = |a: &VringAddr| (a.descriptor, a.used, a.available);
    (parts(new) != parts(&old)).then(|| Finding::new("the addresses of before: the ring is started", look.shown()))?
}

fn addr_before_num(_: &Rule, look: &Look) -> Option<Finding> {
    let unsized_ring = certain(look)?.size.is_none();
    unsized_ring.then(|| Finding::new("SET_VRING_NUM before", look.shown()))?
}

fn addr_flags(_: &Rule, look: &Look) -> Option<Finding> {
    let flags = address(look)?.flags;
    (flags & !LOG_FLAG != 0).then(|| Finding::new("flags 0 or 1", format!("flags {flags:#x}")))?
}

fn addr_aligned(_: &Rule, look: &Look) -> Option<Finding> {
    let address = address(look)?;
    // of an unknown kind, what both kinds want
    let available = if look.facts.packed() == Some(true) { 4 } else { 2 };
    let parts = [
        ("descriptor", address.descriptor, 16),
        ("available", address.available, available),
        ("used", address.used, 4),
    ];
    let (name, value, align) = parts.into_iter().find(|(_, value, align)| value % align != 0)?;
    Finding::new(format!("{name} a multiple of {align}"), format!("{value:#x}"))
}

fn addr_in_memory(_: &Rule, look: &Look) -> Option<Finding> {
    let (facts, address, ring) = (look.facts, address(look)?, certain(look)?);
    let size = u64::from(ring.size?);
    if facts.translated() != Some(false) || !facts.regions_known || facts.negotiation_is_uncertain {
        return None;
    }
    // what is shorter than either kind wants is not looked at
    let lengths = match facts.packed() {
        Some(true) => [16 * size, EVENT_AREA, EVENT_AREA],
        Some(false) => [16 * size, 4 + 2 * size, 4 + 8 * size],
        None => [16 * size, EVENT_AREA, EVENT_AREA],
    };
    let parts = [
        ("descriptor", address.descriptor),
        ("available", address.available),
        ("used", address.used),
    ];
    let outside = |value: u64, length: u64| {
        let last = value.checked_add(length - 1);
        !facts.is_in_memory(value) || last.is_none_or(|last| !facts.is_in_memory(last))
    };
    let wrong = parts
        .into_iter()
        .zip(lengths)
        .find(|((_, value), length)| outside(*value, *length));
    let ((name, value), length) = wrong?;
    Finding::new(
        format!("{name} within a memory region"),
        format!("{length:#x} bytes at {value:#x}: {}", look.shown()),
    )
}

fn addr_log(_: &Rule, look: &Look) -> Option<Finding> {
    let (facts, address, ring) = (look.facts, address(look)?, certain(look)?);
    let log = facts.log?;
    if address.flags & LOG_FLAG == 0 || facts.translated() != Some(false) || facts.packed() != Some(false) {
        return None;
    }
    let event = if facts.has_bits(EVENT_IDX) { 2 } else { 0 };
    let last = address.log.saturating_add(3 + event + 8 * u64::from(ring.size?));
    let byte = last / LOG_PAGE / 8;
    (byte >= log.size).then(|| {
        Finding::new(
            format!("a log of more than {byte:#x} bytes, or a lower log address"),
            format!("{:#x} bytes: {}", log.size, look.shown()),
        )
    })?
}

fn unconfigured(_: &Rule, look: &Look) -> Option<Finding> {
    let ring = certain(look)?;
    let missing = match (ring.size, ring.address) {
        (None, _) => "SET_VRING_NUM",
        (_, None) => "SET_VRING_ADDR",
        _ => return None,
    };
    Finding::new(format!("{missing} before"), look.shown())
}

fn state_num(look: &Look) -> Option<u32> {
    match &look.message.payload {
        Payload::VringState(state) => Some(state.num),
        _ => None,
    }
}

fn enable_value(_: &Rule, look: &Look) -> Option<Finding> {
    (state_num(look)? > 1).then(|| Finding::new("num 0 or 1", look.shown()))?
}

fn endian_value(_: &Rule, look: &Look) -> Option<Finding> {
    (state_num(look)? > 1).then(|| Finding::new("num 0 (little) or 1 (big)", look.shown()))?
}

fn get_base_num(_: &Rule, look: &Look) -> Option<Finding> {
    let used = state_num(look)? != 0;
    Some(
        used.then(|| Finding::new("num 0", look.shown()))??
            .unless(Setting::GetBaseGarbage),
    )
}

fn inband_num(_: &Rule, look: &Look) -> Option<Finding> {
    (state_num(look)? != 0).then(|| Finding::new("num 0", look.shown()))?
}

fn base_ring(_: &Rule, look: &Look) -> Option<Finding> {
    let asked = look.answered()?.message.payload.ring_index()?;
    let given = look.message.payload.ring_index()?;
    (asked != given).then(|| Finding::new(format!("the base of ring {asked}"), look.shown()))?
}

fn call(facts: &Facts, event: &EventKind) -> Option<Finding> {
    let EventKind::Call { ring: index, .. } = event else {
        return None;
    };
    let ring = facts.rings.get(&u32::from(*index)).cloned().unwrap_or_default();
    let settled = !facts.ever_started || facts.back_replies >= ring.stopped_at + SETTLED_REPLIES;
    if ring.run != Run::Stopped || ring.is_unknown || facts.is_uncertain || !settled {
        return None;
    }
    let finding = Finding::new(format!("no call: ring {index} is stopped"), event.to_string())?;
    Some(finding.unless(ring.fresh_call.then_some(Setting::SpuriousCalls)))
}

fn call_polled(facts: &Facts, event: &EventKind) -> Option<Finding> {
    let EventKind::Call { ring: index, .. } = event else {
        return None;
    };
    let ring = facts.rings.get(&u32::from(*index))?;
    let settled = facts.back_replies >= ring.call_at + SETTLED_REPLIES;
    let polled = ring.call == Some(false) && settled && !facts.is_uncertain;
    polled.then(|| Finding::new(format!("no call: ring {index} is polled"), event.to_string()))?
}
