//! The reference front-end: meets its back-end, starts the device, makes its round trips, stops the rings and reports one
//! line. It never judges more than what it asked for.

use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::args::{DeviceKind, Expect, FdKind, FrontendArgs};
use super::error::ReferenceError;
use super::session::{Session, Wish};
use super::{load_blk, load_generic, load_net};
use crate::sys::inherited::inherited_fd;

/// What a front-end did: its one line on stdout.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct FrontendReport {
    /// The device driven: `net`, `blk` or `generic`.
    pub device: &'static str,
    /// Round trips made, every one as it should be.
    pub requests: u64,
    /// Payload bytes of each.
    pub size: u32,
    /// Flushes beside them.
    pub flushes: u64,
    /// Kicks sent.
    pub kicks: u64,
    /// Calls that were waited for; those that came while it was busy are not counted.
    pub calls: u64,
    /// What GET_VRING_BASE answered for each ring, equal to the chains it consumed modulo 65536.
    pub bases: Vec<u16>,
    /// The features negotiated, in hexadecimal.
    pub features: String,
    /// The protocol features negotiated, in hexadecimal.
    pub protocol_features: String,
}

/// Does what `args` say and disconnects.
///
/// # Errors
/// No connection, an unanswered or refused request, a missing call, a wrong completion, a wrong ring base.
pub fn drive(args: &FrontendArgs) -> Result<FrontendReport, ReferenceError> {
    drive_over(connect(args)?, args)
}

/// [`drive`] over a connection that exists already; the endpoint in `args` is not looked at.
///
/// # Errors
/// As [`drive`].
pub fn drive_over(stream: UnixStream, args: &FrontendArgs) -> Result<FrontendReport, ReferenceError> {
    if !args.ring_size.is_power_of_two() {
        return Err(ReferenceError::Unsupported(format!(
            "--ring-size {}: a split ring is a power of two",
            args.ring_size
        )));
    }
    let requests = u64::from(args.requests);
    let mut session = Session::start(stream, wish(args))?;
    let mut flushes = 0;
    match args.device {
        DeviceKind::Net => load_net::drive(&mut session, requests, args.size, args.expect == Expect::Loopback)?,
        DeviceKind::Blk => flushes = load_blk::drive(&mut session, requests, args.size, args.sectors)?,
        DeviceKind::Generic => load_generic::drive(&mut session, requests, args.size)?,
    }
    Ok(FrontendReport {
        device: match args.device {
            DeviceKind::Net => "net",
            DeviceKind::Blk => "blk",
            DeviceKind::Generic => "generic",
        },
        requests,
        size: args.size,
        flushes,
        kicks: session.rings.iter().map(|ring| ring.kicks()).sum(),
        calls: session.calls,
        features: format!("{:#x}", session.features),
        protocol_features: format!("{:#x}", session.protocol.bits()),
        bases: session.stop()?,
    })
}

fn wish(args: &FrontendArgs) -> Wish {
    let queues = usize::from(args.queues);
    let wish = Wish {
        rings: queues,
        ring_size: args.ring_size,
        data_bytes: args.size,
        features: 0,
        config_bytes: 0,
        ask_queue_num: true,
        channel: args.channel,
        timeout: Duration::from_millis(args.timeout_ms),
    };
    match args.device {
        DeviceKind::Net => Wish {
            rings: queues * 2,
            data_bytes: load_net::data_bytes(args.size),
            features: load_net::FEATURES,
            config_bytes: load_net::CONFIG_BYTES,
            // A back-end that counts pairs answers 1 to a front-end that wants one pair, and the crate would then refuse
            // to name the second ring.
            ask_queue_num: queues > 1,
            ..wish
        },
        DeviceKind::Blk => Wish {
            features: load_blk::FEATURES,
            config_bytes: load_blk::CONFIG_BYTES,
            ..wish
        },
        DeviceKind::Generic => wish,
    }
}

fn connect(args: &FrontendArgs) -> Result<UnixStream, ReferenceError> {
    let endpoint = &args.endpoint;
    if let Some(path) = &endpoint.socket {
        return UnixStream::connect(path).map_err(ReferenceError::system(format!("connect to {}", path.display())));
    }
    if let Some(path) = &endpoint.listen {
        return listen(path, args.timeout_ms);
    }
    let fd = endpoint
        .fd
        .ok_or_else(|| ReferenceError::Unsupported("one of --socket, --listen and --fd is needed".to_owned()))?;
    let owned = inherited_fd(fd).map_err(ReferenceError::system(format!("--fd {fd}")))?;
    match args.fd_kind {
        FdKind::Listening => accept(&UnixListener::from(owned), args.timeout_ms),
        FdKind::Connected => {
            let stream = UnixStream::from(owned);
            // The crate's receive loop would spin on a non-blocking socket.
            stream
                .set_nonblocking(false)
                .map_err(ReferenceError::system(format!("--fd {fd}")))?;
            Ok(stream)
        }
    }
}

fn listen(path: &Path, timeout_ms: u64) -> Result<UnixStream, ReferenceError> {
    let listener = UnixListener::bind(path).map_err(ReferenceError::system(format!("listen on {}", path.display())))?;
    let accepted = accept(&listener, timeout_ms);
    let _ = std::fs::remove_file(path);
    accepted
}

fn accept(listener: &UnixListener, timeout_ms: u64) -> Result<UnixStream, ReferenceError> {
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(timeout_ms).unwrap_or(PollTimeout::MAX);
    let ready = poll(&mut fds, timeout).map_err(|error| ReferenceError::system("poll")(error.into()))?;
    if ready == 0 {
        return Err(ReferenceError::NoConnection { timeout_ms });
    }
    let (stream, _) = listener.accept().map_err(ReferenceError::system("accept"))?;
    Ok(stream)
}
