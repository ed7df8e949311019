//! Waiting for eventfds by their edges: each signal wakes once and needs no reading, so that a packet that is announced
//! costs its waiter one system call.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::fd::{eventfd, signal_event};

/// Events taken in by one wait; the rest is there for the next.
const EVENTS: usize = 16;

/// A set of eventfds to wait for, and one of its own by which others wake the waiter.
#[derive(Debug)]
pub struct Edges {
    epoll: Epoll,
    own: OwnedFd,
}

impl Edges {
    /// A set with nothing in it.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn new() -> io::Result<Self> {
        let own = eventfd()?;
        let epoll = make(&own, &[])?;
        Ok(Self { epoll, own })
    }

    /// Waits for these from now on. One that is signalled already wakes at once.
    ///
    /// # Errors
    /// There are no descriptors left, or one cannot be waited for.
    pub fn watch(&mut self, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.epoll = make(&self.own, fds)?;
        Ok(())
    }

    /// Waits until one is signalled, or the time is over. It may also wake for nothing.
    ///
    /// # Errors
    /// The kernel refuses, which would be a fault of ours.
    pub fn wait(&self, limit: Option<Duration>) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let timeout = match limit {
            None => EpollTimeout::NONE,
            Some(limit) => EpollTimeout::try_from(limit).unwrap_or(EpollTimeout::MAX),
        };
        match self.epoll.wait(&mut events, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A descriptor that wakes the waiter when it is signalled.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn waker(&self) -> io::Result<Waker> {
        Ok(Waker(self.own.try_clone()?))
    }
}

/// Wakes whoever waits for the edges it belongs to.
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    /// Wakes it now, or when it next waits.
    pub fn wake(&self) {
        // a counter that is full is signalled as well as it can be
        let _ = signal_event(self.0.as_fd());
    }
}

fn make(own: &OwnedFd, fds: &[BorrowedFd<'_>]) -> io::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let event = || EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
    epoll.add(own, event())?;
    for fd in fds {
        match epoll.add(fd, event()) {
            // the same twice
            Ok(()) | Err(nix::Error::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(epoll)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_wakes_once_though_nobody_reads() {
        // Broken: a waiter spins after the first signal, or sleeps through the second.
        let fd = eventfd().unwrap();
        let mut edges = Edges::new().unwrap();
        let waker = edges.waker().unwrap();
        signal_event(fd.as_fd()).unwrap();
        edges.watch(&[fd.as_fd(), fd.as_fd()]).unwrap();
        let wakes = |edges: &Edges| {
            let mut events = [EpollEvent::empty(); EVENTS];
            edges.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap()
        };
        assert_eq!((wakes(&edges), wakes(&edges)), (1, 0));
        signal_event(fd.as_fd()).unwrap();
        assert_eq!((wakes(&edges), wakes(&edges)), (1, 0));
        waker.wake();
        edges.wait(None).unwrap();
        assert_eq!(wakes(&edges), 0);
    }
}
