//! The reference pages, written from the tables.

/// `docs/reference/messages.md`.
pub fn messages_markdown() -> String {
    String::new()
}

/// `docs/reference/protocol-features.md`.
pub fn protocol_features_markdown() -> String {
    String::new()
}
