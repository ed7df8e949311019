//! A ring as the simulated back-end knows it: its configuration, its two bits, and serving it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::inflight::{Places, Turn};
use super::iotlb::Translated;
use super::{F_ACCESS_PLATFORM, F_EVENT_IDX, F_LOG_ALL, Refusal, SimBack};
use crate::memory::{GuestAccess, LoggedAccess};
use crate::peer::device::{Budget, DeviceError, Served, serve_ring};
use crate::peer::sim::Output;
use crate::ring::{Layout, RingDevice, SplitLayout};
use crate::wire::VringAddr;
use crate::wire::features::IN_ORDER;

/// What is served before sockets, other rings and deadlines get their turn: a driver can go on for ever.
const TURN: Budget = Budget {
    chains: 1024,
    bytes: 64 << 20,
};

/// One ring.
#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) size: u16,
    pub(super) base: u32,
    pub(super) address: Option<VringAddr>,
    pub(super) kick: Option<Arc<OwnedFd>>,
    pub(super) call: Option<Arc<OwnedFd>>,
    pub(super) error: Option<Arc<OwnedFd>>,
    pub(super) enabled: bool,
    /// Present while the ring is started.
    pub(super) device: Option<RingDevice>,
    /// It was started and not stopped since, whoever serves it.
    pub(super) started: bool,
    /// Somebody else serves it.
    pub(super) lent: bool,
    /// It was started, and waits for translations of its own addresses.
    pub(super) starting: bool,
    /// It waits for a translation.
    pub(super) waits: bool,
}

impl SimBack {
    /// Starts a ring with what was configured (VU-RING: SET_VRING_KICK starts it).
    pub(super) fn start(&mut self, index: u16) -> Result<(), Refusal> {
        let ring = &self.rings[usize::from(index)];
        if ring.address.is_none() {
            return Err(Refusal::Because(format!("ring {index} has no addresses")));
        }
        if self.has_iommu() {
            return self.start_translated(index);
        }
        let (base, lent) = (ring.base, ring.lent);
        let layout = self.layout(index)?;
        let mut device = RingDevice::start(layout, base, &self.memory)?;
        // whoever has it on loan records nothing
        if let Some(recorder) = self.inflight.as_mut().filter(|_| !lent) {
            let taken_over = recorder.take_over(index, &mut device, &self.lives, &self.memory);
            if self.lives.is_dying() {
                self.die();
                return Ok(());
            }
            taken_over?;
        }
        self.negotiate(&mut device, &self.memory)?;
        let ring = &mut self.rings[usize::from(index)];
        ring.device = Some(device).filter(|_| !lent);
        ring.started = true;
        Ok(())
    }

    /// Stops a ring; gives where it stood.
    pub(super) fn stop(&mut self, index: u16) -> u32 {
        let ring = &mut self.rings[usize::from(index)];
        if let Some(device) = ring.device.take() {
            ring.base = device.base();
        }
        (ring.kick, ring.started, ring.starting, ring.waits) = (None, false, false, false);
        ring.base
    }

    /// What was negotiated of a ring.
    fn negotiate(&self, device: &mut RingDevice, mem: &dyn GuestAccess) -> Result<(), Refusal> {
        device.set_event_idx(self.features & F_EVENT_IDX != 0);
        device.set_in_order(self.features & IN_ORDER != 0);
        Ok(device.forget_wish(mem)?)
    }

    fn has_iommu(&self) -> bool {
        self.features & F_ACCESS_PLATFORM != 0
    }

    /// Starts a ring whose addresses are the device's, or asks for the first translation that is missing.
    fn start_translated(&mut self, index: u16) -> Result<(), Refusal> {
        let ring = &self.rings[usize::from(index)];
        let Some(address) = ring.address else { return Ok(()) };
        let layout = self.layout_at(ring.size, [address.descriptor, address.available, address.used]);
        let memory = Translated::new(&self.iotlb, &self.memory, &self.memory);
        let started = memory
            .covers(address.used, device_part_bytes(&layout), true)
            .map_err(Refusal::from)
            .and_then(|()| Ok(RingDevice::start(layout, ring.base, &memory)?));
        match (started, memory.missed()) {
            (Ok(mut device), _) => {
                self.negotiate(&mut device, &memory)?;
                let ring = &mut self.rings[usize::from(index)];
                (ring.device, ring.started, ring.starting) = (Some(device), true, false);
                Ok(())
            }
            (Err(_), Some(miss)) => {
                self.rings[usize::from(index)].starting = true;
                self.ask_for_translation(miss);
                Ok(())
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Translations have changed: rings that wait for one are looked at again.
    pub(super) fn serve_translated_rings(&mut self) {
        for index in 0..self.rings.len() as u16 {
            let ring = &self.rings[usize::from(index)];
            if ring.starting
                && let Err(error) = self.start_translated(index)
            {
                self.fault(format!("ring {index}: {error}"));
                self.stop(index);
            }
            let ring = &mut self.rings[usize::from(index)];
            if ring.device.is_some() && (std::mem::take(&mut ring.waits) || self.has_iommu()) {
                self.serve(index);
            }
        }
    }

    /// Whether the ring and the next chain on it are translated; asks for what is missing.
    fn is_translated(&mut self, index: u16) -> bool {
        let Some(ring) = self.rings.get(usize::from(index)) else {
            return true;
        };
        let Some(device) = &ring.device else { return true };
        let memory = Translated::new(&self.iotlb, &self.memory, &self.memory);
        let layout = device.layout();
        let (_, _, of_device) = layout.addresses();
        let used = memory.covers(of_device, device_part_bytes(&layout), true);
        // a copy takes the chain, so that the ring stays where it is
        let mut ahead = device.clone();
        let seen = used.is_ok() && layout.check(&memory).is_ok();
        if seen && let Ok(Some(chain)) = ahead.pop(&memory) {
            for (address, length) in &chain.readable {
                let _ = memory.covers(*address, u64::from(*length), false);
            }
            for (address, length) in &chain.writable {
                let _ = memory.covers(*address, u64::from(*length), true);
            }
        }
        let Some(miss) = memory.missed() else { return true };
        self.rings[usize::from(index)].waits = true;
        self.ask_for_translation(miss);
        false
    }

    /// Processes what is available on a ring, if it is started, and rings that this may have woken (loop-back).
    pub(super) fn serve(&mut self, index: u16) {
        self.serve_one(index);
        if self.config.device.as_net().is_some() && index % 2 == 1 {
            self.serve_one(index - 1);
        }
    }

    fn serve_one(&mut self, index: u16) {
        if self.has_iommu() && !self.is_translated(index) {
            return;
        }
        let before = self.has_iommu().then(|| self.ring_device(index).cloned()).flatten();
        match self.serve_turn(index) {
            None => {}
            _ if self.lives.is_dying() => self.die(),
            Some(Ok(served)) => {
                if served.call {
                    self.signal(index);
                }
                if served.more {
                    self.resume_later(index);
                }
            }
            Some(Err(error)) => {
                // the chain may have become available since it was looked for: it is put back then, and translated first
                if before.is_some() {
                    self.rings[usize::from(index)].device = before;
                    if !self.is_translated(index) {
                        return;
                    }
                }
                self.fault(format!("ring {index}: {error}"));
                self.stop(index);
            }
        }
    }

    fn ring_device(&self, index: u16) -> Option<&RingDevice> {
        self.rings.get(usize::from(index))?.device.as_ref()
    }

    fn resume_later(&mut self, index: u16) {
        if self.resume.iter().all(|(_, ring)| *ring != index) {
            self.serial += 1;
            self.resume.push((self.serial, index));
            let token = self.serial;
            self.outputs.push_back(Output::Later { token, ms: 0 });
        }
    }

    fn serve_turn(&mut self, index: u16) -> Option<Result<Served, DeviceError>> {
        let ring = self.rings.get_mut(usize::from(index))?;
        let device = ring.device.as_mut()?;
        let memory = &self.memory;
        let logged;
        let buffers: &dyn GuestAccess = match &self.log {
            Some(log) if self.features & F_LOG_ALL != 0 => {
                logged = LoggedAccess::new(memory, log);
                &logged
            }
            _ => memory,
        };
        let log_ring = ring.address.is_some_and(|a| a.flags & 1 != 0);
        let ring_memory: &dyn GuestAccess = if log_ring { buffers } else { memory };
        let model = self.config.device.as_mut();
        if self.features & F_ACCESS_PLATFORM != 0 {
            // one chain a turn: of the next one it is not known yet whether it is translated
            let ring_memory = Translated::new(&self.iotlb, memory, ring_memory);
            let buffers = Translated::new(&self.iotlb, memory, buffers);
            let turn = Budget { chains: 1, ..TURN };
            return Some(serve_ring(
                model,
                index,
                ring.enabled,
                device,
                &ring_memory,
                &buffers,
                turn,
            ));
        }
        if let Some(recorder) = self.inflight.as_mut().filter(|recorder| recorder.follows(index)) {
            let places = Places {
                ring: ring_memory,
                buffers,
            };
            let turn = Turn {
                lives: &mut self.lives,
                model,
                ring: index,
                enabled: ring.enabled,
                in_order: self.features & IN_ORDER != 0,
                device,
                places,
            };
            return Some(recorder.serve(turn, TURN));
        }
        let served = serve_ring(model, index, ring.enabled, device, ring_memory, buffers, TURN);
        Some(served)
    }
}

/// Bytes of the part that only the device writes; of a packed ring the event suppression, the ring itself is both sides'.
fn device_part_bytes(layout: &Layout) -> u64 {
    match layout {
        Layout::Split(layout) => SplitLayout::used_bytes(layout.size),
        Layout::Packed(_) => 4,
    }
}
