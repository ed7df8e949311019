//! The virtio device and its driver, as sysfs shows them.

use std::fs;
use std::io;
use std::path::Path;

use crate::Answer;

const BUS: &str = "/sys/bus/virtio";
/// There is only one.
const DEVICE: &str = "virtio0";

/// The features that driver and device have negotiated. The file has one digit a bit, the lowest first.
pub fn features() -> Answer {
    let path = format!("{BUS}/devices/{DEVICE}/features");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let bits = text.trim().chars().take(64).enumerate();
    let mask = bits.fold(0u64, |mask, (bit, digit)| mask | u64::from(digit == '1') << bit);
    Ok(format!("{mask:#x}"))
}

/// Takes the driver off.
pub fn unbind() -> Result<(), String> {
    let driver = fs::read_link(format!("{BUS}/devices/{DEVICE}/driver"));
    let driver = driver.map_err(|error| format!("no driver is bound: {error}"))?;
    let name = driver.file_name().unwrap_or_default().to_string_lossy().into_owned();
    write(&format!("{BUS}/drivers/{name}/unbind"))
}

/// Gives the device its driver: the first that takes it.
pub fn bind() -> Result<(), String> {
    let names = ["virtio_net", "virtio_blk"];
    let mut drivers = names
        .iter()
        .filter(|name| Path::new(&format!("{BUS}/drivers/{name}")).exists());
    let bound = drivers.any(|name| write(&format!("{BUS}/drivers/{name}/bind")).is_ok());
    if bound {
        Ok(())
    } else {
        Err("no driver takes the device".to_owned())
    }
}

fn write(path: &str) -> Result<(), String> {
    let written: io::Result<()> = fs::write(path, DEVICE);
    written.map_err(|error| format!("{path}: {error}"))
}
