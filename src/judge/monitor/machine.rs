//! State machines as data: what moves them, and in which states a message is legal. The monitor steps them, the rules
//! ask them, the reference page draws them.

use crate::wire::{Channel, Message, Payload};

/// What moves a machine. All of it happens on the main socket.
#[derive(Debug, Clone, Copy)]
pub enum Trigger {
    /// The front-end sends one of these requests.
    Request(&'static [u32]),
    /// The front-end sends this request, and its payload is such.
    When(u32, &'static str, fn(&Payload) -> bool),
    /// The back-end answers one of these requests.
    Reply(&'static [u32]),
}

/// One arrow.
#[derive(Debug)]
pub struct Move<S: 'static> {
    /// Where it begins; nothing: anywhere.
    pub from: &'static [S],
    /// What moves.
    pub on: Trigger,
    /// Where it ends.
    pub to: S,
    /// The requirements that say so.
    pub requirements: &'static [&'static str],
}

/// In which states some messages are legal.
#[derive(Debug)]
pub struct Legal<S: 'static> {
    /// The requests.
    pub requests: &'static [u32],
    /// The states.
    pub states: &'static [S],
    /// The rule that is broken otherwise.
    pub rule: &'static str,
}

/// One machine. It starts, with each connection, in its first state.
#[derive(Debug)]
pub struct Machine<S: 'static> {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The states with their names and what they mean.
    pub states: &'static [(S, &'static str, &'static str)],
    /// The arrows; the first that fits is taken.
    pub moves: &'static [Move<S>],
    /// What is legal where. A request that is not here is legal anywhere.
    pub legal: &'static [Legal<S>],
}

impl Trigger {
    /// Whether the message is what moves.
    pub fn fires(&self, message: &Message) -> bool {
        if message.channel != Channel::Main {
            return false;
        }
        match self {
            Self::Request(ids) => !message.is_reply() && ids.contains(&message.request),
            Self::When(id, _, holds) => !message.is_reply() && *id == message.request && holds(&message.payload),
            Self::Reply(ids) => message.is_reply() && ids.contains(&message.request),
        }
    }
}

impl<S: Copy + PartialEq> Machine<S> {
    /// Where it starts.
    pub const fn start(&self) -> S {
        self.states[0].0
    }

    /// The state after a message.
    pub fn next(&self, state: S, message: &Message) -> S {
        let fits = |m: &&Move<S>| (m.from.is_empty() || m.from.contains(&state)) && m.on.fires(message);
        self.moves.iter().find(fits).map_or(state, |m| m.to)
    }

    /// The name of a state.
    pub fn name_of(&self, state: S) -> &'static str {
        self.states.iter().find(|s| s.0 == state).map_or("?", |s| s.1)
    }

    /// The states in which rule `rule` wants the request to come, if this is not one of them.
    pub fn refuses(&self, rule: &str, request: u32, state: S) -> Option<Vec<&'static str>> {
        let legal = self
            .legal
            .iter()
            .find(|l| l.rule == rule && l.requests.contains(&request))?;
        let names = || legal.states.iter().map(|s| self.name_of(*s)).collect();
        (!legal.states.contains(&state)).then(names)
    }
}
