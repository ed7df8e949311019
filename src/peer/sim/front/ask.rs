//! Requests that a step asks for by name, composed of what the front-end knows, and when the main socket is free for them.

use std::os::fd::OwnedFd;

use super::channel::Serving;
use super::setup::Task;
use super::{Asker, Composed, FrontError, OUTSTANDING_MAX, SimFront};
use crate::memory::RegionLayout;
use crate::peer::sim::wanted::{Status, Wanted, unwanted};
use crate::peer::sim::{Outgoing, Output};
use crate::sys::fd::{eventfd, memfd, pipe, socket_pair};
use crate::wire::{
    Channel, Config, DeviceState, Dialect, Iotlb, Log, Message, Payload, ProtocolFeature, ReplyKind, Scope,
    SharedObject, VringFd, VringState, id::frontend as request, spec,
};

/// Guest address and size of a region that ADD_MEM_REG adds if no other is given.
const ADDED_AT: u64 = 0x1_0000_0000;
const ADDED_BYTES: u64 = 0x1_0000;
/// Guest memory that one byte of the dirty log covers.
const LOGGED_BY_BYTE: u64 = 0x1000 * 8;
/// What IOTLB_MSG asks for: that a translation is forgotten.
const INVALIDATE: u8 = 3;
/// An MTU that every device takes.
const MTU: u64 = 1500;
/// Bytes of the file that is made for a message and that nobody looks into.
const FILE_BYTES: u64 = 0x1000;

impl SimFront {
    /// Makes a request of its own as soon as the main socket is free for it.
    pub fn want(&mut self, wanted: Wanted) -> Result<(), FrontError> {
        if self.wanted.len() >= OUTSTANDING_MAX {
            return Err(cannot(wanted.request, "too many requests wait for their turn"));
        }
        self.wanted.push_back(wanted);
        self.go_on();
        Ok(())
    }

    /// Sends what the main socket is free for: what handlers of the channel need, then what steps ask for, then tasks.
    pub(super) fn go_on(&mut self) {
        loop {
            if let Some((_, asker)) = self.prepared.front() {
                if !self.is_free_for(*asker) {
                    break;
                }
                if let Some((composed, asker)) = self.prepared.pop_front() {
                    self.send_request(composed.message, composed.fds, asker);
                }
                continue;
            }
            if !self.is_free_for(Asker::Step(Status::Any)) {
                break;
            }
            let Some(wanted) = self.wanted.pop_front() else { break };
            if let Err(error) = self.make(wanted) {
                self.for_step = None;
                self.fail(error);
            }
        }
        self.advance();
    }

    /// Whether a request may go out now. A front-end with one thread, or with a lock on its main socket, has one request at
    /// a time there; what is asked from within a wait goes beside the one that waits.
    pub(super) fn is_free_for(&self, asker: Asker) -> bool {
        match (self.config.serving, asker) {
            (Serving::Routed, Asker::Own) => !self.outstanding.iter().any(|(_, other)| *other == Asker::Own),
            (Serving::Routed, _) | (Serving::Nested, Asker::Handler) => true,
            _ => self.outstanding.is_empty(),
        }
    }

    /// Sends a request of its own as soon as the main socket is free for it.
    pub(super) fn ask(&mut self, message: Message, fds: Vec<OwnedFd>, asker: Asker) {
        let composed = (Composed { message, fds }, asker);
        if asker == Asker::Handler {
            self.prepared.push_front(composed);
        } else if self.prepared.len() < OUTSTANDING_MAX {
            self.prepared.push_back(composed);
        }
        self.go_on();
    }

    /// Sends a request that expectations see.
    pub(super) fn send_request(&mut self, message: Message, fds: Vec<OwnedFd>, asker: Asker) {
        let waiting = self.outstanding.len();
        self.note_request(&message, asker);
        let answered_at_once = self.outstanding.len() == waiting;
        let outgoing = Outgoing {
            automatic: false,
            ..Outgoing::automatic(message, fds)
        };
        self.outputs.push_back(Output::Send(outgoing));
        if asker == Asker::Handler && answered_at_once {
            self.handler_answered(None, Vec::new());
        }
    }

    /// A request of a task, with what a step wants of it.
    pub(super) fn send_for_step(
        &mut self,
        wanted: &Wanted,
        message: Message,
        fds: Vec<OwnedFd>,
    ) -> Result<(), FrontError> {
        let mut message = message;
        message.payload = wanted.changed(message.payload)?;
        if let Some(need_reply) = wanted.need_reply {
            message = message.need_reply(need_reply);
        }
        self.send_request(message, fds, Asker::Step(wanted.status));
        Ok(())
    }

    /// Composes a request and sends it.
    fn make(&mut self, wanted: Wanted) -> Result<(), FrontError> {
        let (id, ring) = (wanted.request, wanted.ring);
        let about = spec(self.config.dialect, Channel::Main, id).ok_or_else(|| cannot(id, "it has no name"))?;
        if about.scope == Scope::Ring {
            self.check_ring(ring)?;
        }
        self.for_step = Some(wanted);
        let state = |num| VringState {
            index: u32::from(ring),
            num,
        };
        match id {
            request::SET_OWNER => self.perform(Task::SetOwner)?,
            request::SET_FEATURES => {
                if self.features == 0 {
                    self.features = self.offered & self.config.features;
                }
                self.perform(Task::SetFeatures)?;
            }
            request::SET_PROTOCOL_FEATURES => {
                let wanted = self.protocol_offered & self.config.protocol_features;
                self.request(id, Payload::U64(wanted), Vec::new());
            }
            request::SET_BACKEND_REQ_FD => self.perform(Task::SetBackendReqFd)?,
            request::SET_MEM_TABLE => self.perform(Task::MemTable)?,
            request::ADD_MEM_REG => {
                let top = self.memory.regions().iter().map(|r| r.guest_address + r.size).max();
                let guest_address = top.unwrap_or(0).max(ADDED_AT).next_multiple_of(ADDED_BYTES);
                let size = ADDED_BYTES;
                self.memory.add_region(RegionLayout { guest_address, size })?;
                self.perform(Task::AddRegion(guest_address))?;
            }
            request::REM_MEM_REG => {
                let last = self.memory.regions().last().filter(|_| self.memory.regions().len() > 1);
                let address = last.map(|r| r.guest_address);
                let address = address.ok_or_else(|| cannot(id, "there is only one region"))?;
                self.pools.retain(|(pool, _)| *pool != address);
                self.perform(Task::RemoveRegion(address))?;
            }
            request::SET_VRING_NUM => self.perform(Task::RingNum(ring))?,
            request::SET_VRING_BASE => self.perform(Task::RingBase(ring))?,
            request::SET_VRING_ADDR => self.perform(Task::RingAddr(ring))?,
            request::SET_VRING_CALL => self.perform(Task::RingCall(ring))?,
            request::SET_VRING_KICK => self.perform(Task::RingKick(ring))?,
            request::SET_VRING_ENABLE => self.perform(Task::Enable(ring, true))?,
            request::GET_VRING_BASE => self.perform(Task::Stop(ring))?,
            request::GET_VRING_BASE_SKIP_DRAIN | request::SET_VRING_ENDIAN | request::VRING_KICK => {
                self.request(id, state(0).into(), Vec::new());
            }
            request::SET_VRING_ERR => {
                let payload = VringFd {
                    index: ring as u8,
                    ..VringFd::default()
                };
                self.request(id, payload.into(), vec![eventfd()?]);
            }
            request::SET_LOG_BASE => {
                let end = self.memory.regions().iter().map(|r| r.guest_address + r.size).max();
                let size = end.unwrap_or(0).div_ceil(LOGGED_BY_BYTE).max(FILE_BYTES);
                let file = memfd("vuh", size)?;
                self.request(id, Log { size, offset: 0 }.into(), vec![file]);
            }
            request::SET_LOG_FD => self.request(id, Payload::Empty, vec![eventfd()?]),
            request::SEND_RARP => self.request(id, Payload::U64(0x5452_0012_3456), Vec::new()),
            request::NET_SET_MTU => self.request(id, Payload::U64(MTU), Vec::new()),
            request::IOTLB_MSG => {
                let iova = self.device_address(self.rings[0].driver.layout().addresses().0);
                let message = Iotlb {
                    iova,
                    size: FILE_BYTES,
                    kind: INVALIDATE,
                    ..Iotlb::default()
                };
                self.request(id, message.into(), Vec::new());
            }
            request::GET_CONFIG | request::SET_CONFIG => {
                let known = self.known_config().map(<[u8]>::to_vec);
                let bytes = self.config.config_bytes as usize;
                let payload = known
                    .filter(|_| id == request::SET_CONFIG)
                    .unwrap_or_else(|| vec![0; bytes]);
                let config = Config {
                    size: payload.len() as u32,
                    payload,
                    ..Config::default()
                };
                self.request(id, config.into(), Vec::new());
            }
            request::GET_INFLIGHT_FD => {
                let area = self.wanted_inflight();
                self.request(id, area.into(), Vec::new());
            }
            request::SET_INFLIGHT_FD => {
                let kept = self.inflight();
                let (fd, area) = kept.ok_or_else(|| cannot(id, "no area was handed out by GET_INFLIGHT_FD"))?;
                self.request(id, area.into(), vec![fd]);
            }
            request::SET_STATUS => self.request(id, Payload::U64(super::setup::STATUS_DRIVER_OK), Vec::new()),
            request::GET_SHARED_OBJECT => {
                let uuid = self.known_object();
                self.request(id, SharedObject { uuid }.into(), Vec::new());
            }
            request::SET_DEVICE_STATE_FD => {
                let (_, written) = pipe()?;
                self.request(id, DeviceState::default().into(), vec![written]);
            }
            request::GPU_SET_SOCKET => self.request(id, Payload::Empty, vec![socket_pair()?.0]),
            _ if about.request.is_empty() || about.request == [crate::wire::Layout::Empty] => {
                self.request(id, Payload::Empty, Vec::new());
            }
            _ => return Err(cannot(id, "the simulated front-end has no use for it")),
        }
        match self.for_step.take() {
            None => Ok(()),
            Some(_) => Err(cannot(id, "what it needs was not negotiated")),
        }
    }

    /// Takes in the reply to a request that a step asked for.
    pub(super) fn accept_asked(&mut self, sent: &Message, reply: &Message, wanted: Status) -> Result<(), FrontError> {
        let Some(spec) = sent.spec() else { return Ok(()) };
        if matches!(
            sent.request,
            request::GET_VRING_BASE | request::GET_VRING_BASE_SKIP_DRAIN
        ) {
            return self.accept(sent, reply);
        }
        let of_its_own = match spec.reply.kind {
            ReplyKind::Always | ReplyKind::FdOnly => true,
            ReplyKind::LogBase => self.has(ProtocolFeature::LogShmfd),
            _ => false,
        };
        let layout = reply.payload.layout();
        if of_its_own && !spec.reply.layouts.is_empty() {
            if spec.reply.layouts.contains(&layout) {
                return Ok(());
            }
            return Err(FrontError::WrongPayload {
                reply: reply.to_string(),
                request: sent.to_string(),
            });
        }
        if of_its_own {
            return Ok(());
        }
        match unwanted(wanted, reply) {
            Some(status) => Err(FrontError::Refused {
                request: sent.to_string(),
                status,
            }),
            None => Ok(()),
        }
    }
}

fn cannot(id: u32, why: &str) -> FrontError {
    let name =
        spec(Dialect::VhostUser, Channel::Main, id).map_or_else(|| format!("request {id}"), |s| s.name.to_owned());
    FrontError::CannotAsk {
        request: name,
        why: why.to_owned(),
    }
}
