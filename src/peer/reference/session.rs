//! A front-end's session over rust-vmm's `vhost_user::Frontend`: negotiation, memory, rings, waiting, the end. It knows
//! what a device needs to be started, not what is done with it.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag};
use vhost::vhost_user::{
    Error as VhostUserError, Frontend, VhostUserFrontend, VhostUserProtocolFeatures as Protocol,
    VhostUserVirtioFeatures,
};
use vhost::{Error as VhostError, VhostBackend, VringConfigData};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::channel::Channel;
use super::driver_ring::DriverRing;
use super::error::ReferenceError;
use super::guest::Guest;
use super::watchdog::Watchdog;

/// What a session is to set up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// Rings to start.
    pub(super) rings: usize,
    /// Descriptors of each.
    pub(super) ring_size: u16,
    /// Data bytes of a request.
    pub(super) data_bytes: u32,
    /// Device features to take if they are offered.
    pub(super) features: u64,
    /// Bytes of the configuration space to read, 0 for none.
    pub(super) config_bytes: u32,
    /// Whether the back-end is asked how many rings it has.
    pub(super) ask_queue_num: bool,
    /// Whether it passes a back-end channel.
    pub(super) channel: bool,
    /// The longest wait for an answer or a completion.
    pub(super) timeout: Duration,
}

/// How far the work is, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    /// Requests complete.
    pub(super) completed: u64,
    /// Requests wanted.
    pub(super) requests: u64,
}

/// A started device.
pub(super) struct Session {
    // Field order: the watchdog ends first.
    watchdog: Watchdog,
    /// Kept, so that it is served.
    channel: Option<Channel>,
    frontend: Frontend,
    stream: UnixStream,
    /// The rings' calls and the end of the connection.
    events: Epoll,
    pub(super) timeout: Duration,
    /// The driver's sides of the rings.
    pub(super) rings: Vec<DriverRing>,
    /// The guest memory.
    pub(super) guest: Guest,
    /// The features negotiated.
    pub(super) features: u64,
    /// The protocol features negotiated.
    pub(super) protocol: Protocol,
    /// The configuration space, if it was asked for and CONFIG negotiated.
    pub(super) config: Option<Vec<u8>>,
    /// Calls that were waited for; those that came while it was busy are not counted.
    pub(super) calls: u64,
}

impl Session {
    /// Negotiates over `stream` and starts the device.
    pub(super) fn start(stream: UnixStream, wish: Wish) -> Result<Self, ReferenceError> {
        let duplicate = || stream.try_clone().map_err(ReferenceError::system("connection"));
        let (watched, spoken) = (duplicate()?, duplicate()?);
        let mut session = Self {
            watchdog: Watchdog::new(watched, wish.timeout).map_err(ReferenceError::system("thread"))?,
            channel: None,
            frontend: Frontend::from_stream(spoken, wish.rings as u64),
            stream,
            events: Epoll::new().map_err(ReferenceError::system("epoll"))?,
            timeout: wish.timeout,
            rings: Vec::new(),
            guest: Guest::new(wish.rings, wish.ring_size, wish.data_bytes)?,
            features: 0,
            protocol: Protocol::empty(),
            config: None,
            calls: 0,
        };
        session.negotiate(&wish)?;
        session.share_memory()?;
        session.start_rings(wish.rings)?;
        for ring in 0..session.rings.len() {
            let fd = session.rings[ring].call_event().as_raw_fd();
            session.watch(fd, EventSet::IN, ring)?;
        }
        // Only the end of the stream, which is always reported.
        session.watch(session.stream.as_raw_fd(), EventSet::empty(), session.rings.len())?;
        Ok(session)
    }

    /// Whether the driver may use indirect tables.
    pub(super) fn indirect(&self) -> bool {
        self.features & 1 << VIRTIO_RING_F_INDIRECT_DESC != 0
    }

    /// Waits until some ring has a used chain to take.
    ///
    /// # Errors
    /// Nothing came in time, it came without the call that was asked for, or the back-end closed the connection.
    pub(super) fn wait(&mut self, progress: Progress) -> Result<(), ReferenceError> {
        let deadline = Instant::now() + self.timeout;
        let timeout_ms = self.timeout.as_millis() as u64;
        loop {
            let mut ready = false;
            for ring in &mut self.rings {
                ready |= ring.arm()?;
            }
            if ready {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let events = self.poll(left)?;
            if events.is_empty() {
                for (ring, driver) in self.rings.iter_mut().enumerate() {
                    if driver.arm()? {
                        return Err(ReferenceError::NoCall { ring, timeout_ms });
                    }
                }
                return Err(ReferenceError::NoCompletion {
                    timeout_ms,
                    completed: progress.completed,
                    requests: progress.requests,
                });
            }
            let closed = events.contains(&self.rings.len());
            for ring in events.into_iter().filter_map(|at| self.rings.get(at)) {
                // Not blocking: another reader or a reset of the counter is no error.
                self.calls += u64::from(ring.call_event().read().is_ok());
            }
            if closed {
                return Err(ReferenceError::Disconnected {
                    completed: progress.completed,
                    requests: progress.requests,
                });
            }
        }
    }

    /// Stops every ring and returns their bases, each checked against the buffers that were used; then disconnects.
    pub(super) fn stop(mut self) -> Result<Vec<u16>, ReferenceError> {
        let mut bases = Vec::new();
        for ring in 0..self.rings.len() {
            let base = self.request("GET_VRING_BASE", |frontend| frontend.get_vring_base(ring))?;
            let used = self.rings[ring].used_index()?;
            if base != u32::from(used) {
                return Err(ReferenceError::BadRing {
                    ring,
                    what: format!("GET_VRING_BASE answered {base}, but {used} (mod 65536) chains were consumed"),
                });
            }
            bases.push(used);
        }
        Ok(bases)
    }

    fn watch(&self, fd: RawFd, set: EventSet, position: usize) -> Result<(), ReferenceError> {
        self.events
            .ctl(ControlOperation::Add, fd, EpollEvent::new(set, position as u64))
            .map_err(ReferenceError::system("epoll"))
    }

    fn negotiate(&mut self, wish: &Wish) -> Result<(), ReferenceError> {
        let protocol_bit = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        self.request("SET_OWNER", |frontend| frontend.set_owner())?;
        let offered = self.request("GET_FEATURES", |frontend| frontend.get_features())?;
        if offered & 1 << VIRTIO_F_VERSION_1 == 0 {
            return Err(ReferenceError::Lacking(format!("no VERSION_1, only {offered:#x}")));
        }
        if offered & protocol_bit != 0 {
            let protocol = self.request("GET_PROTOCOL_FEATURES", |frontend| frontend.get_protocol_features())?;
            let mut known = Protocol::MQ | Protocol::REPLY_ACK | Protocol::CONFIG | Protocol::CONFIGURE_MEM_SLOTS;
            if wish.channel {
                known |= Protocol::BACKEND_REQ | Protocol::BACKEND_SEND_FD | Protocol::SHARED_OBJECT | Protocol::SHMEM;
            }
            self.protocol = protocol & known;
            let taken = self.protocol;
            self.request("SET_PROTOCOL_FEATURES", |frontend| {
                frontend.set_protocol_features(taken)
            })?;
        }
        if self.protocol.contains(Protocol::REPLY_ACK) {
            self.frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
        if wish.ask_queue_num && self.protocol.contains(Protocol::MQ) {
            let queues = self.request("GET_QUEUE_NUM", |frontend| frontend.get_queue_num())?;
            // The crate takes the answer as a number of rings, whatever the device; some back-ends count queue pairs.
            if queues < wish.rings as u64 {
                return Err(ReferenceError::Lacking(format!(
                    "{queues} queues by GET_QUEUE_NUM, {} rings are wanted",
                    wish.rings
                )));
            }
        }
        if wish.config_bytes > 0 && self.protocol.contains(Protocol::CONFIG) {
            let blank = vec![0; wish.config_bytes as usize];
            let (_, config) = self.request("GET_CONFIG", |frontend| {
                frontend.get_config(0, wish.config_bytes, VhostUserConfigFlags::empty(), &blank)
            })?;
            self.config = Some(config);
        }
        self.features = offered
            & (wish.features
                | 1 << VIRTIO_F_VERSION_1
                | 1 << VIRTIO_RING_F_EVENT_IDX
                | 1 << VIRTIO_RING_F_INDIRECT_DESC
                | protocol_bit);
        let features = self.features;
        self.request("SET_FEATURES", |frontend| frontend.set_features(features))?;
        self.pass_channel()
    }

    fn pass_channel(&mut self) -> Result<(), ReferenceError> {
        if !self.protocol.contains(Protocol::BACKEND_REQ) {
            return Ok(());
        }
        let reply_ack = self.protocol.contains(Protocol::REPLY_ACK);
        let channel = Channel::serve(reply_ack).map_err(ReferenceError::system("back-end channel"))?;
        let passed = self.channel.insert(channel).passed().to_owned();
        self.request("SET_BACKEND_REQ_FD", |frontend| {
            frontend.set_backend_request_fd(&passed)
        })
    }

    fn share_memory(&mut self) -> Result<(), ReferenceError> {
        let regions = self.guest.regions()?;
        if !self.protocol.contains(Protocol::CONFIGURE_MEM_SLOTS) {
            self.request("SET_MEM_TABLE", |frontend| frontend.set_mem_table(&regions))?;
            return Ok(());
        }
        let slots = self.request("GET_MAX_MEM_SLOTS", |frontend| frontend.get_max_mem_slots())?;
        if slots < regions.len() as u64 {
            return Err(ReferenceError::Lacking(format!(
                "{slots} memory slots, {} are wanted",
                regions.len()
            )));
        }
        for region in &regions {
            self.request("ADD_MEM_REG", |frontend| frontend.add_mem_region(region))?;
        }
        Ok(())
    }

    fn start_rings(&mut self, rings: usize) -> Result<(), ReferenceError> {
        let event_idx = self.features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        for ring in 0..rings {
            let driver = DriverRing::new(ring, &self.guest, event_idx)?;
            let layout = self.guest.ring(ring);
            let addresses = VringConfigData {
                queue_max_size: self.guest.ring_size(),
                queue_size: self.guest.ring_size(),
                flags: 0,
                desc_table_addr: self.guest.user_address(layout.descriptors)?,
                used_ring_addr: self.guest.user_address(layout.used)?,
                avail_ring_addr: self.guest.user_address(layout.available)?,
                log_addr: None,
            };
            let size = self.guest.ring_size();
            self.request("SET_VRING_NUM", |frontend| frontend.set_vring_num(ring, size))?;
            self.request("SET_VRING_BASE", |frontend| frontend.set_vring_base(ring, 0))?;
            self.request("SET_VRING_ADDR", |frontend| frontend.set_vring_addr(ring, &addresses))?;
            self.request("SET_VRING_CALL", |frontend| {
                frontend.set_vring_call(ring, driver.call_event())
            })?;
            self.request("SET_VRING_KICK", |frontend| {
                frontend.set_vring_kick(ring, driver.kick_event())
            })?;
            self.rings.push(driver);
        }
        if self.features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0 {
            for ring in 0..rings {
                self.request("SET_VRING_ENABLE", |frontend| frontend.set_vring_enable(ring, true))?;
            }
        }
        Ok(())
    }

    /// Sends one request under the deadline and puts a failure into words.
    fn request<T>(
        &mut self,
        request: &'static str,
        send: impl FnOnce(&mut Frontend) -> Result<T, VhostError>,
    ) -> Result<T, ReferenceError> {
        let (watchdog, frontend) = (&self.watchdog, &mut self.frontend);
        match watchdog.guard(|| send(frontend)) {
            (Ok(answer), false) => Ok(answer),
            (_, true) => Err(ReferenceError::NoAnswer {
                request,
                timeout_ms: self.timeout.as_millis() as u64,
            }),
            (Err(error), false) => Err(ReferenceError::Request {
                request,
                reason: in_words(&error),
            }),
        }
    }

    /// The positions that have something: a ring's for its call, one past the rings' for a closed connection. Empty when
    /// `left` passed.
    fn poll(&self, left: Duration) -> Result<Vec<usize>, ReferenceError> {
        let mut events = vec![EpollEvent::default(); self.rings.len() + 1];
        // Rounded up, so that the last wait does not spin; a signal counts as nothing.
        let timeout_ms = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
        let count = loop {
            match self.events.wait(timeout_ms, &mut events) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(ReferenceError::system("epoll"))?,
            }
        };
        Ok(events[..count].iter().map(|event| event.data() as usize).collect())
    }
}

fn in_words(error: &VhostError) -> String {
    match error {
        VhostError::VhostUserProtocol(VhostUserError::PartialMessage | VhostUserError::Disconnected) => {
            "the back-end closed the connection".to_owned()
        }
        VhostError::VhostUserProtocol(VhostUserError::BackendInternalError) => {
            "the back-end answered with a failure".to_owned()
        }
        VhostError::VhostUserProtocol(VhostUserError::InvalidMessage) => "the answer is malformed".to_owned(),
        other => other.to_string(),
    }
}
