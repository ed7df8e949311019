//! A queue between threads with an eventfd that is readable while the queue holds something, so that `poll(2)` can wait for it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use super::error::QemuError;
use crate::sys::fd;

/// An eventfd: rung by one thread, polled by another.
#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

impl Bell {
    pub(super) fn new() -> Result<Self, QemuError> {
        fd::eventfd()
            .map(Self)
            .map_err(|error| QemuError::io("eventfd", &error))
    }

    /// Makes it readable. It is an eventfd that only this type holds, so this cannot fail in a way that matters.
    pub(super) fn ring(&self) {
        let _ = fd::signal_event(self.0.as_fd());
    }

    /// Takes the readability away; true if it was there.
    fn silence(&self) -> bool {
        matches!(fd::drain_event(self.0.as_fd()), Ok(Some(_)))
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Many producers, one consumer.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    queue: Mutex<VecDeque<T>>,
    bell: Bell,
}

impl<T> Mailbox<T> {
    pub(super) fn new() -> Result<Self, QemuError> {
        Ok(Self {
            queue: Mutex::new(VecDeque::new()),
            bell: Bell::new()?,
        })
    }

    pub(super) fn push(&self, item: T) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(item);
        self.bell.ring();
    }

    /// Everything that waits. The bell is silenced under the lock, so a later push rings again.
    pub(super) fn take_all(&self) -> VecDeque<T> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.bell.silence();
        std::mem::take(&mut *queue)
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken: a consumer that sleeps in poll misses a pushed item, or spins on an empty mailbox.
    #[test]
    fn bell_rings_exactly_while_something_waits() {
        let mailbox = Mailbox::new().unwrap();
        assert!(!mailbox.bell.silence());
        mailbox.push(1);
        mailbox.push(2);
        assert!(mailbox.bell.silence());
        mailbox.push(3);
        assert_eq!(mailbox.take_all(), [1, 2, 3]);
        assert!(!mailbox.bell.silence());
    }
}
