//! What the script does to things that cross a link: which of its holds and other controls something is for, and what
//! becomes of it. Moves nothing itself.

use std::os::fd::{AsFd, OwnedFd};

use super::failure::{Result, Stop};
use super::run::Run;
use super::steps::make_fd;
use crate::judge::matcher::Matcher;
use crate::link::{Kept, Parcel};
use crate::peer::sim::answer::{HeaderPatch, with_fields, with_value};
use crate::scenario::Diagnostic;
use crate::scenario::model::FdKind;
use crate::scenario::span::{At, Span};
use crate::sys::fd::fd_type;
use crate::trace::{EventKind, LinkId, Meddling, Seq};
use crate::wire::{Party, Payload, Value};

/// A hold that is in force.
#[derive(Debug)]
pub(super) struct HoldState {
    pub(super) name: String,
    pub(super) matcher: Matcher,
    /// What comes after it passes it.
    pub(super) alone: bool,
}

/// One thing that the script wants done on a link.
#[derive(Debug)]
pub(super) struct Control {
    /// The step's name.
    pub(super) step: &'static str,
    pub(super) span: Span,
    pub(super) matcher: Matcher,
    pub(super) act: Act,
    /// How often it is still to be done.
    pub(super) left: u64,
    /// How often it has been done.
    pub(super) done: u64,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Act {
    Drop,
    Duplicate,
    /// It waits until something else has arrived.
    Reorder {
        behind: Box<Matcher>,
        arrived: Option<Seq>,
    },
    /// It waits for another message, to arrive in one piece with it.
    Join {
        with: Box<Matcher>,
    },
    Split(Cuts),
    Alter(Box<Change>),
}

/// Where a message is cut.
#[derive(Debug, Clone)]
pub(super) enum Cuts {
    At(Vec<usize>),
    PiecesOf(usize),
}

impl Cuts {
    fn of(&self, bytes: usize) -> Vec<usize> {
        match self {
            Cuts::At(offsets) => offsets.clone(),
            Cuts::PiecesOf(size) => (*size..bytes).step_by((*size).max(1)).collect(),
        }
    }
}

/// How a message becomes another one.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) value: Option<Value>,
    pub(super) fields: Vec<(String, Value)>,
    pub(super) need_reply: Option<bool>,
    pub(super) header: HeaderPatch,
    pub(super) payload: Option<Vec<u8>>,
    pub(super) fds: Option<Vec<At<FdKind>>>,
}

/// What becomes of something now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is passed on.
    Goes,
    /// It never arrives.
    Dropped,
    /// It waits.
    Waits {
        /// What comes after it does not.
        lets_pass: bool,
    },
}

impl Run<'_> {
    /// What becomes of something that is on its way from a party: asked again and again until it goes.
    pub(super) fn fate(&mut self, link: LinkId, from: Party, seq: Option<Seq>, kept: &mut Option<Kept>) -> Fate {
        // the timeline is full, and the run will end for that
        let Some(seq) = seq else { return Fate::Goes };
        let peer = Some(self.links[link.0].peer(from));
        match kept {
            None => {
                let hold = self.holds.iter().find(|h| self.is_for(&h.matcher, seq));
                if let Some((name, lets_pass)) = hold.map(|h| (h.name.clone(), h.alone)) {
                    *kept = Some(Kept::By(name.clone()));
                    let held = EventKind::Held {
                        message: seq,
                        hold: name,
                    };
                    self.record(peer, Some(link), held);
                    if lets_pass {
                        self.disturb(link, seq);
                    }
                    return Fate::Waits { lets_pass };
                }
            }
            Some(Kept::By(name)) => {
                if let Some(hold) = self.holds.iter().find(|h| h.name == *name) {
                    return Fate::Waits { lets_pass: hold.alone };
                }
                *kept = Some(Kept::Free);
                self.record(peer, Some(link), EventKind::Released { message: seq });
            }
            Some(Kept::Behind(control)) => {
                let act = self.controls.get(*control).map(|c| &c.act);
                let Some(Act::Reorder {
                    arrived: Some(other), ..
                }) = act
                else {
                    return Fate::Waits { lets_pass: true };
                };
                let other = *other;
                *kept = Some(Kept::Free);
                self.meddled(link, from, seq, Meddling::Behind { other });
            }
            Some(Kept::Free) => {}
        }
        if self.use_up(seq, |act| matches!(act, Act::Drop)).is_some() {
            self.meddled(link, from, seq, Meddling::Dropped);
            self.disturb(link, seq);
            return Fate::Dropped;
        }
        if let Some(control) = self.use_up(seq, |act| matches!(act, Act::Reorder { .. })) {
            *kept = Some(Kept::Behind(control));
            self.disturb(link, seq);
            return Fate::Waits { lets_pass: true };
        }
        Fate::Goes
    }

    /// Whether something is to arrive in one piece with a later message: with which, if it is.
    pub(super) fn joined_with(&self, seq: Seq) -> Option<&Matcher> {
        self.controls.iter().find_map(|control| match &control.act {
            Act::Join { with } if control.left > 0 && self.is_for(&control.matcher, seq) => Some(with.as_ref()),
            _ => None,
        })
    }

    /// Counts a control of a kind as done for an event, if there is one that is for it.
    pub(super) fn use_up(&mut self, seq: Seq, wanted: impl Fn(&Act) -> bool) -> Option<usize> {
        let is_it = |c: &Control| c.left > 0 && wanted(&c.act) && self.is_for(&c.matcher, seq);
        let found = self.controls.iter().position(is_it)?;
        self.controls[found].left -= 1;
        self.controls[found].done += 1;
        Some(found)
    }

    /// Whether an event is what a matcher describes.
    pub(super) fn is_for(&self, matcher: &Matcher, seq: Seq) -> bool {
        let event = self.timeline.get(seq);
        event.is_some_and(|e| matcher.stream.has(e) && matcher.check(e).is_ok())
    }

    /// Something has been passed on: whatever was to come behind it may go now.
    pub(super) fn arrived(&mut self, seq: Option<Seq>) {
        let Some(seq) = seq else { return };
        for at in 0..self.controls.len() {
            let Control { act, done, .. } = &self.controls[at];
            if let Act::Reorder { behind, arrived: None } = act
                && *done > 0
                && self.is_for(behind, seq)
                && let Act::Reorder { arrived, .. } = &mut self.controls[at].act
            {
                *arrived = Some(seq);
            }
        }
    }

    /// Does to a message what is to be done as it goes. Gives how many copies of it arrive.
    pub(super) fn work_on(&mut self, link: LinkId, from: Party, seq: Option<Seq>, parcel: &mut Parcel) -> usize {
        let mut copies = 1;
        let Some(seq) = seq else { return copies };
        for at in 0..self.controls.len() {
            let control = &self.controls[at];
            let is_for_parcels = matches!(control.act, Act::Alter(_) | Act::Split(_) | Act::Duplicate);
            if !is_for_parcels || control.left == 0 || !self.is_for(&control.matcher, seq) {
                continue;
            }
            let control = &mut self.controls[at];
            control.left -= 1;
            control.done += 1;
            let how = match &control.act {
                Act::Duplicate => {
                    copies += 1;
                    Meddling::Repeated
                }
                Act::Split(cuts) => {
                    let bytes = parcel.chunk.bytes.len();
                    parcel.split = cuts.of(bytes);
                    let pieces = parcel.split.iter().filter(|c| **c < bytes).count() + 1;
                    Meddling::Split { pieces }
                }
                Act::Alter(change) => match change.apply(parcel) {
                    Ok(()) => Meddling::Altered {
                        message: Box::new(parcel.message.clone()),
                        fds: parcel.chunk.fds.iter().map(|fd| fd_type(fd.as_fd())).collect(),
                    },
                    Err(why) => {
                        let diagnostic = Diagnostic::error("the message cannot be altered like this")
                            .at(control.span)
                            .label(why);
                        self.stop.get_or_insert(Stop::wrong(diagnostic));
                        return copies;
                    }
                },
                _ => continue,
            };
            let arrives_changed = !matches!(how, Meddling::Split { .. });
            self.meddled(link, from, seq, how);
            if arrives_changed {
                self.disturb(link, seq);
            }
        }
        copies
    }

    /// The monitor cannot tell any more what the peers know, if what does not arrive as it was sent is something that it
    /// judges them by: a signal is not.
    fn disturb(&mut self, link: LinkId, seq: Seq) {
        let kind = self.timeline.get(seq).map(|event| &event.kind);
        if let Some(EventKind::Message { .. } | EventKind::Closed { .. }) = kind {
            self.disturbed(link);
        }
    }

    pub(super) fn meddled(&mut self, link: LinkId, from: Party, seq: Seq, how: Meddling) {
        let peer = self.links[link.0].peer(from);
        let kind = EventKind::Meddled { of: Some(seq), how };
        self.record(Some(peer), Some(link), kind);
    }

    /// Fails a script whose controls had nothing to do: what it was to force did not happen.
    pub(super) fn check_controls(&self) -> Result<()> {
        for control in &self.controls {
            let wrong = |what: String| Err(Stop::wrong(Diagnostic::error(what).at(control.span)));
            if let (Act::Join { with }, 0) = (&control.act, control.done) {
                return wrong(format!(
                    "`join` is not done: {with} did not come after {}",
                    control.matcher
                ));
            }
            if control.done == 0 {
                return wrong(format!(
                    "`{}` had nothing to do: no {} came",
                    control.step, control.matcher
                ));
            }
            if let Act::Reorder { behind, arrived: None } = &control.act {
                return wrong(format!(
                    "`{}` is not done: {behind} never arrived, and what was to come behind it did not either",
                    control.step
                ));
            }
        }
        Ok(())
    }
}

impl Change {
    fn apply(&self, parcel: &mut Parcel) -> std::result::Result<(), String> {
        let message = &mut parcel.message;
        if let Some(value) = &self.value {
            message.payload = with_value(message.payload.clone(), value).map_err(|e| e.to_string())?;
        }
        if !self.fields.is_empty() {
            message.payload = with_fields(&message.payload, &self.fields).map_err(|e| e.to_string())?;
        }
        if let Some(need_reply) = self.need_reply {
            *message = message.clone().need_reply(need_reply);
        }
        let mut payload = match (&self.value, self.fields.is_empty()) {
            // what is not altered stays as it came, whether it could be read or not
            (None, true) => parcel
                .chunk
                .bytes
                .get(message.dialect.header_len()..)
                .unwrap_or_default()
                .to_vec(),
            _ => message.payload.encode(),
        };
        if let Some(other) = &self.payload {
            payload.clone_from(other);
            message.payload = Payload::Raw(other.clone());
        }
        message.request = self.header.request.unwrap_or(message.request);
        message.flags = self.header.flags.unwrap_or(message.flags);
        parcel.chunk.bytes = self.header.encode(message, &payload);
        if let Some(kinds) = &self.fds {
            let made: std::result::Result<Vec<OwnedFd>, _> =
                kinds.iter().map(|kind| make_fd(kind.value, kind.span)).collect();
            parcel.chunk.fds = made.map_err(|stop| stop.diagnostic.message.clone())?;
            parcel.chunk.places.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(message: &str) -> Parcel {
        let message: crate::wire::Message = message.parse().unwrap();
        Parcel {
            chunk: crate::link::Chunk::new(
                message.encode(message.dialect),
                vec![crate::sys::fd::eventfd().unwrap()],
            ),
            message,
            split: Vec::new(),
        }
    }

    /// Broken: what an `alter` does not name becomes different, or what it names does not.
    #[test]
    fn only_what_is_named_is_altered() {
        let mut one = parcel("SET_STATUS value=0x3");
        // a payload that no layout has, and that must stay as it is
        one.chunk.bytes.extend_from_slice(&[0xab, 0xcd]);
        let before = one.chunk.bytes.clone();
        let flag = Change {
            need_reply: Some(true),
            ..Change::default()
        };
        flag.apply(&mut one).unwrap();
        assert!(one.message.needs_reply());
        assert_eq!(one.chunk.bytes[12..], before[12..]);
        assert_eq!(one.chunk.fds.len(), 1);

        let value = Change {
            value: Some(Value::U64(7)),
            fds: Some(Vec::new()),
            ..Change::default()
        };
        let mut two = parcel("SET_STATUS value=0x3");
        value.apply(&mut two).unwrap();
        assert_eq!(two.chunk.bytes, parcel("SET_STATUS value=0x7").chunk.bytes);
        assert!(two.chunk.fds.is_empty());

        let bytes = Change {
            payload: Some(vec![1, 2]),
            header: HeaderPatch {
                size: Some(9),
                ..HeaderPatch::default()
            },
            ..Change::default()
        };
        let mut three = parcel("SET_STATUS value=0x3");
        bytes.apply(&mut three).unwrap();
        assert_eq!((three.chunk.bytes[8], &three.chunk.bytes[12..]), (9, &[1, 2][..]));

        let nonsense = Change {
            fields: vec![("colour".to_owned(), Value::U64(1))],
            ..Change::default()
        };
        assert!(nonsense.apply(&mut parcel("SET_STATUS value=0x3")).is_err());
    }

    /// Broken: a message is cut at other places than asked for.
    #[test]
    fn pieces_of_a_size() {
        assert_eq!(Cuts::PiecesOf(1).of(4), [1, 2, 3]);
        assert_eq!(Cuts::PiecesOf(3).of(6), [3]);
        assert_eq!(Cuts::PiecesOf(9).of(4), [0; 0]);
        assert_eq!(Cuts::PiecesOf(0).of(2).len(), 2);
        assert_eq!(Cuts::At(vec![5]).of(2), [5]);
    }
}
