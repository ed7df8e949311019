//! Tests of the wire room, and what they share: arbitrary payloads and messages.

mod features;
mod message;
mod names;
mod notation;
mod payload;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

pub(super) const DIALECT: Dialect = Dialect::VhostUser;

pub(super) fn channel() -> impl Strategy<Value = Channel> {
    prop_oneof![Just(Channel::Main), Just(Channel::Backend)]
}

/// Bytes that are mostly zero, so that quiet fields are hidden about as often as they are shown.
fn sparse(len: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => Just(0u8), 1 => any::<u8>()];
    prop_oneof![Just(vec![0; len]), vec(byte, len), vec(any::<u8>(), len)]
}

/// The bytes of a well-formed payload of `layout`.
pub(super) fn well_formed(layout: Layout, xen_mmap: bool) -> BoxedStrategy<Vec<u8>> {
    let stride = if xen_mmap { MemRegion::SIZE_XEN } else { MemRegion::SIZE };
    match layout {
        Layout::MemTable => (1u32..=8)
            .prop_flat_map(move |count| (Just(count), sparse(4 + stride * count as usize)))
            .prop_map(|(count, rest)| [&count.to_ne_bytes()[..], &rest].concat())
            .boxed(),
        Layout::MemReg => sparse(8 + stride).boxed(),
        Layout::Config => (12usize..300).prop_flat_map(sparse).boxed(),
        Layout::Raw => vec(any::<u8>(), 0..64).boxed(),
        fixed => sparse(fixed.size().expect("valid")).boxed(),
    }
}

pub(super) fn layout() -> impl Strategy<Value = Layout> {
    proptest::sample::select(Layout::ALL)
}

/// A payload with its layout and the context it decodes in.
pub(super) fn payload() -> impl Strategy<Value = (Payload, DecodeContext)> {
    (layout(), any::<bool>()).prop_flat_map(|(layout, xen_mmap)| {
        let context = DecodeContext { xen_mmap };
        well_formed(layout, xen_mmap).prop_map(move |bytes| {
            (
                Payload::decode_as(layout, &bytes, context).expect("well-formed"),
                context,
            )
        })
    })
}

/// Any message: ids known and unknown, flags usual and unusual, the payloads that belong there and others.
pub(super) fn any_message() -> impl Strategy<Value = Message> {
    let id = prop_oneof![4 => 1u32..=45, 1 => any::<u32>()];
    let flags = prop_oneof![4 => proptest::sample::select(&[0x1, 0x9, 0x5, 0xd][..]), 1 => any::<u32>()];
    (channel(), id, flags, any::<proptest::sample::Index>(), payload()).prop_flat_map(
        |(channel, request, flags, index, (other, _))| {
            let message = Message {
                dialect: DIALECT,
                conn_id: 0,
                channel,
                request,
                flags,
                payload: other,
            };
            let own = match message.spec() {
                Some(spec) if message.is_reply() => *index.get(spec.reply.layouts),
                Some(spec) => *index.get(spec.request),
                None => Layout::Raw,
            };
            let fitting = well_formed(own, false)
                .prop_map(move |bytes| Payload::decode_as(own, &bytes, DecodeContext::default()).expect("well-formed"));
            (
                prop_oneof![3 => fitting, 1 => Just(message.payload.clone())],
                Just(message),
            )
                .prop_map(|(payload, message)| Message { payload, ..message })
        },
    )
}

/// Any message of any dialect.
pub(super) fn any_message_of_any_dialect() -> impl Strategy<Value = Message> {
    let conn_id = prop_oneof![Just(Dialect::ANONYMOUS), 0u64..5, any::<u64>()];
    let dialect = proptest::sample::select(&Dialect::ALL[..]);
    let own = proptest::sample::select(&[19u32, 20, 21, 22, 23][..]);
    (any_message(), dialect, conn_id, own, any::<bool>(), any::<[u8; 18]>()).prop_map(
        |(message, dialect, conn_id, own, is_own, info)| {
            let conn_id = if dialect.has_conn_id() { conn_id } else { 0 };
            let message = Message {
                dialect,
                conn_id,
                ..message
            };
            if !is_own || !dialect.is_pci() {
                return message;
            }
            let decoded = |layout| Payload::decode_as(layout, &info, DecodeContext::default());
            Message {
                channel: Channel::Main,
                request: own,
                payload: decoded(Layout::DevInfo).expect("18 bytes"),
                ..message
            }
        },
    )
}
