//! Packs an initial file system for the guest: `init`, and the kernel modules that were asked for with those that they need.
//!
//! `pack INIT MODULES_DIR OUT NAME...`: MODULES_DIR is searched for NAME.ko and for what each says it depends on; what its list
//! `modules.builtin` names is part of the kernel, and left out. OUT is an
//! archive in the format that the kernel unpacks at boot (Documentation/driver-api/early-userspace/buffer-format.rst): "newc"
//! of cpio, uncompressed, which is quickest to start from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Modules that one kernel may have.
const MODULES_MAX: usize = 100_000;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [init, modules, out, names @ ..] = words.as_slice() else {
        eprintln!("usage: pack INIT MODULES_DIR OUT NAME...");
        return ExitCode::from(2);
    };
    match pack(Path::new(init), Path::new(modules), Path::new(out), names) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pack: error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn pack(init: &Path, modules: &Path, out: &Path, names: &[OsString]) -> Result<(), String> {
    let mut found = BTreeMap::new();
    find(modules, &mut found)?;
    for name in built_in(modules) {
        found.insert(name, Found::InKernel);
    }
    let mut order = Vec::new();
    for name in names {
        need(&name.to_string_lossy(), &found, &mut order, &mut Vec::new())?;
    }
    let mut archive = Archive::default();
    archive.add("init", 0o100_755, &read(init)?);
    for folder in ["dev", "proc", "sys", "modules"] {
        archive.add(folder, 0o040_755, &[]);
    }
    // init loads them in the order of their names
    for (at, module) in order.iter().enumerate() {
        archive.add(&format!("modules/{at:02}-{}.ko", module.name), 0o100_644, &module.bytes);
    }
    fs::write(out, archive.finish()).map_err(|error| format!("{}: {error}", out.display()))
}

/// Where a module is.
enum Found {
    File(PathBuf),
    InKernel,
}

struct Module {
    name: String,
    bytes: Vec<u8>,
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// All modules below a folder, by name.
fn find(folder: &Path, found: &mut BTreeMap<String, Found>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&path, found)?;
        } else if let (Some("ko"), Some(name)) = (
            path.extension().and_then(|e| e.to_str()),
            path.file_stem().and_then(|s| s.to_str()),
        ) {
            if found.len() >= MODULES_MAX {
                return Err(format!("more than {MODULES_MAX} modules"));
            }
            found.insert(plain(name), Found::File(path.clone()));
        }
    }
    Ok(())
}

/// Modules that are part of the kernel: its list has a path a line.
fn built_in(modules: &Path) -> Vec<String> {
    let list = fs::read_to_string(modules.join("modules.builtin")).unwrap_or_default();
    let names = list.lines().filter_map(|line| Path::new(line).file_stem()?.to_str());
    names.map(plain).collect()
}

/// File names may have `-` where the kernel says `_`.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// Puts a module into `order`, behind those that it depends on.
fn need(
    name: &str,
    found: &BTreeMap<String, Found>,
    order: &mut Vec<Module>,
    above: &mut Vec<String>,
) -> Result<(), String> {
    let name = plain(name);
    if order.iter().any(|module| module.name == name) {
        return Ok(());
    }
    if above.contains(&name) {
        return Err(format!("{name} depends on itself"));
    }
    let path = match found.get(&name) {
        Some(Found::File(path)) => path,
        Some(Found::InKernel) => return Ok(()),
        None => return Err(format!("this kernel has no module {name}")),
    };
    let bytes = read(path)?;
    above.push(name.clone());
    for other in depends(&bytes) {
        need(&other, found, order, above)?;
    }
    above.pop();
    order.push(Module { name, bytes });
    Ok(())
}

/// What a module says that it depends on: in its section .modinfo, which is text with zeroes between the entries.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let at = module.windows(KEY.len()).position(|window| window == KEY);
    let list = at.map_or(&[][..], |at| &module[at + KEY.len()..]);
    let list = list.split(|byte| *byte == 0).next().unwrap_or_default();
    let list = String::from_utf8_lossy(list);
    list.split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A cpio archive in the making.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = if mode & 0o040_000 != 0 { 2 } else { 1 };
        let fields = [
            self.entries,
            mode,
            0, // user
            0, // group
            links,
            0, // time: two runs give the same bytes
            content.len() as u32,
            0, // device it is on
            0,
            0, // device it is
            0,
            name.len() as u32 + 1,
            0, // check sum: none in this format
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}
