//! The peers of a scenario: who plays them, what they offer, how they answer.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::super::scalar::{Bytes, Duration, Node, Num, Ordered, Size};
use super::super::span::At;
use super::{PciDecl, Scenario, Serves};
use crate::peer::sim::retry::Resends;
use crate::wire::Dialect;

/// One peer. Exactly one of `frontend` and `backend` is given: `simulated`, a name of the catalogue, a command line
/// with `{socket}` or `{fd}`, `listen:PATH` or `connect:PATH` (the harness listens or connects there).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerDecl {
    /// The peer is a front-end (old name: master).
    #[serde(default, alias = "master")]
    pub frontend: Option<At<String>>,
    /// The peer is a back-end (old name: slave).
    #[serde(default, alias = "slave")]
    pub backend: Option<At<String>>,
    /// What is spoken on all links of this scenario: `vhost-user` (default), `vhost-pci` or `vhost-pci-g2`. One peer says it.
    #[serde(default)]
    pub dialect: Option<At<String>>,
    /// `net`, `blk` or `generic` for simulated peers; for QEMU also its device table's other names.
    #[serde(default)]
    pub device: Option<At<String>>,
    /// Number of rings. Default: net 2, others 1.
    #[serde(default)]
    pub queues: Option<At<Num>>,
    /// Descriptors a ring. Default 256.
    #[serde(default)]
    pub ring_size: Option<At<Num>>,
    /// Virtio and vhost feature bits offered (back-end) or wanted (front-end).
    #[serde(default)]
    pub features: Option<FeatureChoice>,
    /// Protocol feature bits offered or wanted.
    #[serde(default)]
    pub protocol_features: Option<FeatureChoice>,
    /// Guest memory of a simulated front-end or of QEMU.
    #[serde(default)]
    pub memory: Option<MemoryDecl>,
    /// Device configuration space, hex; replaces the device's own.
    #[serde(default)]
    pub config: Option<At<Bytes>>,
    /// Capacity of a block device.
    #[serde(default)]
    pub capacity: Option<At<Size>>,
    /// Net back-end: return every frame on the receive ring of its pair.
    #[serde(default)]
    pub loopback: bool,
    /// Simulated back-end: percent of the time in which it does nothing while frames are delivered, so that it is slower than it
    /// could be.
    #[serde(default)]
    pub slowed_percent: Option<At<Num>>,
    /// Simulated back-end that sends frames on or back: what it does wrong with one of them.
    #[serde(default)]
    pub delivery_fault: Option<DeliveryFault>,
    /// Simulated front-end: asks the back-end for an inflight area in `setup`, and gives it to each one that follows.
    #[serde(default)]
    pub keeps_inflight: Option<At<bool>>,
    /// Simulated back-end: what it does wrong with the inflight area.
    #[serde(default)]
    pub inflight_fault: Option<At<InflightFault>>,
    /// Requests that a simulated back-end leaves for `reply:` steps; on the channel, those a simulated front-end leaves.
    #[serde(default)]
    pub manual: Vec<At<String>>,
    /// Scripted answers of a simulated peer by request: of a back-end on the main socket, of a front-end on the channel.
    #[serde(default)]
    pub answers: Ordered<Answer>,
    /// Simulated front-end: signals each kick eventfd before it passes it on, as QEMU does (VU-RING-14). Default true.
    #[serde(default)]
    pub kick_on_start: Option<At<bool>>,
    /// Simulated front-end: when it serves the back-end channel. Default `routed`.
    #[serde(default)]
    pub serves_channel: Option<At<Serves>>,
    /// Simulated back-end: reads its main socket also while a handler waits for an answer on the channel (`ask_during`).
    #[serde(default)]
    pub reads_while_asking: Option<At<bool>>,
    /// Simulated back-end: bytes of the device's shared memory regions, the region with id 0 first; needs SHMEM.
    #[serde(default)]
    pub shared_memory: Vec<At<Size>>,
    /// Which end listens on the socket, where the peer leaves it open: true = this peer.
    #[serde(default)]
    pub listens: Option<At<bool>>,
    /// QEMU: reconnect after this long.
    #[serde(default)]
    pub reconnect: Option<At<Duration>>,
    /// QEMU: `false` starts it without the vhost-user device, to be added over QMP.
    #[serde(default)]
    pub plugged: Option<At<bool>>,
    /// QEMU: `host_mtu` of the net device.
    #[serde(default)]
    pub mtu: Option<At<Num>>,
    /// Further command-line words for a process.
    #[serde(default)]
    pub args: Vec<At<String>>,
    /// The peer is a modelled endpoint with a policy for requests that cross; both of a scenario are, or none.
    #[serde(default)]
    pub retry: Option<At<RetryDecl>>,
    /// What it is in vhost-pci.
    #[serde(default)]
    pub pci: Option<PciDecl>,
    /// How the process must end. Default: alive until the harness stops it, then a clean end.
    #[serde(default)]
    pub exit: Option<ExitRule>,
}

/// Faults of a back-end with the inflight area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InflightFault {
    /// Nothing: to compare with.
    None,
    /// Nothing is recorded.
    RecordsNothing,
    /// What was returned stays in flight.
    ClearsNothing,
    /// A successor does not look at what was cut off between the ring and the area.
    NoRollback,
    /// A successor takes one request out of a batch that was cut off, and not all of it.
    RollsOneBack,
    /// A successor forgets what was in flight.
    ForgetsAll,
    /// A successor carries each request out twice.
    Twice,
    /// A successor begins with the newest.
    NewestFirst,
}

/// A fault of a back-end, put in to show that it is seen.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliveryFault {
    /// What it does.
    pub what: At<FaultName>,
    /// To which frame that passes through it, from 0; default 1000.
    #[serde(default)]
    pub at: Option<At<Num>>,
}

/// Faults of a back-end that sends frames on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultName {
    /// The frame is lost.
    Drop,
    /// It comes after the next one.
    Swap,
    /// One bit of its last byte is turned over.
    FlipBit,
    /// It comes twice.
    Repeat,
    /// Its last byte is missing.
    Truncate,
    /// A byte follows it.
    Extend,
    /// The frame before comes again in its place.
    Stale,
    /// Its end is that of the frame before.
    Torn,
    /// It is all zeroes.
    Blank,
    /// A frame of another stream comes in its place.
    Misdeliver,
    /// Another buffer is returned than the one that was written.
    WrongBuffer,
    /// A buffer is returned that was returned before.
    StaleDescriptor,
    /// More bytes are said to be written than there is room for.
    TooLong,
    /// The used index goes on by 16,384 more than were returned; on a packed ring so many elements are marked used again.
    Jump,
    /// Every frame: those of queue pairs 0 and 1 change places.
    WrongQueue,
}

/// A choice of feature bits by name. `only` is the exact set; otherwise `with` is added to and `without` taken from the default.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureChoice {
    /// Exactly these.
    #[serde(default)]
    pub only: Option<Vec<At<String>>>,
    /// These as well.
    #[serde(default)]
    pub with: Vec<At<String>>,
    /// Not these.
    #[serde(default)]
    pub without: Vec<At<String>>,
}

/// Guest memory.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryDecl {
    /// Bytes in all. Default 4 MiB (QEMU 256 MiB).
    #[serde(default)]
    pub size: Option<At<Size>>,
    /// Number of regions of equal size. Default 1.
    #[serde(default)]
    pub regions: Option<At<Num>>,
    /// All regions are parts of one file (mmap_offset is not 0), as QEMU's are.
    #[serde(default)]
    pub one_file: bool,
    /// Simulated front-end: memory on huge pages of 2 MiB, of which the machine must have enough.
    #[serde(default)]
    pub huge_pages: bool,
}

/// A scripted answer of a simulated peer to one kind of request.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// A u64 answer, or the status of an ack.
    #[serde(default)]
    pub value: Option<At<Num>>,
    /// Fields of the answer that differ from the true ones.
    #[serde(default)]
    pub fields: Ordered<At<Node>>,
    /// Header fields that differ.
    #[serde(default)]
    pub header: Option<HeaderDecl>,
    /// Payload bytes instead of a typed answer.
    #[serde(default)]
    pub payload: Option<At<Bytes>>,
    /// No answer at all.
    #[serde(default)]
    pub silent: bool,
    /// The answer is sent twice.
    #[serde(default)]
    pub twice: bool,
    /// The connection is closed instead of an answer.
    #[serde(default)]
    pub close: bool,
    /// The answer is sent this long after the request.
    #[serde(default)]
    pub after: Option<At<Duration>>,
    /// Only the n-th request of this kind (from 1); others are answered truly.
    #[serde(default)]
    pub nth: Option<At<Num>>,
}

/// Header words that replace the computed ones.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderDecl {
    /// Request id.
    #[serde(default)]
    pub request: Option<At<Num>>,
    /// Flags word.
    #[serde(default)]
    pub flags: Option<At<Num>>,
    /// Payload size as announced.
    #[serde(default)]
    pub size: Option<At<Num>>,
    /// Connection id, in the dialect that has one.
    #[serde(default)]
    pub conn_id: Option<At<Num>>,
}

/// How a process must have ended.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExitRule {
    /// By itself with this status.
    #[serde(default)]
    pub status: Option<At<Num>>,
    /// By this signal (`SIGKILL`, ...).
    #[serde(default)]
    pub signal: Option<At<String>>,
    /// Any way of ending, or none, will do.
    #[serde(default)]
    pub any: bool,
}

/// A modelled endpoint: what it does, and its policy.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryDecl {
    /// A row of the table of strategies (`A0` to `D3`), of which this peer has its side.
    #[serde(default)]
    pub strategy: Option<At<String>>,
    /// A row of the table of programs (`P1` to `P9`), of which this peer does its side.
    #[serde(default)]
    pub program: Option<At<String>>,
    /// A case with two channels (`E1` to `E14c`), instead of a strategy and a program.
    #[serde(default)]
    pub case: Option<At<String>>,
    /// Operations instead of a program: requests by name, with `!` if an ack is asked for.
    #[serde(default)]
    pub operations: Option<Vec<At<String>>>,
    /// Re-sends: a number up to 6, or `unbounded`. Default 2.
    #[serde(default)]
    pub resends: Option<At<ResendsDecl>>,
    /// Messages that wait unread at most, before a send of this peer blocks. Default: no limit.
    #[serde(default)]
    pub capacity: Option<At<Num>>,
}

impl Scenario {
    /// What is spoken on the links: what any peer declares.
    pub fn dialect(&self) -> Dialect {
        let declared = self.peers.iter().find_map(|(_, peer)| peer.dialect.as_ref());
        // what is no dialect is reported where declarations are checked
        declared.and_then(|d| d.value.parse().ok()).unwrap_or_default()
    }
}

/// How often a modelled endpoint sends a request again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResendsDecl(pub Resends);

impl<'de> Deserialize<'de> for ResendsDecl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = ResendsDecl;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number up to 6, or unbounded")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ResendsDecl, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ResendsDecl, E> {
                text.parse().map(ResendsDecl).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl JsonSchema for ResendsDecl {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Resends".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "integer", "minimum": 0, "maximum": 6}, {"const": "unbounded"}]})
    }
}
