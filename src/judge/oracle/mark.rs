//! Marks: what a run has seen happen in its rings, so that silence of the rules is no empty verdict.

macro_rules! marks {
    ($( $variant:ident $id:literal $text:literal; )*) => {
        /// Something that did happen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Mark {
            $( #[doc = $text] $variant, )*
        }

        impl Mark {
            /// Every mark.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// The name.
            pub const fn id(self) -> &'static str {
                match self { $( Self::$variant => $id, )* }
            }

            /// What it says.
            pub const fn text(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }
        }
    };
}

marks! {
    SplitRing "split-ring" "A split ring was started and looked at.";
    PackedRing "packed-ring" "A packed ring was started and looked at.";
    ChainAvailable "chain-available" "A chain was made available.";
    ChainReturned "chain-returned" "A chain was returned.";
    ChainJudged "chain-judged" "The descriptors of a chain were read and judged while the device had it.";
    LengthJudged "length-judged" "The length of a returned chain was held against what was writable.";
    RingWrapped "ring-wrapped" "The used ring went past its last slot and on at its first.";
    IndexWrapped "index-wrapped" "The 16 bits of a used index were passed.";
    RingFull "ring-full" "As many chains were available as the ring has slots.";
    ManyDescriptors "many-descriptors" "A chain had more than one descriptor.";
    IndirectUsed "indirect-used" "A chain had an indirect table.";
    BatchReturned "batch-returned" "With IN_ORDER several chains were returned by the last of them alone.";
    OutOfOrder "out-of-order" "A chain was returned before one that was made available earlier.";
    EventIdxUsed "event-idx-used" "EVENT_IDX was negotiated and one side set the index for which it waits.";
    KicksSuppressed "kicks-suppressed" "A chain was made available that the device wanted no kick for.";
    CallsSuppressed "calls-suppressed" "A chain was returned that the driver wanted no call for.";
    StoppedDrained "stopped-drained" "A ring was stopped, and what was taken from it had been returned.";
    StoppedQuiet "stopped-quiet" "A ring that was stopped after it had been used was looked at again, and nothing had been written.";
    Restarted "restarted" "A ring that had been stopped was started again.";
    DisabledWaiting "disabled-waiting" "A chain was available on a ring that was started and disabled.";
    MemoryReplaced "memory-replaced" "The memory table changed while a ring was started.";
    PagesLogged "pages-logged" "Pages that were written were found marked in the dirty log.";
    FramesMerged "frames-merged" "In a delivery with a load of its own a frame arrived in several receive buffers.";
    FramesNotified "frames-notified" "In such a delivery one side signalled the other more than once.";
    FramesPolled "frames-polled" "In such a delivery a hundred frames and more arrived for each signal.";
    LostTrack "lost-track" "More passed between two looks than the ring shows: some chains were not judged.";
}
