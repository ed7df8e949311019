//! Which processors this process may use, and keeping a thread on one of them.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The processors this thread may run on, by number.
///
/// # Errors
/// The kernel does not say.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count())
        .filter(|cpu| set.is_set(*cpu) == Ok(true))
        .collect())
}

/// Keeps this thread on one processor.
///
/// # Errors
/// There is no such processor, or it may not be used.
pub fn pin_this_thread(cpu: usize) -> io::Result<()> {
    keep_this_thread(&[cpu])
}

/// Keeps this thread, and what it starts from now on, on these processors.
///
/// # Errors
/// None of them is there and may be used.
pub fn keep_this_thread(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_where_it_was_put() {
        // Broken: the two sides of a delivery share a processor though there is another one.
        let all = allowed().unwrap();
        let last = *all.last().unwrap();
        let seen = std::thread::spawn(move || {
            pin_this_thread(last).unwrap();
            allowed().unwrap()
        });
        assert_eq!(seen.join().unwrap(), [last]);
        assert_eq!(allowed().unwrap(), all);
        assert!(pin_this_thread(CpuSet::count()).is_err());
    }
}
