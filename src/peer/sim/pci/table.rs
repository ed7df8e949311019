//! Which message a vhost-pci server takes in which state of a master's entry: one table, from which it acts, is tested,
//! and is drawn into the documentation.

use super::words::Word;
use crate::wire::id::frontend as id;

/// What a server knows of a master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It is connected.
    Empty,
    /// Which device it has.
    Configured,
    /// Its memory.
    Memory,
    /// Its rings.
    Rings,
    /// All, and the device for it exists.
    Created,
}

impl State {
    /// Every state, in the order in which they follow each other.
    pub const ALL: [Self; 5] = [Self::Empty, Self::Configured, Self::Memory, Self::Rings, Self::Created];

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Configured => "configured",
            Self::Memory => "memory",
            Self::Rings => "rings",
            Self::Created => "created",
        }
    }
}

/// How much order a server asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// What does no harm is let through, and noted.
    #[default]
    Liberal,
    /// The order of the proposal is asked for.
    Strict,
}

/// What becomes of a message in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// It is taken.
    Yes,
    /// It is taken, and the entry gets there.
    To(State),
    /// It comes at the wrong time, and only a strict server minds.
    Lax,
    /// It is refused.
    No,
}

/// A line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The message.
    pub word: Word,
    /// What becomes of it, by [`State::ALL`].
    pub cells: [Cell; 5],
}

use Cell::{Lax, No, To, Yes};
use State::{Configured, Created, Memory, Rings};

const fn row(word: Word, cells: [Cell; 5]) -> Row {
    Row { word, cells }
}

const fn common(id: u32, cells: [Cell; 5]) -> Row {
    row(Word::Common(id), cells)
}

/// The table. What is not in it is refused.
pub const ROWS: &[Row] = &[
    row(Word::ConnId, [Yes, Lax, Lax, Lax, Lax]),
    common(id::GET_FEATURES, [Yes, Yes, Yes, Yes, Yes]),
    common(id::GET_PROTOCOL_FEATURES, [Yes, Lax, Lax, Lax, Lax]),
    common(id::SET_PROTOCOL_FEATURES, [Yes, Lax, Lax, Lax, No]),
    row(Word::DevInfo, [To(Configured), No, No, No, No]),
    common(id::GET_QUEUE_NUM, [No, Yes, Yes, Yes, Yes]),
    common(id::SET_OWNER, [Lax, Yes, Lax, Lax, Lax]),
    common(id::SET_FEATURES, [Lax, Yes, Yes, Yes, Lax]),
    common(id::SET_MEM_TABLE, [No, To(Memory), Yes, Yes, No]),
    common(id::SET_VRING_NUM, [Lax, Lax, To(Rings), Yes, Lax]),
    common(id::SET_VRING_BASE, [Lax, Lax, To(Rings), Yes, Lax]),
    common(id::SET_VRING_ADDR, [Lax, Lax, To(Rings), Yes, Lax]),
    common(id::SET_VRING_CALL, [Yes, Yes, Yes, Yes, Yes]),
    common(id::SET_VRING_ERR, [Yes, Yes, Yes, Yes, Yes]),
    common(id::SET_VRING_KICK, [No, No, Lax, Yes, Yes]),
    common(id::SET_VRING_ENABLE, [No, Lax, Lax, Yes, Yes]),
    row(Word::Init, [No, No, No, To(Created), No]),
    row(Word::On, [No, No, No, No, Yes]),
    row(Word::Off, [No, No, No, No, To(Configured)]),
    common(id::GET_VRING_BASE, [No, No, Lax, Yes, Yes]),
    common(id::SEND_RARP, [No, No, No, Lax, Yes]),
    common(id::RESET_OWNER, [Lax, Lax, Lax, Lax, Lax]),
];

/// What a server does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// Takes it.
    Taken(Option<State>),
    /// Takes it though it comes at the wrong time.
    LetThrough,
    /// Refuses it.
    Refused,
}

/// What a server of a profile does with a message in a state.
pub fn permit(profile: Profile, state: State, word: Word) -> Permit {
    let row = ROWS.iter().find(|row| row.word == word);
    let cell = row.map_or(No, |row| row.cells[state as usize]);
    match (cell, profile) {
        (Yes, _) => Permit::Taken(None),
        (To(next), _) => Permit::Taken(Some(next)),
        (Lax, Profile::Liberal) => Permit::LetThrough,
        (Lax, Profile::Strict) | (No, _) => Permit::Refused,
    }
}
