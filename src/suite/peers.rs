//! What kind of peer a scenario or an option names, and whether there is such a peer.

use crate::engine::Environment;
use crate::judge::outcome::PeerRun;
use crate::peer::catalogue::{Catalogue, PLACEHOLDERS, Role, unknown_placeholder};
use crate::scenario::Plan;
use crate::scenario::suggest::did_you_mean;
use crate::scenario::words::split_words;

/// The peer that the harness plays itself.
pub const SIMULATED: &str = "simulated";

/// Catalogue peers that the binary carries: nothing needs to be installed for them.
const EMBEDDED: [&str; 2] = [SIMULATED, "reference"];

/// The role as reports spell it.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Frontend => "front-end",
        Role::Backend => "back-end",
    }
}

/// The peers as the scenario declares them, in its order.
pub fn declared(plan: &Plan) -> Vec<PeerRun> {
    let peers = plan.scenario.peers.iter().filter_map(|(name, decl)| {
        let (role, kind) = match (&decl.frontend, &decl.backend) {
            (Some(kind), _) => (Role::Frontend, kind),
            (None, Some(kind)) => (Role::Backend, kind),
            (None, None) => return None,
        };
        let role = role_name(role).to_owned();
        Some(PeerRun {
            name: name.value.clone(),
            role,
            kind: kind.value.clone(),
            exit: None,
        })
    });
    peers.collect()
}

/// The peers as a run with these options has them.
pub fn chosen(plan: &Plan, environment: &Environment) -> Vec<PeerRun> {
    let mut peers = declared(plan);
    for peer in &mut peers {
        let replaced = if peer.role == role_name(Role::Frontend) {
            &environment.frontend
        } else {
            &environment.backend
        };
        if let Some(kind) = replaced {
            peer.kind.clone_from(kind);
        }
    }
    peers
}

/// What counts as one sort of run in a summary: the real peers that took part, or none.
pub fn company(peers: &[PeerRun]) -> String {
    let mut real: Vec<&str> = peers
        .iter()
        .map(|p| sort(&p.kind))
        .filter(|s| !EMBEDDED.contains(s))
        .collect();
    real.sort_unstable();
    real.dedup();
    match real.as_slice() {
        [] => "on simulated and embedded peers".to_owned(),
        names => format!("with {}", names.join(" and ")),
    }
}

/// The name of a catalogue peer, or what stands for all others.
fn sort(kind: &str) -> &str {
    if kind.starts_with("listen:") || kind.starts_with("connect:") {
        "an external peer"
    } else if is_command(kind) {
        "a command"
    } else {
        kind
    }
}

fn is_command(kind: &str) -> bool {
    kind.contains(char::is_whitespace) || kind.contains('{') || kind.contains('/')
}

/// Why `--frontend PEER` or `--backend PEER` cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No such name for this role.
    #[error(
        "no {role} is called `{name}`{hint}; there are {known}, \"a command {{socket}}\", listen:PATH and connect:PATH"
    )]
    Unknown {
        /// As it was written.
        name: String,
        /// The role.
        role: &'static str,
        /// "did you mean", or empty.
        hint: String,
        /// Names there are.
        known: String,
    },
    /// A command that does not say where its socket goes.
    #[error("`{command}` has no {{socket}} and no {{fd}}, so it cannot be told where to talk")]
    NoSocket {
        /// The command.
        command: String,
    },
    /// A command that is told of two places to talk.
    #[error("`{0}` has both {{socket}} and {{fd}}, and the peer would be waited for at one of them only")]
    TwoSockets(String),
    /// A command with a word in braces that stands for nothing.
    #[error("`{0}` stands for nothing; there are {known}", known = PLACEHOLDERS.join(", "))]
    Placeholder(String),
    /// A command line that is no list of words.
    #[error("{0}")]
    NotWords(String),
    /// `listen:` or `connect:` without a path.
    #[error("`{0}` needs a path")]
    NoPath(String),
    /// A required peer that the catalogue does not have: it would never be missed.
    #[error("no peer is called `{name}`, so it cannot be required{hint}")]
    NotRequirable {
        /// As it was written.
        name: String,
        /// "did you mean", or empty.
        hint: String,
    },
}

/// Whether an option's PEER can be meant for this role.
///
/// # Errors
/// An unknown name, a command without a place for its socket or with an open quote, an empty path.
pub fn check(kind: &str, role: Role, catalogue: &Catalogue) -> Result<(), PeerError> {
    if kind == SIMULATED || catalogue.find(kind, role).is_some() {
        return Ok(());
    }
    if let Some(path) = kind.strip_prefix("listen:").or_else(|| kind.strip_prefix("connect:")) {
        return if path.is_empty() {
            Err(PeerError::NoPath(kind.to_owned()))
        } else {
            Ok(())
        };
    }
    if is_command(kind) {
        let placed = kind.contains("{socket}") || kind.contains("{fd}");
        split_words(kind).map_err(PeerError::NotWords)?;
        if kind.contains("{socket}") && kind.contains("{fd}") {
            return Err(PeerError::TwoSockets(kind.to_owned()));
        }
        if let Some(unknown) = unknown_placeholder(kind) {
            return Err(PeerError::Placeholder(unknown.to_owned()));
        }
        return if placed {
            Ok(())
        } else {
            Err(PeerError::NoSocket {
                command: kind.to_owned(),
            })
        };
    }
    let entries = catalogue
        .entries()
        .iter()
        .filter(|e| e.role == role)
        .map(|e| e.peer.as_str());
    let known: Vec<&str> = std::iter::once(SIMULATED).chain(entries).collect();
    Err(PeerError::Unknown {
        name: kind.to_owned(),
        role: role_name(role),
        hint: did_you_mean(kind, known.iter().copied())
            .map(|h| format!("; {h}"))
            .unwrap_or_default(),
        known: known.join(", "),
    })
}

/// What stands for every peer of the catalogue in a `VUH_REQUIRE` list.
const ALL: &str = "all";

/// The names in a `VUH_REQUIRE` list: each a peer of the catalogue, or `all`.
///
/// # Errors
/// A name that the catalogue does not have.
pub fn required(list: &str, catalogue: &Catalogue) -> Result<Vec<String>, PeerError> {
    let mut names = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if name != ALL && !catalogue.entries().iter().any(|e| e.peer == name) {
            let known = catalogue.entries().iter().map(|e| e.peer.as_str());
            let hint = did_you_mean(name, known).map(|h| format!("; {h}")).unwrap_or_default();
            return Err(PeerError::NotRequirable {
                name: name.to_owned(),
                hint,
            });
        }
        if !names.iter().any(|n| n == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::testing::plan;

    fn catalogue() -> Catalogue {
        Catalogue::load(None, "vuh".into()).unwrap()
    }

    /// Broken: the totals count a run with a real peer as one on simulated peers, or the other way round.
    #[test]
    fn company_names_the_real_peers() {
        let of = |front, back| company(&declared(&plan("a", front, back)));
        assert_eq!(of("simulated", "reference"), "on simulated and embedded peers");
        assert_eq!(of("qemu", "reference"), "with qemu");
        assert_eq!(of("qemu", "qemu-storage-daemon"), "with qemu and qemu-storage-daemon");
        assert_eq!(of("simulated", "./mine --socket {socket}"), "with a command");
        assert_eq!(of("listen:/tmp/s", "simulated"), "with an external peer");
    }

    /// Broken: a mistyped peer is taken for something to run.
    #[test]
    fn peers_of_options_are_checked() {
        let check = |kind| check(kind, Role::Backend, &catalogue());
        for kind in [
            "simulated",
            "reference",
            "qemu-storage-daemon",
            "a {socket}",
            "./b {fd}",
            "listen:/x",
            "connect:y",
        ] {
            assert_eq!(check(kind), Ok(()), "{kind}");
        }
        assert_eq!(check("a b"), Err(PeerError::NoSocket { command: "a b".into() }));
        assert_eq!(
            check("a {fd} {socket}"),
            Err(PeerError::TwoSockets("a {fd} {socket}".into()))
        );
        assert_eq!(check("a {socket} {nope}"), Err(PeerError::Placeholder("{nope}".into())));
        assert_eq!(check("listen:"), Err(PeerError::NoPath("listen:".into())));
        let message = check("refrence").unwrap_err().to_string();
        assert!(
            message.starts_with("no back-end is called `refrence`; did you mean `reference`?; there are simulated, "),
            "{message}"
        );
        assert!(check("qemu").is_err(), "qemu is a front-end");
    }

    /// Broken: a misspelt VUH_REQUIRE turns green because nobody misses what it names.
    #[test]
    fn required_peers_have_to_exist() {
        assert_eq!(
            required(" qemu, ,qemu-storage-daemon,qemu", &catalogue()),
            Ok(vec!["qemu".into(), "qemu-storage-daemon".into()])
        );
        assert_eq!(required("", &catalogue()), Ok(vec![]));
        assert_eq!(required("all", &catalogue()), Ok(vec!["all".into()]));
        assert_eq!(
            required("qmeu", &catalogue()).unwrap_err().to_string(),
            "no peer is called `qmeu`, so it cannot be required; did you mean `qemu`?"
        );
    }
}
