//! Waiting for many descriptors at once.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};

/// One descriptor to wait for, and the token that tells it apart.
#[derive(Debug)]
pub struct Interest<'a, T> {
    /// What.
    pub fd: BorrowedFd<'a>,
    /// Wait for something to read. A descriptor that waits for nothing is ready when its other side hangs up.
    pub read: bool,
    /// Wait for room to write.
    pub write: bool,
    /// Handed back when it is ready.
    pub token: T,
}

impl<'a, T> Interest<'a, T> {
    /// Waits for something to read.
    pub const fn read(fd: BorrowedFd<'a>, token: T) -> Self {
        Self {
            fd,
            read: true,
            write: false,
            token,
        }
    }
}

/// Waits until there is something to read on one of `fds`, or the time is over. False if nothing is.
pub fn wait_to_read<'a>(fds: impl IntoIterator<Item = BorrowedFd<'a>>, timeout: Option<Duration>) -> io::Result<bool> {
    let interests: Vec<Interest<()>> = fds.into_iter().map(|fd| Interest::read(fd, ())).collect();
    Ok(!wait(&interests, timeout)?.is_empty())
}

/// Waits until one of `interests` is ready or the time is over, and returns the tokens of those that are ready.
pub fn wait<T: Copy>(interests: &[Interest<T>], timeout: Option<Duration>) -> io::Result<Vec<T>> {
    let mut fds: Vec<PollFd> = interests
        .iter()
        .map(|interest| {
            let mut events = PollFlags::empty();
            events.set(PollFlags::POLLIN, interest.read);
            events.set(PollFlags::POLLOUT, interest.write);
            PollFd::new(interest.fd, events)
        })
        .collect();
    // rounded up, so that a deadline has passed when the wait for it ends
    let timeout = match timeout {
        None => PollTimeout::NONE,
        Some(t) => PollTimeout::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX),
    };
    match nix::poll::poll(&mut fds, timeout) {
        Ok(_) => {}
        Err(nix::Error::EINTR) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    let ready = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
    Ok(fds
        .iter()
        .zip(interests)
        .filter(|(fd, _)| ready(fd))
        .map(|(_, interest)| interest.token)
        .collect())
}
