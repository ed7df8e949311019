//! Reading scenario and fragment files: size, encoding, and the folder that fragments must not leave.

use std::path::{Component, Path, PathBuf};

use super::diagnostic::Diagnostic;
use super::yaml::MAX_FILE_BYTES;
use crate::sys::text_file::{TextError, read_text};

/// The folder name that ids are relative to.
const SCENARIOS: &str = "scenarios";

pub(super) struct FragmentFile {
    /// As shown: the user's folder and the name it gave, without `..`.
    pub(super) path: PathBuf,
    /// Relative to the root; the same for all ways to name the file.
    pub(super) label: String,
    pub(super) text: String,
}

/// The text of a file, without a byte order mark.
pub(super) fn text(path: &Path) -> Result<String, Diagnostic> {
    let shown = path.display();
    let text = read_text(path, MAX_FILE_BYTES).map_err(|error| match error {
        TextError::Unreadable(e) => Diagnostic::error(format!("cannot read `{shown}`: {e}")),
        TextError::NotAFile => Diagnostic::error(format!("`{shown}` is no regular file")),
        TextError::TooLarge { max } => Diagnostic::error(format!("`{shown}` has more than {max} bytes")),
        TextError::NotText { before } => {
            let error = format!("`{shown}` is not UTF-8 text: byte {} is wrong", before.len());
            Diagnostic::error(error).in_file(&behind(path, &before))
        }
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// A file with the line and the column behind a text, where there is no text to draw.
pub(super) fn behind(path: &Path, text: &str) -> PathBuf {
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    PathBuf::from(format!("{}:{line}:{column}", path.display()))
}

/// The folder that a scenario's id is relative to and that its fragments must not leave: the nearest folder called
/// `scenarios` above the file; without one, the file's own.
pub(super) fn root(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let folder = path.parent()?;
    let named = |folder: &&Path| folder.file_name().is_some_and(|name| name == SCENARIOS);
    Some(folder.ancestors().find(named).unwrap_or(folder).to_owned())
}

/// What the file's path says the id is, if it stands below a folder called `scenarios`; else only its last word.
pub fn id_of(path: &Path) -> Option<(String, bool)> {
    let canonical = path.canonicalize().ok()?;
    let root = root(path)?;
    let whole = root.file_name().is_some_and(|name| name == SCENARIOS);
    let relative = canonical.strip_prefix(&root).ok()?.with_extension("");
    let words: Vec<_> = relative.iter().map(|word| word.to_string_lossy()).collect();
    Some((words.join("/"), whole))
}

/// Reads a fragment file named by a file in `folder`.
pub(super) fn fragment(root: &Path, folder: &Path, name: &str) -> Result<FragmentFile, Diagnostic> {
    if Path::new(name).is_absolute() {
        return Err(Diagnostic::error(
            "a fragment file is named relative to the file that uses it",
        ));
    }
    let path = tidy(&folder.join(name));
    let canonical = path
        .canonicalize()
        .map_err(|e| Diagnostic::error(format!("cannot read the fragment file `{}`: {e}", path.display())))?;
    let relative = canonical.strip_prefix(root).map_err(|_| {
        Diagnostic::error(format!(
            "the fragment file `{name}` is outside of the scenarios' folder"
        ))
    })?;
    let label = relative.to_string_lossy().into_owned();
    let text = text(&path)?;
    Ok(FragmentFile { path, label, text })
}

/// The path without `x/..`, as people would write it.
fn tidy(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}
