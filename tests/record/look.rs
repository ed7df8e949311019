//! Looking into the rings of two programs while they are recorded.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Output;

use vhost_user_harness::sys::fd::{eventfd, memfd};
use vhost_user_harness::wire::Message;

use super::*;

const USER: u64 = 0x7f00_0000_0000;
const AVAIL: u64 = 0x1000;
const USED: u64 = 0x2000;

/// Two programs that have started a ring of eight descriptors, and their memory.
struct Ring {
    between: Between,
    front: UnixStream,
    back: UnixStream,
    memory: File,
}

impl Ring {
    fn start(options: &[&str]) -> Self {
        let between = Between::start(options);
        let (front, back) = between.connect();
        let ring = Self {
            between,
            front,
            back,
            memory: File::from(memfd("guest", 0x1_0000).unwrap()),
        };
        ring.front("GET_FEATURES", &[]);
        ring.back("reply to GET_FEATURES value=0x100000000");
        ring.front("SET_OWNER", &[]);
        ring.front("SET_FEATURES value=0x100000000", &[]);
        let table = format!(
            "SET_MEM_TABLE regions=[{{guest_address=0x0 size=0x10000 user_address={USER:#x} mmap_offset=0x0}}]"
        );
        ring.front(&table, &[ring.memory.as_fd()]);
        ring.front("SET_VRING_NUM index=0 num=8", &[]);
        ring.front("SET_VRING_BASE index=0 indices=0x0", &[]);
        let address = format!(
            "SET_VRING_ADDR index=0 flags=0x0 descriptor={USER:#x} used={:#x} available={:#x} log=0x0",
            USER + USED,
            USER + AVAIL
        );
        ring.front(&address, &[]);
        let (call, kick) = (eventfd().unwrap(), eventfd().unwrap());
        ring.front("SET_VRING_CALL index=0", &[call.as_fd()]);
        ring.front("SET_VRING_KICK index=0", &[kick.as_fd()]);
        ring
    }

    fn front(&self, text: &str, fds: &[BorrowedFd]) {
        pass(&self.front, &self.back, text, fds);
    }

    fn back(&self, text: &str) {
        pass(&self.back, &self.front, text, &[]);
    }

    /// A question and its answer, before each of which the rings are looked at.
    fn ask(&self) {
        self.front("GET_FEATURES", &[]);
        self.back("reply to GET_FEATURES value=0x100000000");
    }

    fn put(&self, at: u64, value: u16) {
        self.memory.write_all_at(&value.to_le_bytes(), at).unwrap();
    }

    /// Ends the recording. The last value is what `vuh trace check` says about it.
    fn end(self) -> (ExitStatus, String, Output) {
        drop((self.front, self.back));
        self.between.end_and(check)
    }
}

fn pass(from: &UnixStream, to: &UnixStream, text: &str, fds: &[BorrowedFd]) {
    let message: Message = text.parse().unwrap();
    let bytes = message.encode(Dialect::VhostUser);
    send_all(from, &bytes, fds);
    let mut got = Got::default();
    got.until_len(to, bytes.len());
    assert_eq!((got.bytes, got.fds.len()), (bytes, fds.len()));
}

fn check(trace: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vuh"))
        .args(["trace", "check"])
        .arg(trace)
        .output()
        .unwrap()
}

/// Broken: what is wrong in a ring is not told, not in the trace, or does not decide the exit code; or it is without being asked for.
#[test]
fn a_wrong_ring_is_told_if_it_is_looked_at() {
    for (options, is_told) in [(&["--look"][..], true), (&[], false)] {
        let ring = Ring::start(options);
        ring.ask();
        // five chains are returned, and one was made available
        ring.put(AVAIL + 2, 1);
        ring.put(USED + 2, 5);
        ring.ask();
        ring.ask();
        let (status, said, checked) = ring.end();
        let shown = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert_eq!(status.code(), Some(i32::from(is_told)), "{said}");
        assert_eq!(checked.status.code(), Some(i32::from(is_told)), "{shown}");
        for text in [&said, &shown] {
            assert_eq!(
                text.matches("`back` broke the rule `used-ahead` in ring 0").count(),
                usize::from(is_told),
                "{text}"
            );
        }
    }
}

/// Broken: a ring in which nothing is wrong is held against somebody, or nobody can tell that it was looked at.
#[test]
fn a_ring_in_order_is_seen_and_nothing_is_said() {
    let ring = Ring::start(&["--look"]);
    ring.put(AVAIL + 2, 1);
    ring.ask();
    ring.put(USED + 2, 1);
    ring.ask();
    let (status, said, checked) = ring.end();
    assert_eq!((status.code(), checked.status.code()), (Some(0), Some(0)), "{said}");
    assert!(said.contains("0 broken rules; seen in the rings: split-ring"), "{said}");
    for mark in ["chain-available", "chain-returned"] {
        assert!(said.contains(mark), "{said}");
    }
}

/// Broken: rings between two peers that are started are not looked into, or one of the harness's own is blamed.
#[test]
fn peers_that_are_started_are_looked_at() {
    // what passes between two reference peers may pass between two looks, and leaves its count behind
    for (front, back, device, more, mark) in [
        ("simulated", "reference", "blk", &["--blk-io", "4"][..], "chain-judged"),
        ("reference", "reference", "generic", &[], "chain-returned"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let recorded = Command::new(env!("CARGO_BIN_EXE_vuh"))
            .args(["record", "--look", "-o", "trace.yaml", "--device", device])
            .args(["--frontend", front, "--backend", back])
            .args(more)
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&recorded.stderr).into_owned();
        assert!(recorded.status.success(), "{said}");
        assert!(said.contains("0 broken rules") && said.contains(mark), "{said}");
        let checked = check(&folder.path().join("trace.yaml"));
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        let trace = std::fs::read_to_string(folder.path().join("trace.yaml")).unwrap();
        assert!(trace.contains("data: \"seen in the rings: split-ring"), "{trace}");
    }
}
