//! From a file to plans. Stub for the signatures.

use std::path::Path;

use super::diagnostic::Diagnostics;
use super::plan::{Plan, Settings};

/// Most diagnostics that one file gets.
pub const MAX_DIAGNOSTICS: usize = 20;

/// Loads a scenario file. One plan, or one for each member of a family.
///
/// `root` is the folder that ids are relative to and that fragment files must not leave.
pub fn load_file(root: &Path, path: &Path, settings: &Settings) -> Result<Vec<Plan>, Diagnostics> {
    let _ = (root, path, settings);
    unimplemented!("load_file")
}

/// Loads a scenario from text; fragment files cannot be used, the id is not compared with a path.
pub fn load_str(name: &str, text: &str, settings: &Settings) -> Result<Vec<Plan>, Diagnostics> {
    let _ = (name, text, settings);
    unimplemented!("load_str")
}

/// Names of `--set` that none of the plans has as a parameter.
pub fn unknown_settings(settings: &Settings, plans: &[Plan]) -> Vec<String> {
    let known = |name: &String| plans.iter().any(|plan| plan.parameters.contains_key(name));
    settings.set.keys().filter(|name| !known(name)).cloned().collect()
}
