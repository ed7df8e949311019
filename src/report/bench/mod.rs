//! What `vuh bench` measured: a table for people, JSON for programs, a plot for pages.

mod plot;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::json::JsonInterval;
use crate::bench::{Baseline, Measured, Results, RoundTrips, Topology};
use crate::judge::rate::Interval;

pub use plot::svg;

/// `format` of the JSON.
const FORMAT: &str = "vuh-bench";
/// Its version. Fields may be added without a new one.
const VERSION: u32 = 1;

/// The table, a line a cell.
#[must_use]
pub fn table(results: &Results) -> Vec<String> {
    let head = [
        "",
        "topology",
        "ring",
        "bytes",
        "burst",
        "notify",
        "best",
        "median",
        "Gbit/s",
        "of baseline",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(results.cells.iter().enumerate().map(|(at, cell)| row(at, cell)));
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &[String; 10]| {
        let cells = row.iter().zip(&widths).enumerate();
        let padded = cells.map(|(at, (text, width))| {
            let is_number = matches!(at, 0 | 3 | 6..9);
            if is_number {
                format!("{text:>width$}")
            } else {
                format!("{text:<width$}")
            }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    let options = &results.options;
    let (ring, rounds, window) = (ring_size(results), options.rounds, options.window.as_millis());
    let pages = if results.cells.iter().any(|c| c.cell.huge_pages) {
        ", huge pages"
    } else {
        ""
    };
    let cpus = match results.cells.iter().any(|c| c.cell.one_thread) {
        true => 1,
        false => results.cpus.len().min(2),
    };
    lines.push(String::new());
    lines.push(format!(
        "million frames a second, each verified; rings of {ring}{pages}, {rounds} rounds of {window} ms, {cpus} processor{}",
        if cpus == 1 { "" } else { "s" }
    ));
    if results.cells.iter().any(|cell| cell.cell.topology == Topology::Dpdk) {
        lines.push("dpdk: virtio-user to vhost library, both DPDK's; counted by DPDK, not verified".to_owned());
    }
    if let Some(why) = &results.without_dpdk {
        lines.push(format!("DPDK's own pair is not measured beside: {why}"));
    }
    if results.interrupted {
        lines.push("interrupted: not all rounds were measured".to_owned());
    }
    lines
}

fn ring_size(results: &Results) -> u16 {
    results.cells.first().map_or(0, |cell| cell.cell.ring_size)
}

fn row(at: usize, measured: &Measured) -> [String; 10] {
    let cell = &measured.cell;
    let ratio = match (measured.baseline, measured.ratio, measured.ratio_median) {
        (Some(base), ..) if base == at => "baseline".to_owned(),
        (_, Some(Interval { low, median, high, .. }), _) => format!("{median:.3} ({low:.3} to {high:.3})"),
        (_, None, Some(median)) => format!("{median:.3} (too few rounds, or too much noise)"),
        _ => String::new(),
    };
    [
        format!("{}", at + 1),
        cell.topology.to_string(),
        cell.ring().to_owned(),
        cell.sizes.to_string(),
        cell.burst.to_string(),
        cell.notify.to_string(),
        millions(measured.best()),
        millions(measured.median()),
        gigabits(measured),
        ratio,
    ]
}

fn millions(rate: f64) -> String {
    format!("{:.2}", rate / 1e6)
}

/// Bits of the frames themselves, at the median rate.
fn gigabits(measured: &Measured) -> String {
    format!("{:.2}", measured.median() * measured.cell.sizes.mean() * 8.0 / 1e9)
}

/// What round trips took.
#[must_use]
pub fn latency(trips: &RoundTrips) -> Vec<String> {
    let rounds = trips.ratios.len();
    vec![
        format!("packet there and back   {}", trips.packet),
        format!("bare eventfd            {}", trips.bare),
        format!(
            "ratio of medians        {:.3} (median of {rounds} rounds, interleaved)",
            trips.ratio()
        ),
    ]
}

#[derive(Serialize)]
struct Document<'a> {
    format: &'static str,
    version: u32,
    harness: &'static str,
    rounds: usize,
    window_ms: u64,
    cpus: &'a [usize],
    /// Place of the cell whose way and ring are the baseline; null if DPDK's pair is.
    baseline: Option<usize>,
    interrupted: bool,
    /// Why DPDK's pair is not among the cells.
    without_dpdk: Option<&'a str>,
    cells: Vec<JsonCell<'a>>,
}

#[derive(Serialize)]
struct JsonCell<'a> {
    topology: String,
    ring: &'static str,
    ring_size: u16,
    bytes: String,
    burst: usize,
    notify: String,
    huge_pages: bool,
    one_thread: bool,
    /// Place of the cell it is compared with.
    baseline: Option<usize>,
    frames_verified: u64,
    best_per_second: f64,
    median_per_second: f64,
    windows_per_second: &'a [f64],
    interval: Option<JsonInterval>,
    ratio_median: Option<f64>,
    ratio: Option<JsonInterval>,
}

fn json_cell(measured: &Measured) -> JsonCell<'_> {
    let Measured {
        cell,
        windows,
        interval,
        ratio,
        ratio_median,
        frames,
        ..
    } = measured;
    JsonCell {
        topology: cell.topology.to_string(),
        ring: cell.ring(),
        ring_size: cell.ring_size,
        bytes: cell.sizes.to_string(),
        burst: cell.burst,
        notify: cell.notify.to_string(),
        huge_pages: cell.huge_pages,
        one_thread: cell.one_thread,
        baseline: measured.baseline,
        frames_verified: *frames,
        best_per_second: measured.best(),
        median_per_second: measured.median(),
        windows_per_second: windows,
        interval: interval.map(Into::into),
        ratio_median: *ratio_median,
        ratio: ratio.map(Into::into),
    }
}

/// Everything, for programs.
#[must_use]
pub fn json(results: &Results) -> String {
    let document = Document {
        format: FORMAT,
        version: VERSION,
        harness: env!("CARGO_PKG_VERSION"),
        rounds: results.options.rounds,
        window_ms: results.options.window.as_millis() as u64,
        cpus: &results.cpus,
        baseline: match results.options.baseline {
            Some(Baseline::Cell(at)) => Some(at),
            Some(Baseline::Dpdk) | None => None,
        },
        interrupted: results.interrupted,
        without_dpdk: results.without_dpdk.as_deref(),
        cells: results.cells.iter().map(json_cell).collect(),
    };
    let mut text = serde_json::to_string_pretty(&document).expect("numbers and strings only");
    text.push('\n');
    text
}
