//! The command line by running the binary: every exit code, and what is printed with it.
//!
//! Tests in `words` need no scenario to run; those in `runs` do.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A folder with scenarios of its own, and a command line in it.
struct Place {
    folder: TempDir,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Place {
    fn empty() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// With these scenario files: id, and what follows `scenario` and `about`.
    fn with(scenarios: &[(&str, &str)]) -> Self {
        let place = Self::empty();
        for (id, rest) in scenarios {
            place.write(
                &format!("scenarios/{id}.yaml"),
                &format!("scenario: {id}\nabout: A made-up scenario.\n{rest}"),
            );
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vuh"));
        command.args(words).current_dir(self.folder.path()).stdin(Stdio::null());
        for name in ["VUH_REQUIRE", "VUH_BIN", "NO_COLOR"] {
            command.env_remove(name);
        }
        command
    }

    fn vuh(&self, words: &[&str]) -> Said {
        said(self.command(words).output().unwrap())
    }
}

fn said(output: Output) -> Said {
    Said {
        code: output.status.code().expect("vuh ends by itself"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Said {
    #[track_caller]
    fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\nstdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn out(self, text: &str) -> Self {
        assert!(
            self.out.contains(text),
            "stdout lacks {text:?}:\n{}\nstderr:\n{}",
            self.out,
            self.err
        );
        self
    }

    #[track_caller]
    fn err(self, text: &str) -> Self {
        assert!(self.err.contains(text), "stderr lacks {text:?}:\n{}", self.err);
        self
    }
}

const PASSES: &str = "\
covers: [VU-CFG-02]
tags: [quick]
peers:
  front: {frontend: simulated, device: net}
  back: {backend: simulated, device: net}
steps:
  - connect: {from: front, to: back}
  - setup: {peer: front, until: negotiated}
";

const NEEDS_QEMU: &str = "\
peers:
  front: {frontend: qemu, device: net}
  back: {backend: simulated, device: net}
steps:
  - connect: {from: front, to: back}
";

const INVALID: &str = "\
peers:
  front: {frontend: simulated}
  back: {backend: simulated}
steps:
  - connct: {from: front, to: back}
";

mod words {
    use super::*;

    /// Broken: help is an error, or nonsense is not.
    #[test]
    fn help_and_wrong_words() {
        let place = Place::empty();
        place.vuh(&["--help"]).code(0).out("Exit codes:");
        place.vuh(&["run", "--help"]).code(0).out("covers(GLOB)");
        place.vuh(&["--version"]).code(0).out("vuh ");
        place.vuh(&[]).code(2);
        place.vuh(&["frobnicate"]).code(2);
        place.vuh(&["run", "-j", "0"]).code(2);
        place
            .vuh(&["run", "--report", "xml:file"])
            .code(2)
            .err("json:FILE or junit:FILE");
        place
            .vuh(&["run", "--timeout", "5"])
            .code(2)
            .err("write a number and a unit");
        place.vuh(&["run", "--set", "novalue"]).code(2).err("NAME=VALUE");
    }

    /// Broken: a path that is not there looks like a run without scenarios.
    #[test]
    fn paths_that_are_not_there() {
        let place = Place::with(&[("link/close", PASSES)]);
        place
            .vuh(&["run", "scenarios/link/clse.yaml"])
            .code(2)
            .err("did you mean `scenarios/link/close.yaml`?");
        place
            .vuh(&["run", "./nowhere"])
            .code(2)
            .err("there is no file or folder `./nowhere`");
        Place::empty()
            .vuh(&["run"])
            .code(2)
            .err("there is no folder `scenarios` here");
    }

    /// Broken: a selection that matches nothing turns green.
    #[test]
    fn selections_that_match_nothing() {
        let place = Place::with(&[("link/close", PASSES)]);
        place
            .vuh(&["run", "link/cloze"])
            .code(4)
            .err("did you mean `link/close`?");
        place
            .vuh(&["run", "link/close", "other"])
            .code(4)
            .err("no scenario is called `other`");
        place
            .vuh(&["run", "link/close[n=1]"])
            .code(4)
            .err("no scenario is called `link/close[n=1]`");
        place
            .vuh(&["run", "--filter", "tag(slow)"])
            .code(4)
            .err("none of the 1 selected scenarios matches");
        std::fs::create_dir(place.path("empty")).unwrap();
        place
            .vuh(&["run", "empty"])
            .code(4)
            .err("there is no scenario in `empty`");
    }

    /// Broken: a wrong option is only found after everything has run, or never.
    #[test]
    fn options_that_cannot_be_meant() {
        let place = Place::with(&[("link/close", PASSES)]);
        let caret = "1 | tag(quick) adn blk\n  |            ^^^\n";
        place.vuh(&["run", "--filter", "tag(quick) adn blk"]).code(2).err(caret);
        place
            .vuh(&["run", "--backend", "refrence"])
            .code(2)
            .err("did you mean `reference`?");
        place
            .vuh(&["run", "--frontend", "a command"])
            .code(2)
            .err("has no {socket} and no {fd}");
        place
            .vuh(&["run", "--set", "n=1"])
            .code(2)
            .err("--set n: none of the selected scenarios has a parameter");
        place
            .vuh(&["run", "--require", "qmeu"])
            .code(2)
            .err("did you mean `qemu`?");
        let required = place.command(&["run"]).env("VUH_REQUIRE", "qmeu").output().unwrap();
        said(required).code(2).err("did you mean `qemu`?");
        place
            .vuh(&["run", "--report", "json:/nowhere/report.json"])
            .code(2)
            .err("report /nowhere/report.json");
        place
            .vuh(&["run", "--keep", "scenarios/link/close.yaml"])
            .code(2)
            .err("--keep scenarios/link/close.yaml");
    }

    /// Broken: an invalid file runs, hides others, or does not show its place.
    #[test]
    fn invalid_files() {
        let place = Place::with(&[
            ("link/close", PASSES),
            ("link/typo", INVALID),
            ("link/typo-too", INVALID),
        ]);
        let run = place
            .vuh(&["run"])
            .code(3)
            .err("--> scenarios/link/typo.yaml:7:5")
            .err("link/typo-too.yaml:7:5");
        assert!(run.err.ends_with("error: 2 errors in 2 files\n"), "{}", run.err);
        assert_eq!(run.out, "");
        place
            .vuh(&["lint"])
            .code(3)
            .err("link/typo.yaml:7:5")
            .err("link/typo-too.yaml:7:5");
        place
            .vuh(&["lint", "link/close"])
            .code(0)
            .out("no errors: 1 files, 1 scenarios");
        place.vuh(&["list", "link/typo"]).code(3);
        place.write("peers/mine.yaml", "peer: mine\nabout: x\nrole: neither\nprogram: x\n");
        place
            .vuh(&["run", "link/close", "--peers", "peers"])
            .code(3)
            .err("peers/mine.yaml");
    }

    /// Broken: `list` leaves scenarios out, or its document is no JSON.
    #[test]
    fn lists() {
        let place = Place::with(&[("link/close", PASSES), ("frontend/one", NEEDS_QEMU)]);
        let list = place.vuh(&["list"]).code(0);
        assert_eq!(
            list.out,
            "frontend/one  A made-up scenario.\nlink/close    A made-up scenario.\n"
        );
        let list = place.vuh(&["list", "--json", "--filter", "peer(qemu)"]).code(0);
        let document: serde_json::Value = serde_json::from_str(&list.out).unwrap();
        assert_eq!(
            (&document["format"], &document["version"]),
            (&"vuh-list".into(), &1.into())
        );
        assert_eq!(document["scenarios"][0]["id"], "frontend/one");
        assert_eq!(document["scenarios"].as_array().unwrap().len(), 1);
    }

    /// Broken: `vuh list | head -1` panics.
    #[test]
    fn a_reader_that_goes_away() {
        let place = Place::with(&[("link/close", PASSES)]);
        for words in [&["list"][..], &["schema"], &["doctor"], &["explain", "VU-CFG"]] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let child = place
                .command(words)
                .stdout(writer)
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            assert_eq!(said(child.wait_with_output().unwrap()).code(0).err, "", "{words:?}");
        }
    }

    /// Broken: the schema printed is not the one checked in.
    #[test]
    fn the_schema() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/scenario.schema.json");
        assert_eq!(
            Place::empty().vuh(&["schema"]).code(0).out,
            std::fs::read_to_string(path).unwrap()
        );
    }

    /// Broken: a requirement is explained wrongly, without its scenarios, or not found in another spelling.
    #[test]
    fn explanations() {
        let place = Place::with(&[("link/close", PASSES)]);
        place
            .vuh(&["explain", "vu-cfg-02"])
            .code(0)
            .out("VU-CFG-02  MUST  back-end")
            .out("covered by  link/close");
        place
            .vuh(&["explain", "VU-CFG-03"])
            .code(0)
            .out("covered by  no scenario");
        Place::empty()
            .vuh(&["explain", "VU-CFG-03"])
            .code(0)
            .out("covered by  unknown");
        place
            .vuh(&["explain", "VU-CFG"])
            .code(0)
            .out("VU-CFG-01")
            .out("VU-CFG-07")
            .out("1 scenario");
        place
            .vuh(&["explain", "VHOST_USER_SET_SLAVE_REQ_FD"])
            .code(0)
            .out("SET_BACKEND_REQ_FD  request 21");
        place
            .vuh(&["explain", "reply_ack"])
            .code(0)
            .out("REPLY_ACK  protocol feature, bit 3");
        place
            .vuh(&["explain", "VU-CFG-99"])
            .code(2)
            .err("did you mean VU-CFG-0");
        place
            .vuh(&["explain", "GET_CONFG"])
            .code(2)
            .err("did you mean GET_CONFIG");
    }

    /// Broken: `doctor` fails on a machine without peers, or does not say how to get them.
    #[test]
    fn the_doctor() {
        let place = Place::with(&[("link/close", PASSES), ("link/typo", INVALID)]);
        let doctor = place
            .command(&["doctor"])
            .env("PATH", place.path("bin"))
            .output()
            .unwrap();
        said(doctor)
            .code(0)
            .out("qemu-system-x86_64 is not installed (scripts/install-peers brings it)")
            .out("memfd             works")
            .out("invalid files: `vuh lint` says why");
        Place::empty()
            .vuh(&["doctor"])
            .code(0)
            .out("there is no folder `scenarios` here");
    }

    /// Broken: colours in a file, or none where they were asked for.
    #[test]
    fn colours() {
        let place = Place::empty();
        assert!(!place.vuh(&["explain", "VU-CFG-02"]).out.contains('\u{1b}'));
        place
            .vuh(&["explain", "VU-CFG-02", "--color", "always"])
            .out("\u{1b}[1mVU-CFG-02\u{1b}[0m");
    }

    /// Broken: the catalogue cannot start the embedded peers.
    #[test]
    fn the_hidden_verb() {
        let place = Place::empty();
        place.vuh(&["reference-peer", "nonsense"]).code(2).err("nonsense");
        place.vuh(&["reference-peer", "--help"]).code(0).out("backend");
        assert!(!place.vuh(&["--help"]).out.contains("reference-peer"));
    }
}

mod runs {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc;
    use std::time::Duration;

    use nix::sys::signal::{Signal, kill};
    use nix::sys::stat::Mode;
    use nix::unistd::{Pid, mkfifo};
    use vhost_user_harness::report::json::JsonReport;

    use super::*;

    const FAILS: &str = "\
peers:
  front: {frontend: simulated, device: net}
  back: {backend: simulated, device: net}
steps:
  - connect: {from: front, to: back}
  - send: {from: front, message: GET_FEATURES}
  - expect: {from: front, message: SET_OWNER}
";

    const HANGS: &str = "\
peers:
  front: {frontend: simulated, device: net}
  back: {backend: simulated, device: net}
timeout: 100 ms
steps:
  - connect: {from: front, to: back}
  - expect: {from: back, channel: backend, message: CONFIG_CHANGE_MSG}
";

    /// Broken: a run in which all passed is not green.
    #[test]
    fn all_passed() {
        let place = Place::with(&[("link/a", PASSES), ("link/b", PASSES)]);
        let run = place
            .vuh(&["run", "-j", "1"])
            .code(0)
            .out("2 passed: 2 on simulated and embedded peers");
        assert!(run.out.starts_with("pass   link/a "), "{}", run.out);
        assert!(
            !run.out.contains('\u{1b}') && run.err.is_empty(),
            "{}{}",
            run.out,
            run.err
        );
        place.vuh(&["run", "scenarios/link/a.yaml"]).code(0).out("1 passed");
        place.vuh(&["run", "scenarios"]).code(0).out("2 passed");
    }

    /// Broken: a failure is not red, or does not show what a person needs.
    #[test]
    fn one_failed() {
        let place = Place::with(&[("link/a", PASSES), ("link/b", FAILS)]);
        place
            .vuh(&["run"])
            .code(1)
            .out("1 passed")
            .out("1 failed: 1 wrong")
            .out("--> scenarios/link/b.yaml:9:")
            .out("expected  ")
            .out("actual    ")
            .out("run again:\n    vuh run link/b\n");
    }

    /// Broken: a wait without end, or a hang that is not told from a wrong answer.
    #[test]
    fn a_hang() {
        Place::with(&[("link/a", HANGS)])
            .vuh(&["run"])
            .code(1)
            .out("1 failed: 1 hang");
    }

    /// Broken: the command that a failure prints cannot be found again from outside of the scenarios' folder.
    #[test]
    fn run_again_with_another_root() {
        let place = Place::empty();
        place.write(
            "mine/link/b.yaml",
            &format!("scenario: link/b\nabout: A made-up scenario.\n{FAILS}"),
        );
        place
            .vuh(&["run", "mine"])
            .code(1)
            .out("    vuh run --root mine link/b\n");
        place.vuh(&["run", "--root", "mine", "link/b"]).code(1).out("1 failed");
    }

    /// Broken: a machine without peers turns green, or red although others passed.
    #[test]
    fn skips() {
        let place = Place::with(&[("frontend/a", NEEDS_QEMU), ("link/a", PASSES)]);
        let without_peers = |words: &[&str]| {
            let output = place.command(words).env("PATH", place.path("bin")).output().unwrap();
            said(output)
        };
        let reason = "qemu-system-x86_64 is not installed (scripts/install-peers brings it)";
        without_peers(&["run"])
            .code(0)
            .out("1 passed")
            .out("1 skipped:")
            .out(reason);
        without_peers(&["run", "frontend/a"])
            .code(4)
            .out("0 passed")
            .out(reason);
        without_peers(&["run", "--require", "qemu"])
            .code(10)
            .out("1 failed: 1 start")
            .out("is required");
    }

    /// Broken: a peer that cannot be started is not told from one that does something wrong.
    #[test]
    fn a_peer_that_cannot_be_started() {
        let place = Place::with(&[("link/a", PASSES)]);
        place.write("no-program", "this is no program\n");
        let path = place.path("no-program");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        // a script without an interpreter: found, executable, and refused by the kernel
        place
            .vuh(&["run", "--backend", &format!("{} {{socket}}", path.display())])
            .code(10)
            .out("1 failed: 1 start");
    }

    /// Broken: a known failure is red, or a repaired one stays unnoticed.
    #[test]
    fn known_failures() {
        let known = |text: &str| format!("expected_fail: known to be wrong\n{text}");
        let place = Place::with(&[("link/a", &known(FAILS)), ("link/b", &known(PASSES))]);
        place
            .vuh(&["run", "link/a"])
            .code(0)
            .out("1 failed as expected")
            .out("known to be wrong");
        place.vuh(&["run"]).code(6).out("1 passed although known to fail");
    }

    /// Broken: the reports are not written, or say something else than the terminal.
    #[test]
    fn reports() {
        let place = Place::with(&[("link/a", PASSES), ("link/b", FAILS)]);
        place
            .vuh(&["run", "--report", "json:report.json", "--report", "junit:report.xml"])
            .code(1);
        let report = JsonReport::parse(&std::fs::read_to_string(place.path("report.json")).unwrap()).unwrap();
        assert_eq!((report.totals.pass, report.totals.fail), (1, 1));
        let failed = &report.scenarios[1];
        assert_eq!(
            (failed.verdict.as_str(), failed.fail_kind.as_deref()),
            ("fail", Some("wrong"))
        );
        let location = failed.failure.as_ref().unwrap().location.as_ref().unwrap();
        assert_eq!((location.file.as_str(), location.line), ("scenarios/link/b.yaml", 9));
        let xml = std::fs::read_to_string(place.path("report.xml")).unwrap();
        assert!(
            xml.contains(r#"tests="2" skipped="0" failures="1" errors="0""#),
            "{xml}"
        );
    }

    /// Broken: results that nobody can read count as green.
    #[test]
    fn a_report_that_cannot_be_written() {
        let place = Place::with(&[("link/a", PASSES)]);
        place
            .vuh(&["run", "--report", "json:/dev/full"])
            .code(70)
            .out("1 passed")
            .err("is not complete");
    }

    /// Broken: Ctrl-C leaves peers behind, loses the summary, or looks like a pass.
    #[test]
    fn an_interrupt() {
        let place = Place::with(&[("link/a", PASSES), ("link/b", PASSES)]);
        let fifo = place.path("started");
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        // a peer that says when it runs, and never connects
        place.write(
            "peer",
            &format!("#!/bin/sh\necho $$ > '{}'\nexec sleep 600\n", fifo.display()),
        );
        std::fs::set_permissions(place.path("peer"), PermissionsExt::from_mode(0o755)).unwrap();
        let peer = format!("{} {{socket}}", place.path("peer").display());
        let words = ["run", "-j", "1", "--timeout", "60 s", "--backend", &peer];
        let vuh = place
            .command(&words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, started) = mpsc::channel();
        std::thread::spawn(move || sender.send(std::fs::read_to_string(fifo)));
        let pid = started
            .recv_timeout(Duration::from_secs(30))
            .expect("the peer is started")
            .unwrap();
        kill(Pid::from_raw(vuh.id() as i32), Signal::SIGINT).unwrap();
        said(vuh.wait_with_output().unwrap())
            .code(130)
            .out("1 not run: interrupted");
        assert!(
            !Path::new(&format!("/proc/{}", pid.trim())).exists(),
            "the peer is still there"
        );
    }
}
