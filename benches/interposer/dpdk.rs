//! Two `dpdk-testpmd`, a vhost back-end that receives and a virtio-user front-end that sends, and the rate between them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use vhost_user_harness::peer::catalogue::find_program;

/// Length of one measurement. A rate needs a time.
const WINDOW: Duration = Duration::from_millis(1_500);
/// Longest wait for a line of testpmd's.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn compare(rounds: usize) {
    if find_program(Path::new("dpdk-testpmd")).is_none() {
        println!("packet rate: not run: dpdk-testpmd is not installed");
        return;
    }
    let (mut direct, mut through, mut ratios, mut packets) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let own = measure(false);
        let passed = measure(true);
        ratios.push(passed.0 / own.0);
        direct.push(own.0);
        through.push(passed.0);
        packets += passed.1;
    }
    println!("DPDK to DPDK, 64 bytes, median of {rounds}, interleaved; {packets} packets while recording");
    println!("  direct      {:7.2} Mpps", super::median(direct));
    println!("  interposer  {:7.2} Mpps", super::median(through));
    println!("  ratio       {:7.3} (median of the pairs)", super::median(ratios));
}

/// Million packets a second that the receiver saw, and how many in all.
fn measure(recorded: bool) -> (f64, u64) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut interposer = recorded.then(|| super::start(folder.path(), "packets.yaml"));
    let vhost = "net_vhost0,iface=b,queues=1";
    let mut back = Testpmd::start(folder.path(), "back", &["--lcores", "0@0,1@0"], vhost, "rxonly");
    let socket = if recorded { "a" } else { "b" };
    let user = format!("net_virtio_user0,path={socket},server=0,queues=1,queue_size=256");
    let mut front = Testpmd::start(folder.path(), "front", &["--lcores", "0@1,1@1"], &user, "txonly");
    for program in [&mut back, &mut front] {
        program.say("start");
    }
    // the first call starts the window over which testpmd computes the rate
    std::thread::sleep(WINDOW);
    back.stats();
    std::thread::sleep(WINDOW);
    let (rate, packets) = back.stats();
    drop(front);
    drop(back);
    if let Some(interposer) = &mut interposer {
        interposer.kill().expect("the interposer is ours");
        interposer.wait().expect("the interposer ends");
    }
    (rate as f64 / 1e6, packets)
}

struct Testpmd {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Testpmd {
    fn start(folder: &Path, name: &str, cpus: &[&str], device: &str, mode: &str) -> Self {
        let mut child = Command::new("dpdk-testpmd")
            .args(cpus)
            .args([
                "--no-pci",
                "--no-huge",
                "-m",
                "512",
                "--single-file-segments",
                "--no-telemetry",
            ])
            .args([
                "--file-prefix",
                &format!("{name}-{}", std::process::id()),
                "--vdev",
                device,
            ])
            .args(["--", "-i", "--forward-mode", mode, "--total-num-mbufs=32768"])
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
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take().expect("it is piped");
        let mut testpmd = Self { child, input, lines };
        // answers once it is up, and once its device is
        testpmd.say("show config fwd");
        testpmd.until("port=");
        testpmd
    }

    fn say(&mut self, command: &str) {
        writeln!(self.input, "{command}").expect("testpmd reads");
    }

    fn until(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("testpmd says something");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Packets a second since the last time, and in all.
    fn stats(&mut self) -> (u64, u64) {
        self.say("show port stats 0");
        let number = |line: String, after: &str| {
            let rest = line.split(after).nth(1).unwrap_or_default().trim_start();
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap_or(0)
        };
        let packets = number(self.until("RX-packets:"), "RX-packets:");
        (number(self.until("Rx-pps:"), "Rx-pps:"), packets)
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        // whether or not it heard the first, it is ours to end
        let _ = writeln!(self.input, "stop\nquit");
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
