//! The spec room: the requirements of the specification as data. Pure look-up, no I/O.
//!
//! The message table and the feature bits are the wire room's; they are data of the codec as much as of the text.

mod requirement;
mod rule_ids;

pub use requirement::{Basis, Level, Requirement, Subject, Testable, UnknownRequirement, all, requirement};
pub use rule_ids::{MARK_IDS, RING_RULE_IDS, RULE_IDS};
