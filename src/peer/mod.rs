//! The peer room.

pub mod device;
