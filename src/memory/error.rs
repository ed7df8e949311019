//! What can be wrong with a region, a file or an address; facts in fields so that a verdict can quote them.

use nix::errno::Errno;
use thiserror::Error;

/// The address space in which something was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Guest physical addresses.
    Guest,
    /// The front-end's own addresses.
    User,
}

impl std::fmt::Display for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Guest => "guest",
            Self::User => "user",
        })
    }
}

/// Errors of the memory room.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// No region holds the address range, or not all of it.
    #[error("no region covers {space} {address:#x}..{:#x}; regions: {known}", .address.saturating_add(*.length))]
    Unmapped {
        /// The space the address belongs to.
        space: Space,
        /// First byte asked for.
        address: u64,
        /// Bytes asked for.
        length: u64,
        /// The regions there are, as `start..end` in that space.
        known: String,
    },
    /// The range is covered, but by more than one region, where one is demanded.
    #[error("guest {address:#x}..{:#x} is not in one region; regions: {known}", .address.saturating_add(*.length))]
    Straddles {
        /// First byte asked for.
        address: u64,
        /// Bytes asked for.
        length: u64,
        /// The regions there are.
        known: String,
    },
    /// An atomic access at an address that is not aligned in the mapping.
    #[error("guest address {address:#x} is not aligned to {align} in its mapping")]
    Misaligned {
        /// The guest address.
        address: u64,
        /// Alignment wanted, in bytes.
        align: u64,
    },
    /// A device address that nobody has translated yet.
    #[error("device address {iova:#x} has no translation")]
    Untranslated {
        /// The address.
        iova: u64,
    },
    /// A region of no bytes.
    #[error("region at guest {guest_address:#x} has size 0")]
    EmptyRegion {
        /// Its guest address.
        guest_address: u64,
    },
    /// Start and length do not fit in 64 bits.
    #[error("{what} {address:#x} + {size:#x} overflows")]
    Overflow {
        /// Which sum.
        what: &'static str,
        /// Start.
        address: u64,
        /// Length.
        size: u64,
    },
    /// Two regions share addresses.
    #[error("region {address:#x}..{:#x} overlaps {other:#x}..{:#x} in {space} space",
        .address.saturating_add(*.size), .other.saturating_add(*.other_size))]
    Overlap {
        /// The space in which they overlap.
        space: Space,
        /// Start of the new region.
        address: u64,
        /// Size of the new region.
        size: u64,
        /// Start of the one that is there.
        other: u64,
        /// Size of the one that is there.
        other_size: u64,
    },
    /// A file of a size that nobody has.
    #[error("a file of {bytes:#x} bytes, more than {limit:#x}")]
    TooLarge {
        /// Bytes.
        bytes: u64,
        /// Bytes that there may be.
        limit: u64,
    },
    /// More regions than the table holds.
    #[error("more than {limit} regions")]
    TooManyRegions {
        /// The bound.
        limit: usize,
    },
    /// The file ends before the region does; touching the rest would raise SIGBUS.
    #[error("fd has {file_size:#x} bytes but the region needs {offset:#x} + {size:#x}")]
    FileTooSmall {
        /// Bytes in the file.
        file_size: u64,
        /// Where the region begins in it.
        offset: u64,
        /// Bytes of the region.
        size: u64,
    },
    /// The file was truncated after it was mapped, and what was touched is gone.
    #[error("the fd of {offset:#x} + {size:#x} was truncated under its mapping")]
    Truncated {
        /// Where the mapping begins in it.
        offset: u64,
        /// Bytes mapped.
        size: u64,
    },
    /// The fd is no regular file, so its size says nothing about what can be mapped.
    #[error("fd is not a regular file (mode {mode:#o})")]
    NotAFile {
        /// `st_mode`.
        mode: u32,
    },
    /// The kernel refused a call on the memory's file.
    #[error("{call} failed: {errno}")]
    System {
        /// The call.
        call: &'static str,
        /// The error.
        errno: Errno,
    },
    /// The region to remove is not in the table.
    #[error("no region {guest_address:#x}+{size:#x} at user {user_address:#x}; regions: {known}")]
    NoSuchRegion {
        /// Guest address asked for.
        guest_address: u64,
        /// Size asked for.
        size: u64,
        /// User address asked for.
        user_address: u64,
        /// The regions there are.
        known: String,
    },
    /// An index past the last region.
    #[error("no region with index {index}, there are {count}")]
    NoSuchIndex {
        /// Index asked for.
        index: usize,
        /// Regions there are.
        count: usize,
    },
    /// A write to guest memory that the dirty log has no bit for.
    #[error("dirty log of {log_size:#x} bytes has no bit for {address:#x}..{:#x}", .address.saturating_add(*.length))]
    PastLog {
        /// First byte written.
        address: u64,
        /// Bytes written.
        length: u64,
        /// Bytes in the log.
        log_size: u64,
    },
    /// A dirty log of no bytes.
    #[error("dirty log has size 0")]
    EmptyLog,
    /// An inflight area whose shape or content contradicts itself.
    #[error("inflight area: {what} is {value}, allowed is {allowed}")]
    BadInflight {
        /// The field.
        what: &'static str,
        /// What it holds.
        value: u64,
        /// What it may hold.
        allowed: String,
    },
}

impl MemoryError {
    /// Wraps an I/O error of the named call.
    pub(crate) fn io(call: &'static str, error: &std::io::Error) -> Self {
        Self::System {
            call,
            errno: Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO)),
        }
    }
}
