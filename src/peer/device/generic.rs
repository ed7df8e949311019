//! A device of any kind that echoes: what a chain gives to read is copied to where it lets write.

use crate::memory::GuestAccess;
use crate::ring::Chain;

use super::{DeviceError, DeviceModel, Processed, write_config_range};

/// Most bytes of a chain that are copied.
const ECHO_BYTES_MAX: usize = 1 << 20;

/// Longest configuration space: what a GET_CONFIG payload carries.
const CONFIG_BYTES_MAX: usize = 256;

/// How a generic device looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenericOptions {
    /// Virtio device id; 4, entropy, by default.
    pub device_id: u32,
    /// Feature bits.
    pub features: u64,
    /// Configuration space; all of it may be written.
    pub config: Vec<u8>,
    /// Rings.
    pub queues: u16,
    /// Byte that fills what a chain lets write beyond what it gives to read; without it the rest stays as it is.
    pub fill: Option<u8>,
}

impl Default for GenericOptions {
    fn default() -> Self {
        Self {
            device_id: 4,
            features: 0,
            config: Vec::new(),
            queues: 1,
            fill: None,
        }
    }
}

/// The echoing device.
#[derive(Debug, Clone)]
pub struct Generic {
    options: GenericOptions,
    config: Vec<u8>,
}

impl Generic {
    /// A device with these options.
    pub fn new(options: GenericOptions) -> Result<Self, DeviceError> {
        if options.config.len() > CONFIG_BYTES_MAX {
            let value = options.config.len() as u64;
            return Err(DeviceError::BadOption {
                option: "config",
                value,
                allowed: "256 bytes or less",
            });
        }
        let config = options.config.clone();
        Ok(Self { options, config })
    }
}

impl DeviceModel for Generic {
    fn device_id(&self) -> u32 {
        self.options.device_id
    }

    fn features(&self) -> u64 {
        self.options.features
    }

    fn set_features(&mut self, _acked: u64) {}

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn write_config(&mut self, offset: u32, bytes: &[u8]) -> bool {
        let all = 0..self.config.len();
        write_config_range(&mut self.config, all, offset, bytes)
    }

    fn queues(&self) -> u16 {
        self.options.queues
    }

    fn process(&mut self, _ring: u16, chain: &Chain, mem: &dyn GuestAccess) -> Result<Processed, DeviceError> {
        let bytes = chain.read_all(mem, ECHO_BYTES_MAX)?;
        let mut written = chain.write(mem, &bytes)?;
        if let Some(fill) = self.options.fill {
            let rest = chain
                .writable_len()
                .min(ECHO_BYTES_MAX as u64)
                .saturating_sub(u64::from(written));
            written += chain.write_at(mem, u64::from(written), &vec![fill; rest as usize])?;
        }
        Ok(Processed::Written(written))
    }

    fn reset(&mut self) {
        self.config.clone_from(&self.options.config);
    }
}
