//! Rules about feature bits and the session.

use super::super::look::Look;
use super::super::rule::Bound::Front;
use super::super::rule::{Finding, On, Rule, rule};
use super::super::states::{OWNER, Run};
use super::legal;
use crate::wire::features::{LOG_ALL, describe, describe_protocol};
use crate::wire::id::frontend as id;
use crate::wire::{Channel, ProtocolFeature as F};

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
        "features-not-offered",
        &["VU-NEG-03"],
        &[id::SET_FEATURES],
        features,
        "SET_FEATURES acknowledges only bits that were offered.",
    ),
    main(
        "protocol-features-not-offered",
        &["VU-NEG-09"],
        &[id::SET_PROTOCOL_FEATURES],
        protocol,
        "SET_PROTOCOL_FEATURES acknowledges only bits that were offered.",
    ),
    main(
        "inband-alone",
        &["VU-INB-03"],
        &[id::SET_PROTOCOL_FEATURES],
        inband,
        "INBAND_NOTIFICATIONS is negotiated only with BACKEND_REQ and REPLY_ACK.",
    ),
    main(
        "base-inflight-alone",
        &["VU-VRB-11"],
        &[id::SET_PROTOCOL_FEATURES],
        base_inflight,
        "GET_VRING_BASE_INFLIGHT is negotiated only with INFLIGHT_SHMFD.",
    ),
    main(
        "skip-drain-alone",
        &["VU-VRB-10"],
        &[id::SET_PROTOCOL_FEATURES],
        skip_drain,
        "GET_VRING_BASE_SKIP_DRAIN is negotiated only with GET_VRING_BASE_INFLIGHT and INFLIGHT_SHMFD.",
    ),
    main(
        "features-while-started",
        &["VU-LOG-02", "VU-RING-19"],
        &[id::SET_FEATURES],
        while_started,
        "While a ring is started SET_FEATURES changes nothing but LOG_ALL.",
    ),
    main(
        "owner-twice",
        &["VU-OWN-01"],
        &[id::SET_OWNER],
        owner,
        "SET_OWNER comes once a connection.",
    ),
    main(
        "ring-started-without-owner",
        &["VU-OWN-01"],
        &[id::SET_VRING_KICK, id::VRING_KICK],
        owner,
        "SET_OWNER comes before the first ring is started.",
    ),
    main(
        "reset-owner",
        &["VU-OWN-03"],
        &[id::RESET_OWNER],
        reset_owner,
        "RESET_OWNER is not sent any more.",
    ),
];

fn features(_: &Rule, look: &Look) -> Option<Finding> {
    let (acked, offered) = (look.message.payload.as_u64()?, look.facts.offered?);
    let extra = acked & !offered;
    let names = |bits| describe(bits, |_| None);
    (extra != 0).then(|| {
        Finding::new(
            format!("bits within {offered:#x}"),
            format!("{acked:#x}, with {}", names(extra)),
        )
    })?
}

fn protocol(_: &Rule, look: &Look) -> Option<Finding> {
    let (acked, offered) = (look.message.payload.as_u64()?, look.facts.protocol_offered?);
    let extra = acked & !offered;
    let finding = || {
        let expected = format!("bits within {}", describe_protocol(offered));
        Finding::new(expected, format!("{} as well", describe_protocol(extra)))
    };
    (extra != 0).then(finding)?
}

/// A bit that has a use only with others.
fn alone(look: &Look, feature: F, with: &[F]) -> Option<Finding> {
    let acked = look.message.payload.as_u64()?;
    let missing: u64 = with.iter().map(|f| f.mask()).sum::<u64>() & !acked;
    if acked & feature.mask() == 0 || missing == 0 {
        return None;
    }
    let expected = format!("{feature} with {}", describe_protocol(missing));
    Finding::new(expected, describe_protocol(acked))
}

fn inband(_: &Rule, look: &Look) -> Option<Finding> {
    alone(look, F::InbandNotifications, &[F::BackendReq, F::ReplyAck])
}

fn base_inflight(_: &Rule, look: &Look) -> Option<Finding> {
    alone(look, F::GetVringBaseInflight, &[F::InflightShmfd])
}

fn skip_drain(_: &Rule, look: &Look) -> Option<Finding> {
    // with bit 20 there and bit 12 missing the other rule speaks
    let acked = look.message.payload.as_u64()?;
    let with: &[F] = if acked & F::GetVringBaseInflight.mask() == 0 {
        &[F::GetVringBaseInflight, F::InflightShmfd]
    } else {
        &[F::GetVringBaseInflight]
    };
    alone(look, F::GetVringBaseSkipDrain, with)
}

fn while_started(_: &Rule, look: &Look) -> Option<Finding> {
    let (new, old) = (look.message.payload.as_u64()?, look.facts.features);
    let changed = (new ^ old) & !LOG_ALL;
    let running = look
        .facts
        .rings
        .iter()
        .find(|(_, ring)| ring.run == Run::Started && !ring.is_unknown);
    let (ring, _) = running.filter(|_| changed != 0 && !look.facts.is_uncertain)?;
    Finding::new(
        format!("{old:#x}, but for LOG_ALL: ring {ring} is started"),
        format!("{new:#x}"),
    )
}

fn owner(rule: &Rule, look: &Look) -> Option<Finding> {
    if look.facts.is_uncertain {
        return None;
    }
    legal(rule, look, &OWNER, look.facts.owner)
}

fn reset_owner(_: &Rule, look: &Look) -> Option<Finding> {
    Finding::new("no RESET_OWNER", look.shown())
}
