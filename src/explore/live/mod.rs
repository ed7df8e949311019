//! Exploring real programs: one run for each schedule.

use super::{ExploreError, Found, Options, Report};
use crate::engine::Environment;
use crate::scenario::Plan;

/// Explores a scenario whose peers are programs.
///
/// # Errors
/// A schedule that does not fit.
pub fn explore(plan: &Plan, _environment: &Environment, _options: &Options) -> Result<Report, ExploreError> {
    let why = "unsupported: only modelled endpoints (peers with `retry:`) are explored".to_owned();
    Ok(Report {
        id: plan.id.clone(),
        text: why.clone(),
        json: serde_json::json!({"scenario": plan.id, "unsupported": why}),
        result: Found::Unsupported(why),
        scenario: None,
    })
}
