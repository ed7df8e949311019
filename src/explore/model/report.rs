//! What the exploration of a scenario's model found: as text, as JSON, and as a scenario.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::chance::{Sampled, sample};
use super::diagram::{rows, text};
use super::schedule::Schedule;
use super::search::{Bound, Limits, STATES_DEFAULT};
use super::verdict::{Finding, Verdict, verdict};
use crate::explore::{ExploreError, Found, Options, Report, Search};
use crate::peer::sim::retry::play::Model;
use crate::peer::sim::retry::{Class, Regime, Resends};
use crate::scenario::Plan;
use crate::scenario::retry::{Modelled, modelled};

/// Messages in a queue at most, where re-sends have no bound and timers fire at any time: the states would have no end.
pub const QUEUE_BOUND: u8 = 4;

/// States from which on it is said what one takes.
const SOME_STATES: usize = 10_000;

/// Explores a scenario of modelled endpoints.
///
/// # Errors
/// A schedule that does not fit.
pub fn explore(plan: &Plan, options: &Options) -> Result<Report, ExploreError> {
    let found = modelled(&plan.scenario).map_err(|e| ExploreError::Scenario(e.message.clone()))?;
    let missing = || ExploreError::Scenario("the peers are no modelled endpoints".to_owned());
    let mut modelled = found.ok_or_else(missing)?;
    if let (Model::One(system), Some(resends)) = (&mut modelled.model, options.resends) {
        system.resends = resends;
    }
    match options.search {
        Search::Replay => replay(plan, modelled, options),
        Search::Exhaustive => exhaustive(plan, &modelled, options),
        Search::Random | Search::Pct => by_chance(plan, &modelled, options),
    }
}

fn regimes(modelled: &Modelled, options: &Options) -> Vec<Regime> {
    match modelled.model {
        // it has no timers
        Model::Two(_) => vec![Regime::Slow],
        Model::One(_) if options.regimes.is_empty() => Regime::ALL.to_vec(),
        Model::One(_) => options.regimes.clone(),
    }
}

fn resends(model: &Model) -> Resends {
    match model {
        Model::One(system) => system.resends,
        Model::Two(_) => Resends::DEFAULT,
    }
}

/// The model in a regime, bounded where it has to be.
fn bounded(modelled: &Modelled, regime: Regime) -> Model {
    let mut model = modelled.clone().in_regime(regime).model;
    if let Model::One(system) = &mut model
        && system.resends == Resends::Unbounded
        && regime == Regime::Async
    {
        system.queue_max = QUEUE_BOUND;
    }
    model
}

/// Searches a model of either kind.
pub fn judge(model: &Model, limits: Limits) -> Verdict {
    match model {
        Model::One(system) => verdict(system, limits),
        Model::Two(case) => verdict(case, limits),
    }
}

fn limits(options: &Options) -> Limits {
    Limits {
        states: options
            .states
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(STATES_DEFAULT)
            .min(u32::MAX as usize - 2),
        depth: options.depth.unwrap_or(u32::MAX),
        reduce: options.reduce,
        symmetry: options.symmetry,
    }
}

/// What a bound means, in words.
pub fn bound_words(bounds: &[Bound], limits: &Limits) -> String {
    let word = |bound: &Bound| match bound {
        Bound::States => format!("{} states", limits.states),
        Bound::Depth => format!("{} steps", limits.depth),
        Bound::Queue => "the length of a queue".to_owned(),
    };
    bounds.iter().map(word).collect::<Vec<_>>().join(" and ")
}

fn exhaustive(plan: &Plan, modelled: &Modelled, options: &Options) -> Result<Report, ExploreError> {
    let limits = limits(options);
    let mut out = format!("{}: {}\n", plan.id, modelled.label);
    let mut parts = Vec::new();
    let mut worst: Option<(Finding, Regime)> = None;
    let mut bounds: Vec<Bound> = Vec::new();
    for regime in regimes(modelled, options) {
        let model = bounded(modelled, regime);
        let verdict = judge(&model, limits);
        let rules = match modelled.model {
            Model::One(_) => format!("timers {}, re-sends {}", regime.name(), resends(&model)),
            Model::Two(_) => "two channels".to_owned(),
        };
        // of a few states the table's first size is most
        let bytes = match verdict.states {
            SOME_STATES.. => format!("; {:.0} bytes a state", verdict.bytes_per_state),
            _ => String::new(),
        };
        let covered = match verdict.bounds.is_empty() {
            true => "all of them".to_owned(),
            false => format!("NOT EXHAUSTED, met {}", bound_words(&verdict.bounds, &limits)),
        };
        let _ = writeln!(
            out,
            "  {rules}: {} states, {} transitions, {} ends ({covered}{bytes})",
            verdict.states, verdict.transitions, verdict.finished
        );
        if verdict.findings.is_empty() {
            out.push_str("    safe\n");
        }
        for finding in &verdict.findings {
            let schedule = Schedule::of(finding, regime, resends(&model));
            let _ = writeln!(
                out,
                "    {:<24} {:>3} steps  --schedule {}",
                finding.class.name(),
                finding.length(),
                schedule.token(&model)
            );
        }
        parts.push(verdict_json(&model, regime, &verdict));
        for bound in &verdict.bounds {
            if !bounds.contains(bound) {
                bounds.push(*bound);
            }
        }
        for finding in verdict.findings {
            if worst.as_ref().is_none_or(|(known, _)| finding.class < known.class) {
                worst = Some((finding, regime));
            }
        }
    }
    let scenario = match &worst {
        Some((finding, regime)) => {
            let model = modelled.clone().in_regime(*regime);
            let schedule = Schedule::of(finding, *regime, resends(&model.model));
            let fail = |why| ExploreError::Harness(format!("a trace of the search cannot be played: {why}"));
            let rows = rows(&schedule, &model.model).map_err(fail)?;
            let end = format!("{} ({})", finding.class.name(), regime.name());
            out.push('\n');
            out.push_str(&text(&rows, &modelled.names, &end));
            let id = format!("{}-{}", plan.id, finding.class.name());
            Some(schedule.scenario(plan, &model, &id, finding.class).map_err(fail)?)
        }
        None => None,
    };
    let result = match (&worst, bounds.is_empty()) {
        (Some(_), _) => Found::Something,
        (None, true) => Found::Nothing,
        (None, false) => Found::NotExhausted(bound_words(&bounds, &limits)),
    };
    Ok(Report {
        id: plan.id.clone(),
        result,
        text: out,
        json: json!({"scenario": plan.id, "model": modelled.label, "search": "exhaustive", "explored": parts}),
        scenario,
    })
}

/// A verdict for programs.
pub fn verdict_json(model: &Model, regime: Regime, verdict: &Verdict) -> Value {
    let findings: Vec<Value> = verdict
        .findings
        .iter()
        .map(|finding| {
            let schedule = Schedule::of(finding, regime, resends(model));
            json!({"class": finding.class.name(), "steps": finding.length(), "schedule": schedule.token(model)})
        })
        .collect();
    let bounds: Vec<&str> = verdict
        .bounds
        .iter()
        .map(|bound| match bound {
            Bound::States => "states",
            Bound::Depth => "depth",
            Bound::Queue => "queue",
        })
        .collect();
    json!({
        "regime": regime.name(),
        "resends": resends(model).to_string(),
        "states": verdict.states,
        "transitions": verdict.transitions,
        "finished": verdict.finished,
        "bytes_per_state": verdict.bytes_per_state,
        "exhausted": bounds.is_empty(),
        "bounds_met": bounds,
        "classes": findings,
    })
}

fn by_chance(plan: &Plan, modelled: &Modelled, options: &Options) -> Result<Report, ExploreError> {
    let mut out = format!("{}: {}\n", plan.id, modelled.label);
    let mut parts = Vec::new();
    let mut worst: Option<(Finding, Regime)> = None;
    for regime in regimes(modelled, options) {
        let model = bounded(modelled, regime);
        let sampled: Sampled = sample(&model, options.search, options.seed, options.schedules, options.depth);
        let _ = writeln!(
            out,
            "  timers {}, re-sends {}: {} schedules from seed {}, {} steps, {} collide, {} come to an end",
            regime.name(),
            resends(&model),
            options.schedules,
            options.seed,
            sampled.steps,
            sampled.collided,
            sampled.ended
        );
        let mut classes = Vec::new();
        for (class, count, steps) in &sampled.found {
            let finding = Finding {
                class: *class,
                steps: steps.clone(),
                cycle: Vec::new(),
            };
            let schedule = Schedule::of(&finding, regime, resends(&model));
            let token = schedule.token(&model);
            let _ = writeln!(out, "    {:<24} {count:>6} of them  --schedule {token}", class.name());
            classes.push(json!({"class": class.name(), "schedules": count, "schedule": token}));
            if worst.as_ref().is_none_or(|(known, _)| finding.class < known.class) {
                worst = Some((finding, regime));
            }
        }
        if sampled.found.is_empty() {
            out.push_str("    nothing wrong in any of them\n");
        }
        parts.push(json!({
            "regime": regime.name(), "schedules": options.schedules, "seed": options.seed, "steps": sampled.steps,
            "collided": sampled.collided, "ended": sampled.ended, "classes": classes,
        }));
    }
    let search = if options.search == Search::Pct { "pct" } else { "random" };
    let scenario = match &worst {
        Some((finding, regime)) => {
            let model = modelled.clone().in_regime(*regime);
            let schedule = Schedule::of(finding, *regime, resends(&model.model));
            let id = format!("{}-{}", plan.id, finding.class.name());
            let text = schedule.scenario(plan, &model, &id, finding.class);
            Some(text.map_err(ExploreError::Harness)?)
        }
        None => None,
    };
    Ok(Report {
        id: plan.id.clone(),
        result: match worst {
            Some(_) => Found::Something,
            None => Found::NotExhausted(format!("{} schedules", options.schedules)),
        },
        text: out,
        json: json!({"scenario": plan.id, "model": modelled.label, "search": search, "explored": parts}),
        scenario,
    })
}

fn replay(plan: &Plan, mut modelled: Modelled, options: &Options) -> Result<Report, ExploreError> {
    let token = options.schedule.clone().unwrap_or_default();
    let wrong = |why: String| ExploreError::Schedule {
        token: token.clone(),
        why,
    };
    let schedule = Schedule::parse(&token, &modelled.model).map_err(wrong)?;
    if let Model::One(system) = &mut modelled.model {
        system.resends = schedule.resends;
    }
    let modelled = modelled.in_regime(schedule.regime);
    let (_, classes) = schedule.play(&modelled.model).map_err(wrong)?;
    let rows = rows(&schedule, &modelled.model).map_err(wrong)?;
    let cycle = !schedule.cycle.is_empty();
    let end = match (classes.is_empty(), cycle) {
        (true, true) => "and so on without end".to_owned(),
        (false, true) => format!("{classes}, and so on without end"),
        (_, false) => classes.to_string(),
    };
    let mut out = format!("{}: {}\n", plan.id, modelled.label);
    out.push_str(&text(&rows, &modelled.names, &end));
    let class = classes.iter().next();
    let scenario = match (class, cycle) {
        (_, true) => Some(Class::LivelockEscapable),
        (class, false) => class,
    };
    let scenario = scenario.map(|class| {
        let id = format!("{}-{}", plan.id, class.name());
        schedule.scenario(plan, &modelled, &id, class).map_err(wrong)
    });
    Ok(Report {
        id: plan.id.clone(),
        result: if classes.is_empty() && !cycle {
            Found::Nothing
        } else {
            Found::Something
        },
        text: out,
        json: json!({
            "scenario": plan.id, "model": modelled.label, "search": "replay", "schedule": token,
            "classes": classes.iter().map(Class::name).collect::<Vec<_>>(),
        }),
        scenario: scenario.transpose()?,
    })
}
