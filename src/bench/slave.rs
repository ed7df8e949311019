//! The slave of vhost-pci: a server and a master that says to it what masters say, without sockets in between. What comes of
//! it is the master's receive ring at both its ends: the driver's in its own memory, the device's where the server has mapped it.

use crate::peer::sim::Output;
use crate::peer::sim::front::{FrontConfig, Goal, MasterConfig, Serving, SimFront};
use crate::peer::sim::pci::{Faults, Generation, Grouping, NET, PciServer, Profile, ServerConfig};
use crate::ring::burst::{Device, Driver, Layout};
use crate::traffic::lane::{Arena, Bell, DevicePort, DriverPort};
use crate::traffic::rig::{RigError, RingKind, stride};
use crate::wire::{Dialect, ProtocolFeature, features, pci};

/// The master's connection.
const CONN: usize = 0;
/// Its socket.
const SOCKET: &str = "slave";
/// A transmit and a receive ring, of which the first is filled.
const RINGS: u16 = 2;
const RECEIVE: u16 = 0;
/// Bytes of memory are a multiple of a huge page.
const PAGE: u64 = 2 << 20;
/// Turns of the conversation, at most.
const TURNS_MAX: usize = 10_000;

/// A server and its master.
#[derive(Debug)]
pub(super) struct Slave {
    server: PciServer,
    master: SimFront,
    kind: RingKind,
    longest: usize,
}

impl Slave {
    /// Connects a master whose receive buffers hold frames of `longest` bytes.
    pub(super) fn new(kind: RingKind, longest: usize, huge_pages: bool) -> Result<Self, RigError> {
        let server = PciServer::new(ServerConfig {
            dialect: Dialect::VhostPci,
            generation: Generation::G1,
            profile: Profile::Strict,
            servers: vec![SOCKET.to_owned()],
            clients: 1,
            sharing: true,
            grouping: Grouping::Uuid,
            device_first: false,
            queues: RINGS,
            faults: Faults::default(),
        });
        let buffers = u64::from(stride(longest)) * u64::from(kind.size);
        let (_, rings) = Layout::pack_at(0, kind.size, false)?;
        let master = SimFront::new(FrontConfig {
            dialect: Dialect::VhostPci,
            queues: RINGS,
            ring_size: kind.size,
            features: features::PROTOCOL_FEATURES | features::VERSION_1,
            protocol_features: ProtocolFeature::Mq.mask()
                | ProtocolFeature::ReplyAck.mask()
                | pci::F_VHOST_PCI
                | pci::F_DEV_INFO,
            // the pool keeps some to itself
            memory_size: (u64::from(RINGS) * rings + buffers).next_multiple_of(PAGE) + PAGE,
            regions: 1,
            one_file: false,
            huge_pages,
            kick_on_start: true,
            manual: Vec::new(),
            master: Some(MasterConfig {
                uuid: *b"one of the bench",
                virtio_id: NET,
                part: (0, 1),
                faults: Faults::default(),
            }),
            answers: Vec::new(),
            serving: Serving::default(),
            config_bytes: 0,
            keeps_inflight: false,
        })
        .map_err(conversation)?;
        let mut slave = Self {
            server,
            master,
            kind,
            longest,
        };
        slave.converse()?;
        Ok(slave)
    }

    /// Says what there is to say until the rings run.
    fn converse(&mut self) -> Result<(), RigError> {
        self.server.accept(CONN, SOCKET).map_err(conversation)?;
        self.master.connected();
        self.master.setup(Goal::Running);
        for _ in 0..TURNS_MAX {
            if let Some(output) = self.master.next_output() {
                match output {
                    Output::Send(said) => self.server.message(CONN, said.message, said.fds),
                    Output::Fault(what) => return Err(RigError::Conversation(what)),
                    _ => {}
                }
            } else if let Some((_, output)) = self.server.next_output() {
                match output {
                    Output::Send(said) => {
                        self.master.message(&said.message, said.fds);
                    }
                    Output::Fault(what) => return Err(RigError::Conversation(what)),
                    Output::Close(_) => return Err(RigError::Conversation("the server hangs up".to_owned())),
                    _ => {}
                }
            } else {
                break;
            }
        }
        match (self.master.take_failure(), self.master.waits_for()) {
            (Some(error), _) => Err(conversation(error)),
            (None, Some(what)) => Err(RigError::Conversation(format!("the master waits for {what}"))),
            (None, None) => Ok(()),
        }
    }

    /// The driver's end, in the master's own memory. To be taken before the device's.
    pub(super) fn driver(&mut self) -> Result<DriverPort<Driver>, RigError> {
        let stride = stride(self.longest);
        let count = u32::from(self.kind.size);
        let base = self.master.room(stride * count).map_err(conversation)?;
        let loan = self.master.lend(RECEIVE).map_err(conversation)?;
        let [kick, call] = self.master.bells(RECEIVE).map(Bell::new);
        Ok(DriverPort {
            ring: Driver::new(loan.layout, loan.base, &loan.reach, loan.options)?,
            reach: loan.reach,
            arena: Arena { base, stride, count },
            kick,
            call,
            owes_kick: true,
        })
    }

    /// The device's end, as the server has mapped it.
    pub(super) fn device(&mut self) -> Result<DevicePort<Device>, RigError> {
        let missing = || RigError::Conversation("the server has no such ring".to_owned());
        let back = self.server.back(CONN).ok_or_else(missing)?;
        back.lend(RECEIVE);
        Ok(back.loan(RECEIVE).ok_or_else(missing)?.into_port()?)
    }
}

fn conversation(error: impl std::fmt::Display) -> RigError {
    RigError::Conversation(error.to_string())
}
