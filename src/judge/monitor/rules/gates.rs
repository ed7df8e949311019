//! Rules about what has to be offered or negotiated before a message exists. What each message needs stands in the
//! table of messages; a rule here only names the requirement.

use super::super::look::Look;
use super::super::profile::Setting;
use super::super::rule::Bound::{Back, Front};
use super::super::rule::{Bound, Finding, On, Rule, rule};
use super::super::states::Negotiation;
use crate::wire::id::{backend, frontend as id};
use crate::wire::{Channel, Gate, Party, ProtocolFeature};

const fn main(
    id: &'static str,
    requirements: &'static [&'static str],
    requests: &'static [u32],
    text: &'static str,
) -> Rule {
    gate(id, Front, requirements, On::Request(Channel::Main, requests), text)
}

const fn channel(
    id: &'static str,
    requirements: &'static [&'static str],
    requests: &'static [u32],
    text: &'static str,
) -> Rule {
    gate(id, Back, requirements, On::Request(Channel::Backend, requests), text)
}

const fn gate(
    id: &'static str,
    party: Bound,
    requirements: &'static [&'static str],
    on: On,
    text: &'static str,
) -> Rule {
    rule(id, party, requirements, on, closed, text)
}

pub(super) static RULES: &[Rule] = &[
    main(
        "needs-bit-30",
        &["VU-NEG-05", "VU-NEG-02"],
        &[id::GET_PROTOCOL_FEATURES, id::SET_PROTOCOL_FEATURES],
        "Protocol features are spoken of only if bit 30 was offered.",
    ),
    main(
        "needs-mq",
        &["VU-MQ-08"],
        &[id::GET_QUEUE_NUM],
        "GET_QUEUE_NUM only with MQ offered.",
    ),
    main(
        "needs-enable",
        &["VU-RING-21"],
        &[id::SET_VRING_ENABLE],
        "SET_VRING_ENABLE only with bit 30 negotiated.",
    ),
    main(
        "needs-log-all",
        &["VU-LOG-01"],
        &[id::SET_LOG_BASE, id::SET_LOG_FD],
        "SET_LOG_BASE and SET_LOG_FD only with LOG_ALL offered.",
    ),
    main(
        "needs-rarp",
        &["VU-NET-02"],
        &[id::SEND_RARP],
        "SEND_RARP only with bit 30 and RARP offered, and GUEST_ANNOUNCE not negotiated.",
    ),
    main(
        "needs-mtu",
        &["VU-NET-04"],
        &[id::NET_SET_MTU],
        "NET_SET_MTU only with VIRTIO_NET_F_MTU negotiated, bit 30 and NET_MTU offered.",
    ),
    main(
        "needs-backend-req",
        &["VU-BCH-03", "VU-BCH-01"],
        &[id::SET_BACKEND_REQ_FD],
        "SET_BACKEND_REQ_FD only with bit 30 negotiated and BACKEND_REQ offered.",
    ),
    main(
        "needs-iommu",
        &["VU-IOM-01"],
        &[id::IOTLB_MSG],
        "IOTLB_MSG only with ACCESS_PLATFORM negotiated.",
    ),
    main(
        "needs-cross-endian",
        &["VU-END-01"],
        &[id::SET_VRING_ENDIAN],
        "SET_VRING_ENDIAN only with CROSS_ENDIAN negotiated, and for legacy devices.",
    ),
    main(
        "needs-config",
        &["VU-CFG-01"],
        &[id::GET_CONFIG, id::SET_CONFIG],
        "GET_CONFIG and SET_CONFIG only with CONFIG negotiated.",
    ),
    main(
        "needs-crypto",
        &["VU-CRY-01"],
        &[id::CREATE_CRYPTO_SESSION, id::CLOSE_CRYPTO_SESSION],
        "Crypto sessions only with CRYPTO_SESSION negotiated.",
    ),
    main(
        "needs-pagefault",
        &["VU-PC-01", "VU-PC-05", "VU-PC-07"],
        &[id::POSTCOPY_ADVISE, id::POSTCOPY_LISTEN, id::POSTCOPY_END],
        "Postcopy only with PAGEFAULT negotiated and CONFIGURE_MEM_SLOTS not.",
    ),
    main(
        "needs-inflight",
        &["VU-IFL-01"],
        &[id::GET_INFLIGHT_FD, id::SET_INFLIGHT_FD],
        "The inflight area only with INFLIGHT_SHMFD negotiated.",
    ),
    main(
        "needs-reset-device",
        &["VU-RST-01"],
        &[id::RESET_DEVICE],
        "RESET_DEVICE only if it was offered.",
    ),
    main(
        "needs-inband",
        &["VU-INB-02"],
        &[id::VRING_KICK],
        "VRING_KICK only with INBAND_NOTIFICATIONS negotiated.",
    ),
    main(
        "needs-mem-slots",
        &["VU-MEM-12"],
        &[id::GET_MAX_MEM_SLOTS, id::ADD_MEM_REG, id::REM_MEM_REG],
        "Single memory regions only with CONFIGURE_MEM_SLOTS negotiated.",
    ),
    main(
        "needs-status",
        &["VU-STA-01"],
        &[id::SET_STATUS, id::GET_STATUS],
        "SET_STATUS and GET_STATUS only with STATUS negotiated.",
    ),
    main(
        "needs-shared-object",
        &["VU-SHO-01"],
        &[id::GET_SHARED_OBJECT],
        "GET_SHARED_OBJECT only with SHARED_OBJECT negotiated.",
    ),
    main(
        "needs-device-state",
        &["VU-DST-01"],
        &[id::SET_DEVICE_STATE_FD, id::CHECK_DEVICE_STATE],
        "Device state is transferred only with DEVICE_STATE negotiated.",
    ),
    main(
        "needs-shmem",
        &["VU-SHM-01"],
        &[id::GET_SHMEM_CONFIG],
        "GET_SHMEM_CONFIG only with SHMEM negotiated.",
    ),
    main(
        "needs-skip-drain",
        &["VU-VRB-07", "VU-VRB-06"],
        &[id::GET_VRING_BASE_SKIP_DRAIN],
        "GET_VRING_BASE_SKIP_DRAIN only if it was negotiated.",
    ),
    channel(
        "channel-needs-iommu",
        &["VU-IOM-12"],
        &[backend::IOTLB_MSG],
        "IOTLB_MSG of the back-end only with ACCESS_PLATFORM negotiated.",
    ),
    channel(
        "channel-needs-config",
        &["VU-BCH-12"],
        &[backend::CONFIG_CHANGE_MSG],
        "CONFIG_CHANGE_MSG only with CONFIG negotiated.",
    ),
    channel(
        "channel-needs-host-notifier",
        &["VU-BCH-13"],
        &[backend::VRING_HOST_NOTIFIER_MSG],
        "VRING_HOST_NOTIFIER_MSG only with HOST_NOTIFIER negotiated.",
    ),
    channel(
        "channel-needs-inband",
        &["VU-INB-02"],
        &[backend::VRING_CALL, backend::VRING_ERR],
        "VRING_CALL and VRING_ERR only with INBAND_NOTIFICATIONS negotiated.",
    ),
    channel(
        "channel-needs-shared-object",
        &["VU-SHO-03"],
        &[
            backend::SHARED_OBJECT_ADD,
            backend::SHARED_OBJECT_REMOVE,
            backend::SHARED_OBJECT_LOOKUP,
        ],
        "Messages about shared objects only with SHARED_OBJECT negotiated.",
    ),
    channel(
        "channel-needs-shmem",
        &["VU-SHM-05"],
        &[backend::SHMEM_MAP, backend::SHMEM_UNMAP],
        "SHMEM_MAP and SHMEM_UNMAP only with SHMEM negotiated.",
    ),
];

fn closed(_: &Rule, look: &Look) -> Option<Finding> {
    let (facts, spec) = (look.facts, look.spec?);
    if facts.negotiation_is_uncertain {
        return None;
    }
    // what was not asked for on this connection may be known from an earlier one
    let offered = (
        facts.offered.unwrap_or(u64::MAX),
        facts.protocol_offered.unwrap_or(u64::MAX),
    );
    let absent = |gate: &Gate| matches!(gate, Gate::ProtocolAbsent(_) | Gate::VirtioAbsent(_));
    let shut = |gate: &&Gate| {
        // a request of the back-end may cross a new negotiation
        let crosses = look.from == Party::BackEnd && !absent(gate);
        let negotiated = if crosses {
            (facts.features_ever, facts.protocol_ever)
        } else {
            (facts.features, facts.protocol)
        };
        !gate.is_open(offered, negotiated)
    };
    let mut shut: Vec<&Gate> = spec.gates.iter().filter(shut).collect();
    shut.sort_by_key(|gate| excuse(look, gate).is_some());
    let first = shut.first()?;
    let actual = format!("{}; {}", look.shown(), describe(first));
    Some(Finding::new(format!("{} only with {}", spec.name, spec.requires), actual)?.unless(excuse(look, first)))
}

fn describe(gate: &Gate) -> String {
    let named = |feature: &ProtocolFeature| feature.name();
    match gate {
        Gate::Protocol(feature) => format!("{} is not negotiated", named(feature)),
        Gate::ProtocolOffered(feature) => format!("{} was not offered", named(feature)),
        Gate::ProtocolAbsent(feature) => format!("{} is negotiated", named(feature)),
        Gate::Virtio(bit) => format!("bit {bit} is not negotiated"),
        Gate::VirtioOffered(bit) => format!("bit {bit} was not offered"),
        Gate::VirtioAbsent(bit) => format!("bit {bit} is negotiated"),
    }
}

/// The setting that explains a shut gate.
fn excuse(look: &Look, gate: &Gate) -> Option<Setting> {
    let early = look.facts.features_state != Negotiation::Acknowledged;
    match gate {
        Gate::Virtio(bit) if early && look.facts.offered.is_none_or(|offered| offered >> bit & 1 != 0) => {
            match (look.message.channel, look.message.request) {
                (Channel::Main, id::SET_BACKEND_REQ_FD) => Some(Setting::ChannelBeforeFeatures),
                (Channel::Main, id::SET_VRING_ENABLE) => Some(Setting::EnableBeforeFeatures),
                (Channel::Main, id::NET_SET_MTU) => Some(Setting::MtuBeforeFeatures),
                _ => None,
            }
        }
        Gate::ProtocolAbsent(ProtocolFeature::ConfigureMemSlots) => Some(Setting::PostcopyWithSlots),
        _ => None,
    }
}
