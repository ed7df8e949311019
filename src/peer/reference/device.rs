//! What every device of the reference back-end shares: the `vhost-user-backend` trait implemented once over a [`Model`],
//! and the handling of a ring: taking chains, using them, notifications in both directions. It never looks into a request.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use vhost::vhost_user::{Backend, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::bitmap::BitmapMmapRegion;
use vhost_user_backend::{ShutdownHandle, VhostUserBackendMut, VringRwLock, VringT};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{DescriptorChain, QueueOwnedT, QueueT, Reader, Writer};
use vm_memory::bitmap::BS;
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryLoadGuard, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};
use vmm_sys_util::eventfd::EventFd;

use super::channel::Questions;
use super::error::Fault;

/// The largest ring the back-end accepts.
pub(super) const RING_SIZE_MAX: usize = 1024;
/// Passes over one ring before the worker looks at the other rings again.
const PASSES_MAX: usize = 8;
/// `VHOST_F_LOG_ALL`: the back-end can log its writes, which `LOG_SHMFD` needs.
const VHOST_F_LOG_ALL: u64 = 1 << 26;
/// The configuration space that a front-end may ask for, `VHOST_USER_MAX_CONFIG_SIZE`.
const CONFIG_BYTES_MAX: usize = 256;

/// Guest memory whose writes are logged once SET_LOG_BASE asks for it.
pub(super) type Memory = GuestMemoryMmap<BitmapMmapRegion>;
/// Guest memory that SET_MEM_TABLE and its kin replace.
pub(super) type SharedMemory = GuestMemoryAtomic<Memory>;
/// Guest memory held for the time of one pass.
pub(super) type HeldMemory = GuestMemoryLoadGuard<Memory>;
/// One ring of the daemon.
pub(super) type Vring = VringRwLock<SharedMemory>;
/// One descriptor chain.
pub(super) type Chain = DescriptorChain<HeldMemory>;
/// The device-readable part of a chain.
pub(super) type Readable<'a> = Reader<'a, BS<'a, BitmapMmapRegion>>;
/// The device-writable part of a chain.
pub(super) type Writable<'a> = Writer<'a, BS<'a, BitmapMmapRegion>>;

/// One kind of device: what it offers and what it does with a ring.
pub(super) trait Model: Send + Sync {
    /// How many rings it has.
    fn rings(&self) -> usize;
    /// Its own feature bits; the transport's are added.
    fn features(&self) -> u64;
    /// Its configuration space.
    fn config(&self) -> &[u8];
    /// The front-end writes to the configuration space.
    fn write_config(&mut self, _offset: usize, _bytes: &[u8]) -> io::Result<()> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the configuration space is read-only",
        ))
    }
    /// The driver took these features.
    fn acked(&mut self, _features: u64) {}
    /// RESET_DEVICE.
    fn reset(&mut self) {}
    /// Works on `ring`, a bounded amount; true if it could go on at once.
    fn pass(&mut self, ring: usize, vrings: &[Vring], memory: &HeldMemory) -> Result<bool, Fault>;
}

/// The first fault of a connection, and the means to end the connection because of it.
#[derive(Default)]
pub(super) struct FaultSlot {
    first: Mutex<Option<Fault>>,
    hang_up: OnceLock<ShutdownHandle>,
}

impl FaultSlot {
    /// Names the connection to end; ends it at once if a fault was faster.
    pub(super) fn guard(&self, connection: ShutdownHandle) {
        let connection = self.hang_up.get_or_init(|| connection);
        if self.lock().is_some() {
            connection.shutdown();
        }
    }

    /// Takes the fault, if there was one.
    pub(super) fn take(&self) -> Option<Fault> {
        self.lock().take()
    }

    fn raise(&self, fault: Fault) {
        self.lock().get_or_insert(fault);
        if let Some(connection) = self.hang_up.get() {
            connection.shutdown();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Fault>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A [`Model`] as the `vhost-user-backend` daemon wants it.
pub(super) struct Device {
    model: Box<dyn Model>,
    memory: SharedMemory,
    faults: Arc<FaultSlot>,
    /// Wakes the worker when a ring had more work than one event may do.
    resume: EventFd,
    /// Kept open, so that the front-end does not see its back-end channel close.
    channel: Option<Backend>,
    /// What the worker asks on it, if it does.
    questions: Option<Questions>,
    /// The daemon gives these descriptors away to its epoll and never closes them.
    exit_fds: Mutex<Vec<RawFd>>,
}

impl Device {
    /// A device over the memory that the daemon will fill.
    pub(super) fn new(model: Box<dyn Model>, memory: SharedMemory, faults: Arc<FaultSlot>) -> io::Result<Self> {
        let resume = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        Ok(Self {
            model,
            memory,
            faults,
            resume,
            channel: None,
            questions: None,
            exit_fds: Mutex::new(Vec::new()),
        })
    }

    /// The worker asks on the channel.
    pub(super) fn ask(&mut self) {
        self.questions = Some(Questions::default());
    }

    /// The descriptor and the token to register with the daemon's epoll.
    pub(super) fn resume_event(&self) -> (RawFd, u64) {
        // The token `rings` is the daemon's own exit event.
        (self.resume.as_raw_fd(), self.model.rings() as u64 + 1)
    }

    fn work(&mut self, ring: usize, vrings: &[Vring]) -> Result<(), Fault> {
        if let (Some(questions), Some(channel)) = (&mut self.questions, &self.channel) {
            questions
                .ask(channel)
                .map_err(|source| Fault::Question { ring, source })?;
        }
        let memory = self.memory.memory();
        for _ in 0..PASSES_MAX {
            if !self.model.pass(ring, vrings, &memory)? {
                return Ok(());
            }
        }
        self.resume.write(1).map_err(|source| Fault::Call { ring, source })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Ok(fds) = self.exit_fds.lock() {
            for fd in fds.iter() {
                let _ = nix::unistd::close(*fd);
            }
        }
    }
}

impl VhostUserBackendMut for Device {
    type Bitmap = BitmapMmapRegion;
    type Vring = Vring;

    fn num_queues(&self) -> usize {
        self.model.rings()
    }

    fn max_queue_size(&self) -> usize {
        RING_SIZE_MAX
    }

    fn features(&self) -> u64 {
        self.model.features()
            | 1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | VHOST_F_LOG_ALL
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn acked_features(&mut self, features: u64) {
        self.model.acked(features);
    }

    /// What vhost-user-backend 0.24 serves from end to end. It does not serve STATUS, INFLIGHT_SHMFD and NET_MTU at all;
    /// PAGEFAULT is not compiled in; DEVICE_STATE, SHMEM and SHARED_OBJECT would need a device that has something to say.
    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        let asks = match self.questions {
            Some(_) => VhostUserProtocolFeatures::SHARED_OBJECT,
            None => VhostUserProtocolFeatures::empty(),
        };
        asks | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::LOG_SHMFD
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::BACKEND_REQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::RESET_DEVICE
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
    }

    fn reset_device(&mut self) {
        self.model.reset();
    }

    /// The daemon tells the rings itself; they write `avail_event` in `enable_notification`.
    fn set_event_idx(&mut self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        // A front-end may know a longer, later layout: what this one lacks reads as zero. An empty answer is a refusal.
        let (offset, size) = (offset as usize, size as usize);
        if offset.saturating_add(size) > CONFIG_BYTES_MAX {
            return Vec::new();
        }
        let config = self.model.config();
        (offset..offset + size)
            .map(|at| config.get(at).copied().unwrap_or(0))
            .collect()
    }

    fn set_config(&mut self, offset: u32, bytes: &[u8]) -> io::Result<()> {
        self.model.write_config(offset as usize, bytes)
    }

    fn update_memory(&mut self, _memory: SharedMemory) -> io::Result<()> {
        // `self.memory` is the same object.
        Ok(())
    }

    fn set_backend_req_fd(&mut self, channel: Backend) {
        self.channel = Some(channel);
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        let (consumer, notifier) = new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC).ok()?;
        if let Ok(mut fds) = self.exit_fds.lock() {
            fds.push(consumer.as_raw_fd());
        }
        Some((consumer, notifier))
    }

    fn handle_event(&mut self, event: u16, _set: EventSet, vrings: &[Vring], _thread: usize) -> io::Result<()> {
        // An error returned here would end the worker in silence, so faults end the connection instead.
        let rings = if usize::from(event) < vrings.len() {
            usize::from(event)..usize::from(event) + 1
        } else {
            let _ = self.resume.read();
            0..vrings.len()
        };
        for ring in rings {
            if let Err(fault) = self.work(ring, vrings) {
                self.faults.raise(fault);
            }
        }
        Ok(())
    }
}

/// Whether the ring is started and enabled.
pub(super) fn runs(vring: &Vring) -> bool {
    let state = vring.get_ref();
    state.is_enabled() && state.get_queue().ready()
}

/// Takes the next chain off `vring`; none if it is empty, stopped or disabled.
pub(super) fn next_chain(ring: usize, vring: &Vring, memory: &HeldMemory) -> Result<Option<Chain>, Fault> {
    let mut state = vring.get_mut();
    if !state.is_enabled() {
        return Ok(None);
    }
    match state.get_queue_mut().iter(memory.clone()) {
        Ok(mut chains) => Ok(chains.next()),
        Err(virtio_queue::Error::QueueNotReady) => Ok(None),
        Err(source) => Err(Fault::Ring { ring, source }),
    }
}

/// The two parts of a chain.
pub(super) fn parts<'a>(ring: usize, chain: Chain, memory: &'a Memory) -> Result<(Readable<'a>, Writable<'a>), Fault> {
    let head = chain.head_index();
    let broken = |error: virtio_queue::Error| Fault::Chain {
        ring,
        head,
        what: error.to_string(),
    };
    let readable = Reader::new(memory, chain.clone()).map_err(broken)?;
    let writable = Writer::new(memory, chain).map_err(broken)?;
    Ok((readable, writable))
}

/// Puts a chain into the used ring.
pub(super) fn use_chain(ring: usize, vring: &Vring, head: u16, len: u32) -> Result<(), Fault> {
    vring.add_used(head, len).map_err(|source| Fault::Ring { ring, source })
}

/// Asks the driver not to kick while the ring is being worked on.
pub(super) fn hush(ring: usize, vring: &Vring) -> Result<(), Fault> {
    if !runs(vring) {
        return Ok(());
    }
    vring
        .disable_notification()
        .map_err(|source| Fault::Ring { ring, source })
}

/// Asks the driver to kick again; true if chains arrived meanwhile, for which no kick will come.
///
/// With EVENT_IDX this is what writes `avail_event`: left out, a driver that kicks only when asked falls silent.
pub(super) fn listen(ring: usize, vring: &Vring) -> Result<bool, Fault> {
    if !runs(vring) {
        return Ok(false);
    }
    vring
        .enable_notification()
        .map_err(|source| Fault::Ring { ring, source })
}

/// Calls the driver if it wants to hear of the chains used since the last time.
pub(super) fn call(ring: usize, vring: &Vring) -> Result<(), Fault> {
    if !vring
        .needs_notification()
        .map_err(|source| Fault::Ring { ring, source })?
    {
        return Ok(());
    }
    match vring.signal_used_queue() {
        // The counter is full: the driver has a call to read.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        other => other.map_err(|source| Fault::Call { ring, source }),
    }
}

/// One pass over a ring whose requests are independent: `serve` answers a chain with the number of bytes it wrote.
pub(super) fn pass_over(
    ring: usize,
    vring: &Vring,
    memory: &HeldMemory,
    mut serve: impl FnMut(Readable<'_>, Writable<'_>, u16) -> Result<u32, Fault>,
) -> Result<bool, Fault> {
    hush(ring, vring)?;
    let mut used = false;
    for _ in 0..RING_SIZE_MAX {
        let Some(chain) = next_chain(ring, vring, memory)? else {
            break;
        };
        let head = chain.head_index();
        let (readable, writable) = parts(ring, chain, memory)?;
        let len = serve(readable, writable, head)?;
        use_chain(ring, vring, head, len)?;
        used = true;
    }
    // a driver that is called may stop the ring at once, and `avail_event` cannot be written to a stopped ring any more: it
    // would stay as it is, and the first kick after the restart would not be asked for
    let more = listen(ring, vring)?;
    if used {
        call(ring, vring)?;
    }
    Ok(more)
}
