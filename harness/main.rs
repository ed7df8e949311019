//! Every scenario as a test of its own, under `cargo test --test scenarios` and `cargo nextest run`.
//!
//! What cannot run here is ignored, which is decided when tests are listed: nextest asks for the list first and then
//! starts this program once for each test. Peers named in `VUH_REQUIRE` fail instead. Standard output belongs to the list
//! and the results; everything else goes to standard error.

use std::env;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use vhost_user_harness::engine::{Environment, obstacle};
use vhost_user_harness::judge::outcome::Outcome;
use vhost_user_harness::judge::verdict::Verdict;
use vhost_user_harness::report::{Style, failure};
use vhost_user_harness::scenario::{Plan, Settings, load_file};
use vhost_user_harness::suite::environment::{self, BIN_VARIABLE, Options, REQUIRE_VARIABLE};
use vhost_user_harness::suite::summary::{Group, add, count};
use vhost_user_harness::suite::{Found, execute, find_files};
use vhost_user_harness::sys::signal;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = match trials(&arguments) {
        Ok(trials) => trials,
        Err(error) => {
            say(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Standard error may be closed; then there is nobody to tell.
fn say(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

fn trials(arguments: &Arguments) -> Result<Vec<Trial>, Box<dyn std::error::Error>> {
    let root = root();
    let options = Options {
        require: env::var(REQUIRE_VARIABLE).unwrap_or_default(),
        ..Options::default()
    };
    let mut environment = environment::environment(&options, binary())?;
    environment.rerun = "cargo run -- run".to_owned();
    let environment = Arc::new(environment);
    signal::install()?;

    let mut ignored = Vec::new();
    let mut trials = Vec::new();
    for file in files(arguments, &root)? {
        match load_file(&file.path, &Settings::default()) {
            Ok(plans) => trials.extend(plans.into_iter().map(|plan| trial(plan, &environment, &mut ignored))),
            // one wrong file must not hide all others
            Err(diagnostics) => trials.push(Trial::test(file.id, move || Err(diagnostics.to_string().into()))),
        }
    }
    if !arguments.list && !arguments.exact {
        explain(&ignored);
    }
    Ok(trials)
}

/// The scenario files; only one of them if it is known which test is wanted.
fn files(arguments: &Arguments, root: &Path) -> Result<Vec<Found>, Box<dyn std::error::Error>> {
    if let (true, Some(name)) = (arguments.exact, &arguments.filter) {
        let id = name
            .strip_prefix('[')
            .and_then(|n| n.split_once("] "))
            .map_or(name.as_str(), |(_, id)| id);
        let family = id.split('[').next().unwrap_or(id).to_owned();
        if let Ok(found) = find_files(&[family], Some(root)) {
            return Ok(found);
        }
    }
    Ok(find_files(&[], Some(root))?)
}

fn trial(plan: Plan, environment: &Arc<Environment>, ignored: &mut Vec<Group>) -> Trial {
    let here = obstacle(&plan, environment).filter(|obstacle| !obstacle.fatal);
    let id = plan.id.clone();
    let kind = here.as_ref().map(|obstacle| match &obstacle.missing {
        Some(peer) => format!("no {peer}"),
        None => obstacle.reason.clone(),
    });
    if let Some(obstacle) = here {
        add(ignored, obstacle.reason, &id);
    }
    let environment = Arc::clone(environment);
    let trial = Trial::ignorable_test(id, move || run(&plan, &environment)).with_ignored_flag(kind.is_some());
    trial.with_kind(kind.unwrap_or_default())
}

fn run(plan: &Plan, environment: &Environment) -> Result<Completion, Failed> {
    if signal::interrupted() {
        return Err("not run: interrupted".into());
    }
    let outcome = execute(plan, environment);
    match outcome.verdict {
        Verdict::Pass | Verdict::ExpectedFail => Ok(Completion::Completed),
        Verdict::Skipped | Verdict::Unsupported => Ok(Completion::ignored_with(reason(&outcome))),
        Verdict::Fail(kind) => Err(match &outcome.failure {
            Some(failure) => format!("{kind}\n{}", failure::show(plan, failure, Style::Plain)),
            None => format!("{kind}: {}", reason(&outcome)),
        }
        .into()),
        Verdict::UnexpectedPass | Verdict::Inconclusive => {
            Err(format!("{}: {}", outcome.verdict, reason(&outcome)).into())
        }
    }
}

fn reason(outcome: &Outcome) -> String {
    outcome
        .reason
        .clone()
        .unwrap_or_else(|| "no reason was given".to_owned())
}

fn explain(ignored: &[Group]) {
    if ignored.is_empty() {
        return;
    }
    say(&format!(
        "{} scenarios cannot run here and are ignored ({REQUIRE_VARIABLE} makes them fail):",
        count(ignored)
    ));
    for group in ignored {
        say(&format!("  {:>3}  {}", group.ids.len(), group.reason));
    }
}

/// Relative if this runs where cargo runs it, so that paths in messages are short.
fn root() -> PathBuf {
    let near = Path::new("scenarios");
    if near.is_dir() {
        near.to_owned()
    } else {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(near)
    }
}

/// The binary that embedded peers are started from. nextest says where it is when it runs from an archive.
fn binary() -> PathBuf {
    let named = [BIN_VARIABLE, "NEXTEST_BIN_EXE_vuh"]
        .into_iter()
        .filter_map(env::var_os)
        .find(|path| !path.is_empty());
    named.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_vuh")), PathBuf::from)
}
