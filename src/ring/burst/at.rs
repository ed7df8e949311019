//! Words of guest memory as what [`super::publish`] hands over, and the fence outside of its models.

use std::sync::atomic::{Ordering, fence};

use super::publish::Shared;
use crate::sys::shared::{SharedArray, Word};

/// One word of an array.
#[derive(Clone, Copy)]
pub(super) struct At<'a, T: Word>(pub(super) &'a SharedArray<T>, pub(super) usize);

impl<T: Word> Shared<T> for At<'_, T> {
    #[inline(always)]
    fn load(&self, order: Ordering) -> T {
        self.0.load(self.1, order)
    }

    #[inline(always)]
    fn store(&self, value: T, order: Ordering) {
        self.0.store(self.1, value, order);
    }
}

/// The fence outside of models.
#[inline(always)]
pub(super) fn full_fence() {
    fence(Ordering::SeqCst);
}
