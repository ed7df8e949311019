//! The peer room.

pub mod qemu;
