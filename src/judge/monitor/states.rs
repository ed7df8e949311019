//! The specification's state machines: the session, feature negotiation, the back-end channel, a ring's two bits,
//! postcopy and the transfer of device state.

use super::machine::{Legal, Machine, Move, Trigger};
use crate::wire::Payload;
use crate::wire::features::PROTOCOL_FEATURES;
use crate::wire::id::frontend as id;

/// Who owns the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Nobody yet.
    Fresh,
    /// The front-end.
    Owned,
    /// The front-end gave it up.
    Disowned,
}

/// How far features, or protocol features, are negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Negotiation {
    /// Nobody asked.
    Unasked,
    /// The back-end said what it has.
    Offered,
    /// The front-end said what it takes.
    Acknowledged,
}

/// Whether there is a back-end channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// No.
    Absent,
    /// Its socket has been passed.
    Passed,
}

/// Whether a ring runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// It is left alone.
    Stopped,
    /// It is processed.
    Started,
    /// The front-end has asked for it to stop.
    Stopping,
    /// The text does not say.
    Unknown,
}

/// Whether a ring has side effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enable {
    /// No.
    Disabled,
    /// Yes.
    Enabled,
}

/// Postcopy, on the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Postcopy {
    /// None.
    Off,
    /// The userfaultfd was asked for.
    Advised,
    /// Memory that comes from now on will be registered.
    Listening,
    /// A table was sent.
    Proposed,
    /// The back-end has told its addresses.
    Mapped,
}

/// A transfer of device state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// None.
    Idle,
    /// Under way.
    Begun,
}

/// The session.
pub const OWNER: Machine<Owner> = Machine {
    name: "session",
    about: "Whether the session has begun. One for each connection.",
    states: &[
        (Owner::Fresh, "fresh", "connected, no SET_OWNER yet"),
        (Owner::Owned, "owned", "SET_OWNER was sent"),
        (
            Owner::Disowned,
            "disowned",
            "RESET_OWNER, which nobody should send any more",
        ),
    ],
    moves: &[
        Move {
            from: &[],
            on: Trigger::Request(&[id::SET_OWNER]),
            to: Owner::Owned,
            requirements: &["VU-OWN-01"],
        },
        Move {
            from: &[],
            on: Trigger::Request(&[id::RESET_OWNER]),
            to: Owner::Disowned,
            requirements: &["VU-OWN-03"],
        },
    ],
    legal: &[
        Legal {
            requests: &[id::SET_OWNER],
            states: &[Owner::Fresh, Owner::Disowned],
            rule: "owner-twice",
        },
        Legal {
            requests: &[id::SET_VRING_KICK, id::VRING_KICK],
            states: &[Owner::Owned, Owner::Disowned],
            rule: "ring-started-without-owner",
        },
    ],
};

/// Feature negotiation.
pub const FEATURES: Machine<Negotiation> = Machine {
    name: "features",
    about: "How far the virtio and vhost feature bits are negotiated. Bits count as negotiated once acknowledged.",
    states: NEGOTIATION_STATES,
    moves: &[
        Move {
            from: &[],
            on: Trigger::Request(&[id::SET_FEATURES]),
            to: Negotiation::Acknowledged,
            requirements: &["VU-NEG-04"],
        },
        Move {
            from: &[Negotiation::Unasked],
            on: Trigger::Reply(&[id::GET_FEATURES]),
            to: Negotiation::Offered,
            requirements: &["VU-NEG-01"],
        },
    ],
    legal: &[],
};

/// Negotiation of protocol features.
pub const PROTOCOL: Machine<Negotiation> = Machine {
    name: "protocol features",
    about: "The same for protocol features, which need bit 30 to be offered and nothing to be acknowledged.",
    states: NEGOTIATION_STATES,
    moves: &[
        Move {
            from: &[],
            on: Trigger::Request(&[id::SET_PROTOCOL_FEATURES]),
            to: Negotiation::Acknowledged,
            requirements: &["VU-NEG-06", "VU-NEG-08"],
        },
        Move {
            from: &[Negotiation::Unasked],
            on: Trigger::Reply(&[id::GET_PROTOCOL_FEATURES]),
            to: Negotiation::Offered,
            requirements: &["VU-NEG-02", "VU-NEG-07"],
        },
    ],
    legal: &[],
};

const NEGOTIATION_STATES: &[(Negotiation, &str, &str)] = &[
    (Negotiation::Unasked, "unasked", "nothing is known of the back-end"),
    (Negotiation::Offered, "offered", "the back-end has answered"),
    (
        Negotiation::Acknowledged,
        "acknowledged",
        "the front-end has said what it takes",
    ),
];

/// The back-end channel.
pub const CHANNEL: Machine<Passage> = Machine {
    name: "back-end channel",
    about: "Whether the back-end has a socket for its own requests.",
    states: &[
        (Passage::Absent, "absent", "the back-end cannot send requests"),
        (Passage::Passed, "passed", "SET_BACKEND_REQ_FD has given it the socket"),
    ],
    moves: &[Move {
        from: &[],
        on: Trigger::Request(&[id::SET_BACKEND_REQ_FD]),
        to: Passage::Passed,
        requirements: &["VU-BCH-05"],
    }],
    legal: &[],
};

/// Whether a ring runs.
pub const RUN: Machine<Run> = Machine {
    name: "ring: started",
    about: "One for each ring. While all rings are stopped the device is suspended.",
    states: &[
        (Run::Stopped, "stopped", "the back-end leaves it alone"),
        (Run::Started, "started", "the back-end processes it"),
        (
            Run::Stopping,
            "stopping",
            "its base was asked for; requests in flight are completed",
        ),
        (
            Run::Unknown,
            "unknown",
            "after a reset of a started ring, of which the text does not speak",
        ),
    ],
    moves: &[
        Move {
            from: &[],
            on: Trigger::Request(&[id::SET_VRING_KICK]),
            to: Run::Started,
            requirements: &["VU-RING-08", "VU-RING-12"],
        },
        Move {
            from: &[],
            on: Trigger::Request(&[id::VRING_KICK]),
            to: Run::Started,
            requirements: &["VU-RING-09"],
        },
        Move {
            from: &[Run::Started, Run::Unknown],
            on: Trigger::Request(&[id::GET_VRING_BASE, id::GET_VRING_BASE_SKIP_DRAIN]),
            to: Run::Stopping,
            requirements: &["VU-VRB-05", "VU-VRB-08"],
        },
        Move {
            from: &[Run::Stopping],
            on: Trigger::Reply(&[id::GET_VRING_BASE, id::GET_VRING_BASE_SKIP_DRAIN]),
            to: Run::Stopped,
            requirements: &["VU-RING-10", "VU-RING-11", "VU-VRB-02"],
        },
        Move {
            from: &[Run::Started, Run::Stopping],
            on: Trigger::Request(&[id::RESET_OWNER, id::RESET_DEVICE]),
            to: Run::Unknown,
            requirements: &["VU-RST-02", "VU-OWN-04"],
        },
        Move {
            from: &[Run::Started, Run::Stopping],
            on: Trigger::When(id::SET_STATUS, "value=0", is_zero),
            to: Run::Unknown,
            requirements: &["VU-STA-02"],
        },
    ],
    legal: &[
        Legal {
            requests: &[id::SET_VRING_NUM],
            states: NOT_STARTED,
            rule: "num-while-started",
        },
        Legal {
            requests: &[id::SET_VRING_BASE],
            states: NOT_STARTED,
            rule: "base-while-started",
        },
        Legal {
            requests: &[id::SET_VRING_ENDIAN],
            states: NOT_STARTED,
            rule: "endian-while-started",
        },
    ],
};

const NOT_STARTED: &[Run] = &[Run::Stopped, Run::Stopping, Run::Unknown];

/// Whether a ring is enabled.
pub const ENABLE: Machine<Enable> = Machine {
    name: "ring: enabled",
    about: "One for each ring, independent of whether it is started.",
    states: &[
        (
            Enable::Disabled,
            "disabled",
            "processed without side effects, if started",
        ),
        (Enable::Enabled, "enabled", "processed normally, if started"),
    ],
    moves: &[
        Move {
            from: &[],
            on: Trigger::When(id::SET_VRING_ENABLE, "num=0", enables_not),
            to: Enable::Disabled,
            requirements: &["VU-RING-16"],
        },
        Move {
            from: &[],
            on: Trigger::Request(&[id::SET_VRING_ENABLE]),
            to: Enable::Enabled,
            requirements: &["VU-RING-16", "VU-RING-02"],
        },
        Move {
            from: &[],
            on: Trigger::When(id::SET_FEATURES, "without bit 30", lacks_bit_30),
            to: Enable::Enabled,
            requirements: &["VU-RING-17", "VU-RING-18"],
        },
        Move {
            from: &[],
            on: Trigger::Request(&[id::RESET_DEVICE]),
            to: Enable::Disabled,
            requirements: &["VU-RST-02"],
        },
    ],
    legal: &[],
};

/// Postcopy.
pub const POSTCOPY: Machine<Postcopy> = Machine {
    name: "postcopy",
    about: "On the destination of a migration.",
    states: &[
        (Postcopy::Off, "off", "no postcopy"),
        (Postcopy::Advised, "advised", "the userfaultfd was asked for"),
        (
            Postcopy::Listening,
            "listening",
            "memory that comes from now on is registered with it",
        ),
        (Postcopy::Proposed, "proposed", "a table was sent, the back-end maps it"),
        (
            Postcopy::Mapped,
            "mapped",
            "the back-end has told its addresses and waits for the confirmation",
        ),
    ],
    moves: &[
        Move {
            from: &[],
            on: Trigger::Request(&[id::POSTCOPY_ADVISE]),
            to: Postcopy::Advised,
            requirements: &["VU-PC-03"],
        },
        Move {
            from: &[],
            on: Trigger::Request(&[id::POSTCOPY_LISTEN]),
            to: Postcopy::Listening,
            requirements: &["VU-PC-09"],
        },
        Move {
            from: &[Postcopy::Listening],
            on: Trigger::When(id::SET_MEM_TABLE, "with regions", has_regions),
            to: Postcopy::Proposed,
            requirements: &["VU-PC-10"],
        },
        Move {
            from: &[Postcopy::Proposed],
            on: Trigger::Reply(&[id::SET_MEM_TABLE]),
            to: Postcopy::Mapped,
            requirements: &["VU-PC-10", "VU-PC-11"],
        },
        Move {
            from: &[Postcopy::Mapped],
            on: Trigger::Request(&[id::SET_MEM_TABLE]),
            to: Postcopy::Listening,
            requirements: &["VU-PC-13", "VU-PC-14"],
        },
        Move {
            from: &[],
            on: Trigger::Request(&[id::POSTCOPY_END]),
            to: Postcopy::Off,
            requirements: &["VU-PC-16"],
        },
    ],
    legal: &[
        Legal {
            requests: &[id::POSTCOPY_LISTEN],
            states: &[Postcopy::Advised],
            rule: "listen-without-advise",
        },
        Legal {
            requests: &[id::POSTCOPY_END],
            states: &[Postcopy::Listening, Postcopy::Proposed, Postcopy::Mapped],
            rule: "end-without-listen",
        },
    ],
};

/// Transfer of device state.
pub const TRANSFER: Machine<Transfer> = Machine {
    name: "device state",
    about: "On the source and the destination of a migration.",
    states: &[
        (Transfer::Idle, "idle", "no transfer"),
        (Transfer::Begun, "begun", "a pipe was passed"),
    ],
    moves: &[
        Move {
            from: &[],
            on: Trigger::Request(&[id::SET_DEVICE_STATE_FD]),
            to: Transfer::Begun,
            requirements: &["VU-DST-03"],
        },
        Move {
            from: &[],
            on: Trigger::Request(&[id::CHECK_DEVICE_STATE]),
            to: Transfer::Idle,
            requirements: &["VU-DST-17"],
        },
    ],
    legal: &[Legal {
        requests: &[id::CHECK_DEVICE_STATE],
        states: &[Transfer::Begun],
        rule: "check-without-transfer",
    }],
};

fn is_zero(payload: &Payload) -> bool {
    payload.as_u64() == Some(0)
}

fn enables_not(payload: &Payload) -> bool {
    matches!(payload, Payload::VringState(state) if state.num == 0)
}

fn lacks_bit_30(payload: &Payload) -> bool {
    payload
        .as_u64()
        .is_some_and(|features| features & PROTOCOL_FEATURES == 0)
}

fn has_regions(payload: &Payload) -> bool {
    matches!(payload, Payload::MemTable(_))
}
