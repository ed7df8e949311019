//! A failure in full: the step with its caret, expected and actual, the last events, what the peers' processes wrote, and
//! the command that runs it again. The same text in the terminal and in the files.

use super::style::{Ink, Style, harmless};
use crate::judge::outcome::{Failure, Outcome};
use crate::scenario::Plan;

/// Lines shown of a process's standard error, the last ones.
const STDERR_LINES_MAX: usize = 40;

/// The text, ending in a newline.
pub fn show(plan: &Plan, failure: &Failure, style: Style) -> String {
    let mut text = failure.diagnostic.render(&plan.sources, style.render());
    if !failure.last_events.is_empty() {
        text.push_str(&heading(style, "last events"));
        text.push_str(&indented(failure.last_events.iter().map(String::as_str)));
    }
    for (peer, written) in &failure.stderr {
        let lines: Vec<&str> = written.lines().collect();
        let dropped = lines.len().saturating_sub(STDERR_LINES_MAX);
        let note = if dropped > 0 {
            format!(" ({dropped} earlier lines not shown)")
        } else {
            String::new()
        };
        text.push_str(&heading(style, &format!("standard error of {peer}{note}")));
        text.push_str(&indented(lines[dropped..].iter().copied()));
    }
    text.push_str(&heading(style, "run again"));
    text.push_str(&indented([failure.rerun.as_str()].into_iter()));
    text
}

/// The title line of a failure.
pub fn title(outcome: &Outcome, style: Style) -> String {
    let kind = match outcome.verdict {
        crate::judge::verdict::Verdict::Fail(kind) => kind.to_string(),
        verdict => verdict.to_string(),
    };
    format!(
        "{} {}",
        style.paint(Ink::Bad, format!("{kind}:")),
        style.paint(Ink::Strong, &outcome.id)
    )
}

fn heading(style: Style, text: &str) -> String {
    format!("{}\n", style.paint(Ink::Strong, format!("{text}:")))
}

fn indented<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.map(|line| format!("    {}\n", harmless(line))).collect()
}
