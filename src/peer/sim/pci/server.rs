//! The server: what becomes of a message, by which connection it came from and the state of that one's entry.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{BorrowedFd, OwnedFd};

use super::entry::{Entry, device, is_served};
use super::fault::Fault;
use super::pool::{Group, Pool, Sharing};
use super::table::{Permit, State, permit};
use super::words::{Word, about_ring, configures_ring, ring_of};
use super::{Grouping, NET, Profile, ServerConfig};
use crate::memory::{MemRegionDesc, RegionTable};
use crate::peer::device::DeviceError;
use crate::peer::sim::back::SimBack;
use crate::peer::sim::{Outgoing, Output};
use crate::trace::{DeviceChange, DeviceNote};
use crate::wire::id::frontend as id;
use crate::wire::pci::{F_DEV_INFO, F_VHOST_PCI};
use crate::wire::{
    Channel, DevInfo, Dialect, MemTable, Message, Payload, ReplyKind, VringBase, VringState, flags, spec,
};

/// What an administrator or the slave's guest does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Another listening socket.
    Listen(String),
    /// The slave's driver writes the features that it wants, in two halves or one.
    Acknowledge {
        /// On which connection.
        conn: usize,
        /// All bits.
        features: u64,
        /// The halves that are written.
        only: Halves,
    },
    /// The server asks a master to part.
    Disconnect(usize),
    /// A listening socket goes, and with it its devices.
    Close(String),
    /// All go.
    Quit,
    /// Tells what it holds.
    Audit,
}

/// Writes to a register of 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Halves {
    /// The lower half, then the upper one.
    #[default]
    Both,
    /// The lower one alone.
    Low,
}

/// A simulated vhost-pci server.
#[derive(Debug)]
pub struct PciServer {
    pub(super) config: ServerConfig,
    /// Masters by their index, which is their connection id.
    pub(super) entries: Vec<Option<Entry>>,
    pub(super) pool: Pool,
    pub(super) listening: BTreeSet<String>,
    /// Descriptors that a fault has kept.
    pub(super) kept: Vec<OwnedFd>,
    /// Features that the slave's driver left to a device, by socket, UUID and kind, so that it finds them when it is back.
    pub(super) reduced: BTreeMap<(String, [u8; 16], u16), u64>,
    /// Devices that are there before their masters, by socket.
    pub(super) standing: BTreeSet<String>,
    pub(super) outputs: VecDeque<(Option<usize>, Output)>,
    /// Connections whose rings may want something done.
    stirred: BTreeSet<usize>,
    timers: BTreeMap<u64, (usize, u64)>,
    serial: u64,
}

/// Why a message is refused.
pub(super) struct Refusal {
    why: String,
    /// The connection cannot go on after it.
    hangs_up: bool,
}

impl Refusal {
    pub(super) fn because(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            hangs_up: false,
        }
    }

    fn final_because(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            hangs_up: true,
        }
    }
}

impl PciServer {
    /// A server whose sockets listen.
    pub fn new(config: ServerConfig) -> Self {
        let listening = config.servers.iter().cloned().collect();
        Self {
            config,
            entries: Vec::new(),
            pool: Pool::default(),
            listening,
            kept: Vec::new(),
            reduced: BTreeMap::new(),
            standing: BTreeSet::new(),
            outputs: VecDeque::new(),
            stirred: BTreeSet::new(),
            timers: BTreeMap::new(),
            serial: 0,
        }
    }

    /// What it wants done next, and on which connection.
    pub fn next_output(&mut self) -> Option<(Option<usize>, Output)> {
        while let Some(conn) = self.stirred.pop_first() {
            self.drain(conn);
        }
        self.outputs.pop_front()
    }

    /// A master has connected to a socket: it gets an entry, or is hung up on.
    pub fn accept(&mut self, conn: usize, socket: &str) -> Result<(), DeviceError> {
        if !self.listening.contains(socket) {
            let note = DeviceNote::new(DeviceChange::Refused);
            self.tell(Some(conn), note.says(format!("nothing listens on `{socket}`")));
            self.outputs.push_back((Some(conn), Output::Close(Channel::Main)));
            return Ok(());
        }
        let there = self.entries.iter().flatten().filter(|e| e.socket == socket).count();
        if there >= self.config.clients && !self.has(Fault::SecondClient) {
            let note = DeviceNote::new(DeviceChange::Refused);
            self.tell(Some(conn), note.says(format!("`{socket}` has its {there} masters")));
            self.outputs.push_back((Some(conn), Output::Close(Channel::Main)));
            return Ok(());
        }
        let entry = Entry::new(conn, socket, self.config.queues)?;
        let free = self.entries.iter().position(Option::is_none);
        match free {
            Some(at) => self.entries[at] = Some(entry),
            None => self.entries.push(Some(entry)),
        }
        self.stand(conn, socket);
        Ok(())
    }

    /// A master is gone.
    pub fn closed(&mut self, conn: usize) {
        if let Some(at) = self.index_of(conn) {
            self.tear_down(at);
        }
    }

    /// A message came on a connection.
    pub fn message(&mut self, conn: usize, message: Message, fds: Vec<OwnedFd>) {
        let Some(own) = self.index_of(conn) else { return };
        if message.is_reply() {
            self.acknowledged(own, &message);
            return;
        }
        match self.examine(own, &message) {
            Ok((at, next)) => self.take(at, message, fds, next),
            Err(refusal) => self.refuse(own, &message, fds, &refusal),
        }
    }

    /// The kick eventfd of a ring was signalled.
    pub fn kicked(&mut self, conn: usize, ring: u16) {
        if let Some(back) = self.back(conn) {
            back.kicked(ring);
        }
    }

    /// The kick descriptor of a ring is of no use.
    pub fn forget_kick(&mut self, conn: usize, ring: u16) {
        if let Some(back) = self.back(conn) {
            back.forget_kick(ring);
        }
    }

    /// Time for something that was put off.
    pub fn timer(&mut self, token: u64) {
        if let Some((conn, inner)) = self.timers.remove(&token)
            && let Some(back) = self.back(conn)
        {
            back.timer(inner);
        }
    }

    /// Kick eventfds to watch, by connection and ring.
    pub fn watches(&self) -> impl Iterator<Item = (usize, u16, BorrowedFd<'_>)> {
        let entries = self.entries.iter().flatten();
        entries.flat_map(|entry| entry.back.watches().map(|(ring, fd)| (entry.conn, ring, fd)))
    }

    /// Kick eventfds of one connection.
    pub fn watches_of(&self, conn: usize) -> impl Iterator<Item = (u16, BorrowedFd<'_>)> {
        let entry = self.index_of(conn).and_then(|at| self.entries[at].as_ref());
        entry.into_iter().flat_map(|entry| entry.back.watches())
    }

    /// Rings and device of a connection.
    pub fn back(&mut self, conn: usize) -> Option<&mut SimBack> {
        let at = self.index_of(conn)?;
        self.stirred.insert(conn);
        self.entries[at].as_mut().map(|entry| &mut entry.back)
    }

    /// The memory of a connection's master as the slave's guest sees it: a ring or a driver of the slave can be put on it.
    pub fn view(&self, conn: usize) -> Option<&RegionTable> {
        self.pool.view(conn)
    }

    /// The id of a connection, once its master has it; where headers have none, it is what the device is called by.
    pub fn conn_id(&self, conn: usize) -> Option<u64> {
        let at = self.index_of(conn)?;
        let entry = self.entries[at].as_ref()?;
        (entry.assigned || !self.config.dialect.has_conn_id()).then_some(at as u64)
    }

    /// Connections, devices, mappings and descriptors that it has.
    pub fn holds(&self) -> [usize; 4] {
        let entries = || self.entries.iter().flatten();
        let devices = entries().filter(|entry| entry.created).count();
        let fds = entries().map(|entry| entry.back.fds_held()).sum::<usize>() + self.kept.len();
        [entries().count(), devices, self.pool.mappings(), fds]
    }

    /// What it listens on.
    pub fn listening(&self) -> impl Iterator<Item = &str> {
        self.listening.iter().map(String::as_str)
    }

    /// Sends a message of the script in its name.
    pub fn sent(&mut self, conn: usize, message: &Message) {
        if message.needs_reply()
            && !message.is_reply()
            && let Some(entry) = self.entry_of(conn)
        {
            entry.await_ack(message.clone());
        }
    }

    /// Whether the message may be taken, where it belongs, and what comes of it.
    fn examine(&self, own: usize, message: &Message) -> Result<(usize, Option<State>), Refusal> {
        let dialect = self.config.dialect;
        let version = message.flags & flags::VERSION_MASK;
        if version != dialect.version() && !self.has(Fault::VersionIgnored) {
            return Err(Refusal::final_because(format!("version {version}")));
        }
        let at = self.addressee(own, message)?;
        let Some(entry) = &self.entries[at] else {
            return Err(Refusal::because("nobody has this id"));
        };
        let known = flags::VERSION_MASK | flags::REPLY | flags::NEED_REPLY;
        if message.flags & !known != 0 && !self.has(Fault::FlagsIgnored) {
            return Err(Refusal::because(format!("flags {:#x}", message.flags & !known)));
        }
        if self.config.profile == Profile::Strict && message.needs_reply() && !entry.has_reply_ack() {
            return Err(Refusal::because("need_reply without REPLY_ACK"));
        }
        let word = Word::of(message);
        if word == Word::Unknown {
            return match self.has(Fault::UnknownDispatched) {
                true => Ok((at, None)),
                false => Err(Refusal::because("no such request")),
            };
        }
        let is_short = matches!(message.payload, Payload::Raw(_));
        if is_short && !(word == Word::DevInfo && self.has(Fault::ShortInfo)) {
            let bytes = message.payload.encode().len();
            return Err(Refusal::because(format!("{bytes} bytes of payload")));
        }
        self.gate(entry, word)?;
        if entry.wants_info && self.config.profile == Profile::Strict && word != Word::DevInfo {
            return Err(Refusal::because(
                "the device info has to come after SET_PROTOCOL_FEATURES",
            ));
        }
        match permit(self.config.profile, entry.state, word) {
            Permit::Taken(next) => Ok((at, next)),
            Permit::LetThrough => Ok((at, None)),
            Permit::Refused if self.is_forced(entry, word) => Ok((at, Some(forced_state(entry.state, word)))),
            Permit::Refused if word == Word::Neither => Err(Refusal::because("a value that means nothing")),
            Permit::Refused => Err(Refusal::because(format!("not in state {}", entry.state.name()))),
        }
    }

    /// The entry that a message is about: that of the connection on which it came, which the header must not contradict.
    fn addressee(&self, own: usize, message: &Message) -> Result<usize, Refusal> {
        if !self.config.dialect.has_conn_id() {
            return Ok(own);
        }
        let assigned = self.entries[own].as_ref().is_some_and(|entry| entry.assigned);
        let asks = message.request == crate::wire::id::g1::GET_CONN_ID && message.payload == Payload::Empty;
        let (named, own_id) = (message.conn_id, own as u64);
        if self.has(Fault::ConnIdTrusted) && named != Dialect::ANONYMOUS {
            let there = usize::try_from(named).ok().filter(|at| *at < self.entries.len());
            return there.ok_or_else(|| Refusal::because("no such entry"));
        }
        match named {
            Dialect::ANONYMOUS if self.has(Fault::AnonymousAccepted) => Ok(own),
            Dialect::ANONYMOUS if asks && !assigned => Ok(own),
            Dialect::ANONYMOUS if assigned => Err(Refusal::because("anonymous, and has an id")),
            Dialect::ANONYMOUS => Err(Refusal::because("anonymous")),
            named if named == own_id && assigned => Ok(own),
            named => Err(Refusal::because(format!(
                "connection id {named} on connection {own_id}"
            ))),
        }
    }

    /// The protocol feature that a message of vhost-pci needs.
    fn gate(&self, entry: &Entry, word: Word) -> Result<(), Refusal> {
        let needed = match word {
            Word::DevInfo => F_VHOST_PCI | F_DEV_INFO,
            Word::Init | Word::On | Word::Off | Word::Neither => F_VHOST_PCI,
            _ => return Ok(()),
        };
        if entry.protocol & needed == 0 && !self.has(Fault::Ungated) {
            return Err(Refusal::because("its protocol feature was not negotiated"));
        }
        Ok(())
    }

    /// Whether a fault makes the server take what its table refuses.
    fn is_forced(&self, entry: &Entry, word: Word) -> bool {
        match word {
            Word::DevInfo => self.has(Fault::KindAgain),
            Word::Init if entry.state == State::Created => self.has(Fault::CreatedTwice),
            Word::Init => self.has(Fault::InitWithoutRings),
            Word::Common(id::SET_MEM_TABLE) if entry.state == State::Empty => self.has(Fault::MemoryBeforeKind),
            _ => false,
        }
    }

    /// Takes a message that is allowed.
    fn take(&mut self, at: usize, message: Message, fds: Vec<OwnedFd>, next: Option<State>) {
        let word = Word::of(&message);
        let Some(entry) = &mut self.entries[at] else { return };
        let was_lax = permit(self.config.profile, entry.state, word) == Permit::LetThrough;
        let (conn, state) = (entry.conn, entry.state);
        if word != Word::DevInfo {
            entry.wants_info = false;
        }
        if was_lax {
            let note = DeviceNote::new(DeviceChange::LetThrough).with("request", u64::from(message.request));
            let detail = format!("{} in state {}", message.name(), state.name());
            self.tell(Some(conn), note.says(detail));
        }
        let done = match word {
            Word::ConnId => return self.give_id(at, &message),
            Word::DevInfo => self.set_info(at, &message),
            Word::Init => self.init(at),
            Word::On | Word::Unknown | Word::Neither => Ok(()),
            Word::Off => {
                self.off(at);
                Ok(())
            }
            Word::Common(request) => match self.common(at, request, &message, fds) {
                Some(done) => done,
                // answered already
                None => {
                    self.advance(at, next);
                    return;
                }
            },
        };
        match done {
            Ok(()) => {
                self.advance(at, next);
                self.acknowledge(at, &message, 0);
            }
            Err(refusal) => self.refuse(at, &message, Vec::new(), &refusal),
        }
    }

    fn advance(&mut self, at: usize, next: Option<State>) {
        if let (Some(entry), Some(next)) = (&mut self.entries[at], next) {
            entry.state = next;
        }
    }

    /// Requests that vhost-user has as well. `None`: whoever does it has answered.
    fn common(&mut self, at: usize, request: u32, message: &Message, fds: Vec<OwnedFd>) -> Option<Result<(), Refusal>> {
        let all_at_once = self.has(Fault::OnePhaseFeatures);
        let entry = self.entries[at].as_mut()?;
        let offered = ServerConfig::features(entry.kind.or(all_at_once.then_some(NET)));
        let offered = offered & self.reduction(at);
        let entry = self.entries[at].as_mut()?;
        let number = match (request, &message.payload) {
            (id::GET_FEATURES, _) => offered,
            (id::GET_PROTOCOL_FEATURES, _) => ServerConfig::protocol_features(),
            (id::GET_QUEUE_NUM, _) if entry.kind == Some(NET) => u64::from(self.config.queues),
            (id::GET_QUEUE_NUM, _) => 0,
            (id::SET_FEATURES, Payload::U64(features)) => {
                if features & !offered != 0 {
                    return Some(Err(Refusal::because(format!(
                        "features {:#x} were not offered",
                        features & !offered
                    ))));
                }
                entry.acked = *features;
                entry.negotiated();
                return Some(Ok(()));
            }
            (id::SET_PROTOCOL_FEATURES, Payload::U64(features)) => {
                let unknown = features & !ServerConfig::protocol_features();
                if unknown != 0 {
                    return Some(Err(Refusal::because(format!(
                        "protocol features {unknown:#x} were not offered"
                    ))));
                }
                entry.protocol = *features;
                entry.wants_info = features & (F_VHOST_PCI | F_DEV_INFO) != 0;
                entry.negotiated();
                return Some(Ok(()));
            }
            (id::SET_OWNER | id::RESET_OWNER | id::SEND_RARP, _) => return Some(Ok(())),
            (id::SET_MEM_TABLE, Payload::MemTable(table)) => {
                let table = table.clone();
                return Some(self.set_memory(at, &table, fds));
            }
            _ => {
                self.ring_message(at, message.clone(), fds);
                return None;
            }
        };
        self.reply(at, message, number);
        None
    }

    /// GET_CONN_ID.
    fn give_id(&mut self, at: usize, message: &Message) {
        if !self.has(Fault::ConnIdByDifference) {
            if let Some(entry) = &mut self.entries[at] {
                entry.assigned = true;
            }
            self.reply(at, message, at as u64);
            return;
        }
        // all that have appeared since, whoever asks
        for at in 0..self.entries.len() {
            if let Some(entry) = self.entries[at].as_mut().filter(|entry| !entry.assigned) {
                entry.assigned = true;
                self.reply(at, message, at as u64);
            }
        }
    }

    /// SET_DEV_INFO or SET_DEVICE_ID.
    fn set_info(&mut self, at: usize, message: &Message) -> Result<(), Refusal> {
        let DevInfo { virtio_id, uuid } = match &message.payload {
            Payload::DevInfo(info) => *info,
            Payload::U64(kind) => DevInfo {
                virtio_id: u16::try_from(*kind).map_err(|_| Refusal::because("no virtio id"))?,
                uuid: [0; 16],
            },
            // a faulty server takes what there is
            other => DevInfo {
                virtio_id: other
                    .encode()
                    .first_chunk()
                    .map_or(0, |bytes| u16::from_ne_bytes(*bytes)),
                uuid: [0; 16],
            },
        };
        if !is_served(virtio_id) && !self.has(Fault::AnyKind) {
            return Err(Refusal::because(format!("virtio id {virtio_id} is not served")));
        }
        let queues = self.config.queues;
        let Some(entry) = &mut self.entries[at] else {
            return Ok(());
        };
        let model = device(virtio_id, queues).map_err(|error| Refusal::because(error.to_string()))?;
        entry.back.set_device(model);
        (entry.kind, entry.uuid, entry.wants_info) = (Some(virtio_id), uuid, false);
        let (conn, kind) = (entry.conn, u64::from(virtio_id));
        let note = DeviceNote::new(DeviceChange::Configured);
        self.tell(Some(conn), note.with("conn", at as u64).with("virtio_id", kind));
        Ok(())
    }

    /// SET_MEM_TABLE: the regions are mapped, or found mapped for the same VM.
    fn set_memory(&mut self, at: usize, table: &MemTable, fds: Vec<OwnedFd>) -> Result<(), Refusal> {
        let Some(entry) = &self.entries[at] else { return Ok(()) };
        if table.regions.len() != fds.len() {
            let (regions, fds) = (table.regions.len(), fds.len());
            return Err(Refusal::because(format!("{regions} regions, {fds} descriptors")));
        }
        let describe = |region: &crate::wire::MemRegion| MemRegionDesc {
            guest_address: region.guest_address,
            size: region.size,
            user_address: region.user_address,
            mmap_offset: region.mmap_offset,
        };
        let regions: Vec<_> = table.regions.iter().map(describe).zip(fds).collect();
        let sizes: Vec<u64> = table.regions.iter().map(|region| region.size).collect();
        let conn = entry.conn;
        let group = match self.config.grouping {
            Grouping::Listener => Group::Listener(entry.socket.clone()),
            Grouping::Uuid if entry.uuid == [0; 16] && !self.has(Fault::NilGrouped) => Group::Alone(conn),
            Grouping::Uuid => Group::Vm(entry.uuid),
        };
        let blindly = self.has(Fault::SharedBlindly) || group == Group::Vm([0; 16]);
        let sharing = Sharing {
            once: self.config.sharing && !self.has(Fault::NeverShared),
            blindly,
        };
        let mapped = self.pool.map(conn, group, regions, sharing);
        let (view, shared) = mapped.map_err(|error| Refusal::because(error.to_string()))?;
        let mappings = self.pool.mappings() as u64;
        let Some(entry) = &mut self.entries[at] else {
            return Ok(());
        };
        entry.back.use_memory(view);
        (entry.shared, entry.regions) = (shared, sizes);
        let note = DeviceNote::new(DeviceChange::Mapped)
            .with("conn", at as u64)
            .with("regions", entry.regions.len() as u64)
            .with("shared", u64::from(shared))
            .with("mappings", mappings);
        self.tell(Some(conn), note);
        Ok(())
    }

    /// What is about one ring: the rings themselves answer it.
    fn ring_message(&mut self, at: usize, mut message: Message, mut fds: Vec<OwnedFd>) {
        let (phantom, from_index) = (self.has(Fault::PhantomQueue), self.has(Fault::SizeFromIndex));
        let (base_from_index, kick_once) = (self.has(Fault::BaseFromIndex), self.has(Fault::KickKeptOnce));
        let call_once = self.has(Fault::CallKept);
        let Some(entry) = &mut self.entries[at] else { return };
        let conn = entry.conn;
        let ring = ring_of(&message).unwrap_or(0);
        match (message.request, &mut message.payload) {
            (id::SET_VRING_NUM, Payload::VringState(VringState { num, .. })) if from_index => *num = ring,
            (id::SET_VRING_BASE, Payload::VringBase(VringBase { indices, .. })) if base_from_index => *indices = ring,
            _ => {}
        }
        if message.request == id::SET_VRING_NUM {
            entry.nodes += 1;
        }
        let is_about_setup =
            configures_ring(message.request) || matches!(message.request, id::SET_VRING_KICK | id::SET_VRING_CALL);
        if phantom && is_about_setup {
            message = about_ring(message, entry.nodes.saturating_sub(1));
        }
        let is_stored = match message.request {
            id::SET_VRING_KICK => entry.kicked.insert(ring) || !kick_once,
            id::SET_VRING_CALL => entry.called.insert(ring) || !call_once,
            _ => true,
        };
        if !is_stored {
            fds.clear();
            self.acknowledge(at, &message, 0);
            return;
        }
        entry.back.message(message, fds);
        self.drain(conn);
    }

    /// Refuses a message: its descriptors are closed, and who wants to know is told.
    fn refuse(&mut self, at: usize, message: &Message, fds: Vec<OwnedFd>, refusal: &Refusal) {
        let is_late_table = message.request == id::SET_MEM_TABLE && self.has(Fault::TableFdsLeft);
        if self.has(Fault::RefusedFdsKept) || is_late_table {
            self.kept.extend(fds);
        }
        let Some(entry) = &self.entries[at] else { return };
        let note = DeviceNote::new(DeviceChange::Refused)
            .with("conn", at as u64)
            .with("request", u64::from(message.request));
        let (conn, detail) = (entry.conn, format!("{}: {}", message.name(), refusal.why));
        self.tell(Some(conn), note.says(detail));
        // who waits for a reply of its own would wait for ever
        let must_answer = message.spec().is_some_and(|spec| spec.reply.kind == ReplyKind::Always);
        if refusal.hangs_up || must_answer {
            self.hang_up(at);
        } else if !self.has(Fault::AckMissing) {
            self.acknowledge(at, message, u64::from(!self.has(Fault::RefusedAcked)));
        }
    }

    pub(super) fn acknowledge(&mut self, at: usize, message: &Message, status: u64) {
        let Some(entry) = &self.entries[at] else { return };
        if message.needs_reply() && entry.has_reply_ack() {
            self.reply(at, message, status);
        }
    }

    fn reply(&mut self, at: usize, message: &Message, value: u64) {
        let Some(entry) = &self.entries[at] else { return };
        let reply = Message::reply_to(message, Payload::U64(value)).on_connection(at as u64);
        let outgoing = Outgoing::automatic(reply, Vec::new());
        self.outputs.push_back((Some(entry.conn), Output::Send(outgoing)));
    }

    /// A request of the server's own, of which it wants to know that it was carried out.
    pub(super) fn request(&mut self, at: usize, request: u32, value: u64) {
        let Some(spec) = spec(self.config.dialect, Channel::Main, request) else {
            return;
        };
        let Some(entry) = &mut self.entries[at] else { return };
        let message = Message::request(spec, Payload::U64(value))
            .on_connection(at as u64)
            .need_reply(entry.has_reply_ack());
        if message.needs_reply() {
            entry.await_ack(message.clone());
        }
        let outgoing = Outgoing::automatic(message, Vec::new());
        self.outputs.push_back((Some(entry.conn), Output::Send(outgoing)));
    }

    /// What the rings of a connection want done goes out.
    fn drain(&mut self, conn: usize) {
        let Some(at) = self.index_of(conn) else { return };
        while let Some(output) = self.entries[at].as_mut().and_then(|entry| entry.back.next_output()) {
            let output = match output {
                Output::Later { token, ms } => {
                    self.serial += 1;
                    self.timers.insert(self.serial, (conn, token));
                    Output::Later { token: self.serial, ms }
                }
                Output::Send(mut outgoing) => {
                    outgoing.message = outgoing.message.on_connection(at as u64);
                    Output::Send(outgoing)
                }
                other => other,
            };
            self.outputs.push_back((Some(conn), output));
        }
    }

    pub(super) fn tell(&mut self, conn: Option<usize>, note: DeviceNote) {
        self.outputs.push_back((conn, Output::Device(note)));
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.config.faults.has(fault)
    }

    pub(super) fn index_of(&self, conn: usize) -> Option<usize> {
        let is_it = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| entry.conn == conn);
        self.entries.iter().position(is_it)
    }

    pub(super) fn entry_of(&mut self, conn: usize) -> Option<&mut Entry> {
        let at = self.index_of(conn)?;
        self.entries[at].as_mut()
    }
}

/// Where an entry gets by a message that only a faulty server takes.
fn forced_state(state: State, word: Word) -> State {
    match word {
        Word::DevInfo => state.max(State::Configured),
        Word::Init => State::Created,
        _ => State::Memory,
    }
}
