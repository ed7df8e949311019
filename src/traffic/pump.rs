//! A pump: the lanes of one side on a thread of their own.
//!
//! The thread holds the lanes while it moves frames and looks once a burst whether somebody wants them. Who does
//! ([`Pump::borrow`]) gets them at a burst boundary: no frame is half moved, all indices are published, and what was
//! changed holds from the next burst on. While nobody does, no lock is touched.

use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::lane::{Lane, Progress, Trouble};
use super::rest::Rest;
use crate::sys::clock::Clock;
use crate::sys::cpu;
use crate::sys::edge::{Edges, Waker};
use crate::sys::fd::{eventfd, signal_event};

/// Rounds without anything to do after which other threads get the processor. On a machine with fewer processors than
/// threads the other side may be waiting for this very one.
const IDLE_ROUNDS: u32 = 64;
/// A slowed side works and rests in turns of this length together, in nanoseconds.
const TURN_NS: u64 = 5_000_000;

/// How a pump works.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PumpOptions {
    /// It sleeps until it is signalled; otherwise it polls.
    pub notified: bool,
    /// The processor it stays on.
    pub cpu: Option<usize>,
    /// Share of the time in which it does nothing, from 0 to below 1: a side that is slower than it could be.
    pub rests: f64,
}

/// The lanes of a pump, in the order in which they get their turns.
#[derive(Debug, Default)]
pub struct Side {
    /// The lanes.
    pub lanes: Vec<Box<dyn Lane>>,
    /// Why nothing moves any more.
    pub trouble: Option<Trouble>,
    /// Frames its sinks are to take before it reports; none: it does not report that.
    pub wanted: Option<u64>,
    /// It does not move: its turn comes.
    pub rests: bool,
    /// Signals are to be asked for and waited for anew.
    changed: bool,
}

impl Side {
    /// Lanes that are to be moved.
    #[must_use]
    pub fn new(lanes: Vec<Box<dyn Lane>>) -> Self {
        Self {
            lanes,
            changed: true,
            ..Self::default()
        }
    }

    /// What all lanes together have done.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let start = Progress {
            done: true,
            ..Progress::default()
        };
        self.lanes.iter().fold(start, |all, lane| all.and(lane.progress()))
    }

    /// What of it is over: all was sent and came back; all that is wanted arrived.
    fn is_over(&self, progress: Progress) -> [bool; 2] {
        let sent = progress.sent > 0 && progress.done && progress.outstanding == 0;
        [sent, self.wanted.is_some_and(|wanted| progress.received >= wanted)]
    }

    /// Whether all lanes have taken what there was.
    fn has_caught_up(&self) -> bool {
        self.lanes.iter().all(|lane| lane.has_caught_up())
    }

    /// Gives all lanes one turn.
    fn step(&mut self, now: u64) -> Result<usize, Trouble> {
        let mut moved = 0;
        for lane in &mut self.lanes {
            moved += lane.step(now)?;
        }
        Ok(moved)
    }
}

#[derive(Debug)]
struct Shared {
    side: Mutex<Side>,
    /// How many want the side.
    wanted: AtomicU32,
    free: Condvar,
    waker: Waker,
    /// Signalled when it is finished, in trouble, or gone.
    notice: OwnedFd,
    ends: AtomicBool,
    /// The thread has come to its end.
    gone: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
    forwarded: AtomicU64,
    /// Rounds in which nothing was to do.
    idle: AtomicU64,
}

/// A thread that moves frames.
#[derive(Debug)]
pub struct Pump {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    /// Starts to move. `clock` is what stamps are read from, the same for all pumps of a delivery.
    ///
    /// # Errors
    /// There are no descriptors or threads left.
    pub fn start(side: Side, options: PumpOptions, clock: Clock) -> std::io::Result<Self> {
        let edges = Edges::new()?;
        let shared = Arc::new(Shared {
            side: Mutex::new(side),
            wanted: AtomicU32::new(0),
            free: Condvar::new(),
            waker: edges.waker()?,
            notice: eventfd()?,
            ends: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            forwarded: AtomicU64::new(0),
            idle: AtomicU64::new(0),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("vuh-pump".to_owned()).spawn(move || {
            let gone = Gone(Arc::clone(&theirs));
            run(&theirs, edges, options, clock);
            drop(gone);
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The lanes, at a burst boundary. They do not move until this is given back.
    pub fn borrow(&self) -> Borrowed<'_> {
        self.shared.wanted.fetch_add(1, Ordering::SeqCst);
        self.shared.waker.wake();
        // a lane that panicked is told of by `has_died`; what it held is whole, as it was between two bursts
        let side = self.shared.side.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Borrowed {
            side: Some(side),
            shared: &self.shared,
        }
    }

    /// How far it is, without stopping it.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            sent: self.shared.sent.load(Ordering::Acquire),
            received: self.shared.received.load(Ordering::Acquire),
            forwarded: self.shared.forwarded.load(Ordering::Acquire),
            ..Progress::default()
        }
    }

    /// Rounds in which it had nothing to do: when that goes on and progress does not, there is nothing.
    #[must_use]
    pub fn idle_rounds(&self) -> u64 {
        self.shared.idle.load(Ordering::Acquire)
    }

    /// Readable when all was sent and came back, when all that is wanted arrived, and when it cannot go on.
    #[must_use]
    pub fn notice(&self) -> BorrowedFd<'_> {
        self.shared.notice.as_fd()
    }

    /// Whether its thread has ended though nobody asked it to.
    #[must_use]
    pub fn has_died(&self) -> bool {
        self.shared.gone.load(Ordering::SeqCst)
    }

    /// Ends the thread and gives its lanes.
    #[must_use]
    pub fn end(mut self) -> Side {
        self.finish();
        let mut side = self.shared.side.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::take(&mut side)
    }

    fn finish(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        self.shared.wanted.fetch_add(1, Ordering::SeqCst);
        self.shared.waker.wake();
        {
            // so that a thread on its way to sleep has either seen it or is woken
            let _side = self.shared.side.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            self.shared.free.notify_all();
        }
        if let Some(thread) = self.thread.take() {
            // a panic has been reported by its own message
            let _ = thread.join();
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The lanes of a pump while it stands still.
#[derive(Debug)]
pub struct Borrowed<'a> {
    side: Option<MutexGuard<'a, Side>>,
    shared: &'a Shared,
}

impl Deref for Borrowed<'_> {
    type Target = Side;

    fn deref(&self) -> &Side {
        self.side.as_ref().expect("it is there until it is given back")
    }
}

impl DerefMut for Borrowed<'_> {
    fn deref_mut(&mut self) -> &mut Side {
        self.side.as_mut().expect("it is there until it is given back")
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if let Some(side) = &mut self.side {
            side.changed = true;
        }
        self.side = None;
        self.shared.wanted.fetch_sub(1, Ordering::SeqCst);
        self.shared.free.notify_all();
    }
}

/// Tells those who wait that the thread is gone, however it went.
struct Gone(Arc<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::SeqCst);
        let _ = signal_event(self.0.notice.as_fd());
    }
}

fn run(shared: &Shared, mut edges: Edges, options: PumpOptions, clock: Clock) {
    if let Some(cpu) = options.cpu {
        // where it may not, it runs where it can
        let _ = cpu::pin_this_thread(cpu);
    }
    let mut told = [false; 2];
    loop {
        let Ok(mut side) = shared.side.lock() else { return };
        while shared.wanted.load(Ordering::SeqCst) > 0 {
            if shared.ends.load(Ordering::SeqCst) {
                return;
            }
            let Ok(woken) = shared.free.wait(side) else { return };
            side = woken;
        }
        if side.trouble.is_some() || side.rests {
            // nothing moves before somebody has seen to it
            if side.trouble.is_some() {
                let _ = signal_event(shared.notice.as_fd());
            }
            drop(side);
            if edges.wait(None).is_err() {
                return;
            }
            continue;
        }
        let moving = Moving { shared, options, clock };
        moving.move_frames(&mut side, &mut edges, &mut told);
    }
}

struct Moving<'a> {
    shared: &'a Shared,
    options: PumpOptions,
    clock: Clock,
}

impl Moving<'_> {
    /// Moves frames until somebody wants the lanes.
    fn move_frames(&self, side: &mut Side, edges: &mut Edges, told: &mut [bool; 2]) {
        if std::mem::take(&mut side.changed) {
            if self.options.notified {
                let fds: Vec<BorrowedFd> = side.lanes.iter().flat_map(|lane| lane.wakes_on()).collect();
                // one that cannot be waited for is signalled by nobody either
                let _ = edges.watch(&fds);
            }
            if !self.options.notified {
                side.lanes.iter_mut().for_each(|lane| lane.refuse_signals());
            }
        }
        let (mut idle, mut rest) = (0, Rest::default());
        while self.shared.wanted.load(Ordering::Relaxed) == 0 {
            let now = self.clock.now().ns;
            if self.rests_at(now) {
                std::hint::spin_loop();
                continue;
            }
            match side.step(now) {
                Ok(0) => {
                    self.shared.idle.fetch_add(1, Ordering::Release);
                    self.tell(side, told);
                    idle += 1;
                    self.nothing_to_do(side, edges, idle, now);
                }
                Ok(moved) => {
                    idle = 0;
                    self.tell(side, told);
                    match side.has_caught_up() && !self.options.notified {
                        true => rest.after(moved),
                        false => rest.go_on(moved),
                    }
                }
                Err(trouble) => {
                    self.tell(side, told);
                    side.trouble = Some(trouble);
                    let _ = signal_event(self.shared.notice.as_fd());
                    return;
                }
            }
        }
    }

    /// Whether this is the part of a turn in which a slowed side rests.
    fn rests_at(&self, now: u64) -> bool {
        self.options.rests > 0.0 && (now % TURN_NS) as f64 >= TURN_NS as f64 * (1.0 - self.options.rests)
    }

    fn tell(&self, side: &Side, told: &mut [bool; 2]) {
        let progress = side.progress();
        self.shared.sent.store(progress.sent, Ordering::Release);
        self.shared.forwarded.store(progress.forwarded, Ordering::Release);
        self.shared.received.store(progress.received, Ordering::Release);
        let over = side.is_over(progress);
        // each by itself: where frames are lost, the second one never is
        if over != *told {
            *told = over;
            let _ = signal_event(self.shared.notice.as_fd());
        }
    }

    fn nothing_to_do(&self, side: &mut Side, edges: &Edges, idle: u32, now: u64) {
        if !self.options.notified {
            std::hint::spin_loop();
            if idle.is_multiple_of(IDLE_ROUNDS) {
                std::thread::yield_now();
            }
            return;
        }
        // every lane has to be asked, since each has its own ring
        let mut more = false;
        for lane in &mut side.lanes {
            more |= lane.ask_for_signals();
        }
        if more {
            return;
        }
        let due = side.lanes.iter().filter_map(|lane| lane.due()).min();
        match due.map(|due| Duration::from_nanos(due.saturating_sub(now))) {
            // too short for the kernel's timer
            Some(left) if left < Duration::from_millis(1) => std::thread::yield_now(),
            left => {
                // a wait that fails is a round more
                let _ = edges.wait(left);
            }
        }
    }
}
