//! The protocol feature bits of GET_PROTOCOL_FEATURES and SET_PROTOCOL_FEATURES.

use std::fmt;

macro_rules! protocol_features {
    ($( $variant:ident = $bit:literal $name:literal $aliases:expr, $since:literal,
        unlocks $unlocks:literal, needs $needs:expr, devices $devices:literal; )*) => {
        /// A protocol feature; the discriminant is its bit.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ProtocolFeature {
            $( #[doc = concat!("`VHOST_USER_PROTOCOL_F_", $name, "`: ", $unlocks, ".")] $variant = $bit, )*
        }

        impl ProtocolFeature {
            /// Every assigned feature, by bit.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The name without `VHOST_USER_PROTOCOL_F_`.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }

            /// Older names, in the same short form.
            pub const fn aliases(self) -> &'static [&'static str] {
                match self { $( Self::$variant => $aliases, )* }
            }

            /// The QEMU release whose text has it first.
            pub const fn since(self) -> &'static str {
                match self { $( Self::$variant => $since, )* }
            }

            /// The messages and behaviour it allows.
            pub const fn unlocks(self) -> &'static str {
                match self { $( Self::$variant => $unlocks, )* }
            }

            /// Protocol features without which it is of no use. Only for INBAND_NOTIFICATIONS should a back-end close the
            /// connection when they are missing.
            pub const fn requires(self) -> &'static [Self] {
                match self { $( Self::$variant => $needs, )* }
            }

            /// The devices it is for.
            pub const fn devices(self) -> &'static str {
                match self { $( Self::$variant => $devices, )* }
            }
        }
    };
}

protocol_features! {
    Mq = 0 "MQ" &[], "QEMU 2.5", unlocks "GET_QUEUE_NUM", needs &[], devices "any";
    LogShmfd = 1 "LOG_SHMFD" &[], "QEMU 2.5",
        unlocks "SET_LOG_BASE with a file, a payload of 16 bytes and a mandatory reply", needs &[], devices "any";
    Rarp = 2 "RARP" &[], "QEMU 2.5", unlocks "SEND_RARP", needs &[], devices "net";
    ReplyAck = 3 "REPLY_ACK" &[], "QEMU 2.8",
        unlocks "need_reply on any request in both directions", needs &[], devices "any";
    NetMtu = 4 "NET_MTU" &["MTU"], "QEMU 2.9", unlocks "NET_SET_MTU", needs &[], devices "net";
    BackendReq = 5 "BACKEND_REQ" &["SLAVE_REQ"], "QEMU 2.10",
        unlocks "SET_BACKEND_REQ_FD and with it the back-end channel", needs &[], devices "any";
    CrossEndian = 6 "CROSS_ENDIAN" &[], "QEMU 2.11 or 2.12", unlocks "SET_VRING_ENDIAN", needs &[], devices "any";
    CryptoSession = 7 "CRYPTO_SESSION" &[], "QEMU 2.12",
        unlocks "CREATE_CRYPTO_SESSION, CLOSE_CRYPTO_SESSION", needs &[], devices "crypto";
    Pagefault = 8 "PAGEFAULT" &[], "QEMU 2.12",
        unlocks "POSTCOPY_ADVISE, POSTCOPY_LISTEN, POSTCOPY_END, the reply of SET_MEM_TABLE", needs &[], devices "any";
    Config = 9 "CONFIG" &[], "QEMU 2.12",
        unlocks "GET_CONFIG, SET_CONFIG; with BACKEND_REQ also CONFIG_CHANGE_MSG", needs &[], devices "any";
    BackendSendFd = 10 "BACKEND_SEND_FD" &["SLAVE_SEND_FD"], "QEMU 3.0",
        unlocks "files attached to requests on the back-end channel", needs &[Self::BackendReq], devices "any";
    HostNotifier = 11 "HOST_NOTIFIER" &[], "QEMU 3.0",
        unlocks "VRING_HOST_NOTIFIER_MSG", needs &[Self::BackendReq, Self::BackendSendFd], devices "any";
    InflightShmfd = 12 "INFLIGHT_SHMFD" &[], "QEMU 4.0",
        unlocks "GET_INFLIGHT_FD, SET_INFLIGHT_FD", needs &[], devices "any";
    ResetDevice = 13 "RESET_DEVICE" &[], "QEMU 4.2", unlocks "RESET_DEVICE", needs &[], devices "any";
    InbandNotifications = 14 "INBAND_NOTIFICATIONS" &[], "QEMU 5.0",
        unlocks "VRING_KICK; on the back-end channel VRING_CALL, VRING_ERR",
        needs &[Self::BackendReq, Self::ReplyAck], devices "any";
    ConfigureMemSlots = 15 "CONFIGURE_MEM_SLOTS" &[], "QEMU 5.1",
        unlocks "GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG; forbids the postcopy messages", needs &[], devices "any";
    Status = 16 "STATUS" &[], "QEMU 5.1 or 5.2", unlocks "SET_STATUS, GET_STATUS", needs &[], devices "any";
    XenMmap = 17 "XEN_MMAP" &[], "QEMU 8.1", unlocks "8 more bytes a memory region", needs &[], devices "any";
    SharedObject = 18 "SHARED_OBJECT" &[], "QEMU 8.2",
        unlocks "GET_SHARED_OBJECT; with BACKEND_REQ also SHARED_OBJECT_ADD, _REMOVE, _LOOKUP", needs &[], devices "any";
    DeviceState = 19 "DEVICE_STATE" &[], "QEMU 8.2",
        unlocks "SET_DEVICE_STATE_FD, CHECK_DEVICE_STATE", needs &[], devices "any";
    GetVringBaseInflight = 20 "GET_VRING_BASE_INFLIGHT" &[], "QEMU 11.0",
        unlocks "nothing of its own in the newest text; before, GET_VRING_BASE without a drain",
        needs &[Self::InflightShmfd], devices "any";
    GpaAddresses = 21 "GPA_ADDRESSES" &[], "QEMU 11.1",
        unlocks "guest physical addresses in ring addresses, regions and IOTLB updates", needs &[], devices "any";
    Shmem = 22 "SHMEM" &["SHMEM_MAP"], "QEMU 11.1",
        unlocks "GET_SHMEM_CONFIG; with BACKEND_REQ also SHMEM_MAP, SHMEM_UNMAP", needs &[], devices "any";
    GetVringBaseSkipDrain = 23 "GET_VRING_BASE_SKIP_DRAIN" &[], "after QEMU 11.1",
        unlocks "GET_VRING_BASE_SKIP_DRAIN", needs &[Self::GetVringBaseInflight, Self::InflightShmfd], devices "any";
}

impl ProtocolFeature {
    /// The bit number.
    pub const fn bit(self) -> u8 {
        self as u8
    }

    /// The bit as a mask.
    pub const fn mask(self) -> u64 {
        1 << self.bit()
    }

    /// The feature with this bit number.
    pub fn from_bit(bit: u8) -> Option<Self> {
        Self::ALL.get(usize::from(bit)).copied()
    }

    /// Every assigned bit.
    pub const MASK_ALL: u64 = (1 << Self::ALL.len()) - 1;
}

impl fmt::Display for ProtocolFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
