//! Faults that a simulated vhost-pci peer can be given: each breaks one rule, most as published code did.

use std::fmt;

macro_rules! faults {
    ($( $variant:ident = $name:literal $role:ident $text:literal; )*) => {
        /// One documented deviation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $( #[doc = $text] $variant, )*
        }

        impl Fault {
            /// Every fault.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// Its name in scenarios.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }

            /// What a peer with it does.
            pub const fn text(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }

            /// Whether it is the server's or a master's.
            pub const fn role(self) -> Role {
                match self { $( Self::$variant => Role::$role, )* }
            }
        }
    };
}

/// Who can have a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The slave with its listening sockets.
    Server,
    /// A master.
    Master,
}

faults! {
    ConnIdByDifference = "conn-id-by-difference" Server
        "GET_CONN_ID is answered to every connection that has appeared since the last one, and not to who asks (G1 code).";
    ConnIdTrusted = "conn-id-trusted" Server
        "The header's connection id chooses the entry, whatever socket it came from (G1 code).";
    AnonymousAccepted = "anonymous-accepted" Server
        "A message of an anonymous master is taken though it has an id, or though the message carries something.";
    VersionIgnored = "version-ignored" Server
        "The version in the flags is not looked at.";
    FlagsIgnored = "flags-ignored" Server
        "Flags that do not exist are not looked at.";
    OnePhaseFeatures = "one-phase-features" Server
        "The features of a kind of device are offered before the kind is known.";
    Ungated = "ungated" Server
        "The messages of vhost-pci are taken though their protocol feature was not negotiated.";
    AnyKind = "any-kind" Server
        "A virtio id that is not served is taken.";
    KindAgain = "kind-again" Server
        "The kind of the device can be told a second time, and the second one counts.";
    ShortInfo = "short-info" Server
        "A device info of another size is taken.";
    MemoryBeforeKind = "memory-before-kind" Server
        "Memory is mapped before the kind of the device is known.";
    InitWithoutRings = "init-without-rings" Server
        "The device is created before its rings are known.";
    CreatedTwice = "created-twice" Server
        "A repeated init creates a second device (G1 code, where it fails on the name).";
    PhantomQueue = "phantom-queue" Server
        "Each SET_VRING_NUM makes a new queue, and what follows is about the newest (G1 and G2 code).";
    KickKeptOnce = "kick-kept-once" Server
        "A kick eventfd is stored only if there is none yet (G1 and G2 code).";
    CallKept = "call-kept" Server
        "A call eventfd is stored only if there is none yet.";
    SizeFromIndex = "size-from-index" Server
        "The size of a ring is filled from the low bits of the payload, which are its index (G1 to G3 code).";
    BaseFromIndex = "base-from-index" Server
        "Where a ring starts is filled from the low bits of the payload, which are its index (G1 to G3 code).";
    TableFdsLeft = "table-fds-left" Server
        "The files of a memory table that comes after the device exists are not closed (G2 and G3 code).";
    RefusedFdsKept = "refused-fds-kept" Server
        "The files of a refused message are not closed.";
    MappingsKept = "mappings-kept" Server
        "A master's memory stays mapped after it is gone.";
    NeverShared = "never-shared" Server
        "The memory of a VM is mapped again for each of its devices.";
    SharedBlindly = "shared-blindly" Server
        "One UUID, one mapping: files that differ are not mapped.";
    UnmappedWithFirst = "unmapped-with-first" Server
        "A shared mapping goes with the first of its users.";
    NilGrouped = "nil-grouped" Server
        "Masters without a UUID are taken for one VM.";
    BarNotDoubled = "bar-not-doubled" Server
        "The BAR has no room for memory that is plugged later.";
    BarNotRounded = "bar-not-rounded" Server
        "The size of the BAR is no power of two.";
    OverflowIgnored = "overflow-ignored" Server
        "Memory that does not fit the BAR is cut off in silence.";
    UnknownDispatched = "unknown-dispatched" Server
        "An unknown request is logged, and then acted on (G1 and G2 code).";
    AckMissing = "ack-missing" Server
        "A refused message is not acknowledged, though it asked for it.";
    RefusedAcked = "refused-acked" Server
        "A refused message is acknowledged as if it had been taken.";
    SecondClient = "second-client" Server
        "A second master is let in where there is room for one.";
    OthersStopped = "others-stopped" Server
        "Closing one socket stops the devices of the others.";
    ResetMissing = "reset-missing" Server
        "The master is not told that the slave's driver wants fewer features.";
    ResetAlways = "reset-always" Server
        "The master is told of the features even if they are the same.";
    HalfFeatures = "half-features" Server
        "After an odd number of 32-bit writes the halves of the driver's features are taken for each other (G2 code).";
    ReducedForgotten = "reduced-forgotten" Server
        "When a master comes back, it is offered the features again that the slave's driver gave up.";
    CloseBeforeAck = "close-before-ack" Server
        "A master that is to part is hung up on before it has answered.";
    OffIgnored = "off-ignored" Server
        "A master that wants to part is acknowledged, and its device stays.";
    ReplyAsRequest = "reply-as-request" Master
        "The reply bit is not looked at: a late acknowledgement of SET_FEATURES is taken for a request (G2 code).";
    SameFeaturesReset = "same-features-reset" Master
        "The device is reset by a SET_FEATURES that changes nothing.";
    SlaveDropped = "slave-dropped" Master
        "A request of the slave that comes while a reply is awaited is thrown away.";
    SlaveUnanswered = "slave-unanswered" Master
        "A request of the slave is carried out and not acknowledged.";
    IdForgotten = "id-forgotten" Master
        "Messages carry the anonymous id though one was given.";
}

impl Fault {
    /// The fault of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fault| fault.name() == name)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The faults of one peer.
#[derive(Debug, Clone, Default)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Whether it has one.
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }
}
