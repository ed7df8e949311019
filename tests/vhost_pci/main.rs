//! vhost-pci as a whole: each named fault is caught by a scenario.

#![expect(clippy::unwrap_used, reason = "a test may end with a panic")]

mod faults;
