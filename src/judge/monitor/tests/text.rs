//! Timelines from text, one event a line: `connected`; a party and a message of the notation, with `fds=[KIND ...]` behind
//! it; `back call RING`; `front closed main [PARTIAL]`; `back malformed`. `script` before a message says who composed it,
//! a number before all that on which link.

use crate::judge::monitor::{Arrival, Monitor, Violation};
use crate::sys::clock::Moment;
use crate::trace::{Event, EventKind, FdNote, LinkId, PeerId, Seq};
use crate::wire::{Channel, Message, Party};

/// The events of a text.
pub(crate) fn events(text: &str) -> Vec<Event> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(event).collect()
}

/// What the monitor says about a text.
pub(super) fn judge(monitor: &mut Monitor, text: &str) -> Vec<Violation> {
    let events = events(text);
    let numbered = events.iter().enumerate();
    numbered.flat_map(|(i, event)| monitor.observe(event, Seq(i))).collect()
}

/// What it says about a link on which the script has a hand. Everything arrives at once, but what begins with `sent`, which
/// does not; what begins with `comes` only arrives. From `disturbed` on what arrives may be something else than what was sent.
pub(super) fn judge_parties(monitor: &mut Monitor, text: &str) -> Vec<Violation> {
    monitor.part(LinkId(0));
    let mut found = Vec::new();
    for (i, line) in text.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        if line == "disturbed" {
            monitor.disturbed(LinkId(0));
            continue;
        }
        let (is_sent, line) = match line.strip_prefix("comes ") {
            Some(line) => (false, line),
            None => (true, line),
        };
        let (comes, line) = match line.strip_prefix("sent ") {
            Some(line) => (false, line),
            None => (true, line),
        };
        let event = event(line);
        if is_sent {
            found.extend(monitor.observe(&event, Seq(i)));
        }
        match &event.kind {
            EventKind::Message {
                from,
                message,
                fds,
                size,
                ..
            } if comes => {
                let arrival = Arrival {
                    seq: Seq(i),
                    from: *from,
                    message,
                    fds,
                    size: *size,
                };
                monitor.arrived(LinkId(0), &arrival);
            }
            EventKind::Closed { from, channel, .. } if comes => monitor.close_arrived(LinkId(0), *channel, *from),
            _ => {}
        }
    }
    found
}

fn event(line: &str) -> Event {
    let (link, rest) = match line.split_once(' ') {
        Some((number, rest)) if number.parse::<usize>().is_ok() => (number.parse().unwrap(), rest),
        _ => (0, line),
    };
    let (scripted, rest) = match rest.strip_prefix("script ") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let (peer, kind) = match word {
        "connected" => (None, EventKind::Connected { generation: 1 }),
        "front" => (Some(PeerId(0)), of(Party::FrontEnd, rest, scripted)),
        "back" => (Some(PeerId(1)), of(Party::BackEnd, rest, scripted)),
        _ => panic!("{line}"),
    };
    Event {
        at: Moment::default(),
        peer,
        link: Some(LinkId(link)),
        kind,
    }
}

fn of(from: Party, text: &str, scripted: bool) -> EventKind {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        ["call", ring] => EventKind::Call {
            ring: ring.parse().unwrap(),
            count: 1,
        },
        ["closed", channel, ref partial @ ..] => EventKind::Closed {
            from,
            channel: channel.parse().unwrap(),
            partial: partial.first().map_or(0, |p| p.parse().unwrap()),
        },
        ["closed"] => EventKind::Closed {
            from,
            channel: Channel::Main,
            partial: 0,
        },
        ["malformed"] => EventKind::Malformed {
            from,
            channel: Channel::Main,
            why: "a header announces 4294967295 bytes".to_owned(),
            bytes: vec![0xff; 12],
        },
        _ => message(from, text, scripted),
    }
}

fn message(from: Party, text: &str, scripted: bool) -> EventKind {
    let (text, fds) = match text.split_once(" fds=[") {
        Some((text, fds)) => (text, fds.trim_end_matches(']').split_whitespace().map(fd).collect()),
        None => (text, Vec::new()),
    };
    let message: Message = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    EventKind::Message {
        from,
        size: message.header().size,
        message,
        fds,
        scripted,
    }
}

fn fd(word: &str) -> FdNote {
    let (kind, size) = word.split_once(':').unwrap_or((word, "0x0"));
    let size = u64::from_str_radix(size.trim_start_matches("0x"), 16).unwrap();
    match kind {
        "eventfd" => FdNote::Eventfd,
        "socket" => FdNote::Socket,
        "pipe" => FdNote::Pipe,
        "memfd" => FdNote::Memfd { size },
        "file" => FdNote::File { size },
        "userfaultfd" => FdNote::Userfault,
        "other" => FdNote::Other,
        _ => panic!("no file is a {word}"),
    }
}
