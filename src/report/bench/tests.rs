use std::time::Duration;

use super::*;
use crate::bench::{Baseline, Cell, Measured, Notify, Options, Topology};
use crate::traffic::Sizes;

/// Two ways, two sizes, thirteen rounds that scatter a little; the third cell has no interval.
fn results() -> Results {
    let cell = |topology, size| Cell {
        topology,
        packed: topology == Topology::VhostPci,
        ring_size: 1024,
        sizes: Sizes::fixed(size).unwrap(),
        burst: 32,
        notify: Notify::Poll,
        huge_pages: false,
        one_thread: false,
    };
    let measured = |topology, size, rate: f64, interval: bool| Measured {
        cell: cell(topology, size),
        windows: (0..13).map(|at| rate * (1.0 + f64::from(at % 3) / 100.0)).collect(),
        interval: interval.then_some(Interval {
            low: rate,
            median: rate * 1.01,
            high: rate * 1.02,
            windows: 13,
        }),
        ratio: interval.then_some(Interval {
            low: rate / 8.1e6,
            median: rate / 8e6,
            high: rate / 7.9e6,
            windows: 13,
        }),
        baseline: Some(usize::from(size == 1518)),
        ratio_median: Some(rate / 8e6),
        frames: 123_456,
    };
    Results {
        cells: vec![
            measured(Topology::Switch, 64, 8e6, true),
            measured(Topology::Switch, 1518, 1.5e6, true),
            measured(Topology::VhostPci, 64, 12e6, false),
            measured(Topology::VhostPci, 1518, 2.5e6, true),
        ],
        options: Options {
            rounds: 13,
            window: Duration::from_millis(50),
            baseline: Some(Baseline::Cell(0)),
        },
        cpus: vec![0, 1],
        interrupted: false,
        without_dpdk: Some("dpdk-testpmd is not installed".to_owned()),
    }
}

#[test]
fn what_people_see() {
    // Broken: a column is missing, misaligned, or says something else than was measured.
    insta::assert_snapshot!(table(&results()).join("\n"));
}

#[test]
fn what_programs_see() {
    // Broken: a reader of the JSON finds a field under another name.
    insta::assert_snapshot!(json(&results()));
}

#[test]
fn the_plot_is_whole_and_draws_every_cell() {
    // Broken: browsers refuse the plot, or a line or its baseline is missing.
    let plot = svg(&results());
    let mut reader = quick_xml::Reader::from_str(&plot);
    let (mut circles, mut lines) = (0, 0);
    loop {
        match reader.read_event().unwrap() {
            quick_xml::events::Event::Eof => break,
            quick_xml::events::Event::Empty(tag) if tag.name().as_ref() == b"circle" => circles += 1,
            quick_xml::events::Event::Empty(tag) if tag.name().as_ref() == b"polyline" => lines += 1,
            _ => {}
        }
    }
    // a point a cell, and one in the name of each line
    assert_eq!((circles, lines), (4 + 2, 2));
    assert!(plot.contains("switch split (baseline)") && plot.contains("vhost-pci packed"));
}

#[test]
fn axes_end_above_what_they_show() {
    // Broken: the highest point is outside of the plot, or there is one label.
    for most in [0.0, 0.3, 1.0, 7.3, 9.99, 31.0, 250.0] {
        let (step, end) = plot::ticks(most);
        assert!(
            end >= most && end / step >= 2.0 && end / step <= 7.0,
            "{most}: {step} {end}"
        );
    }
}
