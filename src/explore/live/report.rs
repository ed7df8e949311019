//! What an exploration of real programs has to tell: what was covered, what fails, the two events whose order matters, a
//! picture of both runs, and how to see it again.

use serde_json::json;

use super::Covered;
use super::runs::{Class, Ran, Subject};
use super::schedule::Trail;
use super::script::Script;
use super::shrink::Shrunk;
use crate::engine::steer::{Choice, Kind};
use crate::explore::{Found, Options, Report, Search};
use crate::judge::outcome::Outcome;
use crate::scenario::{Plan, RenderStyle};

/// Events shown before the two that matter, and after them.
const SHOWN_BEFORE: usize = 4;
const SHOWN_AFTER: usize = 8;
/// Room for a peer's name and line.
const PEER_WIDTH: usize = 14;

/// It cannot be explored here.
pub(super) fn unsupported(plan: &Plan, why: &str) -> Report {
    Report {
        id: plan.id.clone(),
        text: format!("{}: unsupported: {why}\n", plan.id),
        json: json!({"scenario": plan.id, "unsupported": why}),
        result: Found::Unsupported(why.to_owned()),
        scenario: None,
    }
}

/// Nothing fails.
pub(super) fn nothing(subject: Subject, options: &Options, covered: &Covered, bound: Option<String>) -> Report {
    let id = &subject.plan.id;
    let mut text = format!("{id} ({}): no schedule fails\n", cast(subject));
    text.push_str(&coverage(options, covered));
    let result = match &bound {
        None => Found::Nothing,
        Some(bound) => {
            text.push_str(&format!("  not exhausted: {bound}\n"));
            Found::NotExhausted(bound.clone())
        }
    };
    Report {
        id: id.clone(),
        json: json!({
            "scenario": id,
            "result": "nothing",
            "not_exhausted": bound,
            "covered": covered_json(options, covered),
        }),
        result,
        text,
        scenario: None,
    }
}

/// It fails without any interference.
pub(super) fn fails_anyway(subject: Subject, ran: &Ran, _options: &Options) -> Report {
    let plan = subject.plan;
    let mut text = format!("{} ({}): the default schedule fails already\n", plan.id, cast(subject));
    text.push_str(&failure(plan, &ran.outcome));
    Report {
        id: plan.id.clone(),
        json: json!({
            "scenario": plan.id,
            "result": "fails",
            "schedule": "0",
            "reason": ran.outcome.reason,
            "timeline": ran.timeline,
        }),
        result: Found::Something,
        text,
        scenario: None,
    }
}

/// One schedule was run.
pub(super) fn replayed(subject: Subject, token: &str, ran: &Ran, _options: &Options) -> Report {
    let plan = subject.plan;
    let fails = matches!(ran.class, Class::Bad { .. });
    let verdict = if fails { "fails" } else { "does not fail" };
    let mut text = format!("{} ({}): schedule {token} {verdict}\n", plan.id, cast(subject));
    if let Class::Inconclusive(why) = &ran.class {
        text.push_str(&format!("  inconclusive: {why}\n"));
    }
    text.push_str(&picture(subject, &ran.trail, 0..ran.trail.points.len(), &[]));
    if fails {
        text.push_str(&failure(plan, &ran.outcome));
    }
    Report {
        id: plan.id.clone(),
        json: json!({
            "scenario": plan.id,
            "result": if fails { "fails" } else { "passes" },
            "schedule": token,
            "reason": ran.outcome.reason,
            "events": names(&ran.trail),
            "timeline": ran.timeline,
        }),
        result: if fails { Found::Something } else { Found::Nothing },
        text,
        scenario: None,
    }
}

/// A schedule fails, and was shrunk.
pub(super) fn found(
    subject: Subject,
    options: &Options,
    covered: &Covered,
    number: usize,
    ran: &Ran,
    shrunk: &Shrunk,
    script: Option<Script>,
) -> Report {
    let plan = subject.plan;
    let mut text = format!("{} ({}): schedule {number} fails\n", plan.id, cast(subject));
    text.push_str(&failure(plan, &ran.outcome));
    if shrunk.ran.sign().is_none() {
        text.push_str(
            "it was run again and did not fail: something else than what is steered has a say, such as a clock\n",
        );
    }
    let (fails, of) = shrunk.confirmed;
    let departures = |count: usize| match count {
        1 => "1 choice".to_owned(),
        n => format!("{n} choices"),
    };
    text.push_str(&format!(
        "schedule: {}\n  {} other than by default, from {} in the schedule that was found ({} runs to shrink it); {fails} of {of} runs of it fail\n",
        shrunk.token,
        departures(shrunk.token.0.len()),
        ran.trail.token().0.len(),
        shrunk.runs,
    ));
    if shrunk.incomplete {
        text.push_str("  shrinking was ended before nothing more could be left out\n");
    }
    text.push_str(&pair(shrunk));
    text.push_str(&runs(subject, shrunk));
    let verb = subject.environment.rerun.replacen("vuh run", "vuh explore", 1);
    let command = format!("{verb} {} --schedule {}", quoted(&plan.id), shrunk.token);
    text.push_str(&format!("run again:\n    {command}\n"));
    text.push_str(&match &script {
        Some(script) => format!(
            "the scenario that -o writes fails in {} of {} runs of `vuh run`\n",
            script.fails.0, script.fails.1
        ),
        None => "no scenario with holds can be written for it; the schedule replays it\n".to_owned(),
    });
    text.push_str(&coverage(options, covered));
    let orders: Vec<_> = shrunk
        .orders
        .iter()
        .map(|o| json!({"first": o.first, "then": o.then}))
        .collect();
    Report {
        id: plan.id.clone(),
        json: json!({
            "scenario": plan.id,
            "result": "fails",
            "found_at": number,
            "found": ran.trail.token().to_string(),
            "schedule": shrunk.token.to_string(),
            "reason": ran.outcome.reason,
            "confirmed": [fails, of],
            "order": orders,
            "swapped_passes": shrunk.neighbour.is_some(),
            "swap_is_all_that_differs": shrunk.neighbour.as_ref().map(|n| n.exact),
            "scenario_fails": script.as_ref().map(|s| [s.fails.0, s.fails.1]),
            "covered": covered_json(options, covered),
            "events": names(&shrunk.ran.trail),
            "timeline": shrunk.ran.timeline,
        }),
        result: Found::Something,
        text,
        scenario: script.map(|script| script.text),
    }
}

/// Who took part.
fn cast(subject: Subject) -> String {
    let cast = crate::engine::cast(subject.plan, subject.environment);
    let parts: Vec<String> = cast
        .iter()
        .map(|(name, _, player)| format!("{name}: {player}"))
        .collect();
    parts.join(", ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.:".contains(c);
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn failure(plan: &Plan, outcome: &Outcome) -> String {
    match &outcome.failure {
        Some(failure) => failure.diagnostic.render(&plan.sources, RenderStyle::Plain),
        None => format!("  {}\n", outcome.reason.as_deref().unwrap_or_default()),
    }
}

fn coverage(options: &Options, covered: &Covered) -> String {
    let how = match options.live {
        Search::Exhaustive => "pairs turned round one after the other".to_owned(),
        Search::Pct => format!("priorities by chance from seed {}", options.seed),
        _ => format!("by chance from seed {}", options.seed),
    };
    let mut text = format!(
        "covered: {} schedules ({how}), {} different orders of events\n",
        covered.schedules,
        covered.orders.len()
    );
    let (fewest, most) = covered.free.unwrap_or_default();
    let kinds: Vec<String> = Kind::ALL
        .into_iter()
        .filter_map(|kind| Some(format!("{} {}", covered.kinds.get(&kind)?, kind.name())))
        .collect();
    text.push_str(&format!(
        "  {fewest} to {most} free choices a schedule; with a say in them: {}\n",
        if kinds.is_empty() {
            "nothing".to_owned()
        } else {
            kinds.join(", ")
        }
    ));
    if covered.inconclusive > 0 {
        let why = covered.why_inconclusive.as_deref().unwrap_or_default();
        text.push_str(&format!("  {} of them said nothing: {why}\n", covered.inconclusive));
    }
    text
}

fn covered_json(options: &Options, covered: &Covered) -> serde_json::Value {
    let kinds: serde_json::Map<String, serde_json::Value> = covered
        .kinds
        .iter()
        .map(|(kind, count)| (kind.name().to_owned(), json!(count)))
        .collect();
    json!({
        "search": match options.live { Search::Exhaustive => "pairs", Search::Pct => "pct", _ => "random" },
        "seed": options.seed,
        "schedules": covered.schedules,
        "orders": covered.orders.len(),
        "inconclusive": covered.inconclusive,
        "free_choices": covered.free.map(|(fewest, most)| [fewest, most]),
        "kinds": kinds,
    })
}

fn names(trail: &Trail) -> Vec<&str> {
    trail.events().map(|event| event.name.as_str()).collect()
}

/// The events whose order matters.
fn pair(shrunk: &Shrunk) -> String {
    let Some(order) = shrunk.order() else {
        return "no order of two events is needed for it\n".to_owned();
    };
    let mut text = String::new();
    if let [only] = shrunk.orders.as_slice() {
        text.push_str("the order that matters:\n");
        text.push_str(&format!("    A  {}\n    B  {}\n", only.first, only.then));
    } else {
        text.push_str("the orders that matter, all of them:\n");
        for order in &shrunk.orders {
            text.push_str(&format!("       {}\n       before {}\n", order.first, order.then));
        }
        text.push_str(&format!(
            "    of the last one\n    A  {}\n    B  {}\n",
            order.first, order.then
        ));
    }
    text.push_str(match &shrunk.neighbour {
        Some(neighbour) if neighbour.exact => {
            "  A before B fails; B before A, and nothing else changed up to there, does not\n"
        }
        Some(_) => "  A before B fails; B before A does not\n",
        None => "  A before B fails; B directly before A fails as well, or cannot be had\n",
    });
    text
}

/// Both runs, around the events that matter.
fn runs(subject: Subject, shrunk: &Shrunk) -> String {
    let Some(order) = shrunk.order() else {
        return String::new();
    };
    let trail = &shrunk.ran.trail;
    let marks = [(order.first.as_str(), 'A'), (order.then.as_str(), 'B')];
    let Some(window) = window(trail, &marks) else {
        return String::new();
    };
    let mut text = format!("it fails:\n{}", picture(subject, trail, window, &marks));
    if let Some(neighbour) = &shrunk.neighbour
        && let Some(window) = self::window(&neighbour.ran.trail, &marks)
    {
        text.push_str(&format!(
            "it does not fail:\n{}",
            picture(subject, &neighbour.ran.trail, window, &marks)
        ));
    }
    text
}

fn window(trail: &Trail, marks: &[(&str, char)]) -> Option<std::ops::Range<usize>> {
    let place = |wanted: &str| trail.events().position(|event| event.name == wanted);
    let places: Vec<usize> = marks.iter().filter_map(|(name, _)| place(name)).collect();
    let (first, last) = (*places.iter().min()?, *places.iter().max()?);
    Some(first.saturating_sub(SHOWN_BEFORE)..(last + 1 + SHOWN_AFTER).min(trail.points.len()))
}

/// Events as a picture of space and time: a column for each peer, arrows for what crosses, `o` for what happens at a peer.
fn picture(subject: Subject, trail: &Trail, window: std::ops::Range<usize>, marks: &[(&str, char)]) -> String {
    let peers: Vec<String> = crate::engine::cast(subject.plan, subject.environment)
        .into_iter()
        .map(|(name, ..)| name)
        .collect();
    let mut text = format!(
        "        {}\n",
        columns(&peers, |_| ' ', |peer| Some(peer.to_owned())).trim_end()
    );
    for at in window {
        let Some(point) = trail.points.get(at) else { break };
        let event = point.event();
        let mark = marks
            .iter()
            .find(|(name, _)| *name == event.name)
            .map_or(' ', |(_, mark)| *mark);
        text.push_str(&format!("  {mark} {at:>4} {}  {}\n", lane(&peers, event), event.name));
    }
    text
}

/// The lines of the peers beside one event.
fn lane(peers: &[String], event: &Choice) -> String {
    let place = |name: &Option<String>| {
        name.as_ref()
            .and_then(|name| peers.iter().position(|peer| peer == name))
    };
    let (from, to) = (place(&event.between.0), place(&event.between.1));
    let mut cells: Vec<char> = vec![' '; peers.len() * PEER_WIDTH];
    for at in 0..peers.len() {
        cells[at * PEER_WIDTH + 1] = '|';
    }
    match (from, to) {
        (Some(from), Some(to)) if from != to => {
            let (left, right) = (from.min(to) * PEER_WIDTH + 2, from.max(to) * PEER_WIDTH);
            (left..=right).for_each(|at| cells[at] = '-');
            cells[if from < to { right } else { left }] = if from < to { '>' } else { '<' };
        }
        (_, Some(at)) => cells[at * PEER_WIDTH + 1] = if event.kind == Kind::Kill { 'x' } else { 'o' },
        _ => {}
    }
    cells.into_iter().collect::<String>().trim_end().to_owned()
        + &" ".repeat((peers.len() * PEER_WIDTH).saturating_sub((peers.len() - 1) * PEER_WIDTH + 2))[..1]
}

fn columns(peers: &[String], _fill: impl Fn(usize) -> char, name: impl Fn(&str) -> Option<String>) -> String {
    peers
        .iter()
        .map(|peer| format!("{:PEER_WIDTH$}", name(peer).unwrap_or_default()))
        .collect()
}
