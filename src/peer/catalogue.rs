//! The catalogue: how each known real peer is started and what it can do, one YAML file each in `harness/peers/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::Deserialize;

use super::probe::probe;
use crate::sys::text_file::read_text;
use crate::wire::Party;

/// Files that the binary carries, so that it works away from its repository.
const BUILT_IN: &[(&str, &str)] = &[
    ("qemu.yaml", include_str!("../../harness/peers/qemu.yaml")),
    ("linux-guest.yaml", include_str!("../../harness/peers/linux-guest.yaml")),
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
    (
        "simulated-process.yaml",
        include_str!("../../harness/peers/simulated-process.yaml"),
    ),
    ("dpdk-few.yaml", include_str!("../../harness/peers/dpdk-few.yaml")),
    ("dpdk-iommu.yaml", include_str!("../../harness/peers/dpdk-iommu.yaml")),
    ("dpdk-packed.yaml", include_str!("../../harness/peers/dpdk-packed.yaml")),
    ("vub-0.21.yaml", include_str!("../../harness/peers/vub-0.21.yaml")),
    ("vub-0.22.yaml", include_str!("../../harness/peers/vub-0.22.yaml")),
    ("vub-0.23.yaml", include_str!("../../harness/peers/vub-0.23.yaml")),
    ("vub-0.24.yaml", include_str!("../../harness/peers/vub-0.24.yaml")),
];

/// The environment variable that says where the known-bad back-ends are.
pub const KNOWN_BAD_VARIABLE: &str = "VUH_KNOWN_BAD";
/// The environment variable that says where kernel and initial file system of the Linux guest are.
pub const GUEST_VARIABLE: &str = "VUH_GUEST";

/// Files read from a directory of the user's, at most.
const FILES_MAX: usize = 256;
/// Largest of them.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// What may stand in braces in a command.
pub const PLACEHOLDERS: [&str; 10] = [
    "{socket}",
    "{fd}",
    "{image}",
    "{device}",
    "{queues}",
    "{rings}",
    "{ring_size}",
    "{capacity}",
    "{run_dir}",
    "{vuh}",
];

/// Words that a command line or `VUH_REQUIRE` means something else by.
const RESERVED: [&str; 2] = ["simulated", "all"];

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
    /// A front-end that never makes as many chains available as a ring has slots between two looks at the ring: the oracle follows
    /// its packed rings.
    #[serde(default)]
    pub paced: bool,
    /// It ends by itself when its connection is closed.
    #[serde(default)]
    pub ends_with_connection: bool,
}

/// Which end a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
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
    /// The drivers of a Linux guest in QEMU, which is told over a serial line what to do; the harness speaks QMP.
    Linux,
}

/// The files of a Linux guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestImage {
    /// Its kernel.
    pub kernel: PathBuf,
    /// Its initial file system, which is all that it has.
    pub initrd: PathBuf,
    /// What says which kernel it is.
    version: PathBuf,
}

impl GuestImage {
    /// As `harness/guest/build` leaves them.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            kernel: folder.join("vmlinuz"),
            initrd: folder.join("initrd"),
            version: folder.join("version"),
        }
    }

    /// Which kernel it is, if there is one.
    fn kernel_version(&self) -> Option<String> {
        let is_built = [&self.kernel, &self.initrd].iter().all(|file| file.is_file());
        is_built.then(|| {
            let version = read_text(&self.version, FILE_BYTES_MAX).unwrap_or_default();
            version.lines().next().unwrap_or("a kernel").to_owned()
        })
    }
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
    /// By what is asked, and what is said when it is not there.
    probed: Mutex<BTreeMap<Asked, Result<String, String>>>,
}

/// A program, the words that make it print its version, and what it needs.
type Asked = (String, Vec<String>, Option<String>);

/// A catalogue file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("catalogue file {file}: {message}")]
pub struct CatalogueError {
    /// Which, with line and column if they are known.
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
        let mut own: BTreeMap<(String, Role), String> = BTreeMap::new();
        for path in directory.map(yaml_files).transpose()?.unwrap_or_default() {
            let file = path.display().to_string();
            let text = read_text(&path, FILE_BYTES_MAX).map_err(|e| CatalogueError {
                file: file.clone(),
                message: e.to_string(),
            })?;
            let entry = parse(&file, &text)?;
            if let Some(other) = own.insert((entry.peer.clone(), entry.role), file.clone()) {
                let message = format!("{other} has a peer `{}` of the same role", entry.peer);
                return Err(CatalogueError { file, message });
            }
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

    /// The folder that `harness/known-bad/build` fills.
    fn known_bad(&self) -> PathBuf {
        self.built("known-bad", KNOWN_BAD_VARIABLE)
    }

    /// What the Linux guest is made of.
    pub fn guest(&self) -> GuestImage {
        GuestImage::in_folder(&self.built("guest", GUEST_VARIABLE))
    }

    /// `target/NAME/` of the clone that this binary was built in, unless the environment says otherwise. Tests and
    /// benches are built one folder further down than `vuh`.
    fn built(&self, name: &str, variable: &str) -> PathBuf {
        if let Some(folder) = std::env::var_os(variable).filter(|folder| !folder.is_empty()) {
            return PathBuf::from(folder);
        }
        let above = self.vuh.ancestors().skip(2).take(2).map(|folder| folder.join(name));
        let mut above = above.peekable();
        let first = above.peek().cloned().unwrap_or_default();
        above.find(|folder| folder.is_dir()).unwrap_or(first)
    }

    /// Whether the entry's program is here: its version line, or why not. Asked once for each program and probe.
    pub fn probe(&self, entry: &Entry) -> Result<String, String> {
        let program = self.program(entry);
        if entry.program == "{vuh}" {
            return if program.is_file() {
                Ok("embedded".to_owned())
            } else {
                Err(format!("the vuh binary is not at {}", program.display()))
            };
        }
        let found = {
            let mut probed = self.probed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            probed
                .entry((entry.program.clone(), entry.probe.clone(), entry.needs.clone()))
                .or_insert_with(|| probe(&program, entry))
                .clone()?
        };
        if entry.driver != Driver::Linux {
            return Ok(found);
        }
        match self.guest().kernel_version() {
            Some(kernel) => Ok(format!("{found}, {kernel}")),
            None => {
                let needs = entry.needs.as_deref().unwrap_or_default();
                Err(format!("there is no kernel for a Linux guest ({needs})"))
            }
        }
    }
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
    use serde_yaml::MessageFormatter as _;
    let options = serde_yaml::options! { with_snippet: false };
    let entry: Entry = serde_yaml::from_str_with_options(text, options).map_err(|e| {
        let place = e.location().map(|l| format!(":{}:{}", l.line(), l.column()));
        CatalogueError {
            file: format!("{file}{}", place.unwrap_or_default()),
            message: serde_yaml::UserMessageFormatter.format_message(&e).into_owned(),
        }
    })?;
    match entry.wrong() {
        None => Ok(entry),
        Some(message) => Err(CatalogueError {
            file: file.to_owned(),
            message,
        }),
    }
}

impl Entry {
    /// Why it can never be started, or never be named.
    fn wrong(&self) -> Option<String> {
        let name = &self.peer;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            return Some(format!(
                "`{name}` is no name for a peer: letters, digits, `-`, `_` and `.`"
            ));
        }
        if RESERVED.contains(&name.as_str()) {
            return Some(format!(
                "`{name}` is a word of the harness itself, and no name for a peer"
            ));
        }
        if let Some(unknown) = self.command.iter().find_map(|word| unknown_placeholder(word)) {
            let known = PLACEHOLDERS.join(", ");
            return Some(format!(
                "`{unknown}` in the command stands for nothing; there are {known}"
            ));
        }
        let told = self
            .command
            .iter()
            .any(|word| word.contains("{socket}") || word.contains("{fd}"));
        (self.driver == Driver::None && !told)
            .then(|| "the command has no {socket} and no {fd}, so the peer cannot be told where to talk".to_owned())
    }
}

/// The first word in braces that stands for nothing. Other braces, as of JSON, are left alone.
pub fn unknown_placeholder(word: &str) -> Option<&str> {
    let starts = word.match_indices('{').map(|(at, _)| at);
    starts
        .filter_map(|at| Some(&word[at..=at + word[at..].find('}')?]))
        .find(|found| {
            let inner = &found[1..found.len() - 1];
            let is_name = !inner.is_empty() && inner.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            is_name && !PLACEHOLDERS.contains(found)
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
    use super::*;

    const MINE: &str = "peer: mine\nabout: a test\nrole: backend\nprogram: sh\ncommand: [-c, \"{socket}\"]\n";

    fn load(files: &[(&str, &str)]) -> Result<Catalogue, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let place = folder.path().display().to_string();
        let loaded = Catalogue::load(Some(folder.path()), "vuh".into());
        loaded.map_err(|e| e.to_string().replace(&place, "DIR"))
    }

    fn refused(text: &str) -> String {
        load(&[("a.yaml", text)]).unwrap_err()
    }

    /// Broken: a catalogue file that cannot work is found out by a run, or never.
    #[test]
    fn entries_are_checked() {
        assert!(load(&[("a.yaml", MINE)]).is_ok());
        let place = refused(&MINE.replace("role: backend", "role: bakend"));
        assert!(
            place.starts_with("catalogue file DIR/a.yaml:3:7: ") && !place.contains("<input>"),
            "{place}"
        );
        assert!(refused(&MINE.replace("mine", "\"\"")).contains("no name for a peer"));
        assert!(refused(&MINE.replace("mine", "simulated")).contains("a word of the harness"));
        assert!(refused(&MINE.replace("{socket}", "x")).contains("no {socket} and no {fd}"));
        assert!(refused(&MINE.replace("-c", "\"{nope}\"")).contains("`{nope}` in the command stands for nothing"));
        assert_eq!(unknown_placeholder("{\"a\": {socket}}"), None);
        let twice = load(&[("a.yaml", MINE), ("b.yaml", MINE)]).unwrap_err();
        assert_eq!(
            twice,
            "catalogue file DIR/b.yaml: DIR/a.yaml has a peer `mine` of the same role"
        );
    }

    /// Broken: a comma in the path of TMPDIR changes the options of a program.
    #[test]
    fn paths_may_have_commas() {
        let catalogue = Catalogue::load(None, "vuh".into()).unwrap();
        // DPDK's device arguments have no way to write a comma
        let entries = catalogue
            .entries()
            .iter()
            .filter(|entry| entry.program != "dpdk-testpmd");
        let words = entries.flat_map(|entry| &entry.command);
        let paths = words.filter(|word| {
            ["{image}", "{socket}", "{run_dir}"]
                .iter()
                .any(|path| word.contains(path))
        });
        for word in paths {
            assert!(word.starts_with('{') || !word.contains(','), "{word}");
        }
    }

    /// Broken: a folder of catalogue files makes the harness read without end, or wait for ever.
    #[test]
    fn only_small_files_are_read() {
        let long = format!("{MINE}# {}\n", "x".repeat(FILE_BYTES_MAX));
        assert!(
            refused(&long).ends_with("it has more than 65536 bytes"),
            "{}",
            refused(&long)
        );
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("zero.yaml")).unwrap();
        let error = Catalogue::load(Some(folder.path()), "vuh".into()).unwrap_err();
        assert!(error.to_string().ends_with("it is no regular file"), "{error}");
    }

    /// Broken: a Linux guest counts as there without its kernel, and each of its scenarios fails.
    #[test]
    fn a_guest_is_there_with_its_kernel() {
        let folder = tempfile::tempdir().unwrap();
        // a binary stands in a folder of `target`, and what was built beside that folder
        let target = folder.path().join("target");
        let image = GuestImage::in_folder(&target.join("guest"));
        assert_eq!(image.kernel_version(), None);
        std::fs::create_dir_all(target.join("guest")).unwrap();
        std::fs::write(target.join("guest/vmlinuz"), "").unwrap();
        assert_eq!(image.kernel_version(), None);
        std::fs::write(target.join("guest/initrd"), "").unwrap();
        assert_eq!(image.kernel_version(), Some("a kernel".to_owned()));
        std::fs::write(target.join("guest/version"), "linux 6\n").unwrap();
        assert_eq!(image.kernel_version(), Some("linux 6".to_owned()));
        if std::env::var_os(GUEST_VARIABLE).is_none() {
            // tests are one folder further down
            for binary in ["debug/vuh", "debug/deps/scenarios"] {
                let catalogue = Catalogue::load(None, target.join(binary)).unwrap();
                assert_eq!(catalogue.guest(), image, "{binary}");
            }
        }
    }

    /// Broken: two entries that ask one program different things get one answer.
    #[test]
    fn each_probe_is_asked() {
        let probe = |words: &str| {
            format!(
                "{}probe: [-c, \"{words}\"]\n",
                MINE.replace("mine", words.trim_start_matches("echo "))
            )
        };
        let catalogue = load(&[("a.yaml", &probe("echo one")), ("b.yaml", &probe("echo two"))]).unwrap();
        let answer = |name: &str| catalogue.probe(catalogue.find(name, Role::Backend).unwrap());
        assert_eq!((answer("one"), answer("two")), (Ok("one".into()), Ok("two".into())));
    }
}
