//! `vuh doctor`: what this machine can run, what not, and why.

use std::path::PathBuf;

use super::exit::Exit;
use super::run::binary;
use crate::engine::{Environment, obstacle};
use crate::report::Console;
use crate::report::style::Ink;
use crate::scenario::{Settings, load_file};
use crate::suite::environment::{self, Options};
use crate::suite::summary::{Group, add};
use crate::suite::{SelectError, find_files, machine, peers};

/// Options of `vuh doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder that ids are relative to [default: scenarios]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Further catalogue files, which go before the built-in ones
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
}

pub(super) fn run(args: &Args, out: &mut Console) -> anyhow::Result<Exit> {
    let options = Options {
        root: args.root.clone(),
        peers: args.peers.clone(),
        ..Options::default()
    };
    let environment = environment::environment(&options, binary()?)?;
    show_peers(&environment, out);
    show_machine(out);
    show_scenarios(args, &environment, out)?;
    Ok(Exit::Passed)
}

fn heading(out: &mut Console, text: &str) {
    let text = out.style().paint(Ink::Strong, text);
    out.line(text);
}

fn show_peers(environment: &Environment, out: &mut Console) {
    let style = out.style();
    heading(out, "Peers");
    let mut rows = vec![(
        peers::SIMULATED.to_owned(),
        "both".to_owned(),
        Ok("embedded".to_owned()),
    )];
    for entry in environment.catalogue.entries() {
        rows.push((
            entry.peer.clone(),
            peers::role_name(entry.role).to_owned(),
            environment.catalogue.probe(entry),
        ));
    }
    let columns = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    for (name, role, probed) in rows {
        let found = match probed {
            Ok(version) => style.paint(Ink::Good, version),
            Err(why) => style.paint(Ink::Bad, why),
        };
        out.line(format_args!("  {name:<columns$}  {role:<9}  {found}"));
    }
}

fn show_machine(out: &mut Console) {
    let style = out.style();
    heading(out, "\nMachine");
    let facts = machine::facts();
    let columns = facts.iter().map(|fact| fact.name.len()).max().unwrap_or(0);
    for fact in facts {
        let problem = fact
            .problem
            .map(|p| style.paint(Ink::Bad, format!(": {p}")))
            .unwrap_or_default();
        out.line(format_args!("  {:<columns$}  {}{problem}", fact.name, fact.found));
    }
}

fn show_scenarios(args: &Args, environment: &Environment, out: &mut Console) -> anyhow::Result<()> {
    let style = out.style();
    heading(out, "\nScenarios");
    let files = match find_files(&[], args.root.as_deref()) {
        Ok(files) => files,
        // without --root there need not be any
        Err(error @ (SelectError::NoRoot { .. } | SelectError::Empty { .. })) if args.root.is_none() => {
            out.line(format_args!("  {error}"));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let (mut ready, mut invalid) = (0, 0);
    let mut blocked: Vec<Group> = Vec::new();
    for file in files {
        let Ok(plans) = load_file(&file.path, &Settings::default()) else {
            invalid += 1;
            continue;
        };
        for plan in plans {
            match obstacle(&plan, environment) {
                None => ready += 1,
                Some(obstacle) => add(&mut blocked, obstacle.reason, &plan.id),
            }
        }
    }
    out.line(format_args!(
        "  {} can run",
        style.paint(Ink::Good, format!("{ready:>4}"))
    ));
    for group in blocked {
        let number = style.paint(Ink::Odd, format!("{:>4}", group.ids.len()));
        out.line(format_args!("  {number} cannot: {}", group.reason));
    }
    if invalid > 0 {
        let number = style.paint(Ink::Bad, format!("{invalid:>4}"));
        out.line(format_args!("  {number} invalid files: `vuh lint` says why"));
    }
    Ok(())
}
