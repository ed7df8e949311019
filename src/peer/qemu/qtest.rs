//! The qtest protocol: port, register and memory accesses, one line each, many lines in one round trip.

use super::error::{Channel, QemuError};
use super::lines::LineSocket;

/// The most bytes in one memory access.
pub(super) const ACCESS_BYTES_MAX: usize = 1 << 20;
/// How much is sent before answers are read. Less than a socket buffer holds, so that neither side can block the other.
const CHUNK_LINES_MAX: usize = 128;
const CHUNK_BYTES_MAX: usize = 16 << 10;

/// Accesses to be made in one go, in this order. Each returns the slot of its answer.
#[derive(Debug, Default)]
pub(super) struct Batch {
    lines: Vec<String>,
}

/// Which answer of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot(usize);

impl Batch {
    pub(super) fn line(&mut self, line: String) -> Slot {
        self.lines.push(line);
        Slot(self.lines.len() - 1)
    }

    pub(super) fn out32(&mut self, port: u16, value: u32) -> Slot {
        self.line(format!("outl {port:#x} {value:#x}"))
    }

    pub(super) fn in32(&mut self, port: u16) -> Slot {
        self.line(format!("inl {port:#x}"))
    }

    pub(super) fn read8(&mut self, address: u64) -> Slot {
        self.line(format!("readb {address:#x}"))
    }

    pub(super) fn read16(&mut self, address: u64) -> Slot {
        self.line(format!("readw {address:#x}"))
    }

    pub(super) fn read32(&mut self, address: u64) -> Slot {
        self.line(format!("readl {address:#x}"))
    }

    pub(super) fn write8(&mut self, address: u64, value: u8) -> Slot {
        self.line(format!("writeb {address:#x} {value:#x}"))
    }

    pub(super) fn write16(&mut self, address: u64, value: u16) -> Slot {
        self.line(format!("writew {address:#x} {value:#x}"))
    }

    pub(super) fn write32(&mut self, address: u64, value: u32) -> Slot {
        self.line(format!("writel {address:#x} {value:#x}"))
    }

    /// A 64-bit register, as two halves: virtio 1.x, 4.1.3.1 asks for 32-bit accesses.
    pub(super) fn write64(&mut self, address: u64, value: u64) {
        self.write32(address, value as u32);
        self.write32(address + 4, (value >> 32) as u32);
    }

    /// Fills memory with zeros. An empty access would abort QEMU.
    pub(super) fn zero(&mut self, address: u64, len: u64) {
        if len > 0 {
            self.line(format!("memset {address:#x} {len:#x} 0x0"));
        }
    }

    /// Writes memory, in several accesses if it is much. An empty access would abort QEMU.
    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) {
        for (index, part) in bytes.chunks(ACCESS_BYTES_MAX).enumerate() {
            let at = address + (index * ACCESS_BYTES_MAX) as u64;
            let mut line = format!("write {at:#x} {:#x} 0x", part.len());
            push_hex(&mut line, part);
            self.line(line);
        }
    }
}

/// What QEMU answered to a batch.
#[derive(Debug)]
pub(super) struct Answers {
    lines: Vec<String>,
    answers: Vec<String>,
}

impl Answers {
    /// The number that a read returned.
    pub(super) fn number(&self, slot: Slot) -> Result<u64, QemuError> {
        let digits = self.value(slot).and_then(|text| u64::from_str_radix(text, 16).ok());
        digits.ok_or_else(|| protocol(&self.lines[slot.0], &self.answers[slot.0]))
    }

    /// The number, of which the register has only 32 bits.
    pub(super) fn number32(&self, slot: Slot) -> Result<u32, QemuError> {
        Ok(self.number(slot)? as u32)
    }

    fn value(&self, slot: Slot) -> Option<&str> {
        self.answers[slot.0].strip_prefix("OK 0x")
    }
}

/// A qtest connection.
#[derive(Debug)]
pub(super) struct QtestClient {
    socket: LineSocket,
    /// Set once the conversation is out of step; every later access fails with it.
    broken: Option<QemuError>,
}

impl QtestClient {
    pub(super) fn new(socket: LineSocket) -> Self {
        Self { socket, broken: None }
    }

    pub(super) fn socket(&self) -> &LineSocket {
        &self.socket
    }

    /// Makes all accesses of a batch. Every one must be answered by `OK`.
    pub(super) fn run(&mut self, batch: Batch) -> Result<Answers, QemuError> {
        let answers = self.exchange(&batch.lines)?;
        for (line, answer) in batch.lines.iter().zip(&answers) {
            if answer != "OK" && !answer.starts_with("OK ") {
                return Err(self.break_with(protocol(line, answer)));
            }
        }
        Ok(Answers {
            lines: batch.lines,
            answers,
        })
    }

    /// One line of the caller's own; any answer is fine.
    pub(super) fn raw(&mut self, line: &str) -> Result<String, QemuError> {
        if line.is_empty() || line.contains(['\n', '\r', '\0']) {
            return Err(QemuError::Config {
                what: format!("not one qtest line: {line:?}"),
            });
        }
        let mut answers = self.exchange(&[line.to_owned()])?;
        Ok(answers.remove(0))
    }

    /// Reads memory.
    pub(super) fn read(&mut self, address: u64, buffer: &mut [u8]) -> Result<(), QemuError> {
        for (index, part) in buffer.chunks_mut(ACCESS_BYTES_MAX).enumerate() {
            let at = address + (index * ACCESS_BYTES_MAX) as u64;
            let line = format!("read {at:#x} {:#x}", part.len());
            let mut batch = Batch::default();
            let slot = batch.line(line.clone());
            let answers = self.run(batch)?;
            let filled = answers.value(slot).and_then(|hex| from_hex(hex, part));
            filled.ok_or_else(|| protocol(&line, &answers.answers[0]))?;
        }
        Ok(())
    }

    /// Takes what QEMU sent unasked (interrupt lines, if a scenario intercepts them) and notices its end.
    pub(super) fn drain(&mut self) -> Result<(), QemuError> {
        self.check()?;
        loop {
            match self.socket.try_line("(idle)") {
                Ok(Some(line)) if line.starts_with("IRQ ") => {}
                Ok(Some(line)) => return Err(self.break_with(protocol("(idle)", &line))),
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.break_with(error)),
            }
        }
    }

    fn exchange(&mut self, lines: &[String]) -> Result<Vec<String>, QemuError> {
        self.check()?;
        let mut answers = Vec::with_capacity(lines.len());
        let mut rest = lines;
        while !rest.is_empty() {
            let (chunk, bytes) = chunk(rest);
            self.socket
                .send(&bytes, brief(&chunk[0]))
                .map_err(|error| self.break_with(error))?;
            for line in chunk {
                answers.push(self.answer(brief(line)).map_err(|error| self.break_with(error))?);
            }
            rest = &rest[chunk.len()..];
        }
        Ok(answers)
    }

    /// The next line that answers a command; `IRQ raise 4` and the like come in between.
    fn answer(&mut self, outstanding: &str) -> Result<String, QemuError> {
        loop {
            let line = self.socket.line(outstanding)?;
            if !line.starts_with("IRQ ") {
                return Ok(line);
            }
        }
    }

    /// The error that broke the conversation, if one has.
    pub(super) fn check(&self) -> Result<(), QemuError> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    fn break_with(&mut self, error: QemuError) -> QemuError {
        self.broken.get_or_insert(error).clone()
    }
}

/// As many lines as may be sent together, at least one.
fn chunk(lines: &[String]) -> (&[String], Vec<u8>) {
    let mut bytes = Vec::new();
    let mut count = 0;
    for line in lines.iter().take(CHUNK_LINES_MAX) {
        if count > 0 && bytes.len() + line.len() > CHUNK_BYTES_MAX {
            break;
        }
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        count += 1;
    }
    (&lines[..count], bytes)
}

/// The beginning of a line, enough to tell it in an error. Lines are ASCII, but for raw ones.
fn brief(line: &str) -> &str {
    let end = (0..=64.min(line.len())).rev().find(|&end| line.is_char_boundary(end));
    &line[..end.unwrap_or(0)]
}

fn protocol(line: &str, answer: &str) -> QemuError {
    let (outstanding, answer) = (brief(line).to_owned(), brief(answer).to_owned());
    QemuError::Protocol {
        channel: Channel::Qtest,
        outstanding,
        answer,
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
}

fn from_hex(text: &str, bytes: &mut [u8]) -> Option<()> {
    let digits = text.as_bytes();
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    let digit = |d: u8| (d as char).to_digit(16).map(|value| value as u8);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::time::Duration;

    use super::super::lines::tests::pair;
    use super::*;

    /// Answers each line that comes with the next of `answers`, then closes.
    fn against(answers: &'static [&'static str], play: impl FnOnce(&mut QtestClient)) -> Vec<String> {
        let (qemu, socket, _stop) = pair(Channel::Qtest, Duration::from_secs(10));
        std::thread::scope(|scope| {
            let qemu = scope.spawn(move || {
                let mut writer = qemu.try_clone().unwrap();
                let mut lines = BufReader::new(qemu).lines();
                let mut asked = Vec::new();
                for answer in answers {
                    asked.push(lines.next().unwrap().unwrap());
                    writer.write_all(answer.as_bytes()).unwrap();
                }
                asked
            });
            play(&mut QtestClient::new(socket));
            qemu.join().unwrap()
        })
    }

    /// Broken: accesses reach QEMU misspelt, or an answer is given to the wrong access.
    #[test]
    fn a_batch_is_answered_in_order_and_interrupts_are_skipped() {
        let asked = against(
            &[
                "OK\n",
                "IRQ raise 4\nOK 0x0000000000001af4\n",
                "OK 0x0f\n",
                "OK 0x01ff\n",
            ],
            |client| {
                let mut batch = Batch::default();
                batch.write(0x1000, &[0, 0xab]);
                let word = batch.read16(0x2000);
                let byte = batch.read8(0x2002);
                let answers = client.run(batch).unwrap();
                assert_eq!(answers.number(word).unwrap(), 0x1af4);
                assert_eq!(answers.number(byte).unwrap(), 0x0f);
                let mut bytes = [0; 2];
                client.read(0x3000, &mut bytes).unwrap();
                assert_eq!(bytes, [1, 0xff]);
                client.read(0x3000, &mut []).unwrap();
            },
        );
        assert_eq!(
            asked,
            [
                "write 0x1000 0x2 0x00ab",
                "readw 0x2000",
                "readb 0x2002",
                "read 0x3000 0x2"
            ]
        );
    }

    /// Broken: after QEMU's refusal or end, later accesses wait for answers that never come.
    #[test]
    fn a_broken_conversation_stays_broken() {
        against(&["FAIL Unknown command 'foo'\n", "FAIL\n"], |client| {
            assert_eq!(client.raw("foo").unwrap(), "FAIL Unknown command 'foo'");
            assert!(client.raw("two\nlines").is_err());
            let mut batch = Batch::default();
            batch.read8(0);
            let error = client.run(batch).unwrap_err();
            assert!(matches!(&error, QemuError::Protocol { outstanding, .. } if outstanding == "readb 0x0"));
            assert_eq!(client.raw("again").unwrap_err(), error);
        });
        against(&[], |client| {
            assert!(matches!(client.raw("x"), Err(QemuError::Closed { .. })));
        });
    }

    /// Broken: a large write is sent as one flood that QEMU cannot answer.
    #[test]
    fn chunks_are_bounded_and_never_empty() {
        let long = vec!["x".repeat(CHUNK_BYTES_MAX + 1), "y".into()];
        assert_eq!(chunk(&long).0.len(), 1);
        let many = vec!["z".to_owned(); CHUNK_LINES_MAX + 1];
        assert_eq!(chunk(&many).0.len(), CHUNK_LINES_MAX);
    }
}
