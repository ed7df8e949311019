//! Limits of this process.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Allows as many open files as this process may allow itself. What cannot be had is not missed: whoever runs out says so.
pub fn raise_open_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
