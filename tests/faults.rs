//! Every fault that a back-end can be given is told for what it is, with the number of the frame it happened to, on split and on
//! packed rings. `tests/faults/fault.yaml` can be run by hand with larger numbers, for one frame in a hundred million:
//! `vuh run tests/faults/fault.yaml --set at=100000000 --set packets=200000000`.

#![expect(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

use std::process::Command;

use vhost_user_harness::report::json::JsonReport;

/// Each fault, which happens to frame 1000 of 64 bytes; the first thing that is found, and what there is of it in the end.
const FAULTS: [(&str, &str, &str); 10] = [
    ("drop", "frame 1001 came while 1 before it had not", "1 lost"),
    ("swap", "frame 1001 came while 1 before it had not", "1 late"),
    ("flip-bit", "byte 63 of frame 1000 is not what was sent", "1 damaged"),
    ("repeat", "frame 1000 came a second time", "1 duplicate"),
    (
        "truncate",
        "frame 1000 was sent with 64 bytes and arrived with 63",
        "1 of wrong length",
    ),
    (
        "extend",
        "frame 1000 was sent with 64 bytes and arrived with 65",
        "1 of wrong length",
    ),
    ("stale", "frame 999 came a second time", "1 lost, 1 duplicate"),
    ("torn", "byte 56 of frame 1000 is not what was sent", "1 damaged"),
    ("blank", "frame 1001 came while 1 before it had not", "1 lost"),
    (
        "misdeliver",
        "frame 1000 of stream 30583 arrived, which ends elsewhere",
        "1 lost, 1 of another stream",
    ),
];

/// Faults of the ring itself, which a driver cannot go on after, and what it says of frame 1000 in a ring of 256.
const RING_FAULTS: [(&str, &str); 3] = [
    (
        "wrong-buffer",
        "device returned head 16616, which is no outstanding chain",
    ),
    ("stale-descriptor", "device returned head 231 twice"),
    (
        "too-long",
        "device wrote 1048576 bytes to head 232, which has 192 writable bytes",
    ),
];

const RINGS: [&str; 2] = ["VERSION_1", "RING_PACKED"];

/// What `vuh` says of a fault.
fn told(what: &str, ring: &str, more: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vuh"));
    command
        .args(["run", "tests/faults/fault.yaml", "--report"])
        .arg(format!("json:{}", report.display()))
        .args(["--set", &format!("what={what}"), "--set", &format!("ring={ring}")]);
    for set in more {
        command.args(["--set", set]);
    }
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{what} on {ring}: {said}");
    let report = JsonReport::parse(&std::fs::read_to_string(report).unwrap()).unwrap();
    let scenario = &report.scenarios[0];
    assert_eq!(scenario.fail_kind.as_deref(), Some("wrong"), "{what} on {ring}: {said}");
    scenario.failure.as_ref().unwrap().text.clone()
}

/// Broken: a fault of a back-end goes unseen, is taken for another one, or is told of another frame.
#[test]
fn each_fault_is_told_for_what_it_is() {
    for ring in RINGS {
        for (what, found, in_all) in FAULTS {
            let told = told(what, ring, &[]);
            assert!(
                told.contains(&format!("found     {found} (arrival ")),
                "{what} on {ring}: {told}"
            );
            assert!(
                told.contains(&format!("actual    {in_all}\n")),
                "{what} on {ring}: {told}"
            );
        }
    }
}

/// Broken: a driver follows a device that breaks the rules of the ring.
#[test]
fn faults_of_the_ring_are_told_by_the_driver() {
    for ring in RINGS {
        for (what, found) in RING_FAULTS {
            let told = told(what, ring, &[]);
            assert!(told.contains(found), "{what} on {ring}: {told}");
        }
    }
    // whoever looks first, the driver or the ring oracle
    let told = told("jump", "VERSION_1", &[]);
    assert!(told.contains("device moved used.idx from "), "{told}");
}

/// Broken: elements of a packed ring that a device marks used again and again are taken for frames.
#[test]
fn a_packed_ring_that_is_overrun_is_red() {
    told("jump", "RING_PACKED", &[]);
}

/// Broken: a frame that is lost at the very end, behind which none comes, is waited for or not missed.
#[test]
fn the_last_frame_is_missed_too() {
    for ring in RINGS {
        let told = told("drop", ring, &["at=2999"]);
        assert!(told.contains("missing   frame 2999 is the first"), "{told}");
        assert!(told.contains("actual    1 lost\n"), "{told}");
    }
}
