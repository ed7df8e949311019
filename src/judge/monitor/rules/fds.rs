//! Rules about the files that are attached to messages.

use super::super::look::Look;
use super::super::profile::Setting;
use super::super::rule::Bound::{Back, Both, Front};
use super::super::rule::{Finding, On, Rule, rule};
use crate::trace::FdNote;
use crate::wire::id::{backend, frontend as id};
use crate::wire::{Channel, Payload, ProtocolFeature};

const VRING_FDS: &[u32] = &[id::SET_VRING_KICK, id::SET_VRING_CALL, id::SET_VRING_ERR];
/// Requests whose files have a rule of their own.
const OWN_RULE: &[u32] = &[
    id::SET_MEM_TABLE,
    id::ADD_MEM_REG,
    id::REM_MEM_REG,
    id::SET_LOG_BASE,
    id::SET_LOG_FD,
    id::SET_VRING_KICK,
    id::SET_VRING_CALL,
    id::SET_VRING_ERR,
    id::SET_BACKEND_REQ_FD,
    id::SET_INFLIGHT_FD,
    id::GPU_SET_SOCKET,
    id::SET_DEVICE_STATE_FD,
];
/// Most files on one message of the back-end channel.
const CHANNEL_FDS_MAX: usize = 8;

pub(super) static RULES: &[Rule] = &[
    rule(
        "mem-table-files",
        Front,
        &["VU-MEM-01"],
        On::Request(Channel::Main, &[id::SET_MEM_TABLE]),
        mem_table,
        "SET_MEM_TABLE has one file for each region.",
    ),
    rule(
        "mem-reg-file",
        Front,
        &["VU-MEM-15"],
        On::Request(Channel::Main, &[id::ADD_MEM_REG]),
        one,
        "ADD_MEM_REG has one file.",
    ),
    rule(
        "remove-without-file",
        Front,
        &["VU-MEM-19"],
        On::Request(Channel::Main, &[id::REM_MEM_REG]),
        none,
        "REM_MEM_REG has no file.",
    ),
    rule(
        "vring-file",
        Front,
        &["VU-VRF-02", "VU-VRF-11"],
        On::Request(Channel::Main, VRING_FDS),
        vring,
        "SET_VRING_KICK, CALL and ERR have one file, or bit 8 set and none.",
    ),
    rule(
        "log-file",
        Front,
        &["VU-LOG-08"],
        On::Request(Channel::Main, &[id::SET_LOG_BASE]),
        log,
        "SET_LOG_BASE has one file with LOG_SHMFD, and none without.",
    ),
    rule(
        "log-event-file",
        Front,
        &["VU-LOG-18"],
        On::Request(Channel::Main, &[id::SET_LOG_FD]),
        one,
        "SET_LOG_FD has one file.",
    ),
    rule(
        "channel-socket",
        Front,
        &["VU-BCH-02"],
        On::Request(Channel::Main, &[id::SET_BACKEND_REQ_FD]),
        socket,
        "SET_BACKEND_REQ_FD has one connected socket.",
    ),
    rule(
        "inflight-file",
        Front,
        &["VU-IFL-03"],
        On::Request(Channel::Main, &[id::SET_INFLIGHT_FD]),
        one,
        "SET_INFLIGHT_FD has the file of the area.",
    ),
    rule(
        "gpu-socket",
        Front,
        &["VU-GPU-01"],
        On::Request(Channel::Main, &[id::GPU_SET_SOCKET]),
        socket,
        "GPU_SET_SOCKET has one socket.",
    ),
    rule(
        "device-state-file",
        Front,
        &["VU-DST-03"],
        On::Request(Channel::Main, &[id::SET_DEVICE_STATE_FD]),
        one,
        "SET_DEVICE_STATE_FD has one file.",
    ),
    rule(
        "files-on-request",
        Front,
        &["VU-COM-07"],
        On::Requests,
        unexpected,
        "Requests that take no files carry none.",
    ),
    rule(
        "channel-files-unnegotiated",
        Back,
        &["VU-BCH-06"],
        On::Requests,
        channel_unnegotiated,
        "The back-end attaches files on its channel only with BACKEND_SEND_FD negotiated.",
    ),
    rule(
        "channel-files",
        Back,
        &["VU-BCH-07", "VU-SHM-06"],
        On::Requests,
        channel,
        "A request on the back-end channel has the files that it takes, 8 at most.",
    ),
    rule(
        "host-notifier-file",
        Back,
        &["VU-PAY-17", "VU-BCH-14"],
        On::Request(Channel::Backend, &[backend::VRING_HOST_NOTIFIER_MSG]),
        notifier,
        "VRING_HOST_NOTIFIER_MSG has one file, or bit 8 set and none.",
    ),
    rule(
        "userfault-file",
        Back,
        &["VU-PC-03"],
        On::Reply(Channel::Main, &[id::POSTCOPY_ADVISE]),
        userfault,
        "The reply to POSTCOPY_ADVISE has one file, the userfaultfd.",
    ),
    rule(
        "inflight-reply-file",
        Back,
        &["VU-IFL-02", "VU-COM-03"],
        On::Reply(Channel::Main, &[id::GET_INFLIGHT_FD]),
        inflight,
        "The reply to GET_INFLIGHT_FD has the file of the area, unless there is no area.",
    ),
    rule(
        "device-state-reply-file",
        Back,
        &["VU-DST-10", "VU-DST-11"],
        On::Reply(Channel::Main, &[id::SET_DEVICE_STATE_FD]),
        device_state,
        "The reply to SET_DEVICE_STATE_FD has one file, or bit 8 set and none; none after an error.",
    ),
    rule(
        "object-reply-file",
        Front,
        &["VU-SHO-07", "VU-SHO-08"],
        On::Reply(Channel::Backend, &[backend::SHARED_OBJECT_LOOKUP]),
        lookup,
        "The reply to SHARED_OBJECT_LOOKUP has the file and 0, or another number and none.",
    ),
    rule(
        "files-on-reply",
        Both,
        &["VU-COM-07"],
        On::Replies,
        reply,
        "Replies that return no files carry none.",
    ),
    rule(
        "memory-file-kind",
        Front,
        &["VU-PLT-01"],
        On::Request(Channel::Main, &[id::SET_MEM_TABLE, id::ADD_MEM_REG]),
        memory_kind,
        "Memory comes as files that can be mapped.",
    ),
    rule(
        "event-kind",
        Front,
        &["VU-PLT-03", "VU-PLT-04"],
        On::Request(
            Channel::Main,
            &[
                id::SET_VRING_KICK,
                id::SET_VRING_CALL,
                id::SET_VRING_ERR,
                id::SET_LOG_FD,
            ],
        ),
        event_kind,
        "Notifications come as eventfds or pipes.",
    ),
];

fn count(look: &Look, wanted: usize) -> Option<Finding> {
    let there = look.fds.len();
    (there != wanted).then(|| Finding::new(files(wanted), format!("{}: {}", files(there), look.shown())))?
}

fn files(count: usize) -> String {
    match count {
        0 => "no file".to_owned(),
        1 => "1 file".to_owned(),
        n => format!("{n} files"),
    }
}

fn one(_: &Rule, look: &Look) -> Option<Finding> {
    // the confirmation of postcopy in QEMU's variant with single regions
    let is_raw = matches!(look.message.payload, Payload::Raw(_));
    if is_raw { None } else { count(look, 1) }
}

fn none(_: &Rule, look: &Look) -> Option<Finding> {
    let excuse = (look.fds.len() == 1).then_some(Setting::RemoveWithFile);
    Some(count(look, 0)?.unless(excuse))
}

fn mem_table(_: &Rule, look: &Look) -> Option<Finding> {
    match &look.message.payload {
        Payload::MemTable(table) => count(look, table.regions.len()),
        Payload::Raw(_) => None,
        _ => count(look, 0),
    }
}

fn by_bit(look: &Look, no_file: bool) -> Option<Finding> {
    match (no_file, look.fds.len()) {
        (true, 0) | (false, 1) => None,
        (true, there) => Finding::new("no file, as bit 8 says", format!("{}: {}", files(there), look.shown())),
        (false, there) => Finding::new("1 file, as bit 8 says", format!("{}: {}", files(there), look.shown())),
    }
}

fn vring(_: &Rule, look: &Look) -> Option<Finding> {
    match &look.message.payload {
        Payload::VringFd(fd) => by_bit(look, fd.no_fd),
        _ => None,
    }
}

fn notifier(_: &Rule, look: &Look) -> Option<Finding> {
    match &look.message.payload {
        Payload::VringArea(area) => by_bit(look, area.value & crate::wire::VringFd::NO_FD != 0),
        _ => None,
    }
}

fn log(_: &Rule, look: &Look) -> Option<Finding> {
    if look.facts.negotiation_is_uncertain {
        return None;
    }
    count(look, usize::from(look.facts.has(ProtocolFeature::LogShmfd)))
}

fn socket(_: &Rule, look: &Look) -> Option<Finding> {
    let wrong = look.fds.iter().find(|fd| **fd != FdNote::Socket);
    let kind = || wrong.and_then(|kind| Finding::new("a socket", format!("{kind}: {}", look.shown())));
    count(look, 1).or_else(kind)
}

fn unexpected(_: &Rule, look: &Look) -> Option<Finding> {
    let own_rule = OWN_RULE.contains(&look.message.request);
    if look.message.channel == Channel::Backend || own_rule || look.spec.is_none() {
        return None;
    }
    count(look, 0)
}

fn channel_unnegotiated(_: &Rule, look: &Look) -> Option<Finding> {
    let negotiated = look.facts.protocol_ever & ProtocolFeature::BackendSendFd.mask() != 0;
    let on_channel = look.message.channel == Channel::Backend && !look.fds.is_empty();
    if !on_channel || negotiated || look.facts.negotiation_is_uncertain {
        return None;
    }
    Finding::new(
        "no file: BACKEND_SEND_FD is not negotiated",
        format!("{}: {}", files(look.fds.len()), look.shown()),
    )
}

fn channel(_: &Rule, look: &Look) -> Option<Finding> {
    let spec = look.spec?;
    if look.message.channel == Channel::Main || spec.id == backend::VRING_HOST_NOTIFIER_MSG {
        return None;
    }
    let (rule, there) = (spec.request_fds, look.fds.len());
    if rule.allows(there) && there <= CHANNEL_FDS_MAX {
        return None;
    }
    let wanted = if rule.min == rule.max {
        files(rule.max)
    } else {
        format!("{} to {}", rule.min, files(rule.max))
    };
    Finding::new(wanted, format!("{}: {}", files(there), look.shown()))
}

fn userfault(_: &Rule, look: &Look) -> Option<Finding> {
    count(look, 1)
}

fn inflight(_: &Rule, look: &Look) -> Option<Finding> {
    match &look.message.payload {
        Payload::Inflight(area) => count(look, usize::from(area.mmap_size > 0)),
        _ => None,
    }
}

fn device_state(_: &Rule, look: &Look) -> Option<Finding> {
    match look.message.payload.as_u64()? {
        error if error & 0xff != 0 => count(look, 0),
        value => by_bit(look, value & crate::wire::VringFd::NO_FD != 0),
    }
}

fn lookup(_: &Rule, look: &Look) -> Option<Finding> {
    count(look, usize::from(look.message.payload.as_u64()? == 0))
}

fn reply(_: &Rule, look: &Look) -> Option<Finding> {
    let spec = look.spec?;
    let (rule, there) = (spec.reply_fds, look.fds.len());
    (there > rule.max).then(|| Finding::new(files(rule.max), format!("{}: {}", files(there), look.shown())))?
}

fn memory_kind(_: &Rule, look: &Look) -> Option<Finding> {
    let cannot = |fd: &&FdNote| matches!(fd, FdNote::Eventfd | FdNote::Socket | FdNote::Pipe | FdNote::Userfault);
    let wrong = look.fds.iter().find(cannot)?;
    Finding::new("files that can be mapped", format!("{wrong}: {}", look.shown()))
}

fn event_kind(_: &Rule, look: &Look) -> Option<Finding> {
    let cannot = |fd: &&FdNote| matches!(fd, FdNote::Memfd { .. } | FdNote::File { .. } | FdNote::Userfault);
    let wrong = look.fds.iter().find(cannot)?;
    Finding::new("an eventfd or a pipe", format!("{wrong}: {}", look.shown()))
}
