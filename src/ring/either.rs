//! A ring of either kind, chain by chain, for peers that learn it from the features.

use crate::memory::GuestAccess;

use super::burst::Layout;
use super::packed;
use super::{Buffer, Chain, HeadIndex, PackedDevice, PackedDriver, RingError, SplitDevice, SplitDriver, Used};

/// The driver's side.
#[derive(Debug, Clone)]
pub enum RingDriver {
    /// Of a split ring.
    Split(SplitDriver),
    /// Of a packed ring.
    Packed(PackedDriver),
}

impl RingDriver {
    /// A driver that begins where `base` says, as SET_VRING_BASE carries it.
    pub fn with_base(layout: Layout, base: u32) -> Result<Self, RingError> {
        match layout {
            Layout::Split(layout) => SplitDriver::with_base(layout, base as u16).map(Self::Split),
            Layout::Packed(layout) => PackedDriver::with_base(layout, base).map(Self::Packed),
        }
    }

    /// Checks that the ring is in memory and writes the empty ring.
    pub fn init(&mut self, mem: &dyn GuestAccess) -> Result<(), RingError> {
        match self {
            Self::Split(ring) => ring.init(mem),
            Self::Packed(ring) => ring.init(mem),
        }
    }

    /// Where it lies.
    #[must_use]
    pub fn layout(&self) -> Layout {
        match self {
            Self::Split(ring) => Layout::Split(*ring.layout()),
            Self::Packed(ring) => Layout::Packed(*ring.layout()),
        }
    }

    /// Where a device goes on that has returned all it ever will: what was not returned is offered again.
    #[must_use]
    pub fn base(&self) -> u32 {
        match self {
            Self::Split(ring) => u32::from(ring.used_idx()),
            Self::Packed(ring) => {
                let (_, used) = ring.stands();
                packed::base(used, used)
            }
        }
    }

    /// Turns VIRTIO_RING_F_EVENT_IDX on or off; off at first.
    pub fn set_event_idx(&mut self, on: bool) {
        match self {
            Self::Split(ring) => ring.set_event_idx(on),
            Self::Packed(ring) => ring.set_event_idx(on),
        }
    }

    /// Turns VIRTIO_F_IN_ORDER on or off; off at first.
    pub fn set_in_order(&mut self, on: bool) {
        match self {
            Self::Split(ring) => ring.set_in_order(on),
            Self::Packed(ring) => ring.set_in_order(on),
        }
    }

    /// Chains published and not yet returned.
    #[must_use]
    pub fn outstanding(&self) -> u16 {
        match self {
            Self::Split(ring) => ring.outstanding(),
            Self::Packed(ring) => ring.outstanding(),
        }
    }

    /// Writes a chain; the device sees it after [`Self::publish`].
    pub fn add(&mut self, mem: &dyn GuestAccess, chain: &[Buffer]) -> Result<HeadIndex, RingError> {
        match self {
            Self::Split(ring) => ring.add(mem, chain),
            Self::Packed(ring) => ring.add(mem, chain),
        }
    }

    /// Writes a chain to a table at `table`, 16 bytes a buffer; it takes one descriptor of the ring.
    pub fn add_indirect(
        &mut self,
        mem: &dyn GuestAccess,
        chain: &[Buffer],
        table: u64,
    ) -> Result<HeadIndex, RingError> {
        match self {
            Self::Split(ring) => ring.add_indirect(mem, chain, table),
            Self::Packed(ring) => ring.add_indirect(mem, chain, table),
        }
    }

    /// Makes all added chains available at once.
    pub fn publish(&mut self, mem: &dyn GuestAccess) -> Result<(), RingError> {
        match self {
            Self::Split(ring) => ring.publish(mem),
            Self::Packed(ring) => ring.publish(mem),
        }
    }

    /// Takes the next chain the device has returned, if there is one.
    pub fn poll_used(&mut self, mem: &dyn GuestAccess) -> Result<Option<Used>, RingError> {
        match self {
            Self::Split(ring) => ring.poll_used(mem),
            Self::Packed(ring) => ring.poll_used(mem),
        }
    }

    /// Whether the device wants a kick for what was published since this was last asked.
    pub fn needs_kick(&mut self, mem: &dyn GuestAccess) -> Result<bool, RingError> {
        match self {
            Self::Split(ring) => ring.needs_kick(mem),
            Self::Packed(ring) => ring.needs_kick(mem),
        }
    }

    /// Asks for a call when the next chain is returned. Poll once more afterwards.
    pub fn ask_for_call(&self, mem: &dyn GuestAccess) -> Result<(), RingError> {
        match self {
            Self::Split(ring) => ring.set_used_event(mem, ring.used_idx()),
            Self::Packed(ring) => ring.ask_for_call(mem),
        }
    }
}

/// The device's side.
#[derive(Debug, Clone)]
pub struct RingDevice {
    kind: Kind,
    in_order: bool,
    /// With IN_ORDER: chains that are done and not yet shown to the driver.
    batch: Batch,
}

/// The device's side of a ring of one kind.
#[derive(Debug)]
pub enum DeviceSide<'a> {
    /// Of a split ring.
    Split(&'a mut SplitDevice),
    /// Of a packed ring.
    Packed(&'a mut PackedDevice),
}

#[derive(Debug, Clone)]
enum Kind {
    Split(SplitDevice),
    /// With the descriptors that the chains take that are taken, by id.
    Packed(PackedDevice, Vec<(u16, u16)>),
}

/// Chains that one used element returns: the last of them, and how much of the ring all of them take.
#[derive(Debug, Clone, Copy, Default)]
struct Batch {
    last: u16,
    len: u32,
    chains: u16,
    descriptors: u16,
}

impl RingDevice {
    /// A device that goes on where `base` says; checks that the ring is in memory.
    pub fn start(layout: Layout, base: u32, mem: &dyn GuestAccess) -> Result<Self, RingError> {
        let kind = match layout {
            Layout::Split(layout) => Kind::Split(SplitDevice::start(layout, base as u16, mem)?),
            Layout::Packed(layout) => Kind::Packed(PackedDevice::start(layout, base, mem)?, Vec::new()),
        };
        Ok(Self {
            kind,
            in_order: false,
            batch: Batch::default(),
        })
    }

    /// Where it lies.
    #[must_use]
    pub fn layout(&self) -> Layout {
        match &self.kind {
            Kind::Split(ring) => Layout::Split(*ring.layout()),
            Kind::Packed(ring, _) => Layout::Packed(*ring.layout()),
        }
    }

    /// Where it stands, as GET_VRING_BASE answers it.
    #[must_use]
    pub fn base(&self) -> u32 {
        match &self.kind {
            Kind::Split(ring) => u32::from(ring.base()),
            Kind::Packed(ring, _) => ring.base(),
        }
    }

    /// Chains taken and not yet returned; a ring is drained when there are none.
    #[must_use]
    pub fn taken(&self) -> u16 {
        match &self.kind {
            Kind::Split(ring) => ring.taken(),
            Kind::Packed(ring, _) => ring.taken(),
        }
    }

    /// Turns VIRTIO_RING_F_EVENT_IDX on or off; off at first.
    pub fn set_event_idx(&mut self, on: bool) {
        match &mut self.kind {
            Kind::Split(ring) => ring.set_event_idx(on),
            Kind::Packed(ring, _) => ring.set_event_idx(on),
        }
    }

    /// Turns VIRTIO_F_IN_ORDER on or off; off at first. With it, chains that are done are shown by [`Self::flush`], several with
    /// one element where that says the same.
    pub fn set_in_order(&mut self, on: bool) {
        self.in_order = on;
    }

    /// The ring that it is, for whoever takes and returns its chains in a way of his own.
    pub fn side(&mut self) -> DeviceSide<'_> {
        match &mut self.kind {
            Kind::Split(ring) => DeviceSide::Split(ring),
            Kind::Packed(ring, _) => DeviceSide::Packed(ring),
        }
    }

    /// At the start, without EVENT_IDX: what a packed ring was told with it before a reset does not hold any more.
    pub fn forget_wish(&self, mem: &dyn GuestAccess) -> Result<(), RingError> {
        match &self.kind {
            Kind::Packed(ring, _) if !ring.event_idx() => ring.set_no_notify(mem, false),
            _ => Ok(()),
        }
    }

    /// Takes the next available chain, if there is one.
    pub fn pop(&mut self, mem: &dyn GuestAccess) -> Result<Option<Chain>, RingError> {
        match &mut self.kind {
            Kind::Split(ring) => ring.pop(mem),
            Kind::Packed(ring, taken) => {
                let popped = ring.pop(mem)?;
                taken.extend(popped.iter().map(|popped| (popped.chain.head, popped.descriptors)));
                Ok(popped.map(|popped| popped.chain))
            }
        }
    }

    /// Puts the chain that was taken last back, as if it had never been taken.
    pub fn undo_pop(&mut self) -> Result<(), RingError> {
        match &mut self.kind {
            Kind::Split(ring) => ring.undo_pop(),
            Kind::Packed(ring, taken) => {
                let nothing = RingError::NothingTaken {
                    what: "put a chain back",
                };
                let (_, descriptors) = taken.pop().ok_or(nothing)?;
                ring.undo_pop(descriptors)
            }
        }
    }

    /// Returns a chain with the bytes written to it. With IN_ORDER the driver sees it after [`Self::flush`].
    pub fn push(&mut self, mem: &dyn GuestAccess, chain: &Chain, len: u32) -> Result<(), RingError> {
        let descriptors = match &mut self.kind {
            Kind::Split(_) => 1,
            Kind::Packed(_, taken) => {
                let at = taken.iter().position(|(id, _)| *id == chain.head);
                // one that was not taken can be returned by a faulty device, which is taken to be of one descriptor
                at.map_or(1, |at| taken.remove(at).1)
            }
        };
        let batch = &mut self.batch;
        batch.last = chain.head;
        batch.len = len;
        batch.chains += 1;
        batch.descriptors += descriptors;
        // of a chain without an element of its own the driver takes it that all of it was written
        if self.in_order && u64::from(len) == chain.writable_len() {
            return Ok(());
        }
        self.flush(mem)
    }

    /// Shows the driver what was returned.
    pub fn flush(&mut self, mem: &dyn GuestAccess) -> Result<(), RingError> {
        let Batch {
            last,
            len,
            chains,
            descriptors,
        } = std::mem::take(&mut self.batch);
        match &mut self.kind {
            _ if chains == 0 => Ok(()),
            Kind::Split(ring) => ring.push_batch(mem, last, len, chains),
            Kind::Packed(ring, _) => ring.push_batch(mem, last, descriptors, len, chains),
        }
    }

    /// Whether the driver wants a call for what was returned since this was last asked.
    pub fn needs_call(&mut self, mem: &dyn GuestAccess) -> Result<bool, RingError> {
        match &mut self.kind {
            Kind::Split(ring) => ring.needs_call(mem),
            Kind::Packed(ring, _) => ring.needs_call(mem),
        }
    }

    /// With EVENT_IDX: asks for a kick when the next chain is made available, and looks again: whether one has been already.
    /// Without, nothing is to be asked for, and there is none.
    pub fn ask_for_kick(&mut self, mem: &dyn GuestAccess) -> Result<bool, RingError> {
        match &self.kind {
            Kind::Split(ring) if ring.event_idx() => {
                ring.set_avail_event(mem, ring.base())?;
                Ok(ring.available(mem)? > 0)
            }
            Kind::Packed(ring, _) if ring.event_idx() => {
                ring.ask_for_kick(mem)?;
                ring.is_available(mem)
            }
            _ => Ok(false),
        }
    }
}
