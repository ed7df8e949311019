//! Schedules: as a short token for the command line, and as a scenario that `vuh run` plays over real sockets.

use std::fmt::Write as _;

use super::verdict::Finding;
use crate::peer::sim::retry::play::{Model, Play};
use crate::peer::sim::retry::{Class, Classes, Regime, Resends};
use crate::scenario::Plan;
use crate::scenario::retry::Modelled;
use crate::wire::Dialect;

/// One way through a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// When timers fire.
    pub regime: Regime,
    /// Re-sends.
    pub resends: Resends,
    /// The steps.
    pub steps: Vec<u8>,
    /// Once around, for a run without end.
    pub cycle: Vec<u8>,
}

impl Schedule {
    /// The schedule of a finding.
    pub fn of(finding: &Finding, regime: Regime, resends: Resends) -> Self {
        Self {
            regime,
            resends,
            steps: finding.steps.clone(),
            cycle: finding.cycle.clone(),
        }
    }

    /// `slow-2.sSrR`, `sync-u.sS~rRtT`: regime, re-sends, a letter a step (a capital for the back-end), the cycle after `~`.
    pub fn token(&self, model: &Model) -> String {
        let letters = |steps: &[u8]| steps.iter().map(|step| model.letter(*step)).collect::<String>();
        let resends = match self.resends {
            Resends::AtMost(number) => number.to_string(),
            Resends::Unbounded => "u".to_owned(),
        };
        let cycle = match self.cycle.is_empty() {
            true => String::new(),
            false => format!("~{}", letters(&self.cycle)),
        };
        format!("{}-{resends}.{}{cycle}", self.regime.name(), letters(&self.steps))
    }

    /// Reads a token.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(token: &str, model: &Model) -> Result<Self, String> {
        let form = || "is not of the form slow-2.sSrR".to_owned();
        let (rules, letters) = token.split_once('.').ok_or_else(form)?;
        let (regime, resends) = rules.split_once('-').ok_or_else(form)?;
        let regime = regime.parse()?;
        let resends = match resends {
            "u" => Resends::Unbounded,
            number => number.parse()?,
        };
        let read = |letters: &str| -> Result<Vec<u8>, String> {
            let step = |letter| {
                model
                    .step_of(letter)
                    .ok_or_else(|| format!("has `{letter}`, which is no step"))
            };
            letters.chars().map(step).collect()
        };
        let (steps, cycle) = letters.split_once('~').unwrap_or((letters, ""));
        Ok(Self {
            regime,
            resends,
            steps: read(steps)?,
            cycle: read(cycle)?,
        })
    }

    /// Plays it in the model, and says what it comes to.
    ///
    /// # Errors
    /// The first step that is not possible.
    pub fn play(&self, model: &Model) -> Result<(Play, Classes), String> {
        let mut play = Play::new(*model, Dialect::VhostUser);
        for step in &self.steps {
            play.take(*step).map_err(|e| e.to_string())?;
        }
        let began = play.position();
        for step in &self.cycle {
            play.take(*step).map_err(|e| e.to_string())?;
        }
        if !self.cycle.is_empty() && began != play.position() {
            return Err("has a cycle that does not lead back to where it began".to_owned());
        }
        let classes = play.classes();
        Ok((play, classes))
    }

    /// A scenario that plays it over real sockets, with the peers of the one that was explored.
    pub fn scenario(&self, plan: &Plan, modelled: &Modelled, id: &str, class: Class) -> Result<String, String> {
        let (_, classes) = self.play(&modelled.model)?;
        let mut comes_to: Vec<&str> = classes.iter().map(Class::name).collect();
        if class.is_cycle() {
            comes_to.push(class.name());
        }
        let mut text = String::new();
        let mut line = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        line(&format!("scenario: {id}"));
        line(&format!(
            "about: The model of {} says that this schedule comes to {}, and two real sockets do something else.",
            modelled.label,
            comes_to.join(", ")
        ));
        line("peers:");
        for (side, name) in modelled.names.iter().enumerate() {
            let Some(decl) = plan.scenario.peers.get(name) else {
                continue;
            };
            let mut fields: Vec<String> = Vec::new();
            if let Some(retry) = &decl.retry {
                let named = [
                    ("strategy", &retry.strategy),
                    ("program", &retry.program),
                    ("case", &retry.case),
                ];
                let named = named.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
                fields.extend(named.map(|(key, value)| format!("{key}: {}", value.value)));
                if let Some(operations) = &retry.operations {
                    let words: Vec<&str> = operations.iter().map(|op| op.value.as_str()).collect();
                    fields.push(format!("operations: [{}]", words.join(", ")));
                }
            }
            if let Model::One(system) = &modelled.model {
                if self.resends != Resends::DEFAULT {
                    fields.push(format!("resends: {}", self.resends));
                }
                if let Some(capacity) = system.capacity[side] {
                    fields.push(format!("capacity: {capacity}"));
                }
            }
            let role = ["frontend", "backend"][side];
            let dialect = match plan.scenario.dialect() {
                Dialect::VhostUser => String::new(),
                other => format!("dialect: {other}, "),
            };
            line(&format!(
                "  {name}: {{{role}: simulated, {dialect}retry: {{{}}}}}",
                fields.join(", ")
            ));
        }
        line("steps:");
        let [front, back] = &modelled.names;
        line(&format!("  - connect: {{from: {front}, to: {back}}}"));
        line("  - schedule:");
        line(&format!("      regime: {}", self.regime.name()));
        let mut list = |key: &str, steps: &[u8]| {
            if !steps.is_empty() {
                let _ = writeln!(text, "      {key}:");
                for step in steps {
                    let _ = writeln!(text, "        - {}", modelled.choice(*step));
                }
            }
        };
        list("choices", &self.steps);
        list("cycle", &self.cycle);
        let _ = writeln!(text, "      comes_to: [{}]", comes_to.join(", "));
        Ok(text)
    }
}
