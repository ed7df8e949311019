//! Messages and the table: framing, layouts by id, replies, and the same constants as the vhost crate.

use vhost::vhost_user::message::{BackendReq, FrontendReq, VhostUserHeaderFlag};

use super::*;

fn decode(channel: Channel, request: u32, flags: u32, payload: &[u8]) -> Message {
    let header = Header {
        request,
        flags,
        size: payload.len() as u32,
        conn_id: 0,
    };
    Message::decode(DIALECT, channel, DecodeContext::default(), &header, payload)
}

proptest! {
    /// Broken: a header changes on its way.
    #[test]
    fn header_round_trip(request: u32, flags: u32, size: u32, tail in vec(any::<u8>(), 0..4)) {
        let header = Header { request, flags, size, conn_id: 0 };
        let mut bytes = header.encode(DIALECT);
        prop_assert_eq!(bytes.len(), DIALECT.header_len());
        prop_assert_eq!(Header::decode(DIALECT, &bytes[..11]), None);
        bytes.extend(tail);
        prop_assert_eq!(Header::decode(DIALECT, &bytes), Some(header));
    }

    /// Broken: a message from a peer makes the decoder panic, or is passed on with other bytes.
    #[test]
    fn any_message_decodes_to_the_same_bytes(
        channel in channel(), request in prop_oneof![0u32..50, any::<u32>()], flags: u32, xen_mmap: bool,
        payload in prop_oneof![
            vec(any::<u8>(), 0..2100),
            layout().prop_flat_map(|layout| well_formed(layout, false)),
            layout().prop_flat_map(|layout| well_formed(layout, true)),
        ]
    ) {
        let header = Header { request, flags, size: payload.len() as u32, conn_id: 0 };
        let message = Message::decode(DIALECT, channel, DecodeContext { xen_mmap }, &header, &payload);
        prop_assert_eq!(message.header(), header);
        prop_assert_eq!(message.encode(DIALECT), [header.encode(DIALECT), payload].concat());
    }

    /// Broken: a well-formed message of the table is not understood.
    #[test]
    fn every_layout_of_the_table_decodes(message in any_message()) {
        let xen_mmap = match &message.payload {
            Payload::MemReg(reg) => reg.region.xen.is_some(),
            Payload::MemTable(table) => table.regions.iter().any(|region| region.xen.is_some()),
            _ => false,
        };
        let context = DecodeContext { xen_mmap };
        let header = message.header();
        let again = Message::decode(DIALECT, message.channel, context, &header, &message.payload.encode());
        let layouts = match message.spec() {
            Some(spec) if message.is_reply() => spec.reply.layouts,
            Some(spec) => spec.request,
            None => &[],
        };
        if layouts.contains(&message.payload.layout()) {
            prop_assert_eq!(again, message);
        }
    }
}

/// Broken: look-up by id gives another message, ids have gaps, or a name stands twice on a channel.
#[test]
fn table_is_in_order() {
    for (channel, count) in [(Channel::Main, 45), (Channel::Backend, 10)] {
        let specs = all(DIALECT, channel);
        assert_eq!(specs.len(), count);
        let mut names = std::collections::HashSet::new();
        for (id, row) in (1u32..).zip(specs) {
            assert_eq!((row.id, row.channel), (id, channel), "{}", row.name);
            assert_eq!(spec(DIALECT, channel, id), Some(row));
            assert!(!row.request.is_empty() && !row.reply.layouts.is_empty(), "{}", row.name);
            assert!(row.request_fds.min <= row.request_fds.max && row.reply_fds.min <= row.reply_fds.max);
            assert!(!row.doc.is_empty() && !row.since.is_empty(), "{}", row.name);
            for name in row.aliases.iter().chain([&row.name]) {
                assert!(names.insert(*name), "{name} stands twice");
            }
        }
        for id in [0, count as u32 + 1, u32::MAX] {
            assert_eq!(spec(DIALECT, channel, id), None);
        }
    }
    assert_eq!(id::frontend::SET_BACKEND_REQ_FD, 21);
    assert_eq!(id::backend::SHMEM_UNMAP, 10);
}

/// Broken: an id or a name differs from the vhost crate's.
#[test]
fn ids_agree_with_the_vhost_crate() {
    for spec in all(DIALECT, Channel::Main) {
        match FrontendReq::try_from(spec.id) {
            Ok(known) => assert_eq!(format!("{known:?}"), spec.name),
            Err(_) => assert_eq!(
                spec.id,
                id::frontend::GET_VRING_BASE_SKIP_DRAIN,
                "only the newest is unknown there"
            ),
        }
    }
    for spec in all(DIALECT, Channel::Backend) {
        let known = BackendReq::try_from(spec.id).unwrap_or_else(|_| panic!("{} is unknown there", spec.name));
        assert_eq!(format!("{known:?}"), spec.name);
    }
    assert!(BackendReq::try_from(11).is_err() && FrontendReq::try_from(46).is_err());
    assert_eq!(VhostUserHeaderFlag::REPLY.bits(), flags::REPLY);
    assert_eq!(VhostUserHeaderFlag::NEED_REPLY.bits(), flags::NEED_REPLY);
    assert_eq!(VhostUserHeaderFlag::VERSION.bits(), flags::VERSION_MASK);
}

/// Broken: payloads have other sizes than the vhost crate's.
#[test]
fn sizes_agree_with_the_vhost_crate() {
    use vhost::vhost_user::message::*;
    for (layout, size) in [
        (Layout::U64, size_of::<VhostUserU64>()),
        (Layout::VringState, size_of::<VhostUserVringState>()),
        (Layout::VringAddr, size_of::<VhostUserVringAddr>()),
        (Layout::MemReg, size_of::<VhostUserSingleMemoryRegion>()),
        (Layout::Log, size_of::<VhostUserLog>()),
        (Layout::Inflight, size_of::<VhostUserInflight>()),
        (Layout::SharedObject, size_of::<VhostUserSharedMsg>()),
        (Layout::DeviceState, size_of::<VhostUserTransferDeviceState>()),
        (Layout::Mmap, size_of::<VhostUserMMap>()),
        (Layout::ShmemConfig, size_of::<VhostUserShMemConfig>()),
    ] {
        assert_eq!(layout.size(), Some(size), "{layout}");
    }
    assert_eq!(MemRegion::SIZE, size_of::<VhostUserMemoryRegion>());
    assert_eq!(MemTable::HEAD_SIZE, size_of::<VhostUserMemory>());
    assert_eq!(Config::HEAD_SIZE, size_of::<VhostUserConfig>());
}

/// Broken: a message with several layouts is read as the wrong one.
#[test]
fn size_and_direction_choose_the_layout() {
    use id::frontend::*;
    let layout = |id, flags, len| decode(Channel::Main, id, flags, &vec![0; len]).payload.layout();
    let one_region = [&1u32.to_ne_bytes()[..], &[0; 36]].concat();
    let table = |flags| {
        decode(Channel::Main, SET_MEM_TABLE, flags, &one_region)
            .payload
            .layout()
    };
    assert_eq!([table(0x1), table(0x5)], [Layout::MemTable; 2]);
    assert_eq!(
        layout(SET_MEM_TABLE, 0x1, 8),
        Layout::U64,
        "confirmation of postcopy, as QEMU sends it"
    );
    assert_eq!(
        layout(SET_MEM_TABLE, 0x1, 0),
        Layout::Empty,
        "confirmation of postcopy, as the text has it"
    );
    assert_eq!(layout(SET_MEM_TABLE, 0x5, 8), Layout::U64);
    assert_eq!(
        [0, 8, 16].map(|len| layout(SET_LOG_BASE, 0x5, len)),
        [Layout::Empty, Layout::U64, Layout::Log]
    );
    assert_eq!(
        [8, 16].map(|len| layout(SET_LOG_BASE, 0x1, len)),
        [Layout::U64, Layout::Log]
    );
    assert_eq!(
        [0, 12, 268].map(|len| layout(GET_CONFIG, 0x5, len)),
        [Layout::Empty, Layout::Config, Layout::Config]
    );
    assert_eq!(layout(GET_VRING_BASE, 0x1, 8), Layout::VringState);
    assert_eq!(layout(GET_VRING_BASE, 0x5, 8), Layout::VringBase);
    assert_eq!(layout(SET_VRING_NUM, 0x5, 8), Layout::U64, "an ack");
    assert_eq!(layout(SET_VRING_NUM, 0x1, 7), Layout::Raw);
    assert_eq!(layout(GET_FEATURES, 0x1, 8), Layout::Raw);
    assert_eq!(layout(46, 0x1, 8), Layout::Raw);
    assert_eq!(
        decode(Channel::Backend, id::backend::IOTLB_MSG, 0x1, &[0; 32])
            .payload
            .layout(),
        Layout::Iotlb
    );
}

/// Broken: requests, replies and their senders are mixed up.
#[test]
fn requests_and_replies() {
    let spec = find(DIALECT, "SET_VRING_ENABLE", None).expect("valid");
    let request = Message::request(spec, VringState { index: 0, num: 1 }).with_need_reply();
    assert_eq!(
        request.encode(DIALECT)[..12],
        [18u32, 0x9, 8].map(u32::to_ne_bytes).concat()
    );
    assert!(request.needs_reply() && !request.is_reply() && !request.clone().need_reply(false).needs_reply());
    let reply = Message::reply_to(&request, 0);
    assert_eq!((reply.flags, reply.request, reply.is_reply()), (0x5, 18, true));
    assert!(reply.answers(&request) && !request.answers(&request) && !reply.answers(&reply));
    assert_eq!((request.sender(), reply.sender()), (Party::FrontEnd, Party::BackEnd));
    let change = Message::request(find(DIALECT, "CONFIG_CHANGE_MSG", None).expect("valid"), Payload::Empty);
    assert_eq!((change.sender(), change.channel), (Party::BackEnd, Channel::Backend));
    assert_eq!(Message { request: 99, ..change }.name(), "request 99");
}

/// Broken: a judge demands a reply that is not due, or misses one that is.
#[test]
fn replies_are_due() {
    let ack = ProtocolFeature::ReplyAck.mask();
    let log = ProtocolFeature::LogShmfd.mask();
    for (name, need_reply, features, due) in [
        ("GET_FEATURES", false, 0, Due::Required),
        ("GET_VRING_BASE", true, ack, Due::Required),
        ("SET_VRING_NUM", false, ack, Due::Forbidden),
        ("SET_VRING_NUM", true, ack, Due::Required),
        ("SET_VRING_NUM", true, 0, Due::Open),
        ("SET_VRING_NUM", false, 0, Due::Forbidden),
        ("NET_SET_MTU", false, ack, Due::Open),
        ("NET_SET_MTU", false, 0, Due::Forbidden),
        ("SET_LOG_BASE", false, log, Due::Required),
        ("SET_LOG_BASE", false, 0, Due::Forbidden),
        ("SET_MEM_TABLE", false, ack, Due::Forbidden),
        ("SET_MEM_TABLE", false, ProtocolFeature::Pagefault.mask(), Due::Open),
        ("IOTLB_MSG", false, ack, Due::Open),
        ("IOTLB_MSG", true, ack, Due::Required),
        ("POSTCOPY_ADVISE", false, 0, Due::Required),
        ("SHARED_OBJECT_LOOKUP", false, 0, Due::Required),
    ] {
        let rule = find(DIALECT, name, None).expect("valid").reply;
        assert_eq!(rule.due(need_reply, features), due, "{name} {need_reply} {features:#x}");
    }
}

/// Broken: a gate is open without its feature, or shut with it.
#[test]
fn gates_open_with_their_feature() {
    let mtu = find(DIALECT, "NET_SET_MTU", None).expect("valid");
    let open = |offered, negotiated| mtu.gates.iter().all(|gate| gate.is_open(offered, negotiated));
    let (bits, protocol) = (1 << 30 | 1 << 3, ProtocolFeature::NetMtu.mask());
    assert!(open((bits, protocol), (1 << 3, 0)));
    assert!(!open((bits, 0), (1 << 3, 0)) && !open((bits, protocol), (0, 0)) && !open((1 << 3, protocol), (1 << 3, 0)));
    let advise = find(DIALECT, "POSTCOPY_ADVISE", None).expect("valid");
    let open = |negotiated| advise.gates.iter().all(|gate| gate.is_open((0, 0), (0, negotiated)));
    let fault = ProtocolFeature::Pagefault.mask();
    assert!(open(fault) && !open(fault | ProtocolFeature::ConfigureMemSlots.mask()) && !open(0));
}
