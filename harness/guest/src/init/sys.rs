//! What the guest asks of its kernel and nix has no words for: raw packets. All `unsafe` of the guest.

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Bytes that may wait in a socket to be read: more than any peer has frames on their way.
const RECEIVE_BYTES: c_int = 64 << 20;

/// Sends and receives the frames of one interface that are of one EtherType.
pub struct Packets(OwnedFd);

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

impl Packets {
    /// On the interface of that name.
    pub fn open(interface: &str, ether_type: u16) -> io::Result<Self> {
        let name = CString::new(interface)?;
        // SAFETY: `name` is a string with its zero, and outlives the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: no memory is passed. The descriptor is nobody else's.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            check(fd as isize)?;
            OwnedFd::from_raw_fd(fd)
        };
        set_option(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            RECEIVE_BYTES,
        )?;
        // SAFETY: all zeroes are a valid value of this plain structure.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ether_type.to_be();
        address.sll_ifindex = index as c_int;
        // SAFETY: the address is one of packet sockets, with its size.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        check(bound as isize)?;
        Ok(Self(socket))
    }

    /// The next frame.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the buffer is as long as is said.
        check(unsafe { libc::recv(self.0.as_raw_fd(), into.as_mut_ptr().cast::<c_void>(), into.len(), 0) })
    }

    /// Sends a frame, and waits for room in the socket.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: as above.
        check(unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast::<c_void>(), frame.len(), 0) })?;
        Ok(())
    }

    /// Frames that came while there was no room in the socket, since the last time.
    pub fn dropped(&self) -> io::Result<u64> {
        // SAFETY: all zeroes are a valid value of this plain structure.
        let mut counted: libc::tpacket_stats = unsafe { zeroed() };
        let mut size = size_of::<libc::tpacket_stats>() as u32;
        // SAFETY: as many bytes are written as `size` says, which is the structure's.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut counted).cast(),
                &raw mut size,
            )
        };
        check(result as isize)?;
        Ok(counted.tp_drops.into())
    }
}

fn set_option(fd: RawFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the value is as long as is said.
    let result = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size_of::<c_int>() as u32) };
    check(result as isize).map(drop)
}

/// Takes an interface up.
pub fn bring_up(interface: &str) -> io::Result<()> {
    // SAFETY: no memory is passed. The descriptor is nobody else's.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        check(fd as isize)?;
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: all zeroes are a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { zeroed() };
    // the last byte stays zero
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: both requests read and write one `ifreq`, and the flags are what the first has written there.
    unsafe {
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) as isize)?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as i16;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) as isize)?;
    }
    Ok(())
}
