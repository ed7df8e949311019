//! The catalogue: how each known real peer is started and what it can do, one YAML file each in `harness/peers/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::Deserialize;

use crate::wire::Party;

/// Files that the binary carries, so that it works away from its repository.
const BUILT_IN: &[(&str, &str)] = &[
    ("qemu.yaml", include_str!("../../harness/peers/qemu.yaml")),
    (
        "qemu-storage-daemon.yaml",
        include_str!("../../harness/peers/qemu-storage-daemon.yaml"),
    ),
    (
        "qemu-storage-daemon-slow.yaml",
        include_str!("../../harness/peers/qemu-storage-daemon-slow.yaml"),
    ),
    (
        "reference-backend.yaml",
        include_str!("../../harness/peers/reference-backend.yaml"),
    ),
    (
        "reference-frontend.yaml",
        include_str!("../../harness/peers/reference-frontend.yaml"),
    ),
    (
        "dpdk-backend.yaml",
        include_str!("../../harness/peers/dpdk-backend.yaml"),
    ),
    (
        "dpdk-frontend.yaml",
        include_str!("../../harness/peers/dpdk-frontend.yaml"),
    ),
    ("vub-0.21.yaml", include_str!("../../harness/peers/vub-0.21.yaml")),
    ("vub-0.22.yaml", include_str!("../../harness/peers/vub-0.22.yaml")),
    ("vub-0.23.yaml", include_str!("../../harness/peers/vub-0.23.yaml")),
    ("vub-0.24.yaml", include_str!("../../harness/peers/vub-0.24.yaml")),
];

/// The environment variable that says where the known-bad back-ends are.
pub const KNOWN_BAD_VARIABLE: &str = "VUH_KNOWN_BAD";

/// Files read from a directory of the user's, at most.
const FILES_MAX: usize = 256;

/// One entry.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The name used in scenarios and on the command line.
    pub peer: String,
    /// What it is.
    pub about: String,
    /// `frontend`, `backend`.
    pub role: Role,
    /// Device names it can be; empty: any.
    #[serde(default)]
    pub devices: Vec<String>,
    /// Its program; `{vuh}` is this binary, `{known_bad}` the folder that `harness/known-bad/build` fills.
    pub program: String,
    /// Arguments that make it print its version and end.
    #[serde(default)]
    pub probe: Vec<String>,
    /// Its arguments, with placeholders in braces. Empty for a peer that code drives.
    #[serde(default)]
    pub command: Vec<String>,
    /// Who drives it.
    #[serde(default)]
    pub driver: Driver,
    /// It listens on `{socket}` (true), or connects to it (false).
    #[serde(default)]
    pub listens: bool,
    /// What `{fd}` is, if the command uses it.
    #[serde(default)]
    pub fd: FdRole,
    /// How to install it.
    #[serde(default)]
    pub needs: Option<String>,
    /// It removes its socket file when it ends in order.
    #[serde(default)]
    pub removes_socket: bool,
    /// It ends by itself when its connection is closed.
    #[serde(default)]
    pub ends_with_connection: bool,
}

/// Which end a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Front-end.
    Frontend,
    /// Back-end.
    Backend,
}

impl Role {
    /// The same as a party of the protocol.
    pub fn party(self) -> Party {
        match self {
            Role::Frontend => Party::FrontEnd,
            Role::Backend => Party::BackEnd,
        }
    }
}

/// Who plays the part that is not the program's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Nobody: the program does it all.
    #[default]
    None,
    /// The harness is the guest driver, over qtest, and speaks QMP.
    Qtest,
}

/// The kind of socket behind `{fd}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FdRole {
    /// One end of a connected pair.
    #[default]
    Connected,
    /// A socket that listens.
    Listening,
}

/// The entries, and what is known of each on this machine.
#[derive(Debug)]
pub struct Catalogue {
    entries: Vec<Entry>,
    vuh: PathBuf,
    probed: Mutex<BTreeMap<String, Result<String, String>>>,
}

/// A catalogue file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("catalogue file {file}: {message}")]
pub struct CatalogueError {
    /// Which.
    pub file: String,
    /// What is wrong, with its place.
    pub message: String,
}

impl Catalogue {
    /// The built-in entries, and those of `directory`, which may replace built-in ones of the same name and role.
    /// `vuh` is the binary that stands for `{vuh}`.
    pub fn load(directory: Option<&Path>, vuh: PathBuf) -> Result<Self, CatalogueError> {
        let mut entries: Vec<Entry> = Vec::new();
        for (name, text) in BUILT_IN {
            entries.push(parse(name, text)?);
        }
        for path in directory.map(yaml_files).transpose()?.unwrap_or_default() {
            let file = path.display().to_string();
            let text = std::fs::read_to_string(&path).map_err(|e| CatalogueError {
                file: file.clone(),
                message: e.to_string(),
            })?;
            let entry = parse(&file, &text)?;
            entries.retain(|e| (&e.peer, e.role) != (&entry.peer, entry.role));
            entries.push(entry);
        }
        entries.sort_by(|a, b| a.peer.cmp(&b.peer));
        Ok(Self {
            entries,
            vuh,
            probed: Mutex::new(BTreeMap::new()),
        })
    }

    /// All entries, by name.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of a name for a role.
    pub fn find(&self, name: &str, role: Role) -> Option<&Entry> {
        self.entries.iter().find(|e| e.peer == name && e.role == role)
    }

    /// This binary.
    pub fn vuh(&self) -> &Path {
        &self.vuh
    }

    /// The program of an entry, as it is started.
    pub fn program(&self, entry: &Entry) -> PathBuf {
        if entry.program == "{vuh}" {
            self.vuh.clone()
        } else if let Some(name) = entry.program.strip_prefix("{known_bad}/") {
            self.known_bad().join(name)
        } else {
            PathBuf::from(&entry.program)
        }
    }

    /// `target/known-bad/` of the clone that this binary was built in, unless the environment says otherwise. Tests and
    /// benches are built one folder further down than `vuh`.
    fn known_bad(&self) -> PathBuf {
        if let Some(folder) = std::env::var_os(KNOWN_BAD_VARIABLE).filter(|folder| !folder.is_empty()) {
            return PathBuf::from(folder);
        }
        let above = self
            .vuh
            .ancestors()
            .skip(2)
            .take(2)
            .map(|folder| folder.join("known-bad"));
        let mut above = above.peekable();
        let first = above.peek().cloned().unwrap_or_default();
        above.find(|folder| folder.is_dir()).unwrap_or(first)
    }

    /// Whether the entry's program is here: its version line, or why not. Asked once for each program.
    pub fn probe(&self, entry: &Entry) -> Result<String, String> {
        let program = self.program(entry);
        if entry.program == "{vuh}" {
            return if program.is_file() {
                Ok("embedded".to_owned())
            } else {
                Err(format!("the vuh binary is not at {}", program.display()))
            };
        }
        let mut probed = self.probed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        probed
            .entry(entry.program.clone())
            .or_insert_with(|| probe_program(&program, entry))
            .clone()
    }
}

fn probe_program(program: &Path, entry: &Entry) -> Result<String, String> {
    let needs = entry.needs.as_deref().map(|n| format!(" ({n})")).unwrap_or_default();
    if find_program(program).is_none() {
        return Err(match entry.program.strip_prefix("{known_bad}/") {
            Some(name) => format!("{name} is not built{needs}"),
            None => format!("{} is not installed{needs}", entry.program),
        });
    }
    if entry.probe.is_empty() {
        return Ok("present".to_owned());
    }
    match std::process::Command::new(program)
        .args(&entry.probe)
        .stdin(std::process::Stdio::null())
        .output()
    {
        Ok(output) if output.status.success() => Ok(version_line(&output.stdout, &output.stderr)),
        Ok(output) => Err(format!(
            "{} {} fails: {}",
            entry.program,
            entry.probe.join(" "),
            output.status
        )),
        Err(error) => Err(format!("{} cannot be started: {error}", entry.program)),
    }
}

/// The line that tells a version, or else the first one. DPDK tells it among the help it prints.
fn version_line(stdout: &[u8], stderr: &[u8]) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
    let tells = |line: &&str| {
        let line = line.to_lowercase();
        line.split_once("version")
            .is_some_and(|(_, rest)| rest.contains(|c: char| c.is_ascii_digit()))
    };
    let told = stdout.lines().chain(stderr.lines()).find(tells);
    let first = || stdout.lines().find(|line| !line.trim().is_empty());
    told.or_else(first).unwrap_or("present").trim().to_owned()
}

/// Where a program is, by the rules of `execvp`.
pub fn find_program(program: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |p: &Path| {
        p.metadata()
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if program.components().count() > 1 {
        return runs(program).then(|| program.to_owned());
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|d| d.join(program))
        .find(|p| runs(p))
}

fn parse(file: &str, text: &str) -> Result<Entry, CatalogueError> {
    serde_yaml::from_str(text).map_err(|e| CatalogueError {
        file: file.to_owned(),
        message: e.to_string(),
    })
}

fn yaml_files(directory: &Path) -> Result<Vec<PathBuf>, CatalogueError> {
    let fail = |message: String| CatalogueError {
        file: directory.display().to_string(),
        message,
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .map_err(|e| fail(e.to_string()))?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    if files.len() > FILES_MAX {
        return Err(fail(format!("{} files, more than {FILES_MAX}", files.len())));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::version_line;

    /// Broken: a report names a line of some program's help as its version.
    #[test]
    fn the_version_is_where_it_is_told() {
        let help: &[u8] = b"\nUsage: dpdk-testpmd\n  -v  Display version information on startup\n";
        let log: &[u8] = b"EAL: Detected CPU lcores: 2\nEAL: RTE Version: 'DPDK 22.11.11'\n";
        assert_eq!(version_line(help, log), "EAL: RTE Version: 'DPDK 22.11.11'");
        assert_eq!(
            version_line(b"QEMU emulator version 10.0.2\nCopyright 2003\n", b""),
            "QEMU emulator version 10.0.2"
        );
        assert_eq!(version_line(b"my-disk 3\n", b"warning\n"), "my-disk 3");
        assert_eq!(version_line(b"", b""), "present");
    }
}
