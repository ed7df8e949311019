//! A front-end that starts the rings of a net device with a back-end.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::talk::{BareError, Talk};
use super::{BareRing, features};
use crate::memory::{GuestMemory, MemoryOptions, RegionLayout};
use crate::ring::burst::Layout;
use crate::sys::fd::eventfd;
use crate::wire::flags;

/// Protocol features MQ and REPLY_ACK.
const PROTOCOL_WANTED: u64 = 1 << 0 | 1 << 3;
/// Rings begin here, each at a multiple of this.
const RING_STRIDE: u64 = 0x8_0000;

/// A front-end whose rings run.
#[derive(Debug)]
pub struct BareFront {
    talk: Talk,
    /// Guest memory: rings at its beginning, buffers behind [`Self::buffers`].
    pub memory: GuestMemory,
    /// The features both have.
    pub features: u64,
    /// Its rings.
    pub rings: Vec<BareRing>,
}

impl BareFront {
    /// Sets up on a connected socket: `rings` of `size`, started and enabled, in guest memory of `bytes`. Of `wanted`
    /// features all must be offered.
    pub fn set_up(
        socket: OwnedFd,
        (rings, size): (u16, u16),
        (bytes, huge_pages): (u64, bool),
        wanted: u64,
        patience: Duration,
    ) -> Result<Self, BareError> {
        let options = MemoryOptions {
            huge_pages,
            ..MemoryOptions::default()
        };
        let region = RegionLayout {
            guest_address: 0,
            size: bytes,
        };
        let memory = GuestMemory::new(&[region], options)?;
        let talk = Talk::new(socket, patience);
        talk.say("SET_OWNER", 0, &[], &[])?;
        let offered = talk.ask("GET_FEATURES")?;
        let wanted = wanted | features::VERSION_1 | features::PROTOCOL_FEATURES;
        if wanted & !offered != 0 {
            return Err(BareError::NotOffered {
                missing: wanted & !offered,
            });
        }
        let protocol = talk.ask("GET_PROTOCOL_FEATURES")? & PROTOCOL_WANTED;
        talk.say("SET_PROTOCOL_FEATURES", 0, &protocol.to_ne_bytes(), &[])?;
        talk.say("SET_FEATURES", 0, &wanted.to_ne_bytes(), &[])?;
        let mut front = Self {
            talk,
            memory,
            features: wanted,
            rings: Vec::new(),
        };
        front.announce_memory(protocol)?;
        for index in 0..rings {
            front.start_ring(index, size)?;
        }
        for index in 0..rings {
            front.talk.say("SET_VRING_ENABLE", 0, &state(index, 1), &[])?;
        }
        // an answer to this comes after all of it was handled
        front.talk.ask("GET_FEATURES")?;
        Ok(front)
    }

    /// The first guest address behind the rings.
    #[must_use]
    pub fn buffers(&self) -> u64 {
        RING_STRIDE * self.rings.len() as u64
    }

    /// Stops a ring; gives where it stands.
    pub fn stop_ring(&mut self, index: u16) -> Result<u32, BareError> {
        let request = self.talk.say("GET_VRING_BASE", 0, &state(index, 0), &[])?;
        Ok(self.talk.reply("GET_VRING_BASE", request)?.half(4))
    }

    fn announce_memory(&self, protocol: u64) -> Result<(), BareError> {
        let regions = self.memory.regions();
        let mut table = (regions.len() as u64).to_ne_bytes().to_vec();
        let mut fds = Vec::new();
        for (index, region) in regions.iter().enumerate() {
            for word in [
                region.guest_address,
                region.size,
                region.user_address,
                region.mmap_offset,
            ] {
                table.extend_from_slice(&word.to_ne_bytes());
            }
            fds.push(self.memory.fd(index)?.as_fd());
        }
        let acks = protocol & 1 << 3 != 0;
        let need_reply = if acks { flags::NEED_REPLY } else { 0 };
        let request = self.talk.say("SET_MEM_TABLE", need_reply, &table, &fds)?;
        if acks {
            let answer = self.talk.reply("SET_MEM_TABLE", request)?.word(0);
            if answer != 0 {
                return Err(BareError::Unexpected {
                    wanted: "an ack of SET_MEM_TABLE".to_owned(),
                    got: format!("{answer}"),
                });
            }
        }
        Ok(())
    }

    /// The ring is written before the back-end hears of it, by whoever drives it later: an empty one.
    fn start_ring(&mut self, index: u16, size: u16) -> Result<(), BareError> {
        let packed = self.features & features::RING_PACKED != 0;
        let (layout, _) = Layout::pack_at(RING_STRIDE * u64::from(index), size, packed)?;
        let base = layout.fresh_base();
        let options = super::options(self.features);
        crate::ring::burst::Driver::new(layout, base, &self.memory.reach(), options)?.init();
        let (desc, driver, device) = layout.addresses();
        let user = |address| self.memory.guest_to_user(address);
        let mut addresses = u64::from(index).to_ne_bytes().to_vec();
        for address in [user(desc)?, user(device)?, user(driver)?, 0] {
            addresses.extend_from_slice(&address.to_ne_bytes());
        }
        let (kick, call) = (eventfd()?, eventfd()?);
        let which = u64::from(index).to_ne_bytes();
        // DPDK's rings begin at the low half, and it refuses a base with more
        self.talk.say("SET_VRING_NUM", 0, &state(index, u32::from(size)), &[])?;
        self.talk.say("SET_VRING_BASE", 0, &state(index, base & 0xffff), &[])?;
        self.talk.say("SET_VRING_ADDR", 0, &addresses, &[])?;
        self.talk.say("SET_VRING_KICK", 0, &which, &[kick.as_fd()])?;
        self.talk.say("SET_VRING_CALL", 0, &which, &[call.as_fd()])?;
        self.rings.push(BareRing {
            layout,
            base,
            kick: Some(kick),
            call: Some(call),
        });
        Ok(())
    }
}

fn state(index: u16, value: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&u32::from(index).to_ne_bytes());
    bytes[4..].copy_from_slice(&value.to_ne_bytes());
    bytes
}
