//! The documentation is true: every scenario in it is valid, every file it shows is that file, every output it shows is
//! what the command prints today.
//!
//! In Markdown, a comment on the line before a fenced block says what the block is:
//! `<!-- file: PATH -->` the content of a file of this repository; `<!-- output of: COMMAND -->` what the command prints
//! (standard output, then standard error), below the command itself. Where only the time of day differs, the page is left alone.
//! `VUH_BLESS=1 cargo test --test docs` writes both anew.

#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Pages that are written by programs, and checked where they are written.
const GENERATED: [&str; 2] = ["messages.md", "protocol-features.md"];

/// How a command on a page begins; what follows are words for `vuh`. The last one is run with an empty search path, as on
/// a machine without any real peer.
const COMMANDS: [&str; 3] = ["vuh ", "cargo run --release -- ", BARE];
const BARE: &str = "PATH= target/release/vuh ";

/// A fenced block, its lines between the fences.
struct Block {
    /// The line of the opening fence, from 0.
    line: usize,
    language: String,
    text: String,
    /// What the comment before it says.
    note: Option<Note>,
}

#[derive(Clone)]
enum Note {
    File(String),
    Output(String),
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![];
    for folder in [".", "docs", "docs/reference"] {
        let files = fs::read_dir(root().join(folder)).unwrap();
        pages.extend(files.map(|file| file.unwrap().path()));
    }
    let is_page = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(".md") && !GENERATED.contains(&name)
    };
    pages.retain(is_page);
    pages.sort();
    pages
}

fn note(line: &str) -> Option<Note> {
    let (kind, what) = line.strip_prefix("<!-- ")?.strip_suffix(" -->")?.split_once(": ")?;
    match kind {
        "file" => Some(Note::File(what.to_owned())),
        "output of" => Some(Note::Output(what.to_owned())),
        _ => None,
    }
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut before = "";
    for (line, text) in page.lines().enumerate() {
        match (&mut open, text.strip_prefix("```")) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text.push_str(&format!("{text}\n")),
            (None, Some(language)) => {
                let (language, text, note) = (language.to_owned(), String::new(), note(before));
                open = Some(Block {
                    line,
                    language,
                    text,
                    note,
                });
            }
            (None, None) => {}
        }
        before = text;
    }
    assert!(open.is_none(), "a fence is not closed");
    blocks
}

fn vuh(words: &[String], folder: &Path) -> (i32, String) {
    run(Command::new(env!("CARGO_BIN_EXE_vuh")).args(words).current_dir(folder))
}

fn run(command: &mut Command) -> (i32, String) {
    let output = command
        .stdin(Stdio::null())
        .env_remove("VUH_REQUIRE")
        .env_remove("VUH_BIN")
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// A command's words as a shell splits them, single quotes only.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in command.split('\'').enumerate() {
        match i % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

/// What differs from run to run, replaced: times, process ids, the temporary folder, the number of jobs, the widths that
/// follow from them; and the order in which scenarios end.
fn settled(text: &str) -> String {
    let line = |line: &str| {
        let line = line
            .split(" with ")
            .next()
            .filter(|_| line.contains(" selected, "))
            .unwrap_or(line);
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        for at in 1..words.len() {
            let unit = words[at].trim_end_matches(',').to_owned();
            let is_time = ["ms", "s"].contains(&unit.as_str()) && words[at - 1].parse::<f64>().is_ok();
            if is_time {
                words[at - 1] = "TIME".to_owned();
                words[at] = words[at].replacen(&unit, "ms", 1);
            }
            if words[at - 1] == "(pid" {
                words[at] = "PID)".to_owned();
            }
        }
        let words = words.into_iter().map(|word| match word.starts_with("/tmp/vuh-") {
            true => "FOLDER".to_owned(),
            false => word,
        });
        words.collect::<Vec<_>>().join(" ")
    };
    let mut lines: Vec<String> = text.lines().map(line).collect();
    let results = lines.iter().take_while(|line| !line.is_empty()).count();
    if text.contains(" selected, ") {
        lines[..results].sort();
    }
    lines.join("\n")
}

/// What a block has to be, if its note can be followed here.
fn wanted(note: &Note) -> Option<String> {
    match note {
        Note::File(path) => Some(fs::read_to_string(root().join(path)).unwrap()),
        Note::Output(command) => {
            let known = COMMANDS.iter().find_map(|start| command.strip_prefix(start));
            let words = words(known.unwrap_or_else(|| panic!("`{command}` does not begin with one of {COMMANDS:?}")));
            let mut vuh = Command::new(env!("CARGO_BIN_EXE_vuh"));
            vuh.args(&words).current_dir(root());
            let bare = command.starts_with(BARE);
            if bare {
                vuh.env("PATH", "");
            }
            let (_, text) = run(&mut vuh);
            // other pages show a machine that has the real peers
            let skipped = !bare && text.contains("is not installed");
            assert!(
                !skipped || std::env::var_os("VUH_REQUIRE").is_none(),
                "{command}:\n{text}"
            );
            (!skipped).then(|| format!("$ {command}\n{text}"))
        }
    }
}

/// Broken: what a page shows of a file or of a command's output is not what is there.
#[test]
fn shown_files_and_outputs_are_fresh() {
    let bless = std::env::var_os("VUH_BLESS").is_some();
    let mut shown = 0;
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<String> = page.lines().map(str::to_owned).collect();
        // from the end, so that the lines before keep their numbers
        for block in blocks(&page).into_iter().rev() {
            let Some(note) = &block.note else { continue };
            let Some(fresh) = wanted(note) else { continue };
            shown += 1;
            let same = match note {
                Note::File(_) => fresh == block.text,
                Note::Output(_) => settled(&fresh) == settled(&block.text),
            };
            if same {
                continue;
            }
            let place = format!("{}:{}", path.display(), block.line + 1);
            assert!(
                bless,
                "{place} is stale: VUH_BLESS=1 cargo test --test docs writes it anew\n--- there\n{}--- fresh\n{fresh}",
                block.text
            );
            let first = block.line + 1;
            let last = first + block.text.lines().count();
            lines.splice(first..last, fresh.lines().map(str::to_owned));
        }
        if bless {
            fs::write(&path, lines.join("\n") + "\n").unwrap();
        }
    }
    assert!(shown >= 5, "only {shown} blocks are checked");
}

/// Broken: a scenario or a catalogue file in a page cannot be used as it stands.
#[test]
fn yaml_in_pages_is_valid() {
    let mut scenarios = 0;
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        for block in blocks(&page).iter().filter(|block| block.language == "yaml") {
            let place = format!("{}:{}", path.display(), block.line + 1);
            let folder = tempfile::tempdir().unwrap();
            let write = |name: &str| {
                let file = folder.path().join(name);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(&file, &block.text).unwrap();
            };
            let said = if let Some(rest) = block.text.strip_prefix("scenario:") {
                // a file of the repository is checked where it is, with its fragments
                if let Some(Note::File(path)) = &block.note {
                    let words = ["lint".to_owned(), path.clone()];
                    vuh(&words, root())
                } else {
                    write(&format!("scenarios/{}.yaml", rest.lines().next().unwrap().trim()));
                    vuh(&["lint".to_owned()], folder.path())
                }
            } else if block.text.starts_with("peer:") {
                write("peers/mine.yaml");
                vuh(&words("doctor --peers peers"), folder.path())
            } else {
                continue;
            };
            scenarios += 1;
            assert_eq!(said.0, 0, "{place}:\n{}", said.1);
        }
    }
    assert!(scenarios >= 5, "only {scenarios} blocks are checked");
}

/// Broken: the README lists other exit codes than there are.
#[test]
fn the_readme_lists_every_exit_code() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, help) = vuh(&words("--help"), root());
    let codes = help.split("Exit codes:\n").nth(1).unwrap().lines();
    let codes: Vec<&str> = codes.filter_map(|line| line.split_whitespace().next()).collect();
    let rows = readme
        .lines()
        .skip_while(|line| !line.starts_with("| exit code |"))
        .skip(2);
    let listed: Vec<&str> = rows
        .map_while(|row| row.strip_prefix("| ")?.split(' ').next())
        .collect();
    assert_eq!(codes, listed);
}

/// Broken: a link in a page leads to a file that is not there.
#[test]
fn links_lead_somewhere() {
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let there = path.parent().unwrap().join(file);
            assert!(there.exists(), "{} links to {link}", path.display());
        }
    }
}

/// Broken: a room imports one that stands above it, and `docs/architecture.md` says that none does.
#[test]
fn rooms_import_downwards() {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let rows = page.lines().skip_while(|line| !line.starts_with("| room |")).skip(2);
    let rooms: Vec<&str> = rows
        .map_while(|row| row.strip_prefix("| `")?.split('`').next())
        .collect();
    let there = fs::read_dir(root().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    assert_eq!(rooms.len(), there.filter(|path| path.is_dir()).count(), "{rooms:?}");
    for (at, room) in rooms.iter().enumerate() {
        for file in files(&root().join("src").join(room)) {
            let text = fs::read_to_string(&file).unwrap();
            let above = rooms[..at]
                .iter()
                .find(|above| text.contains(&format!("crate::{above}::")));
            assert_eq!(above, None, "{}", file.display());
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, mut files_here): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files_here.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files_here.extend(folders.iter().flat_map(|folder| files(folder)));
    files_here
}

/// Broken: the tour teaches with scenarios that do not run, or with one that fails unasked.
#[test]
fn the_tour_runs() {
    let (code, said) = vuh(&words("run docs/tour --filter 'not eight'"), root());
    assert_eq!(code, 0, "{said}");
    let (code, said) = vuh(&words("run docs/tour/eight-queues.yaml"), root());
    assert_eq!(code, 1, "{said}");
}
