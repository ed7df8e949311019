//! `vuh record`.

use std::path::PathBuf;

use anyhow::Context;

use super::exit::Exit;
use super::fault::UsageError;
use super::run::binary;
use crate::engine::record::{Between, Recorded, Rings, record};
use crate::report::Console;
use crate::report::style::harmless;
use crate::suite::environment::{self, Options, REQUIRE_VARIABLE, quote};
use crate::suite::recording::{self, Load, Sockets, Started};
use crate::sys::{cpu, limits, signal};
use crate::trace::file::{Made, Output};

/// Time for the peers to come up and to be set up, unless `--timeout` says otherwise.
const TIMEOUT_MS: u64 = 60_000;

/// Options of `vuh record`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// Start this front-end: a catalogue name or "a command {socket}"
    #[arg(long, value_name = "PEER", required_unless_present = "listen", requires = "backend")]
    frontend: Option<String>,
    /// Start this back-end
    #[arg(long, value_name = "PEER", requires = "frontend")]
    backend: Option<String>,
    /// Take connections on this path ...
    #[arg(long, value_name = "PATH", requires = "connect", conflicts_with = "frontend")]
    listen: Option<PathBuf>,
    /// ... and pass each on to this one
    #[arg(long, value_name = "PATH", requires = "listen")]
    connect: Option<PathBuf>,
    /// It is the back-end that connects, and the front-end that listens
    #[arg(long, requires = "listen")]
    reverse: bool,
    /// The device: what is started, and what its feature bits are called [default: generic]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Queues of the device; queue pairs of a net device
    #[arg(long, value_name = "N", requires = "frontend", value_parser = clap::value_parser!(u16).range(1..=128))]
    queues: Option<u16>,
    /// Let QEMU's driver write and read back so many blocks, then end
    #[arg(long, value_name = "N", requires = "frontend", conflicts_with = "packets")]
    blk_io: Option<u32>,
    /// Let QEMU's driver send so many frames to a back-end that sends them back, then end
    #[arg(long, value_name = "N", requires = "frontend")]
    packets: Option<u32>,
    /// Look into the rings as well: what breaks a rule there stands in the trace, and the exit code is 1
    #[arg(long)]
    look: bool,
    /// The trace [default: the standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Keep only the last N events, and write them at the end and on SIGUSR1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    last: Option<u32>,
    /// A remark for the header of the trace
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Time until the peers are set up, as in '500 ms' or '20 s'
    #[arg(long, value_name = "DURATION")]
    timeout: Option<crate::scenario::scalar::Duration>,
    /// Stay on this processor, with all that is started
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Further catalogue files, which go before the built-in ones
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
}

const HELP: &str = "\
Two programs are started (--frontend, --backend), or stood between (--listen, --connect). It goes
on until one side ends, or until Ctrl-C or SIGTERM; with --listen for any number of connections,
one after the other and at the same time. Everything crosses as it came, and is written event by
event: what a kill -9 leaves is a trace up to its last whole event.

Where two programs ask and answer each other on one processor, the kernel tends to spread the three
over several, and each step then takes an interrupt: --cpu keeps the recorder beside them.

  vuh record --frontend qemu --backend qemu-storage-daemon --device blk --blk-io 8 -o blk.yaml
  vuh record --listen /tmp/a.sock --connect /tmp/b.sock --last 10000 -o last.yaml";

pub(super) fn run(args: &Args, out: &mut Console) -> anyhow::Result<Exit> {
    let options = Options {
        frontend: args.frontend.clone(),
        backend: args.backend.clone(),
        timeout_ms: Some(args.timeout.map_or(TIMEOUT_MS, |limit| limit.ms)),
        peers: args.peers.clone(),
        require: std::env::var(REQUIRE_VARIABLE).unwrap_or_default(),
        ..Options::default()
    };
    if let Some(cpu) = args.cpu {
        // before there are other threads, so that all are there
        cpu::keep_this_thread(&[cpu])
            .map_err(|error| UsageError::Unknown(format!("--cpu {cpu}: it cannot be used: {error}")))?;
    }
    let environment = environment::environment(&options, binary()?)?;
    let device = args.device.as_deref().unwrap_or("generic");
    let load = match (args.blk_io, args.packets) {
        (Some(count), _) => Load::Blk(count),
        (_, Some(count)) => Load::Packets(count),
        (None, None) => Load::None,
    };
    let invalid = |e: crate::scenario::Diagnostics| UsageError::Unknown(e.to_string());
    let plan;
    let between = match (&args.frontend, &args.backend, &args.listen, &args.connect) {
        (Some(frontend), Some(backend), ..) => {
            let wanted = Started {
                frontend: frontend.clone(),
                backend: backend.clone(),
                queues: args.queues,
                load,
            };
            let (made, driven) = recording::started(&wanted, device, &environment.catalogue).map_err(invalid)?;
            plan = made;
            if load != Load::None && !driven {
                let what =
                    format!("--blk-io and --packets need a front-end that can be driven, and {frontend} is none");
                return Err(UsageError::Unknown(what).into());
            }
            Between::Peers { plan: &plan, driven }
        }
        (_, _, Some(listen), Some(connect)) => {
            let wanted = Sockets {
                listen: listen.clone(),
                connect: connect.clone(),
                reverse: args.reverse,
            };
            plan = recording::sockets(&wanted, device).map_err(invalid)?;
            Between::Sockets { plan: &plan }
        }
        _ => {
            return Err(
                UsageError::Unknown("either --frontend and --backend, or --listen and --connect".into()).into(),
            );
        }
    };
    signal::install().context("signal handlers cannot be installed")?;
    signal::install_save().context("the handler of SIGUSR1 cannot be installed")?;
    // many connections, and descriptors in transit
    limits::raise_open_files();
    let output = Output {
        path: args.output.clone(),
        last: args.last.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
    };
    let recorded = record(&between, &environment, made(args.note.as_deref()), &output, args.look)?;
    report(&recorded, args, out);
    let broken = recorded.rings.as_ref().is_some_and(|rings| rings.broken > 0);
    Ok(if recorded.stopped.is_some() || broken {
        Exit::Failed
    } else {
        Exit::Passed
    })
}

/// How this command made a trace.
pub(super) fn made(note: Option<&str>) -> Made {
    // the remark stands by itself
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = words.iter().position(|word| word == "--note") {
        words.drain(at..words.len().min(at + 2));
    }
    let words = words.iter().map(|word| quote(word));
    Made {
        by: concat!("vuh ", env!("CARGO_PKG_VERSION")).to_owned(),
        command: ["vuh".to_owned()]
            .into_iter()
            .chain(words)
            .collect::<Vec<_>>()
            .join(" "),
        at: None,
        note: note.map(str::to_owned),
    }
}

fn plural(n: u64, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

/// To the standard error, since the trace may go to the standard output.
fn report(recorded: &Recorded, args: &Args, out: &mut Console) {
    let Recorded {
        counts,
        exits,
        last_words,
        stopped,
        rings,
    } = recorded;
    for (peer, exit) in exits {
        out.line(format_args!("{peer} ended: {exit}"));
    }
    for (peer, lines) in last_words {
        for line in lines {
            out.line(format_args!("{peer} said: {}", harmless(line)));
        }
    }
    if let Some(what) = stopped {
        out.line(format_args!("stopped: {what}"));
    }
    if let Some(Rings { broken, lines, marks }) = rings {
        lines.iter().for_each(|line| out.line(line));
        let seen = match marks[..] {
            [] => "no ring was looked into".to_owned(),
            _ => format!("seen in the rings: {}", marks.join(", ")),
        };
        let broken = plural(*broken, "broken rule");
        out.line(format_args!("{broken}; {seen}"));
    }
    let to = args
        .output
        .as_ref()
        .map_or(String::new(), |path| format!(", written to {}", path.display()));
    out.line(format_args!(
        "{} on {}, {} in all{to}",
        plural(counts.messages, "message"),
        plural(counts.connections, "connection"),
        plural(counts.events, "event"),
    ));
}
