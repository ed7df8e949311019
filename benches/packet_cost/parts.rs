//! The ways of a packet, and the parts of each: functions of their own that are never inlined, so that callgrind can tell what
//! belongs to which. What stands between them, as the loop over bursts, is nobody's and not counted.

use vhost_user_harness::memory::{GuestMemory, MemoryOptions, Reach, RegionLayout};
use vhost_user_harness::ring::Buffer;
use vhost_user_harness::ring::burst::{
    Chains, Device, DeviceRing, Done, Driver, DriverRing, Layout, PackedDevice, PackedDriver, RingOptions, SplitDevice,
    SplitDriver,
};
use vhost_user_harness::traffic::lane::{DeviceReceiver, DeviceSender, DriverReceiver, DriverSender, Lane, Pace};
use vhost_user_harness::traffic::rig::{Machine, RingKind, Way as To};
use vhost_user_harness::traffic::sink::Sink;
use vhost_user_harness::traffic::sizes::Sizes;
use vhost_user_harness::traffic::source::Source;

const RING: u16 = 256;
const BURST: usize = 32;
const HEADER: usize = 12;
const BUFFERS: u64 = 0x1_0000;
/// As lanes place them: so that a frame begins a cache line.
const FIRST: u64 = BUFFERS + 64 - HEADER as u64;
const STRIDE: u64 = 0x1000;
const STREAM: u16 = 1;

/// One way of a packet.
pub(super) struct Way {
    what: What,
    packed: bool,
    bytes: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    /// A driver sends and a device verifies, each step of a burst by itself.
    Parts,
    /// The same as lanes of deliveries do it.
    ToDevice,
    /// A device sends and a driver verifies.
    ToDriver,
}

pub(super) fn all() -> Vec<Way> {
    let mut ways = Vec::new();
    for bytes in [64, 1518] {
        for packed in [false, true] {
            for what in [What::Parts, What::ToDevice, What::ToDriver] {
                ways.push(Way { what, packed, bytes });
            }
        }
    }
    ways
}

impl Way {
    pub(super) fn name(&self) -> String {
        let what = match self.what {
            What::Parts => "parts",
            What::ToDevice => "to-device",
            What::ToDriver => "to-driver",
        };
        self.called(what)
    }

    /// The rows that are counted of it: name, and how the functions begin that belong to it.
    pub(super) fn rows(&self) -> Vec<(String, &'static str)> {
        let rows: &[(&str, &str)] = match self.what {
            What::Parts => &[
                ("source", "source_"),
                ("driver", "driver_"),
                ("device", "device_"),
                ("sink", "sink_"),
            ],
            What::ToDevice => &[("lane driver sends", "lane_sends"), ("lane device takes", "lane_takes")],
            What::ToDriver => &[("lane device sends", "lane_sends"), ("lane driver takes", "lane_takes")],
        };
        rows.iter().map(|(row, mark)| (self.called(row), *mark)).collect()
    }

    fn called(&self, what: &str) -> String {
        let ring = if self.packed { "packed" } else { "split" };
        format!("{ring}/{what}/{}", self.bytes)
    }

    pub(super) fn run(&self, packets: u64) {
        match self.what {
            What::Parts if self.packed => self.packed(packets),
            What::Parts => self.split(packets),
            What::ToDevice | What::ToDriver => self.lanes(packets),
        }
    }

    fn source(&self) -> Source {
        Source::new(STREAM, self.sizes())
    }

    fn sizes(&self) -> Sizes {
        Sizes::fixed(self.bytes as u64).expect("a size")
    }

    fn memory(&self) -> (GuestMemory, Reach) {
        let region = RegionLayout {
            guest_address: 0,
            size: BUFFERS + STRIDE * (u64::from(RING) + 1),
        };
        let memory = GuestMemory::new(&[region], MemoryOptions::default()).expect("memory");
        let reach = memory.reach();
        (memory, reach)
    }

    fn split(&self, packets: u64) {
        let (_memory, reach) = self.memory();
        let Ok((Layout::Split(layout), _)) = Layout::pack_at(0, RING, false) else {
            unreachable!("it was asked for");
        };
        let mut driver = SplitDriver::new(layout, 0, &reach, RingOptions::default()).expect("a ring");
        driver.init();
        let mut device = SplitDevice::start(layout, 0, &reach, RingOptions::default()).expect("a ring");
        self.round(&mut driver, &mut device, &reach, packets);
    }

    fn packed(&self, packets: u64) {
        let (_memory, reach) = self.memory();
        let Ok((Layout::Packed(layout), _)) = Layout::pack_at(0, RING, true) else {
            unreachable!("it was asked for");
        };
        let mut driver = PackedDriver::new(layout, 0x8000, &reach, RingOptions::default()).expect("a ring");
        driver.init();
        let mut device = PackedDevice::start(layout, 0x8000, &reach, RingOptions::default()).expect("a ring");
        self.round(&mut driver, &mut device, &reach, packets);
    }

    fn round<D: DriverRing, E: DeviceRing>(&self, driver: &mut D, device: &mut E, reach: &Reach, packets: u64) {
        let mut frames = Frames {
            source: self.source(),
            sink: Sink::new(&[STREAM]),
            scratch: vec![0; HEADER + self.bytes],
        };
        let mut chains = Chains::new();
        let mut done = [Done::default(); BURST];
        let (mut sent, mut first) = (0, 0);
        while sent < packets {
            let burst = Burst {
                first,
                count: (BURST as u64).min(packets - sent) as u32,
                bytes: (HEADER + self.bytes) as u32,
            };
            source_makes(&mut frames, reach, burst);
            driver_sends(driver, burst);
            let taken = device_takes(device, reach, &mut chains);
            assert_eq!(taken, burst.count as usize);
            sink_verifies(&mut frames, &chains);
            device_returns(device, &chains);
            assert_eq!(driver_takes_back(driver, &mut done), burst.count as usize);
            first = (first + burst.count) % u32::from(RING);
            sent += u64::from(burst.count);
        }
        assert_eq!(frames.sink.frames(), packets);
        assert!(frames.sink.tally(&[(STREAM, packets)]).is_clean());
    }

    fn lanes(&self, packets: u64) {
        let kind = RingKind {
            size: RING,
            packed: self.packed,
            options: RingOptions::default(),
        };
        let machine = Machine::new(kind, self.bytes, false).expect("memory");
        let (source, sink) = (self.source(), Sink::new(&[STREAM]));
        let pace = Pace::new(Some(packets), None);
        let (mut from, mut to): (Box<dyn Lane>, Box<dyn Lane>) = if self.what == What::ToDevice {
            let driver = machine.driver(To::Transmit).expect("a ring");
            let device = machine.device(To::Transmit).expect("a ring");
            (
                Box::new(DriverSender::<Driver>::new(driver, source, pace, BURST)),
                Box::new(DeviceReceiver::<Device>::new(Some(device), sink, BURST)),
            )
        } else {
            let driver = machine.driver(To::Receive).expect("a ring");
            let device = machine.device(To::Receive).expect("a ring");
            (
                Box::new(DeviceSender::<Device>::new(Some(device), source, pace, BURST)),
                Box::new(DriverReceiver::<Driver>::new(driver, sink, BURST)),
            )
        };
        // both sides look for themselves, and signal nobody
        from.refuse_signals();
        to.refuse_signals();
        while to.progress().received < packets {
            lane_sends(from.as_mut());
            lane_takes(to.as_mut());
        }
        let tally = to.sink().expect("frames end here").tally(&[(STREAM, packets)]);
        assert!(tally.is_clean(), "{tally:?}");
    }
}

/// The next packets: buffer of the first, how many, bytes of each.
#[derive(Clone, Copy)]
struct Burst {
    first: u32,
    count: u32,
    bytes: u32,
}

impl Burst {
    fn buffers(self) -> impl Iterator<Item = (u32, u64)> {
        (0..self.count).map(move |at| {
            let token = (self.first + at) % u32::from(RING);
            (token, FIRST + STRIDE * u64::from(token))
        })
    }
}

/// Where frames begin and end.
struct Frames {
    source: Source,
    sink: Sink,
    scratch: Vec<u8>,
}

/// Frames are made into the buffers that will be sent.
#[inline(never)]
fn source_makes(frames: &mut Frames, reach: &Reach, burst: Burst) {
    for (_, address) in burst.buffers() {
        let place = reach.place(address, burst.bytes).expect("in memory");
        frames.source.fill_place(place, HEADER, 0, &mut frames.scratch);
    }
}

/// Buffers are put into the ring.
#[inline(never)]
fn driver_sends<D: DriverRing>(driver: &mut D, burst: Burst) {
    let buffer = |(token, address)| (token, Buffer::readable(address, burst.bytes));
    driver.add_each(&mut burst.buffers().map(buffer)).expect("free");
    driver.publish();
    std::hint::black_box(driver.needs_kick());
}

/// Buffers that have come back are free again.
#[inline(never)]
fn driver_takes_back<D: DriverRing>(driver: &mut D, done: &mut [Done]) -> usize {
    driver.reap(done).expect("a device of ours")
}

/// Buffers are taken from the ring.
#[inline(never)]
fn device_takes<'m, E: DeviceRing>(device: &mut E, reach: &'m Reach, chains: &mut Chains<'m>) -> usize {
    device.take(reach, chains, BURST).expect("a driver of ours")
}

/// Frames are read from the buffers that were taken, and verified.
#[inline(never)]
fn sink_verifies(frames: &mut Frames, chains: &Chains<'_>) {
    for chain in chains.iter() {
        for place in chain.readable {
            frames.sink.take_place(*place, HEADER, 0, &mut frames.scratch);
        }
    }
}

/// Buffers are returned.
#[inline(never)]
fn device_returns<E: DeviceRing>(device: &mut E, chains: &Chains<'_>) {
    for chain in chains.iter() {
        device.give(chain.ticket, 0);
    }
    device.flush();
    std::hint::black_box(device.needs_call());
}

#[inline(never)]
fn lane_sends(lane: &mut dyn Lane) {
    lane.step(0).expect("all is well");
}

#[inline(never)]
fn lane_takes(lane: &mut dyn Lane) {
    lane.step(0).expect("all is well");
}
