//! The simulated front-end: owns guest memory and the driver's side of the rings, and does the handshake as a queue of
//! tasks, one request at a time.

mod again;
mod ask;
mod channel;
mod data;
mod loan;
mod migrate;
mod pci;
mod setup;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::Output;
use super::answer::{Answer, Scripts};
use super::wanted::{Composed, Status, Wanted};
use crate::memory::{
    Backing, GuestMemory, Inflight, InflightFormat, MemoryError, MemoryOptions, RegionLayout, UserAddresses,
};
use crate::peer::device::blk::BlkOutcome;
use crate::peer::device::{BufferPool, DeviceError};
use crate::ring::{Layout, RingDriver, RingError, SplitLayout};
use crate::wire::features::RING_PACKED;
use crate::wire::{Channel, Dialect, Due, FieldError, Message, Payload, ProtocolFeature, id};
use data::Pending;
use setup::Task;

pub use channel::{IOVA_BASE, Serving};
pub use pci::MasterConfig;
pub use setup::Goal;

/// Guest address of the first region. Not 0, so that a guest address taken for an offset is noticed.
const MEMORY_BASE: u64 = 0x10_0000;
/// Between two regions, so that they do not touch.
const MEMORY_GAP: u64 = 0x10_0000;
/// User addresses are guest addresses plus this: the same in every run, and never equal to a guest address.
const USER_BASE: u64 = 0x7f00_0000_0000;
/// Room kept for rings at the start of the first region.
const RING_AREA_ALIGN: u64 = 0x1000;
/// Requests of the script that wait for their reply, at most.
const OUTSTANDING_MAX: usize = 4096;

/// VIRTIO_RING_F_EVENT_IDX.
const F_EVENT_IDX: u64 = 1 << 29;
/// VHOST_USER_F_PROTOCOL_FEATURES.
const F_PROTOCOL_FEATURES: u64 = 1 << 30;

/// How a simulated front-end looks.
#[derive(Debug, Clone)]
pub struct FrontConfig {
    /// What it speaks.
    pub dialect: Dialect,
    /// Rings it uses.
    pub queues: u16,
    /// Descriptors a ring.
    pub ring_size: u16,
    /// Feature bits it acknowledges if they are offered.
    pub features: u64,
    /// Protocol feature bits it acknowledges if they are offered.
    pub protocol_features: u64,
    /// Bytes of guest memory in all.
    pub memory_size: u64,
    /// Regions of equal size.
    pub regions: u16,
    /// All regions in one file.
    pub one_file: bool,
    /// Memory on huge pages.
    pub huge_pages: bool,
    /// A kick eventfd is signalled before it is passed on (VU-RING-14).
    pub kick_on_start: bool,
    /// Requests on the channel that it leaves for `reply`.
    pub manual: Vec<u32>,
    /// What it says of itself as a vhost-pci master.
    pub master: Option<MasterConfig>,
    /// Scripted answers on the channel by request id.
    pub answers: Vec<(u32, Answer)>,
    /// When it serves the channel.
    pub serving: Serving,
    /// Bytes of configuration space that its driver reads.
    pub config_bytes: u32,
    /// It asks for an inflight area, and hands it to each back-end.
    pub keeps_inflight: bool,
}

/// Who made a request on the main socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    /// A step that sends.
    Script,
    /// A task of the front-end's own, which expectations do not see.
    Own,
    /// A step that asks; the status that is wanted.
    Step(Status),
    /// A handler of a request of the back-end.
    Handler,
    /// News of the back-end that are looked into.
    News,
}

/// Why a front-end cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A ring, or the back-end's handling of it.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A ring that holds chains was negotiated to be of the other kind.
    #[error("ring {ring} holds chains, and was negotiated to be of another kind")]
    RingInUse {
        /// The ring.
        ring: u16,
    },
    /// A request or its outcome.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A system call.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// Writes cannot be logged, or are not.
    #[error("nothing logs what is written: the back-end offers no LOG_ALL with LOG_SHMFD, or was not told to")]
    NoLog,
    /// It has no inflight area to hand out.
    #[error("the back-end has handed out no inflight area")]
    NoInflight,
    /// The back-end said no.
    #[error("the back-end refused {request}: status {status:#x}")]
    Refused {
        /// The request as sent.
        request: String,
        /// The answer.
        status: u64,
    },
    /// A reply that does not answer the oldest request that waits for one.
    #[error("{reply} came while the oldest request without a reply was {request}")]
    OutOfOrder {
        /// The reply.
        reply: String,
        /// The request.
        request: String,
    },
    /// The reply has another payload than the request allows.
    #[error("{reply} does not answer {request}")]
    WrongPayload {
        /// The reply.
        reply: String,
        /// The request.
        request: String,
    },
    /// The rings do not fit.
    #[error("{queues} rings of {size} descriptors need {needed:#x} bytes, the first region has {room:#x}")]
    NoRoom {
        /// Rings.
        queues: u16,
        /// Descriptors of each.
        size: u16,
        /// Bytes needed.
        needed: u64,
        /// Bytes there are.
        room: u64,
    },
    /// There is no such ring.
    #[error("there is no ring {ring}, only {queues}")]
    NoRing {
        /// Asked for.
        ring: u16,
        /// There are.
        queues: u16,
    },
    /// Frames of before are still on the ring.
    #[error("ring {0} still holds buffers of something else")]
    InUse(u16),
    /// Somebody else moves frames over the ring.
    #[error("ring {0} is for deliveries with a load of their own (`burst`, `notify`, `for`)")]
    Lent(u16),
    /// The ring has not been started, so there is no kick eventfd.
    #[error("ring {0} has no kick eventfd: it has not been started")]
    NoKick(u16),
    /// There is no such region.
    #[error("there is no region at {0:#x}")]
    NoRegion(u64),
    /// No request of that name is open.
    #[error("no request {0} of the back-end waits for a reply")]
    NothingOpen(u32),
    /// A scripted answer does not fit.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A request of the back-end cannot be carried out.
    #[error("{0}")]
    ChannelRequest(String),
    /// A request cannot be composed as things are.
    #[error("{request} cannot be made: {why}")]
    CannotAsk {
        /// The request.
        request: String,
        /// What is missing.
        why: String,
    },
    /// A wait within a wait got the reply that the outer one is for.
    #[error("expected {expected} received {received}: the reply to {request} was read by a wait for another one")]
    Crossed {
        /// Request id that was waited for.
        expected: u32,
        /// Request id of the reply.
        received: u32,
        /// The request that the reply is for.
        request: String,
    },
}

/// One ring, the driver's side.
#[derive(Debug)]
struct FrontRing {
    driver: RingDriver,
    /// The device was reset, and the ring not started since.
    reset: bool,
    kick: Option<Arc<OwnedFd>>,
    call: Option<Arc<OwnedFd>>,
    /// It was started without a kick eventfd: VRING_KICK kicks it.
    in_band: bool,
    /// What GET_VRING_BASE returned last, until the ring is started again.
    base: Option<u32>,
    /// Somebody else moves frames over it, and this is what the device has used.
    lent: Option<u32>,
    pending: BTreeMap<u16, Pending>,
    /// Indirect tables of those, each with the pool that it is of.
    tables: BTreeMap<u16, (u64, u64)>,
}

/// A simulated front-end.
#[derive(Debug)]
pub struct SimFront {
    config: FrontConfig,
    memory: GuestMemory,
    /// Room for buffers, by the guest address of its region; the last is used first.
    pools: Vec<(u64, BufferPool)>,
    rings: Vec<FrontRing>,
    offered: u64,
    features: u64,
    protocol_offered: u64,
    protocol_features: u64,
    tasks: VecDeque<Task>,
    done: Option<Goal>,
    /// Requests whose reply has to come, oldest first.
    outstanding: VecDeque<(Message, Asker)>,
    /// Requests that wait until the main socket is free for them.
    prepared: VecDeque<(Composed, Asker)>,
    /// Requests that steps ask for, to be composed when the main socket is free.
    wanted: VecDeque<Wanted>,
    open: VecDeque<Message>,
    channel: channel::ChannelState,
    scripts: Scripts,
    /// The step for which a request is being composed.
    for_step: Option<Wanted>,
    failure: Option<FrontError>,
    frames: VecDeque<(u16, Vec<u8>)>,
    blk_results: BTreeMap<u64, Result<BlkOutcome, String>>,
    echo_results: BTreeMap<u64, Result<(), String>>,
    serial: u64,
    last_base: Option<u32>,
    /// It is a vhost-pci master.
    master: Option<pci::Master>,
    /// It plays a recording: what that has said of its rings so far.
    announced: Option<Vec<again::Announced>>,
    /// What only the device writes, by guest address and bytes.
    device_writes: Vec<(u64, u64)>,
    migration: Option<migrate::Migration>,
    /// The inflight area that a back-end handed out.
    inflight: Option<(OwnedFd, crate::wire::Inflight, InflightFormat)>,
    outputs: VecDeque<Output>,
}

impl SimFront {
    /// A front-end with its memory and rings laid out.
    pub fn new(config: FrontConfig) -> Result<Self, FrontError> {
        let region_size = (config.memory_size / u64::from(config.regions.max(1))).next_multiple_of(0x1000);
        let layout: Vec<RegionLayout> = (0..u64::from(config.regions.max(1)))
            .map(|i| RegionLayout {
                guest_address: MEMORY_BASE + i * (region_size + MEMORY_GAP),
                size: region_size,
            })
            .collect();
        let backing = if config.one_file {
            Backing::OneFile
        } else {
            Backing::PerRegion
        };
        let first_offset = if config.one_file { 0x1000 } else { 0 };
        let options = MemoryOptions {
            backing,
            user_addresses: UserAddresses::Synthetic(USER_BASE),
            first_offset,
            huge_pages: config.huge_pages,
        };
        let memory = GuestMemory::new(&layout, options)?;
        Self::on(config, memory)
    }

    /// Another device of the same guest: it has the same memory, and uses another part of it.
    pub fn beside(config: FrontConfig, other: &Self) -> Result<Self, FrontError> {
        let memory = other.memory.share()?;
        Self::on(config, memory)
    }

    /// A front-end on memory that is there.
    fn on(mut config: FrontConfig, memory: GuestMemory) -> Result<Self, FrontError> {
        let (part, parts) = config.master.as_ref().map_or((0, 1), |master| master.part);
        let whole = memory.regions().first().map_or(0, |region| region.size);
        let own = (whole / parts.max(1) as u64) & !(RING_AREA_ALIGN - 1);
        let base = MEMORY_BASE + part as u64 * own;
        let mut rings = Vec::new();
        let mut next = base;
        for _ in 0..config.queues {
            let (ring, bytes) = SplitLayout::pack_at(next, config.ring_size)?;
            next = (next + bytes).next_multiple_of(RING_AREA_ALIGN);
            if next > base + own {
                let (queues, size) = (config.queues, config.ring_size);
                return Err(FrontError::NoRoom {
                    queues,
                    size,
                    needed: next - base,
                    room: own,
                });
            }
            let mut driver = RingDriver::with_base(Layout::Split(ring), 0)?;
            driver.init(&memory)?;
            rings.push(FrontRing {
                driver,
                reset: false,
                kick: None,
                call: None,
                in_band: false,
                base: None,
                lent: None,
                pending: BTreeMap::new(),
                tables: BTreeMap::new(),
            });
        }
        let mut pools = vec![(MEMORY_BASE, BufferPool::new(next, base + own - next))];
        let others = memory.regions().iter().skip(1).filter(|_| part == 0);
        pools.extend(others.map(|r| (r.guest_address, BufferPool::new(r.guest_address, r.size))));
        let master = config.master.clone().map(pci::Master::new);
        let scripts = Scripts::new(std::mem::take(&mut config.answers));
        Ok(Self {
            config,
            master,
            memory,
            pools,
            rings,
            offered: 0,
            features: 0,
            protocol_offered: 0,
            protocol_features: 0,
            tasks: VecDeque::new(),
            done: None,
            outstanding: VecDeque::new(),
            prepared: VecDeque::new(),
            wanted: VecDeque::new(),
            open: VecDeque::new(),
            channel: channel::ChannelState::default(),
            scripts,
            for_step: None,
            failure: None,
            frames: VecDeque::new(),
            blk_results: BTreeMap::new(),
            echo_results: BTreeMap::new(),
            serial: 0,
            last_base: None,
            announced: None,
            device_writes: Vec::new(),
            migration: None,
            inflight: None,
            outputs: VecDeque::new(),
        })
    }

    /// A new connection: nothing is negotiated; memory and rings keep their content.
    pub fn connected(&mut self) {
        self.offered = 0;
        self.features = 0;
        self.protocol_offered = 0;
        self.protocol_features = 0;
        self.tasks.clear();
        self.done = None;
        self.outstanding.clear();
        self.prepared.clear();
        self.wanted.clear();
        self.open.clear();
        self.channel = channel::ChannelState::default();
        self.scripts.connected();
        self.failure = None;
        self.forget_conn_id();
        for ring in &mut self.rings {
            (ring.kick, ring.call, ring.in_band) = (None, None, false);
        }
    }

    /// What it wants done next.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether tasks are left, or a request of its own waits for its reply.
    pub fn is_busy(&self) -> bool {
        !self.tasks.is_empty() || self.outstanding.iter().any(|(_, asker)| *asker == Asker::Own)
    }

    /// Whether a request that a step asked for waits for its reply, or for its turn.
    pub fn is_asking(&self) -> bool {
        let of_step = |asker: &Asker| matches!(asker, Asker::Step(_));
        let waits = self.outstanding.iter().any(|(_, asker)| of_step(asker));
        waits || !self.wanted.is_empty() || self.prepared.iter().any(|(_, asker)| of_step(asker))
    }

    /// What its tasks wait for, in words.
    pub fn waits_for(&self) -> Option<String> {
        self.outstanding
            .iter()
            .find(|(_, asker)| *asker != Asker::Script)
            .map(|(request, _)| format!("the reply to {request}"))
    }

    /// Why its tasks stopped, once.
    pub fn take_failure(&mut self) -> Option<FrontError> {
        self.failure.take()
    }

    /// Features offered, acknowledged, and the same for protocol features.
    pub fn features(&self) -> [u64; 4] {
        [
            self.offered,
            self.features,
            self.protocol_offered,
            self.protocol_features,
        ]
    }

    /// Keeps the area that a reply to GET_INFLIGHT_FD has brought.
    fn keep_inflight(&mut self, message: &Message, fds: &mut Vec<OwnedFd>) {
        if let Payload::Inflight(area) = &message.payload
            && !fds.is_empty()
        {
            let format = match self.features & RING_PACKED {
                0 => InflightFormat::Split,
                _ => InflightFormat::Packed,
            };
            self.inflight = Some((fds.swap_remove(0), *area, format));
        }
    }

    /// What is asked of GET_INFLIGHT_FD.
    fn wanted_inflight(&self) -> crate::wire::Inflight {
        crate::wire::Inflight {
            num_queues: self.config.queues,
            queue_size: self.config.ring_size,
            ..crate::wire::Inflight::default()
        }
    }

    /// The inflight area, if the back-end has handed one out.
    pub fn inflight(&self) -> Option<(OwnedFd, crate::wire::Inflight)> {
        let (fd, area, _) = self.inflight.as_ref()?;
        Some((fd.try_clone().ok()?, *area))
    }

    /// The same, mapped to look at it.
    pub fn look_at_inflight(&self) -> Option<Result<Inflight, MemoryError>> {
        let (fd, area) = self.inflight()?;
        let (_, _, format) = self.inflight.as_ref()?;
        let (queues, size) = (area.num_queues, area.queue_size);
        Some(Inflight::map_to_look(
            fd,
            *format,
            area.mmap_offset,
            area.mmap_size,
            queues,
            size,
        ))
    }

    /// Guest memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The base that the last ring stopped returned.
    pub fn last_base(&self) -> Option<u32> {
        self.last_base
    }

    /// Call eventfds to watch, by ring.
    pub fn watches(&self) -> impl Iterator<Item = (u16, BorrowedFd<'_>)> {
        self.rings
            .iter()
            .enumerate()
            .filter(|(_, ring)| ring.lent.is_none())
            .filter_map(|(i, ring)| Some((i as u16, ring.call.as_ref()?.as_fd())))
    }

    /// A ring's call descriptor is of no use: it is not watched any more.
    pub fn forget_call(&mut self, ring: u16) {
        if let Some(ring) = self.rings.get_mut(usize::from(ring)) {
            ring.call = None;
        }
    }

    /// A message of the script was sent in this front-end's name. What it negotiates is taken note of.
    pub fn sent(&mut self, message: &Message) {
        self.note_request(message, Asker::Script);
    }

    /// Eventfds of a script's own SET_VRING_KICK or SET_VRING_CALL become the ring's, so that it is kicked and seen through them.
    pub fn adopt(&mut self, message: &Message, fds: &[OwnedFd]) -> Result<(), FrontError> {
        let (Payload::VringFd(value), [fd]) = (&message.payload, fds) else {
            return Ok(());
        };
        let index = usize::from(value.index);
        if index >= self.rings.len() {
            return Ok(());
        }
        let fd = crate::sys::fd::duplicate(fd)?;
        match message.request {
            id::frontend::SET_VRING_KICK => self.rings[index].kick = Some(Arc::new(fd)),
            id::frontend::SET_VRING_CALL => {
                // a call that still waits in the old eventfd goes with it
                self.called(u16::from(value.index))?;
                self.rings[index].call = Some(Arc::new(fd));
            }
            _ => {}
        }
        Ok(())
    }

    /// A message arrived. True if it answers a request of this front-end's own, so that no step needs to see it.
    pub fn message(&mut self, message: &Message, mut fds: Vec<OwnedFd>) -> bool {
        if message.channel == Channel::Backend {
            self.channel_request(message, fds);
            return false;
        }
        if !message.is_reply() {
            self.slave_request(message);
            return false;
        }
        if self.mistakes_reply(message) {
            return false;
        }
        if message.request == id::frontend::GET_INFLIGHT_FD {
            self.keep_inflight(message, &mut fds);
        }
        let at = match self.asked_by(message) {
            Ok(Some(at)) => at,
            Ok(None) => return false,
            Err(error) => {
                self.fail(error);
                return false;
            }
        };
        let Some((request, asker)) = self.outstanding.remove(at) else {
            return false;
        };
        self.note_reply(&request, message);
        let accepted = match asker {
            Asker::Own => self.accept(&request, message),
            Asker::Step(status) => self.accept_asked(&request, message, status),
            Asker::Handler => {
                self.handler_answered(Some(message), fds);
                Ok(())
            }
            Asker::Script | Asker::News => Ok(()),
        };
        if let Err(error) = accepted {
            self.fail(error);
        }
        self.go_on();
        asker == Asker::Own
    }

    /// Which of the requests under way a reply answers.
    fn asked_by(&self, reply: &Message) -> Result<Option<usize>, FrontError> {
        let nested = self.config.serving == Serving::Nested;
        if let (true, Some((request, Asker::Handler))) = (nested, self.outstanding.back()) {
            if reply.answers(request) {
                return Ok(Some(self.outstanding.len() - 1));
            }
            return Err(FrontError::Crossed {
                expected: request.request,
                received: reply.request,
                request: reply.name().into_owned(),
            });
        }
        let handled = self.outstanding.iter().any(|(_, asker)| *asker == Asker::Handler);
        let own_waits = self
            .outstanding
            .iter()
            .any(|(_, asker)| matches!(asker, Asker::Own | Asker::Step(_)));
        let Some((first, _)) = self.outstanding.front() else {
            return Ok(None);
        };
        if reply.answers(first) {
            return Ok(Some(0));
        }
        if handled && let Some(at) = self.outstanding.iter().position(|(request, _)| reply.answers(request)) {
            return Ok(Some(at));
        }
        if own_waits {
            return Err(FrontError::OutOfOrder {
                reply: reply.to_string(),
                request: first.to_string(),
            });
        }
        Ok(None)
    }

    /// Answers the oldest open request of the back-end with that id.
    pub fn reply(&mut self, request: u32, answer: &Answer) -> Result<(), FrontError> {
        let at = self.open.iter().position(|o| o.request == request);
        let open = at
            .and_then(|at| self.open.remove(at))
            .ok_or(FrontError::NothingOpen(request))?;
        let reply = Message::reply_to(&open, Payload::U64(0));
        let mut outgoing = answer.apply(reply, Vec::new())?;
        outgoing.automatic = false;
        self.outputs.push_back(Output::Send(outgoing));
        Ok(())
    }

    /// Time for an answer that was put off.
    pub fn timer(&mut self, token: u64) {
        if let Some(outgoing) = self.scripts.due(token) {
            self.outputs.push_back(Output::Send(outgoing));
        }
    }

    /// Whether a request of the back-end with that id is open.
    pub fn is_open(&self, request: u32) -> bool {
        self.open.iter().any(|o| o.request == request)
    }

    fn note_request(&mut self, message: &Message, asker: Asker) {
        if message.is_reply() || message.channel == Channel::Backend {
            return;
        }
        match (message.request, &message.payload) {
            (id::frontend::SET_FEATURES, Payload::U64(features)) => self.features = *features,
            (id::frontend::SET_PROTOCOL_FEATURES, Payload::U64(features)) => self.protocol_features = *features,
            (id::frontend::RESET_DEVICE, _) => {
                self.channel.unmap_all();
                self.rings.iter_mut().for_each(|ring| ring.reset = true);
                // a driver makes its rings anew (VU-IFL-04)
                self.inflight = None;
            }
            _ => {}
        }
        let due = message
            .spec()
            .map(|s| s.reply.due(message.needs_reply(), self.protocol_features));
        // QEMU waits for the answer to IOTLB_MSG whenever it asked for one
        let disputed = message.request == id::frontend::IOTLB_MSG && message.needs_reply();
        if (due == Some(Due::Required) || disputed) && self.outstanding.len() < OUTSTANDING_MAX {
            self.outstanding.push_back((message.clone(), asker));
        }
    }

    fn note_reply(&mut self, request: &Message, reply: &Message) {
        match (request.request, reply.payload.as_u64()) {
            (id::frontend::GET_FEATURES, Some(features)) => self.offered = features,
            (id::frontend::GET_PROTOCOL_FEATURES, Some(features)) => self.protocol_offered = features,
            _ => {}
        }
        self.note_master_reply(request, reply);
        self.learn(reply);
    }

    fn has(&self, feature: ProtocolFeature) -> bool {
        // beyond these, a bit of vhost-pci means something else
        let is_shared = feature <= ProtocolFeature::ReplyAck || !self.config.dialect.is_pci();
        is_shared && self.protocol_features & feature.mask() != 0
    }

    fn fail(&mut self, error: FrontError) {
        self.tasks.clear();
        self.wanted.clear();
        self.prepared.clear();
        self.outstanding.retain(|(_, asker)| *asker == Asker::Script);
        self.failure.get_or_insert(error);
    }
}
