//! The wire room: header, messages, payloads, feature bits and their names. A codec over byte slices, without any I/O.
//!
//! One table (`table/`) says everything about a request; names, decoding, notation and the reference pages read it.
//! Whatever does not decode stays as raw bytes, so that nothing a peer sent is lost, refused or changed here.

mod dialect;
pub mod docs;
pub mod features;
mod fields;
mod header;
mod layout;
mod message;
mod names;
pub mod notation;
mod payload;
mod protocol;
mod regions;
mod scalar;
mod sized;
pub(crate) mod suggest;
mod table;

#[cfg(test)]
mod tests;

pub use dialect::{Channel, Dialect, Party, UnknownWord};
pub use features::{DeviceKind, FeatureBit, UnknownFeature};
pub use fields::{FieldError, Value};
pub use header::{Header, flags};
pub(crate) use layout::push_decimal;
pub use layout::{Base, FieldSpec};
pub use message::Message;
pub use names::{UnknownName, find, unassigned};
pub use notation::NotationError;
pub use payload::{DecodeContext, Layout, Payload};
pub use protocol::ProtocolFeature;
pub use regions::{MemReg, MemRegion, MemTable, XenRegion};
pub use sized::{
    Config, CryptoSession, DevInfo, DeviceState, Inflight, Iotlb, Log, Mmap, SharedObject, ShmemConfig, VringAddr,
    VringArea, VringBase, VringFd, VringState,
};
pub use table::{Due, FdRule, Gate, MessageSpec, ReplyKind, ReplyRule, Scope, all, id, pci, spec};

/// The largest payload this room's own encoders and `build` will make from a length field, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 0x1_0000;
