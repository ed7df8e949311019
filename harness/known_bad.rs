//! The suite bites: which published release of `vhost-user-backend` loses which kick, as a table, and every scenario run
//! against every release. Each cell runs several times (`VUH_TIMES`, 5 unless it says otherwise), and all have to agree.
//!
//! And that `vuh explore` finds the kick that is lost across a disable without being told where: the scenario that it is
//! given holds nothing.
//!
//! `harness/known-bad/build` makes the back-ends. What is not built is ignored, unless `VUH_REQUIRE` names it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use vhost_user_harness::engine::{self, Environment, obstacle};
use vhost_user_harness::explore::{self, Found, Search};
use vhost_user_harness::judge::outcome::Outcome;
use vhost_user_harness::judge::verdict::{FailKind, Verdict};
use vhost_user_harness::scenario::{Plan, Settings, load_file};
use vhost_user_harness::suite::environment::{self, BIN_VARIABLE, Options, REQUIRE_VARIABLE};

/// How often each cell of the table is run.
const TIMES_VARIABLE: &str = "VUH_TIMES";
const TIMES_DEFAULT: u32 = 5;

/// What becomes of the kick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Served,
    Lost,
    /// The interleaving does not exist in this program: all is done by one thread, or nothing is.
    Impossible,
}

use Fate::{Impossible, Lost, Served};

const PEERS: [&str; 6] = [
    "vub-0.21",
    "vub-0.22",
    "vub-0.23",
    "vub-0.24",
    "reference",
    "qemu-storage-daemon",
];

/// One row a scenario, one column a peer.
const TABLE: &[(&str, [Fate; 6])] = &[
    (
        "lost-kick-before-enable",
        [Lost, Served, Served, Served, Served, Served],
    ),
    (
        "kick-while-enable-unread",
        [Lost, Served, Served, Served, Served, Served],
    ),
    (
        "lost-kick-across-disable",
        [Lost, Lost, Lost, Served, Served, Impossible],
    ),
    (
        "lost-kick-ahead-of-disable",
        [Impossible, Impossible, Impossible, Impossible, Impossible, Served],
    ),
];

/// What exploring finds: by scenario and peer, whether some order of events loses the kick.
const EXPLORED: (&str, [Fate; 5]) = ("request-beside-disable", [Lost, Lost, Lost, Served, Served]);
/// Schedules that are tried; it takes a dozen, and one that loses nothing gets as many.
const SCHEDULES: u64 = 200;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    match trials() {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn trials() -> Result<Vec<Trial>, Box<dyn std::error::Error>> {
    let times = env::var(TIMES_VARIABLE).map_or(Ok(TIMES_DEFAULT), |times| times.parse())?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/race");
    let mut trials = Vec::new();
    for (scenario, fates) in TABLE {
        let plans = load_file(&root.join(format!("{scenario}.yaml")), &Settings::default());
        let plan = Arc::new(plans.map_err(|errors| errors.to_string())?.remove(0));
        for (peer, fate) in PEERS.into_iter().zip(*fates) {
            let options = Options {
                backend: Some(peer.to_owned()),
                require: env::var(REQUIRE_VARIABLE).unwrap_or_default(),
                ..Options::default()
            };
            let environment = environment::environment(&options, binary())?;
            let missing = obstacle(&plan, &environment).filter(|obstacle| !obstacle.fatal);
            let plan = Arc::clone(&plan);
            let name = format!("{scenario} on {peer}: {fate:?}").to_lowercase();
            let trial = Trial::ignorable_test(name, move || run(&plan, &environment, fate, times));
            let kind = missing.as_ref().map(|m| m.reason.clone()).unwrap_or_default();
            trials.push(trial.with_ignored_flag(missing.is_some()).with_kind(kind));
        }
    }
    let (scenario, fates) = EXPLORED;
    let plans = load_file(&root.join(format!("{scenario}.yaml")), &Settings::default());
    let plan = Arc::new(plans.map_err(|errors| errors.to_string())?.remove(0));
    for (peer, fate) in PEERS.into_iter().zip(fates) {
        for (search, name) in [(Search::Random, "random"), (Search::Exhaustive, "exhaustive")] {
            let options = Options {
                backend: Some(peer.to_owned()),
                require: env::var(REQUIRE_VARIABLE).unwrap_or_default(),
                // only a scenario that was written waits for it, and hangs
                timeout_ms: Some(5_000),
                ..Options::default()
            };
            let environment = environment::environment(&options, binary())?;
            let missing = obstacle(&plan, &environment).filter(|obstacle| !obstacle.fatal);
            let plan = Arc::clone(&plan);
            let name = format!("exploring {scenario} on {peer}, {name}: {fate:?}").to_lowercase();
            let trial = Trial::ignorable_test(name, move || explored(&plan, &environment, search, fate));
            let kind = missing.as_ref().map(|m| m.reason.clone()).unwrap_or_default();
            trials.push(trial.with_ignored_flag(missing.is_some()).with_kind(kind));
        }
    }
    Ok(trials)
}

/// Explores, and holds what is found against what is known of the fault: one order of two events, which fails each time,
/// and fails as well when `vuh run` runs the scenario that was written of it.
fn explored(plan: &Plan, environment: &Environment, live: Search, wanted: Fate) -> Result<Completion, Failed> {
    let options = explore::Options {
        live,
        schedules: SCHEDULES,
        seed: 5,
        bound: Some(1),
        ..explore::Options::default()
    };
    let report = explore::explore(plan, environment, &options).map_err(|error| error.to_string())?;
    let json = &report.json;
    match (&report.result, wanted) {
        (Found::Unsupported(why), _) if why.contains("ptrace is not permitted") => {
            return Ok(Completion::ignored_with(why.clone()));
        }
        (Found::Nothing | Found::NotExhausted(_), Served) if json["covered"]["inconclusive"] == 0 => {}
        (Found::Something, Lost) => {
            let order = &json["order"][0];
            let is_pair = order["first"] == "SET_VRING_ENABLE index=0 num=0 from front arrives at back"
                && order["then"] == "thread vring_worker of back, told of the kick of ring 0, goes on";
            let (confirmed, script) = (&json["confirmed"], &json["scenario_fails"]);
            let always = |figures: &serde_json::Value| figures[0] == figures[1] && figures[0] != 0;
            if !is_pair || json["order"].as_array().is_none_or(|orders| orders.len() != 1) {
                return Err(format!("another order was found: {}", report.text).into());
            }
            if !always(confirmed) || !always(script) || json["swap_is_all_that_differs"] != true {
                return Err(format!("what was found does not hold: {}", report.text).into());
            }
        }
        (_, wanted) => return Err(format!("{wanted:?} was to be found: {}", report.text).into()),
    }
    Ok(Completion::Completed)
}

fn run(plan: &Plan, environment: &Environment, wanted: Fate, times: u32) -> Result<Completion, Failed> {
    for time in 1..=times {
        let outcome = engine::run(plan, environment);
        if fate(&outcome) != Some(wanted) {
            let reason = outcome.reason.unwrap_or_default();
            if outcome.verdict == Verdict::Unsupported && reason.contains("ptrace is not permitted") {
                return Ok(Completion::ignored_with(reason));
            }
            return Err(format!("run {time} of {times}: {}: {reason}", outcome.verdict).into());
        }
    }
    Ok(Completion::Completed)
}

/// What an outcome says of the kick; nothing if it is about something else.
fn fate(outcome: &Outcome) -> Option<Fate> {
    let reason = outcome.reason.as_deref().unwrap_or_default();
    match outcome.verdict {
        Verdict::Pass => Some(Served),
        Verdict::Fail(FailKind::Wrong) if reason.contains("the ring stopped at another place") => Some(Lost),
        Verdict::Unsupported if reason.contains("has no thread that waits like this") => Some(Impossible),
        _ => None,
    }
}

fn binary() -> PathBuf {
    let named = [BIN_VARIABLE, "NEXTEST_BIN_EXE_vuh"]
        .into_iter()
        .filter_map(env::var_os)
        .find(|path| !path.is_empty());
    named.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_vuh")), PathBuf::from)
}
