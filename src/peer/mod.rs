//! Peers: simulated front-end and back-end, the rust-vmm reference, QEMU, other processes, the catalogue. Judges nothing.

pub mod apart;
pub mod bare;
pub mod catalogue;
pub mod device;
mod probe;
pub mod qemu;
pub mod reference;
pub mod sim;
