//! The command line of the reference peers: what `vuh reference-peer backend|frontend …` accepts. Parses, never runs.

use std::os::fd::RawFd;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The command line of `vuh reference-peer`, a verb hidden from the help: the catalogue starts it.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "reference-peer",
    about = "An embedded rust-vmm peer, as a process of its own"
)]
pub struct ReferenceArgs {
    /// Which side of the link this process plays.
    #[command(subcommand)]
    pub role: Role,
}

/// The side of the link a reference peer plays.
#[derive(Debug, Clone, Subcommand)]
pub enum Role {
    /// Serve a device with rust-vmm's `vhost-user-backend` daemon.
    Backend(BackendArgs),
    /// Drive a device with rust-vmm's `vhost_user::Frontend` and a driver-side ring of its own.
    Frontend(FrontendArgs),
}

/// The devices both reference peers know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceKind {
    /// virtio-net; the back-end loops every transmitted frame back on the receive ring of its pair.
    Net,
    /// virtio-blk.
    Blk,
    /// No virtio device: the readable part of every chain is echoed into its writable part.
    Generic,
}

/// What an inherited file descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum FdKind {
    /// A socket that is bound and listens.
    Listening,
    /// A socket that is already connected to the other peer.
    #[default]
    Connected,
}

/// Where a reference back-end meets its front-end: exactly one of the three.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct BackendEndpoint {
    /// Listen on this path (created anew, removed at the end).
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Connect to this path.
    #[arg(long, value_name = "PATH")]
    pub connect: Option<PathBuf>,
    /// Use this inherited file descriptor; see `--fd-kind`.
    #[arg(long, value_name = "N")]
    pub fd: Option<RawFd>,
}

/// `vuh reference-peer backend …`.
#[derive(Debug, Clone, Args)]
pub struct BackendArgs {
    /// The device to serve.
    #[arg(long, value_enum)]
    pub device: DeviceKind,
    /// Queue pairs for net, queues otherwise.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub queues: u16,
    /// Where the front-end is met.
    #[command(flatten)]
    pub endpoint: BackendEndpoint,
    /// What `--fd` is.
    #[arg(long, value_enum, default_value_t, requires = "fd")]
    pub fd_kind: FdKind,
    /// Serve one connection after the other, for ever; not with a connected `--fd`.
    #[arg(long)]
    pub forever: bool,
    /// Announce a shared object on the back-end channel before each turn of a ring, and wait for the answer.
    #[arg(long)]
    pub asks: bool,
    /// blk: the disk's file; its length, rounded down to whole sectors, is the capacity.
    #[arg(long, value_name = "FILE", conflicts_with = "capacity")]
    pub image: Option<PathBuf>,
    /// blk: bytes of a disk that lives in memory.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub capacity: u64,
}

/// Where a reference front-end meets its back-end: exactly one of the three.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct FrontendEndpoint {
    /// Connect to this path.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Listen on this path and take the first connection.
    #[arg(long, value_name = "PATH")]
    pub listen: Option<PathBuf>,
    /// Use this inherited file descriptor; see `--fd-kind`.
    #[arg(long, value_name = "N")]
    pub fd: Option<RawFd>,
}

/// What a net front-end waits for after it transmitted a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Expect {
    /// Every frame comes back, unaltered, on the receive ring of its pair.
    #[default]
    Loopback,
    /// Nothing; the frame's buffer being used is enough.
    None,
}

/// `vuh reference-peer frontend …`.
#[derive(Debug, Clone, Args)]
pub struct FrontendArgs {
    /// The device to drive.
    #[arg(long, value_enum)]
    pub device: DeviceKind,
    /// Where the back-end is met.
    #[command(flatten)]
    pub endpoint: FrontendEndpoint,
    /// What `--fd` is.
    #[arg(long, value_enum, default_value_t, requires = "fd")]
    pub fd_kind: FdKind,
    /// Queue pairs for net, queues otherwise; the requests are spread over them in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub queues: u16,
    /// Descriptors of each ring, a power of two.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(4..=1024))]
    pub ring_size: u16,
    /// Round trips to make.
    #[arg(long, default_value_t = 16)]
    pub requests: u32,
    /// Payload bytes of each request: a frame's length, a disk request's, an echo's.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(32..=65536))]
    pub size: u32,
    /// blk: use only the first N sectors of the disk (default: the capacity it announces).
    #[arg(long, value_name = "N")]
    pub sectors: Option<u64>,
    /// Pass a back-end channel and serve it in a thread.
    #[arg(long)]
    pub channel: bool,
    /// net: what is waited for.
    #[arg(long, value_enum, default_value_t)]
    pub expect: Expect,
    /// Longest wait for one completion or for a connection, in milliseconds.
    #[arg(long, default_value_t = 5000, value_name = "MS")]
    pub timeout_ms: u64,
}
