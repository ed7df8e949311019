//! The moves of `src/ring/burst/publish.rs` in every interleaving, and with every reordering the memory model allows, by `loom`. The models
//! call the functions the rings call; only the atomics are loom's. Each has a twin with the ordering taken away, in which
//! something has to go wrong: a model in which nothing can is worth nothing. What goes wrong is noted and not asserted, for a
//! panic inside of loom's threads may end the process. They are a program of their own: loom's coroutines handle SIGSEGV and
//! SIGBUS, and exchange the panic hook, for the whole process.

#![expect(clippy::unwrap_used, reason = "a test may end with a panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loom::sync::atomic::{AtomicU16, AtomicU64, fence};
use loom::thread;

use vhost_user_harness::ring::packed::{EVENT_DESC, EVENT_DISABLE, Position, wants_event};
use vhost_user_harness::ring::split::event_passed;

#[path = "../src/ring/burst/publish.rs"]
mod publish;

use publish::{Shared, consume, publish, published_then_wish, wish_then_look};

impl Shared<u16> for AtomicU16 {
    fn load(&self, order: Ordering) -> u16 {
        AtomicU16::load(self, order)
    }

    fn store(&self, value: u16, order: Ordering) {
        AtomicU16::store(self, value, order);
    }
}

impl Shared<u64> for AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }
}

/// A word of which nothing is published or consumed: what the rings would be without `src/ring/burst/publish.rs`.
struct Careless<A>(A);

impl Shared<u16> for Careless<AtomicU16> {
    fn load(&self, _: Ordering) -> u16 {
        self.0.load(Ordering::Relaxed)
    }

    fn store(&self, value: u16, _: Ordering) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Shared<u64> for Careless<AtomicU64> {
    fn load(&self, _: Ordering) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn store(&self, value: u64, _: Ordering) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// Descriptors, elements and payloads: read and written without any order, so that a stale one shows where nothing orders it.
type Cell = AtomicU64;

fn write(cell: &Cell, value: u64) {
    cell.store(value, Ordering::Relaxed);
}

fn read(cell: &Cell) -> u64 {
    cell.load(Ordering::Relaxed)
}

/// Runs a model in every way; gives whether something went wrong in one of them.
fn goes_wrong(model: impl Fn(&AtomicBool) + Send + Sync + 'static) -> bool {
    let wrong = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&wrong);
    loom::model(move || model(&noted));
    wrong.load(Ordering::SeqCst)
}

fn full_fence() {
    fence(Ordering::SeqCst);
}

/// A split ring of one descriptor goes round twice: what is written before an index is published is seen by who consumes it,
/// on the way there, on the way back, and when the descriptor is used again.
fn split_round<I: Shared<u16> + Send + Sync + 'static>(index: fn() -> I) -> bool {
    goes_wrong(move |wrong| {
        let ring = Arc::new((index(), index(), Cell::new(0), Cell::new(0)));
        let theirs = Arc::clone(&ring);
        let device = thread::spawn(move || {
            let (avail, used, descriptor, element) = &*theirs;
            for round in 0..2u16 {
                while consume(avail) == round {
                    thread::yield_now();
                }
                write(element, read(descriptor) + 100);
                publish(used, round + 1);
            }
        });
        let (avail, used, descriptor, element) = &*ring;
        for round in 0..2u16 {
            write(descriptor, u64::from(round) + 1);
            publish(avail, round + 1);
            while consume(used) == round {
                thread::yield_now();
            }
            wrong.fetch_or(read(element) != u64::from(round) + 101, Ordering::SeqCst);
        }
        device.join().unwrap();
    })
}

#[test]
fn a_split_ring_hands_over_what_was_written() {
    // Broken: a descriptor or a packet is read as it was before it was written, once in a million packets.
    assert!(!split_round(|| AtomicU16::new(0)));
}

#[test]
fn a_split_ring_without_order_hands_over_what_was_there_before() {
    assert!(split_round(|| Careless(AtomicU16::new(0))));
}

/// A packed ring of two: a burst of two descriptors of which the first is shown last, used in the same way, twice around.
fn packed_round<W: Shared<u64> + Send + Sync + 'static>(word: fn() -> W) -> bool {
    let flags = |word: u64| (word >> 48) as u16;
    goes_wrong(move |wrong| {
        let ring = Arc::new(([word(), word()], [Cell::new(0), Cell::new(0)]));
        let theirs = Arc::clone(&ring);
        let device = thread::spawn(move || {
            let (words, addresses) = &*theirs;
            let at = Position::START;
            while !at.is_avail(flags(consume(&words[0]))) {
                thread::yield_now();
            }
            // the first was shown last, so the second is there
            let second = at.is_avail(flags(consume(&words[1])));
            let whole = second && (read(&addresses[0]), read(&addresses[1])) == (7, 8);
            publish(&words[1], 2 | u64::from(at.used_flags()) << 48);
            publish(&words[0], 1 | u64::from(at.used_flags()) << 48);
            whole
        });
        let (words, addresses) = &*ring;
        let at = Position::START;
        write(&addresses[0], 7);
        write(&addresses[1], 8);
        publish(&words[1], u64::from(at.avail_flags()) << 48);
        publish(&words[0], u64::from(at.avail_flags()) << 48);
        while !at.is_used(flags(consume(&words[0]))) {
            thread::yield_now();
        }
        let second = consume(&words[1]);
        let returned = at.is_used(flags(second)) && second as u32 == 2;
        let whole = device.join().unwrap();
        wrong.fetch_or(!(whole && returned), Ordering::SeqCst);
    })
}

#[test]
fn a_packed_ring_hands_over_a_burst_by_its_first_descriptor() {
    // Broken: the second descriptor of a burst is not there, or stale, when the first is.
    assert!(!packed_round(|| AtomicU64::new(0)));
}

#[test]
fn a_packed_ring_without_order_does_not() {
    assert!(packed_round(|| Careless(AtomicU64::new(0))));
}

/// One side wishes to be told and looks again; the other publishes and reads the wish. Gives whether one can sleep for ever.
fn somebody_sleeps(waiter_fence: fn(), publisher_fence: fn(), event_index: bool) -> bool {
    goes_wrong(move |wrong| {
        let shared = Arc::new((AtomicU16::new(0), AtomicU16::new(if event_index { 9 } else { 1 })));
        let theirs = Arc::clone(&shared);
        let publisher = thread::spawn(move || {
            let (index, wish) = &*theirs;
            publish(index, 1);
            let wish = published_then_wish(publisher_fence, wish);
            // flags of 1 are "no notification"; with an event index: whether it was passed
            if event_index {
                event_passed(wish, 1, 0)
            } else {
                wish == 0
            }
        });
        let (index, wish) = &*shared;
        let seen = wish_then_look(wish, 0, waiter_fence, || consume(index));
        let notified = publisher.join().unwrap();
        wrong.fetch_or(!notified && seen == 0, Ordering::SeqCst);
    })
}

#[test]
fn who_looks_again_or_is_told_does_not_sleep_for_ever() {
    // Broken: a driver or a device that sleeps between bursts is never woken, once in a million times.
    for event_index in [false, true] {
        assert!(!somebody_sleeps(full_fence, full_fence, event_index));
    }
}

#[test]
fn without_the_fence_of_the_waiter_it_may() {
    assert!(somebody_sleeps(|| (), full_fence, true));
}

#[test]
fn without_the_fence_of_the_publisher_it_may() {
    assert!(somebody_sleeps(full_fence, || (), false));
}

/// A packed ring of one descriptor goes round twice: the lap is in the flags, and they are never those of the lap before.
fn packed_laps<W: Shared<u64> + Send + Sync + 'static>(word: fn() -> W) -> bool {
    let flags = |word: u64| (word >> 48) as u16;
    goes_wrong(move |wrong| {
        let ring = Arc::new((word(), Cell::new(0)));
        let theirs = Arc::clone(&ring);
        let device = thread::spawn(move || {
            let (word, address) = &*theirs;
            let mut at = Position::START;
            for _ in 0..2 {
                while !at.is_avail(flags(consume(word))) {
                    thread::yield_now();
                }
                publish(word, (read(address) + 100) | u64::from(at.used_flags()) << 48);
                at = at.advanced(1, 1);
            }
        });
        let (word, address) = &*ring;
        let mut at = Position::START;
        for lap in 0..2u64 {
            write(address, lap + 1);
            publish(word, u64::from(at.avail_flags()) << 48);
            let mut seen = consume(word);
            while !at.is_used(flags(seen)) {
                thread::yield_now();
                seen = consume(word);
            }
            wrong.fetch_or(seen as u32 as u64 != lap + 101, Ordering::SeqCst);
            at = at.advanced(1, 1);
        }
        device.join().unwrap();
    })
}

#[test]
fn a_packed_ring_goes_round() {
    // Broken: a descriptor is taken for one of the next lap, or its buffer is read as it was in the lap before.
    assert!(!packed_laps(|| AtomicU64::new(0)));
}

#[test]
fn a_packed_ring_that_goes_round_without_order_does_not() {
    assert!(packed_laps(|| Careless(AtomicU64::new(0))));
}

/// Event suppression of a packed ring is of two words: the descriptor, and the flags that say that it counts. One side writes
/// both and looks again; the other publishes a descriptor and reads both.
fn somebody_sleeps_on_a_packed_ring(publisher_fence: fn(), waiter_fence: fn()) -> bool {
    goes_wrong(move |wrong| {
        // the wish of long ago is for another descriptor
        let wish = (AtomicU16::new(3), AtomicU16::new(EVENT_DISABLE));
        let shared = Arc::new((AtomicU64::new(0), wish));
        let theirs = Arc::clone(&shared);
        let publisher = thread::spawn(move || {
            let (word, (place, flags)) = &*theirs;
            publish(word, u64::from(Position::START.avail_flags()) << 48);
            let flags = published_then_wish(publisher_fence, flags);
            let wish = consume(place);
            wants_event(wish, flags, Position::START.advanced(1, 4), 1, 4)
        });
        let (word, (place, flags)) = &*shared;
        Shared::store(place, Position::START.to_bits(), Ordering::Relaxed);
        let seen = wish_then_look(flags, EVENT_DESC, waiter_fence, || consume(word));
        let there = Position::START.is_avail((seen >> 48) as u16);
        let notified = publisher.join().unwrap();
        wrong.fetch_or(!notified && !there, Ordering::SeqCst);
    })
}

#[test]
fn on_a_packed_ring_nobody_sleeps_for_ever() {
    // Broken: the descriptor of an earlier wish is taken with the flags of this one, and the one who waits is never woken.
    assert!(!somebody_sleeps_on_a_packed_ring(full_fence, full_fence));
}

#[test]
fn on_a_packed_ring_without_a_fence_somebody_may() {
    assert!(somebody_sleeps_on_a_packed_ring(|| (), full_fence));
    assert!(somebody_sleeps_on_a_packed_ring(full_fence, || ()));
}
