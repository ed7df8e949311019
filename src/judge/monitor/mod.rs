//! The protocol monitor: the session and ring state machines of the specification as a table that judges a timeline while
//! it grows. A reader of events; it needs no sockets and keeps a bounded state for each link.
//!
//! `machine` and `states` are the machines, `rules` the table, `profile` the known differences between programs, `open`
//! which reply answers what, `look` what is known and what a rule sees, `apply` how a message changes it, `session` what
//! each party of a link knows, `docs` the page.

mod apply;
mod dialect;
pub mod docs;
pub mod look;
pub mod machine;
pub mod open;
pub mod profile;
pub mod rule;
mod rules;
mod session;
pub mod states;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;

use crate::trace::{Event, EventKind, LinkId, Seq};
use crate::wire::{Channel, Message, Party, id};
use look::{Facts, Look, index, side};
use session::Session;

pub use profile::{Profile, Scope, Setting};
pub use rule::{Bound, Finding, Rule};
pub use rules::{GROUPS, rules};
pub use session::Arrival;
pub use states::{Enable, Run};

/// A rule that was broken.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The rule.
    pub rule: &'static Rule,
    /// The event that broke it.
    pub at: Seq,
    /// On which link.
    pub link: LinkId,
    /// Who broke it.
    pub party: Party,
    /// What the rule wants.
    pub expected: String,
    /// What was there.
    pub actual: String,
    /// The script did it, or the scenario allows it.
    pub deliberate: bool,
}

/// What a scenario decides for a peer that it plays.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Requests that it answers when and how it likes.
    pub answers: Vec<u32>,
    /// Its kicks and calls are the script's.
    pub signals: bool,
}

/// The monitor of a timeline.
#[derive(Debug)]
pub struct Monitor {
    profile: Profile,
    sessions: BTreeMap<usize, Session>,
    allowed: Vec<(String, bool)>,
    excused: BTreeMap<Setting, u64>,
}

impl Monitor {
    /// A monitor that puts up with what `profile` says, on every link.
    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            sessions: BTreeMap::new(),
            allowed: Vec::new(),
            excused: BTreeMap::new(),
        }
    }

    /// What is put up with on one link.
    pub fn set_profile(&mut self, link: LinkId, profile: Profile) {
        self.session(link).profile = profile;
    }

    /// What the scenario decides for a peer.
    pub fn set_script(&mut self, link: LinkId, party: Party, script: Script) {
        self.session(link).scripts[side(party)] = script;
    }

    /// Violations of this rule, or of a rule for this requirement, are deliberate.
    pub fn allow(&mut self, id: &str) {
        self.allowed.push((id.to_owned(), false));
    }

    /// What was allowed and never happened.
    pub fn never_happened(&self) -> impl Iterator<Item = &str> {
        self.allowed.iter().filter(|(_, seen)| !seen).map(|(id, _)| id.as_str())
    }

    /// The settings that excused something, and how often.
    pub fn excused(&self) -> impl Iterator<Item = (Setting, u64)> {
        self.excused.iter().map(|(setting, count)| (*setting, *count))
    }

    /// What arrives on this link is told, with [`Self::arrived`] and [`Self::close_arrived`]: from its next connection on each
    /// party is judged by what it has sent and what has reached it. Otherwise everything arrives as it was sent, at once.
    pub fn part(&mut self, link: LinkId) {
        self.session(link).tells_arrivals = true;
    }

    /// The script took a hand in what crosses the link: what arrives is not what was sent any more.
    pub fn disturbed(&mut self, link: LinkId) {
        self.session(link).disturbed();
    }

    /// A message reaches the other side: as it was sent, or as the script has made it.
    pub fn arrived(&mut self, link: LinkId, arrival: &Arrival) {
        self.session(link).arrived(arrival);
    }

    /// A party learns that the other one has closed a socket, or is made to believe it.
    pub fn close_arrived(&mut self, link: LinkId, channel: Channel, from: Party) {
        self.session(link).close_arrived(channel, from);
    }

    /// Requests that had to be answered by whom they have reached and were not, so far; none if it is not known what that is.
    pub fn owed(&self, link: LinkId) -> Vec<Seq> {
        self.sessions.get(&link.0).map(Session::owed).unwrap_or_default()
    }

    /// What is known of a link's connection, from all that was sent.
    pub fn facts(&self, link: LinkId) -> Option<&Facts> {
        self.sessions.get(&link.0).map(|session| &session.sent)
    }

    /// The two bits of a ring, if it was spoken of and they are certain.
    pub fn ring(&self, link: LinkId, ring: u32) -> Option<(Run, Enable)> {
        let facts = &self.sessions.get(&link.0)?.sent;
        let ring = facts
            .rings
            .get(&ring)
            .filter(|r| !r.is_unknown && !facts.is_uncertain)?;
        Some((ring.run, ring.enable))
    }

    /// Judges the next event of the timeline.
    pub fn observe(&mut self, event: &Event, seq: Seq) -> Vec<Violation> {
        let Some(link) = event.link else {
            return Vec::new();
        };
        match &event.kind {
            EventKind::Connected { .. } => {
                self.session(link).connected();
                Vec::new()
            }
            EventKind::Message {
                from,
                message,
                fds,
                size,
                scripted,
            } => {
                let session = self.session(link);
                if message.dialect.is_pci() {
                    if session.sent.is_lost {
                        return Vec::new();
                    }
                    let broken = session.both.observe(*from, message);
                    let excused = Vec::new();
                    return self.judge(Found { broken, excused }, seq, link, *from, *scripted);
                }
                let found = session.check(*from, message, fds, *size);
                let violations = self.judge(found, seq, link, *from, *scripted);
                let blame = Blame {
                    is_free: !violations.is_empty(),
                    is_deliberate: violations.iter().any(|v| v.deliberate),
                };
                self.session(link).sent(seq, *from, message, *size, blame);
                violations
            }
            kind => self.other(kind, seq, link),
        }
    }

    fn other(&mut self, kind: &EventKind, seq: Seq, link: LinkId) -> Vec<Violation> {
        let (party, is_signal) = match kind {
            EventKind::Malformed { from, .. } | EventKind::Closed { from, .. } => (*from, false),
            EventKind::Call { .. } => (Party::BackEnd, true),
            _ => return Vec::new(),
        };
        let session = self.session(link);
        if is_signal && session.scripts[side(party)].signals {
            return Vec::new();
        }
        let found = session.check_event(party, kind);
        session.take_event(kind);
        self.judge(found, seq, link, party, false)
    }

    /// Makes violations of what was found, and counts what was put up with.
    fn judge(&mut self, found: Found, seq: Seq, link: LinkId, party: Party, scripted: bool) -> Vec<Violation> {
        for setting in found.excused {
            *self.excused.entry(setting).or_default() += 1;
        }
        let mut violations = Vec::new();
        for (rule, finding) in found.broken {
            let mut deliberate = scripted;
            for (id, seen) in &mut self.allowed {
                if id == rule.id || rule.requirements.contains(&id.as_str()) {
                    (*seen, deliberate) = (true, true);
                }
            }
            violations.push(Violation {
                rule,
                at: seq,
                link,
                party,
                expected: finding.expected,
                actual: finding.actual,
                deliberate,
            });
        }
        violations
    }

    fn session(&mut self, link: LinkId) -> &mut Session {
        let profile = self.profile;
        self.sessions.entry(link.0).or_insert_with(|| Session::new(profile))
    }
}

/// How a request stands that breaks a rule.
#[derive(Debug, Clone, Copy, Default)]
struct Blame {
    /// Whatever comes of it is right.
    is_free: bool,
    /// It was meant to be so, and how it is taken is not known.
    is_deliberate: bool,
}

/// What the rules found in one event.
#[derive(Debug, Default)]
struct Found {
    broken: Vec<(&'static Rule, Finding)>,
    excused: Vec<Setting>,
}

impl Found {
    fn add(&mut self, rule: &'static Rule, finding: Finding, profile: Profile) {
        match finding.excuse.filter(|setting| profile.puts_up_with(*setting)) {
            Some(setting) => self.excused.push(setting),
            None => self.broken.push((rule, finding)),
        }
    }
}

/// The rules that a message breaks: all of the first group in which it breaks any.
fn check_message(look: &Look, profile: Profile) -> Found {
    let mut found = Found::default();
    for (_, group) in GROUPS {
        for rule in *group {
            if let rule::Check::Message(on, check) = rule.check
                && on.fits(look)
                && let Some(finding) = check(rule, look)
            {
                found.add(rule, finding, profile);
            }
        }
        if !found.broken.is_empty() {
            break;
        }
    }
    found
}

impl Facts {
    /// A message broke a rule on purpose: what it left behind depends on how the peer took it.
    fn disturb(&mut self, message: &Message) {
        match (message.channel, message.request) {
            (Channel::Main, id::frontend::SET_FEATURES | id::frontend::SET_PROTOCOL_FEATURES) => {
                (self.is_uncertain, self.negotiation_is_uncertain) = (true, true);
            }
            // nothing follows from what only asks or is not known
            (Channel::Main, id::frontend::GET_FEATURES | id::frontend::GET_PROTOCOL_FEATURES) => {}
            (Channel::Main, id::frontend::GET_QUEUE_NUM | id::frontend::GET_CONFIG | id::frontend::GET_STATUS) => {}
            (Channel::Main, id::frontend::SEND_RARP | id::frontend::NET_SET_MTU) => {}
            _ if message.spec().is_none() => {}
            _ => self.is_uncertain = true,
        }
    }

    fn take_event(&mut self, kind: &EventKind) {
        match kind {
            EventKind::Closed { from, channel, .. } => self.closed[index(*channel)][side(*from)] = true,
            EventKind::Malformed { .. } => self.is_lost = true,
            EventKind::Call { ring, .. } => {
                if let Some(ring) = self.rings.get_mut(&u32::from(*ring)) {
                    ring.fresh_call = false;
                }
            }
            _ => {}
        }
    }
}
