//! Checks what types cannot say: that names exist, that a step is possible for the peer it is about, that what waits is
//! let go, that what is bound is used. Reports everything it finds.

mod asks;
mod control;
mod empty;
mod flow;
mod messages;
mod numbers;
mod patterns;
mod pci;
mod peers;
mod schedule;
mod steps;
mod traffic;
mod values;
mod waits;

use super::diagnostic::{Diagnostic, SourceFile};
use super::model::Scenario;
use super::plan::Plan;
use super::scalar::Node;
use super::span::At;
use super::suggest::did_you_mean;
use crate::spec::{RING_RULE_IDS, RULE_IDS, all};
use crate::wire::Party;
use peers::{Kind, Peer};

/// Everything that is wrong with a plan. `tree` is what its scenario was read from, fragments put in.
pub(super) fn validate(plan: &Plan, tree: &At<Node>) -> Vec<Diagnostic> {
    let scenario = &plan.scenario;
    let mut wrong = parts(plan);
    if scenario.steps.is_empty() {
        let id = scenario.scenario.span;
        wrong.push(Diagnostic::error("a scenario without steps shows nothing").at(id));
    }
    wrong.append(&mut empty::unused_peers(scenario, tree));
    empty::no_time(tree, &mut wrong);
    wrong.append(&mut waits::check(&scenario.steps));
    wrong.append(&mut flow::check(plan, tree));
    wrong
}

/// What is wrong with the parts of a plan, each taken by itself: others may be missing because they cannot be read.
pub(super) fn parts(plan: &Plan) -> Vec<Diagnostic> {
    let scenario = &plan.scenario;
    let mut cx = Cx {
        scenario,
        sources: &plan.sources,
        peers: Vec::new(),
        wrong: Vec::new(),
    };
    cx.header();
    cx.declarations();
    cx.slowed();
    cx.model();
    cx.steps(&scenario.steps);
    cx.length(&scenario.steps);
    cx.checks(&scenario.check);
    cx.wrong
}

/// The id against the file's path: all of it below a folder called `scenarios`, else its last word.
pub(super) fn id_and_path(id: &At<String>, path: Option<(String, bool)>) -> Option<Diagnostic> {
    let (words, whole) = path?;
    let last = |text: &str| text.rsplit('/').next().unwrap_or("").to_owned();
    let agrees = if whole {
        id.value == words
    } else {
        last(&id.value) == last(&words)
    };
    let wrong = || {
        Diagnostic::error(format!("the id `{}` differs from the file's path", id.value))
            .at(id.span)
            .help(format!(
                "the path says `{words}`; ids are permanent: rename the file if it was the file that moved"
            ))
    };
    (!agrees).then(wrong)
}

/// Errors of one file after which its other steps are not looked at: many more than are shown.
const ERRORS_MAX: usize = 200;

struct Cx<'a> {
    scenario: &'a Scenario,
    sources: &'a [SourceFile],
    peers: Vec<Peer<'a>>,
    wrong: Vec<Diagnostic>,
}

impl<'a> Cx<'a> {
    fn report(&mut self, error: Diagnostic) {
        self.wrong.push(error);
    }

    fn header(&mut self) {
        let id = &self.scenario.scenario;
        let word = |word: &str| {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            !word.is_empty() && word.chars().all(legal) && !word.starts_with('-') && !word.ends_with('-')
        };
        if !id.value.split('/').all(word) {
            self.report(
                Diagnostic::error(format!("`{}` is not an id", id.value))
                    .at(id.span)
                    .help("ids are lower-case words joined by `-`, folders by `/`: `race/config-change`"),
            );
        }
        if self.scenario.about.value.trim().is_empty() {
            let about = self.scenario.about.span;
            self.report(
                Diagnostic::error("`about` says nothing")
                    .at(about)
                    .help("say what is broken when this fails"),
            );
        }
        for id in &self.scenario.covers {
            if let Err(unknown) = crate::spec::requirement(&id.value) {
                let help = did_you_mean(&id.value, unknown.suggestions.iter().copied());
                self.report(
                    Diagnostic::error(format!("no requirement is called `{}`", id.value))
                        .at(id.span)
                        .maybe_help(help),
                );
            }
        }
        for id in &self.scenario.allow {
            let mut rules = RULE_IDS.iter().chain(RING_RULE_IDS).copied();
            if !rules.any(|rule| rule == id.value) && crate::spec::requirement(&id.value).is_err() {
                let rules = RULE_IDS.iter().chain(RING_RULE_IDS).copied();
                let known = rules.chain(all().iter().map(|r| r.id.as_str()));
                let help = did_you_mean(&id.value, known);
                self.report(
                    Diagnostic::error(format!("no rule and no requirement is called `{}`", id.value))
                        .at(id.span)
                        .maybe_help(help),
                );
            }
        }
    }

    /// The peer of that name.
    fn peer(&mut self, name: &At<String>) -> Option<Peer<'a>> {
        if let Some(peer) = self.peers.iter().find(|peer| peer.name.value == name.value) {
            return Some(*peer);
        }
        let names: Vec<&str> = self.scenario.peers.keys().collect();
        if names.contains(&name.value.as_str()) {
            // Its declaration is wrong and reported.
            return None;
        }
        let unknown = Diagnostic::error(format!("there is no peer `{}`", name.value)).at(name.span);
        let error = match did_you_mean(&name.value, names.iter().copied()) {
            Some(help) => unknown.help(help),
            None => unknown.help(format!("peers here: {}", names.join(", "))),
        };
        self.report(error);
        None
    }

    /// The peer of that name, which has to be of a party, of some kinds, or both, to do `what`.
    fn actor(&mut self, name: &At<String>, what: &str, party: Option<Party>, kinds: Kinds) -> Option<Peer<'a>> {
        let peer = self.peer(name)?;
        if let Some(wanted) = party
            && peer.party != wanted
        {
            let other = self.peers.iter().find(|p| p.party == wanted);
            let help = other.map(|p| format!("the {wanted} here is `{}`", p.name.value));
            self.report(
                Diagnostic::error(format!(
                    "`{what}` is for a {wanted}, and `{}` is a {}",
                    name.value, peer.party
                ))
                .at(name.span)
                .note(peer.name.span, "declared here")
                .maybe_help(help),
            );
            return None;
        }
        if !kinds.allow(peer.kind) {
            self.report(
                Diagnostic::error(format!(
                    "`{what}` needs {}, and `{}` is {}",
                    kinds.words(),
                    name.value,
                    peer.kind.words()
                ))
                .at(name.span)
                .note(peer.value.span, "declared here"),
            );
            return None;
        }
        Some(peer)
    }
}

/// Which kinds of peers a step can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kinds {
    Any,
    Simulated,
    /// Something with a process of its own that the harness starts.
    Process,
    /// QEMU, as far as a name can tell.
    Qemu,
    /// A Linux guest, as far as a name can tell.
    Guest,
    /// Everything but a socket that someone else serves.
    Started,
}

impl Kinds {
    fn allow(self, kind: Kind) -> bool {
        match self {
            Self::Any => true,
            Self::Simulated => kind == Kind::Simulated,
            Self::Process | Self::Qemu | Self::Guest => kind == Kind::Process,
            Self::Started => kind != Kind::External,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Any => "a peer",
            Self::Simulated => "a simulated peer",
            Self::Process => "a peer with a process",
            Self::Qemu => "QEMU",
            Self::Guest => "a Linux guest",
            Self::Started => "a peer that the harness starts",
        }
    }
}
