//! The directory of a run, with its sockets and images: made, locked while it is in use, and removed. What a run has left
//! that was killed is removed by the next one that starts: its lock is free.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Once;

use tempfile::TempDir;

use super::Environment;
use crate::scenario::Plan;
use crate::sys::socket::PATH_MAX;

/// Short, because the paths of sockets are.
const PREFIX: &str = "vuh-run-";
/// Locked by the process that uses the directory; also what tells it from others of that name.
const LOCK: &str = ".lock";
/// Runs of one scenario that may keep their files in one folder at the same time.
const KEPT_MAX: u32 = 64;
/// Room for the longest name of a socket in it, as QEMU's `/q100/qtest.sock`.
const SOCKET_NAME_MAX: usize = 24;
/// Directories tried when others snatch them away.
const TRIES_MAX: usize = 8;

/// A run's directory; removed with everything in it unless it is to be kept.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    _held: Held,
}

/// What keeps others from a directory.
#[derive(Debug)]
enum Held {
    /// Perhaps with a short way to it, on which it is used.
    Kept {
        _lock: File,
        _way: Option<Temporary>,
    },
    Temporary {
        _directory: Temporary,
    },
}

/// The directory goes first, so that nobody finds it unlocked.
#[derive(Debug)]
struct Temporary {
    directory: TempDir,
    _lock: File,
}

impl Directory {
    /// A new one for a run of `plan`.
    pub(super) fn make(plan: &Plan, environment: &Environment) -> io::Result<Self> {
        if let Some(keep) = &environment.keep {
            let (path, lock) = kept(keep, &plan.id)?;
            let (path, way) = if path.as_os_str().len() + SOCKET_NAME_MAX > PATH_MAX {
                let way = Temporary::make(&parent())?;
                let link = way.directory.path().join("kept");
                symlink(path, &link)?;
                (link, Some(way))
            } else {
                (path, None)
            };
            let held = Held::Kept { _lock: lock, _way: way };
            return Ok(Self { path, _held: held });
        }
        let temporary = Temporary::make(&parent())?;
        Ok(Self {
            path: temporary.directory.path().to_owned(),
            _held: Held::Temporary { _directory: temporary },
        })
    }
}

/// Where runs have their directories; swept once.
fn parent() -> PathBuf {
    let parent = std::env::temp_dir();
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| sweep(&parent));
    parent
}

/// A folder of the user's choice, locked: only what an earlier run has put there is replaced. A run that goes on beside
/// this one keeps its own, and this one gets a folder with a number.
fn kept(keep: &Path, id: &str) -> io::Result<(PathBuf, File)> {
    // ids have no dots and no tildes, so that different ids never share a folder
    let plain = |c: char| match c {
        '/' => '.',
        c if c.is_ascii_alphanumeric() || c == '-' || c == '.' => c,
        _ => '_',
    };
    let name: String = id.chars().map(plain).collect();
    fs::create_dir_all(keep)?;
    for number in 1..=KEPT_MAX {
        let path = match number {
            1 => keep.join(&name),
            _ => keep.join(format!("{name}~{number}")),
        };
        if let Some(lock) = take(&path)? {
            return Ok((path.canonicalize()?, lock));
        }
    }
    let text = format!("{KEPT_MAX} runs of `{id}` use {} at once", keep.display());
    Err(io::Error::other(text))
}

/// Makes a folder or empties it, unless somebody else uses it.
fn take(path: &Path) -> io::Result<Option<File>> {
    let made = match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        made => made.is_ok(),
    };
    let lock = path.join(LOCK);
    // an empty one may have been made this moment by another run, which puts its lock there next
    let lock = if made || fs::read_dir(path)?.next().is_none() {
        match File::create_new(lock) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            lock => lock?,
        }
    } else if lock.is_file() {
        File::open(lock)?
    } else {
        let text = format!("{} is there already, and no run has made it", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    };
    if lock.try_lock().is_err() {
        return Ok(None);
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false if entry.file_name() == LOCK => {}
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(Some(lock))
}

impl Temporary {
    fn make(parent: &Path) -> io::Result<Self> {
        for _ in 0..TRIES_MAX {
            let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
            let lock = File::create_new(directory.path().join(LOCK))?;
            // a sweep may have come in between: it holds the lock, or has removed the file
            if lock.try_lock().is_ok() && lock.metadata()?.nlink() > 0 {
                return Ok(Self { directory, _lock: lock });
            }
        }
        Err(io::Error::other("every new directory is swept away"))
    }
}

/// Removes the directories of runs that are over, as far as that is allowed.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        if let Ok(lock) = File::open(entry.path().join(LOCK))
            && lock.try_lock().is_ok()
        {
            // somebody else's, or one that is being removed already
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken: `--keep` removes what a user has in a folder that is called like a scenario.
    #[test]
    fn only_what_a_run_has_made_is_replaced() {
        let keep = tempfile::tempdir().unwrap();
        fs::create_dir(keep.path().join("link.mine")).unwrap();
        fs::write(keep.path().join("link.mine/thesis"), "").unwrap();
        assert_eq!(
            kept(keep.path(), "link/mine").unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert!(keep.path().join("link.mine/thesis").exists());
        let (first, lock) = kept(keep.path(), "link/a-b").unwrap();
        fs::write(first.join("old"), "").unwrap();
        assert_ne!(kept(keep.path(), "link-a/b").unwrap().0, first);
        drop(lock);
        assert_eq!(kept(keep.path(), "link/a-b").unwrap().0, first);
        assert!(!first.join("old").exists());
    }

    /// Broken: a run that keeps its files takes those of another one away while it goes on.
    #[test]
    fn runs_side_by_side_keep_apart() {
        let keep = tempfile::tempdir().unwrap();
        let (first, lock) = kept(keep.path(), "link/a").unwrap();
        fs::write(first.join("mine"), "").unwrap();
        let (second, _other) = kept(keep.path(), "link/a").unwrap();
        assert!(second.ends_with("link.a~2") && first.join("mine").exists());
        drop(lock);
        assert_eq!(kept(keep.path(), "link/a").unwrap().0, first);
    }

    /// Broken: what a killed run leaves stays for ever, or a run loses its directory to another one that starts.
    #[test]
    fn only_what_nobody_uses_is_swept_away() {
        let parent = tempfile::tempdir().unwrap();
        let used = Temporary::make(parent.path()).unwrap();
        let left = parent.path().join("vuh-run-abcdef");
        fs::create_dir_all(left.join("q0")).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        let foreign = parent.path().join("vuh-run-notes");
        fs::create_dir(&foreign).unwrap();
        sweep(parent.path());
        assert!(!left.exists());
        assert!(foreign.exists() && used.directory.path().exists());
        drop(used);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
