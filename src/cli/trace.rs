//! `vuh trace`: reading traces again.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::exit::Exit;
use super::fault::UsageError;
use crate::judge::recorded::{self, Fault, Told};
use crate::report::Console;
use crate::report::conversation::Lines;
use crate::report::style::Ink;
use crate::scenario::from_trace::from_trace;
use crate::scenario::id_of;
use crate::trace::LinkId;
use crate::trace::diff::{Comparison, Difference, Kind, compare};
use crate::trace::file::{Reader, Trace, TraceError};
use crate::wire::{DeviceKind, Party};

/// Options of `vuh trace`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show a trace, one line an event
    Show(Show),
    /// Compare two traces: what differs that matters
    Diff(Diff),
    /// Judge traces by the rules of the protocol: what may be said when, with what, and how it is answered
    Check(Check),
    /// Write a scenario that plays one side of a trace
    ToScenario(ToScenario),
}

#[derive(Debug, clap::Args)]
struct Show {
    /// The trace
    file: PathBuf,
    /// Give feature bits their names
    #[arg(long)]
    names: bool,
    /// Only this link
    #[arg(long, value_name = "N")]
    link: Option<usize>,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits with 1 if they differ. Times, process ids and the addresses of processes are no difference."
)]
struct Diff {
    /// One trace
    first: PathBuf,
    /// The other one
    second: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Check {
    /// The traces
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The front-end is this program, for its known differences; a trace of programs that were started knows it
    #[arg(long, value_name = "NAME")]
    frontend: Option<String>,
    /// The back-end is this program
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
}

#[derive(Debug, clap::Args)]
struct ToScenario {
    /// The trace
    file: PathBuf,
    /// The side that the harness plays: frontend or backend
    #[arg(long = "as", value_name = "SIDE")]
    side: Party,
    /// Of this link
    #[arg(long, value_name = "N", default_value_t = 0)]
    link: usize,
    /// The id of the scenario [default: what the path of the file says]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The file to write [default: the standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &Args, out: &mut Console, err: &mut Console) -> anyhow::Result<Exit> {
    match &args.verb {
        Verb::Show(args) => show(args, out, err),
        Verb::Diff(args) => diff(args, out),
        Verb::Check(args) => check(args, out),
        Verb::ToScenario(args) => to_scenario(args, out),
    }
}

fn show(args: &Show, out: &mut Console, err: &mut Console) -> anyhow::Result<Exit> {
    let mut reader = Reader::open(&args.file)?;
    let lines = Lines::new(reader.header(), has_links(&args.file), args.names);
    for line in lines.title() {
        out.line(line);
    }
    for event in reader.by_ref() {
        let event = event?;
        let wanted = args.link.is_none_or(|link| event.link == Some(LinkId(link)));
        if wanted {
            out.line(lines.line(&event));
        }
        if out.closed() {
            return Ok(Exit::Passed);
        }
    }
    if reader.is_cut() {
        err.line(cut(&args.file, reader.line()));
    }
    Ok(Exit::Passed)
}

fn cut(file: &Path, line: usize) -> String {
    format!(
        "{}: the trace is cut off after line {line}; the recording did not end in order",
        file.display()
    )
}

/// Whether several links are spoken of. Whatever cannot be read is told by the reader.
fn has_links(file: &Path) -> bool {
    let Ok(file) = File::open(file) else {
        return false;
    };
    let mut lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
    lines.any(|line| line.windows(8).any(|w| w == b", link: ") && !line.windows(9).any(|w| w == b", link: 0"))
}

fn diff(args: &Diff, out: &mut Console) -> anyhow::Result<Exit> {
    let (first, second) = (Trace::read(&args.first)?, Trace::read(&args.second)?);
    let device = match first.header.device_kind() {
        DeviceKind::Other => second.header.device_kind(),
        kind => kind,
    };
    let Comparison { alike, differences } = compare(&first, &second, device);
    let style = out.style();
    let mut place = None;
    for Difference { place: at, kind } in &differences {
        if place != Some(*at) {
            place = Some(*at);
            out.line(match at {
                Some((link, channel)) => format!("link {}, {channel}", link.0),
                None => "processes".to_owned(),
            });
        }
        let line = |trace: &Trace, at: usize| trace.lines.get(at).copied().unwrap_or_default();
        match kind {
            Kind::OnlyFirst { at, what } => {
                let text = style.paint(Ink::Bad, format!("- {what}"));
                out.line(format_args!("  {text}  (line {})", line(&first, *at)));
            }
            Kind::OnlySecond { at, what } => {
                let text = style.paint(Ink::Good, format!("+ {what}"));
                out.line(format_args!("  {text}  (line {})", line(&second, *at)));
            }
            Kind::Other { at, what, parts } => {
                let [a, b] = [line(&first, at[0]), line(&second, at[1])];
                out.line(format_args!(
                    "  {} {what}  (lines {a}, {b})",
                    style.paint(Ink::Odd, "!")
                ));
                for part in parts {
                    out.line(format_args!("      {part}"));
                }
            }
            Kind::TooLong { left: [a, b] } => out.line(format_args!("  ? {a} and {b} more, too many to be compared")),
        }
    }
    out.line(format_args!("{} alike, {} different", alike, differences.len()));
    Ok(if differences.is_empty() {
        Exit::Passed
    } else {
        Exit::Failed
    })
}

fn check(args: &Check, out: &mut Console) -> anyhow::Result<Exit> {
    let told = Told {
        frontend: args.frontend.clone(),
        backend: args.backend.clone(),
    };
    let mut faults = 0;
    for file in &args.files {
        let trace = Trace::read(file)?;
        let judged = recorded::check(&trace, &told);
        for Fault { line, what, .. } in &judged.faults {
            out.line(format_args!("{}:{line}: {what}", file.display()));
        }
        let messages = trace.events.iter().filter(|e| e.kind.message().is_some()).count();
        let found = judged.faults.len();
        let plural = if found == 1 { "" } else { "s" };
        let mut line = format!("{}: {messages} messages, {found} fault{plural}", file.display());
        for (setting, count) in &judged.excused {
            line.push_str(&format!(", {} ({count})", setting.id()));
        }
        if judged.left_out > 0 {
            line.push_str(&format!(
                ", {} events not judged: the beginning of their connection is missing",
                judged.left_out
            ));
        }
        out.line(line);
        if trace.cut {
            out.line(cut(file, trace.lines.last().copied().unwrap_or_default()));
        }
        faults += found;
    }
    Ok(if faults == 0 { Exit::Passed } else { Exit::Failed })
}

fn to_scenario(args: &ToScenario, out: &mut Console) -> anyhow::Result<Exit> {
    let trace: Result<Trace, TraceError> = Trace::read(&args.file);
    let cannot = |path: &Path, e: std::io::Error| UsageError::Unknown(format!("{}: {e}", path.display()));
    if let Some(path) = &args.output {
        // once it is there it has a path, which its id has to agree with
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.map_err(|e| cannot(path, e))?;
    }
    let id = args.id.clone().unwrap_or_else(|| own_id(args));
    let text =
        from_trace(&trace?, LinkId(args.link), args.side, &id).map_err(|e| UsageError::Unknown(e.to_string()))?;
    match &args.output {
        Some(path) => std::fs::write(path, text).map_err(|e| cannot(path, e))?,
        None => out.text(text),
    }
    Ok(Exit::Passed)
}

fn own_id(args: &ToScenario) -> String {
    match args.output.as_deref().and_then(id_of) {
        Some((whole, true)) => return whole,
        Some((word, false)) => return format!("recorded/{word}"),
        None => {}
    }
    let stem = args.file.file_stem().unwrap_or_default().to_string_lossy();
    let in_slug = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() => c,
        _ => '-',
    };
    format!("recorded/{}", stem.chars().map(in_slug).collect::<String>())
}
