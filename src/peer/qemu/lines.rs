//! A line-wise conversation with QEMU over a Unix socket, where every wait ends at a deadline or when the handle is dropped.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use super::error::{Channel, QemuError};
use super::mailbox::Bell;
use crate::sys::clock::{Clock, Moment};
use crate::sys::poll::{self, Interest};

/// The longest line taken from QEMU: a `read` of the largest access in hexadecimal stays far below.
const LINE_BYTES_MAX: usize = 16 << 20;

/// The moment after which nothing is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    clock: Clock,
    end: Moment,
    lifetime: Duration,
}

impl Deadline {
    pub(super) fn after(lifetime: Duration) -> Self {
        let end = Moment {
            ns: lifetime.as_nanos().try_into().unwrap_or(u64::MAX),
        };
        Self {
            clock: Clock::start(),
            end,
            lifetime,
        }
    }

    /// `None` once it has passed.
    pub(super) fn remaining(self) -> Option<Duration> {
        let left = self.clock.until(self.end);
        (!left.is_zero()).then_some(left)
    }

    /// How long it was away when it was set.
    pub(super) fn lifetime(self) -> Duration {
        self.lifetime
    }
}

/// What bounds every wait of a thread: the deadline, and an eventfd that is rung when the handle is dropped.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) deadline: Deadline,
    pub(super) stop: Arc<Bell>,
}

impl Limits {
    pub(super) fn timed_out(&self, channel: Channel, outstanding: &str) -> QemuError {
        QemuError::TimedOut {
            channel,
            outstanding: outstanding.to_owned(),
            waited: self.deadline.lifetime,
        }
    }
}

/// Waits until one of `fds` is ready or `timeout` is over. True at its index if a descriptor has anything to say.
pub(super) fn wait_any<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    timeout: Option<Duration>,
) -> Result<[bool; N], QemuError> {
    let mut token = 0..;
    let interests = fds.map(|fd| Interest::read(fd, token.next().unwrap_or(N)));
    ready(&interests, timeout)
}

fn ready<const N: usize>(
    interests: &[Interest<'_, usize>; N],
    timeout: Option<Duration>,
) -> Result<[bool; N], QemuError> {
    let tokens = poll::wait(interests, timeout).map_err(|error| QemuError::io("poll", &error))?;
    Ok(std::array::from_fn(|index| tokens.contains(&index)))
}

/// One connection from QEMU.
#[derive(Debug)]
pub(super) struct LineSocket {
    channel: Channel,
    stream: UnixStream,
    limits: Limits,
    lines: VecDeque<String>,
    partial: Vec<u8>,
}

impl LineSocket {
    /// Waits for QEMU to connect.
    pub(super) fn accept(listener: &UnixListener, channel: Channel, limits: Limits) -> Result<Self, QemuError> {
        let failed = |error| QemuError::io(format!("accept on the {channel} socket"), &error);
        listener.set_nonblocking(true).map_err(failed)?;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true).map_err(failed)?;
                    return Ok(Self {
                        channel,
                        stream,
                        limits,
                        lines: VecDeque::new(),
                        partial: Vec::new(),
                    });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(channel, &limits, listener.as_fd(), false, "connect")?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Sends all of `bytes`. `outstanding` names them in errors.
    pub(super) fn send(&mut self, mut bytes: &[u8], outstanding: &str) -> Result<(), QemuError> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(self.channel, &self.limits, self.stream.as_fd(), true, outstanding)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(&error, outstanding)),
            }
        }
        Ok(())
    }

    /// The next line, without its end.
    pub(super) fn line(&mut self, outstanding: &str) -> Result<String, QemuError> {
        loop {
            if let Some(line) = self.try_line(outstanding)? {
                return Ok(line);
            }
            wait(self.channel, &self.limits, self.stream.as_fd(), false, outstanding)?;
        }
    }

    /// The next line if it is already here.
    pub(super) fn try_line(&mut self, outstanding: &str) -> Result<Option<String>, QemuError> {
        let mut buffer = [0; 16 << 10];
        while self.lines.is_empty() {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(self.closed(outstanding)),
                Ok(len) => self.split(&buffer[..len], outstanding)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(&error, outstanding)),
            }
        }
        Ok(self.lines.pop_front())
    }

    fn split(&mut self, mut bytes: &[u8], outstanding: &str) -> Result<(), QemuError> {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(&bytes[..end]);
            let line = String::from_utf8_lossy(&self.partial).trim_end_matches('\r').to_owned();
            self.lines.push_back(line);
            self.partial.clear();
            bytes = &bytes[end + 1..];
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() > LINE_BYTES_MAX {
            let answer = format!("a line of more than {LINE_BYTES_MAX} bytes");
            return Err(QemuError::Protocol {
                channel: self.channel,
                outstanding: outstanding.to_owned(),
                answer,
            });
        }
        Ok(())
    }

    fn closed(&self, outstanding: &str) -> QemuError {
        QemuError::Closed {
            channel: self.channel,
            outstanding: outstanding.to_owned(),
        }
    }

    /// A reset or a broken pipe is QEMU's end too: it died with our bytes unread.
    fn lost(&self, error: &std::io::Error, outstanding: &str) -> QemuError {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => self.closed(outstanding),
            _ => QemuError::io(format!("{} socket", self.channel), error),
        }
    }
}

impl AsFd for LineSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn wait(
    channel: Channel,
    limits: &Limits,
    fd: BorrowedFd<'_>,
    write: bool,
    outstanding: &str,
) -> Result<(), QemuError> {
    let left = limits
        .deadline
        .remaining()
        .ok_or_else(|| limits.timed_out(channel, outstanding))?;
    let interest = |fd, write, token| Interest {
        fd,
        read: true,
        write,
        token,
    };
    let stop = interest(limits.stop.as_fd(), false, 1);
    let [_, stopped] = ready(&[interest(fd, write, 0), stop], Some(left))?;
    if stopped {
        return Err(QemuError::Stopped {
            outstanding: outstanding.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A socket as QEMU's end sees it, and ours.
    pub(in super::super) fn pair(channel: Channel, lifetime: Duration) -> (UnixStream, LineSocket, Arc<Bell>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let stop = Arc::new(Bell::new().unwrap());
        let limits = Limits {
            deadline: Deadline::after(lifetime),
            stop: stop.clone(),
        };
        let socket = LineSocket {
            channel,
            stream: ours,
            limits,
            lines: VecDeque::new(),
            partial: Vec::new(),
        };
        (theirs, socket, stop)
    }

    /// Broken: an answer that arrives in pieces is taken for two, or two in one piece for one.
    #[test]
    fn lines_do_not_depend_on_how_bytes_arrive() {
        let (mut qemu, mut socket, _stop) = pair(Channel::Qmp, Duration::from_secs(5));
        qemu.write_all(b"one\r\ntw").unwrap();
        assert_eq!(socket.line("a").unwrap(), "one");
        assert_eq!(socket.try_line("b").unwrap(), None);
        qemu.write_all(b"o\nthree\n").unwrap();
        assert_eq!(socket.line("b").unwrap(), "two");
        assert_eq!(socket.line("c").unwrap(), "three");
        drop(qemu);
        assert!(matches!(socket.line("d"), Err(QemuError::Closed { outstanding, .. }) if outstanding == "d"));
    }

    /// Broken: a silent QEMU hangs the harness, or a dropped handle waits for it.
    #[test]
    fn waits_end_at_the_deadline_and_on_stop() {
        let (_qemu, mut socket, _stop) = pair(Channel::Qtest, Duration::from_millis(5));
        assert!(
            matches!(socket.line("readb 0x0"), Err(QemuError::TimedOut { outstanding, .. }) if outstanding == "readb 0x0")
        );
        let (_qemu, mut socket, stop) = pair(Channel::Qtest, Duration::from_secs(60));
        stop.ring();
        assert!(matches!(socket.line("x"), Err(QemuError::Stopped { .. })));
    }
}
