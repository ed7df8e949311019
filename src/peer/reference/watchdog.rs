//! A deadline for requests of the `vhost` crate, whose receive loop swallows the socket's own time-out: a thread that shuts
//! the connection down when an armed deadline passes, so that the blocked call returns.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Watches one connection.
pub(super) struct Watchdog {
    /// Two messages a request: it begins, it ends.
    edges: Option<Sender<()>>,
    expired: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Watches `stream`; each request may take `timeout`.
    pub(super) fn new(stream: UnixStream, timeout: Duration) -> io::Result<Self> {
        let (edges, inbox) = channel();
        let expired = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&expired);
        let thread = thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watch(&inbox, &stream, timeout, &flag))?;
        Ok(Self {
            edges: Some(edges),
            expired,
            thread: Some(thread),
        })
    }

    /// Runs `request` under the deadline; the second value says whether it passed.
    pub(super) fn guard<T>(&self, request: impl FnOnce() -> T) -> (T, bool) {
        self.edge();
        let outcome = request();
        self.edge();
        (outcome, self.expired.load(Ordering::Acquire))
    }

    fn edge(&self) {
        if let Some(edges) = &self.edges {
            // The thread is gone only after it has ended the connection.
            let _ = edges.send(());
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.edges = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(edges: &Receiver<()>, stream: &UnixStream, timeout: Duration, expired: &AtomicBool) {
    while edges.recv().is_ok() {
        match edges.recv_timeout(timeout) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                expired.store(true, Ordering::Release);
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}
