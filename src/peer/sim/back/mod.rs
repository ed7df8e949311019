//! The simulated back-end: answers every request of the specification, maps what it is sent, and runs a device model on
//! the rings.

mod channel;
pub mod inflight;
mod iotlb;
mod loan;
mod requests;
mod ring;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::answer::{Answer, Scripts};
use super::{Outgoing, Output};
use crate::memory::{DirtyLog, MemoryError, RegionTable};
use crate::peer::device::{DeviceModel, net::TxFrame};
use crate::ring::RingError;
use crate::wire::{Channel, Dialect, Due, FieldError, Message, MessageSpec, Payload, ProtocolFeature, id};
use inflight::{Lives, Recorder};
use ring::Ring;

/// VIRTIO_RING_F_EVENT_IDX.
pub const F_EVENT_IDX: u64 = 1 << 29;
/// VHOST_USER_F_PROTOCOL_FEATURES.
pub const F_PROTOCOL_FEATURES: u64 = 1 << 30;
/// VHOST_F_LOG_ALL.
pub const F_LOG_ALL: u64 = 1 << 26;

/// VIRTIO_F_ACCESS_PLATFORM.
const F_ACCESS_PLATFORM: u64 = 1 << 33;
/// What the simulated device cannot do as a recorded one did: addresses that an IOMMU translates.
const F_NOT_SERVED: u64 = F_ACCESS_PLATFORM;

/// Requests that wait for a `reply` step, at most.
const OPEN_REQUESTS_MAX: usize = 1024;

/// How a simulated back-end looks.
pub struct BackConfig {
    /// Its device.
    pub device: Box<dyn DeviceModel + Send>,
    /// Rings it has.
    pub queues: u16,
    /// All feature bits it offers.
    pub features: u64,
    /// All protocol feature bits it offers.
    pub protocol_features: u64,
    /// Requests that it leaves for `reply`.
    pub manual: Vec<u32>,
    /// Scripted answers by request id.
    pub answers: Vec<(u32, Answer)>,
    /// Memory slots it has.
    pub memory_slots: u64,
    /// Bytes of its shared memory regions.
    pub shared_memory: Vec<u64>,
    /// A handler that waits for an answer on the channel reads the main socket meanwhile.
    pub reads_while_asking: bool,
    /// What it does wrong with the inflight area.
    pub inflight_fault: Option<inflight::Fault>,
}

/// Why a back-end cannot do what a step wants.
#[derive(Debug, thiserror::Error)]
pub enum BackError {
    /// No request of that name is open.
    #[error("no {0} waits for a reply")]
    NothingOpen(String),
    /// A scripted answer does not fit the reply.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The device is of another kind.
    #[error("the device is not a {0} device")]
    WrongDevice(&'static str),
    /// The device refuses.
    #[error(transparent)]
    Device(#[from] crate::peer::device::DeviceError),
    /// The ring has no call eventfd.
    #[error("ring {0} has no call eventfd")]
    NoCall(u16),
    /// There is no such ring.
    #[error("there is no ring {0}")]
    NoRing(u16),
    /// A request cannot be made.
    #[error("{0}")]
    CannotAsk(String),
}

/// Why a request fails.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Because(String),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// The answer to a request: payload and what is attached. `None`: the plain acknowledgement.
type Answered = Result<Option<(Payload, Vec<OwnedFd>)>, Refusal>;

/// A simulated back-end.
pub struct SimBack {
    config: BackConfig,
    features: u64,
    protocol_features: u64,
    memory: RegionTable,
    log: Option<Arc<DirtyLog>>,
    log_event: Option<OwnedFd>,
    inflight: Option<Recorder>,
    /// The file of the area, and what was said of it: for rings on loan.
    inflight_file: Option<(OwnedFd, crate::wire::Inflight)>,
    lives: Lives,
    status: u64,
    rings: Vec<Ring>,
    channel: channel::ChannelState,
    iotlb: iotlb::Iotlb,
    /// Bytes of the configuration space that differ from the device's own.
    changed_config: Option<Vec<u8>>,
    open: VecDeque<Open>,
    /// Rings that have more to be served than one turn allows.
    resume: Vec<(u64, u16)>,
    scripts: Scripts,
    serial: u64,
    /// What a recorded back-end answered, by request, the next answer first.
    recorded: BTreeMap<u32, VecDeque<Payload>>,
    outputs: VecDeque<Output>,
}

struct Open {
    request: Message,
    reply: Message,
    fds: Vec<OwnedFd>,
}

impl SimBack {
    /// A back-end that has not been connected yet.
    pub fn new(mut config: BackConfig) -> Self {
        let rings = (0..config.queues).map(|_| Ring::default()).collect();
        let scripts = Scripts::new(std::mem::take(&mut config.answers));
        Self {
            config,
            features: 0,
            protocol_features: 0,
            memory: RegionTable::new(),
            log: None,
            log_event: None,
            inflight: None,
            inflight_file: None,
            lives: Lives::default(),
            status: 0,
            rings,
            channel: channel::ChannelState::default(),
            iotlb: iotlb::Iotlb::default(),
            changed_config: None,
            open: VecDeque::new(),
            resume: Vec::new(),
            scripts,
            serial: 0,
            recorded: BTreeMap::new(),
            outputs: VecDeque::new(),
        }
    }

    /// A new connection: what the last one negotiated and passed is gone; the device keeps its content.
    pub fn connected(&mut self) {
        self.features = 0;
        self.protocol_features = 0;
        self.memory.clear();
        self.log = None;
        self.log_event = None;
        (self.inflight, self.inflight_file) = (None, None);
        self.lives.begin();
        self.status = 0;
        for ring in &mut self.rings {
            *ring = Ring {
                lent: ring.lent,
                ..Ring::default()
            };
        }
        self.channel = channel::ChannelState::default();
        self.iotlb = iotlb::Iotlb::default();
        self.open.clear();
        self.scripts.connected();
        self.resume.clear();
    }

    /// It dies as a killed process does: what it had in hand stays as it is, and its descriptors and sockets are closed.
    fn die(&mut self) {
        self.connected();
        self.lives.end();
        self.outputs.push_back(Output::Close(Channel::Main));
    }

    /// Another device takes the place of this one. Rings that are set up stay so.
    pub fn set_device(&mut self, device: Box<dyn DeviceModel + Send>) {
        self.config.device = device;
        self.config.device.set_features(self.features);
    }

    /// What somebody else has negotiated for it.
    pub fn negotiated(&mut self, features: u64, protocol_features: u64) {
        self.features = features;
        self.protocol_features = protocol_features;
        self.config.device.set_features(features);
    }

    /// Guest memory that somebody else has mapped.
    pub fn use_memory(&mut self, memory: RegionTable) {
        self.memory = memory;
    }

    /// Stops every ring, and gives up the descriptors of all.
    pub fn stop_all(&mut self) {
        for index in 0..self.config.queues {
            self.stop(index);
        }
        self.rings = (0..self.config.queues).map(|_| Ring::default()).collect();
        self.resume.clear();
    }

    /// Descriptors of rings that it holds.
    pub fn fds_held(&self) -> usize {
        let held = |ring: &Ring| {
            [&ring.kick, &ring.call, &ring.error]
                .iter()
                .filter(|fd| fd.is_some())
                .count()
        };
        self.rings.iter().map(held).sum()
    }

    /// Answers as a recorded back-end did: what it offered, what it said it has, which requests it refused.
    pub fn play_again<'m>(&mut self, replies: impl Iterator<Item = &'m Message>) {
        for reply in replies.filter(|m| m.is_reply() && m.channel == Channel::Main) {
            match (reply.request, &reply.payload) {
                (id::frontend::GET_FEATURES, Payload::U64(bits)) => self.config.features = bits & !F_NOT_SERVED,
                (id::frontend::GET_PROTOCOL_FEATURES, Payload::U64(bits)) => self.config.protocol_features = *bits,
                (id::frontend::GET_MAX_MEM_SLOTS, Payload::U64(slots)) => self.config.memory_slots = *slots,
                // what comes with a descriptor, or tells of a ring, is of today
                (id::frontend::GET_INFLIGHT_FD | id::frontend::GET_VRING_BASE | id::frontend::SET_LOG_BASE, _) => {}
                (request, payload) => self.recorded.entry(request).or_default().push_back(payload.clone()),
            }
        }
    }

    /// What it wants done next.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The negotiated virtio features.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// The negotiated protocol features.
    pub fn protocol_features(&self) -> u64 {
        self.protocol_features
    }

    /// Kick eventfds to watch, by ring.
    pub fn watches(&self) -> impl Iterator<Item = (u16, BorrowedFd<'_>)> {
        use std::os::fd::AsFd;
        self.rings
            .iter()
            .enumerate()
            .filter(|(_, ring)| !ring.lent)
            .filter_map(|(i, ring)| Some((i as u16, ring.kick.as_ref()?.as_fd())))
    }

    /// The kick descriptor of a ring is of no use: it is not watched any more.
    pub fn forget_kick(&mut self, ring: u16) {
        if let Some(ring) = self.rings.get_mut(usize::from(ring)) {
            ring.kick = None;
        }
    }

    /// A message arrived.
    pub fn message(&mut self, message: Message, mut fds: Vec<OwnedFd>) {
        if message.channel == Channel::Backend {
            if message.is_reply() {
                self.channel_reply(&message, &fds);
            }
            return;
        }
        // a reply of the front-end on the main socket is for the monitor to judge
        if message.is_reply() || self.is_paused_by(&message, &mut fds) {
            return;
        }
        self.carry_out(&message, fds);
    }

    /// Carries a request out and answers it.
    fn carry_out(&mut self, message: &Message, fds: Vec<OwnedFd>) {
        let Some(spec) = message.spec() else {
            self.fault(format!("unknown request {}", message.request));
            self.acknowledge(message, None, 1, Vec::new());
            return;
        };
        match self.handle(message, fds) {
            Ok(Some((payload, fds))) => {
                let reply = Message::reply_to(message, payload);
                self.answer(message, reply, fds);
            }
            Ok(None) => self.acknowledge(message, Some(spec), 0, Vec::new()),
            Err(refusal) => {
                self.fault(format!("{} refused: {refusal}", spec.name));
                self.acknowledge(message, Some(spec), 1, Vec::new());
            }
        }
        if message.request == id::frontend::IOTLB_MSG {
            self.serve_translated_rings();
        }
    }

    /// The kick eventfd of a ring was signalled.
    pub fn kicked(&mut self, ring: u16) {
        self.serve(ring);
    }

    /// Time for an answer that was put off, or for the next turn of a ring.
    pub fn timer(&mut self, token: u64) {
        if let Some(at) = self.resume.iter().position(|(t, _)| *t == token) {
            let (_, ring) = self.resume.remove(at);
            self.serve(ring);
        }
        self.look_at_pages(token);
        if let Some(outgoing) = self.scripts.due(token) {
            self.outputs.push_back(Output::Send(outgoing));
        }
    }

    /// Answers the oldest open request of that id, as `answer` says.
    pub fn reply(&mut self, request: u32, answer: &Answer) -> Result<(), BackError> {
        let name = || crate::wire::spec(Dialect::VhostUser, Channel::Main, request).map_or("request", |s| s.name);
        let at = self.open.iter().position(|o| o.request.request == request);
        let Some(open) = at.and_then(|at| self.open.remove(at)) else {
            return Err(BackError::NothingOpen(name().to_owned()));
        };
        let mut outgoing = answer.apply(open.reply, open.fds)?;
        outgoing.automatic = false;
        self.outputs.push_back(Output::Send(outgoing));
        Ok(())
    }

    /// Whether a request of that id is open.
    pub fn is_open(&self, request: u32) -> bool {
        self.open.iter().any(|o| o.request.request == request)
    }

    /// Signals a ring's call eventfd, whether or not there is anything to see.
    pub fn call(&mut self, ring: u16) -> Result<(), BackError> {
        let state = self.rings.get(usize::from(ring)).ok_or(BackError::NoRing(ring))?;
        let fd = state.call.clone().ok_or(BackError::NoCall(ring))?;
        self.outputs.push_back(Output::Call { ring, fd });
        Ok(())
    }

    /// Puts a frame into the receive ring of a queue pair.
    pub fn inject(&mut self, pair: u16, frame: Vec<u8>) -> Result<(), BackError> {
        let net = self.config.device.as_net().ok_or(BackError::WrongDevice("net"))?;
        net.inject(pair * 2, frame)?;
        self.serve(pair * 2);
        Ok(())
    }

    /// Frames that the driver sent since the last time.
    pub fn take_frames(&mut self) -> Vec<TxFrame> {
        self.config
            .device
            .as_net()
            .map(|net| net.take_received())
            .unwrap_or_default()
    }

    /// Whether a ring is started and enabled.
    pub fn is_running(&self, ring: u16) -> bool {
        self.rings
            .get(usize::from(ring))
            .is_some_and(|r| r.started && r.enabled)
    }

    /// Guest memory as this back-end has mapped it.
    pub fn memory(&self) -> &RegionTable {
        &self.memory
    }

    fn fault(&mut self, what: String) {
        self.outputs.push_back(Output::Fault(what));
    }

    fn has(&self, feature: ProtocolFeature) -> bool {
        self.protocol_features & feature.mask() != 0
    }

    /// The u64 answer, where one is due.
    fn acknowledge(&mut self, request: &Message, spec: Option<&MessageSpec>, status: u64, fds: Vec<OwnedFd>) {
        let due = match spec {
            Some(spec) => spec.reply.due(request.needs_reply(), self.protocol_features),
            None if request.needs_reply() && self.has(ProtocolFeature::ReplyAck) => Due::Required,
            None => Due::Forbidden,
        };
        // QEMU waits for the answer to IOTLB_MSG and POSTCOPY_LISTEN whenever it set need_reply
        let disputed = due == Due::Open && request.needs_reply();
        let disputed = disputed && matches!(request.request, id::frontend::IOTLB_MSG | id::frontend::POSTCOPY_LISTEN);
        if due == Due::Required || disputed {
            let reply = Message::reply_to(request, Payload::U64(status));
            self.answer(request, reply, fds);
        }
    }

    /// Sends a reply, or what the script made of it.
    fn answer(&mut self, request: &Message, mut reply: Message, fds: Vec<OwnedFd>) {
        if self.lives.is_dead() {
            return;
        }
        let id = request.request;
        if let Some(replies) = self.recorded.get_mut(&id) {
            // the last one is given again
            let last = if replies.len() > 1 {
                replies.pop_front()
            } else {
                replies.front().cloned()
            };
            if let Some(payload) = last.filter(|_| fds.is_empty()) {
                reply.payload = payload;
            }
        }
        if self.config.manual.contains(&id) {
            if self.open.len() < OPEN_REQUESTS_MAX {
                self.open.push_back(Open {
                    request: request.clone(),
                    reply,
                    fds,
                });
            } else {
                self.fault(format!("more than {OPEN_REQUESTS_MAX} requests are open"));
            }
            return;
        }
        let Some(answer) = self.scripts.answer(id) else {
            self.outputs.push_back(Output::Send(Outgoing::automatic(reply, fds)));
            return;
        };
        self.outputs.extend(self.scripts.outputs(&answer, reply, fds));
    }
}

impl std::fmt::Debug for SimBack {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("SimBack")
            .field("features", &self.features)
            .field("rings", &self.rings.len())
            .finish()
    }
}
