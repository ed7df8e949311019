//! The network interface: every frame of the harness that comes in goes out again, unchanged.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::sys::{Packets, bring_up};

/// The EtherType of the harness's frames, for local experiments.
const ETHER_TYPE: u16 = 0x88b5;
/// The longest frame.
const FRAME_BYTES_MAX: usize = 0x1_0000;

/// What has become of frames.
#[derive(Default)]
struct Counts {
    received: AtomicU64,
    sent: AtomicU64,
    /// The kernel had no room for them.
    refused: AtomicU64,
}

/// An interface and the thread that sends back.
pub struct Net {
    name: String,
    counts: Arc<Counts>,
    packets: Arc<Packets>,
    dropped: u64,
}

impl Net {
    /// On the interface of the virtio device, if there is one.
    pub fn start() -> io::Result<Option<Self>> {
        let Some(name) = interface()? else { return Ok(None) };
        bring_up(&name)?;
        let packets = Arc::new(Packets::open(&name, ETHER_TYPE)?);
        let counts = Arc::new(Counts::default());
        let theirs = (Arc::clone(&packets), Arc::clone(&counts));
        // it ends with the interface
        thread::spawn(move || echo(&theirs.0, &theirs.1));
        Ok(Some(Self {
            name,
            counts,
            packets,
            dropped: 0,
        }))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// All that was counted, in words.
    pub fn counts(&mut self) -> String {
        self.dropped += self.packets.dropped().unwrap_or(0);
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts {
            received,
            sent,
            refused,
        } = &*self.counts;
        format!(
            "received {} sent {} refused {} dropped {}",
            of(received),
            of(sent),
            of(refused),
            self.dropped
        )
    }
}

/// The first interface that is not the loopback's.
fn interface() -> io::Result<Option<String>> {
    let entries = fs::read_dir("/sys/class/net")?;
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "lo")
        .collect();
    names.sort();
    Ok(names.into_iter().next())
}

/// Until the interface is gone.
fn echo(packets: &Packets, counts: &Counts) {
    let mut frame = vec![0; FRAME_BYTES_MAX];
    loop {
        let length = match packets.receive(&mut frame) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        counts.received.fetch_add(1, Ordering::Relaxed);
        let count = match packets.send(&frame[..length]) {
            Ok(()) => &counts.sent,
            Err(_) => &counts.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
