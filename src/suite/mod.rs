//! The suite room.
