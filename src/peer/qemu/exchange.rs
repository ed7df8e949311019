//! What is asked of a running QEMU and what comes back: plain data, no I/O.

use std::time::Duration;

use super::error::{Channel, QemuError};

/// Names one submitted command; completions carry it. Counts up from 1 within a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// Which of the offered device features the driver acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureChoice {
    /// Everything offered that this driver honours.
    All,
    /// The offered bits that are also in the mask; VERSION_1 is added, as a modern device needs it.
    Mask(u64),
    /// Exactly these bits, offered or not.
    Exact(u64),
}

/// How far an initialisation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DriverState {
    /// Reset, ACKNOWLEDGE, DRIVER, features written, FEATURES_OK read back.
    FeaturesOk,
    /// The same, then every ring placed, then DRIVER_OK.
    DriverOk,
}

/// One request to a ring: bytes that the device reads, then room that it may write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Device-readable segments, one or more descriptors each.
    pub readable: Vec<Vec<u8>>,
    /// Sizes of the device-writable segments in bytes.
    pub writable: Vec<u32>,
}

/// A block request; sectors are 512 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlkRequest {
    /// VIRTIO_BLK_T_IN: read `len` bytes from `sector`.
    Read {
        /// First sector.
        sector: u64,
        /// Bytes, a multiple of 512.
        len: u32,
    },
    /// VIRTIO_BLK_T_OUT: write `data` at `sector`.
    Write {
        /// First sector.
        sector: u64,
        /// Bytes, a multiple of 512.
        data: Vec<u8>,
    },
    /// VIRTIO_BLK_T_FLUSH.
    Flush,
    /// VIRTIO_BLK_T_GET_ID: 20 bytes.
    GetId,
    /// Any other request type.
    Other {
        /// The `type` field.
        kind: u32,
        /// The `sector` field.
        sector: u64,
        /// Bytes for the device to read after the header.
        data: Vec<u8>,
        /// Room for the device to write before the status byte.
        writable: u32,
    },
}

/// What QEMU is asked to do. All but [`Command::Qmp`] run on the qtest socket, in the order of submission; a command that
/// waits for the device ([`Command::Submit`], [`Command::NetReceive`], [`Command::Blk`]) does not hold up the ones after it.
/// A Linux guest is told [`Command::GuestReady`], [`Command::Guest`] and [`Command::Blk`], one after the other, and nothing else.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Finds the virtio device (if not yet known), resets it and takes it up to `until`.
    DriverInit {
        /// Features to acknowledge.
        features: FeatureChoice,
        /// How many rings to place; all that the device has if `None`.
        rings: Option<u16>,
        /// Entries of each ring; a device's smaller maximum wins.
        ring_size: u16,
        /// Where to stop.
        until: DriverState,
    },
    /// After `DriverInit` to [`DriverState::FeaturesOk`]: places the rings and writes DRIVER_OK.
    DriverStart {
        /// As in `DriverInit`.
        rings: Option<u16>,
        /// As in `DriverInit`.
        ring_size: u16,
    },
    /// Writes status 0 and reads it back. Commands that wait on a ring end with [`QemuError::WasReset`].
    DriverReset,
    /// Reads the device status byte.
    Status,
    /// Reads (and so clears) the interrupt status: bit 0 a ring was used, bit 1 the configuration changed.
    InterruptStatus,
    /// Kicks a ring: a 16-bit write to its notify register.
    Notify {
        /// The ring.
        ring: u16,
    },
    /// Puts a chain on a ring, kicks, and completes with [`Outcome::Used`] when the device has used it.
    Submit {
        /// The ring.
        ring: u16,
        /// What to put there.
        chain: Chain,
        /// Whether to kick at once; without, a later `Notify` does.
        notify: bool,
        /// How long to wait for the device.
        within: Duration,
    },
    /// Puts a frame (header added) on a transmit ring and kicks; completes at once, not when the device has used it.
    NetTransmit {
        /// The transmit ring (odd).
        ring: u16,
        /// The Ethernet frame.
        frame: Vec<u8>,
    },
    /// Posts `buffers` receive buffers of 4096 bytes and kicks; completes at once. A used buffer is not posted again.
    NetPost {
        /// The receive ring (even).
        ring: u16,
        /// How many.
        buffers: u16,
    },
    /// Waits for one frame (header removed). Posts 8 buffers first if the ring has none left and no frame waits.
    NetReceive {
        /// The receive ring (even).
        ring: u16,
        /// How long to wait.
        within: Duration,
    },
    /// VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET on the control ring (the last one). QEMU itself answers, not the back-end.
    NetSetPairs {
        /// Queue pairs to use from now on.
        pairs: u16,
        /// How long to wait.
        within: Duration,
    },
    /// Puts a block request on a ring, kicks, completes with [`Outcome::Blk`].
    Blk {
        /// The ring.
        ring: u16,
        /// The request.
        request: BlkRequest,
        /// How long to wait.
        within: Duration,
    },
    /// Reads device configuration bytes.
    ReadConfig {
        /// First byte.
        offset: u32,
        /// How many.
        len: u32,
    },
    /// Writes device configuration bytes.
    WriteConfig {
        /// First byte.
        offset: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Reads guest memory.
    ReadMemory {
        /// Guest-physical address.
        gpa: u64,
        /// How many bytes.
        len: u32,
    },
    /// Writes guest memory.
    WriteMemory {
        /// Guest-physical address.
        gpa: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// One raw qtest line; completes with the answer line.
    Raw(String),
    /// Plays the guest's part of a hot-unplug on machine `pc`: completes the ejection after QMP `device_del`.
    AcpiEject {
        /// The PCI slot.
        slot: u8,
    },
    /// Waits until the Linux guest has started and says that it is ready; completes with what it says. Each start says so once.
    GuestReady,
    /// A line for the Linux guest, sent when it is ready and has answered the one before; completes with the answer.
    Guest(String),
    /// A QMP command, on its own socket: not ordered with the others.
    Qmp {
        /// Its name.
        execute: String,
        /// Its arguments: an object, or null for none.
        arguments: serde_json::Value,
    },
}

/// Where the driver put a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingPlace {
    /// Its index.
    pub ring: u16,
    /// Its entries.
    pub size: u16,
    /// Guest address of the descriptor table.
    pub desc: u64,
    /// Guest address of the available ring.
    pub avail: u64,
    /// Guest address of the used ring.
    pub used: u64,
}

/// The driver's view of the device after an initialisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverReport {
    /// PCI slot on bus 0.
    pub slot: u8,
    /// Virtio device id (1 net, 2 block, …).
    pub virtio_id: u16,
    /// Features offered.
    pub offered: u64,
    /// Features the driver wrote.
    pub accepted: u64,
    /// Device status at the end.
    pub status: u8,
    /// Rings that the device has.
    pub rings_max: u16,
    /// Rings that were placed.
    pub rings: Vec<RingPlace>,
}

/// A chain that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// The head descriptor.
    pub head: u16,
    /// The length that the device wrote into the used ring.
    pub len: u32,
    /// The writable segments' content, up to `len` bytes.
    pub written: Vec<u8>,
    /// Guest address of the last byte that the device could write, if it could write any.
    pub last: Option<u64>,
}

/// A block request's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlkAnswer {
    /// 0 OK, 1 IOERR, 2 UNSUPP.
    pub status: u8,
    /// What was read.
    pub data: Vec<u8>,
    /// The used length as written by the device.
    pub len: u32,
}

/// A command's result.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done, nothing to tell.
    Done,
    /// `DriverInit`, `DriverStart`.
    Driver(DriverReport),
    /// `Status`, `InterruptStatus`, `DriverReset` (the byte read back).
    Byte(u8),
    /// `ReadConfig`, `ReadMemory`.
    Bytes(Vec<u8>),
    /// `NetReceive`.
    Frame(Vec<u8>),
    /// `Submit`, `NetSetPairs`.
    Used(Used),
    /// `Blk`.
    Blk(BlkAnswer),
    /// `Raw`, `GuestReady`, `Guest`: the answer line without its end.
    Line(String),
    /// `Qmp`: the `return` value.
    Qmp(serde_json::Value),
}

/// What a handle reports.
#[derive(Debug, Clone, PartialEq)]
pub enum Completion {
    /// QEMU connected to one of the sockets. With [`super::ChardevEnd::Listen`], QMP's connection means that QEMU listens.
    Connected(Channel),
    /// A command ended.
    Command {
        /// Which.
        id: CommandId,
        /// How.
        result: Result<Outcome, QemuError>,
    },
    /// QEMU reported an event of its own (`STOP`, `DEVICE_DELETED`, `NETDEV_VHOST_USER_DISCONNECTED`, …).
    QmpEvent {
        /// Its name.
        name: String,
        /// Its data, null if none.
        data: serde_json::Value,
    },
    /// A socket is of no more use (QEMU ended, or the deadline passed); commands on it fail from now on.
    Lost {
        /// Which socket.
        channel: Channel,
        /// Why.
        error: QemuError,
    },
}
