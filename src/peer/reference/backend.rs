//! The reference back-end: meets its front-end and lets rust-vmm's `vhost-user-backend` daemon serve a device until the
//! front-end disconnects. It never touches a message itself.

use std::os::unix::net::UnixListener;
use std::sync::{Arc, RwLock};

use vhost::vhost_user::{Error as VhostUserError, Listener};
use vhost_user_backend::{Error as DaemonError, VhostUserDaemon};
use vm_memory::GuestMemoryAtomic;
use vmm_sys_util::epoll::EventSet;

use super::args::{BackendArgs, DeviceKind, FdKind};
use super::blk::Blk;
use super::device::{Device, FaultSlot, Memory, Model};
use super::disk::Disk;
use super::error::ReferenceError;
use super::generic::Generic;
use super::net::Net;
use crate::sys::inherited::inherited_fd;

/// Where the front-end is met.
enum Meeting {
    Listen(Listener),
    Connect(String),
}

/// What is served; a disk outlives its connections.
enum Product {
    Net,
    Blk(Disk),
    Generic,
}

/// A reference back-end that can be connected to: if it listens, it listens already.
pub struct Backend {
    product: Product,
    queues: u16,
    /// Its worker asks on the channel.
    asks: bool,
    meeting: Meeting,
    forever: bool,
}

impl Backend {
    /// Opens the disk and the socket that `args` name.
    ///
    /// # Errors
    /// One of them cannot be used, or the crates cannot do what is asked.
    pub fn new(args: &BackendArgs) -> Result<Self, ReferenceError> {
        Ok(Self {
            product: Product::new(args)?,
            queues: args.queues,
            asks: args.asks,
            meeting: Meeting::new(args)?,
            forever: args.forever,
        })
    }

    /// Serves one connection, or with `--forever` one after the other.
    ///
    /// # Errors
    /// The front-end broke the protocol, or its rings are broken; with `--forever` these two are printed and the next
    /// connection is served. The socket failed.
    pub fn run(mut self) -> Result<(), ReferenceError> {
        while self.forever {
            match self.serve() {
                Err(error @ (ReferenceError::Daemon(_) | ReferenceError::Ring(_))) => {
                    eprintln!("reference-peer: {error}");
                }
                other => other?,
            }
        }
        self.serve()
    }

    fn serve(&mut self) -> Result<(), ReferenceError> {
        serve_one(&self.product, self.queues, self.asks, &mut self.meeting)
    }
}

/// A new device and a new daemon for each connection: the daemon remembers an owner.
fn serve_one(product: &Product, queues: u16, asks: bool, meeting: &mut Meeting) -> Result<(), ReferenceError> {
    let memory = GuestMemoryAtomic::new(Memory::new());
    let faults = Arc::new(FaultSlot::default());
    let mut device = Device::new(product.model(queues), memory.clone(), Arc::clone(&faults))
        .map_err(ReferenceError::system("eventfd"))?;
    if asks {
        device.ask();
    }
    let (resume_fd, resume_token) = device.resume_event();
    let mut daemon = VhostUserDaemon::new("reference-back-end".to_owned(), Arc::new(RwLock::new(device)), memory)
        .map_err(daemon_error)?;
    for handler in daemon.get_epoll_handlers() {
        handler
            .register_listener(resume_fd, EventSet::IN, resume_token)
            .map_err(ReferenceError::system("epoll"))?;
    }
    match meeting {
        Meeting::Listen(listener) => daemon.start(listener).map_err(daemon_error)?,
        Meeting::Connect(path) => daemon.start_client(path).map_err(daemon_error)?,
    }
    if let Some(connection) = daemon.shutdown_handle() {
        faults.guard(connection);
    }
    let ended = daemon.wait();
    if let Some(fault) = faults.take() {
        return Err(ReferenceError::Ring(fault));
    }
    match ended {
        // The crate reports the end of the stream as a partial message, wherever it comes.
        Err(DaemonError::HandleRequest(VhostUserError::PartialMessage | VhostUserError::Disconnected)) => Ok(()),
        other => other.map_err(daemon_error),
    }
}

impl Meeting {
    fn new(args: &BackendArgs) -> Result<Self, ReferenceError> {
        let endpoint = &args.endpoint;
        if let Some(path) = &endpoint.socket {
            let listener = Listener::new(path, true).map_err(|error| ReferenceError::System {
                what: format!("listen on {}", path.display()),
                source: std::io::Error::other(error.to_string()),
            })?;
            return Ok(Self::Listen(listener));
        }
        if let Some(path) = &endpoint.connect {
            if args.forever {
                return Err(ReferenceError::Unsupported(
                    "--forever serves a listening socket; it cannot go with --connect".to_owned(),
                ));
            }
            let path = path.to_str().ok_or_else(|| {
                ReferenceError::Unsupported(format!("--connect {}: the path is not UTF-8", path.display()))
            })?;
            return Ok(Self::Connect(path.to_owned()));
        }
        let fd = endpoint
            .fd
            .ok_or_else(|| ReferenceError::Unsupported("one of --socket, --connect and --fd is needed".to_owned()))?;
        if args.fd_kind == FdKind::Connected {
            // `BackendReqHandler::from_stream` exists, but the handler that the daemon gives it is private to its crate.
            return Err(ReferenceError::Unsupported(
                "vhost-user-backend 0.24 can accept and connect but cannot be given a connected socket: \
                 pass a listening one (--fd-kind listening), --socket or --connect"
                    .to_owned(),
            ));
        }
        let fd = inherited_fd(fd).map_err(ReferenceError::system(format!("--fd {fd}")))?;
        let listener = UnixListener::from(fd);
        // The daemon's accept loop would spin on a non-blocking socket.
        listener
            .set_nonblocking(false)
            .map_err(ReferenceError::system("--fd"))?;
        Ok(Self::Listen(Listener::from(listener)))
    }
}

impl Product {
    fn new(args: &BackendArgs) -> Result<Self, ReferenceError> {
        match (args.device, &args.image) {
            (DeviceKind::Net, None) => Ok(Self::Net),
            (DeviceKind::Generic, None) => Ok(Self::Generic),
            (DeviceKind::Blk, None) => Disk::in_memory(args.capacity)
                .map(Self::Blk)
                .map_err(ReferenceError::system("--capacity")),
            (DeviceKind::Blk, Some(path)) => Disk::open(path).map(Self::Blk).map_err(|source| ReferenceError::Image {
                path: path.clone(),
                source,
            }),
            (_, Some(_)) => Err(ReferenceError::Unsupported("--image is for --device blk".to_owned())),
        }
    }

    fn model(&self, queues: u16) -> Box<dyn Model> {
        match self {
            Self::Net => Box::new(Net::new(queues)),
            Self::Blk(disk) => Box::new(Blk::new(disk.clone(), queues)),
            Self::Generic => Box::new(Generic::new(usize::from(queues))),
        }
    }
}

fn daemon_error(error: DaemonError) -> ReferenceError {
    ReferenceError::Daemon(error.to_string())
}
