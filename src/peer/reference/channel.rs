//! The back-end channel of the reference peers: a front-end's thread that serves it with the crate's `FrontendReqHandler`,
//! and a back-end's questions through the crate's `Backend`.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nix::sys::socket::{Shutdown, shutdown};
use vhost::vhost_user::message::{VhostUserMMap, VhostUserSharedMsg};
use vhost::vhost_user::{Backend, Error as VhostUserError, FrontendReqHandler, VhostUserFrontendReqHandler};
use vm_memory::ByteValued;

/// Objects and mappings that are kept, at most.
const KEPT_MAX: usize = 4096;

/// What the back-end has asked for and was granted.
#[derive(Default)]
struct Granted {
    objects: Vec<[u8; 16]>,
    /// Ends of mappings by region and start.
    mappings: BTreeMap<(u8, u64), u64>,
}

/// The front-end's answers.
#[derive(Default)]
struct Answers {
    granted: Mutex<Granted>,
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, Granted> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VhostUserFrontendReqHandler for Answers {
    fn handle_config_change(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn shared_object_add(&self, object: &VhostUserSharedMsg) -> io::Result<u64> {
        let (uuid, mut granted) = (name(object), self.lock());
        if granted.objects.contains(&uuid) || granted.objects.len() >= KEPT_MAX {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        granted.objects.push(uuid);
        Ok(0)
    }

    fn shared_object_remove(&self, object: &VhostUserSharedMsg) -> io::Result<u64> {
        let (uuid, mut granted) = (name(object), self.lock());
        let at = granted.objects.iter().position(|known| *known == uuid);
        granted.objects.swap_remove(at.ok_or(io::ErrorKind::NotFound)?);
        Ok(0)
    }

    fn shmem_map(&self, wanted: &VhostUserMMap, _file: &dyn AsRawFd) -> io::Result<u64> {
        let (region, start, length) = (wanted.shmid, wanted.shm_offset, wanted.len);
        let end = start.checked_add(length).ok_or(io::ErrorKind::InvalidInput)?;
        let mut granted = self.lock();
        let meets = |((id, from), to): (&(u8, u64), &u64)| *id == region && *from < end && start < *to;
        if granted.mappings.iter().any(meets) || granted.mappings.len() >= KEPT_MAX {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        granted.mappings.insert((region, start), end);
        Ok(0)
    }

    fn shmem_unmap(&self, gone: &VhostUserMMap) -> io::Result<u64> {
        let (region, start, length) = (gone.shmid, gone.shm_offset, gone.len);
        let mut granted = self.lock();
        let known = granted.mappings.get(&(region, start)).copied();
        if known != start.checked_add(length) || known.is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        granted.mappings.remove(&(region, start));
        Ok(0)
    }
}

fn name(object: &VhostUserSharedMsg) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(object.as_slice());
    uuid
}

/// A front-end's channel, served by a thread of its own.
pub(super) struct Channel {
    /// The end that is passed to the back-end, and the one that is served. Both are the handler's, which the thread gives back
    /// when it ends: until then they are open.
    passed: RawFd,
    served: RawFd,
    thread: Option<JoinHandle<FrontendReqHandler<Answers>>>,
}

impl Channel {
    /// Makes the socket pair and serves one end of it.
    ///
    /// # Errors
    /// No socket, no thread.
    pub(super) fn serve(reply_ack: bool) -> io::Result<Self> {
        let handler = FrontendReqHandler::new(Arc::new(Answers::default()));
        let mut handler = handler.map_err(|error| io::Error::other(error.to_string()))?;
        handler.set_reply_ack_flag(reply_ack);
        let (passed, served) = (handler.get_tx_raw_fd(), handler.as_raw_fd());
        let thread = std::thread::Builder::new().name("channel".to_owned()).spawn(move || {
            // A refusal is an answer; anything else ends the channel.
            while let Ok(_) | Err(VhostUserError::ReqHandlerError(_)) = handler.handle_request() {}
            handler
        })?;
        Ok(Self {
            passed,
            served,
            thread: Some(thread),
        })
    }

    /// The descriptor for SET_BACKEND_REQ_FD.
    pub(super) fn passed(&self) -> &RawFd {
        &self.passed
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // The thread sees the end of the stream and leaves.
        let _ = shutdown(self.served, Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The questions of a back-end's worker: an object is announced before each turn of a ring.
#[derive(Default)]
pub(super) struct Questions {
    asked: u64,
    /// The channel is broken, as it is once the front-end has gone.
    broken: bool,
}

impl Questions {
    /// Announces the next object and waits for the answer, if one is given.
    ///
    /// # Errors
    /// The front-end refused.
    pub(super) fn ask(&mut self, channel: &Backend) -> io::Result<()> {
        if self.broken {
            return Ok(());
        }
        self.asked += 1;
        let mut object = VhostUserSharedMsg::default();
        object.as_mut_slice()[8..].copy_from_slice(&self.asked.to_be_bytes());
        object.as_mut_slice()[..8].fill(0x5a);
        let Err(error) = channel.shared_object_add(&object) else {
            return Ok(());
        };
        let refused = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<VhostUserError>())
            .is_some_and(|inner| matches!(inner, VhostUserError::FrontendInternalError));
        self.broken = !refused;
        if refused { Err(error) } else { Ok(()) }
    }
}
