//! What the oracle sees in a ring, and what a rule makes of it.

use super::chain::Chain;
use crate::judge::monitor::{Bound, Finding};

/// One rule of the table.
#[derive(Debug)]
pub struct Rule {
    /// Its permanent name.
    pub id: &'static str,
    /// Who can break it.
    pub party: Bound,
    /// The section of virtio 1.3 that says so, or nothing if only vhost-user does.
    pub section: &'static str,
    /// The requirements of vhost-user that it enforces.
    pub requirements: &'static [&'static str],
    /// What it says.
    pub text: &'static str,
    /// What may pass unseen.
    pub trace: Trace,
    /// How it is checked.
    pub check: fn(&Sight) -> Option<Finding>,
}

/// How long a violation can be seen, since the oracle looks from time to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// Until the ring is started again.
    Lasting,
    /// Until the ring has gone round once more.
    Lap,
    /// While the device has the chain.
    Held,
    /// Until the next index is written.
    Moment,
}

impl Trace {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::Lasting, Self::Lap, Self::Held, Self::Moment];

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lasting => "lasting",
            Self::Lap => "lap",
            Self::Held => "held",
            Self::Moment => "moment",
        }
    }

    /// What passes unseen.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Lasting => "Stays in memory: seen at the next look, unless the ring is started again before.",
            Self::Lap => {
                "Stays in the ring until it has gone round: missed if more chains than the ring has slots pass between \
                 two looks, or if a chain came and went between them that can be taken for it."
            }
            Self::Held => {
                "Needs a look between the chain's being made available and its return: a chain that comes and goes \
                 between two looks is not judged."
            }
            Self::Moment => "Seen only if a look falls between this write and the next one.",
        }
    }
}

/// Something seen in a ring.
#[derive(Debug)]
pub enum Sight<'a> {
    /// The indices of a split ring at one moment.
    Indices {
        /// Its size.
        size: u16,
        /// avail.idx.
        avail: u16,
        /// used.idx.
        used: u16,
    },
    /// The flags by which the two sides ask for no notification.
    Flags {
        /// EVENT_IDX was negotiated.
        event_idx: bool,
        /// The ring is packed.
        packed: bool,
        /// The driver's.
        driver: u16,
        /// The device's.
        device: u16,
    },
    /// The device's index has moved.
    Moved {
        /// From there.
        from: u16,
        /// To there.
        to: u16,
        /// Chains that could have been returned, at most.
        out: u32,
    },
    /// A chain was made available.
    Offered {
        /// Its head, or buffer id.
        id: u16,
        /// The ring's size.
        size: u16,
        /// The device has a chain of that name already.
        is_out: bool,
    },
    /// The descriptors of a chain that the device has.
    Chain(&'a Chain),
    /// A chain came back.
    Returned {
        /// Its name.
        id: u32,
        /// Bytes written to it.
        length: u32,
        /// The ring's size.
        size: u16,
        /// Where it was.
        standing: Standing,
        /// Its descriptors, if they were seen.
        chain: Option<&'a Chain>,
        /// The ring was started and disabled all the time.
        disabled: bool,
        /// The ring is a receive ring of a network device.
        receives: bool,
    },
    /// With IN_ORDER, a chain came back, and one that was made available before it did not.
    Overtaken {
        /// Its name.
        id: u32,
    },
    /// A page was written and has no bit in the dirty log.
    Unlogged {
        /// A guest address in the page, or of the log where it stands for the used ring.
        address: u64,
        /// The used ring, and not a buffer.
        used: bool,
    },
    /// GET_VRING_BASE was answered.
    Stopped {
        /// The next chain to process, as answered.
        base: u16,
        /// The same as it would be with nothing left to process, and used.idx. None for packed rings.
        indices: Option<(u16, u16)>,
        /// Chains before the base that were not returned.
        left: u32,
        /// In-flight requests may be left.
        may_leave: bool,
        /// The answer for a packed ring has nothing where it says what was used.
        half: bool,
    },
    /// The device wrote to a ring that is stopped.
    Late {
        /// What.
        what: String,
    },
}

/// Where a chain was that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The device had it.
    Out,
    /// It had been returned before.
    Back,
    /// It was never made available.
    Never,
    /// Not known: the oracle was not looking when it was made available.
    Unknown,
}
