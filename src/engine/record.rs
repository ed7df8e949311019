//! Recording: two real programs with the harness between them, for as long as they talk. Nothing is judged; everything that
//! crosses goes into a trace, and what is kept in memory does not grow with it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::directory::Directory;
use super::failure::{Stop, StopKind};
use super::link::Link;
use super::resolve::{self, Peer, Player, Unready};
use super::run::{DIAL_INTERVAL_MS, Run};
pub use super::watch::Rings;
use super::{Environment, Obstacle};
use crate::link::{End, Stream};
use crate::scenario::{Diagnostic, Plan};
use crate::sys::child::Exit;
use crate::sys::clock::Moment;
use crate::sys::socket;
use crate::trace::file::{Counts, Header, Made, Output, PeerNote, Recorder};
use crate::trace::{EventKind, LinkId, PeerId};
use crate::wire::{Channel, Dialect, Party};

/// Connections at the same time; further ones wait in the backlog.
const CONNECTIONS_MAX: usize = 1024;
/// How long somebody who has connected waits until the other side can be reached.
const REACH_MS: u64 = 1_000;
/// Connections that wait for that.
const WAITING_MAX: usize = 64;
/// How long a front-end that was asked to end may take, still being recorded.
const END_MS: u64 = 5_000;
/// Lines of a failed process's standard error that are told.
const LAST_WORDS: usize = 5;

/// What is recorded.
#[derive(Debug)]
pub enum Between<'a> {
    /// Programs that are started, and driven by a plan's steps.
    Peers {
        /// The plan.
        plan: &'a Plan,
        /// It is over when the steps are through; otherwise when one side is gone.
        driven: bool,
    },
    /// Programs that are started elsewhere: whoever connects to the one path meets whoever listens on the other.
    Sockets {
        /// Only names them: a front-end of `listen:PATH`, a back-end of `connect:PATH`, or the other way round.
        plan: &'a Plan,
    },
}

/// What came of it.
#[derive(Debug)]
pub struct Recorded {
    /// How much was recorded.
    pub counts: Counts,
    /// Each process, and how it ended.
    pub exits: Vec<(String, String)>,
    /// The last words of processes that failed, line by line.
    pub last_words: Vec<(String, Vec<String>)>,
    /// What went wrong while it was driven, if something did. What was recorded until then is there.
    pub stopped: Option<String>,
    /// What was seen in the rings, if they were looked into.
    pub rings: Option<Rings>,
}

/// Why nothing, or not everything, was recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A peer is not here.
    #[error("{}", .0.reason)]
    Missing(Obstacle),
    /// A peer cannot be meant, or cannot be started.
    #[error("{0}")]
    Peer(String),
    /// The path cannot be listened on.
    #[error("listen on {}: {source}", path.display())]
    Listen {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The trace cannot be written.
    #[error("the trace cannot be written to {to}: {source}")]
    Write {
        /// Where to.
        to: String,
        /// What the system says.
        source: io::Error,
    },
    /// The harness itself.
    #[error("{0}")]
    Harness(String),
}

/// Records until the conversation is over, or the process is asked to stop. If `look` is set, guest memory that crosses is mapped
/// and its rings are looked into; what is wrong there is told in the trace.
///
/// # Errors
/// Nothing could be recorded, or the trace could not be written to its end.
pub fn record(
    between: &Between,
    environment: &Environment,
    made: Made,
    output: &Output,
    look: bool,
) -> Result<Recorded, RecordError> {
    let (Between::Peers { plan, .. } | Between::Sockets { plan }) = between;
    let peers = resolve::peers(plan, environment).map_err(|unready| match unready {
        Unready::Obstacle(obstacle) => RecordError::Missing(obstacle),
        Unready::Wrong(diagnostic) => RecordError::Peer(diagnostic.one_line(&plan.sources)),
    })?;
    let directory = Directory::make(plan, environment).map_err(|e| RecordError::Harness(e.to_string()))?;
    let unwritten = |source| RecordError::Write {
        to: output
            .path
            .as_ref()
            .map_or_else(|| "the standard output".to_owned(), |path| path.display().to_string()),
        source,
    };
    let recorder = Recorder::new(output, header(made, &peers, environment)).map_err(unwritten)?;
    let stop = |stop: Box<Stop>| RecordError::Peer(stop.diagnostic.one_line(&plan.sources));
    let mut run = Run::new(plan, environment, peers, &directory.path).map_err(stop)?;
    run.timeline.record_to(recorder);
    if look {
        run.look_while_recording();
    }
    let stopped = match between {
        Between::Peers { driven, .. } => run.record_peers(*driven),
        Between::Sockets { .. } => run.record_sockets()?,
    };
    let stopped = stopped.and_then(|stop| match stop.kind {
        StopKind::Interrupted => None,
        _ => Some(stop.diagnostic),
    });
    let rings = run.rings_seen();
    let exits = run
        .peers
        .iter()
        .flat_map(|p| p.exits.iter().map(|exit| (p.spec.name.clone(), exit.clone())));
    let last_words = run.peers.iter().filter_map(|peer| {
        let child = peer.child.as_ref()?;
        let failed = !peer.asked_to_end && child.exit().is_some_and(|exit| exit != Exit::Status(0));
        let text = child.err.text();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let kept = lines.len().saturating_sub(LAST_WORDS);
        (failed && !lines.is_empty()).then(|| (peer.spec.name.clone(), lines[kept..].to_vec()))
    });
    Ok(Recorded {
        rings,
        exits: exits.collect(),
        last_words: last_words.collect(),
        counts: match run.timeline.finish_recording() {
            Some(finished) => finished.map_err(unwritten)?,
            None => Counts::default(),
        },
        stopped: stopped.map(|diagnostic| {
            let details: Vec<&str> = diagnostic.footer.iter().map(String::as_str).collect();
            [&[diagnostic.message.as_str()], &details[..]].concat().join("; ")
        }),
    })
}

pub(super) fn header<'a>(
    made: Made,
    peers: impl IntoIterator<Item = &'a Peer> + Clone,
    environment: &Environment,
) -> Header {
    let note = |peer: &Peer| PeerNote {
        name: peer.name.clone(),
        party: peer.party,
        player: peer.label.clone(),
        version: match &peer.player {
            Player::Program(entry) => environment.catalogue.probe(entry).ok(),
            _ => None,
        },
    };
    let started = peers.clone().into_iter().any(Peer::is_process);
    let device = peers.clone().into_iter().next().map(|p| p.device.clone());
    Header {
        made,
        device: device.filter(|device| started || device != "generic"),
        peers: peers.into_iter().map(note).collect(),
        ..Header::default()
    }
}

/// Where connections come in, and where they go on to.
#[derive(Debug)]
pub(super) struct Gate {
    listener: UnixListener,
    /// The side that connects to us.
    party: Party,
    onward: PathBuf,
    waiting: Vec<(OwnedFd, Moment)>,
}

impl Gate {
    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Whether somebody waits until the other side can be reached.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Run<'_> {
    /// Runs the script, then goes on until one side is gone; then ends both.
    fn record_peers(&mut self, driven: bool) -> Option<Box<Stop>> {
        let mut stopped = self.script_while_connected().err();
        self.deadline = Moment { ns: u64::MAX };
        while stopped.is_none() && !driven && !self.is_over() {
            self.relay();
            stopped = self.wait_for_events().err();
        }
        self.heeds_signals = false;
        self.end_front();
        let judged = self.take_down(true);
        stopped.or(judged.err())
    }

    /// The script, as long as there is somebody for it to drive.
    fn script_while_connected(&mut self) -> Result<(), Box<Stop>> {
        loop {
            self.relay();
            let moved = self.advance_tracks()?;
            if self.tracks[0].is_done() {
                return Ok(());
            }
            if self.links.iter().any(|link| link.generation > 0) && self.is_over() {
                let ended = self
                    .peers
                    .iter()
                    .find(|p| p.has_ended())
                    .map(|p| format!("`{}` ended", p.spec.name));
                let what = ended.unwrap_or_else(|| "the connection was closed".to_owned());
                return Err(Stop::wrong(Diagnostic::error(format!(
                    "{what} while the front-end was being driven"
                ))));
            }
            if !moved {
                self.wait_for_events()?;
            }
        }
    }

    fn is_over(&self) -> bool {
        let ended = self.peers.iter().any(super::peers::PeerState::has_ended);
        ended || self.links.iter().all(|link| !link.is_connected())
    }

    /// Asks the front-end to end and records how it takes its leave.
    fn end_front(&mut self) {
        let front = self.peers.iter().position(|p| p.spec.party == Party::FrontEnd);
        let Some(front) = front.map(PeerId) else { return };
        let until = self.clock.now().plus_ms(END_MS);
        self.deadline = until;
        if self.peers[front.0].child.is_some() && !self.is_over() {
            // it may be gone by itself by now
            let _ = self.signal_process(front, Signal::SIGTERM, crate::scenario::span::Span::default());
        }
        let alive = |run: &Self| {
            let peer = &run.peers[front.0];
            let lives = peer.child.is_some() && !peer.has_ended();
            lives || (peer.child.is_some() && run.links.iter().any(|link| !link.is_idle()))
        };
        self.relay();
        while alive(self) && !self.is_past(until) && self.wait_for_events().is_ok() {
            self.relay();
        }
    }

    /// Lets connections in until the process is asked to stop.
    fn record_sockets(&mut self) -> Result<Option<Box<Stop>>, RecordError> {
        let (Some(listening), Some(onward)) = (self.socket_of(true), self.socket_of(false)) else {
            return Err(RecordError::Harness(
                "one side has to be listened for, one connected to".to_owned(),
            ));
        };
        let path = listening.1;
        let listener = socket::listen_anew(&path).map_err(|source| RecordError::Listen {
            path: path.clone(),
            source,
        })?;
        self.gate = Some(Gate {
            listener,
            party: listening.0,
            onward: onward.1,
            waiting: Vec::new(),
        });
        self.deadline = Moment { ns: u64::MAX };
        let stop = loop {
            self.relay();
            if let Err(stop) = self.wait_for_events() {
                break stop;
            }
        };
        self.gate = None;
        // what was said before the signal came is in the sockets still
        self.read_all_streams();
        self.relay();
        // a socket nobody listens on would only be in the way
        socket::unlink(&path);
        Ok(Some(stop))
    }

    fn socket_of(&self, listens: bool) -> Option<(Party, PathBuf)> {
        self.peers.iter().find_map(|peer| match &peer.spec.player {
            Player::Listen(path) if listens => Some((peer.spec.party, path.clone())),
            Player::Connect(path) if !listens => Some((peer.spec.party, path.clone())),
            _ => None,
        })
    }

    /// Whether there is room for one more connection.
    pub(super) fn has_room(&self) -> bool {
        let waiting = self.gate.as_ref().map_or(0, |gate| gate.waiting.len());
        let open = self.links.iter().filter(|link| !link.is_idle()).count();
        waiting < WAITING_MAX && open + waiting < CONNECTIONS_MAX
    }

    /// Takes in whoever has connected, and tries to reach the other side for those who wait.
    pub(super) fn admit(&mut self) {
        let Some(mut gate) = self.gate.take() else { return };
        let until = self.clock.now().plus_ms(REACH_MS);
        while self.has_room() && gate.waiting.len() < WAITING_MAX {
            match socket::accept(&gate.listener) {
                Ok(Some(stream)) => gate.waiting.push((stream, until)),
                Ok(None) | Err(_) => break,
            }
        }
        for (stream, until) in std::mem::take(&mut gate.waiting) {
            match socket::connect(&gate.onward) {
                Ok(Some(onward)) => self.join_ends(gate.party, stream, onward),
                Ok(None) if !self.is_past(until) => gate.waiting.push((stream, until)),
                Ok(None) => self.unreached(&gate, "nobody listens"),
                Err(error) => self.unreached(&gate, &error.to_string()),
            }
        }
        self.gate = Some(gate);
    }

    fn unreached(&mut self, gate: &Gate, why: &str) {
        let peer = self.peers.iter().position(|p| p.spec.party != gate.party).map(PeerId);
        let what = format!(
            "a connection was closed: {} cannot be reached: {why}",
            gate.onward.display()
        );
        self.record(peer, None, EventKind::Fault { what });
    }

    fn join_ends(&mut self, party: Party, stream: OwnedFd, onward: OwnedFd) {
        let free = self.links.iter().position(Link::is_idle);
        let link = LinkId(free.unwrap_or_else(|| {
            self.links
                .push(Link::new(self.peer_of(Party::FrontEnd), self.peer_of(Party::BackEnd)));
            self.links.len() - 1
        }));
        let state = &mut self.links[link.0];
        state.main.clear();
        state.channel.clear();
        state.xen = false;
        for (party, stream) in [(party, stream), (party.other(), onward)] {
            if let Ok(stream) = Stream::new(stream, Dialect::VhostUser) {
                *state.main.end(party) = End::Remote(stream);
            }
        }
        self.connection_made(link);
    }

    fn peer_of(&self, party: Party) -> PeerId {
        PeerId(self.peers.iter().position(|p| p.spec.party == party).unwrap_or(0))
    }

    /// When those who wait for the other side are looked after again.
    pub(super) fn next_admission(&self) -> Option<Moment> {
        let waits = self.gate.as_ref().is_some_and(Gate::is_waiting);
        waits.then(|| self.clock.now().plus_ms(DIAL_INTERVAL_MS * 5))
    }
}

impl Link {
    /// Nothing is connected, and nothing on its way.
    pub(super) fn is_idle(&self) -> bool {
        Channel::ALL.into_iter().all(|channel| {
            let socket = self.socket_ref(channel);
            [Party::FrontEnd, Party::BackEnd]
                .into_iter()
                .all(|party| !socket.end_ref(party).is_open() && socket.under_way(party).len() == 0)
        })
    }
}
