//! Memory regions: the table of SET_MEM_TABLE and the single region of ADD_MEM_REG and REM_MEM_REG.

use super::fields::{FieldError, Value, check_names, given};
use super::layout::{FieldSpec, Style};
use super::payload::DecodeContext;
use super::scalar::{Body, Scalar, fetch};

/// What XEN_MMAP adds to a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct XenRegion {
    /// Bit 0 foreign mapping, bit 1 grant mapping, bit 8 do not map in advance.
    pub flags: u32,
    /// The domain that owns the memory.
    pub domid: u32,
}

/// One region of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MemRegion {
    /// First guest physical address.
    pub guest_address: u64,
    /// Bytes.
    pub size: u64,
    /// Where the front-end has it mapped; equals `guest_address` with GPA_ADDRESSES.
    pub user_address: u64,
    /// Where it starts in the attached file.
    pub mmap_offset: u64,
    /// Present with XEN_MMAP.
    pub xen: Option<XenRegion>,
}

impl MemRegion {
    /// Bytes on the wire without XEN_MMAP.
    pub const SIZE: usize = 32;
    /// Bytes on the wire with XEN_MMAP.
    pub const SIZE_XEN: usize = 40;

    const FIELDS: &'static [FieldSpec] = &[
        FieldSpec::of::<u64>("guest_address", 0, Style::Hex, "first guest physical address"),
        FieldSpec::of::<u64>("size", 8, Style::Hex, "bytes"),
        FieldSpec::of::<u64>(
            "user_address",
            16,
            Style::Hex,
            "front-end's address of it; guest_address with GPA_ADDRESSES",
        ),
        FieldSpec::of::<u64>("mmap_offset", 24, Style::Hex, "where it starts in the attached file"),
        FieldSpec::of::<u32>(
            "xen_flags",
            32,
            Style::Hex,
            "only with XEN_MMAP: 0x1 foreign, 0x2 grant, 0x100 not in advance",
        ),
        FieldSpec::of::<u32>("domid", 36, Style::Dec, "only with XEN_MMAP: the domain"),
    ];

    const fn size_in(context: DecodeContext) -> usize {
        if context.xen_mmap { Self::SIZE_XEN } else { Self::SIZE }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for word in [self.guest_address, self.size, self.user_address, self.mmap_offset] {
            word.put(out);
        }
        if let Some(xen) = self.xen {
            xen.flags.put(out);
            xen.domid.put(out);
        }
    }

    fn decode(bytes: &[u8], context: DecodeContext) -> Option<Self> {
        if bytes.len() != Self::size_in(context) {
            return None;
        }
        let word = |at: usize| u64::take(&bytes[at..at + 8]);
        let xen = match context.xen_mmap {
            true => Some(XenRegion {
                flags: u32::take(&bytes[32..36])?,
                domid: u32::take(&bytes[36..40])?,
            }),
            false => None,
        };
        Some(Self {
            guest_address: word(0)?,
            size: word(8)?,
            user_address: word(16)?,
            mmap_offset: word(24)?,
            xen,
        })
    }

    fn values(&self) -> Vec<(&'static str, Value)> {
        let mut values = vec![
            ("guest_address", self.guest_address.value()),
            ("size", self.size.value()),
            ("user_address", self.user_address.value()),
            ("mmap_offset", self.mmap_offset.value()),
        ];
        if let Some(xen) = self.xen {
            values.extend([("xen_flags", xen.flags.value()), ("domid", xen.domid.value())]);
        }
        values
    }

    fn build(fields: &[(String, Value)]) -> Result<Self, FieldError> {
        let flags = fetch(Self::FIELDS, fields, "xen_flags")?;
        let domid = fetch(Self::FIELDS, fields, "domid")?;
        let is_xen = given(fields, "xen_flags").is_some() || given(fields, "domid").is_some();
        Ok(Self {
            guest_address: fetch(Self::FIELDS, fields, "guest_address")?,
            size: fetch(Self::FIELDS, fields, "size")?,
            user_address: fetch(Self::FIELDS, fields, "user_address")?,
            mmap_offset: fetch(Self::FIELDS, fields, "mmap_offset")?,
            xen: is_xen.then_some(XenRegion { flags, domid }),
        })
    }
}

/// The whole memory table. The count on the wire is the number of regions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct MemTable {
    /// Send 0.
    pub padding: u32,
    /// The regions; the specification allows 1 to 8.
    pub regions: Vec<MemRegion>,
}

impl MemTable {
    /// Bytes before the first region.
    pub const HEAD_SIZE: usize = 8;
    /// Regions that the specification allows.
    pub const REGIONS_MAX: usize = 8;
}

impl Body for MemTable {
    const FIELDS: &'static [FieldSpec] = &[
        FieldSpec::of::<u32>("padding", 4, Style::Pad, "send 0"),
        FieldSpec::list(
            "regions",
            8,
            "the regions; the u32 at 0 is their count, 1 to 8",
            MemRegion::FIELDS,
        ),
    ];

    fn encode(&self, out: &mut Vec<u8>) {
        u32::try_from(self.regions.len()).unwrap_or(u32::MAX).put(out);
        self.padding.put(out);
        self.regions.iter().for_each(|region| region.encode(out));
    }

    /// Without regions it is not a table: 8 bytes are the confirmation of postcopy.
    fn decode(bytes: &[u8], context: DecodeContext) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(Self::HEAD_SIZE)?;
        let stride = MemRegion::size_in(context);
        let count = usize::try_from(u32::take(&head[..4])?).ok()?;
        if count == 0 || !rest.len().is_multiple_of(stride) || rest.len() / stride != count {
            return None;
        }
        let regions = rest
            .chunks_exact(stride)
            .map(|bytes| MemRegion::decode(bytes, context))
            .collect::<Option<_>>()?;
        Some(Self {
            padding: u32::take(&head[4..])?,
            regions,
        })
    }

    fn values(&self) -> Vec<(&'static str, Value)> {
        let regions = self
            .regions
            .iter()
            .map(|region| region.values().into_iter().map(|(n, v)| (n.to_owned(), v)).collect());
        vec![
            ("padding", self.padding.value()),
            ("regions", Value::List(regions.collect())),
        ]
    }

    fn build(fields: &[(String, Value)]) -> Result<Self, FieldError> {
        let regions = list(&Self::FIELDS[1], given(fields, "regions"))?.iter().map(|item| {
            check_names("a memory region", MemRegion::FIELDS, item)?;
            MemRegion::build(item)
        });
        Ok(Self {
            padding: fetch(Self::FIELDS, fields, "padding")?,
            regions: regions.collect::<Result<_, _>>()?,
        })
    }
}

/// A single region, added or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MemReg {
    /// Send 0.
    pub padding: u64,
    /// The region.
    pub region: MemRegion,
}

impl MemReg {
    /// Bytes on the wire without XEN_MMAP.
    pub const SIZE: usize = 8 + MemRegion::SIZE;
}

impl Body for MemReg {
    const FIELDS: &'static [FieldSpec] = &[
        FieldSpec::of::<u64>("padding", 0, Style::Pad, "send 0"),
        FieldSpec::of::<u64>("guest_address", 8, Style::Hex, "first guest physical address"),
        FieldSpec::of::<u64>("size", 16, Style::Hex, "bytes"),
        FieldSpec::of::<u64>(
            "user_address",
            24,
            Style::Hex,
            "front-end's address of it; guest_address with GPA_ADDRESSES",
        ),
        FieldSpec::of::<u64>("mmap_offset", 32, Style::Hex, "where it starts in the attached file"),
        FieldSpec::of::<u32>(
            "xen_flags",
            40,
            Style::Hex,
            "only with XEN_MMAP: 0x1 foreign, 0x2 grant, 0x100 not in advance",
        ),
        FieldSpec::of::<u32>("domid", 44, Style::Dec, "only with XEN_MMAP: the domain"),
    ];

    fn encode(&self, out: &mut Vec<u8>) {
        self.padding.put(out);
        self.region.encode(out);
    }

    fn decode(bytes: &[u8], context: DecodeContext) -> Option<Self> {
        let (padding, region) = bytes.split_at_checked(8)?;
        Some(Self {
            padding: u64::take(padding)?,
            region: MemRegion::decode(region, context)?,
        })
    }

    fn values(&self) -> Vec<(&'static str, Value)> {
        let mut values = vec![("padding", self.padding.value())];
        values.extend(self.region.values());
        values
    }

    fn build(fields: &[(String, Value)]) -> Result<Self, FieldError> {
        Ok(Self {
            padding: fetch(Self::FIELDS, fields, "padding")?,
            region: MemRegion::build(fields)?,
        })
    }
}

/// The items of a list value; none when it is not given.
pub(crate) fn list<'a>(spec: &FieldSpec, value: Option<&'a Value>) -> Result<&'a [Vec<(String, Value)>], FieldError> {
    match value {
        None => Ok(&[]),
        Some(Value::List(items)) => Ok(items),
        Some(other) => Err(FieldError::WrongKind {
            field: spec.name,
            expected: "a list",
            found: other.kind(),
        }),
    }
}
