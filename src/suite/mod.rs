//! Which scenarios run, and when: finding files, choosing by id and filter, handing out work, adding up what came of it,
//! which requirements are covered, and what a recording consists of. Knows no socket and no terminal.

pub mod coverage;
pub mod discover;
pub mod environment;
pub mod files;
pub mod filter;
pub mod glob;
pub mod machine;
pub mod peers;
pub mod recording;
pub mod replaced;
pub mod schedule;
pub mod summary;

#[cfg(test)]
pub(crate) mod testing;

pub use discover::{Found, SelectError, find_files, load_all};
pub use filter::Filter;
pub use schedule::{Completed, Event, Finished, execute, run_all};
pub use summary::Summary;
