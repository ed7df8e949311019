//! What the search needs of a model: states that can be kept by the million, and the steps between them.

use crate::peer::sim::retry::channels::{Act, Case, TwoState};
use crate::peer::sim::retry::{Classes, Done, Resends, State, Step, Steps, System};

/// A state as plain bits.
pub trait Packed: Copy + Eq + Default + std::fmt::Debug {
    /// A hash in which all bits count.
    fn hash(&self) -> u64;
}

/// What a step came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Came<S> {
    /// The state after it.
    pub state: S,
    /// What is wrong with the step itself.
    pub classes: Classes,
    /// An end that never stops has completed something: others may starve beside it.
    pub progress: bool,
    /// It leads out of what is explored.
    pub cut: bool,
}

/// A model. Steps are numbers below 32, the same number for what one end does of one kind.
pub trait Machine {
    /// Its states.
    type State: Packed;

    /// Where it begins.
    fn initial(&self) -> Self::State;
    /// The steps that are possible.
    fn steps(&self, state: &Self::State) -> u32;
    /// Takes one.
    fn apply(&self, state: &Self::State, step: u8) -> Came<Self::State>;
    /// What is wrong with a state.
    fn classes(&self, state: &Self::State, steps: u32) -> Classes;
    /// All is done.
    fn is_finished(&self, state: &Self::State) -> bool;
    /// A run may go on for ever.
    fn may_cycle(&self) -> bool {
        false
    }
    /// Somebody waits who may starve.
    fn is_waiting(&self, _state: &Self::State) -> bool {
        false
    }
    /// Some of the possible steps, enough to be followed without losing a verdict.
    fn ample(&self, _state: &Self::State, steps: u32) -> u32 {
        steps
    }
    /// The one state that stands for all that differ in who is who; true if it is not the state itself.
    fn canonical(&self, state: &Self::State) -> (Self::State, bool) {
        (*state, false)
    }
    /// The step in the state that another one stands for.
    fn mirrored(&self, step: u8) -> u8 {
        step
    }
}

impl Packed for State {
    #[inline]
    fn hash(&self) -> u64 {
        let [a, b, c, d] = self.bits();
        let x = fold(a ^ 0x9e37_79b9_7f4a_7c15, b ^ 0xd1b5_4a32_d192_ed03);
        fold(x ^ c, d ^ 0x8cb9_2ba7_2f3d_8dd7)
    }
}

/// A product of 128 bits, folded.
#[inline]
pub fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

impl Machine for System {
    type State = State;

    fn initial(&self) -> State {
        State::default()
    }

    #[inline]
    fn steps(&self, state: &State) -> u32 {
        u32::from(System::steps(self, state).bits())
    }

    #[inline]
    fn apply(&self, state: &State, step: u8) -> Came<State> {
        let step = Step::from_code(step);
        let (state, effect) = System::apply(self, state, step);
        Came {
            state,
            classes: effect.classes,
            progress: step.side == 0 && effect.done == Done::Completed,
            cut: effect.cut,
        }
    }

    #[inline]
    fn classes(&self, state: &State, steps: u32) -> Classes {
        let none = steps == 0;
        let mut some = Steps::default();
        if !none {
            some.add(Step::from_code(0));
        }
        System::classes(self, state, some)
    }

    fn is_finished(&self, state: &State) -> bool {
        System::is_finished(self, state) && !state.is_closed()
    }

    fn may_cycle(&self) -> bool {
        self.resends == Resends::Unbounded || self.script.iter().any(|script| script.endless)
    }

    fn is_waiting(&self, state: &State) -> bool {
        self.script[0].endless && state.pc(1) < self.script[1].len()
    }

    fn ample(&self, state: &State, steps: u32) -> u32 {
        super::reduce::ample(self, state, steps)
    }

    fn canonical(&self, state: &State) -> (State, bool) {
        let mirrored = state.mirrored();
        match self.is_symmetric() && mirrored.bits() < state.bits() {
            true => (mirrored, true),
            false => (*state, false),
        }
    }

    fn mirrored(&self, step: u8) -> u8 {
        Step::from_code(step).mirrored().code()
    }
}

impl Packed for TwoState {
    #[inline]
    fn hash(&self) -> u64 {
        let [a, b, c, d] = self.bits();
        let x = fold(a ^ 0x9e37_79b9_7f4a_7c15, b ^ 0xd1b5_4a32_d192_ed03);
        fold(x ^ c, d ^ 0x8cb9_2ba7_2f3d_8dd7)
    }
}

impl Machine for Case {
    type State = TwoState;

    fn initial(&self) -> TwoState {
        Case::initial(self)
    }

    fn steps(&self, state: &TwoState) -> u32 {
        Case::steps(self, state)
    }

    fn apply(&self, state: &TwoState, step: u8) -> Came<TwoState> {
        let Some(act) = Act::from_code(step) else {
            return Came {
                state: *state,
                cut: true,
                ..Came::default()
            };
        };
        let (state, moved) = Case::apply(self, state, act);
        Came {
            state,
            classes: moved.classes,
            ..Came::default()
        }
    }

    fn classes(&self, state: &TwoState, steps: u32) -> Classes {
        Case::classes(self, state, steps)
    }

    fn is_finished(&self, state: &TwoState) -> bool {
        Case::is_finished(self, state)
    }
}
