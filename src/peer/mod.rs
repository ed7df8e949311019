//! The peer room.

pub mod device;
pub mod qemu;
