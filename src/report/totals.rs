//! The last lines of a run: how many passed on what, what failed, and what was not run and why.

use super::duration;
use super::style::{Ink, Style, harmless};
use crate::suite::Summary;
use crate::suite::summary::{Group, count};

/// The lines. `-j` and the time are the run's.
pub fn lines(summary: &Summary, jobs: usize, duration_ms: f64, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    let passed = summary.passed_count();
    let mut number = |ink: Ink, n: usize, text: String| {
        lines.push(format!(
            "{} {text}",
            style.paint(if n > 0 { ink } else { Ink::Dim }, format!("{n:>4}"))
        ));
    };
    let on: Vec<String> = summary
        .passed
        .iter()
        .map(|(company, n)| format!("{n} {company}"))
        .collect();
    number(Ink::Good, passed, with("passed", on.join(", ")));
    if summary.failed_count() > 0 {
        let kinds: Vec<String> = summary.failed.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        number(Ink::Bad, summary.failed_count(), with("failed", kinds.join(", ")));
    }
    let rest = [
        (
            summary.unexpected_pass,
            Ink::Bad,
            "passed although known to fail: their expected_fail is out of date",
        ),
        (summary.inconclusive, Ink::Odd, "inconclusive"),
        (summary.expected_fail, Ink::Odd, "failed as expected"),
        (summary.not_run, Ink::Odd, "not run: interrupted"),
    ];
    for (n, ink, text) in rest.into_iter().filter(|(n, ..)| *n > 0) {
        number(ink, n, text.to_owned());
    }
    groups(&mut lines, "unsupported by the peer", &summary.unsupported, style);
    groups(&mut lines, "skipped", &summary.skipped, style);
    let selected = summary.selected;
    let jobs = if jobs == 1 {
        "1 job".to_owned()
    } else {
        format!("{jobs} jobs")
    };
    lines.push(format!(
        "{selected} selected, {} with {jobs}",
        duration::show(duration_ms)
    ));
    lines
}

fn with(word: &str, detail: String) -> String {
    if detail.is_empty() {
        word.to_owned()
    } else {
        format!("{word}: {detail}")
    }
}

fn groups(lines: &mut Vec<String>, word: &str, groups: &[Group], style: Style) {
    if groups.is_empty() {
        return;
    }
    lines.push(format!(
        "{} {word}:",
        style.paint(Ink::Odd, format!("{:>4}", count(groups)))
    ));
    for group in groups {
        lines.push(format!("       {:>3}  {}", group.ids.len(), harmless(&group.reason)));
    }
}
