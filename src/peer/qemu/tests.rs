//! A real QEMU against a real back-end: qemu-storage-daemon's vhost-user-blk. Without the programs these tests do nothing.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::json;

use super::lines::wait_any;
use super::*;

const LIFETIME: Duration = Duration::from_secs(60);
const WITHIN: Duration = Duration::from_secs(20);
const DISK_BYTES: u64 = 1 << 20;

struct Running(Child);

impl Running {
    /// Returns when all its threads stand still.
    fn stop(&self) {
        let pid = Pid::from_raw(self.0.id() as i32);
        kill(pid, Signal::SIGSTOP).unwrap();
        let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    }

    fn go_on(&self) {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGCONT).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn installed() -> bool {
    let found = ["qemu-system-x86_64", "qemu-storage-daemon"].iter().all(|program| {
        let version = Process::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        version.is_ok_and(|status| status.success())
    });
    if !found {
        println!("skipped: qemu-system-x86_64 or qemu-storage-daemon is not installed");
    }
    found
}

/// The daemon is handed a socket that listens already, so that QEMU may connect at any time.
fn start_daemon(dir: &Path) -> (Running, ChardevEnd) {
    let disk = dir.join("disk");
    std::fs::File::create(&disk).unwrap().set_len(DISK_BYTES).unwrap();
    let path = dir.join("v.sock");
    let listener = OwnedFd::from(UnixListener::bind(&path).unwrap());
    // A duplicate is inherited by the child, unlike the original.
    let inherited = nix::unistd::dup(&listener).unwrap();
    let child = Process::new("qemu-storage-daemon")
        .arg("--blockdev")
        .arg(format!("driver=file,node-name=f,filename={}", disk.display()))
        .arg("--export")
        .arg(format!(
            "type=vhost-user-blk,id=e,node-name=f,writable=on,addr.type=fd,addr.str={}",
            inherited.as_raw_fd()
        ))
        .spawn()
        .unwrap();
    (
        Running(child),
        ChardevEnd::Connect {
            path,
            reconnect_ms: None,
        },
    )
}

/// A QEMU and its handle. The handle goes first when dropped.
struct Machine {
    handle: QemuHandle,
    events: Vec<Completion>,
    qemu: Running,
    command: QemuCommand,
}

impl Machine {
    fn start(config: &QemuConfig) -> Self {
        let command = QemuCommand::new(config).unwrap();
        command.firmware.as_ref().unwrap().write().unwrap();
        let handle = QemuHandle::listen(&command.sockets, LIFETIME).unwrap();
        let qemu = Process::new(&command.program)
            .args(&command.args)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            handle,
            events: Vec::new(),
            qemu: Running(qemu),
            command,
        }
    }

    fn wait(&mut self, mut done: impl FnMut(&Completion) -> bool) -> Completion {
        let end = Instant::now() + LIFETIME;
        loop {
            if let Some(index) = self.events.iter().position(&mut done) {
                return self.events.remove(index);
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nothing came; so far: {:?}", self.events);
            wait_any([self.handle.wake_fd()], Some(left)).unwrap();
            self.events.extend(self.handle.take_completions());
        }
    }

    fn result(&mut self, id: CommandId) -> Result<Outcome, QemuError> {
        match self.wait(|event| matches!(event, Completion::Command { id: of, .. } if *of == id)) {
            Completion::Command { result, .. } => result,
            other => panic!("{other:?}"),
        }
    }

    fn run(&mut self, command: Command) -> Result<Outcome, QemuError> {
        let id = self.handle.submit(command);
        self.result(id)
    }

    fn qmp(&mut self, execute: &str, arguments: serde_json::Value) -> Result<Outcome, QemuError> {
        self.run(Command::Qmp {
            execute: execute.into(),
            arguments,
        })
    }

    fn init(&mut self) -> DriverReport {
        match self.run(init()) {
            Ok(Outcome::Driver(report)) => report,
            other => panic!("{other:?}"),
        }
    }

    fn blk(&mut self, request: BlkRequest) -> BlkAnswer {
        match self.run(Command::Blk {
            ring: 0,
            request,
            within: WITHIN,
        }) {
            Ok(Outcome::Blk(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }
}

fn init() -> Command {
    Command::DriverInit {
        features: FeatureChoice::All,
        rings: None,
        ring_size: 64,
        until: DriverState::DriverOk,
    }
}

fn blk_config(dir: &Path, end: ChardevEnd) -> QemuConfig {
    QemuConfig::new(dir, QemuDevice::named("blk").unwrap(), end)
}

/// Broken: the QEMU peer cannot take a real device through its life: start, requests, reset, start again.
#[test]
fn a_block_device_lives() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (_daemon, end) = start_daemon(dir.path());
    let started = Instant::now();
    let mut machine = Machine::start(&blk_config(dir.path(), end));

    let report = machine.init();
    println!("start to DRIVER_OK: {:?}", started.elapsed());
    assert_eq!(
        (report.virtio_id, report.status & 0x0f, report.rings.len()),
        (2, 0x0f, 1)
    );
    let capacity = machine.run(Command::ReadConfig { offset: 0, len: 8 });
    assert_eq!(capacity, Ok(Outcome::Bytes((DISK_BYTES / 512).to_le_bytes().into())));

    // Longer than one descriptor's buffer.
    let data: Vec<u8> = (0..16 * 512_u32).map(|at| (at % 251) as u8).collect();
    let answer = machine.blk(BlkRequest::Write {
        sector: 3,
        data: data.clone(),
    });
    assert_eq!((answer.status, answer.len), (0, 1));
    assert_eq!(machine.blk(BlkRequest::Flush).status, 0);
    assert_eq!(
        std::fs::read(dir.path().join("disk")).unwrap()[3 * 512..][..data.len()],
        data
    );

    assert_eq!(machine.run(Command::DriverReset), Ok(Outcome::Byte(0)));
    let blk = Command::Blk {
        ring: 0,
        request: BlkRequest::Flush,
        within: WITHIN,
    };
    assert_eq!(machine.run(blk), Err(QemuError::NoRing { ring: 0, rings: 0 }));

    let started = Instant::now();
    machine.init();
    println!("second DRIVER_OK: {:?}", started.elapsed());
    let started = Instant::now();
    let answer = machine.blk(BlkRequest::Read {
        sector: 3,
        len: data.len() as u32,
    });
    println!("read of {} bytes: {:?}", data.len(), started.elapsed());
    assert_eq!((answer.status, answer.data), (0, data));
    assert_eq!(
        machine
            .blk(BlkRequest::Read {
                sector: DISK_BYTES / 512,
                len: 512
            })
            .status,
        1
    );

    let Ok(Outcome::Qmp(status)) = machine.qmp("query-status", serde_json::Value::Null) else {
        panic!()
    };
    assert_eq!(status["status"], "running");
    assert!(matches!(
        machine.qmp("device_del", json!({"id": "nobody"})),
        Err(QemuError::Qmp { class, .. }) if class == "DeviceNotFound"
    ));
    assert_eq!(
        machine.run(Command::Raw("inb 0x80".into())),
        Ok(Outcome::Line("OK 0x00ff".into()))
    );
}

/// Broken: a command that waits on a stopped device blocks those after it, or is never answered.
#[test]
fn waiting_commands_do_not_hold_up_others() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (daemon, end) = start_daemon(dir.path());
    let mut machine = Machine::start(&blk_config(dir.path(), end));
    machine.init();
    // QEMU kicks a ring that it starts, so the daemon may look at it at any time. While it stands still it cannot.
    daemon.stop();
    let chain = Chain {
        readable: vec![vec![4; 16]],
        writable: vec![1],
    };
    let submit = |within| Command::Submit {
        ring: 0,
        chain: chain.clone(),
        notify: false,
        within,
    };
    let short = Duration::from_millis(30);
    assert_eq!(
        machine.run(submit(short)),
        Err(QemuError::NotUsed { ring: 0, within: short })
    );

    let waiting = machine.handle.submit(submit(WITHIN));
    assert!(matches!(machine.run(Command::Status), Ok(Outcome::Byte(_))));
    assert_eq!(machine.run(Command::Notify { ring: 0 }), Ok(Outcome::Done));
    daemon.go_on();
    let Ok(Outcome::Used(used)) = machine.result(waiting) else {
        panic!()
    };
    // No such request type: VIRTIO_BLK_S_UNSUPP.
    assert_eq!(used.written, [2]);

    // All kicks were one for the daemon, and it has had it: what is not kicked stays on the ring.
    let waiting = machine.handle.submit(submit(WITHIN));
    assert_eq!(machine.run(Command::DriverReset), Ok(Outcome::Byte(0)));
    assert_eq!(machine.result(waiting), Err(QemuError::WasReset { ring: 0 }));

    // QEMU dies: what waits and what comes later fails with the reason.
    machine.init();
    daemon.stop();
    let waiting = machine.handle.submit(submit(WITHIN));
    assert!(matches!(machine.run(Command::Status), Ok(Outcome::Byte(_))));
    machine.qemu.0.kill().unwrap();
    assert!(matches!(
        machine.result(waiting),
        Err(QemuError::Closed {
            channel: Channel::Qtest,
            ..
        })
    ));
    machine.wait(|event| {
        matches!(
            event,
            Completion::Lost {
                channel: Channel::Qmp,
                ..
            }
        )
    });
    assert!(matches!(machine.run(Command::Status), Err(QemuError::Closed { .. })));
    assert!(matches!(
        machine.qmp("stop", serde_json::Value::Null),
        Err(QemuError::Closed { .. })
    ));
}

/// Broken: a device cannot be plugged in and pulled out while QEMU runs.
#[test]
fn a_device_is_plugged_and_unplugged() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (_daemon, end) = start_daemon(dir.path());
    let mut config = blk_config(dir.path(), end);
    config.attach = Attach::ByHotplug;
    let mut machine = Machine::start(&config);
    assert_eq!(machine.run(init()), Err(QemuError::NoDevice { slots: 32 }));
    for _ in 0..2 {
        for call in machine.command.plug.clone() {
            machine.qmp(call.execute, call.arguments).unwrap();
        }
        let slot = machine.init().slot;
        assert_eq!(machine.blk(BlkRequest::Flush).status, 0);

        let calls = machine.command.unplug.clone();
        machine.qmp(calls[0].execute, calls[0].arguments.clone()).unwrap();
        assert_eq!(machine.run(Command::AcpiEject { slot }), Ok(Outcome::Done));
        machine.wait(|event| matches!(event, Completion::QmpEvent { name, data } if name == "DEVICE_DELETED" && data["device"] == "d0"));
        machine.qmp(calls[1].execute, calls[1].arguments.clone()).unwrap();
        assert!(machine.run(Command::Status).is_err());
    }
}

/// Broken: a QEMU that never comes hangs the run, or its failure is not told.
#[test]
fn without_qemu_everything_ends() {
    let dir = tempfile::tempdir().unwrap();
    let sockets = Sockets::in_dir(dir.path(), Channel::Qtest).unwrap();
    let mut handle = QemuHandle::listen(&sockets, Duration::from_millis(20)).unwrap();
    let id = handle.submit(Command::Status);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        assert_eq!(wait_any([handle.wake_fd()], Some(LIFETIME)), Ok([true]));
        seen.extend(handle.take_completions());
    }
    let timed_out = |result: &Result<Outcome, QemuError>| matches!(result, Err(QemuError::TimedOut { .. }));
    assert!(
        seen.iter()
            .any(|event| matches!(event, Completion::Command { id: of, result } if *of == id && timed_out(result)))
    );
    drop(handle);

    // Dropped while it waits, and the sockets can be bound again.
    let started = Instant::now();
    drop(QemuHandle::listen(&sockets, LIFETIME).unwrap());
    assert!(started.elapsed() < LIFETIME);
    assert!(!sockets.qmp.exists() && !sockets.part.exists());
}

/// Broken: a back-end that connects to a listening QEMU comes too early, or dropping the handle waits for a blocked QEMU.
#[test]
fn a_listening_qemu_tells_when_it_listens() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.sock");
    let mut machine = Machine::start(&blk_config(dir.path(), ChardevEnd::Listen { path: path.clone() }));
    machine.wait(|event| *event == Completion::Connected(Channel::Qmp));
    let _backend = UnixStream::connect(&path).unwrap();
    // The back-end says nothing, so QEMU is stuck in its start-up and will not answer.
    machine.handle.submit(init());
    machine.handle.submit(Command::Qmp {
        execute: "query-status".into(),
        arguments: serde_json::Value::Null,
    });
    let started = Instant::now();
    drop(machine);
    assert!(started.elapsed() < LIFETIME / 2);
}
