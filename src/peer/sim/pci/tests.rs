//! Every message in every state, by the table; and the page.

use std::os::fd::OwnedFd;

use super::*;
use crate::peer::sim::Output;
use crate::sys::fd::memfd;
use crate::sys::golden;
use crate::trace::DeviceChange;
use crate::wire::Dialect;
use crate::wire::id::{frontend as id, g1};
use crate::wire::{
    Channel, DevInfo, MemRegion, MemTable, Message, Payload, VringAddr, VringBase, VringFd, VringState, spec,
};

const CONN: usize = 5;
const MEMORY_BYTES: u64 = 0x2_0000;
const USER: u64 = 0x7f00_0000_0000;

fn server(profile: Profile, dialect: Dialect) -> PciServer {
    let mut server = PciServer::new(ServerConfig {
        dialect,
        generation: Generation::G1,
        profile,
        servers: vec!["a".to_owned()],
        clients: 8,
        sharing: true,
        grouping: Grouping::Uuid,
        device_first: false,
        queues: 2,
        faults: Faults::default(),
    });
    server.accept(CONN, "a").unwrap();
    server
}

/// A message of that meaning, well-formed.
fn message(dialect: Dialect, word: Word) -> (Message, Vec<OwnedFd>) {
    let is_g2 = dialect == Dialect::VhostPciG2;
    let (id, payload): (u32, Payload) = match word {
        Word::ConnId => (g1::GET_CONN_ID, Payload::Empty),
        Word::DevInfo if is_g2 => (20, Payload::U64(1)),
        Word::DevInfo => (
            g1::SET_DEV_INFO,
            DevInfo {
                virtio_id: 1,
                uuid: [7; 16],
            }
            .into(),
        ),
        Word::Init if is_g2 => (21, Payload::U64(0)),
        Word::Off if is_g2 => (21, Payload::U64(1)),
        Word::Off => (g1::SET_PEER_CONNECTION, Payload::U64(0)),
        Word::On => (g1::SET_PEER_CONNECTION, Payload::U64(1)),
        Word::Init => (g1::SET_PEER_CONNECTION, Payload::U64(2)),
        Word::Common(id) => (id, common(id)),
        Word::Neither | Word::Unknown => unreachable!("not in the table"),
    };
    let fds = match id {
        id::SET_MEM_TABLE => vec![memfd("vuh", MEMORY_BYTES).unwrap()],
        id::SET_VRING_KICK | id::SET_VRING_CALL | id::SET_VRING_ERR => vec![crate::sys::fd::eventfd().unwrap()],
        _ => Vec::new(),
    };
    (
        Message::request(spec(dialect, Channel::Main, id).unwrap(), payload),
        fds,
    )
}

fn common(request: u32) -> Payload {
    match request {
        id::SET_FEATURES => Payload::U64(1 << 30),
        id::SET_PROTOCOL_FEATURES => Payload::U64(ServerConfig::protocol_features()),
        id::SET_MEM_TABLE => MemTable {
            regions: vec![MemRegion {
                guest_address: 0x1000,
                size: MEMORY_BYTES,
                user_address: USER,
                ..MemRegion::default()
            }],
            ..MemTable::default()
        }
        .into(),
        id::SET_VRING_NUM => VringState { index: 0, num: 16 }.into(),
        id::SET_VRING_ENABLE | id::GET_VRING_BASE => VringState { index: 0, num: 0 }.into(),
        id::SET_VRING_BASE => VringBase::default().into(),
        id::SET_VRING_ADDR => VringAddr {
            descriptor: USER,
            available: USER + 0x1000,
            used: USER + 0x2000,
            ..VringAddr::default()
        }
        .into(),
        id::SET_VRING_KICK | id::SET_VRING_CALL | id::SET_VRING_ERR => VringFd::default().into(),
        id::SEND_RARP => Payload::U64(0),
        _ => Payload::Empty,
    }
}

fn say(server: &mut PciServer, dialect: Dialect, word: Word) -> Vec<Output> {
    let (message, fds) = message(dialect, word);
    let id = server.conn_id(CONN).unwrap_or(dialect.no_conn_id());
    server.message(CONN, message.on_connection(id), fds);
    std::iter::from_fn(|| server.next_output())
        .map(|(_, output)| output)
        .collect()
}

/// What is said to get to a state.
fn way_to(dialect: Dialect, state: State) -> Vec<Word> {
    let hello = [Word::ConnId].into_iter().filter(|_| dialect.has_conn_id());
    let mut words: Vec<Word> = hello.chain([Word::Common(id::SET_PROTOCOL_FEATURES)]).collect();
    let further = [
        (State::Configured, vec![Word::DevInfo]),
        (State::Memory, vec![Word::Common(id::SET_MEM_TABLE)]),
        (
            State::Rings,
            [
                id::SET_VRING_NUM,
                id::SET_VRING_BASE,
                id::SET_VRING_ADDR,
                id::SET_VRING_KICK,
            ]
            .map(Word::Common)
            .to_vec(),
        ),
        (State::Created, vec![Word::Init]),
    ];
    words.extend(
        further
            .into_iter()
            .filter(|(s, _)| *s <= state)
            .flat_map(|(_, words)| words),
    );
    words
}

/// Broken: a message is taken in a state in which the table refuses it, or the other way round, or leads elsewhere.
#[test]
fn every_message_in_every_state_is_as_the_table_says() {
    let mut pairs = 0;
    for dialect in [Dialect::VhostPci, Dialect::VhostPciG2] {
        for profile in [Profile::Liberal, Profile::Strict] {
            for state in State::ALL {
                for row in ROWS {
                    let missing = dialect == Dialect::VhostPciG2 && matches!(row.word, Word::ConnId | Word::On);
                    if missing {
                        continue;
                    }
                    pairs += 1;
                    one_pair(dialect, profile, state, row);
                }
            }
        }
    }
    assert_eq!(pairs, 2 * 5 * (ROWS.len() + ROWS.len() - 2));
}

fn one_pair(dialect: Dialect, profile: Profile, state: State, row: &Row) {
    let mut server = server(profile, dialect);
    for word in way_to(dialect, state) {
        say(&mut server, dialect, word);
    }
    let entry = server.entries[0].as_ref().unwrap();
    assert_eq!(entry.state, state, "{dialect} {profile:?}");
    let name = format!(
        "{} in {} ({dialect}, {profile:?})",
        row.word.name(dialect),
        state.name()
    );
    // in a strict server's first state, only the device info may come, whatever the table says
    let waits = entry.wants_info && profile == Profile::Strict && row.word != Word::DevInfo;
    let outputs = say(&mut server, dialect, row.word);
    let told = |change| {
        let is_it = |output: &&Output| matches!(output, Output::Device(note) if note.change == change);
        outputs.iter().filter(is_it).count()
    };
    let after = server.entries[0].as_ref().map(|entry| entry.state);
    match permit(profile, state, row.word) {
        Permit::Taken(next) if !waits => {
            assert_eq!(told(DeviceChange::Refused), 0, "{name}");
            assert_eq!(after, Some(next.unwrap_or(state)), "{name}");
        }
        Permit::LetThrough => {
            assert_eq!(
                (told(DeviceChange::Refused), told(DeviceChange::LetThrough)),
                (0, 1),
                "{name}"
            );
            assert_eq!(after, Some(state), "{name}");
        }
        Permit::Refused | Permit::Taken(_) => {
            assert_eq!(told(DeviceChange::Refused), 1, "{name}");
            // what must be answered and cannot be ends the connection
            assert!(after == Some(state) || after.is_none(), "{name}");
        }
    }
    server.closed(CONN);
    assert_eq!(server.holds(), [0; 4], "{name}");
}

/// Broken: the page differs from the tables.
#[test]
fn page_is_fresh() {
    golden::check("docs/reference/vhost-pci.md", &docs::markdown(), "--lib sim::pci");
}
