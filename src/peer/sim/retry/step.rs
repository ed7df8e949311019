//! The machine: which atomic steps are possible in a state, and what each does. Every interleaving of the two ends is a
//! sequence of these.

use super::class::{Class, Classes};
use super::policy::{Matching, OnTimeout, Policy, Strategy, Timers, Unexpected};
use super::program::{Operation, Program, Script};
use super::state::{Outcome, Phase, Side, State, Token, TokenKind};
use super::{Regime, Resends};

/// Kinds of atomic steps of one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// It starts its next operation: the request is sent.
    Start = 0,
    /// It receives one message, and answers it if an answer is due.
    Receive = 1,
    /// Its timer fires.
    Timer = 2,
    /// Its back-off ends.
    Wake = 3,
    /// It serves the oldest request that it has put aside.
    Serve = 4,
    /// Its blocked send goes through.
    Unblock = 5,
    /// It sends its request again, after having served.
    Again = 6,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Start,
        Self::Receive,
        Self::Timer,
        Self::Wake,
        Self::Serve,
        Self::Unblock,
        Self::Again,
    ];

    /// One word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Receive => "receive",
            Self::Timer => "timer",
            Self::Wake => "wake",
            Self::Serve => "serve",
            Self::Unblock => "unblock",
            Self::Again => "again",
        }
    }

    const fn letter(self) -> char {
        match self {
            Self::Start => 's',
            Self::Receive => 'r',
            Self::Timer => 't',
            Self::Wake => 'w',
            Self::Serve => 'q',
            Self::Unblock => 'u',
            Self::Again => 'a',
        }
    }
}

/// A step: who, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step {
    /// 0 is the front-end, 1 the back-end.
    pub side: Side,
    /// What it does.
    pub kind: Kind,
}

impl Step {
    /// As a number below 16, for sets of steps and for keeping many.
    #[inline]
    pub const fn code(self) -> u8 {
        (self.side as u8) << 3 | self.kind as u8
    }

    /// The step with that number.
    pub const fn from_code(code: u8) -> Self {
        let kind = Kind::ALL[(code & 7) as usize % Kind::ALL.len()];
        Self {
            side: (code >> 3 & 1) as usize,
            kind,
        }
    }

    /// The same of the other side.
    pub const fn mirrored(self) -> Self {
        Self {
            side: 1 - self.side,
            ..self
        }
    }

    /// One letter, small for the front-end, capital for the back-end.
    pub const fn letter(self) -> char {
        match self.side {
            0 => self.kind.letter(),
            _ => self.kind.letter().to_ascii_uppercase(),
        }
    }

    /// The step that a letter stands for.
    pub fn from_letter(letter: char) -> Option<Self> {
        let side = usize::from(letter.is_ascii_uppercase());
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.letter() == letter.to_ascii_lowercase())?;
        Some(Self { side, kind })
    }
}

/// What a step did, beside changing the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effect {
    /// The message that was read, or taken from those put aside.
    pub read: Option<Token>,
    /// The message that was sent, or blocks its sender.
    pub sent: Option<Token>,
    /// What was done with what was read, or with the timer.
    pub done: Done,
    /// What is wrong with the step itself.
    pub classes: Classes,
    /// The step cannot be told from one that did not fit into the model: a queue is longer than the model's.
    pub cut: bool,
}

/// What an end did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Done {
    /// Nothing but what else is said.
    #[default]
    Nothing,
    /// The request was applied.
    Applied,
    /// It had been applied before, and was not again.
    Repeated,
    /// The request was put aside.
    Kept,
    /// The message was thrown away.
    Dropped,
    /// The request was refused for now.
    Refused,
    /// A late answer was ignored.
    Ignored,
    /// A late answer was executed as a request.
    Executed,
    /// The message completed the own operation.
    Completed,
    /// The own operation was reported failed.
    Failed,
    /// The connection was closed.
    Closed,
    /// Garbage was read as a header, and the connection closed.
    Garbage,
    /// The request was sent again.
    Resent,
    /// From here on it serves, and will then send again.
    Pauses,
}

/// The steps that are possible in a state, at most one of each kind and side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Steps(u16);

impl Steps {
    /// Adds one.
    #[inline]
    pub fn add(&mut self, step: Step) {
        self.0 |= 1 << step.code();
    }

    /// Whether it is among them.
    #[inline]
    pub const fn has(self, step: Step) -> bool {
        self.0 >> step.code() & 1 == 1
    }

    /// None.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// As bits, by [`Step::code`].
    #[inline]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Those of one side.
    #[inline]
    pub const fn of(self, side: Side) -> Self {
        Self(self.0 & (0xff << (8 * side)))
    }

    /// One after the other, the front-end's first.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = Step> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let code = left.trailing_zeros() as u8;
            left &= left - 1;
            Some(Step::from_code(code))
        })
    }
}

/// Two ends with their policies and scripts, and the rules of the game.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct System {
    /// Each side's policy.
    pub policy: [Policy; 2],
    /// Each side's operations.
    pub script: [Script; 2],
    /// Messages of each side that wait unread at most.
    pub capacity: [Option<u8>; 2],
    /// Re-sends of one operation.
    pub resends: Resends,
    /// When timers fire.
    pub regime: Regime,
    /// Longest queue that is explored: what would make a longer one is left out, and said.
    pub queue_max: u8,
}

impl System {
    /// Of a strategy and a program.
    pub fn new(strategy: &Strategy, program: &Program, regime: Regime, resends: Resends) -> Self {
        Self {
            policy: [strategy.front, strategy.back],
            script: [program.front, program.back],
            capacity: [None; 2],
            resends,
            regime,
            queue_max: 16,
        }
    }

    /// With so many messages that wait unread at most.
    pub fn with_capacity(self, capacity: u8) -> Self {
        Self {
            capacity: [Some(capacity); 2],
            ..self
        }
    }

    /// Whether the two sides are the same, so that states which differ in who is who only are alike.
    pub fn is_symmetric(&self) -> bool {
        self.policy[0] == self.policy[1] && self.script[0] == self.script[1] && self.capacity[0] == self.capacity[1]
    }

    /// The operation that is outstanding or comes next.
    #[inline]
    fn current(&self, state: &State, side: Side) -> &Operation {
        self.script[side].at(state.pc(side))
    }

    /// Whether a side has an operation that can be started.
    #[inline]
    fn has_more(&self, state: &State, side: Side) -> bool {
        state.pc(side) < self.script[side].len()
    }

    /// Whether all is done: every operation has come to its end, and nothing is left to read. A script without end need
    /// not be.
    pub fn is_finished(&self, state: &State) -> bool {
        (0..2).all(|side| {
            let done = self.script[side].endless || !self.has_more(state, side);
            let idle = state.phase(side) == Phase::Idle || self.script[side].endless;
            done && idle
                && state.blocked(side).is_none()
                && state.kept[side] == 0
                && (state.queue[side] == 0 || self.script[0].endless)
        })
    }

    /// The steps that are possible in a state.
    #[inline]
    pub fn steps(&self, state: &State) -> Steps {
        let mut steps = Steps::default();
        if state.is_closed() {
            return steps;
        }
        let mut timers = Steps::default();
        for side in 0..2 {
            let mut add = |kind| steps.add(Step { side, kind });
            if state.blocked(side).is_some() {
                if !self.is_full(state, side) {
                    add(Kind::Unblock);
                }
                continue;
            }
            match state.phase(side) {
                Phase::Idle => {
                    if self.has_more(state, side) {
                        add(Kind::Start);
                    }
                    if state.kept[side] != 0 {
                        add(Kind::Serve);
                    } else if state.queue[side] != 0 {
                        add(Kind::Receive);
                    }
                }
                Phase::Waiting => {
                    if state.queue[side] != 0 {
                        add(Kind::Receive);
                    }
                    if self.timer_runs(state, side) {
                        timers.add(Step {
                            side,
                            kind: Kind::Timer,
                        });
                    }
                }
                Phase::Sleeping => add(Kind::Wake),
                Phase::Paused => {
                    add(Kind::Again);
                    if state.queue[side] != 0 {
                        add(Kind::Receive);
                    }
                }
            }
        }
        match self.regime {
            Regime::Slow if !steps.is_empty() => {}
            _ => steps.0 |= timers.0,
        }
        steps
    }

    /// Whether a waiting side's timer may fire, as far as that is not the regime's affair of "nothing else can happen".
    #[inline]
    fn timer_runs(&self, state: &State, side: Side) -> bool {
        let has_timer = match self.policy[side].timers {
            Timers::None => false,
            Timers::Sets => !self.current(state, side).is_get,
            Timers::All => true,
        };
        has_timer && (self.regime != Regime::Sync || !self.is_alive(state, side))
    }

    /// Whether a copy of the outstanding request or of its answer is left anywhere.
    fn is_alive(&self, state: &State, side: Side) -> bool {
        let other = 1 - side;
        let of = |kind| Token::new(kind, state.pc(side));
        let request = of(TokenKind::Request);
        let answers = [of(TokenKind::Reply), of(TokenKind::Busy)];
        state.is_on_the_way(other, request)
            || state.has_kept(other, request)
            || answers
                .into_iter()
                .any(|answer| state.is_on_the_way(side, answer) || state.blocked(other) == Some(answer))
    }

    #[inline]
    fn is_full(&self, state: &State, side: Side) -> bool {
        self.capacity[side].is_some_and(|capacity| state.waiting_for(1 - side) >= u32::from(capacity))
    }

    /// Takes a step that is possible.
    #[inline]
    pub fn apply(&self, state: &State, step: Step) -> (State, Effect) {
        let mut at = At {
            system: self,
            state: *state,
            effect: Effect::default(),
            side: step.side,
        };
        match step.kind {
            Kind::Start => at.start(),
            Kind::Receive => at.receive(),
            Kind::Timer => at.timer(),
            Kind::Wake => at.state.set_phase(step.side, Phase::Waiting),
            Kind::Serve => {
                at.effect.read = at.state.take_kept(step.side);
                if let Some(token) = at.effect.read {
                    at.serve(token.op());
                }
            }
            Kind::Unblock => {
                if let Some(token) = at.state.blocked(step.side) {
                    at.state.set_blocked(step.side, None);
                    at.effect.sent = Some(token);
                    at.effect.cut |= !at.state.push(1 - step.side, token);
                }
            }
            Kind::Again => {
                at.state.set_phase(step.side, Phase::Waiting);
                at.effect.done = Done::Resent;
                at.send_request();
            }
        }
        (at.state, at.effect)
    }

    /// What is wrong with a state, and cannot be made good any more.
    #[inline]
    pub fn classes(&self, state: &State, steps: Steps) -> Classes {
        let mut classes = Classes::default();
        for side in 0..2 {
            if self.script[side].endless {
                continue;
            }
            let script = &self.script[side];
            for op in 0..script.len() {
                let (applied, is_get) = (state.applied(side, op), script.at(op).is_get);
                match state.outcome(side, op) {
                    Outcome::Failed => {
                        classes.add(Class::Failed);
                        if applied > 0 {
                            classes.add(match is_get {
                                true => Class::FailedButAnswered,
                                false => Class::FailedButApplied,
                            });
                        }
                    }
                    Outcome::Fine if applied == 0 && !state.is_closed() => {
                        let request = Token::new(TokenKind::Request, op);
                        let left = state.is_on_the_way(1 - side, request)
                            || state.has_kept(1 - side, request)
                            || state.blocked(side) == Some(request);
                        if !left {
                            classes.add(Class::Loss);
                        }
                    }
                    _ => {}
                }
                if applied > 1 {
                    classes.add(match is_get {
                        true => Class::AnsweredTwice,
                        false => Class::Duplicate,
                    });
                }
            }
        }
        if state.is_closed() {
            classes.add(Class::Closed);
        } else if steps.is_empty() && !self.is_finished(state) {
            classes.add(Class::Hang);
        }
        classes
    }
}

/// A step under way.
struct At<'a> {
    system: &'a System,
    state: State,
    effect: Effect,
    side: Side,
}

impl At<'_> {
    #[inline]
    fn policy(&self) -> &Policy {
        &self.system.policy[self.side]
    }

    #[inline]
    fn start(&mut self) {
        let answered = self.system.current(&self.state, self.side).answered;
        let pc = self.state.pc(self.side);
        self.send_request();
        if answered {
            self.state.set_phase(self.side, Phase::Waiting);
            self.state.set_resends(self.side, 0);
        } else {
            self.state.set_outcome(self.side, pc, Outcome::Fine);
            self.advance();
        }
    }

    #[inline]
    fn send_request(&mut self) {
        let pc = self.state.pc(self.side);
        self.send(Token::new(TokenKind::Request, pc));
    }

    #[inline]
    fn send(&mut self, token: Token) {
        self.effect.sent = Some(token);
        if self.system.is_full(&self.state, self.side) {
            self.state.set_blocked(self.side, Some(token));
            return;
        }
        let other = 1 - self.side;
        self.effect.cut |= !self.state.push(other, token);
        self.effect.cut |= self.state.waiting_for(other) > u32::from(self.system.queue_max);
    }

    /// The next operation.
    #[inline]
    fn advance(&mut self) {
        let next = self.state.pc(self.side) + 1;
        self.state.set_phase(self.side, Phase::Idle);
        self.state.set_resends(self.side, 0);
        if self.system.script[self.side].endless && next == self.system.script[self.side].len() {
            self.state.set_pc(self.side, 0);
            self.state.forget(self.side);
        } else {
            self.state.set_pc(self.side, next);
        }
    }

    #[inline]
    fn complete(&mut self, outcome: Outcome) {
        let pc = self.state.pc(self.side);
        self.state.set_outcome(self.side, pc, outcome);
        self.advance();
    }

    #[inline]
    fn receive(&mut self) {
        self.effect.read = self.state.pop(self.side);
        let Some(token) = self.effect.read else { return };
        if self.state.is_unframed(self.side) {
            // what is left of the payload before is taken for a header
            self.effect.classes.add(Class::FramingLost);
            self.effect.done = Done::Garbage;
            self.state.close(self.side);
            return;
        }
        match self.state.phase(self.side) {
            Phase::Waiting | Phase::Sleeping => self.receive_waiting(token),
            Phase::Idle | Phase::Paused => self.receive_idle(token),
        }
    }

    #[inline]
    fn receive_idle(&mut self, token: Token) {
        match token.kind() {
            TokenKind::Request => self.serve(token.op()),
            TokenKind::Reply if self.policy().idle_takes_replies => {
                self.effect.classes.add(Class::Phantom);
                self.effect.done = Done::Executed;
            }
            TokenKind::Reply | TokenKind::Busy => self.effect.done = Done::Ignored,
        }
    }

    #[inline]
    fn receive_waiting(&mut self, token: Token) {
        let (side, other) = (self.side, 1 - self.side);
        let pc = self.state.pc(side);
        let own_id = self.system.current(&self.state, side).id;
        let matching = self.policy().matching;
        match token.kind() {
            TokenKind::Reply | TokenKind::Busy => {
                let matches = match matching {
                    Matching::Sequence => token.op() == pc,
                    _ => self.system.script[side].at(token.op()).id == own_id,
                };
                if !matches {
                    return self.unexpected_reply();
                }
                if token.op() != pc {
                    self.effect.classes.add(Class::WrongReply);
                }
                if token.kind() == TokenKind::Busy {
                    return self.send_again();
                }
                self.effect.done = Done::Completed;
                self.complete(Outcome::Fine);
            }
            TokenKind::Request => {
                if matching == Matching::IdOnly && self.system.script[other].at(token.op()).id == own_id {
                    self.effect.classes.add(Class::RequestAsReply);
                    self.effect.done = Done::Completed;
                    return self.complete(Outcome::Fine);
                }
                self.unexpected_request(token);
            }
        }
    }

    #[inline]
    fn unexpected_reply(&mut self) {
        match self.policy().while_waiting {
            Unexpected::Error => self.fail(),
            Unexpected::Close => self.close(),
            _ => self.throw_away(),
        }
    }

    #[inline]
    fn unexpected_request(&mut self, token: Token) {
        match self.policy().while_waiting {
            Unexpected::Error => {
                if self.policy().flags_before_payload && !self.system.script[1 - self.side].at(token.op()).is_get {
                    self.state.set_unframed(self.side);
                }
                self.fail();
            }
            Unexpected::Drop => self.throw_away(),
            Unexpected::Serve => self.serve(token.op()),
            Unexpected::Queue => {
                self.effect.done = Done::Kept;
                self.effect.cut |= !self.state.keep(self.side, token);
            }
            Unexpected::Busy => {
                self.effect.done = Done::Refused;
                if self.system.script[1 - self.side].at(token.op()).answered {
                    self.send(Token::new(TokenKind::Busy, token.op()));
                }
            }
            Unexpected::Close => self.close(),
        }
    }

    #[inline]
    fn throw_away(&mut self) {
        self.effect.done = Done::Dropped;
        if self.policy().sleeps {
            self.state.set_phase(self.side, Phase::Sleeping);
        }
    }

    #[inline]
    fn fail(&mut self) {
        self.effect.done = Done::Failed;
        self.complete(Outcome::Failed);
    }

    fn close(&mut self) {
        self.effect.done = Done::Closed;
        self.state.close(self.side);
    }

    /// Applies a request of the other side and answers it if an answer is due.
    #[inline]
    fn serve(&mut self, op: u8) {
        let other = 1 - self.side;
        let applied = self.state.applied(other, op);
        if applied > 0 && self.policy().drops_duplicates {
            self.effect.done = Done::Repeated;
        } else {
            self.effect.done = Done::Applied;
            self.state.set_applied(other, op, applied + 1);
        }
        if self.system.script[other].at(op).answered {
            self.send(Token::new(TokenKind::Reply, op));
        }
    }

    #[inline]
    fn timer(&mut self) {
        match self.policy().on_timeout {
            OnTimeout::Close => self.close(),
            OnTimeout::ServeThenResend => {
                if self.counts_resend() {
                    self.effect.done = Done::Pauses;
                    self.state.set_phase(self.side, Phase::Paused);
                } else {
                    self.fail();
                }
            }
            OnTimeout::Resend => self.send_again(),
        }
    }

    #[inline]
    fn send_again(&mut self) {
        if self.counts_resend() {
            self.effect.done = Done::Resent;
            self.send_request();
        } else {
            self.fail();
        }
    }

    /// Counts a re-send. False: there have been enough.
    #[inline]
    fn counts_resend(&mut self) -> bool {
        match self.system.resends {
            Resends::Unbounded => true,
            Resends::AtMost(most) => {
                let sent = self.state.resends(self.side);
                if sent < most {
                    self.state.set_resends(self.side, sent + 1);
                }
                sent < most
            }
        }
    }
}
