//! Deliveries that run on threads of their own while the script goes on: rings lent to pumps, brought home whenever a message
//! is handled that may change them, and lent again.

mod disturbed;
mod group;
mod marks;
mod measure;
mod rate;
mod start;

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use super::failure::{Result, Stop};
use super::peers::Sim;
use super::run::Run;
use crate::judge::rated::{Measured, Negotiated, Rated};
use crate::judge::verdict::FailKind;
use crate::ring::burst::DeviceRing;
use crate::scenario::Diagnostic;
use crate::scenario::span::Span;
use crate::sys::clock::Moment;
use crate::sys::fd::drain_event;
use crate::trace::{EventKind, PeerId};
use crate::traffic::Tally;
use crate::traffic::lane::{Lane, Trouble};

use group::{AtHome, Group, Look};
use measure::Windows;

/// How often it is looked whether the last frames have come, where nothing tells.
const LAST_FRAMES_MS: u64 = 1;
/// How long a real back-end may keep the last frames to itself before one more is sent, behind which they cannot come any more.
const LAST_FRAMES_MAX_MS: u64 = 1_000;

/// How long it is waited for what is under way when a frame was wrong, where nothing tells that it has all come.
const REST_MAX_MS: u64 = 500;

/// Tells deliveries of a run apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeliveryId(usize);

/// A delivery.
#[derive(Debug)]
struct Running {
    name: Option<String>,
    span: Span,
    from: PeerId,
    /// In words, for the timeline.
    what: String,
    /// The delivery itself, and the one that it is compared with.
    groups: Vec<Group>,
    negotiated: Vec<Negotiated>,
    baseline: Option<String>,
    /// When sources stop.
    ends: Option<Moment>,
    windows: Windows,
    may_lose: bool,
    /// Frames may be lost that the script has disturbed.
    may_lose_disturbed: bool,
    /// A pump has something to say.
    noticed: bool,
    /// Everything was sent, and some of it has not come; since when no more of it has, and how many had by then.
    short: Option<(Moment, u64)>,
    /// A frame is not as it should be, and until when those that are under way are still taken in.
    wrong: Option<(Trouble, Moment)>,
    over: bool,
}

impl Running {
    /// A pump cannot go on.
    fn stopped_by(&self, trouble: &Trouble) -> Box<Stop> {
        let diagnostic = Diagnostic::error("what arrived is not what was sent")
            .at(self.span)
            .footer(trouble.to_string())
            .footer(format!("delivery  {}", self.what));
        Stop::wrong(diagnostic)
    }
}

/// All deliveries of a run.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    deliveries: Vec<Running>,
    /// Drivers' lanes of deliveries that are over: their buffers are on the ring.
    kept: BTreeMap<(PeerId, u16), Box<dyn Lane>>,
    /// What was measured, by name.
    pub(super) measured: Vec<Measured>,
    /// What was said of it.
    pub(super) rated: Vec<Rated>,
    streams: u16,
    disturbances: disturbed::Disturbances,
}

impl Traffic {
    fn under_way(&self) -> impl Iterator<Item = &Running> {
        self.deliveries.iter().filter(|delivery| !delivery.over)
    }

    /// Whether nothing moves.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way().next().is_none()
    }

    /// What pumps tell by, with the delivery each belongs to.
    pub(super) fn notices(&self) -> impl Iterator<Item = (usize, usize, usize, std::os::fd::BorrowedFd<'_>)> {
        let deliveries = self
            .deliveries
            .iter()
            .enumerate()
            .filter(|(_, delivery)| !delivery.over);
        deliveries.flat_map(|(at, delivery)| {
            delivery.groups.iter().enumerate().flat_map(move |(group, pumps)| {
                let stations = pumps.stations.iter().enumerate();
                stations.map(move |(station, pump)| (at, group, station, pump.pump.notice()))
            })
        })
    }

    /// A pump has something to say.
    pub(super) fn take_notice(&mut self, (at, group, station): (usize, usize, usize)) {
        let Some(delivery) = self.deliveries.get_mut(at) else {
            return;
        };
        let pump = delivery.groups.get(group).and_then(|group| group.stations.get(station));
        if let Some(station) = pump {
            // if it is read empty by nobody, it is told again
            let _ = drain_event(station.pump.notice().as_fd());
        }
        delivery.noticed = true;
    }

    /// When somebody has to look though nothing tells.
    pub(super) fn next_look(&self, now: Moment) -> Option<Moment> {
        let looks = self.under_way().flat_map(|delivery| {
            let looks = delivery.short.is_some() || delivery.wrong.is_some();
            let short = looks.then(|| now.plus_ms(LAST_FRAMES_MS));
            [short, delivery.ends, delivery.windows.next_turn()]
        });
        looks.flatten().min()
    }

    /// Lets a peer do something while its rings are at home.
    pub(super) fn around<T>(&self, peer: PeerId, sim: &mut Sim, act: impl FnOnce(&mut Sim) -> T) -> T {
        let groups = self.under_way().flat_map(|delivery| &delivery.groups);
        let home = AtHome::bring(groups, peer, sim);
        let result = act(sim);
        home.lend(sim);
        result
    }

    /// Ends all pumps: what they map and hold goes with them.
    pub(super) fn clear(&mut self) {
        self.deliveries.clear();
        self.kept.clear();
    }
}

impl Run<'_> {
    /// Lets a simulated peer do something that may concern its rings.
    pub(super) fn with_rings<T>(&mut self, peer: PeerId, act: impl FnOnce(&mut Sim) -> T) -> T {
        let Self { traffic, peers, .. } = self;
        let sim = &mut peers[peer.0].sim;
        match traffic.is_idle() {
            true => act(sim),
            false => traffic.around(peer, sim, act),
        }
    }

    /// Looks after all deliveries. An error if one of them went wrong.
    pub(super) fn tend_traffic(&mut self) -> Result<()> {
        for at in 0..self.traffic.deliveries.len() {
            if !self.traffic.deliveries[at].over {
                self.tend(at)?;
            }
        }
        Ok(())
    }

    /// What pumps cannot go on after in the rings between these peers, whether they have come to it by now or not.
    pub(super) fn ring_trouble(&self, peers: [PeerId; 2]) -> Result<()> {
        let troubles = self.traffic.under_way().filter_map(|delivery| {
            let trouble = delivery.groups.iter().find_map(|group| group.ring_trouble(peers))?;
            Some(delivery.stopped_by(&trouble))
        });
        troubles.into_iter().next().map_or(Ok(()), Err)
    }

    /// Whether a delivery is over.
    pub(super) fn is_delivered(&self, id: DeliveryId) -> bool {
        self.traffic.deliveries.get(id.0).is_none_or(|delivery| delivery.over)
    }

    /// Where its frames start.
    pub(super) fn delivery_from(&self, id: DeliveryId) -> PeerId {
        self.traffic.deliveries[id.0].from
    }

    /// The delivery of that name that was not waited for.
    pub(super) fn delivery_named(&self, name: &str) -> Option<DeliveryId> {
        let named = |delivery: &Running| delivery.name.as_deref() == Some(name);
        self.traffic.deliveries.iter().rposition(named).map(DeliveryId)
    }

    /// Its sources send nothing more.
    pub(super) fn stop_delivery(&mut self, id: DeliveryId) {
        let now = self.clock.now();
        if let Some(delivery) = self.traffic.deliveries.get_mut(id.0).filter(|delivery| !delivery.over) {
            delivery.ends = Some(now);
        }
    }

    /// How far a delivery is, in words.
    pub(super) fn delivery_waits_for(&self, id: DeliveryId) -> String {
        let Some(delivery) = self.traffic.deliveries.get(id.0) else {
            return String::new();
        };
        let arrived: u64 = delivery.groups.iter().map(Group::received).sum();
        let goal: Option<u64> = delivery
            .groups
            .iter()
            .flat_map(|group| &group.streams)
            .map(|stream| stream.goal)
            .sum();
        match goal {
            Some(goal) => format!("{goal} frames, of which {arrived} have arrived"),
            None => format!("its time to be up; {arrived} frames have arrived"),
        }
    }

    /// The script is through: deliveries that nobody waits for come to their end. True if none is under way.
    pub(super) fn end_traffic(&mut self) -> bool {
        let now = self.clock.now();
        for delivery in self.traffic.deliveries.iter_mut().filter(|delivery| !delivery.over) {
            let endless = delivery
                .groups
                .iter()
                .flat_map(|g| &g.streams)
                .any(|s| s.goal.is_none());
            if endless {
                delivery.ends = Some(delivery.ends.unwrap_or(now).min(now));
            }
        }
        self.traffic.is_idle()
    }

    fn tend(&mut self, at: usize) -> Result<()> {
        let now = self.clock.now();
        let delivery = &mut self.traffic.deliveries[at];
        let turn = delivery.windows.next_turn().is_some_and(|turn| now >= turn);
        if turn {
            delivery.windows.turn(now, &delivery.groups);
        }
        let time_is_up = delivery.ends.is_some_and(|ends| now >= ends);
        if time_is_up {
            delivery.ends = None;
            delivery.windows.stop(&delivery.groups);
            delivery.groups.iter_mut().for_each(Group::stop_sources);
        }
        let noticed = std::mem::take(&mut delivery.noticed);
        if delivery.wrong.is_some() {
            return self.take_in_rest(at);
        }
        if !(noticed || time_is_up || delivery.short.is_some()) {
            return Ok(());
        }
        let looks: Vec<Look> = delivery.groups.iter().map(|group| group.look(now)).collect();
        match delivery.groups.iter().find_map(Group::trouble) {
            None => {}
            Some(trouble @ Trouble::Frame(_)) => {
                // what is still under way tells whether a frame that is missing is lost or late
                delivery.windows.stop(&delivery.groups);
                delivery.groups.iter_mut().for_each(Group::stop_sources);
                delivery.wrong = Some((trouble, now.plus_ms(REST_MAX_MS)));
                return self.take_in_rest(at);
            }
            Some(trouble) => return Err(delivery.stopped_by(&trouble)),
        }
        if delivery.groups.iter().any(Group::has_died) {
            return Err(Stop::harness("a pump has ended by itself", delivery.span));
        }
        let short = looks.contains(&Look::Short) && !looks.contains(&Look::UnderWay);
        delivery.short = short.then(|| {
            let received = delivery.groups.iter().map(Group::received).sum();
            let still = delivery.short.filter(|(_, before)| *before == received);
            still.unwrap_or((now, received))
        });
        if let Some((since, received)) = delivery.short
            && now >= since.plus_ms(LAST_FRAMES_MAX_MS)
        {
            delivery.short = Some((now, received));
            let short = delivery
                .groups
                .iter()
                .zip(&looks)
                .filter(|(_, look)| **look == Look::Short);
            short.for_each(|(group, _)| group.ask_further());
        }
        if looks.iter().all(|look| *look == Look::Over) {
            self.finish(at)?;
        }
        Ok(())
    }

    /// Something arrived that is not as it was sent: takes in what is under way, and says what became of it all.
    fn take_in_rest(&mut self, at: usize) -> Result<()> {
        let now = self.clock.now();
        let delivery = &mut self.traffic.deliveries[at];
        let Some((trouble, until)) = delivery.wrong.clone() else {
            return Ok(());
        };
        let is_all = delivery
            .groups
            .iter()
            .fold(true, |all, group| group.take_in_rest(now) & all);
        if !is_all && !self.has_run_out(until) {
            return Ok(());
        }
        let delivery = &self.traffic.deliveries[at];
        let faults: Vec<String> = delivery
            .groups
            .iter()
            .flat_map(Group::tallies)
            .filter(|tally| !tally.is_clean())
            .map(|tally| tally.faults_in_words())
            .collect();
        let diagnostic = Diagnostic::error("what arrived is not what was sent")
            .at(delivery.span)
            .expected_actual("every frame once, in order and unchanged", faults.join("; "))
            .footer(format!("found     {trouble}"))
            .footer(format!("delivery  {}", delivery.what));
        Err(Stop::wrong(diagnostic))
    }

    /// Ends a delivery and judges what arrived.
    fn finish(&mut self, at: usize) -> Result<()> {
        let delivery = &mut self.traffic.deliveries[at];
        delivery.over = true;
        let (span, from, may_lose) = (delivery.span, delivery.from, delivery.may_lose);
        let may_lose_disturbed = delivery.may_lose_disturbed;
        let groups = std::mem::take(&mut delivery.groups);
        let (negotiated, mut windows) = (std::mem::take(&mut delivery.negotiated), delivery.windows.take());
        let names = [delivery.name.clone(), delivery.baseline.clone()];
        let what = delivery.what.clone();
        let mut wrong = None;
        for ((index, group), negotiated) in groups.into_iter().enumerate().zip(negotiated) {
            let tallies = self.dissolve(group, negotiated.notified);
            let words: Vec<String> = tallies
                .iter()
                .map(|counted| counted.in_words(may_lose_disturbed))
                .collect();
            let latency = tallies.iter().find_map(|counted| counted.latency.clone());
            let mut text = format!("{what}: {}", words.join("; "));
            if let Some(latency) = latency {
                text.push_str(&format!("; {latency}"));
            }
            text.push_str(&format!(" ({negotiated})"));
            let link = self.peers[from.0].link;
            self.record(Some(from), link, EventKind::Data { what: text });
            for counted in tallies.into_iter().filter(|counted| !counted.tally.is_clean()) {
                let only_lost = counted.tally.faults() == counted.tally.lost;
                let excused = may_lose || may_lose_disturbed && counted.inexcusable == 0;
                if !(excused && only_lost) {
                    wrong.get_or_insert((counted.tally, counted.missing, counted.inexcusable));
                }
            }
            if let Some(name) = names.get(index).cloned().flatten() {
                let windows = std::mem::take(&mut windows[index]);
                self.traffic.measured.push(Measured {
                    name,
                    windows,
                    negotiated,
                });
            }
        }
        let Some((tally, missing, inexcusable)) = wrong else {
            return Ok(());
        };
        let mut diagnostic = Diagnostic::error("not everything arrived as it was sent")
            .at(span)
            .expected_actual("every frame once, in order and unchanged", tally.faults_in_words())
            .footer(format!("delivery  {what}"));
        if let Some(missing) = missing {
            diagnostic = diagnostic.footer(format!("missing   frame {missing} is the first"));
        }
        if may_lose_disturbed && inexcusable > 0 {
            let text =
                format!("undisturbed  {inexcusable} of the lost were not on their way while the script disturbed them");
            diagnostic = diagnostic.footer(text);
        }
        for finding in tally.findings.iter().take(3) {
            diagnostic = diagnostic.footer(format!("found     {finding}"));
        }
        Err(Stop::fail(FailKind::Wrong, diagnostic))
    }

    /// Ends the pumps and gives the rings back; what the sinks have counted.
    fn dissolve(&mut self, group: Group, notified: bool) -> Vec<Counted> {
        let (streams, excused) = (group.streams, group.excused);
        let mut sides = Vec::new();
        for station in group.stations {
            sides.push((station.pump.end(), station.loans));
        }
        let mut tallies = Vec::new();
        for (stream, excused) in streams.iter().zip(excused) {
            let sent = [(stream.id, stream.goal.unwrap_or_default())];
            let lane = sides[stream.sink.0].0.lanes.get(stream.sink.1);
            let Some(sink) = lane.and_then(|lane| lane.sink()) else {
                continue;
            };
            let latency = sink.latency();
            let latency = (latency.count() > 0).then(|| latency.to_string());
            let (inexcusable, first) = disturbed::inexcusable(sink.missing_of(sent[0]), &excused);
            tallies.push(Counted {
                tally: sink.tally(&sent),
                missing: first.or_else(|| sink.first_missing(&sent).map(|(_, seq)| seq)),
                latency,
                inexcusable,
                disturbances: excused.len(),
            });
        }
        let frames = tallies.iter().map(|counted| counted.tally.frames).sum();
        self.note_what_happened(&mut sides, notified, frames);
        for (side, loans) in sides {
            for (place, mut lane) in side.lanes.into_iter().enumerate() {
                let mut keep = None;
                for loan in loans.iter().filter(|loan| loan.lane == place) {
                    match &mut self.peers[loan.peer.0].sim {
                        Sim::Front(front) => {
                            if let Some(port) = group::driver_port(lane.as_mut()) {
                                front.note_used(loan.ring, port.ring.used_base());
                                keep = Some((loan.peer, loan.ring));
                            }
                        }
                        other => {
                            let Some(back) = other.back_on(loan.link) else { continue };
                            if let Some(port) = group::device_port(lane.as_mut(), loan.port).and_then(Option::take) {
                                back.note_base(loan.ring, port.ring.base());
                            }
                            back.take_back(loan.ring);
                        }
                    }
                }
                if let Some(key) = keep {
                    self.traffic.kept.insert(key, lane);
                }
            }
        }
        tallies
    }
}

/// What came of a stream.
struct Counted {
    tally: Tally,
    /// The first frame that is missing; one that must not be, if there is one.
    missing: Option<u64>,
    latency: Option<String>,
    /// Frames lost that were not disturbed.
    inexcusable: u64,
    disturbances: usize,
}

impl Counted {
    fn in_words(&self, tells_disturbances: bool) -> String {
        let mut text = in_words(&self.tally);
        if tells_disturbances {
            let (count, not) = (self.disturbances, self.inexcusable);
            text.push_str(&format!("; disturbed {count} times, {not} lost of what was not"));
        }
        text
    }
}

fn in_words(tally: &Tally) -> String {
    let mut text = match tally.is_clean() {
        true => format!("{} frames arrived in order and unchanged", tally.frames),
        false => format!("{} frames arrived, {}", tally.frames, tally.faults_in_words()),
    };
    for (count, what) in [
        (tally.discarded, "discarded by a disabled ring"),
        (tally.again, "seen again after a restart"),
        (tally.foreign, "of nobody here"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    if tally.contents < tally.frames {
        text.push_str(&format!(", {} of them compared byte for byte", tally.contents));
    }
    text
}
