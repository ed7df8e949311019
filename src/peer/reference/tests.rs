//! The reference peers against each other, and each against a broken other side.

use std::os::fd::IntoRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Parser;
use tempfile::TempDir;

use super::backend::Backend;
use super::driver_ring::Segment;
use super::frontend::{self, FrontendReport};
use super::session::{Progress, Session, Wish};
use super::{ReferenceArgs, ReferenceError, Role, load_net};

type Served = JoinHandle<Result<(), ReferenceError>>;

fn parse(line: &str) -> Role {
    let words = std::iter::once("reference-peer").chain(line.split_whitespace());
    ReferenceArgs::try_parse_from(words).unwrap().role
}

/// A back-end that listens before this returns.
fn serve(options: &str) -> (TempDir, String, Served) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s").to_str().unwrap().to_owned();
    let Role::Backend(args) = parse(&format!("backend --socket {socket} {options}")) else {
        unreachable!()
    };
    let backend = Backend::new(&args).unwrap();
    (dir, socket, thread::spawn(move || backend.run()))
}

fn drive(options: &str) -> Result<FrontendReport, ReferenceError> {
    let Role::Frontend(args) = parse(&format!("frontend {options}")) else {
        unreachable!()
    };
    frontend::drive(&args)
}

fn round_trips(backend: &str, frontend: &str) -> FrontendReport {
    let (_dir, socket, served) = serve(backend);
    let report = drive(&format!("--socket {socket} {frontend}")).unwrap();
    served.join().unwrap().unwrap();
    report
}

#[test]
fn a_thousand_frames_come_back_on_two_queue_pairs() {
    let report = round_trips(
        "--device net --queues 2",
        "--device net --queues 2 --requests 1000 --size 1500",
    );
    assert_eq!(report.requests, 1000);
    assert_eq!(report.bases, [500, 500, 500, 500]);
    assert_eq!(report.protocol_features, "0x8209");
}

#[test]
fn the_smallest_ring_and_an_odd_number_of_frames_work() {
    let report = round_trips("--device net", "--device net --ring-size 4 --requests 33 --size 33");
    assert_eq!(report.bases, [33, 33]);
}

#[test]
fn ring_indices_wrap() {
    let report = round_trips("--device generic", "--device generic --requests 66000 --size 32");
    assert_eq!(report.bases, [464]);
}

#[test]
fn transmitting_without_waiting_for_frames_counts_the_transmit_ring() {
    let report = round_trips("--device net", "--device net --expect none --requests 100 --size 64");
    assert_eq!(report.bases[1], 100);
}

#[test]
fn two_hundred_disk_requests_read_back_what_was_written() {
    let report = round_trips(
        "--device blk --queues 2 --capacity 65536",
        "--device blk --queues 2 --requests 200 --size 4096",
    );
    // 16 places, so 13 rounds of a write and a read each, and a flush on ring 0.
    assert_eq!(report.flushes, 13);
    assert_eq!(report.bases.iter().map(|base| u32::from(*base)).sum::<u32>(), 413);
}

#[test]
fn a_disk_image_keeps_what_was_written() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let path = image.path().to_str().unwrap();
    round_trips(
        &format!("--device blk --image {path}"),
        "--device blk --requests 8 --size 512",
    );
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes[512..1024], super::load::pattern(1, 512));
}

#[test]
fn the_generic_device_echoes_on_every_ring() {
    let report = round_trips(
        "--device generic --queues 3",
        "--device generic --queues 3 --requests 300 --size 65536",
    );
    assert_eq!(report.bases, [100, 100, 100]);
}

#[test]
fn a_forever_back_end_keeps_its_disk_over_connections() {
    let (_dir, socket, _served) = serve("--device blk --capacity 8192 --forever");
    for _ in 0..3 {
        drive(&format!("--socket {socket} --device blk --requests 16")).unwrap();
    }
}

#[test]
fn a_front_end_that_listens_is_met_by_a_back_end_that_connects() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let Role::Backend(args) = parse(&format!("backend --device net --connect {}", path.display())) else {
        unreachable!()
    };
    let served = thread::spawn(move || Backend::new(&args)?.run());
    let fd = listener.into_raw_fd();
    drive(&format!("--fd {fd} --fd-kind listening --device net")).unwrap();
    served.join().unwrap().unwrap();
}

#[test]
fn inherited_descriptors_are_listened_on_and_talked_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listening = UnixListener::bind(&path).unwrap().into_raw_fd();
    let connected = UnixStream::connect(&path).unwrap().into_raw_fd();
    let Role::Backend(args) = parse(&format!(
        "backend --device generic --fd {listening} --fd-kind listening"
    )) else {
        unreachable!()
    };
    let served = thread::spawn(move || Backend::new(&args)?.run());
    drive(&format!("--fd {connected} --device generic")).unwrap();
    served.join().unwrap().unwrap();
}

#[test]
fn a_connected_descriptor_is_refused_by_the_back_end_in_words() {
    let Role::Backend(args) = parse("backend --device net --fd 77") else {
        unreachable!()
    };
    let error = Backend::new(&args).err().unwrap().to_string();
    assert!(error.contains("cannot be given a connected socket"), "{error}");
}

fn net_session(socket: &str, timeout_ms: u64) -> Session {
    let wish = Wish {
        rings: 2,
        ring_size: 256,
        data_bytes: 1514,
        features: load_net::FEATURES,
        config_bytes: load_net::CONFIG_BYTES,
        ask_queue_num: true,
        channel: false,
        timeout: Duration::from_millis(timeout_ms),
    };
    Session::start(UnixStream::connect(socket).unwrap(), wish).unwrap()
}

/// Offers `count` chains on `ring`, all over the same memory.
fn offer(session: &mut Session, ring: usize, count: u16, writable: bool) {
    for _ in 0..count {
        let slot = session.guest.slot(ring, 0);
        let segment = if writable {
            Segment::writable(slot.input, 100)
        } else {
            Segment::readable(slot.output, 72)
        };
        session.rings[ring].add(&[segment], None, 0).unwrap();
    }
    session.rings[ring].publish().unwrap();
}

/// Takes `rx` and `tx` chains back, no more and no fewer.
fn collect(session: &mut Session, rx: u16, tx: u16) {
    let mut taken = [0, 0];
    while taken[0] < rx || taken[1] < tx {
        session
            .wait(Progress {
                completed: 0,
                requests: 0,
            })
            .unwrap();
        for (ring, count) in taken.iter_mut().enumerate() {
            while session.rings[ring].take().unwrap().is_some() {
                *count += 1;
            }
        }
    }
    assert_eq!(taken, [rx, tx]);
}

#[test]
fn frames_without_receive_buffers_are_held_and_delivered_when_buffers_come() {
    let (_dir, socket, served) = serve("--device net");
    let mut session = net_session(&socket, 5000);
    offer(&mut session, 1, 256, false);
    collect(&mut session, 0, 256);
    // 256 are held: these stay in the transmit ring until the receive ring moves.
    offer(&mut session, 1, 44, false);
    offer(&mut session, 0, 200, true);
    collect(&mut session, 200, 44);
    offer(&mut session, 0, 100, true);
    collect(&mut session, 100, 0);
    assert_eq!(session.stop().unwrap(), [300, 300]);
    served.join().unwrap().unwrap();
}

#[test]
fn a_frame_that_fits_no_buffer_is_dropped_and_the_buffer_kept() {
    let (_dir, socket, served) = serve("--device net");
    let mut session = net_session(&socket, 5000);
    let slot = session.guest.slot(1, 0);
    offer(&mut session, 0, 1, true);
    session.rings[1]
        .add(&[Segment::readable(slot.output, 500)], None, 0)
        .unwrap();
    session.rings[1].publish().unwrap();
    collect(&mut session, 0, 1);
    offer(&mut session, 1, 1, false);
    collect(&mut session, 1, 1);
    assert_eq!(session.stop().unwrap(), [1, 2]);
    served.join().unwrap().unwrap();
}

#[test]
fn a_chain_outside_the_shared_memory_ends_the_back_end_with_its_place() {
    let (_dir, socket, served) = serve("--device net");
    let mut session = net_session(&socket, 5000);
    let nowhere = vm_memory::GuestAddress(0xdead_0000_0000);
    session.rings[1]
        .add(&[Segment::readable(nowhere, 64)], None, 0)
        .unwrap();
    session.rings[1].publish().unwrap();
    let ended = session.wait(Progress {
        completed: 0,
        requests: 1,
    });
    assert!(matches!(ended, Err(ReferenceError::Disconnected { .. })), "{ended:?}");
    let error = served.join().unwrap().unwrap_err().to_string();
    assert!(error.starts_with("front-end: ring 1, chain 0: "), "{error}");
}

#[test]
fn a_back_end_that_never_answers_is_given_up() {
    let (near, _far) = UnixStream::pair().unwrap();
    let Role::Frontend(args) = parse("frontend --device net --socket unused --timeout-ms 50") else {
        unreachable!()
    };
    let error = frontend::drive_over(near, &args).unwrap_err().to_string();
    assert_eq!(error, "GET_FEATURES: no answer within 50 ms");
}

#[test]
fn a_completion_that_never_comes_is_given_up() {
    let (_dir, socket, _served) = serve("--device net");
    let mut session = net_session(&socket, 5000);
    // from here on: setting up takes what it takes
    session.timeout = Duration::from_millis(50);
    offer(&mut session, 0, 1, true);
    let error = session
        .wait(Progress {
            completed: 3,
            requests: 4,
        })
        .unwrap_err()
        .to_string();
    assert_eq!(error, "no completion within 50 ms, 3 of 4 requests complete");
}

#[test]
fn bytes_that_are_no_message_end_the_back_end_with_an_error() {
    use std::io::Write;
    let (_dir, socket, served) = serve("--device blk");
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(&[0xff; 64]).unwrap();
    let error = served.join().unwrap().unwrap_err().to_string();
    assert!(error.starts_with("front-end: failed to handle request"), "{error}");
}

#[test]
fn a_front_end_that_only_connects_leaves_a_clean_back_end() {
    let (_dir, socket, served) = serve("--device blk");
    drop(UnixStream::connect(socket).unwrap());
    served.join().unwrap().unwrap();
}

#[test]
fn a_disk_that_is_too_small_and_a_size_that_is_no_sector_are_named() {
    let (_dir, socket, _served) = serve("--device blk --capacity 512 --forever");
    let error = drive(&format!("--socket {socket} --device blk --size 1024")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the back-end offers a disk too small for one request of 1024 bytes"
    );
    let error = drive(&format!("--socket {socket} --device blk --size 700")).unwrap_err();
    assert!(error.to_string().starts_with("--size 700"), "{error}");
}
