//! Waiting for what the ring oracle sees.

use super::super::failure::Result;
use super::super::run::Run;
use super::Waiting;
use crate::judge::oracle::Seen;
use crate::scenario::eval_num;
use crate::scenario::model::UntilRing;
use crate::trace::LinkId;

impl Run<'_> {
    pub(super) fn begin_until_ring(&mut self, wait: &UntilRing) -> Result<Waiting> {
        let peer = self.peer(&wait.peer.value, wait.peer.span)?;
        let link = self.link_of(peer, wait.peer.span)?;
        let ring = u32::from(self.ring(&wait.ring)?);
        let count = |number| match number {
            Some(number) => eval_num(number, &self.bindings),
            None => Ok(0),
        };
        let wanted = Seen {
            available: count(wait.available.as_ref())?,
            returned: count(wait.returned.as_ref())?,
            logged: count(wait.logged.as_ref())?,
        };
        Ok(Waiting::Ring { link, ring, wanted })
    }

    /// Whether a step waits for what is only seen by looking.
    pub(in super::super) fn awaits_rings(&self) -> bool {
        let looks = |waiting: &Waiting| matches!(waiting, Waiting::Ring { .. } | Waiting::InFlight { .. });
        self.tracks
            .iter()
            .any(|track| track.waiting.as_ref().is_some_and(looks))
    }

    pub(super) fn ring_has_seen(&self, link: LinkId, ring: u32, wanted: Seen) -> bool {
        let seen = self.ring_seen(link, ring);
        seen.is_some_and(|seen| {
            seen.available >= wanted.available && seen.returned >= wanted.returned && seen.logged >= wanted.logged
        })
    }
}

/// Chains of a ring, in words.
pub(super) fn chains(ring: u32, seen: Option<Seen>) -> String {
    match seen {
        Some(Seen {
            available,
            returned,
            logged,
        }) => {
            format!(
                "ring {ring}: {available} chains judged, {returned} of them returned, {logged} written pages in the log"
            )
        }
        None => format!("ring {ring}: not followed"),
    }
}
