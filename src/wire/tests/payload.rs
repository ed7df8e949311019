//! Payloads: sizes, codec and access by name.

use super::*;

const PLAIN: DecodeContext = DecodeContext { xen_mmap: false };
const XEN: DecodeContext = DecodeContext { xen_mmap: true };

proptest! {
    /// Broken: a payload changes when it is read and sent on, or its padding is lost.
    #[test]
    fn decode_then_encode_is_the_identity(
        (layout, xen_mmap, bytes) in (layout(), any::<bool>()).prop_flat_map(|(layout, xen_mmap)| {
            (Just(layout), Just(xen_mmap), well_formed(layout, xen_mmap))
        })
    ) {
        let payload = Payload::decode_as(layout, &bytes, DecodeContext { xen_mmap }).expect("well-formed");
        prop_assert_eq!(payload.layout(), layout);
        prop_assert_eq!(payload.encode(), bytes);
    }

    /// Broken: a payload that was built here is not what the peer reads.
    #[test]
    fn encode_then_decode_is_the_identity((payload, context) in payload()) {
        prop_assert_eq!(Payload::decode_as(payload.layout(), &payload.encode(), context), Some(payload));
    }

    /// Broken: a field is missing from `fields`, or `build` puts it elsewhere.
    #[test]
    fn fields_then_build_is_the_identity((payload, _) in payload()) {
        let named: Vec<(String, Value)> = payload.fields().into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
        prop_assert_eq!(Payload::build(payload.layout(), &named), Ok(payload));
    }

    /// Broken: bytes from a peer make the decoder panic, or come out changed.
    #[test]
    fn any_bytes_decode_to_the_same_bytes(layout in layout(), xen_mmap: bool, bytes in vec(any::<u8>(), 0..2100)) {
        let payload = Payload::decode(&[layout], &bytes, DecodeContext { xen_mmap });
        prop_assert_eq!(payload.encode(), bytes);
    }

    /// Broken: `get` and `fields` differ.
    #[test]
    fn get_finds_every_field((payload, _) in payload()) {
        for (name, value) in payload.fields() {
            // The sizes of shared memory are looked up by shmid, see `offsets_are_those_of_the_specification`.
            if let (Value::List(items), true) = (&value, name != "sizes") {
                for (i, item) in items.iter().enumerate() {
                    for (part, inner) in item {
                        let path = format!("{name}[{i}].{part}");
                        prop_assert_eq!(payload.get(&path), Ok(inner.clone()), "{}", path);
                    }
                }
            }
            prop_assert_eq!(payload.get(name), Ok(value));
        }
    }

    /// Broken: a path from a scenario makes the harness panic.
    #[test]
    fn any_path_is_harmless((payload, _) in payload(), path in "[a-z_\\[\\].0-9é]{0,20}") {
        let _ = payload.get(&path);
    }
}

/// Broken: a layout does not have the size of its C definition (x86-64).
#[test]
fn sizes_are_those_of_the_c_definitions() {
    for (layout, size) in [
        (Layout::Empty, 0),
        (Layout::U64, 8),
        (Layout::VringState, 8),
        (Layout::VringAddr, 40),
        (Layout::VringFd, 8),
        (Layout::VringBase, 8),
        (Layout::MemReg, 40),
        (Layout::Log, 16),
        (Layout::Iotlb, 32),
        (Layout::VringArea, 24),
        (Layout::Inflight, 24),
        (Layout::SharedObject, 16),
        (Layout::DeviceState, 8),
        (Layout::Mmap, 40),
        (Layout::ShmemConfig, 2056),
        (Layout::CryptoSession, 1072),
    ] {
        assert_eq!(layout.size(), Some(size), "{layout}");
        assert_eq!(
            Payload::build(layout, &[]).expect("valid").encode().len(),
            size,
            "{layout}"
        );
        for other in [0, size.saturating_sub(1), size + 1]
            .into_iter()
            .filter(|other| *other != size)
        {
            assert_eq!(
                Payload::decode_as(layout, &vec![0; other], PLAIN),
                None,
                "{layout} of {other} bytes"
            );
        }
    }
    let table = |xen| {
        let region = MemRegion {
            xen,
            ..MemRegion::default()
        };
        Payload::from(MemTable {
            padding: 0,
            regions: vec![region; 3],
        })
        .encode()
        .len()
    };
    assert_eq!(
        [table(None), table(Some(XenRegion::default()))],
        [8 + 32 * 3, 8 + 40 * 3]
    );
    let config = Config {
        payload: vec![0; 7],
        ..Config::default()
    };
    assert_eq!(Payload::from(config).encode().len(), 12 + 7);
    let (plain, xen) = (vec![0; 40], vec![0; 48]);
    assert!(Payload::decode_as(Layout::MemReg, &plain, PLAIN).is_some());
    assert!(Payload::decode_as(Layout::MemReg, &xen, PLAIN).is_none());
    assert!(Payload::decode_as(Layout::MemReg, &xen, XEN).is_some());
    assert!(Payload::decode_as(Layout::MemReg, &plain, XEN).is_none());
}

/// Broken: a field table has a gap or an overlap, so the documented offsets are wrong.
#[test]
fn fields_lie_next_to_each_other() {
    for layout in Layout::ALL {
        let mut next = if *layout == Layout::MemTable { 32 } else { 0 };
        for field in layout.fields() {
            assert_eq!(field.offset_bits, next, "{layout}.{}", field.name);
            next += field.bits;
        }
    }
}

/// Broken: fields stand at other offsets than in the specification.
#[test]
fn offsets_are_those_of_the_specification() {
    let addr = VringAddr {
        index: 1,
        flags: 2,
        descriptor: 3,
        used: 4,
        available: 5,
        log: 6,
    };
    let words = Payload::from(addr).encode();
    assert_eq!(words[..8], [1u32.to_ne_bytes(), 2u32.to_ne_bytes()].concat());
    assert_eq!(words[8..], [3u64, 4, 5, 6].map(u64::to_ne_bytes).concat());

    let iotlb = Iotlb {
        iova: 1,
        size: 2,
        user_address: 3,
        permissions: 4,
        kind: 5,
        padding: [6; 6],
    };
    let bytes = Payload::from(iotlb).encode();
    assert_eq!(bytes[24..], [4, 5, 6, 6, 6, 6, 6, 6]);

    let inflight = Inflight {
        mmap_size: 1,
        mmap_offset: 2,
        num_queues: 3,
        queue_size: 4,
        padding: [0; 4],
    };
    let bytes = Payload::from(inflight).encode();
    assert_eq!(bytes[16..20], [3u16.to_ne_bytes(), 4u16.to_ne_bytes()].concat());

    let mmap = Mmap {
        shmid: 9,
        fd_offset: 1,
        shm_offset: 2,
        len: 3,
        flags: 4,
        ..Mmap::default()
    };
    let bytes = Payload::from(mmap).encode();
    assert_eq!(bytes[..8], [9, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[8..], [1u64, 2, 3, 4].map(u64::to_ne_bytes).concat());

    let session = CryptoSession {
        op_code: 1,
        session_id: 7,
        ..CryptoSession::default()
    };
    let bytes = Payload::from(Box::new(session)).encode();
    assert_eq!(bytes[1064..], 7u64.to_ne_bytes());

    let fd = VringFd {
        index: 0xff,
        no_fd: true,
        reserved: 1,
    };
    assert_eq!((fd.value(), VringFd::from_value(0x3ff)), (0x3ff, fd));

    let mut shmem = ShmemConfig {
        num_regions: 1,
        ..ShmemConfig::default()
    };
    shmem.sizes[3] = 0x1000;
    let payload = Payload::from(shmem);
    assert_eq!(payload.encode()[8 + 8 * 3..][..8], 0x1000u64.to_ne_bytes());
    for (path, size) in [("sizes[3]", 0x1000), ("sizes[3].size", 0x1000), ("sizes[255]", 0)] {
        assert_eq!(payload.get(path), Ok(Value::U64(size)));
    }
    assert!(payload.get("sizes[256]").is_err());
}

/// Broken: a table whose count lies about its size is taken for a table.
#[test]
fn a_lying_count_is_no_table() {
    for (count, bytes) in [(0u32, 4), (0, 36), (1, 4), (2, 36), (1, 35), (u32::MAX, 36), (1, 44)] {
        let bytes = [&count.to_ne_bytes()[..], &vec![0; bytes]].concat();
        assert_eq!(Payload::decode(&[Layout::MemTable], &bytes, PLAIN), Payload::Raw(bytes));
    }
}

/// Broken: GET_CONFIG cannot be asked for with `size` alone, or written with `payload` alone.
#[test]
fn config_fills_in_what_is_missing() {
    let build = |fields: &[(&str, Value)]| {
        let fields: Vec<_> = fields.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
        Payload::build(Layout::Config, &fields)
    };
    let asked = Config {
        offset: 4,
        size: 3,
        flags: 0,
        payload: vec![0; 3],
    };
    assert_eq!(
        build(&[("offset", Value::U64(4)), ("size", Value::U64(3))]),
        Ok(asked.into())
    );
    let written = Config {
        offset: 0,
        size: 2,
        flags: 0,
        payload: vec![1, 2],
    };
    assert_eq!(build(&[("payload", Value::Bytes(vec![1, 2]))]), Ok(written.into()));
    let lying = Config {
        offset: 0,
        size: 9,
        flags: 0,
        payload: vec![],
    };
    assert_eq!(
        build(&[("size", Value::U64(9)), ("payload", Value::Bytes(vec![]))]),
        Ok(lying.into())
    );
    assert_eq!(
        build(&[("size", Value::U64(0xffff_ffff))])
            .expect_err("invalid")
            .to_string(),
        "size takes 65536 bytes at most, not 4294967295"
    );
}

/// Broken: an error about a field does not say which, why, or what was meant.
#[test]
fn field_errors_name_the_field() {
    let error = |layout, name: &str, value: Value| {
        Payload::build(layout, &[(name.to_owned(), value)])
            .expect_err("invalid")
            .to_string()
    };
    let number = Value::U64(0x1_0000_0000);
    assert_eq!(
        error(Layout::VringState, "index", number),
        "0x100000000 does not fit into index, which has 32 bits"
    );
    assert_eq!(
        error(Layout::VringState, "nmu", Value::U64(0)),
        "vring_state has no field \"nmu\"; did you mean num?"
    );
    assert_eq!(
        error(Layout::VringFd, "no_fd", Value::U64(2)),
        "0x2 does not fit into no_fd, which has 1 bits"
    );
    assert_eq!(
        error(Layout::SharedObject, "uuid", Value::Bytes(vec![1])),
        "uuid takes 16 bytes, not 1"
    );
    assert_eq!(
        error(Layout::SharedObject, "uuid", Value::U64(1)),
        "uuid takes bytes, not a number"
    );
    assert_eq!(
        error(Layout::MemTable, "regions", Value::U64(1)),
        "regions takes a list, not a number"
    );
    let item = Value::List(vec![vec![("guest_addres".to_owned(), Value::U64(0))]]);
    assert_eq!(
        error(Layout::MemTable, "regions", item),
        "a memory region has no field \"guest_addres\"; did you mean guest_address or user_address?"
    );
    let twice = [("num".to_owned(), Value::U64(0)), ("num".to_owned(), Value::U64(0))];
    let error = Payload::build(Layout::VringState, &twice).expect_err("invalid");
    assert_eq!(
        error,
        FieldError::Duplicate {
            field: "num".to_owned()
        }
    );
    let table = Payload::from(MemTable::default());
    assert_eq!(table.get("num_regions"), Ok(Value::U64(0)));
    assert_eq!(
        table.get("regions[0].size").expect_err("invalid").to_string(),
        "\"regions[0].size\" leads to no value: the list is shorter"
    );
}
