//! What each request does to the simulated back-end, and what it answers.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::inflight::Recorder;
use super::{Answered, F_PROTOCOL_FEATURES, Refusal, SimBack};
use crate::memory::{DirtyLog, Inflight, MemRegionDesc};
use crate::sys::fd::duplicate;
use crate::wire::id::frontend as request;
use crate::wire::{Config, MemRegion, Message, Payload, ProtocolFeature, ShmemConfig, VringBase, VringFd, VringState};

/// SET_DEVICE_STATE_FD: failed, and no descriptor in the reply.
const DEVICE_STATE_FAILED: u64 = 0x101;

impl SimBack {
    /// Carries out a request. `Ok(None)` is success with the plain acknowledgement.
    pub(super) fn handle(&mut self, message: &Message, mut fds: Vec<OwnedFd>) -> Answered {
        let number = |value: u64| Ok(Some((Payload::U64(value), Vec::new())));
        match (message.request, &message.payload) {
            (request::GET_FEATURES, _) => number(self.config.features),
            (request::SET_FEATURES, Payload::U64(features)) => self.set_features(*features),
            (request::GET_PROTOCOL_FEATURES, _) => number(self.config.protocol_features),
            (request::SET_PROTOCOL_FEATURES, Payload::U64(features)) => {
                let unknown = features & !self.config.protocol_features;
                if unknown != 0 {
                    return refuse(format!("protocol features {unknown:#x} were not offered"));
                }
                self.protocol_features = *features;
                Ok(None)
            }
            (request::GET_QUEUE_NUM, _) => number(u64::from(self.config.queues)),
            (request::GET_MAX_MEM_SLOTS, _) => number(self.config.memory_slots),
            (request::SET_OWNER | request::SET_BACKEND_REQ_FD | request::SEND_RARP | request::NET_SET_MTU, _) => {
                Ok(None)
            }
            (request::RESET_OWNER | request::RESET_DEVICE, _) => {
                self.rings.iter_mut().for_each(|ring| ring.enabled = false);
                self.config.device.reset();
                self.status = 0;
                if message.request == request::RESET_DEVICE {
                    // the driver makes its rings anew, and nothing that was recorded is in them (VU-IFL-04)
                    (self.inflight, self.inflight_file) = (None, None);
                }
                Ok(None)
            }
            (request::SET_MEM_TABLE, Payload::MemTable(table)) => {
                if table.regions.len() != fds.len() {
                    return refuse(format!("{} regions, {} descriptors", table.regions.len(), fds.len()));
                }
                let regions = table.regions.iter().map(describe).zip(fds).collect();
                self.memory.replace(regions)?;
                Ok(None)
            }
            (request::ADD_MEM_REG, Payload::MemReg(reg)) => {
                let fd = one_fd(&mut fds)?;
                self.memory.map(describe(&reg.region), fd)?;
                Ok(None)
            }
            (request::REM_MEM_REG, Payload::MemReg(reg)) => {
                let region = &reg.region;
                self.memory
                    .remove(region.guest_address, region.size, region.user_address)?;
                Ok(None)
            }
            (request::SET_LOG_BASE, Payload::Log(log)) => {
                let fd = one_fd(&mut fds)?;
                self.log = Some(Arc::new(DirtyLog::map(fd, log.offset, log.size)?));
                if self.has(ProtocolFeature::LogShmfd) {
                    // 16 bytes: of the sizes in use, the one that every known front-end takes
                    return Ok(Some((message.payload.clone(), Vec::new())));
                }
                Ok(None)
            }
            (request::SET_LOG_FD, _) => {
                self.log_event = Some(one_fd(&mut fds)?);
                Ok(None)
            }
            (request::GET_CONFIG, Payload::Config(config)) => Ok(Some((self.get_config(config), Vec::new()))),
            (request::SET_CONFIG, Payload::Config(config)) => {
                if self.config.device.write_config(config.offset, &config.payload) {
                    Ok(None)
                } else {
                    refuse("these bytes of the configuration space cannot be written".to_owned())
                }
            }
            (request::GET_INFLIGHT_FD, Payload::Inflight(wanted)) => {
                let format = self.inflight_format();
                let (area, fd) = Inflight::allocate(format, wanted.num_queues, wanted.queue_size)?;
                let mut reply = *wanted;
                (reply.mmap_size, reply.mmap_offset) = (area.size(), 0);
                Ok(Some((Payload::Inflight(reply), vec![fd])))
            }
            (request::SET_INFLIGHT_FD, Payload::Inflight(area)) => {
                let fd = one_fd(&mut fds)?;
                let file = duplicate(&fd).map_err(|error| Refusal::Because(error.to_string()))?;
                self.inflight_file = Some((file, *area));
                let (queues, size) = (area.num_queues, area.queue_size);
                let format = self.inflight_format();
                let mut area = Inflight::map(fd, format, area.mmap_offset, area.mmap_size, queues, size)?;
                if let Some(life) = self.lives.last_writes() {
                    area.lives(life.clone());
                }
                self.inflight = Some(Recorder::new(area, self.config.inflight_fault));
                Ok(None)
            }
            (request::GET_STATUS, _) => number(self.status),
            (request::SET_STATUS, Payload::U64(status)) => {
                self.status = *status;
                Ok(None)
            }
            (request::IOTLB_MSG, Payload::Iotlb(told)) => match told.kind {
                IOTLB_UPDATE => self.iotlb.update(told).map(|()| None).map_err(Refusal::Because),
                IOTLB_INVALIDATE => {
                    self.iotlb.invalidate(told.iova, told.size);
                    Ok(None)
                }
                other => refuse(format!("IOTLB_MSG of type {other}")),
            },
            // QEMU loses the UUID on the way
            (request::GET_SHARED_OBJECT, Payload::Empty) => {
                let file = self.latest_object();
                Ok(Some((Payload::Empty, file.into_iter().collect())))
            }
            (request::GET_SHARED_OBJECT, Payload::SharedObject(object)) => {
                let file = self.object(&object.uuid);
                Ok(Some((Payload::Empty, file.into_iter().collect())))
            }
            (request::SET_DEVICE_STATE_FD, _) => number(DEVICE_STATE_FAILED),
            (request::CHECK_DEVICE_STATE, _) => number(1),
            (request::GET_SHMEM_CONFIG, _) => Ok(Some((self.shmem_config().into(), Vec::new()))),
            (request::POSTCOPY_END, _) => number(1),
            (_, payload) => match payload.ring_index() {
                Some(index) => self.ring_request(message, index, fds),
                None => refuse(format!(
                    "not served, or with a payload of {} bytes",
                    payload.encode().len()
                )),
            },
        }
    }

    fn ring_request(&mut self, message: &Message, index: u32, fds: Vec<OwnedFd>) -> Answered {
        let rings = self.rings.len();
        let Some(ring) = usize::try_from(index).ok().and_then(|i| self.rings.get_mut(i)) else {
            return refuse(format!("there is no ring {index}, only {rings}"));
        };
        // checked by the look-up above: a ring index is below 65536
        let index = index as u16;
        match (message.request, &message.payload) {
            (request::SET_VRING_NUM, Payload::VringState(VringState { num, .. })) => {
                let size = u16::try_from(*num).ok().filter(|n| n.is_power_of_two() && *n <= 0x8000);
                ring.size = size.ok_or_else(|| Refusal::Because(format!("{num} is no ring size")))?;
                Ok(None)
            }
            (request::SET_VRING_BASE, Payload::VringBase(base)) => {
                ring.base = base.indices;
                Ok(None)
            }
            (request::SET_VRING_ADDR, Payload::VringAddr(address)) => {
                ring.address = Some(*address);
                Ok(None)
            }
            (request::SET_VRING_ENABLE, Payload::VringState(VringState { num, .. })) => {
                if *num > 1 {
                    return refuse(format!("SET_VRING_ENABLE with {num}"));
                }
                ring.enabled = *num == 1;
                self.serve(index);
                Ok(None)
            }
            (request::SET_VRING_ENDIAN, Payload::VringState(VringState { num: 0, .. })) => Ok(None),
            (request::SET_VRING_KICK, Payload::VringFd(fd)) => {
                ring.kick = vring_fd(fd, fds)?;
                if !ring.started {
                    self.start(index)?;
                }
                self.serve(index);
                Ok(None)
            }
            (request::SET_VRING_CALL, Payload::VringFd(fd)) => {
                ring.call = vring_fd(fd, fds)?;
                Ok(None)
            }
            (request::SET_VRING_ERR, Payload::VringFd(fd)) => {
                ring.error = vring_fd(fd, fds)?;
                Ok(None)
            }
            (request::VRING_KICK, _) => {
                if !ring.started {
                    self.start(index)?;
                }
                self.serve(index);
                Ok(None)
            }
            (request::GET_VRING_BASE | request::GET_VRING_BASE_SKIP_DRAIN, _) => {
                self.forget_page(index);
                let indices = self.stop(index);
                let base = VringBase {
                    index: u32::from(index),
                    indices,
                };
                Ok(Some((Payload::VringBase(base), Vec::new())))
            }
            _ => refuse("not served".to_owned()),
        }
    }

    fn set_features(&mut self, features: u64) -> Answered {
        let unknown = features & !self.config.features;
        if unknown != 0 {
            return refuse(format!("features {unknown:#x} were not offered"));
        }
        self.features = features;
        self.config.device.set_features(features);
        if features & F_PROTOCOL_FEATURES == 0 {
            self.rings.iter_mut().for_each(|ring| ring.enabled = true);
        }
        Ok(None)
    }

    fn shmem_config(&self) -> ShmemConfig {
        let mut config = ShmemConfig::default();
        for (size, of_device) in config.sizes.iter_mut().zip(&self.config.shared_memory) {
            *size = *of_device;
        }
        config.num_regions = config.sizes.iter().filter(|size| **size > 0).count() as u32;
        config
    }

    /// The configuration space as a driver reads it.
    pub fn config_space(&self) -> &[u8] {
        self.changed_config
            .as_deref()
            .unwrap_or_else(|| self.config.device.config())
    }

    /// The device changes its configuration space; false if it has no such bytes.
    pub fn change_config(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let mut space = self.config_space().to_vec();
        let Some(place) = space.get_mut(offset..offset.saturating_add(bytes.len())) else {
            return false;
        };
        place.copy_from_slice(bytes);
        self.changed_config = Some(space);
        true
    }

    /// The configuration space, or an empty payload where the range lies outside of it.
    fn get_config(&self, wanted: &Config) -> Payload {
        let space = self.config_space();
        let start = wanted.offset as usize;
        let end = start.saturating_add(wanted.size as usize);
        // a driver may ask for the whole structure of a newer specification: what the device does not have is 0
        if end > CONFIG_MAX {
            return Payload::Raw(Vec::new());
        }
        let mut bytes: Vec<u8> = space.iter().copied().skip(start).take(wanted.size as usize).collect();
        bytes.resize(wanted.size as usize, 0);
        Payload::Config(Config {
            payload: bytes,
            ..wanted.clone()
        })
    }
}

/// Types of IOTLB_MSG.
const IOTLB_UPDATE: u8 = 2;
const IOTLB_INVALIDATE: u8 = 3;

/// Most bytes of configuration space that vhost-user carries.
const CONFIG_MAX: usize = 256;

fn refuse(why: String) -> Answered {
    Err(Refusal::Because(why))
}

fn describe(region: &MemRegion) -> MemRegionDesc {
    MemRegionDesc {
        guest_address: region.guest_address,
        size: region.size,
        user_address: region.user_address,
        mmap_offset: region.mmap_offset,
    }
}

fn one_fd(fds: &mut Vec<OwnedFd>) -> Result<OwnedFd, Refusal> {
    match (fds.pop(), fds.is_empty()) {
        (Some(fd), true) => Ok(fd),
        (None, _) => Err(Refusal::Because("no descriptor is attached".to_owned())),
        (Some(_), false) => Err(Refusal::Because(format!(
            "{} descriptors are attached, not 1",
            fds.len() + 1
        ))),
    }
}

fn vring_fd(value: &VringFd, mut fds: Vec<OwnedFd>) -> Result<Option<Arc<OwnedFd>>, Refusal> {
    if value.no_fd {
        return if fds.is_empty() {
            Ok(None)
        } else {
            Err(Refusal::Because(
                "bit 8 says no descriptor, and one is attached".to_owned(),
            ))
        };
    }
    one_fd(&mut fds).map(|fd| Some(Arc::new(fd)))
}
