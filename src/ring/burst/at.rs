//! Words of guest memory as what [`super::publish`] hands over, and the fence outside of its models.

use std::sync::atomic::{Ordering, fence};

use super::publish::Shared;
use crate::sys::shared::{SharedArray, Word};

/// One word of an array.
#[derive(Clone, Copy)]
pub(super) struct At<'a, T: Word>(pub(super) &'a T::Atomic);

impl<'a, T: Word> At<'a, T> {
    /// The word at `index`.
    #[inline(always)]
    pub(super) fn of(array: &'a SharedArray<T>, index: usize) -> Self {
        Self(array.words().at(index))
    }
}

impl<T: Word> Shared<T> for At<'_, T> {
    #[inline(always)]
    fn load(&self, order: Ordering) -> T {
        T::load(self.0, order)
    }

    #[inline(always)]
    fn store(&self, value: T, order: Ordering) {
        T::store(self.0, value, order);
    }
}

/// The fence outside of models.
#[inline(always)]
pub(super) fn full_fence() {
    fence(Ordering::SeqCst);
}
