//! A schedule as a space-time diagram: the two ends left and right, time downwards, each message where it is sent and where
//! it is read. As text for a terminal, and as SVG for a page.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::schedule::Schedule;
use crate::peer::sim::retry::channels::{Act, Case, TwoState, Way};
use crate::peer::sim::retry::play::{Model, Play};
use crate::peer::sim::retry::{Done, Kind, Phase, State, Step, System, Token, TokenKind};
use crate::wire::{Channel, Dialect, Header};

/// One row: a step.
#[derive(Debug, Clone)]
pub struct Row {
    /// Who: 0 is the front-end.
    pub side: usize,
    /// What it does, in words.
    pub what: String,
    /// What it sends, if anything: the number of the message, its name.
    pub sends: Option<(usize, String)>,
    /// The number of the message that it reads.
    pub reads: Option<usize>,
    /// The cycle begins here.
    pub cycle: bool,
}

/// The rows of a schedule.
///
/// # Errors
/// The first step that is not possible.
pub fn rows(schedule: &Schedule, model: &Model) -> Result<Vec<Row>, String> {
    match model {
        Model::One(system) => one(schedule, system),
        Model::Two(case) => two(schedule, case),
    }
}

fn one(schedule: &Schedule, system: &System) -> Result<Vec<Row>, String> {
    let mut state = State::default();
    let mut numbers: [VecDeque<usize>; 2] = Default::default();
    let mut next = 0;
    let mut rows = Vec::new();
    for (at, code) in schedule.steps.iter().chain(&schedule.cycle).enumerate() {
        let step = Step::from_code(*code);
        if !system.steps(&state).has(step) {
            return Err(format!("has a step {} that is not possible", at + 1));
        }
        let (after, effect) = system.apply(&state, step);
        let name = |token: Token, sender: usize| {
            let owner = if token.kind() == TokenKind::Request {
                sender
            } else {
                1 - sender
            };
            let op = system.script[owner].at(token.op());
            let several = system.script[owner]
                .operations()
                .iter()
                .filter(|o| o.name == op.name)
                .count()
                > 1;
            let number = if several {
                format!(" {}", token.op() + 1)
            } else {
                String::new()
            };
            let name = match token.kind() {
                TokenKind::Request => format!("{}{}", op.name, if op.answered && !op.is_get { "!" } else { "" }),
                TokenKind::Reply if op.is_get => format!("reply to {}", op.name),
                TokenKind::Reply => format!("ack of {}", op.name),
                TokenKind::Busy => format!("busy to {}", op.name),
            };
            format!("{name}{number}")
        };
        let reads = match step.kind {
            Kind::Receive => numbers[step.side].pop_front(),
            _ => None,
        };
        let goes = effect.sent.filter(|_| after.blocked(step.side).is_none());
        let sends = goes.map(|token| {
            let number = next;
            next += 1;
            numbers[1 - step.side].push_back(number);
            (number, name(token, step.side))
        });
        let read = effect.read.map(|token| name(token, 1 - step.side));
        let what = words(
            step,
            effect.done,
            read,
            after.blocked(step.side).is_some(),
            after.phase(step.side),
        );
        rows.push(Row {
            side: step.side,
            what,
            sends,
            reads,
            cycle: at == schedule.steps.len(),
        });
        state = after;
    }
    Ok(rows)
}

fn words(step: Step, done: Done, read: Option<String>, blocked: bool, phase: Phase) -> String {
    let read = read.unwrap_or_default();
    let text = match step.kind {
        Kind::Start => "starts".to_owned(),
        Kind::Wake => "wakes up".to_owned(),
        Kind::Unblock => "can send".to_owned(),
        Kind::Again => "sends again".to_owned(),
        Kind::Timer => match done {
            Done::Failed => "times out: failed".to_owned(),
            Done::Closed => "times out: closes".to_owned(),
            Done::Pauses => "times out, serves".to_owned(),
            _ => "times out, sends again".to_owned(),
        },
        Kind::Receive | Kind::Serve => match done {
            Done::Applied => format!("applies {read}"),
            Done::Repeated => format!("knows {read}"),
            Done::Kept => format!("keeps {read}"),
            Done::Dropped if phase == Phase::Sleeping => format!("drops {read}, sleeps"),
            Done::Dropped => format!("drops {read}"),
            Done::Refused => format!("refuses {read}"),
            Done::Ignored => format!("ignores {read}"),
            Done::Executed => format!("executes {read}!"),
            Done::Completed => format!("has its answer ({read})"),
            Done::Failed => format!("fails on {read}"),
            Done::Closed => format!("closes on {read}"),
            Done::Garbage => "reads garbage, closes".to_owned(),
            Done::Resent => format!("sends again on {read}"),
            Done::Nothing | Done::Pauses => format!("reads {read}"),
        },
    };
    match blocked {
        true => format!("{text}, blocked"),
        false => text,
    }
}

fn two(schedule: &Schedule, case: &Case) -> Result<Vec<Row>, String> {
    let mut state: TwoState = case.initial();
    // names of messages come from their bytes
    let mut play = Play::new(Model::Two(*case), Dialect::VhostUser);
    let mut numbers: [VecDeque<(usize, String)>; 4] = Default::default();
    let mut next = 0;
    let mut rows = Vec::new();
    for (at, code) in schedule.steps.iter().enumerate() {
        let act = Act::from_code(*code).filter(|_| case.steps(&state) >> code & 1 == 1);
        let act = act.ok_or_else(|| format!("has a step {} that is not possible", at + 1))?;
        let (after, moved) = case.apply(&state, act);
        let io = play.take(*code).map_err(|e| e.to_string())?;
        let read = moved.read.and_then(|(way, _)| numbers[way as usize].pop_front());
        let sends = moved.sent.map(|(way, _)| {
            let number = next;
            next += 1;
            let bytes = io.iter().rev().find_map(|io| match io {
                crate::peer::sim::retry::play::Io::Write { bytes, channel, .. } => Some((bytes, *channel)),
                _ => None,
            });
            let name = bytes.map_or(String::new(), |(bytes, channel)| message_name(bytes, channel, way));
            numbers[way as usize].push_back((number, name.clone()));
            (number, name)
        });
        let thread = if act.thread().is_empty() { "" } else { "(thread) " };
        let what = match &read {
            Some((_, name)) => format!("{thread}{} {name}", act.word()),
            None => format!("{thread}{}", act.word()),
        };
        rows.push(Row {
            side: act.side(),
            what,
            sends,
            reads: read.map(|(number, _)| number),
            cycle: false,
        });
        state = after;
    }
    Ok(rows)
}

fn message_name(bytes: &[u8], channel: Channel, way: Way) -> String {
    let name = Header::decode(Dialect::VhostUser, bytes)
        .and_then(|header| crate::wire::spec(Dialect::VhostUser, channel, header.request))
        .map_or("message", |spec| spec.name);
    let on = if channel == Channel::Backend { " (c2)" } else { "" };
    match way {
        Way::C1ToFront | Way::C2ToBack => format!("reply to {name}{on}"),
        Way::C1ToBack | Way::C2ToFront => format!("{name}{on}"),
    }
}

/// Columns of text to the left of the front-end's line, and between the two lines.
const LEFT: usize = 44;
const BETWEEN: usize = 34;

/// As text. Each message is an arrow where it is sent, with its number; where it is read, the number comes again.
pub fn text(rows: &[Row], names: &[String; 2], end: &str) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "    {:>LEFT$}   {:BETWEEN$}   {}", names[0], "", names[1]);
    for (at, row) in rows.iter().enumerate() {
        if row.cycle {
            let _ = writeln!(out, "    {:>LEFT$}   {:-^BETWEEN$}", "", " from here again and again ");
        }
        let arrow = match (&row.sends, row.side) {
            (Some((number, name)), 0) => {
                format!("{:-<BETWEEN$}", format!("--({})-- {name} ", number + 1)).replacen("-", "-", 1) + ">"
            }
            (Some((number, name)), _) => format!("<{:->BETWEEN$}", format!(" {name} --({})--", number + 1)),
            (None, _) => " ".repeat(BETWEEN + 1),
        };
        let mark = row.reads.map_or(String::new(), |number| format!("({}) ", number + 1));
        let what = format!("{mark}{}", row.what);
        let line = match row.side {
            0 => format!("{what:>LEFT$} | {arrow} |"),
            _ => format!("{:>LEFT$} | {arrow} | {what}", ""),
        };
        let _ = writeln!(out, "{:>3} {}", at + 1, line.trim_end());
    }
    if !end.is_empty() {
        let _ = writeln!(out, "    => {end}");
    }
    out
}

const ROW_PX: usize = 26;
const FRONT_X: usize = 290;
const BACK_X: usize = 610;

/// As an SVG image: messages slant from where they are sent to where they are read.
pub fn svg(rows: &[Row], names: &[String; 2], title: &str, end: &str) -> String {
    let top = 64;
    let y = |at: usize| top + at * ROW_PX;
    let height = y(rows.len()) + 40;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"{height}\" viewBox=\"0 0 900 {height}\" font-family=\"sans-serif\" font-size=\"12\">\n"
    );
    let _ = writeln!(out, "<rect width=\"900\" height=\"{height}\" fill=\"white\"/>");
    let _ = writeln!(
        out,
        "<text x=\"450\" y=\"20\" text-anchor=\"middle\" font-size=\"14\">{}</text>",
        escape(title)
    );
    for (x, name) in [(FRONT_X, &names[0]), (BACK_X, &names[1])] {
        let _ = writeln!(
            out,
            "<text x=\"{x}\" y=\"44\" text-anchor=\"middle\" font-weight=\"bold\">{}</text>",
            escape(name)
        );
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"50\" x2=\"{x}\" y2=\"{}\" stroke=\"#888\"/>",
            height - 30
        );
    }
    for (at, row) in rows.iter().enumerate() {
        if row.cycle {
            let _ = writeln!(
                out,
                "<line x1=\"40\" y1=\"{0}\" x2=\"860\" y2=\"{0}\" stroke=\"#b00\" stroke-dasharray=\"4 3\"/><text x=\"450\" y=\"{1}\" text-anchor=\"middle\" fill=\"#b00\" font-size=\"10\">from here again and again</text>",
                y(at) - 14,
                y(at) - 16
            );
        }
        let (x, anchor, at_x) = match row.side {
            0 => (FRONT_X, "end", FRONT_X - 10),
            _ => (BACK_X, "start", BACK_X + 10),
        };
        let _ = writeln!(out, "<circle cx=\"{x}\" cy=\"{}\" r=\"3\"/>", y(at));
        let _ = writeln!(
            out,
            "<text x=\"{at_x}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            y(at) + 4,
            escape(&row.what)
        );
        if let Some((number, name)) = &row.sends {
            let read = rows.iter().position(|other| other.reads == Some(*number));
            let (from, to) = match row.side {
                0 => (FRONT_X, BACK_X),
                _ => (BACK_X, FRONT_X),
            };
            // what nobody reads ends before it arrives
            let (to, to_y, dash) = match read {
                Some(read) => (to, y(read), ""),
                None => ((from + 3 * to) / 4, y(at) + ROW_PX, " stroke-dasharray=\"3 3\""),
            };
            let _ = writeln!(
                out,
                "<line x1=\"{from}\" y1=\"{}\" x2=\"{to}\" y2=\"{to_y}\" stroke=\"#036\"{dash}/>",
                y(at)
            );
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#036\" font-size=\"11\">{}</text>",
                from.midpoint(to),
                y(at).midpoint(to_y) - 3,
                escape(name)
            );
        }
    }
    let _ = writeln!(
        out,
        "<text x=\"450\" y=\"{}\" text-anchor=\"middle\" fill=\"#b00\">{}</text>",
        height - 10,
        escape(end)
    );
    out.push_str("</svg>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
