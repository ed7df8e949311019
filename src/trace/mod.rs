//! The timeline: everything that happens in a run is one event on it. Judges, reports and traces read it; nothing else
//! tells them what happened. Touches no live peer.

pub mod diff;
mod event;
pub mod file;
mod timeline;

pub use event::{Event, EventKind, FdNote, LinkId, PeerId, Seq};
pub use timeline::Timeline;
