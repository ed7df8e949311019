//! Virtqueues in guest memory: the driver's side and the device's side, split and packed.
//!
//! Everything is plain state plus memory access: who kicks, calls or waits is the caller's business. What the other side has
//! written is never trusted; each rule it can break has its own [`RingError`], from which verdicts are made.
//!
//! There are two kinds. Those of [`split`] and [`packed`] go chain by chain through [`GuestAccess`](crate::memory::GuestAccess), where every
//! access can be logged, judged or made to fail. Those of [`burst`] hand over many chains at once, at the rate of the machine.

pub mod burst;
mod chain;
mod either;
mod error;
mod layout;
pub mod packed;
pub mod split;

pub use burst::Layout;
pub use chain::Chain;
pub use either::{DeviceSide, RingDevice, RingDriver};
pub use error::RingError;
pub use layout::{PackedLayout, QUEUE_SIZE_MAX, SplitLayout};
pub use packed::device::{InRing, PackedChain, PackedDevice};
pub use packed::driver::PackedDriver;
pub use split::device::SplitDevice;
pub use split::driver::{Buffer, HeadIndex, SplitDriver, Used};
