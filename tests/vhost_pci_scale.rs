//! One vhost-pci server and a thousand masters over real sockets: connected, set up, sending, and disconnected in an order
//! that a seed decides. Nothing of one gets to another, and nothing of any is left. A test of its own, since it counts the
//! descriptors and mappings of the whole process.

#![expect(clippy::unwrap_used, reason = "a test may end with a panic")]

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use vhost_user_harness::link::{Chunk, Incoming, Stream};
use vhost_user_harness::peer::sim::Output;
use vhost_user_harness::peer::sim::front::{FrontConfig, Goal, MasterConfig, Serving, SimFront};
use vhost_user_harness::peer::sim::pci::{
    Command, Faults, Generation, Grouping, NET, PciServer, Profile, ServerConfig,
};
use vhost_user_harness::sys::fd::{drain_event, open_fds, signal_event};
use vhost_user_harness::sys::limits::raise_open_files;
use vhost_user_harness::wire::{Channel, DecodeContext, Dialect, Message};

const DIALECT: Dialect = Dialect::VhostPci;
const MASTERS: usize = 1_000;
/// Frames each way of each master.
const FRAMES: u64 = 4;
/// Descriptors of a master and of what the server has for it, with some to spare.
const FDS_EACH: usize = 18;
/// Looks at the two ends of a connection before it is said that nothing moves any more.
const PUMPS_MAX: usize = 10_000;

/// Numbers of a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// How far a master has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Absent,
    Connected,
    Negotiated,
    Memory,
    Started,
    Running,
    Sent,
    Received,
}

struct Master {
    front: SimFront,
    stream: Option<Stream>,
    stage: Stage,
}

struct Bench {
    listener: UnixListener,
    path: std::path::PathBuf,
    server: PciServer,
    /// The server's end of each connection, by the connection's number.
    accepted: Vec<Option<Stream>>,
    masters: Vec<Master>,
    messages: u64,
}

fn server_config() -> ServerConfig {
    ServerConfig {
        dialect: DIALECT,
        generation: Generation::G1,
        profile: Profile::Strict,
        servers: vec!["a".to_owned()],
        clients: MASTERS,
        sharing: true,
        grouping: Grouping::Uuid,
        device_first: false,
        queues: 2,
        faults: Faults::default(),
    }
}

fn front(at: usize) -> SimFront {
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&(at as u64 + 1).to_ne_bytes());
    SimFront::new(FrontConfig {
        dialect: DIALECT,
        queues: 2,
        ring_size: 16,
        features: 1 << 32 | 1 << 30,
        protocol_features: 0x39,
        memory_size: 0x2_0000,
        regions: 1,
        one_file: false,
        huge_pages: false,
        kick_on_start: true,
        manual: Vec::new(),
        master: Some(MasterConfig {
            uuid,
            virtio_id: NET,
            part: (0, 1),
            faults: Faults::default(),
        }),
        answers: Vec::new(),
        serving: Serving::default(),
        config_bytes: 0,
        keeps_inflight: false,
    })
    .unwrap()
}

/// A frame that says whose it is.
fn frame(master: usize, seq: u64) -> Vec<u8> {
    let mut frame = vec![0x5a; 64 + master % 64];
    frame[14..22].copy_from_slice(&(master as u64).to_ne_bytes());
    frame[22..30].copy_from_slice(&seq.to_ne_bytes());
    frame
}

impl Bench {
    fn new(path: std::path::PathBuf, masters: usize) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let master = |at| Master {
            front: front(at),
            stream: None,
            stage: Stage::Absent,
        };
        Self {
            listener,
            path,
            server: PciServer::new(server_config()),
            accepted: (0..masters).map(|_| None).collect(),
            masters: (0..masters).map(master).collect(),
            messages: 0,
        }
    }

    /// One step of one master.
    fn step(&mut self, at: usize) {
        let next = match self.masters[at].stage {
            Stage::Absent => {
                let socket = UnixStream::connect(&self.path).unwrap();
                let (accepted, _) = self.listener.accept().unwrap();
                self.masters[at].stream = Some(Stream::new(OwnedFd::from(socket), DIALECT).unwrap());
                self.masters[at].front.connected();
                // the number of the connection has nothing to do with the id that the server gives
                self.accepted[at] = Some(Stream::new(OwnedFd::from(accepted), DIALECT).unwrap());
                self.server.accept(at, "a").unwrap();
                Stage::Connected
            }
            Stage::Connected => self.set_up(at, Goal::Negotiated, Stage::Negotiated),
            Stage::Negotiated => self.set_up(at, Goal::Memory, Stage::Memory),
            Stage::Memory => self.set_up(at, Goal::Started, Stage::Started),
            Stage::Started => self.set_up(at, Goal::Running, Stage::Running),
            Stage::Running => {
                for seq in 0..FRAMES {
                    self.masters[at].front.transmit(0, &frame(at, seq)).unwrap();
                }
                self.pump(at);
                let arrived = self.server.back(at).unwrap().take_frames();
                let arrived: Vec<Vec<u8>> = arrived.into_iter().map(|frame| frame.bytes).collect();
                let sent: Vec<Vec<u8>> = (0..FRAMES).map(|seq| frame(at, seq)).collect();
                assert!(arrived == sent, "master {at}: its frames are not those that it sent");
                Stage::Sent
            }
            Stage::Sent => {
                self.masters[at].front.post_receive(0, FRAMES as u16).unwrap();
                self.pump(at);
                for seq in 0..FRAMES {
                    self.server
                        .back(at)
                        .unwrap()
                        .inject(0, frame(at, FRAMES + seq))
                        .unwrap();
                }
                self.pump(at);
                for seq in 0..FRAMES {
                    let arrived = self.masters[at].front.take_frame(0);
                    assert!(
                        arrived == Some(frame(at, FRAMES + seq)),
                        "master {at}: another frame came back"
                    );
                }
                Stage::Received
            }
            Stage::Received => {
                self.masters[at].stream = None;
                self.pump(at);
                assert!(
                    self.accepted[at].is_none(),
                    "master {at}: the server has not seen its end"
                );
                Stage::Absent
            }
        };
        self.masters[at].stage = next;
    }

    fn set_up(&mut self, at: usize, goal: Goal, reached: Stage) -> Stage {
        self.masters[at].front.setup(goal);
        self.pump(at);
        let front = &mut self.masters[at].front;
        assert!(!front.is_busy(), "master {at} waits for {:?}", front.waits_for());
        if let Some(error) = front.take_failure() {
            panic!("master {at}: {error}");
        }
        reached
    }

    /// Moves what there is to move on one connection, until nothing is.
    fn pump(&mut self, at: usize) {
        for _ in 0..PUMPS_MAX {
            let moved = [
                self.master_speaks(at),
                self.server_hears(at),
                self.server_speaks(),
                self.master_hears(at),
            ];
            if moved == [false; 4] {
                return;
            }
        }
        panic!("connection {at} does not come to rest");
    }

    fn master_speaks(&mut self, at: usize) -> bool {
        let Master { front, stream, .. } = &mut self.masters[at];
        let mut moved = false;
        while let Some(output) = front.next_output() {
            moved = true;
            send(output, stream.as_mut());
        }
        moved
    }

    fn server_hears(&mut self, at: usize) -> bool {
        let Some(stream) = &mut self.accepted[at] else {
            return false;
        };
        let mut moved = false;
        for incoming in stream.read() {
            moved = true;
            match incoming {
                Incoming::Frame(frame) => {
                    self.messages += 1;
                    let message = decode(&frame);
                    self.server.message(at, message, frame.chunk.fds);
                }
                Incoming::Closed { .. } => {
                    self.server.closed(at);
                    self.accepted[at] = None;
                    return true;
                }
                other => panic!("connection {at}: {other:?}"),
            }
        }
        let readable = |(ring, fd): (u16, _)| matches!(drain_event(fd), Ok(Some(_))).then_some(ring);
        let kicked: Vec<u16> = self.server.watches_of(at).filter_map(readable).collect();
        for ring in kicked {
            moved = true;
            self.server.kicked(at, ring);
        }
        moved
    }

    fn server_speaks(&mut self) -> bool {
        let mut moved = false;
        while let Some((conn, output)) = self.server.next_output() {
            moved = true;
            let Some(conn) = conn else { continue };
            if let Output::Later { token, .. } = output {
                self.server.timer(token);
                continue;
            }
            send(output, self.accepted[conn].as_mut());
        }
        moved
    }

    fn master_hears(&mut self, at: usize) -> bool {
        let Master { front, stream, .. } = &mut self.masters[at];
        let Some(stream) = stream else { return false };
        let mut moved = false;
        for incoming in stream.read() {
            moved = true;
            match incoming {
                Incoming::Frame(frame) => {
                    self.messages += 1;
                    let message = decode(&frame);
                    assert!(
                        message.conn_id == front.conn_id() || front.conn_id() == Dialect::ANONYMOUS,
                        "master {at}: {message}"
                    );
                    front.message(&message, frame.chunk.fds);
                }
                other => panic!("master {at}: {other:?}"),
            }
        }
        let called: Vec<u16> = front
            .watches()
            .filter_map(|(ring, fd)| matches!(drain_event(fd), Ok(Some(_))).then_some(ring))
            .collect();
        for ring in called {
            moved = true;
            front.called(ring).unwrap();
        }
        moved
    }
}

fn decode(frame: &vhost_user_harness::link::Frame) -> Message {
    let payload = frame.payload(DIALECT);
    Message::decode(DIALECT, Channel::Main, DecodeContext::default(), &frame.header, payload)
}

/// Carries out what a peer wants done on its socket.
fn send(output: Output, stream: Option<&mut Stream>) {
    match output {
        Output::Send(outgoing) => {
            let Some(stream) = stream else { return };
            let bytes = outgoing.message.encode(DIALECT);
            stream.queue(Chunk::new(bytes, outgoing.fds), &[]);
            stream.flush().unwrap();
            assert!(stream.is_flushed());
        }
        Output::Kick { fd, .. } | Output::Call { fd, .. } => signal_event(fd.as_fd()).unwrap(),
        Output::Device(_) | Output::Data(_) | Output::Later { .. } => {}
        other => panic!("{other:?}"),
    }
}

/// Mappings of memory files in this process.
fn mapped_files() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains("memfd:")).count()
}

fn children() -> usize {
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    children.split_whitespace().count()
}

/// Broken: with many masters on one socket something of one gets to another, or something of one that is gone stays.
#[test]
fn a_thousand_masters_come_and_go_in_any_order() {
    raise_open_files();
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .unwrap()
        .0;
    let masters = MASTERS.min((limit as usize).saturating_sub(200) / FDS_EACH);
    assert!(masters >= 50, "only {limit} open files are allowed");
    let folder = tempfile::tempdir().unwrap();
    for seed in [0x9e37_79b9_7f4a_7c15, 0x2545_f491_4f6c_dd1d] {
        let before = (open_fds().unwrap(), mapped_files(), children());
        let start = Instant::now();
        let path = folder.path().join(format!("{seed:x}.sock"));
        let mut bench = Bench::new(path, masters);
        let mut random = Random(seed);
        // all of them, each as far as it gets, until every one is there with all that it has to say
        let mut left: Vec<usize> = (0..masters).collect();
        let mut ids = BTreeSet::new();
        while !left.is_empty() {
            let place = random.below(left.len());
            let at = left[place];
            bench.step(at);
            if bench.masters[at].stage == Stage::Received {
                ids.insert(bench.masters[at].front.conn_id());
                left.swap_remove(place);
            }
        }
        assert_eq!(ids, (0..masters as u64).collect(), "ids are given twice");
        assert_eq!(bench.server.holds(), [masters, masters, masters, 4 * masters]);
        let at_most = (open_fds().unwrap(), mapped_files());
        // and away with them; a few come back meanwhile
        let mut left: Vec<usize> = (0..masters).collect();
        let mut returns = masters / 10;
        while !left.is_empty() {
            let place = random.below(left.len());
            let at = left[place];
            bench.step(at);
            if bench.masters[at].stage == Stage::Absent {
                match returns > 0 && random.below(4) == 0 {
                    true => returns -= 1,
                    false => drop(left.swap_remove(place)),
                }
            }
        }
        assert_eq!(bench.server.holds(), [0; 4]);
        bench.server.command(&Command::Quit).unwrap();
        let messages = bench.messages;
        drop(bench);
        let after = (open_fds().unwrap(), mapped_files(), children());
        assert_eq!(after, before, "descriptors, mappings, processes");
        println!(
            "{masters} masters, seed {seed:#x}: {messages} messages, {} ms; at most {} descriptors, {} mappings",
            start.elapsed().as_millis(),
            at_most.0,
            at_most.1
        );
    }
}
