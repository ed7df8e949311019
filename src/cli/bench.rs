//! `vuh bench`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use super::exit::Exit;
use super::fault::UsageError;
use crate::bench::{self, Baseline, Cell, Notify, Options, Topology};
use crate::peer::catalogue::{Catalogue, Role};
use crate::report::{self, Console};
use crate::sys::signal;
use crate::traffic::Sizes;

/// Cells of one matrix, at most: each keeps two threads and its memory while all of them are measured.
const CELLS_MAX: usize = 64;

/// Options of `vuh bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// The ways that frames take
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WAY", default_values = ["to-backend", "to-frontend"])]
    topology: Vec<TopologyArg>,
    /// Kinds of ring
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND", default_values = ["split", "packed"])]
    ring: Vec<RingArg>,
    /// Descriptors of a ring
    #[arg(long, value_name = "N", default_value_t = 1024)]
    ring_size: u16,
    /// Bytes of a frame, 64 to 9000, or 'imix'
    #[arg(long, value_delimiter = ',', value_name = "BYTES", default_values = ["64", "1518"])]
    size: Vec<String>,
    /// Frames moved at a time
    #[arg(long, value_delimiter = ',', value_name = "N", default_values = ["32"])]
    burst: Vec<usize>,
    /// How the sides learn of each other's doings
    #[arg(long, value_enum, value_delimiter = ',', value_name = "HOW", default_values = ["poll"])]
    notify: Vec<NotifyArg>,
    /// Memory on huge pages of 2 MiB
    #[arg(long)]
    huge_pages: bool,
    /// All of a cell on one processor: what is compared is the work, not how it is shared out
    #[arg(long)]
    one_thread: bool,
    /// Rounds; in each, every cell is measured once
    #[arg(long, value_name = "N", default_value_t = 15)]
    rounds: usize,
    /// Length of one measurement in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 50)]
    window: u64,
    /// The cell with whose way and ring the others are compared, by its number from 1; without it that is DPDK's pair, or cell 1
    #[arg(long, value_name = "N")]
    baseline: Option<usize>,
    /// Leave DPDK's own pair out, which is measured beside the others where dpdk-testpmd is installed
    #[arg(long)]
    no_dpdk: bool,
    /// Measure the round trip of one packet between two sides that sleep, against that of a bare eventfd
    #[arg(long)]
    latency: bool,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the rate over the size of the frames
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum TopologyArg {
    /// A front-end transmits to its back-end
    ToBackend,
    /// A back-end fills the receive ring of its front-end
    ToFrontend,
    /// Through a switch between two front-ends: two copies
    Switch,
    /// Straight into the other machine's receive ring: one copy
    VhostPci,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum RingArg {
    Split,
    Packed,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum NotifyArg {
    /// Both sides look all the time
    Poll,
    /// Both sides sleep until they are signalled
    Event,
}

const HELP: &str = "\
Every frame is verified: bytes, order, loss. One that is not as it was sent ends the measurement with exit code 1. Those
of DPDK's own pair are counted by DPDK and not looked at.";

pub(super) fn run(args: &Args, out: &mut Console) -> anyhow::Result<Exit> {
    signal::install().context("signal handlers cannot be installed")?;
    let mut cells = cells(args)?;
    if args.latency {
        return latency(args, &cells[0], out);
    }
    let number = args.baseline.unwrap_or(1);
    let first = number.checked_sub(1).filter(|at| *at < cells.len());
    let Some(first) = first else {
        return Err(usage(format!("--baseline {number}: there are cells 1 to {}", cells.len())).into());
    };
    let catalogue = Catalogue::load(None, std::env::current_exe()?)?;
    let (program, without_dpdk) = match beside(args, &catalogue) {
        Ok(program) => (program, None),
        Err(why) => (PathBuf::new(), why),
    };
    let own = cells.len();
    if program != PathBuf::new() {
        cells.extend(of_dpdk(&cells));
    }
    let options = Options {
        rounds: args.rounds.max(1),
        window: Duration::from_millis(args.window.max(1)),
        baseline: Some(match args.baseline {
            None if cells.len() > own => Baseline::Dpdk,
            _ => Baseline::Cell(first),
        }),
    };
    let mut results = match bench::run(&cells, options, &program, |_| {}) {
        Ok(results) => results,
        Err(error @ bench::BenchError::Wrong { .. }) => {
            out.line(error.to_string());
            return Ok(Exit::Failed);
        }
        Err(error) => return Err(error.into()),
    };
    results.without_dpdk = without_dpdk;
    report::bench::table(&results).iter().for_each(|line| out.line(line));
    if let Some(path) = &args.json {
        write(path, &report::bench::json(&results))?;
    }
    if let Some(path) = &args.svg {
        write(path, &report::bench::svg(&results))?;
    }
    Ok(if results.interrupted {
        Exit::Interrupted
    } else {
        Exit::Passed
    })
}

fn latency(args: &Args, cell: &Cell, out: &mut Console) -> anyhow::Result<Exit> {
    /// Trips of one round.
    const TRIPS: usize = 2000;
    let trips = bench::round_trips(cell, args.rounds.max(1), TRIPS)?;
    report::bench::latency(&trips).iter().for_each(|line| out.line(line));
    Ok(Exit::Passed)
}

/// DPDK's program, or why its pair is not measured beside the others; nothing where nobody wants it.
fn beside(args: &Args, catalogue: &Catalogue) -> Result<PathBuf, Option<String>> {
    if args.no_dpdk {
        return Err(None);
    }
    if args.one_thread {
        return Err(Some("its two sides cannot share a thread".to_owned()));
    }
    let entry = catalogue.find("dpdk", Role::Backend).ok_or(None)?;
    catalogue.probe(entry).map_err(Some)?;
    Ok(catalogue.program(entry))
}

/// DPDK's cells: one for each kind of ring, size and burst, where all frames are of one size.
fn of_dpdk(cells: &[Cell]) -> Vec<Cell> {
    let mut own: Vec<Cell> = Vec::new();
    for cell in cells.iter().filter(|cell| cell.sizes.only().is_some()) {
        let cell = Cell {
            topology: Topology::Dpdk,
            notify: Notify::Poll,
            ..cell.clone()
        };
        if !own.contains(&cell) {
            own.push(cell);
        }
    }
    own
}

fn write(path: &PathBuf, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

fn usage(text: String) -> UsageError {
    UsageError::Unknown(text)
}

fn cells(args: &Args) -> anyhow::Result<Vec<Cell>> {
    let size = |text: &String| match text.as_str() {
        "imix" => Ok(Sizes::imix()),
        number => {
            let bytes = number
                .parse()
                .map_err(|_| usage(format!("--size {number}: neither a number nor 'imix'")))?;
            Sizes::fixed(bytes).map_err(|error| usage(format!("--size {number}: {error}")))
        }
    };
    let sizes: Vec<Sizes> = args.size.iter().map(size).collect::<Result<_, _>>()?;
    if !args.ring_size.is_power_of_two() || args.ring_size > 0x8000 {
        return Err(usage(format!(
            "--ring-size {}: it has to be a power of two up to 32768",
            args.ring_size
        ))
        .into());
    }
    let mut cells = Vec::new();
    for ring in &args.ring {
        for notify in &args.notify {
            for burst in &args.burst {
                for topology in &args.topology {
                    for sizes in &sizes {
                        cells.push(Cell {
                            topology: match topology {
                                TopologyArg::ToBackend => Topology::ToBackend,
                                TopologyArg::ToFrontend => Topology::ToFrontend,
                                TopologyArg::Switch => Topology::Switch,
                                TopologyArg::VhostPci => Topology::VhostPci,
                            },
                            packed: matches!(ring, RingArg::Packed),
                            ring_size: args.ring_size,
                            sizes: sizes.clone(),
                            burst: *burst,
                            notify: match notify {
                                NotifyArg::Poll => Notify::Poll,
                                NotifyArg::Event => Notify::Event,
                            },
                            huge_pages: args.huge_pages,
                            one_thread: args.one_thread,
                        });
                    }
                }
            }
        }
    }
    if cells.is_empty() || cells.len() > CELLS_MAX {
        return Err(usage(format!("{} cells; a matrix has 1 to {CELLS_MAX}", cells.len())).into());
    }
    Ok(cells)
}
