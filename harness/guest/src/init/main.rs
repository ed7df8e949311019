//! The first and only program of the harness's Linux guest.
//!
//! It mounts what the kernel has to say, loads the virtio drivers, and then does what it is told on the second serial line,
//! one command and one answer a line: `ok …`, or `error …` with the reason. Before anything else it says `ready`, and what it
//! has; the device is there by then and its driver bound. What the kernel has to complain of goes to the first serial line.

mod blk;
mod device;
mod net;
mod sys;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;

use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use blk::Disk;
use net::Net;

/// Where commands come from.
const LINE: &str = "/dev/ttyS1";

/// What a command comes to: words for the answer, or the reason why not.
type Answer = Result<String, String>;

fn main() {
    if let Err(error) = run() {
        // the kernel panics when this ends, and says so on the console, below this
        eprintln!("init: {error}");
    }
}

fn run() -> Result<(), String> {
    for (what, place) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        let mounted = mount(Some(what), place, Some(what), MsFlags::empty(), None::<&str>);
        mounted.map_err(|error| format!("mount {place}: {error}"))?;
    }
    load_modules()?;
    let lost = |error: io::Error| format!("{LINE}: {error}");
    let (lines, mut answers) = open_line().map_err(lost)?;
    let mut guest = Guest::default();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let ready = guest.start().map(|what| format!("{what} on Linux {}", release.trim()));
    say(&mut answers, "ready", ready).map_err(lost)?;
    for line in lines.lines() {
        let answer = guest.command(&line.map_err(lost)?);
        say(&mut answers, "ok", answer).map_err(lost)?;
    }
    Err(format!("{LINE} ends"))
}

/// The modules of the archive, in the order of their names.
fn load_modules() -> Result<(), String> {
    let entries = fs::read_dir("/modules").map_err(|error| format!("/modules: {error}"))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let file = File::open(&path).map_err(|error| failed(&error))?;
        finit_module(&file, c"", ModuleInitFlags::empty()).map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// The serial line as it is, without echo and without line ends of a terminal.
fn open_line() -> io::Result<(BufReader<File>, File)> {
    let line = OpenOptions::new().read(true).write(true).open(LINE)?;
    let mut settings = tcgetattr(&line)?;
    cfmakeraw(&mut settings);
    tcsetattr(&line, SetArg::TCSANOW, &settings)?;
    let answers = line.try_clone()?;
    Ok((BufReader::new(line), answers))
}

fn say(answers: &mut File, good: &str, answer: Answer) -> io::Result<()> {
    let line = match answer {
        Ok(text) => format!("{good} {text}"),
        Err(text) => format!("error {text}"),
    };
    let line = line.trim_end().replace('\n', " ");
    answers.write_all(format!("{line}\n").as_bytes())
}

/// What the guest has: one device, of one kind.
#[derive(Default)]
struct Guest {
    net: Option<Net>,
    disk: Option<Disk>,
}

impl Guest {
    /// Takes what there is into use.
    fn start(&mut self) -> Answer {
        self.net = Net::start().map_err(|error| format!("net: {error}"))?;
        self.disk = Disk::open().map_err(|error| format!("blk: {error}"))?;
        match (&self.net, &self.disk) {
            (Some(net), None) => Ok(net.name().to_owned()),
            (None, Some(disk)) => Ok(disk.name().to_owned()),
            (None, None) => Err("there is no network interface and no disk".to_owned()),
            (Some(_), Some(_)) => Err("there are a network interface and a disk".to_owned()),
        }
    }

    fn command(&mut self, line: &str) -> Answer {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["features"] => device::features(),
            ["unbind"] => {
                // a disk that is in use cannot go
                (self.net, self.disk) = (None, None);
                device::unbind().map(|()| String::new())
            }
            ["bind"] => {
                device::bind()?;
                self.start()
            }
            ["counts"] => match &mut self.net {
                Some(net) => Ok(net.counts()),
                None => Err("there is no network interface".to_owned()),
            },
            ["read" | "write" | "flush" | "serial", ..] => match &mut self.disk {
                Some(disk) => disk.command(&words),
                None => Err("there is no disk".to_owned()),
            },
            _ => Err(format!("unknown command `{line}`")),
        }
    }
}
