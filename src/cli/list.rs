//! `vuh list`.

use serde::Serialize;

use super::exit::Exit;
use super::select::Selection;
use crate::judge::outcome::PeerRun;
use crate::report::Console;
use crate::report::style::Ink;
use crate::scenario::Plan;
use crate::suite::{filter, peers};

/// Options of `vuh list`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = filter::HELP)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Print a JSON document instead
    #[arg(long)]
    json: bool,
}

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct List<'a> {
    format: &'static str,
    version: u32,
    scenarios: Vec<Item<'a>>,
}

#[derive(Debug, Serialize)]
struct Item<'a> {
    id: &'a str,
    path: String,
    about: &'a str,
    covers: Vec<&'a str>,
    tags: Vec<&'a str>,
    peers: Vec<Peer>,
}

#[derive(Debug, Serialize)]
struct Peer {
    name: String,
    role: String,
    kind: String,
}

pub(super) fn run(args: &Args, out: &mut Console) -> anyhow::Result<Exit> {
    let plans = args.selection.load()?.plans;
    if args.json {
        let scenarios = plans.iter().map(item).collect();
        out.line(serde_json::to_string_pretty(&List {
            format: "vuh-list",
            version: 1,
            scenarios,
        })?);
        return Ok(Exit::Passed);
    }
    let columns = plans.iter().map(|plan| plan.id.chars().count()).max().unwrap_or(0);
    for plan in &plans {
        let about = plan.scenario.about.split_whitespace().collect::<Vec<_>>().join(" ");
        out.line(format_args!(
            "{:<columns$}  {}",
            plan.id,
            out.style().paint(Ink::Dim, about)
        ));
    }
    Ok(Exit::Passed)
}

fn item(plan: &Plan) -> Item<'_> {
    Item {
        id: &plan.id,
        path: plan.path.display().to_string(),
        about: &plan.scenario.about,
        covers: plan.scenario.covers.iter().map(|id| id.as_str()).collect(),
        tags: plan.scenario.tags.iter().map(|tag| tag.as_str()).collect(),
        peers: peers::declared(plan)
            .into_iter()
            .map(|PeerRun { name, role, kind, .. }| Peer { name, role, kind })
            .collect(),
    }
}
