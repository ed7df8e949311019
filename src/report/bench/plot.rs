//! The plot: million frames a second over bytes of a frame, a line for each way and kind of ring, the baseline's drawn
//! broken, with the interval of each point as a bar.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::bench::{Measured, Results};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 250.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;
/// Told apart by those who see fewer colours, too (Okabe and Ito).
const COLOURS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a7f00",
];

/// One line of the plot.
struct Line<'a> {
    name: String,
    is_baseline: bool,
    points: Vec<&'a Measured>,
}

/// The plot as SVG.
#[must_use]
pub fn svg(results: &Results) -> String {
    let lines = lines(results);
    let sizes: Vec<f64> = {
        let mut sizes: Vec<f64> = results.cells.iter().map(|c| c.cell.sizes.mean()).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        sizes
    };
    let most = results.cells.iter().map(|c| top(c) / 1e6).fold(0.0, f64::max);
    let (step, ceiling) = ticks(most);
    let x = |bytes: f64| {
        let at = sizes.iter().position(|size| *size == bytes).unwrap_or(0);
        // evenly, as the sizes of a matrix are chosen to be told apart
        let share = if sizes.len() < 2 {
            0.5
        } else {
            at as f64 / (sizes.len() - 1) as f64
        };
        LEFT + 24.0 + share * (WIDTH - LEFT - RIGHT - 48.0)
    };
    let y = |rate: f64| HEIGHT - BOTTOM - rate / 1e6 / ceiling * (HEIGHT - TOP - BOTTOM);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    );
    let text = |out: &mut String, x: f64, y: f64, anchor: &str, more: &str, text: &str| {
        let text = escape(text);
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{more}>{text}</text>"
        );
    };
    text(
        &mut out,
        LEFT,
        24.0,
        "start",
        " font-weight=\"bold\"",
        "Million verified frames a second",
    );
    axes(&mut out, &sizes, results, (step, ceiling), &x, &y);
    for (at, line) in lines.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let dash = if line.is_baseline {
            " stroke-dasharray=\"7 4\""
        } else {
            ""
        };
        let points: Vec<String> = line
            .points
            .iter()
            .map(|m| format!("{:.1},{:.1}", x(m.cell.sizes.mean()), y(m.median())))
            .collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash} points=\"{}\"/>",
            points.join(" ")
        );
        for measured in &line.points {
            let (px, py) = (x(measured.cell.sizes.mean()), y(measured.median()));
            if let Some(interval) = measured.interval {
                let (low, high) = (y(interval.low), y(interval.high));
                let _ = writeln!(
                    out,
                    "<path d=\"M{px:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h8M{:.1} {high:.1}h8\" stroke=\"{colour}\" \
                     stroke-opacity=\"0.6\" fill=\"none\"/>",
                    px - 4.0,
                    px - 4.0
                );
            }
            let _ = writeln!(
                out,
                "<circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3.5\" fill=\"{colour}\"/>"
            );
        }
        let row = TOP + 10.0 + 20.0 * at as f64;
        let from = WIDTH - RIGHT + 12.0;
        let _ = writeln!(
            out,
            "<path d=\"M{from:.1} {row:.1}h26\" stroke=\"{colour}\" stroke-width=\"2\"{dash} fill=\"none\"/>"
        );
        text(&mut out, from + 34.0, row + 4.0, "start", "", &line.name);
    }
    out.push_str("</svg>\n");
    out
}

fn axes(
    out: &mut String,
    sizes: &[f64],
    results: &Results,
    (step, ceiling): (f64, f64),
    x: &impl Fn(f64) -> f64,
    y: &impl Fn(f64) -> f64,
) {
    let right = WIDTH - RIGHT;
    let mut rate = 0.0;
    while rate <= ceiling + step / 2.0 {
        let at = y(rate * 1e6);
        let label = if step < 1.0 {
            format!("{rate:.1}")
        } else {
            format!("{rate:.0}")
        };
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\" fill=\"none\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{label}</text>",
            LEFT - 8.0,
            at + 4.0
        );
        rate += step;
    }
    let floor = HEIGHT - BOTTOM;
    for size in sizes {
        let named = results.cells.iter().find(|c| c.cell.sizes.mean() == *size);
        let name = named.map_or_else(String::new, |c| c.cell.sizes.to_string());
        let _ = writeln!(
            out,
            "<path d=\"M{0:.1} {floor}v5\" stroke=\"#555\" fill=\"none\"/><text x=\"{0:.1}\" y=\"{1:.1}\" \
             text-anchor=\"middle\">{name}</text>",
            x(*size),
            floor + 20.0
        );
    }
    let middle = (LEFT + right) / 2.0;
    let _ = writeln!(
        out,
        "<path d=\"M{LEFT} {floor}H{right}\" stroke=\"#555\" fill=\"none\"/><text x=\"{middle:.1}\" y=\"{:.1}\" \
         text-anchor=\"middle\">bytes of a frame</text>",
        floor + 42.0
    );
}

/// Lines by everything but the size, in the order of the cells.
fn lines(results: &Results) -> Vec<Line<'_>> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut lines: Vec<Line<'_>> = Vec::new();
    let differ = |of: fn(&Measured) -> String| {
        let first = results.cells.first().map(of);
        results.cells.iter().any(|cell| Some(of(cell)) != first)
    };
    let (bursts, notifies) = (
        differ(|m| m.cell.burst.to_string()),
        differ(|m| m.cell.notify.to_string()),
    );
    for (at, measured) in results.cells.iter().enumerate() {
        let cell = &measured.cell;
        let mut name = format!("{} {}", cell.topology, cell.ring());
        if bursts {
            let _ = write!(name, " burst {}", cell.burst);
        }
        if notifies {
            let _ = write!(name, " {}", cell.notify);
        }
        let place = *places.entry(name.clone()).or_insert_with(|| {
            lines.push(Line {
                name,
                is_baseline: false,
                points: Vec::new(),
            });
            lines.len() - 1
        });
        let line = &mut lines[place];
        line.points.push(measured);
        line.is_baseline |= measured.baseline == Some(at);
    }
    for line in &mut lines {
        line.points
            .sort_by(|a, b| a.cell.sizes.mean().total_cmp(&b.cell.sizes.mean()));
        if line.is_baseline && results.cells.len() > 1 {
            line.name.push_str(" (baseline)");
        }
    }
    lines
}

fn top(measured: &Measured) -> f64 {
    measured.interval.map_or(measured.median(), |interval| interval.high)
}

/// Step and end of an axis from 0 to at least `most`: 1, 2 or 5 of some power of ten.
pub(super) fn ticks(most: f64) -> (f64, f64) {
    let most = most.max(0.1);
    let power = 10f64.powf((most / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| most / step <= 6.0)
        .unwrap_or(10.0 * power);
    (step, (most / step).ceil() * step)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
