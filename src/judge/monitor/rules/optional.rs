//! Rules about parts of the protocol that few sessions use: postcopy, device state, crypto, shared objects, config flags.

use super::super::look::Look;
use super::super::profile::Setting;
use super::super::rule::Bound::{Back, Front};
use super::super::rule::{Finding, On, Rule, rule};
use super::super::states::{POSTCOPY, Postcopy, Run, TRANSFER};
use super::legal;
use crate::wire::id::frontend as id;
use crate::wire::{Channel, Payload};

/// Configuration flags: 0 write by the driver, 1 live migration.
const CONFIG_FLAGS_MAX: u32 = 1;
/// Bits of the device status that the device itself may clear, and set.
const STATUS_FEATURES_OK: u64 = 8;
const STATUS_NEEDS_RESET: u64 = 0x40;
/// With both bits of rust-vmm.
const CONFIG_BITS_MAX: u32 = 3;

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
        "listen-without-advise",
        &["VU-PC-08"],
        &[id::POSTCOPY_LISTEN],
        postcopy,
        "POSTCOPY_LISTEN comes after POSTCOPY_ADVISE.",
    ),
    main(
        "end-without-listen",
        &["VU-PC-15"],
        &[id::POSTCOPY_END],
        postcopy,
        "POSTCOPY_END comes after POSTCOPY_LISTEN.",
    ),
    main(
        "postcopy-need-reply",
        &["VU-PC-12"],
        &[id::SET_MEM_TABLE],
        need_reply,
        "In postcopy SET_MEM_TABLE does not ask for a reply: it has one.",
    ),
    rule(
        "postcopy-unconfirmed",
        Front,
        &["VU-PC-13"],
        On::Requests,
        unconfirmed,
        "After the table of postcopy the front-end confirms it by a SET_MEM_TABLE without regions.",
    ),
    main(
        "postcopy-confirmation",
        &["VU-PC-13"],
        &[id::SET_MEM_TABLE],
        confirmation,
        "The confirmation of postcopy is empty.",
    ),
    main(
        "check-without-transfer",
        &["VU-DST-17"],
        &[id::CHECK_DEVICE_STATE],
        transfer,
        "CHECK_DEVICE_STATE comes after SET_DEVICE_STATE_FD.",
    ),
    main(
        "transfer-while-started",
        &["VU-DST-02"],
        &[id::SET_DEVICE_STATE_FD],
        while_started,
        "Device state is transferred while all rings are stopped.",
    ),
    main(
        "transfer-parameters",
        &["VU-PAY-14"],
        &[id::SET_DEVICE_STATE_FD],
        parameters,
        "SET_DEVICE_STATE_FD has direction 0 or 1 and phase 0.",
    ),
    main(
        "config-flags",
        &["VU-CFG-05", "VU-PAY-11"],
        &[id::GET_CONFIG, id::SET_CONFIG],
        config_flags,
        "Flags of configuration space are 0 or 1.",
    ),
    main(
        "closes-unknown-session",
        &["VU-CRY-04"],
        &[id::CLOSE_CRYPTO_SESSION],
        crypto,
        "Only crypto sessions that were created are closed.",
    ),
    main(
        "unregistered-object",
        &["VU-SHO-01"],
        &[id::GET_SHARED_OBJECT],
        object,
        "GET_SHARED_OBJECT asks for an object that the back-end announced.",
    ),
    main(
        "status-taken-back",
        &["VU-STA-02"],
        &[id::SET_STATUS],
        taken_back,
        "The driver takes no bit of the device status back, other than by writing 0.",
    ),
    rule(
        "status-differs",
        Back,
        &["VU-STA-03"],
        On::Reply(Channel::Main, &[id::GET_STATUS]),
        differs,
        "GET_STATUS answers what SET_STATUS has set: FEATURES_OK may be missing, DEVICE_NEEDS_RESET may be there.",
    ),
];

fn postcopy(rule: &Rule, look: &Look) -> Option<Finding> {
    if look.facts.is_uncertain {
        return None;
    }
    legal(rule, look, &POSTCOPY, look.facts.postcopy)
}

fn need_reply(_: &Rule, look: &Look) -> Option<Finding> {
    let asks = look.facts.wants_table(look.message) && look.message.needs_reply() && !look.facts.is_uncertain;
    asks.then(|| Finding::new("no need_reply", look.shown()))?
}

fn confirms(look: &Look) -> bool {
    let set = look.message.request == id::SET_MEM_TABLE;
    set && matches!(look.message.payload, Payload::Empty | Payload::U64(_))
}

fn unconfirmed(_: &Rule, look: &Look) -> Option<Finding> {
    let waits = look.facts.postcopy == Postcopy::Mapped && !look.facts.is_uncertain;
    let other = waits && look.message.channel == Channel::Main && !confirms(look);
    other.then(|| Finding::new("SET_MEM_TABLE without regions", look.shown()))?
}

fn confirmation(_: &Rule, look: &Look) -> Option<Finding> {
    let long = look.facts.postcopy == Postcopy::Mapped && matches!(look.message.payload, Payload::U64(_));
    Some(
        long.then(|| Finding::new("no payload", look.shown()))??
            .unless(Setting::ConfirmationBytes),
    )
}

fn transfer(rule: &Rule, look: &Look) -> Option<Finding> {
    if look.facts.is_uncertain {
        return None;
    }
    legal(rule, look, &TRANSFER, look.facts.transfer)
}

fn while_started(_: &Rule, look: &Look) -> Option<Finding> {
    let running = look
        .facts
        .rings
        .iter()
        .find(|(_, ring)| ring.run == Run::Started && !ring.is_unknown);
    let (ring, _) = running.filter(|_| !look.facts.is_uncertain)?;
    Finding::new("all rings stopped", format!("ring {ring} is started: {}", look.shown()))
}

fn parameters(_: &Rule, look: &Look) -> Option<Finding> {
    let Payload::DeviceState(state) = &look.message.payload else {
        return None;
    };
    let wrong = state.transfer_direction > 1 || state.migration_phase != 0;
    wrong.then(|| Finding::new("direction 0 or 1, phase 0", look.shown()))?
}

fn config_flags(_: &Rule, look: &Look) -> Option<Finding> {
    let Payload::Config(config) = &look.message.payload else {
        return None;
    };
    if config.flags <= CONFIG_FLAGS_MAX {
        return None;
    }
    let excuse = (config.flags <= CONFIG_BITS_MAX).then_some(Setting::ConfigFlagBits);
    Some(Finding::new("flags 0 or 1", look.shown())?.unless(excuse))
}

fn taken_back(_: &Rule, look: &Look) -> Option<Finding> {
    let (before, now) = (look.facts.status?, look.message.payload.as_u64()?);
    let taken = now != 0 && before & !now != 0 && !look.facts.is_uncertain;
    taken.then(|| Finding::new(format!("the bits of {before:#x}, or 0"), look.shown()))?
}

fn differs(_: &Rule, look: &Look) -> Option<Finding> {
    let facts = look.facts;
    let (set, told) = (facts.status_asked?, look.message.payload.as_u64()?);
    let devices_own = STATUS_FEATURES_OK | STATUS_NEEDS_RESET;
    let is_same = (set ^ told) & !devices_own == 0 && told & STATUS_FEATURES_OK & !set == 0;
    let wrong = !is_same && !facts.is_uncertain;
    wrong.then(|| Finding::new(format!("{set:#x}, as was set"), look.shown()))?
}

fn crypto(_: &Rule, look: &Look) -> Option<Finding> {
    let (facts, session) = (look.facts, look.message.payload.as_u64()?);
    let known = facts.crypto.contains(&session) || facts.lists_are_full || facts.is_uncertain;
    (!known).then(|| Finding::new(format!("one of {:?}", facts.crypto), look.shown()))?
}

fn object(_: &Rule, look: &Look) -> Option<Finding> {
    let facts = look.facts;
    match &look.message.payload {
        Payload::SharedObject(object) if facts.objects.contains(&object.uuid) => None,
        Payload::SharedObject(_) if facts.lists_are_full || facts.is_uncertain => None,
        Payload::Empty => Some(Finding::new("a UUID", look.shown())?.unless(Setting::ObjectWithoutUuid)),
        _ => Finding::new("an object that the back-end announced", look.shown()),
    }
}
