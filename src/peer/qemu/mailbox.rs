//! A queue between threads with an eventfd that is readable while the queue holds something, so that `poll(2)` can wait for it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::error::QemuError;

/// Many producers, one consumer.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    queue: Mutex<VecDeque<T>>,
    bell: EventFd,
}

impl<T> Mailbox<T> {
    pub(super) fn new() -> Result<Self, QemuError> {
        Ok(Self {
            queue: Mutex::new(VecDeque::new()),
            bell: bell()?,
        })
    }

    pub(super) fn push(&self, item: T) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(item);
        ring(&self.bell);
    }

    /// Everything that waits. The bell is silenced under the lock, so a later push rings again.
    pub(super) fn take_all(&self) -> VecDeque<T> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // EAGAIN: nothing had been pushed.
        let _ = self.bell.read();
        std::mem::take(&mut *queue)
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// A new eventfd that never blocks.
pub(super) fn bell() -> Result<EventFd, QemuError> {
    EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
        .map_err(|errno| QemuError::io("eventfd", &errno.into()))
}

/// Makes `bell` readable. EAGAIN means that the counter is full: it is readable already.
pub(super) fn ring(bell: &EventFd) {
    let _ = bell.write(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken: a consumer that sleeps in poll misses a pushed item, or spins on an empty mailbox.
    #[test]
    fn bell_rings_exactly_while_something_waits() {
        let mailbox = Mailbox::new().unwrap();
        assert!(mailbox.bell.read().is_err());
        mailbox.push(1);
        mailbox.push(2);
        assert_eq!(mailbox.take_all(), [1, 2]);
        assert!(mailbox.bell.read().is_err());
    }
}
