//! Steered runs of every scenario whose peers are simulated: without interference they come to what `vuh run` says, and
//! whatever is chosen, the same choices make the same timeline, byte for byte.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use vhost_user_harness::engine::steer::{Choice, Limits, Scheduler, steer, unsteerable};
use vhost_user_harness::engine::{self, Environment, cast, obstacle};
use vhost_user_harness::judge::verdict::Verdict;
use vhost_user_harness::scenario::Plan;
use vhost_user_harness::suite::environment::{Options, environment};
use vhost_user_harness::suite::{find_files, load_all};

/// Schedules of each scenario.
const SEEDS: u64 = 2;

/// Chooses by numbers that look like chance, or always the first.
struct Dice(Option<u64>);

impl Scheduler for Dice {
    fn choose(&mut self, choices: &[Choice]) -> usize {
        let Some(state) = &mut self.0 else { return 0 };
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*state >> 33).unwrap_or(0) % choices.len()
    }
}

fn simulated() -> Result<(Vec<Plan>, Environment), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let around = environment(&Options::default(), env!("CARGO_BIN_EXE_vuh").into())?;
    let mut plans = load_all(
        &find_files(&[], Some(&root))?,
        &vhost_user_harness::scenario::Settings::default(),
    )?;
    plans.retain(|plan| {
        let cast = cast(plan, &around);
        !cast.is_empty()
            && cast.iter().all(|(_, _, player)| player == "simulated")
            && obstacle(plan, &around).is_none()
            && unsteerable(plan).is_none()
    });
    Ok((plans, around))
}

/// Broken: exploring runs another scenario than `vuh run` does, so what it finds, or does not find, means nothing.
#[test]
fn without_interference_a_steered_run_is_a_run() -> Result<(), Box<dyn Error>> {
    let (plans, around) = simulated()?;
    assert!(plans.len() > 80, "{}", plans.len());
    let mut differ = BTreeMap::new();
    for plan in &plans {
        let (plain, steered) = (
            engine::run(plan, &around),
            steer(plan, &around, &mut Dice(None), Limits::default()),
        );
        // what is known to fail may be caught by another judge first
        let alike = plain.verdict == steered.outcome.verdict
            || plain.verdict == Verdict::ExpectedFail && matches!(steered.outcome.verdict, Verdict::Fail(_));
        if !alike {
            differ.insert(
                &plan.id,
                (plain.verdict, steered.outcome.verdict, steered.outcome.reason),
            );
        }
    }
    assert!(differ.is_empty(), "{differ:#?}");
    Ok(())
}

/// Broken: something else than the choices decides what happens: a clock, an address, the order of a hash.
#[test]
fn the_same_choices_make_the_same_timeline() -> Result<(), Box<dyn Error>> {
    let (plans, around) = simulated()?;
    let mut events = 0;
    let mut interfered = 0;
    for plan in &plans {
        let mut first = None;
        for seed in 0..SEEDS {
            let run = || steer(plan, &around, &mut Dice(Some(seed)), Limits::default());
            let (one, two) = (run(), run());
            assert_eq!(
                one.timeline.join("\n"),
                two.timeline.join("\n"),
                "{} with seed {seed}",
                plan.id
            );
            assert_eq!(one.outcome.verdict, two.outcome.verdict, "{} with seed {seed}", plan.id);
            assert_ne!(
                one.outcome.verdict,
                Verdict::Inconclusive,
                "{}: {:?}",
                plan.id,
                one.outcome.reason
            );
            events += one.timeline.len();
            interfered += usize::from(first.get_or_insert_with(|| one.timeline.clone()) != &one.timeline);
        }
    }
    // an empty timeline is always the same, and so is one where nothing can be chosen
    assert!(
        events > 10_000 && interfered > 10,
        "{events} events, {interfered} other timelines"
    );
    Ok(())
}
