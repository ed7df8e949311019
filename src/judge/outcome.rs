//! The result of one scenario's run, as every report reads it.

use std::path::PathBuf;

use super::rated::Rated;
use super::verdict::Verdict;
use crate::scenario::Plan;
use crate::scenario::diagnostic::Diagnostic;

/// One scenario's result.
#[derive(Debug)]
pub struct Outcome {
    /// The scenario's id, with its parameters if it is one of a family.
    pub id: String,
    /// Its file.
    pub path: PathBuf,
    /// What it is about.
    pub about: String,
    /// Requirement ids it covers.
    pub covers: Vec<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// Why it was skipped, is unsupported, expected to fail or inconclusive; for a failure, its message in one line.
    pub reason: Option<String>,
    /// A failure in full.
    pub failure: Option<Failure>,
    /// Who took part.
    pub peers: Vec<PeerRun>,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// How long the script itself took, from the first step to the last, in milliseconds.
    pub script_ms: f64,
    /// Events on its timeline.
    pub events: usize,
    /// Messages among them.
    pub messages: usize,
    /// Marks of the ring oracle: what happened in its rings.
    pub marks: Vec<&'static str>,
    /// Its rate checks, as far as it came to them.
    pub rates: Vec<Rated>,
}

impl Outcome {
    /// The outcome of something that has not run yet, or never will.
    #[must_use]
    pub fn of(plan: &Plan, verdict: Verdict, reason: Option<String>) -> Self {
        Self {
            id: plan.id.clone(),
            path: plan.path.clone(),
            about: plan.scenario.about.value.clone(),
            covers: plan.scenario.covers.iter().map(|id| id.value.clone()).collect(),
            verdict,
            reason,
            failure: None,
            peers: Vec::new(),
            duration_ms: 0.0,
            script_ms: 0.0,
            events: 0,
            messages: 0,
            marks: Vec::new(),
            rates: Vec::new(),
        }
    }
}

/// What a person needs to understand a failure.
#[derive(Debug)]
pub struct Failure {
    /// The step or check with a caret, expected and actual, and notes.
    pub diagnostic: Diagnostic,
    /// The last events of the timeline, one line each, oldest first.
    pub last_events: Vec<String>,
    /// The standard error of each process that wrote something: peer and text.
    pub stderr: Vec<(String, String)>,
    /// The command that runs it again.
    pub rerun: String,
}

/// A peer that took part in a run.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PeerRun {
    /// Its name in the scenario.
    pub name: String,
    /// `front-end` or `back-end`.
    pub role: String,
    /// `simulated`, a name of the catalogue, or a command line.
    pub kind: String,
    /// How its process ended, if it had one.
    pub exit: Option<String>,
}
