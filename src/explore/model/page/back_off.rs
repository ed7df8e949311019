//! What back-off does, under a virtual clock, and how rare it is that requests cross.

use super::{NOT_SEARCHED, Page, system};
use crate::explore::Search;
use crate::explore::model::chance::sample;
use crate::explore::model::search::Limits;
use crate::explore::model::timed::{Rule, collided, collisions};
use crate::explore::model::verdict::verdict;
use crate::peer::sim::retry::play::Model;
use crate::peer::sim::retry::{Regime, Resends, program, strategy};

impl Page {
    pub(super) fn back_off(&mut self) {
        self.line(
            "## What back-off changes, and what not\n\n\
             The same machine under a virtual clock: a message takes 20 to 25 µs, the first time-out is 1 ms, the first sleep before the\n\
             next read (A5), and the first pause in which an end serves before it sends again (A6), 200 µs. Both ends start P1 within one message's time of each other, so the requests cross. Of 10,000 such\n\
             collisions, the share in which both operations come to a good end with at most so many re-sends of either:\n\n\
             | strategy | time-outs and sleeps | 0 | 1 | 2 | 3 | 4 | 5 | 6 | median time |\n|---|---|---|---|---|---|---|---|---|---|",
        );
        let Some(p1) = program("P1") else { return };
        for name in ["A2", "A3", "A4", "A5", "A6", "A7", "B3"] {
            let Some(strategy) = strategy(name) else { continue };
            for rule in Rule::ALL {
                if !self.effort.simulates {
                    self.line(&format!("| {name} | {} | {NOT_SEARCHED} |", rule.name()));
                    continue;
                }
                let shares = collisions(strategy, p1, rule, 10_000, 1);
                let cells: Vec<String> = shares
                    .resolved
                    .iter()
                    .map(|count| percent(*count, shares.runs))
                    .collect();
                let median = match shares.median_us {
                    0 => "-".to_owned(),
                    us => format!("{us} µs"),
                };
                self.line(&format!(
                    "| {name} | {} | {} | {median} |",
                    rule.name(),
                    cells.join(" | ")
                ));
            }
        }
        self.line(
            "\nBack-off spreads the re-sends in time; it does not make a waiting end take a request. In A4 and A5 each re-send meets an\n\
             end that still waits and throws it away, however long the pauses are: no share resolves. What helps is *not waiting* for a\n\
             moment: A6 serves after its time-out, and then different time-outs (random ones) let one through where equal ones go on\n\
             colliding. Serving at once (B3) needs no re-send at all, so there is nothing to back off from.\n\n\
             ### \"Very rare in real usage\"\n\n\
             P1 with both ends starting at any time of a window, 100,000 runs each, under the same clock: how often the requests cross.\n\n\
             | window | of 100,000 | once in |\n|---|---|---|",
        );
        let Some(a2) = strategy("A2") else { return };
        for (name, window_ns) in [
            ("100 µs", 100_000u64),
            ("1 ms", 1_000_000),
            ("10 ms", 10_000_000),
            ("100 ms", 100_000_000),
            ("1 s", 1_000_000_000),
        ] {
            if !self.effort.simulates {
                self.line(&format!("| {name} | {NOT_SEARCHED} |"));
                continue;
            }
            let count = collided(a2, p1, window_ns, 100_000, 2);
            let once = 100_000u32
                .checked_div(count)
                .map_or_else(|| "-".to_owned(), |runs| runs.to_string());
            self.line(&format!("| {name} | {count} | {once} |"));
        }
        self.line(
            "\nWithout a clock, each next step chosen by chance, 10,000 schedules from seed 1, beside the exhaustive verdict (slow, 2\n\
             re-sends):\n\n| strategy, program | requests cross | come to something wrong | exhaustive |\n|---|---|---|---|",
        );
        for (name, program_name) in [
            ("A1", "P1"),
            ("A2", "P1"),
            ("A3", "P1"),
            ("A4", "P1"),
            ("B2", "P1"),
            ("D0", "P2"),
        ] {
            let (Some(strategy), Some(program)) = (strategy(name), program(program_name)) else {
                continue;
            };
            let system = system(strategy, program, Regime::Slow, Resends::DEFAULT);
            if !self.effort.simulates {
                self.line(&format!("| {name}, {program_name} | {NOT_SEARCHED} |"));
                continue;
            }
            let sampled = sample(&Model::One(system), Search::Random, 1, 10_000, None);
            let wrong = sampled.found.iter().map(|(_, count, _)| *count).max().unwrap_or(0);
            let exhaustive = verdict(&system, Limits::default()).classes();
            self.line(&format!(
                "| {name}, {program_name} | {} | {} | {exhaustive} |",
                percent(sampled.collided as u32, 10_000),
                percent(wrong as u32, 10_000)
            ));
        }
    }
}

fn percent(count: u32, of: u32) -> String {
    let hundredths = u64::from(count) * 10_000 / u64::from(of.max(1));
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}
