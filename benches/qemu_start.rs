//! How long a real QEMU takes from its start to DRIVER_OK, through the harness and by a bare script, interleaved in one
//! run: `cargo bench --bench qemu_start [-- ROUNDS]`. Prints both medians and their ratio; asserts nothing.
//!
//! The bare script knows nothing but this one conversation: a thread answers QEMU's requests from a table of constants,
//! the main thread writes virtio-pci registers over qtest.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use vhost_user_harness::engine::{self, Environment};
use vhost_user_harness::judge::verdict::Verdict;
use vhost_user_harness::peer::catalogue::{Catalogue, find_program};
use vhost_user_harness::scenario::{Settings, load_str};

const SCENARIO: &str = "
scenario: qemu-start
about: QEMU's virtio-net from its start to DRIVER_OK.
peers:
  front: {frontend: qemu, device: net}
  back: {backend: simulated, device: net}
steps:
  - connect: {from: front, to: back}
  - setup: {peer: front}
";

fn main() {
    if find_program(Path::new("qemu-system-x86_64")).is_none() {
        println!("qemu_start: not run: qemu-system-x86_64 is not installed");
        return;
    }
    let rounds = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(15);
    let vuh = std::env::current_exe().expect("a running program has a path");
    let environment = Environment {
        catalogue: Catalogue::load(None, vuh).expect("the built-in catalogue is valid"),
        frontend: None,
        backend: None,
        timeout_ms: None,
        keep: None,
        required: Vec::new(),
        rerun: String::new(),
    };
    let plans = load_str("qemu-start", SCENARIO, &Settings::default()).expect("the scenario is valid");
    let (mut bare, mut harness) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(bare_start());
        let outcome = engine::run(&plans[0], &environment);
        assert_eq!(outcome.verdict, Verdict::Pass, "{:?}", outcome.reason);
        harness.push(outcome.script_ms);
    }
    let (bare, harness) = (median(bare), median(harness));
    println!("QEMU from start to DRIVER_OK, median of {rounds}, interleaved");
    println!("  bare script  {bare:6.1} ms");
    println!("  harness      {harness:6.1} ms");
    println!("  ratio        {:6.2}", harness / bare);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Milliseconds from starting QEMU to the return of the write of DRIVER_OK.
fn bare_start() -> f64 {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    let mut firmware = vec![0xf4u8; 65536];
    firmware[0xfff0..0xfff4].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    std::fs::write(path("hlt.bin"), firmware).expect("the firmware is written");
    let vhost = UnixListener::bind(path("vhost")).expect("a socket");
    let qtest = UnixListener::bind(path("qtest")).expect("a socket");
    let start = Instant::now();
    let mut qemu = Command::new("qemu-system-x86_64")
        .args([
            "-nodefaults",
            "-display",
            "none",
            "-accel",
            "tcg",
            "-M",
            "pc,memory-backend=mem",
            "-m",
            "256M",
        ])
        .args([
            "-object",
            "memory-backend-memfd,share=on,id=mem,size=256M",
            "-bios",
            "hlt.bin",
        ])
        .args([
            "-chardev",
            "socket,id=c0,path=vhost",
            "-netdev",
            "vhost-user,id=n0,chardev=c0",
        ])
        .args([
            "-device",
            "virtio-net-pci,netdev=n0,disable-legacy=on,mq=off,vectors=4,romfile=",
        ])
        .args(["-qtest", "unix:qtest", "-qtest-log", "none"])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .spawn()
        .expect("QEMU starts");
    let back_end = std::thread::spawn(move || answer(&vhost.accept().expect("QEMU connects").0));
    drive(qtest.accept().expect("QEMU connects").0);
    let elapsed = start.elapsed().as_secs_f64() * 1000.0;
    qemu.kill().expect("QEMU is ours");
    qemu.wait().expect("QEMU ends");
    back_end.join().expect("the back-end thread ends with its socket");
    elapsed
}

/// Answers QEMU until it is gone. The descriptors that come along are dropped by the plain read.
fn answer(mut socket: &UnixStream) {
    let mut header = [0u8; 12];
    while socket.read_exact(&mut header).is_ok() {
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (request, flags, size) = (word(0), word(4), word(8));
        let mut payload = vec![0; size as usize];
        socket.read_exact(&mut payload).expect("the payload follows");
        let value: u64 = match request {
            1 => 1 << 32 | 1 << 30 | 1 << 29 | 1 << 28,
            15 => 0x1843f & !(1 << 9),
            17 => 2,
            36 => 32,
            40 => 0,
            _ if flags & 8 != 0 => 0,
            _ => continue,
        };
        let mut reply = Vec::new();
        for word in [request, 5, 8] {
            reply.extend_from_slice(&word.to_ne_bytes());
        }
        reply.extend_from_slice(&value.to_ne_bytes());
        if socket.write_all(&reply).is_err() {
            return;
        }
    }
}

const BAR: u64 = 0xe000_0000;
const DEVICE: u32 = 0x8000_1000;

/// Plays the driver of the device in slot 2: finds its common configuration by the layout that QEMU has, which is fixed.
fn drive(socket: UnixStream) {
    let mut lines = BufReader::new(socket.try_clone().expect("a socket can be cloned"));
    let mut socket = socket;
    let mut ask = |line: String| -> u64 {
        socket
            .write_all(format!("{line}\n").as_bytes())
            .expect("qtest takes commands");
        loop {
            let mut answer = String::new();
            lines.read_line(&mut answer).expect("qtest answers");
            if let Some(value) = answer.strip_prefix("OK") {
                let value = value.trim().trim_start_matches("0x");
                return u64::from_str_radix(value, 16).unwrap_or(0);
            }
        }
    };
    let device = DEVICE;
    let mut config = |register: u32, value: u32| {
        ask(format!("outl 0xcf8 {:#x}", device + register));
        ask(format!("outl 0xcfc {value:#x}"));
    };
    config(0x20, BAR as u32);
    config(0x24, 0);
    config(0x04, 6);
    let status = BAR + 0x14;
    for value in [0u8, 1, 3] {
        ask(format!("writeb {status:#x} {value:#x}"));
    }
    for half in 0..2u64 {
        ask(format!("writel {:#x} {half}", BAR));
        let offered = ask(format!("readl {:#x}", BAR + 4));
        let accepted = if half == 1 { offered & 1 } else { 0 };
        ask(format!("writel {:#x} {half}", BAR + 8));
        ask(format!("writel {:#x} {accepted:#x}", BAR + 12));
    }
    ask(format!("writeb {status:#x} 0xb"));
    ask(format!("readb {status:#x}"));
    for queue in 0..2u64 {
        ask(format!("writew {:#x} {queue}", BAR + 0x16));
        ask(format!("writew {:#x} 64", BAR + 0x18));
        for (register, part) in [(0x20u64, 0u64), (0x28, 0x1000), (0x30, 0x2000)] {
            let address = 0x100_0000 + queue * 0x4000 + part;
            ask(format!("writel {:#x} {address:#x}", BAR + register));
            ask(format!("writel {:#x} 0", BAR + register + 4));
        }
        ask(format!("writew {:#x} 1", BAR + 0x1c));
    }
    ask(format!("writeb {status:#x} 0xf"));
    assert_eq!(ask(format!("readb {status:#x}")), 0xf, "the device took DRIVER_OK");
}
