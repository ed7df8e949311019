//! The back-end channel as the simulated front-end serves it: when it reads it, what each request of the back-end does, and
//! which of them it can answer only after a request of its own on the main socket.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use super::{Asker, FrontError, SimFront};
use crate::memory::Window;
use crate::peer::sim::{Outgoing, Output};
use crate::wire::id::{backend, frontend};
use crate::wire::{
    Channel, Config, Dialect, Due, Iotlb, Message, Mmap, Payload, ProtocolFeature, SharedObject, ShmemConfig,
    VringArea, spec,
};

/// Where guest memory begins for a device behind an IOMMU. Not a guest or user address, so that one taken for another shows.
pub const IOVA_BASE: u64 = 0x5000_0000_0000;
/// VIRTIO_F_ACCESS_PLATFORM.
const F_ACCESS_PLATFORM: u64 = 1 << 33;
/// Bytes of one translation, and of a notification page.
const PAGE: u64 = 0x1000;
/// What an IOTLB message says it is.
const MISS: u8 = 1;
const UPDATE: u8 = 2;
/// Objects, mappings and nested handlers, at most.
const KEPT_MAX: usize = 4096;
/// Requests that are served while others wait for the main socket, at most.
const NESTED_MAX: usize = 64;

/// When a front-end serves the back-end channel, and how it tells the replies on its main socket apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Serving {
    /// At any time; each reply on the main socket goes to whoever asked for it.
    #[default]
    Routed,
    /// Only while no request of its own waits for a reply.
    WhenIdle,
    /// Also while it waits for a reply, from within that wait: a request made there takes the next reply for its own.
    Nested,
    /// At any time, from a thread; a lock is held on the main socket from each request to its reply.
    Locked,
}

/// A request of the back-end that is answered once a request on the main socket has been.
#[derive(Debug)]
struct Handler {
    request: Message,
    /// The id of the request on the main socket.
    asks: u32,
}

/// What has become of a request of the back-end.
enum Served {
    /// It is to be answered so.
    Status(u64),
    /// It will be, when this has been answered.
    Asks(u32, Payload),
}

/// What the channel has brought so far.
#[derive(Debug, Default)]
pub(super) struct ChannelState {
    /// Sizes of the device's shared memory regions; `None` before the back-end has told them.
    sizes: Option<Box<[u64; ShmemConfig::REGIONS_MAX]>>,
    /// What is mapped, by region and offset.
    mappings: BTreeMap<(u8, u64), Window>,
    /// Pages through which rings are notified.
    notifiers: BTreeMap<u16, Window>,
    /// Objects that the back-end has announced.
    objects: BTreeSet<[u8; 16]>,
    /// Requests under way, the innermost last.
    handlers: Vec<Handler>,
    /// The configuration space as it was read last.
    pub(super) config: Option<Vec<u8>>,
}

impl ChannelState {
    /// The device was reset: nothing is mapped any more (VU-SHM-11).
    pub(super) fn unmap_all(&mut self) {
        self.mappings.clear();
    }
}

impl SimFront {
    /// Whether the channel is served by a thread of its own.
    pub fn has_threads(&self) -> bool {
        matches!(self.config.serving, Serving::Routed | Serving::Locked)
    }

    /// Whether it reads a socket now. What it does not read stays on its way.
    pub fn reads(&self, channel: Channel) -> bool {
        let channel_state = &self.channel;
        match (channel, self.config.serving) {
            (Channel::Main, _) => true,
            (_, Serving::Nested) => channel_state.handlers.len() < NESTED_MAX,
            (_, Serving::WhenIdle) => channel_state.handlers.is_empty() && self.is_idle(),
            (_, Serving::Routed | Serving::Locked) => channel_state.handlers.is_empty(),
        }
    }

    /// Whether it waits for nothing on its main socket, and has nothing to send there.
    fn is_idle(&self) -> bool {
        self.outstanding.is_empty() && self.prepared.is_empty() && self.wanted.is_empty() && self.tasks.is_empty()
    }

    /// A request of the back-end arrived.
    pub(super) fn channel_request(&mut self, message: &Message, fds: Vec<OwnedFd>) {
        if message.is_reply() {
            return;
        }
        if self.config.manual.contains(&message.request) {
            if self.open.len() < super::OUTSTANDING_MAX {
                self.open.push_back(message.clone());
            }
            return;
        }
        match self.serve(message, fds) {
            Ok(Served::Status(status)) => self.finish(message, status, Vec::new()),
            Ok(Served::Asks(id, payload)) => {
                let spec = spec(Dialect::VhostUser, Channel::Main, id).expect("the request is in the table");
                let ask = Message::request(spec, payload);
                let ask = ask.need_reply(id == frontend::IOTLB_MSG && self.has(ProtocolFeature::ReplyAck));
                self.channel.handlers.push(Handler {
                    request: message.clone(),
                    asks: id,
                });
                self.ask(ask, Vec::new(), Asker::Handler);
            }
            Err(error) => {
                let name = message.name();
                self.outputs
                    .push_back(Output::Fault(format!("{name} refused: {error}")));
                self.finish(message, 1, Vec::new());
            }
        }
    }

    fn serve(&mut self, message: &Message, mut fds: Vec<OwnedFd>) -> Result<Served, FrontError> {
        let refused = |why: String| Err(FrontError::ChannelRequest(why));
        match (message.request, &message.payload) {
            (backend::IOTLB_MSG, Payload::Iotlb(miss)) if miss.kind == MISS => match self.translation(miss) {
                Some(update) => Ok(Served::Asks(frontend::IOTLB_MSG, update.into())),
                None => refused(format!("nothing is mapped at {:#x}", miss.iova)),
            },
            (backend::CONFIG_CHANGE_MSG, _) => {
                if self.has(ProtocolFeature::Config) {
                    self.read_config();
                }
                Ok(Served::Status(0))
            }
            (backend::VRING_HOST_NOTIFIER_MSG, Payload::VringArea(area)) => self.take_notifier(area, fds),
            (backend::VRING_CALL, Payload::VringState(state)) => {
                let ring = self.ring_of(state.index)?;
                self.called(ring)?;
                Ok(Served::Status(0))
            }
            (backend::VRING_ERR, Payload::VringState(state)) => {
                self.ring_of(state.index)?;
                Ok(Served::Status(0))
            }
            (backend::SHARED_OBJECT_ADD, Payload::SharedObject(object)) => {
                if self.channel.objects.len() >= KEPT_MAX || !self.channel.objects.insert(object.uuid) {
                    return refused("the object is announced already".to_owned());
                }
                Ok(Served::Status(0))
            }
            (backend::SHARED_OBJECT_REMOVE, Payload::SharedObject(object)) => {
                if !self.channel.objects.remove(&object.uuid) {
                    return refused("nobody has announced this object".to_owned());
                }
                Ok(Served::Status(0))
            }
            (backend::SHARED_OBJECT_LOOKUP, Payload::SharedObject(object)) => {
                if !self.channel.objects.contains(&object.uuid) {
                    return Ok(Served::Status(1));
                }
                let uuid = object.uuid;
                Ok(Served::Asks(frontend::GET_SHARED_OBJECT, SharedObject { uuid }.into()))
            }
            (backend::SHMEM_MAP, Payload::Mmap(mapping)) => {
                let fd = match (fds.pop(), fds.is_empty()) {
                    (Some(fd), true) => fd,
                    (None, _) => return refused("no file is attached".to_owned()),
                    _ => return refused(format!("{} files are attached, not 1", fds.len() + 1)),
                };
                self.map_shared(mapping, fd)
            }
            (backend::SHMEM_UNMAP, Payload::Mmap(mapping)) => {
                let place = (mapping.shmid, mapping.shm_offset);
                match self.channel.mappings.get(&place) {
                    Some(window) if window.size() == mapping.len => {
                        self.channel.mappings.remove(&place);
                        Ok(Served::Status(0))
                    }
                    _ => refused(format!(
                        "nothing is mapped exactly at {:#x}, {:#x} bytes, of region {}",
                        mapping.shm_offset, mapping.len, mapping.shmid
                    )),
                }
            }
            _ => refused("not served, or with another payload".to_owned()),
        }
    }

    fn ring_of(&self, index: u32) -> Result<u16, FrontError> {
        let ring = u16::try_from(index).unwrap_or(u16::MAX);
        self.check_ring(ring).map(|()| ring)
    }

    fn take_notifier(&mut self, area: &VringArea, mut fds: Vec<OwnedFd>) -> Result<Served, FrontError> {
        let refused = |why: &str| Err(FrontError::ChannelRequest(why.to_owned()));
        let ring = self.ring_of((area.value & 0xff) as u32)?;
        let withdraws = area.value & 0x100 != 0;
        // a new page replaces the old one, and so does none
        self.channel.notifiers.remove(&ring);
        match (fds.pop(), fds.is_empty(), withdraws) {
            (None, _, true) => Ok(Served::Status(0)),
            (Some(fd), true, false) if area.size == PAGE => {
                let page = Window::new(fd, area.offset, area.size, true)?;
                self.channel.notifiers.insert(ring, page);
                Ok(Served::Status(0))
            }
            (Some(_), true, false) => refused("a notification page has the size of a page"),
            (Some(_), true, true) => refused("bit 8 says that no file is attached, and one is"),
            (None, _, false) => refused("no file is attached"),
            _ => refused("more than one file is attached"),
        }
    }

    fn map_shared(&mut self, mapping: &Mmap, fd: OwnedFd) -> Result<Served, FrontError> {
        let refused = |why: String| Err(FrontError::ChannelRequest(why));
        let size = self.channel.sizes.as_ref().map_or(0, |s| s[usize::from(mapping.shmid)]);
        let end = mapping.shm_offset.checked_add(mapping.len);
        let Some(end) = end.filter(|end| *end <= size && mapping.len > 0) else {
            return refused(format!(
                "region {} has {size:#x} bytes, and {:#x} from {:#x} are not inside",
                mapping.shmid, mapping.len, mapping.shm_offset
            ));
        };
        if mapping.flags > 1 {
            return refused(format!("flags {:#x}", mapping.flags));
        }
        let taken = self.channel.mappings.iter().any(|((region, start), window)| {
            *region == mapping.shmid && *start < end && mapping.shm_offset < start.saturating_add(window.size())
        });
        if taken || self.channel.mappings.len() >= KEPT_MAX {
            return refused(format!(
                "something is mapped within {:#x}..{end:#x}",
                mapping.shm_offset
            ));
        }
        let window = Window::new(fd, mapping.fd_offset, mapping.len, mapping.flags & 1 != 0)?;
        self.channel
            .mappings
            .insert((mapping.shmid, mapping.shm_offset), window);
        Ok(Served::Status(0))
    }

    /// The translation of the page that a device asks for.
    fn translation(&self, miss: &Iotlb) -> Option<Iotlb> {
        let iova = miss.iova & !(PAGE - 1);
        let guest = iova.checked_sub(IOVA_BASE)?;
        let region = self
            .memory
            .regions()
            .iter()
            .find(|r| guest >= r.guest_address && guest - r.guest_address < r.size)?;
        let size = PAGE.min(region.guest_address + region.size - guest);
        Some(Iotlb {
            iova,
            size,
            user_address: region.user_address + (guest - region.guest_address),
            permissions: 3,
            kind: UPDATE,
            ..Iotlb::default()
        })
    }

    /// Whether the device gets addresses that it has to have translated.
    pub(super) fn has_iommu(&self) -> bool {
        self.features & F_ACCESS_PLATFORM != 0
    }

    /// A guest address as the device is told it.
    pub(super) fn device_address(&self, guest: u64) -> u64 {
        if self.has_iommu() { IOVA_BASE + guest } else { guest }
    }

    /// The request that a handler made on the main socket has been answered, or will not be.
    pub(super) fn handler_answered(&mut self, reply: Option<&Message>, fds: Vec<OwnedFd>) {
        let Some(handler) = self.channel.handlers.pop() else {
            return;
        };
        let found = handler.asks == frontend::GET_SHARED_OBJECT;
        let status = match (found, reply.map(|r| &r.payload)) {
            (true, _) => u64::from(fds.is_empty()),
            (false, Some(Payload::U64(status))) => *status,
            _ => 0,
        };
        let fds = if found { fds } else { Vec::new() };
        self.finish(&handler.request, status, fds);
    }

    /// Answers a request of the back-end, if an answer is due.
    fn finish(&mut self, request: &Message, status: u64, fds: Vec<OwnedFd>) {
        let due = match request.spec() {
            Some(spec) => spec.reply.due(request.needs_reply(), self.protocol_features),
            None if request.needs_reply() && self.has(ProtocolFeature::ReplyAck) => Due::Required,
            None => Due::Forbidden,
        };
        if due != Due::Required {
            return;
        }
        let reply = Message::reply_to(request, Payload::U64(status));
        let scripted = self.scripts.answer(request.request);
        let Some(answer) = scripted else {
            let outgoing = Outgoing::automatic(reply, fds);
            self.outputs.push_back(Output::Send(outgoing));
            return;
        };
        self.outputs.extend(self.scripts.outputs(&answer, reply, fds));
    }

    /// Reads the configuration space again, as soon as the main socket lets it.
    pub(super) fn read_config(&mut self) {
        let bytes = self.config.config_bytes;
        let payload = Config {
            offset: 0,
            size: bytes,
            flags: 0,
            payload: vec![0; bytes as usize],
        };
        let spec = spec(Dialect::VhostUser, Channel::Main, frontend::GET_CONFIG).expect("GET_CONFIG is in the table");
        self.ask(Message::request(spec, payload), Vec::new(), Asker::News);
    }

    /// The configuration space as it was read last.
    pub fn known_config(&self) -> Option<&[u8]> {
        self.channel.config.as_deref()
    }

    /// An object that the back-end has announced, or one that nobody has.
    pub(super) fn known_object(&self) -> [u8; 16] {
        self.channel.objects.first().copied().unwrap_or([0x11; 16])
    }

    /// Takes note of what a reply on the main socket says about the device.
    pub(super) fn learn(&mut self, reply: &Message) {
        match (reply.request, &reply.payload) {
            (frontend::GET_SHMEM_CONFIG, Payload::ShmemConfig(config)) => {
                self.channel.sizes = Some(config.sizes.clone());
            }
            (frontend::GET_CONFIG, Payload::Config(config)) if config.offset == 0 => {
                self.channel.config = Some(config.payload.clone());
            }
            (frontend::GET_VRING_BASE | frontend::GET_VRING_BASE_SKIP_DRAIN, Payload::VringBase(base)) => {
                if let Ok(ring) = u16::try_from(base.index) {
                    self.channel.notifiers.remove(&ring);
                }
            }
            _ => {}
        }
    }

    /// Notifies a ring through its page, if it has one. True if so.
    pub(super) fn notify_page(&mut self, ring: u16) -> Result<bool, FrontError> {
        let Some(page) = self.channel.notifiers.get(&ring) else {
            return Ok(false);
        };
        page.store_u16(0, ring)?;
        let what = format!("ring {ring} is notified through its page");
        self.outputs.push_back(Output::Data(what));
        Ok(true)
    }

    /// The piece of a shared memory region that a range lies in, and where in it.
    pub fn shared(&self, region: u8, offset: u64) -> Option<(&Window, u64)> {
        let range = (region, 0)..=(region, offset);
        let ((_, start), window) = self.channel.mappings.range(range).next_back()?;
        let at = offset - start;
        (at < window.size()).then_some((window, at))
    }
}
