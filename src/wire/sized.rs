//! Payload bodies without a list of regions: rings, log, IOTLB, configuration space, shared memory, crypto.

use super::PAYLOAD_BYTES_MAX;
use super::fields::{FieldError, Value, given};
use super::layout::{Base, FieldSpec, Style};
use super::payload::DecodeContext;
use super::scalar::{Body, Scalar, body, bytes, fetch};

body! {
    /// A ring and a number: its size, its enable state, its byte order.
    VringState {
        index: u32 => 0 Dec "ring index";
        num: u32 => 4 Dec "the number: queue size, 1 enable / 0 disable, 0 little / 1 big endian, or reserved";
    }
}

body! {
    /// Where the three parts of a ring lie.
    VringAddr {
        index: u32 => 0 Dec "ring index";
        flags: u32 => 4 Hex "bit 0: log writes to the used ring";
        descriptor: u64 => 8 Hex "descriptor table (packed: descriptor ring)";
        used: u64 => 16 Hex "used ring (packed: device event area); stands before the available ring";
        available: u64 => 24 Hex "available ring (packed: driver event area)";
        log: u64 => 32 Hex "guest address from which the dirty-log position of the used ring is computed";
    }
}

body! {
    /// Where a ring starts or was stopped.
    VringBase {
        index: u32 => 0 Dec "ring index";
        indices: u32 => 4 Hex "split: next available index in bits 0-15; packed: available index 0-14, its wrap bit 15, used index 16-30, its wrap bit 31";
    }
}

body! {
    /// The dirty log inside the attached file.
    Log {
        size: u64 => 0 Hex "bytes of bitmap";
        offset: u64 => 8 Hex "offset in the file of the bit for guest address 0";
    }
}

body! {
    /// A translation: miss, update, invalidation or access failure.
    Iotlb {
        iova: u64 => 0 Hex "I/O virtual address";
        size: u64 => 8 Hex "bytes";
        user_address: u64 => 16 Hex "user address of the front-end";
        permissions: u8 => 24 Dec "0 none, 1 read, 2 write, 3 both";
        kind ["type"]: u8 => 25 Dec "1 miss, 2 update, 3 invalidate, 4 access failure";
        padding: [u8; 6] => 26 Pad "tail of the C struct";
    }
}

body! {
    /// A page through which the guest notifies the device directly.
    VringArea {
        value: u64 => 0 Hex "bits 0-7 ring index, bit 8 no file attached";
        size: u64 => 8 Hex "bytes to map: one host page";
        offset: u64 => 16 Hex "offset in the attached file";
    }
}

body! {
    /// The area that tracks descriptors in flight.
    Inflight {
        mmap_size: u64 => 0 Hex "bytes of the area; 0 in a reply: there is none";
        mmap_offset: u64 => 8 Hex "offset in the file";
        num_queues: u16 => 16 Dec "queues";
        queue_size: u16 => 18 Dec "descriptors of a queue";
        padding: [u8; 4] => 20 Pad "tail of the C struct";
    }
}

body! {
    /// A shared object (dma-buf) by its UUID.
    SharedObject {
        uuid: [u8; 16] => 0 Hex "RFC 4122 byte order";
    }
}

body! {
    /// What a vhost-pci master says of its device.
    DevInfo {
        virtio_id: u16 => 0 Dec "virtio id of the device: 1 net, 8 scsi, 16 gpu, 18 input";
        uuid: [u8; 16] => 2 Hex "UUID of the VM that has the device; all zeros: none";
    }
}

body! {
    /// How device state will be transferred.
    DeviceState {
        transfer_direction: u32 => 0 Dec "0 save (from the back-end), 1 load (into the back-end)";
        migration_phase: u32 => 4 Dec "0 stopped; others reserved";
    }
}

body! {
    /// A mapping in a shared memory region of the device.
    Mmap {
        shmid: u8 => 0 Dec "shared memory region id";
        padding: [u8; 7] => 1 Pad "send 0";
        fd_offset: u64 => 8 Hex "offset in the attached file (map only)";
        shm_offset: u64 => 16 Hex "offset in the shared memory region";
        len: u64 => 24 Hex "bytes";
        flags: u64 => 32 Hex "bit 0: writable";
    }
}

body! {
    /// A crypto session: C structs of LP64 with host pointers in them, so the middle part stays bytes.
    CryptoSession {
        op_code: u64 => 0 Hex "virtio-crypto opcode that creates the session";
        body: [u8; 1056] => 8 Pad "union of the symmetric and asymmetric parameters";
        session_id: u64 => 1064 Hex "in a reply: the id, negative (two's complement) on failure";
    }
}

/// The ring of SET_VRING_KICK, CALL and ERR: one u64 with bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct VringFd {
    /// Ring index, bits 0-7.
    pub index: u8,
    /// Bit 8: no file is attached, the peer polls.
    pub no_fd: bool,
    /// Bits 9-63, shifted down; send 0.
    pub reserved: u64,
}

impl VringFd {
    /// Bytes on the wire.
    pub const SIZE: usize = 8;
    /// Bit 8 of the value.
    pub const NO_FD: u64 = 0x100;
    const RESERVED_SHIFT: u32 = 9;

    /// The u64 on the wire. Reserved bits above the 55 there are get lost.
    pub const fn value(&self) -> u64 {
        let no_fd = if self.no_fd { Self::NO_FD } else { 0 };
        self.index as u64 | no_fd | self.reserved << Self::RESERVED_SHIFT
    }

    /// Takes the u64 of the wire apart.
    pub const fn from_value(value: u64) -> Self {
        let index = value as u8;
        Self {
            index,
            no_fd: value & Self::NO_FD != 0,
            reserved: value >> Self::RESERVED_SHIFT,
        }
    }

    const fn bits(name: &'static str, offset_bits: u32, bits: u32, quiet: bool, doc: &'static str) -> FieldSpec {
        let base = if offset_bits < Self::RESERVED_SHIFT {
            Base::Decimal
        } else {
            Base::Hex
        };
        FieldSpec {
            name,
            offset_bits,
            bits,
            base,
            quiet,
            doc,
            items: &[],
        }
    }
}

impl Body for VringFd {
    const FIELDS: &'static [FieldSpec] = &[
        Self::bits("index", 0, 8, false, "ring index"),
        Self::bits("no_fd", 8, 1, true, "no file is attached: the peer polls"),
        Self::bits("reserved", 9, 55, true, "send 0"),
    ];

    fn encode(&self, out: &mut Vec<u8>) {
        self.value().put(out);
    }

    fn decode(bytes: &[u8], _: DecodeContext) -> Option<Self> {
        u64::take(bytes).map(Self::from_value)
    }

    fn values(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("index", self.index.value()),
            ("no_fd", Value::U64(u64::from(self.no_fd))),
            ("reserved", Value::U64(self.reserved)),
        ]
    }

    fn build(fields: &[(String, Value)]) -> Result<Self, FieldError> {
        let no_fd: u64 = fetch(Self::FIELDS, fields, "no_fd")?;
        let reserved: u64 = fetch(Self::FIELDS, fields, "reserved")?;
        for (spec, value) in Self::FIELDS[1..].iter().zip([no_fd, reserved]) {
            if value >> spec.bits != 0 {
                return Err(FieldError::TooLarge {
                    field: spec.name,
                    value,
                    bits: spec.bits,
                });
            }
        }
        Ok(Self {
            index: fetch(Self::FIELDS, fields, "index")?,
            no_fd: no_fd == 1,
            reserved,
        })
    }
}

/// A piece of the device's configuration space.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Config {
    /// Offset in the configuration space.
    pub offset: u32,
    /// The size the message claims; need not be `payload.len()` when a peer errs.
    pub size: u32,
    /// 0 write by the driver, 1 live migration.
    pub flags: u32,
    /// The bytes.
    pub payload: Vec<u8>,
}

impl Config {
    /// Bytes before the configuration bytes.
    pub const HEAD_SIZE: usize = 12;
}

impl Body for Config {
    const FIELDS: &'static [FieldSpec] = &[
        FieldSpec::of::<u32>("offset", 0, Style::Hex, "offset in the configuration space"),
        FieldSpec::of::<u32>(
            "size",
            4,
            Style::Dec,
            "number of configuration bytes; default: what payload has",
        ),
        FieldSpec::of::<u32>("flags", 8, Style::Hex, "0 write by the driver, 1 live migration"),
        FieldSpec::rest("payload", 12, "configuration bytes; default: size zeros"),
    ];

    fn encode(&self, out: &mut Vec<u8>) {
        for word in [self.offset, self.size, self.flags] {
            word.put(out);
        }
        out.extend_from_slice(&self.payload);
    }

    fn decode(bytes: &[u8], _: DecodeContext) -> Option<Self> {
        let (head, payload) = bytes.split_at_checked(Self::HEAD_SIZE)?;
        let (words, _) = head.as_chunks::<4>();
        let [offset, size, flags] = words.first_chunk::<3>()?.map(u32::from_ne_bytes);
        Some(Self {
            offset,
            size,
            flags,
            payload: payload.to_vec(),
        })
    }

    fn values(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("offset", self.offset.value()),
            ("size", self.size.value()),
            ("flags", self.flags.value()),
            ("payload", Value::Bytes(self.payload.clone())),
        ]
    }

    fn build(fields: &[(String, Value)]) -> Result<Self, FieldError> {
        let size: u32 = fetch(Self::FIELDS, fields, "size")?;
        let payload = match given(fields, "payload") {
            Some(value) => bytes(&Self::FIELDS[3], value)?.to_vec(),
            None if size as usize > PAYLOAD_BYTES_MAX => {
                let (found, unit) = (size as usize, "bytes at most");
                return Err(FieldError::Length {
                    field: "size",
                    expected: PAYLOAD_BYTES_MAX,
                    found,
                    unit,
                });
            }
            None => vec![0; size as usize],
        };
        let size = match given(fields, "size") {
            Some(_) => size,
            None => u32::try_from(payload.len()).unwrap_or(u32::MAX),
        };
        let offset = fetch(Self::FIELDS, fields, "offset")?;
        Ok(Self {
            offset,
            size,
            flags: fetch(Self::FIELDS, fields, "flags")?,
            payload,
        })
    }
}

/// The shared memory regions of a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShmemConfig {
    /// How many entries are non-zero; not the highest id plus one.
    pub num_regions: u32,
    /// Send 0.
    pub padding: u32,
    /// Bytes of each region, by shmid; 0: there is none.
    pub sizes: Box<[u64; Self::REGIONS_MAX]>,
}

impl ShmemConfig {
    /// Entries of the table.
    pub const REGIONS_MAX: usize = 256;
    /// Bytes on the wire.
    pub const SIZE: usize = 8 + 8 * Self::REGIONS_MAX;

    const ITEM: &'static [FieldSpec] = &[
        FieldSpec::of::<u8>("shmid", 0, Style::Dec, "the entry's position; not on the wire"),
        FieldSpec::of::<u64>("size", 0, Style::Hex, "bytes of the region"),
    ];
}

impl Default for ShmemConfig {
    fn default() -> Self {
        Self {
            num_regions: 0,
            padding: 0,
            sizes: Box::new([0; Self::REGIONS_MAX]),
        }
    }
}

impl Body for ShmemConfig {
    const FIELDS: &'static [FieldSpec] = &[
        FieldSpec::of::<u32>(
            "num_regions",
            0,
            Style::Dec,
            "count of non-zero entries, not the highest id plus one",
        ),
        FieldSpec::of::<u32>("padding", 4, Style::Pad, "send 0"),
        FieldSpec::list("sizes", 8, "the non-zero entries among 256 u64", Self::ITEM),
    ];

    fn encode(&self, out: &mut Vec<u8>) {
        self.num_regions.put(out);
        self.padding.put(out);
        self.sizes.iter().for_each(|size| size.put(out));
    }

    fn decode(bytes: &[u8], _: DecodeContext) -> Option<Self> {
        if bytes.len() != Self::SIZE {
            return None;
        }
        let mut config = Self {
            num_regions: u32::take(&bytes[..4])?,
            padding: u32::take(&bytes[4..8])?,
            ..Self::default()
        };
        for (size, entry) in config.sizes.iter_mut().zip(bytes[8..].as_chunks::<8>().0) {
            *size = u64::from_ne_bytes(*entry);
        }
        Some(config)
    }

    fn values(&self) -> Vec<(&'static str, Value)> {
        let entries = (0..=u8::MAX).zip(self.sizes.iter()).filter(|(_, size)| **size != 0);
        let sizes = entries.map(|(id, size)| vec![("shmid".to_owned(), id.value()), ("size".to_owned(), size.value())]);
        vec![
            ("num_regions", self.num_regions.value()),
            ("padding", self.padding.value()),
            ("sizes", Value::List(sizes.collect())),
        ]
    }

    fn build(fields: &[(String, Value)]) -> Result<Self, FieldError> {
        let mut config = Self {
            num_regions: fetch(Self::FIELDS, fields, "num_regions")?,
            padding: fetch(Self::FIELDS, fields, "padding")?,
            ..Self::default()
        };
        for item in super::regions::list(&Self::FIELDS[2], given(fields, "sizes"))? {
            super::fields::check_names("sizes", Self::ITEM, item)?;
            let shmid: u8 = fetch(Self::ITEM, item, "shmid")?;
            config.sizes[usize::from(shmid)] = fetch(Self::ITEM, item, "size")?;
        }
        Ok(config)
    }
}
