//! A life that ends after so many writes, as that of a process does that is killed: what it would still have written is not
//! there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::{GuestAccess, MemoryError};

/// The writes that are left to somebody. Copies count together.
#[derive(Debug, Clone)]
pub struct Life(Arc<AtomicU64>);

impl Life {
    /// It dies when it is about to write for the `write`th time, from 1.
    #[must_use]
    pub fn until(write: u64) -> Self {
        Self(Arc::new(AtomicU64::new(write)))
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// One write more. False if it does not take place.
    pub(super) fn writes(&self) -> bool {
        let left = self.0.load(Ordering::Relaxed).saturating_sub(1);
        self.0.store(left, Ordering::Relaxed);
        left > 0
    }
}

/// Guest memory as somebody writes it whose life may end.
pub struct MortalAccess<'a> {
    memory: &'a dyn GuestAccess,
    life: &'a Life,
}

impl<'a> MortalAccess<'a> {
    /// Writes to `memory` as long as `life` goes on.
    #[must_use]
    pub fn new(memory: &'a dyn GuestAccess, life: &'a Life) -> Self {
        Self { memory, life }
    }
}

impl GuestAccess for MortalAccess<'_> {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.read(gpa, into)
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), MemoryError> {
        match self.life.writes() {
            true => self.memory.write(gpa, from),
            false => Ok(()),
        }
    }

    fn load_u16(&self, gpa: u64, order: Ordering) -> Result<u16, MemoryError> {
        self.memory.load_u16(gpa, order)
    }

    fn store_u16(&self, gpa: u64, value: u16, order: Ordering) -> Result<(), MemoryError> {
        match self.life.writes() {
            true => self.memory.store_u16(gpa, value, order),
            false => Ok(()),
        }
    }

    fn user_to_guest(&self, uva: u64) -> Result<u64, MemoryError> {
        self.memory.user_to_guest(uva)
    }

    fn contiguous(&self, gpa: u64, length: u64) -> Result<(), MemoryError> {
        self.memory.contiguous(gpa, length)
    }
}
