//! One made-up violation for each rule. A line `@name` stands for a beginning of [`BEGINNINGS`]; the last line breaks the
//! rule and nothing else does.

/// Beginnings of sessions by name.
pub(super) const BEGINNINGS: &[(&str, &str)] = &[
    // LOG_ALL, bit 30, VERSION_1; every protocol feature but PAGEFAULT, XEN_MMAP and GPA_ADDRESSES
    ("basic", "
        connected
        front GET_FEATURES
        back reply to GET_FEATURES value=0x144000000
        front GET_PROTOCOL_FEATURES
        back reply to GET_PROTOCOL_FEATURES value=0xddfeff
        front SET_PROTOCOL_FEATURES value=0xddfeff
        front SET_OWNER
        front SET_FEATURES value=0x144000000"),
    // bit 30 and VERSION_1, and only REPLY_ACK
    ("bare", "
        connected
        front GET_FEATURES
        back reply to GET_FEATURES value=0x140000000
        front GET_PROTOCOL_FEATURES
        back reply to GET_PROTOCOL_FEATURES value=0x8
        front SET_PROTOCOL_FEATURES value=0x8
        front SET_OWNER
        front SET_FEATURES value=0x140000000"),
    // no protocol features at all
    ("poor", "
        connected
        front GET_FEATURES
        back reply to GET_FEATURES value=0x100000000
        front SET_OWNER
        front SET_FEATURES value=0x100000000"),
    // MQ, without REPLY_ACK
    ("mute", "
        connected
        front GET_FEATURES
        back reply to GET_FEATURES value=0x140000000
        front GET_PROTOCOL_FEATURES
        back reply to GET_PROTOCOL_FEATURES value=0x1
        front SET_PROTOCOL_FEATURES value=0x1
        front SET_OWNER
        front SET_FEATURES value=0x140000000"),
    // before anything is acknowledged
    ("offered", "
        connected
        front GET_FEATURES
        back reply to GET_FEATURES value=0x140000000
        front GET_PROTOCOL_FEATURES
        back reply to GET_PROTOCOL_FEATURES value=0xf7ffff"),
    // a legacy device with CROSS_ENDIAN
    ("legacy", "
        connected
        front GET_FEATURES
        back reply to GET_FEATURES value=0x40000000
        front GET_PROTOCOL_FEATURES
        back reply to GET_PROTOCOL_FEATURES value=0x40
        front SET_PROTOCOL_FEATURES value=0x40
        front SET_OWNER
        front SET_FEATURES value=0x40000000"),
    // ACCESS_PLATFORM, with REPLY_ACK and BACKEND_REQ
    ("iommu", "
        connected
        front GET_FEATURES
        back reply to GET_FEATURES value=0x340000000
        front GET_PROTOCOL_FEATURES
        back reply to GET_PROTOCOL_FEATURES value=0x28
        front SET_PROTOCOL_FEATURES value=0x28
        front SET_OWNER
        front SET_FEATURES value=0x340000000
        @table"),
    // REPLY_ACK and PAGEFAULT
    ("postcopy", "
        connected
        front GET_FEATURES
        back reply to GET_FEATURES value=0x140000000
        front GET_PROTOCOL_FEATURES
        back reply to GET_PROTOCOL_FEATURES value=0x108
        front SET_PROTOCOL_FEATURES value=0x108
        front SET_OWNER
        front SET_FEATURES value=0x140000000"),
    ("listening", "
        @postcopy
        front POSTCOPY_ADVISE
        back reply to POSTCOPY_ADVISE fds=[userfaultfd]
        front POSTCOPY_LISTEN!
        back reply to POSTCOPY_LISTEN value=0x0"),
    ("mapped", "
        @listening
        @table
        back reply to SET_MEM_TABLE regions=[{guest_address=0x0 size=0x100000 user_address=0x1000 mmap_offset=0x0}]"),
    ("table", "
        front SET_MEM_TABLE regions=[{guest_address=0x0 size=0x100000 user_address=0x7f0000000000 mmap_offset=0x0}] fds=[memfd:0x100000]"),
    ("configure", "
        front SET_VRING_NUM index=0 num=256
        front SET_VRING_BASE index=0 indices=0x0
        front SET_VRING_ADDR index=0 flags=0x0 descriptor=0x7f0000000000 used=0x7f0000002000 available=0x7f0000001000 log=0x2000"),
    ("memory", "
        @basic
        @table"),
    ("ring", "
        @memory
        @configure"),
    ("started", "
        @ring
        front SET_VRING_KICK index=0 fds=[eventfd]"),
    ("channel", "
        @started
        front SET_BACKEND_REQ_FD fds=[socket]"),
    ("bare-channel", "
        connected
        front GET_FEATURES
        back reply to GET_FEATURES value=0x140000000
        front GET_PROTOCOL_FEATURES
        back reply to GET_PROTOCOL_FEATURES value=0x28
        front SET_PROTOCOL_FEATURES value=0x28
        front SET_OWNER
        front SET_FEATURES value=0x140000000
        front SET_BACKEND_REQ_FD fds=[socket]"),
    ("shmem", "
        @channel
        front GET_SHMEM_CONFIG
        back reply to GET_SHMEM_CONFIG num_regions=1 sizes=[{shmid=0 size=0x10000}]"),
];

/// A rule, and the events that break it.
pub(super) const CASES: &[(&str, &str)] = &[
    // framing
    ("malformed", "@basic
        back malformed"),
    ("cut-short", "@basic
        front closed main 5"),
    ("message-after-close", "@basic
        front closed main
        front GET_FEATURES"),
    ("version", "@basic
        front GET_FEATURES header_flags=0x2"),
    ("reserved-flags", "@basic
        front GET_FEATURES header_flags=0x11"),
    ("reply-bit-on-request", "@basic
        front reply to GET_FEATURES value=0x0"),
    ("reply-bit-of-back-end", "@basic
        back GET_FEATURES"),
    ("reply-bit-of-front-end", "@channel
        front CONFIG_CHANGE_MSG on backend"),
    ("need-reply-on-reply", "@basic
        front GET_FEATURES
        back reply to GET_FEATURES! value=0x144000000"),
    ("unknown-request", "@basic
        front raw request=99 flags=0x1 payload=00"),
    // requests and replies
    ("reply-to-nothing", "@basic
        back reply to GET_STATUS value=0x0"),
    ("answered-twice", "@basic
        front GET_STATUS
        back reply to GET_STATUS value=0x0
        back reply to GET_STATUS value=0x0"),
    ("reply-with-other-id", "@basic
        front GET_STATUS
        back reply to GET_QUEUE_NUM value=0x1"),
    ("reply-out-of-order", "@basic
        front GET_STATUS
        front GET_QUEUE_NUM
        back reply to GET_QUEUE_NUM value=0x1"),
    ("ack-unasked", "@basic
        front SET_STATUS value=0x1
        back reply to SET_STATUS value=0x0"),
    ("ack-unnegotiated", "@mute
        front SET_VRING_NUM! index=0 num=256
        back reply to SET_VRING_NUM value=0x0"),
    // payloads
    ("mem-table-payload", "@basic
        front SET_MEM_TABLE as raw payload=0100000000000000"),
    ("mem-reg-payload", "@basic
        front ADD_MEM_REG as raw payload=00 fds=[memfd:0x1000]"),
    ("config-payload", "@basic
        front GET_CONFIG offset=0x0 size=8 flags=0x0 payload=0000"),
    ("inflight-payload", "@basic
        front GET_INFLIGHT_FD as raw payload=00"),
    ("log-payload", "@basic
        front SET_LOG_BASE as u64 value=0x0 fds=[memfd:0x1000]"),
    ("vring-area-payload", "@channel
        back VRING_HOST_NOTIFIER_MSG on backend as raw payload=00"),
    ("request-payload", "@basic
        front SET_VRING_NUM as raw payload=00"),
    ("ack-payload", "@basic
        front SET_STATUS! value=0x1
        back reply to SET_STATUS as raw payload=00"),
    ("log-base-reply", "@basic
        front SET_LOG_BASE size=0x1000 offset=0x0 fds=[memfd:0x1000]
        back reply to SET_LOG_BASE as raw payload=000000"),
    ("config-reply", "@basic
        front GET_CONFIG offset=0x0 size=8 flags=0x0
        back reply to GET_CONFIG offset=0x0 size=4 flags=0x0"),
    ("shmem-config-reply", "@basic
        front GET_SHMEM_CONFIG
        back reply to GET_SHMEM_CONFIG num_regions=2 sizes=[{shmid=0 size=0x1000}]"),
    ("postcopy-table-reply", "@listening
        @table
        back reply to SET_MEM_TABLE as u64 value=0x0"),
    ("reply-payload", "@basic
        front GET_QUEUE_NUM
        back reply to GET_QUEUE_NUM as raw payload=00"),
    // gates
    ("needs-bit-30", "@poor
        front GET_PROTOCOL_FEATURES"),
    ("needs-mq", "@bare
        front GET_QUEUE_NUM"),
    ("needs-enable", "@poor
        front SET_VRING_ENABLE index=0 num=1"),
    ("needs-log-all", "@bare
        front SET_LOG_FD fds=[eventfd]"),
    ("needs-rarp", "@bare
        front SEND_RARP value=0x1"),
    ("needs-mtu", "@bare
        front NET_SET_MTU value=1500"),
    ("needs-backend-req", "@bare
        front SET_BACKEND_REQ_FD fds=[socket]"),
    ("needs-iommu", "@bare
        front IOTLB_MSG iova=0x0 type=3"),
    ("needs-cross-endian", "@bare
        front SET_VRING_ENDIAN index=0 num=0"),
    ("needs-config", "@bare
        front GET_CONFIG offset=0x0 size=4 flags=0x0"),
    ("needs-crypto", "@bare
        front CLOSE_CRYPTO_SESSION value=0x1"),
    ("needs-pagefault", "@basic
        front POSTCOPY_ADVISE"),
    ("needs-inflight", "@bare
        front GET_INFLIGHT_FD num_queues=1 queue_size=128"),
    ("needs-reset-device", "@bare
        front RESET_DEVICE"),
    ("needs-inband", "@bare
        front VRING_KICK index=0 num=0"),
    ("needs-mem-slots", "@bare
        front GET_MAX_MEM_SLOTS"),
    ("needs-status", "@bare
        front GET_STATUS"),
    ("needs-shared-object", "@bare
        front GET_SHARED_OBJECT uuid=00112233445566778899aabbccddeeff"),
    ("status-taken-back", "@basic
        front SET_STATUS value=0x3
        front SET_STATUS value=0x0
        front SET_STATUS value=0xb
        front SET_STATUS value=0x3"),
    ("status-differs", "@basic
        front SET_STATUS value=0xb
        front GET_STATUS
        back reply to GET_STATUS value=0x43
        front GET_STATUS
        front GET_STATUS
        back reply to GET_STATUS value=0x0
        back reply to GET_STATUS value=0x0
        front GET_STATUS
        front SET_STATUS value=0xf
        back reply to GET_STATUS value=0xb
        front GET_STATUS
        back reply to GET_STATUS value=0xb"),
    ("needs-device-state", "@bare
        front CHECK_DEVICE_STATE"),
    ("needs-shmem", "@bare
        front GET_SHMEM_CONFIG"),
    ("needs-skip-drain", "@bare
        front GET_VRING_BASE_SKIP_DRAIN index=0 num=0"),
    ("channel-needs-iommu", "@bare-channel
        back IOTLB_MSG on backend iova=0x0 type=1"),
    ("channel-needs-config", "@bare-channel
        back CONFIG_CHANGE_MSG on backend"),
    ("channel-needs-host-notifier", "@bare-channel
        back VRING_HOST_NOTIFIER_MSG on backend value=0x100"),
    ("channel-needs-inband", "@bare-channel
        back VRING_CALL on backend index=0 num=0"),
    ("channel-needs-shared-object", "@bare-channel
        back SHARED_OBJECT_ADD on backend uuid=00112233445566778899aabbccddeeff"),
    ("channel-needs-shmem", "@bare-channel
        back SHMEM_UNMAP on backend shmid=0 len=0x1000"),
    // files
    ("mem-table-files", "@basic
        front SET_MEM_TABLE regions=[{guest_address=0x0 size=0x1000 user_address=0x0 mmap_offset=0x0}]"),
    ("mem-reg-file", "@basic
        front ADD_MEM_REG guest_address=0x0 size=0x1000"),
    ("remove-without-file", "@memory
        front REM_MEM_REG guest_address=0x0 size=0x100000 user_address=0x7f0000000000 fds=[memfd:0x100000 memfd:0x100000]"),
    ("vring-file", "@basic
        front SET_VRING_CALL index=0"),
    ("log-file", "@basic
        front SET_LOG_BASE size=0x1000 offset=0x0"),
    ("log-event-file", "@basic
        front SET_LOG_FD"),
    ("channel-socket", "@basic
        front SET_BACKEND_REQ_FD fds=[eventfd]"),
    ("inflight-file", "@basic
        front SET_INFLIGHT_FD mmap_size=0x1000 num_queues=1 queue_size=128"),
    ("gpu-socket", "@basic
        front GPU_SET_SOCKET"),
    ("device-state-file", "@basic
        front SET_DEVICE_STATE_FD transfer_direction=0 migration_phase=0"),
    ("files-on-request", "@basic
        front GET_FEATURES fds=[eventfd]"),
    ("channel-files-unnegotiated", "
        connected
        front GET_FEATURES
        back reply to GET_FEATURES value=0x140000000
        front GET_PROTOCOL_FEATURES
        back reply to GET_PROTOCOL_FEATURES value=0x400028
        front SET_PROTOCOL_FEATURES value=0x400028
        front SET_OWNER
        front SET_FEATURES value=0x140000000
        front SET_BACKEND_REQ_FD fds=[socket]
        back SHMEM_MAP on backend shmid=0 len=0x1000 fds=[memfd:0x1000]"),
    ("channel-files", "@channel
        back SHMEM_MAP on backend shmid=0 len=0x1000"),
    ("host-notifier-file", "@channel
        back VRING_HOST_NOTIFIER_MSG on backend value=0x0"),
    ("userfault-file", "@postcopy
        front POSTCOPY_ADVISE
        back reply to POSTCOPY_ADVISE"),
    ("inflight-reply-file", "@basic
        front GET_INFLIGHT_FD num_queues=1 queue_size=128
        back reply to GET_INFLIGHT_FD mmap_size=0x1000 num_queues=1 queue_size=128"),
    ("device-state-reply-file", "@basic
        front SET_DEVICE_STATE_FD transfer_direction=0 migration_phase=0 fds=[pipe]
        back reply to SET_DEVICE_STATE_FD value=0x0"),
    ("object-reply-file", "@channel
        back SHARED_OBJECT_LOOKUP on backend uuid=00112233445566778899aabbccddeeff
        front reply to SHARED_OBJECT_LOOKUP on backend value=0x0"),
    ("files-on-reply", "@basic
        front GET_STATUS
        back reply to GET_STATUS value=0x0 fds=[eventfd]"),
    ("memory-file-kind", "@basic
        front SET_MEM_TABLE regions=[{guest_address=0x0 size=0x1000 user_address=0x0 mmap_offset=0x0}] fds=[socket]"),
    ("event-kind", "@basic
        front SET_VRING_CALL index=0 fds=[memfd:0x1000]"),
    // negotiation
    ("features-not-offered", "@offered
        front SET_FEATURES value=0x140000001"),
    ("protocol-features-not-offered", "@offered
        front SET_PROTOCOL_FEATURES value=0x80000"),
    ("inband-alone", "@offered
        front SET_PROTOCOL_FEATURES value=0x4008"),
    ("base-inflight-alone", "@offered
        front SET_PROTOCOL_FEATURES value=0x100000"),
    ("skip-drain-alone", "@offered
        front SET_PROTOCOL_FEATURES value=0x801000"),
    ("features-while-started", "@started
        front SET_FEATURES value=0x44000000"),
    ("owner-twice", "@basic
        front SET_OWNER"),
    ("ring-started-without-owner", "@offered
        front SET_FEATURES value=0x140000000
        @table
        @configure
        front SET_VRING_KICK index=0 fds=[eventfd]"),
    ("reset-owner", "@basic
        front RESET_OWNER"),
    // memory
    ("region-wraps", "@basic
        front ADD_MEM_REG guest_address=0xfffffffffffff000 size=0x2000 user_address=0x1000 fds=[other]"),
    ("regions-overlap-in-guest", "@memory
        front ADD_MEM_REG guest_address=0x80000 size=0x100000 user_address=0x7f1000000000 fds=[memfd:0x100000]"),
    ("regions-overlap-in-user", "@memory
        front ADD_MEM_REG guest_address=0x10000000 size=0x100000 user_address=0x7f0000080000 fds=[memfd:0x100000]"),
    ("region-with-guest-addresses", "@offered
        front SET_PROTOCOL_FEATURES value=0x200000
        @table"),
    ("region-xen-flags", "@offered
        front SET_PROTOCOL_FEATURES value=0x20000
        front SET_MEM_TABLE regions=[{guest_address=0x0 size=0x1000 user_address=0x0 mmap_offset=0x0 xen_flags=0x8 domid=0}] fds=[memfd:0x1000]"),
    ("region-beyond-file", "@basic
        front ADD_MEM_REG guest_address=0x0 size=0x1000 mmap_offset=0x1000 fds=[memfd:0x1000]"),
    ("slots-exceeded", "@memory
        front GET_MAX_MEM_SLOTS
        back reply to GET_MAX_MEM_SLOTS value=0x1
        front ADD_MEM_REG guest_address=0x10000000 size=0x1000 user_address=0x1000 fds=[memfd:0x1000]"),
    ("removes-unknown-region", "@memory
        front REM_MEM_REG guest_address=0x0 size=0x80000 user_address=0x7f0000000000"),
    ("log-too-small", "@memory
        front SET_LOG_BASE size=0x1f offset=0x0 fds=[memfd:0x1000]"),
    ("log-beyond-file", "@memory
        front SET_LOG_BASE size=0x1000 offset=0x1000 fds=[memfd:0x1000]"),
    ("iotlb-update", "@iommu
        front IOTLB_MSG iova=0x0 type=1"),
    ("iotlb-outside-memory", "@iommu
        front IOTLB_MSG iova=0x0 size=0x2000 user_address=0x7f00000ff000 permissions=3 type=2"),
    ("iotlb-miss", "@iommu
        @configure
        front SET_VRING_KICK index=0 fds=[eventfd]
        front SET_BACKEND_REQ_FD fds=[socket]
        back IOTLB_MSG on backend iova=0x0 permissions=4 type=1"),
    // rings
    ("ring-index", "@basic
        front GET_QUEUE_NUM
        back reply to GET_QUEUE_NUM value=0x1
        front SET_VRING_NUM index=3 num=256"),
    ("vring-fd-bits", "@basic
        front SET_VRING_CALL index=0 reserved=0x1 fds=[eventfd]"),
    ("ring-size", "@basic
        front SET_VRING_NUM index=0 num=100"),
    ("num-while-started", "@started
        front SET_VRING_NUM index=0 num=128"),
    ("base-while-started", "@started
        front SET_VRING_BASE index=0 indices=0x1"),
    ("base-bits", "@basic
        front SET_VRING_BASE index=0 indices=0x80008000"),
    ("addr-while-started", "@started
        front SET_VRING_ADDR index=0 flags=0x0 descriptor=0x7f0000010000 used=0x7f0000002000 available=0x7f0000001000 log=0x0"),
    ("addr-before-num", "@memory
        front SET_VRING_ADDR index=0 flags=0x0 descriptor=0x7f0000000000 used=0x7f0000002000 available=0x7f0000001000 log=0x0"),
    ("addr-flags", "@ring
        front SET_VRING_ADDR index=0 flags=0x2 descriptor=0x7f0000000000 used=0x7f0000002000 available=0x7f0000001000 log=0x0"),
    ("addr-misaligned", "@ring
        front SET_VRING_ADDR index=0 flags=0x0 descriptor=0x7f0000000008 used=0x7f0000002000 available=0x7f0000001008 log=0x0"),
    ("addr-outside-memory", "@ring
        front SET_VRING_ADDR index=0 flags=0x0 descriptor=0x7f0000000000 used=0x7f00000ffff0 available=0x7f0000001000 log=0x0"),
    ("ring-log-too-small", "@ring
        front SET_LOG_BASE size=0x20 offset=0x0 fds=[memfd:0x1000]
        back reply to SET_LOG_BASE size=0x20 offset=0x0
        front SET_VRING_ADDR index=0 flags=0x1 descriptor=0x7f0000000000 used=0x7f0000002000 available=0x7f0000001000 log=0xff800"),
    ("ring-started-unconfigured", "@memory
        front SET_VRING_NUM index=0 num=256
        front SET_VRING_KICK index=0 fds=[eventfd]"),
    ("enable-value", "@basic
        front SET_VRING_ENABLE index=0 num=2"),
    ("endian-value", "@legacy
        front SET_VRING_ENDIAN index=0 num=2"),
    ("endian-while-started", "@legacy
        @table
        @configure
        front SET_VRING_KICK index=0 fds=[eventfd]
        front SET_VRING_ENDIAN index=0 num=1"),
    ("get-base-num", "@started
        front GET_VRING_BASE index=0 num=5"),
    ("inband-kick-num", "@ring
        front VRING_KICK! index=0 num=1"),
    ("inband-call-num", "@channel
        back VRING_CALL! on backend index=0 num=1"),
    ("base-of-other-ring", "@started
        front GET_VRING_BASE index=0 num=0
        back reply to GET_VRING_BASE index=1 indices=0x0"),
    ("base-reply-bits", "@started
        front GET_VRING_BASE index=0 num=0
        back reply to GET_VRING_BASE index=0 indices=0x10000"),
    ("call-while-stopped", "@started
        front SET_VRING_CALL index=0 fds=[eventfd]
        back call 0
        front GET_VRING_BASE index=0 num=0
        back reply to GET_VRING_BASE index=0 indices=0x0
        back call 0
        front GET_STATUS
        back reply to GET_STATUS value=0x0
        front GET_STATUS
        back reply to GET_STATUS value=0x0
        back call 0"),
    ("call-without-file", "@started
        front SET_VRING_CALL index=0 no_fd=1
        front GET_STATUS
        back reply to GET_STATUS value=0x0
        front GET_STATUS
        back reply to GET_STATUS value=0x0
        back call 0"),
    // back-end channel
    ("channel-absent", "@started
        back CONFIG_CHANGE_MSG on backend"),
    ("request-while-suspended", "@channel
        front GET_VRING_BASE index=0 num=0
        back reply to GET_VRING_BASE index=0 indices=0x0
        back CONFIG_CHANGE_MSG on backend
        front GET_STATUS
        back reply to GET_STATUS value=0x0
        front GET_STATUS
        back reply to GET_STATUS value=0x0
        back CONFIG_CHANGE_MSG on backend"),
    ("shmem-flags", "@channel
        back SHMEM_MAP on backend shmid=0 len=0x1000 flags=0x2 fds=[memfd:0x1000]"),
    ("shmem-outside-region", "@shmem
        back SHMEM_MAP on backend shmid=0 shm_offset=0xf000 len=0x2000 fds=[memfd:0x2000]"),
    ("shmem-overlap", "@shmem
        back SHMEM_MAP on backend shmid=0 shm_offset=0x1000 len=0x2000 fds=[memfd:0x2000]
        back SHMEM_MAP on backend shmid=0 shm_offset=0x2000 len=0x1000 fds=[memfd:0x2000]"),
    ("shmem-unmap", "@shmem
        back SHMEM_MAP on backend shmid=0 shm_offset=0x1000 len=0x2000 fds=[memfd:0x2000]
        back SHMEM_UNMAP on backend shmid=0 shm_offset=0x1000 len=0x1000"),
    ("shmem-size", "@basic
        front GET_SHMEM_CONFIG
        back reply to GET_SHMEM_CONFIG num_regions=1 sizes=[{shmid=0 size=0x1800}]"),
    ("shmem-config-changed", "@shmem
        front GET_SHMEM_CONFIG
        back reply to GET_SHMEM_CONFIG num_regions=1 sizes=[{shmid=1 size=0x10000}]"),
    // optional parts
    ("listen-without-advise", "@postcopy
        front POSTCOPY_LISTEN!"),
    ("end-without-listen", "@postcopy
        front POSTCOPY_END"),
    ("postcopy-need-reply", "@listening
        front SET_MEM_TABLE! regions=[{guest_address=0x0 size=0x1000 user_address=0x0 mmap_offset=0x0}] fds=[memfd:0x1000]"),
    ("postcopy-unconfirmed", "@mapped
        front GET_FEATURES"),
    ("check-without-transfer", "@basic
        front CHECK_DEVICE_STATE"),
    ("transfer-while-started", "@started
        front SET_DEVICE_STATE_FD transfer_direction=0 migration_phase=0 fds=[pipe]"),
    ("transfer-parameters", "@basic
        front SET_DEVICE_STATE_FD transfer_direction=2 migration_phase=0 fds=[pipe]"),
    ("config-flags", "@basic
        front GET_CONFIG offset=0x0 size=4 flags=0x4"),
    ("closes-unknown-session", "@basic
        front CLOSE_CRYPTO_SESSION value=0x1"),
    ("unregistered-object", "@channel
        back SHARED_OBJECT_ADD on backend uuid=00112233445566778899aabbccddeeff
        back SHARED_OBJECT_REMOVE on backend uuid=00112233445566778899aabbccddeeff
        front GET_SHARED_OBJECT uuid=00112233445566778899aabbccddeeff"),
];

/// What a setting excuses: silent with it, and this rule broken without it.
pub(super) const EXCUSED: &[(&str, &str, &str)] = &[
    (
        "need-reply-unnegotiated",
        "need-reply-unnegotiated",
        "connected
        front SET_OWNER!",
    ),
    (
        "need-reply-echoed",
        "need-reply-on-reply",
        "@basic
        front GET_FEATURES!
        back reply to GET_FEATURES! value=0x144000000",
    ),
    (
        "acks-unnegotiated",
        "ack-unnegotiated",
        "@mute
        front SET_VRING_NUM! index=0 num=256
        back reply to SET_VRING_NUM value=0x0",
    ),
    (
        "disputed-acks",
        "ack-unnegotiated",
        "
        connected
        front SET_FEATURES value=0x340000000
        front IOTLB_MSG! iova=0x0 type=3
        back reply to IOTLB_MSG value=0x0",
    ),
    (
        "ack-of-reply-ack",
        "ack-unnegotiated",
        "@offered
        front SET_PROTOCOL_FEATURES! value=0x8
        back reply to SET_PROTOCOL_FEATURES value=0x0",
    ),
    (
        "channel-before-features",
        "needs-backend-req",
        "@offered
        front SET_PROTOCOL_FEATURES value=0x28
        front SET_BACKEND_REQ_FD fds=[socket]",
    ),
    (
        "enable-before-features",
        "needs-enable",
        "@offered
        front SET_VRING_ENABLE index=0 num=1",
    ),
    (
        "mtu-before-features",
        "needs-mtu",
        "
        connected
        front GET_FEATURES
        back reply to GET_FEATURES value=0x140000008
        front GET_PROTOCOL_FEATURES
        back reply to GET_PROTOCOL_FEATURES value=0x10
        front SET_PROTOCOL_FEATURES value=0x10
        front NET_SET_MTU value=1500",
    ),
    (
        "queue-num-pairs",
        "ring-index",
        "@basic
        front GET_QUEUE_NUM
        back reply to GET_QUEUE_NUM value=0x1
        front SET_VRING_NUM index=1 num=256",
    ),
    (
        "log-reply-sizes",
        "log-base-reply",
        "@basic
        front SET_LOG_BASE size=0x1000 offset=0x0 fds=[memfd:0x1000]
        back reply to SET_LOG_BASE",
    ),
    (
        "c-padding",
        "inflight-payload",
        "@basic
        front GET_INFLIGHT_FD as raw payload=0000000000000000000000000000000000000000",
    ),
    (
        "confirmation-bytes",
        "postcopy-confirmation",
        "@mapped
        front SET_MEM_TABLE as u64 value=0x0",
    ),
    (
        "config-head",
        "config-payload",
        "@basic
        front GET_CONFIG offset=0x0 size=4 flags=0x0 payload=",
    ),
    (
        "config-flag-bits",
        "config-flags",
        "@basic
        front GET_CONFIG offset=0x0 size=4 flags=0x2",
    ),
    (
        "spurious-calls",
        "call-while-stopped",
        "@basic
        front SET_VRING_CALL index=0 fds=[eventfd]
        back call 0",
    ),
    (
        "slots-ignored",
        "slots-exceeded",
        "@memory
        front GET_MAX_MEM_SLOTS
        back reply to GET_MAX_MEM_SLOTS value=0x1
        front ADD_MEM_REG guest_address=0x10000000 size=0x1000 user_address=0x1000 fds=[memfd:0x1000]",
    ),
    (
        "postcopy-with-slots",
        "needs-pagefault",
        "@offered
        front SET_PROTOCOL_FEATURES value=0x8108
        front POSTCOPY_ADVISE",
    ),
    (
        "xen-unimplemented",
        "mem-reg-payload",
        "@offered
        front SET_PROTOCOL_FEATURES value=0x28000
        front ADD_MEM_REG as raw payload=00 fds=[memfd:0x1000]",
    ),
    (
        "get-base-garbage",
        "get-base-num",
        "@started
        front GET_VRING_BASE index=0 num=5",
    ),
    (
        "remove-with-file",
        "remove-without-file",
        "@memory
        front REM_MEM_REG guest_address=0x0 size=0x100000 user_address=0x7f0000000000 fds=[memfd:0x100000]",
    ),
    (
        "object-without-uuid",
        "unregistered-object",
        "@basic
        front GET_SHARED_OBJECT",
    ),
    (
        "inband-without-ack",
        "inband-kick-unacknowledged",
        "@ring
        front VRING_KICK index=0 num=0",
    ),
    (
        "inband-without-ack",
        "inband-call-unacknowledged",
        "@channel
        back VRING_CALL on backend index=0 num=0",
    ),
];
