//! Taking ownership of a file descriptor that this process inherited by number. Knows nothing about what it is.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Takes the inherited descriptor `raw`, checks that it is open and sets close-on-exec on it again.
///
/// The standard streams are refused. A number must be taken once only: the caller owns the descriptor afterwards.
///
/// # Errors
/// `InvalidInput` for 0, 1, 2 and negative numbers; `EBADF` if `raw` is not open.
pub fn inherited_fd(raw: RawFd) -> io::Result<OwnedFd> {
    if raw <= libc::STDERR_FILENO {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("descriptor {raw} cannot be taken"),
        ));
    }
    // SAFETY: F_GETFD takes no pointer and is harmless on any number; EBADF is what is looked for.
    if unsafe { libc::fcntl(raw, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `raw` is open (just checked) and was handed to this process by its parent for this single use.
    let owned = unsafe { OwnedFd::from_raw_fd(raw) };
    fcntl(&owned, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(owned)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, IntoRawFd};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn an_open_descriptor_is_taken_and_closes_on_exec_again() {
        let (left, _right) = UnixStream::pair().unwrap();
        fcntl(&left, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let owned = inherited_fd(left.into_raw_fd()).unwrap();
        assert_eq!(fcntl(&owned, FcntlArg::F_GETFD).unwrap(), libc::FD_CLOEXEC);
    }

    #[test]
    fn a_closed_or_standard_descriptor_is_refused() {
        assert!(inherited_fd(1 << 20).is_err());
        assert!(inherited_fd(io::stdin().as_raw_fd()).is_err());
        assert!(inherited_fd(-1).is_err());
    }
}
