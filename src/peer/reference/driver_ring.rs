//! The driver's side of a split virtqueue, written for the reference front-end alone: the harness has its own ring, and two
//! that were written apart can contradict each other. It owns descriptors, indices and notifications, never a request.

use std::sync::atomic::{Ordering, fence};

use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::error::ReferenceError;
use super::guest::{Guest, GuestRam, RingLayout, memory_error};

const DESC_F_NEXT: u16 = 1;
const DESC_F_WRITE: u16 = 2;
const DESC_F_INDIRECT: u16 = 4;
const USED_F_NO_NOTIFY: u16 = 1;
const DESCRIPTOR_BYTES: u32 = 16;

/// One buffer of a chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    at: GuestAddress,
    length: u32,
    writable: bool,
}

impl Segment {
    /// A buffer that the device reads.
    pub(super) fn readable(at: GuestAddress, length: u32) -> Self {
        Self {
            at,
            length,
            writable: false,
        }
    }

    /// A buffer that the device writes.
    pub(super) fn writable(at: GuestAddress, length: u32) -> Self {
        Self {
            at,
            length,
            writable: true,
        }
    }
}

/// A chain that the device has.
struct Pending {
    token: u16,
    descriptors: Vec<u16>,
    writable_bytes: u32,
}

/// A chain that came back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Completion {
    /// What [`DriverRing::add`] was given.
    pub(super) token: u16,
    /// Bytes the device says it wrote.
    pub(super) length: u32,
}

/// The driver's side of one ring.
pub(super) struct DriverRing {
    index: usize,
    ram: GuestRam,
    layout: RingLayout,
    size: u16,
    event_idx: bool,
    free: Vec<u16>,
    pending: Vec<Option<Pending>>,
    /// The next available index, and how far the device was told.
    added: u16,
    published: u16,
    /// The used index up to which completions were taken.
    taken: u16,
    kick: EventFd,
    call: EventFd,
    kicks: u64,
}

impl DriverRing {
    /// An empty ring in `guest`'s memory.
    pub(super) fn new(index: usize, guest: &Guest, event_idx: bool) -> Result<Self, ReferenceError> {
        let event = || EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).map_err(ReferenceError::system("eventfd"));
        let size = guest.ring_size();
        Ok(Self {
            index,
            ram: guest.ram().clone(),
            layout: guest.ring(index),
            size,
            event_idx,
            free: (0..size).rev().collect(),
            pending: (0..size).map(|_| None).collect(),
            added: 0,
            published: 0,
            taken: 0,
            kick: event()?,
            call: event()?,
            kicks: 0,
        })
    }

    /// The eventfd that tells the device of new chains.
    pub(super) fn kick_event(&self) -> &EventFd {
        &self.kick
    }

    /// The eventfd that tells the driver of used chains.
    pub(super) fn call_event(&self) -> &EventFd {
        &self.call
    }

    /// Kicks sent so far.
    pub(super) fn kicks(&self) -> u64 {
        self.kicks
    }

    /// Offers a chain; the device may look only after [`DriverRing::publish`]. With `indirect`, the chain takes one
    /// descriptor and its table goes there.
    pub(super) fn add(
        &mut self,
        segments: &[Segment],
        indirect: Option<GuestAddress>,
        token: u16,
    ) -> Result<(), ReferenceError> {
        let wanted = if indirect.is_some() { 1 } else { segments.len() };
        if self.free.len() < wanted || segments.is_empty() {
            return Err(self.bad(format!(
                "a chain of {wanted} does not fit, {} are free",
                self.free.len()
            )));
        }
        let descriptors = self.free.split_off(self.free.len() - wanted);
        let head = descriptors[0];
        if let Some(table) = indirect {
            let indices: Vec<u16> = (0..).take(segments.len()).collect();
            self.write_chain(table, &indices, segments)?;
            let bytes = DESCRIPTOR_BYTES * segments.len() as u32;
            self.write_descriptor(self.layout.descriptors, head, table, bytes, DESC_F_INDIRECT, 0)?;
        } else {
            self.write_chain(self.layout.descriptors, &descriptors, segments)?;
        }
        let writable_bytes = segments.iter().filter(|s| s.writable).map(|s| s.length).sum();
        self.pending[usize::from(head)] = Some(Pending {
            token,
            descriptors,
            writable_bytes,
        });
        let entry = self.layout.available.0 + 4 + 2 * u64::from(self.added % self.size);
        self.store(entry, head, Ordering::Relaxed)?;
        self.added = self.added.wrapping_add(1);
        Ok(())
    }

    /// Shows the device what was added, and kicks it if it wants to be kicked.
    pub(super) fn publish(&mut self) -> Result<(), ReferenceError> {
        if self.added == self.published {
            return Ok(());
        }
        let (old, new) = (self.published, self.added);
        self.store(self.layout.available.0 + 2, new, Ordering::Release)?;
        self.published = new;
        // The index must be visible before the device's wish is read, or both sides may wait.
        fence(Ordering::SeqCst);
        let wanted = if self.event_idx {
            let event = self.load(self.layout.used.0 + 4 + 8 * u64::from(self.size), Ordering::Relaxed)?;
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.load(self.layout.used.0, Ordering::Relaxed)? & USED_F_NO_NOTIFY == 0
        };
        if wanted {
            self.kick.write(1).map_err(ReferenceError::system("kick"))?;
            self.kicks += 1;
        }
        Ok(())
    }

    /// Takes the next used chain, if there is one.
    pub(super) fn take(&mut self) -> Result<Option<Completion>, ReferenceError> {
        let used = self.used_index()?;
        if used == self.taken {
            return Ok(None);
        }
        let outstanding = self.published.wrapping_sub(self.taken);
        let announced = used.wrapping_sub(self.taken);
        if announced > outstanding {
            return Err(self.bad(format!(
                "the used index moved by {announced} with {outstanding} chains outstanding"
            )));
        }
        let entry = self.layout.used.0 + 4 + 8 * u64::from(self.taken % self.size);
        let element: [u8; 8] = self.ram.read_obj(GuestAddress(entry)).map_err(memory_error)?;
        let [i0, i1, i2, i3, l0, l1, l2, l3] = element;
        let id = u32::from_le_bytes([i0, i1, i2, i3]);
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let pending = usize::try_from(id)
            .ok()
            .and_then(|id| self.pending.get_mut(id)?.take())
            .ok_or_else(|| self.bad(format!("used element names chain {id}, which the device does not have")))?;
        if length > pending.writable_bytes {
            return Err(self.bad(format!(
                "used element says {length} bytes were written to chain {id}, which has room for {}",
                pending.writable_bytes
            )));
        }
        self.free.extend(pending.descriptors);
        self.taken = self.taken.wrapping_add(1);
        Ok(Some(Completion {
            token: pending.token,
            length,
        }))
    }

    /// Asks for a call at the next used chain; true if there is one already, for which no call may come.
    pub(super) fn arm(&mut self) -> Result<bool, ReferenceError> {
        if self.event_idx {
            let event = self.layout.available.0 + 4 + 2 * u64::from(self.size);
            self.store(event, self.taken, Ordering::Relaxed)?;
            fence(Ordering::SeqCst);
        }
        Ok(self.used_index()? != self.taken)
    }

    /// The used index as the device left it.
    pub(super) fn used_index(&self) -> Result<u16, ReferenceError> {
        self.load(self.layout.used.0 + 2, Ordering::Acquire)
    }

    fn write_chain(&self, table: GuestAddress, indices: &[u16], segments: &[Segment]) -> Result<(), ReferenceError> {
        for (at, segment) in segments.iter().enumerate() {
            let next = indices.get(at + 1).copied();
            let flags = if segment.writable { DESC_F_WRITE } else { 0 } | next.map_or(0, |_| DESC_F_NEXT);
            self.write_descriptor(table, indices[at], segment.at, segment.length, flags, next.unwrap_or(0))?;
        }
        Ok(())
    }

    fn write_descriptor(
        &self,
        table: GuestAddress,
        index: u16,
        at: GuestAddress,
        length: u32,
        flags: u16,
        next: u16,
    ) -> Result<(), ReferenceError> {
        let mut bytes = [0; DESCRIPTOR_BYTES as usize];
        bytes[..8].copy_from_slice(&at.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        let at = GuestAddress(table.0 + u64::from(DESCRIPTOR_BYTES) * u64::from(index));
        self.ram.write_slice(&bytes, at).map_err(memory_error)
    }

    fn load(&self, at: u64, order: Ordering) -> Result<u16, ReferenceError> {
        self.ram
            .load(GuestAddress(at), order)
            .map(u16::from_le)
            .map_err(memory_error)
    }

    fn store(&self, at: u64, value: u16, order: Ordering) -> Result<(), ReferenceError> {
        self.ram
            .store(value.to_le(), GuestAddress(at), order)
            .map_err(memory_error)
    }

    fn bad(&self, what: String) -> ReferenceError {
        ReferenceError::BadRing { ring: self.index, what }
    }
}
