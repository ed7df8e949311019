//! What was found, written as a scenario: the text of the one that was explored, with holds put into it that force the two
//! events into the order that fails. `vuh run` replays it without any exploring, and whether it does is tried before it is
//! handed out.

use super::runs::Subject;
use super::shrink::Shrunk;
use crate::engine;
use crate::engine::steer::{Choice, Kind, Means, unsteerable};
use crate::explore::ExploreError;
use crate::judge::verdict::{FailKind, Verdict};
use crate::scenario::load::load_str;
use crate::scenario::model::Step;
use crate::scenario::scalar::Node;
use crate::scenario::{Plan, Settings};
use crate::sys::signal;

/// Runs that show whether the scenario does what it is to do.
const TRIALS: usize = 10;
/// The same, where each of them takes the scenario's whole time.
const HANGS: usize = 2;
/// The holds of what has to come first, of what has to come later, and of what must not come before that.
const FIRST: &str = "first";
const LATER: &str = "later";
const REST: &str = "rest";

/// A scenario that was written.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) text: String,
    /// How many of how many runs failed.
    pub(super) fails: (usize, usize),
}

/// Whether a scenario can be explored as it is written.
pub(super) fn check(plan: &Plan) -> Result<(), ExploreError> {
    match unsteerable(plan) {
        None => Ok(()),
        Some(diagnostic) => Err(ExploreError::Scenario(diagnostic.one_line(&plan.sources))),
    }
}

/// Writes the scenario. Nothing, if what was found cannot be said in steps.
pub(super) fn write(subject: Subject, shrunk: &Shrunk) -> Option<Script> {
    let plan = subject.plan;
    let text = forced(plan, shrunk)?;
    let text = format!("{}{text}", heading(subject, shrunk));
    let set = plan
        .parameters
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), plain(value)?)));
    let settings = Settings { set: set.collect() };
    let forced = load_str("found.yaml", &text, &settings).ok()?.into_iter().next()?;
    let sign = shrunk.ran.sign()?;
    let trials = if sign.kind == FailKind::Hang { HANGS } else { TRIALS };
    let fails = |_: &usize| {
        let outcome = engine::run(&forced, subject.environment);
        // a scenario that only waits for what its own holds keep proves nothing
        let last = outcome.failure.as_ref().map(|failure| failure.last_events.as_slice());
        let let_go = |line: &String| line.ends_with(" goes on") || line.contains(" released");
        matches!(outcome.verdict, Verdict::Fail(kind) if kind == sign.kind)
            && last.is_some_and(|last| last.iter().any(let_go))
    };
    let fails = (0..trials).filter(|_| !signal::interrupted()).filter(fails).count();
    Some(Script {
        text,
        fails: (fails, trials),
    })
}

fn plain(value: &Node) -> Option<String> {
    match value {
        Node::Text(text) => Some(text.clone()),
        Node::Number(number) => Some(number.to_string()),
        Node::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

fn heading(subject: Subject, shrunk: &Shrunk) -> String {
    let mut text = format!("# Written by `vuh explore {}`", subject.plan.id);
    for (option, peer) in [
        ("--frontend", &subject.environment.frontend),
        ("--backend", &subject.environment.backend),
    ] {
        if let Some(peer) = peer {
            text.push_str(&format!(" with `{option} {peer}`, which `vuh run` needs as well"));
        }
    }
    text.push_str(".\n");
    for order in &shrunk.orders {
        text.push_str(&format!(
            "# It fails when\n#   {}\n# comes before\n#   {}\n",
            order.first, order.then
        ));
    }
    text
}

/// The text with the holds in it.
fn forced(plan: &Plan, shrunk: &Shrunk) -> Option<String> {
    let [order] = shrunk.orders.as_slice() else {
        return None;
    };
    let points = &shrunk.ran.trail.points;
    let first_at = points.iter().position(|point| point.event().name == order.first)?;
    let then_at = points.iter().position(|point| point.event().name == order.then)?;
    let (first, then) = (points[first_at].event(), points[then_at].event());
    // where it could have happened for the first time
    let ready = points
        .iter()
        .position(|point| point.choices.iter().any(|choice| choice.name == order.then))?;
    let cause = line_before(points.iter().take(ready).map(|point| point.event()))?;
    let during = line_before(points.iter().take(first_at + 1).map(|point| point.event()))?;
    let lines: Vec<&str> = plan.sources.first()?.text.lines().collect();
    let top: Vec<usize> = plan.scenario.steps.iter().map(|step| step.span.line as usize).collect();
    let holder = |line: u32| top.iter().rposition(|start| *start <= line as usize);
    let (cause, during) = (holder(cause)?, holder(during)?);
    let indent = " ".repeat(lines.get(top[cause] - 1)?.find('-')?);
    let hold = hold_of(then, LATER)?;
    let peer = then.between.1.clone()?;
    let settle = settled(first, &peer);
    let mut text: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let mut insert: Vec<(usize, Vec<String>)> = Vec::new();
    let step = |indent: &str, what: &str| format!("{indent}- {what}");
    let is_together = |at: usize| matches!(plan.scenario.steps[at].value, Step::Together(_));
    let is_process = !settle.is_empty();
    let mut before = Vec::new();
    if matches!(then.means, Means::Thread { .. }) {
        before.push(step(&indent, &format!("until_idle: {peer}")));
    }
    before.push(step(&indent, &hold));
    if is_together(during) {
        if cause > during {
            return None;
        }
        // what comes next on the links waits until both have happened
        let next = points[then_at + 1..].iter().map(|point| point.event());
        let rest = next.clone().find(|event| matches!(event.means, Means::Crosses { .. }));
        let rest = rest.and_then(|event| {
            let Means::Crosses {
                pattern,
                before: earlier,
            } = &event.means
            else {
                return None;
            };
            let passed = points[..=then_at].iter().skip(ready).map(|point| point.event());
            let seen = passed.filter(|e| matches!(&e.means, Means::Crosses { pattern: other, .. } if other == pattern));
            (seen.count() == 0 && (*earlier == 0 || ready > 0))
                .then(|| format!("hold: {{as: {REST}, when: {pattern}}}"))
        });
        if let Some(rest) = &rest {
            before.push(step(&indent, rest));
        }
        let held_first = matches!(first.means, Means::Crosses { .. });
        if held_first {
            before.push(step(&indent, &hold_of(first, FIRST)?));
        }
        let inner = track_indent(&lines, top[during])?;
        let deeper = format!("{inner}  ");
        let mut director = vec![format!("{inner}order:"), step(&deeper, &format!("until_held: {LATER}"))];
        if held_first {
            director.push(step(&deeper, &format!("until_held: {FIRST}")));
            director.push(step(&deeper, &format!("release: {FIRST}")));
        }
        director.extend(settle.iter().map(|what| step(&deeper, what)));
        director.push(step(&deeper, &format!("release: {LATER}")));
        if is_process {
            director.push(step(&deeper, &format!("until_idle: {peer}")));
        }
        if rest.is_some() {
            director.push(step(&deeper, &format!("release: {REST}")));
        }
        insert.push((top[cause], before));
        insert.push((end_of(&lines, &top, during), director));
    } else {
        if cause >= during {
            // the step that makes both cannot be left half done
            return None;
        }
        insert.push((top[during], vec![step(&indent, &format!("until_held: {LATER}"))]));
        let mut after = Vec::new();
        after.extend(settle.iter().map(|what| step(&indent, what)));
        after.push(step(&indent, &format!("release: {LATER}")));
        if is_process {
            after.push(step(&indent, &format!("until_idle: {peer}")));
        }
        insert.push((top[cause], before));
        insert.push((end_of(&lines, &top, during), after));
    }
    // from the end, so that places before stay what they are
    insert.sort_by_key(|(line, _)| std::cmp::Reverse(*line));
    for (line, new) in insert {
        let at = (line - 1).min(text.len());
        text.splice(at..at, new);
    }
    if [first, then]
        .iter()
        .any(|e| matches!(e.kind, Kind::Kick | Kind::Call | Kind::Error))
    {
        relay_all(&mut text)?;
    }
    Some(text.join("\n") + "\n")
}

/// The line of the last step that has begun.
fn line_before<'a>(events: impl DoubleEndedIterator<Item = &'a Choice>) -> Option<u32> {
    events.rev().find_map(|event| match event.means {
        Means::Step { line } => Some(line),
        _ => None,
    })
}

/// The line after the last of a step.
fn end_of(lines: &[&str], top: &[usize], at: usize) -> usize {
    if let Some(next) = top.get(at + 1) {
        // comments above the next step are its own
        let mut end = *next;
        while end > 1 && lines[end - 2].trim_start().starts_with('#') {
            end -= 1;
        }
        return end;
    }
    let start = lines[top[at] - 1];
    let indent = start.len() - start.trim_start().len();
    let deeper = |line: &&str| line.trim().is_empty() || line.len() - line.trim_start().len() > indent;
    let mut end = top[at] + 1 + lines[top[at]..].iter().take_while(|line| deeper(line)).count();
    while end > top[at] + 1 && lines[end - 2].trim().is_empty() {
        end -= 1;
    }
    end
}

/// How far the names of a `together`'s strands are indented.
fn track_indent(lines: &[&str], line: usize) -> Option<String> {
    let next = lines
        .get(line..)?
        .iter()
        .find(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#'))?;
    Some(" ".repeat(next.len() - next.trim_start().len()))
}

/// The hold that keeps something.
fn hold_of(event: &Choice, name: &str) -> Option<String> {
    match &event.means {
        Means::Crosses { pattern, before: _ } => Some(format!("hold: {{as: {name}, when: {pattern}}}")),
        Means::Thread {
            peer, kick: Some(ring), ..
        } => Some(format!(
            "hold_thread: {{as: {name}, peer: {peer}, told_of: {{kick: {ring}}}}}"
        )),
        Means::Thread { peer, waits_in, .. } => Some(format!(
            "hold_thread: {{as: {name}, peer: {peer}, waits_in: {waits_in}}}"
        )),
        Means::Step { .. } | Means::Other => None,
    }
}

/// Steps that wait until something has happened and had its effect.
fn settled(event: &Choice, held_of: &str) -> Vec<String> {
    match (&event.means, &event.between.1) {
        (Means::Step { .. } | Means::Thread { .. }, _) => vec![format!("until_idle: {held_of}")],
        (_, Some(peer)) if peer == held_of => vec![format!("until_idle: {peer}")],
        _ => Vec::new(),
    }
}

/// Has all notifications relayed.
fn relay_all(text: &mut [String]) -> Option<()> {
    for line in text.iter_mut() {
        if line.contains("connect: {") && !line.contains("relay:") {
            let close = line.rfind('}')?;
            line.insert_str(close, ", relay: [kicks, calls, errors]");
        }
    }
    Some(())
}
