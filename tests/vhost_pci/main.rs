//! vhost-pci as a whole: each named fault is caught by a scenario, the page of items names scenarios that exist, and a
//! thousand masters come and go without a trace.

#![expect(clippy::unwrap_used, reason = "a test may end with a panic")]

mod faults;
mod page;
mod scale;
