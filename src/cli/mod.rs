//! The verbs of `vuh`, one file each: parse, call, print, exit code. No logic of its own.

mod bench;
mod doctor;
mod exit;
mod explain;
mod explore;
mod fault;
mod lint;
mod list;
mod record;
mod reference_peer;
mod replay;
mod run;
mod schema;
mod select;
mod simulated_peer;
mod trace;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

pub use exit::Exit;

use crate::report::Console;
use crate::report::console::ColorChoice;

/// Scripted scenarios against real and simulated vhost-user front-ends and back-ends.
#[derive(Debug, Parser)]
#[command(name = "vuh", version, max_term_width = 110, after_help = exit::HELP)]
struct Cli {
    /// When to use colours; `auto` heeds NO_COLOR
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    color: Color,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run scenarios
    Run(run::Args),
    /// List scenarios
    List(list::Args),
    /// Check scenario files without running them
    Lint(lint::Args),
    /// Print the JSON Schema of scenario files, for editors
    Schema,
    /// Say what this machine can run, what not, and why
    Doctor(doctor::Args),
    /// Explain a requirement, a message or a protocol feature
    Explain(explain::Args),
    /// Record what two programs say to each other
    Record(Box<record::Args>),
    /// Show, compare and judge recordings
    Trace(trace::Args),
    /// Play one side of a recording again, and compare what the other side says now
    Replay(replay::Args),
    /// Search the interleavings of a scenario for one that goes wrong
    Explore(Box<explore::Args>),
    /// Measure how many verified frames a second go through rings
    Bench(Box<bench::Args>),
    /// Play an embedded reference peer; started by the catalogue
    #[command(hide = true, disable_help_flag = true)]
    ReferencePeer(reference_peer::Args),
    /// Play the simulated back-end; started by the catalogue
    #[command(hide = true, disable_help_flag = true)]
    SimulatedPeer(simulated_peer::Args),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

impl From<Color> for ColorChoice {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // nowhere is left to say that it cannot be printed
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Passed }.into();
        }
    };
    let color = cli.color.into();
    let verb = cli.verb;
    // a panic has printed its message; what is left is to say that it is not the peers' fault
    let result = catch_unwind(AssertUnwindSafe(|| dispatch(verb, color)));
    match result {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            let mut console = Console::stderr(color);
            fault::print(&error, &mut console);
            Exit::of_error(&error).into()
        }
        Err(_) => Exit::HarnessFault.into(),
    }
}

fn dispatch(verb: Verb, color: ColorChoice) -> anyhow::Result<ExitCode> {
    let mut out = Console::stdout(color);
    let exit = match verb {
        Verb::Run(args) => run::run(&args, color)?,
        Verb::List(args) => list::run(&args, &mut out)?,
        Verb::Lint(args) => lint::run(&args, &mut out, color)?,
        Verb::Schema => schema::run(&mut out),
        Verb::Doctor(args) => doctor::run(&args, &mut out)?,
        Verb::Explain(args) => explain::run(&args, &mut out)?,
        Verb::Record(args) => record::run(&args, &mut Console::stderr(color))?,
        Verb::Trace(args) => trace::run(&args, &mut out, &mut Console::stderr(color))?,
        Verb::Replay(args) => replay::run(&args, &mut out)?,
        Verb::Explore(args) => explore::run(&args, &mut out)?,
        Verb::Bench(args) => bench::run(&args, &mut out)?,
        Verb::ReferencePeer(args) => return Ok(reference_peer::run(&args)),
        Verb::SimulatedPeer(args) => return Ok(simulated_peer::run(&args)),
    };
    match out.lost() {
        None => Ok(exit.into()),
        Some(why) => Err(anyhow::anyhow!("what was to be printed is lost: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    /// Broken: two options share a name, or the command line is put together wrongly in some other way.
    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
