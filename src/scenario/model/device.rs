//! Steps about rings, memory and what goes through them, and the steps that QEMU is driven with.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::free::{free, free_map, free_map_schema, free_schema};
use super::super::scalar::{Bytes, Duration, FieldMatch, Node, Num, Ordered, Size};
use super::super::span::At;

/// A ring of a peer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RingRef {
    /// The simulated peer.
    pub from: At<String>,
    /// The ring.
    pub ring: At<Num>,
}

/// `until_ring`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UntilRing {
    /// A peer of the link.
    pub peer: At<String>,
    /// The ring.
    pub ring: At<Num>,
    /// Chains that the oracle has judged while the back-end had them, since the ring was started, at least.
    #[serde(default)]
    pub available: Option<At<Num>>,
    /// Chains of those that have come back and were judged once more, at least.
    #[serde(default)]
    pub returned: Option<At<Num>>,
    /// Pages written in chains that were made available while writes are logged, found marked in the dirty log, at least. A page
    /// counts once each time that it is written and marked.
    #[serde(default)]
    pub logged: Option<At<Num>>,
}

/// `ring`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RingStep {
    /// The simulated front-end.
    pub peer: At<String>,
    /// The ring.
    pub ring: At<Num>,
    /// What to do with it.
    pub action: At<RingAction>,
    /// `stop`: binds the base that GET_VRING_BASE returned.
    #[serde(default, rename = "as")]
    pub bind: Option<At<String>>,
    /// `stop`: the base that must be returned.
    #[serde(default)]
    pub base: Option<At<FieldMatch>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// An action on a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RingAction {
    /// GET_VRING_BASE, keeping the base.
    Stop,
    /// SET_VRING_NUM, BASE (as kept), ADDR, CALL, KICK.
    Start,
    /// SET_VRING_ENABLE 1.
    Enable,
    /// SET_VRING_ENABLE 0.
    Disable,
}

/// `memory`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryStep {
    /// The simulated front-end.
    pub peer: At<String>,
    /// What to do.
    pub action: At<MemoryAction>,
    /// Guest address of the region to add or remove.
    #[serde(default)]
    pub address: Option<At<Num>>,
    /// Its size.
    #[serde(default)]
    pub size: Option<At<Size>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// An action on the memory table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryAction {
    /// A new region and ADD_MEM_REG, or SET_MEM_TABLE without CONFIGURE_MEM_SLOTS.
    Add,
    /// REM_MEM_REG of a region, or without CONFIGURE_MEM_SLOTS SET_MEM_TABLE with the others.
    Remove,
    /// SET_MEM_TABLE with all present regions, again.
    Replace,
}

/// `write`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteStep {
    /// The simulated peer.
    pub peer: At<String>,
    /// Guest address.
    pub address: At<Num>,
    /// What to write.
    pub bytes: At<Bytes>,
}

/// `deliver`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deliver {
    /// Where the frames start: the front-end transmits, or the simulated back-end puts them into the receive ring.
    pub from: At<String>,
    /// Where they must arrive; equal to `from` where they come back: for a front-end from a back-end that loops them back, for a
    /// simulated back-end from a guest that does.
    pub to: At<String>,
    /// How many; default 1. Exactly so many are sent; only where a real back-end that sends frames back keeps the last ones for a
    /// second does another one follow them, behind which they cannot come any more.
    #[serde(default)]
    pub packets: Option<At<Num>>,
    /// Bytes of a frame, without the virtio-net header; default 64. With a load of its own, 64 to 9000.
    #[serde(default)]
    pub size: Option<At<Num>>,
    /// Queue pair; default 0.
    #[serde(default)]
    pub pair: Option<At<Num>>,
    /// How many queue pairs, from that one on, carry frames at once, each a stream of its own and as many as are said; default 1.
    /// This gives the delivery a load of its own, as `for` does.
    #[serde(default)]
    pub pairs: Option<At<Num>>,
    /// As long as this instead of a number of packets. This and the following give the delivery a load of its own: simulated
    /// peers move its frames on threads of their own, as fast as they can, and each frame is verified.
    #[serde(default, rename = "for")]
    pub duration: Option<At<Duration>>,
    /// Frames moved at a time, 1 to 256; default 32.
    #[serde(default)]
    pub burst: Option<At<Num>>,
    /// `poll` (default): both sides look all the time; `event`: they sleep until they are signalled.
    #[serde(default)]
    pub notify: Option<At<NotifyChoice>>,
    /// Frames a second that are offered; default as many as go.
    #[serde(default)]
    pub offered_rate: Option<At<Num>>,
    /// Bytes of the frames, one after the other and again from the first.
    #[serde(default)]
    pub sizes: Option<Vec<At<Num>>>,
    /// The simple Internet mix of 64, 570 and 1518 bytes.
    #[serde(default)]
    pub imix: bool,
    /// A pcap file, by its path from this file's folder, whose frames are sent again and again; each is told by its own bytes.
    #[serde(default)]
    pub pcap: Option<At<String>>,
    /// Frames of a second stream go the other way at the same time.
    #[serde(default)]
    pub both_ways: bool,
    /// Frames carry the time, and the report says how long they took.
    #[serde(default)]
    pub latency: bool,
    /// Only one of so many frames has a content, which is compared byte for byte; of all others it is the header with stream,
    /// number and checksum. The report says so.
    #[serde(default)]
    pub verify_one_of: Option<At<Num>>,
    /// Frames may be lost on the way (a ring that is disabled may throw them away), and are counted.
    #[serde(default)]
    pub may_lose: bool,
    /// Frames may be lost that were on their way while the script had a ring disabled or stopped, a guest without its driver or reset,
    /// or no back-end; all others have to arrive.
    #[serde(default)]
    pub may_lose_disturbed: bool,
    /// Of frames that come back: so many on their way at the same time, at most, for a peer that throws away what it has no buffer
    /// for. Default: as many as the rings hold.
    #[serde(default)]
    pub in_flight: Option<At<Num>>,
    /// Frames may come again: a back-end that was killed with some in hand cannot know what became of them. They are counted.
    #[serde(default)]
    pub may_repeat: bool,
    /// `false`: goes on while other steps do, until `await` has seen its end.
    #[serde(default)]
    pub wait: Option<At<bool>>,
    /// The delivery's name, for `await` and `rate`.
    #[serde(default, rename = "as")]
    pub bind: Option<At<String>>,
    /// Another delivery with the same load, in turn with this one: for a moment one moves, then the other.
    #[serde(default)]
    pub baseline: Option<Against>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// The delivery that another one is compared with.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Against {
    /// Where its frames start.
    pub from: At<String>,
    /// Where they must arrive.
    pub to: At<String>,
    /// Its name, for `rate`.
    #[serde(rename = "as")]
    pub bind: At<String>,
}

/// How the sides of a delivery learn of each other's doings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NotifyChoice {
    /// Both look all the time.
    Poll,
    /// Both sleep until the other signals.
    Event,
}

/// `blk`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Blk {
    /// The front-end.
    pub peer: At<String>,
    /// What to do.
    pub action: At<BlkAction>,
    /// Request queue; default 0.
    #[serde(default)]
    pub queue: Option<At<Num>>,
    /// First sector of 512 bytes; default 0.
    #[serde(default)]
    pub sector: Option<At<Num>>,
    /// Number of sectors; default 1.
    #[serde(default)]
    pub sectors: Option<At<Num>>,
    /// Byte that fills the data written, or that data read must consist of.
    #[serde(default)]
    pub fill: Option<At<Num>>,
    /// Status byte expected: `ok` (default), `ioerr`, `unsupp`.
    #[serde(default)]
    pub status: Option<At<BlkStatus>>,
    /// `false`: only submit; `await` completes it.
    #[serde(default)]
    pub wait: Option<At<bool>>,
    /// `false`: do not kick after submitting.
    #[serde(default)]
    pub kick: Option<At<bool>>,
    /// The request's name for `await`.
    #[serde(default, rename = "as")]
    pub bind: Option<At<String>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// A block request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BlkAction {
    /// VIRTIO_BLK_T_IN.
    Read,
    /// VIRTIO_BLK_T_OUT.
    Write,
    /// VIRTIO_BLK_T_FLUSH.
    Flush,
    /// VIRTIO_BLK_T_GET_ID.
    GetId,
    /// A request type that no device knows.
    Unknown,
}

/// Status byte of a block request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BlkStatus {
    /// VIRTIO_BLK_S_OK.
    Ok,
    /// VIRTIO_BLK_S_IOERR.
    Ioerr,
    /// VIRTIO_BLK_S_UNSUPP.
    Unsupp,
}

/// `await`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Await {
    /// The name of the request, or of the delivery.
    pub request: At<String>,
    /// A delivery that goes on `for` a time ends now: sources stop, and what is on its way still arrives.
    #[serde(default)]
    pub stop: bool,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// `echo`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Echo {
    /// The simulated front-end.
    pub peer: At<String>,
    /// Ring; default 0.
    #[serde(default)]
    pub ring: Option<At<Num>>,
    /// How many requests; default 1.
    #[serde(default)]
    pub requests: Option<At<Num>>,
    /// Bytes of each; default 64.
    #[serde(default)]
    pub size: Option<At<Num>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// `image`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The back-end whose process was given `{image}`.
    pub peer: At<String>,
    /// First sector.
    pub sector: At<Num>,
    /// Number of sectors; default 1.
    #[serde(default)]
    pub sectors: Option<At<Num>>,
    /// The byte that all of it must consist of.
    pub fill: At<Num>,
}

/// `inflight`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InflightStep {
    /// The simulated front-end that keeps the area (`keeps_inflight`).
    pub peer: At<String>,
    /// The ring; default 0.
    #[serde(default)]
    pub ring: Option<At<Num>>,
    /// Exactly these block requests are in flight, by name, the one that was taken first in front.
    #[serde(default)]
    pub requests: Option<Vec<At<String>>>,
    /// So many are.
    #[serde(default)]
    pub count: Option<At<Num>>,
    /// Waits until so many are, at least, or until all have come back: a process may be faster than whoever looks. Nothing else is
    /// looked at in the same step.
    #[serde(default)]
    pub at_least: Option<At<Num>>,
    /// Nothing is, the area has noted where the used ring stands, and of a packed ring every entry is free.
    #[serde(default)]
    pub settled: bool,
    /// Fields at the beginning of the ring's region: `version`, `desc_num` and `used_idx`; for a split ring `last_batch_head`, for
    /// a packed one `free_head`, `old_free_head`, `old_used_idx`, `used_wrap_counter` and `old_used_wrap_counter`.
    #[serde(default)]
    pub fields: Ordered<At<Num>>,
    /// Packed ring: descriptors of each request in flight, the one that was taken first in front.
    #[serde(default)]
    pub descriptors: Option<Vec<At<Num>>>,
}

/// `dies`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiesStep {
    /// The simulated back-end, which has to have an inflight area by then.
    pub peer: At<String>,
    /// Where on the way of a request. Default: each time at another one, in turn.
    #[serde(default)]
    pub at: Option<At<DiesAt>>,
    /// At which request that gets there from here on, from 1; default 1. Requests that are returned together get there together.
    #[serde(default)]
    pub request: Option<At<Num>>,
    /// Instead: before which of its writes to the inflight area and to rings, from 1.
    #[serde(default)]
    pub write: Option<At<Num>>,
}

/// Moments on the way of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiesAt {
    /// It has been taken and recorded, and not been carried out.
    Taken,
    /// It has been carried out, and nobody has been told.
    CarriedOut,
    /// Its batch is linked in the area, and the driver does not see it yet.
    Linked,
    /// The driver sees it, and the area still says that it is in flight.
    Used,
    /// Of its batch one is not in flight any more, for others the area says so.
    HalfCleared,
    /// None of its batch is in flight, and the area does not know that the batch is over.
    Cleared,
    /// All is recorded, and the driver has not been called.
    Uncalled,
}

/// `migration`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrationStep {
    /// The simulated front-end.
    pub peer: At<String>,
    /// What is done.
    pub action: At<MigrationAction>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// A step of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MigrationAction {
    /// SET_LOG_BASE, SET_FEATURES with LOG_ALL, SET_VRING_ADDR with the log flag; then a first copy.
    Begin,
    /// What the log says was written is copied again.
    Copy,
    /// Once more, with the rings stopped; the copy has to be what memory is.
    End,
}

/// `config`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigStep {
    /// The front-end (QEMU).
    pub peer: At<String>,
    /// Offset in the configuration space.
    #[serde(default)]
    pub offset: Option<At<Num>>,
    /// What must be read there.
    #[serde(default)]
    pub is: Option<At<Bytes>>,
    /// What to write there.
    #[serde(default)]
    pub write: Option<At<Bytes>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// `driver`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// The front-end (QEMU).
    pub peer: At<String>,
    /// What the guest driver does.
    pub action: At<DriverAction>,
    /// `notify`: the ring.
    #[serde(default)]
    pub ring: Option<At<Num>>,
    /// `use-pairs`: how many queue pairs.
    #[serde(default)]
    pub pairs: Option<At<Num>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// What QEMU's guest driver does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DriverAction {
    /// Finds the device, negotiates, sets up the rings, DRIVER_OK.
    Init,
    /// Writes device status 0.
    Reset,
    /// Writes a ring's notify register.
    Notify,
    /// Net: tells the device, over the control queue, how many queue pairs are in use from now on.
    UsePairs,
    /// Adds the device over QMP (of a QEMU with `plugged: false`, or again after `unplug`).
    Plug,
    /// Removes the device over QMP, and plays the guest that lets go of it.
    Unplug,
}

/// `qmp`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Qmp {
    /// The front-end (QEMU).
    pub peer: At<String>,
    /// The command.
    pub execute: At<String>,
    /// Its arguments.
    #[serde(default, deserialize_with = "free")]
    #[schemars(schema_with = "free_schema")]
    pub arguments: Option<At<Node>>,
    /// The command must fail, with this in its class or description.
    #[serde(default)]
    pub error: Option<At<String>>,
    /// What the answer must contain, by path (`status`, `[0].name`).
    #[serde(default, deserialize_with = "free_map")]
    #[schemars(schema_with = "free_map_schema")]
    pub returns: Ordered<At<Node>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// `qtest`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Qtest {
    /// The front-end (QEMU).
    pub peer: At<String>,
    /// The line, without the newline.
    pub line: At<String>,
    /// The answer after `OK `.
    #[serde(default)]
    pub is: Option<At<String>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// `guest`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuestStep {
    /// The front-end (a Linux guest).
    pub peer: At<String>,
    /// What it does.
    pub action: At<GuestAction>,
    /// What it has to say to that.
    #[serde(default)]
    pub is: Option<At<String>>,
    /// Limit for this step.
    #[serde(default)]
    pub within: Option<At<Duration>>,
}

/// What a Linux guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuestAction {
    /// Says which feature bits its driver has negotiated, as a hexadecimal number.
    Features,
    /// Says how many frames it has received and sent back, and how many it had no room for: `received 8 sent 8 refused 0 dropped 0`.
    Counts,
    /// Takes the driver off the device, which resets it.
    Unbind,
    /// Gives the device its driver again, which starts from the beginning.
    Bind,
}
