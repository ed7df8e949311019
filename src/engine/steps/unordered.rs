//! `unordered`: events are given to patterns so that as many as possible fit, whatever order they come in. An event that fits
//! two patterns may be taken for the one or the other until all have come.

use std::collections::VecDeque;

use crate::judge::matcher::{Matcher, Stream};
use crate::trace::{Seq, Timeline};

/// Patterns that all have to come, and the events taken for them so far.
#[derive(Debug)]
pub(in super::super) struct Unordered {
    matchers: Vec<(Matcher, Option<String>)>,
    taken: Vec<Option<Seq>>,
}

impl Unordered {
    pub(super) fn new(matchers: Vec<(Matcher, Option<String>)>) -> Self {
        let taken = vec![None; matchers.len()];
        Self { matchers, taken }
    }

    /// Those for which nothing has come.
    pub(in super::super) fn missing(&self) -> Vec<(Matcher, Option<String>)> {
        let open = self
            .matchers
            .iter()
            .zip(&self.taken)
            .filter(|(_, taken)| taken.is_none());
        open.map(|(matcher, _)| matcher.clone()).collect()
    }

    /// The streams of those for which nothing has come.
    pub(super) fn streams(&self) -> Vec<Stream> {
        let open = self
            .matchers
            .iter()
            .zip(&self.taken)
            .filter(|(_, taken)| taken.is_none());
        open.map(|((matcher, _), _)| matcher.stream).collect()
    }

    /// All events, each with the name that its pattern binds.
    pub(super) fn bound(&self) -> impl Iterator<Item = (Seq, Option<&str>)> {
        let pairs = self.matchers.iter().zip(&self.taken);
        pairs.filter_map(|((_, bind), taken)| Some(((*taken)?, bind.as_deref())))
    }

    /// Gives an event to a pattern, others being given again if need be. False if it is one too many.
    ///
    /// This looks for the shortest chain of patterns of which each gives its event to the next, and the last has none.
    pub(super) fn take(&mut self, timeline: &Timeline, seq: Seq) -> bool {
        let mut from: Vec<Option<Option<usize>>> = vec![None; self.matchers.len()];
        let mut open = VecDeque::from([(seq, None)]);
        while let Some((event, giver)) = open.pop_front() {
            let Some(content) = timeline.get(event) else { continue };
            for (at, (matcher, _)) in self.matchers.iter().enumerate() {
                if from[at].is_some() || !matcher.stream.has(content) || matcher.check(content).is_err() {
                    continue;
                }
                from[at] = Some(giver);
                match self.taken[at] {
                    Some(other) => open.push_back((other, Some(at))),
                    None => {
                        self.pass_on(at, &from, seq);
                        return true;
                    }
                }
            }
        }
        false
    }

    fn pass_on(&mut self, last: usize, from: &[Option<Option<usize>>], seq: Seq) {
        let mut at = last;
        while let Some(giver) = from[at].flatten() {
            self.taken[at] = self.taken[giver];
            at = giver;
        }
        self.taken[at] = Some(seq);
    }
}
