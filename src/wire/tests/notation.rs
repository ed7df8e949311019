//! The notation: printing and parsing are inverse, and it reads as documented.

use super::*;
use crate::wire::notation::{NotationError, parse, print};

proptest! {
    /// Broken: a message that is printed and parsed is another message.
    #[test]
    fn print_then_parse_is_the_identity(message in any_message()) {
        let line = print(DIALECT, &message);
        prop_assert_eq!(parse(DIALECT, &line), Ok(message), "{}", line);
    }

    /// Broken: the same in another dialect, or its bytes are another message's.
    #[test]
    fn every_dialect_prints_parses_and_encodes(message in any_message_of_any_dialect()) {
        let line = print(message.dialect, &message);
        prop_assert_eq!(parse(message.dialect, &line), Ok(message.clone()), "{}", line);
        let bytes = message.encode(message.dialect);
        let header = Header::decode(message.dialect, &bytes);
        prop_assert_eq!(header, Some(message.header()));
        let payload = &bytes[message.dialect.header_len()..];
        prop_assert_eq!(payload, &message.payload.encode()[..]);
    }

    /// Broken: a line from a scenario or trace makes the parser panic.
    #[test]
    fn any_line_is_harmless(line in "\\PC{0,60}") {
        let _ = parse(DIALECT, &line);
    }

    /// Broken: a line of the notation's own words makes the parser panic or loop.
    #[test]
    fn any_words_are_harmless(words in vec(proptest::sample::select(&[
        "reply", "to", "raw", "on", "backend", "as", "u64", "mem_table", "SET_MEM_TABLE", "GET_CONFIG!", "request=1",
        "flags=0x1", "regions=[", "{", "}", "]", "size=1", "size=", "payload=00", "header_flags=0x11", "=", "é=",
    ][..]), 0..12)) {
        if let Ok(message) = parse(DIALECT, &words.join(" ")) {
            prop_assert_eq!(parse(DIALECT, &print(DIALECT, &message)), Ok(message));
        }
    }
}

/// Broken: the bytes of a dialect are not those that its proposal gives.
#[test]
fn golden_bytes_of_the_dialects() {
    let bytes = |dialect, line| parse(dialect, line).unwrap().encode(dialect);
    let uuid: [u8; 16] = std::array::from_fn(|i| i as u8);
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    let id = |id: u64| id.to_ne_bytes().to_vec();
    assert_eq!(
        bytes(Dialect::VhostPci, "GET_CONN_ID conn_id=anonymous"),
        [words(&[20, 0x2]), id(u64::MAX), words(&[0])].concat()
    );
    let info = "SET_DEV_INFO! virtio_id=1 uuid=000102030405060708090a0b0c0d0e0f conn_id=7";
    let payload = [&1u16.to_ne_bytes()[..], &uuid].concat();
    assert_eq!(
        bytes(Dialect::VhostPci, info),
        [words(&[21, 0xa]), id(7), words(&[18]), payload].concat()
    );
    assert_eq!(
        bytes(Dialect::VhostPciG2, "SET_DEVICE_ID value=0x1"),
        [words(&[20, 0x1, 8]), id(1)].concat()
    );
    assert_eq!(
        bytes(Dialect::VhostUser, "NET_SET_MTU value=0x1"),
        [words(&[20, 0x1, 8]), id(1)].concat()
    );
}

/// Broken: a documented line prints or parses differently.
#[test]
fn documented_lines() {
    let region = |guest_address, size| MemRegion {
        guest_address,
        size,
        user_address: 0x7f00,
        ..MemRegion::default()
    };
    let message = |channel, request, flags, payload: Payload| Message {
        dialect: DIALECT,
        conn_id: 0,
        channel,
        request,
        flags,
        payload,
    };
    let main = |request, flags, payload| message(Channel::Main, request, flags, payload);
    let mut shmem = ShmemConfig {
        num_regions: 1,
        ..ShmemConfig::default()
    };
    shmem.sizes[3] = 0x1000;
    for (line, expected) in [
        (
            "SET_VRING_NUM index=0 num=256",
            main(8, 0x1, VringState { index: 0, num: 256 }.into()),
        ),
        (
            "SET_VRING_ENABLE! index=0 num=1",
            main(18, 0x9, VringState { index: 0, num: 1 }.into()),
        ),
        (
            "reply to GET_FEATURES value=0x175007e46",
            main(1, 0x5, 0x1_7500_7e46.into()),
        ),
        ("GET_FEATURES", main(1, 0x1, Payload::Empty)),
        (
            "CONFIG_CHANGE_MSG! on backend",
            message(Channel::Backend, 2, 0x9, Payload::Empty),
        ),
        (
            "reply to CONFIG_CHANGE_MSG on backend value=0x0",
            message(Channel::Backend, 2, 0x5, 0.into()),
        ),
        (
            "SET_MEM_TABLE regions=[{guest_address=0x0 size=0xc0000 user_address=0x7f00 mmap_offset=0x0} \
             {guest_address=0x100000 size=0x1000 user_address=0x7f00 mmap_offset=0x0}]",
            main(
                5,
                0x1,
                MemTable {
                    padding: 0,
                    regions: vec![region(0, 0xc0000), region(0x10_0000, 0x1000)],
                }
                .into(),
            ),
        ),
        ("SET_MEM_TABLE regions=[]", main(5, 0x1, MemTable::default().into())),
        ("SET_MEM_TABLE value=0x0", main(5, 0x1, 0.into())),
        ("SET_MEM_TABLE", main(5, 0x1, Payload::Empty)),
        (
            "SET_VRING_KICK index=1",
            main(
                12,
                0x1,
                VringFd {
                    index: 1,
                    ..VringFd::default()
                }
                .into(),
            ),
        ),
        (
            "SET_VRING_KICK index=1 no_fd=1",
            main(
                12,
                0x1,
                VringFd {
                    index: 1,
                    no_fd: true,
                    reserved: 0,
                }
                .into(),
            ),
        ),
        (
            "GET_FEATURES as vring_state index=0 num=0",
            main(1, 0x1, VringState::default().into()),
        ),
        ("SET_OWNER header_flags=0x11", main(3, 0x11, Payload::Empty)),
        ("reply to SET_OWNER! value=0x1", main(3, 0xd, 1.into())),
        (
            "GET_CONFIG offset=0x0 size=2 flags=0x0 payload=00ff",
            main(
                24,
                0x1,
                Config {
                    offset: 0,
                    size: 2,
                    flags: 0,
                    payload: vec![0, 0xff],
                }
                .into(),
            ),
        ),
        ("reply to GET_CONFIG", main(24, 0x5, Payload::Empty)),
        ("SET_VRING_NUM as raw payload=0011", main(8, 0x1, vec![0, 0x11].into())),
        (
            "reply to GET_SHMEM_CONFIG num_regions=1 sizes=[{shmid=3 size=0x1000}]",
            main(44, 0x5, shmem.into()),
        ),
        (
            "raw request=99 flags=0x1 payload=0011aabb",
            main(99, 0x1, vec![0, 0x11, 0xaa, 0xbb].into()),
        ),
        (
            "raw on backend request=99 flags=0x5 payload=",
            message(Channel::Backend, 99, 0x5, vec![].into()),
        ),
        (
            "raw request=46 flags=0x1 as config offset=0x0 size=0 flags=0x0 payload=",
            main(46, 0x1, Config::default().into()),
        ),
    ] {
        assert_eq!(line.parse().as_ref(), Ok(&expected), "{line}");
        assert_eq!(expected.to_string(), line);
    }
}

/// Broken: what people write by hand is refused.
#[test]
fn forgiving_input() {
    for (line, canonical) in [
        ("  set_vring_num   num=0x10_0 ", "SET_VRING_NUM index=0 num=256"),
        ("VHOST_USER_SLAVE_CONFIG_CHANGE_MSG", "CONFIG_CHANGE_MSG on backend"),
        ("CONFIG_CHANGE_MSG", "CONFIG_CHANGE_MSG on backend"),
        (
            "IOTLB_MSG on main type=2",
            "IOTLB_MSG iova=0x0 size=0x0 user_address=0x0 permissions=0 type=2",
        ),
        (
            "GET_CONFIG size=2",
            "GET_CONFIG offset=0x0 size=2 flags=0x0 payload=0000",
        ),
        ("SET_FEATURES value=0b1000", "SET_FEATURES value=0x8"),
        (
            "SHARED_OBJECT_ADD uuid=00112233-4455-6677-8899-aabbccddeeff",
            "SHARED_OBJECT_ADD on backend uuid=00112233445566778899aabbccddeeff",
        ),
        (
            "SET_MEM_TABLE regions=[ { size=1 }{ size=2} ]",
            "SET_MEM_TABLE regions=[{guest_address=0x0 size=0x1 user_address=0x0 mmap_offset=0x0} \
          {guest_address=0x0 size=0x2 user_address=0x0 mmap_offset=0x0}]",
        ),
    ] {
        let message: Message = line.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(message.to_string(), canonical);
    }
}

/// Broken: a mistake in a line gets no useful message.
#[test]
fn errors_say_what_is_wrong() {
    for (line, expected) in [
        ("", "expected a message, found the end of the line"),
        (
            "reply GET_FEATURES",
            "expected `to` after `reply`, found \"GET_FEATURES\"",
        ),
        (
            "GET_FEATURE",
            "no message is called \"GET_FEATURE\"; did you mean GET_FEATURES or SET_FEATURES or GET_PROTOCOL_FEATURES?",
        ),
        (
            "SET_VRING_NUM indx=0",
            "vring_state has no field \"indx\"; did you mean index?",
        ),
        ("SET_VRING_NUM index=x", "index takes a number, not \"x\""),
        ("SET_VRING_NUM index=-1", "index takes a number, not \"-1\""),
        (
            "SET_VRING_NUM index=0x100000000",
            "0x100000000 does not fit into index, which has 32 bits",
        ),
        (
            "SET_VRING_NUM index",
            "expected a field, written name=value, found \"index\"",
        ),
        (
            "SET_VRING_NUM as vring",
            "no payload layout is called \"vring\"; did you mean vring_fd or vring_addr or vring_area?",
        ),
        (
            "SET_OWNER on side",
            "expected a channel, main or backend, after `on`, found \"side\"",
        ),
        (
            "SET_OWNER header_flags=0x5",
            "header_flags=0x5 contradicts \"reply to\": a reply has 0x4, `!` is 0x8",
        ),
        (
            "SET_OWNER! header_flags=0x1",
            "header_flags=0x1 contradicts \"!\": a reply has 0x4, `!` is 0x8",
        ),
        ("SET_MEM_TABLE regions=1", "regions takes a list in brackets, not \"1\""),
        ("SET_MEM_TABLE regions=[1]", "expected `{` or `]`, found \"1]\""),
        (
            "SET_MEM_TABLE regions=[{size=1",
            "expected a field, written name=value, found the end of the line",
        ),
        (
            "raw payload=00",
            "expected `request=`, the id of a raw message, found \"payload=00\"",
        ),
        (
            "raw request=99 payload=0",
            "expected `flags=`, the header's flags of a raw message, found \"payload=0\"",
        ),
        (
            "raw request=99 flags=1 payload=0",
            "payload takes bytes as pairs of hex digits, not \"0\"",
        ),
    ] {
        let error: NotationError = line.parse::<Message>().expect_err(line);
        assert_eq!(error.to_string(), expected, "{line}");
    }
}
