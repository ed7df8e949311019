//! `vuh simulated-peer`, hidden: this binary as the simulated back-end, so that it is a process of its own.

use std::process::ExitCode;

use crate::peer::apart;

/// The words for the peer itself.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

pub(super) fn run(args: &Args) -> ExitCode {
    apart::run(&args.words)
}
