//! What a rate check was made of and came to: reports show all of it, so that a rate can be followed over many runs.

use std::fmt;

use super::rate::{self, Interval, Limits, Said};

/// What was negotiated for a delivery: a rate says nothing without it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// Descriptors of each ring.
    pub ring_size: u16,
    /// Packed rings, or split ones.
    pub packed: bool,
    /// Feature bits of the device.
    pub features: u64,
    /// Frames moved at a time, at most.
    pub burst: u64,
    /// Both sides sleep until they are signalled; otherwise they look all the time.
    pub notified: bool,
    /// Memory on huge pages.
    pub huge_pages: bool,
    /// What it carries, in words.
    pub frames: String,
}

impl fmt::Display for Negotiated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ring = if self.packed { "packed" } else { "split" };
        let how = if self.notified { "notified" } else { "polled" };
        let pages = if self.huge_pages { ", huge pages" } else { "" };
        let (size, burst, features) = (self.ring_size, self.burst, self.features);
        write!(
            f,
            "{ring} rings of {size}, burst {burst}, {how}{pages}, features {features:#x}"
        )
    }
}

/// What was measured of a delivery that has a name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// Frames a second, window by window.
    pub windows: Vec<f64>,
    /// What was negotiated for it.
    pub negotiated: Negotiated,
}

impl Measured {
    /// The median of its windows and what that lies between.
    #[must_use]
    pub fn interval(&self) -> Option<Interval> {
        rate::interval(&self.windows)
    }
}

/// One rate check: what it looked at, what it asked for and what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Rated {
    /// The delivery.
    pub measured: Measured,
    /// The one that it is compared with.
    pub baseline: Option<Measured>,
    /// What was asked of its rate, or of the ratio.
    pub limits: Limits,
    /// What can be said.
    pub said: Said,
}

impl Rated {
    /// Judges a rate, or with a baseline the ratio to it.
    #[must_use]
    pub fn judge(measured: Measured, baseline: Option<Measured>, limits: Limits) -> Self {
        let said = Said::TooFew { windows: 0 };
        let mut rated = Self {
            measured,
            baseline,
            limits,
            said,
        };
        rated.said = rate::judge(&rated.samples(), limits);
        rated
    }

    /// What was judged: frames a second window by window, or the ratios of windows next to each other.
    #[must_use]
    pub fn samples(&self) -> Vec<f64> {
        let windows = self.measured.windows.iter().copied();
        match &self.baseline {
            None => windows.collect(),
            Some(base) => rate::ratios(&windows.zip(base.windows.iter().copied()).collect::<Vec<_>>()),
        }
    }

    /// The median of what was judged, and what that lies between.
    #[must_use]
    pub fn interval(&self) -> Option<Interval> {
        match self.said {
            Said::Holds(interval) | Said::Broken(interval) | Said::Noise(interval) => Some(interval),
            Said::TooFew { .. } => rate::interval(&self.samples()),
        }
    }

    /// The delivery, or both, in words.
    #[must_use]
    pub fn subject(&self) -> String {
        match &self.baseline {
            None => format!("rate of {}", self.measured.name),
            Some(base) => format!("rate of {} over that of {}", self.measured.name, base.name),
        }
    }

    /// The interval in words.
    #[must_use]
    pub fn shown(&self) -> String {
        self.interval().map_or_else(
            || format!("{} windows, too few or too much alike", self.samples().len()),
            |interval| interval.to_string(),
        )
    }
}
