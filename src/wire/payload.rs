//! A payload of any layout: decoding by layout, encoding, and access to its fields by name.

use std::fmt;

use super::fields::{FieldError, Value, check_names, follow};
use super::layout::{FieldSpec, Style};
use super::regions::{MemReg, MemTable};
use super::scalar::{Body, Scalar, bytes, fetch};
use super::sized::{
    Config, CryptoSession, DevInfo, DeviceState, Inflight, Iotlb, Log, Mmap, SharedObject, ShmemConfig, VringAddr,
    VringArea, VringBase, VringFd, VringState,
};

/// What was negotiated and changes how payloads look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DecodeContext {
    /// XEN_MMAP is negotiated: 8 more bytes a memory region.
    pub xen_mmap: bool,
}

macro_rules! payloads {
    ($( $(#[$meta:meta])* $variant:ident($ty:ty) $name:literal; )*) => {
        /// The layout of a payload.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Layout {
            /// No payload.
            Empty,
            $( $(#[$meta])* $variant, )*
        }

        /// The payload of a message, decoded as far as it is well-formed.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum Payload {
            /// No payload.
            Empty,
            $( $(#[$meta])* $variant($ty), )*
        }

        impl Layout {
            /// Every layout.
            pub const ALL: &'static [Self] = &[Self::Empty, $( Self::$variant, )*];

            /// The layout's name in the notation, such as `vring_state`.
            pub const fn name(self) -> &'static str {
                match self {
                    Self::Empty => "empty",
                    $( Self::$variant => $name, )*
                }
            }

            /// The fields, in the order of the wire.
            pub const fn fields(self) -> &'static [FieldSpec] {
                match self {
                    Self::Empty => &[],
                    $( Self::$variant => <$ty as Body>::FIELDS, )*
                }
            }
        }

        impl Payload {
            /// The layout.
            pub const fn layout(&self) -> Layout {
                match self {
                    Self::Empty => Layout::Empty,
                    $( Self::$variant(_) => Layout::$variant, )*
                }
            }

            /// Appends the bytes of the wire.
            pub fn encode_into(&self, out: &mut Vec<u8>) {
                match self {
                    Self::Empty => {}
                    $( Self::$variant(body) => Body::encode(body, out), )*
                }
            }

            /// Reads `bytes` as `layout`; `None` unless they are exactly one such payload.
            pub fn decode_as(layout: Layout, bytes: &[u8], context: DecodeContext) -> Option<Self> {
                match layout {
                    Layout::Empty => bytes.is_empty().then_some(Self::Empty),
                    $( Layout::$variant => <$ty as Body>::decode(bytes, context).map(Self::$variant), )*
                }
            }

            /// All fields with their values, in the order of the wire.
            pub fn fields(&self) -> Vec<(&'static str, Value)> {
                match self {
                    Self::Empty => Vec::new(),
                    $( Self::$variant(body) => Body::values(body), )*
                }
            }

            /// A payload from named fields; what is missing is zero.
            pub fn build(layout: Layout, fields: &[(String, Value)]) -> Result<Self, FieldError> {
                check_names(layout.name(), layout.fields(), fields)?;
                match layout {
                    Layout::Empty => Ok(Self::Empty),
                    $( Layout::$variant => <$ty as Body>::build(fields).map(Self::$variant), )*
                }
            }
        }

        $(
            impl From<$ty> for Payload {
                fn from(body: $ty) -> Self {
                    Self::$variant(body)
                }
            }
        )*
    };
}

payloads! {
    /// A single number: feature bits, a status, an answer.
    U64(u64) "u64";
    /// A ring and a number.
    VringState(VringState) "vring_state";
    /// The addresses of a ring.
    VringAddr(VringAddr) "vring_addr";
    /// A ring and whether a file is attached.
    VringFd(VringFd) "vring_fd";
    /// The indices of a ring.
    VringBase(VringBase) "vring_base";
    /// All memory regions.
    MemTable(MemTable) "mem_table";
    /// One memory region.
    MemReg(MemReg) "mem_reg";
    /// The dirty log.
    Log(Log) "log";
    /// An address translation.
    Iotlb(Iotlb) "iotlb";
    /// Configuration space.
    Config(Config) "config";
    /// A notification page.
    VringArea(VringArea) "vring_area";
    /// The inflight area.
    Inflight(Inflight) "inflight";
    /// A shared object.
    SharedObject(SharedObject) "shared_object";
    /// The device of a vhost-pci master.
    DevInfo(DevInfo) "dev_info";
    /// A device state transfer.
    DeviceState(DeviceState) "device_state";
    /// A shared memory mapping.
    Mmap(Mmap) "mmap";
    /// The shared memory regions.
    ShmemConfig(ShmemConfig) "shmem_config";
    /// A crypto session.
    CryptoSession(Box<CryptoSession>) "crypto_session";
    /// Bytes that fit no layout, or are not meant to.
    Raw(Vec<u8>) "raw";
}

impl Layout {
    /// The layout with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|layout| layout.name() == name)
    }

    /// The names of the fields.
    pub fn field_names(self) -> impl Iterator<Item = &'static str> {
        self.fields().iter().map(|field| field.name)
    }

    /// The field of that name.
    pub fn field(self, name: &str) -> Option<&'static FieldSpec> {
        self.fields().iter().find(|field| field.name == name)
    }

    /// The size in bytes, unless the content decides.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::MemTable | Self::Config | Self::Raw => None,
            Self::MemReg => Some(MemReg::SIZE),
            Self::ShmemConfig => Some(ShmemConfig::SIZE),
            Self::VringFd => Some(VringFd::SIZE),
            _ => Some(self.fields().iter().map(|field| field.bits as usize / 8).sum()),
        }
    }

    /// The size in words, for people.
    pub fn size_text(self) -> String {
        match self {
            Self::MemTable => "8 + 32n (8 + 40n with XEN_MMAP)".to_owned(),
            Self::MemReg => "40 (48 with XEN_MMAP)".to_owned(),
            Self::Config => "12 + size".to_owned(),
            Self::Raw => "any".to_owned(),
            fixed => fixed.size().unwrap_or(0).to_string(),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Payload {
    /// The bytes of the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// How many bytes of the wire it has.
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::U64(_) => 8,
            Self::Raw(bytes) => bytes.len(),
            other => other.encode().len(),
        }
    }

    /// The first of `layouts` that `bytes` fit exactly, or the bytes as they are.
    pub fn decode(layouts: &[Layout], bytes: &[u8], context: DecodeContext) -> Self {
        let fitting = layouts
            .iter()
            .find_map(|layout| Self::decode_as(*layout, bytes, context));
        fitting.unwrap_or_else(|| Self::Raw(bytes.to_vec()))
    }

    /// The value at `path`: `value`, `regions[0].size`, `sizes[3]` (by shmid, zero
    /// entries too), `payload[0]` (a byte).
    pub fn get(&self, path: &str) -> Result<Value, FieldError> {
        match self {
            Self::MemTable(table) if path == "num_regions" => Ok(Value::U64(table.regions.len() as u64)),
            Self::ShmemConfig(config) => {
                let shmid = path
                    .strip_prefix("sizes[")
                    .map(|rest| rest.strip_suffix(".size").unwrap_or(rest));
                let shmid = shmid.and_then(|rest| rest.strip_suffix(']')?.parse::<usize>().ok());
                match shmid.and_then(|shmid| config.sizes.get(shmid)) {
                    Some(size) => Ok(Value::U64(*size)),
                    None => follow(self.layout().name(), self.layout().fields(), self.fields(), path),
                }
            }
            _ => follow(self.layout().name(), self.layout().fields(), self.fields(), path),
        }
    }

    /// The number, when the payload is a single one.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::U64(value) => Some(*value),
            _ => None,
        }
    }

    /// The ring this payload is about: in all layouts that begin with a ring index.
    pub fn ring_index(&self) -> Option<u32> {
        match self {
            Self::VringState(state) => Some(state.index),
            Self::VringAddr(addr) => Some(addr.index),
            Self::VringBase(base) => Some(base.index),
            Self::VringFd(fd) => Some(u32::from(fd.index)),
            Self::VringArea(area) => Some((area.value & 0xff) as u32),
            _ => None,
        }
    }
}

impl Body for u64 {
    const FIELDS: &'static [FieldSpec] = &[FieldSpec::of::<u64>("value", 0, Style::Hex, "the number")];

    fn encode(&self, out: &mut Vec<u8>) {
        self.put(out);
    }

    fn decode(bytes: &[u8], _: DecodeContext) -> Option<Self> {
        Self::take(bytes)
    }

    fn values(&self) -> Vec<(&'static str, Value)> {
        vec![("value", Value::U64(*self))]
    }

    fn build(fields: &[(String, Value)]) -> Result<Self, FieldError> {
        fetch(Self::FIELDS, fields, "value")
    }
}

impl Body for Vec<u8> {
    const FIELDS: &'static [FieldSpec] = &[FieldSpec::rest("payload", 0, "the bytes as they are")];

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn decode(bytes: &[u8], _: DecodeContext) -> Option<Self> {
        Some(bytes.to_vec())
    }

    fn values(&self) -> Vec<(&'static str, Value)> {
        vec![("payload", Value::Bytes(self.clone()))]
    }

    fn build(fields: &[(String, Value)]) -> Result<Self, FieldError> {
        let given = super::fields::given(fields, "payload");
        given.map_or(Ok(Vec::new()), |value| {
            bytes(&Self::FIELDS[0], value).map(<[u8]>::to_vec)
        })
    }
}
