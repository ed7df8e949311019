//! The peer room.

pub mod reference;
