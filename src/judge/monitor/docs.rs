//! The reference page of the monitor, written from its tables: state machines as diagrams, rules, settings. A test holds
//! the checked-in page against them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::machine::{Machine, Trigger};
use super::profile::{Scope, Setting};
use super::rules::{GROUPS, rules};
use super::states::{CHANNEL, ENABLE, FEATURES, OWNER, POSTCOPY, PROTOCOL, RUN, TRANSFER};
use crate::wire::{Channel, Dialect, spec};

const NOTE: &str =
    "<!-- Written from the tables in src/judge/monitor/. VUH_BLESS=1 cargo test --lib monitor writes it anew. -->\n";
const TAKES: &str = "a String takes any text";

/// `docs/reference/monitor.md`.
pub fn monitor_markdown() -> String {
    let requirements: BTreeSet<&str> = rules().flat_map(|rule| rule.requirements).copied().collect();
    let mut page = format!("# Protocol monitor\n\n{NOTE}\n{INTRO}\n");
    write!(
        page,
        "{} rules enforce {} requirements; {} settings name what real programs do otherwise.\n\n## State machines\n",
        rules().count(),
        requirements.len(),
        Setting::ALL.len()
    )
    .expect(TAKES);
    machine(&mut page, &OWNER);
    machine(&mut page, &FEATURES);
    machine(&mut page, &PROTOCOL);
    machine(&mut page, &CHANNEL);
    machine(&mut page, &RUN);
    machine(&mut page, &ENABLE);
    machine(&mut page, &POSTCOPY);
    machine(&mut page, &TRANSFER);
    page.push_str("\n## Rules\n");
    for (title, group) in GROUPS {
        write!(
            page,
            "\n### {title}\n\n| rule | binds | what it says | requirements |\n|---|---|---|---|\n"
        )
        .expect(TAKES);
        for rule in *group {
            let (id, party, text) = (rule.id, rule.party.name(), rule.text);
            writeln!(page, "| `{id}` | {party} | {text} | {} |", rule.requirements.join(", ")).expect(TAKES);
        }
    }
    settings(&mut page);
    page
}

const INTRO: &str = "\
The monitor reads the timeline of every run while it grows and judges each message where the session stands: who may send
it, with what, and what it must answer. A rule that a peer breaks of its own accord fails the scenario and names the
requirement. What a scenario's own steps send (`send`, `raw`, `reply`, `answers`) is deliberate, and so is what the peer
makes of it: the request may be answered in any way, and rules that depend on where things stand are silent for the rest
of the connection. Where a scenario takes a hand in what crosses a link (`hold`, `drop`, `duplicate`, `reorder`, `alter`,
`inject`), each side is judged by what it has sent itself and what has reached it: a back-end answers the altered request,
and a front-end is not blamed for an injected one. What arrives wrong by the scenario's doing counts as deliberate for whom
it reaches, and for nobody else. A peer's own violation is put up with when the scenario says `allow: [rule or requirement]`; what was
allowed and never happened is noted.
";

fn machine<S: Copy + PartialEq>(page: &mut String, machine: &Machine<S>) {
    write!(
        page,
        "\n### {}\n\n{}\n\n```mermaid\nstateDiagram-v2\n",
        title(machine.name),
        machine.about
    )
    .expect(TAKES);
    let first = machine.name_of(machine.start());
    writeln!(page, "    [*] --> {first}").expect(TAKES);
    for (state, _, meaning) in machine.states {
        writeln!(
            page,
            "    {}: {}, {meaning}",
            machine.name_of(*state),
            machine.name_of(*state)
        )
        .expect(TAKES);
    }
    for step in machine.moves {
        let from: Vec<S> = if step.from.is_empty() {
            machine.states.iter().map(|s| s.0).filter(|s| *s != step.to).collect()
        } else {
            step.from.to_vec()
        };
        for state in from {
            let (from, to) = (machine.name_of(state), machine.name_of(step.to));
            writeln!(page, "    {from} --> {to}: {}", trigger(&step.on)).expect(TAKES);
        }
    }
    page.push_str("```\n\n| to | when | requirements |\n|---|---|---|\n");
    for step in machine.moves {
        let (to, on) = (machine.name_of(step.to), trigger(&step.on));
        writeln!(page, "| {to} | {on} | {} |", step.requirements.join(", ")).expect(TAKES);
    }
    if machine.legal.is_empty() {
        return;
    }
    page.push_str("\n| message | legal while | otherwise |\n|---|---|---|\n");
    for legal in machine.legal {
        let states: Vec<&str> = legal.states.iter().map(|s| machine.name_of(*s)).collect();
        writeln!(
            page,
            "| {} | {} | `{}` |",
            names(legal.requests),
            states.join(", "),
            legal.rule
        )
        .expect(TAKES);
    }
}

fn title(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn trigger(on: &Trigger) -> String {
    match on {
        Trigger::Request(ids) => names(ids),
        Trigger::When(id, when, _) => format!("{} {when}", names(&[*id])),
        Trigger::Reply(ids) => format!("reply to {}", names(ids)),
    }
}

fn names(ids: &[u32]) -> String {
    let name = |id: &u32| spec(Dialect::VhostUser, Channel::Main, *id).map_or("?", |spec| spec.name);
    ids.iter().map(name).collect::<Vec<_>>().join(" or ")
}

fn settings(page: &mut String) {
    page.push_str("\n## Settings\n\n");
    page.push_str("What a profile puts up with. The strict profile has none of them in force.\n\n");
    page.push_str("| setting | in force | what is put up with | source |\n|---|---|---|---|\n");
    for setting in Setting::ALL {
        let scope = match setting.scope() {
            Scope::Practice => "always".to_owned(),
            Scope::Programs(party, names) => format!("{party}: {}", names.join(", ")),
        };
        writeln!(
            page,
            "| `{}` | {scope} | {} | {} |",
            setting.id(),
            setting.text(),
            setting.source()
        )
        .expect(TAKES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::golden;

    /// Broken: the monitor's reference page differs from its tables.
    #[test]
    fn monitor_page_is_fresh() {
        golden::check("docs/reference/monitor.md", &monitor_markdown(), "--lib monitor");
    }
}
