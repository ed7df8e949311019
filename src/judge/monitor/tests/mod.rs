//! Each rule on a made-up violation, each setting with and without, and the monitor as a whole.

mod cases;
mod parties;
pub(crate) mod text;

use std::collections::BTreeSet;

use super::*;
use crate::spec::{RULE_IDS, requirement};
use cases::{BEGINNINGS, CASES, EXCUSED};
use text::judge;

/// A text with its beginnings put in.
fn expand(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines().map(str::trim) {
        match line.strip_prefix('@') {
            Some(name) => {
                let (_, body) = BEGINNINGS
                    .iter()
                    .find(|(n, _)| *n == name)
                    .unwrap_or_else(|| panic!("@{name}"));
                out.push_str(&expand(body));
            }
            None => out.push_str(&format!("{line}\n")),
        }
    }
    out
}

fn broken(profile: Profile, text: &str) -> Vec<(&'static str, usize)> {
    let violations = judge(&mut Monitor::new(profile), &expand(text));
    violations.iter().map(|v| (v.rule.id, v.at.0)).collect()
}

fn last(text: &str) -> usize {
    text::events(&expand(text)).len() - 1
}

/// Broken: a rule does not see its violation, sees it at another event, or another rule speaks too.
#[test]
fn each_rule_fires_on_its_violation_alone() {
    for (rule, text) in CASES {
        assert_eq!(broken(Profile::practice(), text), [(*rule, last(text))], "{rule}");
    }
}

/// Broken: a rule has no violation that shows that it can fire.
#[test]
fn each_rule_has_a_violation() {
    let shown: BTreeSet<&str> = CASES.iter().map(|c| c.0).chain(EXCUSED.iter().map(|c| c.1)).collect();
    let missing: Vec<&str> = rules().map(|r| r.id).filter(|id| !shown.contains(id)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

/// Broken: a setting excuses nothing, too much, or is not needed.
#[test]
fn each_setting_excuses_its_difference() {
    let mut seen = BTreeSet::new();
    for (id, rule, text) in EXCUSED {
        let setting = *Setting::ALL.iter().find(|s| s.id() == *id).unwrap();
        let everything = Setting::ALL.iter().fold(Profile::strict(), |p, s| p.with(*s));
        assert_eq!(broken(everything, text), [], "{id}");
        assert_eq!(broken(everything.without(setting), text), [(*rule, last(text))], "{id}");
        seen.insert(*id);
    }
    let others = Setting::RINGS.len();
    assert_eq!(seen.len() + others, Setting::ALL.len(), "a setting has no example");
}

/// Broken: what every session begins with is held against it.
#[test]
fn beginnings_are_legal() {
    for (name, text) in BEGINNINGS {
        let text = expand(text);
        let text = if text.trim_start().starts_with("connected") {
            text
        } else {
            expand(if *name == "table" { "@basic" } else { "@memory" }) + &text
        };
        assert_eq!(broken(Profile::practice(), &text), [], "{name}");
    }
}

/// Broken: a rule cites a requirement that does not exist or does not bind the party, or its name is not known to scenarios.
#[test]
fn rules_cite_requirements() {
    let ids: Vec<&str> = rules().map(|rule| rule.id).collect();
    assert_eq!(ids, RULE_IDS, "spec::RULE_IDS is out of date");
    assert_eq!(
        ids.iter().collect::<BTreeSet<_>>().len(),
        ids.len(),
        "two rules share a name"
    );
    for rule in rules() {
        assert!(!rule.requirements.is_empty() && rule.text.ends_with('.'), "{}", rule.id);
        for id in rule.requirements {
            assert!(requirement(id).is_ok(), "{}: {id}", rule.id);
        }
    }
}

/// Broken: the table covers less of the specification than it claims.
#[test]
fn the_table_is_wide() {
    let enforced: BTreeSet<&str> = rules().flat_map(|rule| rule.requirements).copied().collect();
    assert!(
        rules().count() >= 140 && enforced.len() >= 150,
        "{} rules, {} requirements",
        rules().count(),
        enforced.len()
    );
}

/// Broken: what the script sends fails its scenario, or the peer is blamed for what it makes of that.
#[test]
fn a_scripted_violation_is_deliberate_and_so_is_what_follows() {
    let text = expand(
        "@started
        script front SET_VRING_NUM! index=0 num=7
        back reply to SET_VRING_NUM as raw payload=00
        front SET_VRING_BASE index=0 indices=0x5
        back reply to SET_VRING_NUM value=0x0",
    );
    let violations = judge(&mut Monitor::new(Profile::practice()), &text);
    let found: Vec<(&str, bool)> = violations.iter().map(|v| (v.rule.id, v.deliberate)).collect();
    let scripted = [("ring-size", true), ("num-while-started", true)];
    assert_eq!(found[..2], scripted);
    // it answered twice, which nobody had asked for
    assert_eq!(found[2..], [("answered-twice", false)]);
}

/// Broken: what a scenario allows fails it, or what it allowed in vain is not noted.
#[test]
fn allowed_rules_are_deliberate() {
    let mut monitor = Monitor::new(Profile::practice());
    ["VU-OWN-01", "ring-size"].iter().for_each(|id| monitor.allow(id));
    let violations = judge(&mut monitor, &expand("@basic\nfront SET_OWNER"));
    assert!(matches!(violations[..], [Violation { deliberate: true, .. }]));
    assert_eq!(monitor.never_happened().collect::<Vec<_>>(), ["ring-size"]);
}

/// Broken: an answer that the script puts off, or gives by hand, is held against the answers of the peer itself.
#[test]
fn answers_by_hand_are_out_of_order_at_will() {
    let mut monitor = Monitor::new(Profile::practice());
    let answers = vec![crate::wire::id::frontend::GET_STATUS];
    let script = Script { answers, signals: true };
    monitor.set_script(LinkId(0), Party::BackEnd, script);
    let text = expand(
        "@basic
        front GET_STATUS
        front GET_QUEUE_NUM
        back reply to GET_QUEUE_NUM value=0x1
        script back reply to GET_STATUS value=0x0
        back call 0",
    );
    assert_eq!(judge(&mut monitor, &text).len(), 0);
}

/// Broken: one connection is judged by what another one, or the one before it, negotiated.
#[test]
fn connections_are_apart() {
    let text = expand("@basic").replace("connected", "0 connected");
    let again = format!("{text}1 connected\n1 front GET_STATUS\n0 connected\n0 front GET_STATUS");
    let found = broken(Profile::practice(), &again);
    assert_eq!(
        found.iter().map(|f| f.0).collect::<Vec<_>>(),
        ["needs-status", "needs-status"]
    );
}

/// Broken: a new back-end channel is held to what the old one owed.
#[test]
fn a_new_channel_owes_nothing() {
    let text = "@channel
        back CONFIG_CHANGE_MSG! on backend
        back closed backend
        front SET_BACKEND_REQ_FD fds=[socket]
        back VRING_CALL! on backend index=0 num=0
        front reply to VRING_CALL on backend value=0x0";
    assert_eq!(broken(Profile::practice(), text), []);
}

/// Broken: a ring's two bits do not follow the messages.
#[test]
fn rings_follow_their_machines() {
    let mut monitor = Monitor::new(Profile::practice());
    let ring = |monitor: &Monitor| monitor.ring(LinkId(0), 0);
    judge(&mut monitor, &expand("@ring"));
    assert_eq!(ring(&monitor), Some((Run::Stopped, Enable::Disabled)));
    judge(
        &mut monitor,
        "front SET_VRING_KICK index=0 fds=[eventfd]\nfront SET_VRING_ENABLE index=0 num=1",
    );
    assert_eq!(ring(&monitor), Some((Run::Started, Enable::Enabled)));
    judge(&mut monitor, "front GET_VRING_BASE index=0 num=0");
    assert_eq!(ring(&monitor), Some((Run::Stopping, Enable::Enabled)));
    judge(
        &mut monitor,
        "back reply to GET_VRING_BASE index=0 indices=0x0\nfront RESET_DEVICE",
    );
    assert_eq!(ring(&monitor), Some((Run::Stopped, Enable::Disabled)));
    judge(
        &mut monitor,
        "front SET_VRING_KICK index=0 fds=[eventfd]\nfront RESET_DEVICE",
    );
    assert_eq!(ring(&monitor), Some((Run::Unknown, Enable::Disabled)));
}

/// Broken: a hostile peer makes the monitor grow without bound.
#[test]
fn a_flood_is_bounded() {
    let mut monitor = Monitor::new(Profile::practice());
    judge(&mut monitor, &expand("@basic"));
    let flood: String = (0..3000)
        .map(|i| format!("front SET_VRING_ENABLE index={i} num=1\nfront GET_STATUS\n"))
        .collect();
    judge(&mut monitor, &flood);
    let facts = &monitor.sessions[&0].sent;
    assert!(facts.rings.len() <= 1024 && monitor.owed(LinkId(0)).len() <= open::OPEN_MAX);
}
