//! What of a failing schedule it takes to fail: what came before what is left out bit by bit (Zeller, Hildebrandt:
//! Simplifying and isolating failure-inducing input, TSE 2002) as long as the same failure shows. At the end stand the
//! two events whose order matters: with them the other way round, and nothing else changed, nothing fails.

use super::runs::{Ran, Subject};
use super::schedule::{Order, Token, Wanted};
use crate::sys::signal;

/// Runs that shrinking may take.
const RUNS_MAX: usize = 600;
/// Runs that confirm what is left.
const CONFIRMATIONS: usize = 10;

/// A failing schedule that needs everything that is left of it.
#[derive(Debug)]
pub(super) struct Shrunk {
    /// What has to come before what.
    pub(super) orders: Vec<Order>,
    /// How many such orders the schedule had that was found.
    pub(super) orders_before: usize,
    /// The run.
    pub(super) ran: Ran,
    /// What says it shortly.
    pub(super) token: Token,
    /// How many of how many runs failed in the same way.
    pub(super) confirmed: (usize, usize),
    /// Runs that it took.
    pub(super) runs: usize,
    /// It was ended before nothing could be left out.
    pub(super) incomplete: bool,
    /// The other run, in which the two events come the other way round, and nothing fails.
    pub(super) neighbour: Option<Neighbour>,
}

/// A run that does not fail although it nearly is the one that does.
#[derive(Debug)]
pub(super) struct Neighbour {
    pub(super) ran: Ran,
    /// Up to where the two are the same but for these two events; the failing one's first place of them.
    pub(super) at: usize,
    /// Nothing but these two differs before the point where both have happened.
    pub(super) exact: bool,
}

impl Shrunk {
    /// The order that matters, if it is one.
    pub(super) fn order(&self) -> Option<&Order> {
        self.orders.last()
    }
}

/// Shrinks a failing run.
pub(super) fn shrink(subject: Subject, failing: &Ran) -> Shrunk {
    let all = failing.trail.orders();
    let orders_before = all.len();
    let mut runs = 0;
    let mut best: Option<(Vec<Order>, Ran)> = None;
    let sign = failing.sign().cloned();
    let mut test = |orders: &[Order]| {
        runs += 1;
        let ran = subject.run(Wanted::Ordered(orders.to_vec()));
        let fails = ran.sign() == sign.as_ref();
        if fails {
            best = Some((orders.to_vec(), ran));
        }
        fails
    };
    let (orders, incomplete) = fewest(all, &mut test);
    let ran = match best {
        Some((_, ran)) => ran,
        // not even the whole of it fails again: what was found is shown as it was
        None => subject.run(Wanted::Replay(failing.trail.token())),
    };
    let token = ran.trail.token();
    let fails = |_: &usize| subject.run(Wanted::Replay(token.clone())).sign() == sign.as_ref();
    let confirmed = (0..CONFIRMATIONS)
        .filter(|_| !signal::interrupted())
        .filter(fails)
        .count();
    let mut shrunk = Shrunk {
        orders,
        orders_before,
        ran,
        token,
        confirmed: (confirmed, CONFIRMATIONS),
        runs: runs + CONFIRMATIONS,
        incomplete,
        neighbour: None,
    };
    shrunk.neighbour = neighbour(subject, &shrunk);
    shrunk
}

/// The fewest of `all` for which `test` holds, so far as leaving out one after the other shows. True as well if it was
/// ended before.
fn fewest(all: Vec<Order>, test: &mut dyn FnMut(&[Order]) -> bool) -> (Vec<Order>, bool) {
    let mut runs = 0;
    let mut try_them = |orders: &[Order]| {
        runs += 1;
        (runs <= RUNS_MAX && !signal::interrupted()).then(|| test(orders))
    };
    let mut left = all;
    if try_them(&left) != Some(true) {
        return (left, true);
    }
    let mut parts = 2;
    while !left.is_empty() {
        let size = left.len().div_ceil(parts);
        let mut reduced = None;
        for from in (0..left.len()).step_by(size.max(1)) {
            let to = (from + size).min(left.len());
            let without: Vec<Order> = left[..from].iter().chain(&left[to..]).cloned().collect();
            let alone = left[from..to].to_vec();
            match try_them(&without) {
                None => return (left, true),
                Some(true) => {
                    reduced = Some((without, parts.saturating_sub(1).max(2)));
                    break;
                }
                Some(false) if parts > 2 || left.len() == 1 => {}
                Some(false) => match try_them(&alone) {
                    None => return (left, true),
                    Some(true) if alone.len() < left.len() => {
                        reduced = Some((alone, 2));
                        break;
                    }
                    Some(_) => {}
                },
            }
        }
        match reduced {
            Some((fewer, into)) => {
                left = fewer;
                parts = into;
            }
            None if size <= 1 => break,
            None => parts = (parts * 2).min(left.len()),
        }
    }
    (left, false)
}

/// The failing run again with the two events the other way round: the one that waited goes directly before the other.
fn neighbour(subject: Subject, shrunk: &Shrunk) -> Option<Neighbour> {
    let order = shrunk.order()?;
    let names: Vec<&str> = shrunk.ran.trail.events().map(|event| event.name.as_str()).collect();
    let at = names.iter().position(|name| *name == order.first)?;
    let mut orders: Vec<Order> = shrunk.orders[..shrunk.orders.len() - 1].to_vec();
    if let Some(before) = at.checked_sub(1) {
        orders.push(Order {
            first: names[before].to_owned(),
            then: order.then.clone(),
        });
    }
    let ran = subject.run(Wanted::Ordered(orders));
    if ran.sign().is_some() {
        return None;
    }
    let other: Vec<&str> = ran.trail.events().map(|event| event.name.as_str()).collect();
    let later = names.iter().position(|name| *name == order.then)?;
    let exact = later == at + 1
        && other.get(..at) == names.get(..at)
        && other.get(at).copied() == Some(order.then.as_str())
        && other.get(at + 1).copied() == Some(order.first.as_str());
    Some(Neighbour { ran, at, exact })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(count: usize) -> Vec<Order> {
        let one = |n: usize| Order {
            first: format!("a{n}"),
            then: format!("b{n}"),
        };
        (0..count).map(one).collect()
    }

    /// Broken: a schedule is told to need what it does not need, or loses what it does.
    #[test]
    fn only_what_is_needed_is_left() {
        for needed in [vec![], vec![0], vec![99], vec![3, 77], vec![10, 11, 12, 60]] {
            let all = orders(100);
            let mut runs = 0;
            let mut test = |left: &[Order]| {
                runs += 1;
                needed.iter().all(|n| left.contains(&all[*n]))
            };
            let (left, incomplete) = fewest(all.clone(), &mut test);
            let wanted: Vec<Order> = needed.iter().map(|n| all[*n].clone()).collect();
            assert_eq!((left, incomplete), (wanted, false));
            assert!(runs < 150, "{runs} runs for {needed:?}");
        }
    }
}
