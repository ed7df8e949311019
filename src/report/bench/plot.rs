//! The plot: million frames a second over bytes of a frame, a line for each way and kind of ring, the baseline's drawn
//! broken, with the interval of each point as a bar. Points of one size stand side by side, so that their bars can be told apart.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::bench::{Measured, Results, Topology};

/// Where the axes end; the names of the lines stand to the right of them.
const RIGHT: f64 = 620.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 56.0;
/// Room for the first and the last size, beside which the points of their lines stand.
const MARGIN: f64 = 40.0;
/// Points of one size stand side by side, at most so far apart, and all of them within so much.
const ASIDE: f64 = 8.0;
const ASIDE_ALL: f64 = 64.0;
/// A letter is about so wide.
const LETTER: f64 = 7.2;
/// From one name to the next.
const ROW: f64 = 20.0;
/// Told apart by those who see fewer colours, too (Okabe and Ito).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a7f00",
];
/// What is not ours.
const BLACK: &str = "#000000";

/// One line of the plot.
struct Line<'a> {
    name: String,
    /// That of its way; split and packed are told apart by their points.
    colour: &'static str,
    packed: bool,
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
        LEFT + MARGIN + share * (RIGHT - LEFT - 2.0 * MARGIN)
    };
    let longest = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    let width = (RIGHT + 60.0 + LETTER * longest as f64).ceil();
    let height = HEIGHT.max(TOP + 2.0 * ROW + ROW * lines.len() as f64);
    let y = |rate: f64| height - BOTTOM - rate / 1e6 / ceiling * (height - TOP - BOTTOM);
    let step_aside = (ASIDE_ALL / lines.len().max(1) as f64).min(ASIDE);
    let aside = |line: usize| (line as f64 - (lines.len() as f64 - 1.0) / 2.0) * step_aside;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
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
        "Million frames a second, by their size",
    );
    text(
        &mut out,
        LEFT,
        43.0,
        "start",
        " font-size=\"12\" fill=\"#555\"",
        &how(results),
    );
    axes(&mut out, &sizes, results, (step, ceiling, height), &x, &y);
    for (at, line) in lines.iter().enumerate() {
        let colour = line.colour;
        let fill = if line.packed { "white" } else { colour };
        let dash = if line.is_baseline {
            " stroke-dasharray=\"7 4\""
        } else {
            ""
        };
        let points: Vec<String> = line
            .points
            .iter()
            .map(|m| format!("{:.1},{:.1}", x(m.cell.sizes.mean()) + aside(at), y(m.median())))
            .collect();
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash} points=\"{}\"/>",
            points.join(" ")
        );
        for measured in &line.points {
            let (px, py) = (x(measured.cell.sizes.mean()) + aside(at), y(measured.median()));
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
                "<circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3.5\" stroke=\"{colour}\" stroke-width=\"1.5\" fill=\"{fill}\"/>"
            );
        }
        let row = TOP + 10.0 + ROW * at as f64;
        let from = RIGHT + 12.0;
        let _ = writeln!(
            out,
            "<path d=\"M{from:.1} {row:.1}h26\" stroke=\"{colour}\" stroke-width=\"2\"{dash} fill=\"none\"/>\
             <circle cx=\"{:.1}\" cy=\"{row:.1}\" r=\"3.5\" stroke=\"{colour}\" stroke-width=\"1.5\" fill=\"{fill}\"/>",
            from + 13.0
        );
        text(&mut out, from + 34.0, row + 4.0, "start", "", &line.name);
    }
    out.push_str("</svg>\n");
    out
}

/// How it was measured, and how the picture is read.
fn how(results: &Results) -> String {
    let options = &results.options;
    let mut text = format!(
        "rings of {}, {} rounds of {} ms in turns; the median lies within its bar",
        super::ring_size(results),
        options.rounds,
        options.window.as_millis()
    );
    if results.cells.iter().any(|cell| cell.cell.topology == Topology::Dpdk) {
        text.push_str("; all verified but DPDK's own");
    }
    text
}

fn axes(
    out: &mut String,
    sizes: &[f64],
    results: &Results,
    (step, ceiling, height): (f64, f64, f64),
    x: &impl Fn(f64) -> f64,
    y: &impl Fn(f64) -> f64,
) {
    let right = RIGHT;
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
    let floor = height - BOTTOM;
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
    let mut ways: Vec<String> = Vec::new();
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
        let mut more = String::new();
        if bursts {
            let _ = write!(more, " burst {}", cell.burst);
        }
        if notifies {
            let _ = write!(more, " {}", cell.notify);
        }
        let way = format!("{}{more}", cell.topology);
        let known = ways.iter().position(|known| *known == way).unwrap_or_else(|| {
            ways.push(way);
            ways.len() - 1
        });
        let name = format!("{} {}{more}", cell.topology, cell.ring());
        let place = *places.entry(name.clone()).or_insert_with(|| {
            lines.push(Line {
                name,
                colour: match cell.topology {
                    Topology::Dpdk => BLACK,
                    _ => COLOURS[known % COLOURS.len()],
                },
                packed: cell.packed,
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
