//! Exploring modelled endpoints under virtual time.

use super::{ExploreError, Found, Options, Report};
use crate::scenario::Plan;

/// Whether the peers of a scenario are modelled endpoints.
pub fn is_for(plan: &Plan) -> bool {
    plan.scenario.peers.iter().any(|(_, peer)| peer.retry.is_some())
}

/// Explores a scenario of modelled endpoints.
///
/// # Errors
/// A schedule that does not fit.
pub fn explore(plan: &Plan, _options: &Options) -> Result<Report, ExploreError> {
    let why = "unsupported: modelled endpoints cannot be explored yet".to_owned();
    Ok(Report {
        id: plan.id.clone(),
        text: why.clone(),
        json: serde_json::json!({"scenario": plan.id, "unsupported": why}),
        result: Found::Unsupported(why),
        scenario: None,
    })
}
