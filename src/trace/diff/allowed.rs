//! Differences between a recorded conversation and one in which a side of it was played again: which of them the
//! specification leaves open, and why.

use super::{Kind, Part};
use crate::trace::file::Trace;
use crate::trace::{EventKind, LinkId};
use crate::wire::{Channel, Dialect, Gate, Message, Party, ProtocolFeature, find, id};

/// What was offered and negotiated in a conversation.
#[derive(Debug, Clone, Copy, Default)]
struct Terms {
    offered: (u64, u64),
    negotiated: (u64, u64),
    queues: Option<u64>,
}

/// Explains differences between a recorded conversation and the present one.
#[derive(Debug)]
pub struct Allowed {
    played: Party,
    then: Terms,
    now: Terms,
}

impl Allowed {
    /// For conversations of which the first was recorded, and `played` is the side that was played again in the second.
    pub fn new(recorded: &Trace, present: &Trace, played: Party) -> Self {
        Self {
            played,
            then: Terms::of(recorded),
            now: Terms::of(present),
        }
    }

    /// Why the specification allows a difference; `None` if it does not.
    pub fn why(&self, place: Option<(LinkId, Channel)>, kind: &Kind) -> Option<String> {
        let Some((_, channel)) = place else {
            return Some("the processes are others".to_owned());
        };
        match kind {
            Kind::Other { what, parts, .. } => {
                let reasons: Option<Vec<&str>> = parts.iter().map(|part| self.part(what, part)).collect();
                let mut reasons = reasons?;
                reasons.dedup();
                Some(reasons.join("; "))
            }
            Kind::OnlyFirst { what, .. } => self.missing(channel, what),
            Kind::OnlySecond { what, .. } => self.added(channel, what),
            Kind::TooLong { .. } => None,
        }
    }

    fn part(&self, what: &str, part: &Part) -> Option<&'static str> {
        let name = word(what);
        let field = part.name.strip_prefix("reply ");
        Some(match (name, part.name.as_str()) {
            ("GET_FEATURES" | "GET_PROTOCOL_FEATURES" | "SET_FEATURES" | "SET_PROTOCOL_FEATURES", _) => {
                "which features there are is up to each program"
            }
            ("GET_QUEUE_NUM" | "GET_MAX_MEM_SLOTS", _) if field.is_some() => "how many there are is up to each program",
            ("GET_VRING_BASE", "reply indices") | ("SET_VRING_BASE", "indices") => {
                "where a ring stands depends on what it has carried"
            }
            ("GET_CONFIG", _) if field.is_some() => "the configuration is the device's own",
            ("GET_INFLIGHT_FD" | "SET_INFLIGHT_FD", _) => "the inflight area is the back-end's own",
            ("GET_SHMEM_CONFIG" | "GET_STATUS" | "GET_SHARED_OBJECT", _) if field.is_some() => {
                "the answer is the device's own"
            }
            (_, "reply") if self.acknowledged_once() => "acknowledged only where REPLY_ACK was negotiated",
            (_, "fds") if same_count(part) => "descriptors of another kind or size serve as well",
            (_, _) if self.played == Party::BackEnd && field.is_none() => "what a front-end asks for is its own choice",
            _ => return None,
        })
    }

    /// REPLY_ACK was negotiated in one conversation and not in the other.
    fn acknowledged_once(&self) -> bool {
        let has = |terms: &Terms| terms.negotiated.1 & ProtocolFeature::ReplyAck.mask() != 0;
        has(&self.then) != has(&self.now)
    }

    /// Something was recorded and did not happen now.
    fn missing(&self, channel: Channel, what: &str) -> Option<String> {
        if what.starts_with("closed") {
            return Some("who closes first depends on the clock".to_owned());
        }
        if what.starts_with("malformed") {
            return None;
        }
        match (channel, self.played) {
            (Channel::Backend, Party::FrontEnd) => return Some("a back-end asks of its own accord".to_owned()),
            (Channel::Backend, Party::BackEnd) => return None,
            (Channel::Main, Party::BackEnd) => return Some("what a front-end asks for is its own choice".to_owned()),
            (Channel::Main, Party::FrontEnd) => {}
        }
        let spec = find(Dialect::VhostUser, word(what), Some(Channel::Main)).ok()?;
        if needs_reply(what) && self.acknowledged_once() {
            return Some("asked without need_reply, since REPLY_ACK was not negotiated".to_owned());
        }
        let slots = matches!(spec.id, id::frontend::ADD_MEM_REG | id::frontend::REM_MEM_REG);
        let closed = spec.gates.iter().find(|gate| !self.is_open(gate));
        if let Some(gate) = closed {
            let instead = if slots {
                ": the whole table was sent instead"
            } else {
                ""
            };
            return Some(format!("{}{instead}", shut(gate)));
        }
        if let (Some(index), Some(queues)) = (index(what), self.now.queues)
            && index >= queues
        {
            return Some(format!("there are only {queues} rings"));
        }
        None
    }

    /// Something happened now that was not recorded.
    fn added(&self, channel: Channel, what: &str) -> Option<String> {
        if what.starts_with("malformed") {
            return None;
        }
        if channel == Channel::Backend && what.starts_with("closed") {
            return Some("the channel ends with its connection".to_owned());
        }
        match (channel, self.played) {
            (Channel::Backend, Party::FrontEnd) => {
                return Some("a back-end asks of its own accord".to_owned());
            }
            (Channel::Main, Party::BackEnd) if !what.starts_with("closed by the back") => {
                return Some("what a front-end asks for is its own choice".to_owned());
            }
            _ => {}
        }
        if what.starts_with(&format!("closed by the {}", self.played)) {
            return Some("the recording was at its end".to_owned());
        }
        let slots = self.now.negotiated.1 & ProtocolFeature::ConfigureMemSlots.mask() == 0;
        if word(what) == "SET_MEM_TABLE" && slots {
            return Some("in place of single memory slots".to_owned());
        }
        (channel == Channel::Main && !what.starts_with("closed") && !needs_reply(what) && self.acknowledged_once())
            .then(|| "asked without need_reply, since REPLY_ACK was not negotiated".to_owned())
    }

    fn is_open(&self, gate: &Gate) -> bool {
        gate.is_open(self.now.offered, self.now.negotiated)
    }
}

impl Terms {
    fn of(trace: &Trace) -> Self {
        let mut terms = Self::default();
        for event in &trace.events {
            let EventKind::Message { message, .. } = &event.kind else {
                continue;
            };
            let Message {
                channel: Channel::Main,
                request,
                ..
            } = message
            else {
                continue;
            };
            let Some(bits) = message.payload.as_u64() else { continue };
            match (*request, message.is_reply()) {
                (id::frontend::GET_FEATURES, true) => terms.offered.0 = bits,
                (id::frontend::GET_PROTOCOL_FEATURES, true) => terms.offered.1 = bits,
                (id::frontend::SET_FEATURES, false) => terms.negotiated.0 = bits,
                (id::frontend::SET_PROTOCOL_FEATURES, false) => terms.negotiated.1 = bits,
                (id::frontend::GET_QUEUE_NUM, true) => terms.queues = Some(bits),
                _ => {}
            }
        }
        terms
    }
}

/// The name of the request that a text is about.
fn word(what: &str) -> &str {
    let what = what.strip_prefix("reply to ").unwrap_or(what);
    what.split([' ', '!']).next().unwrap_or_default()
}

fn needs_reply(what: &str) -> bool {
    what.split(' ').next().is_some_and(|name| name.ends_with('!'))
}

fn index(what: &str) -> Option<u64> {
    let (_, rest) = what.split_once("index=")?;
    rest.split(' ').next()?.parse().ok()
}

fn same_count(part: &Part) -> bool {
    let [a, b] = part.values.each_ref().map(|text| text.split(' ').count());
    a == b && !part.values.iter().any(|text| text == "absent")
}

fn shut(gate: &Gate) -> String {
    match gate {
        Gate::Protocol(feature) => format!("{} was not negotiated", feature.name()),
        Gate::ProtocolOffered(feature) => format!("{} was not offered", feature.name()),
        Gate::ProtocolAbsent(feature) => format!("{} was negotiated", feature.name()),
        Gate::Virtio(bit) => format!("feature bit {bit} was not negotiated"),
        Gate::VirtioOffered(bit) => format!("feature bit {bit} was not offered"),
        Gate::VirtioAbsent(bit) => format!("feature bit {bit} was negotiated"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(virtio: u64, protocol: u64, queues: u64) -> Terms {
        Terms {
            offered: (virtio, protocol),
            negotiated: (virtio, protocol),
            queues: Some(queues),
        }
    }

    fn allowed(played: Party) -> Allowed {
        let all = ProtocolFeature::ReplyAck.mask() | ProtocolFeature::ConfigureMemSlots.mask();
        Allowed {
            played,
            then: terms(1 << 30, all, 4),
            now: terms(1 << 30, 0, 2),
        }
    }

    fn other(what: &str, name: &str, values: [&str; 2]) -> Kind {
        Kind::Other {
            at: [0, 0],
            what: what.to_owned(),
            parts: vec![Part {
                name: name.to_owned(),
                values: values.map(str::to_owned),
            }],
        }
    }

    /// Broken: a difference that matters is waved through, or one that does not is held against a program.
    #[test]
    fn what_the_specification_leaves_open() {
        let front = allowed(Party::FrontEnd);
        let main = Some((LinkId(0), Channel::Main));
        let first = |what: &str| Kind::OnlyFirst {
            at: 0,
            what: what.to_owned(),
        };
        let second = |what: &str| Kind::OnlySecond {
            at: 0,
            what: what.to_owned(),
        };
        for kind in [
            other("GET_FEATURES", "reply", ["also A", "nothing more"]),
            other("GET_QUEUE_NUM", "reply value", ["4", "2"]),
            other("GET_VRING_BASE index=0", "reply indices", ["7", "9"]),
            other("SET_MEM_TABLE", "fds", ["[memfd:0x1000]", "[file:0x2000]"]),
            first("ADD_MEM_REG! guest_address=0x0"),
            first("SET_VRING_NUM index=3 num=128"),
            first("SET_OWNER!"),
            second("SET_OWNER"),
            second("SET_MEM_TABLE regions=[]"),
        ] {
            assert!(front.why(main, &kind).is_some(), "{kind:?}");
        }
        let same = Allowed {
            now: front.then,
            ..allowed(Party::FrontEnd)
        };
        for kind in [
            other("SET_VRING_NUM index=0", "reply value", ["0x0", "0x1"]),
            other(
                "SET_MEM_TABLE",
                "fds",
                ["[memfd:0x1000]", "[memfd:0x1000 memfd:0x1000]"],
            ),
            other("GET_VRING_BASE index=0", "reply index", ["0", "1"]),
            first("SET_VRING_NUM index=1 num=128"),
            second("malformed: a reply to nothing"),
            second("closed by the back-end"),
            Kind::TooLong { left: [1, 1] },
        ] {
            assert_eq!(same.why(main, &kind), None, "{kind:?}");
        }
        let back = allowed(Party::BackEnd);
        assert!(back.why(main, &first("SET_VRING_ERR index=0")).is_some());
        assert!(back.why(main, &second("malformed: a size of 4 GiB")).is_none());
        assert!(
            back.why(Some((LinkId(0), Channel::Backend)), &first("CONFIG_CHANGE_MSG"))
                .is_none()
        );
    }
}
