//! What the monitor knows of a connection ([`Facts`]), and what a rule gets to see of one event ([`Look`]).

use std::collections::BTreeMap;

use super::open::{Match, Open, Queue};
use super::states::{
    CHANNEL, ENABLE, Enable, FEATURES, Negotiation, OWNER, Owner, POSTCOPY, PROTOCOL, Passage, Postcopy, RUN, Run,
    TRANSFER, Transfer,
};
use crate::trace::FdNote;
use crate::wire::features::{ACCESS_PLATFORM, RING_PACKED};
use crate::wire::{
    Channel, Inflight, Log, MemRegion, Message, MessageSpec, Mmap, Party, Payload, ProtocolFeature, VringAddr,
};

/// Replies of the back-end after which what it did before is certain to have been seen: sockets and eventfds are read in
/// turn, so one round trip may overtake a signal, two may not.
pub const SETTLED_REPLIES: u64 = 2;

/// One ring.
#[derive(Debug, Clone)]
pub struct RingFacts {
    /// Whether it runs.
    pub run: Run,
    /// Whether it has side effects.
    pub enable: Enable,
    /// It was enabled at some time.
    pub ever_enabled: bool,
    /// Its size, once told.
    pub size: Option<u32>,
    /// Where it was told to begin.
    pub base: Option<u32>,
    /// Its addresses, once told.
    pub address: Option<VringAddr>,
    /// Its call eventfd: present, or none wanted.
    pub call: Option<bool>,
    /// A call eventfd was given while it was stopped, and not signalled since.
    pub fresh_call: bool,
    /// The back-end refused something, so that it is not known how the ring is configured.
    pub is_unknown: bool,
    /// Replies of the back-end up to the moment when it stopped.
    pub stopped_at: u64,
    /// The same for the last SET_VRING_CALL.
    pub call_at: u64,
}

/// All that a connection has told so far.
#[derive(Debug)]
pub struct Facts {
    /// Who owns it.
    pub owner: Owner,
    /// How far features are negotiated.
    pub features_state: Negotiation,
    /// The same for protocol features.
    pub protocol_state: Negotiation,
    /// Whether there is a back-end channel.
    pub channel: Passage,
    /// Where postcopy stands.
    pub postcopy: Postcopy,
    /// Where the transfer of device state stands.
    pub transfer: Transfer,
    /// Feature bits offered.
    pub offered: Option<u64>,
    /// Feature bits acknowledged last.
    pub features: u64,
    /// Those acknowledged at any time: a message of the back-end may cross a change.
    pub features_ever: u64,
    /// Protocol feature bits offered.
    pub protocol_offered: Option<u64>,
    /// Protocol feature bits acknowledged last.
    pub protocol: u64,
    /// Those acknowledged at any time.
    pub protocol_ever: u64,
    /// Memory regions that were announced.
    pub regions: Vec<MemRegion>,
    /// Whether the regions are certain.
    pub regions_known: bool,
    /// What GET_MAX_MEM_SLOTS said.
    pub slots: Option<u64>,
    /// What GET_QUEUE_NUM said.
    pub queue_num: Option<u64>,
    /// Rings that were spoken of.
    pub rings: BTreeMap<u32, RingFacts>,
    /// The dirty log.
    pub log: Option<Log>,
    /// What GET_INFLIGHT_FD gave.
    pub inflight: Option<Inflight>,
    /// The device status, as set last; none while it is not known.
    pub status: Option<u64>,
    /// What it was when it was asked for, if that was asked once since it was answered.
    pub status_asked: Option<u64>,
    /// Shared objects that the back-end announced.
    pub objects: Vec<[u8; 16]>,
    /// Crypto sessions.
    pub crypto: Vec<u64>,
    /// Shared memory regions of the device.
    pub shmem: Option<Box<[u64; 256]>>,
    /// Mappings in them.
    pub mappings: Vec<Mmap>,
    /// A list above was cut off, so that what is not in it may still be there.
    pub lists_are_full: bool,
    /// Requests without their answers, on the main socket and the channel.
    pub open: [Queue; 2],
    /// Replies of the back-end so far.
    pub back_replies: u64,
    /// A ring was started at some time.
    pub ever_started: bool,
    /// Who closed which socket: `[channel][party]`.
    pub closed: [[bool; 2]; 2],
    /// A rule was broken on purpose; where things stand now depends on how the peer took it.
    pub is_uncertain: bool,
    /// The same for what is negotiated.
    pub negotiation_is_uncertain: bool,
    /// The script broke the framing: what is a message is not certain any more.
    pub is_lost: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            owner: OWNER.start(),
            features_state: FEATURES.start(),
            protocol_state: PROTOCOL.start(),
            channel: CHANNEL.start(),
            postcopy: POSTCOPY.start(),
            transfer: TRANSFER.start(),
            offered: None,
            features: 0,
            features_ever: 0,
            protocol_offered: None,
            protocol: 0,
            protocol_ever: 0,
            regions: Vec::new(),
            regions_known: true,
            slots: None,
            queue_num: None,
            rings: BTreeMap::new(),
            log: None,
            inflight: None,
            status: None,
            status_asked: None,
            objects: Vec::new(),
            crypto: Vec::new(),
            shmem: None,
            mappings: Vec::new(),
            lists_are_full: false,
            open: Default::default(),
            back_replies: 0,
            ever_started: false,
            closed: [[false; 2]; 2],
            is_uncertain: false,
            negotiation_is_uncertain: false,
            is_lost: false,
        }
    }
}

impl Default for RingFacts {
    fn default() -> Self {
        Self {
            run: RUN.start(),
            enable: ENABLE.start(),
            ever_enabled: false,
            size: None,
            base: None,
            address: None,
            call: None,
            fresh_call: false,
            is_unknown: false,
            stopped_at: 0,
            call_at: 0,
        }
    }
}

impl Facts {
    /// Whether the protocol feature is negotiated.
    pub const fn has(&self, feature: ProtocolFeature) -> bool {
        self.protocol & feature.mask() != 0
    }

    /// Whether all of these feature bits are negotiated.
    pub const fn has_bits(&self, bits: u64) -> bool {
        self.features & bits == bits
    }

    /// Whether rings are packed; `None` while it is not known.
    pub fn packed(&self) -> Option<bool> {
        match self.features_state {
            Negotiation::Acknowledged => Some(self.has_bits(RING_PACKED)),
            _ => (self.offered? & RING_PACKED == 0).then_some(false),
        }
    }

    /// Whether ring addresses are I/O virtual; `None` while it is not known.
    pub fn translated(&self) -> Option<bool> {
        match self.features_state {
            Negotiation::Acknowledged => Some(self.has_bits(ACCESS_PLATFORM)),
            _ => (self.offered? & ACCESS_PLATFORM == 0).then_some(false),
        }
    }

    /// The first address of a region in which ring addresses and IOTLB updates are looked up.
    pub const fn lookup_base(&self, region: &MemRegion) -> u64 {
        if self.has(ProtocolFeature::GpaAddresses) {
            region.guest_address
        } else {
            region.user_address
        }
    }

    /// Whether an address of the front-end lies in a region.
    pub fn is_in_memory(&self, address: u64) -> bool {
        let inside = |region: &MemRegion| {
            let base = self.lookup_base(region);
            address >= base && address - base < region.size
        };
        self.regions.iter().any(inside)
    }

    /// Whether the request is a table of postcopy, to be answered with the back-end's addresses.
    pub fn wants_table(&self, message: &Message) -> bool {
        self.postcopy == Postcopy::Listening && matches!(message.payload, Payload::MemTable(_))
    }

    /// The requests of a socket.
    pub const fn queue(&self, channel: Channel) -> &Queue {
        &self.open[index(channel)]
    }

    /// Whether the device is certain to be suspended: all rings are stopped, and have been for long enough.
    pub fn is_suspended(&self) -> bool {
        let settled = |ring: &RingFacts| {
            ring.run == Run::Stopped && (!self.ever_started || self.back_replies >= ring.stopped_at + SETTLED_REPLIES)
        };
        !self.is_uncertain && self.rings.values().all(settled)
    }

    /// Whether the party closed that socket.
    pub const fn is_closed(&self, channel: Channel, party: Party) -> bool {
        self.closed[index(channel)][side(party)]
    }
}

pub(super) const fn index(channel: Channel) -> usize {
    match channel {
        Channel::Main => 0,
        Channel::Backend => 1,
    }
}

pub(super) const fn side(party: Party) -> usize {
    match party {
        Party::FrontEnd => 0,
        Party::BackEnd => 1,
    }
}

/// A message and what it means where things stand.
#[derive(Debug)]
pub struct Look<'a> {
    /// What was known before it.
    pub facts: &'a Facts,
    /// Who sent it.
    pub from: Party,
    /// The message.
    pub message: &'a Message,
    /// What is attached.
    pub fds: &'a [FdNote],
    /// Bytes of payload.
    pub size: u32,
    /// What the table says about its id.
    pub spec: Option<&'static MessageSpec>,
    /// What it answers, if it is a reply in the direction of replies.
    pub matched: Option<Match>,
}

impl Look<'_> {
    /// Whether it is a request of the one who makes requests on this socket.
    pub fn is_request(&self) -> bool {
        !self.message.is_reply() && self.from == self.message.channel.requester()
    }

    /// The request that it answers.
    pub fn answered(&self) -> Option<&Open> {
        match self.matched? {
            Match::Answers { at, .. } | Match::Unasked(at) => self.facts.queue(self.message.channel).get(at),
            _ => None,
        }
    }

    /// The ring that it is about.
    pub fn ring(&self) -> Option<&RingFacts> {
        self.facts.rings.get(&self.message.payload.ring_index()?)
    }

    /// The bytes of the file attached at a place, if it is one that has a size.
    pub fn file_size(&self, at: usize) -> Option<u64> {
        match self.fds.get(at)? {
            FdNote::Memfd { size } | FdNote::File { size } if *size > 0 => Some(*size),
            _ => None,
        }
    }

    /// How the message is written, for a finding.
    pub fn shown(&self) -> String {
        self.message.to_string()
    }
}
