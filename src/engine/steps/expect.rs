//! Expectations: reading streams in their order.

use super::super::failure::{Result, Stop};
use super::super::run::Run;
use super::unordered::Unordered;
use crate::judge::matcher::{Matcher, Mismatch, Stream};
use crate::judge::verdict::FailKind;
use crate::scenario::Diagnostic;
use crate::scenario::model::Pattern;
use crate::scenario::span::Span;
use crate::trace::{EventKind, LinkId, PeerId, Seq};

const OTHER: &str = "another message came than the one expected";

impl Run<'_> {
    /// The next event of the matchers' streams must be one of them; with `skip_others`, what is not is passed over.
    pub(super) fn poll_one_of(
        &mut self,
        at: usize,
        span: Span,
        matchers: &[(Matcher, Option<String>)],
        skip_others: bool,
    ) -> Result<bool> {
        loop {
            let streams: Vec<Stream> = matchers.iter().map(|(m, _)| m.stream).collect();
            let Some((seq, stream)) = self.next_in(at, &streams) else {
                self.skip_to_end(at, &streams);
                return self.check_gone(span, matchers).map(|()| false);
            };
            let Some(event) = self.timeline.get(seq) else {
                return Ok(false);
            };
            let mut why = None;
            let mut matched = None;
            for (matcher, bind) in matchers.iter().filter(|(m, _)| m.stream == stream) {
                match matcher.check(event) {
                    Ok(()) => {
                        matched = Some((bind.clone(), event.kind.message().cloned()));
                        break;
                    }
                    Err(reason) => why = Some(reason),
                }
            }
            if let Some((bind, message)) = matched {
                self.tracks[at].cursors.insert(stream, Seq(seq.0 + 1));
                self.tracks[at].optional.clear();
                self.bind(bind.as_deref(), message.as_ref());
                return Ok(true);
            }
            if skip_others || self.tolerated(at, seq) {
                self.tracks[at].cursors.insert(stream, Seq(seq.0 + 1));
                continue;
            }
            return Err(self.unexpected(span, matchers, seq, why));
        }
    }

    /// The next events must be all of the patterns, in any order.
    pub(super) fn poll_all(&mut self, at: usize, span: Span, unordered: &mut Unordered) -> Result<bool> {
        loop {
            let streams = unordered.streams();
            if streams.is_empty() {
                break;
            }
            let Some((seq, stream)) = self.next_in(at, &streams) else {
                self.skip_to_end(at, &streams);
                return self.check_gone(span, &unordered.missing()).map(|()| false);
            };
            if !unordered.take(&self.timeline, seq) && !self.tolerated(at, seq) {
                return Err(self.unexpected(span, &unordered.missing(), seq, None));
            }
            self.tracks[at].cursors.insert(stream, Seq(seq.0 + 1));
        }
        for (seq, name) in unordered.bound() {
            let message = self.timeline.get(seq).and_then(|event| event.kind.message().cloned());
            self.bind(name, message.as_ref());
        }
        self.tracks[at].optional.clear();
        Ok(true)
    }

    /// Fails if something has come that should not have come yet. What peers have done already is taken in first.
    pub(super) fn not_yet(&mut self, at: usize, pattern: &Pattern, span: Span) -> Result<()> {
        let matcher = self.matcher(pattern, span)?;
        self.read_all_streams();
        for link in 0..self.links.len() {
            self.take_signals(LinkId(link));
        }
        for peer in 0..self.peers.len() {
            self.collect_qemu(PeerId(peer));
            self.collect_child(PeerId(peer));
        }
        let start = self.tracks[at].cursor(matcher.stream);
        let mut later = self.timeline.since(start).map(|(seq, _)| seq);
        match later.find(|seq| self.is_for(&matcher, *seq)) {
            None => Ok(()),
            Some(seq) => {
                let diagnostic = Diagnostic::error(format!("{matcher} has come already"))
                    .at(matcher.span)
                    .label("too early")
                    .expected_actual(format!("no {matcher} yet"), self.timeline.describe_when(seq));
                Err(Stop::wrong(diagnostic))
            }
        }
    }

    /// The first unread event of any of the streams, and its stream.
    fn next_in(&self, at: usize, streams: &[Stream]) -> Option<(Seq, Stream)> {
        let track = &self.tracks[at];
        let start = streams.iter().map(|s| track.cursor(*s)).min()?;
        self.timeline.since(start).find_map(|(seq, event)| {
            if self.claimed.contains(&seq) {
                return None;
            }
            streams
                .iter()
                .find(|s| s.has(event) && track.cursor(**s) <= seq)
                .map(|s| (seq, *s))
        })
    }

    /// Nothing of these streams is unread: the next look starts here, so that a long run is not read again and again.
    fn skip_to_end(&mut self, at: usize, streams: &[Stream]) {
        let end = self.timeline.end();
        for stream in streams {
            self.tracks[at].cursors.insert(*stream, end);
        }
    }

    /// Whether an `optional` of the track covers an event; uses it up.
    fn tolerated(&mut self, at: usize, seq: Seq) -> bool {
        let Some(event) = self.timeline.get(seq) else {
            return false;
        };
        let optional = &mut self.tracks[at].optional;
        let found = optional
            .iter()
            .position(|(matcher, left)| *left > 0 && matcher.stream.has(event) && matcher.check(event).is_ok());
        if let Some(found) = found {
            optional[found].1 -= 1;
        }
        found.is_some()
    }

    fn unexpected(
        &self,
        span: Span,
        matchers: &[(Matcher, Option<String>)],
        seq: Seq,
        why: Option<Mismatch>,
    ) -> Box<Stop> {
        let expected: Vec<String> = matchers.iter().map(|(m, _)| m.to_string()).collect();
        let mut actual = self.timeline.describe(seq);
        let event = self.timeline.get(seq);
        if let Some(EventKind::Exited { exit, asked }) = event.map(|e| &e.kind) {
            let kind = if *asked {
                FailKind::Wrong
            } else {
                FailKind::of_end(*exit)
            };
            let diagnostic = Diagnostic::error("the process ended in another way")
                .at(span)
                .expected_actual(expected.join(" or "), actual);
            return Stop::fail(kind, diagnostic);
        }
        let (place, label, title) = match (event.map(|e| &e.kind), matchers, why) {
            (Some(EventKind::Malformed { .. }), ..) => {
                (span, "expected here".to_owned(), "bytes came that are no message")
            }
            (
                Some(EventKind::Message { message, .. }),
                [(matcher, _)],
                Some(Mismatch {
                    why,
                    condition: Some(at),
                }),
            ) => {
                // where bits were asked for by name, the names of those that came tell more than the number
                if let Some(names) = matcher.bits_by_name(message) {
                    actual.push_str(&format!(" ({names})"));
                }
                (at, why, "the message that came is not as expected")
            }
            (
                Some(EventKind::Device { .. }),
                [_],
                Some(Mismatch {
                    why,
                    condition: Some(at),
                }),
            ) => (at, why, "the device is not as expected"),
            (_, [(matcher, _)], _) => (matcher.span, "expected here".to_owned(), OTHER),
            _ => (span, "none of these came".to_owned(), OTHER),
        };
        let diagnostic = Diagnostic::error(title)
            .at(if place.line > 0 { place } else { span })
            .label(label)
            .expected_actual(expected.join(" or "), actual);
        Stop::wrong(diagnostic)
    }

    /// Everything up to now counts as read by a track.
    pub(super) fn read_up(&mut self, at: usize) {
        self.tracks[at].floor = self.timeline.end();
    }
}
