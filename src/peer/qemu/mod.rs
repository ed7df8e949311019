//! A real QEMU as front-end peer, driven without a guest or by one.
//!
//! Owns QEMU's command line, the two sockets that steer it, and a virtio-pci driver that is played over qtest. Without a guest, a
//! firmware of `hlt` keeps the virtual CPU asleep while the machine runs, and the qtest socket takes the part of the guest driver
//! beside QMP. With a Linux guest its own drivers do, and a serial line takes the place of qtest (`guest`; what is at its other
//! end stands in `harness/guest/`). Never starts a process (it hands out program and arguments), never touches the vhost-user
//! socket.
//!
//! The harness listens on both sockets and QEMU connects to them, so readiness is told by `accept` and by QEMU's answers:
//! there is nothing to poll for, even while QEMU waits in its start-up for a back-end.
//!
//! ```text
//! QemuConfig ─ QemuCommand::new ─► program, args, firmware, sockets
//!                                          │
//!             QemuHandle::listen(sockets) ─┴─► submit(Command) … wake_fd() readable … take_completions()
//! ```

mod command;
mod device;
mod driver;
mod error;
mod exchange;
mod guest;
mod lines;
mod mailbox;
mod packed_ring;
mod pci;
mod qmp;
mod qtest;
mod ring;
mod session;
mod worker;

#[cfg(test)]
mod tests;

pub use command::{Attach, ChardevEnd, Firmware, QemuCommand, QemuConfig, QmpCall, Sockets};
pub use device::{Attachment, DeviceKind, Property, QemuDevice, Value};
pub use error::{Channel, QemuError};
pub use exchange::{
    BlkAnswer, BlkRequest, Chain, Command, CommandId, Completion, DriverReport, DriverState, FeatureChoice, Outcome,
    RingPlace, Used,
};
pub use worker::QemuHandle;
