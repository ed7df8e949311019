//! What `vuh replay` was asked for, as a plan; and the two conversations brought side by side.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::peers::SIMULATED;
use crate::judge::recorded::{self, Told};
use crate::peer::catalogue::{Catalogue, Driver, Role};
use crate::scenario::{Diagnostics, Plan, Settings, load_str};
use crate::trace::diff::{Allowed, Difference, compare};
use crate::trace::file::Trace;
use crate::trace::{Event, EventKind, LinkId};
use crate::wire::{DeviceKind, Party};

/// What is to be played again.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The trace's file; absolute, since the plan is in no folder.
    pub trace: PathBuf,
    /// The side that the harness plays.
    pub side: Party,
    /// Of this link.
    pub link: usize,
    /// Who plays the other side.
    pub peer: String,
    /// The device, if the trace does not say.
    pub device: Option<String>,
}

/// The plan of a replay. The second value: its steps drive the front-end, so that it is over when they are through.
///
/// # Errors
/// The trace cannot be read, or names a device that is none.
pub fn plan(wanted: &Wanted, trace: &Trace, catalogue: &Catalogue) -> Result<(Plan, bool), Diagnostics> {
    // JSON's strings are YAML's
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let device = wanted.device.as_deref().or(trace.header.device.as_deref());
    let device = quote(device.unwrap_or("generic"));
    let events = conversation(trace, LinkId(wanted.link)).events;
    let queues = rings(&events, trace.header.device_kind());
    let mut text = "scenario: replay\nabout: A recording is played again.\npeers:\n".to_owned();
    let player = quote(&wanted.peer);
    let (front, back) = match wanted.side {
        Party::FrontEnd => ("simulated", player.as_str()),
        Party::BackEnd => (player.as_str(), "simulated"),
    };
    let loopback = match wanted.side {
        Party::BackEnd if trace.header.device_kind() == DeviceKind::Net => ", loopback: true",
        _ => "",
    };
    let mut line = |line: &str| writeln!(text, "{line}").expect("a String takes any text");
    line(&format!(
        "  front: {{frontend: {front}, device: {device}, queues: {queues}}}"
    ));
    line(&format!(
        "  back: {{backend: {back}, device: {device}, queues: {queues}{loopback}}}"
    ));
    line("steps:\n- connect: {from: front, to: back}");
    let file = quote(&wanted.trace.to_string_lossy());
    let name = match wanted.side {
        Party::FrontEnd => "front",
        Party::BackEnd => "back",
    };
    let replay = format!("- replay: {{peer: {name}, trace: {file}, link: {}}}", wanted.link);
    let entry = catalogue.find(&wanted.peer, Role::Frontend);
    let driven = wanted.peer == SIMULATED || entry.is_some_and(|e| e.driver == Driver::Qtest);
    let drives = match wanted.side {
        Party::BackEnd if driven => {
            line("- together:\n    guest:\n    - setup: {peer: front}");
            events
                .iter()
                .filter_map(data)
                .for_each(|step| line(&format!("    {step}")));
            line(&format!("    device:\n    {replay}"));
            true
        }
        side => {
            line(&replay);
            side == Party::FrontEnd
        }
    };
    let mut plans = load_str("replay", &text, &Settings::default())?;
    Ok((plans.remove(0), drives))
}

/// The step by which a driver does again what was recorded.
fn data(event: &Event) -> Option<String> {
    let EventKind::Data { what } = &event.kind else {
        return None;
    };
    let words: Vec<&str> = what.split([' ', ':']).filter(|word| !word.is_empty()).collect();
    match words[..] {
        [count, "frames", "of", size, "bytes", ..] => Some(format!(
            "- deliver: {{from: front, to: front, packets: {}, size: {}}}",
            count.parse::<u64>().ok()?,
            size.parse::<u64>().ok()?
        )),
        [action @ ("read" | "write"), "of", sectors, _, "at", sector, ..] => Some(format!(
            "- blk: {{peer: front, action: {action}, sectors: {}, sector: {}}}",
            sectors.parse::<u64>().ok()?,
            sector.parse::<u64>().ok()?
        )),
        ["flush", ..] => Some("- blk: {peer: front, action: flush}".to_owned()),
        _ => None,
    }
}

/// One more than the highest ring that is spoken of; both rings of a pair.
fn rings(events: &[Event], device: DeviceKind) -> u32 {
    let index = |event: &Event| event.kind.message()?.payload.ring_index().filter(|index| *index < 128);
    let rings = events.iter().filter_map(index).max().map_or(1, |index| index + 1);
    match device {
        DeviceKind::Net => rings.next_multiple_of(2),
        _ => rings,
    }
}

/// The first conversation of a link, as if it were all that there is.
pub fn conversation(trace: &Trace, link: LinkId) -> Trace {
    let mut connections = 0;
    let mut events = Vec::new();
    let mut lines = Vec::new();
    for (event, line) in trace.events.iter().zip(&trace.lines) {
        if event.link != Some(link) {
            continue;
        }
        if matches!(event.kind, EventKind::Connected { .. }) {
            connections += 1;
            if connections > 1 {
                break;
            }
        }
        events.push(Event {
            link: Some(LinkId(0)),
            ..event.clone()
        });
        lines.push(*line);
    }
    Trace {
        header: trace.header.clone(),
        events,
        lines,
        cut: trace.cut,
    }
}

/// What came of a replay.
#[derive(Debug)]
pub struct Compared {
    /// Requests and ends that are in both conversations and the same.
    pub alike: usize,
    /// Differences that the specification allows, and why it does.
    pub allowed: Vec<(Difference, String)>,
    /// The others.
    pub wrong: Vec<Difference>,
    /// Rules of the protocol that the present peer broke.
    pub faults: Vec<String>,
}

impl Compared {
    /// Whether the present peer did nothing that it may not do.
    pub fn is_fine(&self) -> bool {
        self.wrong.is_empty() && self.faults.is_empty()
    }
}

/// Compares the recorded conversation with the present one, in which `side` was played again.
pub fn compared(recorded: &Trace, present: &Trace, wanted: &Wanted) -> Compared {
    let first = conversation(recorded, LinkId(wanted.link));
    let second = conversation(present, LinkId(0));
    let device = recorded.header.device_kind();
    let comparison = compare(&first, &second, device);
    let allowed = Allowed::new(&first, &second, wanted.side);
    let mut result = Compared {
        alike: comparison.alike,
        allowed: Vec::new(),
        wrong: Vec::new(),
        faults: Vec::new(),
    };
    for difference in comparison.differences {
        match allowed.why(difference.place, &difference.kind) {
            Some(why) => result.allowed.push((difference, why)),
            None => result.wrong.push(difference),
        }
    }
    let judged = recorded::check(present, &Told::default());
    result.faults = judged
        .faults
        .into_iter()
        .filter(|fault| fault.party != Some(wanted.side))
        .map(|fault| fault.what)
        .collect();
    result
}
