//! Messages on a socket, one after the other, with a limit on every wait.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::sys::clock::Clock;
use crate::sys::poll::{Interest, wait};
use crate::sys::socket::{receive, send};
use crate::wire::{Channel, Dialect, Header, find, flags};

const DIALECT: Dialect = Dialect::VhostUser;
/// Longest payload that is taken.
const PAYLOAD_BYTES_MAX: usize = 0x1000;

/// Why a bare conversation failed.
#[derive(Debug, thiserror::Error)]
pub enum BareError {
    /// The socket.
    #[error("the socket failed: {0}")]
    Io(#[from] std::io::Error),
    /// The other side closed.
    #[error("the other side closed the connection")]
    Closed,
    /// Nothing came in time.
    #[error("nothing came for {0:?}")]
    TimedOut(Duration),
    /// Something else came.
    #[error("expected {wanted}, got {got}")]
    Unexpected {
        /// What was waited for.
        wanted: String,
        /// What came.
        got: String,
    },
    /// A feature the other side does not have.
    #[error("features {missing:#x} are not offered")]
    NotOffered {
        /// The bits.
        missing: u64,
    },
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] crate::memory::MemoryError),
    /// A ring.
    #[error(transparent)]
    Ring(#[from] crate::ring::RingError),
}

/// A message as it came.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

impl Heard {
    /// A u64 of the payload; 0 where it is too short.
    pub(super) fn word(&self, at: usize) -> u64 {
        let bytes = self.payload.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    }

    /// A u32 of the payload; likewise.
    pub(super) fn half(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    pub(super) fn name(&self) -> &'static str {
        crate::wire::spec(DIALECT, Channel::Main, self.header.request).map_or("an unknown request", |spec| spec.name)
    }
}

/// One end of a conversation.
#[derive(Debug)]
pub(super) struct Talk {
    socket: OwnedFd,
    patience: Duration,
}

impl Talk {
    pub(super) fn new(socket: OwnedFd, patience: Duration) -> Self {
        Self { socket, patience }
    }

    pub(super) fn say(&self, name: &str, extra: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Result<u32, BareError> {
        let request = id(name)?;
        self.send(request, flags::VERSION | extra, payload, fds)?;
        Ok(request)
    }

    pub(super) fn answer(&self, to: &Heard, payload: &[u8]) -> Result<(), BareError> {
        self.send(to.header.request, flags::VERSION | flags::REPLY, payload, &[])
    }

    /// A request whose answer is a u64.
    pub(super) fn ask(&self, name: &str) -> Result<u64, BareError> {
        let request = self.say(name, 0, &[], &[])?;
        Ok(self.reply(name, request)?.word(0))
    }

    /// The answer to a request.
    pub(super) fn reply(&self, name: &str, request: u32) -> Result<Heard, BareError> {
        let heard = self.hear(self.patience)?;
        if heard.header.request != request || heard.header.flags & flags::REPLY == 0 {
            return Err(BareError::Unexpected {
                wanted: format!("reply to {name}"),
                got: heard.name().to_owned(),
            });
        }
        Ok(heard)
    }

    fn send(&self, request: u32, flags: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), BareError> {
        let header = Header {
            request,
            flags,
            size: payload.len() as u32,
            ..Header::default()
        };
        let mut bytes = header.encode(DIALECT);
        bytes.extend_from_slice(payload);
        let (mut sent, mut fds) = (0, fds);
        while sent < bytes.len() {
            match send(self.socket.as_fd(), &bytes[sent..], fds)? {
                Some(count) => (sent, fds) = (sent + count, &[]),
                None => self.wait(false, self.patience)?,
            }
        }
        Ok(())
    }

    /// The next message, if it begins within `patience`.
    pub(super) fn hear(&self, patience: Duration) -> Result<Heard, BareError> {
        let mut fds = Vec::new();
        let bytes = self.read(DIALECT.header_len(), &mut fds, patience)?;
        let header = Header::decode(DIALECT, &bytes).ok_or(BareError::Closed)?;
        let size = header.size as usize;
        if size > PAYLOAD_BYTES_MAX {
            return Err(BareError::Unexpected {
                wanted: format!("at most {PAYLOAD_BYTES_MAX} bytes"),
                got: format!("{size}"),
            });
        }
        let payload = self.read(size, &mut fds, self.patience)?;
        Ok(Heard { header, payload, fds })
    }

    fn read(&self, len: usize, fds: &mut Vec<OwnedFd>, patience: Duration) -> Result<Vec<u8>, BareError> {
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            match receive(self.socket.as_fd(), &mut bytes[done..])? {
                Some(received) if received.len == 0 => return Err(BareError::Closed),
                Some(received) => {
                    done += received.len;
                    fds.extend(received.fds);
                }
                None => self.wait(true, patience)?,
            }
        }
        Ok(bytes)
    }

    fn wait(&self, read: bool, patience: Duration) -> Result<(), BareError> {
        let interest = Interest {
            fd: self.socket.as_fd(),
            read,
            write: !read,
            token: (),
        };
        let clock = Clock::start();
        let ready = wait(&[interest], Some(patience))?;
        // a signal may have ended it early; then the caller looks again
        match ready.is_empty() && u128::from(clock.now().ns) >= patience.as_nanos() {
            true => Err(BareError::TimedOut(patience)),
            false => Ok(()),
        }
    }
}

pub(super) fn id(name: &str) -> Result<u32, BareError> {
    let spec = find(DIALECT, name, Some(Channel::Main)).map_err(|error| BareError::Unexpected {
        wanted: "a message".to_owned(),
        got: error.to_string(),
    })?;
    Ok(spec.id)
}
