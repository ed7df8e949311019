//! Errors of the command itself, and how any error is printed.

use std::io;
use std::path::PathBuf;

use crate::report::Console;
use crate::report::style::Ink;
use crate::scenario::Diagnostics;
use crate::suite::SelectError;

/// Wrong use of the command that is found after its words were parsed.
#[derive(Debug, thiserror::Error)]
pub(super) enum UsageError {
    /// A filter that is no expression.
    #[error("{0}")]
    Filter(Diagnostics),
    /// `--keep` cannot be used.
    #[error("--keep {}: {source}", path.display())]
    Keep {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Two reports would overwrite each other.
    #[error("--report: two reports are to go to {}", path.display())]
    SameReport {
        /// The file.
        path: PathBuf,
    },
    /// A parameter with two values.
    #[error("--set {name} is given twice")]
    SetTwice {
        /// The parameter.
        name: String,
    },
    /// Nothing is known under this name.
    #[error("{0}")]
    Unknown(String),
}

/// Prints an error; diagnostics as they are, others behind the word `error`.
pub(super) fn print(error: &anyhow::Error, console: &mut Console) {
    let style = console.style();
    if let Some(UsageError::Filter(diagnostics)) = error.downcast_ref() {
        return console.text(diagnostics.render(style.render()));
    }
    if let Some(SelectError::Invalid(files)) = error.downcast_ref() {
        return print_invalid(files, console);
    }
    console.line(format_args!(
        "{}: {}",
        style.paint(Ink::Bad, "error"),
        with_causes(error)
    ));
}

/// An error and what led to it, as far as it does not say that itself.
fn with_causes(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .map(ToString::to_string)
        .fold(error.to_string(), |text, cause| {
            if text.contains(&cause) {
                text
            } else {
                format!("{text}: {cause}")
            }
        })
}

/// Prints what is wrong with files, and how many there are.
pub(super) fn print_invalid(files: &[Diagnostics], console: &mut Console) {
    let style = console.style();
    for file in files {
        console.line(file.render(style.render()));
    }
    let errors: usize = files.iter().map(|file| file.items.len()).sum();
    let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let (errors, files) = (plural(errors, "error"), plural(files.len(), "file"));
    console.line(format_args!("{}: {errors} in {files}", style.paint(Ink::Bad, "error")));
}
