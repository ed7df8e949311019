//! A network device: frames that the driver sends are taken or sent back, frames that are injected are delivered.
//!
//! Even rings receive and odd rings transmit, as the driver sees it. There is no control ring: with vhost-user the front-end
//! keeps it. Each frame uses one buffer; a frame that no single buffer can hold is dropped and counted.

use std::collections::VecDeque;

use crate::memory::GuestAccess;
use crate::ring::{Buffer, Chain};

use super::{BufferPool, DeviceError, DeviceModel, F_VERSION_1, Processed, write_config_range};

/// VIRTIO_NET_F_MTU: the device announces its MTU.
pub const F_MTU: u64 = 1 << 3;
/// VIRTIO_NET_F_MAC: the configuration space has the address.
pub const F_MAC: u64 = 1 << 5;
/// VIRTIO_NET_F_MRG_RXBUF: a frame may use several buffers.
pub const F_MRG_RXBUF: u64 = 1 << 15;
/// VIRTIO_NET_F_STATUS: the configuration space has the link's status.
pub const F_STATUS: u64 = 1 << 16;
/// VIRTIO_NET_F_CTRL_VQ, which MQ demands.
pub const F_CTRL_VQ: u64 = 1 << 17;
/// VIRTIO_NET_F_MQ: several pairs of rings.
pub const F_MQ: u64 = 1 << 22;

/// Longest frame taken: 64 KiB and an Ethernet header, as segmentation offload makes them.
pub const FRAME_BYTES_MAX: usize = 0x1_0000 + 14;
/// Most ring pairs: 256 rings can have fds.
pub const PAIRS_MAX: u16 = 128;

/// Bytes of virtio_net_hdr with num_buffers, which VERSION_1 and MRG_RXBUF bring.
pub const HEADER_BYTES: usize = 12;
const HEADER_BYTES_LEGACY: usize = 10;
const NUM_BUFFERS_AT: usize = 10;
const STATUS_AT: usize = 6;

/// What happens to a frame that the driver sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetMode {
    /// It is taken.
    #[default]
    Sink,
    /// It is taken, and delivered on the receiving ring of the same pair.
    Loopback,
}

/// How a network device looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetOptions {
    /// Address.
    pub mac: [u8; 6],
    /// MTU.
    pub mtu: u16,
    /// Pairs of rings.
    pub pairs: u16,
    /// What happens to sent frames.
    pub mode: NetMode,
    /// Bound of each queue of frames: those received, and those to deliver on each ring.
    pub frames_max: usize,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            mac: *b"\x02vuh\x00\x02",
            mtu: 1500,
            pairs: 1,
            mode: NetMode::Sink,
            frames_max: 1024,
        }
    }
}

/// A frame the driver has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxFrame {
    /// The ring it came on.
    pub ring: u16,
    /// The frame without its virtio header.
    pub bytes: Vec<u8>,
}

/// What a network device has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NetStats {
    /// Frames the driver has sent.
    pub sent: u64,
    /// Frames delivered to the driver.
    pub delivered: u64,
    /// Frames sent on a disabled ring, discarded.
    pub discarded: u64,
    /// Received frames that fell off the full queue before someone took them.
    pub forgotten: u64,
    /// Frames to loop back for which the ring's queue was full.
    pub overflowed: u64,
    /// Frames that no buffer could hold.
    pub too_long: u64,
}

/// The network device.
#[derive(Debug, Clone)]
pub struct Net {
    options: NetOptions,
    config: Vec<u8>,
    header_bytes: usize,
    received: VecDeque<TxFrame>,
    /// For each pair, frames to deliver.
    outgoing: Vec<VecDeque<Vec<u8>>>,
    stats: NetStats,
}

impl Net {
    /// A device with these options.
    pub fn new(options: NetOptions) -> Result<Self, DeviceError> {
        if !(1..=PAIRS_MAX).contains(&options.pairs) {
            let value = u64::from(options.pairs);
            return Err(DeviceError::BadOption {
                option: "pairs",
                value,
                allowed: "1 to 128",
            });
        }
        let mut config = Vec::with_capacity(12);
        config.extend_from_slice(&options.mac);
        // VIRTIO_NET_S_LINK_UP.
        config.extend_from_slice(&1u16.to_le_bytes());
        config.extend_from_slice(&options.pairs.to_le_bytes());
        config.extend_from_slice(&options.mtu.to_le_bytes());
        let outgoing = vec![VecDeque::new(); usize::from(options.pairs)];
        let stats = NetStats::default();
        Ok(Self {
            options,
            config,
            header_bytes: HEADER_BYTES,
            received: VecDeque::new(),
            outgoing,
            stats,
        })
    }

    /// Queues a frame for delivery on the receiving ring `ring`.
    pub fn inject(&mut self, ring: u16, frame: Vec<u8>) -> Result<(), DeviceError> {
        if !ring.is_multiple_of(2) || ring >= self.queues() {
            return Err(DeviceError::NoRing {
                ring,
                queues: self.queues(),
            });
        }
        if frame.len() > FRAME_BYTES_MAX {
            let value = frame.len() as u64;
            return Err(DeviceError::BadOption {
                option: "frame length",
                value,
                allowed: "65550 or less",
            });
        }
        let queue = &mut self.outgoing[usize::from(ring / 2)];
        if queue.len() >= self.options.frames_max {
            return Err(DeviceError::Full {
                what: "queue of frames to deliver",
                limit: self.options.frames_max,
            });
        }
        queue.push_back(frame);
        Ok(())
    }

    /// Frames that wait for buffers on the receiving ring `ring`.
    #[must_use]
    pub fn waiting(&self, ring: u16) -> usize {
        self.outgoing.get(usize::from(ring / 2)).map_or(0, VecDeque::len)
    }

    /// Frames the driver has sent, oldest first.
    #[must_use]
    pub fn received(&self) -> &VecDeque<TxFrame> {
        &self.received
    }

    /// Takes the frames the driver has sent.
    pub fn take_received(&mut self) -> Vec<TxFrame> {
        self.received.drain(..).collect()
    }

    /// Counters since power-on.
    #[must_use]
    pub fn stats(&self) -> NetStats {
        self.stats
    }

    /// Sets the link up or down in the configuration space.
    pub fn set_link(&mut self, up: bool) {
        self.config[STATUS_AT] = u8::from(up);
    }

    /// Bytes of the header before each frame, by what was negotiated.
    #[must_use]
    pub fn header_bytes(&self) -> usize {
        self.header_bytes
    }

    fn transmit(&mut self, ring: u16, chain: &Chain, mem: &dyn GuestAccess) -> Result<(), DeviceError> {
        let malformed = |reason| {
            Err(DeviceError::Malformed {
                ring,
                head: chain.head,
                reason,
            })
        };
        let header = self.header_bytes as u64;
        if chain.readable_len() < header {
            return malformed("shorter than the header of a frame");
        }
        if chain.readable_len() - header > FRAME_BYTES_MAX as u64 {
            return malformed("longer than any frame");
        }
        let bytes = chain.read_range(mem, header, FRAME_BYTES_MAX)?;
        self.stats.sent += 1;
        if self.options.mode == NetMode::Loopback {
            let queue = &mut self.outgoing[usize::from(ring / 2)];
            if queue.len() < self.options.frames_max {
                queue.push_back(bytes.clone());
            } else {
                self.stats.overflowed += 1;
            }
        }
        if self.received.len() >= self.options.frames_max {
            self.received.pop_front();
            self.stats.forgotten += 1;
        }
        self.received.push_back(TxFrame { ring, bytes });
        Ok(())
    }

    fn receive(&mut self, ring: u16, chain: &Chain, mem: &dyn GuestAccess) -> Result<Processed, DeviceError> {
        let room = chain.writable_len();
        if room < self.header_bytes as u64 {
            let reason = "receive buffer is shorter than the header of a frame";
            return Err(DeviceError::Malformed {
                ring,
                head: chain.head,
                reason,
            });
        }
        let queue = &mut self.outgoing[usize::from(ring / 2)];
        while let Some(frame) = queue.pop_front() {
            if (self.header_bytes + frame.len()) as u64 > room {
                self.stats.too_long += 1;
                continue;
            }
            let mut bytes = vec![0; self.header_bytes];
            if self.header_bytes == HEADER_BYTES {
                bytes[NUM_BUFFERS_AT] = 1;
            }
            bytes.extend_from_slice(&frame);
            if let Err(error) = chain.write(mem, &bytes) {
                queue.push_front(frame);
                return Err(error.into());
            }
            self.stats.delivered += 1;
            return Ok(Processed::Written(bytes.len() as u32));
        }
        Ok(Processed::Deferred)
    }

    fn check_ring(&self, ring: u16) -> Result<(), DeviceError> {
        let queues = self.queues();
        if ring < queues {
            Ok(())
        } else {
            Err(DeviceError::NoRing { ring, queues })
        }
    }
}

impl DeviceModel for Net {
    fn device_id(&self) -> u32 {
        1
    }

    fn features(&self) -> u64 {
        let several = if self.options.pairs > 1 { F_CTRL_VQ | F_MQ } else { 0 };
        F_MTU | F_MAC | F_MRG_RXBUF | F_STATUS | several
    }

    fn set_features(&mut self, acked: u64) {
        let long = acked & (F_VERSION_1 | F_MRG_RXBUF) != 0;
        self.header_bytes = if long { HEADER_BYTES } else { HEADER_BYTES_LEGACY };
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn write_config(&mut self, offset: u32, bytes: &[u8]) -> bool {
        // A legacy driver writes the address; nothing else is the driver's.
        write_config_range(&mut self.config, 0..6, offset, bytes)
    }

    fn queues(&self) -> u16 {
        2 * self.options.pairs
    }

    fn ready(&self, ring: u16) -> bool {
        !ring.is_multiple_of(2) || self.waiting(ring) > 0
    }

    fn process(&mut self, ring: u16, chain: &Chain, mem: &dyn GuestAccess) -> Result<Processed, DeviceError> {
        self.check_ring(ring)?;
        if ring.is_multiple_of(2) {
            return self.receive(ring, chain, mem);
        }
        self.transmit(ring, chain, mem)?;
        Ok(Processed::Written(0))
    }

    fn process_disabled(
        &mut self,
        ring: u16,
        _chain: &Chain,
        _mem: &dyn GuestAccess,
    ) -> Result<Processed, DeviceError> {
        self.check_ring(ring)?;
        if ring.is_multiple_of(2) {
            return Ok(Processed::Deferred);
        }
        self.stats.discarded += 1;
        Ok(Processed::Written(0))
    }

    fn reset(&mut self) {
        self.header_bytes = HEADER_BYTES;
        self.received.clear();
        self.outgoing.iter_mut().for_each(VecDeque::clear);
        self.config[..6].copy_from_slice(&self.options.mac);
        self.set_link(true);
    }

    fn as_net(&mut self) -> Option<&mut Net> {
        Some(self)
    }
}

/// A frame's buffer in guest memory, on the driver's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetBuffer {
    /// Guest address of header and frame.
    pub addr: u64,
    /// Bytes of both.
    pub len: u32,
    header_bytes: usize,
    writable: bool,
}

impl NetBuffer {
    /// Lays a frame to send into guest memory, with `header_bytes` zeroes before it.
    pub fn send(
        mem: &dyn GuestAccess,
        pool: &mut BufferPool,
        frame: &[u8],
        header_bytes: usize,
    ) -> Result<Self, DeviceError> {
        let mut bytes = vec![0; header_bytes];
        bytes.extend_from_slice(frame);
        let len = bytes.len() as u32;
        let addr = pool.alloc(len)?;
        if let Err(error) = mem.write(addr, &bytes) {
            pool.free(addr)?;
            return Err(error.into());
        }
        Ok(Self {
            addr,
            len,
            header_bytes,
            writable: false,
        })
    }

    /// Takes a buffer for a frame of up to `capacity` bytes.
    pub fn receive(pool: &mut BufferPool, capacity: u32, header_bytes: usize) -> Result<Self, DeviceError> {
        let len = capacity.saturating_add(header_bytes as u32);
        Ok(Self {
            addr: pool.alloc(len)?,
            len,
            header_bytes,
            writable: true,
        })
    }

    /// The chain to add to the ring.
    #[must_use]
    pub fn chain(&self) -> [Buffer; 1] {
        [Buffer {
            addr: self.addr,
            len: self.len,
            writable: self.writable,
        }]
    }

    /// Reads the frame that the device has delivered, `used` bytes with its header.
    pub fn frame(&self, mem: &dyn GuestAccess, used: u32) -> Result<Vec<u8>, DeviceError> {
        let header = self.header_bytes as u32;
        if used < header || used > self.len {
            return Err(DeviceError::WrongLength {
                len: used,
                expected: u64::from(self.len),
            });
        }
        let mut bytes = vec![0; (used - header) as usize];
        mem.read(self.addr + u64::from(header), &mut bytes)?;
        Ok(bytes)
    }

    /// Gives the buffer back.
    pub fn release(self, pool: &mut BufferPool) -> Result<(), DeviceError> {
        pool.free(self.addr)
    }
}
