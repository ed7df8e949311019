//! Every file of `tests/failing/` is a scenario that is wrong on purpose, or runs into something that is. Each is run with
//! the real binary, and all that a person sees of it, the exit code included, is compared with the golden file beside it.
//! `VUH_BLESS=1` writes the golden files anew.
//!
//! Times, process ids and the names of temporary folders differ from run to run and are replaced, in columns of the same
//! width where columns matter. A comment `# path: empty` at the head of a file runs it on a machine without programs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use vhost_user_harness::engine::obstacle;
use vhost_user_harness::scenario::{Settings, load_file};
use vhost_user_harness::suite::environment::{self, Options, REQUIRE_VARIABLE};

const FOLDER: &str = "tests/failing";

fn main() -> ExitCode {
    // paths in the output are relative to the package
    env::set_current_dir(env!("CARGO_MANIFEST_DIR")).expect("the package is where it was built");
    let arguments = Arguments::from_args();
    let mut files: Vec<PathBuf> = fs::read_dir(FOLDER)
        .expect("the scenarios are there")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    let trials = files.into_iter().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(path: PathBuf) -> Trial {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let bare = fs::read_to_string(&path).is_ok_and(|text| text.starts_with("# path: empty\n"));
    let missing = if bare { None } else { missing(&path) };
    let ignored = missing.is_some();
    Trial::test(name.clone(), move || compare(&name, bare))
        .with_kind(missing.unwrap_or_default())
        .with_ignored_flag(ignored)
}

/// The peer that is not here, if one is needed and none is demanded.
fn missing(path: &Path) -> Option<String> {
    let plans = load_file(path, &Settings::default()).ok()?;
    let options = Options {
        require: env::var(REQUIRE_VARIABLE).unwrap_or_default(),
        ..Options::default()
    };
    let environment = environment::environment(&options, env!("CARGO_BIN_EXE_vuh").into()).ok()?;
    let obstacle = plans.iter().find_map(|plan| obstacle(plan, &environment))?;
    (!obstacle.fatal).then(|| format!("no {}", obstacle.missing.unwrap_or(obstacle.reason)))
}

fn compare(name: &str, bare: bool) -> Result<(), Failed> {
    let shown = run(name, bare)?;
    run_again(name, &shown)?;
    let path = Path::new(FOLDER).join(format!("{name}.out"));
    if env::var_os("VUH_BLESS").is_some() {
        return Ok(fs::write(path, shown)?);
    }
    let golden = fs::read_to_string(&path).map_err(|e| format!("{}: {e}; VUH_BLESS=1 makes it", path.display()))?;
    if golden == shown {
        return Ok(());
    }
    let differs = golden.lines().zip(shown.lines()).position(|(a, b)| a != b);
    let line = differs.unwrap_or_else(|| golden.lines().count().min(shown.lines().count())) + 1;
    Err(format!(
        "line {line} of {} is another now; look at it, and bless it with VUH_BLESS=1 if it is better\n\
         --- golden\n{golden}\n--- now\n{shown}",
        path.display()
    )
    .into())
}

/// What the terminal shows, and the exit code in a last line.
fn run(name: &str, bare: bool) -> Result<String, Failed> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vuh"));
    command
        .args(["run", "--color", "never", "-j", "1", "--root", FOLDER, name])
        .stdin(Stdio::null())
        .env_remove(REQUIRE_VARIABLE)
        .env_remove("VUH_BIN");
    if bare {
        command.env("PATH", "/nonexistent");
    }
    let output = command.output()?;
    let code = output.status.code().ok_or("vuh was killed")?;
    let said = format!(
        "{}{}exit {code}\n",
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?
    );
    Ok(normal(&said, &env::temp_dir()))
}

/// The command that a failure ends with, given to a shell as it stands, has to fail in the same way.
fn run_again(name: &str, shown: &str) -> Result<(), Failed> {
    // the limit of this one is the harness's own and long
    if name == "ignores-sigterm" {
        return Ok(());
    }
    let programs = Path::new(env!("CARGO_BIN_EXE_vuh"))
        .parent()
        .ok_or("vuh is in a folder")?;
    let path = format!("{}:{}", programs.display(), env::var("PATH").unwrap_or_default());
    let lines: Vec<&str> = shown.lines().collect();
    let titles = lines.iter().filter(|line| line.starts_with("error: "));
    let commands = lines
        .windows(2)
        .filter(|pair| pair[0] == "run again:")
        .map(|pair| pair[1].trim());
    for (title, command) in titles.zip(commands) {
        let output = Command::new("sh")
            .args(["-c", &format!("{command} --color never")])
            .env("PATH", &path)
            .output()?;
        let again = String::from_utf8(output.stdout)?;
        if !again.contains(title) || !again.contains("1 selected") {
            return Err(format!("`{command}` does something else:\n{again}").into());
        }
    }
    Ok(())
}

/// Replaces what no two runs have in common.
fn normal(text: &str, temporary: &Path) -> String {
    let run = format!("{}/vuh-run-", temporary.display());
    let mut lines = String::new();
    for line in text.lines() {
        let line = times(line);
        let line = replace_run(&line, "(pid ", |c| c.is_ascii_digit(), "(pid N");
        let line = replace_run(&line, &run, |c| c.is_ascii_alphanumeric() || c == '-', "<run>");
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}

/// `12.345 ms` and `1.20 s` become `<time>`, which ends in the same column where times stand in one. Whole numbers are
/// limits that a scenario names, unless they stand in a column or are the whole run's.
fn times(line: &str) -> String {
    let mut done = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let after = from.trim_start_matches(is_number);
        let number = &from[..from.len() - after.len()];
        let left = [" ms", " s"].into_iter().find_map(|unit| after.strip_prefix(unit));
        let left = left.filter(|left| !left.starts_with(char::is_alphanumeric));
        let in_column = before.ends_with("  ");
        match left.filter(|_| in_column || number.contains('.') || before.ends_with("selected, ")) {
            Some(left) if in_column => {
                let blanks = before.len() - before.trim_end().len();
                let width = blanks + from.len() - left.len();
                done.push_str(before.trim_end());
                done.push_str(&format!("{:>width$}", "<time>"));
                rest = left;
            }
            Some(left) => {
                done.push_str(before);
                done.push_str("<time>");
                rest = left;
            }
            None => {
                done.push_str(before);
                done.push_str(number);
                rest = after;
            }
        }
    }
    done + rest
}

/// Replaces `start` and all characters after it that `more` accepts.
fn replace_run(line: &str, start: &str, more: impl Fn(char) -> bool, by: &str) -> String {
    let mut done = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(start) {
        done.push_str(&rest[..at]);
        done.push_str(by);
        rest = rest[at + start.len()..].trim_start_matches(&more);
    }
    done + rest
}
