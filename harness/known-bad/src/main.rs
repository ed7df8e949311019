//! A small block back-end on one published release of `vhost-user-backend`, with nothing of its own that could hide or
//! mend what the release does wrong: the daemon calls `handle_event`, and what is in the ring is served. The disk is in
//! memory. One source for all releases: it uses only what they share.
//!
//! `NAME --socket PATH [--queues N] [--capacity BYTES]`: listens on PATH, serves one connection, ends with it.

use std::io;
use std::process::ExitCode;
use std::sync::{Arc, RwLock};

use vhost::vhost_user::{Error as VhostUserError, Listener, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{Error as DaemonError, VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_queue::{DescriptorChain, QueueOwnedT};
use vm_memory::{Bytes, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryLoadGuard, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

const RING_SIZE_MAX: usize = 1024;
const SECTOR: u64 = 512;
const ID: &[u8; 20] = b"vuh-known-bad\0\0\0\0\0\0\0";
/// Bytes of one request, at most.
const REQUEST_BYTES_MAX: u64 = 16 << 20;

const F_BLK_FLUSH: u64 = 1 << 9;
const F_BLK_MQ: u64 = 1 << 12;
const F_INDIRECT_DESC: u64 = 1 << 28;
const F_VERSION_1: u64 = 1 << 32;

const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_GET_ID: u32 = 8;
const S_OK: u8 = 0;
const S_IOERR: u8 = 1;
const S_UNSUPP: u8 = 2;

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;
type Held = GuestMemoryLoadGuard<GuestMemoryMmap>;

struct Disk {
    memory: Memory,
    data: Vec<u8>,
    queues: usize,
}

impl Disk {
    fn serve(&mut self, vring: &VringRwLock) -> io::Result<()> {
        let memory = self.memory.memory();
        let mut used = false;
        while let Some(chain) = next_chain(vring, &memory) {
            let head = chain.head_index();
            let written = self.request(&memory, chain).ok_or(io::ErrorKind::InvalidData)?;
            vring.add_used(head, written).map_err(io::Error::other)?;
            used = true;
        }
        if used {
            vring.signal_used_queue()
        } else {
            Ok(())
        }
    }

    /// One request; gives the number of bytes written, or none for a chain that holds no request.
    fn request(&mut self, memory: &Held, chain: DescriptorChain<Held>) -> Option<u32> {
        let mut readable = Vec::new();
        let mut writable = Vec::new();
        for descriptor in chain {
            let part = (descriptor.addr(), u64::from(descriptor.len()));
            let parts = if descriptor.is_write_only() {
                &mut writable
            } else {
                &mut readable
            };
            parts.push(part);
        }
        let total: u64 = readable.iter().chain(&writable).map(|(_, len)| len).sum();
        if total > REQUEST_BYTES_MAX {
            return None;
        }
        let mut input = Vec::new();
        for (address, len) in readable {
            let start = input.len();
            input.resize(start + usize::try_from(len).ok()?, 0);
            memory.read_slice(&mut input[start..], address).ok()?;
        }
        let room = usize::try_from(writable.iter().map(|(_, len)| len).sum::<u64>())
            .ok()?
            .checked_sub(1)?;
        let kind = u32::from_le_bytes(input.get(0..4)?.try_into().ok()?);
        let sector = u64::from_le_bytes(input.get(8..16)?.try_into().ok()?);
        let mut output = vec![0; room];
        let status = self.perform(kind, sector, &input[16..], &mut output);
        output.push(status);
        let written = u32::try_from(output.len()).ok()?;
        for (address, len) in writable {
            let (part, rest) = output.split_at(usize::try_from(len).ok()?);
            memory.write_slice(part, address).ok()?;
            output = rest.to_vec();
        }
        Some(written)
    }

    fn perform(&mut self, kind: u32, sector: u64, input: &[u8], output: &mut [u8]) -> u8 {
        let place = |len: usize| {
            let start = usize::try_from(sector.checked_mul(SECTOR)?).ok()?;
            Some(start..start.checked_add(len)?)
        };
        match kind {
            T_IN => match place(output.len()).and_then(|place| self.data.get(place)) {
                Some(from) => output.copy_from_slice(from),
                None => return S_IOERR,
            },
            T_OUT => match place(input.len()).and_then(|place| self.data.get_mut(place)) {
                Some(to) => to.copy_from_slice(input),
                None => return S_IOERR,
            },
            T_FLUSH => {}
            T_GET_ID => output.iter_mut().zip(ID).for_each(|(to, from)| *to = *from),
            _ => return S_UNSUPP,
        }
        S_OK
    }
}

fn next_chain(vring: &VringRwLock, memory: &Held) -> Option<DescriptorChain<Held>> {
    let mut state = vring.get_mut();
    // a ring that is not started has no chains
    state.get_queue_mut().iter(memory.clone()).ok()?.next()
}

impl VhostUserBackendMut for Disk {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        self.queues
    }

    fn max_queue_size(&self) -> usize {
        RING_SIZE_MAX
    }

    fn features(&self) -> u64 {
        let mq = if self.queues > 1 { F_BLK_MQ } else { 0 };
        mq | F_BLK_FLUSH | F_INDIRECT_DESC | F_VERSION_1 | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK | VhostUserProtocolFeatures::CONFIG
    }

    fn set_event_idx(&mut self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let mut config = [0; 256];
        config[0..8].copy_from_slice(&(self.data.len() as u64 / SECTOR).to_le_bytes());
        config[34..36].copy_from_slice(&(self.queues as u16).to_le_bytes());
        let (offset, size) = (offset as usize, size as usize);
        config
            .get(offset..offset.saturating_add(size))
            .unwrap_or_default()
            .to_vec()
    }

    fn update_memory(&mut self, memory: Memory) -> io::Result<()> {
        self.memory = memory;
        Ok(())
    }

    fn handle_event(&mut self, ring: u16, _set: EventSet, vrings: &[VringRwLock], _thread: usize) -> io::Result<()> {
        match vrings.get(usize::from(ring)) {
            Some(vring) => self.serve(vring),
            None => Ok(()),
        }
    }
}

struct Arguments {
    socket: String,
    queues: usize,
    capacity: usize,
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut found = Arguments {
        socket: String::new(),
        queues: 1,
        capacity: 16 << 20,
    };
    while let Some(option) = words.next() {
        let value = words.next().ok_or_else(|| format!("{option} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{option} {value}: not a number"));
        match option.as_str() {
            "--socket" => found.socket = value,
            "--queues" => found.queues = number()?,
            "--capacity" => found.capacity = number()?,
            _ => return Err(format!("{option}: no such option")),
        }
    }
    match (found.socket.is_empty(), found.queues) {
        (true, _) => Err("--socket PATH is needed".to_owned()),
        (_, 1..=16) => Ok(found),
        (_, other) => Err(format!("--queues {other}: 1 to 16")),
    }
}

fn serve(arguments: &Arguments) -> Result<(), String> {
    let memory = Memory::new(GuestMemoryMmap::new());
    let disk = Disk {
        memory: memory.clone(),
        data: vec![0; arguments.capacity],
        queues: arguments.queues,
    };
    let fail = |error: DaemonError| error.to_string();
    let mut daemon = VhostUserDaemon::new("known-bad".to_owned(), Arc::new(RwLock::new(disk)), memory).map_err(fail)?;
    let mut listener = Listener::new(&arguments.socket, true).map_err(|error| error.to_string())?;
    daemon.start(&mut listener).map_err(fail)?;
    let ended = daemon.wait();
    // its workers are given no exit event, so dropping it would wait for them for ever; they end with the process
    std::mem::forget(daemon);
    match ended {
        // the end of the connection, which the crate calls a partial message
        Err(DaemonError::HandleRequest(VhostUserError::PartialMessage | VhostUserError::Disconnected)) => Ok(()),
        other => other.map_err(fail),
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words == ["--version"] {
        println!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_DESCRIPTION"));
        return ExitCode::SUCCESS;
    }
    match arguments(words.into_iter()).and_then(|arguments| serve(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", env!("CARGO_PKG_NAME"));
            ExitCode::FAILURE
        }
    }
}
