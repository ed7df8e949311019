//! What runs come to, by exit code.

use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use vhost_user_harness::report::json::JsonReport;

use super::*;

const FAILS: &str = "\
peers:
  front: {frontend: simulated, device: net}
  back: {backend: simulated, device: net}
steps:
  - connect: {from: front, to: back}
  - send: {from: front, message: GET_FEATURES}
  - expect: {from: front, message: SET_OWNER}
";

const MEASURES: &str = "\
peers:
  front: {frontend: simulated, device: net, memory: {size: 16 MiB}, ring_size: 128}
  back: {backend: simulated, device: net}
  front-two: {frontend: simulated, device: net, memory: {size: 16 MiB}, ring_size: 128}
  back-two: {backend: simulated, device: net}
steps:
  - connect: {from: front, to: back}
  - connect: {from: front-two, to: back-two}
  - setup: {peer: front}
  - setup: {peer: front-two}
  - deliver: {from: front, to: back, for: 700 ms, burst: 8, as: one, baseline: {from: front-two, to: back-two, as: other}}
check:
  - rate: {of: one, at_least: 1}
  - rate: {of: one, at_least: 0.0001, ratio_to: other}
";

/// The front-end's own handshake sends a second SET_OWNER.
const BREAKS_A_RULE: &str = "\
peers:
  front: {frontend: simulated, device: net}
  back: {backend: simulated, device: net}
steps:
  - connect: {from: front, to: back}
  - send: {from: front, message: SET_OWNER}
  - setup: {peer: front}
";

const HANGS: &str = "\
peers:
  front: {frontend: simulated, device: net}
  back: {backend: simulated, device: net}
timeout: 100 ms
steps:
  - connect: {from: front, to: back}
  - expect: {from: back, channel: backend, message: CONFIG_CHANGE_MSG}
";

/// The frames of two queue pairs change places.
const WRONG_QUEUE: &str = "\
peers:
  front: {frontend: simulated, device: net, queues: 4, memory: {size: 16 MiB}}
  back: {backend: simulated, device: net, queues: 4, loopback: true, delivery_fault: {what: wrong-queue}}
steps:
  - connect: {from: front, to: back}
  - setup: {peer: front}
  - deliver: {from: front, to: front, pairs: 2, packets: 500, size: 64, burst: 16}
";

/// Broken: a back-end that sends the frames of one queue pair back on another passes.
#[test]
fn a_frame_on_another_queue_fails() {
    let place = Place::with(&[("delivery/wrong-queue", WRONG_QUEUE)]);
    place.vuh(&["run"]).code(1).out(", which ends elsewhere (arrival");
}

/// Broken: a run in which all passed is not green.
#[test]
fn all_passed() {
    let place = Place::with(&[("link/a", PASSES), ("link/b", PASSES)]);
    let run = place
        .vuh(&["run", "-j", "1"])
        .code(0)
        .out("2 passed: 2 on simulated and embedded peers");
    assert!(run.out.starts_with("pass   link/a "), "{}", run.out);
    assert!(
        !run.out.contains('\u{1b}') && run.err.is_empty(),
        "{}{}",
        run.out,
        run.err
    );
    place.vuh(&["run", "scenarios/link/a.yaml"]).code(0).out("1 passed");
    place.vuh(&["run", "scenarios"]).code(0).out("2 passed");
}

/// Broken: a failure is not red, or does not show what a person needs.
#[test]
fn one_failed() {
    let place = Place::with(&[("link/a", PASSES), ("link/b", FAILS)]);
    place
        .vuh(&["run"])
        .code(1)
        .out("1 passed")
        .out("1 failed: 1 wrong")
        .out("--> scenarios/link/b.yaml:9:")
        .out("expected  ")
        .out("actual    ")
        .out("run again:\n    vuh run link/b\n");
}

/// Broken: what a peer does against the protocol of its own accord is not red, or what is allowed is.
#[test]
fn a_broken_rule() {
    let place = Place::with(&[("link/a", BREAKS_A_RULE)]);
    place
        .vuh(&["run"])
        .code(1)
        .out("`front` broke the rule `owner-twice` of the protocol")
        .out("VU-OWN-01 MUST: ")
        .out("SET_OWNER! while owned");
    let allows = format!("allow: [VU-OWN-01, ring-size]\n{BREAKS_A_RULE}");
    let place = Place::with(&[("link/a", &allows)]);
    place
        .vuh(&["run"])
        .code(0)
        .out("note: allowed and never happened: ring-size");
}

/// Broken: a wait without end, or a hang that is not told from a wrong answer.
#[test]
fn a_hang() {
    Place::with(&[("link/a", HANGS)])
        .vuh(&["run"])
        .code(1)
        .out("1 failed: 1 hang");
}

/// Broken: the command that a failure prints cannot be found again from outside of the scenarios' folder.
#[test]
fn run_again_with_another_root() {
    let place = Place::empty();
    place.write(
        "mine/link/b.yaml",
        &format!("scenario: link/b\nabout: A made-up scenario.\n{FAILS}"),
    );
    place
        .vuh(&["run", "mine"])
        .code(1)
        .out("    vuh run --root mine link/b\n");
    place.vuh(&["run", "--root", "mine", "link/b"]).code(1).out("1 failed");
}

/// Broken: a machine without peers turns green, or red although others passed.
#[test]
fn skips() {
    let place = Place::with(&[("frontend/a", NEEDS_QEMU), ("link/a", PASSES)]);
    let without_peers = |words: &[&str]| {
        let output = place.command(words).env("PATH", place.path("bin")).output().unwrap();
        said(output)
    };
    let reason = "qemu-system-x86_64 is not installed (scripts/install-peers brings it)";
    without_peers(&["run"])
        .code(0)
        .out("1 passed")
        .out("1 skipped:")
        .out(reason);
    without_peers(&["run", "frontend/a"])
        .code(4)
        .out("0 passed")
        .out(reason);
    without_peers(&["run", "--require", "qemu"])
        .code(10)
        .out("1 failed: 1 start")
        .out("is required");
}

/// Broken: a peer that cannot be started is not told from one that does something wrong.
#[test]
fn a_peer_that_cannot_be_started() {
    let place = Place::with(&[("link/a", PASSES)]);
    place.write("no-program", "this is no program\n");
    let path = place.path("no-program");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    // a script without an interpreter: found, executable, and refused by the kernel
    place
        .vuh(&["run", "--backend", &format!("{} {{socket}}", path.display())])
        .code(10)
        .out("1 failed: 1 start");
}

/// Broken: a case whose ordinary conversation fails already is taken for a verdict on the case.
#[test]
fn only_inconclusive() {
    const INSANE: &str = "\
peers:
  front: {frontend: simulated}
  back: {backend: simulated, answers: {GET_FEATURES: {twice: true}}}
steps:
  - connect: {from: front, to: back}
  - sanity:
      - setup: {peer: front}
  - echo: {peer: front}
";
    let place = Place::with(&[("link/a", INSANE)]);
    place
        .vuh(&["run"])
        .code(5)
        .out("1 inconclusive")
        .out("the sanity conversation failed");
}

/// Broken: a back-end that is named by a relative path is not found, because it is started in the run's own directory.
#[test]
fn a_program_by_its_relative_path() {
    let place = Place::with(&[("link/a", PASSES)]);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_vuh"), place.path("mine")).unwrap();
    place
        .vuh(&[
            "run",
            "--backend",
            "./mine reference-peer backend --device net --socket {socket}",
        ])
        .code(0)
        .out("1 passed: 1 with a command");
}

/// Broken: a known failure is red, or a repaired one stays unnoticed.
#[test]
fn known_failures() {
    let known = |text: &str| format!("expected_fail: {{kind: wrong, because: known to be wrong}}\n{text}");
    let place = Place::with(&[("link/a", &known(FAILS)), ("link/b", &known(PASSES))]);
    place
        .vuh(&["run", "link/a"])
        .code(0)
        .out("1 failed as expected")
        .out("known to be wrong");
    place.vuh(&["run"]).code(6).out("1 passed although known to fail");
}

/// Broken: the reports are not written, or say something else than the terminal.
#[test]
fn reports() {
    let place = Place::with(&[("link/a", PASSES), ("link/b", FAILS)]);
    place
        .vuh(&["run", "--report", "json:report.json", "--report", "junit:report.xml"])
        .code(1);
    let report = JsonReport::parse(&std::fs::read_to_string(place.path("report.json")).unwrap()).unwrap();
    assert_eq!((report.totals.pass, report.totals.fail), (1, 1));
    let failed = &report.scenarios[1];
    assert_eq!(
        (failed.verdict.as_str(), failed.fail_kind.as_deref()),
        ("fail", Some("wrong"))
    );
    let location = failed.failure.as_ref().unwrap().location.as_ref().unwrap();
    assert_eq!((location.file.as_str(), location.line), ("scenarios/link/b.yaml", 9));
    let xml = std::fs::read_to_string(place.path("report.xml")).unwrap();
    assert!(
        xml.contains(r#"tests="2" skipped="0" failures="1" errors="0""#),
        "{xml}"
    );
}

/// Broken: the report does not say what a rate was made of, or leaves it out where nothing could be said.
#[test]
fn rates_are_reported() {
    let place = Place::with(&[("delivery/rate", MEASURES)]);
    let run = place.vuh(&["run", "--report", "json:report.json", "--report", "junit:report.xml"]);
    let report = JsonReport::parse(&std::fs::read_to_string(place.path("report.json")).unwrap()).unwrap();
    let scenario = &report.scenarios[0];
    // how much was measured is the machine's affair; that it is told is not
    let [rate, rest @ ..] = &scenario.rates[..] else {
        panic!("{}{}", run.out, run.err)
    };
    assert_eq!(
        (rate.of.as_str(), &rate.ratio_to, rate.at_least),
        ("one", &None, Some(1.0))
    );
    assert!(!rate.measured.windows_per_second.is_empty(), "{rate:?}");
    let negotiated = &rate.measured.negotiated;
    assert_eq!(
        (negotiated.ring_size, negotiated.burst, negotiated.packed),
        (128, 8, false)
    );
    assert!(negotiated.features.contains(&"VERSION_1".to_owned()), "{negotiated:?}");
    assert_eq!(rate.said == "holds", rate.interval.is_some(), "{rate:?}");
    // the second one is reached only where something could be said of the first
    match rest {
        [ratio] => {
            let base = ratio.baseline.as_ref().unwrap();
            assert_eq!(
                (ratio.ratio_to.as_deref(), &base.negotiated),
                (Some("other"), negotiated)
            );
            assert_eq!(scenario.verdict == "pass", ratio.said == "holds");
        }
        rest => assert!(rest.is_empty() && scenario.verdict == "inconclusive", "{scenario:?}"),
    }
    let xml = std::fs::read_to_string(place.path("report.xml")).unwrap();
    assert!(
        xml.contains("name=\"rate of one\"") && xml.contains("split rings of 128"),
        "{xml}"
    );
}

/// Broken: results that nobody can read count as green.
#[test]
fn a_report_that_cannot_be_written() {
    let place = Place::with(&[("link/a", PASSES)]);
    place
        .vuh(&["run", "--report", "json:/dev/full"])
        .code(70)
        .out("1 passed")
        .err("is not complete");
}

/// Broken: Ctrl-C leaves peers behind, loses the summary, or looks like a pass.
#[test]
fn an_interrupt() {
    let place = Place::with(&[("link/a", PASSES), ("link/b", PASSES)]);
    let fifo = place.path("started");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    // a peer that says when it runs, and never connects
    place.write(
        "peer",
        &format!("#!/bin/sh\necho $$ > '{}'\nexec sleep 600\n", fifo.display()),
    );
    std::fs::set_permissions(place.path("peer"), PermissionsExt::from_mode(0o755)).unwrap();
    let peer = format!("{} {{socket}}", place.path("peer").display());
    let words = ["run", "-j", "1", "--timeout", "60 s", "--backend", &peer];
    let vuh = place
        .command(&words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, started) = mpsc::channel();
    std::thread::spawn(move || sender.send(std::fs::read_to_string(fifo)));
    let pid = started
        .recv_timeout(Duration::from_secs(30))
        .expect("the peer is started")
        .unwrap();
    kill(Pid::from_raw(vuh.id() as i32), Signal::SIGINT).unwrap();
    said(vuh.wait_with_output().unwrap())
        .code(130)
        .out("1 not run: interrupted");
    assert!(
        !Path::new(&format!("/proc/{}", pid.trim())).exists(),
        "the peer is still there"
    );
}

const LAST_ASKS: &str = "\
peers:
  front: {frontend: simulated, device: blk}
  back: {backend: reference, device: blk}
steps:
  - connect: {from: front, to: back}
  - setup: {peer: front}
";

/// Broken: what is asked last is judged before its answer can have come.
#[test]
fn answers_that_are_due_are_waited_for() {
    let asks = "  - send: {from: front, message: GET_QUEUE_NUM}\n";
    let never = "  - never: {from: back, reply_to: GET_QUEUE_NUM}\n";
    let count = "check:\n  - count: {of: {from: back, reply_to: GET_QUEUE_NUM}, is: 0}\n";
    let place = Place::with(&[
        (
            "link/acks",
            &format!("{LAST_ASKS}{asks}check:\n  - acks: exactly-one\n"),
        ),
        ("link/never", &format!("{LAST_ASKS}{never}{asks}")),
        ("link/count", &format!("{LAST_ASKS}{asks}{count}")),
    ]);
    place.vuh(&["run", "link/acks"]).code(0);
    place.vuh(&["run", "link/never"]).code(1).out("this must never happen");
    place.vuh(&["run", "link/count"]).code(1).out("count=");
}

/// Broken: a scenario that keeps a peer from answering hangs at its end.
#[test]
fn what_is_kept_back_on_purpose_is_not_waited_for() {
    let silent = "\
peers:
  front: {frontend: simulated, device: blk}
  back: {backend: simulated, device: blk, answers: {GET_QUEUE_NUM: {silent: true}}}
timeout: 1 min
steps:
  - connect: {from: front, to: back}
  - send: {from: front, message: GET_QUEUE_NUM}
";
    let real = LAST_ASKS.replace("steps:", "timeout: 1 min\nsteps:");
    let asks = "  - send: {from: front, message: GET_QUEUE_NUM}\n";
    let stopped = format!("{real}  - stop: back\n{asks}");
    let killed = format!("{real}  - kill: {{peer: back}}\n{asks}")
        .replace("device: blk}\nt", "device: blk, exit: {any: true}}\nt");
    // a release that a family member may leave out
    let release = "  - repeat: {times: \"${n}\", steps: [{release: kept}]}\n";
    let held = format!(
        "parameters: {{n: {{default: 0}}}}\n{real}  - hold: {{as: kept, when: {{from: front, message: GET_QUEUE_NUM}}}}\n{asks}{release}"
    );
    let place = Place::with(&[
        ("link/silent", silent),
        ("link/stopped", &stopped),
        ("link/killed", &killed),
        ("link/held", &held),
    ]);
    let before = std::time::Instant::now();
    place.vuh(&["run"]).code(0).out("4 passed");
    assert!(before.elapsed() < Duration::from_secs(30), "{:?}", before.elapsed());
}

/// Broken: `listen:PATH` works once, or takes away what is not its own.
#[test]
fn a_socket_that_is_listened_on_is_removed() {
    let place = Place::with(&[(
        "link/listens",
        "\
peers:
  front: {frontend: simulated, device: net}
  back: {backend: \"listen:s\", device: net}
timeout: 100 ms
steps:
  - connect: {from: front, to: back}
",
    )]);
    // what a run leaves that was killed
    drop(std::os::unix::net::UnixListener::bind(place.path("s")).unwrap());
    for _ in 0..2 {
        place.vuh(&["run"]).code(10).out("`connect` waited in vain");
        assert!(!place.path("s").exists());
    }
    place.write("s", "mine");
    place.vuh(&["run"]).code(10).out("Address already in use");
    assert!(place.path("s").is_file());
}

/// Broken: two files with one id are run as one, or one file as two.
#[test]
fn an_id_is_one_file() {
    let place = Place::empty();
    let text = format!("scenario: a-good\nabout: A made-up scenario.\n{PASSES}");
    place.write("d/a-good.yaml", &text);
    place.write("e/a-good.yaml", &text);
    place
        .vuh(&["run", "d", "e"])
        .code(3)
        .err("the id `a-good` is also that of d/a-good.yaml")
        .err("--> e/a-good.yaml:1:11");
    place
        .vuh(&["run", "d/a-good.yaml", "./d/../d/a-good.yaml", "d", "--keep", "k"])
        .code(0)
        .out("1 passed");
}

/// Broken: files are not kept in a folder whose path is too long for a socket, or the short way to it is left behind.
#[test]
fn files_are_kept_however_long_the_path() {
    const REAL: &str = "\
peers:
  front: {frontend: simulated, device: blk}
  back: {backend: reference, device: blk}
steps:
  - connect: {from: front, to: back}
  - setup: {peer: front}
";
    let place = Place::with(&[("a-good", REAL)]);
    let keep = format!("{}/k", "long".repeat(25));
    std::fs::create_dir(place.path("tmp")).unwrap();
    let mut command = place.command(&["run", "--keep", &keep]);
    said(command.env("TMPDIR", place.path("tmp")).output().unwrap())
        .code(0)
        .out("1 passed");
    let kept = place.path(&keep).join("a-good");
    assert!(kept.join("trace-0.yaml").is_file() && kept.join("1.sock").exists());
    assert_eq!(std::fs::read_dir(place.path("tmp")).unwrap().count(), 0);
}

/// Broken: events that come in any order are refused, because one was taken for a pattern that fits others as well.
#[test]
fn unordered_finds_the_fit() {
    let config = |size: u64| {
        let payload = "00 ".repeat(usize::try_from(size).unwrap());
        format!("  - send: {{from: front, message: GET_CONFIG, fields: {{size: {size}, payload: {payload}}}}}\n")
    };
    let steps = |members: &str| {
        let start = "  - connect: {from: front, to: back}\n  - setup: {peer: front}\n";
        let ends = "  - unordered:\n      - {from: back, reply_to: GET_CONFIG}\n";
        let peers = "peers:\n  front: {frontend: simulated, device: blk}\n  back: {backend: simulated, device: blk}\n";
        format!(
            "{peers}timeout: 1 s\nsteps:\n{start}{}{}{}{ends}{members}",
            config(4),
            config(8),
            config(12)
        )
    };
    let wide = "      - {from: back, reply_to: GET_CONFIG, fields: {size: {max: 8}}}\n";
    let narrow = "      - {from: back, reply_to: GET_CONFIG, fields: {size: 4}}\n";
    let wrong = "      - {from: back, reply_to: GET_CONFIG, fields: {size: 5}}\n";
    let place = Place::with(&[
        ("link/fits", &steps(&format!("{wide}{narrow}"))),
        ("link/differs", &steps(&format!("{wide}{wrong}"))),
    ]);
    place.vuh(&["run", "link/fits"]).code(0);
    place.vuh(&["run", "link/differs"]).code(1).out("size=5");
}

/// Broken: a scenario that asks for what cannot be is a peer's failure, and may be expected.
#[test]
fn a_mistake_of_the_scenario_blames_no_peer() {
    let mistake = "\
expected_fail: {kind: wrong, because: a made-up reason}
peers:
  front: {frontend: simulated, device: blk}
  back: {backend: simulated, device: blk}
steps:
  - connect: {from: front, to: back}
  - setup: {peer: front}
  - send: {from: front, message: GET_QUEUE_NUM}
  - expect: {from: back, reply_to: GET_QUEUE_NUM, as: q}
  - kick: {from: front, ring: \"${q + 99}\"}
";
    let place = Place::with(&[("link/a", mistake), ("link/b", PASSES)]);
    place
        .vuh(&["run"])
        .code(3)
        .out("1 failed: 1 script")
        .out("link/a.yaml:12:");
}
