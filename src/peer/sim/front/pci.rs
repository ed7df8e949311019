//! The front-end as a vhost-pci master: what it says of itself, and what it does when the slave makes a request.

use std::os::fd::OwnedFd;

use super::{FrontError, SimFront, Task};
use crate::peer::sim::pci::{Fault, Faults};
use crate::peer::sim::{Outgoing, Output};
use crate::trace::{DeviceChange, DeviceNote};
use crate::wire::id::{frontend as request, g1, g2};
use crate::wire::pci::{connection, vhost_pci};
use crate::wire::{Channel, DevInfo, Dialect, Message, Payload, ProtocolFeature};

/// What a master says of itself.
#[derive(Debug, Clone, Default)]
pub struct MasterConfig {
    /// Its VM; all zeros: it does not say.
    pub uuid: [u8; 16],
    /// Its device.
    pub virtio_id: u16,
    /// Which part of the VM's memory it uses for rings and buffers, and how many parts there are.
    pub part: (usize, usize),
    /// Its deviations.
    pub faults: Faults,
}

/// What a master has to remember.
#[derive(Debug)]
pub(super) struct Master {
    config: MasterConfig,
    /// What the slave calls it by.
    conn_id: u64,
    /// Its device is plugged.
    plugged: bool,
}

/// Something that only a master does during its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MasterTask {
    ConnId,
    Negotiate,
    NegotiateProtocol,
    Info,
    /// The features again: now the slave knows the kind of device.
    NegotiateAgain,
    Init,
    Plugged,
}

impl Master {
    pub(super) fn new(config: MasterConfig) -> Self {
        Self {
            config,
            conn_id: Dialect::ANONYMOUS,
            plugged: false,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.config.faults.has(fault)
    }
}

impl SimFront {
    /// The id that its messages carry.
    pub fn conn_id(&self) -> u64 {
        let id = self.master.as_ref().filter(|master| !master.has(Fault::IdForgotten));
        id.map_or(self.config.dialect.no_conn_id(), |master| master.conn_id)
    }

    /// A new connection: nobody has an id.
    pub(super) fn forget_conn_id(&mut self) {
        if let Some(master) = &mut self.master {
            master.conn_id = Dialect::ANONYMOUS;
        }
    }

    /// What a master does first.
    pub(super) fn master_hello(&self) -> Vec<Task> {
        let asks = self
            .config
            .dialect
            .has_conn_id()
            .then_some(Task::Master(MasterTask::ConnId));
        let features = [Task::Get(request::GET_FEATURES), Task::Master(MasterTask::Negotiate)];
        asks.into_iter().chain(features).collect()
    }

    pub(super) fn master_task(&mut self, task: MasterTask) -> Result<(), FrontError> {
        let dialect = self.config.dialect;
        let first =
            |front: &mut Self, tasks: &[Task]| tasks.iter().rev().for_each(|task| front.tasks.push_front(*task));
        match task {
            MasterTask::ConnId => self.request(g1::GET_CONN_ID, Payload::Empty, Vec::new()),
            MasterTask::Negotiate => first(
                self,
                &[
                    Task::Get(request::GET_PROTOCOL_FEATURES),
                    Task::Master(MasterTask::NegotiateProtocol),
                    Task::Master(MasterTask::Info),
                    Task::Get(request::GET_QUEUE_NUM),
                    Task::SetOwner,
                    Task::Get(request::GET_FEATURES),
                    Task::Master(MasterTask::NegotiateAgain),
                ],
            ),
            MasterTask::NegotiateProtocol => {
                let wanted = self.protocol_offered & self.config.protocol_features;
                self.request(request::SET_PROTOCOL_FEATURES, Payload::U64(wanted), Vec::new());
            }
            MasterTask::Info => {
                let Some(master) = &self.master else { return Ok(()) };
                let (virtio_id, uuid) = (master.config.virtio_id, master.config.uuid);
                match dialect {
                    Dialect::VhostPciG2 => {
                        self.request(g2::SET_DEVICE_ID, Payload::U64(u64::from(virtio_id)), Vec::new());
                    }
                    _ => self.request(g1::SET_DEV_INFO, DevInfo { virtio_id, uuid }.into(), Vec::new()),
                }
            }
            MasterTask::NegotiateAgain => {
                self.features = self.offered & self.config.features;
                self.perform_set_features();
            }
            MasterTask::Init => match dialect {
                Dialect::VhostPciG2 => {
                    self.request(g2::SET_VHOST_PCI, Payload::U64(vhost_pci::START), Vec::new());
                }
                _ => self.request(g1::SET_PEER_CONNECTION, Payload::U64(connection::INIT), Vec::new()),
            },
            MasterTask::Plugged => {
                if let Some(master) = &mut self.master {
                    master.plugged = true;
                }
                self.tell(DeviceChange::Plugged);
            }
        }
        Ok(())
    }

    /// Takes in what a reply tells a master.
    pub(super) fn note_master_reply(&mut self, asked: &Message, reply: &Message) {
        if let (Some(master), Dialect::VhostPci, g1::GET_CONN_ID, Some(id)) =
            (&mut self.master, asked.dialect, asked.request, reply.payload.as_u64())
        {
            master.conn_id = id;
        }
    }

    /// A master that does not look at the reply bit takes what nobody waits for as a request.
    pub(super) fn mistakes_reply(&mut self, message: &Message) -> bool {
        let mistakes = self.master.as_ref().is_some_and(|m| m.has(Fault::ReplyAsRequest));
        if mistakes && message.dialect.is_pci() && self.outstanding.is_empty() {
            self.slave_request(message);
            return true;
        }
        false
    }

    /// The slave makes a request on the main socket.
    pub(super) fn slave_request(&mut self, message: &Message) {
        let Some(master) = &self.master else { return };
        if master.has(Fault::SlaveDropped) && !self.outstanding.is_empty() {
            return;
        }
        let (always, unanswered) = (master.has(Fault::SameFeaturesReset), master.has(Fault::SlaveUnanswered));
        let due = message.needs_reply() && self.has(ProtocolFeature::ReplyAck) && !unanswered;
        let answer = |front: &mut Self, status: u64| {
            if due {
                let reply = Message::reply_to(message, Payload::U64(status)).on_connection(front.conn_id());
                front
                    .outputs
                    .push_back(Output::Send(Outgoing::automatic(reply, Vec::new())));
            }
        };
        match (message.dialect, message.request, &message.payload) {
            (_, request::SET_FEATURES, Payload::U64(features)) => {
                let is_same = *features == self.features;
                answer(self, 0);
                if !is_same || always {
                    // the guest finds another device: reset, unplugged, and added again with the next connection
                    self.features = *features;
                    self.tell(DeviceChange::Reset);
                    self.unplug();
                    self.outputs.push_back(Output::Close(Channel::Main));
                }
            }
            (Dialect::VhostPci, g1::SET_PEER_CONNECTION, Payload::U64(connection::OFF)) => {
                self.unplug();
                answer(self, 0);
            }
            (Dialect::VhostPci, g1::SET_PEER_CONNECTION, Payload::U64(connection::ON)) => answer(self, 0),
            // only the slave creates a device, and there is no other request of it
            _ => answer(self, 1),
        }
    }

    fn unplug(&mut self) {
        for ring in &mut self.rings {
            (ring.kick, ring.call) = (None, None);
        }
        let Some(master) = &mut self.master else { return };
        if std::mem::take(&mut master.plugged) {
            self.tell(DeviceChange::Unplugged);
        }
    }

    fn tell(&mut self, change: DeviceChange) {
        self.outputs.push_back(Output::Device(DeviceNote::new(change)));
    }

    fn perform_set_features(&mut self) {
        self.request(
            request::SET_FEATURES,
            Payload::U64(self.features),
            Vec::<OwnedFd>::new(),
        );
    }
}
