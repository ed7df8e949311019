//! How rare the lost kicks are that the scenarios `race/lost-kick-*` force: `cargo bench --bench lost_kick [-- ROUNDS]`.
//! A stress loop of the same messages, nothing held, against each release of `vhost-user-backend` in `harness/known-bad/`:
//! kick, SET_VRING_ENABLE(0), SET_VRING_ENABLE(1), and was the request served? Then the scenario, a hundred times. Prints
//! both figures; asserts nothing.

use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use vhost_user_harness::engine::{self, Environment};
use vhost_user_harness::judge::verdict::Verdict;
use vhost_user_harness::link::{Chunk, Incoming, Stream};
use vhost_user_harness::peer::catalogue::{Catalogue, Entry, Role};
use vhost_user_harness::peer::device::blk::BlkOp;
use vhost_user_harness::peer::sim::Output;
use vhost_user_harness::peer::sim::front::{FrontConfig, Goal, Serving, SimFront};
use vhost_user_harness::scenario::{Plan, Settings, load_file};
use vhost_user_harness::sys::fd::signal_event;
use vhost_user_harness::sys::poll::{Interest, wait};
use vhost_user_harness::sys::socket;
use vhost_user_harness::sys::threads::all_asleep;
use vhost_user_harness::wire::{Channel, DecodeContext, Dialect, Message, ProtocolFeature};

const ROUNDS: u32 = 30_000;
const FORCED: u32 = 100;
/// Looks into the ring before the threads of the process are looked at, which takes much longer.
const QUICK_LOOKS: u32 = 200;
const SCENARIO: &str = "scenarios/race/lost-kick-across-disable.yaml";
const PEERS: [&str; 4] = ["vub-0.21", "vub-0.22", "vub-0.23", "vub-0.24"];
/// VIRTIO_F_VERSION_1 and VHOST_USER_F_PROTOCOL_FEATURES.
const FEATURES: u64 = 1 << 32 | 1 << 30;

fn main() {
    let rounds = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(ROUNDS);
    let vuh = std::env::current_exe().expect("a running program has a path");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(SCENARIO);
    let plan = load_file(&path, &Settings::default())
        .expect("the scenario is valid")
        .remove(0);
    for peer in PEERS {
        let catalogue = Catalogue::load(None, vuh.clone()).expect("the built-in catalogue is valid");
        let entry = catalogue.find(peer, Role::Backend).expect("a built-in entry").clone();
        if let Err(reason) = catalogue.probe(&entry) {
            println!("{peer}: not run: {reason}");
            continue;
        }
        let start = Instant::now();
        let stressed = Stress::new(&catalogue, &entry).run(rounds);
        let stress_s = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let forced = forced(&plan, catalogue, peer);
        let forced_s = start.elapsed().as_secs_f64();
        println!(
            "{peer}  stress: {stressed:>5} lost of {rounds} in {stress_s:.1} s   forced: {forced:>3} lost of {FORCED} in {forced_s:.1} s"
        );
    }
}

fn forced(plan: &Plan, catalogue: Catalogue, peer: &str) -> u32 {
    let environment = Environment {
        catalogue,
        frontend: None,
        backend: Some(peer.to_owned()),
        timeout_ms: None,
        keep: None,
        required: Vec::new(),
        rerun: String::new(),
    };
    let mut lost = 0;
    for _ in 0..FORCED {
        match engine::run(plan, &environment).verdict {
            Verdict::Pass => {}
            Verdict::Fail(_) => lost += 1,
            other => panic!("{peer}: {other}"),
        }
    }
    lost
}

/// A block front-end without a script, its back-end's process, and the socket between them.
struct Stress {
    front: SimFront,
    stream: Stream,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Stress {
    fn new(catalogue: &Catalogue, entry: &Entry) -> Self {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let path = directory.path().join("s");
        let mut command = Command::new(catalogue.program(entry));
        command.arg("--socket").arg(&path).stdin(Stdio::null());
        let child = command.spawn().expect("the program is there");
        let socket = loop {
            if let Some(socket) = socket::connect(&path).expect("a socket") {
                break socket;
            }
            std::thread::yield_now();
        };
        let front = SimFront::new(FrontConfig {
            dialect: Dialect::VhostUser,
            master: None,
            queues: 1,
            ring_size: 16,
            features: FEATURES,
            protocol_features: ProtocolFeature::ReplyAck.mask(),
            memory_size: 1 << 20,
            regions: 1,
            one_file: false,
            huge_pages: false,
            kick_on_start: false,
            manual: Vec::new(),
            answers: Vec::new(),
            serving: Serving::default(),
            config_bytes: 60,
            keeps_inflight: false,
        });
        let mut stress = Self {
            front: front.expect("the rings fit"),
            stream: Stream::new(socket, Dialect::VhostUser).expect("a socket"),
            child,
            _directory: directory,
        };
        stress.front.connected();
        stress.front.setup(Goal::Running);
        stress.settle();
        stress
    }

    fn run(mut self, rounds: u32) -> u32 {
        (0..rounds).map(|_| u32::from(self.is_lost())).sum()
    }

    /// One request whose kick crosses a disable. If it is lost, another kick gets it served.
    fn is_lost(&mut self) -> bool {
        let write = BlkOp::Write(vec![0; 512]);
        let request = self
            .front
            .submit_blk(0, &write, 0, true)
            .expect("there is room in the ring");
        self.front.enable_ring(0, false).expect("there is a ring 0");
        self.settle();
        self.front.enable_ring(0, true).expect("there is a ring 0");
        self.settle();
        let lost = !self.is_served(request);
        if lost {
            self.front.kick(0).expect("ring 0 is started");
            self.settle();
            assert!(
                self.is_served(request),
                "a second kick is lost where nothing crosses it"
            );
        }
        lost
    }

    /// Whether a request is served before every thread of the back-end sleeps.
    fn is_served(&mut self, request: u64) -> bool {
        let mut looks = 0;
        loop {
            // in this order: whatever is done before all sleep is seen
            looks += 1;
            let asleep = looks > QUICK_LOOKS && all_asleep(self.child.id() as i32, &[]).expect("a process of ours");
            self.front.called(0).expect("the ring is in order");
            if self.front.take_blk(request).is_some() {
                return true;
            }
            if asleep {
                return false;
            }
        }
    }

    /// Sends what is to be sent and waits for the acknowledgements.
    fn settle(&mut self) {
        loop {
            while let Some(output) = self.front.next_output() {
                match output {
                    Output::Send(out) => {
                        let bytes = out.message.encode(Dialect::VhostUser);
                        self.stream.queue(Chunk::new(bytes, out.fds), &[]);
                    }
                    Output::Kick { fd, .. } => signal_event(fd.as_fd()).expect("an eventfd of ours"),
                    other => panic!("{other:?}"),
                }
            }
            self.stream.flush().expect("the back-end is there");
            if !self.front.is_busy() {
                return;
            }
            let interest = Interest {
                fd: self.stream.as_fd(),
                read: true,
                write: self.stream.wants_write(),
                token: (),
            };
            wait(&[interest], None).expect("poll");
            for incoming in self.stream.read() {
                let Incoming::Frame(frame) = incoming else {
                    panic!("{incoming:?}");
                };
                let context = DecodeContext::default();
                let message = Message::decode(
                    Dialect::VhostUser,
                    Channel::Main,
                    context,
                    &frame.header,
                    frame.payload(Dialect::VhostUser),
                );
                self.front.message(&message, Vec::new());
                assert!(self.front.take_failure().is_none(), "{message}");
            }
        }
    }
}

impl Drop for Stress {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
