//! What happens to the device of a simulated vhost-pci peer.

use std::fmt;
use std::str::FromStr;

/// A change of a device, or of what a server has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceChange {
    /// A server knows which device a master has.
    Configured,
    /// A server has the memory of a master.
    Mapped,
    /// The device exists.
    Created,
    /// It is plugged into the guest.
    Plugged,
    /// It can be used.
    Started,
    /// It cannot be used any more; its rings are stopped.
    Stopped,
    /// It is unplugged.
    Unplugged,
    /// It does not exist any more.
    Destroyed,
    /// A master resets its device because the slave wants fewer features.
    Reset,
    /// A message was refused.
    Refused,
    /// A liberal server took a message that a strict one refuses.
    LetThrough,
    /// What a server holds, when it was asked.
    Holds,
}

impl DeviceChange {
    /// Every change.
    pub const ALL: [Self; 12] = [
        Self::Configured,
        Self::Mapped,
        Self::Created,
        Self::Plugged,
        Self::Started,
        Self::Stopped,
        Self::Unplugged,
        Self::Destroyed,
        Self::Reset,
        Self::Refused,
        Self::LetThrough,
        Self::Holds,
    ];

    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Mapped => "mapped",
            Self::Created => "created",
            Self::Plugged => "plugged",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Unplugged => "unplugged",
            Self::Destroyed => "destroyed",
            Self::Reset => "reset",
            Self::Refused => "refused",
            Self::LetThrough => "let-through",
            Self::Holds => "holds",
        }
    }
}

/// The name of no change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nothing called {0:?} happens to a device")]
pub struct UnknownChange(pub String);

impl FromStr for DeviceChange {
    type Err = UnknownChange;

    fn from_str(name: &str) -> Result<Self, UnknownChange> {
        let found = Self::ALL.into_iter().find(|change| change.name() == name);
        found.ok_or_else(|| UnknownChange(name.to_owned()))
    }
}

/// A change, with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNote {
    /// What.
    pub change: DeviceChange,
    /// Numbers that tell more, by name.
    pub fields: Vec<(&'static str, u64)>,
    /// Words that tell more.
    pub detail: String,
}

impl DeviceNote {
    /// A change of which there is nothing more to tell.
    pub fn new(change: DeviceChange) -> Self {
        Self {
            change,
            fields: Vec::new(),
            detail: String::new(),
        }
    }

    /// With a number.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: u64) -> Self {
        self.fields.push((name, value));
        self
    }

    /// With words.
    #[must_use]
    pub fn says(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// A number by its name.
    pub fn field(&self, name: &str) -> Option<u64> {
        self.fields.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }
}

impl fmt::Display for DeviceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for DeviceNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {}", self.change)?;
        for (name, value) in &self.fields {
            match *value {
                // sizes and masks
                value if value >= 0x1000 => write!(f, " {name}={value:#x}")?,
                value => write!(f, " {name}={value}")?,
            }
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}
