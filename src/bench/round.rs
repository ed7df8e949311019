//! Rounds: every cell gets one window in each, in turn, first to last and then last to first.

use std::path::Path;
use std::time::Duration;

use super::cell::{Cell, Notify, Running, Topology};
use super::dpdk::{DpdkError, Kind, Pair};
use crate::judge::rate::{self, Interval};
use crate::sys::clock::Clock;
use crate::sys::{cpu, signal};
use crate::traffic::rig::RigError;

/// How long a cell runs before its window begins: caches, branch predictors and the scheduler get used to it.
const SETTLE: Duration = Duration::from_millis(3);

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Windows of each cell.
    pub rounds: usize,
    /// Length of a window.
    pub window: Duration,
    /// What the others are compared with.
    pub baseline: Option<Baseline>,
}

/// What cells are compared with that are like it otherwise: same frames and burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// The way and the ring of the cell in this place.
    Cell(usize),
    /// DPDK's pair with the same kind of ring.
    Dpdk,
}

/// What was measured of one cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The cell.
    pub cell: Cell,
    /// Frames a second in each window, in the order of time.
    pub windows: Vec<f64>,
    /// Its median and what that lies between, where there are enough windows.
    pub interval: Option<Interval>,
    /// The cell that it is compared with, by its place.
    pub baseline: Option<usize>,
    /// Ratio to the baseline, window by window.
    pub ratio: Option<Interval>,
    /// The median of these ratios, even where there are too few for an interval.
    pub ratio_median: Option<f64>,
    /// Frames that were verified.
    pub frames: u64,
}

impl Measured {
    /// The median of the windows.
    #[must_use]
    pub fn median(&self) -> f64 {
        median(&self.windows)
    }

    /// The best window.
    #[must_use]
    pub fn best(&self) -> f64 {
        self.windows.iter().copied().fold(0.0, f64::max)
    }
}

/// What was measured of all cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// The cells in their order.
    pub cells: Vec<Measured>,
    /// How it was measured.
    pub options: Options,
    /// Processors that were used.
    pub cpus: Vec<usize>,
    /// It was stopped before its end.
    pub interrupted: bool,
    /// Why DPDK is not among the cells though it would be, if it is not.
    pub without_dpdk: Option<String>,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A cell cannot be set up.
    #[error("{cell}: {error}")]
    Rig {
        /// The cell.
        cell: String,
        /// Why.
        error: RigError,
    },
    /// Frames were lost or damaged: the rate is worth nothing.
    #[error("{cell}: {what}")]
    Wrong {
        /// The cell.
        cell: String,
        /// What.
        what: String,
    },
    /// DPDK's pair.
    #[error("DPDK: {0}")]
    Dpdk(#[from] DpdkError),
    /// The processors are not known.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Measures all cells. `dpdk` is the program of those that are DPDK's.
///
/// # Errors
/// A cell cannot be set up, or its frames did not arrive as they were sent.
pub fn run(
    cells: &[Cell],
    options: Options,
    dpdk: &Path,
    mut progress: impl FnMut(usize),
) -> Result<Results, BenchError> {
    let clock = Clock::start();
    let cpus = cpu::allowed()?;
    let mut pairs: Vec<(Kind, Pair)> = Vec::new();
    let mut subjects = Vec::new();
    for cell in cells {
        if cell.topology == Topology::Dpdk {
            let (ring_size, packed, huge_pages) = (cell.ring_size, cell.packed, cell.huge_pages);
            let kind = Kind {
                ring_size,
                packed,
                huge_pages,
            };
            let at = match pairs.iter().position(|(known, _)| *known == kind) {
                Some(at) => at,
                None => {
                    pairs.push((kind, Pair::start(dpdk, kind, &cpus, clock)?));
                    pairs.len() - 1
                }
            };
            subjects.push(Subject::Dpdk(at));
            continue;
        }
        let started = Running::start(cell, &cpus, clock);
        subjects.push(Subject::Own(started.map_err(|error| {
            let cell = cell.to_string();
            BenchError::Rig { cell, error }
        })?));
    }
    let mut windows: Vec<Vec<f64>> = vec![Vec::new(); cells.len()];
    let mut interrupted = false;
    'rounds: for round in 0..options.rounds {
        let mut order: Vec<usize> = (0..cells.len()).collect();
        // so that a machine that gets slower does not favour the first
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            windows[at].push(match &subjects[at] {
                Subject::Own(running) => window(running, options.window, clock),
                Subject::Dpdk(pair) => {
                    let cell = &cells[at];
                    pairs[*pair]
                        .1
                        .window(cell.sizes.longest(), cell.burst, options.window)?
                }
            });
            if signal::interrupted() {
                interrupted = true;
                break 'rounds;
            }
        }
        progress(round + 1);
    }
    let mut measured = Vec::new();
    for ((cell, subject), windows) in cells.iter().zip(subjects).zip(windows) {
        let (frames, whole) = match subject {
            Subject::Own(running) => running.end(),
            Subject::Dpdk(_) => (0, Ok(())),
        };
        whole.map_err(|what| {
            let cell = cell.to_string();
            BenchError::Wrong { cell, what }
        })?;
        measured.push(Measured {
            cell: cell.clone(),
            interval: rate::interval(&windows),
            windows,
            baseline: None,
            ratio: None,
            ratio_median: None,
            frames,
        });
    }
    compare(&mut measured, options.baseline);
    Ok(Results {
        cells: measured,
        options,
        cpus,
        interrupted,
        without_dpdk: None,
    })
}

/// What has its turn.
enum Subject {
    Own(Running),
    /// The pair in this place.
    Dpdk(usize),
}

/// Compares each cell with the one that it is to be compared with.
fn compare(measured: &mut [Measured], baseline: Option<Baseline>) {
    let line = match baseline {
        None => return,
        Some(Baseline::Cell(at)) => match measured.get(at) {
            Some(base) => Some((base.cell.topology, base.cell.packed)),
            None => return,
        },
        Some(Baseline::Dpdk) => None,
    };
    for at in 0..measured.len() {
        let cell = measured[at].cell.clone();
        let like = match line {
            Some((topology, packed)) => Cell {
                topology,
                packed,
                ..cell
            },
            // DPDK always polls
            None => Cell {
                topology: Topology::Dpdk,
                notify: Notify::Poll,
                ..cell
            },
        };
        let Some(base) = measured.iter().position(|other| other.cell == like) else {
            continue;
        };
        let pairs: Vec<(f64, f64)> = {
            let windows = measured[at].windows.iter().copied();
            windows.zip(measured[base].windows.iter().copied()).collect()
        };
        let cell = &mut measured[at];
        cell.baseline = Some(base);
        if base != at {
            let ratios = rate::ratios(&pairs);
            (cell.ratio, cell.ratio_median) = (rate::interval(&ratios), Some(median(&ratios)));
        }
    }
}

/// Frames a second while one cell has the machine.
fn window(running: &Running, length: Duration, clock: Clock) -> f64 {
    running.let_move(true);
    std::thread::sleep(SETTLE);
    let (from, before) = (clock.now().ns, running.received());
    std::thread::sleep(length);
    let (to, after) = (clock.now().ns, running.received());
    running.let_move(false);
    (after - before) as f64 * 1e9 / (to - from).max(1) as f64
}

pub(super) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n => (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0,
    }
}
