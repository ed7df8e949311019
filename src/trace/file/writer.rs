//! Writing a trace as it happens: an event is handed to the output as one whole line.

use std::io::{self, Write};

use super::header::Header;
use super::{END, item};
use crate::trace::Event;

/// Writes a trace to a file or anything else. Holds no more than one line.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    header: Header,
    written: u64,
    /// The line that is being made: its room is used again.
    text: String,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// What the output says.
    pub fn new(mut out: W, header: Header) -> io::Result<Self> {
        out.write_all(header.print().as_bytes())?;
        out.flush()?;
        Ok(Self {
            out,
            header,
            written: 0,
            text: String::new(),
        })
    }

    /// Writes an event; what the harness itself did is left out.
    ///
    /// # Errors
    /// What the output says.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        self.text.clear();
        if !item::print_to(&mut self.text, &self.header, event) {
            return Ok(());
        }
        self.text.push('\n');
        self.out.write_all(self.text.as_bytes())?;
        self.written += 1;
        Ok(())
    }

    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        self.out.write_all(line.as_bytes())?;
        self.out.write_all(b"\n")?;
        self.written += 1;
        Ok(())
    }

    /// Hands on what the output may have kept.
    ///
    /// # Errors
    /// What the output says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Events written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Says that this is all.
    ///
    /// # Errors
    /// What the output says.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(END.as_bytes())?;
        self.out.write_all(b"\n")?;
        self.out.flush()?;
        Ok(self.out)
    }
}
