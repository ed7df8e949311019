//! A state of the two ends and the socket between them, in 32 bytes.

use super::program::OPERATIONS_MAX;

/// Messages that fit into a queue.
pub(super) const QUEUE_MAX: u32 = 16;

/// The front-end is side 0, the back-end side 1.
pub type Side = usize;

/// What kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TokenKind {
    /// A request of the sender.
    Request = 1,
    /// An answer to a request of the receiver.
    Reply = 2,
    /// "Busy", to a request of the receiver.
    Busy = 3,
}

/// A message: its kind, and which operation of the end that asked it is about. Four bits, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub(super) u8);

impl Token {
    /// A message about the operation with that number.
    #[inline]
    pub const fn new(kind: TokenKind, op: u8) -> Self {
        Self((kind as u8) << 2 | (op & 3))
    }

    /// What it is.
    #[inline]
    pub const fn kind(self) -> TokenKind {
        match self.0 >> 2 {
            1 => TokenKind::Request,
            2 => TokenKind::Reply,
            _ => TokenKind::Busy,
        }
    }

    /// The number of the operation, in its owner's script.
    #[inline]
    pub const fn op(self) -> u8 {
        self.0 & 3
    }
}

/// What an end is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Phase {
    /// It has nothing outstanding.
    Idle = 0,
    /// It waits for its answer.
    Waiting = 1,
    /// It sleeps before it reads again.
    Sleeping = 2,
    /// After a time-out: it serves as if idle, and has its request to send again.
    Paused = 3,
}

/// What became of an operation, as its owner knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// Not done yet.
    Open = 0,
    /// Acknowledged, answered, or sent without an ack being asked for.
    Fine = 1,
    /// Reported failed.
    Failed = 2,
}

/// A state. Plain bits, so that it can be compared, hashed and kept by the million.
///
/// `queue[i]` is what is on its way to side `i`, `kept[i]` what side `i` has put aside, both four bits a message from the low
/// end. `word[i]` is side `i` itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct State {
    pub(super) queue: [u64; 2],
    pub(super) kept: [u32; 2],
    pub(super) word: [u32; 2],
}

// fields of a side's word: the next or current operation, phase, re-sends, a blocked message, outcomes, how often applied
const PC: Field = Field { at: 0, bits: 3 };
const PHASE: Field = Field { at: 3, bits: 2 };
const RESENDS: Field = Field { at: 5, bits: 3 };
const BLOCKED: Field = Field { at: 8, bits: 4 };
const OUTCOME_AT: u32 = 12;
const APPLIED_AT: u32 = 20;
const UNFRAMED: Field = Field { at: 28, bits: 1 };
const CLOSED: Field = Field { at: 29, bits: 1 };

#[derive(Clone, Copy)]
struct Field {
    at: u32,
    bits: u32,
}

impl Field {
    #[inline]
    const fn get(self, word: u32) -> u32 {
        word >> self.at & ((1 << self.bits) - 1)
    }

    #[inline]
    const fn set(self, word: u32, value: u32) -> u32 {
        word & !(((1 << self.bits) - 1) << self.at) | value << self.at
    }
}

const fn outcome(op: u8) -> Field {
    Field {
        at: OUTCOME_AT + 2 * op as u32,
        bits: 2,
    }
}

const fn applied(op: u8) -> Field {
    Field {
        at: APPLIED_AT + 2 * op as u32,
        bits: 2,
    }
}

impl State {
    /// The number of the operation that is outstanding, or comes next.
    #[inline]
    pub fn pc(&self, side: Side) -> u8 {
        PC.get(self.word[side]) as u8
    }

    #[inline]
    pub(super) fn set_pc(&mut self, side: Side, pc: u8) {
        self.word[side] = PC.set(self.word[side], u32::from(pc));
    }

    /// What the side is doing.
    #[inline]
    pub fn phase(&self, side: Side) -> Phase {
        match PHASE.get(self.word[side]) {
            0 => Phase::Idle,
            1 => Phase::Waiting,
            2 => Phase::Sleeping,
            _ => Phase::Paused,
        }
    }

    #[inline]
    pub(super) fn set_phase(&mut self, side: Side, phase: Phase) {
        self.word[side] = PHASE.set(self.word[side], phase as u32);
    }

    /// How often the outstanding request was sent again. Stays 0 where that has no bound.
    #[inline]
    pub fn resends(&self, side: Side) -> u8 {
        RESENDS.get(self.word[side]) as u8
    }

    #[inline]
    pub(super) fn set_resends(&mut self, side: Side, resends: u8) {
        self.word[side] = RESENDS.set(self.word[side], u32::from(resends));
    }

    /// The message that the side is blocked with, because the socket is full.
    #[inline]
    pub fn blocked(&self, side: Side) -> Option<Token> {
        match BLOCKED.get(self.word[side]) {
            0 => None,
            token => Some(Token(token as u8)),
        }
    }

    #[inline]
    pub(super) fn set_blocked(&mut self, side: Side, token: Option<Token>) {
        self.word[side] = BLOCKED.set(self.word[side], token.map_or(0, |token| u32::from(token.0)));
    }

    /// What became of an operation of the side.
    #[inline]
    pub fn outcome(&self, side: Side, op: u8) -> Outcome {
        match outcome(op).get(self.word[side]) {
            0 => Outcome::Open,
            1 => Outcome::Fine,
            _ => Outcome::Failed,
        }
    }

    #[inline]
    pub(super) fn set_outcome(&mut self, side: Side, op: u8, value: Outcome) {
        self.word[side] = outcome(op).set(self.word[side], value as u32);
    }

    /// How often an operation of the side was applied by the other: 0, 1, or 2 for more.
    #[inline]
    pub fn applied(&self, side: Side, op: u8) -> u8 {
        applied(op).get(self.word[side]) as u8
    }

    #[inline]
    pub(super) fn set_applied(&mut self, side: Side, op: u8, times: u8) {
        self.word[side] = applied(op).set(self.word[side], u32::from(times.min(2)));
    }

    /// The side left a payload in the stream: what it reads next is no header.
    #[inline]
    pub fn is_unframed(&self, side: Side) -> bool {
        UNFRAMED.get(self.word[side]) == 1
    }

    #[inline]
    pub(super) fn set_unframed(&mut self, side: Side) {
        self.word[side] = UNFRAMED.set(self.word[side], 1);
    }

    /// The side closed the connection.
    #[inline]
    pub fn has_closed(&self, side: Side) -> bool {
        CLOSED.get(self.word[side]) == 1
    }

    /// Somebody closed the connection.
    #[inline]
    pub fn is_closed(&self) -> bool {
        CLOSED.get(self.word[0] | self.word[1]) == 1
    }

    /// The connection ends here: what was on its way is gone.
    #[inline]
    pub(super) fn close(&mut self, side: Side) {
        self.word[side] = CLOSED.set(self.word[side], 1);
        self.queue = [0; 2];
    }

    /// Messages on their way to a side.
    #[inline]
    pub fn waiting_for(&self, side: Side) -> u32 {
        length(self.queue[side])
    }

    /// What is on its way to a side, oldest first.
    pub fn on_the_way(&self, side: Side) -> impl Iterator<Item = Token> {
        tokens(self.queue[side])
    }

    /// What a side has put aside, oldest first.
    pub fn put_aside(&self, side: Side) -> impl Iterator<Item = Token> {
        tokens(u64::from(self.kept[side]))
    }

    #[inline]
    pub(super) fn pop(&mut self, side: Side) -> Option<Token> {
        let token = (self.queue[side] & 15) as u8;
        self.queue[side] >>= 4;
        (token != 0).then_some(Token(token))
    }

    /// False: there is no room in the model.
    #[inline]
    pub(super) fn push(&mut self, side: Side, token: Token) -> bool {
        let length = length(self.queue[side]);
        if length == QUEUE_MAX {
            return false;
        }
        self.queue[side] |= u64::from(token.0) << (4 * length);
        true
    }

    #[inline]
    pub(super) fn take_kept(&mut self, side: Side) -> Option<Token> {
        let token = (self.kept[side] & 15) as u8;
        self.kept[side] >>= 4;
        (token != 0).then_some(Token(token))
    }

    #[inline]
    pub(super) fn keep(&mut self, side: Side, token: Token) -> bool {
        let length = length(u64::from(self.kept[side]));
        if length == 8 {
            return false;
        }
        self.kept[side] |= u32::from(token.0) << (4 * length);
        true
    }

    /// Whether a message that is one of two is on its way to a side.
    #[inline]
    pub(super) fn is_on_the_way(&self, side: Side, token: Token) -> bool {
        tokens(self.queue[side]).any(|other| other == token)
    }

    /// Whether a side has put a request aside.
    #[inline]
    pub(super) fn has_kept(&self, side: Side, token: Token) -> bool {
        tokens(u64::from(self.kept[side])).any(|other| other == token)
    }

    /// A script that never ends begins anew: what became of its operations is forgotten.
    #[inline]
    pub(super) fn forget(&mut self, side: Side) {
        for op in 0..OPERATIONS_MAX as u8 {
            self.set_outcome(side, op, Outcome::Open);
            self.set_applied(side, op, 0);
        }
    }

    /// The same with the two sides exchanged.
    #[inline]
    pub fn mirrored(&self) -> Self {
        let swap = |[a, b]: [u32; 2]| [b, a];
        Self {
            queue: [self.queue[1], self.queue[0]],
            kept: swap(self.kept),
            word: swap(self.word),
        }
    }

    /// For hashing: all of it.
    #[inline]
    pub fn bits(&self) -> [u64; 4] {
        let join = |[a, b]: [u32; 2]| u64::from(a) | u64::from(b) << 32;
        [self.queue[0], self.queue[1], join(self.kept), join(self.word)]
    }
}

#[inline]
fn length(queue: u64) -> u32 {
    (64 - queue.leading_zeros()).div_ceil(4)
}

#[inline]
fn tokens(mut queue: u64) -> impl Iterator<Item = Token> {
    std::iter::from_fn(move || {
        let token = (queue & 15) as u8;
        queue >>= 4;
        (token != 0).then_some(Token(token))
    })
}
