//! What the two ends do: short scripts of operations, and the programs of the discussion as rows of one table.

use crate::wire::{Channel, Dialect, find};

/// Operations of one script, at most.
pub(super) const OPERATIONS_MAX: usize = 4;

/// One operation: a request, and whether its sender waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Operation {
    /// The request's name.
    pub name: &'static str,
    /// Its id. The two directions may use the same.
    pub id: u16,
    /// An answer is due: a value, or the ack that was asked for.
    pub answered: bool,
    /// It asks for a value, and changes nothing.
    pub is_get: bool,
}

/// Why a text is no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// Nothing is known under the name.
    #[error("{0}")]
    Unknown(String),
    /// The model carries a value in 8 bytes or a ring's state only.
    #[error("{0} has another payload than a u64 or a ring's state")]
    Payload(String),
}

const fn get(name: &'static str, id: u16) -> Operation {
    Operation {
        name,
        id,
        answered: true,
        is_get: true,
    }
}

const fn acked(name: &'static str, id: u16) -> Operation {
    Operation {
        name,
        id,
        answered: true,
        is_get: false,
    }
}

const fn told(name: &'static str, id: u16) -> Operation {
    Operation {
        name,
        id,
        answered: false,
        is_get: false,
    }
}

impl Operation {
    /// Reads `NAME`, or `NAME!` if an ack is asked for.
    ///
    /// # Errors
    /// An unknown name, a payload that the model does not carry.
    pub fn parse(text: &str) -> Result<Self, OperationError> {
        let (name, asks) = match text.strip_suffix('!') {
            Some(name) => (name, true),
            None => (text, false),
        };
        if let Some(known) = TABLE.iter().find(|op| op.name.eq_ignore_ascii_case(name)) {
            let answered = known.is_get || asks;
            return Ok(Self { answered, ..*known });
        }
        let spec = find(Dialect::VhostUser, name, Some(Channel::Main));
        let spec = spec.map_err(|e| OperationError::Unknown(e.to_string()))?;
        Err(OperationError::Payload(spec.name.to_owned()))
    }
}

/// Requests that a modelled endpoint can send.
const TABLE: &[Operation] = &[
    get("GET_FEATURES", 1),
    told("SET_FEATURES", 2),
    told("SET_VRING_NUM", 8),
    told("SET_VRING_BASE", 10),
    get("GET_VRING_BASE", 11),
    get("GET_PROTOCOL_FEATURES", 15),
    told("SET_PROTOCOL_FEATURES", 16),
    get("GET_QUEUE_NUM", 17),
    told("SET_VRING_ENABLE", 18),
    told("SET_PEER_CONNECTION", 22),
];

/// The operations of one end, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Script {
    ops: [Operation; OPERATIONS_MAX],
    len: u8,
    /// It begins anew when it is done.
    pub endless: bool,
}

impl Script {
    /// Of these operations; none if there are more than [`OPERATIONS_MAX`].
    pub const fn new(from: &[Operation]) -> Option<Self> {
        if from.len() > OPERATIONS_MAX {
            return None;
        }
        let mut ops = [Operation {
            name: "",
            id: 0,
            answered: false,
            is_get: false,
        }; OPERATIONS_MAX];
        let mut at = 0;
        while at < from.len() {
            ops[at] = from[at];
            at += 1;
        }
        Some(Self {
            ops,
            len: at as u8,
            endless: false,
        })
    }

    /// The operations.
    pub fn operations(&self) -> &[Operation] {
        &self.ops[..usize::from(self.len)]
    }

    /// How many.
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// None.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One of them.
    #[inline]
    pub const fn at(&self, index: u8) -> &Operation {
        &self.ops[(index & 3) as usize]
    }
}

/// A row of the table: what both ends do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// The front-end's (master's) operations.
    pub front: Script,
    /// The back-end's (slave's) operations.
    pub back: Script,
}

/// The row of that name.
pub fn program(name: &str) -> Option<&'static Program> {
    PROGRAMS.iter().find(|row| row.name.eq_ignore_ascii_case(name))
}

const fn script(ops: &[Operation]) -> Script {
    match Script::new(ops) {
        Some(script) => script,
        None => panic!("a program of the table is too long"),
    }
}

const fn row(name: &'static str, front: &[Operation], back: &[Operation]) -> Program {
    Program {
        name,
        front: script(front),
        back: script(back),
    }
}

const GET_FEATURES: Operation = get("GET_FEATURES", 1);
const SET_FEATURES: Operation = acked("SET_FEATURES", 2);
const TELL_FEATURES: Operation = told("SET_FEATURES", 2);

/// All programs. `P1E` is P1 with a front-end that never stops asking: whether the back-end's request is starved.
#[rustfmt::skip]
pub const PROGRAMS: &[Program] = &[
    row("P1", &[GET_FEATURES], &[SET_FEATURES]),
    row("P2", &[SET_FEATURES], &[SET_FEATURES]),
    row("P3", &[GET_FEATURES], &[TELL_FEATURES]),
    row("P4", &[get("GET_VRING_BASE", 11), get("GET_VRING_BASE", 11)], &[]),
    row("P5", &[acked("SET_VRING_NUM", 8), acked("SET_VRING_NUM", 8)], &[]),
    row("P6", &[GET_FEATURES, SET_FEATURES], &[SET_FEATURES, acked("SET_PEER_CONNECTION", 22)]),
    row("P7", &[GET_FEATURES], &[SET_FEATURES, SET_FEATURES]),
    row("P8", &[TELL_FEATURES, TELL_FEATURES, TELL_FEATURES], &[TELL_FEATURES, TELL_FEATURES, TELL_FEATURES]),
    row("P9", &[SET_FEATURES, SET_FEATURES], &[SET_FEATURES, SET_FEATURES]),
    Program {
        name: "P1E",
        front: Script { endless: true, ..script(&[GET_FEATURES]) },
        back: script(&[SET_FEATURES]),
    },
];
