//! The beginning of a delivery: which lanes it is made of, what they borrow, and the pumps that move them.

use super::group::{Group, OnLoan, Station, Stream, lend_device};
use super::measure::Windows;
use super::{DeliveryId, Running};
use crate::engine::failure::{Result, Stop};
use crate::engine::run::Run;
use crate::judge::rated::Negotiated;
use crate::peer::device::net::{F_MRG_RXBUF, PAIRS_MAX};
use crate::peer::sim::loan::F_RING_PACKED;
use crate::ring::burst::{Device, Driver};
use crate::scenario::model::{Against, Deliver, FaultName, NotifyChoice};
use crate::scenario::scalar::Num;
use crate::scenario::span::{At, Span};
use crate::scenario::{Diagnostic, eval_num};
use crate::sys::cpu;
use crate::trace::{LinkId, PeerId};
use crate::traffic::fault::{Fault, Meddler};
use crate::traffic::lane::{
    Arena, BURST_MAX, Bell, Credit, DeviceReceiver, DeviceSender, DriverPort, DriverReceiver, DriverSender, Forward,
    Lane, Pace,
};
use crate::traffic::pcap::FILE_BYTES_MAX;
use crate::traffic::pump::{Pump, PumpOptions, Side};
use crate::traffic::rig::stride;
use crate::traffic::{FRAME_BYTES_MIN, Recording, Sink, Sizes, Source};
use crate::wire::Party;
use std::sync::Arc;

/// Frames moved at a time, where nothing else is said.
const BURST: u64 = 32;
/// Bytes of a receive buffer of a driver that merges them.
const MERGED_BYTES: u32 = 2048;

/// What a delivery carries, all of it evaluated.
#[derive(Debug, Clone)]
struct Load {
    sizes: Sizes,
    packets: Option<u64>,
    rate: Option<u64>,
    burst: usize,
    notified: bool,
    stamped: bool,
    sample: u64,
    pair: u16,
    /// Pairs that carry streams of their own, from that one on.
    pairs: u16,
    both_ways: bool,
    may_repeat: bool,
    /// May be missing in the end, some way or other.
    may_lose: bool,
    in_flight: Option<u64>,
    recording: Option<Arc<Recording>>,
}

impl Load {
    /// In words.
    fn frames(&self) -> String {
        match &self.recording {
            Some(_) => "frames of a file".to_owned(),
            None => format!("frames of {}", self.sizes),
        }
    }
}

/// Whose ring it is; of a server with many connections, on which.
type Owner = (PeerId, Option<LinkId>);

/// A lane that is to be moved, and what it borrows: peer, ring, port.
struct Part {
    lane: Box<dyn Lane>,
    loans: Vec<(Owner, u16, usize)>,
}

/// Sides of a delivery: of front-ends, of back-ends.
#[derive(Default)]
struct Parts {
    sides: [Vec<Part>; 2],
    streams: Vec<Stream>,
    /// Share of the time in which back-ends rest.
    rests: f64,
    /// A real back-end sends frames on.
    through_others: bool,
}

const FRONT: usize = 0;
const BACK: usize = 1;

impl Parts {
    fn add(&mut self, side: usize, lane: Box<dyn Lane>, loans: Vec<(Owner, u16, usize)>) -> (usize, usize) {
        self.sides[side].push(Part { lane, loans });
        (side, self.sides[side].len() - 1)
    }
}

/// A fault by its name, for a frame of so many bytes; none if it is no fault of a frame.
fn fault_of(name: FaultName, bytes: usize) -> Option<Fault> {
    Some(match name {
        FaultName::Drop => Fault::Drop,
        FaultName::Swap => Fault::Swap,
        FaultName::FlipBit => Fault::Flip(bytes - 1, 0),
        FaultName::Repeat => Fault::Repeat,
        FaultName::Truncate => Fault::Truncate(1),
        FaultName::Extend => Fault::Extend(1),
        FaultName::Stale => Fault::Stale,
        FaultName::Torn => Fault::Torn,
        FaultName::Blank => Fault::Blank,
        FaultName::Misdeliver => Fault::Misdeliver,
        FaultName::WrongBuffer => Fault::WrongBuffer,
        FaultName::StaleDescriptor => Fault::StaleDescriptor,
        FaultName::TooLong => Fault::TooLong,
        FaultName::Jump => Fault::Jump,
        FaultName::WrongQueue => return None,
    })
}

impl Run<'_> {
    /// Whether a `deliver` runs on threads of its own.
    pub(in crate::engine) fn is_traffic(step: &Deliver) -> bool {
        step.duration.is_some()
            || step.burst.is_some()
            || step.notify.is_some()
            || step.offered_rate.is_some()
            || step.sizes.is_some()
            || step.imix
            || step.both_ways
            || step.latency
            || step.verify_one_of.is_some()
            || step.baseline.is_some()
            || step.bind.is_some()
            || step.may_lose
            || step.may_lose_disturbed
            || step.in_flight.is_some()
            || step.may_repeat
            || step.pcap.is_some()
            || step.pairs.is_some()
    }

    /// Starts the pumps of a delivery.
    pub(in crate::engine) fn begin_traffic(&mut self, step: &Deliver, span: Span) -> Result<DeliveryId> {
        let load = self.load(step, span)?;
        let from = self.peer(&step.from.value, step.from.span)?;
        let to = self.peer(&step.to.value, step.to.span)?;
        let mut groups = vec![self.group(from, to, &load, span)?];
        let mut negotiated = vec![self.negotiated(from, &load)];
        let mut peers = vec![from, to];
        if let Some(Against { from, to, .. }) = &step.baseline {
            let from = self.peer(&from.value, from.span)?;
            let to = self.peer(&to.value, to.span)?;
            groups.push(self.group(from, to, &load, span)?);
            negotiated.push(self.negotiated(from, &load));
            peers.extend([from, to]);
        }
        for link in peers
            .iter()
            .filter_map(|peer| self.peers[peer.0].link)
            .collect::<Vec<_>>()
        {
            self.crowd(link);
        }
        let ends = step.duration.as_ref().map(|time| self.clock.now().plus_ms(time.ms));
        let name = step.bind.as_ref().map(|name| name.value.clone());
        let measures = name.is_some() || step.baseline.is_some();
        let windows = match measures {
            true => Windows::begin(self.clock.now(), &groups),
            false => {
                groups.iter().for_each(|group| group.let_move(true));
                Windows::default()
            }
        };
        let how = if load.both_ways { "both ways" } else { "to" };
        let frames = load.frames();
        let what = format!("{} {how} {}, {frames}", step.from.value, step.to.value);
        self.traffic.deliveries.push(Running {
            name,
            span,
            from,
            what,
            groups,
            negotiated,
            baseline: step.baseline.as_ref().map(|other| other.bind.value.clone()),
            ends,
            windows,
            may_lose: step.may_lose,
            may_lose_disturbed: step.may_lose_disturbed,
            noticed: true,
            short: None,
            wrong: None,
            over: false,
        });
        Ok(DeliveryId(self.traffic.deliveries.len() - 1))
    }

    fn load(&self, step: &Deliver, span: Span) -> Result<Load> {
        let number = |value: Option<&At<Num>>, default| self.number(value, default);
        let place = step.size.as_ref().map_or(span, |size| size.span);
        let bad = |error: crate::traffic::BadSize| Stop::script(Diagnostic::error(error.to_string()).at(place));
        let recording = step.pcap.as_ref().map(|file| self.recording(file)).transpose()?;
        let sizes = match (&step.sizes, step.imix) {
            _ if recording.is_some() => {
                let longest = recording.as_ref().map_or(0, |recording| recording.longest());
                Sizes::fixed(longest.max(FRAME_BYTES_MIN) as u64).map_err(bad)?
            }
            (_, true) => Sizes::imix(),
            (Some(sizes), _) => {
                let sizes = sizes.iter().map(|size| eval_num(size, &self.bindings));
                let sizes: std::result::Result<Vec<u64>, _> = sizes.collect();
                Sizes::cycle(sizes?).map_err(bad)?
            }
            _ => Sizes::fixed(number(step.size.as_ref(), 64)?).map_err(bad)?,
        };
        let burst = number(step.burst.as_ref(), BURST)?;
        if !(1..=BURST_MAX as u64).contains(&burst) {
            let place = step.burst.as_ref().map_or(span, |burst| burst.span);
            let message = format!("a burst of {burst} frames; it has 1 to {BURST_MAX}");
            return Err(Stop::script(Diagnostic::error(message).at(place)));
        }
        let pair = number(step.pair.as_ref(), 0)?;
        let pair = u16::try_from(pair).ok().filter(|pair| *pair < PAIRS_MAX);
        let pair = pair.ok_or_else(|| Stop::script(Diagnostic::error("there is no such queue pair").at(span)))?;
        let pairs = number(step.pairs.as_ref(), 1)?;
        let pairs = u16::try_from(pairs).ok().filter(|pairs| *pairs <= PAIRS_MAX - pair);
        let pairs =
            pairs.ok_or_else(|| Stop::script(Diagnostic::error("there are not so many queue pairs").at(span)))?;
        let packets = match (&step.packets, &step.duration) {
            (None, Some(_)) => None,
            (packets, _) => Some(number(packets.as_ref(), 1)?),
        };
        let rate = step
            .offered_rate
            .as_ref()
            .map(|rate| eval_num(rate, &self.bindings))
            .transpose()?;
        Ok(Load {
            sizes,
            packets,
            rate,
            burst: burst as usize,
            notified: step.notify.as_ref().is_some_and(|how| how.value == NotifyChoice::Event),
            stamped: step.latency,
            sample: number(step.verify_one_of.as_ref(), 1)?,
            pair,
            pairs,
            both_ways: step.both_ways,
            may_repeat: step.may_repeat,
            may_lose: step.may_lose || step.may_lose_disturbed,
            in_flight: step
                .in_flight
                .as_ref()
                .map(|n| eval_num(n, &self.bindings))
                .transpose()?,
            recording,
        })
    }

    /// The frames of a file beside the scenario's.
    fn recording(&self, file: &At<String>) -> Result<Arc<Recording>> {
        let folder = self.plan.path.parent().unwrap_or_else(|| std::path::Path::new("."));
        let path = folder.join(&file.value);
        let wrong = |what: String| Stop::script(Diagnostic::error(format!("{}: {what}", path.display())).at(file.span));
        let size = std::fs::metadata(&path)
            .map_err(|error| wrong(error.to_string()))?
            .len();
        if size > FILE_BYTES_MAX {
            return Err(wrong(format!("{size} bytes; {FILE_BYTES_MAX} are the most")));
        }
        let bytes = std::fs::read(&path).map_err(|error| wrong(error.to_string()))?;
        let recording = Recording::read(&bytes).map_err(|error| wrong(error.to_string()))?;
        Ok(Arc::new(recording))
    }

    fn negotiated(&mut self, from: PeerId, load: &Load) -> Negotiated {
        let link = self.peers[from.0].link;
        let front = link.map_or(from, |link| self.links[link.0].front);
        let spec = &self.peers[front.0].spec;
        let ring_size = spec.ring_size;
        let (features, huge_pages) = match self.peers[front.0].sim.front() {
            Some(front) => (front.negotiated(), front.has_huge_pages()),
            // of a driver that is none of the harness's, what the back-end was told
            None => {
                let back = link.and_then(|link| self.peers[self.links[link.0].back.0].sim.back_on(Some(link)));
                (back.map_or(0, |back| back.features()), false)
            }
        };
        Negotiated {
            ring_size,
            packed: features & F_RING_PACKED != 0,
            features,
            burst: load.burst as u64,
            notified: load.notified,
            huge_pages,
            frames: load.frames(),
        }
    }

    fn group(&mut self, from: PeerId, to: PeerId, load: &Load, span: Span) -> Result<Group> {
        let mut parts = Parts::default();
        for pair in load.pair..load.pair + load.pairs {
            let load = Load { pair, ..load.clone() };
            self.streams(&mut parts, from, to, &load, span)?;
        }
        self.pumps(parts, load, span)
    }

    /// The streams of one queue pair.
    fn streams(&mut self, parts: &mut Parts, from: PeerId, to: PeerId, load: &Load, span: Span) -> Result<()> {
        let parties = [from, to].map(|peer| self.peers[peer.0].spec.party);
        match parties {
            [Party::FrontEnd, Party::BackEnd] => {
                self.front_to_back(parts, from, to, load, span)?;
                if load.both_ways {
                    self.back_to_front(parts, to, from, load, span)?;
                }
            }
            [Party::BackEnd, Party::FrontEnd] => {
                self.back_to_front(parts, from, to, load, span)?;
                if load.both_ways {
                    self.front_to_back(parts, to, from, load, span)?;
                }
            }
            [Party::FrontEnd, Party::FrontEnd] => {
                self.through(parts, from, to, load, span)?;
                if load.both_ways && from != to {
                    self.through(parts, to, from, load, span)?;
                }
            }
            [Party::BackEnd, Party::BackEnd] if from == to => self.around(parts, from, load, span)?,
            [Party::BackEnd, Party::BackEnd] => {
                let message = "frames start or end at a front-end, or come back to the back-end that they started from";
                return Err(Stop::script(Diagnostic::error(message).at(span)));
            }
        }
        Ok(())
    }

    fn pumps(&mut self, parts: Parts, load: &Load, span: Span) -> Result<Group> {
        let cpus = cpu::allowed().unwrap_or_default();
        let cpus = if cpus.len() < 2 { Vec::new() } else { cpus };
        let rests = parts.rests;
        let mut streams = parts.streams;
        let mut stations = Vec::new();
        for (at, side) in parts.sides.into_iter().enumerate() {
            let place = stations.len();
            if side.is_empty() {
                continue;
            }
            // sides that are not there leave no station
            for stream in &mut streams {
                for end in [&mut stream.source, &mut stream.sink] {
                    if end.0 == at {
                        end.0 = place;
                    }
                }
            }
            let mut loans = Vec::new();
            let mut lanes = Vec::new();
            for (lane, part) in side.into_iter().enumerate() {
                loans.extend(part.loans.into_iter().map(|((peer, link), ring, port)| OnLoan {
                    peer,
                    link,
                    ring,
                    lane,
                    port,
                }));
                lanes.push(part.lane);
            }
            let mut side = Side::new(lanes);
            side.rests = true;
            let sinks = streams.iter().filter(|stream| stream.sink.0 == place).count() as u64;
            side.wanted = load.packets.map(|packets| packets * sinks).filter(|_| sinks > 0);
            let options = PumpOptions {
                notified: load.notified,
                cpu: cpus.get(at).copied(),
                rests: if at == BACK { rests } else { 0.0 },
            };
            let pump = Pump::start(side, options, self.clock)
                .map_err(|error| Stop::harness(format!("a pump cannot be started: {error}"), span))?;
            stations.push(Station { pump, loans });
        }
        let excused = vec![Vec::new(); streams.len()];
        Ok(Group {
            stations,
            streams,
            excused,
            through_others: parts.through_others,
        })
    }

    fn stream(&mut self) -> u16 {
        self.traffic.streams = self.traffic.streams.wrapping_add(1).max(1);
        self.traffic.streams
    }

    fn sink(&self, id: u16, load: &Load) -> Sink {
        let mut sink = Sink::new(&[id]);
        if load.may_repeat {
            sink.allow_again(u64::MAX);
        }
        if load.may_lose {
            sink.allow_loss();
        }
        match &load.recording {
            Some(recording) => sink.recorded(Arc::clone(recording)),
            None => sink,
        }
    }

    fn source(&self, id: u16, load: &Load) -> Source {
        let source = Source::new(id, load.sizes.clone()).sampling(load.sample);
        match &load.recording {
            Some(recording) => source.recorded(Arc::clone(recording)),
            None => source,
        }
    }

    fn front_to_back(&mut self, parts: &mut Parts, front: PeerId, back: PeerId, load: &Load, span: Span) -> Result<()> {
        let id = self.stream();
        let ring = load.pair * 2 + 1;
        let source = self.source_lane(parts, front, ring, id, load, span)?;
        let owner = (back, self.link_with(back, front));
        let port = self.device(owner, ring, span)?;
        let mut lane = DeviceReceiver::<Device>::new(port, self.sink(id, load), load.burst);
        if load.stamped {
            lane = lane.stamped();
        }
        let sink = parts.add(BACK, Box::new(lane), vec![(owner, ring, 0)]);
        parts.rests = self.peers[back.0].spec.rests;
        let goal = load.packets;
        parts.streams.push(Stream {
            id,
            source,
            sink,
            credit: None,
            goal,
        });
        Ok(())
    }

    fn back_to_front(&mut self, parts: &mut Parts, back: PeerId, front: PeerId, load: &Load, span: Span) -> Result<()> {
        let id = self.stream();
        let ring = load.pair * 2;
        let sink = self.sink_lane(parts, front, ring, id, load, span)?;
        let owner = (back, self.link_with(back, front));
        let port = self.device(owner, ring, span)?;
        let merges = self.negotiated(front, load).features & F_MRG_RXBUF != 0;
        let pace = Pace::new(load.packets, load.rate);
        let source = self.source(id, load);
        let mut lane = DeviceSender::<Device>::new(port, source, pace, load.burst).merging(merges);
        if load.stamped {
            lane = lane.stamped();
        }
        let source = parts.add(BACK, Box::new(lane), vec![(owner, ring, 0)]);
        parts.rests = self.peers[back.0].spec.rests;
        let goal = load.packets;
        parts.streams.push(Stream {
            id,
            source,
            sink,
            credit: None,
            goal,
        });
        Ok(())
    }

    /// From one front-end through what is behind it to another, or to itself.
    fn through(&mut self, parts: &mut Parts, from: PeerId, to: PeerId, load: &Load, span: Span) -> Result<()> {
        let id = self.stream();
        let (out, back_in) = (load.pair * 2 + 1, load.pair * 2);
        // the sink goes first: a back-end that finds no buffer throws away what it sends
        let sink = self.sink_lane(parts, to, back_in, id, load, span)?;
        let source = self.source_lane(parts, from, out, id, load, span)?;
        let credit = load.in_flight.map(Credit::new);
        if let Some(credit) = &credit {
            let lanes = &mut parts.sides[FRONT];
            if let Some(sender) = lanes[source.1].lane.as_any().downcast_mut::<DriverSender<Driver>>() {
                sender.keep_to(credit.clone());
            }
            if let Some(receiver) = lanes[sink.1].lane.as_any().downcast_mut::<DriverReceiver<Driver>>() {
                receiver.give_credit(credit.clone(), id);
            }
        }
        let behind = |run: &Self, front: PeerId| {
            let link = run.peers[front.0].link?;
            let back = run.links[link.0].back;
            run.peers[back.0].spec.is_simulated().then_some(back)
        };
        // real back-ends forward by themselves
        if let (Some(first), Some(second)) = (behind(self, from), behind(self, to)) {
            let (first, second) = (
                (first, self.link_with(first, from)),
                (second, self.link_with(second, to)),
            );
            let fault = self.peers[first.0.0].spec.fault;
            let crosses = fault.is_some_and(|(name, _)| name == FaultName::WrongQueue);
            // pairs 0 and 1 change places, and so on
            let into = if crosses { (load.pair ^ 1) * 2 } else { back_in };
            let ports = (self.device(first, out, span)?, self.device(second, into, span)?);
            let mut lane = Forward::<Device>::new(ports.0, ports.1, load.burst);
            if let Some((name, at)) = fault
                && let Some(fault) = fault_of(name, load.sizes.of(at))
            {
                lane = lane.meddling(Meddler::new(fault, at));
            }
            parts.add(BACK, Box::new(lane), vec![(first, out, 0), (second, into, 1)]);
            parts.rests = self.peers[first.0.0].spec.rests;
        } else {
            parts.through_others = true;
        }
        let goal = load.packets;
        parts.streams.push(Stream {
            id,
            source,
            sink,
            credit,
            goal,
        });
        Ok(())
    }

    /// From a back-end through whoever drives its rings back to it.
    fn around(&mut self, parts: &mut Parts, back: PeerId, load: &Load, span: Span) -> Result<()> {
        let id = self.stream();
        let (out, back_in) = (load.pair * 2, load.pair * 2 + 1);
        let owner = (back, self.peers[back.0].link);
        let ports = (self.device(owner, back_in, span)?, self.device(owner, out, span)?);
        let mut receiver = DeviceReceiver::<Device>::new(ports.0, self.sink(id, load), load.burst);
        let merges = self.negotiated(back, load).features & F_MRG_RXBUF != 0;
        let pace = Pace::new(load.packets, load.rate);
        let mut sender = DeviceSender::<Device>::new(ports.1, self.source(id, load), pace, load.burst).merging(merges);
        if load.stamped {
            (receiver, sender) = (receiver.stamped(), sender.stamped());
        }
        let credit = load.in_flight.map(Credit::new);
        if let Some(credit) = &credit {
            receiver = receiver.giving_credit(credit.clone(), id);
            sender = sender.keeping_to(credit.clone());
        }
        let sink = parts.add(BACK, Box::new(receiver), vec![(owner, back_in, 0)]);
        let source = parts.add(BACK, Box::new(sender), vec![(owner, out, 0)]);
        parts.rests = self.peers[back.0].spec.rests;
        parts.through_others = true;
        let goal = load.packets;
        parts.streams.push(Stream {
            id,
            source,
            sink,
            credit,
            goal,
        });
        Ok(())
    }

    fn source_lane(
        &mut self,
        parts: &mut Parts,
        front: PeerId,
        ring: u16,
        id: u16,
        load: &Load,
        span: Span,
    ) -> Result<(usize, usize)> {
        let port = self.driver(front, ring, stride(load.sizes.longest()), span)?;
        let source = self.source(id, load);
        let pace = Pace::new(load.packets, load.rate);
        let mut lane = DriverSender::<Driver>::new(port, source, pace, load.burst);
        if load.stamped {
            lane = lane.stamped();
        }
        Ok(parts.add(FRONT, Box::new(lane), vec![((front, None), ring, 0)]))
    }

    fn sink_lane(
        &mut self,
        parts: &mut Parts,
        front: PeerId,
        ring: u16,
        id: u16,
        load: &Load,
        span: Span,
    ) -> Result<(usize, usize)> {
        // a driver that merges buffers has no need of long ones
        let merges = self.negotiated(front, load).features & F_MRG_RXBUF != 0;
        let needed = match (stride(load.sizes.longest()), merges) {
            (longest, true) => longest.min(MERGED_BYTES),
            (longest, false) => longest,
        };
        let sink = self.sink(id, load);
        // what an earlier delivery sent to learn whether frames were lost may still be on the ring
        let mut sink = Some(sink.after(id));
        let mut lane: Option<Box<dyn Lane>> = None;
        if let Some(mut kept) = self.traffic.kept.remove(&(front, ring)) {
            let known = kept.as_any().downcast_mut::<DriverReceiver<Driver>>();
            let known = known.filter(|lane| lane.port.arena.stride >= needed);
            if let (Some(receiver), Some(sink)) = (known, sink.take()) {
                receiver.exchange(sink, load.burst, load.stamped);
                self.refresh(front, ring, &mut receiver.port);
                lane = Some(kept);
            } else {
                return Err(self.ring_is_laid_out(front, ring, span));
            }
        }
        if let (None, Some(sink)) = (&lane, sink) {
            let port = self.driver(front, ring, needed, span)?;
            let mut receiver = DriverReceiver::<Driver>::new(port, sink, load.burst);
            if load.stamped {
                receiver = receiver.stamped();
            }
            lane = Some(Box::new(receiver));
        }
        let lane = lane.ok_or_else(|| Stop::harness("a receiver without a lane", span))?;
        Ok(parts.add(FRONT, lane, vec![((front, None), ring, 0)]))
    }

    /// A driver's ring, fresh or as an earlier delivery left it.
    fn driver(&mut self, front: PeerId, ring: u16, needed: u32, span: Span) -> Result<DriverPort<Driver>> {
        if let Some(mut kept) = self.traffic.kept.remove(&(front, ring)) {
            let sender = kept.as_any().downcast_mut::<DriverSender<Driver>>();
            let fits = sender.as_ref().is_some_and(|lane| lane.port.arena.stride >= needed);
            let port = kept
                .into_any()
                .downcast::<DriverSender<Driver>>()
                .ok()
                .map(|lane| lane.into_port());
            return match port {
                Some(mut port) if fits => {
                    self.refresh(front, ring, &mut port);
                    Ok(port)
                }
                _ => Err(self.ring_is_laid_out(front, ring, span)),
            };
        }
        let wrong = |error: &dyn std::fmt::Display| Stop::wrong(Diagnostic::error(error.to_string()).at(span));
        let count = u32::from(self.peers[front.0].spec.ring_size);
        let not_simulated = || {
            let message = "a delivery with a load of its own needs simulated front-ends";
            Stop::script(Diagnostic::error(message).at(span))
        };
        let front = self.peers[front.0].sim.front().ok_or_else(not_simulated)?;
        let base = front.room(needed * count).map_err(|error| {
            let diagnostic = Diagnostic::error(error.to_string()).at(span);
            Stop::script(diagnostic.help("give the front-end more memory: `memory: {size: 16 MiB}`"))
        })?;
        if ring.is_multiple_of(2) {
            front.note_device_writes(base, u64::from(needed * count));
        }
        let arena = Arena {
            base,
            stride: needed,
            count,
        };
        let loan = front.lend(ring).map_err(|error| wrong(&error))?;
        let [kick, call] = front.bells(ring).map(Bell::new);
        let driver = Driver::new(loan.layout, loan.base, &loan.reach, loan.options).map_err(|error| wrong(&error))?;
        Ok(DriverPort {
            ring: driver,
            reach: loan.reach,
            arena,
            kick,
            call,
            owes_kick: true,
        })
    }

    fn refresh(&mut self, front: PeerId, ring: u16, port: &mut DriverPort<Driver>) {
        if let Some(front) = self.peers[front.0].sim.front() {
            let [kick, call] = front.bells(ring).map(Bell::new);
            (port.kick, port.call, port.owes_kick) = (kick, call, true);
        }
    }

    fn ring_is_laid_out(&self, front: PeerId, ring: u16, span: Span) -> Box<Stop> {
        let name = &self.peers[front.0].spec.name;
        let message = format!("ring {ring} of `{name}` has shorter buffers, of an earlier delivery");
        Stop::script(
            Diagnostic::error(message)
                .at(span)
                .help("deliver the longest frames first"),
        )
    }

    /// A device's ring as it is now, and from now on with every message.
    fn device(
        &mut self,
        (back, link): Owner,
        ring: u16,
        span: Span,
    ) -> Result<Option<crate::traffic::lane::DevicePort<Device>>> {
        match self.peers[back.0].sim.back_on(link) {
            Some(back) => {
                back.lend(ring);
                Ok(lend_device(back, ring))
            }
            None => {
                let message = "a delivery with a load of its own ends at the harness: at a simulated peer";
                Err(Stop::script(Diagnostic::error(message).at(span)))
            }
        }
    }
}
