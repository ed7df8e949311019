//! Peers that want to do harm: recorded as such, passed on, and forgotten.

use vhost_user_harness::sys::fd::eventfd;
use vhost_user_harness::trace::{Event, EventKind};
use vhost_user_harness::wire::Party;

use super::*;

fn malformed(trace: &Trace) -> Vec<(Party, &str, usize)> {
    let one = |event: &'_ Event| match &event.kind {
        EventKind::Malformed { from, why, bytes, .. } => Some((*from, why.clone(), bytes.len())),
        _ => None,
    };
    let found = trace.events.iter().filter_map(one);
    found.map(|(from, why, len)| (from, &*why.leak(), len)).collect()
}

/// Broken: a header that announces 4 GiB ends the recording, is not passed on, or takes memory.
#[test]
fn a_size_of_4_gib() {
    let between = Between::start(&[]);
    let before = between_ready(&between);
    let (a, b) = between.connect();
    let mut bytes = message(1, 1, &[]);
    bytes[8..].copy_from_slice(&u32::MAX.to_ne_bytes());
    bytes.extend((0..100_000u32).map(|n| n as u8));
    send_all(&a, &bytes, &[]);
    let mut got = Got::default();
    got.until_len(&b, bytes.len());
    assert!(got.bytes == bytes);
    // the other direction is still understood
    send_all(&b, &message(1, 5, &[0; 8]), &[]);
    Got::default().until_len(&a, 20);
    assert!(between.memory_kb() < before + 10_000);
    let (_, _, trace) = between.end();
    let found = malformed(&trace);
    let why = "the header announces 4294967295 bytes of payload, more than 65536";
    assert_eq!(found[0], (Party::FrontEnd, why, 12));
    assert!(found.len() <= 17 && found[1..].iter().all(|(_, why, len)| *why == "goes on" && *len <= 64));
    assert_eq!(trace.events.iter().filter(|e| e.kind.message().is_some()).count(), 1);
}

/// Broken: descriptors without end fill up the table of the process, or get lost.
#[test]
fn ten_thousand_descriptors() {
    let between = Between::start(&[]);
    between_ready(&between);
    let files = between.open_files();
    let (a, b) = between.connect();
    let event = eventfd().unwrap();
    let mut bytes = message(5, 1, &[]);
    bytes[8..].copy_from_slice(&100u32.to_ne_bytes());
    bytes.resize(40, 1);
    let (mut got, mut count) = (Got::default(), 0);
    for byte in &bytes {
        send_all(&a, &[*byte], &[event.as_fd(); 250]);
        got.read(&b, 4096);
        // or this process would hold them all
        count += got.fds.len();
        got.fds.clear();
    }
    until("all are there", || {
        got.read(&b, 4096);
        count += got.fds.len();
        got.fds.clear();
        (got.bytes.len() >= bytes.len()).then_some(())
    });
    assert_eq!((got.bytes, count), (bytes, 10_000));
    assert!(between.open_files() <= files + 600);
    drop((a, b));
    until("they are closed", || (between.open_files() <= files).then_some(()));
    let (_, _, trace) = between.end();
    assert!(
        malformed(&trace)[0]
            .1
            .contains("descriptors with one message, more than 512")
    );
}

/// Broken: random bytes make the recording end, or its trace unreadable.
#[test]
fn random_bytes() {
    let between = Between::start(&[]);
    // xorshift: the same bytes in every run
    let mut state = 0x2545_f491_4f6c_dd1du64;
    for _ in 0..50 {
        let (a, b) = between.connect();
        let bytes: Vec<u8> = (0..777)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        send_all(&b, &bytes, &[]);
        drop(b);
        let mut got = Got::default();
        got.until_end(&a);
        assert!(got.bytes == bytes);
    }
    let (status, said, trace) = between.end();
    assert!(status.success() && said.contains("on 50 connections"), "{said}");
    assert_eq!(
        malformed(&trace)
            .iter()
            .filter(|(_, why, _)| why.contains("announces"))
            .count(),
        50
    );
}

/// Broken: a header that comes byte by byte is taken for something else.
#[test]
fn a_byte_at_a_time() {
    let between = Between::start(&[]);
    let (a, b) = between.connect();
    let bytes = message(8, 9, &[3; 8]);
    for byte in &bytes {
        send_all(&a, &[*byte], &[]);
        // as far as this process can tell, it was read
        until("it is read", || {
            vhost_user_harness::sys::socket::is_drained(a.as_fd()).then_some(())
        });
    }
    let mut got = Got::default();
    got.until_len(&b, bytes.len());
    assert_eq!(got.bytes, bytes);
    let (_, _, trace) = between.end();
    let shown: Vec<String> = trace.events.iter().map(|e| e.kind.to_string()).collect();
    assert_eq!(shown, ["connected", "SET_VRING_NUM! index=50529027 num=50529027"]);
}

/// Broken: those who connect and leave at once, or whom nobody awaits, are kept for ever.
#[test]
fn connections_come_and_go() {
    let between = Between::start(&[]);
    between_ready(&between);
    let files = between.open_files();
    for round in 0..20 {
        let ends: Vec<_> = (0..30).map(|_| between.connect()).collect();
        for (n, (a, b)) in ends.iter().enumerate() {
            send_all(a, &message(8, 1, &[n as u8; 8]), &[]);
            let mut got = Got::default();
            got.until_len(b, 20);
            assert_eq!(got.bytes, message(8, 1, &[n as u8; 8]), "round {round}");
        }
    }
    until("all are closed", || (between.open_files() <= files).then_some(()));
    let (_, said, trace) = between.end();
    assert!(said.contains("600 messages on 601 connections"), "{said}");
    let links = trace.events.iter().filter_map(|e| e.link).map(|l| l.0).max();
    // places are used again once a connection is gone
    assert!(links < Some(100), "{links:?}");
}

/// Broken: somebody connects while nobody is there to go on to, and hangs for ever, or the recording ends.
#[test]
fn nobody_listens() {
    let mut between = Between::start(&[]);
    between_ready(&between);
    std::fs::remove_file(between.folder.path().join("b")).unwrap();
    let a = between.dial();
    Got::default().until_end(&a);
    between.back = UnixListener::bind(between.folder.path().join("b")).unwrap();
    let (a, b) = between.connect();
    send_all(&a, &message(1, 1, &[]), &[]);
    Got::default().until_len(&b, 12);
    let (_, _, trace) = between.end();
    let faults: Vec<String> = trace.events.iter().map(|e| e.kind.to_string()).collect();
    assert!(
        faults.iter().any(|f| f.contains("cannot be reached: nobody listens")),
        "{faults:?}"
    );
}

/// It has connected somebody once. Gives its memory then.
fn between_ready(between: &Between) -> u64 {
    let (a, b) = between.connect();
    let files = between.open_files();
    drop((a, b));
    until("it is gone", || (between.open_files() < files - 1).then_some(()));
    between.memory_kb()
}
