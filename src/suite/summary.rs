//! A run in numbers: how many passed on which kinds of peers, what failed how, and what was not run and why.

use std::collections::BTreeMap;

use super::peers::company;
use super::schedule::Completed;
use crate::judge::verdict::{FailKind, Verdict};

/// The numbers of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Selected in all.
    pub selected: usize,
    /// Passed, by the real peers that took part; most frequent first.
    pub passed: Vec<(String, usize)>,
    /// Failed, by kind.
    pub failed: Vec<(FailKind, usize)>,
    /// Ran on a peer that does not offer what is needed, by reason.
    pub unsupported: Vec<Group>,
    /// Skipped, by reason.
    pub skipped: Vec<Group>,
    /// Failed as they are known to.
    pub expected_fail: usize,
    /// Passed although known to fail.
    pub unexpected_pass: usize,
    /// Ran, and nothing can be said.
    pub inconclusive: usize,
    /// Not run because of an interrupt.
    pub not_run: usize,
    /// The run was interrupted.
    pub interrupted: bool,
}

/// Scenarios that share a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The reason.
    pub reason: String,
    /// Their ids.
    pub ids: Vec<String>,
}

impl Summary {
    /// Adds up a run.
    pub fn of(run: &Completed) -> Self {
        let mut summary = Summary {
            selected: run.results.len() + run.not_run.len(),
            not_run: run.not_run.len(),
            interrupted: run.interrupted,
            ..Summary::default()
        };
        let mut passed: BTreeMap<String, usize> = BTreeMap::new();
        let mut failed: BTreeMap<String, (FailKind, usize)> = BTreeMap::new();
        for result in &run.results {
            let outcome = &result.outcome;
            let reason = || {
                outcome
                    .reason
                    .clone()
                    .unwrap_or_else(|| "no reason was given".to_owned())
            };
            match outcome.verdict {
                Verdict::Pass => *passed.entry(company(&outcome.peers)).or_default() += 1,
                Verdict::Fail(kind) => failed.entry(kind.to_string()).or_insert((kind, 0)).1 += 1,
                Verdict::Unsupported => add(&mut summary.unsupported, reason(), &outcome.id),
                Verdict::Skipped => add(&mut summary.skipped, reason(), &outcome.id),
                Verdict::ExpectedFail => summary.expected_fail += 1,
                Verdict::UnexpectedPass => summary.unexpected_pass += 1,
                Verdict::Inconclusive => summary.inconclusive += 1,
            }
        }
        summary.passed = passed.into_iter().collect();
        summary.passed.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        summary.failed = failed.into_values().collect();
        for groups in [&mut summary.unsupported, &mut summary.skipped] {
            groups.sort_by(|a, b| b.ids.len().cmp(&a.ids.len()).then_with(|| a.reason.cmp(&b.reason)));
        }
        summary
    }

    /// How many passed.
    pub fn passed_count(&self) -> usize {
        self.passed.iter().map(|(_, count)| count).sum()
    }

    /// How many failed.
    pub fn failed_count(&self) -> usize {
        self.failed.iter().map(|(_, count)| count).sum()
    }

    /// How many failed in this way.
    pub fn failed_as(&self, kind: FailKind) -> usize {
        self.failed
            .iter()
            .filter(|(k, _)| *k == kind)
            .map(|(_, count)| count)
            .sum()
    }
}

/// Adds an id to the group of a reason.
pub fn add(groups: &mut Vec<Group>, reason: String, id: &str) {
    match groups.iter_mut().find(|group| group.reason == reason) {
        Some(group) => group.ids.push(id.to_owned()),
        None => groups.push(Group {
            reason,
            ids: vec![id.to_owned()],
        }),
    }
}

/// The number in all groups.
pub fn count(groups: &[Group]) -> usize {
    groups.iter().map(|group| group.ids.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::schedule::run_all;
    use crate::suite::testing::{outcome, plan};

    /// Broken: the totals do not add up to what was selected.
    #[test]
    fn every_outcome_is_counted_once() {
        let verdicts = [
            ("a", "qemu", Verdict::Pass),
            ("b", "simulated", Verdict::Pass),
            ("c", "reference", Verdict::Pass),
            ("d", "simulated", Verdict::Fail(FailKind::Hang)),
            ("e", "qemu", Verdict::Skipped),
            ("f", "qemu", Verdict::Skipped),
            ("g", "simulated", Verdict::Unsupported),
            ("h", "simulated", Verdict::ExpectedFail),
            ("i", "simulated", Verdict::UnexpectedPass),
            ("j", "simulated", Verdict::Inconclusive),
        ];
        let plans: Vec<_> = verdicts
            .iter()
            .map(|(id, front, _)| plan(id, front, "simulated"))
            .collect();
        let run = |plan: &crate::scenario::Plan| {
            let verdict = verdicts.iter().find(|(id, ..)| *id == plan.id).unwrap().2;
            outcome(plan, verdict)
        };
        let summary = Summary::of(&run_all(&plans, 2, &run, &|| false, &mut |_| {}));
        assert_eq!(summary.selected, 10);
        assert_eq!(
            summary.passed,
            [
                ("on simulated and embedded peers".to_owned(), 2),
                ("with qemu".to_owned(), 1)
            ]
        );
        assert_eq!(summary.failed, [(FailKind::Hang, 1)]);
        assert_eq!(summary.skipped[0].ids, ["e", "f"]);
        let others = summary.expected_fail + summary.unexpected_pass + summary.inconclusive;
        let all =
            summary.passed_count() + summary.failed_count() + count(&summary.skipped) + count(&summary.unsupported);
        assert_eq!(all + others, summary.selected);
        assert_eq!(
            (summary.failed_as(FailKind::Hang), summary.failed_as(FailKind::Start)),
            (1, 0)
        );
    }
}
