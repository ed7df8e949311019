//! Folders of scenarios: which files in them are scenarios, and which folder their ids are relative to.

use std::path::{Path, PathBuf};

use super::SelectError;

/// The root folder when nothing else is said, below the current directory.
pub const ROOT: &str = "scenarios";

/// Folders of this name hold fragment files, which are no scenarios.
const FRAGMENTS: &str = "fragments";

/// Scenario files of one command, at most.
pub(super) const FILES_MAX: usize = 10_000;

/// Folders inside each other, at most.
const DEPTH_MAX: usize = 16;

/// Bytes read of a file to find the line with its id.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The path from `/`, so that paths which were named in different ways can be compared.
pub(super) fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The folder that the ids of a path are relative to: the given root if the path lies in it; else the nearest folder
/// called `scenarios`; else what the file's own id says; else the folder itself.
pub(super) fn root_of(path: &Path, given: Option<&Path>) -> PathBuf {
    let path = real(path);
    if let Some(root) = given.map(real).filter(|root| path.starts_with(root)) {
        return root;
    }
    if let Some(root) = path
        .ancestors()
        .find(|a| a.is_dir() && a.file_name().is_some_and(|name| name == ROOT))
    {
        return root.to_owned();
    }
    if path.is_dir() {
        return path;
    }
    let parent = path.parent().unwrap_or(Path::new("/")).to_owned();
    let Some(id) = own_id(&path) else { return parent };
    let bare = path.with_extension("");
    match bare.ends_with(&id) {
        true => bare
            .ancestors()
            .nth(id.split('/').count())
            .map_or(parent, Path::to_owned),
        false => parent,
    }
}

/// The id in the file's `scenario:` line, as far as it can be seen without parsing the file.
fn own_id(path: &Path) -> Option<String> {
    use std::io::Read;
    if !path.is_file() {
        return None;
    }
    let mut head = Vec::new();
    std::fs::File::open(path)
        .ok()?
        .take(HEAD_BYTES_MAX as u64)
        .read_to_end(&mut head)
        .ok()?;
    let text = String::from_utf8_lossy(&head);
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix("scenario:"))?
        .split(" #")
        .next()?;
    let id = id.trim().trim_matches(['"', '\'']);
    (!id.is_empty() && !id.starts_with('/')).then(|| id.to_owned())
}

/// The scenario files below a folder, sorted. Hidden files and folders of fragments are left out.
pub(super) fn walk(folder: &Path) -> Result<Vec<PathBuf>, SelectError> {
    let mut files = Vec::new();
    walk_into(folder, 0, &mut files)?;
    files.sort();
    Ok(files)
}

fn walk_into(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), SelectError> {
    let place = || folder.display().to_string();
    let too_much = |what: String| SelectError::TooMuch { path: place(), what };
    if depth > DEPTH_MAX {
        let link = folder.ancestors().filter(|a| a.is_symlink()).last();
        let link = link
            .map(|link| format!("; {} is a link", link.display()))
            .unwrap_or_default();
        return Err(too_much(format!(
            "more than {DEPTH_MAX} folders inside each other{link}"
        )));
    }
    let unreadable = |source| SelectError::Unreadable { path: place(), source };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            if name != FRAGMENTS {
                walk_into(&path, depth + 1, files)?;
            }
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            files.push(path);
            if files.len() > FILES_MAX {
                return Err(too_much(format!("more than {FILES_MAX} scenario files")));
            }
        }
    }
    Ok(())
}
