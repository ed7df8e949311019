//! What simulated peers ask of their own accord, what they share besides guest memory, and their configuration space.

use super::super::failure::{Result, Stop};
use super::super::peers::Sim;
use super::super::run::Run;
use super::Waiting;
use crate::judge::value::FeatureSpace;
use crate::peer::sim::wanted::{Status, Wanted};
use crate::scenario::Diagnostic;
use crate::scenario::eval_num;
use crate::scenario::model::{AskDuring, ConfigStep, RequestStep, Room, SharedStep};
use crate::scenario::scalar::{Node, Num, Ordered};
use crate::scenario::span::{At, Span};
use crate::trace::{LinkId, PeerId};
use crate::wire::id::backend;
use crate::wire::{Channel, Party, find};

impl Run<'_> {
    pub(super) fn begin_request(&mut self, step: &RequestStep) -> Result<Waiting> {
        let place = step.message.span;
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        self.link_of(peer, step.peer.span)?;
        let channel = self.asks_on(peer);
        let ring = step.ring.as_ref();
        let status = (step.status.as_ref(), step.refused);
        let mut wanted = self.wanted(peer, channel, &step.message, ring, &step.fields, status)?;
        wanted.need_reply = step.need_reply.as_ref().map(|need| need.value);
        let asked = match &mut self.peers[peer.0].sim {
            Sim::Front(front) => front.want(wanted).map_err(|e| e.to_string()),
            Sim::Back(back) => back.want(&wanted).map_err(|e| e.to_string()),
            Sim::Server(_) | Sim::None => Ok(()),
        };
        asked.map_err(|e| Stop::script(Diagnostic::error(e).at(place)))?;
        Ok(match step.wait.as_ref().is_none_or(|wait| wait.value) {
            true => Waiting::Answered(peer),
            false => Waiting::Nothing,
        })
    }

    pub(super) fn ask_during_step(&mut self, step: &AskDuring) -> Result<()> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let (ring, status) = (step.ring.as_ref(), (step.status.as_ref(), step.refused));
        let wanted = self.wanted(peer, Channel::Backend, &step.message, ring, &step.fields, status)?;
        let request = self.request_id(&step.request, Channel::Main)?;
        if let Some(back) = self.peers[peer.0].sim.back() {
            back.ask_during(request, wanted);
        }
        Ok(())
    }

    /// Bounds what the sockets of a link hold.
    pub(super) fn make_room(&mut self, link: LinkId, room: Option<&Room>) -> Result<()> {
        let Some(room) = room else { return Ok(()) };
        for (at, given) in [&room.main, &room.backend].into_iter().enumerate() {
            let Some(given) = given else { continue };
            let messages = eval_num(given, &self.bindings)?;
            if messages == 0 {
                let error = Diagnostic::error("a socket that holds nothing carries nothing").at(given.span);
                return Err(Stop::script(error));
            }
            self.links[link.0].rooms[at] = Some(usize::try_from(messages).unwrap_or(usize::MAX));
        }
        Ok(())
    }

    /// Waits for the answers to what a peer has asked.
    pub(super) fn poll_answered(&mut self, span: Span, peer: PeerId) -> Result<bool> {
        if let Some(why) = self.failure_of(peer) {
            return Err(Stop::wrong(self.cannot_go_on(peer, &why).at(span)));
        }
        let asking = match &self.peers[peer.0].sim {
            Sim::Front(front) => front.is_asking(),
            Sim::Back(back) => back.is_asking(),
            Sim::Server(_) | Sim::None => false,
        };
        if asking {
            let waits_for = self.front_waits_for(peer);
            self.check_front_gone(peer, span, &waits_for)?;
            self.check_channel_gone(peer, span, &waits_for)?;
        }
        // what is still to be sent has not been asked
        Ok(!asking && self.peers[peer.0].blocked.is_empty())
    }

    /// Fails a back-end's wait for an answer on the channel, if the front-end has closed it.
    fn check_channel_gone(&mut self, peer: PeerId, span: Span, waits_for: &str) -> Result<()> {
        let (Some(link), Party::BackEnd) = (self.peers[peer.0].link, self.peers[peer.0].spec.party) else {
            return Ok(());
        };
        let socket = self.links[link.0].socket_ref(Channel::Backend);
        // what it said before it closed may be under way still
        if socket.front.is_open() || !socket.back.is_open() || socket.under_way(Party::FrontEnd).len() > 0 {
            return Ok(());
        }
        let front = &self.peers[self.links[link.0].front.0].spec.name;
        let diagnostic = Diagnostic::error("the channel is gone before what was expected came")
            .at(span)
            .expected_actual(waits_for, format!("`{front}` closed it"));
        Err(Stop::wrong(diagnostic))
    }

    /// Fails if a simulated peer cannot go on and no step waits for it, which would say so.
    pub(in super::super) fn check_simulated(&mut self) -> Result<()> {
        for at in 0..self.peers.len() {
            let peer = PeerId(at);
            let waited_for = self.tracks.iter().any(|track| {
                matches!(track.waiting, Some(Waiting::Answered(p) | Waiting::Front { peer: p, .. }) if p == peer)
            });
            if waited_for {
                continue;
            }
            if let Some(why) = self.failure_of(peer) {
                let step = self.tracks.iter().rev().find_map(super::super::tracks::Track::step);
                let place = step.map(|step| step.span).unwrap_or_default();
                return Err(Stop::wrong(self.cannot_go_on(peer, &why).at(place)));
            }
        }
        Ok(())
    }

    fn failure_of(&mut self, peer: PeerId) -> Option<String> {
        match &mut self.peers[peer.0].sim {
            Sim::Front(front) => front.take_failure().map(|e| e.to_string()),
            Sim::Back(back) => back.take_failure(),
            Sim::Server(_) | Sim::None => None,
        }
    }

    fn cannot_go_on(&self, peer: PeerId, why: &str) -> Diagnostic {
        let name = &self.peers[peer.0].spec.name;
        Diagnostic::error(format!("`{name}` cannot go on")).footer(why)
    }

    fn asks_on(&self, peer: PeerId) -> Channel {
        match self.peers[peer.0].spec.party {
            Party::FrontEnd => Channel::Main,
            Party::BackEnd => Channel::Backend,
        }
    }

    fn request_id(&self, name: &At<String>, channel: Channel) -> Result<u32> {
        find(self.dialect, &name.value, Some(channel))
            .map(|spec| spec.id)
            .map_err(|e| Stop::script(Diagnostic::error(e.to_string()).at(name.span)))
    }

    fn wanted(
        &self,
        peer: PeerId,
        channel: Channel,
        message: &At<String>,
        ring: Option<&At<Num>>,
        fields: &Ordered<At<Node>>,
        (status, refused): (Option<&At<Num>>, bool),
    ) -> Result<Wanted> {
        let request = self.request_id(message, channel)?;
        let ring = ring.map_or(Ok(0), |ring| self.ring(ring))?;
        let space = FeatureSpace::of(self.dialect, request, self.device_kind(peer));
        let status = status.map_or(Ok(0), |status| eval_num(status, &self.bindings))?;
        Ok(Wanted {
            fields: self.field_values(fields, space)?,
            status: if refused { Status::Refused } else { Status::Is(status) },
            ..Wanted::plain(request, ring)
        })
    }

    /// A shared memory region of the device, as a peer sees it.
    pub(super) fn shared_step(&mut self, step: &SharedStep, span: Span) -> Result<()> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let region = self.number(step.region.as_ref(), 0)?;
        let offset = self.number(step.offset.as_ref(), 0)?;
        let region = u8::try_from(region)
            .map_err(|_| Stop::script(Diagnostic::error(format!("there is no region {region}")).at(span)))?;
        let found = match &mut self.peers[peer.0].sim {
            Sim::Front(front) => front.shared(region, offset),
            Sim::Back(back) => back.shared(region, offset),
            Sim::Server(_) | Sim::None => None,
        };
        let name = &step.peer.value;
        let place = format!("offset {offset:#x} of region {region}");
        let Some((window, at)) = found else {
            if step.absent {
                return Ok(());
            }
            let diagnostic = Diagnostic::error(format!("`{name}` has nothing mapped at {place}"));
            return Err(Stop::wrong(diagnostic.at(span)));
        };
        if step.absent {
            let diagnostic = Diagnostic::error(format!("`{name}` has something mapped at {place}"));
            return Err(Stop::wrong(diagnostic.at(span)));
        }
        let wrong = |e: crate::memory::MemoryError| Stop::wrong(Diagnostic::error(e.to_string()).at(span));
        if let Some(bytes) = &step.write {
            window.write(at, &bytes.value.0).map_err(wrong)?;
        }
        if let Some(bytes) = &step.is {
            let mut seen = vec![0; bytes.value.0.len()];
            window.read(at, &mut seen).map_err(wrong)?;
            if seen != bytes.value.0 {
                let diagnostic = Diagnostic::error(format!("{place} holds other bytes for `{name}`"))
                    .at(bytes.span)
                    .expected_actual(hex(&bytes.value.0), hex(&seen));
                return Err(Stop::wrong(diagnostic));
            }
        }
        Ok(())
    }

    /// The configuration space of a simulated peer: a back-end changes it and says so, a front-end looks what it knows of it.
    pub(super) fn sim_config_step(&mut self, step: &ConfigStep, span: Span) -> Result<Waiting> {
        let peer = self.peer(&step.peer.value, step.peer.span)?;
        let offset = self.number(step.offset.as_ref(), 0)?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        match &mut self.peers[peer.0].sim {
            Sim::Back(back) => {
                let bytes = step
                    .write
                    .as_ref()
                    .map(|bytes| bytes.value.0.clone())
                    .unwrap_or_default();
                if !back.change_config(offset, &bytes) {
                    let error = format!("the device has no {} bytes of configuration at {offset}", bytes.len());
                    return Err(Stop::script(Diagnostic::error(error).at(span)));
                }
                let wanted = Wanted::plain(backend::CONFIG_CHANGE_MSG, 0);
                back.want(&wanted)
                    .map_err(|e| Stop::script(Diagnostic::error(e.to_string()).at(span)))?;
                Ok(Waiting::Answered(peer))
            }
            Sim::Front(front) => {
                let Some(is) = &step.is else {
                    return Ok(Waiting::Nothing);
                };
                let known = front.known_config().unwrap_or_default();
                let end = offset.saturating_add(is.value.0.len());
                let seen = known.get(offset..end).map(<[u8]>::to_vec);
                if seen.as_ref() == Some(&is.value.0) {
                    return Ok(Waiting::Nothing);
                }
                let actual = seen.map_or_else(|| "it has not read them".to_owned(), |seen| hex(&seen));
                let diagnostic = Diagnostic::error("the front-end knows another configuration space")
                    .at(is.span)
                    .expected_actual(hex(&is.value.0), actual);
                Err(Stop::wrong(diagnostic))
            }
            Sim::Server(_) | Sim::None => Ok(Waiting::Nothing),
        }
    }

    /// What simulated peers are stuck in, for a step that has waited in vain.
    pub(super) fn stuck(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for peer in &self.peers {
            let name = &peer.spec.name;
            if let Some(blocked) = peer.blocked.front() {
                let message = &blocked.message;
                lines.push(format!(
                    "`{name}` is blocked: there is no room to send {message} on the {} socket",
                    message.channel
                ));
                continue;
            }
            let (waits, on) = match &peer.sim {
                Sim::Front(front) => (front.waits_for(), Channel::Backend),
                Sim::Back(back) => (back.waits_for(), Channel::Main),
                Sim::Server(_) | Sim::None => continue,
            };
            let Some(waits) = waits else { continue };
            let reads = match &peer.sim {
                Sim::Front(front) => front.reads(on),
                Sim::Back(back) => back.reads(on),
                Sim::Server(_) | Sim::None => true,
            };
            let meanwhile = if reads { "" } else { ", and does not read " };
            let socket = if reads {
                String::new()
            } else {
                format!("the {on} socket meanwhile")
            };
            lines.push(format!("`{name}` waits for {waits}{meanwhile}{socket}"));
        }
        lines
    }
}

fn hex(bytes: &[u8]) -> String {
    let all: Vec<String> = bytes.iter().take(64).map(|b| format!("{b:02x}")).collect();
    all.join(" ")
}
