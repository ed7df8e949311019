//! `docs/retry.md`: all strategies, programs, regimes and cases explored, and what that comes to. Written by one command; every
//! number in it is measured here.

mod back_off;
mod tables;

use super::diagram::{rows, svg, text};
use super::report::QUEUE_BOUND;
use super::schedule::Schedule;
use super::search::Limits;
use super::verdict::{Verdict, verdict};
use crate::peer::sim::retry::channels::{CASES, case};
use crate::peer::sim::retry::play::Model;
use crate::peer::sim::retry::{
    Class, Classes, PROGRAMS, Program, Regime, Resends, STRATEGIES, Strategy, System, program, strategy,
};

/// A file of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path below `docs/`.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// What stands in a line of the table for a model that was not searched to its end, and where a comparison stops.
pub const NOT_SEARCHED: &str = "(not searched)";

/// Bounds of one cell: a smaller one makes a page with gaps, for a quick look whether the rest is fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// States of one cell, at most.
    pub states: usize,
    /// The timed runs are made.
    pub simulates: bool,
}

impl Effort {
    /// All of it.
    pub const FULL: Self = Self {
        states: 20_000_000,
        simulates: true,
    };
}

/// The page and its images.
pub fn pages(effort: Effort, tell: &mut dyn FnMut(&str)) -> Vec<File> {
    let mut page = Page {
        text: String::new(),
        effort,
        states: 0,
        transitions: 0,
        cells: 0,
        images: Vec::new(),
    };
    let tables = page.tables(tell);
    page.head();
    page.overview();
    page.answers();
    page.diagrams();
    page.back_off();
    page.channels();
    page.designer();
    page.text.push_str(&tables);
    let mut files = vec![File {
        path: "retry.md".to_owned(),
        text: page.text,
    }];
    files.append(&mut page.images);
    files
}

struct Page {
    text: String,
    effort: Effort,
    states: u64,
    transitions: u64,
    cells: u64,
    images: Vec<File>,
}

fn system(strategy: &Strategy, program: &Program, regime: Regime, resends: Resends) -> System {
    let mut system = System::new(strategy, program, regime, resends);
    if resends == Resends::Unbounded && regime == Regime::Async {
        system.queue_max = QUEUE_BOUND;
    }
    system
}

/// Programs of the big tables; `P1E` has no end and a table of its own.
fn programs() -> impl Iterator<Item = &'static Program> {
    PROGRAMS.iter().filter(|row| !row.front.endless)
}

const GENERATED: &str = "<!-- Written by `vuh explore --table`. -->";

impl Page {
    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn judge(&mut self, system: &System) -> Verdict {
        let limits = Limits {
            states: self.effort.states,
            ..Limits::default()
        };
        let verdict = verdict(system, limits);
        self.cells += 1;
        self.states += verdict.states as u64;
        self.transitions += verdict.transitions;
        verdict
    }

    fn head(&mut self) {
        let (cells, states, transitions) = (self.cells, self.states, self.transitions);
        let counted = match self.effort == Effort::FULL {
            true => format!("{cells} models, {states} states and {transitions} transitions,"),
            false => NOT_SEARCHED.to_owned(),
        };
        self.line(&format!(
            "# What to do with a request that crosses your own\n\n{GENERATED}\n\n\
             Two ends of one socket both send requests, and each waits for its own answer. What becomes of the other's request that\n\
             comes meanwhile? In November 2016 it was proposed to throw it away and read again, to have it sent again for want of an\n\
             ack, and, when somebody was afraid of deadlocks, to insert a binary exponential back-off. The question was left at\n\
             that. This page answers it for every strategy of that discussion and some more: every interleaving of two modelled ends\n\
             was visited,\n{counted}\nin one run of\n\n\
             ```sh\nvuh explore --table\n```\n\n\
             What `vuh explore` finds it writes as a scenario that `vuh run` plays over real sockets; a test does that with every\n\
             counterexample of this page that has up to 4,000 states behind it.\n\n\
             An end starts an operation, receives a message and answers it if an answer is due, has a timer fire, ends a back-off,\n\
             serves what it has put aside, or completes a blocked send: those are the steps, and all orders of them are explored.\n\
             Timers fire **slow**: only when nothing else can happen; **sync**: only when no copy of the request or of its answer is\n\
             left anywhere; **async**: at any time, so prematurely too. After 2 re-sends an operation is reported failed and its\n\
             end is idle; or there is no bound."
        ));
    }

    fn found(&self, strategy_name: &str, program_name: &str, regime: Regime, resends: Resends) -> Verdict {
        match (strategy(strategy_name), program(program_name)) {
            (Some(strategy), Some(program)) => verdict(&system(strategy, program, regime, resends), Limits::default()),
            _ => unreachable!("the tables have a row {strategy_name} and a row {program_name}"),
        }
    }

    fn length(&self, strategy: &str, program: &str, regime: Regime, resends: Resends, class: Class) -> String {
        let found = self.found(strategy, program, regime, resends);
        match found.finding(class) {
            Some(finding) => format!("{class} after {} steps", finding.length()),
            None => format!("no {class}"),
        }
    }

    fn answers(&mut self) {
        let two = Resends::DEFAULT;
        let endless = Resends::Unbounded;
        let lines = [
            (
                "The proposal on one side, the back-end's SETs sent again (A2)",
                [
                    (
                        "P1, slow",
                        self.found("A2", "P1", Regime::Slow, two).classes().to_string(),
                    ),
                    (
                        "P1, async",
                        self.found("A2", "P1", Regime::Async, two).classes().to_string(),
                    ),
                    (
                        "P1E, no bound",
                        self.found("A2", "P1E", Regime::Slow, endless).classes().to_string(),
                    ),
                ],
            ),
            (
                "The same rule on both sides, as the text has it (A3)",
                [
                    ("P1, slow", self.length("A3", "P1", Regime::Slow, two, Class::Hang)),
                    (
                        "P2, slow",
                        self.found("A3", "P2", Regime::Slow, two).classes().to_string(),
                    ),
                    (
                        "P1, no bound",
                        self.length("A3", "P1", Regime::Slow, endless, Class::LivelockInescapable),
                    ),
                ],
            ),
            (
                "GETs sent again as well (A4)",
                [
                    (
                        "P1, slow",
                        self.found("A4", "P1", Regime::Slow, two).classes().to_string(),
                    ),
                    (
                        "P1, no bound",
                        self.length("A4", "P1", Regime::Slow, endless, Class::LivelockInescapable),
                    ),
                    (
                        "P1, async",
                        self.found("A4", "P1", Regime::Async, two).classes().to_string(),
                    ),
                ],
            ),
            (
                "with back-off before the next read (A5)",
                [
                    (
                        "P1, slow",
                        self.found("A5", "P1", Regime::Slow, two).classes().to_string(),
                    ),
                    (
                        "P1, no bound",
                        self.length("A5", "P1", Regime::Slow, endless, Class::LivelockInescapable),
                    ),
                    (
                        "P1, sync, no bound",
                        self.length("A5", "P1", Regime::Sync, endless, Class::LivelockInescapable),
                    ),
                ],
            ),
            (
                "serving after a time-out before sending again (A6)",
                [
                    (
                        "P1, slow, no bound",
                        self.length("A6", "P1", Regime::Slow, endless, Class::LivelockInescapable),
                    ),
                    (
                        "P1, sync, no bound",
                        self.found("A6", "P1", Regime::Sync, endless).classes().to_string(),
                    ),
                    (
                        "P1, sync",
                        self.found("A6", "P1", Regime::Sync, two).classes().to_string(),
                    ),
                ],
            ),
            (
                "Serve at once, no timers (B2)",
                [
                    (
                        "P1 to P7",
                        self.union("B2", &["P1", "P2", "P3", "P4", "P5", "P6", "P7"], two)
                            .to_string(),
                    ),
                    ("P8, room for 2", self.capacity("B2", "P8", 2).to_string()),
                    (
                        "P1E",
                        self.found("B2", "P1E", Regime::Slow, endless).classes().to_string(),
                    ),
                ],
            ),
            (
                "Serve, timers, sequence numbers, duplicates dropped (B6)",
                [
                    ("P1 to P7, slow and sync", self.patient("B6").to_string()),
                    (
                        "P2, async",
                        self.found("B6", "P2", Regime::Async, two).classes().to_string(),
                    ),
                    (
                        "P1E",
                        self.found("B6", "P1E", Regime::Slow, endless).classes().to_string(),
                    ),
                ],
            ),
        ];
        self.line("\n## The questions of the discussion\n\n| | | | |\n|---|---|---|---|");
        for (what, cells) in lines {
            let cells: Vec<String> = cells.iter().map(|(place, came)| format!("{place}: {came}")).collect();
            self.line(&format!("| {what} | {} |", cells.join(" | ")));
        }
        self.line(
            "\n\"I would be afraid of deadlocks if both sides apply the same retry logic\": rightly. With a bound on re-sends it is a\n\
             hang or failed operations, without one a livelock from which nothing leads out. The literal code of 2016 does not come that\n\
             far: its reader fails on the flags before it has read the payload, and takes that payload for the next header\n\
             (`A0-2016`, scenario `race/retry/framing-lost`).",
        );
    }

    fn union(&self, strategy: &str, programs: &[&str], resends: Resends) -> Classes {
        let mut classes = Classes::default();
        for program in programs {
            for regime in Regime::ALL {
                classes = classes.and(self.found(strategy, program, regime, resends).classes());
            }
        }
        classes
    }

    fn patient(&self, strategy: &str) -> Classes {
        let mut classes = Classes::default();
        for program in ["P1", "P2", "P3", "P4", "P5", "P6", "P7"] {
            for regime in [Regime::Slow, Regime::Sync] {
                classes = classes.and(self.found(strategy, program, regime, Resends::DEFAULT).classes());
            }
        }
        classes
    }

    fn capacity(&self, strategy_name: &str, program_name: &str, capacity: u8) -> Classes {
        match (strategy(strategy_name), program(program_name)) {
            (Some(strategy), Some(program)) => {
                let system = system(strategy, program, Regime::Slow, Resends::DEFAULT).with_capacity(capacity);
                verdict(&system, Limits::default()).classes()
            }
            _ => unreachable!("the tables have a row {strategy_name} and a row {program_name}"),
        }
    }

    fn diagrams(&mut self) {
        self.line("\n## The shortest ways to go wrong\n");
        let names = ["front-end".to_owned(), "back-end".to_owned()];
        let two = Resends::DEFAULT;
        let endless = Resends::Unbounded;
        let shown = [
            ("A1", "P1", Regime::Slow, two, Class::Hang),
            ("A3", "P1", Regime::Slow, two, Class::Hang),
            ("A4", "P1", Regime::Slow, endless, Class::LivelockInescapable),
            ("A5", "P1", Regime::Slow, endless, Class::LivelockInescapable),
            ("A6", "P1", Regime::Sync, endless, Class::LivelockEscapable),
            ("A7", "P1E", Regime::Slow, endless, Class::Starved),
            ("B0", "P1", Regime::Slow, two, Class::Hang),
            ("B3", "P4", Regime::Async, two, Class::WrongReply),
            ("B3", "P2", Regime::Async, two, Class::Duplicate),
            ("D0", "P2", Regime::Slow, two, Class::RequestAsReply),
            ("D3", "P1", Regime::Async, two, Class::Phantom),
            ("A0-2016", "P1", Regime::Slow, two, Class::FramingLost),
        ];
        for (strategy_name, program_name, regime, resends, class) in shown {
            let (Some(strategy), Some(program)) = (strategy(strategy_name), program(program_name)) else {
                continue;
            };
            let system = system(strategy, program, regime, resends);
            self.picture(
                &Model::One(system),
                regime,
                resends,
                class,
                &format!("{strategy_name}, {program_name}"),
                &names,
            );
        }
        for (name, class) in [
            ("E2", Class::Hang),
            ("E4", Class::Failed),
            ("E9", Class::Hang),
            ("E14", Class::Hang),
        ] {
            if let Some(case) = case(name) {
                let label = format!("{name}: {}", case.about);
                self.picture(&Model::Two(*case), Regime::Slow, two, class, &label, &names);
            }
        }
    }

    fn picture(
        &mut self,
        model: &Model,
        regime: Regime,
        resends: Resends,
        class: Class,
        label: &str,
        names: &[String; 2],
    ) {
        let found = super::report::judge(model, Limits::default());
        let Some(finding) = found.finding(class) else {
            return self.line(&format!("{label}: no {class}.\n"));
        };
        let schedule = Schedule::of(finding, regime, resends);
        let Ok(rows) = rows(&schedule, model) else { return };
        let token = schedule.token(model);
        let title = match model {
            Model::One(_) => format!("{label}, timers {}, re-sends {resends}: {class}", regime.name()),
            Model::Two(_) => format!("{label}: {class}"),
        };
        let file: String = label
            .split(':')
            .next()
            .unwrap_or(label)
            .to_ascii_lowercase()
            .replace(", ", "-");
        let path = format!("retry/{file}-{}.svg", class.name());
        self.line(&format!("**{title}** (`--schedule {token}`, [as a picture]({path}))\n"));
        self.line("```text");
        self.text.push_str(&text(&rows, names, class.name()));
        self.line("```\n");
        self.images.push(File {
            path,
            text: svg(&rows, names, &title, class.name()),
        });
    }

    fn channels(&mut self) {
        self.line(
            "\n## What a second channel solves, and what not\n\n\
             `c1` is the main socket, on which the front-end asks, `c2` the back-end channel. Each case is a row of a table: who reads\n\
             `c2` when, what a handler needs, whether answers are routed, whether there is a lock.\n\n\
             | case | | states / transitions: classes and shortest traces |\n|---|---|---|",
        );
        for case in CASES {
            let cell = Self::cell(&verdict(case, Limits::default()));
            self.line(&format!("| {} | {} | {cell} |", case.name, case.about));
        }
        let hangs: Vec<&str> = CASES
            .iter()
            .filter(|case| verdict(*case, Limits::default()).classes().has(Class::Hang))
            .map(|case| case.name)
            .collect();
        self.line(&format!(
            "\nA channel of its own keeps a request from being taken for a reply, and independent traffic apart (E1). It does not help\n\
             where one socket's handler needs the other: {} hang. Reading `c2` while waiting on `c1` cures E2 (E3) and brings E4,\n\
             where the nested wait takes the outer one's reply, unless replies are given to whoever asked (E6) or there is a thread\n\
             with a lock (E7). And a lock over `c1` is again a hang as soon as the handler of a `c1` request waits for what needs `c1` (E9,\n\
             E12b): then the back-end has to go on serving `c1` while it waits, and the front-end has to route (E12).",
            hangs.join(", ")
        ));
    }

    fn designer(&mut self) {
        let safe: Vec<&str> = STRATEGIES
            .iter()
            .filter(|strategy| {
                let programs = ["P1", "P2", "P3", "P4", "P5", "P6", "P7"];
                programs.iter().all(|name| {
                    program(name).is_some_and(|program| {
                        [Regime::Slow, Regime::Sync].into_iter().all(|regime| {
                            let system = system(strategy, program, regime, Resends::DEFAULT);
                            verdict(&system, Limits::default()).classes().is_empty()
                        })
                    })
                })
            })
            .map(|strategy| strategy.name)
            .collect();
        self.line(&format!(
            "\n## What a protocol designer should do\n\n\
             1. Never wait deaf. As long as timers are not premature, P1 to P7 are safe with {}, and with no other: in all of\n\
             these at least one end serves what crosses, and the other does not throw it away for good.\n\
             2. Where one end drops, give every operation a timer, and only one end may drop (A7, B8). Even then a request can meet a waiting\n\
             peer each time until it is reported failed, and a front-end that never stops asking starves the back-end, which it does not\n\
             where both serve (table P1E).\n\
             3. A timer is a source of errors of its own: premature, it makes duplicates (B3), wrong replies (B3 on P4) and operations\n\
             that are reported failed and were applied. Sequence numbers end the wrong replies, duplicate suppression the duplicates (B6);\n\
             \"failed\" still means \"unknown\".\n\
             4. Tell replies by a bit and not by the id alone (D0 to D2), when idle too (D3).\n\
             5. Read the whole message before judging it (A0-2016).\n\
             6. Back-off is for media that are shared; a socket with two ends is none.\n\
             7. A second channel, if there is one, is read at all times, its answers are given to whoever asked, and no handler of one\n\
             socket waits for the other while it keeps that one from being served.\n\
             8. However it is done, two ends that may send without limit and stop reading while they cannot send block each other\n\
             (P8): bound what may be outstanding below what the socket holds.\n",
            safe.join(", ")
        ));
    }
}
