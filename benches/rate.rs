//! Whether a rate check can be relied on: `cargo bench --bench rate [-- RUNS]`. The scenario `benches/rate/rate.yaml` compares two
//! back-ends that are alike, measured in turn, RUNS times; then with one that does nothing in 30 percent of the time. Prints
//! how often it passed, failed, and could not tell. The first must never fail, the second never pass.

use std::path::{Path, PathBuf};
use std::process::Command;

const RUNS: u32 = 50;
const SCENARIO: &str = "benches/rate/rate.yaml";

fn main() {
    let runs = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(RUNS);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for slowed in [0, 30] {
        let [mut passed, mut failed, mut unsaid] = [0, 0, 0];
        for _ in 0..runs {
            let run = Command::new(vuh())
                .args(["run", SCENARIO, "--set", &format!("slowed={slowed}")])
                .current_dir(root)
                .output()
                .expect("vuh can be started");
            match run.status.code() {
                Some(0) => passed += 1,
                Some(1) => failed += 1,
                Some(5) => unsaid += 1,
                other => panic!("{other:?}: {}", String::from_utf8_lossy(&run.stdout)),
            }
        }
        println!("slowed by {slowed:2} %: {passed} passed, {failed} failed, of {unsaid} nothing could be said");
    }
}

fn vuh() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_vuh"))
}
