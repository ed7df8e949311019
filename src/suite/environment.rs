//! What the command line and the environment variables say about a run, made into the engine's environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::peers::{self, PeerError};
use crate::engine::Environment;
use crate::peer::catalogue::{Catalogue, CatalogueError, Role};

/// The environment variable that lists peers which must be there.
pub const REQUIRE_VARIABLE: &str = "VUH_REQUIRE";

/// The environment variable that replaces this binary where peers are started from it.
pub const BIN_VARIABLE: &str = "VUH_BIN";

/// Options of a run, as they were given.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--frontend`.
    pub frontend: Option<String>,
    /// `--backend`.
    pub backend: Option<String>,
    /// `--set`.
    pub set: BTreeMap<String, String>,
    /// `--timeout`, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// `--keep`.
    pub keep: Option<PathBuf>,
    /// `--peers`.
    pub peers: Option<PathBuf>,
    /// `--require` and `VUH_REQUIRE`: names between commas.
    pub require: String,
    /// It was the option.
    pub require_option: bool,
}

/// Why an environment cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// A catalogue file is invalid.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// A PEER cannot be meant.
    #[error("{option}: {error}")]
    Peer {
        /// The option or variable.
        option: &'static str,
        /// Why.
        error: PeerError,
    },
}

/// The engine's environment; `vuh` is the binary that embedded peers are started from.
///
/// # Errors
/// An invalid catalogue file, an unknown peer.
pub fn environment(options: &Options, vuh: PathBuf) -> Result<Environment, EnvironmentError> {
    let catalogue = Catalogue::load(options.peers.as_deref(), vuh)?;
    for (option, peer, role) in [
        ("--frontend", &options.frontend, Role::Frontend),
        ("--backend", &options.backend, Role::Backend),
    ] {
        if let Some(peer) = peer {
            peers::check(peer, role, &catalogue).map_err(|error| EnvironmentError::Peer { option, error })?;
        }
    }
    let required = peers::required(&options.require, &catalogue).map_err(|error| EnvironmentError::Peer {
        option: match options.require_option {
            true => "--require",
            false => REQUIRE_VARIABLE,
        },
        error,
    })?;
    Ok(Environment {
        catalogue,
        frontend: options.frontend.clone(),
        backend: options.backend.clone(),
        timeout_ms: options.timeout_ms,
        keep: options.keep.clone(),
        required,
        rerun: rerun(options),
    })
}

/// What a command to run a scenario again starts with.
fn rerun(options: &Options) -> String {
    let path = |p: &Path| p.display().to_string();
    let mut words = vec!["vuh".to_owned(), "run".to_owned()];
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            words.extend([name.to_owned(), quote(&value)]);
        }
    };
    option("--root", options.root.as_deref().map(path));
    option("--peers", options.peers.as_deref().map(path));
    option("--frontend", options.frontend.clone());
    option("--backend", options.backend.clone());
    for (name, value) in &options.set {
        option("--set", Some(format!("{name}={value}")));
    }
    option("--timeout", options.timeout_ms.map(|ms| format!("{ms} ms")));
    option("--keep", options.keep.as_deref().map(path));
    words.join(" ")
}

/// A word as a shell reads it.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken: the command that a failure prints does not run the same again.
    #[test]
    fn the_command_to_run_again_has_the_options() {
        let options = Options {
            root: Some("my scenarios".into()),
            backend: Some("./mine --name 'x' {socket}".into()),
            set: [("size".to_owned(), "4".to_owned())].into(),
            timeout_ms: Some(500),
            ..Options::default()
        };
        let environment = environment(&options, "vuh".into()).unwrap();
        assert_eq!(
            environment.rerun,
            r"vuh run --root 'my scenarios' --backend './mine --name '\''x'\'' {socket}' --set size=4 --timeout '500 ms'"
        );
        assert_eq!(quote("a[n=1]"), "'a[n=1]'");
        assert_eq!(quote(""), "''");
    }
}
