//! What a delivery has seen happen in its rings, as marks of the run.

use super::group::{OnLoan, device_port, driver_port};
use crate::engine::run::Run;
use crate::judge::oracle::Mark;
use crate::traffic::pump::Side;

/// Frames for one signal where both sides poll: there are some until each knows that the other one does.
const POLLED_MIN: u64 = 100;

impl Run<'_> {
    /// Notes whether frames were merged, and whether the sides signalled each other. At the end of a delivery of so many frames.
    pub(super) fn note_what_happened(&mut self, sides: &mut [(Side, Vec<OnLoan>)], notified: bool, frames: u64) {
        let (mut merged, mut rung) = (0, 0);
        for (side, loans) in sides {
            for (place, lane) in side.lanes.iter_mut().enumerate() {
                merged += lane.progress().merged;
                let kicks = driver_port(lane.as_mut()).map(|port| port.kick.rung());
                rung = rung.max(kicks.unwrap_or(0));
                for loan in loans.iter().filter(|loan| loan.lane == place) {
                    if let Some(Some(port)) = device_port(lane.as_mut(), loan.port) {
                        rung = rung.max(port.call.rung());
                    }
                }
            }
        }
        let marks = [
            (merged > 0, Mark::FramesMerged),
            (notified && rung > 1, Mark::FramesNotified),
            (!notified && frames >= POLLED_MIN * rung.max(1), Mark::FramesPolled),
        ];
        for (_, mark) in marks.into_iter().filter(|(happened, _)| *happened) {
            self.watchers.told(mark);
        }
    }
}
