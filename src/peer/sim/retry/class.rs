//! What can be wrong: the verdict classes.

use std::fmt;

/// A verdict class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// No step is possible, and not all is done.
    Hang = 0,
    /// A weakly fair cycle from which no end can be reached.
    LivelockInescapable = 1,
    /// A weakly fair cycle from which an end can be reached.
    LivelockEscapable = 2,
    /// Acknowledged, or sent without error, and never applied.
    Loss = 3,
    /// A request was taken for the answer that was waited for.
    RequestAsReply = 4,
    /// Another operation's answer was taken.
    WrongReply = 5,
    /// A request that changes something was applied twice.
    Duplicate = 6,
    /// A request for a value was answered twice.
    AnsweredTwice = 7,
    /// An operation was reported failed, with a live peer.
    Failed = 8,
    /// It was reported failed, and applied.
    FailedButApplied = 9,
    /// A request for a value was reported failed, and answered.
    FailedButAnswered = 10,
    /// A late answer was executed as a request.
    Phantom = 11,
    /// Somebody closed the connection.
    Closed = 12,
    /// Garbage was taken for a header.
    FramingLost = 13,
    /// The back-end's request never completes while the front-end goes on and on.
    Starved = 14,
}

impl Class {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Hang,
        Self::LivelockInescapable,
        Self::LivelockEscapable,
        Self::Loss,
        Self::RequestAsReply,
        Self::WrongReply,
        Self::Duplicate,
        Self::AnsweredTwice,
        Self::Failed,
        Self::FailedButApplied,
        Self::FailedButAnswered,
        Self::Phantom,
        Self::Closed,
        Self::FramingLost,
        Self::Starved,
    ];

    /// As scenarios and tables write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hang => "hang",
            Self::LivelockInescapable => "inescapable-livelock",
            Self::LivelockEscapable => "livelock",
            Self::Loss => "loss",
            Self::RequestAsReply => "request-taken-as-reply",
            Self::WrongReply => "wrong-reply",
            Self::Duplicate => "duplicate",
            Self::AnsweredTwice => "answered-twice",
            Self::Failed => "failed",
            Self::FailedButApplied => "failed-but-applied",
            Self::FailedButAnswered => "failed-but-answered",
            Self::Phantom => "phantom",
            Self::Closed => "closed",
            Self::FramingLost => "framing-lost",
            Self::Starved => "starved",
        }
    }

    /// The class of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Whether it is about a run without end.
    pub const fn is_cycle(self) -> bool {
        matches!(
            self,
            Self::LivelockInescapable | Self::LivelockEscapable | Self::Starved
        )
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A set of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Classes(u16);

impl Classes {
    /// Adds one.
    #[inline]
    pub fn add(&mut self, class: Class) {
        self.0 |= 1 << class as u8;
    }

    /// Both together.
    #[inline]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are not in the other set.
    #[inline]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether it is among them.
    pub const fn has(self, class: Class) -> bool {
        self.0 >> class as u8 & 1 == 1
    }

    /// None: safe.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Class> {
        Class::ALL.into_iter().filter(move |class| self.has(*class))
    }
}

impl FromIterator<Class> for Classes {
    fn from_iter<T: IntoIterator<Item = Class>>(classes: T) -> Self {
        let mut set = Self::default();
        classes.into_iter().for_each(|class| set.add(class));
        set
    }
}

impl fmt::Display for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.pad("safe");
        }
        let names: Vec<&str> = self.iter().map(Class::name).collect();
        f.pad(&names.join(", "))
    }
}
