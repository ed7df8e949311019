//! Plans and outcomes made up for the tests of this room and of the reporters.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::judge::outcome::{Failure, Outcome};
use crate::judge::verdict::{FailKind, Verdict};
use crate::scenario::model::Scenario;
use crate::scenario::span::Span;
use crate::scenario::{Diagnostic, Plan, SourceFile};

/// A plan of a front-end and a back-end of these kinds, without steps.
pub(crate) fn plan(id: &str, frontend: &str, backend: &str) -> Plan {
    let text = format!(
        "scenario: {id}\nabout: what {id} shows\ncovers: [VU-CFG-02]\ntags: [quick]\npeers:\n  front: {{frontend: '{frontend}'}}\n  \
         back: {{backend: '{backend}'}}\nsteps:\n  - connect: {{from: front, to: back}}\n  - kick: {{from: front, ring: 0}}\n",
        id = id.split('[').next().unwrap_or(id),
    );
    let scenario: Scenario = serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let path = PathBuf::from(format!("scenarios/{}.yaml", scenario.scenario.value));
    let sources = vec![SourceFile {
        path: path.clone(),
        text: text.into(),
        used_at: None,
    }];
    Plan {
        id: id.to_owned(),
        scenario,
        parameters: BTreeMap::new(),
        sources,
        path,
        traces: BTreeMap::new(),
    }
}

/// What a run of it came to.
pub(crate) fn outcome(plan: &Plan, verdict: Verdict) -> Outcome {
    let mut outcome = super::schedule::blank(plan, verdict, None);
    outcome.duration_ms = 12.3456;
    outcome.events = 40;
    outcome.messages = 23;
    let because = match verdict {
        Verdict::Pass => None,
        Verdict::Fail(kind) => {
            outcome.failure = Some(failure(plan, kind));
            Some("expected GET_CONFIG, got SET_OWNER")
        }
        Verdict::Unsupported => Some("the back-end does not offer CONFIG"),
        Verdict::Skipped => Some("qemu-system-x86_64 is not installed (scripts/install-peers brings it)"),
        Verdict::ExpectedFail => Some("lost kick, fixed in 0.24"),
        Verdict::UnexpectedPass => Some("lost kick, fixed in 0.24"),
        Verdict::Inconclusive => Some("the back-end does not answer GET_FEATURES either"),
    };
    outcome.reason = because.map(str::to_owned);
    outcome
}

fn failure(plan: &Plan, kind: FailKind) -> Failure {
    let source = &plan.sources[0].text;
    let offset = source.find("kick").expect("the made-up plan has a kick step");
    let line = source[..offset].lines().count();
    let span = Span {
        source: 0,
        line: line as u32,
        column: 5,
        offset: offset as u32,
        len: 4,
    };
    let diagnostic = Diagnostic::error(format!("the step failed: {kind}"))
        .at(span)
        .label("here")
        .expected_actual("GET_CONFIG offset=0 size=8", "SET_OWNER");
    Failure {
        diagnostic,
        last_events: vec![
            "   1.2 ms  front -> back  GET_FEATURES".into(),
            "   1.3 ms  front -> back  SET_OWNER".into(),
        ],
        stderr: vec![("back".into(), "warning: \u{1b}[31mred\u{1b}[0m\nlast words".into())],
        rerun: format!("vuh run {}", plan.id),
    }
}
