//! The tables of `docs/bidirectional.md`: which request of a back-end meets a front-end's at which point, on which peers, and what
//! is known to fail there. They are counted from the scenarios. `VUH_BLESS=1 cargo test --test bidirectional` writes them anew.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use vhost_user_harness::scenario::model::Step;
use vhost_user_harness::scenario::span::At;
use vhost_user_harness::scenario::{Plan, Settings, load_file};

const PAGE: &str = "docs/bidirectional.md";
const BEGIN: &str = "<!-- Counted from the scenarios. VUH_BLESS=1 cargo test --test bidirectional writes it anew. -->";
const END: &str = "<!-- The end of what is counted. -->";
const FOLDERS: [&str; 2] = ["scenarios/race/bidirectional", "scenarios/frontend/qemu"];

/// The points, in the order of the way of a request, and the fragments that make them.
const POINTS: [(&str, &[&str]); 8] = [
    ("before", &["before"]),
    ("request on its way", &["sent", "sent-late", "request"]),
    ("in its handler", &["during"]),
    ("reply on its way", &["answered", "answered-late", "reply"]),
    ("asked before, arrives after", &["overtaken"]),
    ("answered after", &["ack-held"]),
    ("both at once", &["both"]),
    ("flood", &["flood"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn plans(folder: &str) -> Vec<Plan> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    let load = |path: &PathBuf| load_file(path, &Settings::default()).unwrap_or_else(|e| panic!("{path:?}: {e:?}"));
    files.iter().flat_map(load).collect()
}

fn is_of_channel(plan: &Plan) -> bool {
    let mut asks = BTreeSet::new();
    asked(&plan.scenario.steps, plan, &mut asks, &mut 0);
    !asks.is_empty() || plan.id.starts_with("race/bidirectional/")
}

/// What back-ends ask in some steps, and how many requests of front-ends there are beside.
fn asked(steps: &[At<Step>], plan: &Plan, asks: &mut BTreeSet<String>, requests: &mut usize) {
    for step in steps {
        match &step.value {
            Step::Request(request) => {
                let peer = plan.scenario.peers.get(&request.peer.value).unwrap();
                if peer.backend.is_some() {
                    asks.insert(request.message.value.clone());
                } else {
                    *requests += 1;
                }
            }
            Step::AskDuring(ask) => drop(asks.insert(ask.message.value.clone())),
            Step::Repeat(repeat) => asked(&repeat.steps, plan, asks, requests),
            Step::Sanity(steps) => asked(steps, plan, asks, requests),
            Step::Together(tracks) => tracks.iter().for_each(|(_, steps)| asked(steps, plan, asks, requests)),
            _ => {}
        }
    }
}

fn text(plan: &Plan, name: &str) -> Option<String> {
    plan.parameters.get(name).map(|value| value.to_string())
}

/// Who plays the two sides.
fn players(plan: &Plan) -> (String, String) {
    let player = |front: bool| {
        let of = |(_, decl): (_, &vhost_user_harness::scenario::model::PeerDecl)| match front {
            true => decl.frontend.as_ref().map(|p| p.value.clone()),
            false => decl.backend.as_ref().map(|p| p.value.clone()),
        };
        plan.scenario.peers.iter().find_map(of).unwrap_or_default()
    };
    (player(true), player(false))
}

/// The question of a scenario that crosses, and the point.
fn crossing(plan: &Plan) -> Option<(String, &'static str)> {
    let base = plan.id.split('[').next().unwrap_or_default();
    let name = base.rsplit('/').next().unwrap_or_default();
    let mut asks = BTreeSet::new();
    asked(&plan.scenario.steps, plan, &mut asks, &mut 0);
    let ask = text(plan, "ask").or_else(|| (asks.len() == 1).then(|| asks.pop_first()).flatten())?;
    let way = match name {
        "acks-both-ways" => "both".to_owned(),
        "both-sockets-full" | "qemu-flood" => "flood".to_owned(),
        "unmap-while-stopping" | "miss-in-handler" => "during".to_owned(),
        "miss-during-status" => "answered".to_owned(),
        _ => text(plan, "point").or_else(|| text(plan, "way"))?,
    };
    let point = POINTS.iter().find(|(_, ways)| ways.contains(&way.as_str()))?.0;
    Some((ask, point))
}

fn tables() -> String {
    let all: Vec<Plan> = FOLDERS
        .iter()
        .flat_map(|folder| plans(folder))
        .filter(is_of_channel)
        .collect();
    let mut cells: BTreeMap<(String, &str), (usize, usize)> = BTreeMap::new();
    let mut by_players: BTreeMap<(String, String), (usize, BTreeSet<String>)> = BTreeMap::new();
    for plan in all.iter().filter(|plan| plan.scenario.expected_fail.is_none()) {
        let mut asks = BTreeSet::new();
        let mut requests = 0;
        asked(&plan.scenario.steps, plan, &mut asks, &mut requests);
        let of_players = by_players.entry(players(plan)).or_default();
        of_players.0 += 1;
        of_players.1.extend(asks);
        if let Some((ask, point)) = crossing(plan) {
            let cell = cells.entry((ask, point)).or_default();
            *cell = (cell.0 + 1, cell.1 + requests.max(1));
        }
    }
    let mut out = String::new();
    let header: Vec<&str> = POINTS.iter().map(|(name, _)| *name).collect();
    writeln!(out, "| the back-end asks | {} |", header.join(" | ")).unwrap();
    writeln!(out, "|---|{}", "---|".repeat(header.len())).unwrap();
    let asks: BTreeSet<&String> = cells.keys().map(|(ask, _)| ask).collect();
    for ask in asks {
        let row: Vec<String> = header
            .iter()
            .map(|point| match cells.get(&(ask.clone(), *point)) {
                Some((scenarios, requests)) => format!("{scenarios} ({requests})"),
                None => String::new(),
            })
            .collect();
        writeln!(out, "| {ask} | {} |", row.join(" | ")).unwrap();
    }
    writeln!(
        out,
        "\n| front-end | back-end | scenarios that pass | questions in them |\n|---|---|---|---|"
    )
    .unwrap();
    for ((front, back), (count, asks)) in &by_players {
        let asks: Vec<&str> = asks.iter().map(String::as_str).collect();
        writeln!(out, "| {front} | {back} | {count} | {} |", asks.join(", ")).unwrap();
    }
    writeln!(out, "\n| scenario | what fails, and why |\n|---|---|").unwrap();
    let mut known: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for plan in &all {
        if let Some(failure) = &plan.scenario.expected_fail {
            let base = plan.id.split('[').next().unwrap_or_default();
            let entry = known.entry(base).or_insert((&failure.value.because.value, 0));
            entry.1 += 1;
        }
    }
    for (id, (because, members)) in known {
        let members = if members > 1 {
            format!(" ({members})")
        } else {
            String::new()
        };
        writeln!(out, "| `{id}`{members} | {} |", because.trim()).unwrap();
    }
    out
}

/// The page tells of other scenarios than there are.
#[test]
fn the_page_is_counted_from_the_scenarios() {
    let path: &Path = &root().join(PAGE);
    let page = std::fs::read_to_string(path).unwrap();
    let (head, rest) = page.split_once(BEGIN).expect("the page has the beginning");
    let (old, tail) = rest.split_once(END).expect("the page has the end");
    let new = format!("\n\n{}\n", tables());
    if std::env::var_os("VUH_BLESS").is_some() {
        std::fs::write(path, format!("{head}{BEGIN}{new}{END}{tail}")).unwrap();
        return;
    }
    assert_eq!(old, new, "VUH_BLESS=1 cargo test --test bidirectional writes it anew");
}

/// A point, or a question of the specification, is met by no scenario.
#[test]
fn every_question_meets_a_request() {
    let all: Vec<Plan> = FOLDERS.iter().flat_map(|folder| plans(folder)).collect();
    let met: BTreeSet<String> = all.iter().filter_map(crossing).map(|(ask, _)| ask).collect();
    for spec in vhost_user_harness::wire::all(
        vhost_user_harness::wire::Dialect::VhostUser,
        vhost_user_harness::wire::Channel::Backend,
    ) {
        assert!(met.contains(spec.name), "{} meets nothing", spec.name);
    }
    let points: BTreeSet<&str> = all.iter().filter_map(crossing).map(|(_, point)| point).collect();
    assert_eq!(points.len(), POINTS.len(), "{points:?}");
}
