//! Shared memory at the speed of the machine: arrays of words and pieces of bytes whose bounds are established once.
//!
//! Another process, or another thread, writes the same bytes at any time. So nothing here gives a reference into them: words
//! are loaded and stored as atomics, bytes are copied. What is read may change between two reads; a caller that checks a
//! value and then uses it reads it once. Knows nothing of what is mapped.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::sigbus::GuardedMap;

/// Bytes of a cache line, of all machines that matter here.
const LINE_BYTES: usize = 64;

/// A range of a mapping, which stays mapped as long as this lives.
#[derive(Debug, Clone)]
pub struct SharedView {
    start: NonNull<u8>,
    len: usize,
    map: Arc<GuardedMap>,
}

// SAFETY: the pointer leads into a shared mapping that `map` keeps; every access through it is an atomic or a copy of bytes
// that makes no assumption about who else writes them.
unsafe impl Send for SharedView {}
// SAFETY: as above.
unsafe impl Sync for SharedView {}

impl SharedView {
    /// The range of `map` that begins at byte `from`; nothing if the mapping ends before the range does.
    pub(crate) fn new(map: Arc<GuardedMap>, from: usize, len: usize) -> Option<Self> {
        if from.checked_add(len)? > map.size() {
            return None;
        }
        // SAFETY: `from` is at most the mapping's size.
        let start = NonNull::new(unsafe { map.as_ptr().add(from) })?;
        Some(Self { start, len, map })
    }

    /// Bytes in the range.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the file was truncated under the mapping and what was touched is gone.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.map.is_lost()
    }

    /// `count` words from byte `at` on; nothing if they are misaligned or not all in the range.
    #[must_use]
    pub fn array<T: Word>(&self, at: usize, count: usize) -> Option<SharedArray<T>> {
        let end = at.checked_add(count.checked_mul(size_of::<T>())?)?;
        if end > self.len {
            return None;
        }
        // SAFETY: `at` is at most `len`.
        let start = unsafe { self.start.add(at) }.cast::<T::Atomic>();
        start.is_aligned().then(|| SharedArray {
            start,
            count,
            _map: Arc::clone(&self.map),
        })
    }

    /// All of the range.
    #[inline(always)]
    #[must_use]
    pub fn extent(&self) -> Extent<'_> {
        Extent {
            start: self.start,
            len: self.len,
            view: PhantomData,
        }
    }

    /// The piece of `len` bytes at `at`, called `guest` by its owner; nothing if it is not all in the range.
    #[inline]
    #[must_use]
    pub fn place(&self, at: u64, len: u32, guest: u64) -> Option<Place<'_>> {
        self.extent().place(at, len, guest)
    }
}

/// A range as two words, which a loop keeps in registers.
#[derive(Debug, Clone, Copy)]
pub struct Extent<'m> {
    start: NonNull<u8>,
    len: usize,
    view: PhantomData<&'m SharedView>,
}

impl<'m> Extent<'m> {
    /// As [`SharedView::place`].
    #[inline(always)]
    #[must_use]
    pub fn place(self, at: u64, len: u32, guest: u64) -> Option<Place<'m>> {
        let size = self.len as u64;
        if at > size || u64::from(len) > size - at {
            return None;
        }
        Some(Place {
            // SAFETY: `at` is at most `len`, which is in the mapping.
            start: unsafe { self.start.add(at as usize) },
            len,
            guest,
            view: PhantomData,
        })
    }
}

/// An integer that shared memory is read and written by, in little endian.
pub trait Word: Copy + sealed::Sealed {
    /// Its atomic.
    type Atomic;
    /// Loads it.
    fn load(atomic: &Self::Atomic, order: Ordering) -> Self;
    /// Stores it.
    fn store(atomic: &Self::Atomic, value: Self, order: Ordering);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
}

macro_rules! word {
    ($word:ty, $atomic:ty) => {
        impl Word for $word {
            type Atomic = $atomic;

            #[inline(always)]
            fn load(atomic: &$atomic, order: Ordering) -> Self {
                Self::from_le(atomic.load(order))
            }

            #[inline(always)]
            fn store(atomic: &$atomic, value: Self, order: Ordering) {
                atomic.store(value.to_le(), order);
            }
        }
    };
}

word!(u16, AtomicU16);
word!(u32, AtomicU32);
word!(u64, AtomicU64);

/// Words in shared memory, one after the other.
#[derive(Debug)]
pub struct SharedArray<T: Word> {
    start: NonNull<T::Atomic>,
    count: usize,
    _map: Arc<GuardedMap>,
}

// SAFETY: as for `SharedView`.
unsafe impl<T: Word> Send for SharedArray<T> {}
// SAFETY: as for `SharedView`.
unsafe impl<T: Word> Sync for SharedArray<T> {}

impl<T: Word> Clone for SharedArray<T> {
    fn clone(&self) -> Self {
        Self {
            start: self.start,
            count: self.count,
            _map: Arc::clone(&self._map),
        }
    }
}

impl<T: Word> SharedArray<T> {
    /// Loads the word at `index`.
    ///
    /// # Panics
    /// If there is none. Rings mask or wrap their own indices; what a peer wrote is never one unchecked.
    #[inline(always)]
    #[must_use]
    pub fn load(&self, index: usize, order: Ordering) -> T {
        T::load(self.at(index), order)
    }

    /// Stores the word at `index`.
    ///
    /// # Panics
    /// As [`Self::load`].
    #[inline(always)]
    pub fn store(&self, index: usize, value: T, order: Ordering) {
        T::store(self.at(index), value, order);
    }

    /// Asks for the cache line of a word that will be read.
    #[inline(always)]
    pub fn prefetch(&self, index: usize) {
        if index < self.count {
            prefetch_read(self.start.as_ptr().wrapping_add(index).cast());
        }
    }

    /// Asks for the cache line of a word that will be written.
    #[inline(always)]
    pub fn prefetch_write(&self, index: usize) {
        if index < self.count {
            prefetch_write(self.start.as_ptr().wrapping_add(index).cast());
        }
    }

    #[inline(always)]
    fn at(&self, index: usize) -> &T::Atomic {
        self.words().at(index)
    }

    /// All of them as two words, which a loop keeps in registers.
    #[inline(always)]
    #[must_use]
    pub fn words(&self) -> Words<'_, T> {
        Words {
            start: self.start,
            count: self.count,
            array: PhantomData,
        }
    }
}

/// The words of an array, borrowed.
#[derive(Debug)]
pub struct Words<'a, T: Word> {
    start: NonNull<T::Atomic>,
    count: usize,
    array: PhantomData<&'a SharedArray<T>>,
}

impl<T: Word> Clone for Words<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Word> Copy for Words<'_, T> {}

impl<'a, T: Word> Words<'a, T> {
    /// The atomic at `index`, for [`Word::load`] and [`Word::store`].
    ///
    /// # Panics
    /// As [`SharedArray::load`].
    #[inline(always)]
    #[must_use]
    pub fn at(self, index: usize) -> &'a T::Atomic {
        assert!(index < self.count, "rings keep their indices in bounds");
        // SAFETY: in bounds, aligned by construction, and mapped while the array lives; an atomic may be written by anyone.
        unsafe { self.start.add(index).as_ref() }
    }

    /// The atomics at `index` and behind it.
    ///
    /// # Panics
    /// As [`SharedArray::load`].
    #[inline(always)]
    #[must_use]
    pub fn pair(self, index: usize) -> (&'a T::Atomic, &'a T::Atomic) {
        assert!(
            index < self.count.saturating_sub(1),
            "rings keep their indices in bounds"
        );
        // SAFETY: both in bounds, else as for `at`.
        unsafe { (self.start.add(index).as_ref(), self.start.add(index + 1).as_ref()) }
    }
}

/// A piece of shared memory whose bounds are known: it ends where the mapping does at the latest, which it borrows.
#[derive(Debug, Clone, Copy)]
pub struct Place<'m> {
    start: NonNull<u8>,
    len: u32,
    guest: u64,
    view: PhantomData<&'m SharedView>,
}

// SAFETY: as for `SharedView`, which outlives it.
unsafe impl Send for Place<'_> {}
// SAFETY: as above.
unsafe impl Sync for Place<'_> {}

/// A word at any address; reading it volatile keeps one read one.
#[repr(C, packed)]
struct Loose<T>(T);

macro_rules! loose {
    ($get:ident, $set:ident, $word:ty) => {
        /// Reads an integer at byte `at`, aligned or not; nothing past the end.
        #[inline(always)]
        #[must_use]
        pub fn $get(self, at: usize) -> Option<$word> {
            if !self.holds(at, size_of::<$word>()) {
                return None;
            }
            // SAFETY: in bounds; a packed struct has no alignment, and an integer no invalid bytes.
            let Loose(word) = unsafe { self.start.add(at).cast::<Loose<$word>>().read_volatile() };
            Some(<$word>::from_le(word))
        }

        /// Writes an integer at byte `at`, aligned or not; false past the end.
        #[inline(always)]
        pub fn $set(self, at: usize, value: $word) -> bool {
            let fits = self.holds(at, size_of::<$word>());
            if fits {
                // SAFETY: in bounds; a packed struct has no alignment.
                unsafe {
                    self.start
                        .add(at)
                        .cast::<Loose<$word>>()
                        .write_volatile(Loose(value.to_le()));
                }
            }
            fits
        }
    };
}

impl<'m> Place<'m> {
    /// Bytes.
    #[inline(always)]
    #[must_use]
    pub fn len(self) -> usize {
        self.len as usize
    }

    /// Whether it has no bytes.
    #[inline(always)]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The guest address of its first byte.
    #[inline(always)]
    #[must_use]
    pub fn guest_address(self) -> u64 {
        self.guest
    }

    /// `len` bytes of it from byte `from` on; nothing if it ends before them.
    #[inline]
    #[must_use]
    pub fn part(self, from: usize, len: usize) -> Option<Place<'m>> {
        self.holds(from, len).then(|| Place {
            // SAFETY: in bounds.
            start: unsafe { self.start.add(from) },
            len: len as u32,
            guest: self.guest.wrapping_add(from as u64),
            view: PhantomData,
        })
    }

    /// What there is of it from byte `from` on.
    #[inline(always)]
    #[must_use]
    pub fn after(self, from: usize) -> Place<'m> {
        let from = from.min(self.len());
        Place {
            // SAFETY: at most one past its end.
            start: unsafe { self.start.add(from) },
            len: self.len - from as u32,
            guest: self.guest.wrapping_add(from as u64),
            view: PhantomData,
        }
    }

    /// Copies out from byte `at` on; gives the bytes there were.
    #[inline(always)]
    pub fn copy_out(self, at: usize, into: &mut [u8]) -> usize {
        let len = self.len().saturating_sub(at).min(into.len());
        if len > 0 {
            // SAFETY: in bounds on both sides, which do not overlap: nothing of ours is in shared memory. Another writer may
            // tear the bytes, which is for the reader to notice.
            unsafe { std::ptr::copy_nonoverlapping(self.start.add(at).as_ptr(), into.as_mut_ptr(), len) };
        }
        len
    }

    /// Copies in from byte `at` on; gives the bytes that fitted.
    #[inline(always)]
    pub fn copy_in(self, at: usize, from: &[u8]) -> usize {
        let len = self.len().saturating_sub(at).min(from.len());
        if len > 0 {
            // SAFETY: as for `copy_out`.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.start.add(at).as_ptr(), len) };
        }
        len
    }

    /// Copies `len` bytes from byte `at` on to byte `to_at` of another piece, which may be the same memory; gives the bytes
    /// there were and that fitted.
    #[inline(always)]
    pub fn copy_to(self, at: usize, to: Place<'_>, to_at: usize, len: usize) -> usize {
        let len = len
            .min(self.len().saturating_sub(at))
            .min(to.len().saturating_sub(to_at));
        if len > 0 {
            // SAFETY: in bounds on both sides; `copy` allows that they overlap.
            unsafe { std::ptr::copy(self.start.add(at).as_ptr(), to.start.add(to_at).as_ptr(), len) };
        }
        len
    }

    loose!(get_u16, set_u16, u16);
    loose!(get_u32, set_u32, u32);
    loose!(get_u64, set_u64, u64);

    /// The `N` words in little endian from byte `at` on, aligned or not; nothing past the end.
    #[inline(always)]
    #[must_use]
    pub fn words<const N: usize>(self, at: usize) -> Option<[u64; N]> {
        if !self.holds(at, N * size_of::<u64>()) {
            return None;
        }
        // SAFETY: in bounds.
        let start = unsafe { self.start.add(at) };
        if start.cast::<AtomicU64>().is_aligned() {
            // SAFETY: in bounds and aligned; an atomic may be written by anyone.
            let word = |index| unsafe { start.cast::<AtomicU64>().add(index).as_ref() };
            return Some(std::array::from_fn(|index| u64::load(word(index), Ordering::Relaxed)));
        }
        // SAFETY: in bounds; a packed struct has no alignment, and an integer no invalid bytes.
        let word = |index| unsafe { start.cast::<Loose<u64>>().add(index).read_volatile().0 };
        Some(std::array::from_fn(|index| u64::from_le(word(index))))
    }

    /// Writes words in little endian from byte `at` on, aligned or not; false past the end.
    #[inline(always)]
    pub fn set_words<const N: usize>(self, at: usize, words: [u64; N]) -> bool {
        let fits = self.holds(at, N * size_of::<u64>());
        if fits {
            // SAFETY: in bounds.
            let start = unsafe { self.start.add(at) };
            if start.cast::<AtomicU64>().is_aligned() {
                for (index, word) in words.into_iter().enumerate() {
                    // SAFETY: in bounds and aligned; an atomic may be written by anyone.
                    u64::store(
                        unsafe { start.cast::<AtomicU64>().add(index).as_ref() },
                        word,
                        Ordering::Relaxed,
                    );
                }
            } else {
                for (index, word) in words.into_iter().enumerate() {
                    // SAFETY: in bounds; a packed struct has no alignment.
                    unsafe {
                        start
                            .cast::<Loose<u64>>()
                            .add(index)
                            .write_volatile(Loose(word.to_le()))
                    };
                }
            }
        }
        fits
    }

    /// Asks for the cache lines it begins with, which will be read: a copy that follows later does not wait for each. Lines
    /// behind those are left to the processor, which sees where it goes.
    #[inline(always)]
    pub fn prefetch_read(self) {
        prefetch_read(self.start.as_ptr());
        if let Some(line) = self.second_line() {
            prefetch_read(line);
        }
    }

    /// The same for a piece that will be written.
    #[inline(always)]
    pub fn prefetch_write(self) {
        prefetch_write(self.start.as_ptr());
        if let Some(line) = self.second_line() {
            prefetch_write(line);
        }
    }

    /// The same for a buffer that begins with a header which is likely to stand there already: its line is taken away from
    /// the other side only if it is written indeed.
    #[inline(always)]
    pub fn prefetch_header_and_write(self) {
        prefetch_read(self.start.as_ptr());
        if let Some(line) = self.second_line() {
            prefetch_write(line);
        }
    }

    #[inline(always)]
    fn second_line(self) -> Option<*const u8> {
        let start = self.start.as_ptr();
        (self.len() > LINE_BYTES - start.addr() % LINE_BYTES).then(|| start.wrapping_add(LINE_BYTES).cast_const())
    }

    #[inline(always)]
    fn holds(self, at: usize, len: usize) -> bool {
        at <= self.len() && len <= self.len() - at
    }
}

#[inline(always)]
fn prefetch_read(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[inline(always)]
fn prefetch_write(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // not the intrinsic: without a target feature it is compiled as one for reading, and the line has to be fetched again
    // SAFETY: a prefetch never faults, whatever the address; where the processor does not know it, it does nothing.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use vm_memory::{FileOffset, MmapRegion};

    use super::*;
    use crate::sys::fd;

    fn view(size: usize) -> SharedView {
        let file = File::from(fd::memfd("vuh", size as u64).unwrap());
        let map = MmapRegion::from_file(FileOffset::new(file, 0), size).unwrap();
        SharedView::new(Arc::new(GuardedMap::new(map)), 0x10, size - 0x10).unwrap()
    }

    /// Broken: a length or an index of a peer leads out of the mapping.
    #[test]
    fn nothing_leads_out_of_the_view() {
        let view = view(0x1000);
        assert_eq!(view.len(), 0xff0);
        assert!(SharedView::new(Arc::clone(&view.map), 0x1000, 1).is_none());
        assert!(SharedView::new(Arc::clone(&view.map), usize::MAX, 2).is_none());
        assert!(view.place(0xff0, 0, 0).is_some() && view.place(0xfef, 1, 0).is_some());
        assert!(view.place(0xff0, 1, 0).is_none() && view.place(0xff1, 0, 0).is_none());
        assert!(view.place(u64::MAX, 2, 0).is_none() && view.place(0, u32::MAX, 0).is_none());
        assert!(view.array::<u64>(0, 0xff0 / 8).is_some() && view.array::<u64>(0, 0xff0 / 8 + 1).is_none());
        assert!(view.array::<u64>(4, 1).is_none() && view.array::<u32>(4, 1).is_some());
        assert!(view.array::<u16>(usize::MAX, 1).is_none() && view.array::<u64>(0, usize::MAX).is_none());
        let place = view.place(0xfe0, 0x10, 0x7000).unwrap();
        assert!(place.part(8, 8).is_some() && place.part(8, 9).is_none() && place.part(usize::MAX, 1).is_none());
        assert_eq!(place.part(8, 8).unwrap().guest_address(), 0x7008);
        assert_eq!((place.after(3).len(), place.after(3).guest_address()), (13, 0x7003));
        assert_eq!((place.after(16).len(), place.after(usize::MAX).len()), (0, 0));
        assert_eq!((place.copy_in(12, b"abcdef"), place.copy_in(99, b"x")), (4, 0));
        let mut out = [0; 8];
        assert_eq!((place.copy_out(12, &mut out), &out[..4]), (4, &b"abcd"[..]));
        assert_eq!(
            (place.get_u64(8), place.get_u64(9)),
            (Some(0x6463_6261_0000_0000), None)
        );
        assert!(place.set_u32(1, 0x0403_0201) && !place.set_u16(15, 1));
        assert_eq!((place.get_u16(2), place.get_u32(usize::MAX)), (Some(0x0302), None));
        assert_eq!(place.copy_to(0, view.place(0, 6, 0).unwrap(), 0, 99), 6);
        assert_eq!(place.copy_to(0, view.place(0, 6, 0).unwrap(), 6, 1), 0);
        assert_eq!(view.array::<u32>(0, 1).unwrap().load(0, Ordering::Relaxed), 0x0302_0100);
    }

    #[test]
    #[should_panic(expected = "in bounds")]
    fn an_index_past_the_end_is_no_access() {
        let _ = view(0x1000).array::<u16>(0, 4).unwrap().load(4, Ordering::Relaxed);
    }
}
