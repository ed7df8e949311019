//! `vuh lint`: all that is wrong with all files, at once.

use super::exit::Exit;
use super::fault::print_invalid;
use super::select::Targets;
use crate::report::Console;
use crate::report::console::ColorChoice;
use crate::scenario::{Settings, load_file};

/// Options of `vuh lint`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    targets: Targets,
}

pub(super) fn run(args: &Args, out: &mut Console, color: ColorChoice) -> anyhow::Result<Exit> {
    let files = args.targets.find()?;
    let mut invalid = Vec::new();
    let mut scenarios = 0;
    for file in &files {
        match load_file(&file.path, &Settings::default()) {
            Ok(plans) => scenarios += plans.len(),
            Err(diagnostics) => invalid.push(diagnostics),
        }
    }
    if !invalid.is_empty() {
        print_invalid(&invalid, &mut Console::stderr(color));
        return Ok(Exit::Invalid);
    }
    out.line(format_args!("no errors: {} files, {scenarios} scenarios", files.len()));
    Ok(Exit::Passed)
}
