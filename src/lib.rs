//! vhost-user-harness: scripted scenarios against real and simulated vhost-user front-ends and back-ends.
//!
//! The library behind the `vuh` binary. Each module is one room; a room imports only rooms that stand below it in this
//! list (see `docs/architecture.md`).

pub mod bench;
pub mod cli;
pub mod engine;
pub mod explore;
pub mod judge;
pub mod link;
pub mod memory;
pub mod peer;
pub mod report;
pub mod ring;
pub mod scenario;
pub mod spec;
pub mod suite;
pub mod sys;
pub mod trace;
pub mod traffic;
pub mod wire;
