//! The protocol monitor beside a run: it reads every event as it comes, and what a peer does wrong of its own accord ends
//! the scenario.

use super::failure::{Result, Stop};
use super::resolve::{Peer, Player};
use super::run::Run;
use crate::judge::monitor::{Profile, Script, Violation};
use crate::scenario::Diagnostic;
use crate::spec::requirement;
use crate::trace::{LinkId, PeerId};
use crate::wire::Party;

/// The rule that a process cannot help breaking when it is killed.
const CUT_SHORT: &str = "cut-short";

impl Run<'_> {
    /// Judges what has happened since the last time.
    pub(super) fn check_monitor(&mut self) -> Result<()> {
        if self.timeline.is_recorded() {
            // a recording goes on whatever happens, and is judged when it is read
            return Ok(());
        }
        for link in self.links_watched..self.links.len() {
            self.watch_link(LinkId(link));
        }
        self.links_watched = self.links.len();
        let from = self.monitored;
        self.monitored = self.timeline.end();
        for (seq, event) in self.timeline.since(from) {
            let violations = self.monitor.observe(event, seq);
            let own = violations.into_iter().find(|v| !v.deliberate && !self.was_killed(v));
            if let Some(violation) = own {
                return Err(Stop::wrong(self.broken_rule(&violation)));
            }
        }
        Ok(())
    }

    /// From here on what arrives on a link is not what the timeline says. What came before is judged still.
    pub(super) fn disturbed(&mut self, link: LinkId) {
        if let Err(stop) = self.check_monitor() {
            self.stop.get_or_insert(stop);
        }
        self.monitor.disturbed(link);
    }

    /// What was allowed and never happened: the scenario says more than it needs.
    pub(super) fn unneeded(&self) -> Option<String> {
        let ids: Vec<&str> = self.monitor.never_happened().collect();
        (!ids.is_empty()).then(|| format!("note: allowed and never happened: {}", ids.join(", ")))
    }

    fn watch_link(&mut self, link: LinkId) {
        let mut profile = Profile::practice();
        for party in [Party::FrontEnd, Party::BackEnd] {
            let peer = &self.peers[self.links[link.0].peer(party).0].spec;
            if let Some(program) = program(peer) {
                profile = profile.program(party, program);
            }
            let answers = peer.answers.iter().map(|(id, _)| *id);
            let script = Script {
                answers: peer.manual.iter().copied().chain(answers).collect(),
                signals: peer.is_simulated(),
            };
            self.monitor.set_script(link, party, script);
        }
        self.monitor.set_profile(link, profile);
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
        let mut diagnostic = Diagnostic::error(format!("`{}` broke the rule `{}` of the protocol", peer.name, rule.id))
            .at(peer.span)
            .expected_actual(&violation.expected, &violation.actual)
            .footer(format!("rule      {}", rule.text))
            .footer(format!("at        {}", self.timeline.describe_when(violation.at)));
        for id in rule.requirements {
            if let Ok(found) = requirement(id) {
                diagnostic = diagnostic.footer(format!("{id} {}: {}", found.level, found.text));
            }
        }
        diagnostic.help(format!("if it is meant to happen here: `allow: [{}]`", rule.id))
    }
}

/// The program behind a peer, as far as it is known.
fn program(peer: &Peer) -> Option<&str> {
    match &peer.player {
        Player::Program(entry) => Some(&entry.peer),
        Player::Command(words) => words.first().map(String::as_str),
        Player::Simulated | Player::Listen(_) | Player::Connect(_) => None,
    }
}
