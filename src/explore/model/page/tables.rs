//! The big tables: every strategy, program, regime and bound, and all of it at a glance.

use std::fmt::Write as _;

use super::{NOT_SEARCHED, Page, programs, system};
use crate::explore::model::report::QUEUE_BOUND;
use crate::explore::model::search::{Bound, Limits};
use crate::explore::model::verdict::{Verdict, verdict};
use crate::peer::sim::retry::{
    Class, Classes, Operation, Program, Regime, Resends, STRATEGIES, Script, Strategy, program,
};

impl Page {
    /// `35 / 51: hang 4, failed 9`.
    pub(super) fn cell(verdict: &Verdict) -> String {
        if verdict.bounds.contains(&Bound::States) {
            return NOT_SEARCHED.to_owned();
        }
        let classes: Vec<String> = verdict
            .findings
            .iter()
            .map(|finding| format!("{} {}", finding.class.name(), finding.length()))
            .collect();
        let classes = match classes.is_empty() {
            true => "safe".to_owned(),
            false => classes.join(", "),
        };
        let bound = if verdict.bounds.is_empty() { "" } else { "≥ " };
        format!("{bound}{} / {}: {classes}", verdict.states, verdict.transitions)
    }

    pub(super) fn tables(&mut self, tell: &mut dyn FnMut(&str)) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "## The table\n\n\
             Each cell: states / transitions, each class that can happen with the length of the shortest trace to it (prefix and\n\
             once around for a run without end). `≥` marks a search that was cut: with re-sends without bound and timers that fire\n\
             at any time the states have no end, and queues are explored up to {QUEUE_BOUND} messages. All other searches are\n\
             exhaustive, without reduction. Where all three regimes come to the same they share a line.\n"
        );
        for program in programs() {
            tell(program.name);
            let _ = writeln!(out, "### {}: {}\n", program.name, in_words(program));
            let _ = writeln!(out, "| strategy | timers | 2 re-sends | re-sends without bound |");
            let _ = writeln!(out, "|---|---|---|---|");
            for strategy in STRATEGIES {
                let mut lines: Vec<(Vec<Regime>, String, String)> = Vec::new();
                for regime in Regime::ALL {
                    let cells = [Resends::DEFAULT, Resends::Unbounded].map(|resends| {
                        let verdict = self.judge(&system(strategy, program, regime, resends));
                        Self::cell(&verdict)
                    });
                    let [bounded, unbounded] = cells;
                    match lines.last_mut() {
                        Some((regimes, b, u)) if *b == bounded && *u == unbounded => regimes.push(regime),
                        _ => lines.push((vec![regime], bounded, unbounded)),
                    }
                }
                for (regimes, bounded, unbounded) in lines {
                    let names: Vec<&str> = regimes.iter().map(|regime| regime.name()).collect();
                    let names = if names.len() == 3 {
                        "any".to_owned()
                    } else {
                        names.join(", ")
                    };
                    let _ = writeln!(out, "| {} | {names} | {bounded} | {unbounded} |", strategy.name);
                }
            }
            out.push('\n');
        }
        for name in ["P8", "P9"] {
            tell(&format!("{name} with capacities"));
            let Some(program) = program(name) else { continue };
            let _ = writeln!(
                out,
                "### {name} with sockets that hold 1, 2 or 3 messages (2 re-sends)\n"
            );
            let _ = writeln!(out, "| strategy | timers | 1 | 2 | 3 |");
            let _ = writeln!(out, "|---|---|---|---|---|");
            for strategy in STRATEGIES {
                let mut lines: Vec<(Vec<Regime>, String)> = Vec::new();
                for regime in Regime::ALL {
                    let cells = [1, 2, 3].map(|capacity| {
                        let system = system(strategy, program, regime, Resends::DEFAULT).with_capacity(capacity);
                        Self::cell(&self.judge(&system))
                    });
                    let cells = cells.join(" | ");
                    match lines.last_mut() {
                        Some((regimes, known)) if *known == cells => regimes.push(regime),
                        _ => lines.push((vec![regime], cells)),
                    }
                }
                for (regimes, cells) in lines {
                    let names: Vec<&str> = regimes.iter().map(|regime| regime.name()).collect();
                    let names = if names.len() == 3 {
                        "any".to_owned()
                    } else {
                        names.join(", ")
                    };
                    let _ = writeln!(out, "| {} | {names} | {cells} |", strategy.name);
                }
            }
            out.push('\n');
        }
        tell("P1E");
        out.push_str(&self.endless());
        out
    }

    /// A front-end that never stops asking.
    fn endless(&mut self) -> String {
        let mut out = String::new();
        let Some(program) = program("P1E") else { return out };
        let _ = writeln!(
            out,
            "### P1E: P1 with a front-end that never stops asking (re-sends without bound)\n\n\
             | strategy | slow | sync | async |\n|---|---|---|---|"
        );
        for strategy in STRATEGIES {
            let cells = Regime::ALL.map(|regime| {
                let verdict = self.judge(&system(strategy, program, regime, Resends::Unbounded));
                Self::cell(&verdict)
            });
            let _ = writeln!(out, "| {} | {} |", strategy.name, cells.join(" | "));
        }
        out
    }

    /// Strategy by program: the classes of all regimes.
    pub(super) fn overview(&mut self) {
        self.line(
            "\n## At a glance\n\nWith 2 re-sends. `·` is safe whatever the timers do; `(…)` is what only premature time-outs (async) lead to.\n\n\
             | code | class | code | class |\n|---|---|---|---|",
        );
        let shown: Vec<Class> = Class::ALL.into_iter().filter(|class| !class.is_cycle()).collect();
        for pair in shown.chunks(2) {
            let cells: Vec<String> = pair
                .iter()
                .map(|class| format!("{} | {}", code(*class), meaning(*class)))
                .collect();
            let cells = if cells.len() == 1 {
                format!("{} | | ", cells[0])
            } else {
                cells.join(" | ")
            };
            self.line(&format!("| {cells} |"));
        }
        let names: Vec<&str> = programs().map(|program| program.name).collect();
        self.line(&format!("\n| strategy | | {} |", names.join(" | ")));
        self.line(&format!("|---|---|{}", "---|".repeat(names.len())));
        for strategy in STRATEGIES {
            let cells: Vec<String> = programs().map(|program| self.short(strategy, program)).collect();
            self.line(&format!(
                "| {} | {} | {} |",
                strategy.name,
                strategy.about,
                cells.join(" | ")
            ));
        }
    }

    fn short(&self, strategy: &Strategy, program: &Program) -> String {
        let limits = Limits {
            states: self.effort.states,
            ..Limits::default()
        };
        let found = Regime::ALL.map(|regime| verdict(&system(strategy, program, regime, Resends::DEFAULT), limits));
        if found.iter().any(|verdict| verdict.bounds.contains(&Bound::States)) {
            return NOT_SEARCHED.to_owned();
        }
        let [slow, sync, premature] = found.map(|verdict| verdict.classes());
        let patient = slow.and(sync);
        let only = premature.without(patient);
        let codes = |classes: Classes| classes.iter().map(code).collect::<Vec<_>>().join(" ");
        match (patient.is_empty(), only.is_empty()) {
            (true, true) => "·".to_owned(),
            (false, true) => codes(patient),
            (true, false) => format!("({})", codes(only)),
            (false, false) => format!("{} ({})", codes(patient), codes(only)),
        }
    }
}

fn code(class: Class) -> &'static str {
    match class {
        Class::Hang => "H",
        Class::LivelockInescapable => "L!",
        Class::LivelockEscapable => "L",
        Class::Loss => "X",
        Class::RequestAsReply => "Q",
        Class::WrongReply => "W",
        Class::Duplicate => "D",
        Class::AnsweredTwice => "d",
        Class::Failed => "F",
        Class::FailedButApplied => "A",
        Class::FailedButAnswered => "a",
        Class::Phantom => "P",
        Class::Closed => "C",
        Class::FramingLost => "G",
        Class::Starved => "S",
    }
}

fn meaning(class: Class) -> &'static str {
    match class {
        Class::Hang => "hang: no step possible, not finished",
        Class::LivelockInescapable => "livelock without a way out",
        Class::LivelockEscapable => "livelock",
        Class::Loss => "loss: acknowledged or sent, never applied",
        Class::RequestAsReply => "a request taken as reply",
        Class::WrongReply => "another operation's reply taken",
        Class::Duplicate => "a SET applied twice",
        Class::AnsweredTwice => "a GET answered twice (harmless)",
        Class::Failed => "reported failed with a live peer",
        Class::FailedButApplied => "a SET reported failed, and applied",
        Class::FailedButAnswered => "a GET reported failed, and answered",
        Class::Phantom => "a late reply executed as a request",
        Class::Closed => "connection closed",
        Class::FramingLost => "garbage taken for a header",
        Class::Starved => "the back-end starves",
    }
}

fn in_words(program: &Program) -> String {
    let ops = |script: &Script| {
        let name = |op: &Operation| format!("{}{}", op.name, if op.answered && !op.is_get { "!" } else { "" });
        let names: Vec<String> = script.operations().iter().map(name).collect();
        match names.is_empty() {
            true => "nothing".to_owned(),
            false => names.join(", "),
        }
    };
    format!(
        "the front-end does {}; the back-end {}",
        ops(&program.front),
        ops(&program.back)
    )
}
