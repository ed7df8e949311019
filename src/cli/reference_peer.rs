//! `vuh reference-peer`, hidden: this binary as one of the embedded peers, so that they are processes of their own.

use std::process::ExitCode;

use crate::peer::reference;

/// The words for the reference peer itself.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

pub(super) fn run(args: &Args) -> ExitCode {
    reference::run(&args.words)
}
