//! What the simulated back-end asks on its channel: requests in their legal form, handlers that ask and wait, and what the
//! answers mean.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;

use super::iotlb::{Miss, READ};
use super::{BackError, SimBack};
use crate::memory::Window;
use crate::peer::sim::wanted::{Composed, Status, Wanted, unwanted};
use crate::peer::sim::{Outgoing, Output};
use crate::sys::fd::{duplicate, memfd};
use crate::wire::id::backend as request;
use crate::wire::{
    Channel, Dialect, Due, Iotlb, Message, Mmap, Payload, ProtocolFeature, Scope, SharedObject, VringArea, VringState,
    spec,
};

/// Bytes of a notification page, of a piece of a shared memory region, and of a shared object.
const PAGE: u64 = 0x1000;
/// An IOTLB message that asks for a translation.
const MISS: u8 = 1;
/// What stands in a notification page while nobody has written to it.
const NOT_NOTIFIED: u16 = 0xffff;
/// How often notification pages are looked at: memory cannot be waited for.
const LOOK_MS: u64 = 1;
/// The timer of these looks.
const LOOK_TOKEN: u64 = 1 << 50;
/// Objects, mappings and requests, at most.
const KEPT_MAX: usize = 4096;

/// An object that this back-end owns, or had.
#[derive(Debug)]
struct Object {
    uuid: [u8; 16],
    file: OwnedFd,
    announced: bool,
}

/// A piece of a shared memory region, through the file that backs it.
#[derive(Debug)]
struct Piece {
    region: u8,
    offset: u64,
    window: Window,
    mapped: bool,
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Asked {
    message: Message,
    wanted: Status,
    /// The handler that waits for it goes on then.
    resumes: bool,
}

/// What the back-end has asked for so far.
#[derive(Debug, Default)]
pub(super) struct ChannelState {
    objects: Vec<Object>,
    pieces: Vec<Piece>,
    notifiers: BTreeMap<u16, Window>,
    looking: bool,
    asked: VecDeque<Asked>,
    /// Requests on the main socket whose handlers ask first.
    during: Vec<(u32, Wanted)>,
    /// The request whose handler waits.
    paused: Option<(Message, Vec<OwnedFd>)>,
    /// Requests that came meanwhile.
    postponed: VecDeque<(Message, Vec<OwnedFd>)>,
    /// Translations that were asked for.
    missing: Vec<Miss>,
    failure: Option<String>,
    serial: u64,
}

impl SimBack {
    /// Makes a request on the channel.
    pub fn want(&mut self, wanted: &Wanted) -> Result<(), BackError> {
        self.ask(wanted, false)
    }

    /// The handler of `request` will ask this first, and answer once it has been answered.
    pub fn ask_during(&mut self, request: u32, wanted: Wanted) {
        if self.channel.during.len() < KEPT_MAX {
            self.channel.during.push((request, wanted));
        }
    }

    /// Whether a request on the channel waits for its answer.
    pub fn is_asking(&self) -> bool {
        !self.channel.asked.is_empty()
    }

    /// What it waits for, in words.
    pub fn waits_for(&self) -> Option<String> {
        let asked = self.channel.asked.front()?;
        Some(format!("the reply to {}", asked.message))
    }

    /// Why it cannot go on, once.
    pub fn take_failure(&mut self) -> Option<String> {
        self.channel.failure.take()
    }

    /// Whether it reads a socket now: the main one not while a handler waits, unless it was made to.
    pub fn reads(&self, channel: Channel) -> bool {
        channel == Channel::Backend || self.channel.paused.is_none() || self.config.reads_while_asking
    }

    /// A request on the main socket: true if its handler asks first, or another one has to end before.
    pub(super) fn is_paused_by(&mut self, message: &Message, fds: &mut Vec<OwnedFd>) -> bool {
        let id = message.request;
        if self.channel.paused.is_some() {
            // a translation is what the handler may be waiting for
            if id == crate::wire::id::frontend::IOTLB_MSG || self.channel.postponed.len() >= KEPT_MAX {
                return false;
            }
            self.channel.postponed.push_back((message.clone(), std::mem::take(fds)));
            return true;
        }
        let Some(at) = self.channel.during.iter().position(|(request, _)| *request == id) else {
            return false;
        };
        let (_, wanted) = self.channel.during.remove(at);
        match self.ask(&wanted, true) {
            Ok(()) if self.channel.asked.iter().any(|asked| asked.resumes) => {
                self.channel.paused = Some((message.clone(), std::mem::take(fds)));
                true
            }
            Ok(()) => false,
            Err(error) => {
                self.channel.failure.get_or_insert(error.to_string());
                false
            }
        }
    }

    /// A reply on the channel.
    pub(super) fn channel_reply(&mut self, reply: &Message, fds: &[OwnedFd]) {
        let answers = |asked: &Asked| reply.answers(&asked.message);
        // answers to different requests may overtake each other: each has its own
        let Some(at) = self.channel.asked.iter().position(answers) else {
            return;
        };
        let Some(asked) = self.channel.asked.remove(at) else {
            return;
        };
        if let Some(status) = unwanted(asked.wanted, reply) {
            let what = format!("the front-end answered {} with status {status:#x}", asked.message);
            self.channel.failure.get_or_insert(what);
        }
        if let (request::SHMEM_MAP, Payload::Mmap(mapping), false) =
            (reply.request, &asked.message.payload, reply.payload.as_u64() == Some(0))
        {
            let same = |piece: &&mut Piece| (piece.region, piece.offset) == (mapping.shmid, mapping.shm_offset);
            if let Some(piece) = self.channel.pieces.iter_mut().rev().find(same) {
                piece.mapped = false;
            }
        }
        if let Payload::Iotlb(miss) = &asked.message.payload {
            self.channel.missing.retain(|m| m.iova != miss.iova);
        }
        let found = reply.payload.as_u64() == Some(0);
        if let (request::SHARED_OBJECT_LOOKUP, true, Payload::SharedObject(object)) =
            (reply.request, found, &asked.message.payload)
        {
            let same = fds.first().is_some_and(|fd| holds(fd, &object.uuid));
            if !same {
                let what = format!("{}: what was found is not the object", asked.message);
                self.channel.failure.get_or_insert(what);
            }
        }
        if asked.resumes {
            self.resume_handler();
        }
    }

    fn resume_handler(&mut self) {
        let Some((message, fds)) = self.channel.paused.take() else {
            return;
        };
        self.carry_out(&message, fds);
        // one of these may pause again, and then the rest waits
        while self.channel.paused.is_none() {
            let Some((message, fds)) = self.channel.postponed.pop_front() else {
                return;
            };
            self.message(message, fds);
        }
    }

    fn ask(&mut self, wanted: &Wanted, resumes: bool) -> Result<(), BackError> {
        if self.channel.asked.len() >= KEPT_MAX {
            return Err(BackError::CannotAsk(
                "too many requests wait for their answers".to_owned(),
            ));
        }
        let Composed { message, fds } = self.compose(wanted)?;
        let due = message
            .spec()
            .map(|s| s.reply.due(message.needs_reply(), self.protocol_features));
        if due == Some(Due::Required) {
            self.channel.asked.push_back(Asked {
                message: message.clone(),
                wanted: wanted.status,
                resumes,
            });
        }
        let outgoing = Outgoing {
            automatic: false,
            ..Outgoing::automatic(message, fds)
        };
        self.outputs.push_back(Output::Send(outgoing));
        Ok(())
    }

    fn compose(&mut self, wanted: &Wanted) -> Result<Composed, BackError> {
        let id = wanted.request;
        let about = spec(Dialect::VhostUser, Channel::Backend, id);
        let about = about.ok_or_else(|| BackError::CannotAsk(format!("request {id} has no name")))?;
        if about.scope == Scope::Ring && usize::from(wanted.ring) >= self.rings.len() {
            return Err(BackError::NoRing(wanted.ring));
        }
        let index = u32::from(wanted.ring);
        let payload: Payload = match id {
            request::IOTLB_MSG => {
                let address = self.rings.get(usize::from(wanted.ring)).and_then(|ring| ring.address);
                Iotlb {
                    iova: address.map_or(0, |address| address.descriptor),
                    permissions: READ,
                    kind: MISS,
                    ..Iotlb::default()
                }
                .into()
            }
            request::VRING_HOST_NOTIFIER_MSG => VringArea {
                value: u64::from(index),
                size: PAGE,
                offset: 0,
            }
            .into(),
            request::VRING_CALL | request::VRING_ERR => VringState { index, num: 0 }.into(),
            request::SHARED_OBJECT_ADD => SharedObject { uuid: self.next_uuid() }.into(),
            request::SHARED_OBJECT_REMOVE | request::SHARED_OBJECT_LOOKUP => {
                let known = self.channel.objects.iter().rev().find(|object| object.announced);
                let uuid = known.map_or([0x22; 16], |object| object.uuid);
                SharedObject { uuid }.into()
            }
            request::SHMEM_MAP => self.free_piece().into(),
            request::SHMEM_UNMAP => {
                let piece = self.channel.pieces.iter().rev().find(|piece| piece.mapped);
                let mapping = piece.map(|piece| Mmap {
                    shmid: piece.region,
                    shm_offset: piece.offset,
                    len: piece.window.size(),
                    ..Mmap::default()
                });
                mapping.unwrap_or_default().into()
            }
            _ => Payload::Empty,
        };
        let payload = wanted.changed(payload)?;
        let need_reply = wanted.need_reply.unwrap_or(self.has(ProtocolFeature::ReplyAck));
        let fds = self.attach(id, &payload)?;
        let message = Message::request(about, payload).need_reply(need_reply);
        Ok(Composed { message, fds })
    }

    /// What a request carries, made or remembered for it.
    fn attach(&mut self, id: u32, payload: &Payload) -> Result<Vec<OwnedFd>, BackError> {
        let io = |e: std::io::Error| BackError::CannotAsk(format!("no file for it: {e}"));
        let memory = |e: crate::memory::MemoryError| BackError::CannotAsk(e.to_string());
        match (id, payload) {
            (request::VRING_HOST_NOTIFIER_MSG, Payload::VringArea(area)) => {
                let ring = (area.value & 0xff) as u16;
                self.channel.notifiers.remove(&ring);
                if area.value & 0x100 != 0 {
                    return Ok(Vec::new());
                }
                let file = memfd("vuh-notify", area.offset.saturating_add(PAGE)).map_err(io)?;
                let page = Window::new(duplicate(&file).map_err(io)?, area.offset, PAGE, true).map_err(memory)?;
                page.store_u16(0, NOT_NOTIFIED).map_err(memory)?;
                self.channel.notifiers.insert(ring, page);
                if !self.channel.looking {
                    self.channel.looking = true;
                    self.look_later();
                }
                Ok(vec![file])
            }
            (request::SHARED_OBJECT_ADD, Payload::SharedObject(object)) => {
                let file = memfd("vuh-object", PAGE).map_err(io)?;
                let window = Window::new(duplicate(&file).map_err(io)?, 0, PAGE, true).map_err(memory)?;
                window.write(0, &object.uuid).map_err(memory)?;
                if self.channel.objects.len() < KEPT_MAX {
                    let uuid = object.uuid;
                    self.channel.objects.push(Object {
                        uuid,
                        file,
                        announced: true,
                    });
                }
                Ok(Vec::new())
            }
            (request::SHARED_OBJECT_REMOVE, Payload::SharedObject(gone)) => {
                self.channel.objects.retain(|object| object.uuid != gone.uuid);
                Ok(Vec::new())
            }
            (request::SHMEM_MAP, Payload::Mmap(mapping)) => {
                let size = mapping.fd_offset.saturating_add(mapping.len).max(PAGE);
                let file = memfd("vuh-shmem", size.min(1 << 30)).map_err(io)?;
                // what cannot be mapped here is for the front-end to refuse
                if let Ok(window) = Window::new(duplicate(&file).map_err(io)?, mapping.fd_offset, mapping.len, true)
                    && self.channel.pieces.len() < KEPT_MAX
                {
                    self.channel.pieces.push(Piece {
                        region: mapping.shmid,
                        offset: mapping.shm_offset,
                        window,
                        mapped: true,
                    });
                }
                Ok(vec![file])
            }
            (request::SHMEM_UNMAP, Payload::Mmap(gone)) => {
                let same = |piece: &&mut Piece| (piece.region, piece.offset) == (gone.shmid, gone.shm_offset);
                if let Some(piece) = self.channel.pieces.iter_mut().filter(|p| p.mapped).find(same) {
                    piece.mapped = false;
                }
                Ok(Vec::new())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn next_uuid(&mut self) -> [u8; 16] {
        self.channel.serial += 1;
        let mut uuid = [0x5a; 16];
        uuid[8..].copy_from_slice(&self.channel.serial.to_be_bytes());
        uuid
    }

    /// A page of the first shared memory region in which nothing is mapped.
    fn free_piece(&self) -> Mmap {
        let region = self.config.shared_memory.iter().position(|size| *size > 0).unwrap_or(0) as u8;
        let mapped = self.channel.pieces.iter().filter(|p| p.mapped && p.region == region);
        let mut taken: Vec<(u64, u64)> = mapped
            .map(|p| (p.offset, p.offset.saturating_add(p.window.size())))
            .collect();
        taken.sort_unstable();
        let mut shm_offset = 0u64;
        for (start, end) in taken {
            if start >= shm_offset.saturating_add(PAGE) {
                break;
            }
            shm_offset = shm_offset.max(end.checked_next_multiple_of(PAGE).unwrap_or(0));
        }
        Mmap {
            shmid: region,
            shm_offset,
            len: PAGE,
            flags: 1,
            ..Mmap::default()
        }
    }

    /// The file of the object that was announced last.
    pub(super) fn latest_object(&self) -> Option<OwnedFd> {
        duplicate(&self.channel.objects.last()?.file).ok()
    }

    /// The file of an object, for the front-end that asks for it.
    pub(super) fn object(&self, uuid: &[u8; 16]) -> Option<OwnedFd> {
        let object = self.channel.objects.iter().find(|object| object.uuid == *uuid)?;
        duplicate(&object.file).ok()
    }

    /// The piece of a shared memory region that a range lies in, and where in it.
    pub fn shared(&self, region: u8, offset: u64) -> Option<(&Window, u64)> {
        let holds = |piece: &&Piece| {
            let at = offset.checked_sub(piece.offset);
            piece.region == region && at.is_some_and(|at| at < piece.window.size())
        };
        let piece = self.channel.pieces.iter().rev().find(holds)?;
        Some((&piece.window, offset - piece.offset))
    }

    /// Tells the driver that a ring has been served: by its eventfd, or in band where there is none.
    pub(super) fn signal(&mut self, index: u16) {
        let ring = &self.rings[usize::from(index)];
        if let Some(fd) = &ring.call {
            let fd = std::sync::Arc::clone(fd);
            self.outputs.push_back(Output::Call { ring: index, fd });
        } else if self.has(ProtocolFeature::InbandNotifications)
            && let Err(error) = self.ask(&Wanted::plain(request::VRING_CALL, index), false)
        {
            self.channel.failure.get_or_insert(error.to_string());
        }
    }

    /// Asks for a translation, unless that has been done.
    pub(super) fn ask_for_translation(&mut self, miss: Miss) {
        if self.channel.missing.contains(&miss) || self.channel.missing.len() >= KEPT_MAX {
            return;
        }
        self.channel.missing.push(miss);
        let field = |name: &str, value: u64| (name.to_owned(), crate::wire::Value::U64(value));
        let wanted = Wanted {
            request: request::IOTLB_MSG,
            fields: vec![
                field("iova", miss.iova),
                field("permissions", u64::from(miss.permissions)),
            ],
            // without a translation the ring stays where it is
            status: Status::Any,
            ..Wanted::default()
        };
        if let Err(error) = self.ask(&wanted, false) {
            self.channel.failure.get_or_insert(error.to_string());
        }
    }

    /// Looks at the notification pages, if it is time.
    pub(super) fn look_at_pages(&mut self, token: u64) {
        if token != LOOK_TOKEN {
            return;
        }
        self.channel.looking = !self.channel.notifiers.is_empty();
        if !self.channel.looking {
            return;
        }
        self.look_later();
        let mut notified = Vec::new();
        for (ring, page) in &self.channel.notifiers {
            match page.swap_u16(0, NOT_NOTIFIED) {
                Ok(NOT_NOTIFIED) => {}
                Ok(value) => notified.push((*ring, value)),
                Err(error) => {
                    self.channel.failure.get_or_insert(error.to_string());
                }
            }
        }
        for (ring, value) in notified {
            if value != ring {
                let what = format!("{value} was written to the page of ring {ring}");
                self.channel.failure.get_or_insert(what);
            }
            self.outputs
                .push_back(Output::Data(format!("ring {ring} was notified through its page")));
            self.serve(ring);
        }
    }

    fn look_later(&mut self) {
        let token = LOOK_TOKEN;
        self.outputs.push_back(Output::Later { token, ms: LOOK_MS });
    }

    /// A ring was stopped: its page is used no more.
    pub(super) fn forget_page(&mut self, ring: u16) {
        self.channel.notifiers.remove(&ring);
    }
}

/// Whether a file holds an object of that name.
fn holds(file: &OwnedFd, uuid: &[u8; 16]) -> bool {
    let Ok(window) = duplicate(file)
        .map_err(drop)
        .and_then(|file| Window::new(file, 0, PAGE, false).map_err(drop))
    else {
        return false;
    };
    let mut seen = [0; 16];
    window.read(0, &mut seen).is_ok() && seen == *uuid
}
