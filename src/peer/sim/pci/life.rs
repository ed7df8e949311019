//! How devices come and go: created at init, plugged, used, stopped, unplugged, destroyed; what an administrator and the
//! slave's driver do about them.

use super::fault::Fault;
use super::server::{Command, Halves, PciServer};
use super::table::State;
use super::{Bar, FIXED_BYTES, Generation};
use crate::memory::RegionTable;
use crate::peer::sim::Output;
use crate::trace::{DeviceChange, DeviceNote};
use crate::wire::id::{frontend, g1};
use crate::wire::{Channel, Dialect, Message, pci};

/// Where only the lower half of a word counts.
const LOW: u64 = 0xffff_ffff;

impl PciServer {
    /// What an administrator or the slave's guest does. An error: it is refused.
    pub fn command(&mut self, command: &Command) -> Result<(), String> {
        match command {
            Command::Listen(socket) => match self.listening.insert(socket.clone()) {
                true => Ok(()),
                false => Err(format!("`{socket}` listens already")),
            },
            Command::Acknowledge { conn, features, only } => self.driver_wants(*conn, *features, *only),
            Command::Disconnect(conn) => {
                let at = self.index_of(*conn).ok_or("there is no such connection")?;
                self.part(at)
            }
            Command::Close(socket) => {
                if !self.listening.remove(socket) {
                    return Err(format!("nothing listens on `{socket}`"));
                }
                for at in 0..self.entries.len() {
                    let is_of = self.entries[at].as_ref().is_some_and(|entry| entry.socket == *socket);
                    if is_of || self.has(Fault::OthersStopped) {
                        self.hang_up(at);
                    }
                }
                self.fall(socket);
                Ok(())
            }
            Command::Quit => {
                (0..self.entries.len()).for_each(|at| self.hang_up(at));
                for socket in std::mem::take(&mut self.listening) {
                    self.fall(&socket);
                }
                Ok(())
            }
            Command::Audit => {
                let [connections, devices, mappings, fds] = self.holds().map(|count| count as u64);
                let note = DeviceNote::new(DeviceChange::Holds)
                    .with("connections", connections)
                    .with("devices", devices)
                    .with("mappings", mappings)
                    .with("fds", fds);
                self.tell(None, note);
                Ok(())
            }
        }
    }

    /// The device that a socket has before its master comes.
    pub(super) fn stand(&mut self, conn: usize, socket: &str) {
        if self.config.device_first && self.standing.insert(socket.to_owned()) {
            let bar = DeviceNote::new(DeviceChange::Created).with("bar_size", FIXED_BYTES);
            self.tell(Some(conn), bar);
            self.tell(Some(conn), DeviceNote::new(DeviceChange::Plugged));
        }
    }

    /// The socket is gone, and so is a device that it was there for.
    fn fall(&mut self, socket: &str) {
        if self.standing.remove(socket) {
            self.tell(None, DeviceNote::new(DeviceChange::Unplugged));
            self.tell(None, DeviceNote::new(DeviceChange::Destroyed));
        }
    }

    /// The device is made of what the master has told.
    pub(super) fn init(&mut self, at: usize) -> Result<(), super::server::Refusal> {
        let Some(entry) = &self.entries[at] else { return Ok(()) };
        let bar = match (self.bar(&entry.regions), self.has(Fault::OverflowIgnored)) {
            (Ok(bar), _) => bar,
            (Err(_), true) => Bar {
                size: FIXED_BYTES,
                offsets: Vec::new(),
            },
            (Err(overflow), false) => return Err(super::server::Refusal::because(overflow.to_string())),
        };
        let conn = entry.conn;
        let about = |change| DeviceNote::new(change).with("conn", at as u64);
        let mut created = about(DeviceChange::Created)
            .with("virtio_id", u64::from(entry.kind.unwrap_or(0)))
            .with("bar_size", bar.size)
            .with("regions", entry.regions.len() as u64)
            .with("rings", u64::from(entry.nodes))
            .with("shared", u64::from(entry.shared));
        if let (Some(first), Some(last)) = (bar.offsets.first(), bar.offsets.last()) {
            created = created.with("first_offset", *first).with("last_offset", *last);
        }
        let created = created.says(format!("vhost-pci-{at}"));
        if !self.config.device_first {
            self.tell(Some(conn), created);
            self.tell(Some(conn), about(DeviceChange::Plugged));
        }
        self.tell(Some(conn), about(DeviceChange::Started));
        if let Some(entry) = &mut self.entries[at] {
            (entry.created, entry.driver) = (true, None);
        }
        Ok(())
    }

    fn bar(&self, regions: &[u64]) -> Result<Bar, super::Overflow> {
        let generation = self.config.generation;
        let mut bar = generation.bar(regions.iter().copied())?;
        let sum: u64 = regions.iter().sum();
        if self.has(Fault::BarNotDoubled) && generation <= Generation::G2 {
            bar.size = sum.next_power_of_two();
        }
        if self.has(Fault::BarNotRounded) && generation <= Generation::G3 {
            bar.size = if generation == Generation::G3 { sum } else { 2 * sum };
        }
        Ok(bar)
    }

    /// The master turns the connection off: the device goes, and its memory with it.
    pub(super) fn off(&mut self, at: usize) {
        if !self.has(Fault::OffIgnored) {
            self.remove_device(at);
            self.release(at);
        }
    }

    /// The server wants to part: the rings stop, the device goes, the master acknowledges, and then it is hung up on.
    fn part(&mut self, at: usize) -> Result<(), String> {
        let Some(entry) = &mut self.entries[at] else {
            return Ok(());
        };
        if entry.parting {
            return Err("it was asked to part already".to_owned());
        }
        if self.config.dialect != Dialect::VhostPci {
            // there is no message for it
            self.hang_up(at);
            return Ok(());
        }
        entry.parting = true;
        let is_told = entry.has_reply_ack();
        self.remove_device(at);
        self.request(at, g1::SET_PEER_CONNECTION, pci::connection::OFF);
        if !is_told || self.has(Fault::CloseBeforeAck) {
            self.hang_up(at);
        }
        Ok(())
    }

    /// The master has answered a request of the server.
    pub(super) fn acknowledged(&mut self, at: usize, reply: &Message) {
        let Some(entry) = &mut self.entries[at] else { return };
        let Some(place) = entry.pending.iter().position(|request| reply.answers(request)) else {
            // the monitor sees a reply that answers nothing
            return;
        };
        entry.pending.remove(place);
        if entry.parting && reply.request == g1::SET_PEER_CONNECTION {
            self.hang_up(at);
        }
    }

    /// The slave's driver writes the features that it wants: 64 bits as two writes of 32.
    fn driver_wants(&mut self, conn: usize, features: u64, only: Halves) -> Result<(), String> {
        let toggles = self.has(Fault::HalfFeatures);
        let always = self.has(Fault::ResetAlways);
        let at = self.index_of(conn).ok_or("there is no such connection")?;
        let Some(entry) = &mut self.entries[at] else {
            return Ok(());
        };
        let mut wanted = entry.driver.unwrap_or(entry.acked);
        let writes: &[bool] = if only == Halves::Low { &[false] } else { &[false, true] };
        for is_high in writes {
            let half = if *is_high { features >> 32 } else { features & LOW };
            // which half it is, the register says; a faulty server counts instead
            let lands_high = if toggles { entry.odd_writes } else { *is_high };
            entry.odd_writes = !entry.odd_writes;
            wanted = match lands_high {
                true => wanted & LOW | half << 32,
                false => wanted & !LOW | half,
            };
        }
        entry.driver = Some(wanted);
        if only == Halves::Low || !entry.created || wanted == entry.acked && !always {
            return Ok(());
        }
        let key = (entry.socket.clone(), entry.uuid, entry.kind.unwrap_or(0));
        self.reduced.insert(key, wanted);
        if !self.has(Fault::ResetMissing) {
            self.request(at, frontend::SET_FEATURES, wanted);
        }
        Ok(())
    }

    /// The bits that a slave's driver has left to a device.
    pub(super) fn reduction(&self, at: usize) -> u64 {
        let Some(entry) = &self.entries[at] else {
            return u64::MAX;
        };
        if self.has(Fault::ReducedForgotten) || entry.created {
            return u64::MAX;
        }
        let key = (entry.socket.clone(), entry.uuid, entry.kind.unwrap_or(0));
        self.reduced.get(&key).copied().unwrap_or(u64::MAX)
    }

    /// Ends a connection from this side.
    pub(super) fn hang_up(&mut self, at: usize) {
        if let Some(entry) = &self.entries[at] {
            self.outputs.push_back((Some(entry.conn), Output::Close(Channel::Main)));
            self.tear_down(at);
        }
    }

    /// The connection is gone: so are its device, its memory and its entry.
    pub(super) fn tear_down(&mut self, at: usize) {
        self.remove_device(at);
        self.release(at);
        self.entries[at] = None;
    }

    fn remove_device(&mut self, at: usize) {
        let Some(entry) = &mut self.entries[at] else { return };
        entry.stop();
        let (conn, was_created) = (entry.conn, std::mem::take(&mut entry.created));
        if !was_created {
            return;
        }
        let about = |change| DeviceNote::new(change).with("conn", at as u64);
        self.tell(Some(conn), about(DeviceChange::Stopped));
        if !self.config.device_first {
            self.tell(Some(conn), about(DeviceChange::Unplugged));
            self.tell(Some(conn), about(DeviceChange::Destroyed));
        }
    }

    fn release(&mut self, at: usize) {
        let Some(entry) = &mut self.entries[at] else { return };
        let conn = entry.conn;
        entry.back.use_memory(RegionTable::new());
        (entry.regions, entry.shared) = (Vec::new(), false);
        entry.state = entry.state.min(State::Configured);
        if self.has(Fault::MappingsKept) {
            self.pool.leak(conn);
        } else if self.has(Fault::UnmappedWithFirst) {
            for other in self.pool.tear_down(conn) {
                if let Some(entry) = self.entry_of(other) {
                    entry.back.use_memory(RegionTable::new());
                }
            }
        } else {
            self.pool.release(conn);
        }
    }
}
