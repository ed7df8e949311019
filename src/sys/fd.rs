//! What a file descriptor is, and making the ones that messages carry.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::LazyLock;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{ftruncate, pipe2};

/// A new eventfd: close-on-exec, non-blocking, counter 0.
pub fn eventfd() -> io::Result<OwnedFd> {
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    Ok(event.into())
}

/// A new eventfd whose readers wait: close-on-exec, counter 0.
pub fn blocking_eventfd() -> io::Result<OwnedFd> {
    Ok(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC)?.into())
}

/// A new eventfd, blocking or not as another one is.
pub fn eventfd_like(other: BorrowedFd) -> io::Result<OwnedFd> {
    let status = OFlag::from_bits_retain(fcntl(other, FcntlArg::F_GETFL)?);
    let flags = if status.contains(OFlag::O_NONBLOCK) {
        EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK
    } else {
        EfdFlags::EFD_CLOEXEC
    };
    Ok(EventFd::from_value_and_flags(0, flags)?.into())
}

/// Whether there is something to read.
pub fn is_readable(fd: BorrowedFd) -> io::Result<bool> {
    is_ready(fd, PollFlags::POLLIN)
}

/// Adds 1 to an eventfd, or writes 8 bytes to a pipe. A full counter or pipe is as good as signalled.
///
/// The descriptor may be shared with a peer that made it blocking and filled it, so it is written only when it has room.
pub fn signal_event(fd: BorrowedFd) -> io::Result<()> {
    if !is_ready(fd, PollFlags::POLLOUT)? {
        return Ok(());
    }
    match nix::unistd::write(fd, &1u64.to_ne_bytes()) {
        Ok(_) | Err(nix::Error::EAGAIN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Adds 1 to an eventfd without looking whether it has room: one system call. Only for one that does not block, or whose
/// other holders are of this process.
pub fn signal_event_now(fd: BorrowedFd) -> io::Result<()> {
    match nix::unistd::write(fd, &1u64.to_ne_bytes()) {
        Ok(_) | Err(nix::Error::EAGAIN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits until an eventfd that blocks is signalled, and takes its counter.
pub fn wait_event(fd: BorrowedFd) -> io::Result<u64> {
    let mut counter = [0u8; 8];
    loop {
        match nix::unistd::read(fd, &mut counter) {
            Ok(_) => return Ok(u64::from_ne_bytes(counter)),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether reading and writing it never waits.
pub fn is_nonblocking(fd: BorrowedFd) -> bool {
    fcntl(fd, FcntlArg::F_GETFL).is_ok_and(|flags| OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK))
}

/// Takes the counter of an eventfd that polled readable. `Ok(None)`: somebody else was faster.
///
/// The descriptor may be shared with a peer that made it blocking, or watched twice, so it is looked at again before it is
/// read. An error means that it will never give anything, however often it polls readable: it is no eventfd, or at its end.
pub fn drain_event(fd: BorrowedFd) -> io::Result<Option<u64>> {
    let any = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
    if !is_ready(fd, any)? {
        return Ok(None);
    }
    let mut counter = [0u8; 8];
    match nix::unistd::read(fd, &mut counter) {
        Ok(8) => Ok(Some(u64::from_ne_bytes(counter))),
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(None),
        Ok(_) => Ok(Some(1)),
        Err(error) => Err(error.into()),
    }
}

/// Whether a descriptor polls as one of `wanted` now. An error if it cannot be polled at all.
fn is_ready(fd: BorrowedFd, wanted: PollFlags) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd, wanted)];
    nix::poll::poll(&mut fds, PollTimeout::ZERO)?;
    let events = fds[0].revents().unwrap_or(PollFlags::empty());
    if events.contains(PollFlags::POLLNVAL) {
        return Err(nix::Error::EBADF.into());
    }
    Ok(events.intersects(wanted))
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
    let mut room = [0; LINK_BYTES];
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFSOCK => FdType::Socket,
        SFlag::S_IFIFO => FdType::Pipe,
        SFlag::S_IFREG if link_of(fd, &mut room).starts_with(b"/memfd:") => FdType::Memfd { size },
        SFlag::S_IFREG => FdType::File { size },
        // no kind of file at all: what the kernel calls an anonymous inode
        kind if kind.is_empty() && is_silent_eventfd(fd) => FdType::Eventfd,
        _ => match link_of(fd, &mut room).strip_prefix(b"anon_inode:") {
            Some(b"[eventfd]") => FdType::Eventfd,
            Some(b"[userfaultfd]") => FdType::Userfault,
            _ => FdType::Other,
        },
    }
}

/// Whether an anonymous inode is an eventfd that nobody has signalled, without the way through /proc, which takes three times
/// as long: recordings ask this of every kick and call that passes. It takes a write of 8 bytes, and fails for their address
/// before it does anything; it polls writable and nothing else. Timers, signals, epoll, userfaultfd and what belongs to KVM
/// cannot be written at all, fanotify is never writable, vfio is readable as well. If in doubt the answer is no.
fn is_silent_eventfd(fd: BorrowedFd) -> bool {
    // SAFETY: the address is one that the kernel can read nothing from, so it fails with EFAULT or earlier.
    let written = unsafe { libc::write(fd.as_raw_fd(), std::ptr::null(), size_of::<u64>()) };
    if written != -1 || nix::errno::Errno::last() != nix::Error::EFAULT {
        return false;
    }
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN | PollFlags::POLLOUT)];
    let polled = nix::poll::poll(&mut fds, PollTimeout::ZERO);
    polled.is_ok() && fds[0].revents() == Some(PollFlags::POLLOUT)
}

/// As much of the name that /proc gives a descriptor as tells what it is.
const LINK_BYTES: usize = 32;

/// The name that /proc gives a descriptor. From the folder on, which is looked up once.
fn link_of<'a>(fd: BorrowedFd, room: &'a mut [u8; LINK_BYTES]) -> &'a [u8] {
    static FOLDER: LazyLock<Option<OwnedFd>> = LazyLock::new(|| {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        nix::fcntl::open("/proc/self/fd", flags, Mode::empty()).ok()
    });
    let Some(folder) = FOLDER.as_ref() else { return &[] };
    // ten digits, the most that a descriptor has, and a zero
    let (mut name, mut at) = ([0; 11], 10);
    let mut rest = fd.as_raw_fd().unsigned_abs();
    while at == 10 || rest > 0 {
        at -= 1;
        name[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // SAFETY: the name ends with a zero, and the kernel writes no more than the room's bytes.
    let len = unsafe {
        libc::readlinkat(
            folder.as_raw_fd(),
            name[at..].as_ptr().cast(),
            room.as_mut_ptr().cast(),
            room.len(),
        )
    };
    let len = usize::try_from(len).unwrap_or(0);
    &room[..len.min(LINK_BYTES)]
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

/// What tells one file from another: device and inode. Two descriptors of one file give the same.
pub fn file_id(fd: BorrowedFd) -> io::Result<(u64, u64)> {
    let stat = fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// A duplicate, close-on-exec.
pub fn duplicate(fd: &impl AsFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken: a peer that shares a notification descriptor stops the harness by making it blocking.
    #[test]
    fn a_blocking_eventfd_that_is_full_or_empty_stops_nobody() {
        let event: OwnedFd = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).unwrap().into();
        assert_eq!(drain_event(event.as_fd()).unwrap(), None);
        nix::unistd::write(&event, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        signal_event(event.as_fd()).unwrap();
        assert_eq!(drain_event(event.as_fd()).unwrap(), Some(u64::MAX - 1));

        let (_reader, writer) = pipe().unwrap();
        set_nonblocking(writer.as_fd()).unwrap();
        while nix::unistd::write(&writer, &[0; 4096]).is_ok() {}
        let flags = OFlag::from_bits_retain(fcntl(&writer, FcntlArg::F_GETFL).unwrap());
        fcntl(&writer, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).unwrap();
        signal_event(writer.as_fd()).unwrap();
    }

    /// Broken: a trace says of a descriptor what it is not, or an eventfd is changed by being looked at.
    #[test]
    fn each_kind_is_told() {
        use std::os::fd::FromRawFd as _;
        let count = |fd: &OwnedFd| {
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
            info.lines()
                .find(|line| line.starts_with("eventfd-count:"))
                .unwrap()
                .to_owned()
        };
        for (value, flags) in [
            (0, EfdFlags::EFD_CLOEXEC),
            (3, EfdFlags::EFD_NONBLOCK),
            (u32::MAX, EfdFlags::EFD_SEMAPHORE),
        ] {
            let event: OwnedFd = EventFd::from_value_and_flags(value, flags).unwrap().into();
            let before = count(&event);
            assert_eq!(fd_type(event.as_fd()), FdType::Eventfd, "{before}");
            assert_eq!(count(&event), before);
        }
        let full: OwnedFd = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).unwrap().into();
        nix::unistd::write(&full, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        assert_eq!(fd_type(full.as_fd()), FdType::Eventfd);

        let made = |fd: libc::c_int| {
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            // SAFETY: it was made just now, and nothing else owns it.
            unsafe { OwnedFd::from_raw_fd(fd) }
        };
        // SAFETY: a set of no signals is all zero.
        let signals: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: these make descriptors, and read at most the set of signals that is given.
        let others = unsafe {
            [
                libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC),
                libc::epoll_create1(libc::EPOLL_CLOEXEC),
                libc::signalfd(-1, &raw const signals, libc::SFD_CLOEXEC),
                libc::inotify_init1(libc::IN_CLOEXEC),
            ]
        };
        for fd in others.map(made) {
            assert_eq!(fd_type(fd.as_fd()), FdType::Other);
        }
        let (reader, _writer) = pipe().unwrap();
        assert_eq!(fd_type(reader.as_fd()), FdType::Pipe);
        assert_eq!(fd_type(socket_pair().unwrap().0.as_fd()), FdType::Socket);
        assert_eq!(fd_type(null().unwrap().as_fd()), FdType::Other);
        assert_eq!(
            fd_type(memfd("it", 4096).unwrap().as_fd()),
            FdType::Memfd { size: 4096 }
        );
        assert_eq!(fd_type(tempfile::tempfile().unwrap().as_fd()), FdType::File { size: 0 });
    }

    /// Broken: a descriptor that is always readable and gives nothing keeps the loop busy for ever.
    #[test]
    fn what_can_never_be_drained_is_an_error() {
        let (end, other) = socket_pair().unwrap();
        drop(other);
        let (reader, writer) = pipe().unwrap();
        drop(writer);
        let folder: OwnedFd = std::fs::File::open("/").unwrap().into();
        for fd in [end, reader, folder, null().unwrap(), memfd("empty", 0).unwrap()] {
            assert!(drain_event(fd.as_fd()).is_err(), "{:?}", fd_type(fd.as_fd()));
        }
    }
}
