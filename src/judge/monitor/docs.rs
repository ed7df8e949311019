//! The reference page of the monitor, written from its tables.

/// `docs/reference/monitor.md`.
pub fn monitor_markdown() -> String {
    String::new()
}
