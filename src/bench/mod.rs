//! `vuh bench`: how many verified frames a second go through which rings, measured in rounds in which every cell of a matrix
//! gets its turn, so that what disturbs the machine disturbs all of them alike.

mod cell;
mod dpdk;
mod round;
mod slave;
mod trip;

pub use cell::{Cell, Notify, Topology};
pub use dpdk::DpdkError;
pub use round::{Baseline, BenchError, Measured, Options, Results, run};
pub use trip::{RoundTrips, round_trips};
