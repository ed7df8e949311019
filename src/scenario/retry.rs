//! From `retry:` declarations to the model that the two peers are: one socket with a strategy and a program, or a case
//! with two.

use super::diagnostic::Diagnostic;
use super::eval::{Bindings, eval_num};
use super::model::{PeerDecl, RetryDecl, Scenario, Schedule};
use super::span::{At, Span};
use super::suggest::did_you_mean;
use crate::peer::sim::retry::channels::{CASES, case};
use crate::peer::sim::retry::play::Model;
use crate::peer::sim::retry::{
    Class, Classes, Operation, PROGRAMS, Regime, Resends, STRATEGIES, Script, System, program, strategy,
};

/// Two modelled endpoints.
#[derive(Debug, Clone)]
pub struct Modelled {
    /// What they are together.
    pub model: Model,
    /// The names of the front-end and the back-end.
    pub names: [String; 2],
    /// In words: `A4, P1`, or `E2`.
    pub label: String,
}

/// The model that a scenario's peers are; none if they are no modelled endpoints.
///
/// # Errors
/// A declaration that says too little or too much.
pub fn modelled(scenario: &Scenario) -> Result<Option<Modelled>, Diagnostic> {
    let Some(first) = scenario.peers.iter().find_map(|(_, peer)| peer.retry.as_ref()) else {
        return Ok(None);
    };
    let mut sides: [Option<(&At<String>, &At<RetryDecl>)>; 2] = [None, None];
    for (name, peer) in scenario.peers.iter() {
        let Some(retry) = &peer.retry else {
            let error = Diagnostic::error(format!(
                "`{}` is no modelled endpoint, and the other peer is",
                name.value
            ));
            return Err(error
                .at(name.span)
                .note(first.span, "this one")
                .help("both of a scenario are, or none"));
        };
        let side = usize::from(peer.backend.is_some());
        if sides[side].replace((name, retry)).is_some() {
            return Err(Diagnostic::error("a model has one front-end and one back-end").at(name.span));
        }
        plain(name, peer)?;
    }
    let [Some((front, ours)), Some((back, theirs))] = sides else {
        return Err(Diagnostic::error("a model has a front-end and a back-end").at(first.span));
    };
    let names = [front.value.clone(), back.value.clone()];
    if let Some(model) = two(ours, theirs)? {
        let label = match &model {
            Model::Two(case) => case.name.to_owned(),
            Model::One(_) => String::new(),
        };
        return Ok(Some(Modelled { model, names, label }));
    }
    let (system, label) = one(ours, theirs)?;
    let model = Model::One(system);
    Ok(Some(Modelled { model, names, label }))
}

/// Nothing of a simulated device fits a modelled endpoint.
fn plain(name: &At<String>, peer: &PeerDecl) -> Result<(), Diagnostic> {
    let simulated = [&peer.frontend, &peer.backend]
        .into_iter()
        .flatten()
        .all(|p| p.value == "simulated");
    let other = peer
        .device
        .as_ref()
        .map(|d| d.span)
        .or(peer.queues.as_ref().map(|q| q.span));
    if !simulated {
        return Err(
            Diagnostic::error(format!("`{}` is a modelled endpoint, and is not simulated", name.value)).at(name.span),
        );
    }
    match other {
        Some(span) => Err(Diagnostic::error("a modelled endpoint has no device").at(span)),
        None => Ok(()),
    }
}

fn two(ours: &At<RetryDecl>, theirs: &At<RetryDecl>) -> Result<Option<Model>, Diagnostic> {
    let named = match (&ours.case, &theirs.case) {
        (None, None) => return Ok(None),
        (Some(ours), Some(theirs)) if ours.value == theirs.value => ours,
        (Some(one), _) | (None, Some(one)) => {
            return Err(Diagnostic::error("both ends are of the same case").at(one.span));
        }
    };
    for retry in [ours, theirs] {
        let others = [&retry.strategy, &retry.program].into_iter().flatten().next();
        if let Some(other) = others {
            return Err(Diagnostic::error("a case has its own strategy and program").at(other.span));
        }
    }
    let found = case(&named.value);
    found
        .map(|case| Some(Model::Two(*case)))
        .ok_or_else(|| unknown("case", named, CASES.iter().map(|row| row.name)))
}

fn unknown(what: &str, name: &At<String>, known: impl Iterator<Item = &'static str>) -> Diagnostic {
    let known: Vec<&str> = known.collect();
    let help = did_you_mean(&name.value, known.iter().copied());
    Diagnostic::error(format!("no {what} is called `{}`", name.value))
        .at(name.span)
        .help(help.unwrap_or_else(|| format!("known: {}", known.join(", "))))
}

fn one(ours: &At<RetryDecl>, theirs: &At<RetryDecl>) -> Result<(System, String), Diagnostic> {
    let row = |retry: &At<RetryDecl>| {
        let missing = || Diagnostic::error("a modelled endpoint has a `strategy`, or a `case`").at(retry.span);
        let named = retry.strategy.as_ref().ok_or_else(missing)?;
        strategy(&named.value).ok_or_else(|| unknown("strategy", named, STRATEGIES.iter().map(|row| row.name)))
    };
    let (front, back) = (row(ours)?, row(theirs)?);
    let resends = match (&ours.resends, &theirs.resends) {
        (None, None) => Resends::DEFAULT,
        (Some(one), Some(other)) if one.value != other.value => {
            return Err(Diagnostic::error("both ends send again equally often").at(other.span));
        }
        (Some(one), _) | (None, Some(one)) => one.value.0,
    };
    let (front_script, front_label) = script(ours, 0)?;
    let (back_script, back_label) = script(theirs, 1)?;
    let system = System {
        policy: [front.front, back.back],
        script: [front_script, back_script],
        capacity: [capacity(ours)?, capacity(theirs)?],
        resends,
        regime: Regime::Slow,
        queue_max: 16,
    };
    let both = |a: &str, b: &str| if a == b { a.to_owned() } else { format!("{a}/{b}") };
    let label = format!("{}, {}", both(front.name, back.name), both(&front_label, &back_label));
    Ok((system, label))
}

fn capacity(retry: &RetryDecl) -> Result<Option<u8>, Diagnostic> {
    let Some(capacity) = &retry.capacity else {
        return Ok(None);
    };
    match eval_num(capacity, &Bindings::default())? {
        number @ 1..=16 => Ok(u8::try_from(number).ok()),
        number => {
            Err(Diagnostic::error(format!("a model's socket holds 1 to 16 messages, not {number}")).at(capacity.span))
        }
    }
}

fn script(retry: &At<RetryDecl>, side: usize) -> Result<(Script, String), Diagnostic> {
    match (&retry.program, &retry.operations) {
        (Some(named), None) => {
            let row = program(&named.value);
            let row = row.ok_or_else(|| unknown("program", named, PROGRAMS.iter().map(|row| row.name)))?;
            Ok(([row.front, row.back][side], row.name.to_owned()))
        }
        (None, Some(operations)) => {
            let read = |text: &At<String>| {
                Operation::parse(&text.value).map_err(|e| Diagnostic::error(e.to_string()).at(text.span))
            };
            let parsed: Vec<Operation> = operations.iter().map(read).collect::<Result<_, _>>()?;
            let script = Script::new(&parsed)
                .ok_or_else(|| Diagnostic::error("a modelled endpoint does at most 4 operations").at(retry.span))?;
            let words: Vec<&str> = operations.iter().map(|op| op.value.as_str()).collect();
            Ok((script, words.join(" ")))
        }
        (Some(program), Some(_)) => Err(Diagnostic::error("a program has its own operations").at(program.span)),
        (None, None) => Err(Diagnostic::error("a modelled endpoint has a `program`, or `operations`").at(retry.span)),
    }
}

impl Modelled {
    /// The same with timers of a regime.
    pub fn in_regime(mut self, regime: Regime) -> Self {
        if let Model::One(system) = &mut self.model {
            system.regime = regime;
        }
        self
    }

    /// The step that a choice means: a peer, and what it does.
    ///
    /// # Errors
    /// No such peer, no such step.
    pub fn step(&self, choice: &At<String>) -> Result<u8, Diagnostic> {
        let text = choice.value.trim();
        let (name, words) = text.split_once(' ').unwrap_or((text, ""));
        let fail = |error: String| Diagnostic::error(error).at(choice.span);
        let side = self.names.iter().position(|known| known == name);
        let side = side.ok_or_else(|| {
            fail(format!("there is no peer `{name}`")).help(format!("peers here: {}", self.names.join(", ")))
        })?;
        self.model.step_named(side, words.trim()).ok_or_else(|| {
            let known: Vec<String> = (0..32)
                .map(|step| self.model.words(step))
                .filter(|word| !word.is_empty())
                .collect();
            fail(format!("`{words}` is no step of a modelled endpoint"))
                .maybe_help(did_you_mean(words, known.iter().map(String::as_str)))
        })
    }

    /// The steps of a schedule before its cycle, and where each is written.
    ///
    /// # Errors
    /// No such peer, no such step.
    pub fn steps(&self, schedule: &Schedule) -> Result<Vec<(u8, Span)>, Diagnostic> {
        let Some(letters) = &schedule.letters else {
            let read = |choice: &At<String>| Ok((self.step(choice)?, choice.span));
            return schedule.choices.iter().map(read).collect();
        };
        if let Some(choice) = schedule.choices.first() {
            let error = Diagnostic::error("steps are given as choices or as letters").at(letters.span);
            return Err(error.note(choice.span, "and here"));
        }
        let read = |letter| {
            let step = self.model.step_of(letter);
            let unknown =
                || Diagnostic::error(format!("`{letter}` is no step of a modelled endpoint")).at(letters.span);
            Ok((step.ok_or_else(unknown)?, letters.span))
        };
        letters.value.chars().map(read).collect()
    }

    /// A step as a choice.
    pub fn choice(&self, step: u8) -> String {
        format!("{} {}", self.names[self.model.side(step)], self.model.words(step))
    }
}

/// The regime of a schedule.
///
/// # Errors
/// No such regime.
pub fn regime(schedule: &Schedule) -> Result<Regime, Diagnostic> {
    match &schedule.regime {
        None => Ok(Regime::Slow),
        Some(word) => word
            .value
            .parse()
            .map_err(|e: String| Diagnostic::error(e).at(word.span)),
    }
}

/// The classes that a schedule comes to.
///
/// # Errors
/// No such class.
pub fn classes(schedule: &Schedule) -> Result<Classes, Diagnostic> {
    let named = |name: &At<String>| {
        Class::named(&name.value).ok_or_else(|| unknown("verdict class", name, Class::ALL.iter().map(|c| c.name())))
    };
    schedule.comes_to.iter().map(named).collect()
}

/// The parts of a scenario that steps of modelled endpoints can be about, by place.
pub(super) fn check(scenario: &Scenario, schedule: &Schedule, place: Span) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    let modelled = match modelled(scenario) {
        // reported where the peers are declared
        Err(_) => return wrong,
        Ok(None) => {
            let error = Diagnostic::error("`schedule` is for modelled endpoints").at(place);
            return vec![error.help("peers are modelled endpoints with `retry: {strategy: A4, program: P1}`")];
        }
        Ok(Some(modelled)) => modelled,
    };
    match schedule.letters {
        // each is wrong for itself
        None => wrong.extend(schedule.choices.iter().filter_map(|choice| modelled.step(choice).err())),
        Some(_) => wrong.extend(modelled.steps(schedule).err()),
    }
    wrong.extend(schedule.cycle.iter().filter_map(|choice| modelled.step(choice).err()));
    wrong.extend(regime(schedule).err());
    match classes(schedule) {
        Err(error) => wrong.push(error),
        Ok(classes) if schedule.cycle.is_empty() && classes.iter().any(Class::is_cycle) => {
            wrong.push(Diagnostic::error("a run without end has a `cycle`").at(place));
        }
        Ok(_) => {}
    }
    let letters = schedule
        .letters
        .as_ref()
        .is_some_and(|letters| !letters.value.is_empty());
    if schedule.choices.is_empty() && schedule.cycle.is_empty() && !letters {
        wrong.push(Diagnostic::error("a schedule without choices shows nothing").at(place));
    }
    wrong
}
