//! The same machine under a virtual clock: how often requests cross, and what rules of back-off do once they have. Nothing
//! waits and nothing is random but what the seed says: the same seed gives the same timeline.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::chance::Chance;
use crate::peer::sim::retry::play::side_name;
use crate::peer::sim::retry::{Kind, Outcome, Phase, Program, Regime, Resends, State, Step, Strategy, System};

/// How long an end waits before it sends again, and before it reads again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Always the same time.
    Fixed,
    /// Twice as long each time.
    Exponential,
    /// By chance out of a range that is twice as wide each time, as on an Ethernet.
    RandomExponential,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fixed, Self::Exponential, Self::RandomExponential];

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Exponential => "exponential",
            Self::RandomExponential => "random exponential",
        }
    }

    /// The time before the n-th re-send, n from 0, around a base.
    fn wait_ns(self, base_ns: u64, n: u32, chance: &mut Chance) -> u64 {
        match self {
            Self::Fixed => base_ns,
            Self::Exponential => base_ns << n.min(10),
            Self::RandomExponential => base_ns + chance.below(base_ns << n.min(10)),
        }
    }
}

/// Times of a run, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// A message is on its way for so long.
    pub latency_ns: u64,
    /// And by chance up to so much longer.
    pub jitter_ns: u64,
    /// The first time-out.
    pub timeout_ns: u64,
    /// The first sleep before the next read, or pause before the request is sent again, where the policy has one.
    pub sleep_ns: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            latency_ns: 20_000,
            jitter_ns: 5_000,
            timeout_ns: 1_000_000,
            sleep_ns: 200_000,
        }
    }
}

/// What became of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// A request came to somebody who waited.
    pub collided: bool,
    /// Every operation came to a good end.
    pub resolved: bool,
    /// Re-sends of the side that needed more of them.
    pub resends: u32,
    /// When the last thing happened.
    pub ended_ns: u64,
}

/// Steps of one run, at most: re-sends are bounded, so there is an end before.
const STEPS_MAX: usize = 1_000;

/// One run of a system whose ends start at these times; every step is written to `timeline` if there is one.
pub fn run(
    system: &System,
    rule: Rule,
    times: Times,
    starts_ns: [u64; 2],
    chance: &mut Chance,
    mut timeline: Option<&mut String>,
) -> Run {
    // the clock decides when a timer fires
    let system = System {
        regime: Regime::Async,
        ..*system
    };
    let mut state = State::default();
    let mut now = 0;
    let mut arrives: [VecDeque<u64>; 2] = Default::default();
    let mut timer = [u64::MAX; 2];
    let mut wakes = [0; 2];
    let mut sent_again = [0u32; 2];
    let mut slept = [0u32; 2];
    let mut result = Run {
        collided: false,
        resolved: false,
        resends: 0,
        ended_ns: 0,
    };
    for _ in 0..STEPS_MAX {
        let due = |step: Step| match step.kind {
            Kind::Start if state.pc(step.side) == 0 => starts_ns[step.side].max(now),
            Kind::Receive => arrives[step.side].front().copied().unwrap_or(u64::MAX).max(now),
            Kind::Timer => timer[step.side].max(now),
            Kind::Wake => wakes[step.side].max(now),
            Kind::Again => wakes[step.side].max(now),
            _ => now,
        };
        let steps = system.steps(&state);
        let Some(step) = steps.iter().min_by_key(|step| (due(*step), step.code())) else {
            break;
        };
        now = due(step);
        if now == u64::MAX {
            break;
        }
        let side = step.side;
        let waiting = state.phase(side) == Phase::Waiting;
        let pc = state.pc(side);
        let (next, effect) = system.apply(&state, step);
        if step.kind == Kind::Receive {
            arrives[side].pop_front();
            let request = effect
                .read
                .is_some_and(|t| t.kind() == crate::peer::sim::retry::TokenKind::Request);
            result.collided |= waiting && request;
        }
        if effect.sent.is_some() {
            let jitter = chance.below(times.jitter_ns + 1);
            let last = arrives[1 - side].back().copied().unwrap_or(0);
            arrives[1 - side].push_back((now + times.latency_ns + jitter).max(last));
        }
        if next.pc(side) != pc {
            (sent_again[side], slept[side]) = (0, 0);
        }
        if next.phase(side) == Phase::Waiting && matches!(step.kind, Kind::Start | Kind::Timer | Kind::Again) {
            if step.kind != Kind::Start {
                sent_again[side] += 1;
                result.resends = result.resends.max(sent_again[side]);
            }
            timer[side] = now + rule.wait_ns(times.timeout_ns, sent_again[side], chance);
        }
        // a pause in which it serves is as long as a sleep in which it does not
        let rests = |state: &State| matches!(state.phase(side), Phase::Sleeping | Phase::Paused);
        if rests(&next) && !rests(&state) {
            wakes[side] = now + rule.wait_ns(times.sleep_ns, slept[side], chance);
            slept[side] += 1;
        }
        if let Some(timeline) = timeline.as_deref_mut() {
            let (ms, ns) = (now / 1_000_000, now % 1_000_000);
            let _ = writeln!(
                timeline,
                "{ms:>4}.{ns:06} ms  {:<9} {:<8} {:?}",
                side_name(side),
                step.kind.word(),
                effect.done
            );
        }
        state = next;
    }
    result.ended_ns = now;
    result.resolved = system.is_finished(&state)
        && (0..2).all(|side| (0..system.script[side].len()).all(|op| state.outcome(side, op) == Outcome::Fine));
    result
}

/// What collisions come to under a rule: how many of so many resolve with at most 0, 1, 2, … re-sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shares {
    /// Runs.
    pub runs: u32,
    /// Resolved with at most as many re-sends as the place says.
    pub resolved: Vec<u32>,
    /// The median time to the end of those that resolved, in microseconds; 0 if none did.
    pub median_us: u64,
}

/// Runs so many collisions: both ends start within the time that a message is on its way.
pub fn collisions(strategy: &Strategy, program: &Program, rule: Rule, runs: u32, seed: u64) -> Shares {
    let times = Times::default();
    let most = Resends::MAX;
    let system = System::new(strategy, program, Regime::Async, Resends::AtMost(most));
    let mut chance = Chance::new(seed);
    let mut resolved = vec![0; usize::from(most) + 1];
    let mut ended = Vec::new();
    let mut done = 0;
    while done < runs {
        let start = chance.below(times.latency_ns);
        let starts = if chance.below(2) == 0 { [0, start] } else { [start, 0] };
        let run = run(&system, rule, times, starts, &mut chance, None);
        done += 1;
        if run.resolved {
            resolved
                .iter_mut()
                .skip(run.resends as usize)
                .for_each(|count| *count += 1);
            ended.push(run.ended_ns / 1000);
        }
    }
    ended.sort_unstable();
    Shares {
        runs,
        resolved,
        median_us: ended.get(ended.len() / 2).copied().unwrap_or(0),
    }
}

/// Of so many runs in which both ends start at any time of a window, how many collide.
pub fn collided(strategy: &Strategy, program: &Program, window_ns: u64, runs: u32, seed: u64) -> u32 {
    let system = System::new(strategy, program, Regime::Async, Resends::DEFAULT);
    let mut chance = Chance::new(seed);
    let mut count = 0;
    for _ in 0..runs {
        let starts = [chance.below(window_ns), chance.below(window_ns)];
        let run = run(&system, Rule::Fixed, Times::default(), starts, &mut chance, None);
        count += u32::from(run.collided);
    }
    count
}
