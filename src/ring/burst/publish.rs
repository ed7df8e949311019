//! The four moves by which two sides of a ring hand things over, and the only places where their memory ordering is decided.
//!
//! They are written over any atomic, so that `loom` runs the very same functions through every interleaving and every
//! reordering the memory model allows (`tests/loom.rs` of the repository, which includes this file).

use std::sync::atomic::Ordering;

/// A word that both sides see: an index, the flags of a descriptor, a wish for notification.
pub(super) trait Shared<T> {
    fn load(&self, order: Ordering) -> T;
    fn store(&self, value: T, order: Ordering);
}

/// Hands over all that was written before: whoever consumes `value` sees it.
#[inline(always)]
pub(super) fn publish<T>(place: &impl Shared<T>, value: T) {
    place.store(value, Ordering::Release);
}

/// Looks what the other side has published; what it wrote before can be read afterwards.
#[inline(always)]
pub(super) fn consume<T>(place: &impl Shared<T>) -> T {
    place.load(Ordering::Acquire)
}

/// Before going to sleep: says what is to be notified, and looks again. The other side publishes and then reads the wish, so
/// without a full fence on both sides each could miss the other, and one would sleep for ever.
#[inline(always)]
pub(super) fn wish_then_look<T, R>(
    wish: &impl Shared<T>,
    value: T,
    full_fence: impl FnOnce(),
    look: impl FnOnce() -> R,
) -> R {
    wish.store(value, Ordering::Relaxed);
    full_fence();
    look()
}

/// After publishing: what the other side wishes to be told. The counterpart of [`wish_then_look`].
#[inline(always)]
pub(super) fn published_then_wish<T>(full_fence: impl FnOnce(), wish: &impl Shared<T>) -> T {
    full_fence();
    wish.load(Ordering::Relaxed)
}
