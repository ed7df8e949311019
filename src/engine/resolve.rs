//! From a scenario's peer declarations to peers that can be stood up here: catalogue entries, overrides of the command
//! line, feature choices, and what each step needs of its peer.

use std::path::PathBuf;

use super::pci::{self, Pci};
use super::{Environment, Obstacle};
use crate::judge::value::FeatureSpace;
use crate::peer::catalogue::{Driver, Entry, FdRole, GuestImage, Role};
use crate::peer::sim::answer::{Answer as SimAnswer, HeaderPatch};
use crate::peer::sim::back::inflight::Fault;
use crate::peer::sim::front::Serving;
use crate::scenario::model::{Answer, FaultName, FeatureChoice, HeaderDecl, InflightFault, PeerDecl, Serves, Step};
use crate::scenario::scalar::Num;
use crate::scenario::span::{At, Span};
use crate::scenario::words::split_words;
use crate::scenario::{Bindings, Diagnostic, Plan, eval_node, eval_num, eval_size};
use crate::wire::{Channel, DeviceKind, Dialect, Party, find};

/// Capacity of a block device that says nothing else.
const CAPACITY_DEFAULT: u64 = 16 << 20;
/// Guest memory of a simulated front-end that says nothing else.
const MEMORY_DEFAULT: u64 = 4 << 20;
/// The frame to which a fault happens if nothing else is said.
const FAULT_AT: u64 = 1000;
/// Guest memory of QEMU, in MiB.
const QEMU_MEMORY_MIB: u32 = 256;

/// Who plays a peer.
#[derive(Debug, Clone)]
pub(super) enum Player {
    /// The harness.
    Simulated,
    /// A program of the catalogue.
    Program(Box<Entry>),
    /// A command line.
    Command(Vec<String>),
    /// Somebody who will connect to this path.
    Listen(PathBuf),
    /// Somebody who listens on this path.
    Connect(PathBuf),
}

/// A choice of feature bits.
#[derive(Debug, Clone, Default)]
pub(super) struct Bits {
    pub(super) only: Option<u64>,
    pub(super) with: u64,
    pub(super) without: u64,
}

impl Bits {
    pub(super) fn apply(&self, default: u64) -> u64 {
        self.only.unwrap_or((default | self.with) & !self.without)
    }
}

/// A peer, all its options evaluated.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) party: Party,
    pub(super) dialect: Dialect,
    pub(super) player: Player,
    /// As written or replaced: `simulated`, `qemu`, a command line.
    pub(super) label: String,
    pub(super) device: String,
    pub(super) kind: DeviceKind,
    pub(super) queues: u16,
    pub(super) ring_size: u16,
    pub(super) features: Bits,
    pub(super) protocol_features: Bits,
    pub(super) memory_size: u64,
    pub(super) qemu_memory_mib: u32,
    pub(super) regions: u16,
    pub(super) one_file: bool,
    pub(super) huge_pages: bool,
    pub(super) config: Option<Vec<u8>>,
    pub(super) capacity: u64,
    pub(super) loopback: bool,
    /// Share of the time in which a simulated back-end does nothing while frames are delivered.
    pub(super) rests: f64,
    /// What it does wrong with which frame.
    pub(super) fault: Option<(FaultName, u64)>,
    /// It keeps an inflight area for its back-ends.
    pub(super) keeps_inflight: bool,
    /// What it does wrong with the inflight area.
    pub(super) inflight_fault: Option<Fault>,
    pub(super) manual: Vec<u32>,
    pub(super) answers: Vec<(u32, SimAnswer)>,
    pub(super) kick_on_start: bool,
    /// It is a modelled endpoint: it does what a schedule says, on a socket of its own.
    pub(super) modelled: bool,
    pub(super) serving: Serving,
    pub(super) reads_while_asking: bool,
    pub(super) shared_memory: Vec<u64>,
    pub(super) listens: Option<bool>,
    pub(super) reconnect_ms: Option<u64>,
    pub(super) plugged: bool,
    pub(super) mtu: Option<u64>,
    pub(super) args: Vec<String>,
    /// The Linux that runs on it, whose drivers are the front-end's.
    pub(super) guest: Option<GuestImage>,
    pub(super) exit: Option<crate::scenario::model::ExitRule>,
    /// What it is in vhost-pci.
    pub(super) pci: Pci,
}

impl Peer {
    pub(super) fn is_simulated(&self) -> bool {
        matches!(self.player, Player::Simulated)
    }

    /// Whoever plays the driver.
    pub(super) fn is_qemu(&self) -> bool {
        matches!(&self.player, Player::Program(entry) if entry.driver != Driver::None)
    }

    /// QEMU whose driver the harness plays.
    pub(super) fn has_qtest(&self) -> bool {
        matches!(&self.player, Player::Program(entry) if entry.driver == Driver::Qtest)
    }

    /// QEMU whose driver is a guest's.
    pub(super) fn has_guest(&self) -> bool {
        self.guest.is_some()
    }

    pub(super) fn is_process(&self) -> bool {
        matches!(self.player, Player::Program(_) | Player::Command(_))
    }

    fn has_image(&self) -> bool {
        let command = match &self.player {
            Player::Program(entry) => &entry.command,
            Player::Command(words) => words,
            _ => return false,
        };
        command.iter().any(|word| word.contains("{image}"))
    }

    /// Whether the process gets a descriptor, and of which kind.
    pub(super) fn fd_role(&self) -> Option<FdRole> {
        let (command, role) = match &self.player {
            Player::Program(entry) => (&entry.command, entry.fd),
            Player::Command(words) => (words, FdRole::Connected),
            _ => return None,
        };
        command.iter().any(|word| word.contains("{fd}")).then_some(role)
    }
}

/// What a step needs of the peer it is addressed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// The script plays it.
    Simulated,
    /// It is QEMU.
    Qemu,
    /// It is QEMU, and the harness plays the driver.
    Qtest,
    /// It is a Linux guest.
    Guest,
    /// It has a driver that does what a step says.
    Driver,
    /// Data can be sent through it.
    Driven,
    /// It is a process.
    Process,
    /// It was given an image file.
    Image,
}

/// The peers of a plan, or what stands in the way.
pub(super) fn peers(plan: &Plan, environment: &Environment) -> Result<Vec<Peer>, Unready> {
    let needs = needs(plan);
    let mut peers = Vec::new();
    for (name, decl) in plan.scenario.peers.iter() {
        let (party, written) = match (&decl.frontend, &decl.backend) {
            (Some(player), None) => (Party::FrontEnd, player),
            (None, Some(player)) => (Party::BackEnd, player),
            _ => {
                return Err(Diagnostic::error("a peer is either a front-end or a back-end")
                    .at(name.span)
                    .into());
            }
        };
        let replaced = match party {
            Party::FrontEnd => environment.frontend.as_ref(),
            Party::BackEnd => environment.backend.as_ref(),
        };
        let label = replaced.unwrap_or(&written.value).clone();
        let dialect = plan.scenario.dialect();
        let peer = evaluate(name, decl, party, label, written.span, environment, dialect)?;
        for (need, span) in needs
            .iter()
            .filter(|(n, ..)| *n == name.value)
            .map(|(_, need, span)| (*need, *span))
        {
            if let Some(reason) = unmet(&peer, need, span) {
                return Err(Obstacle {
                    reason,
                    missing: None,
                    fatal: false,
                }
                .into());
            }
        }
        if dialect.is_pci() && !peer.is_simulated() {
            let reason = format!("`{}` speaks {dialect}, and {} does not", peer.name, peer.label);
            return Err(Obstacle {
                reason,
                missing: None,
                fatal: false,
            }
            .into());
        }
        check_available(&peer, environment)?;
        peers.push(peer);
    }
    Ok(peers)
}

/// Why peers cannot be had.
#[derive(Debug)]
pub(super) enum Unready {
    /// The scenario or the command line is wrong.
    Wrong(Box<Diagnostic>),
    /// Not here.
    Obstacle(Obstacle),
}

impl From<Diagnostic> for Unready {
    fn from(diagnostic: Diagnostic) -> Self {
        Unready::Wrong(Box::new(diagnostic))
    }
}

impl From<Obstacle> for Unready {
    fn from(obstacle: Obstacle) -> Self {
        Unready::Obstacle(obstacle)
    }
}

fn check_available(peer: &Peer, environment: &Environment) -> Result<(), Obstacle> {
    let Player::Program(entry) = &peer.player else {
        return Ok(());
    };
    if !entry.devices.is_empty() && !entry.devices.contains(&peer.device) {
        let reason = format!("{} is no {} {}", entry.peer, peer.device, peer.party);
        return Err(Obstacle {
            reason,
            missing: None,
            fatal: false,
        });
    }
    match environment.catalogue.probe(entry) {
        Ok(_) => Ok(()),
        Err(reason) => {
            let fatal = environment.required.iter().any(|r| *r == entry.peer || r == "all");
            Err(Obstacle {
                reason,
                missing: Some(entry.peer.clone()),
                fatal,
            })
        }
    }
}

fn unmet(peer: &Peer, need: Need, span: Span) -> Option<String> {
    let (met, what) = match need {
        Need::Simulated => (peer.is_simulated(), "is played by the scenario"),
        Need::Qemu => (peer.is_qemu(), "has to be QEMU"),
        Need::Qtest => (peer.has_qtest(), "has to be QEMU without a guest"),
        Need::Guest => (peer.has_guest(), "has to be a Linux guest"),
        Need::Driver => (
            peer.is_simulated() || peer.is_qemu(),
            "has a driver that does what the scenario says",
        ),
        Need::Driven => (
            peer.is_simulated() || peer.has_qtest(),
            "sends data that the scenario makes",
        ),
        Need::Process => (peer.is_process(), "has to be a process"),
        Need::Image => (peer.has_image(), "has to have an image file"),
    };
    (!met).then(|| {
        format!(
            "`{}` {what} (line {}), and is {} here",
            peer.name, span.line, peer.label
        )
    })
}

/// Share of the time in which a slowed back-end rests.
fn rests(decl: &PeerDecl, num: &impl Fn(&Option<At<Num>>, u64) -> Result<u64, Diagnostic>) -> Result<f64, Diagnostic> {
    let percent = num(&decl.slowed_percent, 0)?;
    if percent > 95 {
        let place = decl.slowed_percent.as_ref().map(|p| p.span).unwrap_or_default();
        return Err(Diagnostic::error(format!("slowed by {percent} percent; 95 is the most")).at(place));
    }
    Ok(percent as f64 / 100.0)
}

fn inflight_fault(name: InflightFault) -> Option<Fault> {
    Some(match name {
        InflightFault::None => return None,
        InflightFault::RecordsNothing => Fault::RecordsNothing,
        InflightFault::ClearsNothing => Fault::ClearsNothing,
        InflightFault::NoRollback => Fault::NoRollback,
        InflightFault::RollsOneBack => Fault::RollsOneBack,
        InflightFault::ForgetsAll => Fault::ForgetsAll,
        InflightFault::Twice => Fault::Twice,
        InflightFault::NewestFirst => Fault::NewestFirst,
    })
}

/// What the steps and declarations need, by peer.
fn needs(plan: &Plan) -> Vec<(String, Need, Span)> {
    let mut needs = Vec::new();
    for (name, decl) in plan.scenario.peers.iter() {
        if let Some(manual) = decl.manual.first() {
            needs.push((name.value.clone(), Need::Simulated, manual.span));
        }
        if let Some(fault) = &decl.inflight_fault {
            needs.push((name.value.clone(), Need::Simulated, fault.span));
        }
        if let Some((request, _)) = decl.answers.iter().next() {
            needs.push((name.value.clone(), Need::Simulated, request.span));
        }
    }
    for step in &plan.scenario.steps {
        step_needs(step, &mut needs);
    }
    needs
}

fn step_needs(step: &At<Step>, needs: &mut Vec<(String, Need, Span)>) {
    let mut need = |peer: &At<String>, need: Need| needs.push((peer.value.clone(), need, peer.span));
    match &step.value {
        Step::Setup(s) => need(&s.peer, Need::Driver),
        Step::Send(s) => need(&s.from, Need::Simulated),
        Step::Replay(s) => need(&s.peer, Need::Simulated),
        Step::Raw(s) => need(&s.from, Need::Simulated),
        Step::Reply(s) => need(&s.from, Need::Simulated),
        Step::Kick(s) | Step::Call(s) => need(&s.from, Need::Simulated),
        Step::Close(s) => need(&s.peer, Need::Simulated),
        Step::Ring(s) => need(&s.peer, Need::Simulated),
        Step::Memory(s) => need(&s.peer, Need::Simulated),
        Step::Write(s) => need(&s.peer, Need::Driven),
        Step::Deliver(s) => {
            need(&s.from, Need::Driven);
            need(&s.to, Need::Driven);
        }
        Step::Blk(s) => need(&s.peer, Need::Driver),
        Step::Echo(s) => need(&s.peer, Need::Simulated),
        Step::Image(s) => need(&s.peer, Need::Image),
        Step::Inflight(s) => need(&s.peer, Need::Simulated),
        Step::Migration(s) => need(&s.peer, Need::Simulated),
        Step::Dies(s) => need(&s.peer, Need::Simulated),
        Step::Config(s) => need(&s.peer, Need::Driven),
        Step::Request(s) => need(&s.peer, Need::Simulated),
        Step::Answered(peer) => need(peer, Need::Simulated),
        Step::AskDuring(s) => need(&s.peer, Need::Simulated),
        Step::Shared(s) => need(&s.peer, Need::Simulated),
        Step::Driver(s) => need(&s.peer, Need::Qtest),
        Step::Guest(s) => need(&s.peer, Need::Guest),
        Step::Qmp(s) => need(&s.peer, Need::Qemu),
        Step::Qtest(s) => need(&s.peer, Need::Qtest),
        Step::Kill(s) => need(&s.peer, Need::Process),
        Step::HoldThread(s) => need(&s.peer, Need::Process),
        Step::UntilIdle(peer) => need(peer, Need::Process),
        Step::Restart(peer) | Step::Stop(peer) | Step::Continue(peer) => need(peer, Need::Process),
        Step::Expect(pattern) | Step::Until(pattern) => {
            if let (Some(peer), Some(_)) = (&pattern.from, &pattern.exits) {
                need(peer, Need::Process);
            }
        }
        Step::Repeat(s) => s.steps.iter().for_each(|step| step_needs(step, needs)),
        Step::Sanity(steps) => steps.iter().for_each(|step| step_needs(step, needs)),
        Step::Together(tracks) => {
            tracks
                .iter()
                .flat_map(|(_, steps)| steps)
                .for_each(|step| step_needs(step, needs));
        }
        _ => {}
    }
}

fn evaluate(
    name: &At<String>,
    decl: &PeerDecl,
    party: Party,
    label: String,
    span: Span,
    environment: &Environment,
    dialect: Dialect,
) -> Result<Peer, Diagnostic> {
    let none = Bindings::default();
    let device = decl
        .device
        .as_ref()
        .map_or_else(|| default_device(dialect).to_owned(), |d| d.value.clone());
    let kind = match device.as_str() {
        "net" => DeviceKind::Net,
        "blk" => DeviceKind::Blk,
        _ => DeviceKind::Other,
    };
    let num = |n: &Option<At<crate::scenario::scalar::Num>>, default: u64| {
        n.as_ref().map_or(Ok(default), |n| eval_num(n, &none))
    };
    let small = |n: &Option<At<crate::scenario::scalar::Num>>, default: u64, what: &str| {
        let value = num(n, default)?;
        let span = n.as_ref().map_or(span, |n| n.span);
        u16::try_from(value).map_err(|_| Diagnostic::error(format!("{value} is too many {what}")).at(span))
    };
    let memory = decl.memory.clone().unwrap_or_default();
    let memory_size = memory.size.as_ref().map(|s| eval_size(s, &none)).transpose()?;
    let qemu_memory_mib = memory_size.map_or(QEMU_MEMORY_MIB, |s| u32::try_from(s >> 20).unwrap_or(u32::MAX).max(1));
    let requester = |request: &At<String>| {
        let channel = if party == Party::BackEnd {
            Channel::Main
        } else {
            Channel::Backend
        };
        find(dialect, &request.value, Some(channel))
            .map(|spec| spec.id)
            .map_err(|e| Diagnostic::error(e.to_string()).at(request.span))
    };
    let capacity = decl
        .capacity
        .as_ref()
        .map_or(Ok(CAPACITY_DEFAULT), |c| eval_size(c, &none))?;
    let queues = small(
        &decl.queues,
        if device == "net" || dialect.is_pci() { 2 } else { 1 },
        "rings",
    )?;
    let player = player(&label, party, span, environment)?;
    let has_guest = matches!(&player, Player::Program(entry) if entry.driver == Driver::Linux);
    Ok(Peer {
        name: name.value.clone(),
        pci: pci::evaluate(decl.pci.as_ref(), party, &label, dialect, queues)?,
        span: name.span,
        party,
        dialect,
        player,
        guest: has_guest.then(|| environment.catalogue.guest()),
        label,
        kind,
        queues,
        ring_size: small(&decl.ring_size, 256, "descriptors")?,
        features: bits(decl.features.as_ref(), FeatureSpace::Virtio(kind))?,
        protocol_features: bits(decl.protocol_features.as_ref(), FeatureSpace::Protocol(dialect))?,
        memory_size: memory_size.unwrap_or(MEMORY_DEFAULT),
        qemu_memory_mib,
        regions: small(&memory.regions, 1, "regions")?,
        one_file: memory.one_file,
        huge_pages: memory.huge_pages,
        config: decl.config.as_ref().map(|c| c.value.0.clone()),
        capacity,
        loopback: decl.loopback,
        rests: rests(decl, &num)?,
        fault: match &decl.delivery_fault {
            Some(fault) => Some((fault.what.value, num(&fault.at, FAULT_AT)?)),
            None => None,
        },
        keeps_inflight: decl.keeps_inflight.as_ref().is_some_and(|keeps| keeps.value),
        inflight_fault: decl
            .inflight_fault
            .as_ref()
            .and_then(|fault| inflight_fault(fault.value)),
        manual: decl.manual.iter().map(requester).collect::<Result<_, _>>()?,
        answers: decl
            .answers
            .iter()
            .map(|(request, a)| Ok((requester(request)?, answer(a, kind)?)))
            .collect::<Result<_, Diagnostic>>()?,
        modelled: decl.retry.is_some(),
        kick_on_start: decl.kick_on_start.as_ref().is_none_or(|k| k.value),
        serving: match decl.serves_channel.as_ref().map(|s| s.value) {
            None | Some(Serves::Routed) => Serving::Routed,
            Some(Serves::WhenIdle) => Serving::WhenIdle,
            Some(Serves::Nested) => Serving::Nested,
            Some(Serves::Locked) => Serving::Locked,
        },
        reads_while_asking: decl.reads_while_asking.as_ref().is_some_and(|r| r.value),
        shared_memory: decl
            .shared_memory
            .iter()
            .map(|size| eval_size(size, &none))
            .collect::<Result<_, _>>()?,
        listens: decl.listens.as_ref().map(|l| l.value),
        reconnect_ms: decl.reconnect.as_ref().map(|d| d.ms),
        plugged: decl.plugged.as_ref().is_none_or(|p| p.value),
        mtu: decl.mtu.as_ref().map(|n| eval_num(n, &none)).transpose()?,
        args: decl.args.iter().map(|a| a.value.clone()).collect(),
        exit: decl.exit.clone(),
        device,
    })
}

/// What a peer has that does not say.
fn default_device(dialect: Dialect) -> &'static str {
    if dialect.is_pci() { "net" } else { "generic" }
}

fn player(label: &str, party: Party, span: Span, environment: &Environment) -> Result<Player, Diagnostic> {
    if label == "simulated" || label == pci::SERVER && party == Party::BackEnd {
        return Ok(Player::Simulated);
    }
    if let Some(path) = label.strip_prefix("listen:") {
        return Ok(Player::Listen(PathBuf::from(path)));
    }
    if let Some(path) = label.strip_prefix("connect:") {
        return Ok(Player::Connect(PathBuf::from(path)));
    }
    let role = match party {
        Party::FrontEnd => Role::Frontend,
        Party::BackEnd => Role::Backend,
    };
    if let Some(entry) = environment.catalogue.find(label, role) {
        return Ok(Player::Program(Box::new(entry.clone())));
    }
    if label.contains("{socket}") || label.contains("{fd}") {
        let words = split_words(label).map_err(|e| Diagnostic::error(e).at(span))?;
        return Ok(Player::Command(words));
    }
    let names = environment
        .catalogue
        .entries()
        .iter()
        .filter(|e| e.role == role)
        .map(|e| e.peer.as_str());
    let known: Vec<&str> = ["simulated"].into_iter().chain(names).collect();
    Err(Diagnostic::error(format!("`{label}` is no {party}"))
        .at(span)
        .maybe_help(crate::scenario::suggest::did_you_mean(label, known.iter().copied()))
        .footer(format!("known: {}", known.join(", ")))
        .footer("or a command line with {socket} or {fd}, listen:PATH, connect:PATH"))
}

fn bits(choice: Option<&FeatureChoice>, space: FeatureSpace) -> Result<Bits, Diagnostic> {
    let Some(choice) = choice else {
        return Ok(Bits::default());
    };
    let mask = |names: &[At<String>]| {
        names.iter().try_fold(0u64, |mask, name| match space.bit(&name.value) {
            Ok(bit) => Ok(mask | 1 << bit),
            Err(error) => Err(Diagnostic::error(error).at(name.span)),
        })
    };
    Ok(Bits {
        only: choice.only.as_deref().map(mask).transpose()?,
        with: mask(&choice.with)?,
        without: mask(&choice.without)?,
    })
}

fn answer(decl: &Answer, kind: DeviceKind) -> Result<SimAnswer, Diagnostic> {
    let none = Bindings::default();
    let fields = decl.fields.iter().map(|(name, node)| {
        let value = eval_node(&node.clone(), &none)?;
        let value = crate::judge::value::to_value(&value, FeatureSpace::Virtio(kind))
            .map_err(|e| Diagnostic::error(e).at(node.span))?;
        Ok((name.value.clone(), value))
    });
    Ok(SimAnswer {
        value: decl.value.as_ref().map(|n| eval_num(n, &none)).transpose()?,
        fields: fields.collect::<Result<_, Diagnostic>>()?,
        header: header(decl.header.as_ref(), &none)?,
        payload: decl.payload.as_ref().map(|p| p.value.0.clone()),
        silent: decl.silent,
        twice: decl.twice,
        close: decl.close,
        after_ms: decl.after.as_ref().map(|d| d.ms),
        nth: decl.nth.as_ref().map(|n| eval_num(n, &none)).transpose()?,
        split: Vec::new(),
    })
}

/// The header words of a declaration.
pub(super) fn header(decl: Option<&HeaderDecl>, bindings: &Bindings) -> Result<HeaderPatch, Diagnostic> {
    let Some(decl) = decl else {
        return Ok(HeaderPatch::default());
    };
    let word = |n: &Option<At<crate::scenario::scalar::Num>>| -> Result<Option<u32>, Diagnostic> {
        let Some(n) = n else { return Ok(None) };
        let value = eval_num(n, bindings)?;
        let word = u32::try_from(value);
        word.map(Some)
            .map_err(|_| Diagnostic::error(format!("{value:#x} is more than 32 bits")).at(n.span))
    };
    Ok(HeaderPatch {
        request: word(&decl.request)?,
        flags: word(&decl.flags)?,
        size: word(&decl.size)?,
        conn_id: decl.conn_id.as_ref().map(|n| eval_num(n, bindings)).transpose()?,
    })
}
