//! One Unix stream socket with framing: whole messages in, pieces of messages out, file descriptors both ways.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::socket::{is_drained, receive, send};
use crate::wire::{Dialect, Header};

/// The largest payload that the harness takes from a peer. The largest of the specification is 2056 bytes; real programs
/// refuse more than 4096. A header that announces more ends the stream for us: nothing after it can be framed.
pub const PAYLOAD_MAX: usize = 64 * 1024;

/// Messages taken from one stream before other descriptors get their turn.
const MESSAGES_PER_TURN: usize = 64;

/// File descriptors kept for one message; more are closed, and counted.
const FDS_PER_MESSAGE_MAX: usize = 512;

/// One message as it crosses the link.
#[derive(Debug)]
pub struct Frame {
    /// Its header.
    pub header: Header,
    /// Its payload.
    pub payload: Vec<u8>,
    /// What was attached.
    pub fds: Vec<OwnedFd>,
}

/// What reading a stream brought.
#[derive(Debug)]
pub enum Incoming {
    /// A whole message.
    Frame(Frame),
    /// Something that cannot be framed; the stream is of no more use.
    Malformed {
        /// Why.
        why: String,
        /// The bytes so far.
        bytes: Vec<u8>,
    },
    /// The other side closed, after this many bytes of an unfinished message.
    Closed {
        /// Bytes of the unfinished message.
        partial: usize,
    },
}

/// A connected, non-blocking stream socket.
#[derive(Debug)]
pub struct Stream {
    socket: OwnedFd,
    dialect: Dialect,
    // the message that is being read; reads never go past its end, so that descriptors belong to it for certain
    partial: Vec<u8>,
    fds: Vec<OwnedFd>,
    out: VecDeque<Piece>,
    /// Descriptors in `out`.
    out_fds: usize,
    ended: bool,
    /// Pieces are gathered, to be sent in one.
    gathers: bool,
}

#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
    /// It follows another piece of the same message, and is not to run together with it.
    apart: bool,
}

impl Stream {
    /// Takes over a connected socket and makes it non-blocking.
    pub fn new(socket: OwnedFd, dialect: Dialect) -> io::Result<Self> {
        crate::sys::fd::set_nonblocking(socket.as_fd())?;
        Ok(Self {
            socket,
            dialect,
            partial: Vec::new(),
            fds: Vec::new(),
            out: VecDeque::new(),
            out_fds: 0,
            ended: false,
            gathers: false,
        })
    }

    /// From here on nothing is sent: what is queued is gathered, until [`Stream::send_gathered`].
    pub fn gather(&mut self) {
        self.gathers = true;
    }

    /// Makes one piece of all that was gathered and no descriptors come between. `flush` sends it.
    pub fn send_gathered(&mut self) {
        self.gathers = false;
        let mut pieces: VecDeque<Piece> = VecDeque::new();
        for piece in std::mem::take(&mut self.out) {
            match pieces.back_mut() {
                Some(before) if before.sent == 0 && piece.fds.is_empty() && !piece.apart => {
                    before.bytes.extend(piece.bytes);
                }
                _ => pieces.push_back(piece),
            }
        }
        self.out = pieces;
    }

    /// Reads what is there: whole messages, or the end.
    pub fn read(&mut self) -> Vec<Incoming> {
        let mut incoming = Vec::new();
        while !self.ended && incoming.len() < MESSAGES_PER_TURN {
            match self.read_some() {
                Ok(true) => {}
                Ok(false) => break,
                Err(end) => {
                    self.ended = true;
                    incoming.push(end);
                    break;
                }
            }
            match self.take_frame() {
                Ok(Some(frame)) => incoming.push(Incoming::Frame(frame)),
                Ok(None) => {}
                Err(why) => {
                    self.ended = true;
                    incoming.push(Incoming::Malformed {
                        why,
                        bytes: std::mem::take(&mut self.partial),
                    });
                }
            }
        }
        incoming
    }

    /// Queues bytes, cut into pieces that end at the given offsets; descriptors go with the first byte. A piece is sent
    /// once the other side has read the one before it, so that it has to put them together.
    pub fn queue(&mut self, bytes: &[u8], fds: Vec<OwnedFd>, split: &[usize]) {
        self.out_fds += fds.len();
        let mut fds = Some(fds);
        let mut start = 0;
        let ends = split
            .iter()
            .copied()
            .filter(|end| *end < bytes.len())
            .chain([bytes.len()]);
        for end in ends {
            if end > start || bytes.is_empty() {
                let bytes = bytes[start..end].to_vec();
                self.out.push_back(Piece {
                    bytes,
                    sent: 0,
                    fds: fds.take().unwrap_or_default(),
                    apart: start > 0,
                });
                start = end;
            }
        }
    }

    /// Sends what is queued, as far as there is room. An error means that the other side is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.gathers {
            return Ok(());
        }
        while let Some(piece) = self.out.front_mut() {
            if piece.apart && piece.sent == 0 && !is_drained(self.socket.as_fd()) {
                return Ok(());
            }
            let fds: Vec<BorrowedFd> = piece.fds.iter().map(AsFd::as_fd).collect();
            match send(self.socket.as_fd(), &piece.bytes[piece.sent..], &fds) {
                Ok(None) => return Ok(()),
                Ok(Some(sent)) => {
                    self.out_fds -= piece.fds.len();
                    piece.fds.clear();
                    piece.sent += sent;
                    if piece.sent >= piece.bytes.len() {
                        self.out.pop_front();
                    }
                }
                Err(error) => {
                    self.out.clear();
                    self.out_fds = 0;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Descriptors that wait for room to be sent.
    pub fn unsent_fds(&self) -> usize {
        self.out_fds
    }

    /// Whether something waits for room to be sent.
    pub fn wants_write(&self) -> bool {
        !self.out.is_empty() && !self.waits_for_reader()
    }

    /// Whether something waits for the other side to read what was sent before it. The kernel does not tell when.
    pub fn waits_for_reader(&self) -> bool {
        self.out.front().is_some_and(|piece| piece.apart && piece.sent == 0)
    }

    /// Whether it can still be read.
    pub fn is_open(&self) -> bool {
        !self.ended
    }

    /// For poll.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn read_some(&mut self) -> Result<bool, Incoming> {
        let header_len = self.dialect.header_len();
        let wanted = match Header::decode(self.dialect, &self.partial) {
            Some(header) => header_len + header.size as usize - self.partial.len(),
            None => header_len - self.partial.len(),
        };
        let mut buffer = [0u8; 4096];
        let wanted = wanted.min(buffer.len());
        match receive(self.socket.as_fd(), &mut buffer[..wanted]) {
            Ok(None) => Ok(false),
            Ok(Some(received)) if received.len == 0 => Err(Incoming::Closed {
                partial: self.partial.len(),
            }),
            Ok(Some(received)) => {
                self.partial.extend_from_slice(&buffer[..received.len]);
                let room = FDS_PER_MESSAGE_MAX.saturating_sub(self.fds.len());
                self.fds.extend(received.fds.into_iter().take(room));
                Ok(true)
            }
            // the other side closed with data of ours unread
            Err(_) => Err(Incoming::Closed {
                partial: self.partial.len(),
            }),
        }
    }

    fn take_frame(&mut self) -> Result<Option<Frame>, String> {
        let Some(header) = Header::decode(self.dialect, &self.partial) else {
            return Ok(None);
        };
        let header_len = self.dialect.header_len();
        let size = header.size as usize;
        if size > PAYLOAD_MAX {
            return Err(format!(
                "the header announces {size} bytes of payload, more than {PAYLOAD_MAX}"
            ));
        }
        if self.partial.len() < header_len + size {
            return Ok(None);
        }
        let payload = self.partial.split_off(header_len);
        self.partial.clear();
        Ok(Some(Frame {
            header,
            payload,
            fds: std::mem::take(&mut self.fds),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd::{eventfd, socket_pair};

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
        }
        .encode(Dialect::VhostUser);
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn descriptors_stay_with_their_message_when_messages_run_together() {
        let (mut a, mut b) = pair();
        a.queue(&message(1, b""), Vec::new(), &[]);
        a.queue(
            &message(5, b"12345678"),
            vec![eventfd().unwrap(), eventfd().unwrap()],
            &[],
        );
        a.queue(&message(2, b"x"), vec![eventfd().unwrap()], &[]);
        a.flush().unwrap();
        let counts: Vec<(u32, usize)> = b
            .read()
            .into_iter()
            .map(|incoming| match incoming {
                Incoming::Frame(frame) => (frame.header.request, frame.fds.len()),
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
            a.queue(&bytes, vec![eventfd().unwrap()], &[cut]);
            a.flush().unwrap();
            assert_eq!(a.waits_for_reader(), cut > 0, "cut at {cut}");
            let mut incoming = b.read();
            assert_eq!(incoming.is_empty(), cut > 0, "cut at {cut}");
            a.flush().unwrap();
            incoming.extend(b.read());
            assert!(
                matches!(&incoming[..], [Incoming::Frame(f)] if f.payload == [7; 40] && f.fds.len() == 1),
                "cut at {cut}: {incoming:?}"
            );
        }
    }

    /// Broken: two messages that are to arrive in one piece can be read one after the other.
    #[test]
    fn gathered_messages_are_one_piece() {
        let (mut a, b) = pair();
        a.gather();
        a.queue(&message(1, b"x"), vec![eventfd().unwrap()], &[]);
        a.flush().unwrap();
        a.queue(&message(2, b"yz"), Vec::new(), &[]);
        assert!(receive(b.as_fd(), &mut [0; 1]).unwrap().is_none());
        a.send_gathered();
        assert_eq!(a.out.len(), 1);
        a.flush().unwrap();
        let received = receive(b.as_fd(), &mut [0; 100]).unwrap().unwrap();
        assert_eq!((received.len, received.fds.len()), (27, 1));
    }

    #[test]
    fn a_size_of_4_gib_ends_the_stream_without_taking_memory() {
        let (mut a, mut b) = pair();
        a.queue(
            &Header {
                request: 1,
                flags: 1,
                size: u32::MAX,
            }
            .encode(Dialect::VhostUser),
            Vec::new(),
            &[],
        );
        a.flush().unwrap();
        assert!(matches!(&b.read()[..], [Incoming::Malformed { why, .. }] if why.contains("4294967295")));
        assert!(b.read().is_empty() && !b.is_open());
    }

    #[test]
    fn a_close_in_the_middle_tells_how_far_it_came() {
        let (mut a, mut b) = pair();
        a.queue(&message(1, b"")[..5], Vec::new(), &[]);
        a.flush().unwrap();
        drop(a);
        assert!(matches!(&b.read()[..], [Incoming::Closed { partial: 5 }]));
    }
}
