//! Framing over real sockets, hostile streams among them.

use super::*;
use crate::sys::fd::{eventfd, socket_pair};
use crate::sys::socket::send;

fn pair() -> (Stream, Stream) {
    let (a, b) = socket_pair().unwrap();
    (
        Stream::new(a, Dialect::VhostUser).unwrap(),
        Stream::new(b, Dialect::VhostUser).unwrap(),
    )
}

fn message(request: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Header {
        request,
        flags: 1,
        size: payload.len() as u32,
        conn_id: 0,
    }
    .encode(Dialect::VhostUser);
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn descriptors_stay_with_their_message_when_messages_run_together() {
    let (mut a, mut b) = pair();
    a.queue(Chunk::new(message(1, b""), Vec::new()), &[]);
    let two = vec![eventfd().unwrap(), eventfd().unwrap()];
    a.queue(Chunk::new(message(5, b"12345678"), two), &[]);
    a.queue(Chunk::new(message(2, b"x"), vec![eventfd().unwrap()]), &[]);
    a.flush().unwrap();
    let counts: Vec<(u32, usize)> = b
        .read()
        .into_iter()
        .map(|incoming| match incoming {
            Incoming::Frame(frame) => (frame.header.request, frame.chunk.fds.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(counts, [(1, 0), (5, 2), (2, 1)]);
}

#[test]
fn a_message_split_at_every_byte_is_put_together() {
    let bytes = message(9, &[7; 40]);
    for cut in 0..bytes.len() {
        let (mut a, mut b) = pair();
        a.queue(Chunk::new(bytes.clone(), vec![eventfd().unwrap()]), &[cut]);
        a.flush().unwrap();
        assert_eq!(a.waits_for_reader(), cut > 0, "cut at {cut}");
        let mut incoming = b.read();
        assert_eq!(incoming.is_empty(), cut > 0, "cut at {cut}");
        a.flush().unwrap();
        incoming.extend(b.read());
        assert!(
            matches!(&incoming[..], [Incoming::Frame(f)] if f.chunk.bytes[12..] == [7; 40] && f.chunk.fds.len() == 1),
            "cut at {cut}: {incoming:?}"
        );
    }
}

/// Broken: a header that cannot be framed takes memory, or what follows it is lost.
/// Broken: two messages that are to arrive in one piece can be read one after the other.
#[test]
fn gathered_messages_are_one_piece() {
    let (mut a, b) = pair();
    a.gather();
    a.queue(Chunk::new(message(1, b"x"), vec![eventfd().unwrap()]), &[]);
    a.flush().unwrap();
    a.queue(Chunk::new(message(2, b"yz"), Vec::new()), &[]);
    assert!(receive(b.as_fd(), &mut [0; 1]).unwrap().is_none());
    a.send_gathered();
    assert_eq!(a.out.len(), 1);
    a.flush().unwrap();
    let received = receive(b.as_fd(), &mut [0; 100]).unwrap().unwrap();
    assert_eq!((received.len, received.fds.len()), (27, 1));
}

#[test]
fn a_size_of_4_gib_takes_no_memory_and_what_follows_comes_raw() {
    let (mut a, mut b) = pair();
    let mut bytes = message(1, b"");
    bytes[8..].copy_from_slice(&u32::MAX.to_ne_bytes());
    a.queue(Chunk::new(bytes.clone(), Vec::new()), &[]);
    a.queue(Chunk::new(message(1, b""), vec![eventfd().unwrap()]), &[]);
    a.flush().unwrap();
    match &b.read()[..] {
        [Incoming::Malformed { why, chunk }] => assert!(why.contains("4294967295") && chunk.bytes == bytes, "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(&b.read()[..], [Incoming::Raw(c)] if c.bytes == message(1, b"") && c.fds.len() == 1));
}

/// Broken: of a message that is cut off it is lost how far it came.
#[test]
fn a_close_in_the_middle_gives_what_came() {
    let (mut a, mut b) = pair();
    a.queue(Chunk::new(message(1, b"")[..5].to_vec(), vec![eventfd().unwrap()]), &[]);
    a.flush().unwrap();
    drop(a);
    match &b.read()[..] {
        [Incoming::Closed { partial, half: false }] => {
            assert_eq!((&partial.bytes[..], partial.fds.len()), (&message(1, b"")[..5], 1));
        }
        other => panic!("{other:?}"),
    }
    assert!(!b.is_open());
}

/// Broken: a side that only stops sending is taken for gone, or its later end is missed.
#[test]
fn a_half_close_is_told_apart_from_a_close() {
    let (mut a, mut b) = pair();
    a.queue(Chunk::new(message(1, b""), Vec::new()), &[]);
    a.end_sending();
    a.flush().unwrap();
    let incoming = b.read();
    assert!(
        matches!(&incoming[..], [Incoming::Frame(_), Incoming::Closed { half: true, .. }]),
        "{incoming:?}"
    );
    b.queue(Chunk::new(message(2, b""), Vec::new()), &[]);
    b.flush().unwrap();
    assert!(matches!(&a.read()[..], [Incoming::Frame(_)]));
    assert!(b.read().is_empty());
    drop(a);
    assert!(matches!(&b.read()[..], [Incoming::Closed { half: false, .. }]));
    assert!(b.read().is_empty());
}

/// Broken: descriptors on later bytes of a message arrive with other bytes.
#[test]
fn descriptors_keep_their_places_in_a_message() {
    let (a, b) = socket_pair().unwrap();
    let mut middle = Stream::new(b, Dialect::VhostUser).unwrap();
    let bytes = message(5, b"12345678");
    let event = eventfd().unwrap();
    // as real programs read: the header, then the payload
    for (range, fds) in [
        (0..12, vec![]),
        (12..16, vec![event.as_fd(); 2]),
        (16..20, vec![event.as_fd()]),
    ] {
        send(a.as_fd(), &bytes[range], &fds).unwrap();
    }
    let Some(Incoming::Frame(frame)) = middle.read().pop() else {
        panic!("no message");
    };
    assert_eq!(frame.chunk.places, [12, 12, 16]);
    let (c, d) = socket_pair().unwrap();
    let mut out = Stream::new(c, Dialect::VhostUser).unwrap();
    out.queue(frame.chunk, &[]);
    out.flush().unwrap();
    assert_eq!((out.queued_bytes(), out.is_flushed()), (0, true));
    let mut buffer = [0; 12];
    assert_eq!(receive(d.as_fd(), &mut buffer).unwrap().unwrap().fds.len(), 0);
    let second = receive(d.as_fd(), &mut buffer).unwrap().unwrap();
    assert_eq!((second.len, second.fds.len()), (4, 2));
    let third = receive(d.as_fd(), &mut buffer).unwrap().unwrap();
    assert_eq!((third.len, third.fds.len()), (4, 1));
}

/// Broken: a message with very many descriptors is kept until it is complete.
#[test]
fn ten_thousand_descriptors_are_passed_on_as_they_come() {
    let (a, b) = socket_pair().unwrap();
    let mut stream = Stream::new(b, Dialect::VhostUser).unwrap();
    let event = eventfd().unwrap();
    let mut bytes = message(5, b"");
    bytes[8..].copy_from_slice(&1000u32.to_ne_bytes());
    bytes.resize(12 + 40, 7);
    let (mut malformed, mut fds, mut most) = (0, 0, 0);
    for byte in &bytes[..40] {
        send(a.as_fd(), &[*byte], &[event.as_fd(); 250]).unwrap();
        for incoming in stream.read() {
            let chunk = match incoming {
                Incoming::Malformed { chunk, .. } => {
                    malformed += 1;
                    chunk
                }
                Incoming::Raw(chunk) => chunk,
                other => panic!("{other:?}"),
            };
            fds += chunk.fds.len();
            most = most.max(chunk.fds.len());
        }
    }
    assert_eq!((malformed, fds), (1, 10_000));
    assert!(most <= FDS_PER_MESSAGE_MAX + 250, "{most}");
}
