//! The command line by running the binary: every exit code, and what is printed with it.
//!
//! Tests in `words` run no scenario; those in `runs` and `explore` do.

#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

mod explore;
mod runs;
mod words;

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
