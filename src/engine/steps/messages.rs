//! Messages that the script sends in a simulated peer's name.

use std::os::fd::OwnedFd;

use super::super::failure::{Result, Stop};
use super::super::patterns::channel;
use super::super::peers::Sim;
use super::super::resolve::header;
use super::super::run::Run;
use super::Waiting;
use crate::judge::value::{FeatureSpace, to_value};
use crate::peer::sim::Outgoing;
use crate::peer::sim::answer::Answer;
use crate::scenario::model::{FdKind, Raw, Reply, Send};
use crate::scenario::scalar::{Node, Num, Ordered};
use crate::scenario::span::{At, Span};
use crate::scenario::{Diagnostic, eval_node, eval_num};
use crate::sys::fd as make;
use crate::trace::PeerId;
use crate::wire::{Channel, Header, Message, MessageSpec, Payload, Value, find, id};

/// Bytes of a memfd that is made for a message which does not say how large it has to be.
const MEMFD_BYTES: u64 = 4096;
/// Bytes of a memfd that is made for a memory region, at most.
const REGION_BYTES_MAX: u64 = 1 << 30;

impl Run<'_> {
    pub(super) fn send_step(&mut self, send: &Send) -> Result<()> {
        let peer = self.peer(&send.from.value, send.from.span)?;
        let link = self.link_to(peer, send.to.as_ref(), send.from.span)?;
        let channel = channel(send.channel.as_ref())?;
        let at = send.message.span;
        let wrong = |e: String| Stop::script(Diagnostic::error(e).at(at));
        let spec = find(self.dialect, &send.message.value, Some(channel)).map_err(|e| wrong(e.to_string()))?;
        let space = FeatureSpace::of(self.dialect, spec.id, self.device_kind(peer));
        let mut fields = self.field_values(&send.fields, space)?;
        if let Some(value) = &send.value {
            let node = eval_node(value, &self.bindings)?;
            let value = to_value(&node, space).map_err(|e| Stop::script(Diagnostic::error(e).at(value.span)))?;
            fields.push(("value".to_owned(), value));
        }
        let layout = spec.request_layout(fields.iter().map(|(name, _)| name.as_str()));
        let payload = Payload::build(layout, &fields).map_err(|e| wrong(e.to_string()))?;
        let message = Message::request(spec, payload)
            .on_connection(self.conn_id(peer, link))
            .need_reply(send.need_reply);
        let fds = match &send.fds {
            Some(kinds) => kinds
                .iter()
                .map(|kind| make_fd(kind.value, kind.span))
                .collect::<Result<Vec<_>>>()?,
            None => needed_fds(spec, &message.payload, at)?,
        };
        let patch = header(send.header.as_ref(), &self.bindings)?;
        let bytes = (!patch.is_empty()).then(|| patch.encode(&message, &message.payload.encode()));
        let split = self.offsets(&send.split)?;
        let noted = self.with_rings(peer, |sim| {
            sim.front().map_or(Ok(()), |front| {
                front.sent(&message);
                front.adopt(&message, &fds)
            })
        });
        noted.map_err(|e| wrong(e.to_string()))?;
        if let Sim::Server(server) = &mut self.peers[peer.0].sim {
            server.sent(link.0, &message);
        }
        self.send(
            link,
            peer,
            Outgoing {
                message,
                bytes,
                fds,
                split,
                automatic: false,
                scripted: true,
            },
        );
        Ok(())
    }

    pub(super) fn raw_step(&mut self, raw: &Raw) -> Result<()> {
        let peer = self.peer(&raw.from.value, raw.from.span)?;
        let link = self.link_of(peer, raw.from.span)?;
        let channel = channel(raw.channel.as_ref())?;
        let payload = raw.payload.as_ref().map(|p| p.value.0.clone()).unwrap_or_default();
        let patch = header(raw.header.as_ref(), &self.bindings)?;
        let bytes = match &raw.bytes {
            Some(bytes) => bytes.value.0.clone(),
            None => {
                let message = Message {
                    dialect: self.dialect,
                    conn_id: self.conn_id(peer, link),
                    channel,
                    request: 0,
                    flags: self.dialect.version(),
                    payload: Payload::Raw(payload.clone()),
                };
                patch.encode(&message, &payload)
            }
        };
        let header_words = Header::decode(self.dialect, &bytes).unwrap_or_default();
        let rest = bytes.get(self.dialect.header_len()..).unwrap_or_default();
        let message = Message {
            dialect: self.dialect,
            conn_id: header_words.conn_id,
            channel,
            request: header_words.request,
            flags: header_words.flags,
            payload: Payload::Raw(rest.to_vec()),
        };
        let fds = raw
            .fds
            .iter()
            .map(|kind| make_fd(kind.value, kind.span))
            .collect::<Result<Vec<_>>>()?;
        let split = self.offsets(&raw.split)?;
        if let Some(front) = self.peers[peer.0].sim.front() {
            // decoded, so that what it negotiates and what has to be answered is known
            let context = crate::wire::DecodeContext::default();
            front.sent(&Message::decode(self.dialect, channel, context, &header_words, rest));
        }
        self.send(
            link,
            peer,
            Outgoing {
                message,
                bytes: Some(bytes),
                fds,
                split,
                automatic: false,
                scripted: true,
            },
        );
        Ok(())
    }

    pub(super) fn begin_reply(&mut self, reply: &Reply) -> Result<Waiting> {
        let peer = self.peer(&reply.from.value, reply.from.span)?;
        let channel = channel(reply.channel.as_ref())?;
        let spec = find(self.dialect, &reply.to.value, Some(channel))
            .map_err(|e| Stop::script(Diagnostic::error(e.to_string()).at(reply.to.span)))?;
        Ok(Waiting::OpenRequest { peer, request: spec.id })
    }

    /// Replies once there is a request to reply to.
    pub(super) fn poll_reply(&mut self, reply: &Reply, peer: PeerId, request: u32) -> Result<bool> {
        let span = reply.to.span;
        let open = match &mut self.peers[peer.0].sim {
            Sim::Front(front) => front.is_open(request),
            Sim::Back(back) => back.is_open(request),
            Sim::Server(_) | Sim::None => false,
        };
        if !open {
            return Ok(false);
        }
        let space = FeatureSpace::of(self.dialect, request, self.device_kind(peer));
        let number = |n: &Option<At<Num>>| n.as_ref().map(|n| eval_num(n, &self.bindings)).transpose();
        let answer = Answer {
            value: number(&reply.value)?.or(number(&reply.status)?),
            fields: self.field_values(&reply.fields, space)?,
            header: header(reply.header.as_ref(), &self.bindings)?,
            payload: reply.payload.as_ref().map(|p| p.value.0.clone()),
            split: self.offsets(&reply.split)?,
            ..Answer::default()
        };
        let wrong = |e: &dyn std::fmt::Display| Stop::script(Diagnostic::error(e.to_string()).at(span));
        match &mut self.peers[peer.0].sim {
            Sim::Front(front) => front.reply(request, &answer).map_err(|e| wrong(&e))?,
            Sim::Back(back) => back.reply(request, &answer).map_err(|e| wrong(&e))?,
            Sim::Server(_) | Sim::None => {}
        }
        Ok(true)
    }

    pub(super) fn field_values(&self, fields: &Ordered<At<Node>>, space: FeatureSpace) -> Result<Vec<(String, Value)>> {
        let one = |(name, node): (&At<String>, &At<Node>)| {
            let value = eval_node(node, &self.bindings)?;
            let value = to_value(&value, space).map_err(|e| Stop::script(Diagnostic::error(e).at(node.span)))?;
            Ok((name.value.clone(), value))
        };
        fields.iter().map(one).collect()
    }

    pub(super) fn offsets(&self, split: &[At<Num>]) -> Result<Vec<usize>> {
        let one = |n: &At<Num>| Ok(usize::try_from(eval_num(n, &self.bindings)?).unwrap_or(usize::MAX));
        split.iter().map(one).collect()
    }
}

/// A descriptor of a kind.
pub(in super::super) fn make_fd(kind: FdKind, span: Span) -> Result<OwnedFd> {
    let made = match kind {
        FdKind::Memfd => make::memfd("vuh", MEMFD_BYTES),
        FdKind::Eventfd => make::eventfd(),
        FdKind::Socket => make::socket_pair().map(|(end, _)| end),
        FdKind::Pipe => make::pipe().map(|(end, _)| end),
        FdKind::Null => make::null(),
    };
    made.map_err(|e| Stop::harness(format!("descriptor: {e}"), span))
}

/// What a message of this kind has to carry, if the script does not say otherwise.
pub(super) fn needed_fds(spec: &MessageSpec, payload: &Payload, span: Span) -> Result<Vec<OwnedFd>> {
    let memory = |size: u64| {
        let made = make::memfd("vuh", size.clamp(MEMFD_BYTES, REGION_BYTES_MAX));
        made.map_err(|e| Stop::harness(format!("memfd: {e}"), span))
    };
    match (spec.id, payload) {
        // ids that vhost-user has for something else
        _ if spec.dialect.is_pci() && spec.id > id::frontend::SEND_RARP => Ok(Vec::new()),
        _ if spec.channel == Channel::Backend => (0..spec.request_fds.min).map(|_| memory(MEMFD_BYTES)).collect(),
        (_, Payload::MemTable(table)) => table
            .regions
            .iter()
            .map(|r| memory(r.mmap_offset.saturating_add(r.size)))
            .collect(),
        (id::frontend::ADD_MEM_REG, Payload::MemReg(reg)) => {
            Ok(vec![memory(reg.region.mmap_offset.saturating_add(reg.region.size))?])
        }
        (_, Payload::VringFd(fd)) if !fd.no_fd => Ok(vec![make_fd(FdKind::Eventfd, span)?]),
        (id::frontend::SET_LOG_BASE, Payload::Log(log)) => Ok(vec![memory(log.offset.saturating_add(log.size))?]),
        (id::frontend::SET_INFLIGHT_FD, Payload::Inflight(area)) => {
            Ok(vec![memory(area.mmap_offset.saturating_add(area.mmap_size))?])
        }
        (id::frontend::SET_LOG_FD, _) => Ok(vec![make_fd(FdKind::Eventfd, span)?]),
        (id::frontend::SET_BACKEND_REQ_FD, _) => {
            let (ours, theirs) = make::socket_pair().map_err(|e| Stop::harness(format!("socket pair: {e}"), span))?;
            Ok(vec![theirs, ours])
        }
        _ => (0..spec.request_fds.min).map(|_| memory(MEMFD_BYTES)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd::FdType;
    use crate::wire::{Dialect, MemRegion, MemTable, spec};

    #[test]
    fn a_memory_table_gets_files_large_enough_for_its_regions() {
        let regions = vec![
            MemRegion {
                size: 0x2000,
                mmap_offset: 0x1000,
                ..MemRegion::default()
            },
            MemRegion {
                size: 0x1000,
                ..MemRegion::default()
            },
        ];
        let table = Payload::MemTable(MemTable {
            regions,
            ..MemTable::default()
        });
        let spec = spec(Dialect::VhostUser, Channel::Main, id::frontend::SET_MEM_TABLE).unwrap();
        let fds = needed_fds(spec, &table, Span::default()).unwrap();
        let kinds: Vec<FdType> = fds
            .iter()
            .map(|fd| make::fd_type(std::os::fd::AsFd::as_fd(fd)))
            .collect();
        assert_eq!(kinds, [FdType::Memfd { size: 0x3000 }, FdType::Memfd { size: 0x1000 }]);
    }
}
