//! Virtqueues in guest memory: the driver's side and the device's side of a split ring.
//!
//! Everything is plain state plus memory access: who kicks, calls or waits is the caller's business. What the other side has
//! written is never trusted; each rule it can break has its own [`RingError`], from which verdicts are made.

mod chain;
mod error;
mod layout;
pub mod split;

pub use chain::Chain;
pub use error::RingError;
pub use layout::{QUEUE_SIZE_MAX, SplitLayout};
pub use split::device::SplitDevice;
pub use split::driver::{Buffer, HeadIndex, SplitDriver, Used};
