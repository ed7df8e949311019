//! Which peers a script moves by itself. A peer that sends, answers or rings at the script's command has to be
//! simulated, and cannot be replaced by a program.

use super::model::{PeerDecl, Step};
use super::plan::Plan;
use super::span::{At, Span};

impl Plan {
    /// The first place where the script needs `peer` to be simulated; none if a program can take its part.
    pub fn controls(&self, peer: &str) -> Option<Span> {
        let decl = self.scenario.peers.get(peer)?;
        // QEMU's driver writes the front-end's memory as well.
        let is_front = decl.frontend.is_some();
        declaration(decl).or_else(|| in_steps(&self.scenario.steps, peer, is_front))
    }
}

/// Fields of a declaration that script what a simulated peer does.
fn declaration(decl: &PeerDecl) -> Option<Span> {
    let places = [
        decl.manual.first().map(|request| request.span),
        decl.answers.iter().next().map(|(request, _)| request.span),
        decl.config.as_ref().map(|config| config.span),
        decl.serves_channel.as_ref().map(|serves| serves.span),
        decl.reads_while_asking.as_ref().map(|reads| reads.span),
        decl.shared_memory.first().map(|size| size.span),
    ];
    places.into_iter().flatten().min_by_key(|span| span.offset)
}

fn in_steps(steps: &[At<Step>], peer: &str, is_front: bool) -> Option<Span> {
    steps.iter().find_map(|step| match &step.value {
        Step::Repeat(repeat) => in_steps(&repeat.steps, peer, is_front),
        Step::Sanity(steps) => in_steps(steps, peer, is_front),
        Step::Together(tracks) => tracks.iter().find_map(|(_, track)| in_steps(track, peer, is_front)),
        Step::Write(_) if is_front => None,
        other => (moved(other)? == peer).then_some(step.span),
    })
}

/// The peer that a step moves.
fn moved(step: &Step) -> Option<&str> {
    let name = match step {
        Step::Send(send) => &send.from,
        Step::Raw(raw) => &raw.from,
        Step::Reply(reply) => &reply.from,
        Step::Kick(ring) | Step::Call(ring) => &ring.from,
        Step::Close(close) => &close.peer,
        Step::Ring(ring) => &ring.peer,
        Step::Memory(memory) => &memory.peer,
        Step::Write(write) => &write.peer,
        Step::Echo(echo) => &echo.peer,
        Step::Request(request) => &request.peer,
        Step::Answered(peer) => peer,
        Step::AskDuring(ask) => &ask.peer,
        Step::Shared(shared) => &shared.peer,
        _ => return None,
    };
    Some(&name.value)
}
