//! DPDK's own pair as a baseline: its virtio-user sends, its vhost library receives, in two `dpdk-testpmd` that are told what to
//! do line by line. What arrives there is counted by DPDK and verified by nobody.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::unistd::{read, write};

use crate::sys::child::{Child, Spec};
use crate::sys::clock::{Clock, Moment};
use crate::sys::poll::wait_to_read;

/// Longest wait for a line, in milliseconds.
const PATIENCE_MS: u64 = 20_000;
/// Bytes of a line, at most.
const LINE_MAX: usize = 1 << 16;
/// How long both run before a window begins.
const SETTLE: Duration = Duration::from_millis(20);

/// How the pair is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) ring_size: u16,
    pub(super) packed: bool,
    pub(super) huge_pages: bool,
}

/// Why it cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum DpdkError {
    /// No process, pipe or folder.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// It does not say what it should.
    #[error("{name} does not say `{text}`{last}")]
    Silent {
        /// Which of both.
        name: &'static str,
        /// What was waited for.
        text: String,
        /// The last that it wrote to its standard error.
        last: String,
    },
}

/// Both programs.
#[derive(Debug)]
pub(super) struct Pair {
    front: Testpmd,
    back: Testpmd,
    /// Bytes and burst as they were last told.
    told: Option<(usize, usize)>,
    /// Its sockets; goes last.
    _folder: tempfile::TempDir,
}

impl Pair {
    /// Starts both, the front-end on the first processor and the back-end on the second.
    pub(super) fn start(program: &Path, kind: Kind, cpus: &[usize], clock: Clock) -> Result<Self, DpdkError> {
        let folder = tempfile::Builder::new().prefix("vuh-").tempdir()?;
        let cpu = |at: usize| cpus.get(at).or(cpus.first()).copied().unwrap_or_default();
        let (size, packed) = (kind.ring_size, u8::from(kind.packed));
        let vhost = "net_vhost0,iface=s,queues=1".to_owned();
        let user = format!(
            "net_virtio_user0,path=s,server=0,queues=1,queue_size={size},packed_vq={packed},mrg_rxbuf=1,in_order=1"
        );
        let start =
            |name, cpu, device: String| Testpmd::start(name, program, folder.path(), kind, (cpu, device), clock);
        let mut back = start("back", cpu(1), vhost)?;
        back.say("show config fwd")?;
        back.until("ports=")?;
        let mut front = start("front", cpu(0), user)?;
        front.say("show config fwd")?;
        front.until("ports=")?;
        Ok(Self {
            front,
            back,
            told: None,
            _folder: folder,
        })
    }

    /// Frames a second from front-end to back-end.
    pub(super) fn window(&mut self, bytes: usize, burst: usize, length: Duration) -> Result<f64, DpdkError> {
        if self.told.replace((bytes, burst)) != Some((bytes, burst)) {
            self.front.say(&format!("set txpkts {bytes}"))?;
            for side in [&mut self.front, &mut self.back] {
                side.say(&format!("set burst {burst}"))?;
            }
        }
        self.back.say("set fwd rxonly")?;
        self.front.say("set fwd txonly")?;
        for side in [&mut self.back, &mut self.front] {
            side.say("start")?;
            side.until("packet forwarding")?;
        }
        std::thread::sleep(SETTLE);
        let (from, before) = self.back.received()?;
        std::thread::sleep(length);
        let (to, after) = self.back.received()?;
        for side in [&mut self.front, &mut self.back] {
            side.say("stop")?;
            side.until("Done.")?;
        }
        Ok(after.saturating_sub(before) as f64 * 1e9 / (to.ns - from.ns).max(1) as f64)
    }
}

/// One program with one port, both its threads on one processor.
#[derive(Debug)]
struct Testpmd {
    name: &'static str,
    child: Child,
    input: OwnedFd,
    output: OwnedFd,
    /// What was read and not looked at.
    unread: Vec<u8>,
    clock: Clock,
    /// How its files on huge pages begin.
    prefix: String,
}

impl Testpmd {
    fn start(
        name: &'static str,
        program: &Path,
        folder: &Path,
        kind: Kind,
        (cpu, device): (usize, String),
        clock: Clock,
    ) -> Result<Self, DpdkError> {
        let prefix = format!("vuh{}{name}{}", std::process::id(), u8::from(kind.packed));
        let mut args: Vec<OsString> = Vec::new();
        // line by line, which it would do for a terminal only
        args.push("-oL".into());
        args.push(program.into());
        let mut more = |words: &[&str]| args.extend(words.iter().map(OsString::from));
        more(&["--lcores", &format!("0@{cpu},1@{cpu}"), "--file-prefix", &prefix]);
        more(&["--no-pci", "--no-telemetry", "--no-shconf", "--single-file-segments"]);
        more(match kind.huge_pages {
            true => &["-m", "128"],
            false => &["--no-huge", "-m", "256"],
        });
        more(&["--vdev", &device, "--", "-i", "--no-mlockall", "--port-topology=loop"]);
        let size = kind.ring_size;
        more(&[
            "--total-num-mbufs=16384",
            &format!("--txd={size}"),
            &format!("--rxd={size}"),
        ]);
        let spec = Spec {
            program: "stdbuf".into(),
            args,
            directory: folder.to_owned(),
            inherit: Vec::new(),
        };
        let (child, input, output) = Child::spawn_talking(&spec)?;
        Ok(Self {
            name,
            child,
            input,
            output,
            unread: Vec::new(),
            clock,
            prefix,
        })
    }

    fn say(&mut self, command: &str) -> Result<(), DpdkError> {
        let line = format!("{command}\n");
        // a few words fit into an empty pipe
        write(&self.input, line.as_bytes()).map_err(std::io::Error::from)?;
        Ok(())
    }

    /// The next line that holds `text`, and when it was there.
    fn until(&mut self, text: &str) -> Result<(Moment, String), DpdkError> {
        let deadline = self.clock.now().plus_ms(PATIENCE_MS);
        let mut buffer = [0; 4096];
        loop {
            while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).into_owned();
                if line.contains(text) {
                    return Ok((self.clock.now(), line));
                }
            }
            let left = self.clock.until(deadline);
            let ready = !left.is_zero() && wait_to_read([self.output.as_fd()], Some(left))?;
            let bytes = if ready {
                read(&self.output, &mut buffer).unwrap_or(0)
            } else {
                0
            };
            if bytes == 0 || self.unread.len() > LINE_MAX {
                return Err(self.silent(text));
            }
            self.unread.extend_from_slice(&buffer[..bytes]);
        }
    }

    fn silent(&mut self, text: &str) -> DpdkError {
        self.child.collect();
        let words = self.child.err.text();
        let last = words.lines().rfind(|line| !line.trim().is_empty());
        DpdkError::Silent {
            name: self.name,
            text: text.to_owned(),
            last: last.map_or_else(String::new, |line| format!("; its last words: {}", line.trim())),
        }
    }

    /// Frames that arrived so far, and when it said so.
    fn received(&mut self) -> Result<(Moment, u64), DpdkError> {
        self.say("show port stats 0")?;
        let (at, line) = self.until("RX-packets:")?;
        let rest = line.split("RX-packets:").nth(1).unwrap_or_default().trim_start();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Ok((at, digits.parse().unwrap_or(0)))
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        self.child.sweep();
        // what it had of huge pages stays behind otherwise
        let start = format!("{}map", self.prefix);
        for entry in std::fs::read_dir("/dev/hugepages").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&start) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}
