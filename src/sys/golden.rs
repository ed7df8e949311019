//! Checked-in texts that tests compare with what is written now. `VUH_BLESS=1` writes them anew.

use std::path::Path;

/// Whether checked-in texts are to be written anew.
pub(crate) fn blesses() -> bool {
    std::env::var("VUH_BLESS").is_ok_and(|value| value == "1")
}

/// Compares a text with the file at this path of the repository; `cargo test` with these arguments comes here.
pub(crate) fn check(path: impl AsRef<Path>, text: &str, arguments: &str) {
    let path = path.as_ref();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if blesses() {
        std::fs::write(&file, text).expect("the repository can be written to");
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == text,
        "{} is stale: VUH_BLESS=1 cargo test {arguments} writes it anew. It is now:\n{text}",
        path.display()
    );
}
