mod lanes;
mod pumps;
mod records;

use proptest::prelude::*;

use super::frame::{self, Damage, Header};
use super::*;

fn header(seq: u64) -> Header {
    Header {
        stream: 7,
        seq,
        stamp: 0x1234_5678,
        bare: false,
    }
}

fn made(seq: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    frame::make(&header(seq), &mut bytes);
    bytes
}

#[test]
fn every_bit_of_every_length_is_verified() {
    // Broken: damage of some byte goes unseen.
    for size in (64..=80).chain([570, 1518]) {
        let sent = made(0x0102_0304_0506, size);
        assert_eq!(frame::check(&sent), Ok(header(0x0102_0304_0506)));
        let step = if size > 100 { 7 } else { 1 };
        for bit in (0..size * 8).step_by(step) {
            let mut bytes = sent.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let found = frame::check(&bytes).unwrap_err();
            match found {
                Damage::Content { header: told, at } => assert_eq!((told, at), (header(0x0102_0304_0506), bit / 8)),
                Damage::Header => assert!((16..48).contains(&(bit / 8)), "bit {bit}"),
                Damage::Foreign => assert!((12..16).contains(&(bit / 8)), "bit {bit}"),
                other => panic!("bit {bit} of {size}: {other:?}"),
            }
        }
    }
}

#[test]
fn the_shortest_frame_in_registers_is_the_one_in_memory() {
    // Broken: rates are measured with frames that differ from all others, or whose damage goes unseen.
    for seq in [0, 1, u64::from(u32::MAX), u64::MAX] {
        let sent = made(seq, 64);
        let words = frame::make_least(&header(seq));
        assert_eq!(words.map(u64::to_le_bytes).as_flattened(), sent);
        assert_eq!(frame::check_least(&words), Some(header(seq)));
        for bit in 0..64 * 8 {
            let mut words = words;
            words[bit / 64] ^= 1 << (bit % 64);
            assert_eq!(frame::check_least(&words), None, "bit {bit}");
        }
    }
    // of another length: cut down to 64 bytes
    let long = made(5, 72);
    let words = std::array::from_fn(|at| u64::from_le_bytes(long[8 * at..8 * at + 8].try_into().unwrap()));
    assert_eq!(frame::check_least(&words), None);
}

#[test]
fn what_is_foreign_at_a_glance_is_foreign_after_a_longer_look() {
    // Broken: a damaged frame of ours passes as somebody else's, which is no fault.
    for size in [64, 80, 1518] {
        let sent = made(77, size);
        for bit in 0..48 * 8 {
            for other in [None, Some((bit + 131) % (48 * 8))] {
                let mut bytes = sent.clone();
                for bit in [Some(bit), other].into_iter().flatten() {
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
                let words = std::array::from_fn(|at| u64::from_le_bytes(bytes[8 * at..8 * at + 8].try_into().unwrap()));
                let foreign = frame::check(&bytes) == Err(Damage::Foreign);
                assert_eq!(frame::is_foreign(&words), foreign, "bits {bit}, {other:?} of {size}");
            }
        }
    }
    assert!(frame::is_foreign(&[0; 6]));
}

#[test]
fn a_header_alone_is_verified_without_a_content() {
    // Broken: sampling leaves headers out, takes frames for damaged whose content nobody made, or passes off a frame whose
    // content was damaged as one that has none.
    let bare = Header {
        bare: true,
        ..header(9)
    };
    for size in 64..200 {
        let mut bytes = vec![0x5a; size];
        frame::make(&bare, &mut bytes);
        assert!(bytes[48..].iter().all(|byte| *byte == 0x5a), "nothing is written there");
        bytes[size - 1] ^= 1;
        assert_eq!(frame::check(&bytes), Ok(bare));
        let words = std::array::from_fn(|at| u64::from_le_bytes(bytes[8 * at..8 * at + 8].try_into().unwrap()));
        assert_eq!(words, frame::make_bare(&bare, size));
        assert_eq!(frame::check_bare(&words, size), Some(bare));
        assert_eq!(frame::check_bare(&words, size + 1), None);
        for bit in 0..48 * 8 {
            let (mut words, mut bytes) = (words, bytes.clone());
            words[bit / 64] ^= 1 << (bit % 64);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(frame::check_bare(&words, size), None, "bit {bit}");
            assert!(frame::check(&bytes).is_err(), "bit {bit}");
        }
        let mut whole = made(9, size);
        whole[34] ^= 1;
        assert_eq!(frame::check(&whole), Err(Damage::Header), "a content that is denied");
    }
}

#[test]
fn of_so_many_frames_one_has_content() {
    // Broken: a rate is measured with contents that nobody compared, or the report counts them as compared.
    let sizes = Sizes::cycle([64, 1518, 70]).unwrap();
    let (mut source, mut sink) = (Source::new(1, sizes).sampling(4), Sink::new(&[1]));
    let mut bytes = vec![0; 2000];
    for seq in 0..100 {
        let length = source.fill(&mut bytes, 0);
        if seq == 40 {
            bytes[length - 1] ^= 1;
        }
        sink.take(&bytes[..length], 0);
    }
    let tally = sink.tally(&[(1, 100)]);
    assert_eq!(
        (tally.frames, tally.contents, tally.damaged, tally.lost),
        (100, 24, 1, 0)
    );
}

#[test]
fn cut_and_extended_frames_say_which_they_are() {
    // Broken: a truncated frame counts as lost, or as damaged without a number.
    let sent = made(3, 200);
    for length in 64..200 {
        let told = Damage::Length {
            header: header(3),
            made: 200,
        };
        assert_eq!(frame::check(&sent[..length]), Err(told));
    }
    assert_eq!(
        frame::check(&sent[..50]),
        Err(Damage::Length {
            header: header(3),
            made: 200
        })
    );
    assert_eq!(frame::check(&sent[..47]), Err(Damage::Short));
    let mut longer = sent.clone();
    longer.push(0);
    assert_eq!(
        frame::check(&longer),
        Err(Damage::Length {
            header: header(3),
            made: 200
        })
    );
    assert_eq!(frame::check(&[0; 64]), Err(Damage::Foreign));
}

#[test]
fn no_two_frames_of_a_stream_are_alike() {
    // Broken: a stale buffer with another frame's pattern passes under a new header.
    let bytes = |seq| made(seq, 64)[48..].to_vec();
    let mut all: Vec<Vec<u8>> = (0..5000).chain((1 << 40)..(1 << 40) + 5000).map(bytes).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 10_000);
    let mut stale = made(4, 64);
    stale[48..].copy_from_slice(&made(3, 64)[48..]);
    assert!(matches!(frame::check(&stale), Err(Damage::Content { .. })));
}

#[test]
fn sizes_come_in_turn_and_only_legal_ones() {
    // Broken: IMIX is not the mix it says, or a frame is made that does not fit its buffer.
    let imix = Sizes::imix();
    let of = |size: usize| (0..12).filter(|seq| imix.of(*seq) == size).count();
    assert_eq!((of(64), of(570), of(1518), imix.longest()), (7, 4, 1, 1518));
    assert_eq!((imix.only(), imix.to_string().as_str()), (None, "imix"));
    assert_eq!(Sizes::fixed(63), Err(BadSize::Size { size: 63 }));
    assert_eq!(Sizes::fixed(9001), Err(BadSize::Size { size: 9001 }));
    assert_eq!(Sizes::cycle([]), Err(BadSize::Count { count: 0 }));
    let mut source = Source::new(1, Sizes::cycle([64, 9000]).unwrap());
    let mut buffer = vec![0; 9000];
    let lengths: Vec<usize> = (0..3).map(|_| source.fill(&mut buffer, 0)).collect();
    assert_eq!(lengths, [64, 9000, 64]);
}

/// What a sink says of these frames of a stream of `sent`.
fn told(order: &[u64], sent: u64) -> Tally {
    let mut sink = Sink::new(&[7]);
    order.iter().for_each(|seq| sink.take(&made(*seq, 64), 0));
    sink.tally(&[(7, sent)])
}

#[test]
fn order_loss_and_repetition_are_told_apart() {
    // Broken: a swapped pair counts as a loss, a repeated frame as a swapped one, or a loss at the very end as nothing.
    let of = |order: &[u64], sent| {
        let t = told(order, sent);
        (t.lost, t.duplicate, t.late, t.late_by_most)
    };
    assert_eq!(of(&[0, 1, 2, 3], 4), (0, 0, 0, 0));
    assert_eq!(of(&[0, 2, 1, 3], 4), (0, 0, 1, 1));
    assert_eq!(of(&[0, 1, 1, 2, 3], 4), (0, 1, 0, 0));
    assert_eq!(of(&[0, 2, 3], 4), (1, 0, 0, 0));
    assert_eq!(of(&[0, 1, 2], 4), (1, 0, 0, 0));
    assert_eq!(of(&[], 4), (4, 0, 0, 0));
    assert_eq!(of(&[1, 2, 3, 0], 4), (0, 0, 1, 3));
    assert_eq!(of(&[3, 2, 1, 0, 0], 5), (1, 1, 3, 3));
    let first = told(&[0, 2, 3], 4).findings[0];
    assert_eq!(
        first.to_string(),
        "frame 2 came while 1 before it had not (arrival 1, stream 7)"
    );
}

#[test]
fn what_a_sink_counts_is_told_in_words() {
    // Broken: a finding is counted and cannot be found again.
    let mut sink = Sink::new(&[7]);
    let mut bytes = made(0, 64);
    bytes[60] ^= 8;
    sink.take(&bytes, 0);
    sink.take(&made(1, 100)[..70], 0);
    let mut other = vec![0; 64];
    frame::make(
        &Header {
            stream: 8,
            seq: 5,
            stamp: 0,
            bare: false,
        },
        &mut other,
    );
    sink.take(&other, 0);
    sink.take(&[9; 80], 0);
    let tally = sink.tally(&[(7, 2)]);
    assert_eq!(
        tally.faults_in_words(),
        "1 damaged, 1 of wrong length, 1 of another stream"
    );
    let told: Vec<String> = tally.findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "byte 60 of frame 0 is not what was sent (arrival 0, stream 7)",
            "frame 1 was sent with 100 bytes and arrived with 70 (arrival 1, stream 7)",
            "frame 5 of stream 8 arrived, which ends elsewhere (arrival 2, stream 8)",
            "80 bytes arrived that nobody here has sent (arrival 3)",
        ]
    );
    assert_eq!((tally.foreign, tally.frames, tally.bytes), (1, 4, 64 + 70 + 64 + 80));
}

#[test]
fn percentiles_are_exact_to_a_part_in_32() {
    // Broken: latencies are read off at the wrong place of the histogram.
    let mut latency = Latency::default();
    assert_eq!((latency.percentile(0.5), latency.range()), (None, None));
    (1..=100_000u64).for_each(|ns| latency.record(ns * 10));
    for (share, exact) in [
        (0.5, 500_000.0),
        (0.99, 990_000.0),
        (0.999, 999_000.0),
        (1.0, 1_000_000.0),
    ] {
        let told = latency.percentile(share).unwrap() as f64;
        assert!((told / exact - 1.0).abs() < 1.0 / 32.0, "{share}: {told}");
    }
    assert_eq!((latency.range(), latency.count()), (Some((10, 1_000_000)), 100_000));
    latency.record(u64::MAX);
    assert_eq!(latency.percentile(1.0), Some(u64::MAX));
    let mut twice = latency.clone();
    twice.merge(&latency);
    assert_eq!(
        (twice.count(), twice.percentile(0.5)),
        (200_002, latency.percentile(0.5))
    );
}

proptest! {
    #[test]
    fn a_sink_counts_what_was_done_to_a_stream(order in Just((0..40u64).collect::<Vec<_>>()).prop_shuffle(), cut in 0..40usize) {
        // Broken: for some order lost, late and duplicate frames do not add up.
        let kept = &order[..cut];
        let tally = told(kept, 40);
        let mut highest = None;
        let late = kept.iter().filter(|seq| {
            let is_late = highest.is_some_and(|h| **seq < h);
            highest = highest.max(Some(**seq));
            is_late
        }).count() as u64;
        prop_assert_eq!((tally.lost, tally.late, tally.duplicate), (40 - cut as u64, late, 0));
        let twice: Vec<u64> = kept.iter().chain(kept).copied().collect();
        prop_assert_eq!(told(&twice, 40).duplicate, cut as u64);
    }

    #[test]
    fn any_frame_is_read_as_it_was_made(stream: u16, seq: u64, stamp: u64, size in 64..2000usize) {
        // Broken: some frame does not pass its own check.
        let header = Header { stream, seq, stamp, bare: false };
        let mut bytes = vec![0; size];
        frame::make(&header, &mut bytes);
        prop_assert_eq!(frame::check(&bytes), Ok(header));
    }
}

#[test]
fn frames_of_a_file_are_told_by_their_bytes() {
    // Broken: recorded frames that are lost, doubled or changed on the way go unseen.
    let frames: Vec<Vec<u8>> = (0..5u8).map(|at| vec![at; 60 + usize::from(at)]).collect();
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 0xffff, 1] {
        file.extend(word.to_le_bytes());
    }
    for frame in &frames {
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    let recording = std::sync::Arc::new(Recording::read(&file).unwrap());
    let mut source = Source::new(1, Sizes::fixed(64).unwrap()).recorded(recording.clone());
    let mut buffer = vec![0; 100];
    let sent: Vec<Vec<u8>> = (0..12)
        .map(|_| {
            let length = source.fill(&mut buffer, 0);
            buffer[..length].to_vec()
        })
        .collect();
    assert_eq!((&sent[0], &sent[7]), (&frames[0], &frames[2]));
    let told = |order: &[usize]| {
        let mut sink = Sink::new(&[1]).recorded(recording.clone());
        order.iter().for_each(|at| sink.take(&sent[*at], 0));
        sink.tally(&[(1, 12)])
    };
    let all: Vec<usize> = (0..12).collect();
    assert!(told(&all).is_clean());
    let without: Vec<usize> = all.iter().copied().filter(|at| *at != 6).collect();
    assert_eq!(told(&without).faults_in_words(), "1 lost");
    assert_eq!(
        told(&[0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]).faults_in_words(),
        "1 duplicate"
    );
    let mut sink = Sink::new(&[1]).recorded(recording.clone());
    sink.take(&sent[0], 0);
    sink.take(&[9; 61], 0);
    assert_eq!(sink.tally(&[(1, 2)]).faults_in_words(), "1 lost, 1 damaged");
}
