//! All events of one run, in their order.

use std::io;

use super::Meddling;
use super::event::{Event, EventKind, LinkId, PeerId, Seq};
use super::file::{Counts, Recorder};
use crate::sys::clock::{Clock, Moment};

/// Events kept of one run. A scenario is short; a peer that floods the link is cut off here.
const EVENTS_MAX: usize = 200_000;

/// Bytes of payload kept of one run. The messages of the specification have at most 4 KiB, and most have 8 bytes.
const PAYLOAD_BYTES_MAX: u64 = 64 << 20;

/// Events that are at hand while a run is recorded.
const RECORDED_KEPT: usize = 1_000; // more than a recorder notes before it writes
/// Bytes of payload that one message can have.
const MESSAGE_BYTES_MAX: u64 = 64 << 10;

/// The timeline of one run.
#[derive(Debug)]
pub struct Timeline {
    clock: Clock,
    /// The oldest may be gone, if it is recorded.
    events: Vec<Event>,
    /// The number of the first event that is kept.
    first: usize,
    names: Vec<String>,
    recorder: Option<Recorder>,
    payload_bytes: u64,
    /// Virtual time, if that is what events are stamped with.
    logical: Option<Moment>,
}

impl Timeline {
    /// An empty timeline of peers with these names.
    pub fn new(clock: Clock, names: Vec<String>) -> Self {
        Self {
            clock,
            events: Vec::new(),
            first: 0,
            names,
            recorder: None,
            payload_bytes: 0,
            logical: None,
        }
    }

    /// The timeline of something that happened before.
    pub fn of(events: Vec<Event>, names: Vec<String>) -> Self {
        Self {
            events,
            ..Self::new(Clock::start(), names)
        }
    }

    /// Adds an event that happens now. `None` if it is full.
    pub fn push(&mut self, peer: Option<PeerId>, link: Option<LinkId>, kind: EventKind) -> Option<Seq> {
        if self.is_full().is_some() {
            return None;
        }
        if let EventKind::Message { size, .. } = &kind {
            // a script may announce what it does not send
            self.payload_bytes += u64::from(*size).min(MESSAGE_BYTES_MAX);
        }
        let event = Event {
            at: self.now(),
            peer,
            link,
            kind,
        };
        if self.recorder.is_some() && self.events.len() >= 2 * RECORDED_KEPT {
            self.events.drain(..RECORDED_KEPT);
            self.first += RECORDED_KEPT;
        }
        self.events.push(event);
        if let (Some(recorder), Some(event)) = (&mut self.recorder, self.events.last())
            && recorder.event(event)
        {
            recorder.flush(&self.events);
        }
        Some(Seq(self.first + self.events.len() - 1))
    }

    /// From now on every event goes to `recorder`, there may be any number of them, and only the last are kept here.
    pub fn record_to(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    /// Whether it goes to a recorder.
    pub fn is_recorded(&self) -> bool {
        self.recorder.is_some()
    }

    /// Writes what the recorder has noted, unless that was only now. Gives when it is to be asked again.
    pub fn flush_recording(&mut self) -> Option<Moment> {
        let due = self.recorder.as_ref()?.due()?;
        self.flush_recording_by(self.clock.now())?;
        Some(due)
    }

    /// The same as of the last event, which costs no look at the clock. True if something was written.
    pub fn flush_recording_of_late(&mut self) -> bool {
        self.flush_recording_by(self.last_moment()).is_none()
    }

    /// Writes what is due by then; nothing if nothing is left for later.
    fn flush_recording_by(&mut self, now: Moment) -> Option<Moment> {
        let recorder = self.recorder.as_mut()?;
        let due = recorder.due()?;
        if due > now {
            return Some(due);
        }
        recorder.flush(&self.events);
        None
    }

    /// Writes what a recorder of the last events holds.
    pub fn save_recording(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.save(&self.events);
        }
    }

    /// Ends the recording, if there is one.
    pub fn finish_recording(&mut self) -> Option<io::Result<Counts>> {
        let recorder = self.recorder.take()?;
        Some(recorder.finish(&self.events))
    }

    /// What there is more of than is kept; nothing is added any more. Of what is recorded there may be any amount.
    pub fn is_full(&self) -> Option<String> {
        if self.recorder.is_some() {
            return None;
        }
        if self.events.len() >= EVENTS_MAX {
            return Some(format!("{EVENTS_MAX} events"));
        }
        let full = self.payload_bytes >= PAYLOAD_BYTES_MAX;
        full.then(|| format!("{} MiB of payload", PAYLOAD_BYTES_MAX >> 20))
    }

    /// The clock of the run.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Now.
    pub fn now(&self) -> Moment {
        self.logical.unwrap_or_else(|| self.clock.now())
    }

    /// From now on events happen at this moment of virtual time, until it is set again.
    pub fn set_now(&mut self, now: Moment) {
        self.logical = Some(now);
    }

    /// When the last event was.
    pub fn last_moment(&self) -> Moment {
        self.events.last().map_or(Moment::default(), |event| event.at)
    }

    /// All events; of a recording, the last ones.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// One event.
    pub fn get(&self, seq: Seq) -> Option<&Event> {
        self.events.get(seq.0.checked_sub(self.first)?)
    }

    /// The next event's number.
    pub fn end(&self) -> Seq {
        Seq(self.first + self.events.len())
    }

    /// Events from `from` on, with their numbers.
    pub fn since(&self, from: Seq) -> impl Iterator<Item = (Seq, &Event)> {
        let first = self.first;
        let skipped = from.0.saturating_sub(first);
        self.events
            .iter()
            .enumerate()
            .skip(skipped)
            .map(move |(i, e)| (Seq(first + i), e))
    }

    /// The name of a peer.
    pub fn name(&self, peer: PeerId) -> &str {
        self.names.get(peer.0).map_or("?", String::as_str)
    }

    /// One line about an event: time, who, what.
    pub fn line(&self, seq: Seq) -> String {
        let Some(event) = self.get(seq) else {
            return String::new();
        };
        let who = event.peer.map_or("", |p| self.name(p));
        let width = self.names.iter().map(String::len).max().unwrap_or(0);
        format!("{:>9.3} ms  {who:width$}  {}", event.at.ms(), self.what(event))
    }

    /// An event in the words of the expectations: what, from whom.
    pub fn describe(&self, seq: Seq) -> String {
        let Some(event) = self.get(seq) else {
            return String::new();
        };
        let from = event.peer.map_or(String::new(), |p| format!(" from {}", self.name(p)));
        format!("{}{from}", self.what(event))
    }

    /// What happened, and to which message if it is about an earlier one.
    fn what(&self, event: &Event) -> String {
        let (EventKind::Held { message: of, .. }
        | EventKind::Released { message: of }
        | EventKind::Meddled { of: Some(of), .. }) = &event.kind
        else {
            return event.kind.to_string();
        };
        if let EventKind::Meddled {
            how: Meddling::Altered { .. },
            ..
        } = &event.kind
        {
            // it names the message itself
            return event.kind.to_string();
        }
        let name = self
            .get(*of)
            .map_or_else(String::new, |event| match event.kind.message() {
                Some(m) if m.is_reply() => format!(": reply to {}", m.name()),
                Some(m) => format!(": {}", m.name()),
                None => format!(": {}", event.kind),
            });
        format!("{}{name}", event.kind)
    }

    /// The same with the time.
    pub fn describe_when(&self, seq: Seq) -> String {
        let ms = self.get(seq).map_or(0.0, |event| event.at.ms());
        format!("{} ({ms:.3} ms)", self.describe(seq))
    }

    /// A line about each event.
    pub fn lines(&self) -> Vec<String> {
        (self.first..self.first + self.events.len())
            .map(|i| self.line(Seq(i)))
            .collect()
    }

    /// Lines about the last `count` events, oldest first; steps are left out.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        let shown = |event: &Event| !matches!(event.kind, EventKind::Step { .. });
        let mut seqs: Vec<usize> = (0..self.events.len())
            .rev()
            .filter(|i| shown(&self.events[*i]))
            .take(count)
            .collect();
        seqs.reverse();
        seqs.into_iter().map(|i| self.line(Seq(self.first + i))).collect()
    }
}
