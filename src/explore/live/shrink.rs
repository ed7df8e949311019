//! What of a failing schedule it takes to fail: what came before what is left out bit by bit (Zeller, Hildebrandt:
//! Simplifying and isolating failure-inducing input, TSE 2002) as long as the same failure shows. At the end stand the
//! two events whose order matters: with them the other way round, and nothing else changed, nothing fails.

use super::runs::{Class, Ran, Subject};
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
    /// Nothing else differs before both have happened.
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
    let mut ran = match best {
        Some((_, ran)) => ran,
        // not even the whole of it fails again: what was found is shown as it was
        None => subject.run(Wanted::Replay(failing.trail.token())),
    };
    let mut orders = orders;
    let mut neighbour = None;
    if let Some((order, tight, other)) = tighten(subject, &orders, &ran, &mut runs) {
        orders.pop();
        orders.push(order);
        (ran, neighbour) = (tight, Some(other));
    }
    let token = ran.trail.token();
    let mut confirmed = (0, 0);
    for _ in 0..CONFIRMATIONS {
        if signal::interrupted() {
            break;
        }
        let again = subject.run(Wanted::Replay(token.clone()));
        // a run that the clock ended says nothing either way
        if !matches!(again.class, Class::Inconclusive(_)) {
            confirmed.0 += usize::from(again.sign() == sign.as_ref());
            confirmed.1 += 1;
        }
    }
    Shrunk {
        orders,
        ran,
        token,
        confirmed,
        runs: runs + CONFIRMATIONS,
        incomplete,
        neighbour,
    }
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

/// The earliest moment at which the event that waits may happen for the run to fail: what came directly before it is the
/// other event that matters. Gives that order, and the run in which it is turned round.
fn tighten(subject: Subject, orders: &[Order], failing: &Ran, runs: &mut usize) -> Option<(Order, Ran, Neighbour)> {
    let (last, others) = orders.split_last()?;
    let points = &failing.trail.points;
    let ready = points
        .iter()
        .position(|p| p.choices.iter().any(|choice| choice.name == last.then))?;
    let place = |name: &str| points.iter().position(|point| point.event().name == name);
    let (first, then) = (place(&last.first)?, place(&last.then)?);
    if then <= first || ready > first {
        return None;
    }
    let after = |place: Option<usize>| {
        let mut orders = others.to_vec();
        orders.extend(place.map(|place| Order {
            first: points[place].event().name.clone(),
            then: last.then.clone(),
        }));
        orders
    };
    let run = |orders: Vec<Order>, runs: &mut usize| {
        *runs += 1;
        subject.run(Wanted::Ordered(orders))
    };
    // directly before the first of them, then after one more each time
    let mut before = run(after(ready.checked_sub(1)), runs);
    for at in ready..=first {
        if before.sign().is_some() {
            return None;
        }
        let ran = run(after(Some(at)), runs);
        if ran.sign() == failing.sign() {
            let order = after(Some(at)).pop()?;
            // the same with the two next to each other, one way and the other, if it can be had
            let names = ran.trail.events().map(|event| event.name.clone());
            let same: Vec<String> = names.take_while(|name| *name != order.first).collect();
            let named = |one: &str, other: &str| {
                let names = same.iter().cloned().chain([one.to_owned(), other.to_owned()]);
                subject.run(Wanted::Named(names.collect()))
            };
            let (near, swapped) = (named(&order.first, &order.then), named(&order.then, &order.first));
            *runs += 2;
            let exact = near.sign() == failing.sign() && swapped.sign().is_none() && is_swap(&near, &swapped, &order);
            let (ran, other) = if exact { (near, swapped) } else { (ran, before) };
            let neighbour = Neighbour { ran: other, exact };
            return Some((order, ran, neighbour));
        }
        before = ran;
    }
    None
}

/// Whether two runs are the same up to the point where one does the two events in one order, and the other in the other.
fn is_swap(failing: &Ran, passing: &Ran, order: &Order) -> bool {
    let names = |ran: &Ran| -> Vec<String> { ran.trail.events().map(|event| event.name.clone()).collect() };
    let (fails, passes) = (names(failing), names(passing));
    let Some(at) = fails.iter().position(|name| *name == order.first) else {
        return false;
    };
    fails.get(..at) == passes.get(..at)
        && fails.get(at + 1) == Some(&order.then)
        && passes.get(at) == Some(&order.then)
        && passes.get(at + 1) == Some(&order.first)
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
