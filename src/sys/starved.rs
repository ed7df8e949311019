//! How long threads have waited for a processor, as the kernel counts it. Others on the machine may keep a run from one for
//! longer than any limit lasts: what it cannot use does not count.

use std::fs;
use std::path::Path;

/// Names of the harness's own threads that a run waits for begin so.
const HELPERS: [&str; 2] = ["vuh-pump", "qemu-"];

/// Measures from a moment on, for the thread in which it was begun.
#[derive(Debug)]
pub struct Starved {
    before_ns: u64,
}

impl Starved {
    /// From now on.
    pub fn begin() -> Self {
        Self { before_ns: own_delay() }
    }

    /// Nanoseconds for which the one of them was kept waiting that waited longest: this thread, those that help it, and the threads
    /// of these processes. Less than has passed, even where they are in each other's way.
    pub fn ns(&self, processes: impl IntoIterator<Item = i32>) -> u64 {
        let own = own_delay().saturating_sub(self.before_ns);
        let is_helper = |task: &Path| {
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
            HELPERS.iter().any(|helper| name.starts_with(helper))
        };
        let helpers = longest("/proc/self/task", is_helper);
        let others = processes
            .into_iter()
            .map(|pid| longest(format!("/proc/{pid}/task"), |_| true));
        others.chain([own, helpers]).max().unwrap_or(0)
    }
}

fn own_delay() -> u64 {
    delay(Path::new("/proc/thread-self"))
}

fn longest(tasks: impl AsRef<Path>, counts: impl Fn(&Path) -> bool) -> u64 {
    // a process that has ended waits for nothing
    let tasks = fs::read_dir(tasks)
        .into_iter()
        .flatten()
        .flatten()
        .map(|task| task.path());
    tasks
        .filter(|task| counts(task))
        .map(|task| delay(&task))
        .max()
        .unwrap_or(0)
}

/// The second number of `schedstat`: nanoseconds on a run queue. 0 on a kernel that does not count.
fn delay(task: &Path) -> u64 {
    let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    let delay = text.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    delay.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::super::threads::all_asleep;
    use super::*;

    /// Broken: time for which a process was kept from a processor is not seen, or time in which it slept is taken for it.
    #[test]
    fn only_waiting_for_a_processor_counts() {
        let starved = Starved::begin();
        let spawn = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args).stdout(Stdio::null()).spawn().unwrap()
        };
        // both want the same processor, whichever of the machine's it is, and one is as nice as can be
        let cpu = first_cpu();
        let busy = "while :; do :; done";
        let mut fast = spawn("taskset", &["-c", &cpu, "sh", "-c", busy]);
        let mut slow = spawn("taskset", &["-c", &cpu, "nice", "-n", "19", "sh", "-c", busy]);
        let mut sleeper = spawn("sleep", &["1000"]);
        let pid = |child: &std::process::Child| i32::try_from(child.id()).unwrap();
        while !all_asleep(pid(&sleeper), &[]).unwrap() {}
        let before = longest(format!("/proc/{}/task", pid(&sleeper)), |_| true);
        let begun = Instant::now();
        while starved.ns([pid(&slow)]) < 50_000_000 {
            assert!(begun.elapsed() < Duration::from_secs(100), "it does not wait");
        }
        assert_eq!(longest(format!("/proc/{}/task", pid(&sleeper)), |_| true), before);
        for child in [&mut fast, &mut slow, &mut sleeper] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn first_cpu() -> String {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .unwrap();
        list.trim().chars().take_while(char::is_ascii_digit).collect()
    }
}
