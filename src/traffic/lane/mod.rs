//! Lanes: what moves frames between one ring and a source or a sink, or from one ring to another, a burst at a time.
//!
//! A lane has no thread and no patience: [`Lane::step`] does what can be done now and says how much that was. Rings may be
//! taken from a lane and given to it between two steps, while messages are handled that change them.

mod credit;
mod device;
mod direct;
mod driver;
mod forward;
mod pace;
mod record;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use credit::Credit;
pub use device::{DevicePort, DeviceReceiver, DeviceSender, Dirty};
pub use direct::DirectSender;
pub use driver::{Arena, DriverPort, DriverReceiver, DriverSender};
pub use forward::Forward;
pub use pace::Pace;
pub use record::{Record, Records};

use super::frame::FRAME_BYTES_MAX;
use super::sink::{Finding, Sink};
use crate::memory::MemoryError;
use crate::ring::RingError;
use crate::sys::fd::{FdType, fd_type, is_nonblocking, signal_event, signal_event_now};

/// Bytes of virtio_net_hdr with VERSION_1 or MRG_RXBUF.
pub const NET_HEADER_BYTES: usize = 12;
/// Where num_buffers stands in it.
const NUM_BUFFERS_AT: usize = 10;
/// Bytes of the longest packet in a ring.
const PACKET_BYTES_MAX: usize = NET_HEADER_BYTES + FRAME_BYTES_MAX;
/// Frames moved in one burst, at most.
pub const BURST_MAX: usize = 256;
/// Bursts that a sink takes in one step, at most: the cache lines of one are on their way while the one before is verified.
const BURSTS_A_STEP: usize = 8;

/// Why a lane cannot go on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Trouble {
    /// The other side broke a rule of the ring.
    #[error("{0}")]
    Ring(#[from] RingError),
    /// Memory is not there any more.
    #[error("{0}")]
    Memory(#[from] MemoryError),
    /// A frame arrived that is not the one that was sent.
    #[error("{0}")]
    Frame(Finding),
    /// A buffer that was given is not in memory, or too small.
    #[error("frame {seq} of {bytes} bytes does not fit into the {room} bytes of a buffer")]
    NoRoom {
        /// The frame's number.
        seq: u64,
        /// Its bytes, with the header before it.
        bytes: usize,
        /// Bytes there are.
        room: usize,
    },
    /// A packet says that it takes more buffers than there are, or none.
    #[error("a packet says that it takes {buffers} buffers, of at most {most}")]
    Buffers {
        /// What it says.
        buffers: u16,
        /// What may be.
        most: u16,
    },
    /// An eventfd cannot be signalled.
    #[error("an eventfd of the other side cannot be signalled: {0}")]
    Signal(String),
}

/// Something that moves frames.
pub trait Lane: fmt::Debug + Send {
    /// Does what can be done now; gives the number of buffers that moved. `now` is nanoseconds of the pump's clock.
    fn step(&mut self, now: u64) -> Result<usize, Trouble>;

    /// Its last step took all frames that there were, and nobody waits for the next: to look again at once would take away the
    /// cache lines that the other side is writing.
    fn has_caught_up(&self) -> bool {
        false
    }

    /// Tells the other sides of its rings that it polls.
    fn refuse_signals(&mut self);

    /// Asks to be woken by the next thing to do; true if there is one already.
    fn ask_for_signals(&mut self) -> bool;

    /// What wakes it.
    fn wakes_on(&self) -> Vec<BorrowedFd<'_>>;

    /// When it has something to do though nothing happens, in nanoseconds of the pump's clock.
    fn due(&self) -> Option<u64> {
        None
    }

    /// What it has done so far.
    fn progress(&self) -> Progress;

    /// The sink in it, if frames end here.
    fn sink(&self) -> Option<&Sink> {
        None
    }

    /// For whoever takes rings from it and gives them back.
    fn as_any(&mut self) -> &mut dyn std::any::Any;

    /// For whoever takes it apart.
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any>;
}

/// How far a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Frames that its source has put into a ring.
    pub sent: u64,
    /// Frames that its sink has taken from one.
    pub received: u64,
    /// Frames that went through it.
    pub forwarded: u64,
    /// Frames that are its source's and have not come back yet, as buffers.
    pub outstanding: u64,
    /// Frames that its sink has taken from several buffers each.
    pub merged: u64,
    /// Its source has no more to send.
    pub done: bool,
}

impl Progress {
    /// Of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            received: self.received + other.received,
            forwarded: self.forwarded + other.forwarded,
            outstanding: self.outstanding + other.outstanding,
            merged: self.merged + other.merged,
            done: self.done && other.done,
        }
    }
}

/// An eventfd that one side signals and the other waits on; none where it polls, or has not said yet.
#[derive(Debug, Clone, Default)]
pub struct Bell {
    fd: Option<Arc<OwnedFd>>,
    /// It can be written without looking first.
    is_ours: bool,
    /// How often it was signalled.
    rung: Arc<AtomicU64>,
}

impl Bell {
    /// An eventfd; one that blocks is only written when it has room, since a peer may have filled it.
    #[must_use]
    pub fn new(fd: Option<Arc<OwnedFd>>) -> Self {
        let is_ours = fd
            .as_ref()
            .is_some_and(|fd| fd_type(fd.as_fd()) == FdType::Eventfd && is_nonblocking(fd.as_fd()));
        Self {
            fd,
            is_ours,
            rung: Arc::default(),
        }
    }

    /// Whether it is the very same eventfd.
    #[must_use]
    pub fn is(&self, other: &Bell) -> bool {
        match (&self.fd, &other.fd) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        }
    }

    /// How often it was signalled through this, or a copy of it.
    #[must_use]
    pub fn rung(&self) -> u64 {
        self.rung.load(Ordering::Relaxed)
    }

    fn ring(&self) -> Result<(), Trouble> {
        let Some(fd) = &self.fd else { return Ok(()) };
        self.rung.fetch_add(1, Ordering::Relaxed);
        let rung = if self.is_ours {
            signal_event_now(fd.as_fd())
        } else {
            signal_event(fd.as_fd())
        };
        rung.map_err(|error| Trouble::Signal(error.to_string()))
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(|fd| fd.as_fd())
    }
}

/// A packet while it is made or verified: memory of this thread alone, so that nobody changes it meanwhile.
#[derive(Debug, Clone)]
struct Scratch(Box<[u8; PACKET_BYTES_MAX]>);

impl Scratch {
    fn new() -> Self {
        Self(Box::new([0; PACKET_BYTES_MAX]))
    }
}

/// Shows a packet to a sink that does not count as arrived: its ring is disabled.
fn discard(sink: &mut Sink, packet: &[u8]) {
    sink.discard(packet.get(NET_HEADER_BYTES..).unwrap_or_default());
}

/// Hands a packet to a sink, whose alarm tells of what is wrong and not forgiven.
#[inline]
fn hand_over(sink: &mut Sink, packet: &[u8], now: u64) {
    sink.take(packet.get(NET_HEADER_BYTES..).unwrap_or_default(), now);
}
