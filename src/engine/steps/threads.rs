//! Steps that hold a thread of a peer's process, and the one that waits until all of its threads sleep.

use std::io;

use super::super::failure::{Result, Stop, StopKind};
use super::super::run::Run;
use super::Waiting;
use crate::judge::verdict::FailKind;
use crate::scenario::Diagnostic;
use crate::scenario::model::{HoldThread, News as WantedNews, ThreadPoint, WaitCall};
use crate::scenario::span::Span;
use crate::sys::fd::drain_event;
use crate::sys::threads::{Thread, Wait, all_asleep, is_connected_socket, threads};
use crate::sys::trace_thread::{HeldThread, HoldState, News, Point, Rule};
use crate::trace::{EventKind, PeerId};

/// A thread that is held, or will be.
#[derive(Debug)]
pub(in super::super) struct ThreadHold {
    name: String,
    peer: PeerId,
    /// Which, in words.
    what: String,
    /// When it is held, in words.
    when: String,
    pub(in super::super) thread: HeldThread,
}

impl ThreadHold {
    /// Whether it is a thread of that peer.
    pub(in super::super) fn is_of(&self, peer: PeerId) -> bool {
        self.peer == peer
    }
}

/// A thread that is looked for, or being attached to.
#[derive(Debug)]
pub(in super::super) struct Wanted {
    name: String,
    peer: PeerId,
    rule: Rule,
    serves_socket: Option<bool>,
    /// When it is to be held, in words.
    when: String,
}

/// What looking for a thread came to.
enum Search {
    Found(Thread),
    /// Perhaps later.
    Nothing,
    /// Never, and why.
    Never(String),
}

impl Run<'_> {
    pub(super) fn begin_hold_thread(&mut self, step: &HoldThread) -> Result<Waiting> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let point = match step.when.as_ref().map(|when| when.value) {
            None | Some(ThreadPoint::Returns) => Point::Return,
            Some(ThreadPoint::Waits) => Point::Entry,
        };
        let wait = step.waits_in.as_ref().map(|wait| match wait.value {
            WaitCall::Epoll => Wait::Epoll,
            WaitCall::Poll => Wait::Poll,
            WaitCall::Read => Wait::Read,
            WaitCall::Recv => Wait::Receive,
        });
        let (news, told) = match &step.told_of {
            None => (None, String::new()),
            Some(told) => self.news(peer, told, step.name.span)?,
        };
        let when = match point {
            Point::Return => format!("as it returns from a wait{told}"),
            Point::Entry => "before it waits".to_owned(),
        };
        Ok(Waiting::Thread(Box::new(Wanted {
            name: step.name.value.clone(),
            peer,
            rule: Rule { point, wait, news },
            serves_socket: step.serves_socket.as_ref().map(|serves| serves.value),
            when,
        })))
    }

    fn news(&self, peer: PeerId, told: &WantedNews, span: Span) -> Result<(Option<News>, String)> {
        let Some(kick) = &told.kick else {
            return Ok((Some(News::Socket), " that tells it of the socket".to_owned()));
        };
        let ring = self.ring(kick)?;
        let link = self.link_of(peer, span)?;
        let event = u8::try_from(ring).ok().and_then(|r| self.links[link.0].kicks.get(&r));
        let Some(event) = event else {
            let diagnostic = Diagnostic::error(format!("ring {ring} has no kick eventfd")).at(kick.span);
            return Err(Stop::wrong(diagnostic.footer("SET_VRING_KICK brings it")));
        };
        Ok((
            Some(News::Event(*event)),
            format!(" that tells it of the kick of ring {ring}"),
        ))
    }

    /// A process that is to be looked at.
    fn pid(&self, peer: PeerId, span: Span) -> Result<i32> {
        let state = &self.peers[peer.0];
        match &state.child {
            Some(child) if child.exit().is_none() => Ok(child.pid()),
            Some(_) => {
                let message = format!("the process of `{}` has ended", state.spec.name);
                Err(Stop::fail(FailKind::Crash, Diagnostic::error(message).at(span)))
            }
            None => {
                let message = format!("`{}` has not been started", state.spec.name);
                Err(Stop::wrong(Diagnostic::error(message).at(span)))
            }
        }
    }

    pub(super) fn poll_hold_thread(&mut self, span: Span, wanted: &Wanted) -> Result<bool> {
        let pid = self.pid(wanted.peer, span)?;
        if let Some(hold) = self.threads.iter().find(|hold| hold.name == wanted.name) {
            return match hold.thread.state() {
                HoldState::Attaching => Ok(false),
                HoldState::Refused { errno } => Err(refused(&io::Error::from_raw_os_error(errno), span)),
                HoldState::Gone => Err(self.thread_ended(&wanted.name, span)),
                HoldState::Armed | HoldState::Held(_) | HoldState::Released => Ok(true),
            };
        }
        let taken: Vec<i32> = self.threads.iter().map(|hold| hold.thread.tid()).collect();
        let found = match search(pid, wanted, &self.held_threads(), &taken) {
            Ok(Search::Found(thread)) => thread,
            Ok(Search::Nothing) => return Ok(false),
            Ok(Search::Never(why)) => {
                let message = format!("`{}` {why}", self.peers[wanted.peer.0].spec.name);
                return Err(unsupported(message, span));
            }
            Err(error) => return Err(refused(&error, span)),
        };
        let thread = HeldThread::seize(pid, found.tid, wanted.rule).map_err(|e| refused(&e, span))?;
        self.threads.push(ThreadHold {
            name: wanted.name.clone(),
            peer: wanted.peer,
            what: format!("thread {} ({})", found.tid, found.name),
            when: wanted.when.clone(),
            thread,
        });
        Ok(false)
    }

    /// Notes on the timeline what has become of a thread.
    pub(in super::super) fn thread_changed(&mut self, at: usize) {
        let Some(hold) = self.threads.get(at) else { return };
        if !matches!(drain_event(hold.thread.changed()), Ok(Some(_))) {
            return;
        }
        let (name, what) = (&hold.name, &hold.what);
        let what = match hold.thread.state() {
            HoldState::Attaching | HoldState::Refused { .. } => return,
            HoldState::Armed => format!("{what} will be held by `{name}` {}", hold.when),
            HoldState::Held(call) => format!("{what} is held by `{name}` {} ({call})", hold.when),
            HoldState::Released => format!("{what} goes on"),
            HoldState::Gone => format!("{what} has ended"),
        };
        let (peer, link) = (hold.peer, self.peers[hold.peer.0].link);
        self.record(Some(peer), link, EventKind::Thread { what });
    }

    pub(super) fn poll_held(&mut self, span: Span, name: &str) -> Result<bool> {
        let Some(at) = self.threads.iter().position(|hold| hold.name == *name) else {
            return Ok(self.is_holding(name));
        };
        match self.threads[at].thread.state() {
            HoldState::Held(_) => {
                // on the timeline before whatever comes next
                self.thread_changed(at);
                Ok(true)
            }
            HoldState::Attaching | HoldState::Armed => Ok(false),
            HoldState::Released | HoldState::Gone => Err(self.thread_ended(name, span)),
            HoldState::Refused { errno } => Err(refused(&io::Error::from_raw_os_error(errno), span)),
        }
    }

    fn thread_ended(&self, name: &str, span: Span) -> Box<Stop> {
        let hold = self.threads.iter().find(|hold| hold.name == *name);
        let what = hold.map_or("the thread", |hold| hold.what.as_str());
        let diagnostic = Diagnostic::error(format!("{what} ended before it came to be held")).at(span);
        Stop::wrong(diagnostic)
    }

    /// Lets the thread of a hold go, if it has one.
    pub(super) fn begin_let_go(&mut self, name: &str) -> Waiting {
        let Some(hold) = self.threads.iter_mut().find(|hold| hold.name == *name) else {
            return Waiting::Nothing;
        };
        hold.thread.release();
        Waiting::LetGo(name.to_owned())
    }

    pub(super) fn poll_let_go(&mut self, name: &str) -> bool {
        let Some(at) = self.threads.iter().position(|hold| hold.name == *name) else {
            return true;
        };
        if !matches!(
            self.threads[at].thread.state(),
            HoldState::Released | HoldState::Gone | HoldState::Refused { .. }
        ) {
            return false;
        }
        self.thread_changed(at);
        self.threads.remove(at);
        true
    }

    pub(super) fn poll_idle(&mut self, span: Span, peer: PeerId) -> Result<bool> {
        if self.has_unsent(peer) {
            return Ok(false);
        }
        if self.steering.is_some() {
            return self.is_idle_steered(peer);
        }
        let pid = self.pid(peer, span)?;
        match all_asleep(pid, &self.held_threads()) {
            Ok(asleep) => Ok(asleep),
            // its end comes as an event of its own
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(refused(&error, span)),
        }
    }

    /// Threads that are held at this moment.
    fn held_threads(&self) -> Vec<i32> {
        let is_held = |hold: &&ThreadHold| matches!(hold.thread.state(), HoldState::Held(_));
        self.threads.iter().filter(is_held).map(|h| h.thread.tid()).collect()
    }

    /// Whether something is on its way to a peer that it cannot have seen.
    fn has_unsent(&mut self, peer: PeerId) -> bool {
        let state = &self.peers[peer.0];
        let (Some(link), party) = (state.link, state.spec.party) else {
            return false;
        };
        if self.has_signals_for(link, party) {
            return true;
        }
        crate::wire::Channel::ALL.into_iter().any(|channel| {
            let end = self.links[link.0].socket_ref(channel).end_ref(party);
            matches!(end, crate::link::End::Remote(stream) if stream.wants_write() || stream.waits_for_reader())
        })
    }

    /// Whether a step has to look at the threads of a process again and again.
    pub(in super::super) fn looks_at_threads(&self) -> bool {
        let looks = |waiting: &Waiting| matches!(waiting, Waiting::Thread(_) | Waiting::Idle(_));
        self.tracks
            .iter()
            .any(|track| track.waiting.as_ref().is_some_and(looks))
    }

    pub(super) fn thread_wanted(&self, wanted: &Wanted) -> String {
        let name = &self.peers[wanted.peer.0].spec.name;
        format!("a thread of `{name}` that can be held {}", wanted.when)
    }

    pub(super) fn hold_waits_for(&self, name: &str) -> String {
        let hold = self.threads.iter().find(|hold| hold.name == *name);
        hold.map_or_else(
            || {
                let hold = self.holds.iter().find(|hold| hold.name == *name);
                hold.map_or_else(
                    || format!("something that `{name}` keeps"),
                    |hold| hold.matcher.to_string(),
                )
            },
            |hold| format!("{} {}", hold.what, hold.when),
        )
    }
}

/// The one thread of a process that waits where the step says, and is not `taken` by another hold.
fn search(pid: i32, wanted: &Wanted, held: &[i32], taken: &[i32]) -> io::Result<Search> {
    // asked first: whoever is found asleep in another place afterwards has been there all the time
    let asleep = all_asleep(pid, held)?;
    let mut candidates = Vec::new();
    let mut others = Vec::new();
    for thread in threads(pid)?.into_iter().filter(|t| !taken.contains(&t.tid)) {
        let Some(call) = thread.call else {
            others.push(format!("{} runs", thread.name));
            continue;
        };
        let fds = call.waited_for(pid).unwrap_or_default();
        let is_kind = match (call.wait(), wanted.rule.wait) {
            (found, Some(kind)) => found == Some(kind),
            (found, None) => found.is_some(),
        };
        let hears = wanted
            .rule
            .news
            .is_none_or(|news| fds.iter().any(|fd| news.is_about(pid, *fd)));
        let serves = fds.iter().any(|fd| is_connected_socket(pid, *fd));
        if is_kind && hears && wanted.serves_socket.is_none_or(|wants| wants == serves) {
            candidates.push(thread);
            continue;
        }
        let socket = if serves { ", the socket among them" } else { "" };
        let what = match fds.len() {
            0 => call.to_string(),
            n => format!("{call} on {n} descriptors{socket}"),
        };
        others.push(format!("{} sleeps in {what}", thread.name));
    }
    Ok(match (candidates.len(), asleep) {
        (1, _) => candidates.pop().map_or(Search::Nothing, Search::Found),
        (0, true) => Search::Never(format!("has no thread that waits like this: {}", others.join("; "))),
        (0, false) => Search::Nothing,
        (_, true) => {
            let all: Vec<&str> = candidates.iter().map(|t| t.name.as_str()).collect();
            Search::Never(format!("has several threads that wait like this: {}", all.join(", ")))
        }
        (_, false) => Search::Nothing,
    })
}

fn unsupported(message: String, span: Span) -> Box<Stop> {
    Box::new(Stop {
        kind: StopKind::Unsupported,
        diagnostic: Diagnostic::error(message).at(span),
    })
}

/// Looking at a process, or tracing it, did not work.
fn refused(error: &io::Error, span: Span) -> Box<Stop> {
    match error.kind() {
        io::ErrorKind::PermissionDenied => unsupported(
            format!(
                "ptrace is not permitted here, which holding a thread needs ({error}); `vuh doctor` shows the ptrace scope"
            ),
            span,
        ),
        _ => Stop::harness(format!("the threads of the process cannot be looked at: {error}"), span),
    }
}
