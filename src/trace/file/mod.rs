//! Trace files: a recorded conversation as YAML that people read and diff. A header says what made it; then one event a
//! line. Written as a stream, read as a stream, never longer in memory than asked for; holds no guest memory.
//!
//! ```yaml
//! trace: 1
//! made:
//!   by: vuh 0.1.0
//!   command: vuh record --frontend qemu --backend qemu-storage-daemon --device blk
//! dialect: vhost-user
//! device: blk
//! peers:
//! - {name: front, frontend: qemu, version: QEMU emulator version 10.0.2}
//! - {name: back, backend: qemu-storage-daemon, version: qemu-storage-daemon version 10.0.2}
//! events:
//! - {ms: 20.113, connected: 1}
//! - {ms: 20.254, from: front, message: GET_FEATURES}
//! - {ms: 20.301, from: back, message: reply to GET_FEATURES value=0x175007e46}
//! - {ms: 41.870, from: front, message: SET_VRING_KICK index=0 no_fd=0, fds: [eventfd]}
//! - {ms: 63.022, from: front, closed: main}
//! ...
//! ```
//!
//! The last line, YAML's end of a document, tells a whole trace from one that was cut off (`kill -9`, a full disk): that
//! one reads up to its last whole event. What the harness itself did to the link (holds, steps) is not part of a trace.

mod header;
mod item;
mod reader;
mod recorder;
mod ring;
mod scalar;
mod writer;

#[cfg(test)]
mod tests;

pub use header::{Header, Made, PeerNote};
pub use reader::{EVENTS_READ_MAX, Judged, LINE_BYTES_MAX, Reader, Trace, TraceError, Wrong};
pub use recorder::{Counts, Output, Recorder};
pub use ring::{RING_BYTES_MAX, Ring};
pub use writer::Writer;

/// The version of the format that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// The line after the last event.
const END: &str = "...";
