//! What can never come: holds without release, releases without hold, lonely barriers, requests that nobody awaits, and
//! messages from a peer that has closed its socket.

use std::collections::{BTreeMap, BTreeSet};

use super::super::diagnostic::Diagnostic;
use super::super::model::Step;
use super::super::scalar::Ordered;
use super::super::span::{At, Span};
use super::super::suggest::did_you_mean;

pub(super) fn check(steps: &[At<Step>]) -> Vec<Diagnostic> {
    let mut wrong = pairs(steps, &HOLDS);
    held(steps, &mut wrong);
    wrong.append(&mut pairs(steps, &REQUESTS));
    barriers(steps, false, &mut wrong);
    closed(steps, &mut wrong);
    wrong
}

/// Two kinds of steps that belong together by a name.
struct Pairing {
    opens: fn(&Step) -> Option<&At<String>>,
    ends: fn(&Step) -> Option<&At<String>>,
    open_forever: &'static str,
    help: &'static str,
    unknown: &'static str,
    again: &'static str,
}

const HOLDS: Pairing = Pairing {
    opens: |step| match step {
        Step::Hold(hold) => Some(&hold.name),
        Step::HoldThread(hold) => Some(&hold.name),
        _ => None,
    },
    ends: |step| match step {
        Step::Release(name) => Some(name),
        _ => None,
    },
    open_forever: "is never released",
    help: "what is held would wait to the end; add `release: NAME`",
    unknown: "there is no hold",
    again: "is still holding",
};

const REQUESTS: Pairing = Pairing {
    opens: |step| match step {
        Step::Blk(blk) => blk.bind.as_ref(),
        Step::Deliver(deliver) if deliver.wait.as_ref().is_some_and(|wait| !wait.value) => deliver.bind.as_ref(),
        _ => None,
    },
    ends: |step| match step {
        Step::Await(wait) => Some(&wait.request),
        _ => None,
    },
    open_forever: "is never awaited",
    help: "add `await: {request: NAME}`",
    unknown: "there is no request",
    again: "is still under way",
};

/// The steps in the order of the file. Tracks of a `together` run in any order, so of those the openers come first.
fn flatten<'a>(steps: &'a [At<Step>], opens: fn(&Step) -> Option<&At<String>>, out: &mut Vec<&'a At<Step>>) {
    for step in steps {
        match &step.value {
            Step::Repeat(repeat) => flatten(&repeat.steps, opens, out),
            Step::Sanity(steps) => flatten(steps, opens, out),
            Step::Together(tracks) => {
                let mut inner = Vec::new();
                tracks.iter().for_each(|(_, track)| flatten(track, opens, &mut inner));
                let (mut first, rest): (Vec<_>, Vec<_>) = inner.into_iter().partition(|s| opens(&s.value).is_some());
                out.append(&mut first);
                out.extend(rest);
            }
            _ => out.push(step),
        }
    }
}

fn pairs(steps: &[At<Step>], pairing: &Pairing) -> Vec<Diagnostic> {
    let mut all = Vec::new();
    flatten(steps, pairing.opens, &mut all);
    let names: BTreeSet<&str> = all
        .iter()
        .filter_map(|s| (pairing.opens)(&s.value))
        .map(|n| n.value.as_str())
        .collect();
    let mut open: BTreeMap<&str, Span> = BTreeMap::new();
    let mut wrong = Vec::new();
    for step in all {
        if let Some(name) = (pairing.opens)(&step.value)
            && let Some(first) = open.insert(&name.value, name.span)
        {
            let error = format!("`{}` {}", name.value, pairing.again);
            wrong.push(Diagnostic::error(error).at(name.span).note(first, "since here"));
        }
        let Some(name) = (pairing.ends)(&step.value) else {
            continue;
        };
        if open.remove(name.value.as_str()).is_some() {
            continue;
        }
        let known = names.contains(name.value.as_str());
        let error = match known {
            true => format!("{} `{}` at this point", pairing.unknown, name.value),
            false => format!("{} `{}`", pairing.unknown, name.value),
        };
        let help = did_you_mean(&name.value, names.iter().copied()).filter(|_| !known);
        wrong.push(Diagnostic::error(error).at(name.span).maybe_help(help));
    }
    for (name, place) in open {
        let error = Diagnostic::error(format!("`{name}` {}", pairing.open_forever)).at(place);
        wrong.push(error.help(pairing.help.replace("NAME", name)));
    }
    wrong
}

/// Only a hold can be waited for, and only while it is in force.
fn held(steps: &[At<Step>], wrong: &mut Vec<Diagnostic>) {
    let opens = HOLDS.opens;
    let mut all = Vec::new();
    flatten(steps, opens, &mut all);
    let names: BTreeSet<&str> = all
        .iter()
        .filter_map(|s| opens(&s.value))
        .map(|n| n.value.as_str())
        .collect();
    let mut open = BTreeSet::new();
    for step in &all {
        match &step.value {
            Step::Hold(hold) => drop(open.insert(hold.name.value.as_str())),
            Step::HoldThread(hold) => drop(open.insert(hold.name.value.as_str())),
            Step::Release(name) => drop(open.remove(name.value.as_str())),
            Step::UntilHeld(name) if !open.contains(name.value.as_str()) => {
                let known = names.contains(name.value.as_str());
                let place = if known { " at this point" } else { "" };
                let error = format!("there is no hold called `{}`{place}", name.value);
                let help = did_you_mean(&name.value, names.iter().copied()).filter(|_| !known);
                wrong.push(Diagnostic::error(error).at(name.span).maybe_help(help));
            }
            _ => {}
        }
    }
}

/// A barrier is for the tracks of the nearest `together`, and needs two of them.
fn barriers(steps: &[At<Step>], inside: bool, wrong: &mut Vec<Diagnostic>) {
    for step in steps {
        match &step.value {
            Step::Barrier(name) if !inside => {
                let error = format!("the barrier `{}` is not inside of a `together`", name.value);
                wrong.push(
                    Diagnostic::error(error)
                        .at(name.span)
                        .help("only tracks that run side by side can wait for each other"),
                );
            }
            Step::Repeat(repeat) => barriers(&repeat.steps, inside, wrong),
            Step::Sanity(steps) => barriers(steps, inside, wrong),
            Step::Together(tracks) => {
                let mut tracks_of: BTreeMap<&str, Vec<(&str, Span)>> = BTreeMap::new();
                for (track, steps) in tracks.iter() {
                    let mut named = Vec::new();
                    barrier_names(steps, &mut named);
                    let mut seen = BTreeSet::new();
                    for name in named.into_iter().filter(|name| seen.insert(&name.value)) {
                        tracks_of
                            .entry(&name.value)
                            .or_default()
                            .push((&track.value, name.span));
                    }
                    barriers(steps, true, wrong);
                }
                crossed(tracks, wrong);
                let names: Vec<&str> = tracks_of.keys().copied().collect();
                for (name, tracks) in &tracks_of {
                    let [(track, place)] = tracks.as_slice() else { continue };
                    let others = names.iter().copied().filter(|other| other != name);
                    wrong.push(
                        Diagnostic::error(format!("only the track `{track}` comes to the barrier `{name}`"))
                            .at(*place)
                            .label("waits for nobody")
                            .maybe_help(did_you_mean(name, others)),
                    );
                }
            }
            _ => {}
        }
    }
}

/// Two tracks that come to two barriers in opposite order wait for each other for ever.
fn crossed(tracks: &Ordered<Vec<At<Step>>>, wrong: &mut Vec<Diagnostic>) {
    let mut orders: Vec<Vec<&At<String>>> = Vec::new();
    for (track, steps) in tracks.iter() {
        let mut own = Vec::new();
        barrier_names(steps, &mut own);
        let place = |names: &[&At<String>], name: &str| names.iter().position(|n| n.value == name);
        let crossing = orders.iter().find_map(|other| {
            own.iter().enumerate().find_map(|(at, name)| {
                let there = place(other, &name.value)?;
                let earlier = own[..at]
                    .iter()
                    .find(|e| place(other, &e.value).is_some_and(|before| before > there))?;
                Some((*name, *earlier, other[there]))
            })
        });
        if let Some((name, earlier, there)) = crossing {
            let (first, second) = (&earlier.value, &name.value);
            let error = format!(
                "the track `{}` comes to `{first}` before `{second}`, and another to `{second}` first",
                track.value
            );
            wrong.push(
                Diagnostic::error(error)
                    .at(name.span)
                    .label("never reached")
                    .note(there.span, "the other waits here"),
            );
        }
        orders.push(own);
    }
}

fn barrier_names<'a>(steps: &'a [At<Step>], out: &mut Vec<&'a At<String>>) {
    for step in steps {
        match &step.value {
            Step::Barrier(name) => out.push(name),
            Step::Repeat(repeat) => barrier_names(&repeat.steps, out),
            Step::Sanity(steps) => barrier_names(steps, out),
            _ => {}
        }
    }
}

/// Within one list of steps: nothing is sent by a peer that has closed its main socket and did not connect again.
fn closed(steps: &[At<Step>], wrong: &mut Vec<Diagnostic>) {
    let mut gone: BTreeMap<&str, Span> = BTreeMap::new();
    for step in steps {
        let (peer, what) = match &step.value {
            Step::Close(close) => {
                if close.channel.as_ref().is_none_or(|c| c.value == "main") {
                    gone.insert(&close.peer.value, step.span);
                }
                continue;
            }
            Step::Connect(_) | Step::Start(_) | Step::Restart(_) | Step::Setup(_) => {
                gone.clear();
                continue;
            }
            Step::Repeat(repeat) => {
                closed(&repeat.steps, wrong);
                gone.clear();
                continue;
            }
            Step::Together(tracks) => {
                tracks.iter().for_each(|(_, track)| closed(track, wrong));
                gone.clear();
                continue;
            }
            Step::Send(send) => (&send.from, "send"),
            Step::Raw(raw) => (&raw.from, "send"),
            Step::Reply(reply) => (&reply.from, "reply"),
            _ => continue,
        };
        if let Some(place) = gone.get(peer.value.as_str()) {
            let error = format!("`{}` cannot {what}: it has closed its socket", peer.value);
            wrong.push(Diagnostic::error(error).at(peer.span).note(*place, "closed here"));
        }
    }
}
