//! The judges beside a run: the protocol monitor reads every event as it comes, the ring oracle looks into shared memory
//! before each of them. What a peer does wrong of its own accord ends the scenario.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

use super::failure::{Result, Stop};
use super::resolve::{Peer, Player};
use super::run::Run;
use crate::judge::monitor::{Arrival, Monitor, Profile, Script, Violation};
use crate::judge::oracle::{Alarm, Mark, Oracle, Seen, Terms};
use crate::link::Parcel;
use crate::peer::catalogue::Driver;
use crate::scenario::span::At;
use crate::scenario::{Diagnostic, Plan};
use crate::spec::requirement;
use crate::sys::fd::{duplicate, fd_type};
use crate::trace::{EventKind, LinkId, PeerId, Seq};
use crate::wire::{Channel, DeviceKind, Message, Party};

/// The rule that a process cannot help breaking when it is killed.
const CUT_SHORT: &str = "cut-short";

/// The name of the reference peers in the catalogue.
const REFERENCE: &str = "reference";
/// And of QEMU.
const QEMU: &str = "qemu";
/// Findings in the rings of a recording that are told.
const TOLD_MAX: usize = 4096;
/// Those of which there is a line in the end.
const LINES_MAX: usize = 32;
/// How often rings are looked at while nothing else happens. What a device writes there, nobody is told of.
pub(super) const LOOK_INTERVAL_MS: u64 = 1;

/// The judges that watch a run from its first event on, and what they have found.
#[derive(Debug)]
pub(super) struct Watchers {
    monitor: Monitor,
    oracle: Oracle,
    /// The first event that they have not seen.
    next: Seq,
    /// Links of which they know who is at their ends.
    links: usize,
    /// What a peer did of its own accord, until the run looks.
    violations: Vec<Violation>,
    /// The same in a ring.
    alarms: Vec<Alarm>,
    /// Links over whose rings threads of their own move frames.
    crowded: BTreeSet<LinkId>,
    /// Rings are looked into although this is a recording.
    looks: Option<Told>,
}

/// What a recording has told of its rings.
#[derive(Debug, Default)]
struct Told {
    /// Which rules, of which connection's which ring: a fault that lasts is told once.
    rules: BTreeSet<(LinkId, u32, &'static str)>,
    lines: Vec<String>,
    count: u64,
}

/// What was seen in the rings of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rings {
    /// Rules that were broken, each once a ring and connection.
    pub broken: u64,
    /// The first of them, in words.
    pub lines: Vec<String>,
    /// The marks that were set.
    pub marks: Vec<&'static str>,
}

/// What the oracle gets to see of a message that hands over memory.
#[derive(Debug)]
pub(super) struct Files {
    message: Message,
    copies: Vec<OwnedFd>,
}

impl Watchers {
    /// Judges that put up with what the scenario allows.
    pub(super) fn new(plan: &Plan) -> Self {
        let (mut monitor, mut oracle) = (Monitor::new(Profile::practice()), Oracle::new());
        for id in &plan.scenario.allow {
            monitor.allow(&id.value);
            oracle.allow(&id.value);
        }
        Self {
            monitor,
            oracle,
            next: Seq::default(),
            links: 0,
            violations: Vec::new(),
            alarms: Vec::new(),
            crowded: BTreeSet::new(),
            looks: None,
        }
    }

    /// Requests that have reached somebody who has to answer them and has not, so far.
    pub(super) fn owed(&self, link: LinkId) -> Vec<Seq> {
        self.monitor.owed(link)
    }

    /// Whether rings have to be looked at from time to time.
    pub(super) fn needs_looks(&self) -> bool {
        self.oracle.is_watching()
    }

    /// What deliveries have seen happen in rings.
    pub(super) fn told(&mut self, mark: Mark) {
        self.oracle.told(mark);
    }

    /// What has happened in the rings.
    pub(super) fn marks(&self) -> &BTreeSet<Mark> {
        self.oracle.marks()
    }
}

impl Run<'_> {
    /// Shows the judges what has happened since the last time.
    pub(super) fn watch(&mut self) {
        if !self.is_watched() {
            // a recording goes on whatever happens, and is judged when it is read
            return;
        }
        for link in self.watchers.links..self.links.len() {
            self.watch_link(LinkId(link));
        }
        self.watchers.links = self.links.len();
        let now = self.clock.now();
        let Watchers {
            monitor,
            oracle,
            next,
            violations,
            alarms,
            ..
        } = &mut self.watchers;
        for (seq, event) in self.timeline.since(*next) {
            violations.extend(monitor.observe(event, seq).into_iter().filter(|v| !v.deliberate));
            if let Some(link) = event.link
                && !self.dialect.is_pci()
                && let Some(facts) = monitor.facts(link)
            {
                alarms.extend(own(oracle.event(link, &event.kind, facts, now)));
            }
        }
        *next = self.timeline.end();
        self.tell_alarms();
    }

    /// Whether anybody looks. Of a recording, only into its rings, and only if that was asked for.
    fn is_watched(&self) -> bool {
        !self.timeline.is_recorded() || self.watchers.looks.is_some()
    }

    /// Rings are looked into while this run is recorded.
    pub(super) fn look_while_recording(&mut self) {
        self.watchers.looks = Some(Told::default());
    }

    /// Puts what was found in the rings of a recording into it.
    fn tell_alarms(&mut self) {
        let Some(told) = &mut self.watchers.looks else { return };
        // its messages are judged when it is read
        self.watchers.violations.clear();
        for alarm in self.watchers.alarms.drain(..) {
            let is_new = told.rules.len() < TOLD_MAX && told.rules.insert((alarm.link, alarm.ring, alarm.rule.id));
            if !is_new {
                continue;
            }
            told.count += 1;
            let peer = self.links[alarm.link.0].peer(alarm.party);
            if told.lines.len() < LINES_MAX {
                told.lines
                    .push(format!("`{}` {}", self.peers[peer.0].spec.name, alarm.told()));
            }
            let what = alarm.told();
            self.timeline
                .push(Some(peer), Some(alarm.link), EventKind::Fault { what });
        }
        self.watchers.next = self.timeline.end();
    }

    /// What was seen in the rings of a recording, if that was asked for. What happened there stands in it from here on.
    pub(super) fn rings_seen(&mut self) -> Option<Rings> {
        self.watch();
        let told = self.watchers.looks.take()?;
        let marks: Vec<&str> = self.watchers.marks().iter().map(|mark| mark.id()).collect();
        if !marks.is_empty() {
            let what = format!("seen in the rings: {}", marks.join(", "));
            self.timeline.push(None, None, EventKind::Data { what });
        }
        Some(Rings {
            broken: told.count,
            lines: told.lines,
            marks,
        })
    }

    /// Looks at the rings of a link, before something about it becomes known.
    pub(super) fn look(&mut self, link: LinkId) {
        if !self.watchers.needs_looks() {
            return;
        }
        let now = self.clock.now();
        let alarms = own(self.watchers.oracle.look(link, now));
        self.watchers.alarms.extend(alarms);
    }

    /// Looks at all rings. True if something is wrong there.
    pub(super) fn look_at_rings(&mut self) -> bool {
        (0..self.links.len()).for_each(|link| self.look(LinkId(link)));
        !self.watchers.alarms.is_empty()
    }

    /// A step writes to the memory of a peer: what it does to rings there is nobody's fault.
    pub(super) fn note_write(&mut self, peer: PeerId, address: u64, bytes: usize) {
        if let Some(link) = self.peers[peer.0].link {
            self.look(link);
            self.watchers.oracle.disturbed(link, address, bytes as u64);
        }
    }

    /// Copies of the memory that the front-end hands over with a message, for the oracle.
    pub(super) fn copy_files(&self, from: Party, message: &Message, fds: &[OwnedFd]) -> Option<Files> {
        // the oracle follows the ring states of vhost-user
        if from != Party::FrontEnd || self.dialect.is_pci() || !Oracle::wants_files(message) || !self.is_watched() {
            return None;
        }
        let copies: std::io::Result<_> = fds.iter().map(duplicate).collect();
        // out of descriptors: the rings are not looked at
        let copies = copies.unwrap_or_default();
        let message = message.clone();
        Some(Files { message, copies })
    }

    /// Gives it those copies, once it knows of the message.
    pub(super) fn show_files(&mut self, link: LinkId, files: Files) {
        let now = self.clock.now();
        let Watchers { monitor, oracle, .. } = &mut self.watchers;
        if let Some(facts) = monitor.facts(link) {
            oracle.take_files(link, &files.message, files.copies, facts, now);
        }
    }

    /// Ends the scenario if a judge has found something.
    pub(super) fn check_watchers(&mut self) -> Result<()> {
        self.watch();
        let violations = std::mem::take(&mut self.watchers.violations);
        if let Some(violation) = violations.iter().find(|v| !self.was_killed(v)) {
            return Err(Stop::wrong(self.broken_rule(violation)));
        }
        let Some(alarm) = self.watchers.alarms.first() else {
            return Ok(());
        };
        // a pump that follows the ring comes to the same fault, and its word counts: it misses none, whereas the oracle may be
        // the first to see it or never see it at all
        let link = &self.links[alarm.link.0];
        self.ring_trouble([link.front, link.back])?;
        Err(Stop::wrong(self.broken_ring(alarm)))
    }

    /// A message reaches a party, as it is now.
    pub(super) fn note_arrival(&mut self, link: LinkId, from: Party, seq: Option<Seq>, parcel: &Parcel) {
        if self.timeline.is_recorded() || self.dialect.is_pci() {
            return;
        }
        // what the party has said until now it has said without knowing of it
        self.watch();
        let (message, size) = self.spoken(link, &parcel.message, &parcel.chunk.bytes, true);
        let fds: Vec<_> = parcel.chunk.fds.iter().map(|fd| fd_type(fd.as_fd())).collect();
        let arrival = Arrival {
            seq: seq.unwrap_or(Seq(self.timeline.end().0.saturating_sub(1))),
            from,
            message: &message,
            fds: &fds,
            size,
        };
        self.watchers.monitor.arrived(link, &arrival);
    }

    /// The close of a socket reaches a party.
    pub(super) fn note_close(&mut self, link: LinkId, channel: Channel, from: Party) {
        if !self.timeline.is_recorded() {
            self.watch();
            self.watchers.monitor.close_arrived(link, channel, from);
        }
    }

    /// From here on what arrives on a link is not what the timeline says. What came before is judged still.
    pub(super) fn disturbed(&mut self, link: LinkId) {
        self.watch();
        self.watchers.monitor.disturbed(link);
    }

    /// What was allowed and never happened: the scenario says more than it needs.
    pub(super) fn unneeded(&self) -> Option<String> {
        let in_rings: BTreeSet<&str> = self.watchers.oracle.never_happened().collect();
        let never = self.watchers.monitor.never_happened();
        let ids: Vec<&str> = never.filter(|id| in_rings.contains(id)).collect();
        (!ids.is_empty()).then(|| format!("note: allowed and never happened: {}", ids.join(", ")))
    }

    /// Frames are moved over the rings of a link by threads of their own from here on.
    pub(super) fn crowd(&mut self, link: LinkId) {
        if self.watchers.crowded.insert(link) {
            self.watch();
            self.watch_link(link);
        }
    }

    fn watch_link(&mut self, link: LinkId) {
        let mut profile = Profile::practice();
        for party in [Party::FrontEnd, Party::BackEnd] {
            let peer = &self.peers[self.links[link.0].peer(party).0].spec;
            match program(peer) {
                Some(program) => profile = profile.program(party, program),
                // it may be any program
                None if !peer.is_simulated() => profile = profile.lenient_about_rings(),
                None => {}
            }
            let answers = peer.answers.iter().map(|(id, _)| *id);
            let script = Script {
                answers: peer.manual.iter().copied().chain(answers).collect(),
                signals: peer.is_simulated(),
            };
            self.watchers.monitor.set_script(link, party, script);
        }
        self.watchers.monitor.set_profile(link, profile);
        if !self.timeline.is_recorded() {
            self.watchers.monitor.part(link);
        }
        let (front, back) = (self.links[link.0].front, self.links[link.0].back);
        let (front, back) = (&self.peers[front.0].spec, &self.peers[back.0].spec);
        // pumps move faster than anybody looks, and while it is looked
        let crowded = self.watchers.crowded.contains(&link);
        let terms = Terms {
            profile,
            // these two drivers are the harness's own
            is_paced: !crowded && (front.is_simulated() || front.has_qtest() || is_paced(front)),
            driver_is_ours: !crowded && front.is_simulated(),
            // virtio-queue, behind the reference peers, does as the simulated devices do
            device_is_plain: !crowded && back.is_simulated() || program(back) == Some(REFERENCE),
            is_net: [front.kind, back.kind].contains(&DeviceKind::Net),
        };
        self.watchers.oracle.set_terms(link, terms);
    }

    fn was_killed(&self, violation: &Violation) -> bool {
        let peer = self.culprit(violation);
        violation.rule.id == CUT_SHORT && self.peers[peer.0].asked_to_end
    }

    fn culprit(&self, violation: &Violation) -> PeerId {
        self.links[violation.link.0].peer(violation.party)
    }

    fn broken_rule(&self, violation: &Violation) -> Diagnostic {
        let rule = violation.rule;
        let peer = &self.peers[self.culprit(violation).0].spec;
        let diagnostic = Diagnostic::error(format!("`{}` broke the rule `{}` of the protocol", peer.name, rule.id))
            .at(peer.span)
            .expected_actual(&violation.expected, &violation.actual)
            .footer(format!("rule      {}", rule.text))
            .footer(format!("at        {}", self.timeline.describe_when(violation.at)));
        with_requirements(diagnostic, rule.requirements).help(permission(rule.id))
    }

    fn broken_ring(&self, alarm: &Alarm) -> Diagnostic {
        let rule = alarm.rule;
        let peer = &self.peers[self.links[alarm.link.0].peer(alarm.party).0].spec;
        let (name, ring, id) = (&peer.name, alarm.ring, rule.id);
        let mut diagnostic = Diagnostic::error(format!("`{name}` broke the rule `{id}` in ring {ring}"))
            .at(peer.span)
            .expected_actual(&alarm.expected, &alarm.actual)
            .footer(format!("rule      {}", rule.text));
        if !rule.section.is_empty() {
            diagnostic = diagnostic.footer(format!("source    virtio 1.3, section {}", rule.section));
        }
        with_requirements(diagnostic, rule.requirements).help(permission(rule.id))
    }

    /// What the oracle has seen pass in a ring.
    pub(super) fn ring_seen(&self, link: LinkId, ring: u32) -> Option<Seen> {
        self.watchers.oracle.seen(link, ring)
    }

    /// Whether what a scenario says must have happened in the rings has happened.
    pub(super) fn check_marks(&self, wanted: &[At<String>]) -> Result<()> {
        let marks = self.watchers.marks();
        let is_there = |name: &str| marks.iter().any(|mark| mark.id() == name);
        let Some(missing) = wanted.iter().find(|name| !is_there(&name.value)) else {
            return Ok(());
        };
        let seen: Vec<&str> = marks.iter().map(|mark| mark.id()).collect();
        let mark = Mark::ALL.iter().find(|mark| mark.id() == missing.value);
        let diagnostic = Diagnostic::error(format!("`{}` did not happen", missing.value))
            .at(missing.span)
            .label(mark.map_or("", |mark| mark.text()))
            .expected_actual(
                &missing.value,
                if seen.is_empty() {
                    "no mark".to_owned()
                } else {
                    seen.join(", ")
                },
            );
        Err(Stop::wrong(diagnostic))
    }
}

/// What nobody meant to happen.
fn own(alarms: Vec<Alarm>) -> impl Iterator<Item = Alarm> {
    alarms.into_iter().filter(|alarm| !alarm.deliberate)
}

fn with_requirements(diagnostic: Diagnostic, ids: &[&str]) -> Diagnostic {
    let found = ids.iter().filter_map(|id| Some((id, requirement(id).ok()?)));
    found.fold(diagnostic, |diagnostic, (id, found)| {
        diagnostic.footer(format!("{id} {}: {}", found.level, found.text))
    })
}

fn permission(rule: &str) -> String {
    format!("if it is meant to happen here: `allow: [{rule}]`")
}

/// Whether the catalogue says of a program that it moves little.
fn is_paced(peer: &Peer) -> bool {
    matches!(&peer.player, Player::Program(entry) if entry.paced)
}

/// The program behind a peer, as far as it is known.
fn program(peer: &Peer) -> Option<&str> {
    match &peer.player {
        // whoever drives it, it is QEMU that speaks
        Player::Program(entry) if entry.driver != Driver::None => Some(QEMU),
        Player::Program(entry) => Some(&entry.peer),
        Player::Command(words) => words.first().map(String::as_str),
        Player::Simulated | Player::Listen(_) | Player::Connect(_) => None,
    }
}
