//! Judges a conversation that is over: whatever reads a finished timeline and knows of no scenario is asked here, and what
//! all of them find comes out in the order of the events. `vuh trace check` and the tests of `traces/` stand on it.

use super::acks;
use super::monitor::{Monitor, Profile, Setting, Violation};
use super::oracle::rule_told;
use crate::trace::file::Trace;
use crate::trace::{EventKind, LinkId, PeerId, Seq};
use crate::wire::Party;

/// The rule that a process cannot help breaking when it is killed.
const CUT_SHORT: &str = "cut-short";

/// A rule of the monitor, and who broke it.
type Broken = (&'static str, Party);

/// Something wrong with a recorded conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line of the file on which it shows.
    pub line: usize,
    /// Who did it, if that is known.
    pub party: Option<Party>,
    /// The rule of the monitor, if it was that.
    pub rule: Option<&'static str>,
    /// What.
    pub what: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Faults, in the order of the file.
    pub faults: Vec<Fault>,
    /// Known differences between the text and real programs that were put up with, and how often.
    pub excused: Vec<(Setting, u64)>,
    /// Events of connections whose beginning is missing, which are not judged.
    pub left_out: usize,
}

/// Programs that the trace does not name, for their known differences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The front-end.
    pub frontend: Option<String>,
    /// The back-end.
    pub backend: Option<String>,
}

/// Asks every judge.
pub fn check(trace: &Trace, told: &Told) -> Judgement {
    let judged = trace.judged();
    let mut monitor = Monitor::new(profile(trace, told));
    let mut found: Vec<(Seq, Option<Broken>, String)> = Vec::new();
    for (seq, event) in judged.timeline.since(Seq(0)) {
        for violation in monitor.observe(event, seq) {
            if violation.rule.id != CUT_SHORT || !was_ended(trace, &violation) {
                let rule = Some((violation.rule.id, violation.party));
                found.push((seq, rule, broken(trace, &violation)));
            }
        }
    }
    for fault in acks::check(&judged.timeline) {
        // the monitor has said it better
        if found.iter().all(|(seq, ..)| *seq != fault.at) {
            found.push((fault.at, None, fault.what));
        }
    }
    let fault = |(seq, rule, what): (Seq, Option<Broken>, _)| Fault {
        line: judged.lines.get(seq.0).copied().unwrap_or_default(),
        party: rule.map(|(_, party)| party),
        rule: rule.map(|(rule, _)| rule),
        what,
    };
    let mut faults: Vec<Fault> = found.into_iter().map(fault).chain(in_rings(trace)).collect();
    faults.sort_by_key(|fault| fault.line);
    Judgement {
        faults,
        excused: monitor.excused().collect(),
        left_out: judged.left_out,
    }
}

/// What was found in the rings when it was recorded.
fn in_rings(trace: &Trace) -> impl Iterator<Item = Fault> + '_ {
    let lines = trace.lines.iter();
    trace.events.iter().zip(lines).filter_map(|(event, line)| {
        let EventKind::Fault { what } = &event.kind else {
            return None;
        };
        let rule = rule_told(what)?;
        let peer = event.peer.and_then(|peer| trace.header.peers.get(peer.0));
        let name = peer.map_or_else(String::new, |peer| format!("`{}` ", peer.name));
        Some(Fault {
            line: *line,
            party: peer.map(|peer| peer.party),
            rule: Some(rule.id),
            what: format!("{name}{what} ({})", rule.requirements.join(", ")),
        })
    })
}

fn profile(trace: &Trace, told: &Told) -> Profile {
    let told = [(Party::FrontEnd, &told.frontend), (Party::BackEnd, &told.backend)];
    let told = told
        .into_iter()
        .filter_map(|(party, program)| Some((party, program.as_deref()?)));
    let named = trace.header.peers.iter().map(|peer| (peer.party, peer.player.as_str()));
    named
        .chain(told)
        .fold(Profile::practice(), |profile, (party, program)| {
            profile.program(party, program)
        })
}

fn broken(trace: &Trace, violation: &Violation) -> String {
    let Violation {
        rule,
        link: LinkId(link),
        party,
        expected,
        actual,
        ..
    } = violation;
    let name = trace.header.peers.iter().find(|peer| peer.party == *party);
    let name = name.map_or_else(|| party.to_string(), |peer| format!("`{}`", peer.name));
    let link = if *link > 0 {
        format!(" on link {link}")
    } else {
        String::new()
    };
    let requirements = rule.requirements.join(", ");
    format!(
        "{name} broke the rule `{}`{link}: expected {expected}; actual {actual} ({requirements})",
        rule.id
    )
}

/// Whether its process was killed or asked to end.
fn was_ended(trace: &Trace, violation: &Violation) -> bool {
    let is_its = |peer: PeerId| {
        trace
            .header
            .peers
            .get(peer.0)
            .is_some_and(|p| p.party == violation.party)
    };
    trace.events.iter().any(|event| match &event.kind {
        EventKind::Exited { exit, asked } => {
            event.peer.is_some_and(is_its) && (*asked || matches!(exit, crate::sys::child::Exit::Signal(_)))
        }
        _ => false,
    })
}
