//! Every counterexample over real sockets: the scenario that the search writes, run by the engine.

use super::*;
use crate::engine::{self, Environment};
use crate::judge::verdict::Verdict as Judged;
use crate::peer::catalogue::Catalogue;
use crate::scenario::{Plan, Settings, load_str};

/// A scenario with the two endpoints and nothing else.
pub(in super::super) fn plan_of(front: &str, back: &str, dialect: &str) -> Plan {
    let text = format!(
        "scenario: model\nabout: It is explored.\npeers:\n  front: {{frontend: simulated, {dialect}retry: {{{front}}}}}\n  \
         back: {{backend: simulated, {dialect}retry: {{{back}}}}}\nsteps:\n  - connect: {{from: front, to: back}}\n"
    );
    load(&text)
}

fn load(text: &str) -> Plan {
    let plans = load_str("model.yaml", text, &Settings::default());
    plans.unwrap_or_else(|e| panic!("{e}\n{text}")).remove(0)
}

/// Runs what a search wrote; the verdict class is part of it.
fn replay(plan: &Plan, modelled: &crate::scenario::retry::Modelled, schedule: &Schedule, class: Class) {
    let text = schedule.scenario(plan, modelled, "model", class).unwrap();
    let around = Environment {
        catalogue: Catalogue::load(None, "vuh".into()).unwrap(),
        frontend: None,
        backend: None,
        timeout_ms: None,
        keep: None,
        required: Vec::new(),
        rerun: String::new(),
    };
    let outcome = engine::run(&load(&text), &around);
    assert_eq!(
        outcome.verdict,
        Judged::Pass,
        "{:?}\n{text}",
        outcome.failure.map(|f| f.diagnostic)
    );
}

/// Broken: two real sockets do something else than the model, on the way or at the end, for some counterexample of the table.
#[test]
fn every_counterexample_replays_live() {
    let mut replayed = 0;
    for (strategy, program, system) in all() {
        let Some(found) = small(&system, Limits::default()) else {
            continue;
        };
        let resends = match system.resends {
            Resends::Unbounded => ", resends: unbounded",
            Resends::AtMost(_) => "",
        };
        let retry = format!("strategy: {}, program: {}{resends}", strategy.name, program.name);
        let plan = plan_of(&retry, &retry, "dialect: vhost-pci, ");
        let modelled = crate::scenario::retry::modelled(&plan.scenario).unwrap().unwrap();
        let modelled = modelled.in_regime(system.regime);
        for finding in &found.findings {
            let schedule = Schedule::of(finding, system.regime, system.resends);
            replay(&plan, &modelled, &schedule, finding.class);
            replayed += 1;
        }
    }
    for case in CASES {
        let retry = format!("case: {}", case.name);
        let plan = plan_of(&retry, &retry, "");
        let modelled = crate::scenario::retry::modelled(&plan.scenario).unwrap().unwrap();
        for finding in &verdict(case, Limits::default()).findings {
            let schedule = Schedule::of(finding, Regime::Slow, Resends::DEFAULT);
            replay(&plan, &modelled, &schedule, finding.class);
            replayed += 1;
        }
    }
    assert!(replayed > 1000, "{replayed}");
}
