//! How what was found in a ring stands in a trace: words that people read and `vuh trace check` knows again.

use super::{Alarm, RULES, Rule};

const BROKE: &str = "broke the rule `";

impl Alarm {
    /// What is told of it.
    pub fn told(&self) -> String {
        format!(
            "{BROKE}{}` in ring {}: expected {}; actual {}",
            self.rule.id, self.ring, self.expected, self.actual
        )
    }
}

/// The rule that a text tells of, if it is one.
pub fn rule_told(text: &str) -> Option<&'static Rule> {
    let (id, _) = text.strip_prefix(BROKE)?.split_once("` in ring ")?;
    RULES.iter().find(|rule| rule.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::LinkId;
    use crate::wire::Party;

    /// Broken: what is written into a trace is not known again when the trace is judged.
    #[test]
    fn what_is_told_is_known_again() {
        for rule in RULES {
            let alarm = Alarm {
                rule,
                link: LinkId(3),
                ring: 1,
                party: Party::BackEnd,
                expected: "at most 1".into(),
                actual: "` in ring".into(),
                deliberate: false,
            };
            assert_eq!(rule_told(&alarm.told()).map(|found| found.id), Some(rule.id));
        }
        for other in [
            "descriptors were lost",
            "broke the rule `no-such-rule` in ring 0: x",
            "broke the rule `used-length`",
        ] {
            assert!(rule_told(other).is_none(), "{other}");
        }
    }
}
