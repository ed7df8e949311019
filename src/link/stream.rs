//! One Unix stream socket with framing: whole messages in, pieces of messages out, file descriptors both ways. What cannot
//! be framed comes as it is, so that it can be passed on.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::socket::{end_sending, is_drained, is_hung_up, receive, send_any};
use crate::wire::{Dialect, Header};

/// The largest payload that the harness takes from a peer. The largest of the specification is 2056 bytes; real programs
/// refuse more than 4096. After a header that announces more, nothing can be framed.
pub const PAYLOAD_MAX: usize = 64 * 1024;

/// File descriptors that one message may have. After more than that, nothing is framed: what is not kept until a message
/// is complete needs no room. No request has more than one for each memory region.
pub const FDS_PER_MESSAGE_MAX: usize = 512;

/// Messages taken from one stream before other descriptors get their turn.
pub const MESSAGES_PER_TURN: usize = 64;
/// Descriptors taken likewise.
const FDS_PER_TURN: usize = 512;
/// Room for a message to begin with.
const BYTES_EXPECTED: usize = 64;
/// Bytes read at once.
const READ_BYTES: usize = 4096;

/// Bytes as they came, and the descriptors in them.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The descriptors.
    pub fds: Vec<OwnedFd>,
    /// For each descriptor, the byte that it came with; one that is missing here came with the first.
    pub places: Vec<usize>,
    /// More descriptors came than this process can have open; those are lost.
    pub lost_fds: bool,
}

/// One message as it crosses the link.
#[derive(Debug)]
pub struct Frame {
    /// Its header.
    pub header: Header,
    /// All of it, header included.
    pub chunk: Chunk,
}

/// What reading a stream brought.
#[derive(Debug)]
pub enum Incoming {
    /// A whole message.
    Frame(Frame),
    /// Something that cannot be framed. All that follows comes as [`Incoming::Raw`].
    Malformed {
        /// Why.
        why: String,
        /// What there is of it so far.
        chunk: Chunk,
    },
    /// More of what cannot be framed.
    Raw(Chunk),
    /// The other side sends nothing more.
    Closed {
        /// What there is of an unfinished message.
        partial: Chunk,
        /// It can still be sent to: it has not closed the socket but only this direction.
        half: bool,
    },
}

/// What can still be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Messages,
    Raw,
    /// Nothing more comes, but the other side is there.
    HalfClosed,
    Ended,
}

/// A connected, non-blocking stream socket.
#[derive(Debug)]
pub struct Stream {
    socket: OwnedFd,
    dialect: Dialect,
    // the message that is being read; reads never go past its end, so that descriptors belong to it for certain
    partial: Chunk,
    reading: Reading,
    out: VecDeque<Piece>,
    out_bytes: usize,
    /// Descriptors in `out`.
    out_fds: usize,
    /// What is queued is the last.
    ending: bool,
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
            partial: Chunk::default(),
            reading: Reading::Messages,
            out: VecDeque::new(),
            out_bytes: 0,
            out_fds: 0,
            ending: false,
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

    /// Reads what is there: whole messages, what is none, or the end.
    pub fn read(&mut self) -> Vec<Incoming> {
        self.read_up_to(MESSAGES_PER_TURN)
    }

    /// The same, up to so many. Who takes one at a time is spared the question for a second one, which whoever waits for
    /// an answer to the first has not sent.
    pub fn read_up_to(&mut self, count: usize) -> Vec<Incoming> {
        let mut incoming = Vec::with_capacity(1);
        if self.reading == Reading::HalfClosed && is_hung_up(self.socket.as_fd()) {
            incoming.push(self.end(false));
        }
        let mut fds = 0;
        while self.is_open() && incoming.len() < count && fds <= FDS_PER_TURN {
            match self.read_some() {
                Ok(true) => {}
                Ok(false) => break,
                Err(end) => {
                    incoming.push(end);
                    break;
                }
            }
            if self.reading == Reading::Raw {
                fds += self.partial.fds.len();
                incoming.push(Incoming::Raw(std::mem::take(&mut self.partial)));
                continue;
            }
            match self.take_frame() {
                Ok(Some(frame)) => {
                    fds += frame.chunk.fds.len();
                    incoming.push(Incoming::Frame(frame));
                }
                Ok(None) => {}
                Err(why) => {
                    self.reading = Reading::Raw;
                    let chunk = std::mem::take(&mut self.partial);
                    incoming.push(Incoming::Malformed { why, chunk });
                    // whoever reads decides whether there is use in going on
                    break;
                }
            }
        }
        incoming
    }

    /// Queues bytes with their descriptors at their places, cut into pieces that end at the given offsets. A piece is
    /// sent once the other side has read the one before it, so that it has to put them together.
    pub fn queue(&mut self, chunk: Chunk, split: &[usize]) {
        let Chunk { bytes, fds, places, .. } = chunk;
        let len = bytes.len();
        self.out_fds += fds.len();
        self.out_bytes += len;
        if split.is_empty() && places.iter().all(|place| *place == 0) {
            self.out.push_back(Piece {
                bytes,
                sent: 0,
                fds,
                apart: false,
            });
            return;
        }
        let mut fds = fds
            .into_iter()
            .zip(places.iter().copied().chain(std::iter::repeat(0)))
            .peekable();
        let mut ends: Vec<usize> = split.iter().chain(&places).copied().filter(|end| *end < len).collect();
        ends.sort_unstable();
        ends.dedup();
        ends.push(len);
        let mut start = 0;
        for end in ends {
            if end > start || bytes.is_empty() {
                let own = std::iter::from_fn(|| fds.next_if(|(_, place)| *place < end || end == len));
                self.out.push_back(Piece {
                    fds: own.map(|(fd, _)| fd).collect(),
                    bytes: bytes[start..end].to_vec(),
                    sent: 0,
                    apart: start > 0 && split.contains(&start),
                });
                start = end;
            }
        }
    }

    /// Says, after what is queued, that nothing more will be sent.
    pub fn end_sending(&mut self) {
        self.ending = true;
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
            match send_any(self.socket.as_fd(), &piece.bytes[piece.sent..], &piece.fds) {
                Ok(None) => return Ok(()),
                Ok(Some(sent)) => {
                    self.out_fds -= piece.fds.len();
                    piece.fds.clear();
                    piece.sent += sent;
                    self.out_bytes = self.out_bytes.saturating_sub(sent);
                    if piece.sent >= piece.bytes.len() {
                        self.out.pop_front();
                    }
                }
                Err(error) => {
                    self.out.clear();
                    self.out_bytes = 0;
                    self.out_fds = 0;
                    return Err(error);
                }
            }
        }
        if std::mem::take(&mut self.ending) {
            end_sending(self.socket.as_fd())?;
        }
        Ok(())
    }

    /// Bytes that wait to be sent.
    pub fn queued_bytes(&self) -> usize {
        self.out_bytes
    }

    /// Descriptors that wait for room to be sent.
    pub fn unsent_fds(&self) -> usize {
        self.out_fds
    }

    /// Whether nothing waits to be sent.
    pub fn is_flushed(&self) -> bool {
        self.out.is_empty()
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
        matches!(self.reading, Reading::Messages | Reading::Raw)
    }

    /// For poll.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn read_some(&mut self) -> Result<bool, Incoming> {
        let at = self.partial.bytes.len();
        let header_len = self.dialect.header_len();
        let wanted = match Header::decode(self.dialect, &self.partial.bytes) {
            _ if self.reading == Reading::Raw => READ_BYTES,
            Some(header) => header_len + header.size as usize - at,
            None => header_len - at,
        };
        let partial = &mut self.partial;
        if at == 0 {
            // as long as most messages are
            partial.bytes.reserve(BYTES_EXPECTED);
        }
        partial.bytes.resize(at + wanted.min(READ_BYTES), 0);
        let received = receive(self.socket.as_fd(), &mut partial.bytes[at..]);
        let len = received.as_ref().map_or(0, |r| r.as_ref().map_or(0, |r| r.len));
        partial.bytes.truncate(at + len);
        match received {
            Ok(None) => Ok(false),
            Ok(Some(received)) if received.len == 0 => Err(self.end(!is_hung_up(self.socket.as_fd()))),
            Ok(Some(received)) => {
                if at > 0 {
                    // those before came with the first byte, unless it says otherwise
                    partial.places.resize(partial.fds.len(), 0);
                    partial.places.extend(received.fds.iter().map(|_| at));
                }
                match partial.fds.is_empty() {
                    true => partial.fds = received.fds,
                    false => partial.fds.extend(received.fds),
                }
                partial.lost_fds |= received.lost_fds;
                Ok(true)
            }
            // the other side closed with data of ours unread
            Err(_) => Err(self.end(false)),
        }
    }

    fn end(&mut self, half: bool) -> Incoming {
        self.reading = if half { Reading::HalfClosed } else { Reading::Ended };
        let partial = std::mem::take(&mut self.partial);
        Incoming::Closed { partial, half }
    }

    fn take_frame(&mut self) -> Result<Option<Frame>, String> {
        let count = self.partial.fds.len();
        if count > FDS_PER_MESSAGE_MAX {
            return Err(format!(
                "{count} descriptors with one message, more than {FDS_PER_MESSAGE_MAX}"
            ));
        }
        let Some(header) = Header::decode(self.dialect, &self.partial.bytes) else {
            return Ok(None);
        };
        let size = header.size as usize;
        if size > PAYLOAD_MAX {
            return Err(format!(
                "the header announces {size} bytes of payload, more than {PAYLOAD_MAX}"
            ));
        }
        if self.partial.bytes.len() < self.dialect.header_len() + size {
            return Ok(None);
        }
        let chunk = std::mem::take(&mut self.partial);
        Ok(Some(Frame { header, chunk }))
    }
}

impl Frame {
    /// Its payload.
    pub fn payload(&self, dialect: Dialect) -> &[u8] {
        self.chunk.bytes.get(dialect.header_len()..).unwrap_or_default()
    }
}

impl Chunk {
    /// Bytes, with descriptors on the first of them.
    pub fn new(bytes: Vec<u8>, fds: Vec<OwnedFd>) -> Self {
        Self {
            bytes,
            fds,
            ..Self::default()
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.fds.is_empty()
    }
}

#[cfg(test)]
mod tests;
