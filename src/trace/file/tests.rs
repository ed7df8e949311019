//! The file format: what is written reads back as it was, what is cut reads up to the cut, and no file does harm.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::sys::child::Exit;
use crate::sys::clock::Moment;
use crate::sys::fd::FdType;
use crate::trace::{Event, EventKind, LinkId, PeerId};
use crate::wire::{Channel, DecodeContext, Dialect, Header as WireHeader, Message, Party};

const FILE: &str = "a/b.yaml";

fn header() -> Header {
    Header {
        made: Made {
            by: "vuh 0.1.0".into(),
            command: "vuh record --frontend 'a: b' # \"c\"\n\u{7f}é𝄞".into(),
            at: None,
            note: Some("true".into()),
        },
        device: Some("blk".into()),
        peers: [("front", Party::FrontEnd), ("the back", Party::BackEnd)]
            .map(|(name, party)| PeerNote {
                name: name.into(),
                party,
                player: format!("./a-{name} {{socket}}"),
                version: Some("10.0.2 (Debian 1:10.0.2+ds)".into()),
            })
            .into(),
        skipped: 3,
        ..Header::default()
    }
}

fn any_message() -> impl Strategy<Value = Message> {
    let payload = prop_oneof![Just(0usize), Just(8), Just(12), Just(16), Just(40), 0usize..80];
    let parts = (prop_oneof![1u32..50, any::<u32>()], any::<u8>(), any::<bool>());
    (parts, payload.prop_flat_map(|len| vec(any::<u8>(), len))).prop_map(|((request, flags, back), payload)| {
        let channel = if back { Channel::Backend } else { Channel::Main };
        let header = WireHeader {
            conn_id: 0,
            request,
            flags: u32::from(flags),
            size: payload.len() as u32,
        };
        Message::decode(Dialect::VhostUser, channel, DecodeContext::default(), &header, &payload)
    })
}

fn any_fd() -> impl Strategy<Value = FdType> {
    prop_oneof![
        Just(FdType::Eventfd),
        Just(FdType::Socket),
        any::<u64>().prop_map(|size| FdType::Memfd { size }),
        any::<u64>().prop_map(|size| FdType::File { size }),
        Just(FdType::Pipe),
        Just(FdType::Userfault),
        Just(FdType::Other),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    let party = || prop_oneof![Just(Party::FrontEnd), Just(Party::BackEnd)];
    let channel = || prop_oneof![Just(Channel::Main), Just(Channel::Backend)];
    let text = || "[ -~]{0,20}|\\PC{0,20}|\n\t\u{85}\u{2028}x";
    let kind = prop_oneof![
        (any_message(), vec(any_fd(), 0..4), party()).prop_map(|(message, fds, from)| EventKind::Message {
            from,
            size: message.payload.encode().len() as u32,
            message,
            fds,
            scripted: false,
        }),
        any::<u32>().prop_map(|generation| EventKind::Connected { generation }),
        (party(), channel(), text(), vec(any::<u8>(), 0..9)).prop_map(|(from, channel, why, bytes)| {
            EventKind::Malformed {
                from,
                channel,
                why,
                bytes,
            }
        }),
        (any::<u16>(), any::<u64>()).prop_map(|(ring, count)| EventKind::Kick { ring, count }),
        (any::<u16>(), any::<u64>()).prop_map(|(ring, count)| EventKind::Call { ring, count }),
        any::<u16>().prop_map(|ring| EventKind::RingError { ring }),
        (party(), channel(), 0usize..70_000).prop_map(|(from, channel, partial)| EventKind::Closed {
            from,
            channel,
            partial
        }),
        (party(), channel()).prop_map(|(from, channel)| EventKind::HalfClosed { from, channel }),
        (text(), any::<i32>()).prop_map(|(program, pid)| EventKind::Started { program, pid }),
        (any::<i32>(), any::<bool>(), any::<bool>()).prop_map(|(n, signal, asked)| EventKind::Exited {
            exit: if signal { Exit::Signal(n) } else { Exit::Status(n) },
            asked,
        }),
        text().prop_map(|name| EventKind::Qmp { name }),
        text().prop_map(|what| EventKind::Fault { what }),
        text().prop_map(|what| EventKind::Data { what }),
    ];
    (kind, 0u64..1 << 48, 0usize..3, party()).prop_map(|(kind, us, link, party)| {
        let of = |party| Some(PeerId(usize::from(party == Party::BackEnd)));
        let (peer, link) = match &kind {
            EventKind::Connected { .. } => (None, Some(link)),
            EventKind::Message { from, .. }
            | EventKind::Malformed { from, .. }
            | EventKind::Closed { from, .. }
            | EventKind::HalfClosed { from, .. } => (of(*from), Some(link)),
            EventKind::Kick { .. } => (of(Party::FrontEnd), Some(link)),
            EventKind::Call { .. } | EventKind::RingError { .. } => (of(Party::BackEnd), Some(link)),
            EventKind::Fault { .. } | EventKind::Data { .. } => (of(party), link.checked_sub(1)),
            _ => (of(party), None),
        };
        Event {
            at: Moment { ns: us * 1000 },
            peer,
            link: link.map(LinkId),
            kind,
        }
    })
}

fn print(events: &[Event]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), header()).unwrap();
    events.iter().for_each(|event| writer.event(event).unwrap());
    writer.finish().unwrap()
}

proptest! {
    /// Broken: an event that is written and read is another event, or its line is more than a line.
    #[test]
    fn what_is_written_reads_back(events in vec(any_event(), 0..6)) {
        let text = print(&events);
        let trace = Trace::parse(Path::new(FILE), &text).unwrap();
        prop_assert_eq!(&trace.events, &events, "{}", String::from_utf8_lossy(&text));
        prop_assert_eq!(&trace.header, &header());
        prop_assert!(!trace.cut);
        let before = header().print().lines().count();
        let lines: Vec<usize> = (0..events.len()).map(|n| before + 1 + n).collect();
        prop_assert_eq!(&trace.lines, &lines);
        prop_assert_eq!(trace.print().unwrap(), text);
    }

    /// Broken: a file that was cut anywhere behind its header loses whole events, or is taken for whole.
    #[test]
    fn a_cut_file_gives_its_whole_events(events in vec(any_event(), 1..5), cut in any::<prop::sample::Index>()) {
        let text = print(&events);
        let start = header().print().len();
        let cut = start + cut.index(text.len() - start - "...".len());
        let trace = Trace::parse(Path::new(FILE), &text[..cut]).unwrap();
        prop_assert!(trace.cut);
        let whole = text[start..cut].iter().filter(|b| **b == b'\n').count();
        // a line without its end may be a whole event still
        prop_assert!(trace.events.len() == whole || trace.events.len() == whole + 1);
        prop_assert_eq!(&trace.events[..], &events[..trace.events.len()]);
    }

    /// Broken: a file makes the reader panic or loop.
    #[test]
    fn any_bytes_are_harmless(bytes in vec(any::<u8>(), 0..300), behind_header in any::<bool>()) {
        let mut text = if behind_header { header().print().into_bytes() } else { Vec::new() };
        text.extend(bytes);
        let _ = Trace::parse(Path::new(FILE), &text);
    }

    /// Broken: a line of the format's own words makes the reader panic, or it accepts what it cannot print.
    #[test]
    fn any_words_are_harmless(words in vec(proptest::sample::select(&[
        "{", "}", "[", "]", ",", "ms: 1", "from: front", "message: GET_FEATURES", "message:", "kick: 1", "kick: 65536",
        "fds: [eventfd]", "closed: main", "link: 99999999999", "ms: .nan", "ms: -1", "*a", "&a", "!!str", "<<:", "|", "'",
    ][..]), 0..9)) {
        let text = format!("{}- {}\n...\n", header().print(), words.join(" "));
        if let Ok(trace) = Trace::parse(Path::new(FILE), text.as_bytes()) {
            let again = Trace::parse(Path::new(FILE), &trace.print().unwrap()).unwrap();
            prop_assert_eq!(again.events, trace.events);
        }
    }
}

fn wrong(lines: &str) -> String {
    let text = format!("{}{lines}", header().print());
    let error = Trace::parse(Path::new(FILE), text.as_bytes()).unwrap_err();
    let first = header().print().lines().count();
    assert!(error.line > first || lines.is_empty());
    format!("{}:{}: {}", error.line - first, error.column, error.wrong)
}

/// Broken: an error points at another place, or does not say what is wrong.
#[test]
fn errors_have_their_place() {
    for (lines, expected) in [
        (
            "- {ms: 1, from: front, message: GET_FEATURE}\n",
            "1:24: no message is called \"GET_FEATURE\"",
        ),
        (
            "# fine\n\n- {ms: 1, kick: 0}\n- {ms: 2}\n",
            "4:4: exactly one of message",
        ),
        (
            "- {ms: 1, from: nobody, kick: 0}\n",
            "1:11: the header names no peer \"nobody\"",
        ),
        ("- {ms: 1, message: GET_FEATURES}\n", "1:4: `from` is missing"),
        ("- {ms: 1, from: front, closed: x}\n", "1:24: \"x\" is no channel"),
        (
            "- {ms: 1, from: front, message: SET_OWNER, fds: [efd]}\n",
            "1:44: \"efd\" is no kind of descriptor",
        ),
        (
            "- {ms: 1, from: front, exited: 7}\n",
            "1:24: \"7\" is no end of a process",
        ),
        ("- {ms: -1, kick: 0}\n", "1:4: not a time"),
        ("- {ms: 1, kick: 0, wink: 1}\n", "1:20: "),
        ("- {ms: 1, kick: 0\n", "1:"),
        ("nothing\n", "1:1: an event is a line"),
        ("...\n- {ms: 1, kick: 0}\n", "2:1: the trace has ended"),
    ] {
        let found = wrong(lines);
        assert!(found.starts_with(expected), "{lines}{found}, expected {expected}");
    }
    let long = format!("- {{ms: 1, fault: {}}}\n", "x".repeat(LINE_BYTES_MAX));
    assert!(
        wrong(&long).starts_with("1:1: the line is longer than"),
        "{}",
        wrong(&long)
    );
}

/// Broken: a file of another kind or version is read as if it were a trace, or refused without saying why.
#[test]
fn other_files_are_refused() {
    let refused = |text: &str| Trace::parse(Path::new(FILE), text.as_bytes()).unwrap_err().to_string();
    assert_eq!(refused(""), "a/b.yaml:1:1: no line says `events:`, so this is no trace");
    let newer = "trace: 2\nmade: later\nevents:\n";
    assert_eq!(
        refused(newer),
        "a/b.yaml:1:1: this is version 2 of the format; this program reads version 1"
    );
    assert!(
        refused("trace: 1\nmade: {by: x, command: y}\ndialect: other\nevents:\n").contains("\"other\" is not known")
    );
    assert!(refused(&format!("{}events:\n", "#\n".repeat(50_000))).contains("header is longer"));
    let both = "trace: 1\nmade: {by: x, command: y}\ndialect: vhost-user\npeers:\n- {name: a, frontend: x, backend: y}\nevents:\n";
    assert!(refused(both).contains("\"a\" needs one of"), "{}", refused(both));
}

/// Broken: the last events of a long recording are not the last, or more is kept than was asked for.
#[test]
fn a_ring_keeps_the_last() {
    let kick = |ring| Event {
        at: Moment { ns: 0 },
        peer: Some(PeerId(0)),
        link: Some(LinkId(0)),
        kind: EventKind::Kick { ring, count: 1 },
    };
    let mut ring = Ring::new(header(), 10);
    (0..1000).for_each(|n| ring.event(&kick(n)));
    assert_eq!(ring.len(), 10);
    let trace = Trace::parse(Path::new(FILE), &ring.write(Vec::new()).unwrap()).unwrap();
    assert_eq!(trace.header.skipped, 990);
    let expected: Vec<Event> = (990..1000).map(kick).collect();
    assert_eq!(trace.events, expected);
}
