//! The link room.
