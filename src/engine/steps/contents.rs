//! What lies in guest memory and in the image file behind a block back-end.

use std::io::{Read, Seek, SeekFrom};

use super::super::failure::{Result, Stop};
use super::super::run::Run;
use super::Waiting;
use super::data::{SECTOR, SECTORS_MAX};
use crate::peer::qemu::Command;
use crate::scenario::model::{Image, WriteStep};
use crate::scenario::span::Span;
use crate::scenario::{Diagnostic, eval_num};

impl Run<'_> {
    pub(super) fn image_step(&mut self, step: &Image, span: Span) -> Result<()> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let sector = eval_num(&step.sector, &self.bindings)?;
        let sectors = self.number(step.sectors.as_ref(), 1)?.min(SECTORS_MAX);
        let fill = self.byte(&step.fill)?;
        let Some(path) = &self.peers[peer.0].image else {
            return Err(Stop::wrong(
                Diagnostic::error("this peer has no image file yet").at(step.peer.span),
            ));
        };
        let mut data = vec![0; (sectors * SECTOR) as usize];
        let read = std::fs::File::open(path).and_then(|mut file| {
            file.seek(SeekFrom::Start(sector.saturating_mul(SECTOR)))?;
            file.read_exact(&mut data)
        });
        read.map_err(|e| Stop::wrong(Diagnostic::error(format!("the image cannot be read: {e}")).at(span)))?;
        check_fill(&data, fill, &format!("the image at sector {sector}"), step.fill.span)
    }

    pub(super) fn begin_write(&mut self, step: &WriteStep, span: Span) -> Result<Waiting> {
        use crate::memory::GuestAccess;
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let address = eval_num(&step.address, &self.bindings)?;
        let bytes = step.bytes.value.0.clone();
        self.note_write(peer, address, bytes.len());
        if self.peers[peer.0].spec.has_qtest() {
            return self.submit_qemu(peer, Command::WriteMemory { gpa: address, bytes }, span);
        }
        let written = match &mut self.peers[peer.0].sim {
            super::super::peers::Sim::Front(front) => front.memory().write(address, &bytes),
            super::super::peers::Sim::Back(back) => back.memory().write(address, &bytes),
            super::super::peers::Sim::Server(_) | super::super::peers::Sim::None => Ok(()),
        };
        written.map_err(|e| Stop::wrong(Diagnostic::error(e.to_string()).at(step.address.span)))?;
        Ok(Waiting::Nothing)
    }
}

/// Whether all bytes are the same.
pub(super) fn check_fill(data: &[u8], fill: u8, what: &str, span: Span) -> Result<()> {
    let Some(at) = data.iter().position(|b| *b != fill) else {
        return Ok(());
    };
    let diagnostic = Diagnostic::error(format!("{what} holds other data"))
        .at(span)
        .expected_actual(
            format!("{fill:#04x} in all {} bytes", data.len()),
            format!("{:#04x} at byte {at}", data[at]),
        );
    Err(Stop::wrong(diagnostic))
}
