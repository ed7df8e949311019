//! From the first step to the outcome: the run's directory, the script, the checks, taking everything down, and judging
//! how each process ended and what it left behind.

use nix::sys::signal::Signal;

use super::Environment;
use super::directory::Directory;
use super::failure::{Result, Stop, StopKind};
use super::peers::{Attach, PeerState};
use super::resolve::{self, Player, Unready};
use super::run::Run;
use super::steer::Steering;
use crate::judge::acks;
use crate::judge::checks;
use crate::judge::matcher::{ExitMatch, Matcher};
use crate::judge::outcome::{Failure, Outcome, PeerRun};
use crate::judge::value::mismatch;
use crate::judge::verdict::{FailKind, Verdict};
use crate::link::End;
use crate::scenario::model::{Check, ExpectedFail, FailureKind, PatternRef};
use crate::scenario::span::{At, Span};
use crate::scenario::{Diagnostic, Plan, eval_match};
use crate::sys::child::Exit;
use crate::sys::clock::Clock;
use crate::sys::socket;
use crate::trace::PeerId;
use crate::trace::Timeline;
use crate::wire::{Base, Channel, Party, Value};

/// How long a process may take to end once it was asked to.
const END_MS: u64 = 5_000;
/// How long its own children may take to end after it.
const LEAK_GRACE_MS: u64 = 200;
/// Events shown with a failure.
const LAST_EVENTS: usize = 12;

/// Runs a plan and gives its outcome.
pub(super) fn outcome(plan: &Plan, environment: &Environment) -> Outcome {
    run_plan(plan, environment, None, |_| {})
}

/// The same with somebody who decides about the order of things, and somebody who reads the timeline.
pub(super) fn steered<'a>(
    plan: &'a Plan,
    environment: &'a Environment,
    steering: Steering<'a>,
    read: impl FnOnce(&Timeline),
) -> Outcome {
    run_plan(plan, environment, Some(steering), read)
}

fn run_plan<'a>(
    plan: &'a Plan,
    environment: &'a Environment,
    steering: Option<Steering<'a>>,
    read: impl FnOnce(&Timeline),
) -> Outcome {
    let clock = Clock::start();
    let mut outcome = Outcome::of(plan, Verdict::Pass, None);
    let peers = match resolve::peers(plan, environment) {
        Ok(peers) => peers,
        Err(Unready::Obstacle(obstacle)) => {
            outcome.reason = Some(obstacle.reason.clone());
            outcome.verdict = if obstacle.fatal {
                Verdict::Fail(FailKind::Start)
            } else {
                Verdict::Skipped
            };
            if obstacle.fatal {
                let diagnostic = Diagnostic::error("a required peer is missing").footer(obstacle.reason);
                outcome.failure = Some(bare_failure(diagnostic, plan, environment));
            }
            return outcome;
        }
        Err(Unready::Wrong(diagnostic)) => {
            fail(&mut outcome, FailKind::Script, *diagnostic, plan, environment);
            return outcome;
        }
    };
    let directory = match Directory::make(plan, environment) {
        Ok(directory) => directory,
        Err(error) => {
            let diagnostic = Diagnostic::error(format!("no directory for the run: {error}"))
                .help("runs are kept in the folder of TMPDIR while they last, or in that of --keep");
            fail(&mut outcome, FailKind::Harness, diagnostic, plan, environment);
            return outcome;
        }
    };
    match Run::new(plan, environment, peers, &directory.path) {
        Err(stop) => match stop.kind {
            StopKind::Fail(kind) => fail(&mut outcome, kind, stop.diagnostic, plan, environment),
            _ => fail(&mut outcome, FailKind::Harness, stop.diagnostic, plan, environment),
        },
        Ok(mut run) => {
            run.begin_steering(steering);
            let result = run.script();
            outcome.script_ms = run.clock.now().ms();
            let result = match run.is_killed() {
                // the script's expectations say nothing any more
                true => result,
                false => result.and_then(|()| run.check_controls()).and_then(|()| run.checks()),
            };
            let ended = run.take_down(result.is_ok());
            read(&run.timeline);
            let kept = match &environment.keep {
                Some(_) => run.keep_traces(environment, &directory.path),
                None => Ok(()),
            };
            let ended = ended.and_then(|()| {
                kept.map_err(|e| Stop::harness(format!("the traces cannot be kept: {e}"), Span::default()))
            });
            run.report(result.and(ended), &mut outcome);
        }
    }
    expected(&mut outcome, plan, environment);
    outcome.duration_ms = clock.now().ms();
    outcome
}

/// Turns the verdict of a scenario that is known to fail, if it was run with the peers that it is known for.
fn expected(outcome: &mut Outcome, plan: &Plan, environment: &Environment) {
    let Some(known) = plan.scenario.expected_fail.as_ref().map(|known| &known.value) else {
        return;
    };
    let others = plan.scenario.peers.iter().any(|(_, peer)| {
        let other = |written: &Option<At<String>>, given: &Option<String>| match (written, given) {
            (Some(written), Some(given)) => written.value != *given,
            _ => false,
        };
        other(&peer.frontend, &environment.frontend) || other(&peer.backend, &environment.backend)
    });
    if others {
        return;
    }
    let because = &known.because.value;
    match outcome.verdict {
        Verdict::Fail(kind) if is_known(known, kind, outcome.failure.as_ref()) => {
            outcome.verdict = Verdict::ExpectedFail;
            outcome.reason = Some(because.clone());
        }
        Verdict::Fail(FailKind::Wrong | FailKind::Crash | FailKind::Hang | FailKind::Leak) => {
            if let Some(failure) = &mut outcome.failure {
                let line = format!("this is not the failure that the scenario is known for: {because}");
                failure.diagnostic.footer.push(line);
            }
        }
        Verdict::Pass => {
            outcome.verdict = Verdict::UnexpectedPass;
            outcome.reason = Some(format!("was expected to fail: {because}"));
        }
        _ => {}
    }
}

/// Whether this is the failure that a scenario is known for.
fn is_known(known: &ExpectedFail, kind: FailKind, failure: Option<&Failure>) -> bool {
    let same = matches!(
        (known.kind.value, kind),
        (FailureKind::Wrong, FailKind::Wrong)
            | (FailureKind::Crash, FailKind::Crash)
            | (FailureKind::Hang, FailKind::Hang)
            | (FailureKind::Leak, FailKind::Leak)
    );
    let says = |text: &str| {
        failure.is_some_and(|f| {
            f.diagnostic.message.contains(text) || f.diagnostic.footer.iter().any(|line| line.contains(text))
        })
    };
    same && known.says.as_ref().is_none_or(|text| says(&text.value))
}

fn fail(outcome: &mut Outcome, kind: FailKind, diagnostic: Diagnostic, plan: &Plan, environment: &Environment) {
    outcome.verdict = Verdict::Fail(kind);
    outcome.reason = Some(diagnostic.one_line(&plan.sources));
    outcome.failure = Some(bare_failure(diagnostic, plan, environment));
}

fn bare_failure(diagnostic: Diagnostic, plan: &Plan, environment: &Environment) -> Failure {
    Failure {
        diagnostic,
        last_events: Vec::new(),
        stderr: Vec::new(),
        rerun: rerun(plan, environment),
    }
}

/// The command that runs the scenario again.
fn rerun(plan: &Plan, environment: &Environment) -> String {
    let quoted = if plan.id.contains('[') {
        format!("'{}'", plan.id)
    } else {
        plan.id.clone()
    };
    format!("{} {quoted}", environment.rerun)
}

impl Run<'_> {
    /// The checks over the whole timeline.
    fn checks(&mut self) -> Result<()> {
        self.look_at_rings();
        self.check_watchers()?;
        for check in &self.plan.scenario.check {
            let span = check.span;
            match &check.value {
                Check::Order(chain) => self.check_chain(chain, span, checks::order)?,
                Check::HappensBefore(chain) => self.check_chain(chain, span, checks::happens_before)?,
                Check::Acks(rule) => self.check_acks(rule.span)?,
                Check::Count(count) => {
                    let matcher = self.matcher(&count.of, span)?;
                    let found = checks::find(&self.timeline, &matcher).count() as u64;
                    let wanted = eval_match(&count.is.value, &self.bindings)?;
                    if let Some(why) = mismatch(&Value::U64(found), &wanted, matcher.space) {
                        let diagnostic = Diagnostic::error(format!("{matcher} is there another number of times"))
                            .at(count.is.span)
                            .label(format!("the number {why}"))
                            .expected_actual(
                                format!("count{}", crate::judge::value::describe(&wanted, Base::Decimal)),
                                format!("count={found}"),
                            );
                        return Err(Stop::wrong(diagnostic));
                    }
                }
                Check::Never(pattern) => {
                    let matcher = self.matcher(pattern, span)?;
                    if let Some(seq) = checks::find(&self.timeline, &matcher).next() {
                        let diagnostic = Diagnostic::error(format!("{matcher} is on the timeline"))
                            .at(span)
                            .expected_actual(format!("no {matcher}"), self.timeline.describe(seq));
                        return Err(Stop::wrong(diagnostic));
                    }
                }
                Check::Marks(marks) => self.check_marks(marks)?,
                Check::Rate(rate) => self.check_rate(rate, span)?,
                // what a process writes while it ends counts as well
                Check::Stderr(_) => {}
            }
        }
        Ok(())
    }

    fn check_chain(
        &self,
        chain: &[PatternRef],
        span: Span,
        check: fn(&Timeline, &[Matcher]) -> checks::Verdict,
    ) -> Result<()> {
        let matchers: Result<Vec<_>> = chain.iter().map(|p| self.matcher(&p.0.value, p.0.span)).collect();
        let matchers = matchers?;
        check(&self.timeline, &matchers).map_err(|(culprit, what)| {
            let place = chain.get(culprit).map_or(span, |p: &PatternRef| {
                let At { span: own, .. } = p.0;
                if own.line > 0 { own } else { span }
            });
            let order: Vec<String> = matchers.iter().map(ToString::to_string).collect();
            let diagnostic = Diagnostic::error("the order does not hold")
                .at(place)
                .expected_actual(order.join(" < "), what);
            Stop::wrong(diagnostic)
        })
    }

    fn check_acks(&self, span: Span) -> Result<()> {
        let faults = acks::check(&self.timeline);
        let Some(first) = faults.first() else { return Ok(()) };
        let diagnostic = Diagnostic::error("requests and replies do not fit together")
            .at(span)
            .expected_actual(
                "every request that wants an answer has exactly one, in order",
                &first.what,
            )
            .footer(format!("at        {}", self.timeline.describe_when(first.at)));
        Err(Stop::wrong(diagnostic))
    }

    fn check_stderr(&self) -> Result<()> {
        for check in &self.plan.scenario.check {
            let Check::Stderr(rule) = &check.value else { continue };
            let peer = self.peer(&rule.peer.value, rule.peer.span)?;
            let text = self.peers[peer.0]
                .child
                .as_ref()
                .map(|c| c.err.text())
                .unwrap_or_default();
            let wrong = |text: &At<String>, what: &str| {
                let message = format!("the standard error of `{}` {what} `{}`", rule.peer.value, text.value);
                Stop::wrong(Diagnostic::error(message).at(text.span))
            };
            if let Some(wanted) = rule.contains.as_ref().filter(|w| !text.contains(&w.value)) {
                return Err(wrong(wanted, "does not contain"));
            }
            if let Some(unwanted) = rule.lacks.as_ref().filter(|w| text.contains(&w.value)) {
                return Err(wrong(unwanted, "contains"));
            }
        }
        Ok(())
    }

    /// Ends every process and judges how it did. In a failed run nothing is judged any more, only ended.
    pub(super) fn take_down(&mut self, judge: bool) -> Result<()> {
        // a thread that is held could not end
        self.threads.clear();
        self.let_all_go();
        self.traffic.clear();
        self.hang_up();
        if !judge {
            self.kill_processes();
            return Ok(());
        }
        let mut verdict = self.servers_hold_nothing();
        for peer in 0..self.peers.len() {
            let judged = self.end_process(peer);
            if matches!(&judged, Err(stop) if stop.kind == StopKind::Interrupted) {
                self.kill_processes();
                return judged;
            }
            if verdict.is_ok() {
                verdict = judged;
            }
        }
        verdict.and_then(|()| self.check_stderr())
    }

    fn kill_processes(&mut self) {
        for peer in &mut self.peers {
            if let Some(child) = &mut peer.child {
                // its last words may say why
                child.collect();
                child.sweep();
            }
            peer.qemu = None;
        }
    }

    /// Closes all connections: a process may end because of it, and learns of the end of the run.
    fn hang_up(&mut self) {
        for link in &mut self.links {
            for channel in Channel::ALL {
                for party in [Party::FrontEnd, Party::BackEnd] {
                    *link.socket(channel).end(party) = End::Absent;
                }
            }
        }
        for peer in &mut self.peers {
            let listens = matches!(peer.attach, Attach::Listening(_));
            peer.attach = Attach::Idle;
            if let (true, Player::Listen(path)) = (listens, &peer.spec.player) {
                // a path of the user's, where a socket on which nobody listens would only be in the way
                socket::unlink(path);
            }
        }
    }

    fn end_process(&mut self, peer: usize) -> Result<()> {
        let state = &mut self.peers[peer];
        if state.child.is_none() {
            return Ok(());
        }
        self.await_own_end(PeerId(peer))?;
        let state = &self.peers[peer];
        let ended_before = state.has_ended();
        let own_end = matches!(&state.spec.player, Player::Program(e) if e.ends_with_connection);
        let wants_own_end = own_end || state.spec.exit.as_ref().is_some_and(|r| r.status.is_some());
        if !ended_before {
            if state.stopped {
                self.signal_process(PeerId(peer), Signal::SIGCONT, Span::default())?;
            }
            if !wants_own_end || self.peers[peer].asked_to_end {
                self.signal_process(PeerId(peer), Signal::SIGTERM, Span::default())?;
            }
            let deadline = self.clock.now().plus_ms(END_MS);
            self.wait_for_end(PeerId(peer), deadline)?;
        }
        self.peers[peer].qemu = None;
        let state = &mut self.peers[peer];
        let Some(child) = &mut state.child else { return Ok(()) };
        let exit = child.exit();
        let survivors = child.survivors_after(LEAK_GRACE_MS);
        child.sweep();
        let Some(exit) = exit else {
            let message = format!(
                "`{}` did not end within {} s of being asked to",
                state.spec.name,
                END_MS / 1000
            );
            return Err(Stop::fail(
                FailKind::Hang,
                Diagnostic::error(message).at(state.spec.span),
            ));
        };
        self.judge_end(peer, exit, ended_before)?;
        let state = &self.peers[peer];
        if let Some(survivor) = survivors.first() {
            let name = &state.spec.name;
            let (message, which) = match survivors.len() {
                1 => (format!("`{name}` left a process behind"), "it"),
                n => (format!("`{name}` left {n} processes behind"), "one of them"),
            };
            let footer = format!("{which} is {} (pid {})", survivor.name, survivor.pid);
            return Err(Stop::fail(
                FailKind::Leak,
                Diagnostic::error(message).at(state.spec.span).footer(footer),
            ));
        }
        let removes = matches!(&state.spec.player, Player::Program(e) if e.removes_socket);
        if removes && !ended_before && state.socket.exists() {
            let message = format!("`{}` left its socket file behind", state.spec.name);
            return Err(Stop::fail(
                FailKind::Leak,
                Diagnostic::error(message).at(state.spec.span),
            ));
        }
        Ok(())
    }

    /// Whether a process ended as the scenario says it has to.
    pub(super) fn judge_end(&self, peer: usize, exit: Exit, ended_before: bool) -> Result<()> {
        let state = &self.peers[peer];
        let rule = state.spec.exit.as_ref();
        let wanted = rule.map(|rule| self.exit_match(rule, Span::default())).transpose()?;
        judge_exit(state, exit, ended_before, wanted)
    }

    /// Writes the outcome.
    fn report(mut self, result: Result<()>, outcome: &mut Outcome) {
        outcome.rates = std::mem::take(&mut self.traffic.rated);
        outcome.events = self.timeline.events().len();
        outcome.messages = self
            .timeline
            .events()
            .iter()
            .filter(|e| e.kind.message().is_some())
            .count();
        outcome.marks = self.watchers.marks().iter().map(|mark| mark.id()).collect();
        outcome.peers = self.peers.iter().map(peer_run).collect();
        let Err(stop) = result else {
            outcome.reason = self.unneeded();
            return;
        };
        let stderr = |p: &PeerState| {
            let text = p.child.as_ref().map(|c| c.err.text()).unwrap_or_default();
            (!text.trim().is_empty()).then(|| (p.spec.name.clone(), text))
        };
        outcome.reason = Some(stop.diagnostic.one_line(&self.plan.sources));
        match stop.kind {
            StopKind::Unsupported => {
                outcome.verdict = Verdict::Unsupported;
                outcome.reason = Some(stop.diagnostic.message.clone());
            }
            StopKind::Interrupted | StopKind::OutOfTime | StopKind::Noise => outcome.verdict = Verdict::Inconclusive,
            StopKind::Insane => {
                outcome.verdict = Verdict::Inconclusive;
                let why = stop.diagnostic.one_line(&self.plan.sources);
                outcome.reason = Some(format!("the sanity conversation failed: {why}"));
            }
            StopKind::Fail(kind) => {
                outcome.verdict = Verdict::Fail(kind);
                outcome.failure = Some(Failure {
                    diagnostic: stop.diagnostic,
                    last_events: self.timeline.last_lines(LAST_EVENTS),
                    stderr: self.peers.iter().filter_map(stderr).collect(),
                    rerun: rerun(self.plan, self.environment),
                });
            }
        }
    }
}

fn peer_run(peer: &PeerState) -> PeerRun {
    PeerRun {
        name: peer.spec.name.clone(),
        role: peer.spec.party.to_string(),
        kind: peer.spec.label.clone(),
        exit: (!peer.exits.is_empty()).then(|| peer.exits.join(", then ")),
    }
}

/// Whether a process ended as it should.
fn judge_exit(state: &PeerState, exit: Exit, ended_before: bool, wanted: Option<ExitMatch>) -> Result<()> {
    let own_end = matches!(&state.spec.player, Player::Program(e) if e.ends_with_connection);
    let name = &state.spec.name;
    let fail = |expected: String| {
        let diagnostic = Diagnostic::error(format!("`{name}` ended in another way"))
            .at(state.spec.span)
            .expected_actual(expected, exit);
        Err(Stop::fail(FailKind::of_end(exit), diagnostic))
    };
    match wanted {
        Some(ExitMatch::Any) => Ok(()),
        Some(ExitMatch::Is(wanted)) if wanted == exit => Ok(()),
        Some(ExitMatch::Is(wanted)) => fail(wanted.to_string()),
        // a step has killed it
        None if ended_before && state.asked_to_end => Ok(()),
        None if ended_before && own_end && exit == Exit::Status(0) => Ok(()),
        None if ended_before => fail("alive until the harness ends it".to_owned()),
        None if exit == Exit::Status(0) || exit == Exit::Signal(Signal::SIGTERM as i32) => Ok(()),
        None => fail("exit status 0, or signal SIGTERM".to_owned()),
    }
}
