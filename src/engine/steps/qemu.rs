//! Steps that QEMU takes: driver actions, configuration space, QMP and qtest.

use super::super::failure::{Result, Stop};
use super::super::run::Run;
use super::Waiting;
use crate::judge::verdict::FailKind;
use crate::peer::qemu::{Command, CommandId, DriverState, Outcome, QemuError};
use crate::scenario::model::{ConfigStep, Driver, DriverAction, Qmp, Qtest, Step};
use crate::scenario::scalar::Node;
use crate::scenario::span::{At, Span};
use crate::scenario::{Diagnostic, eval_node, eval_num, eval_text};
use crate::trace::{EventKind, PeerId, Seq};

/// What takes everything away from a driver, whoever it is, until it is set up again.
const SYSTEM_RESET: &str = "system_reset";
/// What QEMU reports when a device is gone.
const DEVICE_DELETED: &str = "DEVICE_DELETED";

impl Run<'_> {
    /// Hands a command to QEMU's handle.
    pub(super) fn qemu_command(&mut self, peer: PeerId, command: Command, span: Span) -> Result<CommandId> {
        let name = self.peers[peer.0].spec.name.clone();
        match &mut self.peers[peer.0].qemu {
            Some(qemu) => Ok(qemu.handle.submit(command)),
            None => Err(Stop::wrong(
                Diagnostic::error(format!("`{name}` is no QEMU that runs")).at(span),
            )),
        }
    }

    pub(super) fn submit_qemu(&mut self, peer: PeerId, command: Command, span: Span) -> Result<Waiting> {
        let id = self.qemu_command(peer, command, span)?;
        Ok(Waiting::Qemu(peer, id))
    }

    pub(super) fn begin_driver(&mut self, step: &Driver, span: Span) -> Result<Waiting> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let command = match step.action.value {
            DriverAction::Init => self.driver_init(peer, DriverState::DriverOk),
            DriverAction::Reset => Command::DriverReset,
            DriverAction::Notify => {
                let ring = step.ring.as_ref().map_or(Ok(0), |r| self.ring(r))?;
                Command::Notify { ring }
            }
            DriverAction::UsePairs => Command::NetSetPairs {
                pairs: step.pairs.as_ref().map_or(Ok(1), |p| self.ring(p))?,
                within: self.patience(self.deadline),
            },
            action @ (DriverAction::Plug | DriverAction::Unplug) => {
                let unplug = action == DriverAction::Unplug;
                return Ok(Waiting::Calls {
                    peer,
                    at: 0,
                    id: None,
                    unplug,
                    deleted_from: self.timeline.end(),
                });
            }
        };
        self.submit_qemu(peer, command, span)
    }

    /// QMP calls one after the other; between the removal of the device and what follows, the guest lets go of it.
    pub(super) fn poll_calls(&mut self, span: Span, waiting: &mut Waiting) -> Result<bool> {
        let Waiting::Calls {
            peer,
            at,
            id,
            unplug,
            deleted_from,
        } = waiting
        else {
            return Ok(true);
        };
        let peer = *peer;
        loop {
            if let Some(command) = *id {
                let taken = self.peers[peer.0].qemu.as_mut().and_then(|q| q.take(command));
                let Some(result) = taken else { return Ok(false) };
                *id = None;
                if matches!(&result, Err(error) if *at > 0 && is_busy(error)) {
                    // the device's last reference goes a moment after its DEVICE_DELETED
                    *id = self.plug_call(peer, *unplug, *at);
                    continue;
                }
                result.map_err(|e| self.qemu_failed(peer, &e, span))?;
                let removed_device = *unplug && *at == 0;
                *at += 1;
                if removed_device {
                    let slot = self.peers[peer.0].qemu.as_ref().and_then(|q| q.slot);
                    let Some(slot) = slot else {
                        let message = "the driver has not found the device yet: `setup` it before `unplug`";
                        return Err(Stop::wrong(Diagnostic::error(message).at(span)));
                    };
                    self.qemu_command(peer, Command::AcpiEject { slot }, span)?;
                }
            }
            // the rest may only follow once the device is really gone
            if *unplug && *at == 1 && !self.qmp_event_since(peer, DEVICE_DELETED, *deleted_from) {
                return Ok(false);
            }
            *id = self.plug_call(peer, *unplug, *at);
            if id.is_none() {
                return Ok(true);
            }
        }
    }

    /// Submits one of the QMP calls that plug or unplug the device; `None` if there is no such call any more.
    fn plug_call(&mut self, peer: PeerId, unplug: bool, at: usize) -> Option<CommandId> {
        let qemu = self.peers[peer.0].qemu.as_mut()?;
        let calls = if unplug { &qemu.unplug } else { &qemu.plug };
        let call = calls.get(at)?;
        let command = Command::Qmp {
            execute: call.execute.to_owned(),
            arguments: call.arguments.clone(),
        };
        Some(qemu.handle.submit(command))
    }

    fn qmp_event_since(&self, peer: PeerId, name: &str, from: Seq) -> bool {
        self.timeline.since(from).any(|(_, event)| {
            event.peer == Some(peer) && matches!(&event.kind, EventKind::Qmp { name: n } if n == name)
        })
    }

    pub(super) fn begin_config(&mut self, step: &ConfigStep, span: Span) -> Result<Waiting> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let offset = step.offset.as_ref().map_or(Ok(0), |o| eval_num(o, &self.bindings))?;
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        let command = match (&step.write, &step.is) {
            (Some(bytes), _) => Command::WriteConfig {
                offset,
                bytes: bytes.value.0.clone(),
            },
            (None, Some(bytes)) => Command::ReadConfig {
                offset,
                len: bytes.value.0.len() as u32,
            },
            (None, None) => {
                return Err(Stop::wrong(
                    Diagnostic::error("`config` needs `is` or `write`").at(span),
                ));
            }
        };
        self.submit_qemu(peer, command, span)
    }

    pub(super) fn begin_qmp(&mut self, step: &Qmp) -> Result<Waiting> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let execute = eval_text(&step.execute, &self.bindings)?;
        if execute == SYSTEM_RESET {
            self.disturb_link(peer);
        }
        let arguments = match &step.arguments {
            None => serde_json::Value::Null,
            Some(node) => to_json(&eval_node(node, &self.bindings)?),
        };
        self.submit_qemu(peer, Command::Qmp { execute, arguments }, step.execute.span)
    }

    pub(super) fn begin_qtest(&mut self, step: &Qtest) -> Result<Waiting> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let line = eval_text(&step.line, &self.bindings)?;
        self.submit_qemu(peer, Command::Raw(line), step.line.span)
    }

    pub(super) fn poll_qemu(&mut self, at: usize, step: &At<Step>, peer: PeerId, id: CommandId) -> Result<bool> {
        let span = step.span;
        let Some(result) = self.peers[peer.0].qemu.as_mut().and_then(|q| q.take(id)) else {
            return Ok(false);
        };
        match (&step.value, result) {
            (Step::Qmp(qmp), result) => self.check_qmp(qmp, result, peer)?,
            (_, Err(error)) => return Err(self.qemu_failed(peer, &error, span)),
            (Step::Setup(_), Ok(_)) => {
                if self.peers[peer.0].spec.has_guest() {
                    self.is_set_up(peer);
                }
                self.read_up(at);
            }
            (
                Step::Driver(Driver {
                    pairs: Some(wanted), ..
                }),
                Ok(Outcome::Used(used)),
            ) => {
                // one status byte, VIRTIO_NET_OK is 0
                if used.written != [0] {
                    let message = "the device refused this number of queue pairs";
                    return Err(Stop::wrong(Diagnostic::error(message).at(wanted.span)));
                }
            }
            (Step::Config(ConfigStep { is: Some(wanted), .. }), Ok(Outcome::Bytes(bytes))) => {
                if bytes != wanted.value.0 {
                    let diagnostic = Diagnostic::error("the configuration space holds other bytes")
                        .at(wanted.span)
                        .expected_actual(hex(&wanted.value.0), hex(&bytes));
                    return Err(Stop::wrong(diagnostic));
                }
            }
            (Step::Qtest(Qtest { is: Some(wanted), .. }), Ok(Outcome::Line(line))) => {
                let answer = line.strip_prefix("OK").unwrap_or(&line).trim();
                if answer != wanted.value {
                    let diagnostic = Diagnostic::error("qtest answered something else")
                        .at(wanted.span)
                        .expected_actual(&wanted.value, answer);
                    return Err(Stop::wrong(diagnostic));
                }
            }
            (Step::Guest(guest), Ok(Outcome::Line(said))) => self.check_guest(guest, peer, &said)?,
            (_, Ok(_)) => {}
        }
        Ok(true)
    }

    fn check_qmp(&mut self, step: &Qmp, result: std::result::Result<Outcome, QemuError>, peer: PeerId) -> Result<()> {
        let span = step.execute.span;
        match (result, &step.error) {
            (Err(error), Some(wanted)) if error.to_string().contains(&wanted.value) => Ok(()),
            (Err(error), Some(wanted)) => {
                let diagnostic = Diagnostic::error("the command failed in another way")
                    .at(wanted.span)
                    .expected_actual(format!("an error with `{}`", wanted.value), error);
                Err(Stop::wrong(diagnostic))
            }
            (Ok(_), Some(wanted)) => {
                let diagnostic = Diagnostic::error("the command succeeded")
                    .at(wanted.span)
                    .expected_actual(format!("an error with `{}`", wanted.value), "success");
                Err(Stop::wrong(diagnostic))
            }
            (Err(error), None) => Err(self.qemu_failed(peer, &error, span)),
            (Ok(Outcome::Qmp(answer)), None) => {
                for (path, wanted) in step.returns.iter() {
                    let wanted_json = to_json(&eval_node(wanted, &self.bindings)?);
                    let actual = follow(&answer, &path.value);
                    if actual != Some(&wanted_json) {
                        let actual = actual.map_or_else(|| format!("nothing, in {answer}"), ToString::to_string);
                        let diagnostic = Diagnostic::error(format!("`{}` is another in the answer", path.value))
                            .at(wanted.span)
                            .expected_actual(wanted_json, actual);
                        return Err(Stop::wrong(diagnostic));
                    }
                }
                Ok(())
            }
            (Ok(other), None) => Err(Stop::harness(format!("QMP answered {other:?}"), span)),
        }
    }

    /// A command of QEMU's failed: because it ended, because something did not come in time, or because it was refused.
    pub(super) fn qemu_failed(&mut self, peer: PeerId, error: &QemuError, span: Span) -> Box<Stop> {
        let who = match error {
            QemuError::Guest { .. } => "the guest",
            _ => "QEMU",
        };
        let diagnostic = Diagnostic::error(format!("{who} could not do this")).at(span);
        match error {
            QemuError::TimedOut {
                channel, outstanding, ..
            } => {
                let expected = format!("QEMU's answer to {channel} `{outstanding}`");
                let actual = self.what_came_instead();
                let diagnostic = diagnostic
                    .label("the scenario's limit was reached here")
                    .expected_actual(expected, actual);
                Stop::fail(FailKind::Hang, diagnostic)
            }
            QemuError::NotUsed { .. } => Stop::fail(FailKind::Hang, diagnostic.footer(error.to_string())),
            QemuError::Closed { .. } | QemuError::Io { .. } => match self.how_gone(peer) {
                Ok((kind, how)) => Stop::fail(kind, diagnostic.footer(error.to_string()).footer(how)),
                Err(stop) => stop,
            },
            _ => Stop::wrong(diagnostic.footer(error.to_string())),
        }
    }
}

/// QEMU says of a chardev that something still uses it.
fn is_busy(error: &QemuError) -> bool {
    matches!(error, QemuError::Qmp { description, .. } if description.ends_with("is busy"))
}

fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    pairs.join(" ")
}

fn to_json(node: &Node) -> serde_json::Value {
    match node {
        Node::Null => serde_json::Value::Null,
        Node::Bool(v) => (*v).into(),
        Node::Number(v) => (*v).into(),
        Node::Negative(v) => (*v).into(),
        Node::Float(v) => (*v).into(),
        Node::Text(v) => v.clone().into(),
        Node::List(items) => items.iter().map(|i| to_json(&i.value)).collect(),
        Node::Map(map) => map.iter().map(|(k, v)| (k.value.clone(), to_json(&v.value))).collect(),
    }
}

/// The value at `a.b[0].c`.
fn follow<'v>(value: &'v serde_json::Value, path: &str) -> Option<&'v serde_json::Value> {
    let mut value = value;
    for part in path
        .replace('[', ".")
        .replace(']', "")
        .split('.')
        .filter(|p| !p.is_empty())
    {
        value = match part.parse::<usize>() {
            Ok(index) if value.is_array() => value.get(index)?,
            _ => value.get(part)?,
        };
    }
    Some(value)
}
