//! Instructions a packet, by callgrind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Packets of the short and of the long run: what is not a packet's falls out of the difference.
const FEW: u64 = 640;
const MANY: u64 = 6_400;
/// Differences below this many percent are not worth a look: a compiler's whim.
const NOTICED_PERCENT: f64 = 2.0;

pub(super) fn bless() {
    let mut text = String::from("# instructions a packet, by callgrind: cargo bench --bench packet_cost -- --bless\n");
    for (name, instructions) in measure() {
        text.push_str(&format!("{name:<28}{instructions:>10.1}\n"));
    }
    std::fs::write(file(), &text).expect("the file can be written");
    print!("{text}");
}

pub(super) fn compare() {
    let before = read();
    println!("{:<28}{:>10}{:>10}{:>9}", "instructions a packet", "now", "before", "");
    for (name, now) in measure() {
        let Some(then) = before.get(&name) else {
            println!("{name:<28}{now:>10.1}{:>10}", "-");
            continue;
        };
        let percent = 100.0 * (now - then) / then;
        let mark = if percent.abs() < NOTICED_PERCENT { "" } else { "  <-" };
        println!("{name:<28}{now:>10.1}{then:>10.1}{percent:>+8.1}%{mark}");
    }
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/packet_cost/instructions.txt")
}

fn read() -> BTreeMap<String, f64> {
    let text = std::fs::read_to_string(file()).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    };
    lines.filter_map(pair).collect()
}

fn measure() -> Vec<(String, f64)> {
    let names = super::parts::all().into_iter().map(|part| part.name);
    names
        .map(|name| {
            let (few, many) = (instructions(&name, FEW), instructions(&name, MANY));
            (name, (many - few) as f64 / (MANY - FEW) as f64)
        })
        .collect()
}

fn instructions(part: &str, packets: u64) -> u64 {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let out = folder.path().join("out");
    let own = std::env::current_exe().expect("this program has a path");
    let ended = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(own)
        .args(["part", part, &packets.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("valgrind is installed");
    assert!(ended.success(), "{part} runs under valgrind");
    let text = std::fs::read_to_string(out).expect("callgrind has written");
    let total = text.lines().find_map(|line| line.strip_prefix("summary: "));
    total.and_then(|total| total.trim().parse().ok()).expect("a number")
}
