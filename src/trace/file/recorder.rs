//! Where a recording goes: a file or the standard output, event by event, or a ring whose content is written when asked for.

use std::fs::File;
use std::io::{self, BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};

use super::{Header, Ring, Writer};
use crate::sys::clock::Moment;
use crate::trace::{Event, EventKind};

/// Bytes of lines that are written at once; a buffer is written as whole lines.
const BUFFER_BYTES: usize = 64 * 1024;

/// Events that are taken in before they are written: whoever waits for a message goes first.
const PENDING_MAX: usize = 256;

/// How long they wait at most, in milliseconds. That much of a conversation a `kill -9` may cost.
const PENDING_MS: u64 = 1;

/// Where to, and how much.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// The file; otherwise the standard output.
    pub path: Option<PathBuf>,
    /// Only this many events, the last ones, and only when the recording ends or is asked for.
    pub last: Option<usize>,
}

/// Counts events, and writes them some at a time: they are the timeline's until then.
#[derive(Debug)]
pub struct Recorder {
    target: Target,
    /// Events that have not been written, the timeline's last ones.
    pending: usize,
    /// When the first of them was.
    since: Moment,
    counts: Counts,
    failure: Option<io::Error>,
}

/// How much was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Messages among them.
    pub messages: u64,
    /// Connections.
    pub connections: u64,
}

#[derive(Debug)]
enum Target {
    Stream(Option<Writer<Out>>),
    Ring(Ring, Option<PathBuf>),
}

#[derive(Debug)]
enum Out {
    File(BufWriter<File>),
    Stdout(Stdout),
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Out::File(file) => file.write(bytes),
            Out::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Out::File(file) => file.flush(),
            Out::Stdout(stdout) => stdout.flush(),
        }
    }
}

impl Out {
    fn new(path: Option<&Path>) -> io::Result<Self> {
        match path {
            Some(path) => File::create(path).map(|file| Out::File(BufWriter::with_capacity(BUFFER_BYTES, file))),
            None => Ok(Out::Stdout(io::stdout())),
        }
    }
}

impl Recorder {
    /// Opens the output and, unless it is a ring, writes the header.
    ///
    /// # Errors
    /// What the output says.
    pub fn new(output: &Output, header: Header) -> io::Result<Self> {
        let target = match output.last {
            None => Target::Stream(Some(Writer::new(Out::new(output.path.as_deref())?, header)?)),
            Some(count) => {
                if let Some(path) = &output.path {
                    // found out now rather than after hours
                    File::create(beside(path)).and_then(|_| std::fs::remove_file(beside(path)))?;
                }
                Target::Ring(Ring::new(header, count), output.path.clone())
            }
        };
        Ok(Self {
            target,
            pending: 0,
            since: Moment::default(),
            counts: Counts::default(),
            failure: None,
        })
    }

    /// Takes note of an event. True if it is time to write.
    pub(crate) fn event(&mut self, event: &Event) -> bool {
        self.counts.events += 1;
        self.counts.messages += u64::from(event.kind.message().is_some());
        self.counts.connections += u64::from(matches!(event.kind, EventKind::Connected { .. }));
        if self.pending == 0 {
            self.since = event.at;
        }
        self.pending += 1;
        self.pending >= PENDING_MAX
    }

    /// Until when what was noted may wait; nothing if nothing was.
    pub(crate) fn due(&self) -> Option<Moment> {
        (self.pending > 0).then(|| self.since.plus_ms(PENDING_MS))
    }

    /// Writes what was noted, the last of `events`. An error is kept, and ends the writing, not what is recorded.
    pub(crate) fn flush(&mut self, events: &[Event]) {
        for event in &events[events.len().saturating_sub(self.pending)..] {
            match &event.kind {
                EventKind::Started { program, pid } => {
                    // where it is installed is nobody's business
                    let name = Path::new(program).file_name().unwrap_or_default();
                    let program = name.to_string_lossy().into_owned();
                    let kind = EventKind::Started { program, pid: *pid };
                    self.write(&Event { kind, ..event.clone() });
                }
                _ => self.write(event),
            }
        }
        self.pending = 0;
        if let Target::Stream(writer) = &mut self.target
            && let Some(Err(error)) = writer.as_mut().map(Writer::flush)
        {
            self.failure = Some(error);
            *writer = None;
        }
    }

    fn write(&mut self, event: &Event) {
        match &mut self.target {
            Target::Ring(ring, _) => ring.event(event),
            Target::Stream(writer) => {
                if let Some(Err(error)) = writer.as_mut().map(|out| out.event(event)) {
                    self.failure = Some(error);
                    *writer = None;
                }
            }
        }
    }

    /// Writes what was noted, and what a ring holds; a stream is written then.
    pub(crate) fn save(&mut self, events: &[Event]) {
        self.flush(events);
        if let Target::Ring(ring, path) = &self.target
            && let Err(error) = save(ring, path.as_deref())
        {
            self.failure = Some(error);
        }
    }

    /// Writes the rest, and says how much there was.
    ///
    /// # Errors
    /// The first error of writing.
    pub(crate) fn finish(mut self, events: &[Event]) -> io::Result<Counts> {
        self.save(events);
        if let Some(error) = self.failure {
            return Err(error);
        }
        if let Target::Stream(Some(writer)) = self.target {
            writer.finish()?;
        }
        Ok(self.counts)
    }
}

/// Replaces the file at once, so that a reader never sees half of it.
fn save(ring: &Ring, path: Option<&Path>) -> io::Result<()> {
    let Some(path) = path else {
        return ring.write(io::stdout().lock()).map(drop);
    };
    let beside = beside(path);
    let file = ring.write(io::BufWriter::new(File::create(&beside)?))?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?;
    std::fs::rename(&beside, path)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}
