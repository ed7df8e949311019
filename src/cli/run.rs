//! `vuh run`.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr, stdout};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::exit::Exit;
use super::fault::UsageError;
use super::select::Selection;
use crate::engine::Environment;
use crate::report::console::ColorChoice;
use crate::report::json::{Json, JsonRun};
use crate::report::junit::JUnit;
use crate::report::terminal::Terminal;
use crate::report::{Console, ReportFile, Reporter};
use crate::scenario::Plan;
use crate::scenario::scalar::Duration;
use crate::suite::environment::{self, BIN_VARIABLE, Options, REQUIRE_VARIABLE};
use crate::suite::schedule::{self, Event};
use crate::suite::{Summary, filter, peers, replaced};
use crate::sys::signal;

/// Options of `vuh run`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = filter::HELP)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Use this front-end in every scenario: a catalogue name, "a command {socket}", listen:PATH or connect:PATH
    #[arg(long, value_name = "PEER")]
    frontend: Option<String>,
    /// Use this back-end in every scenario
    #[arg(long, value_name = "PEER")]
    backend: Option<String>,
    /// Scenarios to run at the same time [default: the number of CPUs]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=schedule::JOBS_MAX as i64))]
    jobs: Option<u16>,
    /// Replace each scenario's own time limit, as in '500 ms' or '20 s'
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Duration>,
    /// Keep the files of every run below this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Write a report: json:FILE or junit:FILE; may be repeated
    #[arg(long = "report", value_name = "KIND:FILE", value_parser = report)]
    reports: Vec<ReportArg>,
    /// Further catalogue files, which go before the built-in ones
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Peers that must be there, between commas, or 'all': a missing one is a failure instead of a skip [env: VUH_REQUIRE]
    #[arg(long, value_name = "PEER,...")]
    require: Option<String>,
}

#[derive(Debug, Clone)]
enum ReportArg {
    Json(PathBuf),
    JUnit(PathBuf),
}

impl ReportArg {
    fn path(&self) -> &Path {
        match self {
            ReportArg::Json(path) | ReportArg::JUnit(path) => path,
        }
    }
}

fn report(text: &str) -> Result<ReportArg, String> {
    match text.split_once(':') {
        Some((_, "")) => Err("the file is missing".to_owned()),
        Some((_, "-")) => Err("`-` is no file; /dev/stdout is where the terminal's report goes, too".to_owned()),
        Some(("json", file)) => Ok(ReportArg::Json(file.into())),
        Some(("junit", file)) => Ok(ReportArg::JUnit(file.into())),
        _ => Err("write json:FILE or junit:FILE".to_owned()),
    }
}

/// The binary that embedded peers are started from: this one, unless the environment names another.
pub(super) fn binary() -> anyhow::Result<PathBuf> {
    match std::env::var_os(BIN_VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => Ok(path.into()),
        None => std::env::current_exe().context("the path of this program cannot be found"),
    }
}

pub(super) fn run(args: &Args, color: ColorChoice) -> anyhow::Result<Exit> {
    let mut options = Options {
        root: None,
        frontend: args.frontend.clone(),
        backend: args.backend.clone(),
        set: args.selection.settings(),
        timeout_ms: args.timeout.map(|limit| limit.ms),
        keep: args.keep.clone(),
        peers: args.peers.clone(),
        require_option: args.require.is_some(),
        require: args
            .require
            .clone()
            .or_else(|| std::env::var(REQUIRE_VARIABLE).ok())
            .unwrap_or_default(),
    };
    // before any scenario is read, so that a wrong peer is said first
    environment::environment(&options, binary()?)?;
    let mut chosen = args.selection.load()?;
    chosen.plans = replaced::merge(chosen.plans, options.frontend.is_some(), options.backend.is_some());
    options.root = chosen.root;
    let environment = environment::environment(&options, binary()?)?;
    if let Some(path) = &args.keep {
        std::fs::create_dir_all(path).map_err(|source| UsageError::Keep {
            path: path.clone(),
            source,
        })?;
    }
    let mut reporters = reporters(args, &chosen.plans, &environment, color)?;
    signal::install().context("signal handlers cannot be installed")?;

    let jobs = args.jobs.map_or_else(schedule::default_jobs, usize::from);
    let run = |plan: &Plan| schedule::execute(plan, &environment);
    let mut tell = |event: Event| {
        for reporter in &mut reporters {
            match event {
                Event::Started(plan) => reporter.started(plan),
                Event::Finished(plan, outcome) => reporter.finished(plan, outcome),
            }
        }
    };
    let completed = schedule::run_all(&chosen.plans, jobs, &run, &signal::interrupted, &mut tell);
    let summary = Summary::of(&completed);
    // all are finished, whatever became of the first
    let done: Vec<_> = reporters.iter_mut().map(|r| r.done(&completed, &summary)).collect();
    done.into_iter().collect::<Result<(), _>>()?;
    Ok(Exit::of(&summary))
}

/// The reports that were asked for. The terminal is the first, so that it is complete even if a file cannot be written.
fn reporters(
    args: &Args,
    plans: &[Plan],
    environment: &Environment,
    color: ColorChoice,
) -> anyhow::Result<Vec<Box<dyn Reporter>>> {
    let watched = stdout().is_terminal() && stderr().is_terminal();
    for (at, report) in args.reports.iter().enumerate() {
        if args.reports[..at].iter().any(|other| other.path() == report.path()) {
            let path = report.path().to_owned();
            return Err(UsageError::SameReport { path }.into());
        }
    }
    let mut reporters: Vec<Box<dyn Reporter>> = vec![Box::new(Terminal::new(Console::stdout(color), plans, watched))];
    for report in &args.reports {
        reporters.push(match report {
            ReportArg::JUnit(path) => Box::new(JUnit::new(ReportFile::create(path.clone())?)),
            ReportArg::Json(path) => {
                let options = JsonRun {
                    frontend: args.frontend.clone(),
                    backend: args.backend.clone(),
                    set: args.selection.settings(),
                    filter: args.selection.filter.clone(),
                    timeout_ms: environment.timeout_ms,
                    peer_versions: peer_versions(plans, environment),
                    ..JsonRun::default()
                };
                Box::new(Json::new(ReportFile::create(path.clone())?, options))
            }
        });
    }
    Ok(reporters)
}

/// The versions of the programs that the plans use and that are here.
fn peer_versions(plans: &[Plan], environment: &Environment) -> BTreeMap<String, String> {
    let catalogue = &environment.catalogue;
    let used: Vec<_> = plans.iter().flat_map(|plan| peers::chosen(plan, environment)).collect();
    let takes_part = |entry: &&crate::peer::catalogue::Entry| {
        used.iter()
            .any(|peer| peer.kind == entry.peer && peer.role == peers::role_name(entry.role))
    };
    let entries = catalogue.entries().iter().filter(takes_part);
    entries
        .filter_map(|entry| Some((entry.peer.clone(), catalogue.probe(entry).ok()?)))
        .collect()
}
