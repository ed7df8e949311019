//! A `dpdk-testpmd` on huge pages with one port, its workers on one processor, told what to do line by line.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longest wait for a line.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Testpmd {
    child: Child,
    input: ChildStdin,
    lines: Receiver<(Instant, String)>,
    prefix: String,
}

impl Testpmd {
    /// Starts it in `folder`, with `device` as its port and `mode` as what it does.
    pub(super) fn start(folder: &Path, name: &str, cpu: usize, device: &str, mode: &str, ring: u16) -> Self {
        let prefix = format!("vuhbench{}{name}", std::process::id());
        // line by line, which it would do for a terminal only
        let mut child = Command::new("stdbuf")
            .args(["-oL", "dpdk-testpmd", "--lcores", &format!("0@{cpu},1@{cpu}")])
            .args([
                "--file-prefix",
                &prefix,
                "--no-pci",
                "--no-telemetry",
                "--single-file-segments",
            ])
            .args([
                "-m",
                "128",
                "--vdev",
                device,
                "--",
                "-i",
                "--no-mlockall",
                "--port-topology=loop",
            ])
            .args(["--total-num-mbufs=32768", &format!("--forward-mode={mode}")])
            .args([format!("--txd={ring}"), format!("--rxd={ring}")])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("testpmd starts");
        let output = child.stdout.take().expect("it is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take().expect("it is piped");
        Self {
            child,
            input,
            lines,
            prefix,
        }
    }

    /// Waits until it listens to commands.
    pub(super) fn is_up(&mut self) {
        self.say("show config fwd");
        self.until("ports=");
    }

    pub(super) fn say(&mut self, command: &str) {
        writeln!(self.input, "{command}").expect("testpmd reads");
    }

    fn until(&mut self, text: &str) -> (Instant, String) {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("testpmd says something");
            if line.1.contains(text) {
                return line;
            }
        }
    }

    /// Frame length of what it sends.
    pub(super) fn frames_of(&mut self, bytes: usize) {
        self.say(&format!("set txpkts {bytes}"));
    }

    pub(super) fn begin(&mut self) {
        self.say("start");
    }

    pub(super) fn end(&mut self) {
        self.say("stop");
        self.until("Done.");
    }

    /// Packets received so far, and when that was said.
    pub(super) fn received(&mut self) -> (Instant, u64) {
        self.say("show port stats 0");
        let (at, line) = self.until("RX-packets:");
        let rest = line.split("RX-packets:").nth(1).unwrap_or_default().trim_start();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (at, digits.parse().unwrap_or(0))
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // what it had of huge pages stays behind otherwise
        for entry in std::fs::read_dir("/dev/hugepages").into_iter().flatten().flatten() {
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with(&format!("{}map", self.prefix))
            {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let _ = std::fs::remove_dir_all(format!("/var/run/dpdk/{}", self.prefix));
    }
}
