//! What can go wrong while QEMU is steered.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Which of the steering sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// The machine protocol: hot-plug, stop, migration.
    Qmp,
    /// The test protocol: port, memory and register accesses.
    Qtest,
    /// The serial line of a Linux guest: what it is told to do, and what it answers.
    Guest,
}

impl std::fmt::Display for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Qmp => "QMP",
            Self::Qtest => "qtest",
            Self::Guest => "guest",
        })
    }
}

/// Errors of the QEMU peer. Cloneable, because a broken channel fails every later command with the same reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QemuError {
    /// A Unix socket path does not fit `sockaddr_un`.
    #[error("socket path is {len} bytes, the limit is {max}: {path}")]
    SocketPathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        len: usize,
        /// The longest that fits.
        max: usize,
    },
    /// The configuration cannot be expressed on QEMU's command line.
    #[error("QEMU configuration: {what}")]
    Config {
        /// What is wrong with it.
        what: String,
    },
    /// A system call failed.
    #[error("{action}: {message}")]
    Io {
        /// What was attempted.
        action: String,
        /// The kind, for callers that decide by it.
        kind: io::ErrorKind,
        /// The system's words.
        message: String,
    },
    /// QEMU closed the socket: it ended, or it refused the channel.
    #[error("QEMU closed its {channel} socket while `{outstanding}` was outstanding")]
    Closed {
        /// Which socket.
        channel: Channel,
        /// What waited for an answer.
        outstanding: String,
    },
    /// No answer before the deadline: QEMU's main loop is blocked, or it never came up.
    #[error("no {channel} answer within {waited:?} to `{outstanding}`")]
    TimedOut {
        /// Which socket.
        channel: Channel,
        /// What waited for an answer.
        outstanding: String,
        /// How long the whole run was allowed to take.
        waited: Duration,
    },
    /// The handle was dropped while the command was under way.
    #[error("the QEMU handle was shut down while `{outstanding}` was outstanding")]
    Stopped {
        /// What waited for an answer.
        outstanding: String,
    },
    /// QEMU answered something that the protocol does not allow.
    #[error("{channel} protocol: answer to `{outstanding}` is {answer:?}")]
    Protocol {
        /// Which socket.
        channel: Channel,
        /// What was asked.
        outstanding: String,
        /// What came.
        answer: String,
    },
    /// A QMP command was refused.
    #[error("QMP {execute}: {class}: {description}")]
    Qmp {
        /// The command.
        execute: String,
        /// QEMU's error class.
        class: String,
        /// QEMU's words.
        description: String,
    },
    /// The guest could not do it.
    #[error("the guest says to `{command}`: {reason}")]
    Guest {
        /// What it was told to do.
        command: String,
        /// Its words.
        reason: String,
    },
    /// No virtio device stands on PCI bus 0.
    #[error("no virtio device on PCI bus 0 (looked at {slots} slots)")]
    NoDevice {
        /// How many slots were looked at.
        slots: u8,
    },
    /// The device lacks something that a modern virtio-pci device has.
    #[error("virtio device in slot {slot}: {what}")]
    BadDevice {
        /// The PCI slot.
        slot: u8,
        /// What is missing or wrong.
        what: String,
    },
    /// The device did not keep FEATURES_OK.
    #[error("device refused features {accepted:#x} (offered {offered:#x}, status {status:#04x})")]
    FeaturesRefused {
        /// What it offers.
        offered: u64,
        /// What the driver wrote.
        accepted: u64,
        /// The status byte read back.
        status: u8,
    },
    /// The command needs a driver in another state.
    #[error("{command} needs {needs}")]
    DriverState {
        /// The command.
        command: &'static str,
        /// The state it needs.
        needs: &'static str,
    },
    /// No such ring.
    #[error("ring {ring} does not exist, the driver has set up {rings}")]
    NoRing {
        /// The ring asked for.
        ring: u16,
        /// How many there are.
        rings: u16,
    },
    /// The ring cannot take the chain.
    #[error("ring {ring} has {free} free descriptors, the chain needs {needed}")]
    RingFull {
        /// The ring.
        ring: u16,
        /// Free descriptors.
        free: u16,
        /// Descriptors needed.
        needed: usize,
    },
    /// The device broke the ring's rules (a back-end's fault, seen from the driver).
    #[error("ring {ring}: {what}")]
    RingBroken {
        /// The ring.
        ring: u16,
        /// What was found.
        what: String,
    },
    /// The device did not use the chain in time.
    #[error("ring {ring}: nothing used within {within:?}")]
    NotUsed {
        /// The ring.
        ring: u16,
        /// How long was waited.
        within: Duration,
    },
    /// The driver was reset while the command waited for the device.
    #[error("the driver was reset while the command waited on ring {ring}")]
    WasReset {
        /// The ring.
        ring: u16,
    },
}

impl QemuError {
    pub(super) fn io(action: impl Into<String>, error: &io::Error) -> Self {
        Self::Io {
            action: action.into(),
            kind: error.kind(),
            message: error.to_string(),
        }
    }

    /// True if the channel is of no more use after this error.
    pub fn breaks_channel(&self) -> bool {
        matches!(
            self,
            Self::Io { .. }
                | Self::Closed { .. }
                | Self::TimedOut { .. }
                | Self::Stopped { .. }
                | Self::Protocol { .. }
        )
    }
}
