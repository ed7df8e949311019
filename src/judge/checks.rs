//! Checks over the whole timeline: order, counts, what must never happen.

use super::matcher::Matcher;
use crate::trace::{Seq, Timeline};

/// Events that a matcher describes, in their order.
pub fn find<'a>(timeline: &'a Timeline, matcher: &'a Matcher) -> impl Iterator<Item = Seq> + 'a {
    timeline
        .since(Seq(0))
        .filter(|(_, event)| matcher.stream.has(event) && matcher.check(event).is_ok())
        .map(|(seq, _)| seq)
}

/// What a check over a chain of matchers finds: the index of the culprit, and what is wrong.
pub type Verdict = Result<(), (usize, String)>;

/// Each is there, and the first of each comes after the first of the one before. The error names the culprit by index.
pub fn order(timeline: &Timeline, chain: &[Matcher]) -> Verdict {
    let mut last: Option<Seq> = None;
    for (i, matcher) in chain.iter().enumerate() {
        let Some(first) = find(timeline, matcher).next() else {
            return Err((i, format!("{matcher} is not on the timeline")));
        };
        if last.is_some_and(|last| first <= last) {
            return Err((i, format!("{matcher} came before {}", chain[i - 1])));
        }
        last = Some(first);
    }
    Ok(())
}

/// Whenever the last happens, all others have happened before; and it does happen.
pub fn happens_before(timeline: &Timeline, chain: &[Matcher]) -> Verdict {
    let Some((effect, causes)) = chain.split_last() else {
        return Ok(());
    };
    let Some(first) = find(timeline, effect).next() else {
        return Err((chain.len() - 1, format!("{effect} is not on the timeline")));
    };
    for (i, cause) in causes.iter().enumerate() {
        if find(timeline, cause).next().is_none_or(|seq| seq >= first) {
            return Err((i, format!("{effect} happened without {cause} before it")));
        }
    }
    Ok(())
}
