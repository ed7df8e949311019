//! Searches on simulated peers, where no process makes them slow: what is planted is found, shrunk and written down, and
//! a seed makes the same run again.

use super::*;
use crate::explore::Found;
use crate::peer::catalogue::Catalogue;
use crate::scenario::{Settings, load_str};

/// The device is reset by one strand while another asks for its status. By default it asks first, and the check holds
/// that it always does.
const PLANTED: &str = "\
scenario: planted
about: Made up for a test of the explorer.
peers:
  front: {frontend: simulated, device: net, queues: 2}
  back: {backend: simulated, device: net, queues: 2}
steps:
  - connect: {from: front, to: back}
  - setup: {peer: front}
  - together:
      guest:
        - send: {from: front, message: GET_STATUS}
        - until: {from: back, reply_to: GET_STATUS}
      host:
        - deliver: {from: front, to: back, packets: 2}
        - send: {from: front, message: SET_STATUS, value: 0}
        - until: {from: front, message: SET_STATUS}
  - deliver: {from: front, to: back, packets: 1}
check:
  - order:
      - {from: front, message: GET_STATUS}
      - {from: front, message: SET_STATUS, value: 0}
";

fn plan(text: &str) -> Plan {
    load_str("test.yaml", text, &Settings::default()).unwrap().remove(0)
}

fn around() -> Environment {
    Environment {
        catalogue: Catalogue::load(None, "vuh".into()).unwrap(),
        frontend: None,
        backend: None,
        timeout_ms: None,
        keep: None,
        required: Vec::new(),
        rerun: "vuh run".to_owned(),
    }
}

fn options(live: Search, seed: u64) -> Options {
    Options {
        live,
        seed,
        schedules: 300,
        jobs: 2,
        ..Options::default()
    }
}

/// Broken: a schedule that fails is not found by one of the searches, is not shrunk to the one order that it takes, or the
/// token that is handed out is another schedule's.
#[test]
fn what_is_planted_is_found_and_shrunk() {
    let (plan, around) = (plan(PLANTED), around());
    for (search, seed) in [
        (Search::Random, 1),
        (Search::Random, 2),
        (Search::Pct, 1),
        (Search::Exhaustive, 1),
    ] {
        let options = options(search, seed);
        let report = explore(&plan, &around, &options).unwrap();
        assert_eq!(report.result, Found::Something, "{search:?}: {}", report.text);
        let json = &report.json;
        assert_eq!(json["confirmed"], serde_json::json!([10, 10]), "{search:?}");
        let order = serde_json::json!([{
            "first": "step `send` (line 15) begins",
            "then": "step `send` (line 11) begins",
        }]);
        assert_eq!(json["order"], order, "{search:?}: {}", report.text);
        assert_eq!(json["swap_is_all_that_differs"], true, "{search:?}: {}", report.text);
        let again = Options {
            schedule: json["schedule"].as_str().map(str::to_owned),
            ..options
        };
        let again = explore(&plan, &around, &again).unwrap();
        assert_eq!(again.result, Found::Something);
        assert_eq!(
            (&again.json["events"], &again.json["timeline"]),
            (&json["events"], &json["timeline"])
        );
    }
}

/// Broken: a search that finds nothing does not say so, or says that it has seen more than it has.
#[test]
fn what_is_right_is_told_to_be_so_far() {
    let right = PLANTED.split("check:").next().unwrap();
    let (plan, around) = (plan(right), around());
    let report = explore(&plan, &around, &options(Search::Random, 3)).unwrap();
    assert_eq!(report.result, Found::Nothing, "{}", report.text);
    assert_eq!(report.json["covered"]["schedules"], 300);
    let orders = report.json["covered"]["orders"].as_u64().unwrap();
    assert!((20..=300).contains(&orders), "{orders} orders");
    let few = Options {
        schedules: 10,
        ..options(Search::Exhaustive, 1)
    };
    let report = explore(&plan, &around, &few).unwrap();
    assert!(matches!(report.result, Found::NotExhausted(_)), "{}", report.text);
    assert!(
        report.text.contains("left out by the number of schedules"),
        "{}",
        report.text
    );
    assert_eq!(report.json["covered"]["schedules"], 10);
}

/// Broken: a scenario that holds threads itself fights with the explorer for them, or a token of another scenario is
/// followed as far as it goes.
#[test]
fn what_cannot_be_explored_is_refused() {
    let held = PLANTED
        .replace("simulated, device: net", "reference, device: net")
        .replace(
            "  - setup: {peer: front}\n",
            "  - setup: {peer: front}\n  - hold_thread: {as: worker, peer: back}\n  - release: worker\n",
        );
    let held = held.replacen("frontend: reference", "frontend: simulated", 1);
    let refused = explore(&plan(&held), &around(), &options(Search::Random, 1)).unwrap_err();
    assert!(refused.to_string().contains("test.yaml:9:"), "{refused}");
    let other = Options {
        schedule: Some("500b".to_owned()),
        ..options(Search::Random, 1)
    };
    let refused = explore(&plan(PLANTED), &around(), &other).unwrap_err();
    assert!(
        refused.to_string().contains("the schedule `500b` does not fit"),
        "{refused}"
    );
}

/// Broken: a seed says one thing today and another tomorrow, so nothing that was found can be handed on.
#[test]
fn one_seed_makes_the_same_run_byte_for_byte() {
    let (plan, around) = (plan(PLANTED), around());
    let subject = Subject {
        plan: &plan,
        environment: &around,
        limits: Limits::default(),
    };
    for number in 0..40 {
        let wanted = || by_chance(&options(Search::Random, 9), &Trail::default(), number);
        let (one, two) = (subject.run(wanted()), subject.run(wanted()));
        assert_eq!(one.timeline, two.timeline, "schedule {number}");
        assert_eq!(one.trail, two.trail);
        let again = subject.run(Wanted::Replay(one.trail.token()));
        assert_eq!(one.timeline, again.timeline, "schedule {number} by its token");
        assert_eq!(again.misfit, None);
    }
}
