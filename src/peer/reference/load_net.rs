//! The reference front-end's network load: numbered frames with a pattern, transmitted on all queue pairs in turn; with
//! loop-back each must come back on the receive ring of its pair, in order and unaltered.

use virtio_bindings::virtio_net::{VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS};

use super::driver_ring::Segment;
use super::error::ReferenceError;
use super::load::{pattern, same};
use super::session::{Progress, Session};

/// `struct virtio_net_hdr_v1`.
const HEADER_BYTES: u32 = 12;
/// Destination, source, type, number.
const FRAME_HEAD_BYTES: u32 = 22;
/// What a receive buffer holds at least without MRG_RXBUF (virtio 1.1, 5.1.6.3.1), less the header.
const FRAME_ROOM_MIN: u32 = 1514;
/// MAC address, status and number of pairs, the part of the configuration space that all devices have.
pub(super) const CONFIG_BYTES: u32 = 10;
/// The features the load knows how to live with. Not MQ, which needs a control queue: vhost-user starts pairs without it.
pub(super) const FEATURES: u64 = 1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_STATUS;

/// The frames of one queue pair.
struct Pair {
    /// The next frame to transmit, and the next expected back.
    next: u64,
    expected: u64,
    free: Vec<u16>,
    /// Frames that are in the other side's hands.
    away: u16,
}

/// Bytes a frame's buffers need.
pub(super) fn data_bytes(frame_bytes: u32) -> u32 {
    frame_bytes.max(FRAME_ROOM_MIN)
}

/// Transmits `frames` frames of `bytes` bytes; with `loopback` waits for each to come back.
pub(super) fn drive(session: &mut Session, frames: u64, bytes: u32, loopback: bool) -> Result<(), ReferenceError> {
    let pairs = session.rings.len() / 2;
    let slots = session.guest.slots();
    let mut state: Vec<Pair> = (0..)
        .take(pairs)
        .map(|first| Pair {
            next: first,
            expected: first,
            free: (0..slots).rev().collect(),
            away: 0,
        })
        .collect();
    for pair in 0..pairs {
        for slot in 0..slots {
            post(session, pair, slot, bytes)?;
        }
        session.rings[pair * 2].publish()?;
    }
    let mut done = 0;
    while done < frames {
        for (pair, at) in state.iter_mut().enumerate() {
            while at.next < frames
                && (!loopback || at.away < slots)
                && let Some(slot) = at.free.pop()
            {
                transmit(session, pair, slot, at.next, bytes)?;
                at.next += pairs as u64;
                at.away += u16::from(loopback);
            }
            session.rings[pair * 2 + 1].publish()?;
        }
        session.wait(Progress {
            completed: done,
            requests: frames,
        })?;
        for (pair, at) in state.iter_mut().enumerate() {
            let mut sent = 0;
            while let Some(completion) = session.rings[pair * 2 + 1].take()? {
                at.free.push(completion.token);
                sent += 1;
            }
            while let Some(completion) = session.rings[pair * 2].take()? {
                if loopback {
                    verify(session, pair, completion.token, completion.length, at.expected, bytes)?;
                    at.expected += pairs as u64;
                    at.away = at.away.saturating_sub(1);
                    done += 1;
                }
                post(session, pair, completion.token, bytes)?;
            }
            session.rings[pair * 2].publish()?;
            if !loopback {
                done += sent;
            }
        }
    }
    settle(session, &mut state, frames, loopback)
}

/// Takes the last transmit buffers back: a frame may come round before its buffer does.
fn settle(session: &mut Session, state: &mut [Pair], frames: u64, loopback: bool) -> Result<(), ReferenceError> {
    let slots = usize::from(session.guest.slots());
    let progress = Progress {
        completed: frames,
        requests: frames,
    };
    loop {
        for (pair, at) in state.iter_mut().enumerate() {
            while let Some(completion) = session.rings[pair * 2 + 1].take()? {
                at.free.push(completion.token);
            }
            if session.rings[pair * 2].take()?.is_some() && loopback {
                return Err(ReferenceError::Differs {
                    request: frames,
                    what: format!("a frame too many came back on pair {pair}"),
                });
            }
        }
        if state.iter().all(|at| at.free.len() == slots) {
            return Ok(());
        }
        session.wait(progress)?;
    }
}

/// Offers a receive buffer, every other one with its header in a descriptor of its own.
fn post(session: &mut Session, pair: usize, number: u16, bytes: u32) -> Result<(), ReferenceError> {
    let slot = session.guest.slot(pair * 2, number);
    session
        .guest
        .write(slot.input, &vec![0; (HEADER_BYTES + bytes) as usize])?;
    let room = data_bytes(bytes);
    let whole = Segment::writable(slot.input, HEADER_BYTES + room);
    let rest = vm_memory::GuestAddress(slot.input.0 + u64::from(HEADER_BYTES));
    let segments = if number.is_multiple_of(2) {
        vec![whole]
    } else {
        vec![
            Segment::writable(slot.input, HEADER_BYTES),
            Segment::writable(rest, room),
        ]
    };
    session.rings[pair * 2].add(&segments, None, number)
}

fn transmit(session: &mut Session, pair: usize, number: u16, frame: u64, bytes: u32) -> Result<(), ReferenceError> {
    let ring = pair * 2 + 1;
    let slot = session.guest.slot(ring, number);
    session.guest.write(slot.header, &[0; HEADER_BYTES as usize])?;
    session.guest.write(slot.output, &contents(frame, bytes))?;
    let segments = [
        Segment::readable(slot.header, HEADER_BYTES),
        Segment::readable(slot.output, bytes),
    ];
    let table = (session.indirect() && number % 2 == 1).then_some(slot.indirect);
    session.rings[ring].add(&segments, table, number)
}

fn verify(
    session: &Session,
    pair: usize,
    number: u16,
    written: u32,
    frame: u64,
    bytes: u32,
) -> Result<(), ReferenceError> {
    let slot = session.guest.slot(pair * 2, number);
    let differs = |what: String| Err(ReferenceError::Differs { request: frame, what });
    let came = session.guest.read(slot.input, written as usize)?;
    let Some((_, came)) = came.split_at_checked(HEADER_BYTES as usize) else {
        return differs(format!("{written} bytes came back, too few for a header"));
    };
    let number = came.get(14..22).and_then(|bytes| bytes.first_chunk::<8>());
    match number.map(|bytes| u64::from_le_bytes(*bytes)) {
        Some(other) if other != frame => differs(format!("frame {other} came back instead")),
        _ => same(frame, &contents(frame, bytes), came),
    }
}

/// A frame of the local experimental type 0x88b5.
fn contents(frame: u64, bytes: u32) -> Vec<u8> {
    let mut contents = vec![0x02, 0, 0, 0, 0, 0x02, 0x02, 0, 0, 0, 0, 0x01, 0x88, 0xb5];
    contents.extend_from_slice(&frame.to_le_bytes());
    contents.extend_from_slice(&pattern(frame, bytes.saturating_sub(FRAME_HEAD_BYTES)));
    contents
}
