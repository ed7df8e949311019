//! The disk: sectors read and written past the kernel's cache, so that each request reaches the device.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use crate::Answer;

const NAME: &str = "vda";
const SECTOR: u64 = 512;
/// Sectors of one command, at most.
const SECTORS_MAX: u64 = 8192;
/// Where reads and writes past the cache have to begin in memory.
const ALIGN: usize = 4096;

/// The disk of the virtio device.
pub struct Disk(File);

/// Bytes that begin where the kernel wants them to.
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    fn filled(fill: u8, length: usize) -> Self {
        let bytes = vec![fill; length + ALIGN];
        let start = bytes.as_ptr().align_offset(ALIGN);
        Self { bytes, start, length }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

impl Disk {
    /// The disk, if there is one.
    pub fn open() -> io::Result<Option<Self>> {
        let path = format!("/dev/{NAME}");
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(path);
        match opened {
            Ok(file) => Ok(Some(Self(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn name(&self) -> &str {
        NAME
    }

    /// `read SECTOR COUNT`, `write SECTOR COUNT BYTE`, `flush` and `serial`.
    pub fn command(&mut self, words: &[&str]) -> Answer {
        match words {
            ["read", sector, count] => {
                let (offset, length) = place(sector, count)?;
                let mut data = Aligned::filled(0, length);
                self.0
                    .read_exact_at(data.bytes(), offset)
                    .map_err(|error| reason(&error))?;
                Ok(runs(data.bytes()))
            }
            ["write", sector, count, fill] => {
                let (offset, length) = place(sector, count)?;
                let fill = u8::from_str_radix(fill.trim_start_matches("0x"), 16).map_err(|error| error.to_string())?;
                let mut data = Aligned::filled(fill, length);
                self.0
                    .write_all_at(data.bytes(), offset)
                    .map_err(|error| reason(&error))?;
                Ok(String::new())
            }
            ["flush"] => self
                .0
                .sync_all()
                .map(|()| String::new())
                .map_err(|error| reason(&error)),
            ["serial"] => {
                let text = fs::read(format!("/sys/block/{NAME}/serial")).map_err(|error| reason(&error))?;
                let mut id = text;
                id.resize(20, 0);
                Ok(runs(&id))
            }
            _ => Err(format!("not a request of a disk: {words:?}")),
        }
    }
}

/// Offset and length in bytes.
fn place(sector: &str, count: &str) -> Result<(u64, usize), String> {
    let number = |word: &str| word.parse::<u64>().map_err(|error| format!("{word}: {error}"));
    let (sector, count) = (number(sector)?, number(count)?);
    if count == 0 || count > SECTORS_MAX {
        return Err(format!("{count} sectors; 1 to {SECTORS_MAX} are possible"));
    }
    let offset = sector.checked_mul(SECTOR).ok_or("there is no such sector")?;
    Ok((offset, (count * SECTOR) as usize))
}

/// The kernel's name of the error that the disk's requests end with, or all of it.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EIO) => "EIO".to_owned(),
        _ => error.to_string(),
    }
}

/// Bytes as `5ax512 00x1024`: each byte, and how often it comes one after the other.
fn runs(bytes: &[u8]) -> String {
    let runs = bytes.chunk_by(|one, next| one == next);
    let words: Vec<String> = runs.map(|run| format!("{:02x}x{}", run[0], run.len())).collect();
    words.join(" ")
}
