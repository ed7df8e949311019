//! What a file descriptor is, and making the ones that messages carry.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{ftruncate, pipe2};

/// A new eventfd: close-on-exec, non-blocking, counter 0.
pub fn eventfd() -> io::Result<OwnedFd> {
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    Ok(event.into())
}

/// Adds 1 to an eventfd, or writes 8 bytes to a pipe. A full counter or pipe is as good as signalled.
pub fn signal_event(fd: BorrowedFd) -> io::Result<()> {
    match nix::unistd::write(fd, &1u64.to_ne_bytes()) {
        Ok(_) | Err(nix::Error::EAGAIN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Takes the counter of an eventfd that polled readable. `Ok(None)`: somebody else was faster, or it is at its end.
/// The descriptor may be shared with a peer that made it blocking, so this is called only after poll said readable.
pub fn drain_event(fd: BorrowedFd) -> io::Result<Option<u64>> {
    let mut counter = [0u8; 8];
    match nix::unistd::read(fd, &mut counter) {
        Ok(8) => Ok(Some(u64::from_ne_bytes(counter))),
        Ok(0) | Err(nix::Error::EAGAIN) => Ok(None),
        Ok(_) => Ok(Some(1)),
        Err(error) => Err(error.into()),
    }
}

/// A new memfd of `size` bytes.
pub fn memfd(name: &str, size: u64) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC)?;
    let size = i64::try_from(size).map_err(|_| io::Error::other("memfd size does not fit"))?;
    ftruncate(&fd, size)?;
    Ok(fd)
}

/// A connected pair of stream sockets, close-on-exec.
pub fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}

/// The read and write end of a pipe, close-on-exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe2(OFlag::O_CLOEXEC)?)
}

/// /dev/null, for reading and writing.
pub fn null() -> io::Result<OwnedFd> {
    Ok(std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?
        .into())
}

/// Sets O_NONBLOCK.
pub fn set_nonblocking(fd: BorrowedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// What kind of file a descriptor refers to, as far as a reader of a trace cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FdType {
    /// An eventfd.
    Eventfd,
    /// A socket.
    Socket,
    /// A memfd.
    Memfd {
        /// Bytes.
        size: u64,
    },
    /// Another regular file (hugetlbfs and tmpfs files too).
    File {
        /// Bytes.
        size: u64,
    },
    /// A pipe.
    Pipe,
    /// A userfaultfd.
    Userfault,
    /// Anything else.
    Other,
}

/// Looks at a descriptor.
pub fn fd_type(fd: BorrowedFd) -> FdType {
    let Ok(stat) = fstat(fd) else { return FdType::Other };
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default();
    let link = link.to_string_lossy();
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFSOCK => FdType::Socket,
        SFlag::S_IFIFO => FdType::Pipe,
        SFlag::S_IFREG if link.starts_with("/memfd:") => FdType::Memfd { size },
        SFlag::S_IFREG => FdType::File { size },
        _ if link.contains("[eventfd]") => FdType::Eventfd,
        _ if link.contains("[userfaultfd]") => FdType::Userfault,
        _ => FdType::Other,
    }
}

impl fmt::Display for FdType {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            FdType::Eventfd => f.write_str("eventfd"),
            FdType::Socket => f.write_str("socket"),
            FdType::Memfd { size } => write!(f, "memfd:{size:#x}"),
            FdType::File { size } => write!(f, "file:{size:#x}"),
            FdType::Pipe => f.write_str("pipe"),
            FdType::Userfault => f.write_str("userfaultfd"),
            FdType::Other => f.write_str("other"),
        }
    }
}

/// A text that is no kind of descriptor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of descriptor")]
pub struct UnknownFdType(pub String);

/// Reads what the display form prints.
impl std::str::FromStr for FdType {
    type Err = UnknownFdType;

    fn from_str(text: &str) -> Result<Self, UnknownFdType> {
        let unknown = || UnknownFdType(text.to_owned());
        let size = |digits: &str| {
            let digits = digits.strip_prefix("0x").ok_or_else(unknown)?;
            u64::from_str_radix(digits, 16).map_err(|_| unknown())
        };
        Ok(match text.split_once(':') {
            Some(("memfd", bytes)) => FdType::Memfd { size: size(bytes)? },
            Some(("file", bytes)) => FdType::File { size: size(bytes)? },
            Some(_) => return Err(unknown()),
            None => match text {
                "eventfd" => FdType::Eventfd,
                "socket" => FdType::Socket,
                "pipe" => FdType::Pipe,
                "userfaultfd" => FdType::Userfault,
                "other" => FdType::Other,
                _ => return Err(unknown()),
            },
        })
    }
}

/// Number of descriptors that this process has open.
pub fn open_fds() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

/// A duplicate, close-on-exec.
pub fn duplicate(fd: &impl AsFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}
