//! Partial-order reduction: where all that one end can do is independent of all that the other can do, only the first
//! end's steps are followed.

use crate::peer::sim::retry::{Kind, Phase, Regime, State, Step, System, Timers};

/// The steps to follow: those of one end if they are enough, else all.
///
/// The steps of an end are enough if nothing that the other does can enable a further step of that end, or change what
/// one of them does, before one of them is taken. They are then a persistent set (Godefroid, LNCS 1032, chapter 4). The
/// search follows all steps where a persistent set would lead back to what it has seen, so that none is put off for ever.
pub(super) fn ample(system: &System, state: &State, steps: u32) -> u32 {
    // closing takes away what the other end could read
    if system.policy.iter().any(crate::peer::sim::retry::Policy::can_close) {
        return steps;
    }
    let of = |side: usize| steps & (0xff << (8 * side));
    for side in [0, 1] {
        let own = of(side);
        if own != 0 && own != steps && is_enough(system, state, side, own) {
            return own;
        }
    }
    steps
}

fn is_enough(system: &System, state: &State, side: usize, own: u32) -> bool {
    let has = |kind| own >> Step { side, kind }.code() & 1 == 1;
    // whether a send blocks depends on how much of it the other has read
    if system.capacity[side].is_some() {
        return false;
    }
    match state.phase(side) {
        // what the other sends would enable a receive that is not among the steps
        Phase::Idle | Phase::Paused => has(Kind::Receive),
        Phase::Sleeping => true,
        Phase::Waiting => {
            let can_time_out = match system.policy[side].timers {
                Timers::None => false,
                Timers::Sets | Timers::All => true,
            };
            // a timer of the regime `slow` fires after everything else; one of `async` is there from the beginning
            let timers_are_settled = match system.regime {
                Regime::Slow => !has(Kind::Timer),
                Regime::Async => true,
                Regime::Sync => !can_time_out,
            };
            has(Kind::Receive) && timers_are_settled
        }
    }
}
