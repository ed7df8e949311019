//! What a person or a machine is told about a run: terminal, JSON, JUnit. Each report is a consumer of outcomes; none
//! decides a verdict.

pub mod bench;
pub mod console;
pub mod conversation;
pub mod duration;
pub mod failure;
pub mod json;
pub mod junit;
pub mod style;
pub mod terminal;
pub mod totals;

#[cfg(test)]
mod golden;

use std::io;
use std::path::PathBuf;

pub use console::Console;
pub use style::Style;

use crate::judge::outcome::Outcome;
use crate::scenario::Plan;
use crate::suite::{Completed, Summary};

/// A consumer of a run.
pub trait Reporter {
    /// A scenario was started.
    fn started(&mut self, _plan: &Plan) {}

    /// A scenario is done.
    fn finished(&mut self, _plan: &Plan, _outcome: &Outcome) {}

    /// The run is over.
    ///
    /// # Errors
    /// The report cannot be written.
    fn done(&mut self, run: &Completed, summary: &Summary) -> Result<(), ReportError>;
}

/// A report that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Its file cannot be made: nothing was run yet.
    #[error("report {}: {source}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It could not be written in the end.
    #[error("the report {} is not complete: {message}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// The file of a report, made before anything runs, so that a wrong path is known at once.
#[derive(Debug)]
pub struct ReportFile {
    path: PathBuf,
    file: std::fs::File,
}

impl ReportFile {
    /// Makes or empties the file.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(path: PathBuf) -> Result<Self, ReportError> {
        match std::fs::File::create(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(ReportError::Create { path, source }),
        }
    }

    fn fail(&self, error: impl ToString) -> ReportError {
        ReportError::Write {
            path: self.path.clone(),
            message: error.to_string(),
        }
    }

    fn write(&mut self, text: &str) -> Result<(), ReportError> {
        use io::Write;
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.flush());
        written.map_err(|error| self.fail(error))
    }
}
