//! The handle to a running QEMU: two threads talk to its sockets, the caller's event loop never blocks.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::command::Sockets;
use super::error::{Channel, QemuError};
use super::exchange::{Command, CommandId, Completion, Outcome};
use super::guest::{GuestLine, patience};
use super::lines::{Deadline, Limits, LineSocket, wait_any};
use super::mailbox::{Bell, Mailbox};
use super::qmp::{Incoming, QmpClient};
use super::qtest::QtestClient;
use super::session::{Results, Session};

/// So often a ring is polled back to back before the thread pauses between looks: a device mostly answers at once.
const EAGER_POLLS: u32 = 20;
/// The pause after that. qtest has no way to be told of a used chain.
const POLL_PAUSE: Duration = Duration::from_millis(1);

type Orders = Mailbox<(CommandId, Command)>;

/// Steers one QEMU. Dropping it ends both threads and removes the sockets (which does not end QEMU).
#[derive(Debug)]
pub struct QemuHandle {
    last_id: u64,
    qmp_orders: Arc<Orders>,
    part_orders: Arc<Orders>,
    completions: Arc<Mailbox<Completion>>,
    stop: Arc<Bell>,
    threads: Vec<JoinHandle<()>>,
    sockets: Sockets,
}

impl QemuHandle {
    /// Listens on both sockets. Call before QEMU is started; commands may be submitted at once and run when QEMU is ready.
    /// After `lifetime` nothing more is waited for.
    ///
    /// # Errors
    /// [`QemuError::Io`] if a socket cannot be bound.
    pub fn listen(sockets: &Sockets, lifetime: Duration) -> Result<Self, QemuError> {
        let qmp = bind(&sockets.qmp)?;
        let part = bind(&sockets.part)?;
        let stop = Arc::new(Bell::new()?);
        let limits = Limits {
            deadline: Deadline::after(lifetime),
            stop: stop.clone(),
        };
        let completions = Arc::new(Mailbox::new()?);
        let mut handle = Self {
            last_id: 0,
            qmp_orders: Arc::new(Mailbox::new()?),
            part_orders: Arc::new(Mailbox::new()?),
            completions: completions.clone(),
            stop,
            threads: Vec::new(),
            sockets: sockets.clone(),
        };
        let worker = |channel, orders: &Arc<Orders>| Worker {
            channel,
            orders: orders.clone(),
            completions: completions.clone(),
            limits: limits.clone(),
        };
        let (qmp_worker, part_worker) = (
            worker(Channel::Qmp, &handle.qmp_orders),
            worker(sockets.played, &handle.part_orders),
        );
        handle.spawn("qemu-qmp", move || qmp_worker.run(&qmp, Worker::serve_qmp))?;
        let incoming = sockets.incoming;
        match sockets.played {
            Channel::Guest => handle.spawn("qemu-guest", move || {
                part_worker.run(&part, |worker, socket| worker.serve_guest(socket, incoming));
            })?,
            Channel::Qtest | Channel::Qmp => {
                handle.spawn("qemu-qtest", move || part_worker.run(&part, Worker::serve_qtest))?;
            }
        }
        Ok(handle)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), QemuError> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(body);
        self.threads
            .push(thread.map_err(|error| QemuError::io(format!("start thread {name}"), &error))?);
        Ok(())
    }

    /// Queues a command. Never blocks. Exactly one completion will carry the id, unless the handle is dropped before.
    pub fn submit(&mut self, command: Command) -> CommandId {
        self.last_id += 1;
        let id = CommandId(self.last_id);
        let orders = if matches!(command, Command::Qmp { .. }) {
            &self.qmp_orders
        } else {
            &self.part_orders
        };
        orders.push((id, command));
        id
    }

    /// Readable while completions wait.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.completions.as_fd()
    }

    /// Everything that was reported since the last call. Never blocks.
    pub fn take_completions(&mut self) -> Vec<Completion> {
        self.completions.take_all().into()
    }
}

impl Drop for QemuHandle {
    fn drop(&mut self) {
        self.stop.ring();
        for thread in self.threads.drain(..) {
            // Returns soon: every wait of a worker ends when `stop` is rung. A panic of its own has been printed already.
            let _ = thread.join();
        }
        for path in [&self.sockets.qmp, &self.sockets.part] {
            // The run directory may be gone, sockets and all.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn bind(path: &Path) -> Result<UnixListener, QemuError> {
    UnixListener::bind(path).map_err(|error| QemuError::io(format!("listen on {}", path.display()), &error))
}

/// One thread: takes orders for one socket and reports.
struct Worker {
    channel: Channel,
    orders: Arc<Orders>,
    completions: Arc<Mailbox<Completion>>,
    limits: Limits,
}

impl Worker {
    fn run(&self, listener: &UnixListener, serve: impl FnOnce(&Self, LineSocket) -> Result<(), QemuError>) {
        let served = LineSocket::accept(listener, self.channel, self.limits.clone()).and_then(|socket| {
            self.completions.push(Completion::Connected(self.channel));
            serve(self, socket)
        });
        match served {
            Ok(()) | Err(QemuError::Stopped { .. }) => {}
            Err(error) => {
                self.completions.push(Completion::Lost {
                    channel: self.channel,
                    error: error.clone(),
                });
                self.refuse_all(&error);
            }
        }
    }

    /// Serves qtest until something breaks. `Ok` if the handle was dropped.
    fn serve_qtest(&self, socket: LineSocket) -> Result<(), QemuError> {
        let mut session = Session::new(QtestClient::new(socket));
        let mut idle_polls = 0;
        loop {
            let mut results = Results::new();
            for (id, command) in self.orders.take_all() {
                session.execute(id, command, &mut results);
                idle_polls = 0;
                self.report(&mut results);
            }
            session.poll(&mut results);
            self.report(&mut results);

            let pause = match (session.is_waiting(), idle_polls) {
                (false, _) => None,
                (true, polls) if polls < EAGER_POLLS => Some(Duration::ZERO),
                (true, _) => Some(POLL_PAUSE),
            };
            idle_polls = idle_polls.saturating_add(1);
            // A broken channel shows here, whichever command met it first.
            let [stopped, _, spoke] = wait_any(
                [
                    self.limits.stop.as_fd(),
                    self.orders.as_fd(),
                    session.client().socket().as_fd(),
                ],
                pause,
            )?;
            if stopped {
                return Ok(());
            }
            let broken = if spoke {
                session.client().drain()
            } else {
                session.client().check()
            };
            if let Err(error) = broken {
                session.abandon(&error, &mut results);
                self.report(&mut results);
                return Err(error);
            }
        }
    }

    /// Serves a guest until something breaks. `Ok` if the handle was dropped.
    fn serve_guest(&self, socket: LineSocket, incoming: bool) -> Result<(), QemuError> {
        let mut guest = GuestLine::new(socket, incoming);
        loop {
            let mut results = Results::new();
            let served = self.guest_round(&mut guest, &mut results);
            if let Err(error) = &served {
                guest.abandon(error, &mut results);
            }
            self.report(&mut results);
            if !served? {
                return Ok(());
            }
        }
    }

    /// Passes on what was ordered, waits, takes in what came. False if the handle was dropped.
    fn guest_round(&self, guest: &mut GuestLine, results: &mut Results) -> Result<bool, QemuError> {
        let mut orders = self.orders.take_all();
        while let Some((id, command)) = orders.pop_front() {
            if let Err(error) = guest.execute(id, command, results) {
                results.extend(orders.iter().map(|(id, _)| (*id, Err(error.clone()))));
                return Err(error);
            }
        }
        if !results.is_empty() {
            return Ok(true);
        }
        let left = self.limits.deadline.remaining();
        let fds = [self.limits.stop.as_fd(), self.orders.as_fd(), guest.socket().as_fd()];
        let [stopped, _, spoke] = wait_any(fds, patience(guest, left))?;
        if stopped {
            return Ok(false);
        }
        if spoke {
            guest.take(results)?;
        } else if left.is_none() && guest.is_waiting() {
            return Err(self.limits.timed_out(self.channel, &guest.waits_for()));
        }
        Ok(true)
    }

    /// Serves QMP until something breaks. `Ok` if the handle was dropped.
    fn serve_qmp(&self, socket: LineSocket) -> Result<(), QemuError> {
        let mut client = QmpClient::open(socket)?;
        loop {
            let served = self.qmp_round(&mut client);
            match served {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    let mut results: Results = client
                        .abandon()
                        .into_iter()
                        .map(|id| (id, Err(error.clone())))
                        .collect();
                    self.report(&mut results);
                    return Err(error);
                }
            }
        }
    }

    /// Sends what was ordered, waits, reports what came. False if the handle was dropped.
    fn qmp_round(&self, client: &mut QmpClient) -> Result<bool, QemuError> {
        let mut orders = self.orders.take_all();
        while let Some((id, command)) = orders.pop_front() {
            let Command::Qmp { execute, arguments } = command else {
                continue;
            };
            if let Err(error) = client.send(id, &execute, &arguments) {
                // These will not be sent; the caller answers for those that were.
                let mut results: Results = orders.iter().map(|(id, _)| (*id, Err(error.clone()))).collect();
                self.report(&mut results);
                return Err(error);
            }
        }
        let left = self.limits.deadline.remaining();
        let timeout = if client.is_idle() {
            None
        } else {
            Some(left.unwrap_or(Duration::ZERO))
        };
        let [stopped, _, spoke] = wait_any(
            [self.limits.stop.as_fd(), self.orders.as_fd(), client.socket().as_fd()],
            timeout,
        )?;
        if stopped {
            return Ok(false);
        }
        if spoke {
            while let Some(incoming) = client.take()? {
                self.completions.push(match incoming {
                    Incoming::Answer { id, result } => Completion::Command {
                        id,
                        result: result.map(Outcome::Qmp),
                    },
                    Incoming::Event { name, data } => Completion::QmpEvent { name, data },
                });
            }
        } else if left.is_none() && !client.is_idle() {
            return Err(self.limits.timed_out(self.channel, &client.waiting()));
        }
        Ok(true)
    }

    /// The channel is lost: every further command fails with the reason, until the handle is dropped.
    fn refuse_all(&self, error: &QemuError) {
        loop {
            for (id, _) in self.orders.take_all() {
                self.completions.push(Completion::Command {
                    id,
                    result: Err(error.clone()),
                });
            }
            let fds = [self.limits.stop.as_fd(), self.orders.as_fd()];
            match wait_any(fds, None) {
                Ok([false, _]) => {}
                Ok([true, _]) | Err(_) => return,
            }
        }
    }

    fn report(&self, results: &mut Results) {
        for (id, result) in results.drain(..) {
            self.completions.push(Completion::Command { id, result });
        }
    }
}
