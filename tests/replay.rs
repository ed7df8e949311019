//! `vuh replay`, as a user calls it: recordings of real programs played against the program that they were made with, and
//! against others.

#![expect(clippy::unwrap_used, reason = "a test may end with a panic")]

use std::path::Path;
use std::process::Command;

/// What `vuh replay` said, and its exit code.
fn replay(trace: &str, side: &str, peer: &str) -> (Option<i32>, String) {
    let other = if side == "frontend" { "--backend" } else { "--frontend" };
    let output = Command::new(env!("CARGO_BIN_EXE_vuh"))
        .args(["replay", trace, "--as", side, other, peer])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

fn is_here(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Whether a catalogue's peer is here. One that `VUH_REQUIRE` lists has to be.
fn has(peer: &str) -> bool {
    let program = match peer {
        "qemu" => "qemu-system-x86_64",
        "qemu-storage-daemon" => peer,
        _ => return true,
    };
    let required = std::env::var("VUH_REQUIRE").unwrap_or_default();
    let here = is_here(program);
    assert!(
        here || !required.split(',').any(|name| name == peer),
        "{peer} is not here"
    );
    if !here {
        eprintln!("not run: {peer} is not here");
    }
    here
}

/// Broken: a recording cannot be played against the very program that it was made with, or is found to differ from itself.
#[test]
fn against_the_recorded_program() {
    for (trace, side, peer) in [
        ("qemu-storage-daemon-blk", "frontend", "qemu-storage-daemon"),
        ("qemu-storage-daemon-blk", "backend", "qemu"),
        ("qemu-reference-blk", "frontend", "reference"),
        ("qemu-reference-blk", "backend", "qemu"),
        ("reference-storage-daemon-blk", "frontend", "qemu-storage-daemon"),
        ("reference-storage-daemon-blk", "backend", "reference"),
        ("reference-blk", "backend", "reference"),
        ("reference-net", "backend", "reference"),
    ] {
        if !has(peer) {
            continue;
        }
        let (code, text) = replay(&format!("traces/{trace}.yaml"), side, peer);
        assert_eq!(code, Some(0), "{trace} as {side} with {peer}\n{text}");
        let last = text.lines().last().unwrap();
        assert!(last.ends_with(" 0 otherwise"), "{trace} as {side} with {peer}\n{text}");
        // of the same release nothing differs but how far the rings came; another release may offer other features
        let alike: u32 = last.split(' ').next().unwrap().parse().unwrap();
        assert!(alike >= 12, "{trace} as {side} with {peer}\n{text}");
    }
}

/// Broken: another implementation is held to what was only the recorded one's way.
#[test]
fn against_another_program() {
    for (trace, side, peer, reason) in [
        (
            "qemu-storage-daemon-blk",
            "frontend",
            "reference",
            "which features there are is up to each program",
        ),
        (
            "qemu-storage-daemon-blk",
            "frontend",
            "simulated",
            "how many there are is up to each program",
        ),
        (
            "qemu-reference-blk",
            "frontend",
            "qemu-storage-daemon",
            "RESET_DEVICE was not offered",
        ),
        (
            "reference-net",
            "backend",
            "simulated",
            "a front-end asks for is its own choice",
        ),
    ] {
        if !has(peer) {
            continue;
        }
        let (code, text) = replay(&format!("traces/{trace}.yaml"), side, peer);
        assert_eq!(code, Some(0), "{trace} as {side} with {peer}\n{text}");
        assert!(text.contains(reason), "{trace} as {side} with {peer}\n{text}");
    }
}

/// Broken: what a program must not do otherwise than it was recorded is not told from what it may.
#[test]
fn what_is_not_left_open() {
    let folder = tempfile::tempdir().unwrap();
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/reference-blk.yaml");
    let text = std::fs::read_to_string(recorded).unwrap();
    for (from, to, told) in [
        (
            "reply to SET_VRING_NUM value=0x0",
            "reply to SET_VRING_NUM value=0x1",
            "reply value: 0x1 / 0x0",
        ),
        (
            "reply to GET_VRING_BASE index=0",
            "reply to GET_VRING_BASE index=1",
            "reply index: 1 / 0",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        let altered = folder.path().join("altered.yaml");
        std::fs::write(&altered, text.replace(from, to)).unwrap();
        let (code, said) = replay(altered.to_str().unwrap(), "frontend", "reference");
        assert_eq!(code, Some(1), "{said}");
        let (_, wrong) = said.split_once("what it does not leave open").unwrap();
        assert!(wrong.contains(told), "{said}");
    }
}

/// Broken: a mistake on the command line is a riddle.
#[test]
fn mistakes() {
    let (code, text) = replay("traces/none.yaml", "frontend", "reference");
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("traces/none.yaml"), "{text}");
    let (code, text) = replay("traces/reference-blk.yaml", "frontend", "nobody");
    assert_eq!(code, Some(2), "{text}");
    let output = Command::new(env!("CARGO_BIN_EXE_vuh"))
        .args([
            "replay",
            "traces/reference-blk.yaml",
            "--as",
            "backend",
            "--backend",
            "reference",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("--frontend says who plays the other side")
    );
}
