//! `vuh explore`.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::exit::Exit;
use super::fault::UsageError;
use super::run::binary;
use super::select::Selection;
use crate::explore::model::page;
use crate::explore::{self, Found, Options, Regime, Report, Resends, Search};
use crate::report::Console;
use crate::report::console::ColorChoice;
use crate::scenario::scalar::Duration;
use crate::suite::environment::{self, Options as EnvironmentOptions, REQUIRE_VARIABLE};
use crate::suite::schedule::{JOBS_MAX, default_jobs};
use crate::sys::signal;

/// Options of `vuh explore`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// How schedules are chosen [default: exhaustive for modelled endpoints, random for real programs]
    #[arg(long, value_enum)]
    search: Option<SearchArg>,
    /// Schedules to try
    #[arg(long, value_name = "N", default_value_t = 200)]
    schedules: u64,
    /// Where chance begins
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Choices of a schedule, at most
    #[arg(long, value_name = "N")]
    depth: Option<u32>,
    /// Real programs: points at which priorities change (pct; 3), or pairs of events turned round in one schedule (exhaustive; 2)
    #[arg(long, value_name = "N")]
    bound: Option<u32>,
    /// Real programs: kill one of them at some moment; whoever is left must not fall
    #[arg(long)]
    kill: bool,
    /// Real programs: stop threads as well where they are told of something else than a kick, a call or an error
    #[arg(long)]
    every_wake: bool,
    /// Real programs: schedules to run at the same time [default: the number of CPUs]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=JOBS_MAX as i64))]
    jobs: Option<u16>,
    /// Replace each scenario's own time limit, as in '500 ms' or '20 s'
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Duration>,
    /// Re-sends of a modelled endpoint: a number, or 'unbounded'
    #[arg(long, value_name = "N")]
    resends: Option<Resends>,
    /// States to visit, at most
    #[arg(long, value_name = "N")]
    states: Option<u64>,
    /// Replay this schedule
    #[arg(long, value_name = "TOKEN")]
    schedule: Option<String>,
    /// When timers of modelled endpoints fire: slow, sync or async; may be repeated [default: all three]
    #[arg(long = "regime", value_name = "REGIME")]
    regimes: Vec<Regime>,
    /// Leave out interleavings that cannot make a difference
    #[arg(long)]
    reduce: bool,
    /// Take states for one that differ only in who is who
    #[arg(long)]
    symmetry: bool,
    /// Use this front-end in every scenario
    #[arg(long, value_name = "PEER")]
    frontend: Option<String>,
    /// Use this back-end in every scenario
    #[arg(long, value_name = "PEER")]
    backend: Option<String>,
    /// Further catalogue files, which go before the built-in ones
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Write what was found as a scenario that `vuh run` replays
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Explore every modelled strategy, program, regime and case, and write the page about it (docs/retry.md): -o FILE, its pictures
    /// in a folder beside it, or the page alone to the terminal
    #[arg(long)]
    table: bool,
    /// For programs: one JSON value a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SearchArg {
    Exhaustive,
    Random,
    Pct,
    Replay,
}

impl From<SearchArg> for Search {
    fn from(search: SearchArg) -> Self {
        match search {
            SearchArg::Exhaustive => Search::Exhaustive,
            SearchArg::Random => Search::Random,
            SearchArg::Pct => Search::Pct,
            SearchArg::Replay => Search::Replay,
        }
    }
}

const HELP: &str = "\
Exits with 0 if nothing is wrong with any schedule, 1 if something can go wrong, 4 if nothing could be
explored, 5 if nothing was found before a bound was met.";

pub(super) fn run(args: &Args, out: &mut Console) -> anyhow::Result<Exit> {
    let usage = |text: &str| UsageError::Unknown(text.to_owned());
    if args.table {
        return table(args, out);
    }
    if args.schedule.is_none() && matches!(args.search, Some(SearchArg::Replay)) {
        return Err(usage("--search replay needs --schedule TOKEN").into());
    }
    let options = Options {
        search: match args.schedule {
            Some(_) => Search::Replay,
            None => args.search.map_or(Search::Exhaustive, Search::from),
        },
        live: args.search.map_or(Search::Random, Search::from),
        bound: args.bound,
        kill: args.kill,
        every_wake: args.every_wake,
        jobs: args.jobs.unwrap_or_else(|| u16::try_from(default_jobs()).unwrap_or(1)),
        schedules: args.schedules,
        seed: args.seed,
        depth: args.depth,
        resends: args.resends,
        states: args.states,
        schedule: args.schedule.clone(),
        regimes: args.regimes.clone(),
        reduce: args.reduce,
        symmetry: args.symmetry,
    };
    let mut around = EnvironmentOptions {
        frontend: args.frontend.clone(),
        backend: args.backend.clone(),
        set: args.selection.settings(),
        peers: args.peers.clone(),
        timeout_ms: args.timeout.map(|limit| limit.ms),
        require: std::env::var(REQUIRE_VARIABLE).unwrap_or_default(),
        ..EnvironmentOptions::default()
    };
    // before any scenario is read, so that a wrong peer is said first
    environment::environment(&around, binary()?)?;
    let chosen = args.selection.load()?;
    around.root.clone_from(&chosen.root);
    let environment = environment::environment(&around, binary()?)?;
    if args.output.is_some() && chosen.plans.len() > 1 {
        return Err(usage("-o takes what is found in one scenario; several were chosen").into());
    }
    signal::install().context("signal handlers cannot be installed")?;
    let mut reports = Vec::new();
    for plan in &chosen.plans {
        let report = explore::explore(plan, &environment, &options)?;
        match args.json {
            true => out.line(&report.json),
            false => out.text(&report.text),
        }
        if let (Some(path), Some(text)) = (&args.output, &report.scenario) {
            std::fs::write(path, text).with_context(|| path.display().to_string())?;
        }
        reports.push(report);
        if signal::interrupted() {
            return Ok(Exit::Interrupted);
        }
    }
    Ok(exit(&reports))
}

/// The page about all models.
fn table(args: &Args, out: &mut Console) -> anyhow::Result<Exit> {
    let mut progress = Console::stderr(ColorChoice::Never);
    let files = page::pages(page::Effort::FULL, &mut |what| {
        progress.line(format_args!("exploring {what}"))
    });
    let Some(path) = &args.output else {
        out.text(&files[0].text);
        return Ok(Exit::Passed);
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    for (at, file) in files.iter().enumerate() {
        let to = if at == 0 { path.clone() } else { folder.join(&file.path) };
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        }
        std::fs::write(&to, &file.text).with_context(|| to.display().to_string())?;
    }
    Ok(Exit::Passed)
}

fn exit(reports: &[Report]) -> Exit {
    let any = |wanted: fn(&Found) -> bool| reports.iter().any(|report| wanted(&report.result));
    if any(|found| matches!(found, Found::Something)) {
        Exit::Failed
    } else if any(|found| matches!(found, Found::NotExhausted(_))) {
        Exit::Inconclusive
    } else if any(|found| matches!(found, Found::Nothing)) {
        Exit::Passed
    } else {
        Exit::NothingRan
    }
}
