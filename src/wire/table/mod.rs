//! The table of all requests: what each is called, carries, answers, attaches and needs.

mod backend;
mod frontend;
pub mod pci;

use super::dialect::{Channel, Dialect};
use super::payload::Layout;
use super::protocol::ProtocolFeature;

/// The request ids as constants.
pub mod id {
    pub use super::backend::id as backend;
    pub use super::frontend::id as frontend;
    pub use super::pci::{g1, g2};
}

/// Everything the specification says about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageSpec {
    /// The dialect it belongs to.
    pub dialect: Dialect,
    /// The socket it travels on.
    pub channel: Channel,
    /// Its id, unique on that channel.
    pub id: u32,
    /// Its name without `VHOST_USER_`, and on the back-end channel without `BACKEND_`.
    pub name: &'static str,
    /// Older or third-party names, in the same short form.
    pub aliases: &'static [&'static str],
    /// What it is about.
    pub scope: Scope,
    /// The payloads a request may have, the usual one first.
    pub request: &'static [Layout],
    /// When an answer is due, and with what.
    pub reply: ReplyRule,
    /// Files attached to the request.
    pub request_fds: FdRule,
    /// Files attached to the reply.
    pub reply_fds: FdRule,
    /// What must have been offered or negotiated, in words.
    pub requires: &'static str,
    /// The same for machines; all have to hold.
    pub gates: &'static [Gate],
    /// On a socket where the other side makes the requests: the back-end makes this one as well.
    pub from_both: bool,
    /// The QEMU release or the proposal whose text has it first.
    pub since: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One ring.
    Ring,
    /// The whole device.
    Device,
}

impl Scope {
    /// `ring` or `device`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Device => "device",
        }
    }
}

/// How many files are attached, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdRule {
    /// Fewest.
    pub min: usize,
    /// Most.
    pub max: usize,
    /// What they are; empty when there are none.
    pub what: &'static str,
}

impl FdRule {
    /// No files.
    pub const NONE: Self = Self {
        min: 0,
        max: 0,
        what: "",
    };

    /// Whether this many are allowed.
    pub const fn allows(&self, count: usize) -> bool {
        count >= self.min && count <= self.max
    }
}

/// When a reply is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplyKind {
    /// An own reply, whatever need_reply says.
    Always,
    /// An own reply whose content is the attached file.
    FdOnly,
    /// A status, only with REPLY_ACK negotiated and need_reply set.
    Ack,
    /// A status as soon as REPLY_ACK is negotiated; without need_reply implementations differ.
    AckIfReplyAck,
    /// SET_MEM_TABLE: the table again in postcopy, else as [`ReplyKind::Ack`].
    PostcopyTable,
    /// SET_LOG_BASE: always with LOG_SHMFD, else as [`ReplyKind::Ack`].
    LogBase,
    /// IOTLB_MSG and POSTCOPY_LISTEN: the text contradicts itself or practice when need_reply is clear.
    Disputed,
}

/// Whether a reply has to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Due {
    /// It has to.
    Required,
    /// It must not.
    Forbidden,
    /// The text is silent or implementations legitimately differ.
    Open,
}

/// When a reply is due and what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyRule {
    /// When.
    pub kind: ReplyKind,
    /// The payloads it may have, the usual one first.
    pub layouts: &'static [Layout],
}

impl ReplyRule {
    /// Whether a reply is due, given the request's need_reply and the negotiated protocol features.
    pub const fn due(&self, need_reply: bool, protocol_features: u64) -> Due {
        let reply_ack = protocol_features & ProtocolFeature::ReplyAck.mask() != 0;
        let acked = reply_ack && need_reply;
        match self.kind {
            ReplyKind::Always | ReplyKind::FdOnly => Due::Required,
            ReplyKind::LogBase if protocol_features & ProtocolFeature::LogShmfd.mask() != 0 => Due::Required,
            _ if acked => Due::Required,
            ReplyKind::Disputed => Due::Open,
            ReplyKind::AckIfReplyAck if reply_ack => Due::Open,
            // Whether postcopy listens is not known here.
            ReplyKind::PostcopyTable if protocol_features & ProtocolFeature::Pagefault.mask() != 0 => Due::Open,
            // A need_reply that was never negotiated has no meaning, and some back-ends answer it.
            _ if need_reply => Due::Open,
            _ => Due::Forbidden,
        }
    }
}

/// A condition on what was offered or negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gate {
    /// The protocol feature is negotiated.
    Protocol(ProtocolFeature),
    /// The protocol feature was offered by the back-end.
    ProtocolOffered(ProtocolFeature),
    /// The protocol feature is not negotiated.
    ProtocolAbsent(ProtocolFeature),
    /// The virtio or vhost feature bit is negotiated.
    Virtio(u8),
    /// The virtio or vhost feature bit was offered by the back-end.
    VirtioOffered(u8),
    /// The virtio or vhost feature bit is not negotiated.
    VirtioAbsent(u8),
}

impl Gate {
    /// Whether the gate is open, given offered and negotiated bits (virtio, then protocol).
    pub const fn is_open(self, offered: (u64, u64), negotiated: (u64, u64)) -> bool {
        match self {
            Self::Protocol(feature) => negotiated.1 & feature.mask() != 0,
            Self::ProtocolOffered(feature) => offered.1 & feature.mask() != 0,
            Self::ProtocolAbsent(feature) => negotiated.1 & feature.mask() == 0,
            Self::Virtio(bit) => negotiated.0 >> bit & 1 != 0,
            Self::VirtioOffered(bit) => offered.0 >> bit & 1 != 0,
            Self::VirtioAbsent(bit) => negotiated.0 >> bit & 1 == 0,
        }
    }
}

/// What the table of `dialect` says about request `id` on `channel`.
pub fn spec(dialect: Dialect, channel: Channel, id: u32) -> Option<&'static MessageSpec> {
    let index = usize::try_from(id).ok()?.checked_sub(1)?;
    // Ids of vhost-user count from 1 without gaps; `table_is_in_order` holds this down.
    let table = all(dialect, channel);
    let at_its_place = table.get(index).filter(|spec| spec.id == id);
    at_its_place.or_else(|| table.iter().find(|spec| spec.id == id))
}

/// All requests of `channel` in `dialect`, in the order of their ids.
pub fn all(dialect: Dialect, channel: Channel) -> &'static [MessageSpec] {
    match (dialect, channel) {
        (Dialect::VhostUser, Channel::Main) => frontend::REQUESTS,
        (Dialect::VhostUser, Channel::Backend) => backend::REQUESTS,
        (Dialect::VhostPci, Channel::Main) => pci::G1,
        (Dialect::VhostPciG2, Channel::Main) => pci::G2,
        (Dialect::VhostPci | Dialect::VhostPciG2, Channel::Backend) => &[],
    }
}

impl MessageSpec {
    /// The name as the specification prints it.
    pub fn full_name(&self) -> String {
        match self.channel {
            Channel::Main => format!("VHOST_USER_{}", self.name),
            Channel::Backend => format!("VHOST_USER_BACKEND_{}", self.name),
        }
    }

    /// Whether `short`, in upper case and without prefixes, is one of the names.
    pub(crate) fn is_called(&self, short: &str) -> bool {
        self.name == short || self.aliases.contains(&short)
    }

    /// The layout of a request with these fields: the first that knows them all. Without fields: none at all where that
    /// is allowed. The usual one when nothing fits, so that the error names its fields.
    pub fn request_layout<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) -> Layout {
        pick(self.request, names)
    }

    /// The layout of a reply with these fields, chosen likewise.
    pub fn reply_layout<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) -> Layout {
        pick(self.reply.layouts, names)
    }

    // What follows builds the table.

    const fn new(scope: Scope, doc: &'static str) -> Self {
        Self {
            dialect: Dialect::VhostUser,
            channel: Channel::Main,
            id: 0,
            name: "",
            aliases: &[],
            scope,
            request: &[Layout::Empty],
            reply: ReplyRule {
                kind: ReplyKind::Ack,
                layouts: &[Layout::U64],
            },
            request_fds: FdRule::NONE,
            reply_fds: FdRule::NONE,
            requires: "none",
            gates: &[],
            from_both: false,
            since: "",
            doc,
        }
    }

    /// The same request in another dialect.
    const fn said_in(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// Both sides make it on this socket.
    const fn both_ways(self) -> Self {
        Self {
            from_both: true,
            ..self
        }
    }

    const fn ring(doc: &'static str) -> Self {
        Self::new(Scope::Ring, doc)
    }

    const fn device(doc: &'static str) -> Self {
        Self::new(Scope::Device, doc)
    }

    const fn named(self, channel: Channel, id: u32, name: &'static str) -> Self {
        Self {
            channel,
            id,
            name,
            ..self
        }
    }

    const fn aka(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    const fn carries(self, request: &'static [Layout]) -> Self {
        Self { request, ..self }
    }

    const fn replies(self, kind: ReplyKind, layouts: &'static [Layout]) -> Self {
        Self {
            reply: ReplyRule { kind, layouts },
            ..self
        }
    }

    const fn acks(self, kind: ReplyKind) -> Self {
        self.replies(kind, &[Layout::U64])
    }

    const fn attaches(self, min: usize, max: usize, what: &'static str) -> Self {
        Self {
            request_fds: FdRule { min, max, what },
            ..self
        }
    }

    const fn returns(self, min: usize, max: usize, what: &'static str) -> Self {
        Self {
            reply_fds: FdRule { min, max, what },
            ..self
        }
    }

    const fn needs(self, requires: &'static str, gates: &'static [Gate]) -> Self {
        Self {
            requires,
            gates,
            ..self
        }
    }

    const fn since(self, since: &'static str) -> Self {
        Self { since, ..self }
    }
}

fn pick<'a>(layouts: &[Layout], names: impl Iterator<Item = &'a str> + Clone) -> Layout {
    let unnamed = names.clone().next().is_none();
    if unnamed && layouts.contains(&Layout::Empty) {
        return Layout::Empty;
    }
    if let ([only], false) = (layouts, unnamed) {
        return *only;
    }
    let fits = |layout: &&Layout| names.clone().all(|name| layout.field(name).is_some());
    *layouts
        .iter()
        .find(fits)
        .or(layouts.first())
        .expect("every rule has a layout")
}

/// Declares the requests of one channel: their ids as constants and their rows in one table.
macro_rules! requests {
    ($channel:expr; $( $name:ident = $id:literal: $spec:expr; )*) => {
        /// Request ids of this channel.
        #[expect(missing_docs, reason = "the table documents them")]
        pub mod id {
            $( pub const $name: u32 = $id; )*
        }

        /// The requests, in the order of their ids.
        pub(super) const REQUESTS: &[MessageSpec] = &[ $( $spec.named($channel, $id, stringify!($name)), )* ];
    };
}
use requests;
