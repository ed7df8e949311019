//! A model played on real sockets: every step is checked to be possible, and said as what has to be read and written.
//! What must be on each socket afterwards is known byte for byte. It has no sockets itself.

use super::channels::{About, Act, Case, TwoState, Way};
use super::class::Classes;
use super::policy::Matching;
use super::state::{Side, State, Token, TokenKind};
use super::step::{Done, Step, System};
use crate::wire::{Channel, Dialect, Message, Payload, VringState, find, flags};

/// One socket or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// Both ends ask on the one socket.
    One(System),
    /// The back-end has a channel of its own.
    Two(Case),
}

/// A state of either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Of the one socket.
    One(State),
    /// Of the two.
    Two(TwoState),
}

/// What a step does on a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Io {
    /// A side reads this, no less and no more.
    Read {
        /// Who.
        side: Side,
        /// On which socket.
        channel: Channel,
        /// What it has to be.
        bytes: Vec<u8>,
    },
    /// A side sends this.
    Write {
        /// Who.
        side: Side,
        /// On which socket.
        channel: Channel,
        /// What.
        bytes: Vec<u8>,
    },
    /// A side closes the connection.
    Close {
        /// Who.
        side: Side,
    },
}

/// Why a step cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlayError {
    /// No such step.
    #[error("`{0}` is no step of a modelled endpoint")]
    Unknown(String),
    /// Not now.
    #[error("`{step}` is not possible here; possible: {possible}")]
    Impossible {
        /// Which.
        step: String,
        /// What is.
        possible: String,
    },
}

/// A model under way.
#[derive(Debug, Clone)]
pub struct Play {
    /// What is played.
    pub model: Model,
    dialect: Dialect,
    at: Position,
    classes: Classes,
    /// Bytes of a message that a side has left in its stream.
    left: [Vec<u8>; 2],
}

impl Model {
    /// Where it begins.
    pub fn initial(&self) -> Position {
        match self {
            Self::One(_) => Position::One(State::default()),
            Self::Two(case) => Position::Two(case.initial()),
        }
    }

    /// The steps that are possible, as bits.
    pub fn steps(&self, at: &Position) -> u32 {
        match (self, at) {
            (Self::One(system), Position::One(state)) => u32::from(system.steps(state).bits()),
            (Self::Two(case), Position::Two(state)) => case.steps(state),
            _ => 0,
        }
    }

    /// All is done.
    pub fn is_finished(&self, at: &Position) -> bool {
        match (self, at) {
            (Self::One(system), Position::One(state)) => system.is_finished(state),
            (Self::Two(case), Position::Two(state)) => case.is_finished(state),
            _ => false,
        }
    }

    /// What is wrong with a state.
    pub fn classes(&self, at: &Position) -> Classes {
        match (self, at) {
            (Self::One(system), Position::One(state)) => system.classes(state, system.steps(state)),
            (Self::Two(case), Position::Two(state)) => case.classes(state, case.steps(state)),
            _ => Classes::default(),
        }
    }

    /// The letter of a step.
    pub fn letter(&self, step: u8) -> char {
        match self {
            Self::One(_) => Step::from_code(step).letter(),
            Self::Two(_) => Act::from_code(step).map_or('?', Act::letter),
        }
    }

    /// The step of a letter.
    pub fn step_of(&self, letter: char) -> Option<u8> {
        match self {
            Self::One(_) => Step::from_letter(letter).map(Step::code),
            Self::Two(_) => Act::from_letter(letter).map(|act| act as u8),
        }
    }

    /// The side that takes a step.
    pub fn side(&self, step: u8) -> Side {
        match self {
            Self::One(_) => Step::from_code(step).side,
            Self::Two(_) => Act::from_code(step).map_or(0, Act::side),
        }
    }

    /// The thread of that side, and what it does: `receive`, `thread serve`.
    pub fn words(&self, step: u8) -> String {
        match self {
            Self::One(_) => Step::from_code(step).kind.word().to_owned(),
            Self::Two(_) => Act::from_code(step).map_or(String::new(), |act| match act.thread() {
                "" => act.word().to_owned(),
                thread => format!("{thread} {}", act.word()),
            }),
        }
    }

    /// The step with these words.
    pub fn step_named(&self, side: Side, words: &str) -> Option<u8> {
        (0..32).find(|step| {
            let exists = match self {
                Self::One(_) => step & 7 < 7 && *step < 16,
                Self::Two(_) => Act::from_code(*step).is_some(),
            };
            exists && self.side(*step) == side && self.words(*step) == words
        })
    }
}

impl Play {
    /// From the beginning.
    pub fn new(model: Model, dialect: Dialect) -> Self {
        Self {
            model,
            dialect,
            at: model.initial(),
            classes: Classes::default(),
            left: [Vec::new(), Vec::new()],
        }
    }

    /// Where it is.
    pub fn position(&self) -> Position {
        self.at
    }

    /// What has gone wrong so far, on the way and where it is now.
    pub fn classes(&self) -> Classes {
        self.classes.and(self.model.classes(&self.at))
    }

    /// All is done.
    pub fn is_finished(&self) -> bool {
        self.model.is_finished(&self.at)
    }

    /// The steps that are possible.
    pub fn possible(&self) -> u32 {
        self.model.steps(&self.at)
    }

    /// Takes a step: what it does on the sockets, in order.
    ///
    /// # Errors
    /// It is not possible.
    pub fn take(&mut self, step: u8) -> Result<Vec<Io>, PlayError> {
        let possible = self.possible();
        if step >= 32 || possible >> step & 1 == 0 {
            let name = |step: u8| format!("{} {}", side_name(self.model.side(step)), self.model.words(step));
            let all: Vec<String> = (0..32).filter(|s| possible >> s & 1 == 1).map(name).collect();
            return Err(PlayError::Impossible {
                step: name(step),
                possible: match all.is_empty() {
                    true => "nothing".to_owned(),
                    false => all.join(", "),
                },
            });
        }
        match (self.model, self.at) {
            (Model::One(system), Position::One(state)) => Ok(self.take_one(&system, &state, step)),
            (Model::Two(case), Position::Two(state)) => Ok(self.take_two(&case, &state, step)),
            _ => Ok(Vec::new()),
        }
    }

    fn take_one(&mut self, system: &System, state: &State, step: u8) -> Vec<Io> {
        let step = Step::from_code(step);
        let (next, effect) = system.apply(state, step);
        self.at = Position::One(next);
        self.classes = self.classes.and(effect.classes).and(self.model.classes(&self.at));
        let (side, channel) = (step.side, Channel::Main);
        let mut io = Vec::new();
        // a request that was put aside has been read before
        let from_socket = effect.read.filter(|_| step.kind != super::step::Kind::Serve);
        if let Some(token) = from_socket {
            let message = self.message(system, 1 - side, token);
            let mut bytes = message.encode(self.dialect);
            let header = self.dialect.header_len();
            if state.is_unframed(side) {
                // as much as a header has, from the middle of the stream
                let mut stream = std::mem::take(&mut self.left[side]);
                stream.extend(bytes);
                stream.truncate(header);
                bytes = stream;
            } else if next.is_unframed(side) {
                self.left[side] = bytes.split_off(header);
            }
            io.push(Io::Read { side, channel, bytes });
        }
        if let Some(token) = effect.sent.filter(|_| next.blocked(side).is_none()) {
            let bytes = self.message(system, side, token).encode(self.dialect);
            io.push(Io::Write { side, channel, bytes });
        }
        if matches!(effect.done, Done::Closed | Done::Garbage) {
            io.push(Io::Close { side });
        }
        io
    }

    fn take_two(&mut self, case: &Case, state: &TwoState, step: u8) -> Vec<Io> {
        let Some(act) = Act::from_code(step) else {
            return Vec::new();
        };
        let (next, moved) = case.apply(state, act);
        self.at = Position::Two(next);
        self.classes = self.classes.and(moved.classes).and(self.model.classes(&self.at));
        let side = act.side();
        let mut io = Vec::new();
        if let Some((way, about)) = moved.read {
            let (channel, bytes) = self.bytes_of(case, way, about);
            io.push(Io::Read { side, channel, bytes });
        }
        if let Some((way, about)) = moved.sent {
            let (channel, bytes) = self.bytes_of(case, way, about);
            io.push(Io::Write { side, channel, bytes });
        }
        io
    }

    /// What has to be on a socket now, unread by a side.
    pub fn unread(&self, side: Side, channel: Channel) -> Vec<u8> {
        match (self.model, self.at) {
            (Model::One(system), Position::One(state)) if channel == Channel::Main => {
                let mut bytes = self.left[side].clone();
                for token in state.on_the_way(side) {
                    bytes.extend(self.message(&system, 1 - side, token).encode(self.dialect));
                }
                bytes
            }
            (Model::Two(case), Position::Two(state)) => {
                let way = match (channel, side) {
                    (Channel::Main, 1) => Way::C1ToBack,
                    (Channel::Main, _) => Way::C1ToFront,
                    (Channel::Backend, 0) => Way::C2ToFront,
                    (Channel::Backend, _) => Way::C2ToBack,
                };
                state
                    .on(way)
                    .flat_map(|about| self.bytes_of(&case, way, about).1)
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// Somebody has closed.
    pub fn is_closed(&self) -> bool {
        matches!(self.at, Position::One(state) if state.is_closed())
    }

    /// The message that a token of the one socket stands for, sent by a side.
    fn message(&self, system: &System, sender: Side, token: Token) -> Message {
        let owner = match token.kind() {
            TokenKind::Request => sender,
            TokenKind::Reply | TokenKind::Busy => 1 - sender,
        };
        let op = system.script[owner].at(token.op());
        let mut message = Message {
            dialect: self.dialect,
            conn_id: if self.dialect.has_conn_id() {
                0
            } else {
                self.dialect.no_conn_id()
            },
            channel: Channel::Main,
            request: u32::from(op.id),
            flags: self.dialect.version(),
            payload: payload(op.name, token, op.is_get),
        };
        match token.kind() {
            TokenKind::Request => {
                message.flags |= if op.answered && !op.is_get {
                    flags::NEED_REPLY
                } else {
                    0
                }
            }
            _ => message.flags |= flags::REPLY,
        }
        // nowhere in the protocol is room for a sequence number; the upper half of the flags is free
        let numbered = system.policy.iter().any(|policy| policy.matching == Matching::Sequence);
        if numbered {
            message.flags |= (u32::from(token.op()) + 1) << 16;
        }
        message
    }

    fn bytes_of(&self, case: &Case, way: Way, about: About) -> (Channel, Vec<u8>) {
        let (channel, is_request) = match way {
            Way::C1ToBack => (Channel::Main, true),
            Way::C1ToFront => (Channel::Main, false),
            Way::C2ToFront => (Channel::Backend, true),
            Way::C2ToBack => (Channel::Backend, false),
        };
        let name = match about {
            About::Main => case.request,
            About::ForHandler | About::ForWorker => "IOTLB_MSG",
            // the virtiofs case needed an unmap; today's name of the like is SHMEM_UNMAP
            About::Handler if !case.handler_asks => "SHMEM_UNMAP",
            About::Handler | About::Worker => "IOTLB_MSG",
            About::Call => "VRING_CALL",
        };
        let id = find(self.dialect, name, Some(channel)).map_or(0, |spec| spec.id);
        let is_get = name.starts_with("GET_");
        let asks = is_request && !is_get && about != About::Call;
        let message = Message {
            dialect: self.dialect,
            conn_id: self.dialect.no_conn_id(),
            channel,
            request: id,
            flags: self.dialect.version()
                | if is_request { 0 } else { flags::REPLY }
                | if asks { flags::NEED_REPLY } else { 0 },
            payload: two_payload(name, is_request, about),
        };
        (channel, message.encode(self.dialect))
    }
}

/// `front-end` or `back-end`.
pub const fn side_name(side: Side) -> &'static str {
    match side {
        0 => "front-end",
        _ => "back-end",
    }
}

/// Features that no two operations have in common: VERSION_1 and a bit of each operation's own.
fn features(op: u8) -> u64 {
    1 << 32 | 1 << (24 + op)
}

fn payload(name: &str, token: Token, is_get: bool) -> Payload {
    let op = token.op();
    let is_request = token.kind() == TokenKind::Request;
    let state = |num: u32| {
        Payload::VringState(VringState {
            index: u32::from(op),
            num,
        })
    };
    match (name, is_request) {
        ("GET_VRING_BASE", _) => state(0),
        ("SET_VRING_NUM", true) => state(256),
        ("SET_VRING_BASE", true) => state(0),
        ("SET_VRING_ENABLE", true) => state(1),
        _ if is_get && is_request => Payload::Empty,
        ("SET_PEER_CONNECTION", true) => Payload::U64(1),
        _ if is_get || is_request => Payload::U64(features(op)),
        // an ack, or "busy"
        _ => Payload::U64(u64::from(token.kind() == TokenKind::Busy)),
    }
}

fn two_payload(name: &str, is_request: bool, about: About) -> Payload {
    let state = |num| Payload::VringState(VringState { index: 0, num });
    match (name, is_request) {
        ("GET_VRING_BASE", _) | ("VRING_KICK", true) | ("VRING_CALL", _) => state(0),
        ("GET_STATUS" | "GET_FEATURES", true) => Payload::Empty,
        ("IOTLB_MSG", true) => Payload::Raw(iotlb(about)),
        ("SHMEM_UNMAP", true) => Payload::Raw(vec![0; 40]),
        _ => Payload::U64(0),
    }
}

/// struct vhost_iotlb_msg: iova, size, uaddr, perm, type, padding. A miss, or the update that answers it.
fn iotlb(about: About) -> Vec<u8> {
    let is_miss = matches!(about, About::Handler | About::Worker);
    let iova: u64 = if matches!(about, About::Worker | About::ForWorker) {
        0x2000
    } else {
        0x1000
    };
    let mut bytes = Vec::with_capacity(32);
    bytes.extend(iova.to_le_bytes());
    bytes.extend(0x1000u64.to_le_bytes());
    bytes.extend((if is_miss { 0 } else { iova }).to_le_bytes());
    bytes.extend([3, if is_miss { 1 } else { 2 }, 0, 0, 0, 0, 0, 0]);
    bytes
}
