//! One ring through one model: take, process, return, until the ring is empty, the model has enough, or the budget is spent.

use crate::memory::GuestAccess;
use crate::ring::RingDevice;

use super::{DeviceError, DeviceModel, Processed};

/// What serving a ring has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Served {
    /// Chains returned.
    pub returned: u16,
    /// Whether the driver is to be called.
    pub call: bool,
    /// Whether the budget ended it, so that there may be more.
    pub more: bool,
}

/// How much is done before others get their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Chains.
    pub chains: u16,
    /// Bytes of the buffers of these chains: the turn ends with the chain that reaches this.
    pub bytes: u64,
}

/// Serves a ring that is started, until `budget` is spent.
///
/// `enabled` is the ring's other bit: a disabled ring is processed without side effects. `ring_mem` is used for the ring itself and
/// `mem` for buffers: they differ when buffers are logged as dirty and the used ring is not. On an error in a chain what was
/// returned before stays returned, and the chain stays taken.
pub fn serve_ring(
    model: &mut dyn DeviceModel,
    ring: u16,
    enabled: bool,
    device: &mut RingDevice,
    ring_mem: &dyn GuestAccess,
    mem: &dyn GuestAccess,
    budget: Budget,
) -> Result<Served, DeviceError> {
    let queues = model.queues();
    if ring >= queues {
        return Err(DeviceError::NoRing { ring, queues });
    }
    let mut served = Served::default();
    let mut bytes = 0u64;
    let mut turn = || -> Result<(), DeviceError> {
        while served.returned < budget.chains && bytes < budget.bytes {
            if enabled && !model.ready(ring) {
                break;
            }
            let Some(chain) = device.pop(ring_mem)? else {
                // Ask for a kick, then look again: what was published in between brings none.
                if !device.ask_for_kick(ring_mem)? {
                    break;
                }
                continue;
            };
            bytes = bytes.saturating_add(chain.readable_len().saturating_add(chain.writable_len()));
            let done = if enabled {
                model.process(ring, &chain, mem)?
            } else {
                model.process_disabled(ring, &chain, mem)?
            };
            match done {
                Processed::Written(len) => {
                    device.push(ring_mem, &chain, len)?;
                    served.returned += 1;
                }
                Processed::Deferred => {
                    device.undo_pop()?;
                    break;
                }
            }
        }
        Ok(())
    };
    let ended = turn();
    device.flush(ring_mem)?;
    ended?;
    served.more = served.returned == budget.chains || bytes >= budget.bytes;
    if served.returned > 0 {
        served.call = device.needs_call(ring_mem)?;
    }
    Ok(served)
}
