//! What is sent arrives, byte for byte, with its descriptors, its half closes and its end.

use std::io::Write;
use std::net::Shutdown;

use proptest::collection::vec;
use proptest::prelude::*;
use vhost_user_harness::sys::fd::{FdType, eventfd, memfd, pipe, socket_pair};
use vhost_user_harness::trace::EventKind;
use vhost_user_harness::wire::id::frontend::SET_BACKEND_REQ_FD;
use vhost_user_harness::wire::{Channel, Party};

use super::*;

/// What one side sends at once: bytes, and how many descriptors go with the first of them.
fn chunk() -> impl Strategy<Value = (Vec<u8>, usize)> {
    let any_message = (1u32..50, 0u32..16, vec(any::<u8>(), 0..100));
    let sane = any_message
        .prop_filter("the channel has its own test", |(request, ..)| {
            *request != SET_BACKEND_REQ_FD
        })
        .prop_map(|(request, flags, payload)| message(request, flags, &payload));
    let cut = (vec(any::<u8>(), 1..40)).prop_map(|bytes| bytes);
    let bytes = prop_oneof![9 => sane, 1 => cut];
    (bytes, prop_oneof![3 => Just(0usize), 1 => 1usize..9])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Broken: something that one side sends, message or not, arrives as something else.
    #[test]
    fn both_directions_are_byte_exact(front in vec(chunk(), 1..8), back in vec(chunk(), 1..8)) {
        let between = Between::start(&[]);
        let (a, b) = between.connect();
        for (from, to, chunks) in [(&a, &b, &front), (&b, &a, &back)] {
            let (mut bytes, mut files) = (Vec::new(), Vec::new());
            for (chunk, count) in chunks {
                let fds: Vec<OwnedFd> = (0..*count).map(|_| memfd("x", 1).unwrap()).collect();
                files.extend(fds.iter().map(identity));
                let borrowed: Vec<BorrowedFd> = fds.iter().map(AsFd::as_fd).collect();
                send_all(from, chunk, &borrowed);
                bytes.extend_from_slice(chunk);
            }
            from.shutdown(Shutdown::Write).unwrap();
            let mut got = Got::default();
            got.until_end(to);
            prop_assert_eq!(&got.bytes, &bytes);
            let found: Vec<_> = got.fds.iter().map(|(_, fd)| identity(fd)).collect();
            prop_assert_eq!(found, files);
        }
        drop((a, b));
        let (status, said, _) = between.end();
        prop_assert!(status.success(), "{}", said);
    }
}

/// Broken: descriptors arrive with another byte than they were sent with.
#[test]
fn descriptors_stay_with_their_byte() {
    let between = Between::start(&[]);
    let (a, b) = between.connect();
    let event = eventfd().unwrap();
    let bytes = message(5, 1, &[7; 8]);
    send_all(&a, &bytes[..12], &[]);
    send_all(&a, &bytes[12..], &[event.as_fd(); 3]);
    let mut got = Got::default();
    got.until_len(&b, 12);
    got.until_len(&b, 20);
    let places: Vec<usize> = got.fds.iter().map(|(at, _)| *at).collect();
    assert_eq!((got.bytes, places), (bytes, vec![12; 3]));
    between.end();
}

/// Broken: a side that ends in the middle of a message is not heard to its last byte, or its end does not arrive.
#[test]
fn a_message_that_is_cut_off_arrives_as_far_as_it_came() {
    let between = Between::start(&[]);
    for cut in [1, 11, 12, 15] {
        let (a, b) = between.connect();
        let bytes = message(8, 1, &[1; 8]);
        let event = eventfd().unwrap();
        send_all(&b, &bytes[..cut], &[event.as_fd()]);
        drop(b);
        let mut got = Got::default();
        got.until_end(&a);
        assert_eq!((&got.bytes[..], got.fds.len()), (&bytes[..cut], 1));
    }
    let (_, _, trace) = between.end();
    let partial = |kind: &EventKind| match kind {
        EventKind::Closed { from, partial, .. } if *from == Party::BackEnd => Some(*partial),
        _ => None,
    };
    let found: Vec<usize> = trace.events.iter().filter_map(|e| partial(&e.kind)).collect();
    assert_eq!(found, [1, 11, 12, 15]);
}

/// Broken: a side that only stops sending loses the answers, or the other side is not told.
#[test]
fn a_half_close_leaves_the_other_direction() {
    let between = Between::start(&[]);
    let (a, b) = between.connect();
    send_all(&a, &message(1, 1, &[]), &[]);
    a.shutdown(Shutdown::Write).unwrap();
    let mut got = Got::default();
    got.until_end(&b);
    assert_eq!(got.bytes, message(1, 1, &[]));
    send_all(&b, &message(1, 5, &[0; 8]), &[]);
    let mut got = Got::default();
    got.until_len(&a, 20);
    drop(b);
    got.until_end(&a);
    assert_eq!(got.bytes, message(1, 5, &[0; 8]));
    let (_, _, trace) = between.end();
    let shown: Vec<String> = trace.events.iter().map(|e| e.kind.to_string()).collect();
    assert_eq!(
        shown,
        [
            "connected",
            "GET_FEATURES",
            "closed main for sending",
            "reply to GET_FEATURES value=0x0",
            "closed main"
        ]
    );
}

/// Broken: the back-end channel is not the harness's to see, or does not work.
#[test]
fn the_back_end_channel_is_relayed() {
    let between = Between::start(&[]);
    let (a, b) = between.connect();
    let (ours, theirs) = socket_pair().unwrap();
    let original = identity(&theirs);
    let (spare, _) = pipe().unwrap();
    // what comes beside the socket stays as it is
    send_all(
        &a,
        &message(SET_BACKEND_REQ_FD, 9, &[]),
        &[theirs.as_fd(), spare.as_fd()],
    );
    drop(theirs);
    let mut got = Got::default();
    got.until_len(&b, 12);
    let mut fds = got.fds.into_iter().map(|(_, fd)| fd);
    let channel = fds.next().unwrap();
    assert_ne!(identity(&channel), original);
    assert_eq!(identity(&fds.next().unwrap()), identity(&spare));
    let (front, back) = (UnixStream::from(ours), UnixStream::from(channel));
    send_all(&back, &message(2, 9, &[]), &[]);
    let mut got = Got::default();
    got.until_len(&front, 12);
    send_all(&front, &message(2, 5, &[0; 8]), &[]);
    let mut got = Got::default();
    got.until_len(&back, 20);
    // another message of that kind, without a socket, changes nothing
    send_all(&a, &message(SET_BACKEND_REQ_FD, 9, &[]), &[]);
    Got::default().until_len(&b, 12);
    send_all(&back, &message(2, 1, &[]), &[]);
    Got::default().until_len(&front, 12);
    drop(front);
    Got::default().until_end(&back);
    drop(back);
    let (_, _, trace) = between.end();
    let on_channel = |kind: &EventKind| match kind {
        EventKind::Message { message, .. } => message.channel == Channel::Backend,
        EventKind::Closed { channel, .. } => *channel == Channel::Backend,
        _ => false,
    };
    let shown: Vec<String> = trace
        .events
        .iter()
        .filter(|e| on_channel(&e.kind))
        .map(|e| e.kind.to_string())
        .collect();
    assert_eq!(
        shown,
        [
            "CONFIG_CHANGE_MSG! on backend",
            "reply to CONFIG_CHANGE_MSG on backend value=0x0",
            "CONFIG_CHANGE_MSG on backend",
            "closed backend"
        ]
    );
}

/// Broken: descriptors of some kind are not named in the trace, or a request that nobody knows does not cross.
#[test]
fn kinds_of_descriptors_and_unknown_requests() {
    let between = Between::start(&[]);
    let (a, b) = between.connect();
    let (read, _write) = pipe().unwrap();
    let fds = [memfd("m", 0x3000).unwrap(), eventfd().unwrap(), read];
    let borrowed: Vec<BorrowedFd> = fds.iter().map(AsFd::as_fd).collect();
    send_all(&a, &message(4711, 0xf1, b"abc"), &borrowed);
    let mut got = Got::default();
    got.until_len(&b, 15);
    assert_eq!(got.bytes, message(4711, 0xf1, b"abc"));
    let (_, _, trace) = between.end();
    let EventKind::Message { message, fds, .. } = &trace.events[1].kind else {
        panic!("{:?}", trace.events);
    };
    assert_eq!(message.to_string(), "raw request=4711 flags=0xf1 payload=616263");
    assert_eq!(*fds, [FdType::Memfd { size: 0x3000 }, FdType::Eventfd, FdType::Pipe]);
}

/// Broken: what a side sends while the other does not read takes memory without end, or is lost.
#[test]
fn a_side_that_does_not_read_holds_the_other_up() {
    const MESSAGES: usize = 2_000;
    let between = Between::start(&[]);
    let (a, b) = between.connect();
    let before = between.memory_kb();
    let one = message(99, 1, &[5; 16 * 1024]);
    let all = one.repeat(MESSAGES);
    // it goes on as far as the buffers on the way reach: whether a write has to wait is what is asked here
    a.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    while let Ok(count) = (&a).write(&all[sent..sent + 65_536]) {
        sent += count;
        assert!(sent < all.len() / 2, "all of it is taken and kept");
    }
    let held_kb = between.memory_kb();
    assert!(held_kb < before + 20_000, "{held_kb} kB, {before} kB before");
    a.set_write_timeout(None).unwrap();
    let writer = {
        let (mut a, rest) = (a.try_clone().unwrap(), all[sent..].to_vec());
        std::thread::spawn(move || a.write_all(&rest).unwrap())
    };
    let mut got = Got::default();
    got.until_len(&b, all.len());
    writer.join().unwrap();
    assert!(got.bytes == all);
    drop((a, b));
    let (_, said, _) = between.end();
    let expected = format!("{MESSAGES} messages on 1 connection");
    assert!(said.contains(&expected), "{said}");
}
