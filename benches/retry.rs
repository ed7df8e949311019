//! How fast the model of two ends is searched, and whether its counterexamples replay.
//!
//! `cargo bench --bench retry` searches a single-channel model without reduction a few times, on one core, and says states a second
//! and bytes a state; then the same with reductions. With `-- replay N` it runs the scenario of every counterexample of the
//! table that has at most 4,000 states behind it N times over real sockets, and counts those that come to what the model says.

use std::time::Instant;

use vhost_user_harness::engine::{Environment, run};
use vhost_user_harness::explore::model::{Limits, Schedule, search, verdict};
use vhost_user_harness::judge::verdict::Verdict as Judged;
use vhost_user_harness::peer::catalogue::Catalogue;
use vhost_user_harness::peer::sim::retry::channels::CASES;
use vhost_user_harness::peer::sim::retry::{PROGRAMS, Regime, Resends, STRATEGIES, System, program, strategy};
use vhost_user_harness::scenario::retry::{Modelled, modelled};
use vhost_user_harness::scenario::{Plan, Settings, load_str};

/// Searches of which the best and the median count.
const ROUNDS: usize = 5;
/// States above which a model is left out of the replays.
const REPLAYED_STATES_MAX: usize = 4_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.first().map(String::as_str) {
        Some("replay") => replay(words.get(1).and_then(|n| n.parse().ok()).unwrap_or(100)),
        _ => speed(),
    }
}

fn speed() {
    for (name, row, resends) in [("A6", "P9", 2), ("B4", "P9", 3), ("A4", "P6", 3)] {
        let (strategy, program) = (
            strategy(name).expect("a row of the table"),
            program(row).expect("a row of the table"),
        );
        let system = System::new(strategy, program, Regime::Async, Resends::AtMost(resends));
        for (label, limits) in [
            ("no reduction", Limits::default()),
            (
                "partial order",
                Limits {
                    reduce: true,
                    ..Limits::default()
                },
            ),
            (
                "both",
                Limits {
                    reduce: true,
                    symmetry: true,
                    ..Limits::default()
                },
            ),
        ] {
            let mut rates = Vec::new();
            let mut last = (0, 0, 0.0);
            for _ in 0..ROUNDS {
                let began = Instant::now();
                let space = search(&system, limits);
                rates.push(space.len() as f64 / began.elapsed().as_secs_f64());
                last = (space.len(), space.transitions, space.bytes_per_state());
            }
            rates.sort_by(f64::total_cmp);
            let (states, transitions, bytes) = last;
            println!(
                "{name} {row} async, {resends} re-sends, {label}: {states} states, {transitions} transitions, {bytes:.0} bytes a state; \
                 best {:.2}, median {:.2} million states a second",
                rates[ROUNDS - 1] / 1e6,
                rates[ROUNDS / 2] / 1e6
            );
        }
    }
}

fn load(text: &str) -> Plan {
    load_str("model.yaml", text, &Settings::default())
        .unwrap_or_else(|e| panic!("{e}\n{text}"))
        .remove(0)
}

fn plan_of(retry: &str, dialect: &str) -> Plan {
    load(&format!(
        "scenario: model\nabout: It is explored.\npeers:\n  front: {{frontend: simulated, {dialect}retry: {{{retry}}}}}\n  \
         back: {{backend: simulated, {dialect}retry: {{{retry}}}}}\nsteps:\n  - connect: {{from: front, to: back}}\n"
    ))
}

fn model_of(plan: &Plan) -> Modelled {
    let found = modelled(&plan.scenario).unwrap_or_else(|e| panic!("{}", e.message));
    found.expect("the peers are modelled endpoints")
}

fn replay(times: u32) {
    let around = Environment {
        catalogue: Catalogue::load(None, "vuh".into()).expect("the built-in catalogue is valid"),
        frontend: None,
        backend: None,
        timeout_ms: None,
        keep: None,
        required: Vec::new(),
        rerun: String::new(),
    };
    let mut texts = Vec::new();
    for strategy in STRATEGIES {
        for program in PROGRAMS {
            for regime in Regime::ALL {
                for resends in [Resends::DEFAULT, Resends::Unbounded] {
                    let mut system = System::new(strategy, program, regime, resends);
                    if regime == Regime::Async && (resends == Resends::Unbounded || program.front.endless) {
                        system.queue_max = 3;
                    }
                    let limits = Limits {
                        states: REPLAYED_STATES_MAX,
                        ..Limits::default()
                    };
                    let found = verdict(&system, limits);
                    let retry = format!(
                        "strategy: {}, program: {}, resends: {resends}",
                        strategy.name, program.name
                    );
                    let plan = plan_of(&retry, "dialect: vhost-pci, ");
                    let model = model_of(&plan).in_regime(regime);
                    for finding in &found.findings {
                        let schedule = Schedule::of(finding, regime, resends);
                        let text = schedule
                            .scenario(&plan, &model, "model", finding.class)
                            .expect("a trace can be played");
                        texts.push((format!("{} {} {}", strategy.name, program.name, finding.class), text));
                    }
                }
            }
        }
    }
    for case in CASES {
        let plan = plan_of(&format!("case: {}", case.name), "");
        let model = model_of(&plan);
        for finding in &verdict(case, Limits::default()).findings {
            let schedule = Schedule::of(finding, Regime::Slow, Resends::DEFAULT);
            let text = schedule
                .scenario(&plan, &model, "model", finding.class)
                .expect("a trace can be played");
            texts.push((format!("{} {}", case.name, finding.class), text));
        }
    }
    let began = Instant::now();
    let (mut passed, mut failed) = (0u64, 0u64);
    for (name, text) in &texts {
        let plan = load(text);
        for _ in 0..times {
            match run(&plan, &around).verdict {
                Judged::Pass => passed += 1,
                other => {
                    failed += 1;
                    println!("{name}: {other:?}");
                }
            }
        }
    }
    println!(
        "{} counterexamples, each {times} times over real sockets: {passed} as the model says, {failed} otherwise; {:.1} s",
        texts.len(),
        began.elapsed().as_secs_f64()
    );
}
