//! The simulated back-end as a process of its own: the state machine that scenarios use, and a loop that carries what it says over a
//! real socket and real eventfds. It is there to be killed in earnest. The hidden verb `vuh simulated-peer` runs it.
//!
//! A disk is kept in a file. A net device is a switch that returns every frame, with the lanes that deliveries move frames with.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::device::blk::{Blk, BlkOptions};
use super::device::net::{Net, NetMode, NetOptions};
use super::device::{DeviceError, DeviceModel};
use super::sim::Output;
use super::sim::back::{BackConfig, F_EVENT_IDX, F_LOG_ALL, F_PROTOCOL_FEATURES, SimBack};
use super::sim::loan::BackLoan;
use crate::link::{Chunk, Incoming, Stream};
use crate::ring::burst::{Device, DeviceRing};
use crate::sys::clock::{Clock, Moment};
use crate::sys::fd::{drain_event, signal_event_now};
use crate::sys::inherited::inherited_fd;
use crate::sys::poll::{Interest, wait};
use crate::traffic::lane::{Forward, Lane, Trouble};
use crate::wire::features::{IN_ORDER, INDIRECT_DESC, RING_PACKED, VERSION_1};
use crate::wire::{Channel, DecodeContext, Dialect, Message, ProtocolFeature};

/// Bytes of a sector.
const SECTOR_BYTES: u64 = 512;
/// Frames moved at once.
const BURST: usize = 64;
/// Bursts before the socket gets its turn.
const TURNS_MAX: usize = 256;
/// As many as the simulated back-end has within the harness.
const MEMORY_SLOTS: u64 = 32;

/// The devices that it can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ApartDevice {
    /// virtio-net, every frame of which comes back on the receive ring of its pair.
    Net,
    /// virtio-blk.
    Blk,
}

/// The command line of `vuh simulated-peer`.
#[derive(Debug, Clone, Parser)]
#[command(name = "simulated-peer", about = "The simulated back-end, as a process of its own")]
pub struct ApartArgs {
    /// The device to serve.
    #[arg(long, value_enum)]
    pub device: ApartDevice,
    /// Rings it has.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub rings: u16,
    /// The disk's file, which is not empty.
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// An inherited socket that listens.
    #[arg(long, value_name = "N")]
    pub fd: RawFd,
}

/// Why it ends before its connection does.
#[derive(Debug, thiserror::Error)]
pub enum ApartError {
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The device cannot be made.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A disk without a file would not outlive it.
    #[error("--device blk needs --image")]
    NoImage,
    /// A ring cannot be served.
    #[error(transparent)]
    Lane(#[from] Trouble),
    /// What is sent is not vhost-user.
    #[error("not a message: {0}")]
    Malformed(String),
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> ApartError {
    move |source| ApartError::System { what, source }
}

/// Serves one connection, for a raw command line: 0, 1 and one line on stderr, or 2 for wrong use.
pub fn run(words: &[String]) -> ExitCode {
    let words = std::iter::once("simulated-peer").chain(words.iter().map(String::as_str));
    let args = match ApartArgs::try_parse_from(words) {
        Ok(args) => args,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            // nowhere is left to say that it cannot be printed
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simulated-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &ApartArgs) -> Result<(), ApartError> {
    let mut back = SimBack::new(config(args)?);
    let pairs = match args.device {
        ApartDevice::Net => args.rings / 2,
        ApartDevice::Blk => 0,
    };
    (0..2 * pairs).for_each(|ring| back.lend(ring));
    let listener = UnixListener::from(inherited_fd(args.fd).map_err(system("--fd"))?);
    listener.set_nonblocking(false).map_err(system("--fd"))?;
    let (socket, _) = listener.accept().map_err(system("accept"))?;
    back.connected();
    let stream = Stream::new(OwnedFd::from(socket), Dialect::VhostUser).map_err(system("socket"))?;
    Apart {
        back,
        stream,
        clock: Clock::start(),
        timers: Vec::new(),
        lanes: (0..pairs).map(|_| Forward::new(None, None, BURST)).collect(),
    }
    .run()
}

fn config(args: &ApartArgs) -> Result<BackConfig, ApartError> {
    use ProtocolFeature as F;
    let mut protocol = vec![
        F::Mq,
        F::LogShmfd,
        F::ReplyAck,
        F::InflightShmfd,
        F::ResetDevice,
        F::ConfigureMemSlots,
        F::Status,
    ];
    let device: Box<dyn DeviceModel + Send> = match args.device {
        ApartDevice::Net => Box::new(Net::new(NetOptions {
            pairs: args.rings / 2,
            mode: NetMode::Loopback,
            ..NetOptions::default()
        })?),
        ApartDevice::Blk => {
            protocol.push(F::Config);
            let path = args.image.as_ref().ok_or(ApartError::NoImage)?;
            let file = File::options().read(true).write(true).open(path);
            let file = file.map_err(system("--image"))?;
            let bytes = file.metadata().map_err(system("--image"))?.len();
            let options = BlkOptions {
                sectors: bytes / SECTOR_BYTES,
                queues: args.rings,
                ..BlkOptions::default()
            };
            Box::new(Blk::on_file(options, file)?)
        }
    };
    let common = VERSION_1 | F_PROTOCOL_FEATURES | F_EVENT_IDX | F_LOG_ALL | INDIRECT_DESC | RING_PACKED | IN_ORDER;
    Ok(BackConfig {
        queues: args.rings,
        features: device.features() | common,
        protocol_features: protocol.into_iter().map(F::mask).sum(),
        manual: Vec::new(),
        answers: Vec::new(),
        memory_slots: MEMORY_SLOTS,
        shared_memory: Vec::new(),
        reads_while_asking: false,
        inflight_fault: None,
        device,
    })
}

/// What is to be looked after.
#[derive(Debug, Clone, Copy)]
enum Ready {
    Socket,
    Kick(u16),
    /// A ring of this pair was kicked.
    Pair(usize),
}

/// A back-end, its connection, and its time.
struct Apart {
    back: SimBack,
    stream: Stream,
    clock: Clock,
    timers: Vec<(Moment, u64)>,
    /// Of a net device, one for each pair of rings.
    lanes: Vec<Forward<Device>>,
}

impl Apart {
    /// Until the front-end hangs up.
    fn run(mut self) -> Result<(), ApartError> {
        loop {
            self.carry();
            // a front-end that has gone is seen when it is read
            let _ = self.stream.flush();
            if !self.stream.is_open() {
                return Ok(());
            }
            let more = self.forward()?;
            for ready in self.wait(more)? {
                match ready {
                    Ready::Socket if !self.read()? => return Ok(()),
                    Ready::Socket => {}
                    Ready::Kick(ring) => self.kicked(ring)?,
                    Ready::Pair(pair) => self.pair_kicked(pair)?,
                }
            }
            self.tick();
        }
    }

    /// Carries what the state machine wants done.
    fn carry(&mut self) {
        while let Some(output) = self.back.next_output() {
            match output {
                Output::Send(said) => {
                    let bytes = said.message.encode(Dialect::VhostUser);
                    self.stream.queue(Chunk::new(bytes, said.fds), &[]);
                }
                // a descriptor that cannot be signalled is the front-end's loss
                Output::Call { fd, .. } | Output::Kick { fd, .. } => drop(signal_event_now(fd.as_fd())),
                Output::Later { token, ms } => self.timers.push((self.clock.now().plus_ms(ms), token)),
                Output::Fault(what) => eprintln!("simulated-peer: {what}"),
                Output::Close(_) | Output::Data(_) | Output::Device(_) => {}
            }
        }
    }

    /// Moves frames for a while. True if there is more to do.
    fn forward(&mut self) -> Result<bool, ApartError> {
        let mut more = false;
        for lane in &mut self.lanes {
            let mut turns = 0;
            while turns < TURNS_MAX && (lane.step(0)? > 0 || lane.ask_for_signals()) {
                turns += 1;
            }
            more |= turns == TURNS_MAX;
        }
        Ok(more)
    }

    /// Takes the rings of a net device home, so that a message can change them.
    fn bring_home(&mut self) {
        for (pair, lane) in (0u16..).zip(&mut self.lanes) {
            for (ring, port) in [(2 * pair, &mut lane.to), (2 * pair + 1, &mut lane.from)] {
                if let Some(port) = port.take() {
                    self.back.note_base(ring, port.ring.base());
                }
            }
        }
    }

    /// Lends them again, as they are now.
    fn lend(&mut self) {
        for (pair, lane) in (0u16..).zip(&mut self.lanes) {
            for (ring, port) in [(2 * pair, &mut lane.to), (2 * pair + 1, &mut lane.from)] {
                match self.back.loan(ring).map(BackLoan::into_port).transpose() {
                    Ok(lent) => *port = lent,
                    Err(error) => self.back.refuse_loan(ring, &error),
                }
            }
        }
    }

    fn pair_kicked(&mut self, pair: usize) -> Result<(), ApartError> {
        for fd in self.lanes[pair].wakes_on() {
            drain_event(fd).map_err(system("kick"))?;
        }
        Ok(())
    }

    fn wait(&self, more: bool) -> Result<Vec<Ready>, ApartError> {
        let next = self.timers.iter().map(|(at, _)| *at).min();
        let limit = match more {
            true => Some(Duration::ZERO),
            false => next.map(|at| self.clock.until(at)),
        };
        let mut interests = vec![Interest {
            fd: self.stream.as_fd(),
            read: true,
            write: self.stream.wants_write(),
            token: Ready::Socket,
        }];
        interests.extend(self.back.watches().map(|(ring, fd)| Interest {
            fd,
            read: true,
            write: false,
            token: Ready::Kick(ring),
        }));
        for (pair, lane) in self.lanes.iter().enumerate() {
            interests.extend(lane.wakes_on().into_iter().map(|fd| Interest {
                fd,
                read: true,
                write: false,
                token: Ready::Pair(pair),
            }));
        }
        wait(&interests, limit).map_err(system("poll"))
    }

    /// Takes what the front-end says. False if it says nothing more.
    fn read(&mut self) -> Result<bool, ApartError> {
        for incoming in self.stream.read() {
            match incoming {
                Incoming::Frame(frame) => {
                    let payload = frame.payload(Dialect::VhostUser);
                    let (channel, context) = (Channel::Main, DecodeContext::default());
                    let message = Message::decode(Dialect::VhostUser, channel, context, &frame.header, payload);
                    self.bring_home();
                    self.back.message(message, frame.chunk.fds);
                    self.lend();
                    self.carry();
                }
                Incoming::Malformed { why, .. } => return Err(ApartError::Malformed(why)),
                Incoming::Raw(_) => {}
                Incoming::Closed { .. } => return Ok(false),
            }
        }
        Ok(true)
    }

    fn kicked(&mut self, ring: u16) -> Result<(), ApartError> {
        // a message that came with it may have taken it away
        let Some((_, fd)) = self.back.watches().find(|(other, _)| *other == ring) else {
            return Ok(());
        };
        if drain_event(fd).map_err(system("kick"))?.is_some() {
            self.back.kicked(ring);
        }
        Ok(())
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        let due: Vec<u64> = self
            .timers
            .iter()
            .filter(|(at, _)| *at <= now)
            .map(|(_, token)| *token)
            .collect();
        self.timers.retain(|(at, _)| *at > now);
        for token in due {
            self.back.timer(token);
        }
    }
}
