//! Which scenarios give evidence for which requirement.

use std::collections::BTreeMap;

use crate::scenario::Plan;

/// Requirement id, in upper case, to the ids of the scenarios that cover it, sorted; members of a family count as one.
pub fn coverage(plans: &[Plan]) -> BTreeMap<String, Vec<String>> {
    let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for plan in plans {
        for requirement in &plan.scenario.covers {
            map.entry(requirement.to_uppercase())
                .or_default()
                .push(plan.scenario.scenario.value.clone());
        }
    }
    for ids in map.values_mut() {
        ids.sort();
        ids.dedup();
    }
    map
}

#[cfg(test)]
mod tests {
    use super::coverage;
    use crate::suite::testing::plan;

    /// Broken: `explain` lists a family once for each member, or misses a scenario.
    #[test]
    fn families_count_once() {
        let plans = ["b", "a[n=1]", "a[n=2]"].map(|id| plan(id, "simulated", "simulated"));
        assert_eq!(
            coverage(&plans).into_iter().collect::<Vec<_>>(),
            [("VU-CFG-02".into(), vec!["a".into(), "b".into()])]
        );
    }
}
