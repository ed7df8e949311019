//! The pumps of one delivery, the rings that they have on loan, and how far they are.

use super::disturbed::Excused;
use crate::engine::peers::Sim;
use crate::peer::sim::back::SimBack;
use crate::peer::sim::front::SimFront;
use crate::ring::burst::{Device, DeviceRing, Driver, DriverRing};
use crate::sys::clock::Moment;
use crate::trace::{LinkId, PeerId};
use crate::traffic::lane::{
    Bell, Credit, DevicePort, DeviceReceiver, DeviceSender, DriverPort, DriverReceiver, DriverSender, Forward, Lane,
    Trouble,
};
use crate::traffic::pump::{Borrowed, Pump};
use crate::traffic::{Sink, Tally};

/// A ring that a lane has on loan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OnLoan {
    /// Whose it is.
    pub(super) peer: PeerId,
    /// Of a server with many connections: on which.
    pub(super) link: Option<LinkId>,
    /// Which.
    pub(super) ring: u16,
    /// The lane's place in its side.
    pub(super) lane: usize,
    /// Which of the lane's ports.
    pub(super) port: usize,
}

/// A pump and what its lanes have on loan.
#[derive(Debug)]
pub(super) struct Station {
    pub(super) pump: Pump,
    pub(super) loans: Vec<OnLoan>,
}

/// One stream from a source to a sink.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) id: u16,
    /// Station and lane of its source.
    pub(super) source: (usize, usize),
    /// Station and lane of its sink.
    pub(super) sink: (usize, usize),
    /// How many frames may be on their way.
    pub(super) credit: Option<Credit>,
    /// Frames it is to have; known from the beginning, or when its time is up.
    pub(super) goal: Option<u64>,
}

/// All stations that move the streams of one delivery.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) stations: Vec<Station>,
    pub(super) streams: Vec<Stream>,
    /// What may be lost of each stream.
    pub(super) excused: Vec<Excused>,
    /// A real back-end sends its frames on: it may have returned a buffer and still hold the frame that was in it.
    pub(super) through_others: bool,
}

impl Group {
    /// Looks at the sink of a stream.
    pub(super) fn with_sink(&self, stream: &Stream, look: impl FnOnce(&Sink) -> u64) -> u64 {
        let side = self.stations[stream.sink.0].pump.borrow();
        side.lanes[stream.sink.1].sink().map_or(0, look)
    }

    /// The first trouble of a lane, if there is any.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.stations
            .iter()
            .find_map(|station| station.pump.borrow().trouble.clone())
    }

    pub(super) fn has_died(&self) -> bool {
        self.stations.iter().any(|station| station.pump.has_died())
    }

    /// Frames that arrived on all streams, without stopping for it.
    pub(super) fn received(&self) -> u64 {
        self.stations
            .iter()
            .map(|station| station.pump.progress().received)
            .sum()
    }

    /// Lets the frames move, or keeps them.
    pub(super) fn let_move(&self, moves: bool) {
        for station in &self.stations {
            station.pump.borrow().rests = !moves;
        }
    }

    /// Ends every source where it is; each has its goal from now on.
    pub(super) fn stop_sources(&mut self) {
        for stream in &mut self.streams {
            let mut side = self.stations[stream.source.0].pump.borrow();
            let lane = side.lanes[stream.source.1].as_mut();
            stop_source(lane);
            stream.goal = Some(lane.progress().sent);
        }
    }

    /// Whether every frame of every stream arrived, or is known not to.
    pub(super) fn look(&self, now: Moment) -> Look {
        let mut all = true;
        for stream in &self.streams {
            let source = {
                let side = self.stations[stream.source.0].pump.borrow();
                side.lanes[stream.source.1].progress()
            };
            let Some(goal) = stream.goal else { return Look::UnderWay };
            if source.sent < goal || source.outstanding > 0 {
                return Look::UnderWay;
            }
            if self.through_others {
                all &= self.has_last(stream);
            } else {
                // all buffers have come back, and no pump of ours returns one before it has passed on what was in it: what
                // is not here now is lost
                let mut side = self.stations[stream.sink.0].pump.borrow();
                let settled = take_in(side.lanes[stream.sink.1].as_mut(), goal, now);
                if let Err(trouble) = settled {
                    side.trouble.get_or_insert(trouble);
                }
            }
        }
        if all { Look::Over } else { Look::Short }
    }

    /// What is wrong with the rings of these peers, as far as lanes can tell: drivers take back first what has been returned
    /// by now. Where that is so, nothing moves any more.
    pub(super) fn ring_trouble(&self, peers: [PeerId; 2]) -> Option<Trouble> {
        let loans_of = |station: &&Station| station.loans.iter().any(|loan| peers.contains(&loan.peer));
        self.stations.iter().filter(loans_of).find_map(|station| {
            let mut side = station.pump.borrow();
            if !matches!(side.trouble, None | Some(Trouble::Frame(_))) {
                return side.trouble.clone();
            }
            let found = side.lanes.iter_mut().find_map(|lane| ring_trouble(lane.as_mut()))?;
            side.trouble = Some(found.clone());
            Some(found)
        })
    }

    /// Takes in what is still under way though something was wrong with a frame; whether that is all.
    pub(super) fn take_in_rest(&self, now: Moment) -> bool {
        let is_through = |stream: &Stream| {
            let source = {
                let side = self.stations[stream.source.0].pump.borrow();
                side.lanes[stream.source.1].progress()
            };
            source.done && source.outstanding == 0 && (!self.through_others || self.has_last(stream))
        };
        // asked first: what has come back by now has been passed on before
        let are_through = self.streams.iter().all(is_through);
        let mut moved = false;
        for station in &self.stations {
            let mut side = station.pump.borrow();
            // one that is not in trouble moves by itself
            if side.trouble.is_some() {
                for lane in &mut side.lanes {
                    // a sink goes on taking note, and says each time that something was wrong
                    moved |= !matches!(lane.step(now.ns), Ok(0));
                }
            }
        }
        are_through && !moved
    }

    /// Whether the last frame of a stream, or one that was sent after it, has come: what is missing then is lost.
    fn has_last(&self, stream: &Stream) -> bool {
        let side = self.stations[stream.sink.0].pump.borrow();
        let goal = stream.goal.unwrap_or(u64::MAX);
        // they come in their order
        side.lanes[stream.sink.1]
            .sink()
            .is_none_or(|sink| sink.seen_of(stream.id) >= goal || sink.next_of(stream.id) >= goal)
    }

    /// What the sinks have counted.
    pub(super) fn tallies(&self) -> Vec<Tally> {
        let tally = |stream: &Stream| {
            let side = self.stations[stream.sink.0].pump.borrow();
            let sink = side.lanes[stream.sink.1].sink()?;
            Some(sink.tally(&[(stream.id, stream.goal.unwrap_or_default())]))
        };
        self.streams.iter().filter_map(tally).collect()
    }

    /// Sends one frame more on each stream, to learn from its arrival that the ones before are lost.
    pub(super) fn ask_further(&self) {
        for stream in &self.streams {
            let mut side = self.stations[stream.source.0].pump.borrow();
            send_more(side.lanes[stream.source.1].as_mut());
        }
    }
}

/// Takes in all that has come, `frames` at most.
fn take_in(lane: &mut dyn Lane, frames: u64, now: Moment) -> Result<(), Trouble> {
    for _ in 0..=frames {
        if lane.step(now.ns)? == 0 {
            break;
        }
    }
    Ok(())
}

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Sources have more to send, or buffers have not come back.
    UnderWay,
    /// All buffers came back, and not all frames arrived: somebody else has them, or they are lost.
    Short,
    /// It is over.
    Over,
}

/// The rings of a peer while it handles something: what its lanes do with them stands still.
pub(super) struct AtHome<'a> {
    stations: Vec<(Borrowed<'a>, &'a [OnLoan])>,
    peer: PeerId,
}

impl<'a> AtHome<'a> {
    /// Brings the rings of a peer home.
    pub(super) fn bring(groups: impl Iterator<Item = &'a Group>, peer: PeerId, sim: &mut Sim) -> Self {
        let mut stations = Vec::new();
        for station in groups.flat_map(|group| &group.stations) {
            if station.loans.iter().any(|loan| loan.peer == peer) {
                stations.push((station.pump.borrow(), station.loans.as_slice()));
            }
        }
        let mut home = Self { stations, peer };
        home.each(|loan, lane| {
            match &mut *sim {
                Sim::Front(front) => {
                    // where the ring goes on, should another back-end take it over: behind all that this one has returned
                    let settled = settle(lane);
                    if let Some(port) = driver_port(lane) {
                        front.note_used(loan.ring, port.ring.used_base());
                    }
                    return settled.err();
                }
                other => {
                    if let Some(back) = other.back_on(loan.link)
                        && let Some(port) = device_port(lane, loan.port).and_then(Option::take)
                    {
                        back.note_base(loan.ring, port.ring.base());
                    }
                }
            }
            None
        });
        home
    }

    /// Lends them again, as they are now.
    pub(super) fn lend(mut self, sim: &mut Sim) {
        self.each(|loan, lane| {
            match &mut *sim {
                Sim::Front(front) => lend_driver(front, loan, lane),
                other => {
                    if let Some(port) = device_port(lane, loan.port) {
                        // who is gone has no rings
                        *port = other.back_on(loan.link).and_then(|back| lend_device(back, loan.ring));
                    }
                }
            }
            None
        });
    }

    fn each(&mut self, mut act: impl FnMut(OnLoan, &mut dyn Lane) -> Option<Trouble>) {
        let peer = self.peer;
        for (side, loans) in &mut self.stations {
            for loan in loans.iter().filter(|loan| loan.peer == peer) {
                let trouble = side.lanes.get_mut(loan.lane).and_then(|lane| act(*loan, lane.as_mut()));
                if let Some(trouble) = trouble {
                    side.trouble.get_or_insert(trouble);
                }
            }
        }
    }
}

fn lend_driver(front: &SimFront, loan: OnLoan, lane: &mut dyn Lane) {
    let Some(port) = driver_port(lane) else { return };
    let [kick, call] = front.bells(loan.ring).map(Bell::new);
    if !port.kick.is(&kick) {
        // the back-end may have looked before it knew of this one
        port.owes_kick = true;
    }
    (port.kick, port.call) = (kick, call);
}

/// The device's end of a ring as it is now; a ring that cannot be used is reported and stands still.
pub(super) fn lend_device(back: &mut SimBack, ring: u16) -> Option<DevicePort<Device>> {
    match back.loan(ring)?.into_port() {
        Ok(port) => Some(port),
        Err(error) => {
            back.refuse_loan(ring, &error);
            None
        }
    }
}

pub(super) fn driver_port(lane: &mut dyn Lane) -> Option<&mut DriverPort<Driver>> {
    let any = lane.as_any();
    if any.is::<DriverSender<Driver>>() {
        return any.downcast_mut::<DriverSender<Driver>>().map(|lane| &mut lane.port);
    }
    any.downcast_mut::<DriverReceiver<Driver>>().map(|lane| &mut lane.port)
}

pub(super) fn device_port(lane: &mut dyn Lane, which: usize) -> Option<&mut Option<DevicePort<Device>>> {
    let any = lane.as_any();
    if any.is::<DeviceSender<Device>>() {
        return any.downcast_mut::<DeviceSender<Device>>().map(|lane| &mut lane.port);
    }
    if any.is::<DeviceReceiver<Device>>() {
        return any.downcast_mut::<DeviceReceiver<Device>>().map(|lane| &mut lane.port);
    }
    any.downcast_mut::<Forward<Device>>()
        .map(|lane| if which == 0 { &mut lane.from } else { &mut lane.to })
}

fn settle(lane: &mut dyn Lane) -> Result<(), Trouble> {
    let any = lane.as_any();
    if let Some(lane) = any.downcast_mut::<DriverSender<Driver>>() {
        return lane.settle();
    }
    match any.downcast_mut::<DriverReceiver<Driver>>() {
        Some(lane) => lane.settle(),
        None => Ok(()),
    }
}

/// What a driver finds wrong with its ring, frames aside.
fn ring_trouble(lane: &mut dyn Lane) -> Option<Trouble> {
    let slots = driver_port(lane)?.ring.size();
    for _ in 0..=slots {
        match settle(lane) {
            Ok(()) => return None,
            // what is behind this one has not been looked at
            Err(Trouble::Frame(_)) => {}
            Err(trouble) => return Some(trouble),
        }
    }
    None
}

fn stop_source(lane: &mut dyn Lane) {
    let any = lane.as_any();
    if let Some(lane) = any.downcast_mut::<DriverSender<Driver>>() {
        lane.stop();
    } else if let Some(lane) = any.downcast_mut::<DeviceSender<Device>>() {
        lane.stop();
    }
}

fn send_more(lane: &mut dyn Lane) {
    let any = lane.as_any();
    if let Some(lane) = any.downcast_mut::<DriverSender<Driver>>() {
        lane.send_more(1);
    } else if let Some(lane) = any.downcast_mut::<DeviceSender<Device>>() {
        lane.send_more(1);
    }
}
