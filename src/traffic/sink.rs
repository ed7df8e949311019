//! The sink: every frame that arrives is verified, and what is missing, doubled, late or damaged is told with its number.

use std::fmt;

use super::frame::{self, Damage, FRAME_BYTES_MIN, HEADER_WORDS, Header, LEAST_WORDS};
use super::gaps::{Gaps, Place};
use super::latency::Latency;
use super::pcap::Recording;
use crate::sys::shared;
use std::sync::Arc;

/// Findings that are kept word for word; the rest is counted.
const FINDINGS_MAX: usize = 16;

/// What was wrong with something that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It came before so many that should have come first.
    Ahead {
        /// Its number.
        seq: u64,
        /// How many had not come.
        by: u64,
    },
    /// It came after others that were sent later.
    Late {
        /// Its number.
        seq: u64,
        /// How far behind the latest.
        by: u64,
    },
    /// It came a second time.
    Duplicate {
        /// Its number.
        seq: u64,
    },
    /// One of its bytes is not as it was sent.
    Content {
        /// Its number.
        seq: u64,
        /// The first wrong byte.
        at: usize,
    },
    /// It has another length than it was sent with.
    Length {
        /// Its number.
        seq: u64,
        /// Bytes it was sent with.
        sent: usize,
        /// Bytes that arrived.
        arrived: usize,
    },
    /// Its header is damaged, or was not copied.
    Header {
        /// Bytes that arrived.
        arrived: usize,
    },
    /// It belongs to a stream that does not end here.
    WrongStream {
        /// The stream it says.
        stream: u16,
        /// Its number.
        seq: u64,
    },
    /// It is no frame of ours at all.
    Foreign {
        /// Bytes that arrived.
        arrived: usize,
    },
}

/// One of the first things that were wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// How many frames had arrived before.
    pub arrival: u64,
    /// The stream, where it is known.
    pub stream: Option<u16>,
    /// What.
    pub what: What,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::Ahead { seq, by } => write!(f, "frame {seq} came while {by} before it had not"),
            What::Late { seq, by } => write!(f, "frame {seq} came {by} late"),
            What::Duplicate { seq } => write!(f, "frame {seq} came a second time"),
            What::Content { seq, at } => write!(f, "byte {at} of frame {seq} is not what was sent"),
            What::Length { seq, sent, arrived } => {
                write!(f, "frame {seq} was sent with {sent} bytes and arrived with {arrived}")
            }
            What::Header { arrived } => write!(f, "{arrived} bytes arrived whose header is damaged"),
            What::WrongStream { stream, seq } => {
                write!(f, "frame {seq} of stream {stream} arrived, which ends elsewhere")
            }
            What::Foreign { arrived } => write!(f, "{arrived} bytes arrived that nobody here has sent"),
        }?;
        write!(f, " (arrival {}", self.arrival)?;
        match self.stream {
            Some(stream) => write!(f, ", stream {stream})"),
            None => f.write_str(")"),
        }
    }
}

/// What a sink has counted.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Frames that arrived, whatever their state.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames with a content that is as it was sent, byte for byte; of the others headers only, because somebody asked for it.
    pub contents: u64,
    /// Frames that were sent and did not arrive; known at the end.
    pub lost: u64,
    /// Frames that a disabled ring threw away.
    pub discarded: u64,
    /// Frames that came again.
    pub duplicate: u64,
    /// Frames that came again and were allowed to.
    pub again: u64,
    /// Frames that came after later ones.
    pub late: u64,
    /// How far behind, at most.
    pub late_by_most: u64,
    /// Frames with a wrong byte or header.
    pub damaged: u64,
    /// Frames that were cut or extended.
    pub wrong_length: u64,
    /// Frames of a stream that ends elsewhere.
    pub wrong_stream: u64,
    /// Bytes that are no frames of ours; a guest's own network does this, so it is no fault by itself.
    pub foreign: u64,
    /// The first findings.
    pub findings: Vec<Finding>,
}

impl Tally {
    /// Whether every frame came once, in order and unchanged.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.faults() == 0
    }

    /// How much was wrong.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.lost + self.duplicate + self.late + self.damaged + self.wrong_length + self.wrong_stream
    }

    /// The counts that are not zero, in words.
    #[must_use]
    pub fn faults_in_words(&self) -> String {
        let counts = [
            (self.lost, "lost"),
            (self.duplicate, "duplicate"),
            (self.late, "late"),
            (self.damaged, "damaged"),
            (self.wrong_length, "of wrong length"),
            (self.wrong_stream, "of another stream"),
        ];
        let words: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if words.is_empty() {
            "none".to_owned()
        } else {
            words.join(", ")
        }
    }
}

/// Verifies the frames of some streams.
#[derive(Debug, Clone)]
pub struct Sink {
    streams: Vec<(u16, Gaps)>,
    tally: Tally,
    latency: Latency,
    /// Repetitions that are allowed: what a back-end had and had not returned when it died, it may see again.
    again_allowed: u64,
    /// Streams before this one are of the past.
    first: u16,
    may_lose: bool,
    /// The only stream carries the frames of a file, which are told by their bytes.
    recording: Option<Arc<Recording>>,
    alarm: Option<Finding>,
}

impl Sink {
    /// A sink in which these streams end.
    #[must_use]
    pub fn new(streams: &[u16]) -> Self {
        Self {
            streams: streams.iter().map(|stream| (*stream, Gaps::default())).collect(),
            tally: Tally::default(),
            latency: Latency::default(),
            again_allowed: 0,
            first: 0,
            may_lose: false,
            recording: None,
            alarm: None,
        }
    }

    /// So many frames may come again from now on, besides those that might before: a back-end that died with them in hand
    /// cannot know what became of them.
    pub fn allow_again(&mut self, frames: u64) {
        self.again_allowed = self.again_allowed.saturating_add(frames);
    }

    /// Frames may be missing: that is counted, and no alarm.
    pub fn allow_loss(&mut self) {
        self.may_lose = true;
    }

    /// Frames of streams with lower numbers are none of its business: they were sent before.
    #[must_use]
    pub fn after(mut self, stream: u16) -> Self {
        self.first = stream;
        self
    }

    /// Takes note of a frame that is thrown away, as a disabled ring does: it is verified, and does not count as arrived.
    #[cold]
    pub fn discard(&mut self, bytes: &[u8]) {
        self.take(bytes, 0);
        self.tally.frames -= 1;
        self.tally.discarded += 1;
    }

    /// The number after the highest that came on a stream.
    #[must_use]
    pub fn next_of(&self, stream: u16) -> u64 {
        self.gaps(stream).map_or(0, Gaps::next)
    }

    /// How many numbers of a stream came, of those below the highest.
    #[must_use]
    pub fn seen_of(&self, stream: u16) -> u64 {
        self.gaps(stream).map_or(0, |gaps| gaps.next() - gaps.missing(0))
    }

    fn gaps(&self, stream: u16) -> Option<&Gaps> {
        self.streams
            .iter()
            .find(|(own, _)| *own == stream)
            .map(|(_, gaps)| gaps)
    }

    /// The first thing that was wrong.
    #[inline]
    #[must_use]
    pub fn alarm(&self) -> Option<Finding> {
        self.alarm
    }

    /// Expects the frames of a file on its only stream, again and again in their order.
    #[must_use]
    pub fn recorded(mut self, recording: Arc<Recording>) -> Self {
        self.recording = Some(recording);
        self
    }

    /// Takes in what arrived. `now` is the time on the source's clock, or 0 if latency is of no interest.
    #[inline]
    pub fn take(&mut self, bytes: &[u8], now: u64) {
        if self.recording.is_some() {
            return self.take_recorded(bytes);
        }
        match frame::check(bytes) {
            Ok(header) => self.whole(&header, bytes.len(), now),
            Err(damage) => {
                self.tally.frames += 1;
                self.tally.bytes += bytes.len() as u64;
                self.damaged(damage, bytes.len());
            }
        }
    }

    /// Takes in what arrived in shared memory, from byte `at` of `place` on. The shortest frames are compared where they are,
    /// each word read once; others, and what is wrong, in `scratch`, which has room for the longest.
    #[inline(always)]
    pub fn take_place(&mut self, place: shared::Place<'_>, at: usize, now: u64, scratch: &mut [u8]) {
        if place.len() == at + FRAME_BYTES_MIN
            && self.recording.is_none()
            && let Some(words) = place.words(at)
        {
            return match frame::check_least(&words) {
                Some(header) => self.whole(&header, FRAME_BYTES_MIN, now),
                None => self.other_least(&words, now, scratch),
            };
        }
        self.take_other(place.after(at), now, scratch);
    }

    #[inline(never)]
    fn take_other(&mut self, place: shared::Place<'_>, now: u64, scratch: &mut [u8]) {
        let length = place.len();
        if self.recording.is_none()
            && length >= FRAME_BYTES_MIN
            && let Some(words) = place.words(0)
            && self.has_no_content(&words, length, now)
        {
            return;
        }
        let length = place.copy_out(0, scratch);
        self.take(&scratch[..length], now);
    }

    /// One of the shortest length which is not a whole frame with content.
    #[inline(never)]
    fn other_least(&mut self, words: &[u64; LEAST_WORDS], now: u64, scratch: &mut [u8]) {
        let (head, _) = words.split_at(HEADER_WORDS);
        if let Ok(head) = head.try_into()
            && self.has_no_content(head, FRAME_BYTES_MIN, now)
        {
            return;
        }
        // told from what was read, which may not stand there any more
        for (bytes, word) in scratch.chunks_exact_mut(size_of::<u64>()).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        self.take(&scratch[..FRAME_BYTES_MIN], now);
    }

    /// Takes in a frame that the first words tell all of: one without content, or somebody else's.
    #[inline]
    fn has_no_content(&mut self, words: &[u64; HEADER_WORDS], length: usize, now: u64) -> bool {
        if let Some(header) = frame::check_bare(words, length) {
            self.whole(&header, length, now);
            return true;
        }
        let foreign = frame::is_foreign(words);
        if foreign {
            self.tally.frames += 1;
            self.tally.bytes += length as u64;
            self.foreign(length);
        }
        foreign
    }

    /// A frame of somebody else, of whom there may be many.
    #[inline(always)]
    fn foreign(&mut self, arrived: usize) {
        self.tally.foreign += 1;
        if self.tally.findings.len() < FINDINGS_MAX {
            self.note(None, What::Foreign { arrived });
        }
    }

    /// A frame that is as it was sent.
    #[inline(always)]
    fn whole(&mut self, header: &Header, length: usize, now: u64) {
        self.tally.frames += 1;
        self.tally.bytes += length as u64;
        self.tally.contents += u64::from(!header.bare);
        // nearly always it is the next one of the only stream
        let is_next = match self.streams.first_mut() {
            Some((stream, gaps)) => *stream == header.stream && gaps.take_next(header.seq),
            None => false,
        };
        if !is_next {
            self.arrived(header.stream, header.seq);
        }
        if header.stamp != 0 && now >= header.stamp {
            self.latency.record(now - header.stamp);
        }
    }

    /// A frame of a file: all of its bytes are compared with those of the one that is due.
    fn take_recorded(&mut self, bytes: &[u8]) {
        let (Some(recording), Some((stream, gaps))) = (&self.recording, self.streams.first_mut()) else {
            return;
        };
        self.tally.frames += 1;
        self.tally.bytes += bytes.len() as u64;
        self.tally.contents += 1;
        let due = gaps.next();
        let seq = match recording.frame(due) == bytes {
            true => Some(due),
            false => recording.number_of(bytes, due),
        };
        let Some(seq) = seq else {
            self.tally.damaged += 1;
            let arrived = bytes.len();
            return self.note(None, What::Header { arrived });
        };
        let (stream, place) = (*stream, gaps.take(seq));
        if place != Place::Next {
            self.out_of_order(stream, seq, Some(place));
        }
    }

    #[cold]
    fn out_of_order(&mut self, stream: u16, seq: u64, place: Option<Place>) {
        let what = match place {
            None if stream < self.first => {
                self.tally.frames -= 1;
                return;
            }
            None => {
                self.tally.wrong_stream += 1;
                What::WrongStream { stream, seq }
            }
            Some(Place::Next) => return,
            Some(Place::Ahead(by)) => What::Ahead { seq, by },
            Some(Place::Late(by)) => {
                self.tally.late += 1;
                self.tally.late_by_most = self.tally.late_by_most.max(by);
                What::Late { seq, by }
            }
            Some(Place::Again) if self.again_allowed > 0 => {
                self.again_allowed -= 1;
                self.tally.again += 1;
                return;
            }
            Some(Place::Again) => {
                self.tally.duplicate += 1;
                What::Duplicate { seq }
            }
            // as if it had not come: it will be counted as lost
            Some(Place::Untold) => What::Ahead { seq, by: u64::MAX },
        };
        self.note(Some(stream), what);
    }

    #[cold]
    fn damaged(&mut self, damage: Damage, arrived: usize) {
        let (stream, what) = match damage {
            Damage::Foreign => return self.foreign(arrived),
            Damage::Header => {
                self.tally.damaged += 1;
                (None, What::Header { arrived })
            }
            Damage::Short => {
                self.tally.wrong_length += 1;
                (None, What::Header { arrived })
            }
            Damage::Length { header, made } => {
                self.tally.wrong_length += 1;
                self.arrived(header.stream, header.seq);
                let (seq, sent) = (header.seq, made);
                (Some(header.stream), What::Length { seq, sent, arrived })
            }
            Damage::Content { header, at } => {
                self.tally.damaged += 1;
                self.arrived(header.stream, header.seq);
                let seq = header.seq;
                (Some(header.stream), What::Content { seq, at })
            }
        };
        self.note(stream, what);
    }

    /// Takes note of the number of a frame: also a damaged one whose number is known is not lost.
    #[inline(never)]
    fn arrived(&mut self, stream: u16, seq: u64) {
        let found = self.streams.iter_mut().find(|(s, _)| *s == stream);
        match found.map(|(_, gaps)| gaps.take(seq)) {
            Some(Place::Next) => {}
            place => self.out_of_order(stream, seq, place),
        }
    }

    #[cold]
    fn note(&mut self, stream: Option<u16>, what: What) {
        let arrival = self.tally.frames - 1;
        let finding = Finding { arrival, stream, what };
        if self.tally.findings.len() < FINDINGS_MAX {
            self.tally.findings.push(finding);
        }
        let forgiven = match what {
            What::Foreign { .. } => true,
            What::Ahead { .. } => self.may_lose,
            _ => false,
        };
        if !forgiven {
            self.alarm.get_or_insert(finding);
        }
    }

    /// Frames that arrived so far.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.tally.frames + self.tally.discarded
    }

    /// What was counted, with what is missing of so many frames sent on each stream.
    #[must_use]
    pub fn tally(&self, sent: &[(u16, u64)]) -> Tally {
        let of = |stream: u16| sent.iter().find(|(s, _)| *s == stream).map_or(0, |(_, sent)| *sent);
        let lost = self
            .streams
            .iter()
            .map(|(stream, gaps)| gaps.missing(of(*stream)))
            .sum();
        Tally {
            lost,
            ..self.tally.clone()
        }
    }

    /// The first frame that is missing, stream and number.
    #[must_use]
    pub fn first_missing(&self, sent: &[(u16, u64)]) -> Option<(u16, u64)> {
        let of = |stream: u16| sent.iter().find(|(s, _)| *s == stream).map_or(0, |(_, sent)| *sent);
        self.streams
            .iter()
            .find_map(|(stream, gaps)| Some((*stream, gaps.first_missing(of(*stream))?)))
    }

    /// The numbers of a stream that are missing of so many sent, first to last, in rising order.
    pub fn missing_of(&self, (stream, sent): (u16, u64)) -> impl Iterator<Item = (u64, u64)> {
        self.gaps(stream).into_iter().flat_map(move |gaps| gaps.ranges(sent))
    }

    /// How long the frames took that carried a stamp.
    #[must_use]
    pub fn latency(&self) -> &Latency {
        &self.latency
    }
}
