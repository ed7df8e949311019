//! The virtio-net device of the reference back-end: every frame transmitted on a queue pair comes back on the receive ring
//! of the same pair, in order. A frame that finds no receive buffer is held, and when too many are held the transmit ring
//! is left alone until the driver offers receive buffers. It never looks into a frame.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use vhost_user_backend::VringT;
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::{VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS};
use virtio_queue::QueueOwnedT;

use super::device::{HeldMemory, Model, RING_SIZE_MAX, Vring, call, hush, listen, next_chain, parts, use_chain};
use super::error::Fault;

/// Frames a pair holds for which there was no receive buffer.
const HELD_MAX: usize = 256;
/// The longest frame that is looped back; longer ones are dropped.
const FRAME_BYTES_MAX: usize = 65_536;
/// `struct virtio_net_hdr_v1`; a legacy driver without MRG_RXBUF leaves `num_buffers` out.
const HEADER_BYTES: usize = 12;
const LEGACY_HEADER_BYTES: usize = 10;

/// The loop-back.
pub(super) struct Net {
    held: Vec<VecDeque<Vec<u8>>>,
    config: [u8; 12],
    header_bytes: usize,
}

impl Net {
    /// A loop-back of `pairs` queue pairs.
    pub(super) fn new(pairs: u16) -> Self {
        let mut config = [0; 12];
        config[..6].copy_from_slice(&[0x52, 0x54, 0x00, 0x76, 0x75, 0x68]);
        config[6..8].copy_from_slice(&1u16.to_le_bytes()); // status: the link is up
        config[8..10].copy_from_slice(&pairs.to_le_bytes());
        config[10..12].copy_from_slice(&1500u16.to_le_bytes());
        Self {
            held: (0..pairs).map(|_| VecDeque::new()).collect(),
            config,
            header_bytes: HEADER_BYTES,
        }
    }

    /// Takes transmitted frames until too many are held or `budget` is spent; true if any.
    fn take(&mut self, tx: usize, vring: &Vring, memory: &HeldMemory, budget: &mut usize) -> Result<bool, Fault> {
        let mut moved = false;
        while *budget > 0 && self.held[tx / 2].len() < HELD_MAX {
            let Some(chain) = next_chain(tx, vring, memory)? else {
                break;
            };
            let head = chain.head_index();
            let (mut readable, _) = parts(tx, chain, memory)?;
            let bytes = readable.available_bytes();
            if (self.header_bytes..=self.header_bytes + FRAME_BYTES_MAX).contains(&bytes) {
                let mut frame = vec![0; bytes];
                readable
                    .read_exact(&mut frame)
                    .map_err(|error| broken(tx, head, error))?;
                frame.drain(..self.header_bytes);
                self.held[tx / 2].push_back(frame);
            }
            use_chain(tx, vring, head, 0)?;
            *budget -= 1;
            moved = true;
        }
        Ok(moved)
    }

    /// Gives held frames to receive buffers while there are both; true if any.
    fn give(&mut self, rx: usize, vring: &Vring, memory: &HeldMemory, budget: &mut usize) -> Result<bool, Fault> {
        let mut header = [0; HEADER_BYTES];
        header[10] = 1; // num_buffers
        let mut moved = false;
        while *budget > 0 && !self.held[rx / 2].is_empty() {
            let Some(chain) = next_chain(rx, vring, memory)? else {
                break;
            };
            let head = chain.head_index();
            let (_, mut writable) = parts(rx, chain, memory)?;
            // A frame longer than the buffer is dropped, as a device without MRG_RXBUF does; the buffer waits for the next.
            let room = writable.available_bytes();
            let held = &mut self.held[rx / 2];
            let fits = |frame: &Vec<u8>| self.header_bytes + frame.len() <= room;
            let dropped = held.iter().position(fits).unwrap_or(held.len());
            held.drain(..dropped);
            let Some(frame) = held.pop_front() else {
                vring.get_mut().get_queue_mut().go_to_previous_position();
                break;
            };
            writable
                .write_all(&header[..self.header_bytes])
                .and_then(|()| writable.write_all(&frame))
                .map_err(|error| broken(rx, head, error))?;
            // Bounded by the longest frame.
            use_chain(rx, vring, head, writable.bytes_written() as u32)?;
            *budget -= 1;
            moved = true;
        }
        Ok(moved)
    }
}

impl Model for Net {
    fn rings(&self) -> usize {
        self.held.len() * 2
    }

    fn features(&self) -> u64 {
        let mq = if self.held.len() > 1 { 1 << VIRTIO_NET_F_MQ } else { 0 };
        mq | 1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_STATUS | 1 << VIRTIO_NET_F_MTU
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn acked(&mut self, features: u64) {
        self.header_bytes = if features & 1 << VIRTIO_F_VERSION_1 != 0 {
            HEADER_BYTES
        } else {
            LEGACY_HEADER_BYTES
        };
    }

    fn reset(&mut self) {
        self.held.iter_mut().for_each(VecDeque::clear);
    }

    fn pass(&mut self, ring: usize, vrings: &[Vring], memory: &HeldMemory) -> Result<bool, Fault> {
        let pair = ring / 2;
        let (rx, tx) = (pair * 2, pair * 2 + 1);
        hush(rx, &vrings[rx])?;
        hush(tx, &vrings[tx])?;
        let mut budget = 2 * RING_SIZE_MAX;
        let (mut taken, mut given) = (false, false);
        loop {
            let took = self.take(tx, &vrings[tx], memory, &mut budget)?;
            let gave = self.give(rx, &vrings[rx], memory, &mut budget)?;
            taken |= took;
            given |= gave;
            if !took && !gave {
                break;
            }
        }
        // before the calls, as in `pass_over`: a driver that is called may stop the ring
        let more_to_take = listen(tx, &vrings[tx])? && self.held[pair].len() < HELD_MAX;
        let more_to_give = listen(rx, &vrings[rx])? && !self.held[pair].is_empty();
        if taken {
            call(tx, &vrings[tx])?;
        }
        if given {
            call(rx, &vrings[rx])?;
        }
        Ok(more_to_take || more_to_give)
    }
}

fn broken(ring: usize, head: u16, error: io::Error) -> Fault {
    Fault::Chain {
        ring,
        head,
        what: error.to_string(),
    }
}
