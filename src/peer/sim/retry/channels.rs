//! Two ends with two sockets: `c1`, on which the front-end asks, and `c2`, the back-end channel, on which the back-end does.
//! Either end may have a second thread, handlers may need an answer on the other socket, and what is nested, routed or
//! locked is a matter of data: each case is a row.

use super::class::{Class, Classes};

/// When the front-end reads `c2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Only when it waits for nothing.
    WhenIdle,
    /// Also while it waits for an answer on `c1`: a nested event loop.
    Nested,
    /// In a thread of its own.
    Thread,
}

/// A row of the table: how the two ends are built, and what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What it is, in words.
    pub about: &'static str,
    /// The front-end's request on `c1`.
    pub request: &'static str,
    /// When the front-end reads `c2`.
    pub service: Service,
    /// A handler of a `c2` request sends IOTLB_MSG on `c1` and waits for its answer.
    pub handler_asks: bool,
    /// Answers on `c1` go to whoever asked; otherwise the innermost that waits takes what comes.
    pub routed: bool,
    /// One lock over sending and receiving on `c1`.
    pub locked: bool,
    /// The back-end's handler of the `c1` request needs the answer to a `c2` request first.
    pub handler_needs: bool,
    /// Meanwhile the back-end goes on serving `c1`.
    pub back_serves: bool,
    /// Requests on `c2` of a thread of the back-end, one after the other.
    pub misses: u8,
    /// VRING_CALLs that the back-end sends on `c2` before it answers the `c1` request.
    pub calls: u8,
    /// Messages that wait unread on `c2`, at most.
    pub capacity: Option<u8>,
}

const PLAIN: Case = Case {
    name: "",
    about: "",
    request: "GET_STATUS",
    service: Service::WhenIdle,
    handler_asks: false,
    routed: false,
    locked: false,
    handler_needs: false,
    back_serves: false,
    misses: 0,
    calls: 0,
    capacity: None,
};
const E2: Case = Case {
    request: "GET_VRING_BASE",
    handler_needs: true,
    ..PLAIN
};
const E4: Case = Case {
    service: Service::Nested,
    handler_asks: true,
    misses: 1,
    ..PLAIN
};
const E7: Case = Case {
    service: Service::Thread,
    locked: true,
    ..E4
};
const E8: Case = Case {
    service: Service::Thread,
    routed: true,
    ..E4
};
const E9: Case = Case {
    misses: 0,
    handler_needs: true,
    ..E7
};
const E11: Case = Case {
    misses: 0,
    handler_needs: true,
    ..E8
};
const E14: Case = Case {
    request: "VRING_KICK",
    calls: 2,
    capacity: Some(1),
    ..PLAIN
};

/// All cases.
#[rustfmt::skip]
pub const CASES: &[Case] = &[
    Case { name: "E1", about: "independent traffic on both, c2 read only when idle", request: "GET_FEATURES", misses: 1, ..PLAIN },
    Case { name: "E2", about: "the handler needs a c2 request answered; c2 read only when idle (virtiofs DAX, 2021)", ..E2 },
    Case { name: "E3", about: "E2, c2 also served while waiting", service: Service::Nested, ..E2 },
    Case { name: "E4", about: "a miss during GET_STATUS; its handler asks on c1, nested, innermost first (QEMU 6.0 to 7.2)", ..E4 },
    Case { name: "E5", about: "E4, c2 read only when idle", service: Service::WhenIdle, ..E4 },
    Case { name: "E6", about: "E4, answers routed to their owner", routed: true, ..E4 },
    Case { name: "E7", about: "E4, a thread for c2 and a lock over c1", ..E7 },
    Case { name: "E8", about: "E4, a thread for c2, answers routed", ..E8 },
    Case { name: "E9", about: "the c1 handler itself waits for a miss: thread and lock", ..E9 },
    Case { name: "E10", about: "the c1 handler itself waits for a miss: nested and routed", service: Service::Nested, ..E11 },
    Case { name: "E11", about: "the c1 handler itself waits for a miss: thread and routed", ..E11 },
    Case { name: "E12", about: "E11, the back-end serves c1 while it waits", back_serves: true, ..E11 },
    Case { name: "E12b", about: "E9, the back-end serves c1 while it waits", back_serves: true, ..E9 },
    Case { name: "E13", about: "E2 with a thread and a lock", service: Service::Thread, locked: true, ..E2 },
    Case { name: "E14", about: "two in-band calls before the ack of a kick, room for one (UML, 2022)", ..E14 },
    Case { name: "E14b", about: "E14, room for two", capacity: Some(2), ..E14 },
    Case { name: "E14c", about: "E14, c2 also served while waiting", service: Service::Nested, ..E14 },
];

/// The row of that name.
pub fn case(name: &str) -> Option<&'static Case> {
    CASES.iter().find(|row| row.name.eq_ignore_ascii_case(name))
}

/// A way on which messages go: a socket in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Way {
    /// Requests on `c1`.
    C1ToBack = 0,
    /// Answers on `c1`.
    C1ToFront = 1,
    /// Requests on `c2`.
    C2ToFront = 2,
    /// Answers on `c2`.
    C2ToBack = 3,
}

/// What a message is about. On a way to whom one asks it is the request, on the other the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum About {
    /// The front-end's request.
    Main = 1,
    /// IOTLB_MSG on `c1`, for the `c2` request of the back-end's handler.
    ForHandler = 2,
    /// IOTLB_MSG on `c1`, for that of its thread.
    ForWorker = 3,
    /// The `c2` request of the back-end's handler.
    Handler = 4,
    /// That of its thread.
    Worker = 5,
    /// VRING_CALL on `c2`.
    Call = 6,
}

impl About {
    const fn of(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Main,
            2 => Self::ForHandler,
            3 => Self::ForWorker,
            4 => Self::Handler,
            5 => Self::Worker,
            6 => Self::Call,
            _ => return None,
        })
    }

    /// What a handler asks on `c1` for this `c2` request, and back.
    const fn counterpart(self) -> Self {
        match self {
            Self::Handler => Self::ForHandler,
            Self::Worker => Self::ForWorker,
            Self::ForHandler => Self::Handler,
            Self::ForWorker => Self::Worker,
            other => other,
        }
    }
}

/// Steps: who, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Act {
    /// The front-end sends its request.
    FrontStart = 0,
    /// The front-end reads an answer on `c1`.
    FrontReceive = 1,
    /// The front-end reads a request on `c2`.
    FrontServe = 2,
    /// The front-end goes on with what was answered while something nested was going on.
    FrontResume = 3,
    /// The front-end's thread reads a request on `c2`.
    ThreadServe = 4,
    /// The front-end's thread has the lock and asks on `c1`.
    ThreadLock = 5,
    /// The front-end's thread reads its answer on `c1`.
    ThreadReceive = 6,
    /// The back-end reads a request on `c1`.
    BackReceive = 7,
    /// The back-end sends a VRING_CALL on `c2`.
    BackCall = 8,
    /// The back-end answers the kick.
    BackAnswer = 9,
    /// The back-end's handler reads its answer on `c2`.
    BackReturn = 10,
    /// The back-end's thread asks on `c2`.
    WorkerStart = 11,
    /// The back-end's thread reads its answer on `c2`.
    WorkerReceive = 12,
}

/// Who, what, and a letter for each step.
const ACTS: [(Act, usize, &str, &str, char); 13] = [
    (Act::FrontStart, 0, "", "start", 's'),
    (Act::FrontReceive, 0, "", "receive", 'r'),
    (Act::FrontServe, 0, "", "serve", 'q'),
    (Act::FrontResume, 0, "", "resume", 'm'),
    (Act::ThreadServe, 0, "thread", "serve", 'x'),
    (Act::ThreadLock, 0, "thread", "lock", 'l'),
    (Act::ThreadReceive, 0, "thread", "receive", 'y'),
    (Act::BackReceive, 1, "", "receive", 'R'),
    (Act::BackCall, 1, "", "call", 'C'),
    (Act::BackAnswer, 1, "", "answer", 'A'),
    (Act::BackReturn, 1, "", "return", 'Q'),
    (Act::WorkerStart, 1, "thread", "start", 'X'),
    (Act::WorkerReceive, 1, "thread", "receive", 'Y'),
];

impl Act {
    /// The step with that number.
    pub fn from_code(code: u8) -> Option<Self> {
        ACTS.get(usize::from(code)).map(|row| row.0)
    }

    /// The side that does it: 0 is the front-end.
    pub const fn side(self) -> usize {
        ACTS[self as usize].1
    }

    /// The thread of that side; the main one has no name.
    pub const fn thread(self) -> &'static str {
        ACTS[self as usize].2
    }

    /// What it does, in one word.
    pub const fn word(self) -> &'static str {
        ACTS[self as usize].3
    }

    /// One letter.
    pub const fn letter(self) -> char {
        ACTS[self as usize].4
    }

    /// The step that a letter stands for.
    pub fn from_letter(letter: char) -> Option<Self> {
        ACTS.iter().find(|row| row.4 == letter).map(|row| row.0)
    }
}

/// A state, as plain bits: four bits a message on each way, and the threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TwoState {
    pub(super) way: [u32; 4],
    /// Four bits an entry from the low end: what the front-end waits for, outermost first; 8 is added when it is there.
    stack: u32,
    /// The request of the front-end: 0 open, 1 fine, 2 failed, and 1 << 2 once it was started.
    main: u8,
    /// What the front-end's thread is about: an [`About`], 8 added while it wants the lock.
    thread: u8,
    /// The back-end: 0 idle, 1 its handler waits on `c2`, 2 it has calls to send, 3 it has to answer.
    back: u8,
    calls_left: u8,
    /// The back-end's thread: requests left, 8 added while one is outstanding.
    worker: u8,
    /// Who has the lock: 0 nobody, 1 the front-end, 2 its thread.
    lock: u8,
}

/// What a step did on the sockets: what was read, and what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// From which way, and what.
    pub read: Option<(Way, About)>,
    /// On which way, and what.
    pub sent: Option<(Way, About)>,
    /// What is wrong with the step itself.
    pub classes: Classes,
}

impl TwoState {
    fn head(&self, way: Way) -> Option<About> {
        About::of(self.way[way as usize] & 15)
    }

    fn len(&self, way: Way) -> u32 {
        (32 - self.way[way as usize].leading_zeros()).div_ceil(4)
    }

    /// What is on a way, oldest first.
    pub fn on(&self, way: Way) -> impl Iterator<Item = About> {
        let mut left = self.way[way as usize];
        std::iter::from_fn(move || {
            let about = About::of(left & 15)?;
            left >>= 4;
            Some(about)
        })
    }

    fn depth(&self) -> u32 {
        (32 - self.stack.leading_zeros()).div_ceil(4)
    }

    /// What the front-end waits for innermost, and whether it is there.
    fn top(&self) -> Option<(About, bool)> {
        let entry = self.stack >> (4 * self.depth().checked_sub(1)?);
        Some((About::of(entry & 7)?, entry & 8 != 0))
    }

    fn push_wait(&mut self, about: About) {
        self.stack |= (about as u32) << (4 * self.depth());
    }

    fn pop_wait(&mut self) {
        let depth = self.depth();
        self.stack &= !(15 << (4 * (depth - 1)));
    }

    /// For hashing: all of it.
    pub fn bits(&self) -> [u64; 4] {
        let join = |a: u32, b: u32| u64::from(a) | u64::from(b) << 32;
        let small = u64::from_le_bytes([
            self.main,
            self.thread,
            self.back,
            self.calls_left,
            self.worker,
            self.lock,
            0,
            0,
        ]);
        [
            join(self.way[0], self.way[1]),
            join(self.way[2], self.way[3]),
            u64::from(self.stack),
            small,
        ]
    }
}

const WANTS: u8 = 8;
const STARTED: u8 = 4;

impl Case {
    /// Where it begins.
    pub fn initial(&self) -> TwoState {
        TwoState {
            worker: self.misses,
            ..TwoState::default()
        }
    }

    fn has_room(&self, state: &TwoState) -> bool {
        self.capacity
            .is_none_or(|most| state.len(Way::C2ToFront) < u32::from(most))
    }

    /// All is done.
    pub fn is_finished(&self, state: &TwoState) -> bool {
        state.main & 3 != 0
            && state.way == [0; 4]
            && state.stack == 0
            && [state.thread, state.back, state.worker, state.lock] == [0; 4]
    }

    /// The steps that are possible, as bits.
    pub fn steps(&self, state: &TwoState) -> u32 {
        ACTS.iter()
            .filter(|row| self.can(state, row.0))
            .map(|row| 1 << row.0 as u8)
            .sum()
    }

    fn can(&self, state: &TwoState, act: Act) -> bool {
        let lock_is_free = !self.locked || state.lock == 0;
        match act {
            Act::FrontStart => state.main == 0 && state.stack == 0 && lock_is_free,
            Act::FrontReceive => match (state.top(), state.head(Way::C1ToFront)) {
                // an answer for another thread is left for it
                (Some((_, false)), Some(about)) => !self.is_for_thread(state, about),
                _ => false,
            },
            Act::FrontResume => matches!(state.top(), Some((_, true))),
            Act::FrontServe => {
                let may = match self.service {
                    Service::WhenIdle => state.stack == 0,
                    Service::Nested => !matches!(state.top(), Some((_, true))),
                    Service::Thread => false,
                };
                may && state.head(Way::C2ToFront).is_some()
            }
            Act::ThreadServe => {
                self.service == Service::Thread && state.thread == 0 && state.head(Way::C2ToFront).is_some()
            }
            Act::ThreadLock => state.thread & WANTS != 0 && lock_is_free,
            Act::ThreadReceive => state
                .head(Way::C1ToFront)
                .is_some_and(|about| self.is_for_thread(state, about)),
            Act::BackReceive => {
                let may = state.back == 0 || state.back == 1 && self.back_serves;
                may && state.head(Way::C1ToBack).is_some()
            }
            Act::BackCall => state.back == 2 && self.has_room(state),
            Act::BackAnswer => state.back == 3,
            Act::BackReturn => state.back == 1 && state.head(Way::C2ToBack) == Some(About::Handler),
            Act::WorkerStart => state.worker & 7 > 0 && state.worker & WANTS == 0 && self.has_room(state),
            Act::WorkerReceive => state.worker & WANTS != 0 && state.head(Way::C2ToBack) == Some(About::Worker),
        }
    }

    fn is_for_thread(&self, state: &TwoState, about: About) -> bool {
        self.service == Service::Thread && state.thread & WANTS == 0 && state.thread == about as u8
    }

    /// Takes a step that is possible.
    pub fn apply(&self, state: &TwoState, act: Act) -> (TwoState, Moved) {
        let mut at = At {
            case: self,
            state: *state,
            moved: Moved::default(),
        };
        at.take(act);
        (at.state, at.moved)
    }

    /// What is wrong with a state.
    pub fn classes(&self, state: &TwoState, steps: u32) -> Classes {
        let mut classes = Classes::default();
        if state.main & 3 == 2 {
            classes.add(Class::Failed);
        }
        if steps == 0 && !self.is_finished(state) {
            classes.add(Class::Hang);
        }
        classes
    }
}

struct At<'a> {
    case: &'a Case,
    state: TwoState,
    moved: Moved,
}

impl At<'_> {
    fn take(&mut self, act: Act) {
        match act {
            Act::FrontStart => {
                self.state.main = STARTED;
                self.state.lock = u8::from(self.case.locked);
                self.state.push_wait(About::Main);
                self.send(Way::C1ToBack, About::Main);
            }
            Act::FrontReceive => self.front_receives(),
            Act::FrontResume => self.finish_top(true),
            Act::FrontServe => {
                if let Some(about) = self.read(Way::C2ToFront) {
                    match about {
                        About::Call => {}
                        _ if self.case.handler_asks => {
                            self.state.push_wait(about.counterpart());
                            self.send(Way::C1ToBack, about.counterpart());
                        }
                        _ => self.send(Way::C2ToBack, about),
                    }
                }
            }
            Act::ThreadServe => {
                if let Some(about) = self.read(Way::C2ToFront) {
                    match about {
                        About::Call => {}
                        _ if self.case.handler_asks && self.case.locked => {
                            self.state.thread = about.counterpart() as u8 | WANTS;
                        }
                        _ if self.case.handler_asks => {
                            self.state.thread = about.counterpart() as u8;
                            self.send(Way::C1ToBack, about.counterpart());
                        }
                        _ => self.send(Way::C2ToBack, about),
                    }
                }
            }
            Act::ThreadLock => {
                self.state.lock = 2;
                self.state.thread &= !WANTS;
                if let Some(about) = About::of(u32::from(self.state.thread)) {
                    self.send(Way::C1ToBack, about);
                }
            }
            Act::ThreadReceive => {
                if let Some(about) = self.read(Way::C1ToFront) {
                    self.state.thread = 0;
                    self.state.lock = 0;
                    self.send(Way::C2ToBack, about.counterpart());
                }
            }
            Act::BackReceive => match self.read(Way::C1ToBack) {
                Some(About::Main) if self.case.handler_needs => {
                    self.state.back = 1;
                    self.send(Way::C2ToFront, About::Handler);
                }
                Some(About::Main) if self.case.calls > 0 => {
                    self.state.back = 2;
                    self.state.calls_left = self.case.calls;
                }
                Some(about) => self.send(Way::C1ToFront, about),
                None => {}
            },
            Act::BackCall => {
                self.state.calls_left -= 1;
                if self.state.calls_left == 0 {
                    self.state.back = 3;
                }
                self.send(Way::C2ToFront, About::Call);
            }
            Act::BackAnswer => {
                self.state.back = 0;
                self.send(Way::C1ToFront, About::Main);
            }
            Act::BackReturn => {
                self.read(Way::C2ToBack);
                self.state.back = 0;
                self.send(Way::C1ToFront, About::Main);
            }
            Act::WorkerStart => {
                self.state.worker |= WANTS;
                self.send(Way::C2ToFront, About::Worker);
            }
            Act::WorkerReceive => {
                self.read(Way::C2ToBack);
                self.state.worker = (self.state.worker & 7) - 1;
            }
        }
    }

    fn front_receives(&mut self) {
        let Some(about) = self.read(Way::C1ToFront) else { return };
        let Some((top, _)) = self.state.top() else { return };
        if about == top {
            return self.finish_top(true);
        }
        if self.case.routed {
            // whoever asked has it, and goes on when what is nested in it is done
            for place in 0..self.state.depth() {
                if self.state.stack >> (4 * place) & 15 == about as u32 {
                    self.state.stack |= 8 << (4 * place);
                }
            }
            return;
        }
        // "expected 22 received 40": what came is gone, and what was waited for has failed
        self.moved.classes.add(Class::WrongReply);
        self.finish_top(false);
    }

    fn finish_top(&mut self, fine: bool) {
        let Some((top, _)) = self.state.top() else { return };
        self.state.pop_wait();
        match top {
            About::Main => {
                self.state.main = if fine { 1 } else { 2 };
                self.state.lock = 0;
            }
            nested => self.send(Way::C2ToBack, nested.counterpart()),
        }
    }

    fn read(&mut self, way: Way) -> Option<About> {
        let about = self.state.head(way)?;
        self.state.way[way as usize] >>= 4;
        self.moved.read = Some((way, about));
        Some(about)
    }

    fn send(&mut self, way: Way, about: About) {
        self.state.way[way as usize] |= (about as u32) << (4 * self.state.len(way));
        self.moved.sent = Some((way, about));
    }
}
