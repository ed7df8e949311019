//! Exploring modelled endpoints under virtual time.
//!
//! `machine` is what the search needs of a model, `search` visits all of its states, `reduce` leaves out interleavings
//! that make no difference, `cycles` finds runs without end, `verdict` puts together what was found.

mod cycles;
mod machine;
mod reduce;
mod search;
mod verdict;

pub use machine::{Came, Machine, Packed, fold};
pub use search::{Bound, Limits, STATES_DEFAULT, Space, search};
pub use verdict::{Finding, Verdict, verdict};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::sim::retry::{PROGRAMS, Regime, Resends, STRATEGIES, Step, System};

    #[test]
    #[ignore]
    fn table() {
        let mut total = 0;
        for strategy in STRATEGIES {
            for program in PROGRAMS {
                for regime in Regime::ALL {
                    for resends in [Resends::DEFAULT, Resends::Unbounded] {
                        let mut system = System::new(strategy, program, regime, resends);
                        if resends == Resends::Unbounded && regime == Regime::Async {
                            system.queue_max = 4;
                        }
                        let v = verdict(&system, Limits::default());
                        total += v.states;
                        let show: Vec<String> = v
                            .findings
                            .iter()
                            .map(|f| {
                                let t = |s: &[u8]| s.iter().map(|s| Step::from_code(*s).letter()).collect::<String>();
                                format!("{} {} {}~{}", f.class, f.length(), t(&f.steps), t(&f.cycle))
                            })
                            .collect();
                        println!(
                            "{} {} {} {} states {} transitions {} fin {} {:?} | {}",
                            strategy.name,
                            program.name,
                            regime.name(),
                            resends,
                            v.states,
                            v.transitions,
                            v.finished,
                            v.bounds,
                            show.join("; ")
                        );
                    }
                }
            }
        }
        println!("total {total}");
    }
}
