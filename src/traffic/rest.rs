//! How long who has caught up leaves the other side alone.

use std::ops::RangeInclusive;

/// A few microseconds at most, in turns of a spin loop.
const SPINS: RangeInclusive<u32> = 8..=512;
/// Turns at first.
const SPINS_FIRST: u32 = 64;
/// Frames that make a rest too short, and too long: a good part of a ring is to have come meanwhile, but not all of it.
const FEW: usize = 128;
const MANY: usize = 512;

/// A pause for the receiving side. Looking again and again takes away the very cache lines that the other side is writing; how
/// long it has to be left alone shows by and by.
#[derive(Debug, Clone)]
pub struct Rest {
    spins: u32,
    /// Frames since the last one.
    came: usize,
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            spins: SPINS_FIRST,
            came: 0,
        }
    }
}

impl Rest {
    /// So many frames came, and there is more to take.
    #[inline]
    pub fn go_on(&mut self, frames: usize) {
        self.came += frames;
    }

    /// So many frames came, and that was all.
    #[inline]
    pub fn after(&mut self, frames: usize) {
        self.learn(frames);
        (0..self.spins).for_each(|_| std::hint::spin_loop());
    }

    fn learn(&mut self, frames: usize) {
        let came = std::mem::take(&mut self.came) + frames;
        if came < FEW {
            self.spins = (self.spins * 2).min(*SPINS.end());
        } else if came > MANY {
            self.spins = (self.spins / 2).max(*SPINS.start());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken: a fast source fills the ring while the sink rests, or a slow one is looked at all the time.
    #[test]
    fn a_rest_is_as_long_as_a_good_part_of_a_ring_takes() {
        for frames_a_spin in [0.1, 1.0, 10.0] {
            let mut rest = Rest::default();
            for _ in 0..100 {
                let came = f64::from(rest.spins) * frames_a_spin;
                rest.go_on(came as usize);
                rest.learn(0);
            }
            let came = f64::from(rest.spins) * frames_a_spin;
            let is_longest = rest.spins == *SPINS.end();
            assert!(came <= MANY as f64 && (came >= FEW as f64 || is_longest), "{came}");
        }
    }
}
