//! The verbs of `vuh`, one file each: parse, call, print, exit code. No logic of its own.

/// Runs the command line of this process.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
