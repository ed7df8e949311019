//! The last events of a recording that goes on for hours: kept as lines, written when asked for.

use std::collections::VecDeque;
use std::io::{self, Write};

use super::header::Header;
use super::{Writer, item};
use crate::trace::Event;

/// Bytes of all kept lines together; older ones go, however few are asked for.
pub const RING_BYTES_MAX: usize = 64 << 20;

/// The last events.
#[derive(Debug)]
pub struct Ring {
    header: Header,
    lines: VecDeque<String>,
    count_max: usize,
    bytes: usize,
    skipped: u64,
}

impl Ring {
    /// Keeps the last `count_max` events of a trace with this header.
    pub fn new(header: Header, count_max: usize) -> Self {
        Self {
            header,
            lines: VecDeque::new(),
            count_max,
            bytes: 0,
            skipped: 0,
        }
    }

    /// Adds an event, and lets the oldest go if there are too many.
    pub fn event(&mut self, event: &Event) {
        let Some(line) = item::print(&self.header, event) else {
            return;
        };
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > self.count_max || self.bytes > RING_BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
            self.skipped += 1;
        }
    }

    /// Events kept.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Writes what is kept as a whole trace. Nothing is forgotten by it.
    ///
    /// # Errors
    /// What the output says.
    pub fn write<W: Write>(&self, out: W) -> io::Result<W> {
        let header = Header {
            skipped: self.skipped,
            ..self.header.clone()
        };
        let mut writer = Writer::new(out, header)?;
        for line in &self.lines {
            writer.line(line)?;
        }
        writer.finish()
    }
}
