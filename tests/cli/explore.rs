//! `vuh explore` on a real program, by exit code.

use super::*;

const REQUEST: &str = "\
peers:
  front: {frontend: simulated, device: blk}
  back: {backend: reference, device: blk, capacity: 1 MiB}
steps:
  - connect: {from: front, to: back}
  - setup: {peer: front}
  - blk: {peer: front, action: write, sector: 3, fill: 0x33}
check:
  - acks: exactly-one
";

#[test]
fn a_killed_peer_is_no_failure_of_the_script() {
    // Broken: every search with kills finds that a dead program does not answer, and nothing else.
    let place = Place::with(&[("request", REQUEST)]);
    place
        .vuh(&["explore", "request", "--kill", "--schedules", "15", "--seed", "1"])
        .code(0)
        .out("no schedule fails")
        .out(" kills");
}

#[test]
fn what_fails_on_every_schedule_is_found() {
    // Broken: a search says that nothing fails because nothing was judged.
    let rest = REQUEST.replace(
        "exactly-one",
        "exactly-one\n  - count: {of: {message: SET_OWNER}, is: 2}",
    );
    let place = Place::with(&[("request", &rest)]);
    place
        .vuh(&["explore", "request", "--kill", "--schedules", "3", "--seed", "1"])
        .code(1)
        .out("another number of times");
}

/// Broken: a token that was mistyped is said to be a fault of the harness.
#[test]
fn a_schedule_that_is_none_is_wrong_use() {
    const MODELLED: &str = "\
peers:
  front: {frontend: simulated, dialect: vhost-pci, retry: {strategy: A4, program: P1}}
  back: {backend: simulated, dialect: vhost-pci, retry: {strategy: A4, program: P1}}
steps:
  - connect: {from: front, to: back}
  - schedule: {choices: [front start]}
";
    let place = Place::with(&[("request", REQUEST), ("model", MODELLED)]);
    for id in ["request", "model"] {
        place
            .vuh(&["explore", id, "--schedule", "zz"])
            .code(2)
            .err("the schedule `zz` is not ");
    }
}
