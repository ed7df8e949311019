//! Ctrl-C and SIGTERM as something to poll: the run ends, cleans up after itself, and the process then exits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::fd::{drain_event, eventfd};

static EVENT: OnceLock<OwnedFd> = OnceLock::new();
static EVENT_RAW: AtomicI32 = AtomicI32::new(-1);
static SAVE: OnceLock<OwnedFd> = OnceLock::new();
static SAVE_RAW: AtomicI32 = AtomicI32::new(-1);
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Installs the handlers, once for the process. A third signal ends the process at once.
pub fn install() -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let event = eventfd()?;
    EVENT_RAW.store(event.as_raw_fd(), Ordering::SeqCst);
    if EVENT.set(event).is_err() {
        return Ok(());
    }
    let action = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only uses atomics, write(2) and _exit(2), which are async-signal-safe.
        unsafe { sigaction(signal, &action)? };
    }
    Ok(())
}

/// Takes SIGUSR1 as a wish to have written what is only in memory; once for the process.
pub fn install_save() -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let event = eventfd()?;
    SAVE_RAW.store(event.as_raw_fd(), Ordering::SeqCst);
    if SAVE.set(event).is_err() {
        return Ok(());
    }
    let action = SigAction::new(SigHandler::Handler(on_save), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler only uses an atomic and write(2), which are async-signal-safe.
    unsafe { sigaction(Signal::SIGUSR1, &action)? };
    Ok(())
}

/// Readable while such a wish is open; `None` if no handler is installed.
pub fn save_fd() -> Option<BorrowedFd<'static>> {
    SAVE.get().map(AsFd::as_fd)
}

/// Takes the wish.
pub fn take_save() {
    if let Some(fd) = save_fd() {
        // nothing there means that it was taken already
        let _ = drain_event(fd);
    }
}

extern "C" fn on_save(_signal: libc::c_int) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: the descriptor is never closed once stored; write is async-signal-safe; the buffer is 8 bytes long.
    unsafe { libc::write(SAVE_RAW.load(Ordering::SeqCst), one.as_ptr().cast(), one.len()) };
}

/// Readable once the process has been asked to stop; `None` if no handler is installed.
pub fn interrupt_fd() -> Option<BorrowedFd<'static>> {
    EVENT.get().map(AsFd::as_fd)
}

/// Whether the process has been asked to stop.
pub fn interrupted() -> bool {
    COUNT.load(Ordering::SeqCst) > 0
}

extern "C" fn on_signal(signal: libc::c_int) {
    if COUNT.fetch_add(1, Ordering::SeqCst) >= 2 {
        // SAFETY: _exit is async-signal-safe and does not return.
        unsafe { libc::_exit(128 + signal) };
    }
    let one = 1u64.to_ne_bytes();
    // SAFETY: the descriptor is never closed once stored; write is async-signal-safe; the buffer is 8 bytes long.
    unsafe { libc::write(EVENT_RAW.load(Ordering::SeqCst), one.as_ptr().cast(), one.len()) };
}
