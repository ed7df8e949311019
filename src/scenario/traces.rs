//! The trace files that a scenario's `replay` steps name, read when the scenario is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::diagnostic::Diagnostic;
use super::model::{Replay, Step};
use super::plan::Plan;
use super::span::At;
use crate::trace::file::Trace;

/// Reads them into the plan.
pub(super) fn read(plan: &mut Plan) -> Vec<Diagnostic> {
    let folder = plan.path.parent().unwrap_or(Path::new("")).to_owned();
    let mut traces: BTreeMap<String, Arc<Trace>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for replay in replays(&plan.scenario.steps) {
        let name = &replay.trace;
        if traces.contains_key(&name.value) {
            continue;
        }
        match Trace::read(&folder.join(&name.value)) {
            Ok(trace) => {
                traces.insert(name.value.clone(), Arc::new(trace));
            }
            Err(error) => wrong.push(Diagnostic::error(format!("no trace can be read: {error}")).at(name.span)),
        }
    }
    plan.traces = traces;
    wrong
}

/// All `replay` steps, in order.
pub(crate) fn replays(steps: &[At<Step>]) -> Vec<&Replay> {
    let mut found = Vec::new();
    for step in steps {
        match &step.value {
            Step::Replay(replay) => found.push(replay),
            Step::Repeat(repeat) => found.extend(replays(&repeat.steps)),
            Step::Sanity(steps) => found.extend(replays(steps)),
            Step::Together(tracks) => found.extend(tracks.iter().flat_map(|(_, steps)| replays(steps))),
            _ => {}
        }
    }
    found
}
