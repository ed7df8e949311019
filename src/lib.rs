//! vhost-user-harness: scripted scenarios against real and simulated vhost-user front-ends and back-ends.
//!
//! The library behind the `vuh` binary. Each module is one room; a room imports only rooms that stand below it in this
//! list (see `docs/architecture.md`).

pub mod cli;
pub mod report;
pub mod suite;
pub mod engine;
pub mod judge;
pub mod scenario;
pub mod peer;
pub mod link;
pub mod ring;
pub mod memory;
pub mod trace;
pub mod spec;
pub mod wire;
pub mod sys;
