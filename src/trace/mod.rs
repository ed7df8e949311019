//! The trace room.
