//! Schedules: what was chosen in a run, the token that says it shortly, and the schedulers that make, replay and bend it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::engine::steer::{Choice, Kind, Scheduler};

/// Choices of one token, at most.
const TOKEN_CHOICES_MAX: usize = 10_000;

/// One choice of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    /// What could have happened.
    pub(super) choices: Vec<Choice>,
    /// What did.
    pub(super) chosen: usize,
}

impl Point {
    /// What happened.
    pub(super) fn event(&self) -> &Choice {
        &self.choices[self.chosen]
    }
}

/// All choices of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Trail {
    pub(super) points: Vec<Point>,
}

impl Trail {
    /// What happened, in its order.
    pub(super) fn events(&self) -> impl Iterator<Item = &Choice> {
        self.points.iter().map(Point::event)
    }

    /// Tells orders of events apart.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.events().for_each(|event| event.name.hash(&mut hasher));
        hasher.finish()
    }

    /// The choices that somebody has made otherwise than nobody would have.
    pub(super) fn token(&self) -> Token {
        let mut free = self.points.iter().filter(|point| point.choices.len() > 1).enumerate();
        let departs = |(at, point): (usize, &Point)| (point.chosen > 0).then_some((at, point.chosen));
        Token(free.by_ref().filter_map(departs).collect())
    }

    /// Where something could have been chosen.
    pub(super) fn free(&self) -> usize {
        self.points.iter().filter(|point| point.choices.len() > 1).count()
    }

    /// What every choice of this run has put before what.
    pub(super) fn orders(&self) -> Vec<Order> {
        let mut orders = Vec::new();
        for point in &self.points {
            let first = &point.event().name;
            for passed in &point.choices[..point.chosen] {
                let order = Order {
                    first: first.clone(),
                    then: passed.name.clone(),
                };
                if !orders.contains(&order) {
                    orders.push(order);
                }
            }
        }
        orders
    }
}

/// Which choices were made otherwise than by default: at which free choice of the run, which of the possible.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token(pub(super) Vec<(usize, usize)>);

impl fmt::Display for Token {
    /// `0` for the default, `12b-15c` for the second possibility at choice 12 and the third at 15.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("0");
        }
        for (nr, (at, chosen)) in self.0.iter().enumerate() {
            let dash = if nr > 0 { "-" } else { "" };
            match u8::try_from(*chosen) {
                Ok(chosen @ 0..=25) => write!(f, "{dash}{at}{}", char::from(b'a' + chosen))?,
                _ => write!(f, "{dash}{at}z{}", chosen)?,
            }
        }
        Ok(())
    }
}

impl Token {
    /// Reads one.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(Self::default());
        }
        let mut choices: Vec<(usize, usize)> = Vec::new();
        for part in text.split('-') {
            let wrong = || format!("is not one: `{part}` is no choice such as `12b`");
            let letter = part.find(|c: char| c.is_ascii_lowercase()).ok_or_else(wrong)?;
            let at = part[..letter].parse().map_err(|_| wrong())?;
            let (name, rest) = part[letter..].split_at(1);
            let chosen = match (name.as_bytes().first(), rest) {
                (Some(letter), "") => usize::from(letter - b'a'),
                (Some(b'z'), number) => number.parse().map_err(|_| wrong())?,
                _ => return Err(wrong()),
            };
            if choices.last().is_some_and(|(last, _)| *last >= at) {
                return Err(format!("is not one: choice {at} does not come after the one before"));
            }
            if choices.len() >= TOKEN_CHOICES_MAX {
                return Err(format!("has more than {TOKEN_CHOICES_MAX} choices"));
            }
            choices.push((at, chosen));
        }
        Ok(Self(choices))
    }
}

/// Two events of which the first has to happen before the other may.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    pub(super) first: String,
    pub(super) then: String,
}

/// Chooses, and keeps what was chosen.
pub(super) struct Recorder<S> {
    pub(super) inner: S,
    pub(super) trail: Trail,
}

impl<S> Recorder<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            trail: Trail::default(),
        }
    }
}

impl<S: Scheduler> Scheduler for Recorder<S> {
    fn choose(&mut self, choices: &[Choice]) -> usize {
        let chosen = self.inner.choose(choices).min(choices.len() - 1);
        self.trail.points.push(Point {
            choices: choices.to_vec(),
            chosen,
        });
        chosen
    }
}

/// A sequence of numbers that looks like chance (Steele, Lea, Flood: SplitMix, OOPSLA 2014).
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    /// The sequence of one schedule of a search.
    pub(super) fn new(seed: u64, schedule: u64) -> Self {
        let mut chance = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ schedule.wrapping_mul(0xd1b5_4a32_d192_ed03));
        chance.next();
        chance
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }
}

/// Which schedule is wanted.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// By chance; a kill, if there may be one, at that choice.
    Random { chance: Chance, kill_at: usize },
    /// By priorities, which change at some choices.
    Pct {
        chance: Chance,
        changes: BTreeSet<usize>,
        kill_at: usize,
    },
    /// As a token says.
    Replay(Token),
    /// These things in this order, then by default.
    Named(Vec<String>),
    /// By default, except that some things come before others.
    Ordered(Vec<Order>),
}

/// Makes one schedule.
#[derive(Debug)]
pub(super) struct Maker {
    wanted: Wanted,
    /// Free choices so far.
    free: usize,
    /// Choices so far.
    made: usize,
    priorities: BTreeMap<String, u64>,
    lowest: u64,
    happened: BTreeSet<String>,
    /// Why it could not be followed, if it could not.
    pub(super) misfit: Option<String>,
}

impl Maker {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            free: 0,
            made: 0,
            priorities: BTreeMap::new(),
            lowest: u64::MAX / 2,
            happened: BTreeSet::new(),
            misfit: None,
        }
    }

    fn decide(&mut self, choices: &[Choice]) -> usize {
        let lives = choices.iter().filter(|choice| choice.kind != Kind::Kill).count();
        let (made, free) = (self.made, self.free);
        match &mut self.wanted {
            Wanted::Random { kill_at, .. } | Wanted::Pct { kill_at, .. }
                if made >= *kill_at && lives < choices.len() =>
            {
                lives
            }
            Wanted::Random { chance, .. } => chance.below(lives),
            Wanted::Pct { chance, changes, .. } => {
                for choice in choices {
                    if !self.priorities.contains_key(&choice.actor) {
                        // above all that were lowered
                        let priority = u64::MAX / 2 + chance.next() / 2;
                        self.priorities.insert(choice.actor.clone(), priority);
                    }
                }
                let priority = |at: &usize| self.priorities.get(&choices[*at].actor).copied();
                let mut best = (0..lives).max_by_key(priority).unwrap_or(0);
                if changes.remove(&made) {
                    self.lowest -= 1;
                    self.priorities.insert(choices[best].actor.clone(), self.lowest);
                    let priority = |at: &usize| self.priorities.get(&choices[*at].actor).copied();
                    best = (0..lives).max_by_key(priority).unwrap_or(0);
                }
                best
            }
            Wanted::Replay(token) => {
                if choices.len() < 2 {
                    return 0;
                }
                let Some((_, chosen)) = token.0.iter().find(|(at, _)| *at == free) else {
                    return 0;
                };
                if *chosen >= choices.len() {
                    let possible = choices.len();
                    self.misfit.get_or_insert(format!(
                        "does not fit: at choice {free} only {possible} things can happen"
                    ));
                    return 0;
                }
                *chosen
            }
            Wanted::Named(names) => {
                let named = |name: &String| choices.iter().position(|choice| choice.name == *name);
                names.get(made).and_then(named).unwrap_or(0)
            }
            Wanted::Ordered(orders) => {
                let waits = |choice: &Choice| {
                    orders
                        .iter()
                        .any(|order| order.then == choice.name && !self.happened.contains(&order.first))
                };
                let lively = choices.iter().take(lives.max(1));
                // if everything waits, what it waits for cannot come, and somebody has to go
                lively.clone().position(|choice| !waits(choice)).unwrap_or(0)
            }
        }
    }
}

impl Scheduler for Maker {
    fn choose(&mut self, choices: &[Choice]) -> usize {
        let chosen = self.decide(choices);
        self.made += 1;
        self.free += usize::from(choices.len() > 1);
        if let Some(choice) = choices.get(chosen) {
            self.happened.insert(choice.name.clone());
        }
        chosen
    }
}

impl Maker {
    /// Whether all choices of a token came up.
    pub(super) fn unused(&self) -> Option<String> {
        let Wanted::Replay(token) = &self.wanted else {
            return None;
        };
        let late = token.0.iter().find(|(at, _)| *at >= self.free)?;
        Some(format!(
            "does not fit: it has a choice {}, and the run had only {}",
            late.0, self.free
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::steer::Means;

    fn choice(name: &str) -> Choice {
        Choice {
            name: name.to_owned(),
            kind: Kind::Message,
            actor: name.to_owned(),
            between: (None, None),
            means: Means::Other,
        }
    }

    /// Broken: a token does not come back as it was printed, so a schedule cannot be handed on.
    #[test]
    fn tokens_print_and_parse() {
        for choices in [vec![], vec![(0, 1)], vec![(3, 1), (17, 25), (18, 300)]] {
            let token = Token(choices);
            assert_eq!(Token::parse(&token.to_string()), Ok(token));
        }
        for wrong in [
            "",
            "x",
            "3",
            "3b-3c",
            "5b-3c",
            "3B",
            "b",
            "3b-",
            "3b4",
            "99999999999999999999b",
        ] {
            assert!(Token::parse(wrong).is_err(), "{wrong}");
        }
    }

    /// Broken: what a run put before what does not lead to the same run again, so shrinking shrinks something else.
    #[test]
    fn the_orders_of_a_run_make_it_again() {
        // three queues of four each
        let run = |maker: &mut Recorder<Maker>| {
            let mut left = [4, 4, 4];
            while left.iter().any(|left| *left > 0) {
                let heads: Vec<(usize, Choice)> = (0..3)
                    .filter(|q| left[*q] > 0)
                    .map(|q| (q, choice(&format!("{q}.{}", left[q]))))
                    .collect();
                let listed: Vec<Choice> = heads.iter().map(|(_, choice)| choice.clone()).collect();
                left[heads[maker.choose(&listed)].0] -= 1;
            }
        };
        for schedule in 0..50 {
            let chance = Chance::new(7, schedule);
            let kill_at = usize::MAX;
            let mut first = Recorder::new(Maker::new(Wanted::Random { chance, kill_at }));
            run(&mut first);
            let mut second = Recorder::new(Maker::new(Wanted::Ordered(first.trail.orders())));
            run(&mut second);
            assert_eq!(first.trail, second.trail);
            let mut third = Recorder::new(Maker::new(Wanted::Replay(first.trail.token())));
            run(&mut third);
            assert_eq!(first.trail, third.trail);
            assert_eq!((third.inner.misfit, third.inner.free), (None, first.trail.free()));
        }
    }

    /// Broken: a token that belongs to another scenario is replayed as if it were this one's.
    #[test]
    fn a_token_that_does_not_fit_is_told() {
        let mut maker = Maker::new(Wanted::Replay(Token(vec![(0, 2), (9, 1)])));
        assert_eq!(maker.choose(&[choice("a"), choice("b")]), 0);
        assert!(maker.misfit.as_deref().is_some_and(|why| why.contains("only 2 things")));
        assert!(maker.unused().is_some_and(|why| why.contains("choice 9")));
    }
}
