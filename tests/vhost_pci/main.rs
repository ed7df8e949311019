//! vhost-pci as a whole: each named fault is caught by a scenario, and the page of its items names scenarios that exist.

#![expect(clippy::unwrap_used, reason = "a test may end with a panic")]

mod faults;
mod page;
