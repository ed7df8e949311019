//! What a server knows of one master.

use std::collections::{BTreeSet, VecDeque};

use super::table::State;
use super::{KINDS, NET};
use crate::peer::device::generic::{Generic, GenericOptions};
use crate::peer::device::net::{Net, NetOptions};
use crate::peer::device::{DeviceError, DeviceModel};
use crate::peer::sim::back::{BackConfig, SimBack};
use crate::wire::{Message, ProtocolFeature};

/// Protocol features that vhost-pci shares with vhost-user; the bits above mean something else in either.
const SHARED_BITS: u64 = 0xf;
/// Requests of the server that wait for their acknowledgement, at most.
const PENDING_MAX: usize = 64;

/// A connection and the device that is made of it.
#[derive(Debug)]
pub(super) struct Entry {
    /// The accepted connection.
    pub(super) conn: usize,
    /// On which socket.
    pub(super) socket: String,
    pub(super) state: State,
    /// The master has its id.
    pub(super) assigned: bool,
    /// SET_PROTOCOL_FEATURES has just come, so a strict server waits for the device info.
    pub(super) wants_info: bool,
    pub(super) protocol: u64,
    /// What the master acknowledged.
    pub(super) acked: u64,
    /// What the slave's driver acknowledged.
    pub(super) driver: Option<u64>,
    /// A half of that was written the last time, as a faulty server counts it.
    pub(super) odd_writes: bool,
    pub(super) kind: Option<u16>,
    pub(super) uuid: [u8; 16],
    /// Sizes of the regions.
    pub(super) regions: Vec<u64>,
    /// The memory is mapped for another device of the VM as well.
    pub(super) shared: bool,
    pub(super) created: bool,
    /// The master was asked to part.
    pub(super) parting: bool,
    /// Rings that a faulty server has made, one for each SET_VRING_NUM.
    pub(super) nodes: u32,
    /// Rings that were given a kick, and a call.
    pub(super) kicked: BTreeSet<u32>,
    pub(super) called: BTreeSet<u32>,
    /// Requests of the server that the master has to acknowledge.
    pub(super) pending: VecDeque<Message>,
    /// Rings and device.
    pub(super) back: SimBack,
}

impl Entry {
    pub(super) fn new(conn: usize, socket: &str, queues: u16) -> Result<Self, DeviceError> {
        let back = SimBack::new(BackConfig {
            device: device(0, queues)?,
            queues,
            features: u64::MAX,
            protocol_features: u64::MAX,
            manual: Vec::new(),
            answers: Vec::new(),
            memory_slots: 0,
            shared_memory: Vec::new(),
            reads_while_asking: false,
            inflight_fault: None,
        });
        Ok(Self {
            conn,
            socket: socket.to_owned(),
            state: State::Empty,
            assigned: false,
            wants_info: false,
            protocol: 0,
            acked: 0,
            driver: None,
            odd_writes: false,
            kind: None,
            uuid: [0; 16],
            regions: Vec::new(),
            shared: false,
            created: false,
            parting: false,
            nodes: 0,
            kicked: BTreeSet::new(),
            called: BTreeSet::new(),
            pending: VecDeque::new(),
            back,
        })
    }

    pub(super) fn has_reply_ack(&self) -> bool {
        self.protocol & ProtocolFeature::ReplyAck.mask() != 0
    }

    /// Tells the rings what was negotiated.
    pub(super) fn negotiated(&mut self) {
        self.back.negotiated(self.acked, self.protocol & SHARED_BITS);
    }

    /// Takes note of a request that the master has to acknowledge.
    pub(super) fn await_ack(&mut self, message: Message) {
        if self.pending.len() >= PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back(message);
    }

    /// Rings and memory are forgotten; the connection goes on.
    pub(super) fn stop(&mut self) {
        self.back.stop_all();
        self.nodes = 0;
        self.kicked.clear();
        self.called.clear();
    }
}

/// The slave's side of a kind of device.
pub(super) fn device(kind: u16, queues: u16) -> Result<Box<dyn DeviceModel + Send>, DeviceError> {
    if kind == NET {
        let options = NetOptions {
            pairs: (queues / 2).max(1),
            ..NetOptions::default()
        };
        return Ok(Box::new(Net::new(options)?));
    }
    let options = GenericOptions {
        queues,
        ..GenericOptions::default()
    };
    Ok(Box::new(Generic::new(options)?))
}

/// Whether a kind of device is served.
pub(super) fn is_served(kind: u16) -> bool {
    KINDS.contains(&kind)
}
