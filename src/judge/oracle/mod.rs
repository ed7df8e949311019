//! The ring oracle: reads the rings in shared memory while peers use them, and judges what it sees by a table of rules.
//! Where nothing is wrong, marks say what did happen, so that silence means something.
//!
//! It looks whenever it is told to, takes from the protocol monitor where the session stands, and knows nothing of who
//! maps memory for it. Everything in shared memory may change under it or be nonsense: no index, length or address from there
//! is trusted, each look is bounded, and what cannot be told for certain is not judged.
//!
//! `rules` is the table, `rule` what a rule sees, `split` and `packed` follow a ring, `chain` reads descriptors, `watch`
//! follows the rings of a link, `mark` names the marks, `told` puts findings into traces, `docs` writes the page.

mod chain;
pub mod docs;
mod mark;
mod packed;
mod rule;
mod rules;
mod split;
#[cfg(test)]
mod tests;
mod told;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use crate::judge::monitor::look::Facts;
use crate::judge::monitor::{Finding, Profile, Setting};
use crate::memory::{GuestAccess, LOG_PAGE_BYTES};
use crate::sys::clock::Moment;
use crate::trace::{EventKind, LinkId};
use crate::wire::{Channel, Message, Party, id};
use chain::Chain;
use watch::Watch;

pub use mark::Mark;
pub use rule::{Rule, Sight, Standing, Trace};
pub use rules::RULES;
pub use told::rule_told;

/// Descriptors that are read in one look at one ring, at most.
const DESCRIPTORS_A_LOOK: u32 = 8192;
/// Findings of one look at one ring that are kept.
const FOUND_MAX: usize = 16;
/// Written pages that wait for their bit in the dirty log, of one ring.
const PAGES_MAX: usize = 4096;

/// A rule that was broken in a ring.
#[derive(Debug, Clone)]
pub struct Alarm {
    /// The rule.
    pub rule: &'static Rule,
    /// On which link.
    pub link: LinkId,
    /// In which ring.
    pub ring: u32,
    /// Who broke it.
    pub party: Party,
    /// What the rule wants.
    pub expected: String,
    /// What was there.
    pub actual: String,
    /// The scenario allows it.
    pub deliberate: bool,
}

/// Chains of a ring that were judged while the device had them, those of them that came back, and what was logged of that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Made available.
    pub available: u64,
    /// Returned.
    pub returned: u64,
    /// Pages of their buffers, found marked in the dirty log.
    pub logged: u64,
}

/// What is known of the peers of a link beforehand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    /// What is put up with.
    pub profile: Profile,
    /// The driver makes chains available no faster than they are looked at: between two looks the index never comes round.
    pub is_paced: bool,
    /// The driver is the harness's own front-end: it does nothing while a look is taken, writes nothing to the used ring of a
    /// ring that is stopped, and leaves the bits of the dirty log alone, so that one that is missing was never set.
    pub driver_is_ours: bool,
    /// The device publishes each used element before it writes the next one.
    pub device_is_plain: bool,
    /// The device is a network card: rings with an even number receive.
    pub is_net: bool,
}

/// The oracle of a run.
#[derive(Debug, Default)]
pub struct Oracle {
    links: BTreeMap<usize, Watch>,
    allowed: Vec<(String, bool)>,
    marks: BTreeSet<Mark>,
    excused: BTreeMap<Setting, u64>,
}

impl Oracle {
    /// An oracle that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known of a link's peers.
    pub fn set_terms(&mut self, link: LinkId, terms: Terms) {
        self.links.entry(link.0).or_default().terms = terms;
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

    /// What has happened so far.
    pub fn marks(&self) -> &BTreeSet<Mark> {
        &self.marks
    }

    /// Chains of a ring that were seen to come and go since it was started; none if it is not followed, or not any more.
    pub fn seen(&self, link: LinkId, ring: u32) -> Option<Seen> {
        self.links.get(&link.0)?.seen(ring)
    }

    /// Something that happened in rings which nobody else can see: told by whoever moved the frames.
    pub fn told(&mut self, mark: Mark) {
        self.marks.insert(mark);
    }

    /// Whether there is a ring to look at, so that looks from time to time are worth it.
    pub fn is_watching(&self) -> bool {
        self.links.values().any(Watch::is_watching)
    }

    /// Whether it has a use for copies of the files that come with this message of the front-end.
    pub fn wants_files(message: &Message) -> bool {
        use id::frontend::{ADD_MEM_REG, SET_INFLIGHT_FD, SET_LOG_BASE, SET_MEM_TABLE};
        message.channel == Channel::Main
            && !message.is_reply()
            && [SET_MEM_TABLE, ADD_MEM_REG, SET_LOG_BASE, SET_INFLIGHT_FD].contains(&message.request)
    }

    /// Takes the files of such a message, after its event. They are mapped for reading only; what cannot be mapped is not looked at.
    pub fn take_files(&mut self, link: LinkId, message: &Message, files: Vec<OwnedFd>, facts: &Facts, now: Moment) {
        let watch = self.links.entry(link.0).or_default();
        watch.take_files(message, files, facts);
        watch.follow(facts, now, &mut self.marks);
    }

    /// Takes in an event of a link, after the monitor has. `facts` is what the monitor knows now.
    pub fn event(&mut self, link: LinkId, kind: &EventKind, facts: &Facts, now: Moment) -> Vec<Alarm> {
        let watch = self.links.entry(link.0).or_default();
        let found = watch.event(kind, facts, now, &mut self.marks);
        self.judge(link, found)
    }

    /// Looks at the rings of a link. Best before each event is taken in, and from time to time.
    pub fn look(&mut self, link: LinkId, now: Moment) -> Vec<Alarm> {
        let Some(watch) = self.links.get_mut(&link.0) else {
            return Vec::new();
        };
        let found = watch.look(now, &mut self.marks);
        self.judge(link, found)
    }

    /// The scenario writes there itself: rings that this touches are not judged until they are started again.
    pub fn disturbed(&mut self, link: LinkId, address: u64, bytes: u64) {
        if let Some(watch) = self.links.get_mut(&link.0) {
            watch.disturbed(address, bytes);
        }
    }

    fn judge(&mut self, link: LinkId, found: Vec<Found>) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        for Found { ring, rule, finding } in found {
            let profile = self.links.get(&link.0).map(|w| w.terms.profile).unwrap_or_default();
            if let Some(setting) = finding.excuse.filter(|setting| profile.puts_up_with(*setting)) {
                *self.excused.entry(setting).or_default() += 1;
                continue;
            }
            let mut deliberate = false;
            for (id, seen) in &mut self.allowed {
                if id == rule.id || rule.requirements.contains(&id.as_str()) {
                    (*seen, deliberate) = (true, true);
                }
            }
            let party = if rule.party.binds(Party::BackEnd) {
                Party::BackEnd
            } else {
                Party::FrontEnd
            };
            alarms.push(Alarm {
                rule,
                link,
                ring,
                party,
                expected: finding.expected,
                actual: finding.actual,
                deliberate,
            });
        }
        alarms
    }
}

/// A rule that does not hold in a ring.
#[derive(Debug)]
struct Found {
    ring: u32,
    rule: &'static Rule,
    finding: Finding,
}

/// What a ring needs to know for a look.
struct Ground<'a> {
    mem: &'a dyn GuestAccess,
    event_idx: bool,
    indirect: bool,
    /// Chains come back in the order in which they were made available, and one element may stand for several.
    in_order: bool,
    /// The last look was so short a time ago that no index can have come round.
    is_fresh: bool,
    /// Writes have been logged since before the last look.
    is_logged: bool,
    /// The same for the used ring, at this address.
    used_log: Option<u64>,
    /// The ring has been disabled since before the last look.
    disabled: bool,
    receives: bool,
    /// The driver writes to no slot that it has not published.
    driver_is_plain: bool,
    device_is_plain: bool,
    /// The driver leaves the used ring alone while the ring is stopped.
    driver_is_quiet: bool,
}

/// Where a look leaves what it sees.
struct Sink<'a> {
    ring: u32,
    found: &'a mut Vec<Found>,
    marks: &'a mut BTreeSet<Mark>,
    /// Pages that were written and are to be in the dirty log: number, and whether it is the used ring's.
    pages: &'a mut BTreeSet<(u64, bool)>,
    seen: &'a mut Seen,
}

impl Sink<'_> {
    fn see(&mut self, sight: &Sight) {
        match sight {
            Sight::Chain(_) => self.seen.available += 1,
            Sight::Returned { chain: Some(_), .. } => self.seen.returned += 1,
            _ => {}
        }
        for rule in RULES {
            if self.found.len() < FOUND_MAX
                && let Some(finding) = (rule.check)(sight)
            {
                let ring = self.ring;
                self.found.push(Found { ring, rule, finding });
            }
        }
    }

    fn mark(&mut self, mark: Mark) {
        self.marks.insert(mark);
    }

    fn has(&self, mark: Mark) -> bool {
        self.marks.contains(&mark)
    }

    /// A chain that the device is certain to have.
    fn judge(&mut self, chain: &Chain) {
        self.mark(Mark::ChainJudged);
        if chain.descriptors > 1 {
            self.mark(Mark::ManyDescriptors);
        }
        if chain.indirect {
            self.mark(Mark::IndirectUsed);
        }
        self.see(&Sight::Chain(chain));
    }

    /// The device wrote there while it had to log.
    fn wrote(&mut self, address: u64, bytes: u64, used: bool) {
        let last = address.saturating_add(bytes.saturating_sub(1)) / LOG_PAGE_BYTES;
        for page in address / LOG_PAGE_BYTES..=last {
            if self.pages.len() >= PAGES_MAX {
                return;
            }
            self.pages.insert((page, used));
        }
    }
}
