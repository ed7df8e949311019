//! File descriptors, SCM_RIGHTS, eventfds, memfds, child processes, clock and signals: the room that talks to the kernel,
//! and the only one with `unsafe`. It knows nothing of the protocol.

pub mod child;
pub mod clock;
pub mod cpu;
pub mod edge;
pub mod fd;
#[cfg(test)]
pub(crate) mod golden;
pub mod inherited;
pub mod limits;
pub mod poll;
pub mod process_table;
pub mod shared;
pub(crate) mod sigbus;
pub mod signal;
pub mod socket;
pub mod starved;
pub mod steer;
pub mod text_file;
pub mod threads;
pub mod trace_thread;
