//! Data through shared memory: frames, block requests and echoes.

use super::super::failure::{Result, Stop};
use super::super::run::Run;
use super::contents::check_fill;
use super::{Waiting, not_front};
use crate::peer::device::blk::{BlkOp, S_IOERR, S_OK, S_UNSUPP};
use crate::peer::device::frames;
use crate::peer::device::net::PAIRS_MAX;
use crate::peer::qemu::{BlkRequest, Command, CommandId, Outcome};
use crate::scenario::model::{Await, Blk, BlkAction, BlkStatus, Deliver, Echo};
use crate::scenario::scalar::Num;
use crate::scenario::span::{At, Span};
use crate::scenario::{Diagnostic, eval_num};
use crate::trace::{EventKind, PeerId};

pub(super) const SECTOR: u64 = 512;
/// Sectors of one request or comparison, at most.
pub(super) const SECTORS_MAX: u64 = 8192;
/// Frames on their way at the same time: below the queues of every device model.
const FRAMES_IN_FLIGHT: u64 = 64;
/// Receive buffers that a driver keeps posted.
const RECEIVE_BUFFERS: u16 = 64;
/// Echo requests on their way at the same time.
const ECHOES_IN_FLIGHT: usize = 32;
/// What a request type that no device knows is.
const T_UNKNOWN: u32 = 0x7777;

/// Frames on their way from one peer to another.
#[derive(Debug)]
pub(in super::super) struct Delivery {
    from: PeerId,
    to: PeerId,
    pair: u16,
    size: usize,
    count: u64,
    sent: u64,
    arrived: u64,
    /// Frames on their way at the same time, at most.
    in_flight: u64,
    /// QEMU: the reception that is waited for.
    receiving: Option<CommandId>,
    transmitting: Vec<CommandId>,
    prepared: bool,
}

impl Delivery {
    /// Where the frames start.
    pub(in super::super) fn from(&self) -> PeerId {
        self.from
    }

    /// Where they go.
    pub(in super::super) fn to(&self) -> PeerId {
        self.to
    }

    pub(super) fn waits_for(&self) -> String {
        format!("frame {} of {}", self.arrived + 1, self.count)
    }
}

/// A block request that was submitted.
#[derive(Debug, Clone)]
pub(in super::super) struct Submitted {
    peer: PeerId,
    what: String,
    id: RequestId,
    status: BlkStatus,
    fill: Option<(u8, Span)>,
    status_span: Span,
}

#[derive(Debug, Clone, Copy)]
enum RequestId {
    Front(u64),
    Qemu(CommandId),
}

impl Submitted {
    /// Who submitted it.
    pub(in super::super) fn peer(&self) -> PeerId {
        self.peer
    }

    /// The number of a simulated front-end's request.
    pub(super) fn number(&self) -> Option<u64> {
        match self.id {
            RequestId::Front(id) => Some(id),
            RequestId::Qemu(_) => None,
        }
    }

    pub(super) fn waits_for(&self) -> String {
        format!("the completion of {}", self.what)
    }
}

impl Run<'_> {
    pub(super) fn begin_delivery(&mut self, step: &Deliver, span: Span) -> Result<Waiting> {
        let from = self.peer(&step.from.value, step.from.span)?;
        let to = self.peer(&step.to.value, step.to.span)?;
        let size = self.number(step.size.as_ref(), 64)?;
        let limits = (frames::FRAME_BYTES_MIN as u64)..=2048;
        if !limits.contains(&size) {
            let message = format!(
                "a frame of {size} bytes; it has to have {} to {}",
                limits.start(),
                limits.end()
            );
            return Err(Stop::script(
                Diagnostic::error(message).at(step.size.as_ref().map_or(span, |s| s.span)),
            ));
        }
        let pair = self.small(step.pair.as_ref(), 0)?;
        if pair >= PAIRS_MAX {
            let place = step.pair.as_ref().map_or(span, |p| p.span);
            return Err(Stop::script(
                Diagnostic::error(format!("there is no queue pair {pair}")).at(place),
            ));
        }
        Ok(Waiting::Delivery(Box::new(Delivery {
            from,
            to,
            pair,
            size: size as usize,
            count: self.number(step.packets.as_ref(), 1)?,
            sent: 0,
            arrived: 0,
            in_flight: self.frames_in_flight(from),
            receiving: None,
            transmitting: Vec::new(),
            prepared: false,
        })))
    }

    pub(super) fn poll_delivery(&mut self, span: Span, delivery: &mut Delivery) -> Result<bool> {
        if !delivery.prepared {
            self.prepare_delivery(span, delivery)?;
            delivery.prepared = true;
        }
        loop {
            let before = (delivery.sent, delivery.arrived);
            while delivery.sent < delivery.count && delivery.sent - delivery.arrived < delivery.in_flight {
                self.send_frame(span, delivery)?;
                delivery.sent += 1;
            }
            self.relay();
            self.take_arrivals(span, delivery)?;
            if delivery.arrived == delivery.count && self.transmitted(span, delivery)? {
                let what = format!("{} frames of {} bytes arrived in order", delivery.count, delivery.size);
                let link = self.peers[delivery.to.0].link;
                self.record(Some(delivery.to), link, EventKind::Data { what });
                return Ok(true);
            }
            if (delivery.sent, delivery.arrived) == before {
                return Ok(false);
            }
        }
    }

    /// QEMU's driver has no queue of its own before the ring. A frame takes two descriptors there, and may have arrived
    /// before they come back.
    fn frames_in_flight(&self, from: PeerId) -> u64 {
        let spec = &self.peers[from.0].spec;
        match spec.has_qtest() {
            true => (u64::from(spec.ring_size) / 4).clamp(1, FRAMES_IN_FLIGHT),
            false => FRAMES_IN_FLIGHT,
        }
    }

    fn prepare_delivery(&mut self, span: Span, delivery: &Delivery) -> Result<()> {
        // frames of before are none of this step's
        if let Some(back) = self.back_for(delivery.to, delivery.from) {
            back.take_frames();
        }
        let receiver = &mut self.peers[delivery.to.0];
        if let Some(front) = receiver.sim.front() {
            let posted = front.post_receive(delivery.pair, RECEIVE_BUFFERS);
            return posted.map_err(|e| Stop::wrong(Diagnostic::error(e.to_string()).at(span)));
        }
        if receiver.spec.has_qtest() {
            let command = Command::NetPost {
                ring: delivery.pair * 2,
                buffers: RECEIVE_BUFFERS,
            };
            self.qemu_command(delivery.to, command, span)?;
        }
        Ok(())
    }

    fn send_frame(&mut self, span: Span, delivery: &mut Delivery) -> Result<()> {
        let frame = frames::make(delivery.sent, delivery.size, u64::from(delivery.pair));
        let wrong = |e: &dyn std::fmt::Display| Stop::wrong(Diagnostic::error(e.to_string()).at(span));
        let sender = &mut self.peers[delivery.from.0];
        if let Some(front) = sender.sim.front() {
            return front.transmit(delivery.pair, &frame).map_err(|e| wrong(&e));
        }
        if let Some(back) = self.back_for(delivery.from, delivery.to) {
            return back.inject(delivery.pair, frame).map_err(|e| wrong(&e));
        }
        self.check_has_rings(delivery.from, span)?;
        let command = Command::NetTransmit {
            ring: delivery.pair * 2 + 1,
            frame,
        };
        let id = self.qemu_command(delivery.from, command, span)?;
        delivery.transmitting.push(id);
        Ok(())
    }

    /// A simulated peer without rings for this has lost its connection, or never had one.
    fn check_has_rings(&self, peer: PeerId, span: Span) -> Result<()> {
        let spec = &self.peers[peer.0].spec;
        match spec.is_simulated() {
            true => Err(Stop::wrong(
                Diagnostic::error(format!("`{}` has no device for this any more", spec.name)).at(span),
            )),
            false => Ok(()),
        }
    }

    fn take_arrivals(&mut self, span: Span, delivery: &mut Delivery) -> Result<()> {
        loop {
            let mut arrived: Vec<Vec<u8>> = Vec::new();
            if let Some(back) = self.back_for(delivery.to, delivery.from) {
                arrived.extend(back.take_frames().into_iter().map(|tx| tx.bytes));
            } else if let Some(front) = self.peers[delivery.to.0].sim.front() {
                arrived.extend(std::iter::from_fn(|| front.take_frame(delivery.pair)));
                if !arrived.is_empty() {
                    let posted = front.post_receive(delivery.pair, RECEIVE_BUFFERS);
                    posted.map_err(|e| Stop::wrong(Diagnostic::error(e.to_string()).at(span)))?;
                }
            } else if delivery.arrived < delivery.count {
                self.check_has_rings(delivery.to, span)?;
                arrived.extend(self.qemu_receive(span, delivery)?);
            }
            if arrived.is_empty() {
                return Ok(());
            }
            for frame in arrived {
                self.check_frame(span, delivery, &frame)?;
            }
        }
    }

    fn qemu_receive(&mut self, span: Span, delivery: &mut Delivery) -> Result<Option<Vec<u8>>> {
        let ring = delivery.pair * 2;
        if let Some(id) = delivery.receiving {
            let Some(result) = self.peers[delivery.to.0].qemu.as_mut().and_then(|q| q.take(id)) else {
                return Ok(None);
            };
            delivery.receiving = None;
            return match result {
                Ok(Outcome::Frame(frame)) => Ok(Some(frame)),
                Ok(other) => Err(Stop::harness(format!("QEMU's driver answered {other:?}"), span)),
                Err(error) => Err(self.qemu_failed(delivery.to, &error, span)),
            };
        }
        let within = self.patience(self.deadline);
        delivery.receiving = Some(self.qemu_command(delivery.to, Command::NetReceive { ring, within }, span)?);
        Ok(None)
    }

    fn check_frame(&mut self, span: Span, delivery: &mut Delivery, frame: &[u8]) -> Result<()> {
        let expected = format!("frame {} of {} bytes", delivery.arrived, delivery.size);
        let actual = match frames::check(frame) {
            Ok(seq) if seq.0 == delivery.arrived && frame.len() == delivery.size => {
                delivery.arrived += 1;
                return Ok(());
            }
            Ok(seq) => format!("frame {} of {} bytes", seq.0, frame.len()),
            Err(error) => error.to_string(),
        };
        let message = "another frame arrived than the one that was sent";
        Err(Stop::wrong(
            Diagnostic::error(message).at(span).expected_actual(expected, actual),
        ))
    }

    /// Whether the sender has its buffers back; errors of QEMU's driver come out here.
    fn transmitted(&mut self, span: Span, delivery: &mut Delivery) -> Result<bool> {
        let sender = &mut self.peers[delivery.from.0];
        if let Some(front) = sender.sim.front() {
            return Ok(front.all_transmitted(delivery.pair));
        }
        let Some(qemu) = &mut sender.qemu else { return Ok(true) };
        let mut failed = None;
        delivery.transmitting.retain(|id| match qemu.take(*id) {
            None => true,
            Some(Ok(_)) => false,
            Some(Err(error)) => {
                failed = Some(error);
                false
            }
        });
        match failed {
            Some(error) => Err(self.qemu_failed(delivery.from, &error, span)),
            None => Ok(delivery.transmitting.is_empty()),
        }
    }

    pub(super) fn begin_blk(&mut self, step: &Blk, span: Span) -> Result<Waiting> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let queue = self.small(step.queue.as_ref(), 0)?;
        let sector = self.number(step.sector.as_ref(), 0)?;
        let sectors = self.number(step.sectors.as_ref(), 1)?;
        if sectors > SECTORS_MAX {
            let message = format!("{sectors} sectors in one request, more than {SECTORS_MAX}");
            return Err(Stop::script(Diagnostic::error(message).at(span)));
        }
        let bytes = sectors * SECTOR;
        let fill = step.fill.as_ref().map(|f| self.byte(f)).transpose()?;
        let action = step.action.value;
        let kick = step.kick.as_ref().is_none_or(|k| k.value);
        let data = || vec![fill.unwrap_or(0); bytes as usize];
        let within = self.patience(self.tracks_deadline(step.within.as_ref()));
        let id = if self.peers[peer.0].spec.is_qemu() {
            let request = match action {
                BlkAction::Read => BlkRequest::Read {
                    sector,
                    len: bytes as u32,
                },
                BlkAction::Write => BlkRequest::Write { sector, data: data() },
                BlkAction::Flush => BlkRequest::Flush,
                BlkAction::GetId => BlkRequest::GetId,
                BlkAction::Unknown => BlkRequest::Other {
                    kind: T_UNKNOWN,
                    sector,
                    data: Vec::new(),
                    writable: 0,
                },
            };
            RequestId::Qemu(self.qemu_command(
                peer,
                Command::Blk {
                    ring: queue,
                    request,
                    within,
                },
                span,
            )?)
        } else {
            let op = match action {
                BlkAction::Read => BlkOp::Read { length: bytes as u32 },
                BlkAction::Write => BlkOp::Write(data()),
                BlkAction::Flush => BlkOp::Flush,
                BlkAction::GetId => BlkOp::GetId,
                BlkAction::Unknown => BlkOp::Other(T_UNKNOWN),
            };
            let front = self.peers[peer.0].sim.front().ok_or_else(|| not_front(span))?;
            let submitted = front.submit_blk(queue, &op, sector, kick);
            RequestId::Front(submitted.map_err(|e| Stop::wrong(Diagnostic::error(e.to_string()).at(span)))?)
        };
        let what = match action {
            BlkAction::Read | BlkAction::Write => {
                let plural = if sectors == 1 { "" } else { "s" };
                format!("{action:?} of {sectors} sector{plural} at {sector}").to_lowercase()
            }
            other => format!("{other:?}").to_lowercase(),
        };
        let submitted = Submitted {
            peer,
            what,
            id,
            status: step.status.as_ref().map_or(BlkStatus::Ok, |s| s.value),
            fill: fill
                .filter(|_| action == BlkAction::Read)
                .map(|byte| (byte, step.fill.as_ref().map_or(span, |f| f.span))),
            status_span: step.status.as_ref().map_or(span, |s| s.span),
        };
        if step.wait.as_ref().is_some_and(|w| !w.value) {
            let name = step.bind.as_ref().map_or_else(String::new, |b| b.value.clone());
            self.submitted.push((name, submitted));
            return Ok(Waiting::Nothing);
        }
        Ok(Waiting::Submitted(Box::new(submitted)))
    }

    /// Does again what a trace tells of data: a block request, or frames that come back. Nothing, where the ring has no
    /// driver or it is another kind of data.
    pub(super) fn data_again(&mut self, peer: PeerId, what: &str, span: Span) -> Result<Option<Waiting>> {
        let words: Vec<&str> = what.split([' ', ':']).filter(|word| !word.is_empty()).collect();
        let number = |word: &str| word.parse::<u64>().ok();
        if let [count, "frames", "of", size, "bytes", ..] = words[..] {
            let (Some(count), Some(size)) = (number(count), number(size).and_then(|s| usize::try_from(s).ok())) else {
                return Ok(None);
            };
            let has = |run: &mut Self, ring| run.peers[peer.0].sim.front().is_some_and(|f| f.has_driver(ring));
            if !has(self, 0) || !has(self, 1) {
                return Ok(None);
            }
            return Ok(Some(Waiting::Delivery(Box::new(Delivery {
                from: peer,
                to: peer,
                pair: 0,
                size: size.clamp(frames::FRAME_BYTES_MIN, 2048),
                count,
                sent: 0,
                arrived: 0,
                in_flight: self.frames_in_flight(peer),
                receiving: None,
                transmitting: Vec::new(),
                prepared: false,
            }))));
        }
        let (op, sector) = match words[..] {
            [action @ ("read" | "write"), "of", sectors, _, "at", sector, ..] => {
                let sectors = number(sectors).filter(|n| (1..=SECTORS_MAX).contains(n));
                let (Some(sectors), Some(sector)) = (sectors, number(sector)) else {
                    return Ok(None);
                };
                let bytes = sectors * SECTOR;
                // what was written is not in the trace
                let op = match action {
                    "read" => BlkOp::Read { length: bytes as u32 },
                    _ => BlkOp::Write(vec![sector as u8; bytes as usize]),
                };
                (op, sector)
            }
            ["flush", ..] => (BlkOp::Flush, 0),
            ["getid", ..] => (BlkOp::GetId, 0),
            _ => return Ok(None),
        };
        let Some(front) = self.peers[peer.0].sim.front().filter(|front| front.has_driver(0)) else {
            return Ok(None);
        };
        let submitted = front.submit_blk(0, &op, sector, true);
        let id = submitted.map_err(|e| Stop::wrong(Diagnostic::error(e.to_string()).at(span)))?;
        let (what, status) = what.split_once(": ").unwrap_or((what, "ok"));
        let status = match status {
            _ if status.contains("ioerr") => BlkStatus::Ioerr,
            _ if status.contains("unsupp") => BlkStatus::Unsupp,
            _ => BlkStatus::Ok,
        };
        Ok(Some(Waiting::Submitted(Box::new(Submitted {
            peer,
            what: what.to_owned(),
            id: RequestId::Front(id),
            status,
            fill: None,
            status_span: span,
        }))))
    }

    pub(super) fn begin_await(&mut self, step: &Await) -> Result<Waiting> {
        if let Some(id) = self.delivery_named(&step.request.value) {
            if step.stop {
                self.stop_delivery(id);
            }
            return Ok(Waiting::Traffic(id));
        }
        let at = self.submitted.iter().position(|(name, _)| *name == step.request.value);
        let Some(at) = at else {
            let message = format!("no request `{}` was submitted", step.request.value);
            return Err(Stop::wrong(Diagnostic::error(message).at(step.request.span)));
        };
        let (_, submitted) = self.submitted.remove(at);
        Ok(Waiting::Submitted(Box::new(submitted)))
    }

    pub(super) fn poll_submitted(&mut self, span: Span, submitted: &Submitted) -> Result<bool> {
        let state = &mut self.peers[submitted.peer.0];
        let (status, data) = match submitted.id {
            RequestId::Front(id) => match state.sim.front().and_then(|f| f.take_blk(id)) {
                None => return Ok(false),
                Some(Ok(outcome)) => (outcome.status, outcome.data),
                Some(Err(error)) => return Err(Stop::wrong(Diagnostic::error(error).at(span))),
            },
            RequestId::Qemu(id) => match state.qemu.as_mut().and_then(|q| q.take(id)) {
                None => return Ok(false),
                Some(Ok(Outcome::Blk(answer))) => (answer.status, answer.data),
                Some(Ok(other)) => return Err(Stop::harness(format!("QEMU's driver answered {other:?}"), span)),
                Some(Err(error)) => return Err(self.qemu_failed(submitted.peer, &error, span)),
            },
        };
        let wanted = match submitted.status {
            BlkStatus::Ok => S_OK,
            BlkStatus::Ioerr => S_IOERR,
            BlkStatus::Unsupp => S_UNSUPP,
        };
        if status != wanted {
            let diagnostic = Diagnostic::error(format!("{} ended with another status", submitted.what))
                .at(submitted.status_span)
                .expected_actual(show_status(wanted), show_status(status));
            return Err(Stop::wrong(diagnostic));
        }
        if let (Some((fill, span)), S_OK) = (submitted.fill, status) {
            check_fill(&data, fill, &submitted.what, span)?;
        }
        let link = self.peers[submitted.peer.0].link;
        let what = format!("{}: {}", submitted.what, show_status(status));
        self.record(Some(submitted.peer), link, EventKind::Data { what });
        Ok(true)
    }

    pub(super) fn begin_echo(&mut self, step: &Echo, span: Span) -> Result<Waiting> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let size = self.number(step.size.as_ref(), 64)?;
        if !(1..=65536).contains(&size) {
            return Err(Stop::wrong(
                Diagnostic::error(format!("{size} bytes; an echo has 1 to 65536")).at(span),
            ));
        }
        Ok(Waiting::Echo {
            peer,
            ring: self.small(step.ring.as_ref(), 0)?,
            size: size as usize,
            open: Vec::new(),
            left: self.number(step.requests.as_ref(), 1)?,
            number: 0,
        })
    }

    pub(super) fn poll_echo(&mut self, span: Span, waiting: &mut Waiting) -> Result<bool> {
        let Waiting::Echo {
            peer,
            ring,
            size,
            open,
            left,
            number,
        } = waiting
        else {
            return Ok(true);
        };
        // each takes two descriptors
        let in_flight = ECHOES_IN_FLIGHT.min(usize::from(self.peers[peer.0].spec.ring_size / 2).max(1));
        loop {
            let Some(front) = self.peers[peer.0].sim.front() else {
                return Err(not_front(span));
            };
            let wrong = |e: String| Stop::wrong(Diagnostic::error("an echo came back changed").at(span).footer(e));
            let before = open.len();
            let mut failed = None;
            open.retain(|id| match front.take_echo(*id) {
                None => true,
                Some(Ok(())) => false,
                Some(Err(error)) => {
                    failed = Some(error);
                    false
                }
            });
            if let Some(error) = failed {
                return Err(wrong(error));
            }
            let mut sent = false;
            while *left > 0 && open.len() < in_flight {
                let bytes = frames::sectors(*number, (*size).div_ceil(SECTOR as usize) as u32, u64::from(*ring));
                let submitted = front.submit_echo(*ring, bytes[..*size].to_vec());
                open.push(submitted.map_err(|e| Stop::wrong(Diagnostic::error(e.to_string()).at(span)))?);
                (*number, *left, sent) = (*number + 1, *left - 1, true);
            }
            if open.is_empty() && *left == 0 {
                let (peer, what) = (*peer, format!("{number} echoes of {size} bytes came back unchanged"));
                let link = self.peers[peer.0].link;
                self.record(Some(peer), link, EventKind::Data { what });
                return Ok(true);
            }
            if !sent && open.len() == before {
                return Ok(false);
            }
            self.relay();
        }
    }

    pub(in super::super) fn number(&self, value: Option<&At<Num>>, default: u64) -> Result<u64> {
        value.map_or(Ok(default), |n| Ok(eval_num(n, &self.bindings)?))
    }

    fn small(&self, value: Option<&At<Num>>, default: u16) -> Result<u16> {
        value.map_or(Ok(default), |n| self.ring(n))
    }

    pub(super) fn byte(&self, value: &At<Num>) -> Result<u8> {
        let number = eval_num(value, &self.bindings)?;
        u8::try_from(number).map_err(|_| Stop::script(Diagnostic::error(format!("{number} is no byte")).at(value.span)))
    }

    fn tracks_deadline(&self, within: Option<&At<crate::scenario::scalar::Duration>>) -> crate::sys::clock::Moment {
        within.map_or(self.deadline, |d| self.clock.now().plus_ms(d.ms).min(self.deadline))
    }
}

fn show_status(status: u8) -> String {
    match status {
        S_OK => "status ok".to_owned(),
        S_IOERR => "status ioerr".to_owned(),
        S_UNSUPP => "status unsupp".to_owned(),
        other => format!("status {other:#x}"),
    }
}
