//! The `vuh` binary: parse, call, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    vhost_user_harness::cli::main()
}
