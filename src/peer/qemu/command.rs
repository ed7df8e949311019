//! QEMU's command line and the files it needs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::device::{Attachment, QemuDevice};
use super::error::{Channel, QemuError};
use crate::peer::catalogue::GuestImage;

/// Which end of the vhost-user socket QEMU takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChardevEnd {
    /// QEMU connects; the back-end listens.
    Connect {
        /// The socket.
        path: PathBuf,
        /// How long QEMU waits before it connects again after a loss; never again if `None`.
        reconnect_ms: Option<u32>,
    },
    /// QEMU listens; the back-end connects once [`super::Completion::Connected`] was reported for QMP.
    Listen {
        /// The socket.
        path: PathBuf,
    },
}

/// When the device is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    /// From the start.
    AtStart,
    /// Later, by the QMP calls of [`QemuCommand::plug`].
    ByHotplug,
}

/// How QEMU is to be started.
#[derive(Debug, Clone)]
pub struct QemuConfig {
    /// The program, looked up on `PATH` if it has no slash.
    pub program: OsString,
    /// An existing directory of its own; short, as socket paths are limited to 107 bytes.
    pub run_dir: PathBuf,
    /// `-M`: the machine type and its options.
    pub machine: String,
    /// Guest memory in MiB, 64 to 3072.
    pub memory_mib: u32,
    /// The device.
    pub device: QemuDevice,
    /// When it is attached.
    pub attach: Attach,
    /// The vhost-user socket.
    pub vhost_socket: ChardevEnd,
    /// Passed on as they are, before the device, so that an IOMMU can be added.
    pub extra_args: Vec<OsString>,
    /// The Linux that runs on it. Without, nothing does, and the driver is played over qtest.
    pub guest: Option<GuestImage>,
}

impl QemuConfig {
    /// `qemu-system-x86_64` with 256 MiB and the device attached from the start.
    pub fn new(run_dir: impl Into<PathBuf>, device: QemuDevice, vhost_socket: ChardevEnd) -> Self {
        Self {
            program: "qemu-system-x86_64".into(),
            run_dir: run_dir.into(),
            machine: "pc".into(),
            memory_mib: 256,
            device,
            attach: Attach::AtStart,
            vhost_socket,
            extra_args: Vec::new(),
            guest: None,
        }
    }
}

/// A file to be written before QEMU starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// Where.
    pub path: PathBuf,
    /// Its content: 64 KiB.
    pub bytes: Vec<u8>,
}

impl Firmware {
    /// Writes the file.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(&self) -> Result<(), QemuError> {
        std::fs::write(&self.path, &self.bytes)
            .map_err(|error| QemuError::io(format!("write {}", self.path.display()), &error))
    }
}

/// The two steering sockets. The harness listens, QEMU connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sockets {
    /// For QMP.
    pub qmp: PathBuf,
    /// For the guest's part.
    pub part: PathBuf,
    /// How that is played: over qtest, or by a guest that is told over a serial line.
    pub played: Channel,
    /// The guest comes from another QEMU: it has started there, and listens as soon as it is here.
    pub incoming: bool,
}

impl Sockets {
    /// The sockets in a run directory.
    ///
    /// # Errors
    /// [`QemuError::SocketPathTooLong`].
    pub fn in_dir(run_dir: &Path, played: Channel) -> Result<Self, QemuError> {
        let sockets = Self {
            qmp: run_dir.join("qmp.sock"),
            part: run_dir.join(format!("{played}.sock")),
            played,
            incoming: false,
        };
        check_socket_path(&sockets.qmp)?;
        check_socket_path(&sockets.part)?;
        Ok(sockets)
    }
}

/// One QMP command.
#[derive(Debug, Clone, PartialEq)]
pub struct QmpCall {
    /// Its name.
    pub execute: &'static str,
    /// Its arguments.
    pub arguments: serde_json::Value,
}

/// Everything that starts one QEMU.
#[derive(Debug, Clone, PartialEq)]
pub struct QemuCommand {
    /// The program.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Write it before the start. A guest brings QEMU's own.
    pub firmware: Option<Firmware>,
    /// Listen on them ([`super::QemuHandle::listen`]) before the start.
    pub sockets: Sockets,
    /// The QMP calls, in order, that attach the device: chardev, netdev, device.
    pub plug: Vec<QmpCall>,
    /// The QMP calls that take it away again. After the first (`device_del`) the guest's part is [`super::Command::AcpiEject`].
    pub unplug: Vec<QmpCall>,
}

impl QemuCommand {
    /// The command line of a configuration.
    ///
    /// # Errors
    /// [`QemuError::SocketPathTooLong`], [`QemuError::Config`].
    pub fn new(config: &QemuConfig) -> Result<Self, QemuError> {
        check(config)?;
        let played = match config.guest {
            Some(_) => Channel::Guest,
            None => Channel::Qtest,
        };
        let mut sockets = Sockets::in_dir(&config.run_dir, played)?;
        sockets.incoming = config.extra_args.iter().any(|arg| arg == "-incoming");
        let firmware = config.guest.is_none().then(|| firmware(&config.run_dir));
        let parts = Parts::of(config)?;

        let mut args = base_args(config)?;
        if let Some(firmware) = &firmware {
            args.extend(["-bios".into(), text(&firmware.path)?.into()]);
        }
        if let Some(guest) = &config.guest {
            args.extend(guest_args(guest, &sockets.part)?);
        }
        args.extend(config.extra_args.iter().cloned());
        if config.attach == Attach::AtStart {
            args.extend(parts.args().into_iter().map(OsString::from));
        }
        // Last, so that QEMU connects to QMP only after it listens on the vhost-user socket.
        args.extend([
            OsString::from("-qmp"),
            format!("unix:{}", escaped(&sockets.qmp)?).into(),
        ]);
        if played == Channel::Qtest {
            args.extend([
                OsString::from("-qtest"),
                format!("unix:{}", escaped(&sockets.part)?).into(),
            ]);
            args.extend(["-qtest-log", "none"].map(OsString::from));
        }

        Ok(Self {
            program: config.program.clone(),
            args,
            firmware,
            sockets,
            plug: parts.plug(),
            unplug: unplug(config.device.kind.attachment),
        })
    }
}

/// `sockaddr_un` holds 108 bytes with the closing zero.
const SOCKET_PATH_MAX: usize = 107;
const MEMORY_MIB: std::ops::RangeInclusive<u32> = 64..=3072;
const QUEUES: std::ops::RangeInclusive<u16> = 1..=256;

const CHARDEV_ID: &str = "c0";
const NETDEV_ID: &str = "n0";
const DEVICE_ID: &str = "d0";

fn check(config: &QemuConfig) -> Result<(), QemuError> {
    if !MEMORY_MIB.contains(&config.memory_mib) {
        return Err(QemuError::Config {
            what: format!("{} MiB of memory, possible are {MEMORY_MIB:?}", config.memory_mib),
        });
    }
    if !QUEUES.contains(&config.device.queues) {
        return Err(QemuError::Config {
            what: format!("{} queues, possible are {QUEUES:?}", config.device.queues),
        });
    }
    Ok(())
}

fn check_socket_path(path: &Path) -> Result<(), QemuError> {
    let len = path.as_os_str().len();
    if len > SOCKET_PATH_MAX {
        return Err(QemuError::SocketPathTooLong {
            path: path.to_owned(),
            len,
            max: SOCKET_PATH_MAX,
        });
    }
    Ok(())
}

fn text(path: &Path) -> Result<&str, QemuError> {
    path.to_str().ok_or_else(|| QemuError::Config {
        what: format!("path is not UTF-8: {}", path.display()),
    })
}

/// A path inside an option list: commas are doubled.
fn escaped(path: &Path) -> Result<String, QemuError> {
    Ok(text(path)?.replace(',', ",,"))
}

/// 64 KiB of `hlt`. The reset vector, 16 bytes before the end, holds `cli; hlt; jmp -3`: the CPU sleeps for ever while the
/// machine counts as running, which vhost needs.
fn firmware(run_dir: &Path) -> Firmware {
    let mut bytes = vec![0xf4; 0x1_0000];
    bytes[0xfff0..0xfff4].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    Firmware {
        path: run_dir.join("hlt.bin"),
        bytes,
    }
}

/// What a kernel says if it is not asked for more: warnings and worse. It takes the clock as it is, has no IPv6, so that no frame
/// is sent that nobody asked for, and starts again when it panics, which ends QEMU.
const KERNEL_LINE: &str = "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check ipv6.disable=1";

/// What a Linux guest needs. Its console goes to QEMU's standard error, which is what a failure shows; the second serial line is
/// what it is told by.
fn guest_args(guest: &GuestImage, line: &Path) -> Result<Vec<OsString>, QemuError> {
    let args = [
        "-no-reboot".to_owned(),
        "-kernel".to_owned(),
        text(&guest.kernel)?.to_owned(),
        "-initrd".to_owned(),
        text(&guest.initrd)?.to_owned(),
        "-append".to_owned(),
        KERNEL_LINE.to_owned(),
        "-chardev".to_owned(),
        "file,id=console,path=/proc/self/fd/2,append=on".to_owned(),
        "-serial".to_owned(),
        "chardev:console".to_owned(),
        "-chardev".to_owned(),
        format!("socket,id=line,path={}", escaped(line)?),
        "-serial".to_owned(),
        "chardev:line".to_owned(),
    ];
    Ok(args.map(OsString::from).into())
}

fn base_args(config: &QemuConfig) -> Result<Vec<OsString>, QemuError> {
    let memory = config.memory_mib;
    let args = [
        "-nodefaults".to_owned(),
        "-no-user-config".to_owned(),
        "-display".to_owned(),
        "none".to_owned(),
        "-accel".to_owned(),
        "tcg".to_owned(),
        "-M".to_owned(),
        format!("{},memory-backend=mem", config.machine),
        "-m".to_owned(),
        format!("{memory}M"),
        // The back-end maps this memory: it must be shared.
        "-object".to_owned(),
        format!("memory-backend-memfd,share=on,id=mem,size={memory}M"),
    ];
    Ok(args.map(OsString::from).into())
}

/// The device's parts, each as an option and as a QMP call.
struct Parts {
    chardev: (String, QmpCall),
    /// A netdev or an object between chardev and device.
    between: Option<(&'static str, String, QmpCall)>,
    device: (String, QmpCall),
}

impl Parts {
    fn of(config: &QemuConfig) -> Result<Self, QemuError> {
        let device = &config.device;
        let kind = device.kind;
        let queues = device.queues;
        let (between, tie) = match kind.attachment {
            Attachment::Chardev => (None, ("chardev", CHARDEV_ID)),
            Attachment::Netdev => {
                let option = format!("vhost-user,id={NETDEV_ID},chardev={CHARDEV_ID},queues={queues}");
                let arguments = json!({"type": "vhost-user", "id": NETDEV_ID, "chardev": CHARDEV_ID, "queues": queues});
                (
                    Some((
                        "-netdev",
                        option,
                        QmpCall {
                            execute: "netdev_add",
                            arguments,
                        },
                    )),
                    ("netdev", NETDEV_ID),
                )
            }
            Attachment::Cryptodev => {
                let class = "cryptodev-vhost-user";
                let option = format!("{class},id={NETDEV_ID},chardev={CHARDEV_ID},queues={queues}");
                let arguments = json!({"qom-type": class, "id": NETDEV_ID, "chardev": CHARDEV_ID, "queues": queues});
                (
                    Some((
                        "-object",
                        option,
                        QmpCall {
                            execute: "object-add",
                            arguments,
                        },
                    )),
                    ("cryptodev", NETDEV_ID),
                )
            }
        };

        let mut option = format!("{},id={DEVICE_ID},{}={}", kind.qemu_name, tie.0, tie.1);
        let mut arguments = json!({"driver": kind.qemu_name, "id": DEVICE_ID, tie.0: tie.1});
        for property in device.effective_properties()? {
            option.push_str(&format!(",{}={}", property.name, property.value));
            arguments[property.name.as_ref()] = property.value.to_json();
        }
        let device = (
            option,
            QmpCall {
                execute: "device_add",
                arguments,
            },
        );
        Ok(Self {
            chardev: chardev(&config.vhost_socket)?,
            between,
            device,
        })
    }

    fn args(&self) -> Vec<String> {
        let mut args = vec!["-chardev".to_owned(), self.chardev.0.clone()];
        if let Some((option, value, _)) = &self.between {
            args.extend([(*option).to_owned(), value.clone()]);
        }
        args.extend(["-device".to_owned(), self.device.0.clone()]);
        args
    }

    fn plug(self) -> Vec<QmpCall> {
        let between = self.between.map(|(_, _, call)| call);
        [Some(self.chardev.1), between, Some(self.device.1)]
            .into_iter()
            .flatten()
            .collect()
    }
}

fn chardev(end: &ChardevEnd) -> Result<(String, QmpCall), QemuError> {
    let (path, reconnect_ms, server) = match end {
        ChardevEnd::Connect { path, reconnect_ms } => (path, *reconnect_ms, false),
        ChardevEnd::Listen { path } => (path, None, true),
    };
    check_socket_path(path)?;
    let mut option = format!("socket,id={CHARDEV_ID},path={}", escaped(path)?);
    let mut data = json!({"addr": {"type": "unix", "data": {"path": text(path)?}}, "server": server});
    if server {
        option.push_str(",server=on,wait=off");
        data["wait"] = false.into();
    }
    if let Some(ms) = reconnect_ms {
        option.push_str(&format!(",reconnect-ms={ms}"));
        data["reconnect-ms"] = ms.into();
    }
    let arguments = json!({"id": CHARDEV_ID, "backend": {"type": "socket", "data": data}});
    Ok((
        option,
        QmpCall {
            execute: "chardev-add",
            arguments,
        },
    ))
}

/// `netdev_del` takes the chardev with it (seen with QEMU 10.0).
fn unplug(attachment: Attachment) -> Vec<QmpCall> {
    let call = |execute, id| QmpCall {
        execute,
        arguments: json!({"id": id}),
    };
    let device = call("device_del", DEVICE_ID);
    match attachment {
        Attachment::Netdev => vec![device, call("netdev_del", NETDEV_ID)],
        Attachment::Chardev => vec![device, call("chardev-remove", CHARDEV_ID)],
        Attachment::Cryptodev => {
            vec![
                device,
                call("object-del", NETDEV_ID),
                call("chardev-remove", CHARDEV_ID),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(config: &QemuConfig) -> String {
        let command = QemuCommand::new(config).unwrap();
        let args: Vec<_> = command.args.iter().map(|arg| arg.to_str().unwrap()).collect();
        args.join(" ")
    }

    fn connect(path: &str) -> ChardevEnd {
        ChardevEnd::Connect {
            path: path.into(),
            reconnect_ms: None,
        }
    }

    /// Broken: QEMU is started with other options than those that were tried by hand.
    #[test]
    fn net_command_line() {
        let device = QemuDevice::named("net").unwrap();
        let end = ChardevEnd::Connect {
            path: "/r/a,b.sock".into(),
            reconnect_ms: Some(100),
        };
        assert_eq!(
            line(&QemuConfig::new("/r", device, end)),
            "-nodefaults -no-user-config -display none -accel tcg -M pc,memory-backend=mem -m 256M \
             -object memory-backend-memfd,share=on,id=mem,size=256M -bios /r/hlt.bin \
             -chardev socket,id=c0,path=/r/a,,b.sock,reconnect-ms=100 -netdev vhost-user,id=n0,chardev=c0,queues=1 \
             -device virtio-net-pci,id=d0,netdev=n0,disable-legacy=on,mac=52:54:00:12:34:56,romfile=,mq=off,vectors=4 \
             -qmp unix:/r/qmp.sock -qtest unix:/r/qtest.sock -qtest-log none"
        );
    }

    /// Broken: a guest is started without its kernel, or where nobody hears it; one that comes from elsewhere is waited for.
    #[test]
    fn guest_command_line() {
        let mut config = QemuConfig::new("/r", QemuDevice::named("blk").unwrap(), connect("/r/v"));
        config.guest = Some(GuestImage::in_folder(Path::new("/g")));
        assert_eq!(
            line(&config),
            "-nodefaults -no-user-config -display none -accel tcg -M pc,memory-backend=mem -m 256M \
             -object memory-backend-memfd,share=on,id=mem,size=256M -no-reboot -kernel /g/vmlinuz -initrd /g/initrd \
             -append console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check ipv6.disable=1 \
             -chardev file,id=console,path=/proc/self/fd/2,append=on -serial chardev:console \
             -chardev socket,id=line,path=/r/guest.sock -serial chardev:line \
             -chardev socket,id=c0,path=/r/v -device vhost-user-blk-pci,id=d0,chardev=c0,disable-legacy=on,num-queues=1 \
             -qmp unix:/r/qmp.sock"
        );
        assert!(!QemuCommand::new(&config).unwrap().sockets.incoming);
        config.extra_args = ["-incoming", "defer"].map(OsString::from).into();
        assert!(QemuCommand::new(&config).unwrap().sockets.incoming);
    }

    /// Broken: hot-plug and cold-plug make different devices, or QMP gets text where it wants a number.
    #[test]
    fn hotplug_calls_carry_typed_values() {
        let mut config = QemuConfig::new("/r", QemuDevice::named("blk").unwrap(), connect("/r/v"));
        config.attach = Attach::ByHotplug;
        assert!(!line(&config).contains("-device"));
        let command = QemuCommand::new(&config).unwrap();
        let names: Vec<_> = command.plug.iter().map(|call| call.execute).collect();
        assert_eq!(names, ["chardev-add", "device_add"]);
        assert_eq!(
            command.plug[1].arguments,
            json!({"driver": "vhost-user-blk-pci", "id": "d0", "chardev": "c0", "disable-legacy": "on", "num-queues": 1})
        );
    }

    /// Broken: a long run directory ends in QEMU's own, late and obscure refusal.
    #[test]
    fn long_socket_path_is_refused() {
        let path = format!("/{}", "x".repeat(107));
        let config = QemuConfig::new("/r", QemuDevice::named("net").unwrap(), connect(&path));
        assert!(matches!(
            QemuCommand::new(&config),
            Err(QemuError::SocketPathTooLong { len: 108, max: 107, .. })
        ));
        assert!(Sockets::in_dir(Path::new(&path), Channel::Qtest).is_err());
    }
}
