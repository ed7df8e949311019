//! Reading a trace: line by line, with a limit on each line, so that no file takes more memory than its events.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde_yaml::MessageFormatter as _;

use super::header::Header;
use super::{END, VERSION, item};
use crate::trace::{Event, EventKind, Timeline};
use crate::wire::{Channel, NotationError, Party};

/// Bytes of a line. The largest that is written has a payload of 64 KiB in hex.
pub const LINE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a header.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Events that are read into memory at once.
pub const EVENTS_READ_MAX: usize = 2_000_000;

/// What is wrong with a trace file, and where.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}:{column}: {wrong}", file.display())]
pub struct TraceError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What.
    pub wrong: Wrong,
}

/// What can be wrong with a trace file.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// The header has no end.
    #[error("no line says `events:`, so this is no trace")]
    NoEvents,
    /// The header is too long.
    #[error("the header is longer than {HEADER_BYTES_MAX} bytes")]
    LongHeader,
    /// Another version.
    #[error("this is version {0} of the format; this program reads version {VERSION}")]
    Version(u32),
    /// Another dialect.
    #[error("the dialect {0:?} is not known; there are vhost-user, vhost-pci and vhost-pci-g2")]
    Dialect(String),
    /// Too many peers.
    #[error("{0} peers are too many")]
    Peers(usize),
    /// A peer without a role.
    #[error("peer {0:?} needs one of `frontend` and `backend`")]
    Role(String),
    /// A line is too long.
    #[error("the line is longer than {LINE_BYTES_MAX} bytes")]
    LongLine,
    /// A line is not text.
    #[error("the line is not UTF-8")]
    Utf8,
    /// Not YAML, or other keys than an event has.
    #[error("{0}")]
    Yaml(String),
    /// Something else than an event.
    #[error("an event is a line that begins with `- {{`")]
    NoEvent,
    /// Something after the end.
    #[error("the trace has ended with `{END}`; nothing may follow")]
    AfterEnd,
    /// The message cannot be read.
    #[error("{0}")]
    Notation(NotationError),
    /// No such peer.
    #[error("the header names no peer {0:?}")]
    Peer(String),
    /// No such channel.
    #[error("{0:?} is no channel; there are main and backend")]
    Channel(String),
    /// No kind of descriptor.
    #[error("{0:?} is no kind of descriptor")]
    Fd(String),
    /// No end of a process.
    #[error("{0:?} is no end of a process; write `status 0` or `signal 9`")]
    Exit(String),
    /// Not hex.
    #[error("bytes are pairs of hex digits")]
    Hex,
    /// A time that cannot be.
    #[error("not a time in milliseconds")]
    Time,
    /// A key is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// None or several keys that say what happened.
    #[error(
        "exactly one of message, connected, closed, half_closed, malformed, kick, call, error, started, exited, event, \
         fault and data says what happened"
    )]
    Kinds,
    /// Too many events.
    #[error("more than {EVENTS_READ_MAX} events cannot be read at once")]
    TooMany,
}

/// The message of a YAML error, without the place that is printed before it.
pub(super) fn message(error: &serde_yaml::Error) -> String {
    let mut inner = error;
    while let serde_yaml::Error::WithSnippet { error, .. } = inner {
        inner = error;
    }
    let text = match inner {
        serde_yaml::Error::Message { msg, .. } | serde_yaml::Error::ExternalMessage { msg, .. } => msg.to_string(),
        other => serde_yaml::UserMessageFormatter.format_message(other).into_owned(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}

/// Reads events one after the other.
#[derive(Debug)]
pub struct Reader<R> {
    file: PathBuf,
    input: R,
    line: usize,
    header: Header,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// The end was seen.
    Whole,
    /// The input ended before.
    Cut,
    /// An error was returned.
    Failed,
}

impl Reader<BufReader<File>> {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// It cannot be opened, or its header is wrong.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let file = File::open(path).map_err(|e| place(path, 1, 1, Wrong::Io(e)))?;
        Reader::new(path, BufReader::new(file))
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads the header of a trace that errors call `file`.
    ///
    /// # Errors
    /// The header is wrong.
    pub fn new(file: &Path, mut input: R) -> Result<Self, TraceError> {
        let mut text = String::new();
        let mut line = 0;
        loop {
            let read = read_line(&mut input).map_err(|wrong| place(file, line + 1, 1, wrong))?;
            let Some(read) = read else {
                return Err(place(file, line + 1, 1, Wrong::NoEvents));
            };
            line += 1;
            if read.text.trim_end() == "events:" {
                break;
            }
            if text.len() + read.text.len() > HEADER_BYTES_MAX {
                return Err(place(file, line, 1, Wrong::LongHeader));
            }
            text.push_str(&read.text);
            text.push('\n');
        }
        let header = Header::parse(&text).map_err(|(line, column, wrong)| place(file, line, column, wrong))?;
        Ok(Self {
            file: file.to_owned(),
            input,
            line,
            header,
            state: State::Reading,
        })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The line that was read last, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Whether the input ended where a trace does not end. Known once all events are read.
    pub fn is_cut(&self) -> bool {
        self.state == State::Cut
    }

    fn next_event(&mut self) -> Result<Option<Event>, (usize, Wrong)> {
        loop {
            self.line += 1;
            let Some(line) = read_line(&mut self.input).map_err(|wrong| (1, wrong))? else {
                self.line -= 1;
                if self.state == State::Reading {
                    self.state = State::Cut;
                }
                return Ok(None);
            };
            let text = line.text.trim_end();
            if text.trim_start().is_empty() || text.trim_start().starts_with('#') {
                continue;
            }
            if self.state == State::Whole {
                return Err((1, Wrong::AfterEnd));
            }
            if text == END {
                self.state = State::Whole;
                continue;
            }
            return match item::parse(&self.header, text) {
                // the last line of a file that was cut in the middle of a write
                Err(_) if !line.whole => {
                    self.state = State::Cut;
                    Ok(None)
                }
                other => other.map(Some),
            };
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Event, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if matches!(self.state, State::Cut | State::Failed) {
            return None;
        }
        let next = self.next_event();
        next.map_err(|(column, wrong)| {
            self.state = State::Failed;
            place(&self.file, self.line.max(1), column, wrong)
        })
        .transpose()
    }
}

struct ReadLine {
    text: String,
    /// It ended with a line feed.
    whole: bool,
}

fn read_line(input: &mut impl BufRead) -> Result<Option<ReadLine>, Wrong> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    input.take(limit).read_until(b'\n', &mut bytes).map_err(Wrong::Io)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let whole = bytes.pop_if(|last| *last == b'\n').is_some();
    if !whole && bytes.len() > LINE_BYTES_MAX {
        return Err(Wrong::LongLine);
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(ReadLine { text, whole })),
        Err(error) if !whole => Ok(Some(ReadLine {
            text: String::from_utf8_lossy(error.as_bytes()).into_owned(),
            whole,
        })),
        Err(_) => Err(Wrong::Utf8),
    }
}

fn place(file: &Path, line: usize, column: usize, wrong: Wrong) -> TraceError {
    TraceError {
        file: file.to_owned(),
        line,
        column,
        wrong,
    }
}

/// A whole trace in memory.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Its header.
    pub header: Header,
    /// Its events.
    pub events: Vec<Event>,
    /// For each event, the line it stands on, from 1.
    pub lines: Vec<usize>,
    /// The file ends where a trace does not end.
    pub cut: bool,
}

impl Trace {
    /// Reads a file.
    ///
    /// # Errors
    /// The first thing that is wrong with it, or that it has more than [`EVENTS_READ_MAX`] events.
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        Self::from_reader(Reader::open(path)?)
    }

    /// Reads a text that errors call `file`.
    ///
    /// # Errors
    /// As [`Trace::read`].
    pub fn parse(file: &Path, text: &[u8]) -> Result<Self, TraceError> {
        Self::from_reader(Reader::new(file, text)?)
    }

    fn from_reader(mut reader: Reader<impl BufRead>) -> Result<Self, TraceError> {
        let (mut events, mut lines) = (Vec::new(), Vec::new());
        while let Some(event) = reader.next() {
            if events.len() >= EVENTS_READ_MAX {
                return Err(place(&reader.file, reader.line, 1, Wrong::TooMany));
            }
            events.push(event?);
            lines.push(reader.line);
        }
        let cut = reader.is_cut();
        Ok(Self {
            header: reader.header,
            events,
            lines,
            cut,
        })
    }

    /// The trace as text again.
    ///
    /// # Errors
    /// Never, for a trace in memory.
    pub fn print(&self) -> io::Result<Vec<u8>> {
        let mut writer = super::Writer::new(Vec::new(), self.header.clone())?;
        for event in &self.events {
            writer.event(event)?;
        }
        writer.finish()
    }

    /// Its events as a timeline.
    pub fn timeline(&self) -> Timeline {
        Timeline::of(self.events.clone(), self.header.names())
    }

    /// Its events as judges need them: without connections whose beginning is missing, and with an end for those that were
    /// still open when the recording ended, so that what was on its way then is owed by nobody.
    pub fn judged(&self) -> Judged {
        let mut begun = BTreeSet::new();
        let mut open = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let (mut events, mut lines) = (Vec::new(), Vec::new());
        for (event, line) in self.events.iter().zip(&self.lines) {
            match (event.link, &event.kind) {
                (Some(link), EventKind::Connected { .. }) => {
                    begun.insert(link);
                    open.insert(link);
                }
                (
                    Some(link),
                    EventKind::Closed {
                        channel: Channel::Main, ..
                    },
                ) => {
                    open.remove(&link);
                }
                // a front-end may speak before its back-end is there
                (Some(link), EventKind::Message { .. }) if seen.insert(link) => {
                    open.insert(link);
                }
                _ => {}
            }
            if self.header.skipped == 0 || event.link.is_none_or(|link| begun.contains(&link)) {
                events.push(event.clone());
                lines.push(*line);
            }
        }
        let left_out = self.events.len() - events.len();
        let at = events.last().map(|e| e.at).unwrap_or_default();
        for link in open {
            for channel in Channel::ALL {
                events.push(Event {
                    at,
                    peer: None,
                    link: Some(link),
                    kind: EventKind::Closed {
                        from: Party::FrontEnd,
                        channel,
                        partial: 0,
                    },
                });
                lines.push(self.lines.last().copied().unwrap_or_default());
            }
        }
        Judged {
            timeline: Timeline::of(events, self.header.names()),
            lines,
            left_out,
        }
    }
}

/// A trace made ready for judges.
#[derive(Debug)]
pub struct Judged {
    /// The events.
    pub timeline: Timeline,
    /// For each event, its line in the file.
    pub lines: Vec<usize>,
    /// Events of connections whose beginning is missing.
    pub left_out: usize,
}
