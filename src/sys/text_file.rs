//! Small text files that people write: read with a bound, and only if they are files at all.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Why a file gives no text.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The kernel refuses.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// A folder, a pipe, a device: reading it would wait for somebody, or have no end.
    #[error("it is no regular file")]
    NotAFile,
    /// It is too large.
    #[error("it has more than {max} bytes")]
    TooLarge {
        /// What is read at most.
        max: usize,
    },
    /// It is no UTF-8.
    #[error("it is not UTF-8 text")]
    NotText {
        /// What comes before the first wrong byte.
        before: String,
    },
}

/// The text of a file of at most `max` bytes.
///
/// # Errors
/// What the file is instead.
pub fn read_text(path: &Path, max: usize) -> Result<String, TextError> {
    // opening a pipe would wait for somebody who writes into it
    if !path.metadata()?.is_file() {
        return Err(TextError::NotAFile);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(TextError::TooLarge { max });
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        TextError::NotText { before }
    })
}
