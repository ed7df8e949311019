//! Mappings of files that somebody else may truncate: touching what is gone raises SIGBUS, and here it reads as zero instead.
//! The mapping is marked as lost, and whoever used it has to look. Knows nothing of what is mapped.

use std::ops::Deref;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use vm_memory::MmapRegion;

/// Mappings that are watched at the same time; further ones are as dangerous as any.
const SLOTS: usize = 4096;

static TABLE: [Slot; SLOTS] = [const { Slot::empty() }; SLOTS];
static INSTALL: Once = Once::new();

/// A mapping as the signal handler sees it. `turn` is odd while the other fields hold, and changes whenever they do.
struct Slot {
    taken: AtomicBool,
    turn: AtomicUsize,
    start: AtomicUsize,
    length: AtomicUsize,
    lost: AtomicBool,
}

impl Slot {
    const fn empty() -> Self {
        Self {
            taken: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            length: AtomicUsize::new(0),
            lost: AtomicBool::new(false),
        }
    }

    /// Start and length, if they hold and the address lies in between.
    fn holds(&self, address: usize) -> Option<(usize, usize)> {
        let turn = self.turn.load(Ordering::Acquire);
        let (start, length) = (self.start.load(Ordering::Relaxed), self.length.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let is_whole = turn % 2 == 1 && self.turn.load(Ordering::Relaxed) == turn;
        (is_whole && address.wrapping_sub(start) < length).then_some((start, length))
    }
}

/// A shared mapping that survives when its file is truncated.
#[derive(Debug)]
pub(crate) struct GuardedMap {
    // before the mapping, so that the slot is free again before the addresses are
    slot: Option<Registration>,
    map: MmapRegion<()>,
}

impl GuardedMap {
    /// Watches a mapping from now on.
    pub(crate) fn new(map: MmapRegion<()>) -> Self {
        INSTALL.call_once(install);
        let slot = Registration::new(map.as_ptr().addr(), map.size());
        Self { slot, map }
    }

    /// Whether a part of it was touched whose file was gone. What was read is zero, what was written went nowhere, and the
    /// mapping has no file any more.
    pub(crate) fn is_lost(&self) -> bool {
        self.slot
            .as_ref()
            .is_some_and(|slot| slot.0.lost.load(Ordering::Relaxed))
    }
}

impl Deref for GuardedMap {
    type Target = MmapRegion<()>;

    fn deref(&self) -> &Self::Target {
        &self.map
    }
}

#[derive(Debug)]
struct Registration(&'static Slot);

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("lost", &self.lost).finish_non_exhaustive()
    }
}

impl Registration {
    fn new(start: usize, length: usize) -> Option<Self> {
        let free = |slot: &&Slot| {
            let taken = slot
                .taken
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
            taken.is_ok()
        };
        let slot = TABLE.iter().find(free)?;
        slot.lost.store(false, Ordering::Relaxed);
        slot.start.store(start, Ordering::Relaxed);
        slot.length.store(length, Ordering::Relaxed);
        slot.turn.fetch_add(1, Ordering::Release);
        Some(Self(slot))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.turn.fetch_add(1, Ordering::AcqRel);
        self.0.taken.store(false, Ordering::Release);
    }
}

fn install() {
    // SAFETY: an all-zero sigaction is a valid one; the handler is set below.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_bus_error as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler only uses atomics, mmap and signal, which are async-signal-safe; the pointers are valid. Should it
    // fail, which it cannot with these arguments, a truncated file ends the process as it would without it.
    unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
}

extern "C" fn on_bus_error(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo, whose si_addr SIGBUS fills in.
    let address = unsafe { (*info).si_addr() }.addr();
    for slot in &TABLE {
        let Some((start, length)) = slot.holds(address) else {
            continue;
        };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let place = std::ptr::without_provenance_mut(start);
        // SAFETY: the slot holds, so a `GuardedMap` owns these addresses, and this thread is in an access to them that its
        // owner makes: they stay mapped meanwhile. They become zero pages; the owner unmaps them like the old ones.
        let mapped = unsafe { libc::mmap(place, length, protection, flags, -1, 0) };
        if mapped != libc::MAP_FAILED {
            slot.lost.store(true, Ordering::Relaxed);
            return;
        }
    }
    // SAFETY: signal is async-signal-safe. The access is made again on return, and ends the process as it always did.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use vm_memory::{Bytes, FileOffset, VolatileMemory};

    use super::*;
    use crate::sys::fd;

    fn map(file: &File, size: usize) -> GuardedMap {
        let offset = FileOffset::new(file.try_clone().unwrap(), 0);
        GuardedMap::new(MmapRegion::from_file(offset, size).unwrap())
    }

    /// Broken: a peer that truncates its memory ends the harness, and all runs that are under way with it.
    #[test]
    fn what_is_gone_reads_as_zero_and_is_told() {
        let file = File::from(fd::memfd("vuh", 0x4000).unwrap());
        let others = File::from(fd::memfd("vuh", 0x1000).unwrap());
        let (lost, kept) = (map(&file, 0x4000), map(&others, 0x1000));
        lost.as_volatile_slice().write_obj(7u8, 0x3000).unwrap();
        kept.as_volatile_slice().write_obj(7u8, 0).unwrap();
        file.set_len(0x1000).unwrap();
        assert!(!lost.is_lost());
        assert_eq!(lost.as_volatile_slice().read_obj::<u8>(0x3000).unwrap(), 0);
        assert!(lost.is_lost());
        lost.as_volatile_slice().write_obj(9u8, 0x2000).unwrap();
        assert!(!kept.is_lost());
        assert_eq!(kept.as_volatile_slice().read_obj::<u8>(0).unwrap(), 7);
        assert!(matches!(fd::fd_type(file.as_fd()), fd::FdType::Memfd { size: 0x1000 }));
    }

    #[test]
    fn a_slot_is_used_again() {
        let file = File::from(fd::memfd("vuh", 0x1000).unwrap());
        for _ in 0..2 * SLOTS {
            assert!(map(&file, 0x1000).slot.is_some());
        }
    }
}
