//! QEMU's command line and the files it needs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::device::QemuDevice;
use super::error::QemuError;

/// Which end of the vhost-user socket QEMU takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChardevEnd {
    /// QEMU connects; the back-end listens.
    Connect {
        /// The socket.
        path: PathBuf,
        /// How long QEMU waits before it connects again after a loss; never again if `None`.
        reconnect_ms: Option<u32>,
    },
    /// QEMU listens; the back-end connects once [`super::Completion::Connected`] was reported for QMP.
    Listen {
        /// The socket.
        path: PathBuf,
    },
}

/// When the device is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// From the start.
    AtStart,
    /// Later, by the QMP calls of [`QemuCommand::plug`].
    ByHotplug,
}

/// How QEMU is to be started.
#[derive(Debug, Clone)]
pub struct QemuConfig {
    /// The program, looked up on `PATH` if it has no slash.
    pub program: OsString,
    /// An existing directory of its own; short, as socket paths are limited to 107 bytes.
    pub run_dir: PathBuf,
    /// Guest memory in MiB, 64 to 3072.
    pub memory_mib: u32,
    /// The device.
    pub device: QemuDevice,
    /// When it is attached.
    pub attach: Attach,
    /// The vhost-user socket.
    pub vhost_socket: ChardevEnd,
    /// Appended as they are.
    pub extra_args: Vec<OsString>,
}

impl QemuConfig {
    /// `qemu-system-x86_64` with 256 MiB and the device attached from the start.
    pub fn new(run_dir: impl Into<PathBuf>, device: QemuDevice, vhost_socket: ChardevEnd) -> Self {
        Self {
            program: "qemu-system-x86_64".into(),
            run_dir: run_dir.into(),
            memory_mib: 256,
            device,
            attach: Attach::AtStart,
            vhost_socket,
            extra_args: Vec::new(),
        }
    }
}

/// A file to be written before QEMU starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// Where.
    pub path: PathBuf,
    /// Its content: 64 KiB.
    pub bytes: Vec<u8>,
}

impl Firmware {
    /// Writes the file.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(&self) -> Result<(), QemuError> {
        std::fs::write(&self.path, &self.bytes)
            .map_err(|error| QemuError::io(format!("write {}", self.path.display()), &error))
    }
}

/// The two steering sockets. The harness listens, QEMU connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sockets {
    /// For QMP.
    pub qmp: PathBuf,
    /// For qtest.
    pub qtest: PathBuf,
}

impl Sockets {
    /// The sockets in a run directory.
    ///
    /// # Errors
    /// [`QemuError::SocketPathTooLong`].
    pub fn in_dir(run_dir: &Path) -> Result<Self, QemuError> {
        let _ = run_dir;
        todo!()
    }
}

/// One QMP command.
#[derive(Debug, Clone, PartialEq)]
pub struct QmpCall {
    /// Its name.
    pub execute: &'static str,
    /// Its arguments.
    pub arguments: serde_json::Value,
}

/// Everything that starts one QEMU.
#[derive(Debug, Clone, PartialEq)]
pub struct QemuCommand {
    /// The program.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Write it before the start.
    pub firmware: Firmware,
    /// Listen on them ([`super::QemuHandle::listen`]) before the start.
    pub sockets: Sockets,
    /// The QMP calls, in order, that attach the device: chardev, netdev, device.
    pub plug: Vec<QmpCall>,
    /// The QMP calls that take it away again. After the first (`device_del`) the guest's part is [`super::Command::AcpiEject`].
    pub unplug: Vec<QmpCall>,
}

impl QemuCommand {
    /// The command line of a configuration.
    ///
    /// # Errors
    /// [`QemuError::SocketPathTooLong`], [`QemuError::Config`].
    pub fn new(config: &QemuConfig) -> Result<Self, QemuError> {
        let _ = config;
        todo!()
    }
}
