//! `vuh replay`.

use std::path::PathBuf;

use anyhow::Context;

use super::exit::Exit;
use super::fault::UsageError;
use super::record::made;
use super::run::binary;
use crate::engine::record::{Between, record};
use crate::report::Console;
use crate::report::style::{Ink, harmless};
use crate::suite::environment::{self, Options, REQUIRE_VARIABLE};
use crate::suite::replaying::{self, Compared, Wanted};
use crate::sys::signal;
use crate::trace::LinkId;
use crate::trace::diff::{Difference, Kind};
use crate::trace::file::{Output, Trace};
use crate::wire::Party;

/// Time for all of it, unless `--timeout` says otherwise.
const TIMEOUT_MS: u64 = 20_000;

/// Options of `vuh replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// The trace
    file: PathBuf,
    /// The side that the harness plays as it was recorded: frontend or backend
    #[arg(long = "as", value_name = "SIDE")]
    side: Party,
    /// Who plays the front-end, with --as backend
    #[arg(long, value_name = "PEER")]
    frontend: Option<String>,
    /// Who plays the back-end, with --as frontend
    #[arg(long, value_name = "PEER")]
    backend: Option<String>,
    /// Of this link
    #[arg(long, value_name = "N", default_value_t = 0)]
    link: usize,
    /// The device, if the trace does not say
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Write the present conversation as a trace
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Time for all of it, as in '500 ms' or '20 s'
    #[arg(long, value_name = "DURATION")]
    timeout: Option<crate::scenario::scalar::Duration>,
    /// Further catalogue files, which go before the built-in ones
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
}

const HELP: &str = "\
What one side sent is sent again, its memory and rings made where they were, its blocks and frames
carried again; features, counts and descriptors are those of the present peer. Then the two
conversations are compared. Exits with 1 if the present peer did what the specification does not
leave open.

  vuh replay traces/qemu-storage-daemon-blk.yaml --as frontend --backend reference
  vuh replay traces/qemu-reference-blk.yaml --as backend --frontend qemu";

pub(super) fn run(args: &Args, out: &mut Console) -> anyhow::Result<Exit> {
    let usage = |text: &str| UsageError::Unknown(text.to_owned());
    let peer = match (args.side, &args.frontend, &args.backend) {
        (Party::FrontEnd, None, Some(peer)) | (Party::BackEnd, Some(peer), None) => peer.clone(),
        (Party::FrontEnd, ..) => {
            return Err(usage("with --as frontend, --backend says who plays the other side").into());
        }
        (Party::BackEnd, ..) => return Err(usage("with --as backend, --frontend says who plays the other side").into()),
    };
    let recorded = Trace::read(&args.file)?;
    let options = Options {
        frontend: args.frontend.clone(),
        backend: args.backend.clone(),
        timeout_ms: Some(args.timeout.map_or(TIMEOUT_MS, |limit| limit.ms)),
        peers: args.peers.clone(),
        require: std::env::var(REQUIRE_VARIABLE).unwrap_or_default(),
        ..Options::default()
    };
    let environment = environment::environment(&options, binary()?)?;
    let wanted = Wanted {
        trace: args
            .file
            .canonicalize()
            .with_context(|| args.file.display().to_string())?,
        side: args.side,
        link: args.link,
        peer,
        device: args.device.clone(),
    };
    if replaying::conversation(&recorded, LinkId(args.link)).events.is_empty() {
        return Err(usage(&format!(
            "nothing was said on link {} of {}",
            args.link,
            args.file.display()
        ))
        .into());
    }
    let (plan, driven) =
        replaying::plan(&wanted, &recorded, &environment.catalogue).map_err(|e| UsageError::Unknown(e.to_string()))?;
    signal::install().context("signal handlers cannot be installed")?;
    let place = tempfile::tempdir().context("no folder for the present conversation")?;
    let path = args.output.clone().unwrap_or_else(|| place.path().join("present.yaml"));
    let output = Output {
        path: Some(path.clone()),
        last: None,
    };
    let between = Between::Peers { plan: &plan, driven };
    let result = record(&between, &environment, made(None), &output, false)?;
    let present = Trace::read(&path)?;
    let compared = replaying::compared(&recorded, &present, &wanted);
    for (peer, lines) in &result.last_words {
        for line in lines {
            out.line(format_args!("{peer} said: {}", harmless(line)));
        }
    }
    print(&compared, &recorded, &present, out);
    if let Some(what) = &result.stopped {
        out.line(format_args!("stopped: {what}"));
    }
    Ok(if compared.is_fine() && result.stopped.is_none() {
        Exit::Passed
    } else {
        Exit::Failed
    })
}

fn print(compared: &Compared, recorded: &Trace, present: &Trace, out: &mut Console) {
    let style = out.style();
    let lines = |at: [Option<usize>; 2]| {
        let line = |trace: &Trace, at: Option<usize>| at.and_then(|at| trace.lines.get(at).copied());
        match [line(recorded, at[0]), line(present, at[1])] {
            [Some(line), _] => format!("  (line {line})"),
            _ => String::new(),
        }
    };
    let show = |difference: &Difference, ink: Ink| -> Vec<String> {
        match &difference.kind {
            Kind::OnlyFirst { what, .. } => vec![format!("{} {what}", style.paint(ink, "-"))],
            Kind::OnlySecond { what, .. } => vec![format!("{} {what}", style.paint(ink, "+"))],
            Kind::Other { at, what, parts } => {
                let head = format!("{} {what}{}", style.paint(ink, "!"), lines([Some(at[0]), None]));
                let parts = parts.iter().map(|part| format!("    {part}"));
                [head].into_iter().chain(parts).collect()
            }
            Kind::TooLong { left: [a, b] } => {
                vec![format!(
                    "{} {a} and {b} more, too many to be compared",
                    style.paint(ink, "?")
                )]
            }
        }
    };
    if !compared.allowed.is_empty() {
        out.line("what the specification leaves open (recorded / present):");
    }
    for (at, (difference, why)) in compared.allowed.iter().enumerate() {
        for line in show(difference, Ink::Odd) {
            out.line(format_args!("  {line}"));
        }
        // a reason that several have one after the other is given once
        if compared.allowed.get(at + 1).is_none_or(|(_, next)| next != why) {
            out.line(format_args!("    {}", style.paint(Ink::Dim, format!("= {why}"))));
        }
    }
    if !compared.wrong.is_empty() || !compared.faults.is_empty() {
        out.line("what it does not leave open (recorded / present):");
    }
    for difference in &compared.wrong {
        for line in show(difference, Ink::Bad) {
            out.line(format_args!("  {line}"));
        }
    }
    for fault in &compared.faults {
        out.line(format_args!("  {}", style.paint(Ink::Bad, fault)));
    }
    out.line(format_args!(
        "{} alike, {} different as they may be, {} otherwise",
        compared.alike,
        compared.allowed.len(),
        compared.wrong.len() + compared.faults.len()
    ));
}
