//! A rate check in the JSON report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::judge::rate::Interval;
use crate::judge::rated::{Measured, Negotiated, Rated};
use crate::wire::DeviceKind;
use crate::wire::features::describe_virtio;

/// A rate check: what was measured, what was asked of it, what can be said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JsonRate {
    /// The delivery's name.
    pub of: String,
    /// The name of the delivery that it is compared with; null if its own rate is judged.
    pub ratio_to: Option<String>,
    /// The least that was asked for.
    pub at_least: Option<f64>,
    /// The most that was allowed.
    pub at_most: Option<f64>,
    /// `holds`, `broken`, `noise` (a limit lies within the interval) or `too-few` (there is no interval to judge by).
    pub said: String,
    /// The median of what was judged, frames a second or ratio, and what it lies between; null if that cannot be told.
    pub interval: Option<JsonInterval>,
    /// The delivery.
    pub measured: JsonDelivery,
    /// The one that it is compared with.
    pub baseline: Option<JsonDelivery>,
}

/// What was measured of one delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JsonDelivery {
    /// Frames a second in each window, in the order of time; those of a baseline were taken next to those of the delivery.
    pub windows_per_second: Vec<f64>,
    /// Their median and what it lies between; null if that cannot be told.
    pub per_second: Option<JsonInterval>,
    /// What was negotiated for it.
    pub negotiated: JsonNegotiated,
}

/// A median and what it lies between.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JsonInterval {
    /// The least that it may be.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The most that it may be.
    pub high: f64,
    /// Windows that it is made of.
    pub windows: usize,
}

/// What was negotiated for a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JsonNegotiated {
    /// Descriptors of a ring.
    pub ring_size: u16,
    /// Packed rings, or split ones.
    pub packed: bool,
    /// Names of the virtio feature bits.
    pub features: Vec<String>,
    /// Frames moved at a time, at most.
    pub burst: u64,
    /// Both sides sleep until they are signalled; otherwise they look all the time.
    pub notified: bool,
    /// Memory on huge pages.
    pub huge_pages: bool,
    /// What it carries, in words.
    pub frames: String,
}

impl From<&Rated> for JsonRate {
    fn from(rated: &Rated) -> Self {
        Self {
            of: rated.measured.name.clone(),
            ratio_to: rated.baseline.as_ref().map(|base| base.name.clone()),
            at_least: rated.limits.at_least,
            at_most: rated.limits.at_most,
            said: rated.said.name().to_owned(),
            interval: rated.interval().map(Into::into),
            measured: (&rated.measured).into(),
            baseline: rated.baseline.as_ref().map(Into::into),
        }
    }
}

impl From<&Measured> for JsonDelivery {
    fn from(measured: &Measured) -> Self {
        Self {
            windows_per_second: measured.windows.iter().map(|rate| rate.round()).collect(),
            per_second: measured.interval().map(Into::into),
            negotiated: (&measured.negotiated).into(),
        }
    }
}

impl From<&Negotiated> for JsonNegotiated {
    fn from(negotiated: &Negotiated) -> Self {
        let bits = (0..u64::BITS).filter(|bit| negotiated.features & (1 << bit) != 0);
        Self {
            ring_size: negotiated.ring_size,
            packed: negotiated.packed,
            features: bits.map(|bit| describe_virtio(DeviceKind::Net, 1 << bit)).collect(),
            burst: negotiated.burst,
            notified: negotiated.notified,
            huge_pages: negotiated.huge_pages,
            frames: negotiated.frames.clone(),
        }
    }
}

impl From<Interval> for JsonInterval {
    fn from(interval: Interval) -> Self {
        let Interval {
            low,
            median,
            high,
            windows,
        } = interval;
        Self {
            low,
            median,
            high,
            windows,
        }
    }
}
