//! Instructions a packet, by callgrind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::parts::Way;

/// Packets of the short and of the long run: what is not a packet's falls out of the difference.
const FEW: u64 = 640;
const MANY: u64 = 6_400;
/// Differences below this many percent are not worth a look: a compiler's whim.
const NOTICED_PERCENT: f64 = 2.0;

pub(super) fn bless() {
    let mut text = String::from("# instructions a packet, by callgrind: cargo bench --bench packet_cost -- --bless\n");
    for (name, instructions) in measure() {
        text.push_str(&format!("{name:<32}{instructions:>10.1}\n"));
    }
    std::fs::write(file(), &text).expect("the file can be written");
    print!("{text}");
}

pub(super) fn compare() {
    let mut before = read();
    println!("{:<32}{:>10}{:>10}{:>9}", "instructions a packet", "now", "before", "");
    for (name, now) in measure() {
        let Some(then) = before.remove(&name) else {
            println!("{name:<32}{now:>10.1}{:>10}", "-");
            continue;
        };
        let percent = 100.0 * (now - then) / then;
        let mark = if percent.abs() < NOTICED_PERCENT { "" } else { "  <-" };
        println!("{name:<32}{now:>10.1}{then:>10.1}{percent:>+8.1}%{mark}");
    }
    for (name, then) in before {
        println!("{name:<32}{:>10}{then:>10.1}  <-", "-");
    }
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/packet_cost/instructions.txt")
}

fn read() -> BTreeMap<String, f64> {
    let text = std::fs::read_to_string(file()).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        // names have spaces in them
        let (name, number) = line.rsplit_once(' ')?;
        Some((name.trim_end().to_owned(), number.parse().ok()?))
    };
    lines.filter_map(pair).collect()
}

fn measure() -> Vec<(String, f64)> {
    let mut rows = Vec::new();
    for way in super::parts::all() {
        let (few, many) = (instructions(&way, FEW), instructions(&way, MANY));
        for (at, (row, _)) in way.rows().into_iter().enumerate() {
            rows.push((row, (many[at] - few[at]) as f64 / (MANY - FEW) as f64));
        }
    }
    rows
}

/// Instructions in the functions of each row of a way, those that they call included.
fn instructions(way: &Way, packets: u64) -> Vec<u64> {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let out = folder.path().join("out");
    let own = std::env::current_exe().expect("this program has a path");
    let ended = Command::new("valgrind")
        .args(["--tool=callgrind", "--compress-strings=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(own)
        .args(["way", &way.name(), &packets.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("valgrind is installed");
    assert!(ended.success(), "{} runs under valgrind", way.name());
    let text = std::fs::read_to_string(out).expect("callgrind has written");
    let rows = way.rows();
    let mut counts = vec![0; rows.len()];
    let mut row = None;
    let mut lines = text.lines();
    // `cfn=` names what is called, `calls=` follows, and behind it a line whose last number is what all these calls cost
    while let Some(line) = lines.next() {
        if let Some(called) = line.strip_prefix("cfn=") {
            row = rows
                .iter()
                .position(|(_, mark)| called.contains(&format!("::parts::{mark}")));
        } else if line.starts_with("calls=") {
            let cost = lines
                .next()
                .and_then(|cost| cost.rsplit(' ').next()?.parse::<u64>().ok());
            if let (Some(row), Some(cost)) = (row, cost) {
                counts[row] += cost;
            }
        }
    }
    for ((name, mark), count) in rows.iter().zip(&counts) {
        assert!(
            *count > 0,
            "{name}: no function {mark}… was called; has this program been stripped of its names?"
        );
    }
    counts
}
