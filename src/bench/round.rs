//! Rounds: every cell gets one window in each, in turn, first to last and then last to first.

use std::time::Duration;

use super::cell::{Cell, Running};
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
    /// The cell with whose way and ring the others are compared, by its place.
    pub baseline: Option<usize>,
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
    /// The processors are not known.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Measures all cells.
///
/// # Errors
/// A cell cannot be set up, or its frames did not arrive as they were sent.
pub fn run(cells: &[Cell], options: Options, mut progress: impl FnMut(usize)) -> Result<Results, BenchError> {
    let clock = Clock::start();
    let cpus = cpu::allowed()?;
    let mut running = Vec::new();
    for cell in cells {
        let started = Running::start(cell, &cpus, clock);
        running.push(started.map_err(|error| {
            let cell = cell.to_string();
            BenchError::Rig { cell, error }
        })?);
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
            windows[at].push(window(&running[at], options.window, clock));
            if signal::interrupted() {
                interrupted = true;
                break 'rounds;
            }
        }
        progress(round + 1);
    }
    let mut measured = Vec::new();
    for ((cell, running), windows) in cells.iter().zip(running).zip(windows) {
        let (frames, whole) = running.end();
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
    })
}

/// Compares each cell with the one of the baseline's way and ring that is like it otherwise: same frames, burst and signals.
fn compare(measured: &mut [Measured], baseline: Option<usize>) {
    let Some(line) = baseline.and_then(|at| measured.get(at)).map(|base| base.cell.clone()) else {
        return;
    };
    for at in 0..measured.len() {
        let like = Cell {
            topology: line.topology,
            packed: line.packed,
            ..measured[at].cell.clone()
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
