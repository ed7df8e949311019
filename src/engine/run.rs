//! The state of a run and its event loop.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Environment;
use super::control::{Control, HoldState};
use super::converse::Converse;
use super::failure::{Result, Stop};
use super::link::Link;
use super::peers::{PeerState, Sim};
use super::resolve::Peer;
use super::steps::ThreadHold;
use super::tracks::Track;
use super::traffic::Traffic;
use super::watch::{LOOK_INTERVAL_MS, Watchers};
use crate::judge::matcher::Matcher;
use crate::judge::verdict::FailKind;
use crate::link::{End, MESSAGES_PER_TURN};
use crate::peer::device::blk::{Blk, BlkOptions};
use crate::peer::device::generic::{Generic, GenericOptions};
use crate::peer::device::net::{Net, NetMode, NetOptions};
use crate::peer::device::{DeviceError, DeviceModel};
use crate::peer::sim::back::{BackConfig, F_EVENT_IDX, F_LOG_ALL, F_PROTOCOL_FEATURES, SimBack};
use crate::peer::sim::front::{FrontConfig, SimFront};
use crate::peer::sim::pci::PciServer;
use crate::scenario::span::Span;
use crate::scenario::traces::replays;
use crate::scenario::{Bindings, Diagnostic, Plan};
use crate::sys::child::Child;
use crate::sys::clock::{Clock, Moment};
use crate::sys::poll::{Interest, wait};
use crate::sys::signal;
use crate::sys::starved::Starved;
use crate::trace::{EventKind, LinkId, PeerId, Seq, Timeline};
use crate::wire::{Channel, DeviceKind, Dialect, Party, ProtocolFeature, pci};

/// Limit of a scenario that says nothing else.
const TIMEOUT_DEFAULT_MS: u64 = 10_000;
/// How many times its limit, or the usual one if that is less, limits of a scenario may be put off because others had the processors.
const STARVED_TIMES_MAX: u64 = 5;
/// How often a socket path is tried while its process comes up. The kernel has no way to wait for a listener.
pub(super) const DIAL_INTERVAL_MS: u64 = 2;
/// How often it is looked whether a peer has read a piece of a message that the next piece must not run together with.
/// The kernel has no way to wait for that either.
const PIECE_INTERVAL_MS: u64 = 1;
/// How often it is looked what the threads of a process do while a step waits for that. /proc cannot be waited for.
const THREADS_INTERVAL_MS: u64 = 1;
/// Descriptors of messages that wait for their delivery, at most: descriptors are scarce, and other runs need some too.
const FDS_UNDER_WAY_MAX: usize = 2048;
/// Events by which it is told who makes too many.
const LAST_WORDS: usize = 64;
/// Memory slots of a simulated back-end.
const MEMORY_SLOTS: u64 = 32;
/// VIRTIO_F_VERSION_1 and VIRTIO_RING_F_INDIRECT_DESC.
const F_VERSION_1: u64 = 1 << 32;
const F_INDIRECT_DESC: u64 = 1 << 28;
/// Bits of a device type.
const F_DEVICE_BITS: u64 = (1 << 24) - 1;

/// A `never` that is in force.
#[derive(Debug)]
pub(super) struct Never {
    pub(super) matcher: Matcher,
    pub(super) span: Span,
    pub(super) from: Seq,
}

/// One run.
pub(super) struct Run<'a> {
    pub(super) plan: &'a Plan,
    pub(super) environment: &'a Environment,
    /// What all links of this run speak.
    pub(super) dialect: Dialect,
    pub(super) clock: Clock,
    pub(super) timeline: Timeline,
    pub(super) peers: Vec<PeerState>,
    pub(super) links: Vec<Link>,
    pub(super) bindings: Bindings,
    pub(super) tracks: Vec<Track<'a>>,
    pub(super) holds: Vec<HoldState>,
    /// What else the script wants done on the links.
    pub(super) controls: Vec<Control>,
    pub(super) nevers: Vec<Never>,
    /// Messages that are a simulated front-end's own affair: expectations do not see them.
    pub(super) claimed: BTreeSet<Seq>,
    pub(super) timers: Vec<(Moment, PeerId, u64)>,
    pub(super) deadline: Moment,
    /// What the limit of the scenario and of its steps does not count.
    starved: Starved,
    /// Most that is not counted.
    starved_max_ns: u64,
    pub(super) directory: PathBuf,
    /// Requests that `await` will ask for: name, peer, what it is.
    pub(super) submitted: Vec<(String, super::steps::Submitted)>,
    /// Threads of peers' processes that are held, or will be.
    pub(super) threads: Vec<ThreadHold>,
    /// The modelled endpoints' own ends of their sockets.
    pub(super) modelled_ends: super::steps::Ends,
    /// A violation that a simulated peer noticed in shared memory.
    pub(super) violation: Option<String>,
    pub(super) watchers: Watchers,
    /// Deliveries that run while the script goes on.
    pub(super) traffic: Traffic,
    /// Where connections are let in while programs that are started elsewhere are recorded.
    pub(super) gate: Option<super::record::Gate>,
    pub(super) converse: Converse,
    /// Signals that ask this process to stop end the run.
    pub(super) heeds_signals: bool,
    /// Who decides about the order of things, if somebody does.
    pub(super) steering: Option<super::steer::Steering<'a>>,
    /// What ends the run, found where nobody could be told.
    pub(super) stop: Option<Box<Stop>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Stream(LinkId, Channel, Party),
    Listener(PeerId),
    Child(PeerId),
    Qemu(PeerId),
    Kick(PeerId, u16),
    Call(PeerId, u16),
    ServerKick(PeerId, LinkId, u16),
    Signal(LinkId, u64),
    Thread(usize),
    Pump(usize, usize, usize),
    Gate,
    Interrupt,
    Save,
}

impl<'a> Run<'a> {
    /// A run of `plan` with its peers, in its own directory. Nothing is started yet.
    pub(super) fn new(
        plan: &'a Plan,
        environment: &'a Environment,
        peers: Vec<Peer>,
        directory: &Path,
    ) -> Result<Self> {
        let clock = Clock::start();
        let names = peers.iter().map(|p| p.name.clone()).collect();
        let own_ms = plan.scenario.timeout.as_ref().map_or(TIMEOUT_DEFAULT_MS, |t| t.ms);
        let timeout_ms = environment.timeout_ms.unwrap_or(own_ms);
        let mut states = Vec::new();
        let mut peers = peers;
        super::pci::share_memory(&mut peers);
        for (i, spec) in peers.into_iter().enumerate() {
            let mut sim = simulate(&spec, super::pci::same_vm(&states, &spec))?;
            recall(&mut sim, &spec, plan)?;
            states.push(PeerState::new(spec, sim, directory.join(format!("{i}.sock"))));
        }
        Ok(Self {
            plan,
            environment,
            dialect: plan.scenario.dialect(),
            clock,
            timeline: Timeline::new(clock, names),
            peers: states,
            links: Vec::new(),
            bindings: Bindings::default(),
            tracks: vec![Track::main(&plan.scenario.steps)],
            holds: Vec::new(),
            controls: Vec::new(),
            nevers: Vec::new(),
            claimed: BTreeSet::new(),
            timers: Vec::new(),
            deadline: clock.now().plus_ms(timeout_ms),
            starved: Starved::begin(),
            starved_max_ns: timeout_ms.min(TIMEOUT_DEFAULT_MS) * STARVED_TIMES_MAX * 1_000_000,
            directory: directory.to_owned(),
            submitted: Vec::new(),
            threads: Vec::new(),
            modelled_ends: Default::default(),
            violation: None,
            watchers: Watchers::new(plan),
            traffic: Traffic::default(),
            gate: None,
            converse: Converse::default(),
            heeds_signals: true,
            steering: None,
            stop: None,
        })
    }

    /// Runs the script to its end.
    pub(super) fn script(&mut self) -> Result<()> {
        if self.steering.is_some() {
            return self.steered_script();
        }
        loop {
            self.relay();
            self.check_always()?;
            let moved = self.advance_tracks()?;
            if self.tracks[0].is_done() && !self.end_traffic() {
                self.wait_for_events()?;
                self.check_limit()?;
                continue;
            }
            if self.tracks[0].is_done() {
                self.relay();
                self.check_always()?;
                self.check_simulated()?;
                return self.await_answers();
            }
            if moved {
                self.check_limit()?;
            } else {
                self.check_simulated()?;
                self.wait_for_events()?;
            }
        }
    }

    /// Waits for something to happen, takes it in, and returns.
    pub(super) fn wait_for_events(&mut self) -> Result<()> {
        if self.converse() {
            return Ok(());
        }
        let now = self.clock.now();
        let mut wake = self.next_deadline();
        if let Some((at, ..)) = self.timers.iter().min_by_key(|(at, ..)| *at) {
            wake = wake.min(*at);
        }
        if self.is_dialling() {
            wake = wake.min(now.plus_ms(DIAL_INTERVAL_MS));
        }
        let pieces = self.streams_with_pieces();
        if self.repeat_signals() || !pieces.is_empty() {
            wake = wake.min(now.plus_ms(PIECE_INTERVAL_MS));
        }
        if self.looks_at_threads() {
            wake = wake.min(now.plus_ms(THREADS_INTERVAL_MS));
        }
        if self.awaits_rings() {
            wake = wake.min(now.plus_ms(LOOK_INTERVAL_MS));
        }
        if let Some(at) = self.traffic.next_look(now) {
            wake = wake.min(at);
        }
        if let Some(at) = self.next_admission() {
            wake = wake.min(at);
        }
        if let Some(at) = self.timeline.flush_recording() {
            wake = wake.min(at);
        }
        let ready = loop {
            let slice = if self.watchers.needs_looks() {
                wake.min(self.clock.now().plus_ms(LOOK_INTERVAL_MS))
            } else {
                wake
            };
            let ready = wait(&self.interests(), Some(self.clock.until(slice)));
            let ready = ready.map_err(|e| Stop::harness(format!("poll: {e}"), Span::default()))?;
            if self.look_at_rings()
                || !ready.is_empty()
                || self.is_past(wake)
                || self.heeds_signals && signal::interrupted()
            {
                break ready;
            }
        };
        if self.heeds_signals && signal::interrupted() {
            return Err(super::gone::interrupted());
        }
        // what QEMU did before it answered a command is on its vhost socket already, so sockets come first
        if ready.iter().any(|t| matches!(t, Token::Qemu(_))) {
            self.read_all_streams();
        }
        for token in ready {
            self.take_in(token);
        }
        for (link, channel, party) in pieces {
            self.read_stream(link, channel, party);
        }
        let now = self.clock.now();
        let (due, later): (Vec<_>, Vec<_>) = self.timers.drain(..).partition(|(at, ..)| *at <= now);
        self.timers = later;
        for (_, peer, token) in due {
            self.peers[peer.0].sim.timer(token);
        }
        self.dial();
        if self.gate.as_ref().is_some_and(super::record::Gate::is_waiting) {
            self.admit();
        }
        Ok(())
    }

    pub(super) fn take_in(&mut self, token: Token) {
        match token {
            Token::Stream(link, channel, party) => {
                // in a recording, most likely an answer is waited for
                let count = if self.timeline.is_recorded() {
                    1
                } else {
                    MESSAGES_PER_TURN
                };
                self.read_messages(link, channel, party, count);
            }
            Token::Listener(peer) => self.accept(peer),
            Token::Child(peer) => self.collect_child(peer),
            Token::Qemu(peer) => self.collect_qemu(peer),
            Token::Kick(peer, ring) => self.take_kick(peer, ring),
            Token::Call(peer, ring) => self.take_call(peer, ring),
            Token::ServerKick(peer, link, ring) => self.take_server_kick(peer, link, ring),
            Token::Signal(link, id) => drop(self.take_signal(link, id)),
            Token::Thread(at) => self.thread_changed(at),
            Token::Pump(at, group, station) => self.traffic.take_notice((at, group, station)),
            Token::Save => {
                signal::take_save();
                self.timeline.save_recording();
            }
            Token::Gate => self.admit(),
            Token::Interrupt => {}
        }
    }

    pub(super) fn interests(&self) -> Vec<Interest<'_, Token>> {
        let mut interests = Vec::new();
        let mut add = |fd, read, write, token| {
            interests.push(Interest { fd, read, write, token });
        };
        for (i, link) in self.links.iter().enumerate() {
            for relay in link.relays.iter() {
                add(relay.source(), true, false, Token::Signal(LinkId(i), relay.id));
            }
            for channel in Channel::ALL {
                let socket = link.socket_ref(channel);
                for party in [Party::FrontEnd, Party::BackEnd] {
                    let End::Remote(stream) = socket.end_ref(party) else {
                        continue;
                    };
                    let blocked = self.is_blocked(LinkId(i), channel, party);
                    // while it is not read its end cannot be taken in either, and would be told again and again
                    if !blocked || stream.wants_write() {
                        let token = Token::Stream(LinkId(i), channel, party);
                        add(
                            stream.as_fd(),
                            stream.is_open() && !blocked,
                            stream.wants_write(),
                            token,
                        );
                    }
                }
            }
        }
        for (i, peer) in self.peers.iter().enumerate() {
            let id = PeerId(i);
            if let super::peers::Attach::Listening(listener) = &peer.attach
                && self.is_awaited(peer)
            {
                add(std::os::fd::AsFd::as_fd(listener), true, false, Token::Listener(id));
            }
            if let Some(child) = &peer.child {
                child.watch().for_each(|fd| add(fd, true, false, Token::Child(id)));
            }
            if let Some(qemu) = &peer.qemu {
                add(qemu.handle.wake_fd(), true, false, Token::Qemu(id));
            }
            match &peer.sim {
                Sim::Back(back) => back
                    .watches()
                    .for_each(|(ring, fd)| add(fd, true, false, Token::Kick(id, ring))),
                Sim::Front(front) => front
                    .watches()
                    .for_each(|(ring, fd)| add(fd, true, false, Token::Call(id, ring))),
                Sim::Server(server) => server
                    .watches()
                    .for_each(|(conn, ring, fd)| add(fd, true, false, Token::ServerKick(id, LinkId(conn), ring))),
                Sim::None => {}
            }
        }
        for (at, hold) in self.threads.iter().enumerate() {
            add(hold.thread.changed(), true, false, Token::Thread(at));
        }
        for (at, group, station, fd) in self.traffic.notices() {
            add(fd, true, false, Token::Pump(at, group, station));
        }
        if let Some(gate) = &self.gate
            && self.has_room()
        {
            add(std::os::fd::AsFd::as_fd(gate.listener()), true, false, Token::Gate);
        }
        if let Some(fd) = signal::save_fd() {
            add(fd, true, false, Token::Save);
        }
        if let Some(fd) = signal::interrupt_fd()
            && self.heeds_signals
        {
            add(fd, true, false, Token::Interrupt);
        }
        interests
    }

    /// What must hold at every moment.
    pub(super) fn check_always(&mut self) -> Result<()> {
        if let Some(stop) = self.stop.take() {
            return Err(stop);
        }
        self.check_watchers()?;
        self.tend_traffic()?;
        if let Some(what) = self.violation.take() {
            let diagnostic = Diagnostic::error("a peer broke the rules of the ring").footer(what);
            return Err(Stop::wrong(diagnostic));
        }
        for never in &mut self.nevers {
            let found = self
                .timeline
                .since(never.from)
                .find(|(_, event)| never.matcher.stream.has(event) && never.matcher.check(event).is_ok());
            if let Some((seq, _)) = found {
                let diagnostic = Diagnostic::error(format!("{} happened", never.matcher))
                    .at(never.span)
                    .label("this must never happen from here on")
                    .expected_actual(format!("no {}", never.matcher), self.timeline.describe(seq));
                return Err(Stop::wrong(diagnostic));
            }
            never.from = self.timeline.end();
        }
        if let Some(bound) = self.timeline.is_full() {
            let step = self.tracks.iter().rev().find_map(Track::step);
            let place = step.map(|step| step.span).unwrap_or_default();
            let own = self.timeline.events().iter().rev().take(LAST_WORDS).any(|event| {
                matches!(
                    event.kind,
                    EventKind::Message { scripted: true, .. } | EventKind::Step { .. }
                )
            });
            return Err(match own {
                true => Stop::script(Diagnostic::error(format!("the scenario makes more than {bound}")).at(place)),
                false => {
                    let what = format!("more than {bound}: a peer floods the link");
                    Stop::fail(FailKind::Hang, Diagnostic::error(what).at(place))
                }
            });
        }
        let fds = self.links.iter().map(Link::fds_under_way).sum::<usize>();
        if fds > FDS_UNDER_WAY_MAX && !self.timeline.is_recorded() {
            let what = format!("more than {FDS_UNDER_WAY_MAX} descriptors are under way: a peer floods the link");
            return Err(Stop::fail(FailKind::Hang, Diagnostic::error(what)));
        }
        Ok(())
    }

    /// The peer of that name. The scenario room has checked that there is one.
    pub(super) fn peer(&self, name: &str, span: Span) -> Result<PeerId> {
        let found = self.peers.iter().position(|p| p.spec.name == name).map(PeerId);
        found.ok_or_else(|| Stop::harness(format!("there is no peer `{name}`"), span))
    }

    /// Adds an event, and shows it to those who judge it.
    pub(super) fn record(&mut self, peer: Option<PeerId>, link: Option<LinkId>, kind: EventKind) -> Option<Seq> {
        if let Some(link) = link {
            self.look(link);
        }
        let seq = self.timeline.push(peer, link, kind);
        self.watch();
        seq
    }

    /// Whether this moment has come.
    pub(super) fn is_past(&self, moment: Moment) -> bool {
        self.clock.now() >= moment
    }

    /// Time is up: what was waited for.
    pub(super) fn has_run_out(&self, deadline: Moment) -> bool {
        self.is_past(self.extended(deadline))
    }

    /// When a limit is reached: later, if this run or its processes were kept from a processor meanwhile.
    pub(super) fn extended(&self, deadline: Moment) -> Moment {
        if !self.is_past(deadline) {
            return deadline;
        }
        let children = self.peers.iter().filter_map(|peer| peer.child.as_ref());
        let lost = self.starved.ns(children.map(Child::pid)).min(self.starved_max_ns);
        Moment {
            ns: deadline.ns.saturating_add(lost),
        }
    }

    /// For those who wait for the engine and let it judge: longer than it ever waits.
    pub(super) fn patience(&self, deadline: Moment) -> Duration {
        self.clock.until(deadline) + Duration::from_nanos(self.starved_max_ns)
    }
}

/// A peer that plays a recording is what was recorded from the beginning.
fn recall(sim: &mut Sim, spec: &Peer, plan: &Plan) -> Result<()> {
    let steps = replays(&plan.scenario.steps);
    let Some(step) = steps.into_iter().find(|step| step.peer.value == spec.name) else {
        return Ok(());
    };
    if let Some(front) = sim.front() {
        let again = front.play_again();
        again.map_err(|e| Stop::wrong(Diagnostic::error(e.to_string()).at(step.peer.span)))?;
    }
    if let (Some(back), Some(trace)) = (sim.back(), plan.traces.get(&step.trace.value)) {
        back.play_again(trace.events.iter().filter_map(|event| event.kind.message()));
    }
    Ok(())
}

fn simulate(spec: &Peer, same_vm: Option<&SimFront>) -> Result<Sim> {
    if !spec.is_simulated() || spec.modelled {
        return Ok(Sim::None);
    }
    let fail = |e: &dyn std::fmt::Display| Stop::script(Diagnostic::error(e.to_string()).at(spec.span));
    if let Some(server) = &spec.pci.server {
        return Ok(Sim::Server(Box::new(PciServer::new(server.clone()))));
    }
    Ok(match spec.party {
        Party::FrontEnd => {
            let config = front_config(spec);
            let front = match same_vm {
                Some(other) => SimFront::beside(config, other),
                None => SimFront::new(config),
            };
            Sim::Front(Box::new(front.map_err(|e| fail(&e))?))
        }
        Party::BackEnd => Sim::Back(Box::new(SimBack::new(back_config(spec).map_err(|e| fail(&e))?))),
    })
}

/// VIRTIO_NET_F_MTU, MAC and STATUS: what the driver side of a simulated net front-end can do.
const NET_DRIVER_BITS: u64 = 1 << 3 | 1 << 5 | 1 << 16;
/// All of virtio-blk up to MQ and CONFIG_WCE, without RO and the ones that were withdrawn.
const BLK_DRIVER_BITS: u64 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;

/// MQ, REPLY_ACK, and the two bits of vhost-pci.
const PCI_PROTOCOL_BITS: u64 = 1 << 0 | 1 << 3 | pci::F_VHOST_PCI | pci::F_DEV_INFO;

fn front_config(spec: &Peer) -> FrontConfig {
    let device = match spec.kind {
        DeviceKind::Net => NET_DRIVER_BITS,
        DeviceKind::Blk => BLK_DRIVER_BITS,
        DeviceKind::Other => F_DEVICE_BITS,
    };
    FrontConfig {
        dialect: spec.dialect,
        queues: spec.queues,
        ring_size: spec.ring_size,
        features: spec
            .features
            .apply(device | F_VERSION_1 | F_PROTOCOL_FEATURES | F_EVENT_IDX),
        protocol_features: spec.protocol_features.apply(match spec.dialect {
            Dialect::VhostUser => default_protocol_features(spec.kind),
            _ => PCI_PROTOCOL_BITS,
        }),
        memory_size: spec.memory_size,
        regions: spec.regions,
        one_file: spec.one_file,
        huge_pages: spec.huge_pages,
        kick_on_start: spec.kick_on_start,
        manual: spec.manual.clone(),
        master: spec.pci.master.clone(),
        answers: spec.answers.clone(),
        serving: spec.serving,
        config_bytes: match spec.kind {
            DeviceKind::Net => 10,
            DeviceKind::Blk => 60,
            DeviceKind::Other => 8,
        },
        keeps_inflight: spec.keeps_inflight,
    }
}

fn back_config(spec: &Peer) -> std::result::Result<BackConfig, DeviceError> {
    let device: Box<dyn DeviceModel + Send> = match spec.kind {
        DeviceKind::Net => Box::new(Net::new(NetOptions {
            pairs: spec.queues / 2,
            mode: if spec.loopback {
                NetMode::Loopback
            } else {
                NetMode::Sink
            },
            mtu: spec
                .mtu
                .and_then(|m| u16::try_from(m).ok())
                .unwrap_or(NetOptions::default().mtu),
            ..NetOptions::default()
        })?),
        DeviceKind::Blk => Box::new(Blk::new(BlkOptions {
            sectors: spec.capacity / 512,
            queues: spec.queues,
            ..BlkOptions::default()
        })?),
        DeviceKind::Other => Box::new(Generic::new(GenericOptions {
            queues: spec.queues,
            config: spec.config.clone().unwrap_or_else(|| vec![0; 8]),
            ..GenericOptions::default()
        })?),
    };
    let common = F_VERSION_1 | F_PROTOCOL_FEATURES | F_EVENT_IDX | F_LOG_ALL | F_INDIRECT_DESC;
    Ok(BackConfig {
        queues: spec.queues,
        features: spec.features.apply(device.features() | common),
        protocol_features: spec.protocol_features.apply(default_protocol_features(spec.kind)),
        manual: spec.manual.clone(),
        answers: spec.answers.clone(),
        memory_slots: MEMORY_SLOTS,
        shared_memory: spec.shared_memory.clone(),
        reads_while_asking: spec.reads_while_asking,
        inflight_fault: spec.inflight_fault,
        device,
    })
}

/// What both simulated peers offer and acknowledge if nothing else is said: what they serve.
fn default_protocol_features(kind: DeviceKind) -> u64 {
    use ProtocolFeature as F;
    let mut features = vec![
        F::Mq,
        F::LogShmfd,
        F::ReplyAck,
        F::BackendReq,
        F::BackendSendFd,
        F::InflightShmfd,
        F::ResetDevice,
        F::ConfigureMemSlots,
        F::Status,
    ];
    match kind {
        DeviceKind::Net => features.extend([F::Rarp, F::NetMtu]),
        // QEMU's net device has no use for CONFIG and says so on every start
        _ => features.push(F::Config),
    }
    features.into_iter().map(F::mask).sum()
}
