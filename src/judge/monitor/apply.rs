//! What a message changes in what is known.

use super::look::{Facts, RingFacts, index};
use super::open::{Match, Open, Queue, due};
use super::rules::same_region;
use super::states::{CHANNEL, ENABLE, Enable, FEATURES, OWNER, POSTCOPY, PROTOCOL, RUN, Run, TRANSFER};
use crate::trace::Seq;
use crate::wire::id::{backend, frontend as id};
use crate::wire::{Channel, Message, Party, Payload, ProtocolFeature, Scope};

/// Rings, regions, objects, mappings and sessions that are kept of a connection.
const LIST_MAX: usize = 1024;

/// How the sender of a request comes to be judged for its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// The script broke a rule with it.
    pub(super) free: bool,
    /// The script answers it.
    pub(super) by_hand: bool,
}

impl Facts {
    /// Takes in a message that was looked at.
    pub(super) fn apply(&mut self, seq: Seq, from: Party, message: &Message, matched: Option<Match>, terms: Terms) {
        let channel = message.channel;
        if message.is_reply() {
            if channel == Channel::Main && from == Party::BackEnd {
                self.back_replies += 1;
            }
            let queue = &mut self.open[index(channel)];
            let open = match matched {
                Some(Match::Answers { at, .. } | Match::Unasked(at)) => queue.take(at),
                _ => None,
            };
            self.step(message);
            if let Some(open) = open {
                self.answered(&open, message);
            }
        } else if from == channel.requester() {
            let open = Open {
                seq,
                message: message.clone(),
                due: due(self, message),
                reply_ack: self.has(ProtocolFeature::ReplyAck),
                wants_table: self.wants_table(message),
                free: terms.free,
                by_hand: terms.by_hand,
            };
            self.open[index(channel)].push(open);
            self.step(message);
            match channel {
                Channel::Main => self.asked(message),
                Channel::Backend => self.asked_by_back_end(message),
            }
        }
    }

    /// Moves the machines.
    fn step(&mut self, message: &Message) {
        self.owner = OWNER.next(self.owner, message);
        self.features_state = FEATURES.next(self.features_state, message);
        self.protocol_state = PROTOCOL.next(self.protocol_state, message);
        self.channel = CHANNEL.next(self.channel, message);
        self.postcopy = POSTCOPY.next(self.postcopy, message);
        self.transfer = TRANSFER.next(self.transfer, message);
        let Some(spec) = message.spec() else { return };
        if message.channel != Channel::Main {
            return;
        }
        match (spec.scope, message.payload.ring_index()) {
            (Scope::Ring, Some(ring)) => {
                let replies = self.back_replies;
                if let Some(ring) = self.ring(ring) {
                    step_ring(ring, message, replies);
                }
            }
            (Scope::Ring, None) => {}
            (Scope::Device, _) => {
                let replies = self.back_replies;
                self.rings
                    .values_mut()
                    .for_each(|ring| step_ring(ring, message, replies));
            }
        }
        self.ever_started |= self.rings.values().any(|ring| ring.run == Run::Started);
    }

    fn ring(&mut self, index: u32) -> Option<&mut RingFacts> {
        if self.rings.len() >= LIST_MAX && !self.rings.contains_key(&index) {
            return None;
        }
        Some(self.rings.entry(index).or_default())
    }

    fn asked(&mut self, message: &Message) {
        match (message.request, &message.payload) {
            (id::SET_FEATURES, Payload::U64(bits)) => {
                self.features = *bits;
                self.features_ever |= bits;
            }
            (id::SET_PROTOCOL_FEATURES, Payload::U64(bits)) => {
                self.protocol = *bits;
                self.protocol_ever |= bits;
            }
            (id::SET_MEM_TABLE, Payload::MemTable(table)) => {
                self.regions.clone_from(&table.regions);
                self.regions.truncate(LIST_MAX);
                self.regions_known = table.regions.len() <= LIST_MAX;
            }
            (id::SET_MEM_TABLE, Payload::Raw(_)) => self.regions_known = false,
            (id::ADD_MEM_REG, Payload::MemReg(reg)) if self.regions.len() < LIST_MAX => self.regions.push(reg.region),
            (id::REM_MEM_REG, Payload::MemReg(reg)) => {
                if let Some(at) = self.regions.iter().position(|r| same_region(r, &reg.region)) {
                    self.regions.remove(at);
                }
            }
            (id::ADD_MEM_REG | id::REM_MEM_REG, _) => self.regions_known = false,
            (id::SET_LOG_BASE, Payload::Log(log)) => self.log = Some(*log),
            (id::SET_BACKEND_REQ_FD, _) => {
                // the new channel owes nothing for the old one
                self.open[index(Channel::Backend)] = Queue::default();
                self.closed[index(Channel::Backend)] = [false; 2];
            }
            (id::SET_STATUS, Payload::U64(status)) => self.status = Some(*status),
            (id::RESET_DEVICE | id::RESET_OWNER, _) => self.status = None,
            (id::GET_STATUS, _) => {
                // the queue has this one already
                let asked = self.open[index(Channel::Main)].owed();
                let asked = asked.filter(|open| open.message.request == id::GET_STATUS).count();
                self.status_asked = self.status.filter(|_| asked == 1);
            }
            (id::CLOSE_CRYPTO_SESSION, Payload::U64(session)) => self.crypto.retain(|s| s != session),
            (request, payload) => {
                let replies = self.back_replies;
                if let Some(ring) = payload.ring_index().and_then(|ring| self.ring(ring)) {
                    configure(ring, request, payload, replies);
                }
            }
        }
    }

    fn asked_by_back_end(&mut self, message: &Message) {
        match (message.request, &message.payload) {
            (backend::SHARED_OBJECT_ADD, Payload::SharedObject(object)) => {
                keep(&mut self.objects, object.uuid, &mut self.lists_are_full);
            }
            (backend::SHARED_OBJECT_REMOVE, Payload::SharedObject(object)) => {
                self.objects.retain(|uuid| *uuid != object.uuid);
            }
            (backend::SHMEM_MAP, Payload::Mmap(mapping)) => {
                keep(&mut self.mappings, *mapping, &mut self.lists_are_full);
            }
            (backend::SHMEM_UNMAP, Payload::Mmap(gone)) => {
                self.mappings
                    .retain(|m| (m.shmid, m.shm_offset, m.len) != (gone.shmid, gone.shm_offset, gone.len));
            }
            _ => {}
        }
    }

    fn answered(&mut self, open: &Open, reply: &Message) {
        let request = open.message.request;
        let number = reply.payload.as_u64();
        if reply.channel == Channel::Backend {
            if let (backend::SHMEM_MAP, Some(1..), Payload::Mmap(mapping)) = (request, number, &open.message.payload) {
                self.mappings.retain(|m| m != mapping);
            }
            return;
        }
        match (request, &reply.payload) {
            (id::GET_FEATURES, Payload::U64(bits)) => self.offered = Some(*bits),
            (id::GET_PROTOCOL_FEATURES, Payload::U64(bits)) => self.protocol_offered = Some(*bits),
            (id::GET_QUEUE_NUM, Payload::U64(count)) => self.queue_num = Some(*count),
            (id::GET_MAX_MEM_SLOTS, Payload::U64(slots)) => self.slots = Some(*slots),
            (id::GET_INFLIGHT_FD, Payload::Inflight(area)) => self.inflight = Some(*area),
            (id::GET_SHMEM_CONFIG, Payload::ShmemConfig(config)) => self.shmem = Some(config.sizes.clone()),
            (id::CREATE_CRYPTO_SESSION, Payload::CryptoSession(session)) => {
                keep(&mut self.crypto, session.session_id, &mut self.lists_are_full);
            }
            (id::GET_STATUS | id::SET_DEVICE_STATE_FD | id::CHECK_DEVICE_STATE, _) => {}
            _ if number.is_some_and(|status| status != 0) => self.refused(&open.message),
            _ => {}
        }
    }

    /// The back-end said no. What holds now is not certain (I5).
    pub(super) fn refused(&mut self, request: &Message) {
        match request.request {
            id::SET_FEATURES | id::SET_PROTOCOL_FEATURES => {
                self.negotiation_is_uncertain = true;
                self.is_uncertain = true;
            }
            id::SET_MEM_TABLE | id::ADD_MEM_REG | id::REM_MEM_REG => self.regions_known = false,
            id::SET_LOG_BASE => self.log = None,
            id::SET_STATUS => self.status = None,
            id::SET_OWNER | id::RESET_DEVICE | id::RESET_OWNER => self.is_uncertain = true,
            _ => {
                if let Some(ring) = request.payload.ring_index().and_then(|ring| self.ring(ring)) {
                    ring.is_unknown = true;
                }
            }
        }
    }
}

fn step_ring(ring: &mut RingFacts, message: &Message, replies: u64) {
    let before = ring.run;
    ring.run = RUN.next(ring.run, message);
    ring.enable = ENABLE.next(ring.enable, message);
    ring.ever_enabled |= ring.enable == Enable::Enabled;
    if ring.run == Run::Stopped && before != Run::Stopped {
        ring.stopped_at = replies;
        ring.fresh_call = false;
    }
}

fn configure(ring: &mut RingFacts, request: u32, payload: &Payload, replies: u64) {
    match (request, payload) {
        (id::SET_VRING_NUM, Payload::VringState(state)) => ring.size = Some(state.num),
        (id::SET_VRING_BASE, Payload::VringBase(base)) => ring.base = Some(base.indices),
        (id::SET_VRING_ADDR, Payload::VringAddr(address)) => ring.address = Some(*address),
        (id::SET_VRING_CALL, Payload::VringFd(fd)) => {
            ring.call = Some(!fd.no_fd);
            ring.fresh_call = !fd.no_fd;
            ring.call_at = replies;
        }
        _ => {}
    }
}

fn keep<T>(list: &mut Vec<T>, item: T, is_full: &mut bool) {
    if list.len() < LIST_MAX {
        list.push(item);
    } else {
        *is_full = true;
    }
}
