//! The peer room.
