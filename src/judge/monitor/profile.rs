//! Known differences between text and practice, each a named setting with its source. A profile says which of them are
//! put up with; what a setting excuses is counted and never silent.

use crate::wire::Party;

/// Where a setting applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The text contradicts itself, is silent, or nobody follows it: in every profile but the strict one.
    Practice,
    /// Messages of this party, when one of these programs plays it.
    Programs(Party, &'static [&'static str]),
}

macro_rules! settings {
    ($( $variant:ident $id:literal $scope:expr, $source:literal, $text:literal; )*) => {
        /// A known difference that a profile can put up with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Setting {
            $( #[doc = $text] $variant, )*
        }

        impl Setting {
            /// Every setting.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The name.
            pub const fn id(self) -> &'static str {
                match self { $( Self::$variant => $id, )* }
            }

            /// Where it applies.
            pub const fn scope(self) -> Scope {
                match self { $( Self::$variant => $scope, )* }
            }

            /// Who does so, and where that was seen.
            pub const fn source(self) -> &'static str {
                match self { $( Self::$variant => $source, )* }
            }

            /// What is put up with.
            pub const fn text(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }
        }
    };
}

const QEMU: Scope = Scope::Programs(Party::FrontEnd, &["qemu"]);
const DPDK_FRONT: Scope = Scope::Programs(Party::FrontEnd, &["dpdk", "testpmd"]);
const ANSWERS_ANYWAY: Scope = Scope::Programs(
    Party::BackEnd,
    &["qemu-storage-daemon", "libvhost-user", "dpdk", "testpmd"],
);
const LIBVHOST: Scope = Scope::Programs(Party::BackEnd, &["qemu-storage-daemon", "libvhost-user"]);

settings! {
    NeedReplyUnnegotiated "need-reply-unnegotiated" Scope::Practice,
        "the text gives the bit no meaning then; QEMU sets it on IOTLB_MSG, POSTCOPY_LISTEN and POSTCOPY_END always",
        "need_reply is set although REPLY_ACK is not negotiated.";
    AcksUnnegotiated "acks-unnegotiated" ANSWERS_ANYWAY,
        "libvhost-user and DPDK never look at the negotiated bit",
        "need_reply is answered although REPLY_ACK is not negotiated.";
    NeedReplyEchoed "need-reply-echoed" LIBVHOST,
        "libvhost-user makes GET_CONFIG's and GET_VRING_BASE's reply of the request's header; QEMU never sets need_reply on them, rust-vmm does",
        "A reply carries the need_reply of its request.";
    DisputedAcks "disputed-acks" Scope::Practice,
        "the text says always, never and on need_reply in different places; QEMU waits for the answer whenever it set need_reply",
        "IOTLB_MSG and POSTCOPY_LISTEN are answered without REPLY_ACK.";
    AckOfReplyAck "ack-of-reply-ack" Scope::Practice,
        "unspecified; rust-vmm acknowledges since it stores the bits first, QEMU never asks",
        "The SET_PROTOCOL_FEATURES that turns REPLY_ACK on is acknowledged itself.";
    ChannelBeforeFeatures "channel-before-features" Scope::Practice,
        "QEMU, hw/virtio/vhost-user.c: the back-end is set up before the guest driver has acknowledged anything",
        "SET_BACKEND_REQ_FD is sent before the first SET_FEATURES, while bit 30 is only offered.";
    EnableBeforeFeatures "enable-before-features" QEMU,
        "QEMU net enables the rings at reset and at DRIVER_OK, before SET_FEATURES",
        "SET_VRING_ENABLE is sent before the first SET_FEATURES, while bit 30 is only offered.";
    MtuBeforeFeatures "mtu-before-features" QEMU,
        "QEMU net tells the MTU before it starts the device",
        "NET_SET_MTU is sent before the first SET_FEATURES, while VIRTIO_NET_F_MTU is only offered.";
    QueueNumPairs "queue-num-pairs" Scope::Practice,
        "DPDK answers queue pairs, rust-vmm and libvhost-user rings; QEMU net compares with pairs; the net control queue is not counted",
        "The answer to GET_QUEUE_NUM may count pairs: rings up to twice the number, and one more.";
    LogReplySizes "log-reply-sizes" Scope::Practice,
        "the text names no body; DPDK sends 0 bytes, libvhost-user 8, rust-vmm 16; the rust-vmm front-end insists on 16",
        "The reply to SET_LOG_BASE has 0 or 8 bytes instead of the log payload.";
    CPadding "c-padding" Scope::Practice,
        "20 and 26 bytes are named in the text; all known code sends the C structs with their padding, 24 and 32",
        "Inflight payloads of 20 bytes and IOTLB payloads of 26.";
    ConfirmationBytes "confirmation-bytes" Scope::Practice,
        "the text says empty; QEMU sends 8 bytes of zero and libvhost-user wants exactly those",
        "The postcopy confirmation has 8 bytes of zero.";
    ConfigHead "config-head" Scope::Practice,
        "the text does not say what a request to read carries beyond offset, size and flags",
        "GET_CONFIG without the bytes to be filled in.";
    ConfigFlagBits "config-flag-bits" Scope::Practice,
        "rust-vmm and crosvm read the flags as bits, 1 writable and 2 live migration; the text enumerates 0 and 1",
        "Configuration flags 2 and 3.";
    SpuriousCalls "spurious-calls" Scope::Practice,
        "libvhost-user signals a call eventfd when it is given it",
        "One call on a stopped ring after SET_VRING_CALL.";
    SlotsIgnored "slots-ignored" QEMU,
        "QEMU 10.0.2 adds its regions at start whatever GET_MAX_MEM_SLOTS said",
        "More memory regions than GET_MAX_MEM_SLOTS allows.";
    PostcopyWithSlots "postcopy-with-slots" QEMU,
        "QEMU 10.0.2 negotiates both and sends POSTCOPY_* with ADD_MEM_REG, whose reply and confirmation then have other payloads",
        "Postcopy with CONFIGURE_MEM_SLOTS.";
    DisabledServed "disabled-served" Scope::Programs(Party::BackEnd, &["qemu-storage-daemon", "libvhost-user"]),
        "libvhost-user calls a queue's handler whether the queue is enabled or not; seen with qemu-storage-daemon 10.0.2",
        "A ring that is started and disabled is served like an enabled one.";
    PackedBaseHalf "packed-base-half" Scope::Programs(Party::BackEnd, &["dpdk", "testpmd"]),
        "DPDK 22.11 answers with the next available descriptor and its wrap counter, and leaves the other 16 bits zero",
        "The answer to GET_VRING_BASE of a packed ring does not tell what was used.";
    PackedStartHalf "packed-start-half" DPDK_FRONT,
        "DPDK virtio-user sends 0x8000 for a ring that begins",
        "SET_VRING_BASE of a packed ring does not tell what was used: as much as was available.";
    XenUnimplemented "xen-unimplemented" QEMU,
        "QEMU's mask of protocol features has the bit, its messages do not follow it",
        "XEN_MMAP is acknowledged and regions have the ordinary layout.";
    GetBaseGarbage "get-base-garbage" DPDK_FRONT,
        "DPDK virtio-user leaves the last value it received in the field",
        "num of GET_VRING_BASE is not zero.";
    RemoveWithFile "remove-with-file" Scope::Practice,
        "the text asks back-ends to accept it from old front-ends",
        "REM_MEM_REG carries a file.";
    ObjectWithoutUuid "object-without-uuid" QEMU,
        "QEMU sends GET_SHARED_OBJECT with size 0",
        "GET_SHARED_OBJECT without the UUID.";
    InbandWithoutAck "inband-without-ack" Scope::Practice,
        "the text implies need_reply; libvhost-user asks only in its _sync variant",
        "In-band notifications without need_reply.";
}

impl Setting {
    /// Those that only the ring oracle asks for.
    pub const RINGS: &'static [Self] = &[Self::DisabledServed, Self::PackedBaseHalf, Self::PackedStartHalf];
}

/// Which settings are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    settings: u32,
}

const _: () = assert!(Setting::ALL.len() <= 32, "a profile has 32 bits");

impl Profile {
    /// The text to the letter.
    pub const fn strict() -> Self {
        Self { settings: 0 }
    }

    /// What the text leaves open or nobody follows is put up with.
    pub fn practice() -> Self {
        let practice = Setting::ALL.iter().filter(|s| s.scope() == Scope::Practice);
        practice.fold(Self::strict(), |profile, setting| profile.with(*setting))
    }

    /// Also what is known of `program` (`qemu`, `qemu-storage-daemon`, a path or a command that names one) as `party`.
    #[must_use]
    pub fn program(self, party: Party, program: &str) -> Self {
        let known = Setting::ALL.iter().filter(|setting| match setting.scope() {
            Scope::Practice => false,
            Scope::Programs(who, names) => who == party && names.iter().any(|name| is_called(program, name)),
        });
        known.fold(self, |profile, setting| profile.with(*setting))
    }

    /// What any program is known to do with its rings: nobody knows which one it is.
    #[must_use]
    pub fn lenient_about_rings(self) -> Self {
        Setting::RINGS
            .iter()
            .fold(self, |profile, setting| profile.with(*setting))
    }

    /// The same with a setting in force.
    #[must_use]
    pub const fn with(self, setting: Setting) -> Self {
        Self {
            settings: self.settings | 1 << setting as u8,
        }
    }

    /// The same without a setting.
    #[must_use]
    pub const fn without(self, setting: Setting) -> Self {
        Self {
            settings: self.settings & !(1 << setting as u8),
        }
    }

    /// Whether the setting is in force.
    pub const fn puts_up_with(self, setting: Setting) -> bool {
        self.settings >> setting as u8 & 1 != 0
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::practice()
    }
}

/// `qemu` is `qemu`, `qemu-7.2` and `/usr/bin/qemu-system-x86_64`, and not `qemu-storage-daemon`.
fn is_called(program: &str, name: &str) -> bool {
    let file = program
        .split_whitespace()
        .next()
        .and_then(|word| word.rsplit('/').next())
        .unwrap_or("");
    if name == "qemu" {
        return file == "qemu" || file.starts_with("qemu-") && !file.starts_with("qemu-storage-daemon");
    }
    file.contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken: a program gets the excuses of another one, or of the other side.
    #[test]
    fn programs_have_their_own_settings() {
        let qemu = Profile::practice().program(Party::FrontEnd, "/usr/bin/qemu-system-x86_64 -nodefaults");
        assert!(qemu.puts_up_with(Setting::SlotsIgnored) && qemu.puts_up_with(Setting::LogReplySizes));
        assert!(!qemu.puts_up_with(Setting::AcksUnnegotiated));
        let daemon = Profile::practice().program(Party::BackEnd, "qemu-storage-daemon");
        assert!(daemon.puts_up_with(Setting::AcksUnnegotiated) && !daemon.puts_up_with(Setting::SlotsIgnored));
        let wrong_side = Profile::strict().program(Party::FrontEnd, "qemu-storage-daemon");
        assert_eq!(wrong_side, Profile::strict());
    }

    /// Broken: two settings share a name, or a source is missing.
    #[test]
    fn settings_are_named_and_sourced() {
        let mut ids: Vec<&str> = Setting::ALL.iter().map(|s| s.id()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), Setting::ALL.len());
        assert!(
            Setting::ALL
                .iter()
                .all(|s| s.source().len() > 20 && s.text().ends_with('.'))
        );
    }
}
