//! Two `dpdk-testpmd`, a vhost back-end that receives and a virtio-user front-end that sends, and the rate between them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use vhost_user_harness::peer::catalogue::find_program;

/// Length of one measurement. A rate needs a time.
const WINDOW: Duration = Duration::from_millis(700);
/// Time after `start`, before it is measured.
const SETTLE: Duration = Duration::from_millis(200);
/// Measurements of each pair of programs, taken in turns. Then all are started anew: some starts are slow for good.
const TURNS: usize = 4;
/// Longest wait for a line of testpmd's.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn compare(starts: usize) {
    if find_program(Path::new("dpdk-testpmd")).is_none() {
        println!("packet rate: not run: dpdk-testpmd is not installed");
        return;
    }
    let (mut direct, mut through, mut packets) = (Vec::new(), Vec::new(), 0);
    for _ in 0..starts {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut interposer = super::start(folder.path(), "packets.yaml");
        let mut pairs = [
            Pair::start(folder.path(), "c", "c"),
            Pair::start(folder.path(), "b", "a"),
        ];
        for turn in 0..TURNS {
            for n in [turn % 2, 1 - turn % 2] {
                let (rate, count) = pairs[n].measure();
                let rates = if n == 0 { &mut direct } else { &mut through };
                rates.push(rate);
                packets += if n == 0 { 0 } else { count };
            }
        }
        drop(pairs);
        interposer.kill().expect("the interposer is ours");
        interposer.wait().expect("the interposer ends");
    }
    let best = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
    let (best_direct, best_through) = (best(&direct), best(&through));
    let (direct, through) = (super::median(direct), super::median(through));
    println!("DPDK to DPDK, 64 bytes, {TURNS} windows of each after each of {starts} starts, interleaved");
    println!("  direct      {direct:7.2} Mpps, at best {best_direct:.2}");
    println!("  interposer  {through:7.2} Mpps, at best {best_through:.2}; {packets} packets while recording");
    println!(
        "  ratio       {:7.3}, of the best {:.3}",
        through / direct,
        best_through / best_direct
    );
}

/// A receiver and a sender.
struct Pair {
    back: Testpmd,
    front: Testpmd,
}

impl Pair {
    /// A back-end that listens on the one path, and a front-end that connects to the other.
    fn start(folder: &Path, listens: &str, connects: &str) -> Self {
        let vhost = format!("net_vhost0,iface={listens},queues=1");
        let back = Testpmd::start(folder, "0@0,1@0", &vhost, "rxonly");
        let user = format!("net_virtio_user0,path={connects},server=0,queues=1,queue_size=256");
        let front = Testpmd::start(folder, "0@1,1@1", &user, "txonly");
        Self { back, front }
    }

    /// Million packets a second that the receiver saw, and how many in all. The programs idle otherwise.
    fn measure(&mut self) -> (f64, u64) {
        self.back.say("start");
        self.front.say("start");
        std::thread::sleep(SETTLE);
        let before = self.back.received();
        let begun = Instant::now();
        std::thread::sleep(WINDOW);
        let after = self.back.received();
        let seconds = begun.elapsed().as_secs_f64();
        for program in [&mut self.front, &mut self.back] {
            program.say("stop");
            program.until("Done.");
        }
        ((after - before) as f64 / 1e6 / seconds, after - before)
    }
}

struct Testpmd {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Testpmd {
    fn start(folder: &Path, cpus: &str, device: &str, mode: &str) -> Self {
        // line by line, which it would do for a terminal only
        let mut child = Command::new("stdbuf")
            .args([
                "-oL",
                "dpdk-testpmd",
                "--lcores",
                cpus,
                "--no-pci",
                "--no-huge",
                "--no-shconf",
            ])
            .args(["--no-telemetry", "-m", "512", "--single-file-segments"])
            .args(["--vdev", device, "--", "-i", "--no-mlockall"])
            .args(["--total-num-mbufs=32768", &format!("--forward-mode={mode}")])
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
        testpmd.until("ports=");
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

    /// Packets received so far.
    fn received(&mut self) -> u64 {
        self.say("show port stats 0");
        let line = self.until("RX-packets:");
        let rest = line.split("RX-packets:").nth(1).unwrap_or_default().trim_start();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
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
