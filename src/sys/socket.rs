//! Unix stream sockets: listening, connecting, and sends and receives that carry file descriptors (SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, sendmsg,
    socket,
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
}

/// Receives once, without blocking. `Ok(None)`: nothing there now.
pub fn receive(socket: BorrowedFd, buffer: &mut [u8]) -> io::Result<Option<Received>> {
    let mut control = nix::cmsg_space!([RawFd; FDS_MAX]);
    let mut slices = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = match recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags) {
        Ok(message) => message,
        Err(nix::Error::EAGAIN | nix::Error::EINTR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut fds = Vec::new();
    for item in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = item {
            for fd in raw {
                // SAFETY: the kernel has just installed this descriptor for us; nothing else owns it.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    Ok(Some(Received {
        len: message.bytes,
        fds,
    }))
}

/// Whether the other side has read all that was sent. A socket that cannot tell counts as read.
pub fn is_drained(socket: BorrowedFd) -> bool {
    let mut unread: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the same number as TIOCOUTQ) stores one int through the pointer, which is valid for the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
    done < 0 || unread == 0
}

/// Sends once, without blocking and without SIGPIPE; descriptors go with the first byte. `Ok(None)`: no room now.
pub fn send(socket: BorrowedFd, bytes: &[u8], fds: &[BorrowedFd]) -> io::Result<Option<usize>> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage] = if raw.is_empty() { &[] } else { &control };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None) {
        Ok(sent) => Ok(Some(sent)),
        Err(nix::Error::EAGAIN | nix::Error::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A non-blocking listener on a path.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    check_path(path)?;
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects to a path. `Ok(None)`: nobody listens there yet, or whoever does accepts none and its backlog is full, where a
/// blocking connect would wait for ever.
pub fn connect(path: &Path) -> io::Result<Option<OwnedFd>> {
    check_path(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match nix::sys::socket::connect(stream.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) => Ok(Some(stream)),
        Err(nix::Error::ENOENT | nix::Error::ECONNREFUSED | nix::Error::EAGAIN | nix::Error::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
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

fn check_path(path: &Path) -> io::Result<()> {
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

    #[test]
    fn too_long_a_path_is_refused_by_name() {
        let error = listen(Path::new(&"/tmp/x".repeat(30))).unwrap_err();
        assert!(error.to_string().contains("longer than 107"), "{error}");
    }
}
