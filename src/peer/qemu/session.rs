//! The part of the guest: carries out commands over qtest and remembers which of them wait for the device.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::driver::{F_VERSION_1, VirtioPci};
use super::error::QemuError;
use super::exchange::{BlkAnswer, BlkRequest, Chain, Command, CommandId, DriverState, Outcome, Used};
use super::lines::Deadline;
use super::qtest::{Batch, QtestClient};
use super::ring::BUFFER_BYTES;

/// What a session has to say about commands.
pub(super) type Results = Vec<(CommandId, Result<Outcome, QemuError>)>;

/// Larger memory or configuration reads are refused.
pub(super) const READ_BYTES_MAX: u32 = 16 << 20;
/// Buffers posted when a frame is waited for and none are.
const RECEIVE_BUFFERS: u16 = 8;
/// Frames that are kept until someone asks for them.
const FRAMES_MAX: usize = 4096;
/// More chained buffers than a frame of 64 KiB can take.
const MERGED_MAX: u16 = 64;

const NET_F_MRG_RXBUF: u64 = 1 << 15;
/// `PCI_EJ_BASE` of machine `pc` (docs/specs/acpi_pci_hotplug in QEMU).
const EJECT_PORT: u16 = 0xae08;

/// How a used chain answers the command that waits for it.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    Used,
    Blk,
}

/// A command that waits for the device.
#[derive(Debug)]
struct Waiting {
    id: CommandId,
    ring: u16,
    /// The chain and what to make of it; a received frame if `None`.
    chain: Option<(u16, Wanted)>,
    deadline: Deadline,
}

/// A receive ring's frames.
#[derive(Debug, Default)]
struct Receiver {
    frames: VecDeque<Vec<u8>>,
    /// A frame in several buffers: how many are missing, what is there.
    partial: Option<(u16, Vec<u8>)>,
}

/// The guest's part on one QEMU.
#[derive(Debug)]
pub(super) struct Session {
    client: QtestClient,
    driver: Option<VirtioPci>,
    waiting: Vec<Waiting>,
    /// The rings that receive buffers were posted on.
    receivers: BTreeMap<u16, Receiver>,
}

impl Session {
    pub(super) fn new(client: QtestClient) -> Self {
        Self {
            client,
            driver: None,
            waiting: Vec::new(),
            receivers: BTreeMap::new(),
        }
    }

    pub(super) fn client(&mut self) -> &mut QtestClient {
        &mut self.client
    }

    /// True if something waits for the device, so that rings must be polled.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Carries out a command. What it ends (itself, or commands that waited and are cut off) is appended to `results`.
    pub(super) fn execute(&mut self, id: CommandId, command: Command, results: &mut Results) {
        match self.begin(id, command, results) {
            Ok(Some(outcome)) => results.push((id, Ok(outcome))),
            Ok(None) => {}
            Err(error) => results.push((id, Err(error))),
        }
    }

    /// `None` if the command waits for the device.
    fn begin(&mut self, id: CommandId, command: Command, results: &mut Results) -> Result<Option<Outcome>, QemuError> {
        let outcome = match command {
            Command::DriverInit {
                features,
                rings,
                ring_size,
                until,
            } => {
                self.forget_rings(results);
                self.driver = None;
                let mut driver = VirtioPci::negotiate(&mut self.client, features)?;
                if until == DriverState::DriverOk {
                    driver.start(&mut self.client, rings, ring_size)?;
                }
                Outcome::Driver(self.driver.insert(driver).report())
            }
            Command::DriverStart { rings, ring_size } => {
                Outcome::Driver(self.with_driver("DriverStart", |driver, client| {
                    driver.start(client, rings, ring_size)?;
                    Ok(driver.report())
                })?)
            }
            Command::DriverReset => {
                self.forget_rings(results);
                Outcome::Byte(self.with_driver("DriverReset", VirtioPci::reset)?)
            }
            Command::Status => Outcome::Byte(self.with_driver("Status", VirtioPci::read_status)?),
            Command::InterruptStatus => Outcome::Byte(self.with_driver("InterruptStatus", VirtioPci::read_isr)?),
            Command::Notify { ring } => {
                self.with_driver("Notify", |driver, client| driver.notify(client, ring))?;
                Outcome::Done
            }
            Command::Submit {
                ring,
                chain,
                notify,
                within,
            } => {
                let head = self.submit(ring, &chain, notify, results)?;
                self.wait_for(id, ring, Some((head, Wanted::Used)), within);
                return Ok(None);
            }
            Command::Blk { ring, request, within } => {
                let head = self.submit(ring, &blk_chain(request), true, results)?;
                self.wait_for(id, ring, Some((head, Wanted::Blk)), within);
                return Ok(None);
            }
            Command::NetTransmit { ring, frame } => {
                let header = vec![0; self.net_header_bytes()?];
                self.submit(
                    ring,
                    &Chain {
                        readable: vec![header, frame],
                        writable: vec![],
                    },
                    true,
                    results,
                )?;
                Outcome::Done
            }
            Command::NetPost { ring, buffers } => {
                self.post(ring, buffers, results)?;
                Outcome::Done
            }
            Command::NetReceive { ring, within } => {
                let idle = self.with_driver("NetReceive", |driver, _| Ok(driver.ring(ring)?.outstanding() == 0))?;
                if idle
                    && self
                        .receivers
                        .get(&ring)
                        .is_none_or(|receiver| receiver.frames.is_empty())
                {
                    self.post(ring, RECEIVE_BUFFERS, results)?;
                }
                self.wait_for(id, ring, None, within);
                return Ok(None);
            }
            Command::NetSetPairs { pairs, within } => {
                let ring = self.with_driver("NetSetPairs", |driver, _| Ok(driver.ring_count().saturating_sub(1)))?;
                // Class VIRTIO_NET_CTRL_MQ, command VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET; one byte of answer.
                let readable = vec![vec![4, 0], pairs.to_le_bytes().to_vec()];
                let head = self.submit(
                    ring,
                    &Chain {
                        readable,
                        writable: vec![1],
                    },
                    true,
                    results,
                )?;
                self.wait_for(id, ring, Some((head, Wanted::Used)), within);
                return Ok(None);
            }
            Command::ReadConfig { offset, len } => {
                check_read(len)?;
                Outcome::Bytes(
                    self.with_driver("ReadConfig", |driver, client| driver.read_config(client, offset, len))?,
                )
            }
            Command::WriteConfig { offset, bytes } => {
                self.with_driver("WriteConfig", |driver, client| {
                    driver.write_config(client, offset, &bytes)
                })?;
                Outcome::Done
            }
            Command::ReadMemory { gpa, len } => {
                check_read(len)?;
                let mut bytes = vec![0; len as usize];
                self.client.read(gpa, &mut bytes)?;
                Outcome::Bytes(bytes)
            }
            Command::WriteMemory { gpa, bytes } => {
                let mut batch = Batch::default();
                batch.write(gpa, &bytes);
                self.client.run(batch)?;
                Outcome::Done
            }
            Command::Raw(line) => Outcome::Line(self.client.raw(&line)?),
            Command::AcpiEject { slot } => {
                self.eject(slot, results)?;
                Outcome::Done
            }
            Command::Qmp { execute, .. } => {
                return Err(QemuError::Config {
                    what: format!("QMP command {execute} on the qtest socket"),
                });
            }
            Command::GuestReady | Command::Guest(_) => {
                return Err(QemuError::Config {
                    what: "a command for a guest on the qtest socket".to_owned(),
                });
            }
        };
        Ok(Some(outcome))
    }

    /// Looks once at every ring that something waits on; ends commands that were answered or waited too long.
    pub(super) fn poll(&mut self, results: &mut Results) {
        let mut rings: Vec<u16> = self.waiting.iter().map(|waiting| waiting.ring).collect();
        rings.sort_unstable();
        rings.dedup();
        for ring in rings {
            if let Err(error) = self.take_used(ring, results) {
                self.end_waits(ring, &error, results);
            }
        }
        for index in (0..self.waiting.len()).rev() {
            if self.waiting[index].deadline.remaining().is_none() {
                let late = self.waiting.remove(index);
                results.push((
                    late.id,
                    Err(QemuError::NotUsed {
                        ring: late.ring,
                        within: late.deadline.lifetime(),
                    }),
                ));
            }
        }
    }

    /// Ends every command that waits for the device.
    pub(super) fn abandon(&mut self, error: &QemuError, results: &mut Results) {
        results.extend(self.waiting.drain(..).map(|waiting| (waiting.id, Err(error.clone()))));
    }

    fn with_driver<T>(
        &mut self,
        command: &'static str,
        act: impl FnOnce(&mut VirtioPci, &mut QtestClient) -> Result<T, QemuError>,
    ) -> Result<T, QemuError> {
        match &mut self.driver {
            Some(driver) => act(driver, &mut self.client),
            None => Err(QemuError::DriverState {
                command,
                needs: "an initialised driver",
            }),
        }
    }

    fn submit(&mut self, ring: u16, chain: &Chain, notify: bool, results: &mut Results) -> Result<u16, QemuError> {
        let needed = super::ring::descriptors(chain);
        let short = self.with_driver("a ring command", |driver, _| Ok(driver.ring(ring)?.free() < needed))?;
        if short {
            // Transmitted chains are taken back only when their descriptors are needed.
            self.take_used(ring, results)?;
        }
        self.with_driver("a ring command", |driver, client| {
            driver.submit(client, ring, chain, notify)
        })
    }

    fn wait_for(&mut self, id: CommandId, ring: u16, chain: Option<(u16, Wanted)>, within: Duration) {
        self.waiting.push(Waiting {
            id,
            ring,
            chain,
            deadline: Deadline::after(within),
        });
    }

    /// Puts buffers on a receive ring, then kicks once.
    fn post(&mut self, ring: u16, buffers: u16, results: &mut Results) -> Result<(), QemuError> {
        self.receivers.entry(ring).or_default();
        let chain = Chain {
            readable: vec![],
            writable: vec![BUFFER_BYTES],
        };
        for left in (0..buffers).rev() {
            self.submit(ring, &chain, left == 0, results)?;
        }
        Ok(())
    }

    fn take_used(&mut self, ring: u16, results: &mut Results) -> Result<(), QemuError> {
        let all = self.with_driver("a ring command", |driver, client| driver.poll(client, ring))?;
        for used in all {
            let owner =
                |waiting: &Waiting| waiting.ring == ring && waiting.chain.is_some_and(|(head, _)| head == used.head);
            if let Some(index) = self.waiting.iter().position(owner) {
                let waiting = self.waiting.remove(index);
                let answer = match waiting.chain {
                    Some((_, Wanted::Blk)) => self.blk_answer(ring, used).map(Outcome::Blk),
                    _ => Ok(Outcome::Used(used)),
                };
                results.push((waiting.id, answer));
            } else if self.receivers.contains_key(&ring) {
                self.receive(ring, &used)?;
            }
            // Else a transmitted frame, or a chain whose command gave up.
        }
        self.hand_out_frames(ring, results);
        Ok(())
    }

    /// The status byte is the last of the chain. A device that has failed may count fewer bytes as written than lie before
    /// it (implementations differ), so it is read where it is.
    fn blk_answer(&mut self, ring: u16, used: Used) -> Result<BlkAnswer, QemuError> {
        let Used { len, written, last, .. } = used;
        let mut data = written;
        let last = last.ok_or_else(|| QemuError::RingBroken {
            ring,
            what: "a block request came back without its status byte".into(),
        })?;
        let mut status = [0];
        self.client.read(last, &mut status)?;
        data.pop();
        Ok(BlkAnswer {
            status: status[0],
            data,
            len,
        })
    }

    /// Joins the buffers of a frame and takes its header off.
    fn receive(&mut self, ring: u16, used: &Used) -> Result<(), QemuError> {
        let header = self.net_header_bytes()?;
        let broken = |what: String| QemuError::RingBroken { ring, what };
        let receiver = self.receivers.entry(ring).or_default();
        let (missing, frame) = match receiver.partial.take() {
            Some((missing, mut frame)) => {
                frame.extend_from_slice(&used.written);
                (missing - 1, frame)
            }
            None => {
                let Some((head, frame)) = used.written.split_at_checked(header) else {
                    return Err(broken(format!(
                        "a frame of {} bytes, its header has {header}",
                        used.len
                    )));
                };
                // num_buffers, the header's last field, if it has one; 0 is what a careless device leaves there.
                let buffers = head
                    .get(10..12)
                    .map_or(1, |field| u16::from_le_bytes([field[0], field[1]]).max(1));
                if buffers > MERGED_MAX {
                    return Err(broken(format!("a frame in {buffers} buffers")));
                }
                (buffers - 1, frame.to_vec())
            }
        };
        if missing > 0 {
            receiver.partial = Some((missing, frame));
        } else if receiver.frames.len() < FRAMES_MAX {
            receiver.frames.push_back(frame);
        } else {
            return Err(broken(format!("more than {FRAMES_MAX} frames that nobody asked for")));
        }
        Ok(())
    }

    fn hand_out_frames(&mut self, ring: u16, results: &mut Results) {
        let Some(receiver) = self.receivers.get_mut(&ring) else {
            return;
        };
        let waits = |waiting: &Waiting| waiting.ring == ring && waiting.chain.is_none();
        while let Some(index) = self.waiting.iter().position(waits) {
            let Some(frame) = receiver.frames.pop_front() else {
                return;
            };
            results.push((self.waiting.remove(index).id, Ok(Outcome::Frame(frame))));
        }
    }

    /// 12 bytes, or 10 on a driver that took neither VERSION_1 nor MRG_RXBUF (virtio 1.x, 5.1.6.1).
    fn net_header_bytes(&mut self) -> Result<usize, QemuError> {
        self.with_driver("a frame", |driver, _| {
            Ok(if driver.has(F_VERSION_1 | NET_F_MRG_RXBUF) {
                12
            } else {
                10
            })
        })
    }

    fn eject(&mut self, slot: u8, results: &mut Results) -> Result<(), QemuError> {
        if slot >= 32 {
            return Err(QemuError::Config {
                what: format!("PCI slot {slot}"),
            });
        }
        let mut batch = Batch::default();
        batch.out32(EJECT_PORT, 1 << slot);
        self.client.run(batch)?;
        if self.driver.as_ref().is_some_and(|driver| driver.slot() == slot) {
            self.forget_rings(results);
            self.driver = None;
        }
        Ok(())
    }

    fn forget_rings(&mut self, results: &mut Results) {
        self.receivers.clear();
        let cut_off = self.waiting.drain(..);
        results.extend(cut_off.map(|waiting| (waiting.id, Err(QemuError::WasReset { ring: waiting.ring }))));
    }

    fn end_waits(&mut self, ring: u16, error: &QemuError, results: &mut Results) {
        let ended = self.waiting.extract_if(.., |waiting| waiting.ring == ring);
        results.extend(ended.map(|waiting| (waiting.id, Err(error.clone()))));
    }
}

fn check_read(len: u32) -> Result<(), QemuError> {
    if len > READ_BYTES_MAX {
        return Err(QemuError::Config {
            what: format!("a read of {len} bytes, possible are {READ_BYTES_MAX}"),
        });
    }
    Ok(())
}

/// Header, data, room for data, status byte (virtio 1.x, 5.2.6).
fn blk_chain(request: BlkRequest) -> Chain {
    let (kind, sector, data, room) = match request {
        BlkRequest::Read { sector, len } => (0, sector, vec![], len),
        BlkRequest::Write { sector, data } => (1, sector, data, 0),
        BlkRequest::Flush => (4, 0, vec![], 0),
        BlkRequest::GetId => (8, 0, vec![], 20),
        BlkRequest::Other {
            kind,
            sector,
            data,
            writable,
        } => (kind, sector, data, writable),
    };
    let mut header = kind.to_le_bytes().to_vec();
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&sector.to_le_bytes());
    Chain {
        readable: vec![header, data],
        writable: vec![room, 1],
    }
}
