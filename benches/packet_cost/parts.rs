//! The parts of a packet's way, each of which can be run alone.
//!
//! A ring needs both sides to go round, so a part is played with the rest of the way as cheap as it can be, and the cost of
//! that rest (`ring only`) stands in the list as well.

use vhost_user_harness::memory::{GuestMemory, MemoryOptions, Reach, RegionLayout};
use vhost_user_harness::ring::Buffer;
use vhost_user_harness::ring::burst::{
    Chains, DeviceRing, Done, DriverRing, Layout, PackedDevice, PackedDriver, RingOptions, SplitDevice, SplitDriver,
};
use vhost_user_harness::traffic::sink::Sink;
use vhost_user_harness::traffic::sizes::Sizes;
use vhost_user_harness::traffic::source::Source;

const RING: u16 = 256;
const BURST: usize = 32;
const HEADER: usize = 12;
const BUFFERS: u64 = 0x1_0000;

pub(super) struct Part {
    pub(super) name: String,
    packed: bool,
    bytes: usize,
    what: What,
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    /// Frames are made and thrown away.
    Source,
    /// The same frames are made and verified.
    SourceAndSink,
    /// Empty buffers go round.
    Ring,
    /// Frames are made into buffers that the driver sends.
    Driver,
    /// All of the way: made, sent, taken, verified, returned.
    All,
}

pub(super) fn all() -> Vec<Part> {
    let mut parts = Vec::new();
    for bytes in [64, 1518] {
        for (word, what) in [("source", What::Source), ("source+sink", What::SourceAndSink)] {
            let name = format!("{word}/{bytes}");
            parts.push(Part {
                name,
                packed: false,
                bytes,
                what,
            });
        }
        for packed in [false, true] {
            let ring = if packed { "packed" } else { "split" };
            for (word, what) in [("ring", What::Ring), ("source+ring", What::Driver), ("all", What::All)] {
                let name = format!("{ring}/{word}/{bytes}");
                parts.push(Part {
                    name,
                    packed,
                    bytes,
                    what,
                });
            }
        }
    }
    parts
}

impl Part {
    pub(super) fn run(&self, packets: u64) {
        match self.what {
            What::Source | What::SourceAndSink => self.frames(packets),
            _ if self.packed => self.packed(packets),
            _ => self.split(packets),
        }
    }

    fn source(&self) -> Source {
        Source::new(0, Sizes::fixed(self.bytes as u64).expect("a size"))
    }

    fn frames(&self, packets: u64) {
        let (mut source, mut sink) = (self.source(), Sink::new(&[0]));
        let mut frame = vec![0; self.bytes];
        for _ in 0..packets {
            source.fill(&mut frame, 0);
            std::hint::black_box(&mut frame);
            if self.what == What::SourceAndSink {
                sink.take(&frame, 0);
            }
        }
        assert_eq!(source.made(), packets);
        assert!(sink.tally(&[]).is_clean());
    }

    fn memory(&self) -> (GuestMemory, Reach) {
        let region = RegionLayout {
            guest_address: 0,
            size: BUFFERS + 0x1000 * u64::from(RING),
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
        let (mut source, mut sink) = (self.source(), Sink::new(&[0]));
        let mut scratch = vec![0; HEADER + self.bytes];
        let mut chains = Chains::new();
        let mut done = [Done::default(); BURST];
        let (mut sent, mut token) = (0, 0u32);
        while sent < packets {
            let count = (BURST as u64).min(packets - sent);
            for _ in 0..count {
                let address = BUFFERS + 0x1000 * u64::from(token);
                if self.what != What::Ring {
                    let place = reach.place(address, scratch.len() as u32).expect("in memory");
                    source.fill_place(place, HEADER, 0, &mut scratch);
                }
                driver
                    .add(token, Buffer::readable(address, scratch.len() as u32))
                    .expect("free");
                token = (token + 1) % u32::from(RING);
            }
            driver.publish();
            sent += count;
            let taken = device.take(reach, &mut chains, BURST).expect("a driver of ours");
            assert_eq!(taken as u64, count);
            for chain in chains.iter() {
                if self.what == What::All {
                    sink.take_place(chain.readable[0], HEADER, 0, &mut scratch);
                }
                device.give(chain.ticket, 0);
            }
            device.flush();
            assert_eq!(driver.reap(&mut done).expect("a device of ours") as u64, count);
        }
        assert!(sink.tally(&[]).is_clean());
    }
}
