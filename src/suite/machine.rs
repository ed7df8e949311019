//! What this machine offers to a run: facts of the kernel and its limits that decide whether scenarios can work.

use std::fs::{self, OpenOptions};
use std::path::Path;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};

/// Longest path of a Unix socket, its end included (`sun_path` of unix(7)).
const SOCKET_PATH_MAX: usize = 108;

/// Room that a run needs below the temporary folder for its socket's own name.
const SOCKET_NAME_ROOM: usize = 40;

/// Open files that a run with many rings and regions on every job may come to.
const OPEN_FILES_WANTED: u64 = 1024;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What it is about.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// What is wrong with that, and what to do.
    pub problem: Option<String>,
}

/// All facts, in the order to show them.
pub fn facts() -> Vec<Fact> {
    vec![
        kernel(),
        memfd(),
        huge_pages(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        kvm(),
        ptrace_scope(fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok().as_deref()),
        open_files(getrlimit(Resource::RLIMIT_NOFILE).ok()),
        temporary_folder(&std::env::temp_dir()),
    ]
}

fn fact(name: &'static str, found: impl Into<String>) -> Fact {
    Fact {
        name,
        found: found.into(),
        problem: None,
    }
}

fn problem(name: &'static str, found: impl Into<String>, problem: impl Into<String>) -> Fact {
    Fact {
        name,
        found: found.into(),
        problem: Some(problem.into()),
    }
}

fn kernel() -> Fact {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    fact("kernel", format!("Linux {}", release.trim()))
}

fn memfd() -> Fact {
    match memfd_create(c"vuh-doctor", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING) {
        Ok(_) => fact("memfd", "works"),
        Err(error) => problem(
            "memfd",
            error.to_string(),
            "guest memory cannot be shared, so nothing can run",
        ),
    }
}

fn huge_pages(meminfo: &str) -> Fact {
    let value = |key: &str| {
        meminfo
            .lines()
            .find_map(|l| l.strip_prefix(key))
            .map(|v| v.trim().to_owned())
    };
    let size = value("Hugepagesize:").unwrap_or_else(|| "unknown size".to_owned());
    match value("HugePages_Free:").as_deref() {
        None | Some("0") => fact("huge pages", "none free (no scenario needs them)"),
        Some(free) => fact("huge pages", format!("{free} free of {size}")),
    }
}

fn kvm() -> Fact {
    // QEMU's CPU sleeps all the time, so emulation is as good
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => fact("/dev/kvm", "usable (not needed)"),
        Err(error) => fact("/dev/kvm", format!("not usable: {} (not needed)", plain(&error))),
    }
}

fn ptrace_scope(value: Option<&str>) -> Fact {
    match value.map(str::trim) {
        None => fact("ptrace scope", "not restricted"),
        Some("0") => fact("ptrace scope", "0: not restricted"),
        Some(level) => fact(
            "ptrace scope",
            format!("{level}: a debugger cannot attach to peers without being root"),
        ),
    }
}

fn open_files(limit: Option<(u64, u64)>) -> Fact {
    const NAME: &str = "open files";
    match limit {
        None => fact(NAME, "unknown limit"),
        Some((soft, hard)) if soft < OPEN_FILES_WANTED => problem(
            NAME,
            format!("{soft} (at most {hard})"),
            format!("fewer than {OPEN_FILES_WANTED}; raise it with `ulimit -n`, or run with -j 1"),
        ),
        Some((soft, hard)) => fact(NAME, format!("{soft} (at most {hard})")),
    }
}

fn temporary_folder(folder: &Path) -> Fact {
    const NAME: &str = "temporary folder";
    let shown = folder.display().to_string();
    let length = shown.len();
    if length + SOCKET_NAME_ROOM > SOCKET_PATH_MAX {
        return problem(
            NAME,
            format!("{shown} ({length} bytes)"),
            format!("socket paths below it would pass {SOCKET_PATH_MAX} bytes; set TMPDIR to a shorter one"),
        );
    }
    match tempfile::tempdir_in(folder) {
        Ok(_) => fact(NAME, shown),
        Err(error) => problem(
            NAME,
            shown,
            format!("cannot be written: {}; set TMPDIR to another one", plain(&error)),
        ),
    }
}

/// The system's words without the number.
fn plain(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken: `doctor` says that all is well where a run would fail, or the other way round.
    #[test]
    fn limits_that_are_too_low_are_problems() {
        assert!(open_files(Some((256, 4096))).problem.is_some());
        assert!(open_files(Some((1024, 4096))).problem.is_none());
        assert!(
            temporary_folder(Path::new(&format!("/{}", "x".repeat(80))))
                .problem
                .is_some()
        );
        assert!(temporary_folder(Path::new("/nowhere/at/all")).problem.is_some());
        assert!(temporary_folder(&std::env::temp_dir()).problem.is_none());
        assert_eq!(
            huge_pages("HugePages_Free:       8\nHugepagesize:       2048 kB\n").found,
            "8 free of 2048 kB"
        );
        assert_eq!(huge_pages("").problem, None);
        assert!(ptrace_scope(Some("1\n")).found.starts_with("1: "));
    }
}
