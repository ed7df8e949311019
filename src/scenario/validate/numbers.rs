//! Numbers that cannot be meant: what no ring, byte, header or run has room for. Those that are known only at run time are
//! judged then.

use super::super::diagnostic::Diagnostic;
use super::super::model::{HeaderDecl, PeerDecl, Step};
use super::super::scalar::Num;
use super::super::span::At;
use super::Cx;
use super::peers::{Kind, Peer};
use crate::memory::REGIONS_MAX;
use crate::ring::QUEUE_SIZE_MAX;

/// Rings of a device: their index has eight bits in the messages that pass eventfds.
const RINGS_MAX: u64 = 256;
/// Steps of a run, those of a `repeat` counted every time; each leaves events on a timeline that is bounded.
const STEPS_MAX: u64 = 100_000;
/// Sectors of a block request.
const SECTORS_MAX: u64 = 8192;

fn literal(num: &At<Num>) -> Option<u64> {
    match num.value {
        Num::Literal(number) => Some(number),
        Num::Reference(_) => None,
    }
}

impl<'a> Cx<'a> {
    /// A number that has to lie between two others.
    pub(super) fn within(&mut self, what: &str, num: Option<&At<Num>>, least: u64, most: u64) {
        let Some(number) = num.and_then(literal) else { return };
        if !(least..=most).contains(&number) {
            let place = num.map(|n| n.span).unwrap_or_default();
            let error = format!("`{what}` is {least} to {most}, and never {number}");
            self.report(Diagnostic::error(error).at(place));
        }
    }

    /// The sizes of a peer.
    pub(super) fn sizes(&mut self, decl: &'a PeerDecl) {
        self.within("queues", decl.queues.as_ref(), 1, RINGS_MAX);
        if let Some(size) = &decl.ring_size
            && let Some(number) = literal(size)
            && !(number.is_power_of_two() && number <= u64::from(QUEUE_SIZE_MAX))
        {
            let error = format!("`ring_size` is a power of two up to {QUEUE_SIZE_MAX}, and never {number}");
            self.report(Diagnostic::error(error).at(size.span));
        }
        let Some(memory) = &decl.memory else { return };
        self.within("regions", memory.regions.as_ref(), 1, REGIONS_MAX as u64);
        if let Some(size) = memory.size.as_ref().filter(|size| size.value.0 == Num::Literal(0)) {
            self.report(Diagnostic::error("`size` is not 0: guest memory holds the rings").at(size.span));
        }
    }

    /// The words of a header have 32 bits.
    pub(super) fn header_words(&mut self, header: Option<&HeaderDecl>) {
        let Some(header) = header else { return };
        let most = u64::from(u32::MAX);
        for (what, word) in [
            ("request", &header.request),
            ("flags", &header.flags),
            ("size", &header.size),
        ] {
            self.within(what, word.as_ref(), 0, most);
        }
    }

    /// A ring of a peer that says, or leaves to the harness, how many it has.
    pub(super) fn ring_of(&mut self, what: &str, ring: Option<&At<Num>>, peer: Option<Peer<'a>>) {
        let Some(peer) = peer.filter(|peer| peer.kind == Kind::Simulated) else {
            return;
        };
        let pci = self.scenario.dialect().is_pci();
        let is_net = peer.decl.device.as_ref().map_or(pci, |device| device.value == "net");
        let rings = match &peer.decl.queues {
            Some(queues) => literal(queues),
            None => Some(if is_net { 2 } else { 1 }),
        };
        let (Some(ring), Some(rings)) = (ring, rings) else {
            return;
        };
        let beyond = literal(ring).filter(|number| *number >= rings.max(1));
        if let Some(number) = beyond {
            let error = format!("`{}` has {rings} rings, and no `{what}` {number}", peer.name.value);
            self.report(
                Diagnostic::error(error)
                    .at(ring.span)
                    .note(peer.name.span, "declared here"),
            );
        }
    }

    /// The numbers of one step.
    pub(super) fn step_numbers(&mut self, step: &'a Step) {
        let named = |cx: &Self, name: &At<String>| cx.peers.iter().find(|p| p.name.value == name.value).copied();
        match step {
            Step::Kick(step) | Step::Call(step) => self.ring_of("ring", Some(&step.ring), named(self, &step.from)),
            Step::Ring(step) => self.ring_of("ring", Some(&step.ring), named(self, &step.peer)),
            Step::UntilRing(step) => self.ring_of("ring", Some(&step.ring), named(self, &step.peer)),
            Step::Echo(step) => self.ring_of("ring", step.ring.as_ref(), named(self, &step.peer)),
            Step::Blk(step) => {
                self.ring_of("queue", step.queue.as_ref(), named(self, &step.peer));
                self.within("fill", step.fill.as_ref(), 0, 255);
                self.within("sectors", step.sectors.as_ref(), 1, SECTORS_MAX);
            }
            Step::Dies(step) => {
                self.within("request", step.request.as_ref(), 1, u64::from(u16::MAX));
                self.within("write", step.write.as_ref(), 1, u64::from(u32::MAX));
            }
            Step::Inflight(step) => self.ring_of("ring", step.ring.as_ref(), named(self, &step.peer)),
            Step::Image(step) => {
                self.within("fill", Some(&step.fill), 0, 255);
                self.within("sectors", step.sectors.as_ref(), 1, SECTORS_MAX);
            }
            Step::Send(step) => self.header_words(step.header.as_ref()),
            Step::Raw(step) => self.header_words(step.header.as_ref()),
            Step::Reply(step) => self.header_words(step.header.as_ref()),
            _ => {}
        }
    }

    /// A run that takes more steps than a timeline holds.
    pub(super) fn length(&mut self, steps: &'a [At<Step>]) {
        if let Err(place) = length(steps) {
            let error = format!("more than {STEPS_MAX} steps, all passes counted");
            self.report(
                Diagnostic::error(error)
                    .at(place)
                    .help("a smaller number shows as much"),
            );
        }
    }
}

/// How many steps there are, or the `repeat` that makes too many of them.
fn length(steps: &[At<Step>]) -> Result<u64, super::super::span::Span> {
    let mut sum = 0u64;
    for step in steps {
        let inner = match &step.value {
            Step::Repeat(repeat) => {
                let times = literal(&repeat.times).unwrap_or(1);
                let passes = length(&repeat.steps)?.saturating_mul(times);
                if passes > STEPS_MAX {
                    return Err(repeat.times.span);
                }
                passes
            }
            Step::Sanity(steps) => length(steps)?,
            Step::Together(tracks) => {
                let mut all = 0;
                for (_, track) in tracks.iter() {
                    all += length(track)?;
                }
                all
            }
            _ => 1,
        };
        sum = sum.saturating_add(inner);
        if sum > STEPS_MAX {
            return Err(step.span);
        }
    }
    Ok(sum)
}
