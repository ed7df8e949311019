//! Unix stream sockets: listening, connecting, and sends and receives that carry file descriptors (SCM_RIGHTS).

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, connect as nix_connect, recv, shutdown,
    socket as nix_socket,
};

use super::fd::set_nonblocking;

/// The kernel's limit on descriptors in one message (`SCM_MAX_FD`), so none is ever cut off.
pub const FDS_MAX: usize = 253;

/// Longest path that a Unix socket address holds, without its terminating zero.
pub const PATH_MAX: usize = 107;

/// What one receive brought.
#[derive(Debug)]
pub struct Received {
    /// Bytes read; 0 is the end of the stream.
    pub len: usize,
    /// Descriptors that came along, already close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// Further descriptors are lost: this process has no room for them.
    pub lost_fds: bool,
}

/// Room for the descriptors of one message, aligned as control messages have to be.
type ControlBuffer = [u64; CONTROL_WORDS];
const CONTROL_WORDS: usize = (FDS_MAX * size_of::<RawFd>()).div_ceil(8) + 4;

/// Receives once, without blocking. `Ok(None)`: nothing there now.
pub fn receive(socket: BorrowedFd, buffer: &mut [u8]) -> io::Result<Option<Received>> {
    // not nix: it gives no access to the descriptors of a message whose others were lost, so they would stay open for ever
    let mut control = MaybeUninit::<ControlBuffer>::uninit();
    let mut slice = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all zero is a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut slice;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<ControlBuffer>();
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points at one slice and one control buffer, both alive and writable for the lengths given.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let Ok(len) = usize::try_from(len) else {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        };
    };
    Ok(Some(Received {
        len,
        fds: take_fds(&header),
        lost_fds: header.msg_flags & libc::MSG_CTRUNC != 0,
    }))
}

/// The descriptors in a header that recvmsg has just filled in. Called once for each.
fn take_fds(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the header and its control buffer are as the kernel left them, which is what these macros walk over.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: not null, so it points at a whole control message in the buffer.
        let (level, kind, len) = unsafe { ((*next).cmsg_level, (*next).cmsg_type, (*next).cmsg_len) };
        if (level, kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: as above; the data follows the message's head, and the length of both is `len`.
            let data = unsafe { libc::CMSG_DATA(next) }.cast::<RawFd>();
            // SAFETY: only arithmetic.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            for index in 0..len.saturating_sub(head) / size_of::<RawFd>() {
                // SAFETY: within the data; the kernel has just installed this descriptor for us, nothing else owns it.
                fds.push(unsafe { OwnedFd::from_raw_fd(data.add(index).read_unaligned()) });
            }
        }
        // SAFETY: as for the first.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    fds
}

/// Whether the other side has read all that was sent. A socket that cannot tell counts as read.
pub fn is_drained(socket: BorrowedFd) -> bool {
    let mut unread: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the same number as TIOCOUTQ) stores one int through the pointer, which is valid for the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
    done < 0 || unread == 0
}

/// What can be read, up to so many bytes, without taking it.
pub fn peek(socket: BorrowedFd, most: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; most];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let there = match recv(socket.as_raw_fd(), &mut buffer, flags) {
        Ok(bytes) => bytes,
        Err(nix::Error::EAGAIN | nix::Error::EINTR) => 0,
        Err(error) => return Err(error.into()),
    };
    buffer.truncate(there);
    Ok(buffer)
}

/// Says that nothing more will be sent; what the other side sends can still be read.
pub fn end_sending(socket: BorrowedFd) -> io::Result<()> {
    Ok(shutdown(socket.as_raw_fd(), Shutdown::Write)?)
}

/// Whether the other side is gone altogether, as opposed to having only said that it sends nothing more.
pub fn is_hung_up(socket: BorrowedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let polled = poll(&mut fds, PollTimeout::ZERO);
    // a poll that fails tells nothing; the safer answer is the usual one
    polled.is_err() || fds[0].revents().is_none_or(|events| !events.is_empty())
}

/// Sends once, without blocking and without SIGPIPE; descriptors go with the first byte. `Ok(None)`: no room now.
pub fn send(socket: BorrowedFd, bytes: &[u8], fds: &[BorrowedFd]) -> io::Result<Option<usize>> {
    send_any(socket, bytes, fds)
}

/// The same with descriptors of any kind.
pub fn send_any<F: AsRawFd>(socket: BorrowedFd, bytes: &[u8], fds: &[F]) -> io::Result<Option<usize>> {
    if fds.len() > FDS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut control = MaybeUninit::<ControlBuffer>::uninit();
    let mut slice = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all zero is a valid msghdr.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut slice;
    header.msg_iovlen = 1;
    if !fds.is_empty() {
        let len = u32::try_from(fds.len() * size_of::<RawFd>()).unwrap_or(u32::MAX);
        header.msg_control = control.as_mut_ptr().cast();
        // SAFETY: only arithmetic.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(len) } as usize;
        // SAFETY: the control buffer has room for a message's head and FDS_MAX descriptors, and there are no more. What the
        // kernel reads of it is written here.
        unsafe {
            let head = libc::CMSG_FIRSTHDR(&raw const header);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(len) as usize;
            let data = libc::CMSG_DATA(head).cast::<RawFd>();
            for (index, fd) in fds.iter().enumerate() {
                data.add(index).write_unaligned(fd.as_raw_fd());
            }
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header points at one slice and, if at all, one control buffer, which are only read.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
    let Ok(sent) = usize::try_from(sent) else {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        };
    };
    Ok(Some(sent))
}

/// A non-blocking listener on a path.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    check_path(path)?;
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The same on a path where an earlier listener may have left its socket: one on which nobody listens any more is replaced.
/// Something else than a socket never is.
pub fn listen_anew(path: &Path) -> io::Result<UnixListener> {
    check_path(path)?;
    if is_stale(path)? {
        fs::remove_file(path)?;
    }
    listen(path)
}

/// Removes the socket that a listener has made.
pub fn unlink(path: &Path) {
    if is_socket(path) {
        // somebody else may have done so already
        let _ = fs::remove_file(path);
    }
}

fn is_socket(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|data| data.file_type().is_socket())
}

fn is_stale(path: &Path) -> io::Result<bool> {
    if !is_socket(path) {
        return Ok(false);
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = nix_socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    Ok(nix_connect(stream.as_raw_fd(), &UnixAddr::new(path)?) == Err(nix::Error::ECONNREFUSED))
}

/// Connects to a path, without blocking. `Ok(None)`: nobody listens there yet, or has no time for one more.
pub fn connect(path: &Path) -> io::Result<Option<OwnedFd>> {
    check_path(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = nix_socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match nix_connect(stream.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) => Ok(Some(stream)),
        // the last: its backlog is full
        Err(nix::Error::ENOENT | nix::Error::ECONNREFUSED | nix::Error::EAGAIN | nix::Error::EINTR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Accepts a connection that is waiting.
pub fn accept(listener: &UnixListener) -> io::Result<Option<OwnedFd>> {
    match listener.accept() {
        Ok((stream, _)) => {
            set_nonblocking(stream.as_fd())?;
            Ok(Some(stream.into()))
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether a path fits into a socket's address.
pub fn check_path(path: &Path) -> io::Result<()> {
    let len = path.as_os_str().len();
    if len > PATH_MAX {
        let text = format!(
            "socket path of {len} bytes is longer than {PATH_MAX}: {}",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fd;
    use super::*;

    #[test]
    fn descriptors_arrive_close_on_exec() {
        let (a, b) = fd::socket_pair().unwrap();
        let event = fd::eventfd().unwrap();
        assert_eq!(send(a.as_fd(), b"x", &[event.as_fd(), event.as_fd()]).unwrap(), Some(1));
        let mut buffer = [0u8; 8];
        let received = receive(b.as_fd(), &mut buffer).unwrap().unwrap();
        assert_eq!((received.len, received.fds.len()), (1, 2));
        for received_fd in &received.fds {
            assert_eq!(fd::fd_type(received_fd.as_fd()), fd::FdType::Eventfd);
            let flags = nix::fcntl::fcntl(received_fd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        }
        assert!(receive(b.as_fd(), &mut buffer).unwrap().is_none());
        drop(a);
        assert_eq!(receive(b.as_fd(), &mut buffer).unwrap().unwrap().len, 0);
    }

    /// Broken: a program that listens and never accepts stops the harness.
    #[test]
    fn a_full_backlog_is_nobody_there_yet() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        assert!(connect(&path).unwrap().is_none());
        let listener = listen(&path).unwrap();
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let mut held = Vec::new();
        while let Some(stream) = connect(&path).unwrap() {
            held.push(stream);
            assert!(held.len() < 100, "the backlog never fills");
        }
        drop(accept(&listener).unwrap());
        assert!(connect(&path).unwrap().is_some());
    }

    /// Broken: what a killed run leaves is in the way of the next one, or a listener takes what is not its own.
    #[test]
    fn only_a_dead_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let first = listen_anew(&path).unwrap();
        assert_eq!(listen_anew(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(path.exists());
        drop(listen_anew(&path).unwrap());
        unlink(&path);
        assert!(!path.exists());
        fs::write(&path, "mine").unwrap();
        assert_eq!(listen_anew(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        unlink(&path);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn too_long_a_path_is_refused_by_name() {
        let error = listen(Path::new(&"/tmp/x".repeat(30))).unwrap_err();
        assert!(error.to_string().contains("longer than 107"), "{error}");
    }
}
