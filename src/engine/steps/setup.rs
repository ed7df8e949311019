//! Handshakes and what a simulated front-end does of its own: setup, rings, memory.

use super::super::failure::{Result, Stop, StopKind};
use super::super::run::Run;
use super::{Waiting, not_front};
use crate::peer::qemu::{Command, DriverState, FeatureChoice};
use crate::peer::sim::front::Goal;
use crate::scenario::model::{MemoryAction, MemoryStep, RingAction, RingStep, Setup, SetupState, Step};
use crate::scenario::span::{At, Span};
use crate::scenario::{Diagnostic, eval_match, eval_num, eval_size};
use crate::trace::PeerId;
use crate::wire::features::describe_virtio;
use crate::wire::{Base, Value};

impl Run<'_> {
    pub(super) fn begin_setup(&mut self, setup: &Setup) -> Result<Waiting> {
        let span = setup.peer.span;
        let peer = self.peer(&setup.peer.value, span)?;
        self.link_of(peer, span)?;
        let until = setup.until.as_ref().map_or(SetupState::Running, |u| u.value);
        if self.peers[peer.0].spec.has_guest() {
            // how far it goes is its own affair
            return self.submit_qemu(peer, Command::GuestReady, span);
        }
        if self.peers[peer.0].spec.is_qemu() {
            let until = if until == SetupState::Negotiated {
                DriverState::FeaturesOk
            } else {
                DriverState::DriverOk
            };
            return self.submit_qemu(peer, self.driver_init(peer, until), span);
        }
        let goal = match until {
            SetupState::Negotiated => Goal::Negotiated,
            SetupState::Memory => Goal::Memory,
            SetupState::Started => Goal::Started,
            SetupState::Running => Goal::Running,
        };
        let begun = self.with_rings(peer, |sim| sim.front().map(|front| front.setup(goal)));
        begun.ok_or_else(|| not_front(span))?;
        Ok(Waiting::Front { peer, setup: true })
    }

    /// The driver's start of a QEMU peer, with the features that the scenario chose.
    pub(super) fn driver_init(&self, peer: PeerId, until: DriverState) -> Command {
        let spec = &self.peers[peer.0].spec;
        let choice = &spec.features;
        let features = match choice.only {
            Some(only) => FeatureChoice::Exact(only),
            None if choice.without != 0 => FeatureChoice::Mask(!choice.without),
            None => FeatureChoice::All,
        };
        Command::DriverInit {
            features,
            rings: None,
            ring_size: spec.ring_size,
            until,
        }
    }

    pub(super) fn begin_ring(&mut self, step: &RingStep, span: Span) -> Result<Waiting> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let ring = self.ring(&step.ring)?;
        let action = step.action.value;
        self.disturb_ring(peer, ring, action);
        let begun = self.with_rings(peer, |sim| {
            let front = sim.front()?;
            Some(match action {
                RingAction::Stop => front.stop_ring(ring),
                RingAction::Start => front.start_ring(ring),
                RingAction::Enable => front.enable_ring(ring, true),
                RingAction::Disable => front.enable_ring(ring, false),
            })
        });
        let begun = begun.ok_or_else(|| not_front(span))?;
        begun.map_err(|e| Stop::script(Diagnostic::error(e.to_string()).at(step.ring.span)))?;
        Ok(Waiting::Front { peer, setup: false })
    }

    pub(super) fn begin_memory(&mut self, step: &MemoryStep, span: Span) -> Result<Waiting> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let missing = |what: &str| Stop::script(Diagnostic::error(format!("`{what}` is missing")).at(span));
        let address = step.address.as_ref().map(|a| eval_num(a, &self.bindings)).transpose()?;
        let size = step.size.as_ref().map(|s| eval_size(s, &self.bindings)).transpose()?;
        let front = self.peers[peer.0].sim.front().ok_or_else(|| not_front(span))?;
        let begun = match step.action.value {
            MemoryAction::Add => front.add_memory(
                address.ok_or_else(|| missing("address"))?,
                size.ok_or_else(|| missing("size"))?,
            ),
            MemoryAction::Remove => front.remove_memory(address.ok_or_else(|| missing("address"))?),
            MemoryAction::Replace => front.replace_memory(),
        };
        begun.map_err(|e| Stop::script(Diagnostic::error(e.to_string()).at(span)))?;
        Ok(Waiting::Front { peer, setup: false })
    }

    pub(super) fn poll_front(&mut self, at: usize, step: &At<Step>, peer: PeerId, setup: bool) -> Result<bool> {
        let span = step.span;
        let Some(front) = self.peers[peer.0].sim.front() else {
            return Ok(true);
        };
        if let Some(error) = front.take_failure() {
            let mut diagnostic = Diagnostic::error(format!("`{}` failed", super::name(&step.value))).at(span);
            let text = error.to_string();
            // the request and what became of it read better on two lines
            diagnostic = match text.split_once(" came while the oldest request without a reply was ") {
                Some((reply, request)) => diagnostic.expected_actual(format!("the reply to {request}"), reply),
                None => diagnostic.footer(text),
            };
            return Err(Stop::wrong(diagnostic));
        }
        if front.is_busy() {
            let waits_for = front.waits_for().unwrap_or_default();
            return self.check_front_gone(peer, span, &waits_for).map(|()| false);
        }
        if setup {
            self.check_wanted(peer, span)?;
            self.read_up(at);
        }
        match &step.value {
            Step::Ring(ring) => {
                self.ring_stopped(peer, ring)?;
                let index = self.ring(&ring.ring)?;
                self.ring_is_back(peer, index, ring.action.value);
            }
            Step::Migration(_) => self.copy_all(peer, span)?,
            Step::Setup(setup)
                if setup
                    .until
                    .as_ref()
                    .is_none_or(|until| until.value == SetupState::Running) =>
            {
                self.is_set_up(peer);
            }
            _ => {}
        }
        Ok(true)
    }

    fn ring_stopped(&mut self, peer: PeerId, step: &RingStep) -> Result<()> {
        if step.action.value != RingAction::Stop {
            return Ok(());
        }
        let base = self.peers[peer.0].sim.front().and_then(|front| front.last_base());
        let Some(base) = base else { return Ok(()) };
        if let Some(condition) = &step.base {
            let wanted = eval_match(&condition.value, &self.bindings)?;
            let space = crate::judge::value::FeatureSpace::Protocol(self.dialect);
            if let Some(why) = crate::judge::value::mismatch(&Value::U64(u64::from(base)), &wanted, space) {
                let diagnostic = Diagnostic::error("the ring stopped at another place")
                    .at(condition.span)
                    .label(format!("the base {why}"))
                    .expected_actual(
                        format!("base{}", crate::judge::value::describe(&wanted, Base::Decimal)),
                        format!("base={base}"),
                    );
                return Err(Stop::wrong(diagnostic));
            }
        }
        self.bind_number(step.bind.as_ref(), u64::from(base));
        Ok(())
    }

    /// The features that the scenario insists on (`with`) have to be offered; otherwise it says nothing about the peer.
    fn check_wanted(&mut self, peer: PeerId, span: Span) -> Result<()> {
        let spec = &self.peers[peer.0].spec;
        let (wanted, protocol_wanted) = (spec.features.with, spec.protocol_features.with);
        let kind = self.device_kind(peer);
        let Some(front) = self.peers[peer.0].sim.front() else {
            return Ok(());
        };
        let [offered, _, protocol_offered, _] = front.features();
        let missing = [
            describe_virtio(kind, wanted & !offered),
            crate::wire::features::describe_protocol_in(self.dialect, protocol_wanted & !protocol_offered),
        ];
        let missing: Vec<String> = missing.into_iter().filter(|m| m != "none").collect();
        if missing.is_empty() {
            return Ok(());
        }
        let diagnostic = Diagnostic::error(format!("the back-end does not offer {}", missing.join(", "))).at(span);
        Err(Box::new(Stop {
            kind: StopKind::Unsupported,
            diagnostic,
        }))
    }

    /// What a simulated front-end waits for.
    pub(super) fn front_waits_for(&self, peer: PeerId) -> String {
        match &self.peers[peer.0].sim {
            super::super::peers::Sim::Front(front) => front.waits_for().unwrap_or_default(),
            super::super::peers::Sim::Back(back) => back.waits_for().unwrap_or_default(),
            super::super::peers::Sim::Server(_) | super::super::peers::Sim::None => String::new(),
        }
    }
}
