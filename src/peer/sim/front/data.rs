//! The front-end's data plane: frames, block requests and echo requests through shared memory, and what comes back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Asker, FrontError, SimFront};
use crate::memory::GuestAccess;
use crate::peer::device::blk::{BlkOp, BlkRequest};
use crate::peer::device::net::{F_MRG_RXBUF, HEADER_BYTES, NetBuffer};
use crate::peer::device::{BufferPool, DeviceError};
use crate::peer::sim::Output;
use crate::peer::sim::wanted::Status;
use crate::ring::split::Descriptor;
use crate::ring::{Buffer, Layout, Used};
use crate::wire::features::INDIRECT_DESC;
use crate::wire::{Channel, Dialect, Message, ProtocolFeature, VringState, id, spec};

/// VIRTIO_F_VERSION_1.
const F_VERSION_1: u64 = 1 << 32;
/// Bytes of a receive buffer, without the header.
const RECEIVE_BYTES: u32 = 2048;
/// virtio_net_hdr of a legacy device without MRG_RXBUF.
const HEADER_BYTES_LEGACY: usize = 10;

/// A chain that the back-end has.
#[derive(Debug)]
pub(super) enum Pending {
    Transmit {
        pool: u64,
        buffer: NetBuffer,
    },
    Receive {
        pool: u64,
        buffer: NetBuffer,
    },
    Blk {
        pool: u64,
        id: u64,
        request: BlkRequest,
    },
    Echo {
        pool: u64,
        id: u64,
        sent: u64,
        back: u64,
        bytes: Vec<u8>,
    },
}

impl SimFront {
    /// Puts a frame on the transmit ring of a queue pair and kicks if the back-end wants to be kicked.
    pub fn transmit(&mut self, pair: u16, frame: &[u8]) -> Result<(), FrontError> {
        let ring = pair * 2 + 1;
        self.check_ring(ring)?;
        let header = self.net_header();
        let (pool, buffer) = self.in_pool(|memory, pool| NetBuffer::send(memory, pool, frame, header))?;
        self.add(ring, &buffer.chain(), Pending::Transmit { pool, buffer })?;
        self.publish(ring, true)
    }

    /// Keeps `count` buffers on the receive ring of a queue pair.
    pub fn post_receive(&mut self, pair: u16, count: u16) -> Result<(), FrontError> {
        let ring = pair * 2;
        self.check_ring(ring)?;
        let header = self.net_header();
        let present = self.rings[usize::from(ring)].pending.len();
        let wanted = usize::from(count.min(self.config.ring_size)).saturating_sub(present);
        for _ in 0..wanted {
            let (pool, buffer) = self.in_pool(|_, pool| NetBuffer::receive(pool, RECEIVE_BYTES, header))?;
            self.add(ring, &buffer.chain(), Pending::Receive { pool, buffer })?;
        }
        if wanted > 0 { self.publish(ring, true) } else { Ok(()) }
    }

    /// A frame that was received on a queue pair, oldest first.
    pub fn take_frame(&mut self, pair: u16) -> Option<Vec<u8>> {
        let at = self.frames.iter().position(|(p, _)| *p == pair)?;
        self.frames.remove(at).map(|(_, frame)| frame)
    }

    /// Whether the back-end has returned all frames that were transmitted on a pair.
    pub fn all_transmitted(&self, pair: u16) -> bool {
        self.rings
            .get(usize::from(pair * 2 + 1))
            .is_none_or(|ring| ring.pending.is_empty())
    }

    /// Submits a block request; gives the number by which its result is asked for.
    pub fn submit_blk(&mut self, queue: u16, op: &BlkOp, sector: u64, kick: bool) -> Result<u64, FrontError> {
        self.check_ring(queue)?;
        let (pool, request) = self.in_pool(|memory, pool| BlkRequest::build(memory, pool, op, sector))?;
        self.serial += 1;
        let id = self.serial;
        self.add(queue, &request.chain(), Pending::Blk { pool, id, request })?;
        self.publish(queue, kick)?;
        Ok(id)
    }

    /// The head of a block request that has not come back.
    pub fn head_of(&self, ring: u16, id: u64) -> Option<u16> {
        let pending = &self.rings.get(usize::from(ring))?.pending;
        let is_it = |pending: &Pending| matches!(pending, Pending::Blk { id: other, .. } if *other == id);
        pending
            .iter()
            .find(|(_, pending)| is_it(pending))
            .map(|(head, _)| *head)
    }

    /// Chains of a ring that have not come back.
    pub fn outstanding(&self, ring: u16) -> u16 {
        let ring = self.rings.get(usize::from(ring));
        ring.map_or(0, |ring| ring.driver.outstanding())
    }

    /// Where the device has got to with returning chains: of a split ring the used index that is in memory now; of a packed one
    /// as far as the driver has seen, as SET_VRING_BASE writes it, since nothing else tells.
    pub fn used_index(&self, ring: u16) -> Result<u16, FrontError> {
        self.check_ring(ring)?;
        let driver = &self.rings[usize::from(ring)].driver;
        match driver.layout() {
            Layout::Split(layout) => Ok(self.memory.load_u16(layout.used_idx(), Ordering::Acquire)?),
            Layout::Packed(_) => Ok(driver.base() as u16),
        }
    }

    /// The result of a block request, once: status and data, or what was wrong with its completion.
    pub fn take_blk(&mut self, id: u64) -> Option<Result<crate::peer::device::blk::BlkOutcome, String>> {
        self.blk_results.remove(&id)
    }

    /// Submits bytes that a generic device has to return.
    pub fn submit_echo(&mut self, ring: u16, bytes: Vec<u8>) -> Result<u64, FrontError> {
        self.check_ring(ring)?;
        let len = bytes.len() as u32;
        let (pool, (sent, back)) = self.in_pool(|memory, pool| {
            let sent = pool.alloc(len)?;
            let back = pool.alloc(len)?;
            memory.write(sent, &bytes)?;
            memory.write(back, &vec![0; bytes.len()])?;
            Ok((sent, back))
        })?;
        self.serial += 1;
        let id = self.serial;
        let chain = [Buffer::readable(sent, len), Buffer::writable(back, len)];
        self.add(
            ring,
            &chain,
            Pending::Echo {
                pool,
                id,
                sent,
                back,
                bytes,
            },
        )?;
        self.publish(ring, true)?;
        Ok(id)
    }

    /// Whether an echo request came back, once: unchanged, or what was wrong.
    pub fn take_echo(&mut self, id: u64) -> Option<Result<(), String>> {
        self.echo_results.remove(&id)
    }

    /// Notifies a ring: through its page, by its kick eventfd, or with VRING_KICK where it was started without one.
    pub fn kick(&mut self, ring: u16) -> Result<(), FrontError> {
        self.check_ring(ring)?;
        if self.notify_page(ring)? {
            return Ok(());
        }
        if let Some(fd) = &self.rings[usize::from(ring)].kick {
            let fd = Arc::clone(fd);
            self.outputs.push_back(Output::Kick { ring, fd });
            return Ok(());
        }
        if !self.has(ProtocolFeature::InbandNotifications) {
            return Err(FrontError::NoKick(ring));
        }
        let spec =
            spec(Dialect::VhostUser, Channel::Main, id::frontend::VRING_KICK).expect("VRING_KICK is in the table");
        let state = VringState {
            index: u32::from(ring),
            num: 0,
        };
        let message = Message::request(spec, state).need_reply(self.has(ProtocolFeature::ReplyAck));
        self.ask(message, Vec::new(), Asker::Step(Status::Is(0)));
        Ok(())
    }

    /// A ring's call eventfd was signalled: takes what the back-end has used. An error is a violation by the back-end.
    pub fn called(&mut self, ring: u16) -> Result<(), FrontError> {
        let index = usize::from(ring);
        let lent = self.rings.get(index).is_some_and(|ring| ring.lent.is_some());
        if lent || !self.has_driver(ring) {
            return Ok(());
        }
        loop {
            while let Some(used) = self.rings[index].driver.poll_used(&self.memory)? {
                self.complete(ring, used)?;
            }
            let state = &mut self.rings[index];
            // from here on the next completion calls; one that came in between is seen by the look below
            state.driver.ask_for_call(&self.memory)?;
            let Some(used) = state.driver.poll_used(&self.memory)? else {
                return Ok(());
            };
            self.complete(ring, used)?;
        }
    }

    fn complete(&mut self, ring: u16, used: Used) -> Result<(), FrontError> {
        let state = &mut self.rings[usize::from(ring)];
        let pending = state.pending.remove(&used.head.0);
        if let Some((pool, table)) = state.tables.remove(&used.head.0) {
            self.release(pool, |p| p.free(table))?;
        }
        match pending {
            None => {}
            Some(Pending::Transmit { pool, buffer }) => self.release(pool, |p| buffer.release(p))?,
            Some(Pending::Receive { pool, buffer }) => {
                let frame = buffer.frame(&self.memory, used.len)?;
                self.release(pool, |p| buffer.release(p))?;
                self.frames.push_back((ring / 2, frame));
            }
            Some(Pending::Blk { pool, id, request }) => {
                let outcome = match request.outcome(&self.memory, used.len) {
                    Ok(outcome) if outcome.answered() => Ok(outcome),
                    Ok(_) => Err("the request was returned without a status".to_owned()),
                    Err(error) => Err(error.to_string()),
                };
                self.release(pool, |p| request.release(p))?;
                self.blk_results.insert(id, outcome);
            }
            Some(Pending::Echo {
                pool,
                id,
                sent,
                back,
                bytes,
            }) => {
                let mut returned = vec![0; bytes.len()];
                self.memory.read(back, &mut returned)?;
                let result = match returned.iter().zip(&bytes).position(|(a, b)| a != b) {
                    _ if used.len as usize != bytes.len() => {
                        Err(format!("{} bytes were sent and {} came back", bytes.len(), used.len))
                    }
                    Some(at) => Err(format!(
                        "byte {at} is {:#04x}, {:#04x} was sent",
                        returned[at], bytes[at]
                    )),
                    None => Ok(()),
                };
                self.release(pool, |p| p.free(sent).and_then(|()| p.free(back)))?;
                self.echo_results.insert(id, result);
            }
        }
        Ok(())
    }

    fn add(&mut self, ring: u16, chain: &[Buffer], pending: Pending) -> Result<(), FrontError> {
        let as_told = |buffer: &Buffer| Buffer {
            addr: self.device_address(buffer.addr),
            ..*buffer
        };
        let told: Vec<Buffer> = chain.iter().map(as_told).collect();
        if self.rings[usize::from(ring)].lent.is_some() {
            return Err(FrontError::Lent(ring));
        }
        // a table is written at one address and told by another behind an IOMMU, where there is none
        let indirect = chain.len() > 1 && self.features & INDIRECT_DESC != 0 && !self.has_iommu();
        if indirect {
            let bytes = (Descriptor::BYTES * chain.len()) as u32;
            let (pool, table) = self.in_pool(|_, pool| pool.alloc(bytes))?;
            let state = &mut self.rings[usize::from(ring)];
            let head = state.driver.add_indirect(&self.memory, &told, table)?;
            state.tables.insert(head.0, (pool, table));
            state.pending.insert(head.0, pending);
            return Ok(());
        }
        let state = &mut self.rings[usize::from(ring)];
        let head = state.driver.add(&self.memory, &told)?;
        state.pending.insert(head.0, pending);
        Ok(())
    }

    fn publish(&mut self, ring: u16, kick: bool) -> Result<(), FrontError> {
        let state = &mut self.rings[usize::from(ring)];
        state.driver.publish(&self.memory)?;
        // a ring that is not started is filled in advance, and kicked once it has an eventfd
        let can_kick = state.kick.is_some() || state.in_band;
        let kick = kick && can_kick && state.driver.needs_kick(&self.memory)?;
        if kick { self.kick(ring) } else { Ok(()) }
    }

    /// Takes buffers from the newest region that has room.
    pub(super) fn in_pool<T>(
        &mut self,
        mut build: impl FnMut(&crate::memory::GuestMemory, &mut BufferPool) -> Result<T, DeviceError>,
    ) -> Result<(u64, T), FrontError> {
        let mut last = None;
        for (address, pool) in self.pools.iter_mut().rev() {
            match build(&self.memory, pool) {
                Ok(built) => return Ok((*address, built)),
                Err(error @ DeviceError::PoolExhausted { .. }) => last = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.unwrap_or(DeviceError::PoolExhausted { wanted: 0, free: 0 }).into())
    }

    fn release(
        &mut self,
        pool: u64,
        give_back: impl FnOnce(&mut BufferPool) -> Result<(), DeviceError>,
    ) -> Result<(), FrontError> {
        // a region that was removed took its buffers along
        match self.pools.iter_mut().find(|(address, _)| *address == pool) {
            Some((_, pool)) => Ok(give_back(pool)?),
            None => Ok(()),
        }
    }

    fn net_header(&self) -> usize {
        if self.features & (F_VERSION_1 | F_MRG_RXBUF) != 0 {
            HEADER_BYTES
        } else {
            HEADER_BYTES_LEGACY
        }
    }
}
