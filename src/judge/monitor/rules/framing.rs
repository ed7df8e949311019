//! Rules about headers and the stream of bytes.

use super::super::look::{Facts, Look};
use super::super::profile::Setting;
use super::super::rule::Bound::{Back, Both, Front};
use super::super::rule::{Finding, On, Rule, event_rule, rule};
use crate::trace::EventKind;
use crate::wire::{Channel, Party, ProtocolFeature, flags};

const KNOWN_FLAGS: u32 = flags::VERSION_MASK | flags::REPLY | flags::NEED_REPLY;

pub(super) static RULES: &[Rule] = &[
    event_rule(
        "malformed",
        Both,
        &["VU-HDR-02"],
        malformed,
        "Bytes on a socket are whole messages: a header of 12 bytes and the payload that it announces.",
    ),
    event_rule(
        "cut-short",
        Both,
        &["VU-HDR-02", "VU-COM-08"],
        cut_short,
        "A socket is not closed in the middle of a message.",
    ),
    rule(
        "message-after-close",
        Both,
        &["VU-COM-08"],
        On::Any,
        after_close,
        "Who has closed a socket sends nothing more on it.",
    ),
    rule(
        "version",
        Both,
        &["VU-HDR-03", "VU-HDR-01"],
        On::Any,
        version,
        "The version in the flags is 1.",
    ),
    rule(
        "reserved-flags",
        Both,
        &["VU-HDR-11"],
        On::Any,
        reserved_flags,
        "Bits 4 to 31 of the flags are 0.",
    ),
    rule(
        "reply-bit-on-request",
        Both,
        &["VU-HDR-06"],
        On::Any,
        reply_bit_on_request,
        "Who makes the requests on a socket leaves the reply bit clear.",
    ),
    rule(
        "reply-bit-of-back-end",
        Back,
        &["VU-HDR-04", "VU-BCH-05"],
        On::Any,
        reply_bit_of_back_end,
        "The back-end sends only replies on the main socket, and their reply bit is set.",
    ),
    rule(
        "reply-bit-of-front-end",
        Front,
        &["VU-HDR-05", "VU-BCH-09"],
        On::Any,
        reply_bit_of_front_end,
        "The front-end sends only replies on the back-end channel, and their reply bit is set.",
    ),
    rule(
        "need-reply-on-reply",
        Both,
        &["VU-ACK-06"],
        On::Replies,
        need_reply_on_reply,
        "A reply does not ask for a reply.",
    ),
    rule(
        "unknown-request",
        Both,
        &["VU-COM-13"],
        On::Requests,
        unknown_request,
        "A request has an id that the specification assigns on that socket.",
    ),
    rule(
        "need-reply-unnegotiated",
        Both,
        &["VU-HDR-07", "VU-ACK-01", "VU-ACK-09"],
        On::Requests,
        need_reply_unnegotiated,
        "need_reply is set only with REPLY_ACK negotiated.",
    ),
];

fn malformed(_: &Facts, event: &EventKind) -> Option<Finding> {
    let EventKind::Malformed { why, channel, .. } = event else {
        return None;
    };
    Finding::new(format!("a message on {channel}"), why.clone())
}

fn cut_short(_: &Facts, event: &EventKind) -> Option<Finding> {
    match event {
        EventKind::Closed { partial, channel, .. } if *partial > 0 => Finding::new(
            format!("a close of {channel} between two messages"),
            format!("a close after {partial} bytes of a message"),
        ),
        _ => None,
    }
}

fn after_close(_: &Rule, look: &Look) -> Option<Finding> {
    let channel = look.message.channel;
    let closed = look.facts.is_closed(channel, look.from);
    closed.then(|| Finding::new(format!("nothing after the close of {channel}"), look.shown()))?
}

fn version(_: &Rule, look: &Look) -> Option<Finding> {
    let version = look.message.flags & flags::VERSION_MASK;
    (version != flags::VERSION).then(|| Finding::new("version 1", format!("version {version}: {}", look.shown())))?
}

fn reserved_flags(_: &Rule, look: &Look) -> Option<Finding> {
    let reserved = look.message.flags & !KNOWN_FLAGS;
    (reserved != 0).then(|| Finding::new("flags within 0xf", format!("{reserved:#x} as well: {}", look.shown())))?
}

fn reply_bit_on_request(_: &Rule, look: &Look) -> Option<Finding> {
    let requester = look.from == look.message.channel.requester();
    (requester && look.message.is_reply()).then(|| Finding::new("a request", look.shown()))?
}

fn reply_bit_of_back_end(_: &Rule, look: &Look) -> Option<Finding> {
    missing(look, Channel::Main, Party::BackEnd)
}

fn reply_bit_of_front_end(_: &Rule, look: &Look) -> Option<Finding> {
    missing(look, Channel::Backend, Party::FrontEnd)
}

fn missing(look: &Look, channel: Channel, party: Party) -> Option<Finding> {
    let is_it = look.message.channel == channel && look.from == party && !look.message.is_reply();
    is_it.then(|| Finding::new("a reply", look.shown()))?
}

fn need_reply_on_reply(_: &Rule, look: &Look) -> Option<Finding> {
    if !look.message.needs_reply() {
        return None;
    }
    let echoes = look.answered().is_some_and(|open| open.message.needs_reply());
    let finding = Finding::new("flags 0x5", format!("flags {:#x}", look.message.flags))?;
    Some(finding.unless(echoes.then_some(Setting::NeedReplyEchoed)))
}

fn unknown_request(_: &Rule, look: &Look) -> Option<Finding> {
    let channel = look.message.channel;
    let unknown = look.spec.is_none();
    unknown.then(|| Finding::new(format!("a known request on {channel}"), look.shown()))?
}

fn need_reply_unnegotiated(_: &Rule, look: &Look) -> Option<Finding> {
    let facts = look.facts;
    let asks = look.message.needs_reply() && !facts.has(ProtocolFeature::ReplyAck) && !facts.negotiation_is_uncertain;
    if !asks {
        return None;
    }
    Some(Finding::new("REPLY_ACK negotiated", look.shown())?.unless(Setting::NeedReplyUnnegotiated))
}
