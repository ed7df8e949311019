//! The options that choose scenarios, shared by the verbs that do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::fault::UsageError;
use crate::scenario::{Plan, Settings};
use crate::suite::files::ROOT;
use crate::suite::{Filter, Found, SelectError, find_files, load_all};

/// What to select.
#[derive(Debug, Clone, Args)]
pub(super) struct Targets {
    /// Files, folders, ids, beginnings of ids, or members of a family as 'id[name=value]'; everything if none is named
    #[arg(value_name = "PATH|ID")]
    pub(super) targets: Vec<String>,
    /// The folder that ids are relative to [default: scenarios]
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
}

/// What to keep of it, and with which parameters.
#[derive(Debug, Clone, Args)]
pub(super) struct Selection {
    #[command(flatten)]
    pub(super) targets: Targets,
    /// Keep only scenarios for which this expression holds, such as 'peer(qemu) and not tag(slow)'
    #[arg(long, value_name = "EXPR")]
    pub(super) filter: Option<String>,
    /// Give a parameter a value; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) set: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// The scenarios that were chosen.
#[derive(Debug)]
pub(super) struct Chosen {
    /// By id; at least one.
    pub(super) plans: Vec<Plan>,
    /// The folder that `vuh run ID` needs as `--root` to find them again, if it is not the default.
    pub(super) root: Option<PathBuf>,
}

impl Targets {
    pub(super) fn find(&self) -> Result<Vec<Found>, SelectError> {
        find_files(&self.targets, self.root.as_deref())
    }
}

impl Selection {
    /// The parameters.
    pub(super) fn settings(&self) -> BTreeMap<String, String> {
        self.set.iter().cloned().collect()
    }

    /// Finds, loads and filters.
    pub(super) fn load(&self) -> anyhow::Result<Chosen> {
        let filter = self
            .filter
            .as_deref()
            .map(Filter::parse)
            .transpose()
            .map_err(UsageError::Filter)?;
        for (at, (name, _)) in self.set.iter().enumerate() {
            if self.set[..at].iter().any(|(other, _)| other == name) {
                let name = name.clone();
                return Err(UsageError::SetTwice { name }.into());
            }
        }
        let files = self.targets.find()?;
        let root = root(&files);
        let mut plans = load_all(&files, &Settings { set: self.settings() })?;
        let selected = plans.len();
        if let Some(filter) = filter {
            plans.retain(|plan| filter.matches(plan));
            if plans.is_empty() {
                return Err(SelectError::Filtered {
                    filter: filter.text().to_owned(),
                    selected,
                }
                .into());
            }
        }
        Ok(Chosen { plans, root })
    }
}

/// The one folder that the ids of all files are relative to, unless ids are looked for there anyway.
fn root(files: &[Found]) -> Option<PathBuf> {
    let root = &files.first()?.root;
    let usual = Path::new(ROOT).canonicalize().is_ok_and(|usual| usual == *root);
    let shared = files.iter().all(|file| file.root == *root);
    (shared && !usual).then(|| nearby(root))
}

/// Relative to the current folder if it lies in it.
fn nearby(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    match path.strip_prefix(here) {
        Ok(below) if below.as_os_str().is_empty() => PathBuf::from("."),
        Ok(below) => below.to_owned(),
        Err(_) => path.to_owned(),
    }
}
