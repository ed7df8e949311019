//! Rules about which reply answers which request.

use super::super::look::Look;
use super::super::open::Match;
use super::super::profile::Setting;
use super::super::rule::Bound::Both;
use super::super::rule::{Finding, On, Rule, rule};
use super::super::states::Postcopy;
use crate::wire::{ReplyKind, id};

pub(super) static RULES: &[Rule] = &[
    rule(
        "reply-to-nothing",
        Both,
        &["VU-COM-04"],
        On::Replies,
        to_nothing,
        "A reply answers a request.",
    ),
    rule(
        "answered-twice",
        Both,
        &["VU-ACK-04", "VU-COM-04"],
        On::Replies,
        twice,
        "A request has one reply.",
    ),
    rule(
        "reply-with-other-id",
        Both,
        &["VU-HDR-09"],
        On::Replies,
        other_id,
        "A reply has the id of the request that it answers.",
    ),
    rule(
        "reply-out-of-order",
        Both,
        &["VU-HDR-10"],
        On::Replies,
        out_of_order,
        "Replies come in the order of their requests.",
    ),
    rule(
        "ack-unasked",
        Both,
        &["VU-COM-04", "VU-ACK-02"],
        On::Replies,
        unasked,
        "A request without a reply of its own is answered only if it asked for that.",
    ),
    rule(
        "ack-unnegotiated",
        Both,
        &["VU-ACK-05"],
        On::Replies,
        unnegotiated,
        "need_reply is answered only with REPLY_ACK negotiated.",
    ),
];

fn to_nothing(_: &Rule, look: &Look) -> Option<Finding> {
    (look.matched == Some(Match::Nothing)).then(|| Finding::new("no reply: nothing waits for one", look.shown()))?
}

fn twice(_: &Rule, look: &Look) -> Option<Finding> {
    let again = look.matched == Some(Match::Again);
    again.then(|| {
        Finding::new(
            format!("one reply to {}", look.message.name()),
            format!("a second one: {}", look.shown()),
        )
    })?
}

fn other_id(_: &Rule, look: &Look) -> Option<Finding> {
    let Some(Match::OtherId(at)) = look.matched else {
        return None;
    };
    let waits = look.facts.queue(look.message.channel).get(at)?;
    Finding::new(format!("a reply to {}", waits.message), look.shown())
}

fn out_of_order(_: &Rule, look: &Look) -> Option<Finding> {
    let Some(Match::Answers { overtook: Some(at), .. }) = look.matched else {
        return None;
    };
    let first = look.facts.queue(look.message.channel).get(at)?;
    Finding::new(format!("first the reply to {}", first.message), look.shown())
}

fn unasked(_: &Rule, look: &Look) -> Option<Finding> {
    let Some(Match::Unasked(at)) = look.matched else {
        return None;
    };
    let request = look.facts.queue(look.message.channel).get(at)?;
    let adds = request.message.request == id::frontend::ADD_MEM_REG && look.facts.postcopy != Postcopy::Off;
    let finding = Finding::new(format!("no answer to {}", request.message), look.shown())?;
    Some(finding.unless(adds.then_some(Setting::PostcopyWithSlots)))
}

fn unnegotiated(_: &Rule, look: &Look) -> Option<Finding> {
    let open = look.answered()?;
    let kind = open.message.spec()?.reply.kind;
    let is_ack = match kind {
        ReplyKind::Ack | ReplyKind::AckIfReplyAck | ReplyKind::Disputed | ReplyKind::LogBase => true,
        ReplyKind::PostcopyTable => !open.wants_table,
        ReplyKind::Always | ReplyKind::FdOnly => false,
    };
    let owed = open.due == crate::wire::Due::Required;
    if !is_ack || open.reply_ack || owed || !open.message.needs_reply() || look.facts.negotiation_is_uncertain {
        return None;
    }
    let excuse = match (open.message.request, kind) {
        (id::frontend::SET_PROTOCOL_FEATURES, _) => Setting::AckOfReplyAck,
        (_, ReplyKind::Disputed) => Setting::DisputedAcks,
        _ => Setting::AcksUnnegotiated,
    };
    Some(
        Finding::new(
            format!("no answer to {}: REPLY_ACK was not negotiated", open.message),
            look.shown(),
        )?
        .unless(excuse),
    )
}
