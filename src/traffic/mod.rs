//! Traffic through shared memory: frames that prove themselves, the source that makes them, the sink that verifies each one,
//! and the pumps that move them over rings on threads of their own. The room knows rings and memory; sockets, messages and
//! verdicts are not its business.

pub mod fault;
pub mod frame;
mod gaps;
pub mod lane;
pub mod latency;
pub mod pcap;
pub mod pump;
pub mod rest;
pub mod rig;
pub mod sink;
pub mod sizes;
pub mod source;
#[cfg(test)]
mod tests;

pub use frame::{FRAME_BYTES_MAX, FRAME_BYTES_MIN};
pub use latency::Latency;
pub use pcap::Recording;
pub use sink::{Finding, Sink, Tally, What};
pub use sizes::{BadSize, Sizes};
pub use source::Source;
