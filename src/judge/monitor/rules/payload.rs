//! Rules about the size and the form of payloads.

use super::super::look::Look;
use super::super::profile::Setting;
use super::super::rule::Bound::{Back, Both, Front};
use super::super::rule::{Finding, On, Rule, rule};
use super::super::states::Postcopy;
use crate::wire::id::{backend, frontend as id};
use crate::wire::{Channel, MemTable, Payload, ProtocolFeature, ReplyKind};

const CONFIG: &[u32] = &[id::GET_CONFIG, id::SET_CONFIG];
const INFLIGHT: &[u32] = &[id::GET_INFLIGHT_FD, id::SET_INFLIGHT_FD];
const REGION: &[u32] = &[id::ADD_MEM_REG, id::REM_MEM_REG];
/// Requests whose payload has a rule of its own.
const OWN_RULE: &[&[u32]] = &[CONFIG, INFLIGHT, REGION, &[id::SET_MEM_TABLE, id::SET_LOG_BASE]];
/// Payloads that the text describes with 20 and 26 bytes, and C with 24 and 32.
const UNPADDED: [usize; 2] = [20, 26];

pub(super) static RULES: &[Rule] = &[
    rule(
        "mem-table-payload",
        Front,
        &["VU-PAY-09", "VU-PAY-08"],
        On::Request(Channel::Main, &[id::SET_MEM_TABLE]),
        mem_table,
        "SET_MEM_TABLE has a count, a padding, and as many regions, 8 at most; regions have 8 more bytes with XEN_MMAP only.",
    ),
    rule(
        "mem-reg-payload",
        Front,
        &["VU-PAY-10", "VU-PAY-08"],
        On::Request(Channel::Main, REGION),
        fits,
        "ADD_MEM_REG and REM_MEM_REG have a padding and one region, 40 bytes (48 with XEN_MMAP).",
    ),
    rule(
        "config-payload",
        Front,
        &["VU-PAY-11"],
        On::Request(Channel::Main, CONFIG),
        config,
        "Requests for configuration space have offset, size, flags, and size bytes.",
    ),
    rule(
        "inflight-payload",
        Front,
        &["VU-PAY-18"],
        On::Request(Channel::Main, INFLIGHT),
        fits,
        "Requests about the inflight area have its size, offset, number of queues and queue size.",
    ),
    rule(
        "log-payload",
        Front,
        &["VU-PAY-19"],
        On::Request(Channel::Main, &[id::SET_LOG_BASE]),
        log_base,
        "SET_LOG_BASE has size and offset of the log with LOG_SHMFD.",
    ),
    rule(
        "vring-area-payload",
        Back,
        &["VU-PAY-17"],
        On::Request(Channel::Backend, &[backend::VRING_HOST_NOTIFIER_MSG]),
        fits,
        "VRING_HOST_NOTIFIER_MSG has the ring, a size and an offset.",
    ),
    rule(
        "request-payload",
        Both,
        &["VU-HDR-08", "VU-PAY-01", "VU-PAY-06"],
        On::Requests,
        request,
        "A request has the payload of its id, to the byte.",
    ),
    rule(
        "ack-payload",
        Both,
        &["VU-ACK-02"],
        On::Replies,
        ack,
        "An acknowledgement is one u64.",
    ),
    rule(
        "log-base-reply",
        Back,
        &["VU-COM-02", "VU-PAY-19"],
        On::Reply(Channel::Main, &[id::SET_LOG_BASE]),
        log_reply,
        "The reply to SET_LOG_BASE has the log payload.",
    ),
    rule(
        "config-reply",
        Back,
        &["VU-CFG-02", "VU-CFG-03"],
        On::Reply(Channel::Main, &[id::GET_CONFIG]),
        config_reply,
        "The reply to GET_CONFIG has the size of the request, or is empty where the request failed.",
    ),
    rule(
        "shmem-config-reply",
        Back,
        &["VU-PAY-16"],
        On::Reply(Channel::Main, &[id::GET_SHMEM_CONFIG]),
        shmem_reply,
        "The reply to GET_SHMEM_CONFIG has 256 sizes and the number of those that are not 0.",
    ),
    rule(
        "postcopy-table-reply",
        Back,
        &["VU-PC-10"],
        On::Reply(Channel::Main, &[id::SET_MEM_TABLE]),
        table_reply,
        "In postcopy SET_MEM_TABLE is answered with the same table, and other addresses of the user.",
    ),
    rule(
        "reply-payload",
        Both,
        &["VU-NEG-01", "VU-PAY-01", "VU-MEM-13", "VU-MQ-09"],
        On::Replies,
        reply,
        "A reply has the payload that belongs to its request.",
    ),
];

/// A request whose payload fits none of its layouts.
fn fits(_: &Rule, look: &Look) -> Option<Finding> {
    let (spec, Payload::Raw(bytes)) = (look.spec?, &look.message.payload) else {
        return None;
    };
    let layouts: Vec<String> = spec
        .request
        .iter()
        .map(|l| format!("{l} ({} bytes)", l.size_text()))
        .collect();
    let finding = Finding::new(layouts.join(" or "), format!("{} bytes: {}", bytes.len(), look.shown()))?;
    let facts = look.facts;
    let on_main = look.message.channel == Channel::Main;
    let is_memory = on_main && (look.message.request == id::SET_MEM_TABLE || REGION.contains(&look.message.request));
    let has_padding = INFLIGHT.contains(&look.message.request) && on_main || spec.name == "IOTLB_MSG";
    let excuse = if is_memory && facts.has(ProtocolFeature::XenMmap) {
        Some(Setting::XenUnimplemented)
    } else if on_main && look.message.request == id::ADD_MEM_REG && facts.postcopy != Postcopy::Off {
        Some(Setting::PostcopyWithSlots)
    } else if has_padding && UNPADDED.contains(&bytes.len()) {
        Some(Setting::CPadding)
    } else {
        None
    };
    Some(finding.unless(excuse))
}

fn mem_table(rule: &Rule, look: &Look) -> Option<Finding> {
    match &look.message.payload {
        Payload::MemTable(table) if table.regions.len() > MemTable::REGIONS_MAX => {
            Finding::new("8 regions at most", format!("{} regions", table.regions.len()))
        }
        // what confirms postcopy, see the group of optional parts; 8 bytes of zero are a table without regions
        Payload::Empty if look.facts.postcopy != Postcopy::Mapped && !look.facts.is_uncertain => {
            Finding::new("a memory table", look.shown())
        }
        Payload::U64(value) if *value != 0 => Finding::new("a memory table", look.shown()),
        _ => fits(rule, look),
    }
}

fn config(rule: &Rule, look: &Look) -> Option<Finding> {
    let Payload::Config(config) = &look.message.payload else {
        return fits(rule, look);
    };
    let (said, there) = (config.size as usize, config.payload.len());
    if said == there {
        return None;
    }
    let excuse = look.message.request == id::GET_CONFIG && there == 0;
    let finding = Finding::new(
        format!("{said} bytes, as size says"),
        format!("{there} bytes: {}", look.shown()),
    )?;
    Some(finding.unless(excuse.then_some(Setting::ConfigHead)))
}

fn log_base(rule: &Rule, look: &Look) -> Option<Finding> {
    let short = matches!(look.message.payload, Payload::U64(_)) && look.facts.has(ProtocolFeature::LogShmfd);
    if short && !look.facts.negotiation_is_uncertain {
        return Finding::new("log (16 bytes)", look.shown());
    }
    fits(rule, look)
}

fn request(rule: &Rule, look: &Look) -> Option<Finding> {
    let own_rule = match look.message.channel {
        Channel::Main => OWN_RULE.iter().any(|ids| ids.contains(&look.message.request)),
        Channel::Backend => look.message.request == backend::VRING_HOST_NOTIFIER_MSG,
    };
    if own_rule { None } else { fits(rule, look) }
}

fn is_ack(look: &Look) -> Option<bool> {
    let open = look.answered()?;
    Some(match open.message.spec()?.reply.kind {
        ReplyKind::Ack | ReplyKind::AckIfReplyAck | ReplyKind::Disputed => true,
        ReplyKind::PostcopyTable => !open.wants_table,
        ReplyKind::Always | ReplyKind::FdOnly | ReplyKind::LogBase => false,
    })
}

fn ack(_: &Rule, look: &Look) -> Option<Finding> {
    if !is_ack(look)? || matches!(look.message.payload, Payload::U64(_)) {
        return None;
    }
    let adds = look.message.request == id::ADD_MEM_REG && look.facts.postcopy != Postcopy::Off;
    Some(
        Finding::new("u64 (8 bytes)", format!("{} bytes: {}", look.size, look.shown()))?
            .unless(adds.then_some(Setting::PostcopyWithSlots)),
    )
}

fn log_reply(_: &Rule, look: &Look) -> Option<Finding> {
    let excuse = match look.message.payload {
        Payload::Log(_) => return None,
        Payload::Empty | Payload::U64(_) => Some(Setting::LogReplySizes),
        _ => None,
    };
    // without LOG_SHMFD it is an acknowledgement like any other
    if !look.facts.has(ProtocolFeature::LogShmfd) && excuse.is_some() {
        return None;
    }
    Some(Finding::new("log (16 bytes)", format!("{} bytes", look.size))?.unless(excuse))
}

fn config_reply(_: &Rule, look: &Look) -> Option<Finding> {
    let Payload::Config(asked) = &look.answered()?.message.payload else {
        return None;
    };
    let expected = || format!("{} bytes of configuration space, or none", asked.size);
    match &look.message.payload {
        Payload::Empty => None,
        Payload::Config(given) if given.size == 0 && given.payload.is_empty() => None,
        Payload::Config(given) if given.size == asked.size && given.payload.len() == given.size as usize => None,
        Payload::Config(given) => {
            let actual = format!("size={} and {} bytes", given.size, given.payload.len());
            Finding::new(expected(), actual)
        }
        _ => Finding::new(expected(), look.shown()),
    }
}

fn shmem_reply(_: &Rule, look: &Look) -> Option<Finding> {
    let Payload::ShmemConfig(config) = &look.message.payload else {
        return Finding::new("shmem_config (2056 bytes)", format!("{} bytes", look.size));
    };
    let there = config.sizes.iter().filter(|size| **size != 0).count();
    let wrong = there != config.num_regions as usize;
    wrong.then(|| {
        Finding::new(
            format!("{there} regions, as the sizes say"),
            format!("num_regions={}", config.num_regions),
        )
    })?
}

fn table_reply(_: &Rule, look: &Look) -> Option<Finding> {
    let open = look.answered()?;
    let Payload::MemTable(sent) = &open.message.payload else {
        return None;
    };
    if !open.wants_table {
        return None;
    }
    let expected = || format!("the table of {} regions", sent.regions.len());
    let Payload::MemTable(back) = &look.message.payload else {
        return Finding::new(expected(), look.shown());
    };
    let alike = sent.regions.len() == back.regions.len()
        && sent
            .regions
            .iter()
            .zip(&back.regions)
            .all(|(a, b)| (a.guest_address, a.size) == (b.guest_address, b.size));
    (!alike).then(|| Finding::new(expected(), look.shown()))?
}

fn reply(_: &Rule, look: &Look) -> Option<Finding> {
    let own_rule = [id::SET_LOG_BASE, id::GET_CONFIG, id::GET_SHMEM_CONFIG].contains(&look.message.request);
    if is_ack(look)? || look.answered()?.wants_table || own_rule && look.message.channel == Channel::Main {
        return None;
    }
    let (spec, Payload::Raw(bytes)) = (look.spec?, &look.message.payload) else {
        return None;
    };
    let layouts: Vec<String> = spec
        .reply
        .layouts
        .iter()
        .map(|l| format!("{l} ({} bytes)", l.size_text()))
        .collect();
    let padding = look.message.request == id::GET_INFLIGHT_FD && UNPADDED.contains(&bytes.len());
    let finding = Finding::new(layouts.join(" or "), format!("{} bytes: {}", bytes.len(), look.shown()))?;
    Some(finding.unless(padding.then_some(Setting::CPadding)))
}
