//! The loaded scenario: what the engine runs. One plan a scenario, or one a member of a family.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::diagnostic::SourceFile;
use super::model::Scenario;
use super::scalar::Node;
use crate::trace::file::Trace;

/// What the command line says about parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `--set NAME=VALUE`. A name that a scenario does not have is left alone; see [`super::load::unknown_settings`].
    pub set: BTreeMap<String, String>,
}

/// One scenario ready to run: names looked up, fragments expanded (no `Step::Use` is left), parameters replaced.
/// `${}` that is left refers to what steps bind with `as:`.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The scenario's id, with `[name=value,...]` for a member of a family.
    pub id: String,
    /// What to do. Its `parameters` are as declared; its `fragments` are gone.
    pub scenario: Scenario,
    /// The value of every parameter.
    pub parameters: BTreeMap<String, Node>,
    /// What spans point into; 0 is the scenario file.
    pub sources: Vec<SourceFile>,
    /// The scenario file.
    pub path: PathBuf,
    /// The traces that its `replay` steps name.
    pub traces: BTreeMap<String, Arc<Trace>>,
}
