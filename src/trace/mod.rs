//! The timeline: everything that happens in a run is one event on it. Judges, reports and traces read it; nothing else
//! tells them what happened. Touches no live peer.

mod device;
pub mod diff;
mod event;
pub mod file;
mod meddling;
mod timeline;

pub use device::{DeviceChange, DeviceNote, UnknownChange};
pub use event::{Event, EventKind, FdNote, LinkId, PeerId, Seq};
pub use meddling::{Injected, Meddling, SignalKind};
pub use timeline::Timeline;
