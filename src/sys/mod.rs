//! The sys room.

pub mod inherited;
