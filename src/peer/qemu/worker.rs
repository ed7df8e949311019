//! The handle to a running QEMU: two threads talk to its sockets, the caller's event loop never blocks.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use super::command::Sockets;
use super::error::QemuError;
use super::exchange::{Command, CommandId, Completion};
use super::mailbox::Mailbox;

/// Steers one QEMU. Dropping it ends both threads and closes the sockets (which does not end QEMU).
#[derive(Debug)]
pub struct QemuHandle {
    completions: Arc<Mailbox<Completion>>,
}

impl QemuHandle {
    /// Listens on both sockets. Call before QEMU is started; commands may be submitted at once and run when QEMU is ready.
    /// After `lifetime` nothing more is waited for.
    ///
    /// # Errors
    /// [`QemuError::Io`] if a socket cannot be bound.
    pub fn listen(sockets: &Sockets, lifetime: Duration) -> Result<Self, QemuError> {
        let _ = (sockets, lifetime);
        todo!()
    }

    /// Queues a command. Never blocks.
    pub fn submit(&mut self, command: Command) -> CommandId {
        let _ = command;
        todo!()
    }

    /// Readable while completions wait.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.completions.as_fd()
    }

    /// Everything that was reported since the last call. Never blocks.
    pub fn take_completions(&mut self) -> Vec<Completion> {
        self.completions.take_all().into()
    }
}
