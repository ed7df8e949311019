//! One requirement: who has to do what, and where the specification says so.

use std::fmt;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::wire::{Party, suggest};

const SOURCE: &str = include_str!("requirements.yaml");

/// A requirement of the specification, in own words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Permanent id, such as `VU-RING-07`.
    pub id: String,
    /// How binding it is.
    pub level: Level,
    /// Who has to follow it.
    pub party: Subject,
    /// The heading it stands under.
    pub section: String,
    /// What it says.
    pub text: String,
    /// Whether a peer can be seen to follow it.
    pub testable: Testable,
    /// Whether the text says it or only implies it.
    pub basis: Basis,
    /// The devices it is about, in words; `any` for all.
    pub devices: String,
}

/// How binding a requirement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Level {
    /// Has to.
    Must,
    /// Must not.
    MustNot,
    /// Ought to.
    Should,
    /// Ought not to.
    ShouldNot,
    /// Is allowed to.
    May,
}

/// Who a requirement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// The front-end.
    Frontend,
    /// The back-end.
    Backend,
    /// Front-end and back-end alike.
    Both,
    /// Software that starts the programs; not on the wire.
    Management,
}

/// Whether a peer can be seen to follow a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Testable {
    /// From outside.
    Yes,
    /// Some of it, or only sometimes.
    Partly,
    /// Not from outside.
    No,
}

/// Where a requirement comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The text states it.
    Explicit,
    /// It follows from the text, or from plain robustness; weighs less.
    Implicit,
}

/// An id that no requirement has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no requirement is called {id:?}{}", suggest::did_you_mean(.suggestions))]
pub struct UnknownRequirement {
    /// What was written.
    pub id: String,
    /// Requirements with a similar id.
    pub suggestions: Vec<&'static str>,
}

/// Every requirement, in the order of the specification's areas.
pub fn all() -> &'static [Requirement] {
    static ALL: OnceLock<Vec<Requirement>> = OnceLock::new();
    ALL.get_or_init(|| serde_yaml::from_str(SOURCE).expect("the embedded file parses, a test sees to it"))
}

/// The requirement with this id; case does not matter.
pub fn requirement(id: &str) -> Result<&'static Requirement, UnknownRequirement> {
    let found = all()
        .iter()
        .find(|requirement| requirement.id.eq_ignore_ascii_case(id.trim()));
    found.ok_or_else(|| {
        let ids = all().iter().map(|requirement| requirement.id.as_str());
        UnknownRequirement {
            id: id.to_owned(),
            suggestions: suggest::similar(id, ids),
        }
    })
}

impl Subject {
    /// Whether the requirement binds this party.
    pub const fn binds(self, party: Party) -> bool {
        match self {
            Self::Both => true,
            Self::Frontend => matches!(party, Party::FrontEnd),
            Self::Backend => matches!(party, Party::BackEnd),
            Self::Management => false,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Must => "MUST",
            Self::MustNot => "MUST NOT",
            Self::Should => "SHOULD",
            Self::ShouldNot => "SHOULD NOT",
            Self::May => "MAY",
        })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Frontend => Party::FrontEnd.name(),
            Self::Backend => Party::BackEnd.name(),
            Self::Both => "both",
            Self::Management => "management",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Broken: the embedded file does not parse, or requirements were lost or changed their level.
    #[test]
    fn all_requirements_are_there() {
        let count = |level| all().iter().filter(|requirement| requirement.level == level).count();
        assert_eq!(all().len(), 359);
        let levels = [Level::Must, Level::May, Level::Should, Level::MustNot, Level::ShouldNot].map(count);
        assert_eq!(levels, [236, 29, 35, 53, 6]);
        let party = |party| all().iter().filter(|requirement| requirement.party == party).count();
        let parties = [Subject::Both, Subject::Backend, Subject::Frontend, Subject::Management].map(party);
        assert_eq!(parties, [46, 198, 113, 2]);
        let testable = |how| all().iter().filter(|requirement| requirement.testable == how).count();
        assert_eq!(
            [Testable::Yes, Testable::Partly, Testable::No].map(testable),
            [311, 34, 14]
        );
        let basis = |basis| all().iter().filter(|requirement| requirement.basis == basis).count();
        assert_eq!([Basis::Explicit, Basis::Implicit].map(basis), [325, 34]);
    }

    /// Broken: two requirements share an id, or an id does not follow `VU-AREA-NN`.
    #[test]
    fn ids_are_unique_and_regular() {
        let mut seen = HashSet::new();
        for requirement in all() {
            assert!(seen.insert(&requirement.id), "{} stands twice", requirement.id);
            let parts: Vec<&str> = requirement.id.split('-').collect();
            let [vu, area, number] = parts[..] else {
                panic!("{} has another form", requirement.id)
            };
            assert!(
                vu == "VU" && area.chars().all(|c| c.is_ascii_uppercase()),
                "{}",
                requirement.id
            );
            assert!(
                number.len() == 2 && number.parse::<u8>().is_ok_and(|n| n > 0),
                "{}",
                requirement.id
            );
            assert!(
                !requirement.text.is_empty() && !requirement.section.is_empty(),
                "{}",
                requirement.id
            );
        }
    }

    /// Broken: a requirement cannot be found by its id, or a wrong id gets no hint.
    #[test]
    fn look_up_by_id() {
        for wanted in all() {
            assert_eq!(requirement(&wanted.id), Ok(wanted));
            assert_eq!(requirement(&wanted.id.to_lowercase()), Ok(wanted));
        }
        let error = requirement("VU-RING-7").expect_err("invalid");
        assert!(error.suggestions.contains(&"VU-RING-07"), "{error}");
        assert_eq!(
            requirement("nonsense").expect_err("invalid").to_string(),
            "no requirement is called \"nonsense\""
        );
    }

    /// Broken: a front-end is judged by a back-end's requirement or the other way round.
    #[test]
    fn subjects_bind_their_party() {
        assert!(Subject::Both.binds(Party::FrontEnd) && Subject::Both.binds(Party::BackEnd));
        assert!(Subject::Frontend.binds(Party::FrontEnd) && !Subject::Frontend.binds(Party::BackEnd));
        assert!(Subject::Backend.binds(Party::BackEnd) && !Subject::Management.binds(Party::FrontEnd));
    }
}
