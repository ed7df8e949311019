//! The table of rules, in groups. A message that breaks a rule of one group is not held against the later ones: what is
//! framed wrongly, or answers nothing, is not also out of order.

mod channel;
mod fds;
mod framing;
mod gates;
mod memory;
mod negotiation;
mod optional;
mod payload;
mod replies;
mod rings;

pub(super) use memory::same_region;

use super::look::Look;
use super::machine::Machine;
use super::rule::{Finding, Rule};

/// The groups, in the order in which they are checked.
pub static GROUPS: &[(&str, &[Rule])] = &[
    ("Framing", framing::RULES),
    ("Requests and replies", replies::RULES),
    ("Payloads", payload::RULES),
    ("What has to be offered or negotiated", gates::RULES),
    ("Attached files", fds::RULES),
    ("Negotiation and session", negotiation::RULES),
    ("Memory and log", memory::RULES),
    ("Rings", rings::RULES),
    ("Back-end channel", channel::RULES),
    ("Optional parts", optional::RULES),
];

/// All rules.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    GROUPS.iter().flat_map(|(_, rules)| rules.iter())
}

/// The finding, if a request comes in a state in which it is not legal.
fn legal<S: Copy + PartialEq>(rule: &Rule, look: &Look, machine: &Machine<S>, state: S) -> Option<Finding> {
    let states = machine.refuses(rule.id, look.message.request, state)?;
    let expected = format!("{} while {}", look.message.name(), states.join(" or "));
    Finding::new(expected, format!("{} while {}", look.shown(), machine.name_of(state)))
}
