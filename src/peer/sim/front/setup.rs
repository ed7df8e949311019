//! The front-end's own requests: the handshake in the order that QEMU uses, starting and stopping rings, and memory slots.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::migrate::ADDRESS_LOGS;
use super::pci::MasterTask;
use super::{Asker, F_EVENT_IDX, F_PROTOCOL_FEATURES, FrontError, MEMORY_BASE, SimFront};
use crate::memory::{FrontRegion, RegionLayout};
use crate::peer::device::BufferPool;
use crate::peer::sim::{Outgoing, Output};
use crate::ring::{Layout, RingDriver};
use crate::sys::fd::{duplicate, eventfd, socket_pair};
use crate::wire::features::{IN_ORDER, RING_PACKED};
use crate::wire::{
    Channel, MemReg, MemRegion, MemTable, Message, Payload, ProtocolFeature, VringAddr, VringBase, VringFd, VringState,
    id::frontend as request, spec,
};

/// ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK.
pub(super) const STATUS_DRIVER_OK: u64 = 0xf;

/// How far the handshake has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Goal {
    /// Features and protocol features are negotiated, the channel is passed, the owner set.
    Negotiated,
    /// The back-end has the memory.
    Memory,
    /// The rings are started.
    Started,
    /// The rings are enabled.
    Running,
}

/// One request still to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// A request without payload.
    Get(u32),
    /// What depends on the answer to GET_FEATURES.
    Negotiate,
    /// What depends on the answer to GET_PROTOCOL_FEATURES.
    NegotiateProtocol,
    SetBackendReqFd,
    SetOwner,
    SetFeatures,
    /// SET_MEM_TABLE, or ADD_MEM_REG for each region.
    Memory,
    MemTable,
    /// Asks for an inflight area, unless there is one.
    GetInflight,
    SetInflight,
    /// A fresh dirty log.
    LogBase,
    AddRegion(u64),
    RemoveRegion(u64),
    /// Without slots: the table, of which this region is no part any more.
    MemTableWithout(u64),
    RingNum(u16),
    RingBase(u16),
    RingAddr(u16),
    RingKick(u16),
    RingCall(u16),
    Enable(u16, bool),
    Stop(u16),
    DriverOk,
    Master(MasterTask),
    Reached(Goal),
}

impl SimFront {
    /// A packed ring takes less room than the split one that was laid before anything was negotiated, so it lies in the same
    /// place. A ring that holds chains keeps its kind: they were put there for a back-end that has gone.
    fn lay_as_negotiated(&mut self, ring: u16) -> Result<(), FrontError> {
        let packed = self.features & RING_PACKED != 0;
        let state = &mut self.rings[usize::from(ring)];
        let layout = state.driver.layout();
        // after a reset the driver makes its rings anew: a packed one would keep laps and wishes of before
        let anew = std::mem::take(&mut state.reset) && packed;
        if matches!(layout, Layout::Packed(_)) == packed && !anew || self.announced.is_some() {
            return Ok(());
        }
        if !state.pending.is_empty() || state.lent.is_some() {
            return Err(FrontError::RingInUse { ring });
        }
        let (place, _, _) = layout.addresses();
        let (layout, _) = Layout::pack_at(place, layout.size(), packed)?;
        state.driver = RingDriver::with_base(layout, layout.fresh_base())?;
        state.base = None;
        state.driver.init(&self.memory)?;
        Ok(())
    }

    /// Queues what is missing until `goal`.
    pub fn setup(&mut self, goal: Goal) {
        for step in [Goal::Negotiated, Goal::Memory, Goal::Started, Goal::Running] {
            if step > goal || self.done.is_some_and(|done| done >= step) {
                continue;
            }
            match step {
                Goal::Negotiated if self.master.is_some() => {
                    let hello = self.master_hello();
                    self.tasks.extend(hello);
                }
                Goal::Negotiated => self.tasks.extend([Task::Get(request::GET_FEATURES), Task::Negotiate]),
                Goal::Memory => {
                    self.tasks.push_back(Task::Memory);
                    if self.config.keeps_inflight {
                        self.tasks.extend([Task::GetInflight, Task::SetInflight]);
                    }
                }
                Goal::Started => (0..self.config.queues).for_each(|ring| self.queue_start(ring)),
                Goal::Running => {
                    self.tasks
                        .extend((0..self.config.queues).map(|ring| Task::Enable(ring, true)));
                    self.tasks.push_back(Task::DriverOk);
                    if self.master.is_some() {
                        let last = [MasterTask::Init, MasterTask::Plugged];
                        self.tasks.extend(last.map(Task::Master));
                    }
                }
            }
            self.tasks.push_back(Task::Reached(step));
        }
        self.advance();
    }

    /// GET_VRING_BASE; the ring starts again where it stopped.
    pub fn stop_ring(&mut self, ring: u16) -> Result<(), FrontError> {
        self.check_ring(ring)?;
        self.last_base = None;
        self.queue(Task::Stop(ring))
    }

    /// Configures and starts a ring.
    pub fn start_ring(&mut self, ring: u16) -> Result<(), FrontError> {
        self.check_ring(ring)?;
        self.queue_start(ring);
        self.advance();
        Ok(())
    }

    /// SET_VRING_ENABLE.
    pub fn enable_ring(&mut self, ring: u16, enable: bool) -> Result<(), FrontError> {
        self.check_ring(ring)?;
        self.queue(Task::Enable(ring, enable))
    }

    /// A new region, told to the back-end by ADD_MEM_REG or, without slots, by the whole table. Buffers are taken from it from now on.
    pub fn add_memory(&mut self, guest_address: u64, size: u64) -> Result<(), FrontError> {
        self.memory.add_region(RegionLayout { guest_address, size })?;
        self.pools.push((guest_address, BufferPool::new(guest_address, size)));
        self.queue(match self.has(ProtocolFeature::ConfigureMemSlots) {
            true => Task::AddRegion(guest_address),
            false => Task::MemTable,
        })
    }

    /// Takes a region away from the back-end by REM_MEM_REG or, without slots, by a table that has the others.
    pub fn remove_memory(&mut self, guest_address: u64) -> Result<(), FrontError> {
        self.region_index(guest_address)?;
        self.pools.retain(|(address, _)| *address != guest_address);
        self.queue(match self.has(ProtocolFeature::ConfigureMemSlots) {
            true => Task::RemoveRegion(guest_address),
            false => Task::MemTableWithout(guest_address),
        })
    }

    /// Sends the whole table again.
    pub fn replace_memory(&mut self) -> Result<(), FrontError> {
        self.queue(Task::MemTable)
    }

    pub(super) fn check_ring(&self, ring: u16) -> Result<(), FrontError> {
        let queues = self.config.queues;
        if ring < queues {
            Ok(())
        } else {
            Err(FrontError::NoRing { ring, queues })
        }
    }

    fn queue(&mut self, task: Task) -> Result<(), FrontError> {
        self.tasks.push_back(task);
        self.advance();
        Ok(())
    }

    fn queue_start(&mut self, ring: u16) {
        let tasks = [
            Task::RingNum(ring),
            Task::RingBase(ring),
            Task::RingAddr(ring),
            Task::RingCall(ring),
        ];
        self.tasks.extend(tasks);
        self.tasks.push_back(Task::RingKick(ring));
    }

    /// Makes requests until one has to be answered.
    pub(super) fn advance(&mut self) {
        while self.is_free_for(Asker::Own) {
            let Some(task) = self.tasks.pop_front() else { return };
            if let Err(error) = self.perform(task) {
                self.fail(error);
                return;
            }
        }
    }

    pub(super) fn perform(&mut self, task: Task) -> Result<(), FrontError> {
        match task {
            Task::Get(id) => self.request(id, Payload::Empty, Vec::new()),
            Task::Negotiate => {
                self.features = self.offered & self.config.features;
                let mut next = vec![Task::SetOwner, Task::SetFeatures];
                if self.offered & self.config.features & F_PROTOCOL_FEATURES != 0 {
                    next.splice(
                        0..0,
                        [Task::Get(request::GET_PROTOCOL_FEATURES), Task::NegotiateProtocol],
                    );
                }
                next.into_iter().rev().for_each(|task| self.tasks.push_front(task));
            }
            Task::NegotiateProtocol => {
                let wanted = self.protocol_offered & self.config.protocol_features;
                self.request(request::SET_PROTOCOL_FEATURES, Payload::U64(wanted), Vec::new());
                let optional = [
                    (ProtocolFeature::Mq, Task::Get(request::GET_QUEUE_NUM)),
                    (
                        ProtocolFeature::ConfigureMemSlots,
                        Task::Get(request::GET_MAX_MEM_SLOTS),
                    ),
                    (ProtocolFeature::BackendReq, Task::SetBackendReqFd),
                    (ProtocolFeature::Shmem, Task::Get(request::GET_SHMEM_CONFIG)),
                ];
                for (feature, task) in optional.into_iter().rev() {
                    if self.has(feature) {
                        self.tasks.push_front(task);
                    }
                }
            }
            Task::SetBackendReqFd => {
                // the link keeps the other end: it carries the channel
                let (ours, theirs) = socket_pair()?;
                self.request(request::SET_BACKEND_REQ_FD, Payload::Empty, vec![theirs, ours]);
            }
            Task::SetOwner => self.request(request::SET_OWNER, Payload::Empty, Vec::new()),
            Task::SetFeatures => self.request(request::SET_FEATURES, Payload::U64(self.features), Vec::new()),
            Task::Memory if self.has(ProtocolFeature::ConfigureMemSlots) => {
                let addresses: Vec<u64> = self.memory.regions().iter().map(|r| r.guest_address).collect();
                addresses
                    .into_iter()
                    .rev()
                    .for_each(|address| self.tasks.push_front(Task::AddRegion(address)));
            }
            Task::MemTableWithout(address) => {
                self.memory.remove_region(self.region_index(address)?)?;
                self.perform(Task::MemTable)?;
            }
            Task::Memory | Task::MemTable => {
                let regions: Vec<MemRegion> = self.memory.regions().iter().map(describe).collect();
                let fds: Result<Vec<OwnedFd>, _> = (0..regions.len()).map(|i| self.memory.dup(i)).collect();
                let table = MemTable {
                    regions,
                    ..MemTable::default()
                };
                self.request(request::SET_MEM_TABLE, table.into(), fds?);
            }
            Task::LogBase => self.send_log()?,
            Task::GetInflight if self.inflight.is_some() => {}
            Task::GetInflight => {
                let area = self.wanted_inflight();
                self.request(request::GET_INFLIGHT_FD, area.into(), Vec::new());
            }
            Task::SetInflight => {
                let (fd, area) = self.inflight().ok_or(FrontError::NoInflight)?;
                self.request(request::SET_INFLIGHT_FD, area.into(), vec![fd]);
            }
            Task::AddRegion(address) => {
                let index = self.region_index(address)?;
                let fd = self.memory.dup(index)?;
                let region = describe(&self.memory.regions()[index]);
                self.request(
                    request::ADD_MEM_REG,
                    MemReg {
                        region,
                        ..MemReg::default()
                    }
                    .into(),
                    vec![fd],
                );
            }
            Task::RemoveRegion(address) => {
                let index = self.region_index(address)?;
                let region = describe(&self.memory.remove_region(index)?);
                self.request(
                    request::REM_MEM_REG,
                    MemReg {
                        region,
                        ..MemReg::default()
                    }
                    .into(),
                    Vec::new(),
                );
            }
            Task::RingNum(ring) => {
                self.lay_as_negotiated(ring)?;
                let state = VringState {
                    index: u32::from(ring),
                    num: u32::from(self.config.ring_size),
                };
                self.request(request::SET_VRING_NUM, state.into(), Vec::new());
            }
            Task::RingBase(ring) => {
                let event_idx = self.features & F_EVENT_IDX != 0;
                let in_order = self.features & IN_ORDER != 0;
                let state = &mut self.rings[usize::from(ring)];
                state.driver.set_event_idx(event_idx);
                state.driver.set_in_order(in_order);
                // what the last back-end had not used is offered again
                let base = VringBase {
                    index: u32::from(ring),
                    indices: state.base.take().or(state.lent).unwrap_or_else(|| state.driver.base()),
                };
                self.request(request::SET_VRING_BASE, base.into(), Vec::new());
            }
            Task::RingAddr(ring) => {
                let (descriptor, available, used) = self.rings[usize::from(ring)].driver.layout().addresses();
                // behind an IOMMU the ring is told by the addresses that the device uses
                let place = |guest| match self.has_iommu() {
                    true => Ok(self.device_address(guest)),
                    false => self.memory.guest_to_user(guest),
                };
                let address = VringAddr {
                    index: u32::from(ring),
                    flags: if self.is_logged() { ADDRESS_LOGS } else { 0 },
                    descriptor: place(descriptor)?,
                    used: place(used)?,
                    available: place(available)?,
                    log: used,
                };
                self.request(request::SET_VRING_ADDR, address.into(), Vec::new());
            }
            Task::RingCall(ring) if self.has(ProtocolFeature::InbandNotifications) => {
                self.called(ring)?;
                self.rings[usize::from(ring)].call = None;
                self.request(request::SET_VRING_CALL, vring_without_fd(ring), Vec::new());
            }
            Task::RingKick(ring) if self.has(ProtocolFeature::InbandNotifications) => {
                let state = &mut self.rings[usize::from(ring)];
                (state.kick, state.in_band) = (None, true);
                self.request(request::SET_VRING_KICK, vring_without_fd(ring), Vec::new());
            }
            Task::RingCall(ring) => {
                let event = eventfd()?;
                let copy = duplicate(&event)?;
                // a call that still waits in the old eventfd goes with it
                self.called(ring)?;
                self.rings[usize::from(ring)].call = Some(Arc::new(event));
                self.request(request::SET_VRING_CALL, vring_fd(ring), vec![copy]);
            }
            Task::RingKick(ring) => {
                let event = eventfd()?;
                let copy = duplicate(&event)?;
                self.rings[usize::from(ring)].kick = Some(Arc::new(event));
                if self.config.kick_on_start {
                    // before it is passed on, as QEMU does: a back-end that was just told of a kick of the descriptor
                    // before finds something to read in this one
                    self.kick(ring)?;
                }
                self.request(request::SET_VRING_KICK, vring_fd(ring), vec![copy]);
            }
            // without bit 30 the message does not exist and SET_FEATURES has enabled the rings
            Task::Enable(..) if self.features & F_PROTOCOL_FEATURES == 0 => {}
            Task::Enable(ring, on) => {
                let state = VringState {
                    index: u32::from(ring),
                    num: u32::from(on),
                };
                self.request(request::SET_VRING_ENABLE, state.into(), Vec::new());
            }
            Task::Stop(ring) => {
                let state = VringState {
                    index: u32::from(ring),
                    num: 0,
                };
                self.request(request::GET_VRING_BASE, state.into(), Vec::new());
            }
            Task::DriverOk if self.has(ProtocolFeature::Status) => {
                self.request(request::SET_STATUS, Payload::U64(STATUS_DRIVER_OK), Vec::new());
            }
            Task::DriverOk => {}
            Task::Master(task) => self.master_task(task)?,
            Task::Reached(goal) => self.done = Some(goal),
        }
        Ok(())
    }

    /// Sends a request of the front-end's own; with REPLY_ACK it wants to know how each ended.
    pub(super) fn request(&mut self, id: u32, payload: Payload, fds: Vec<OwnedFd>) {
        let spec =
            spec(self.config.dialect, Channel::Main, id).expect("the front-end only sends requests of the table");
        // SET_PROTOCOL_FEATURES is what turns REPLY_ACK on; whether it is acknowledged itself is not specified
        let acknowledged = id != request::SET_PROTOCOL_FEATURES && self.has(ProtocolFeature::ReplyAck);
        let own_reply = matches!(
            spec.reply.kind,
            crate::wire::ReplyKind::Always | crate::wire::ReplyKind::FdOnly
        );
        let message = Message::request(spec, payload)
            .on_connection(self.conn_id())
            .need_reply(acknowledged && !own_reply);
        if let Some(wanted) = self.for_step.take() {
            // a step asked for it: what it is about is the task's, and who sees it is the step's
            if let Err(error) = self.send_for_step(&wanted, message, fds) {
                self.fail(error);
            }
            return;
        }
        self.note_request(&message, Asker::Own);
        self.outputs.push_back(Output::Send(Outgoing::automatic(message, fds)));
    }

    /// Takes in the reply to a request of the front-end's own.
    pub(super) fn accept(&mut self, sent: &Message, reply: &Message) -> Result<(), FrontError> {
        let wrong = || FrontError::WrongPayload {
            reply: reply.to_string(),
            request: sent.to_string(),
        };
        let own_reply = sent
            .spec()
            .is_some_and(|s| matches!(s.reply.kind, crate::wire::ReplyKind::Always));
        match (sent.request, &reply.payload) {
            (request::GET_SHMEM_CONFIG, Payload::ShmemConfig(_)) => Ok(()),
            (request::GET_VRING_BASE | request::GET_VRING_BASE_SKIP_DRAIN, Payload::VringBase(base)) => {
                let index = usize::try_from(base.index)
                    .ok()
                    .filter(|i| *i < self.rings.len())
                    .ok_or_else(wrong)?;
                if sent.payload.ring_index() != Some(base.index) {
                    return Err(wrong());
                }
                let ring = &mut self.rings[index];
                ring.base = Some(base.indices);
                ring.kick = None;
                ring.in_band = false;
                self.last_base = ring.base;
                Ok(())
            }
            (request::GET_INFLIGHT_FD, Payload::Inflight(_)) => Ok(()),
            (_, Payload::U64(_)) if own_reply => Ok(()),
            (_, Payload::U64(0)) => Ok(()),
            (_, Payload::U64(status)) => Err(FrontError::Refused {
                request: sent.to_string(),
                status: *status,
            }),
            // what it carries is nowhere said
            (request::SET_LOG_BASE, _) => Ok(()),
            _ => Err(wrong()),
        }
    }

    pub(super) fn region_index(&self, guest_address: u64) -> Result<usize, FrontError> {
        let found = self
            .memory
            .regions()
            .iter()
            .position(|r| r.guest_address == guest_address);
        found
            .filter(|i| *i > 0 || guest_address == MEMORY_BASE)
            .ok_or(FrontError::NoRegion(guest_address))
    }
}

fn describe(region: &FrontRegion) -> MemRegion {
    MemRegion {
        guest_address: region.guest_address,
        size: region.size,
        user_address: region.user_address,
        mmap_offset: region.mmap_offset,
        xen: None,
    }
}

fn vring_fd(ring: u16) -> Payload {
    VringFd {
        index: ring as u8,
        no_fd: false,
        reserved: 0,
    }
    .into()
}

fn vring_without_fd(ring: u16) -> Payload {
    VringFd {
        index: ring as u8,
        no_fd: true,
        reserved: 0,
    }
    .into()
}
