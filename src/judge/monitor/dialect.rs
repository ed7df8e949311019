//! What is held against a link that speaks a dialect of vhost-pci. Its states and gates are the proposal's own, and only a
//! simulated peer has them, so of the rules of the protocol those are kept that hold for any dialect: version, flags, and
//! that a reply answers a request. Both sides make requests on its one socket, so each has its own open requests.

use std::collections::VecDeque;

use super::rule::{Finding, Rule};
use super::rules;
use crate::wire::{Message, Party, flags};

/// Open requests kept of each side; the oldest go first.
const OPEN_MAX: usize = 1024;

/// Requests of each side that may still be answered.
#[derive(Debug, Default)]
pub(super) struct Both {
    open: [VecDeque<u32>; 2],
}

impl Both {
    /// The rules that a message breaks.
    pub(super) fn observe(&mut self, from: Party, message: &Message) -> Vec<(&'static Rule, Finding)> {
        let mut found = Vec::new();
        let version = message.dialect.version();
        if message.flags & flags::VERSION_MASK != version {
            let actual = format!("flags {:#x}", message.flags);
            found.extend(broken("version", format!("version {version:#x} in the flags"), actual));
        }
        let known = flags::VERSION_MASK | flags::REPLY | flags::NEED_REPLY;
        if message.flags & !known != 0 {
            let actual = format!("flags {:#x}", message.flags);
            found.extend(broken("reserved-flags", "no flag beyond bit 3".to_owned(), actual));
        }
        if !message.is_reply() {
            let open = &mut self.open[super::side(from)];
            if open.len() >= OPEN_MAX {
                open.pop_front();
            }
            open.push_back(message.request);
            return found;
        }
        let open = &mut self.open[super::side(from.other())];
        match open.iter().position(|request| *request == message.request) {
            Some(at) => drop(open.remove(at)),
            None => {
                let expected = format!("a reply to a request of the {}", from.other());
                found.extend(broken("reply-to-nothing", expected, message.to_string()));
            }
        }
        found
    }
}

fn broken(id: &str, expected: String, actual: String) -> Option<(&'static Rule, Finding)> {
    let rule = rules().find(|rule| rule.id == id)?;
    Some((rule, Finding::new(expected, actual)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Dialect, notation};

    fn judge(lines: &[(Party, &str)]) -> Vec<&'static str> {
        let mut both = Both::default();
        let mut found = Vec::new();
        for (from, line) in lines {
            let message = notation::parse(Dialect::VhostPci, line).unwrap();
            found.extend(both.observe(*from, &message).into_iter().map(|(rule, _)| rule.id));
        }
        found
    }

    /// Broken: requests that cross on one socket are held against whoever sent them, or a stray reply is not seen.
    #[test]
    fn each_side_answers_the_other() {
        use Party::{BackEnd, FrontEnd};
        let crossing = [
            (FrontEnd, "SET_FEATURES! value=0x1 conn_id=3"),
            (BackEnd, "SET_FEATURES! value=0x2 conn_id=3"),
            (BackEnd, "reply to SET_FEATURES value=0x0 conn_id=3"),
            (FrontEnd, "reply to SET_FEATURES value=0x0 conn_id=3"),
        ];
        assert_eq!(judge(&crossing), Vec::<&str>::new());
        assert_eq!(judge(&crossing[1..3]), ["reply-to-nothing"]);
    }

    /// Broken: a message of another version, or with flags that do not exist, passes.
    #[test]
    fn version_and_flags_hold_in_every_dialect() {
        let from = Party::FrontEnd;
        assert_eq!(judge(&[(from, "SET_OWNER conn_id=0 header_flags=0x1")]), ["version"]);
        assert_eq!(
            judge(&[(from, "SET_OWNER conn_id=0 header_flags=0x12")]),
            ["reserved-flags"]
        );
    }
}
