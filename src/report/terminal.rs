//! The report on the terminal: one line a scenario as it ends, failures in full at the end, then the totals. A bar shows
//! the progress where a person watches.

use std::fmt;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::console::Console;
use super::style::{Ink, Style, harmless};
use super::{ReportError, Reporter, duration, failure, totals};
use crate::judge::outcome::Outcome;
use crate::judge::verdict::Verdict;
use crate::scenario::Plan;
use crate::suite::{Completed, Summary};

/// Widest column of ids; longer ids push their line's rest to the right.
const ID_COLUMNS_MAX: usize = 64;

/// Scenarios named in the bar at most.
const RUNNING_SHOWN_MAX: usize = 3;

/// Lines and totals for a person.
#[derive(Debug)]
pub struct Terminal {
    console: Console,
    id_columns: usize,
    bar: ProgressBar,
    running: Vec<String>,
}

/// The word of a verdict at the beginning of a line.
fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail(_) => "FAIL",
        Verdict::Unsupported => "unsup",
        Verdict::Skipped => "skip",
        Verdict::ExpectedFail => "xfail",
        Verdict::UnexpectedPass => "XPASS",
        Verdict::Inconclusive => "incon",
    }
}

/// The line of one outcome.
fn line(outcome: &Outcome, id_columns: usize, style: Style) -> String {
    let verdict = style.paint(Ink::of(outcome.verdict), format!("{:<5}", word(outcome.verdict)));
    let time = match outcome.verdict {
        Verdict::Skipped => "-".to_owned(),
        _ => duration::show(outcome.duration_ms),
    };
    let mut rest = format!("  {:<id_columns$}  {time:>8}", outcome.id);
    if let Some(reason) = &outcome.reason {
        let kind = match outcome.verdict {
            Verdict::Fail(kind) => format!("{kind}: "),
            _ => String::new(),
        };
        let reason = reason.lines().next().unwrap_or_default();
        rest.push_str(&format!("  {kind}{}", harmless(reason)));
    }
    let dim = matches!(outcome.verdict, Verdict::Skipped | Verdict::Unsupported);
    format!("{verdict}{}", if dim { style.paint(Ink::Dim, rest) } else { rest })
}

impl Terminal {
    /// A report on `console` of these plans; `watched` draws a progress bar on standard error.
    pub fn new(console: Console, plans: &[Plan], watched: bool) -> Self {
        let bar = if watched {
            ProgressBar::new(plans.len() as u64)
        } else {
            ProgressBar::hidden()
        };
        if watched {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            // so that the time goes on while a scenario takes long
            bar.enable_steady_tick(std::time::Duration::from_millis(250));
            let template = "{bar:24} {pos}/{len} {elapsed} {wide_msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
        }
        let widest = plans.iter().map(|p| p.id.chars().count()).max().unwrap_or(0);
        Self {
            console,
            id_columns: widest.min(ID_COLUMNS_MAX),
            bar,
            running: Vec::new(),
        }
    }

    fn line(&mut self, text: impl fmt::Display) {
        let Self { bar, console, .. } = self;
        bar.suspend(|| console.line(text));
    }

    fn show_running(&self) {
        let shown = self.running.iter().take(RUNNING_SHOWN_MAX).map(String::as_str);
        self.bar.set_message(shown.collect::<Vec<_>>().join(", "));
    }
}

impl Reporter for Terminal {
    fn started(&mut self, plan: &Plan) {
        self.running.push(plan.id.clone());
        self.show_running();
    }

    fn finished(&mut self, _plan: &Plan, outcome: &Outcome) {
        self.running.retain(|id| *id != outcome.id);
        let text = line(outcome, self.id_columns, self.console.style());
        self.line(text);
        self.bar.inc(1);
        self.show_running();
    }

    fn done(&mut self, run: &Completed, summary: &Summary) -> Result<(), ReportError> {
        self.bar.finish_and_clear();
        let style = self.console.style();
        for result in &run.results {
            // a known failure has its reason on its line; the JSON report has the rest
            let known = result.outcome.verdict == Verdict::ExpectedFail;
            if let Some(failure) = result.outcome.failure.as_ref().filter(|_| !known) {
                self.console
                    .line(format_args!("\n{}", failure::title(&result.outcome, style)));
                self.console.text(failure::show(result.plan, failure, style));
            }
        }
        self.console.line("");
        for line in totals::lines(summary, run.jobs, run.duration_ms, style) {
            self.console.line(line);
        }
        match self.console.lost() {
            None => Ok(()),
            Some(why) => Err(ReportError::Write {
                path: "on standard output".into(),
                message: why.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden;
    use super::*;

    fn shown(style: Style) -> String {
        golden::run(|plans, buffer| {
            let console = Console::new(Box::new(buffer), style);
            Box::new(Terminal::new(console, plans, false))
        })
    }

    /// Broken: the terminal report changed; look at the difference and bless it if it is better.
    #[test]
    fn every_verdict_plain() {
        golden::check("terminal.txt", &shown(Style::Plain));
    }

    /// Broken: colours are lost, or stand where they should not.
    #[test]
    fn every_verdict_coloured() {
        golden::check("terminal-coloured.txt", &shown(Style::Coloured).replace('\u{1b}', "␛"));
    }
}
