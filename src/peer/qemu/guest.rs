//! The conversation with a Linux guest: lines on a serial port, one command and one answer at a time.
//!
//! A guest that has started says `ready`, and what it has; before that nothing is sent, as what comes before the guest listens is
//! lost. After that each command is answered by `ok …`, or by `error …` with the reason. A guest that starts again has forgotten what it
//! was told.

use std::collections::VecDeque;
use std::time::Duration;

use super::error::{Channel, QemuError};
use super::exchange::{BlkAnswer, BlkRequest, Command, CommandId, Outcome};
use super::lines::LineSocket;
use super::session::Results;

/// Characters of an unexpected line that are told.
const TOLD_MAX: usize = 200;
/// Status bytes of a block request (virtio 1.x, 5.2.6).
const S_OK: u8 = 0;
const S_IOERR: u8 = 1;

/// What is to be made of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Line,
    Blk,
}

/// One command for the guest.
#[derive(Debug)]
struct Order {
    id: CommandId,
    line: String,
    wanted: Wanted,
}

/// A guest's serial line.
#[derive(Debug)]
pub(super) struct GuestLine {
    socket: LineSocket,
    /// It listens.
    listens: bool,
    /// What it has said when it was ready, until somebody asks for it.
    ready: Option<Result<String, QemuError>>,
    asked_ready: VecDeque<CommandId>,
    /// The command that it has and has not answered.
    sent: Option<Order>,
    waiting: VecDeque<Order>,
}

impl GuestLine {
    /// One that is `incoming` has said elsewhere that it is ready.
    pub(super) fn new(socket: LineSocket, incoming: bool) -> Self {
        Self {
            socket,
            listens: incoming,
            ready: None,
            asked_ready: VecDeque::new(),
            sent: None,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn socket(&self) -> &LineSocket {
        &self.socket
    }

    /// Whether something waits for the guest.
    pub(super) fn is_waiting(&self) -> bool {
        !self.asked_ready.is_empty() || self.sent.is_some() || !self.waiting.is_empty()
    }

    /// What it waits for, for errors.
    pub(super) fn waits_for(&self) -> String {
        match (&self.sent, self.waiting.front()) {
            (Some(order), _) => order.line.clone(),
            (None, Some(order)) if self.listens => order.line.clone(),
            _ if self.is_waiting() => "ready".to_owned(),
            _ => "(idle)".to_owned(),
        }
    }

    /// Takes a command on. What it ends is appended to `results`.
    pub(super) fn execute(&mut self, id: CommandId, command: Command, results: &mut Results) -> Result<(), QemuError> {
        let (line, wanted) = match command {
            Command::GuestReady => {
                self.asked_ready.push_back(id);
                self.tell_ready(results);
                return Ok(());
            }
            Command::Guest(line) => (line, Wanted::Line),
            Command::Blk { ring: 0, request, .. } => match blk_line(&request) {
                Ok(line) => (line, Wanted::Blk),
                Err(error) => {
                    results.push((id, Err(error)));
                    return Ok(());
                }
            },
            other => {
                results.push((id, Err(refused(&format!("{other:?}")))));
                return Ok(());
            }
        };
        self.waiting.push_back(Order { id, line, wanted });
        self.send_next()
    }

    /// Takes in what the guest has said by now.
    pub(super) fn take(&mut self, results: &mut Results) -> Result<(), QemuError> {
        while let Some(line) = self.socket.try_line(&self.waits_for())? {
            self.heard(&line, results)?;
            self.send_next()?;
        }
        Ok(())
    }

    /// Ends every command.
    pub(super) fn abandon(&mut self, error: &QemuError, results: &mut Results) {
        let asked = self.asked_ready.drain(..);
        let orders = self.sent.take().into_iter().chain(self.waiting.drain(..));
        let all = asked.chain(orders.map(|order| order.id));
        results.extend(all.map(|id| (id, Err(error.clone()))));
    }

    fn send_next(&mut self) -> Result<(), QemuError> {
        if !self.listens || self.sent.is_some() {
            return Ok(());
        }
        let Some(order) = self.waiting.pop_front() else {
            return Ok(());
        };
        let line = format!("{}\n", order.line);
        let order = self.sent.insert(order);
        self.socket.send(line.as_bytes(), &order.line)
    }

    fn heard(&mut self, line: &str, results: &mut Results) -> Result<(), QemuError> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let answer = match word {
            "ready" | "ok" => Ok(rest.to_owned()),
            "error" => Err(rest.to_owned()),
            _ => return Err(self.nonsense(line)),
        };
        let has_started = word == "ready" || word == "error" && !self.listens;
        if has_started {
            if let Some(order) = self.sent.take() {
                results.push((order.id, Err(self.nonsense(line))));
            }
            self.listens = true;
            let failed = |reason| QemuError::Guest {
                command: "start".to_owned(),
                reason,
            };
            self.ready = Some(answer.map_err(failed));
            self.tell_ready(results);
            return Ok(());
        }
        match self.sent.take() {
            Some(order) => {
                results.push((order.id, order.outcome(answer)));
                Ok(())
            }
            None => Err(self.nonsense(line)),
        }
    }

    fn tell_ready(&mut self, results: &mut Results) {
        if let Some(said) = self.ready.take() {
            match self.asked_ready.pop_front() {
                Some(id) => results.push((id, said.map(Outcome::Line))),
                None => self.ready = Some(said),
            }
        }
    }

    fn nonsense(&self, line: &str) -> QemuError {
        QemuError::Protocol {
            channel: Channel::Guest,
            outstanding: self.waits_for(),
            answer: line.chars().take(TOLD_MAX).collect(),
        }
    }
}

impl Order {
    fn outcome(self, answer: Result<String, String>) -> Result<Outcome, QemuError> {
        let failed = |reason| QemuError::Guest {
            command: self.line.clone(),
            reason,
        };
        if self.wanted == Wanted::Line {
            return answer.map(Outcome::Line).map_err(failed);
        }
        let (status, data) = match answer {
            Ok(runs) => (S_OK, bytes_of(&runs).ok_or_else(|| failed(format!("ok {runs}")))?),
            // what its kernel makes of every status but that of success
            Err(reason) if reason == "EIO" => (S_IOERR, Vec::new()),
            Err(reason) => return Err(failed(reason)),
        };
        let len = data.len() as u32;
        Ok(Outcome::Blk(BlkAnswer { status, data, len }))
    }
}

/// A block request in the guest's words. Its kernel chooses the ring.
fn blk_line(request: &BlkRequest) -> Result<String, QemuError> {
    match request {
        BlkRequest::Read { sector, len } => Ok(format!("read {sector} {}", len / 512)),
        BlkRequest::Write { sector, data } => {
            let fill = data.first().copied().unwrap_or_default();
            if data.iter().any(|byte| *byte != fill) {
                return Err(refused("a write of other than one byte again and again"));
            }
            Ok(format!("write {sector} {} {fill:#04x}", data.len() / 512))
        }
        BlkRequest::Flush => Ok("flush".to_owned()),
        BlkRequest::GetId => Ok("serial".to_owned()),
        BlkRequest::Other { kind, .. } => Err(refused(&format!("a request of type {kind}"))),
    }
}

fn refused(what: &str) -> QemuError {
    QemuError::Config {
        what: format!("{what}, which the Linux guest has no words for"),
    }
}

/// What was read, as the guest tells it: `5ax512 00x1024` are 512 times 0x5a, then 1024 zeroes.
fn bytes_of(runs: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for run in runs.split_whitespace() {
        let (byte, count) = run.split_once('x')?;
        let (byte, count) = (u8::from_str_radix(byte, 16).ok()?, count.parse::<usize>().ok()?);
        if bytes.len() + count > super::session::READ_BYTES_MAX as usize {
            return None;
        }
        bytes.resize(bytes.len() + count, byte);
    }
    Some(bytes)
}

/// How long to wait for what the guest says, given how much time is left.
pub(super) fn patience(line: &GuestLine, left: Option<Duration>) -> Option<Duration> {
    line.is_waiting().then(|| left.unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use super::super::lines::tests::pair;
    use super::super::mailbox::Bell;
    use super::*;

    fn open() -> (UnixStream, GuestLine, Arc<Bell>) {
        let (guest, socket, stop) = pair(Channel::Guest, Duration::from_secs(5));
        (guest, GuestLine::new(socket, false), stop)
    }

    fn line(text: &str) -> Command {
        Command::Guest(text.to_owned())
    }

    /// Broken: a command reaches a guest that does not listen yet, or two at once, and answers go to the wrong ones.
    #[test]
    fn one_command_at_a_time_after_it_is_ready() {
        let (mut guest, mut line_to, _stop) = open();
        let mut heard = BufReader::new(guest.try_clone().unwrap());
        let mut next = || {
            let mut line = String::new();
            heard.read_line(&mut line).unwrap();
            line
        };
        let mut results = Results::new();
        line_to.execute(CommandId(1), line("one"), &mut results).unwrap();
        line_to
            .execute(CommandId(2), Command::GuestReady, &mut results)
            .unwrap();
        line_to.execute(CommandId(3), line("two"), &mut results).unwrap();
        assert_eq!((line_to.waits_for().as_str(), results.len()), ("ready", 0));
        guest.write_all(b"ready eth0\n").unwrap();
        line_to.take(&mut results).unwrap();
        assert_eq!(
            std::mem::take(&mut results),
            [(CommandId(2), Ok(Outcome::Line("eth0".into())))]
        );
        assert_eq!((next().as_str(), line_to.waits_for().as_str()), ("one\n", "one"));
        guest.write_all(b"ok\n").unwrap();
        line_to.take(&mut results).unwrap();
        assert_eq!(next(), "two\n");
        guest.write_all(b"error no such thing\n").unwrap();
        line_to.take(&mut results).unwrap();
        let refused = QemuError::Guest {
            command: "two".into(),
            reason: "no such thing".into(),
        };
        assert_eq!(
            results,
            [
                (CommandId(1), Ok(Outcome::Line(String::new()))),
                (CommandId(3), Err(refused))
            ]
        );
        assert!(!line_to.is_waiting());
    }

    /// Broken: a guest that starts anew is taken for one that answers, or what it says first is lost because nobody asked yet.
    #[test]
    fn each_start_says_so_once() {
        let (mut guest, mut line_to, _stop) = open();
        let mut results = Results::new();
        guest.write_all(b"ready eth0\n").unwrap();
        line_to.take(&mut results).unwrap();
        line_to
            .execute(CommandId(1), Command::GuestReady, &mut results)
            .unwrap();
        line_to
            .execute(CommandId(2), Command::GuestReady, &mut results)
            .unwrap();
        line_to.execute(CommandId(3), line("counts"), &mut results).unwrap();
        assert_eq!(results.len(), 1);
        guest.write_all(b"ready eth1\n").unwrap();
        line_to.take(&mut results).unwrap();
        assert!(
            matches!(&results[1], (CommandId(3), Err(QemuError::Protocol { .. }))),
            "{results:?}"
        );
        assert_eq!(results[2], (CommandId(2), Ok(Outcome::Line("eth1".into()))));
        guest.write_all(b"ok\n").unwrap();
        assert!(line_to.take(&mut results).is_err(), "nobody has asked for this");
        let (mut guest, mut line_to, _stop) = open();
        guest.write_all(b"error net: no\n").unwrap();
        line_to
            .execute(CommandId(1), Command::GuestReady, &mut results)
            .unwrap();
        line_to.take(&mut results).unwrap();
        assert!(
            matches!(results.last(), Some((CommandId(1), Err(QemuError::Guest { reason, .. }))) if reason == "net: no")
        );
    }

    /// Broken: what the guest has read of its disk is not what the scenario compares, or an error of the disk passes.
    #[test]
    fn reads_are_told_in_runs() {
        assert_eq!(bytes_of("5ax3 00x1"), Some(vec![0x5a, 0x5a, 0x5a, 0]));
        assert_eq!(bytes_of(""), Some(vec![]));
        for nonsense in ["5a", "5gx1", "5ax-1", "00x99999999999"] {
            assert_eq!(bytes_of(nonsense), None, "{nonsense}");
        }
        let order = || Order {
            id: CommandId(1),
            line: "read 0 1".into(),
            wanted: Wanted::Blk,
        };
        let status = |answer| match order().outcome(answer) {
            Ok(Outcome::Blk(answer)) => answer.status,
            other => panic!("{other:?}"),
        };
        assert_eq!(status(Ok("00x512".into())), S_OK);
        assert_eq!(status(Err("EIO".into())), S_IOERR);
        assert!(matches!(
            order().outcome(Err("ENXIO".into())),
            Err(QemuError::Guest { .. })
        ));
    }
}
