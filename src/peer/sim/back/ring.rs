//! A ring as the simulated back-end knows it: its configuration, its two bits, and serving it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{F_EVENT_IDX, F_LOG_ALL, Refusal, SimBack};
use crate::memory::{GuestAccess, LoggedAccess};
use crate::peer::device::{Budget, DeviceError, Served, serve_ring};
use crate::peer::sim::Output;
use crate::ring::{SplitDevice, SplitLayout};
use crate::wire::VringAddr;

/// What is served before sockets, other rings and deadlines get their turn: a driver can go on for ever.
const TURN: Budget = Budget {
    chains: 1024,
    bytes: 64 << 20,
};

/// One ring.
#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) size: u16,
    pub(super) base: u16,
    pub(super) address: Option<VringAddr>,
    pub(super) kick: Option<Arc<OwnedFd>>,
    pub(super) call: Option<Arc<OwnedFd>>,
    pub(super) error: Option<Arc<OwnedFd>>,
    pub(super) enabled: bool,
    /// Present while the ring is started.
    pub(super) device: Option<SplitDevice>,
}

impl SimBack {
    /// Starts a ring with what was configured (VU-RING: SET_VRING_KICK starts it).
    pub(super) fn start(&mut self, index: u16) -> Result<(), Refusal> {
        let ring = &self.rings[usize::from(index)];
        let address = ring
            .address
            .ok_or_else(|| Refusal::Because(format!("ring {index} has no addresses")))?;
        let layout = SplitLayout {
            size: ring.size,
            desc: self.memory.user_to_guest(address.descriptor)?,
            avail: self.memory.user_to_guest(address.available)?,
            used: self.memory.user_to_guest(address.used)?,
        };
        let mut device = SplitDevice::start(layout, ring.base, &self.memory)?;
        device.set_event_idx(self.features & F_EVENT_IDX != 0);
        self.rings[usize::from(index)].device = Some(device);
        Ok(())
    }

    /// Stops a ring; gives where it stood.
    pub(super) fn stop(&mut self, index: u16) -> u16 {
        let ring = &mut self.rings[usize::from(index)];
        if let Some(device) = ring.device.take() {
            ring.base = device.base();
        }
        ring.kick = None;
        ring.base
    }

    /// Processes what is available on a ring, if it is started, and rings that this may have woken (loop-back).
    pub(super) fn serve(&mut self, index: u16) {
        self.serve_one(index);
        if self.config.device.as_net().is_some() && index % 2 == 1 {
            self.serve_one(index - 1);
        }
    }

    fn serve_one(&mut self, index: u16) {
        match self.serve_turn(index) {
            None => {}
            Some(Ok(served)) => {
                if served.call {
                    self.signal(index);
                }
                if served.more {
                    self.resume_later(index);
                }
            }
            Some(Err(error)) => {
                self.fault(format!("ring {index}: {error}"));
                self.stop(index);
            }
        }
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
        let served = serve_ring(model, index, ring.enabled, device, ring_memory, buffers, TURN);
        Some(served)
    }

    fn signal(&mut self, index: u16) {
        let ring = &self.rings[usize::from(index)];
        if let Some(fd) = &ring.call {
            let fd = Arc::clone(fd);
            self.outputs.push_back(Output::Call { ring: index, fd });
        }
    }
}
